"""Many runs to the paper's tables, where a model errs, and what suits a data set."""

from ebclib import names_of

__getattr__, __all__ = names_of(
    __name__,
    {
        "calibration": "calibration_error class_sums class_table reliability reliability_sums",
        "cost": "costs format_costs say_duration",
        "diagnosis": "Diagnosis SPACING_PX block_spacing diagnose local_spacing window_errors",
        "groups": "by_people by_range by_spacing by_window count_ranges pick_images "
        "predictions_of suspect_annotations",
        "jobs": "train_runs",
        "plan": "Cell Experiment Table load names unfinished",
        "results": "against_regression beside claims mean_and_deviation paired_difference pivot "
        "results_of verdict write_tables",
        "tables": "MISSING",
    },
)
