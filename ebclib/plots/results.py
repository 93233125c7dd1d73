"""Figures of what a run left behind: its history, its predictions, its maps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.ticker import FuncFormatter, LogLocator

from ebclib.blocks import smoothed_counts
from ebclib.data import Sample
from ebclib.plots.style import COLOURS, COLUMN_INCHES, DENSITY_MAP, PAGE_INCHES


def plot_history(
    history: pd.DataFrame, mean_predictor: float | None = None, ax: Axes | None = None
) -> Axes:
    """The loss of each epoch, and the MAE on the validation images where it was measured."""
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
        label="validation MAE",
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
    """Predicted against annotated people, a point an image, with the interval where it is finite."""
    ax = ax or plt.subplots(figsize=(COLUMN_INCHES, 3.2))[1]
    points, counts = predictions["points"], predictions["count"]
    reach = np.abs(predictions[["lower", "upper"]].to_numpy().T - counts.to_numpy())
    if np.isfinite(reach).all():
        ax.errorbar(
            points, counts, reach, fmt="none", ecolor="0.75", elinewidth=1, label="90 % interval"
        )
    ax.plot(points, counts, "o", ms=3.5, color=COLOURS[0], mec="white", mew=0.4, label="image")
    top = max(points.max(), counts.max()) * 1.3 + 1
    ax.plot([0, top], [0, top], "k--", lw=1, label="exact")
    ax.set(xscale="symlog", yscale="symlog", xlim=(-0.5, top), ylim=(-0.5, top))
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    ax.set(xlabel="People annotated", ylabel="People predicted")
    ax.legend(frameon=False)
    return ax


def plot_maps(
    image: np.ndarray,
    points: np.ndarray,
    density: np.ndarray,
    block_size_px: int,
    axes: np.ndarray | None = None,
) -> np.ndarray:
    """Image, truth and prediction side by side, the maps on one scale (paper, Fig. 6).

    The annotated people are smoothed for the eye, as in the paper, by a Gaussian of two blocks.

    Parameters
    ----------
    image : uint8 (H, W, 3)
    points : (n, 2), the people annotated
    density : (h, w), people per block as predicted

    Returns
    -------
    the three Axes
    """
    if axes is None:
        height, width = image.shape[:2]
        size = (PAGE_INCHES, (PAGE_INCHES - 0.7) / 3 * height / width + 0.35)
        axes = plt.subplots(1, 3, figsize=size)[1]
    truth = _smoothed(points, image, block_size_px)
    top = max(truth.max(), density.max(), 0.05)
    axes[0].imshow(image, interpolation="bilinear")
    axes[0].set_title("Image")
    for ax, values, title in (
        (axes[1], truth, f"Annotated: {len(points)} (smoothed)"),
        (axes[2], density, f"Predicted: {density.sum():.1f}"),
    ):
        shown = _show_density(ax, values, image, block_size_px, vmin=0, vmax=top)
        ax.set_title(title)
    _bare(axes)
    axes[0].figure.colorbar(shown, ax=list(axes), aspect=25, pad=0.01, label="People per block")
    return axes


def plot_gallery(
    samples: Sequence[Sample],
    densities: Sequence[np.ndarray],
    block_size_px: int,
    gamma: float = 0.5,
) -> Figure:
    """A column an image: itself, the truth (smoothed for the eye) and the prediction (paper, Fig. 6).

    All maps have one colour scale, people per block to the power of ``gamma``: on a linear one either
    sparse images are black or dense ones white.

    Parameters
    ----------
    samples : the images and their points, from left to right
    densities : (h, w) each, people per block as predicted
    block_size_px : r
    gamma : above 0; 1 is linear
    """
    truths = [_smoothed(s.points, s.image, block_size_px) for s in samples]
    top = max([0.05, *(maps.max() for maps in (*truths, *densities))])
    norm = PowerNorm(gamma, 0, top)
    ratios = [s.image.shape[1] / s.image.shape[0] for s in samples]
    height = (PAGE_INCHES - 1.3) / sum(ratios)  # of one image, if all are equally high
    figure, axes = plt.subplots(
        3,
        len(samples),
        figsize=(PAGE_INCHES, 3 * height + 0.55),
        squeeze=False,
        gridspec_kw={"width_ratios": ratios},
    )
    for column, sample, truth, density in zip(axes.T, samples, truths, densities, strict=True):
        column[0].imshow(sample.image, interpolation="bilinear")
        for ax, values, title in (
            (column[1], truth, f"{len(sample.points)}"),
            (column[2], density, f"{density.sum():.1f}"),
        ):
            shown = _show_density(ax, values, sample.image, block_size_px, norm=norm)
            ax.set_title(title, fontsize=8, pad=2)
    for ax, text in zip(axes[:, 0], ("Image", "Annotated\n(smoothed)", "Predicted"), strict=True):
        ax.set_ylabel(text, fontsize=8)
    _bare(axes)
    bar = figure.colorbar(shown, ax=axes[1:], aspect=35, pad=0.01, label="People per block")
    bar.ax.tick_params(labelsize=7)
    return figure


def _smoothed(points: np.ndarray, image: np.ndarray, block_size_px: int) -> np.ndarray:
    """The truth for the eye: (h, w) people per block, each smoothed by a Gaussian of two blocks."""
    return smoothed_counts(points, *image.shape[:2], block_size_px, 2 * block_size_px)


def _show_density(
    ax: Axes, values: np.ndarray, image: np.ndarray, block_size_px: int, **scale: Any
) -> AxesImage:
    """A map (h, w) in the image's own coordinates: the last blocks reach over its border."""
    h, w = values.shape
    extent = (0, w * block_size_px, h * block_size_px, 0)
    shown = ax.imshow(values, cmap=DENSITY_MAP, extent=extent, **scale)
    ax.set(xlim=(0, image.shape[1]), ylim=(image.shape[0], 0))
    return shown


def _bare(axes: np.ndarray) -> None:
    """No ticks and no frames."""
    for ax in axes.flat:
        ax.set(xticks=[], yticks=[])
        sns.despine(ax=ax, left=True, bottom=True)
