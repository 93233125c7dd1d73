"""Figures of what label correction and Gaussian smoothing do to labels."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import PercentFormatter

from ebclib.bins import Bins
from ebclib.plots.style import COLOURS, COLUMN_INCHES, MARKERS, legend_above


def plot_correction(table: pd.DataFrame, ax: Axes | None = None, people: str = "people") -> Axes:
    """The share of people above m by the smallest person s, a line a block size (Sec. III-A2).

    ``table`` is `design.correction`'s; the paper's s = 4 is marked.
    """
    ax = ax or plt.subplots(figsize=(COLUMN_INCHES, 2.4))[1]
    for k, (r, rows) in enumerate(table.groupby("r")):
        ax.plot(
            rows["s"],
            rows["share"],
            marker=MARKERS[k % 6],
            ms=4.5,
            lw=1.2,
            label=f"r = {r}",
            color=COLOURS[k],
        )
    ax.axvline(4, color="0.5", ls=":", lw=1, zorder=0, label="s = 4 (paper)")
    ax.yaxis.set_major_formatter(PercentFormatter(1))
    ax.set(xlabel="s, smallest recognisable side (px)", ylabel=f"{people.capitalize()} above m")
    ax.set_ylim(bottom=0)
    ax.set_xticks(sorted(table["s"].unique()))
    legend_above(ax, columns=2)
    return ax


def plot_kernels(
    table: pd.DataFrame, block_size_px: int, ax: Axes | None = None, people: str = "people"
) -> Axes:
    """What a growing kernel does to labels (paper, Fig. 2 a–b); ``table`` is `design.kernels`'."""
    ax = ax or plt.subplots(figsize=(COLUMN_INCHES, 2.6))[1]
    for k, (column, label) in enumerate(
        {
            "changed": "occupied blocks, wrong class",
            "moved": f"{people}, in another block",
            "count_in_empty_blocks": "empty blocks, no longer nobody",
        }.items()
    ):
        share = table[column]
        ax.plot(
            table["sigma"], share, marker=MARKERS[k], ms=4, lw=1.2, color=COLOURS[k], label=label
        )
    ax.axvline(block_size_px, color="0.5", ls=":", lw=1, zorder=0, label="σ = r")
    ax.set(xscale="log", xlabel="σ of the kernel (px)", ylabel="Share", ylim=(0, 1))
    ax.set_xticks(table["sigma"], [f"{sigma:g}" for sigma in table["sigma"]])
    ax.minorticks_off()
    ax.yaxis.set_major_formatter(PercentFormatter(1))
    legend_above(ax)
    return ax


def plot_borders(
    smoothed: np.ndarray,
    whole: np.ndarray,
    bins: Bins,
    ax: Axes | None = None,
    longest: float = 4.0,
) -> Axes:
    """Smoothed counts beside whole ones, and the borders of the intervals between them.

    Parameters
    ----------
    smoothed, whole : the counts of the same blocks, any shape
    bins : interval bins, whose borders are drawn
    longest : where the axis ends
    """
    ax = ax or plt.subplots(figsize=(COLUMN_INCHES, 2.4))[1]
    edges = np.linspace(0, longest, 81)
    ax.hist(
        np.ravel(smoothed), edges, color=COLOURS[9], label="smoothed counts", histtype="stepfilled"
    )
    count, blocks = np.unique(np.ravel(whole), return_counts=True)
    shown = count <= longest
    ax.vlines(count[shown], 0.5, blocks[shown], color=COLOURS[0], lw=2.2, label="whole counts")
    inside = bins.lows[(bins.lows > 0) & (bins.lows <= longest)]
    for k, border in enumerate(inside):
        label = "border of two intervals" if k == 0 else None
        ax.axvline(border, color=COLOURS[3], ls="--", lw=0.9, label=label)
    ax.set(yscale="log", ylim=(0.5, None), xlim=(-0.06, longest + 0.06))
    ax.set(xlabel="People in a block", ylabel="Blocks")
    legend_above(ax)
    return ax
