"""Published layouts and any folder in; images and points, checked, out.

`read` gives a split as published, `prepare` checks it and writes what training reads, `prepared`
opens that. A split is a sequence of `Sample` (image, points, name).
"""

from ebclib.data.catalogue import DATASETS, describe, locate, read
from ebclib.data.preparation import format_report, prepare, prepared, shared_images
from ebclib.data.splits import EVERY, Dataset, PreparedSplit, ReadSplit, Sample, hold_out

__all__ = [
    "DATASETS",
    "EVERY",
    "Dataset",
    "PreparedSplit",
    "ReadSplit",
    "Sample",
    "describe",
    "format_report",
    "hold_out",
    "locate",
    "prepare",
    "prepared",
    "read",
    "shared_images",
]
