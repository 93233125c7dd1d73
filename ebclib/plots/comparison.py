"""Figures of many runs: their errors side by side, and differences with intervals."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ebclib.plots.style import COLOURS, COLUMN_INCHES, MARKERS, PAGE_INCHES, legend_above


def plot_cells(
    found: pd.DataFrame, rows: list[str], columns: list[str], ax: Axes | None = None
) -> Axes:
    """MAE of every run of a table, a line a row and a sign a column; seeds are small, their mean large.

    Parameters
    ----------
    found : `experiments.results_of`
    rows, columns : of the table, in its order; those without a run stay empty
    """
    size = (COLUMN_INCHES * 1.35, 0.9 + 0.26 * len(rows) * max(1, 0.6 * len(columns)))
    ax = ax or plt.subplots(figsize=size)[1]
    offsets = np.linspace(-0.22, 0.22, len(columns)) if len(columns) > 1 else [0.0]
    for number, (column, offset) in enumerate(zip(columns, offsets, strict=True)):
        here = found[found["column"] == column]
        style = {"color": COLOURS[number % len(COLOURS)], "marker": MARKERS[number % len(MARKERS)]}
        places = here["row"].map({row: place for place, row in enumerate(rows)}) + offset
        many = here.groupby("row")["mae"].transform("size") > 1
        ax.plot(here["mae"][many], places[many], ls="none", ms=3, alpha=0.5, mew=0, **style)
        means = here.assign(place=places).groupby("row")[["mae", "place"]].mean()
        ax.plot(means["mae"], means["place"], ls="none", ms=6, mec="white", label=column, **style)
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

    A panel a data set, a row a classifier, a sign a regression model.

    Parameters
    ----------
    pairs : `experiments.against_regression`
    """
    columns, rows, baselines = (
        list(pairs[name].unique()) for name in ("column", "classifier", "regression")
    )
    size = (PAGE_INCHES, 1.0 + 0.16 * len(baselines) + 0.32 * len(rows))
    figure, axes = plt.subplots(1, len(columns), figsize=size, sharey=True, squeeze=False)
    rivals = pairs.groupby("classifier")["regression"].unique()
    for ax, column in zip(axes[0], columns, strict=True):
        ax.axvline(0, color="0.4", lw=1)
        for pair in pairs[pairs["column"] == column].itertuples():
            k, others = baselines.index(pair.regression), list(rivals[pair.classifier])
            place = rows.index(pair.classifier)
            place += 0.28 * (others.index(pair.regression) - (len(others) - 1) / 2)
            reach = [[pair.difference - pair.lower], [pair.upper - pair.difference]]
            style = {"color": COLOURS[k], "fmt": MARKERS[k % 6], "ms": 5, "mec": "white"}
            ax.errorbar(
                pair.difference, place, xerr=reach, capsize=2.5, label=pair.regression, **style
            )
        ax.set(title=column, ylim=(len(rows) - 0.5, -0.5))
        ax.grid(axis="y", color="0.92", lw=0.6)
    axes[0, 0].set_yticks(range(len(rows)), rows)
    figure.supxlabel("MAE saved (people), with 95 % interval", fontsize="medium")
    signs = {
        label: sign
        for ax in axes[0]
        for sign, label in zip(*ax.get_legend_handles_labels(), strict=True)
    }
    figure.legend(
        signs.values(),
        [f"against {label}" for label in signs],
        loc="outside upper left",
        frameon=False,
    )
    return figure
