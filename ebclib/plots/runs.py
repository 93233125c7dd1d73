"""Figures of runs: history, predictions, comparisons, a count over time, and where a model errs."""

from __future__ import annotations

from collections.abc import Mapping

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, PercentFormatter, SymmetricalLogLocator

from ebclib.plots.style import COLOURS, COLUMN_INCHES, PAGE_INCHES, PLAIN, legend_above, mark


def plot_history(history: pd.DataFrame, mean_predictor: float | None = None) -> Axes:
    """The loss of each epoch, and the MAE on the validation images where it was measured."""
    ax = plt.subplots(figsize=(COLUMN_INCHES, 2.4))[1]
    look = {"color": COLOURS[0], "lw": 1.4, "label": "training loss"}
    handles = ax.plot(history["epoch"], history["loss"], **look)
    ax.set(xlabel="Epoch", ylabel="Training loss", yscale="log")
    ax.yaxis.set_minor_locator(LogLocator(subs=(2, 5)))
    ax.yaxis.set_major_formatter(PLAIN)
    ax.yaxis.set_minor_formatter(PLAIN)
    right = ax.twinx()
    seen = history.dropna(subset="held_out_mae")
    look = {"color": COLOURS[1], "ms": 4, "lw": 1.2, "label": "validation MAE"}
    handles += right.plot(seen["epoch"], seen["held_out_mae"], "s--", **look)
    if mean_predictor is not None:
        look = {"color": "0.4", "ls": ":", "lw": 1.2, "label": "mean predictor"}
        handles.append(right.axhline(mean_predictor, **look))
    right.set(ylabel="MAE (people)", ylim=(0, None))
    right.spines["right"].set_visible(True)
    legend_above(ax, columns=2, handles=handles)
    return ax


def plot_predictions(predictions: pd.DataFrame) -> Axes:
    """Predicted against annotated people, a point an image, with the interval where it is finite."""
    ax = plt.subplots(figsize=(COLUMN_INCHES, 3.2))[1]
    points, counts = predictions["points"], predictions["count"]
    reach = np.abs(predictions[["lower", "upper"]].to_numpy().T - counts.to_numpy())
    if np.isfinite(reach).all():
        look = {"fmt": "none", "ecolor": "0.75", "elinewidth": 1}
        ax.errorbar(points, counts, reach, label="90 % interval", **look)
    ax.plot(points, counts, "o", ms=3.5, color=COLOURS[0], mec="white", mew=0.4, label="image")
    top = max(points.max(), counts.max()) * 1.3 + 1
    ax.plot([0, top], [0, top], "k--", lw=1, label="exact")
    ax.set(xscale="symlog", yscale="symlog", xlim=(-0.5, top), ylim=(-0.5, top))
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_major_formatter(PLAIN)
    ax.set(xlabel="People annotated", ylabel="People predicted")
    ax.legend()
    return ax


def plot_cells(found: pd.DataFrame, rows: list[str], columns: list[str]) -> Axes:
    """MAE of every run of a table (`studies.results_of`), a line a row and a sign a column.

    Seeds are small, their mean is large; ``rows`` and ``columns`` without a run stay empty.
    """
    width = COLUMN_INCHES + 0.07 * max(map(len, rows))  # labels leave the points their room
    height = 0.9 + 0.26 * len(rows) * max(1, 0.6 * len(columns))
    ax = plt.subplots(figsize=(width, height))[1]
    offsets = np.linspace(-0.22, 0.22, len(columns)) if len(columns) > 1 else [0.0]
    for k, (column, offset) in enumerate(zip(columns, offsets, strict=True)):
        here = found[found["column"] == column]
        here = here.assign(place=here["row"].map({row: place for place, row in enumerate(rows)}))
        many = here[here.groupby("row")["mae"].transform("size") > 1]
        ax.plot(many["mae"], many["place"] + offset, **mark(k, ls="none", ms=3, alpha=0.5, mew=0))
        means = here.groupby("row")[["mae", "place"]].mean()
        look = mark(k, ls="none", ms=6, mec="white", label=column)
        ax.plot(means["mae"], means["place"] + offset, **look)
    for value in found["mean_predictor_mae"].drop_duplicates()[:1] if len(columns) == 1 else []:
        ax.axvline(value, color="0.4", ls=":", lw=1.2, label="always the training mean")
    ax.set(xlabel="MAE (people)", xlim=(0, None), ylim=(len(rows) - 0.5, -0.5))
    ax.set_yticks(range(len(rows)), rows)
    ax.grid(axis="y", color="0.9", lw=0.6)
    ax.set_axisbelow(True)
    if len(found):
        legend_above(ax, columns=3)
    return ax


