"""Published layouts and any folder in; images and points, checked, out.

>>> from ebclib.data import prepared
>>> train = prepared("shb", "train")              # doctest: +SKIP
>>> train.counts.sum(), train[0].image.shape    # doctest: +SKIP

`read` gives a split as published, `prepare` checks it and writes what training reads, `prepared`
opens that. A split is a sequence of `Sample` (image, points, name).
"""

from ebclib.data.catalogue import DATASETS, EVERY, Dataset
from ebclib.data.preparation import prepare, prepared
from ebclib.data.prepared_split import PreparedSplit, hold_out
from ebclib.data.reading import describe, locate, read
from ebclib.data.report import format_report, shared_images
from ebclib.data.sample import ReadSplit, Sample

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
