"""Many runs to the paper's tables, where a model errs, and what suits a data set."""

from ebclib import names_of

__getattr__, __all__ = names_of(
    __name__,
    {
        "cost": "costs format_costs",
        "diagnosis": "Diagnosis block_spacing by_people by_range by_spacing by_window "
        "calibration_error class_table diagnose local_spacing pick_images reliability "
        "reliability_sums suspect_annotations window_errors",
        "plan": "Cell Experiment Table check_parameters load names train_runs unfinished",
        "tables": "MISSING against_regression beside claims paired_difference results_of "
        "write_tables",
    },
)
