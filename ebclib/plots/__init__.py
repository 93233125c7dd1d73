"""Arrays and data frames to Axes: every figure of the workbook, in one style."""

from ebclib.plots.bins import bins_legend, plot_bias, plot_bins, plot_class_sizes
from ebclib.plots.comparison import plot_cells, plot_differences
from ebclib.plots.counts import plot_block_labels, plot_image_counts, plot_long_tail
from ebclib.plots.diagnosis import (
    plot_confusion,
    plot_descent,
    plot_groups,
    plot_reliability,
    plot_shares,
    plot_signed_errors,
    plot_windows,
)
from ebclib.plots.diagrams import plot_clip_ebc, plot_costs, plot_same_network, plot_similarity
from ebclib.plots.labels import plot_borders, plot_correction, plot_kernels
from ebclib.plots.overlay import overlay, plot_count, plot_count_beside
from ebclib.plots.performance import plot_crops, plot_growth, plot_step
from ebclib.plots.results import plot_gallery, plot_history, plot_maps, plot_predictions
from ebclib.plots.style import (
    COLOURS,
    COLUMN_INCHES,
    DENSITY_MAP,
    MARKERS,
    PAGE_INCHES,
    save,
    use_style,
)
from ebclib.plots.videos import plot_over_time

__all__ = [
    "COLOURS",
    "COLUMN_INCHES",
    "DENSITY_MAP",
    "MARKERS",
    "PAGE_INCHES",
    "bins_legend",
    "overlay",
    "plot_bias",
    "plot_bins",
    "plot_block_labels",
    "plot_borders",
    "plot_cells",
    "plot_class_sizes",
    "plot_clip_ebc",
    "plot_confusion",
    "plot_correction",
    "plot_costs",
    "plot_count",
    "plot_count_beside",
    "plot_crops",
    "plot_descent",
    "plot_differences",
    "plot_gallery",
    "plot_groups",
    "plot_growth",
    "plot_history",
    "plot_image_counts",
    "plot_kernels",
    "plot_long_tail",
    "plot_maps",
    "plot_over_time",
    "plot_predictions",
    "plot_reliability",
    "plot_same_network",
    "plot_shares",
    "plot_signed_errors",
    "plot_similarity",
    "plot_step",
    "plot_windows",
    "save",
    "use_style",
]
