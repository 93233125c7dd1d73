"""Figures of where a model errs; what they show comes from `ebclib.studies`."""

from __future__ import annotations

from collections.abc import Mapping

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.ticker import LogLocator, PercentFormatter, SymmetricalLogLocator

from ebclib.plots.style import COLOURS, COLUMN_INCHES, PLAIN, legend_above, mark


def _reach(table: pd.DataFrame, name: str) -> np.ndarray:
    """How far the interval of column ``name`` goes below and above it: (2, rows), nowhere below 0."""
    ends = np.stack([table[name] - table[f"{name}_low"], table[f"{name}_high"] - table[name]])
    return np.clip(ends, 0, None)


def _slanted(ax: Axes, places: np.ndarray, names: pd.Index) -> None:
    """Labels below the axis that do not run into each other."""
    ax.set_xticks(places, names, rotation=50, ha="right", rotation_mode="anchor", fontsize=7.5)


def plot_signed_errors(
    predictions: Mapping[str, pd.DataFrame],
    groups: Mapping[str, pd.DataFrame],
    ax: Axes | None = None,
    people: str = "people",
) -> Axes:
    """Predicted minus annotated, a pale point an image, and the mean of each group.

    Parameters
    ----------
    predictions : columns points, count; by run
    groups : `studies.by_people` of each
    people : what is counted
    """
    ax = ax or plt.subplots(figsize=(COLUMN_INCHES, 2.6))[1]
    ax.axhline(0, color="black", lw=0.8, zorder=0)
    for k, (run, found) in enumerate(predictions.items()):
        table, error = groups[run], found["count"] - found["points"]
        ax.plot(found["points"], error, **mark(k, ms=2, ls="none", alpha=0.35, mew=0))
        look = mark(k, capsize=2, mec="white", mew=0.4, label=run)
        ax.errorbar(table["people"], table["bias"], _reach(table, "bias"), **look)
    low = min(found["points"].min() for found in predictions.values())
    ax.set_xscale("symlog", linthresh=10)
    ax.set_yscale("symlog", linthresh=10)
    ax.set_xlim(left=low * 0.8 if low > 10 else low - 1)
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_major_locator(SymmetricalLogLocator(base=10, linthresh=10))
        axis.set_major_formatter(PLAIN)
    ax.set(xlabel=f"{people.capitalize()} annotated", ylabel="Predicted − annotated")
    return ax


def plot_groups(
    tables: Mapping[str, pd.DataFrame],
    column: str,
    ylabel: str,
    ax: Axes | None = None,
    reference: float | None = None,
) -> Axes:
    """One column of tables of groups with its 95 % intervals, the tables side by side in each group.

    Parameters
    ----------
    tables : of the same groups (rows), by what they are of
    column : of the tables, which have its ``_low`` and ``_high`` too; one without it is left out
    reference : where to draw a line
    """
    ax = ax or plt.subplots(figsize=(COLUMN_INCHES, 2.6))[1]
    names = next(iter(tables.values())).index
    place = np.arange(len(names))
    if reference is not None:
        ax.axhline(reference, color="0.4", ls=":", lw=1, zorder=0)
    for k, (label, table) in enumerate(tables.items()):
        if column in table:
            x = place + (k - (len(tables) - 1) / 2) * 0.25
            look = mark(k, ls="none", ms=4.5, capsize=2, elinewidth=1.2, label=label)
            ax.errorbar(x, table[column], _reach(table, column), **look)
    _slanted(ax, place, names)
    ax.set(xlabel=names.name[0].upper() + names.name[1:], ylabel=ylabel)
    ax.set_xlim(-0.5, len(names) - 0.5)
    return ax


def plot_shares(table: pd.DataFrame, ax: Axes | None = None, people: str = "people") -> Axes:
    """Which share of the blocks, people and absolute error each range of counts has (`by_range`)."""
    ax = ax or plt.subplots(figsize=(COLUMN_INCHES, 2.6))[1]
    place = np.arange(len(table))
    labels = {"blocks": "blocks", "people": people, "error": "absolute error"}
    for k, (what, label) in enumerate(labels.items()):
        look = {"color": ("0.75", COLOURS[0], COLOURS[1])[k], "hatch": ("", "", "////")[k]}
        x = place + (k - 1) * 0.27
        ax.bar(x, table[f"share_of_{what}"], 0.25, label=label, ec="white", **look)
    ax.yaxis.set_major_formatter(PercentFormatter(1))
    _slanted(ax, place, table.index)
    ax.set(xlabel=f"{people.capitalize()} in a block", ylabel="Share", ylim=(0, 1))
    legend_above(ax, columns=2)
    return ax


