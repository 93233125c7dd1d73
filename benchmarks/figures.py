"""Figures of what training costs: parts of a step, transport, crops."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ebclib.plots.style import COLOURS, COLUMN_INCHES, PAGE_INCHES, PLAIN, mark

LOSS_PARTS = ("cross-entropy", "transport", "rest of the loss", "loss backward")


def _rows(ax: Axes, values: pd.Series, beside: list[str], xlabel: str) -> Axes:
    """Names of horizontal bars at their left, and a text at each bar's end."""
    for place, (value, text) in enumerate(zip(values, beside, strict=True)):
        ax.text(value, place, f" {text}", va="center", fontsize=7.5)
    ax.set_yticks(range(len(values)), values.index)
    ax.set(xlabel=xlabel, xlim=(0, values.max() * 1.2), ylim=(len(values) - 0.5, -0.5))
    return ax


def plot_step(parts: pd.DataFrame, title: str = "") -> Axes:
    """The parts of a training step (rows; ``ms``) as bars, their ``share`` beside them."""
    ax = plt.subplots(figsize=(COLUMN_INCHES * 1.35, 2.8))[1]
    is_loss = np.array([part in LOSS_PARTS for part in parts.index])
    for label, rows, colour, hatch in (
        ("loss", is_loss, COLOURS[1], "///"),
        ("crops, network, optimiser", ~is_loss, COLOURS[0], ""),
    ):
        look = {"color": colour, "hatch": hatch, "edgecolor": "white", "label": label}
        ax.barh(np.flatnonzero(rows), parts["ms"][rows], **look)
    ax.set_title(title, pad=22)
    ax.legend(loc="lower center", bbox_to_anchor=(0.4, 1), ncols=2, fontsize=7.5)
    shares = [f"{share:.1%}" for share in parts["share"]]
    return _rows(ax, parts["ms"], shares, "Milliseconds a step (shares of it beside the bars)")


def plot_growth(growth: pd.DataFrame) -> Figure:
    """Transport's time on logarithmic axes, a panel for what is varied.

    ``growth`` has rows (``varied``, ``value``, ``way``, ``ms``).
    """
    varied = list(growth["varied"].unique())
    figure, axes = plt.subplots(1, len(varied), figsize=(PAGE_INCHES, 2.4), sharey=True)
    for ax, name in zip(axes, varied, strict=True):
        rows = growth[growth["varied"] == name]
        for k, (way, each) in enumerate(rows.groupby("way", sort=False)):
            ax.plot(each["value"], each["ms"], label=way, **mark(k))
        values = sorted(rows["value"].unique())
        ax.set(xscale="log", yscale="log", xlabel=name[0].upper() + name[1:])
        ax.set_xticks(values, values, rotation=0 if len(values) < 5 else 45)
        ax.minorticks_off()
        ax.grid(axis="y", lw=0.4)
    axes[0].set_ylabel("Milliseconds a batch")
    axes[0].yaxis.set_major_formatter(PLAIN)
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside upper left", ncols=3)
    return figure


def plot_crops(crops: pd.DataFrame) -> Axes:
    """``crops_per_s`` of each way (row), and how many ``times_faster`` than torchvision that is."""
    ax = plt.subplots(figsize=(COLUMN_INCHES * 1.3, 1.7))[1]
    colours = [COLOURS[0] if name.startswith("ours") else COLOURS[7] for name in crops.index]
    ax.barh(range(len(crops)), crops["crops_per_s"], color=colours)
    times = [f"{factor:.1f} ×" for factor in crops["times_faster"]]
    return _rows(ax, crops["crops_per_s"], times, "Augmented crops a second")
