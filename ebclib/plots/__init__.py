"""Arrays and data frames to Axes: every figure of the workbook, in one style."""

from ebclib import names_of

__getattr__, __all__ = names_of(
    __name__,
    {
        "diagnosis": "plot_confusion plot_groups plot_reliability plot_shares "
        "plot_signed_errors plot_windows",
        "diagrams": "plot_clip_ebc plot_costs plot_same_network plot_similarity",
        "labels": "bins_legend plot_bias plot_bins plot_block_labels plot_borders plot_class_sizes "
        "plot_correction plot_image_counts plot_kernels plot_long_tail",
        "overlay": "plot_count plot_count_beside plot_gallery plot_maps",
        "performance": "plot_crops plot_growth plot_step",
        "runs": "plot_cells plot_descent plot_differences plot_history plot_over_time plot_predictions",
        "style": "COLOURS COLUMN_INCHES DENSITY_MAP MARKERS PAGE_INCHES save use_style",
    },
)
