"""Many runs to the paper's tables, where a model errs, and what suits a data set."""

from importlib import import_module
from typing import Any

_NAMES = {
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
}
_HOME = {name: module for module, names in _NAMES.items() for name in names.split()}
__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:  # names are loaded when used: importing does nothing
    if name in _HOME:
        return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
