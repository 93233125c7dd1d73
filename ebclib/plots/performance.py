"""Figures of what training costs: parts of a step, transport, crops."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ebclib.plots.style import COLOURS, COLUMN_INCHES, MARKERS, PAGE_INCHES

LOSS_PARTS = ("cross-entropy", "transport", "rest of the loss", "loss backward")


def plot_step(parts: pd.DataFrame, ax: Axes | None = None, title: str = "") -> Axes:
    """The parts of a training step as bars, their shares beside them.

    Parameters
    ----------
    parts : a row a part, ``ms`` and ``share``
    """
    ax = ax or plt.subplots(figsize=(COLUMN_INCHES * 1.35, 2.8))[1]
    is_loss = np.array([part in LOSS_PARTS for part in parts.index])
    for kind, rows, colour, hatch in (
        ("loss", is_loss, COLOURS[1], "///"),
        ("crops, network, optimiser", ~is_loss, COLOURS[0], ""),
    ):
        places = np.flatnonzero(rows)
        ax.barh(places, parts["ms"][rows], color=colour, hatch=hatch, edgecolor="white", label=kind)
    for place, (ms, share) in enumerate(zip(parts["ms"], parts["share"], strict=True)):
        ax.text(ms, place, f" {share:.1%}", va="center", fontsize=7.5)
    ax.set_yticks(range(len(parts)), parts.index)
    ax.set(xlabel="Milliseconds a step (shares of it beside the bars)")
    ax.set_title(title, pad=22)
    ax.set_xlim(right=parts["ms"].max() * 1.15)
    ax.invert_yaxis()
    ax.legend(frameon=False, loc="lower center", bbox_to_anchor=(0.4, 1), ncols=2, fontsize=7.5)
    return ax


def plot_growth(growth: pd.DataFrame) -> Figure:
    """Transport's time as people, side and batch grow, a panel each, on logarithmic axes.

    Parameters
    ----------
    growth : rows (``varied``, ``value``, ``way``, ``ms``)
    """
    varied = list(growth["varied"].unique())
    figure, axes = plt.subplots(1, len(varied), figsize=(PAGE_INCHES, 2.4), sharey=True)
    for ax, name in zip(axes, varied, strict=True):
        rows = growth[growth["varied"] == name]
        for k, (way, each) in enumerate(rows.groupby("way", sort=False)):
            ax.plot(each["value"], each["ms"], MARKERS[k] + "-", color=COLOURS[k], label=way)
        values = sorted(rows["value"].unique())
        ax.set(xscale="log", yscale="log", xlabel=name[0].upper() + name[1:])
        ax.set_xticks(values, values, rotation=0 if len(values) < 5 else 45)
        ax.minorticks_off()
        ax.grid(axis="y", lw=0.4)
    axes[0].set_ylabel("Milliseconds a batch")
    axes[0].legend(frameon=False)
    return figure


def plot_crops(crops: pd.DataFrame, ax: Axes | None = None) -> Axes:
    """Crops a second by each way, and how many times that is torchvision's rate.

    Parameters
    ----------
    crops : a row a way, ``crops_per_s`` and ``times_faster``
    """
    ax = ax or plt.subplots(figsize=(COLUMN_INCHES * 1.3, 1.7))[1]
    rate, times = crops["crops_per_s"], crops["times_faster"]
    ours = [name.startswith("ours") for name in crops.index]
    ax.barh(range(len(rate)), rate, color=[COLOURS[0] if own else COLOURS[7] for own in ours])
    for place, (value, factor) in enumerate(zip(rate, times, strict=True)):
        ax.text(value, place, f" {factor:.1f} ×", va="center", fontsize=7.5)
    ax.set_yticks(range(len(rate)), crops.index)
    ax.set(xlabel="Augmented crops a second", xlim=(0, rate.max() * 1.2))
    ax.invert_yaxis()
    return ax
