"""Many runs to the paper's tables, where a model errs, and what suits a data set."""

from ebclib import names_of

__getattr__, __all__ = names_of(
    __name__,
    {
        "cost": "costs format_costs",
        "diagnosis": "Diagnosis SPACING_PX block_spacing calibration_error class_table diagnose "
        "local_spacing reliability reliability_sums window_errors",
        "groups": "by_people by_range by_spacing by_window pick_images predictions_of "
        "suspect_annotations",
        "plan": "Cell Experiment Table check_parameters load names train_runs unfinished",
        "tables": "MISSING against_regression beside claims paired_difference results_of "
        "verdict write_tables",
    },
)
