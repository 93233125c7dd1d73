"""Many runs to the paper's tables, where a model errs, and what suits a data set."""

from importlib import import_module
from typing import Any

_NAMES = {
    "calibration": (
        "calibration_error",
        "class_sums",
        "class_table",
        "reliability",
        "reliability_sums",
    ),
    "collecting": ("Diagnosis", "diagnose", "window_errors"),
    "cost": ("costs", "format_costs", "say_duration"),
    "groups": ("by_people", "by_range", "by_spacing", "by_window", "count_ranges"),
    "images": ("pick_images", "predictions_of"),
    "jobs": ("train_runs",),
    "plan": ("Cell", "Experiment", "Table", "load", "names", "unfinished"),
    "results": (
        "MISSING",
        "against_regression",
        "beside",
        "claims",
        "mean_and_deviation",
        "results_of",
        "paired_difference",
        "pivot",
        "verdict",
    ),
    "spacing": ("SPACING_PX", "block_spacing", "local_spacing"),
    "suspects": ("errors_without", "suspect_annotations"),
}
_HOME = {name: module for module, names in _NAMES.items() for name in names}
__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:  # names are loaded when used: importing does nothing
    if name in _HOME:
        return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
