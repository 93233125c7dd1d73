"""Arrays and data frames to Axes: every figure of the workbook, in one style."""

from ebclib.plots.counts import plot_block_labels, plot_long_tail, plot_picture_counts
from ebclib.plots.results import plot_history, plot_maps, plot_predictions
from ebclib.plots.style import (
    COLOURS,
    COLUMN_INCHES,
    DENSITY_MAP,
    MARKERS,
    PAGE_INCHES,
    save,
    use_style,
)

__all__ = [
    "COLOURS",
    "COLUMN_INCHES",
    "DENSITY_MAP",
    "MARKERS",
    "PAGE_INCHES",
    "plot_block_labels",
    "plot_history",
    "plot_long_tail",
    "plot_maps",
    "plot_picture_counts",
    "plot_predictions",
    "save",
    "use_style",
]