def plot_windows(table: pd.DataFrame, ax: Axes | None = None) -> Axes:
    """The error that remains when people are counted in larger windows (`by_window`)."""
    ax = ax or plt.subplots(figsize=(COLUMN_INCHES, 2.6))[1]
    ax.plot(table.index, table["error"], **mark(0))
    ends = table["error_low"], table["error_high"]
    ax.fill_between(table.index, *ends, color=COLOURS[0], alpha=0.2, lw=0)
    ax.set(xscale="log", yscale="log", xlabel="Side of a window (px)", ylabel="Error per image")
    _slanted(ax, table.index, table.index)
    ax.minorticks_off()
    ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    ax.yaxis.set_major_formatter(PLAIN)
    return ax


def plot_reliability(
    table: pd.DataFrame, names: list[str], ax: Axes | None = None, least: float = 5
) -> Axes:
    """How often blocks have a class, against how probable it was called: both on logarithmic axes.

    Parameters
    ----------
    table : `studies.reliability`'s
    names : of the classes to draw
    least : cells in which fewer blocks than this are expected to have the class are left out
    """
    ax = ax or plt.subplots(figsize=(COLUMN_INCHES, 2.9))[1]
    ax.plot([1e-9, 1], [1e-9, 1], "k--", lw=0.8, label="calibrated")
    colours = plt.colormaps["viridis"]
    seen = table[(table["blocks"] * table["probability"] >= least) & (table["share"] > 0)]
    for k, name in enumerate(names):
        if len(rows := seen[seen["class"] == name]):
            look = mark(k, ms=3.5, lw=1, color=colours(k / len(names)), label=name)
            ax.errorbar(rows["probability"], rows["share"], _reach(rows, "share"), **look)
    low = min([1e-2, *seen["probability"], *seen["share"]]) / 2
    ax.set(xscale="log", yscale="log", xlim=(low, 1.5), ylim=(low, 1.5), aspect="equal")
    ax.set(xlabel="Its probability", ylabel="Share of blocks with the class")
    beside = {"loc": "upper left", "bbox_to_anchor": (1, 1), "borderaxespad": 0}
    ax.legend(fontsize=6.5, labelspacing=0.15, **beside)
    return ax


def plot_confusion(
    sums: np.ndarray, names: list[str], ax: Axes | None = None, said: str = "Likeliest class"
) -> Axes:
    """What is said of the blocks of each class, as shares of the row; logarithmic colour.

    Parameters
    ----------
    sums : (N, N), the true class in rows: blocks by likeliest class, or summed probabilities; each row
        adds up to the blocks of its class
    names : of the classes
    said : what the columns are
    """
    side = max(COLUMN_INCHES, 1.8 + 0.17 * len(names))
    ax = ax or plt.subplots(figsize=(side + 0.8, side - 0.6))[1]
    blocks = sums.sum(axis=1, keepdims=True)
    share = np.divide(sums, blocks, out=np.full(sums.shape, np.nan), where=blocks > 0)
    image = ax.imshow(np.where(share > 0, share, np.nan), norm=LogNorm(1e-4, 1), cmap="Blues")
    if len(names) <= 8:
        for (i, j), value in np.ndenumerate(share):
            colour = "white" if value > 0.05 else "black"
            ax.text(j, i, _percent(value), ha="center", va="center", fontsize=6, color=colour)
    ticks = np.arange(0, len(names), 1 + len(names) // 17)
    ax.set_xticks(ticks, [names[k] for k in ticks], rotation=90 if len(names) > 8 else 0)
    ax.set_yticks(ticks, [f"{names[k]}: {blocks[k, 0]:,.0f}" for k in ticks])
    ax.tick_params(labelsize=7)
    ax.set(xlabel=said, ylabel="True class: its blocks")
    ax.figure.colorbar(image, ax=ax, shrink=0.75, label="Share of the row")
    return ax


def _percent(share: float) -> str:
    """Two digits of a percentage; nothing for a row without blocks."""
    if not share > 0:
        return "0" if share == 0 else ""
    digits = 0 if share > 0.095 else 1
    return "<.01%" if share < 1e-4 else f"{100 * share:.{digits}f}".removesuffix(".0") + "%"
