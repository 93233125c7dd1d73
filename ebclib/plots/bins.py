"""Figures of bins: where they lie, how full they are, and what their representatives cost."""

from __future__ import annotations

from collections.abc import Mapping

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from ebclib.bins import Bin, Bins, Interval
from ebclib.plots.style import COLOURS, MARKERS, PAGE_INCHES

NOBODY, CLOSED, OPEN = "0.78", (COLOURS[0], COLOURS[9]), COLOURS[1]
OPEN_HATCH = "////"


def _spans(bins: Bins) -> list[tuple[float, float]]:
    """Where each bin is drawn on the axis of counts; an integer takes the space around it."""
    end = bins.lows[-1] * 1.12 + (1.5 if bins.is_integer else 0)
    if not bins.is_integer:
        lows = bins.lows.copy()
        lows[0] = bins.lows[1] / 2.2  # 0 has no place on a logarithmic axis
        return list(zip(lows, [*bins.lows[1:], end * 1.4], strict=True))
    return [
        (b.low - 0.46, (end if b.high is None else b.high) + (0.0 if b.high is None else 0.46))
        for b in bins.items
    ]


def _colour(bins: Bins, k: int) -> dict:
    if k == len(bins) - 1:
        return {"facecolor": OPEN, "hatch": OPEN_HATCH, "edgecolor": "white"}
    return {"facecolor": NOBODY if k == 0 else CLOSED[k % 2], "edgecolor": "white"}


def _short(item: Bin | Interval) -> str:
    if item.high is None:
        return f"≥ {item.low:g}"
    if isinstance(item, Interval):
        return f"{item.low:g}"
    return f"{item.low}" if item.low == item.high else f"{item.low}–{item.high}"


def plot_bins(policies: Mapping[str, Bins], ax: Axes | None = None) -> Axes:
    """Each policy's bins as spans along the axis of counts, a row a policy.

    Integer-valued bins leave gaps, for between two whole numbers there is nothing; intervals border
    each other and are drawn on a logarithmic axis, the first from a little below its upper edge.

    Parameters
    ----------
    policies : label → bins; all integer-valued, or all intervals
    """
    if ax is None:
        ax = plt.subplots(figsize=(PAGE_INCHES, 0.5 + 0.34 * len(policies)))[1]
    kinds = {bins.is_integer for bins in policies.values()}
    if len(kinds) != 1:
        raise ValueError("Integer-valued bins and intervals need an axis each: plot them apart.")
    (is_integer,) = kinds
    spans = {label: _spans(bins) for label, bins in policies.items()}
    right = max(span[-1][1] for span in spans.values())
    left = min(span[0][0] for span in spans.values())
    if not is_integer:
        ax.set_xscale("log")
    per_unit = 0.88 * ax.figure.get_figwidth() / (right - left)
    for y, (label, bins) in enumerate(policies.items()):
        for k, (low, high) in enumerate(spans[label]):
            high = right if k == len(bins) - 1 else high
            ax.barh(y, high - low, left=low, height=0.72, lw=0.8, **_colour(bins, k))
            text = _short(bins.items[k])
            if is_integer and (high - low) * per_unit > 0.065 * len(text) + 0.04:
                _write(ax, (low + high) / 2, y, text, CLOSED[k % 2] != CLOSED[0] or k == 0)
    ax.set_yticks(range(len(policies)), [f"{label} ({len(policies[label])})" for label in policies])
    ax.set(ylim=(len(policies) - 0.5, -0.5), xlim=(left, right))
    ax.set_xlabel("People in a block" if is_integer else "Smoothed people in a block")
    ax.spines["left"].set_visible(False)
    ax.tick_params(axis="y", length=0)
    if is_integer:
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    else:
        edges = next(iter(policies.values())).lows[1:]
        ax.set_xticks(edges, [f"{edge:.2g}" for edge in edges], fontsize=7)
        ax.minorticks_off()
    return ax


