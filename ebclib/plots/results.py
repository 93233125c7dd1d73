"""Figures of what a run left behind: its history, its predictions, its maps."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, LogLocator

from ebclib.blocks import smoothed_counts
from ebclib.plots.style import COLOURS, COLUMN_INCHES, DENSITY_MAP, PAGE_INCHES


def plot_history(
    history: pd.DataFrame, mean_predictor: float | None = None, ax: Axes | None = None
) -> Axes:
    """The loss of each epoch, and the MAE on the held-out pictures where it was measured."""
    ax = ax or plt.subplots(figsize=(COLUMN_INCHES, 2.4))[1]
    (loss,) = ax.plot(
        history["epoch"], history["loss"], color=COLOURS[0], lw=1.4, label="training loss"
    )
    ax.set(xlabel="Epoch", ylabel="Training loss", yscale="log")
    ax.yaxis.set_minor_locator(LogLocator(subs=(2, 5)))
    for set_formatter in (ax.yaxis.set_major_formatter, ax.yaxis.set_minor_formatter):
        set_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    right = ax.twinx()
    seen = history.dropna(subset="held_out_mae")
    (mae,) = right.plot(
        seen["epoch"],
        seen["held_out_mae"],
        "s--",
        color=COLOURS[1],
        ms=4,
        lw=1.2,
        label="held-out MAE",
    )
    handles = [loss, mae]
    if mean_predictor is not None:
        handles.append(
            right.axhline(mean_predictor, color="0.4", ls=":", lw=1.2, label="mean predictor")
        )
    right.set(ylabel="MAE (people)", ylim=(0, None))
    right.spines["right"].set_visible(True)
    ax.legend(handles=handles, frameon=False)
    return ax


def plot_predictions(predictions: pd.DataFrame, ax: Axes | None = None) -> Axes:
    """Predicted against annotated people, a point a picture, with the interval where it is finite."""
    ax = ax or plt.subplots(figsize=(COLUMN_INCHES, 3.2))[1]
    points, counts = predictions["points"], predictions["count"]
    reach = np.abs(predictions[["lower", "upper"]].to_numpy().T - counts.to_numpy())
    if np.isfinite(reach).all():
        ax.errorbar(
            points, counts, reach, fmt="none", ecolor="0.75", elinewidth=1, label="90 % interval"
        )
    ax.plot(points, counts, "o", ms=3.5, color=COLOURS[0], mec="white", mew=0.4, label="picture")
    top = max(points.max(), counts.max()) * 1.3 + 1
    ax.plot([0, top], [0, top], "k--", lw=1, label="exact")
    ax.set(xscale="symlog", yscale="symlog", xlim=(-0.5, top), ylim=(-0.5, top))
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    ax.set(xlabel="People annotated", ylabel="People predicted")
    ax.legend(frameon=False)
    return ax


def plot_maps(
    picture: np.ndarray,
    points: np.ndarray,
    density: np.ndarray,
    block_size_px: int,
    axes: np.ndarray | None = None,
) -> np.ndarray:
    """Picture, truth and prediction side by side, the maps on one scale (paper, Fig. 6).

    The annotated people are smoothed for the eye, as in the paper, by a Gaussian of two blocks.

    Parameters
    ----------
    picture : uint8 (H, W, 3)
    points : (n, 2), the people annotated
    density : (h, w), people per block as predicted

    Returns
    -------
    the three Axes
    """
    if axes is None:
        height, width = picture.shape[:2]
        size = (PAGE_INCHES, PAGE_INCHES / 3 * height / width + 0.35)
        axes = plt.subplots(1, 3, figsize=size)[1]
    height, width = picture.shape[:2]
    truth = smoothed_counts(points, height, width, block_size_px, 2 * block_size_px)
    h, w = truth.shape
    top = max(truth.max(), density.max(), 0.05)
    axes[0].imshow(picture, interpolation="bilinear")
    axes[0].set_title("Picture")
    for ax, values, title in (
        (axes[1], truth, f"Annotated: {len(points)} (smoothed)"),
        (axes[2], density, f"Predicted: {density.sum():.1f}"),
    ):
        extent = (0, w * block_size_px, h * block_size_px, 0)
        ax.imshow(values, cmap=DENSITY_MAP, vmin=0, vmax=top, extent=extent)
        ax.set(xlim=(0, width), ylim=(height, 0), title=title)
    for ax in axes:
        ax.set(xticks=[], yticks=[])
        sns.despine(ax=ax, left=True, bottom=True)
    return axes
