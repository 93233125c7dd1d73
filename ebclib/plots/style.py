"""One style for every figure, legible in print and in grey, and where figures are saved."""

from __future__ import annotations

import matplotlib.pyplot as plt
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ebclib.config import results_root

COLOURS = sns.color_palette("colorblind")
DENSITY_MAP = "magma"
MARKERS = "os^Dv*"
COLUMN_INCHES, PAGE_INCHES = 3.5, 7.16  # widths of one and of two columns in print


def use_style() -> None:
    """The workbook's style, for all figures drawn from now on."""
    sns.set_theme(context="paper", style="ticks", palette="colorblind", font_scale=1.05)
    plt.rcParams.update(
        {
            "figure.dpi": 110,
            "savefig.dpi": 300,
            "savefig.bbox": "tight",
            "figure.constrained_layout.use": True,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "image.interpolation": "nearest",
        }
    )


def legend_above(ax: Axes, columns: int = 1) -> None:
    """The legend of ``ax`` above its frame, where it hides nothing."""
    ax.legend(
        frameon=False,
        fontsize=7.5,
        loc="lower left",
        bbox_to_anchor=(0, 1),
        borderpad=0,
        ncols=columns,
        columnspacing=1,
    )


def save(figure: Figure, name: str, dataset: str) -> None:
    """Write a figure to `results/figures/<dataset>/<name>.png`."""
    path = results_root() / "figures" / dataset / f"{name}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)