def _write(ax: Axes, x: float, y: float, text: str, is_dark: bool) -> None:
    """A bin's name in its span; the open bin's hatch gets a white ground under it."""
    ground = {"facecolor": "white", "edgecolor": "none", "alpha": 0.85, "pad": 0.8}
    is_open = text.startswith("≥")
    colour = "black" if is_dark or is_open else "white"
    box = ground if is_open else None
    ax.text(x, y, text, ha="center", va="center", fontsize=7, color=colour, bbox=box)


def bins_legend(min_blocks: int | None = None) -> list[Artist]:
    """Handles for a legend of the spans' colours, and of the marks of `plot_class_sizes` with its line."""
    marks = [
        Line2D([], [], color="black", ls="--", lw=0.9, label=f"{min_blocks} blocks"),
        Line2D([], [], color=COLOURS[3], marker="x", ls="", mew=1.3, ms=4.5, label="no block"),
    ]
    colours = [
        Patch(facecolor=NOBODY, label="nobody"),
        Patch(facecolor=CLOSED[0], label="closed bins"),
        Patch(facecolor=OPEN, hatch=OPEN_HATCH, edgecolor="white", label="open bin"),
    ]
    return colours + marks if min_blocks else colours


def plot_class_sizes(
    bins: Bins, sizes: np.ndarray, ax: Axes | None = None, min_blocks: int | None = None
) -> Axes:
    """How many blocks each class gets, on a logarithmic axis; a class without any is marked ×.

    Parameters
    ----------
    sizes : blocks in each class, shape (N,) (`Bins.sizes`)
    min_blocks : drawn as a line, the fewest a class should have
    """
    ax = ax or plt.subplots(figsize=(PAGE_INCHES / 2, 2.2))[1]
    floor = 0.6
    for k, ((low, high), size) in enumerate(zip(_spans(bins), sizes, strict=True)):
        if size:
            ax.bar(low, size - floor, high - low, floor, align="edge", lw=0.6, **_colour(bins, k))
        else:
            middle = (low + high) / 2 if bins.is_integer else np.sqrt(low * high)
            ax.plot(middle, floor * 1.6, "x", color=COLOURS[3], ms=4.5, mew=1.3)
    if min_blocks:
        ax.axhline(min_blocks, color="black", ls="--", lw=0.9)
    if bins.is_integer:
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    else:
        ax.set_xscale("log")
        ax.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    ax.set(yscale="log", ylim=(floor, max(sizes.max(), 1) * 2.5))
    ax.set_xlabel("People in a block" if bins.is_integer else "Smoothed people in a block")
    ax.set_ylabel("Training blocks")
    return ax


def plot_bias(errors: pd.DataFrame, ax: Axes | None = None, title: str = "") -> Axes:
    """The miscount of a perfect classifier against the people in an image, a point an image.

    Parameters
    ----------
    errors : columns ``people`` in the image, and one of errors (predicted − annotated) for each kind
        of representative; the kind's mean absolute error goes into the legend
    """
    ax = ax or plt.subplots(figsize=(PAGE_INCHES / 2, 2.2))[1]
    kinds = [column for column in errors.columns if column != "people"]
    for k, kind in enumerate(kinds):
        label = f"{kind}: {errors[kind].abs().mean():.1f}"
        style = {"color": COLOURS[(1, 0, 2)[k % 3]], "mfc": "none" if k == 0 else None}
        ax.plot(errors["people"], errors[kind], MARKERS[k], ms=3.4, mew=0.8, label=label, **style)
    ax.axhline(0, color="black", lw=0.8, zorder=0)
    ax.set(xlabel="People in an image", ylabel="Error (people)", title=title, xscale="symlog")
    ax.set_xlim(-0.5, errors["people"].max() * 1.5 + 1)
    ax.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    ax.legend(frameon=False, title="mean |error|", alignment="left", fontsize=7, title_fontsize=7)
    return ax
