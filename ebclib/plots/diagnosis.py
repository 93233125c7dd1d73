"""Figures of where a model errs; what they show comes from `ebclib.studies`."""

from __future__ import annotations

from collections.abc import Mapping

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.ticker import FuncFormatter, LogLocator, PercentFormatter, SymmetricalLogLocator

from ebclib.plots.style import COLOURS, COLUMN_INCHES, MARKERS, legend_above


def _reach(table: pd.DataFrame, name: str) -> np.ndarray:
    """How far the interval of column ``name`` goes below and above it: (2, rows), nowhere below 0."""
    ends = np.stack([table[name] - table[f"{name}_low"], table[f"{name}_high"] - table[name]])
    return np.clip(ends, 0, None)


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
    groups : `diagnosis.by_people` of each
    people : what is counted
    """
    ax = ax or plt.subplots(figsize=(COLUMN_INCHES, 2.6))[1]
    ax.axhline(0, color="black", lw=0.8, zorder=0)
    for k, (run, found) in enumerate(predictions.items()):
        points, table = found["points"], groups[run]
        error = found["count"] - points
        ax.plot(points, error, MARKERS[k % 6], ms=2, color=COLOURS[k], alpha=0.35, mew=0)
        ax.errorbar(
            table["people"],
            table["bias"],
            _reach(table, "bias"),
            fmt=f"{MARKERS[k % 6]}-",
            ms=4,
            lw=1.2,
            capsize=2,
            color=COLOURS[k],
            mec="white",
            mew=0.4,
            label=run,
        )
    low = min(found["points"].min() for found in predictions.values())
    ax.set_xscale("symlog", linthresh=10)
    ax.set_yscale("symlog", linthresh=10)
    ax.set_xlim(left=low * 0.8 if low > 10 else low - 1)
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_major_locator(SymmetricalLogLocator(base=10, linthresh=10))
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}".replace("-", "−")))
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
    ylabel : what the column is
    reference : where to draw a line
    """
    ax = ax or plt.subplots(figsize=(COLUMN_INCHES, 2.6))[1]
    names = next(iter(tables.values())).index
    place = np.arange(len(names))
    if reference is not None:
        ax.axhline(reference, color="0.4", ls=":", lw=1, zorder=0)
    for k, (label, table) in enumerate(tables.items()):
        if column not in table:
            continue
        ax.errorbar(
            place + (k - (len(tables) - 1) / 2) * 0.25,
            table[column],
            _reach(table, column),
            fmt=MARKERS[k % 6],
            ms=4.5,
            capsize=2,
            lw=1.2,
            color=COLOURS[k],
            label=label,
        )
    _slanted(ax, place, names)
    ax.set(xlabel=names.name[0].upper() + names.name[1:], ylabel=ylabel)
    ax.set_xlim(-0.5, len(names) - 0.5)
    return ax


def plot_shares(table: pd.DataFrame, ax: Axes | None = None, people: str = "people") -> Axes:
    """Which share of the blocks, people and absolute error each range of block counts has.

    ``table`` is `diagnosis.by_range`'s.
    """
    ax = ax or plt.subplots(figsize=(COLUMN_INCHES, 2.6))[1]
    place = np.arange(len(table))
    for k, (what, label) in enumerate(
        {"blocks": "blocks", "people": people, "error": "absolute error"}.items()
    ):
        share = table[f"share_of_{what}"]
        x, colour = place + (k - 1) * 0.27, ("0.75", COLOURS[0], COLOURS[1])[k]
        ax.bar(x, share, 0.25, color=colour, label=label, hatch=("", "", "////")[k], ec="white")
    ax.yaxis.set_major_formatter(PercentFormatter(1))
    _slanted(ax, place, table.index)
    ax.set(xlabel=f"{people.capitalize()} in a block", ylabel="Share", ylim=(0, 1))
    legend_above(ax, columns=2)
    return ax


def plot_windows(table: pd.DataFrame, ax: Axes | None = None) -> Axes:
    """The error that remains when people are counted in larger windows (`diagnosis.by_window`)."""
    ax = ax or plt.subplots(figsize=(COLUMN_INCHES, 2.6))[1]
    ax.plot(table.index, table["error"], marker="o", ms=4, color=COLOURS[0])
    ax.fill_between(
        table.index, table["error_low"], table["error_high"], color=COLOURS[0], alpha=0.2, lw=0
    )
    ax.set(xscale="log", yscale="log", xlabel="Side of a window (px)", ylabel="Error per image")
    _slanted(ax, table.index, table.index)
    ax.minorticks_off()
    ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    return ax


def plot_reliability(
    table: pd.DataFrame, names: list[str], ax: Axes | None = None, least: float = 5
) -> Axes:
    """How often blocks have a class, against how probable it was called: both on logarithmic axes.

    Parameters
    ----------
    table : `diagnosis.reliability`'s
    names : of the classes to draw
    least : cells in which fewer blocks than this are expected to have the class are left out
    """
    ax = ax or plt.subplots(figsize=(COLUMN_INCHES, 2.9))[1]
    ax.plot([1e-9, 1], [1e-9, 1], "k--", lw=0.8, label="calibrated")
    colours = plt.colormaps["viridis"]
    seen = table[(table["blocks"] * table["probability"] >= least) & (table["share"] > 0)]
    for k, name in enumerate(names):
        rows = seen[seen["class"] == name]
        if not len(rows):
            continue
        ax.errorbar(
            rows["probability"],
            rows["share"],
            _reach(rows, "share"),
            marker=MARKERS[k % 6],
            ms=3.5,
            lw=1,
            color=colours(k / len(names)),
            label=name,
        )
    low = min([1e-2, *seen["probability"], *seen["share"]]) / 2
    ax.set(xscale="log", yscale="log", xlim=(low, 1.5), ylim=(low, 1.5), aspect="equal")
    ax.set(xlabel="Its probability", ylabel="Share of blocks with the class")
    beside = {"loc": "upper left", "bbox_to_anchor": (1, 1), "borderaxespad": 0}
    ax.legend(frameon=False, fontsize=6.5, labelspacing=0.15, **beside)
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


def plot_descent(people: pd.DataFrame, true: float, ax: Axes | None = None) -> Axes:
    """The sum of a density over the steps of a descent, a line a column.

    Parameters
    ----------
    people : indexed by step; a column's name is in the legend
    true : how many there are
    """
    ax = ax or plt.subplots(figsize=(COLUMN_INCHES * 1.2, 2.5))[1]
    ax.axhline(true, color="0.4", lw=1, zorder=0)
    for k, (name, each) in enumerate(people.items()):
        every = max(1, len(each) // 8)
        style = {"color": COLOURS[k], "marker": MARKERS[k], "markevery": every, "ms": 4}
        ax.plot(each.index, each, label=name, **style)
    ax.set(xlabel="Step", ylabel="People, predicted", ylim=(0, None))
    legend_above(ax, columns=2)
    return ax


def _slanted(ax: Axes, places: np.ndarray, names: pd.Index) -> None:
    """Labels below the axis that do not run into each other."""
    ax.set_xticks(places, names, rotation=50, ha="right", rotation_mode="anchor", fontsize=7.5)


def _percent(share: float) -> str:
    """Two digits of a percentage; nothing for a row without blocks."""
    if np.isnan(share) or share == 0:
        return "" if np.isnan(share) else "0"
    return (
        "<.01%"
        if share < 1e-4
        else f"{100 * share:.{0 if share > 0.095 else 1}f}".removesuffix(".0") + "%"
    )
