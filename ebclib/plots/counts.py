"""Figures of people in images and in blocks, before any model."""

from __future__ import annotations

from collections.abc import Mapping

import matplotlib.pyplot as plt
import numpy as np
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.patheffects import withStroke

from ebclib.plots.style import COLOURS, COLUMN_INCHES, MARKERS


def plot_long_tail(
    histograms: Mapping[str, np.ndarray], ax: Axes | None = None, longest: int = 30
) -> Axes:
    """How many blocks hold how many people, as shares on a logarithmic axis (paper, Fig. 2).

    Parameters
    ----------
    histograms : a curve each; label → blocks that hold 0, 1, 2, … people (`blocks.histogram`)
    longest : the largest count on the axis; how far a curve goes on is said in its label
    """
    ax = ax or plt.subplots(figsize=(COLUMN_INCHES, 2.6))[1]
    for k, (label, blocks) in enumerate(histograms.items()):
        count = np.flatnonzero(blocks)
        shown = count[count <= longest]
        tail = f" (to {count.max()})" if count.max() > longest else ""
        ax.plot(
            shown,
            blocks[shown] / blocks.sum(),
            marker=MARKERS[k % 6],
            ms=3.5,
            lw=1,
            label=label + tail,
        )
    ax.set(yscale="log", xlabel="People in a block", ylabel="Share of blocks")
    ax.legend(frameon=False)
    return ax


def plot_image_counts(counts: np.ndarray, ax: Axes | None = None, people: str = "people") -> Axes:
    """How many images hold how many people; the mean and the median marked."""
    ax = ax or plt.subplots(figsize=(COLUMN_INCHES, 2.4))[1]
    sns.histplot(x=counts, bins=30, ax=ax, color=COLOURS[0], edgecolor="white", linewidth=0.4)
    for value, style, name in ((np.mean(counts), "-", "mean"), (np.median(counts), "--", "median")):
        ax.axvline(value, color="black", ls=style, lw=1.2, label=f"{name} {value:.0f}")
    ax.set(xlabel=f"{people.capitalize()} in an image", ylabel="Images")
    ax.legend(frameon=False)
    return ax


def plot_block_labels(
    image: np.ndarray,
    points: np.ndarray,
    values: np.ndarray,
    block_size_px: int,
    ax: Axes | None = None,
    wrong: np.ndarray | None = None,
    title: str = "",
) -> Axes:
    """A small image with its blocks' values written into them (paper, Fig. 2 a–c).

    Parameters
    ----------
    image : uint8 (H, W, 3), a few blocks wide
    points : (n, 2), the people in it
    values : (h, w), what is written into the blocks: counts, or smoothed counts
    wrong : bool (h, w), blocks whose class is not that of their people; hatched
    """
    ax = ax or plt.subplots(figsize=(2.3, 2.3))[1]
    height, width = image.shape[:2]
    ax.imshow(image // 2 + 110, extent=(0, width, height, 0), interpolation="bilinear")
    for edge in range(0, max(height, width) + 1, block_size_px):
        ax.axhline(edge, color="white", lw=0.8)
        ax.axvline(edge, color="white", lw=0.8)
    r = block_size_px
    for (i, j), value in np.ndenumerate(values):
        if wrong is not None and wrong[i, j]:
            box = plt.Rectangle(
                (j * r, i * r), r, r, fc="none", ec=COLOURS[3], hatch="////", lw=1.4
            )
            ax.add_patch(box)
        text = f"{value:.2f}" if values.dtype.kind == "f" else str(value)
        weight = "bold" if value >= 0.5 else "normal"
        ax.text(
            (j + 0.5) * r,
            (i + 0.5) * r,
            text,
            ha="center",
            va="center",
            fontsize=7.5,
            weight=weight,
            path_effects=[withStroke(linewidth=2.2, foreground="white")],
        )
    size = {"ms": 4, "mew": 1} if len(points) <= 100 else {"ms": 1.8, "mew": 0.6}
    ax.plot(*points.T, "o", mfc="none", mec="black", **size)
    ax.set(xlim=(0, width), ylim=(height, 0), xticks=[], yticks=[], title=title)
    sns.despine(ax=ax, left=True, bottom=True)
    return ax