def plot_differences(pairs: pd.DataFrame) -> Figure:
    """By how many people a classifier's MAE is below its regression form's (`studies.against_regression`).

    A panel a data set, a row a classifier, a sign a regression model, with 95 % intervals.
    """
    columns, rows, baselines = (
        list(pairs[name].unique()) for name in ("column", "classifier", "regression")
    )
    size = (PAGE_INCHES, 1.0 + 0.16 * len(baselines) + 0.32 * len(rows))
    figure, axes = plt.subplots(1, len(columns), figsize=size, sharey=True, squeeze=False)
    rivals = pairs.groupby("classifier")["regression"].unique()
    signs = {}
    for ax, column in zip(axes[0], columns, strict=True):
        ax.axvline(0, color="0.4", lw=1)
        for pair in pairs[pairs["column"] == column].itertuples():
            others = list(rivals[pair.classifier])
            place = rows.index(pair.classifier)
            place += 0.28 * (others.index(pair.regression) - (len(others) - 1) / 2)
            reach = [[pair.difference - pair.lower], [pair.upper - pair.difference]]
            look = mark(baselines.index(pair.regression), ls="none", ms=5, mec="white", capsize=2.5)
            sign = ax.errorbar(pair.difference, place, xerr=reach, **look)
            signs[f"against {pair.regression}"] = sign
        ax.set(title=column, ylim=(len(rows) - 0.5, -0.5))
        ax.grid(axis="y", color="0.92", lw=0.6)
    axes[0, 0].set_yticks(range(len(rows)), rows)
    figure.supxlabel("MAE saved (people), with 95 % interval", fontsize="medium")
    figure.legend(signs.values(), signs, loc="outside upper left")
    return figure


def plot_over_time(counts: pd.DataFrame, what: str = "people") -> Axes:
    """A video's counts (columns seconds, count, lower, upper), with the interval where it is finite."""
    ax = plt.subplots(figsize=(PAGE_INCHES, 2.4))[1]
    length = counts["seconds"].max() if len(counts) else 0
    unit, scale = ("s", 1) if length <= 120 else ("min", 60) if length <= 7200 else ("h", 3600)
    time = counts["seconds"] / scale
    look = "o-" if len(counts) <= 60 else "-"  # points where each frame can be told from the next
    ax.plot(time, counts["count"], look, color=COLOURS[0], ms=3, lw=1.3, label="count")
    if len(counts) and np.isfinite(counts[["lower", "upper"]].to_numpy(dtype=float)).all():
        ends = counts["lower"], counts["upper"]
        ax.fill_between(time, *ends, color="0.85", lw=0, zorder=0, label="90 % interval")
        ax.legend(ncols=2, loc="lower right", bbox_to_anchor=(1, 1), borderaxespad=0)
    ax.set(xlabel=f"Time ({unit})", ylabel=f"{what[:1].upper()}{what[1:]} counted", ylim=(0, None))
    ax.margins(x=0.01)
    return ax


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
    ax: Axes,
    people: str = "people",
) -> Axes:
    """Predicted minus annotated, a pale point an image, and the mean of each group (`studies.by_people`)."""
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
    ax: Axes,
    reference: float | None = None,
) -> Axes:
    """One column of tables of groups with its 95 % intervals, the tables side by side in each group.

    A table without the ``column``, and its ``_low`` and ``_high``, is left out. ``reference`` is a line.
    """
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


def plot_shares(table: pd.DataFrame, ax: Axes, people: str = "people") -> Axes:
    """Which share of the blocks, people and absolute error each range of counts has (`by_range`)."""
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


def plot_windows(table: pd.DataFrame, ax: Axes) -> Axes:
    """The error that remains when people are counted in larger windows (`by_window`)."""
    ax.plot(table.index, table["error"], **mark(0))
    ends = table["error_low"], table["error_high"]
    ax.fill_between(table.index, *ends, color=COLOURS[0], alpha=0.2, lw=0)
    ax.set(xscale="log", yscale="log", xlabel="Side of a window (px)", ylabel="Error per image")
    _slanted(ax, table.index, table.index)
    ax.minorticks_off()
    ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    ax.yaxis.set_major_formatter(PLAIN)
    return ax


def plot_reliability(table: pd.DataFrame, names: list[str], ax: Axes, least: float = 5) -> Axes:
    """How often blocks have a class, against how probable it was called (`studies.reliability`).

    Drawn are the classes ``names``, where at least ``least`` blocks are expected to have the class.
    """
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

    ``sums``, (N, N), has the true class in rows: blocks by likeliest class, or summed probabilities.
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
    if share < 1e-4:
        return "<.01%"
    return f"{100 * share:.{0 if share > 0.095 else 1}f}".removesuffix(".0") + "%"
