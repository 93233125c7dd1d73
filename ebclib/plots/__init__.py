"""Arrays and data frames to Axes: every figure of the workbook, in one style."""

from ebclib import names_of

__getattr__, __all__ = names_of(
    __name__,
    {
        "method": "plot_bias plot_block_labels plot_class_sizes plot_long_tail plot_networks",
        "overlay": "plot_count plot_maps",
        "runs": "plot_cells plot_confusion plot_differences plot_groups plot_history "
        "plot_over_time plot_predictions plot_reliability plot_shares plot_signed_errors plot_windows",
        "style": "COLOURS COLUMN_INCHES PAGE_INCHES save use_style",
    },
)
