"""Figures of runs: the history and predictions of one, the errors of many, a count over time."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator

from ebclib.plots.style import COLOURS, COLUMN_INCHES, PAGE_INCHES, PLAIN, legend_above, mark


def plot_history(
    history: pd.DataFrame, mean_predictor: float | None = None, ax: Axes | None = None
) -> Axes:
    """The loss of each epoch, and the MAE on the validation images where it was measured."""
    ax = ax or plt.subplots(figsize=(COLUMN_INCHES, 2.4))[1]
    handles = ax.plot(
        history["epoch"], history["loss"], color=COLOURS[0], lw=1.4, label="training loss"
    )
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


def plot_predictions(predictions: pd.DataFrame, ax: Axes | None = None) -> Axes:
    """Predicted against annotated people, a point an image, with the interval where it is finite."""
    ax = ax or plt.subplots(figsize=(COLUMN_INCHES, 3.2))[1]
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


def plot_cells(
    found: pd.DataFrame, rows: list[str], columns: list[str], ax: Axes | None = None
) -> Axes:
    """MAE of every run of a table, a line a row and a sign a column; seeds are small, their mean large.

    Parameters
    ----------
    found : `studies.results_of`
    rows, columns : of the table, in its order; those without a run stay empty
    """
    width = COLUMN_INCHES + 0.07 * max(map(len, rows))  # labels leave the points their room
    height = 0.9 + 0.26 * len(rows) * max(1, 0.6 * len(columns))
    ax = ax or plt.subplots(figsize=(width, height))[1]
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
    """By how many people a classifier's MAE is below its regression form's, with 95 % intervals.

    A panel a data set, a row a classifier, a sign a regression model; ``pairs`` are
    `studies.against_regression`'s.
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


def plot_descent(people: pd.DataFrame, true: float, ax: Axes | None = None) -> Axes:
    """The sum of a density over the steps of a descent, a line a column; ``true`` is how many there are."""
    ax = ax or plt.subplots(figsize=(COLUMN_INCHES * 1.2, 2.5))[1]
    ax.axhline(true, color="0.4", lw=1, zorder=0)
    for k, (name, each) in enumerate(people.items()):
        ax.plot(each.index, each, label=name, **mark(k, markevery=max(1, len(each) // 8)))
    ax.set(xlabel="Step", ylabel="People, predicted", ylim=(0, None))
    legend_above(ax, columns=2)
    return ax


def plot_over_time(counts: pd.DataFrame, what: str = "people", ax: Axes | None = None) -> Axes:
    """Counts of a video's frames, with the 90 % interval where it is finite.

    Parameters
    ----------
    counts : columns seconds, count, lower, upper
    what : is counted, for the axis
    """
    ax = ax or plt.subplots(figsize=(PAGE_INCHES, 2.4))[1]
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
