"""One style for every figure, legible in print and in grey, and where figures are saved."""

from __future__ import annotations

from typing import Any

import matplotlib.pyplot as plt
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from ebclib.config import results_root

COLOURS = sns.color_palette("colorblind")
DENSITY_MAP = "magma"
MARKERS = "os^Dv*"
COLUMN_INCHES, PAGE_INCHES = 3.5, 7.16  # widths of one and of two columns in print
PLAIN = FuncFormatter(lambda value, _: f"{value:g}".replace("-", "−"))
"""Numbers of an axis as one writes them: 100, not 10²."""


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
            "legend.frameon": False,
        }
    )


def mark(k: int, **more: Any) -> dict[str, Any]:
    """Colour, marker and line of the k-th thing of a figure."""
    look = {"color": COLOURS[k % len(COLOURS)], "marker": MARKERS[k % len(MARKERS)]}
    return look | {"ms": 4, "lw": 1.2} | more


def legend_above(ax: Axes, columns: int = 1, **more: Any) -> None:
    """The legend of ``ax`` above its frame, where it hides nothing."""
    place = {"loc": "lower left", "bbox_to_anchor": (0, 1), "borderpad": 0, "columnspacing": 1}
    ax.legend(fontsize=7.5, ncols=columns, **place, **more)


def bare(ax: Axes, title: str = "") -> Axes:
    """No ticks and no frame, for an image; without ``title`` the one that is there stays."""
    ax.set(xticks=[], yticks=[], **({"title": title} if title else {}))
    sns.despine(ax=ax, left=True, bottom=True)
    return ax


def save(figure: Figure, name: str, dataset: str) -> None:
    """Write a figure to `results/figures/<dataset>/<name>.png`."""
    path = results_root() / "figures" / dataset / f"{name}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)
