"""Where a model errs: by crowd, by scale, by block, and in its own opinion of itself.

`diagnose` looks at every picture of a split once and keeps sums; the other functions make tables of
these, and of a run's predictions. Nothing here draws: see `ebclib.plots`.
"""

from ebclib.diagnosis.calibration import (
    calibration_error,
    class_table,
    reliability,
    reliability_sums,
)
from ebclib.diagnosis.collecting import Diagnosis, diagnose
from ebclib.diagnosis.groups import by_people, by_range, by_spacing, count_ranges
from ebclib.diagnosis.pictures import pick_pictures
from ebclib.diagnosis.spacing import SPACING_PX, block_spacing, local_spacing

__all__ = [
    "SPACING_PX",
    "Diagnosis",
    "block_spacing",
    "by_people",
    "by_range",
    "by_spacing",
    "calibration_error",
    "class_table",
    "count_ranges",
    "diagnose",
    "local_spacing",
    "pick_pictures",
    "reliability",
    "reliability_sums",
]
