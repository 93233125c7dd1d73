"""Where a model errs: by crowd, by scale, by block, and in its own opinion of itself.

`diagnose` looks at every picture of a split once and keeps sums; the other functions make tables of
these, and of a run's predictions. Nothing here draws: see `ebclib.plots`.
"""

from ebclib.diagnosis.annotations import doubted, leaving_out
from ebclib.diagnosis.calibration import (
    calibration_error,
    class_sums,
    class_table,
    reliability,
    reliability_sums,
)
from ebclib.diagnosis.collecting import Diagnosis, diagnose, window_errors
from ebclib.diagnosis.groups import by_people, by_range, by_spacing, by_window, count_ranges
from ebclib.diagnosis.pictures import pick_pictures, predictions_of
from ebclib.diagnosis.spacing import SPACING_PX, block_spacing, local_spacing

__all__ = [
    "SPACING_PX",
    "Diagnosis",
    "block_spacing",
    "by_people",
    "by_range",
    "by_spacing",
    "by_window",
    "calibration_error",
    "class_sums",
    "class_table",
    "count_ranges",
    "diagnose",
    "doubted",
    "leaving_out",
    "local_spacing",
    "pick_pictures",
    "predictions_of",
    "reliability",
    "reliability_sums",
    "window_errors",
]
