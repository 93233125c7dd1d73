"""Arrays and data frames to Axes: one style for every figure, legible in print and in grey."""

from __future__ import annotations

from collections.abc import Mapping

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from matplotlib.ticker import FuncFormatter, LogLocator

from .blocks import smoothed_counts
from .config import results_root

COLOURS = sns.color_palette("colorblind")
DENSITY_MAP = "magma"
MARKERS = "os^Dv*"
COLUMN_INCHES, PAGE_INCHES = 3.5, 7.16  # widths of one and of two columns in print


def use_style() -> None:
    """The workbook's style, for all figures drawn from now on."""
    sns.set_theme(context="paper", style="ticks", palette="colorblind", font_scale=1.05)
    plt.rcParams.update(
        {
            "figure.dpi": 110,
            "savefig.dpi": 300,
            "savefig.bbox": "tight",
            "figure.constrained_layout.use": True,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "image.interpolation": "nearest",
            "pdf.fonttype": 42,
        }
    )


def save(figure: Figure, name: str, dataset: str) -> None:
    """Write a figure as PDF and PNG to `results/figures/<dataset>/<name>`."""
    folder = results_root() / "figures" / dataset
    folder.mkdir(parents=True, exist_ok=True)
    for kind in ("pdf", "png"):
        figure.savefig(folder / f"{name}.{kind}")


def plot_long_tail(
    histograms: Mapping[str, np.ndarray], ax: Axes | None = None, longest: int = 30
) -> Axes:
    """How many blocks hold how many people, as shares on a logarithmic axis (paper, Fig. 2).

    Parameters
    ----------
    histograms : a curve each; label → blocks that hold 0, 1, 2, … people (`blocks.histogram`)
    longest : the largest count on the axis; how far a curve goes on is said in its label
    """
    ax = ax or plt.subplots(figsize=(COLUMN_INCHES, 2.6))[1]
    for k, (label, blocks) in enumerate(histograms.items()):
        count = np.flatnonzero(blocks)
        shown = count[count <= longest]
        tail = f" (to {count.max()})" if count.max() > longest else ""
        ax.plot(
            shown,
            blocks[shown] / blocks.sum(),
            marker=MARKERS[k % 6],
            ms=3.5,
            lw=1,
            label=label + tail,
        )
    ax.set(yscale="log", xlabel="People in a block", ylabel="Share of blocks")
    ax.legend(frameon=False)
    return ax


def plot_picture_counts(counts: np.ndarray, ax: Axes | None = None, people: str = "people") -> Axes:
    """How many pictures hold how many people; the mean and the median marked."""
    ax = ax or plt.subplots(figsize=(COLUMN_INCHES, 2.4))[1]
    sns.histplot(x=counts, bins=30, ax=ax, color=COLOURS[0], edgecolor="white", linewidth=0.4)
    for value, style, name in ((np.mean(counts), "-", "mean"), (np.median(counts), "--", "median")):
        ax.axvline(value, color="black", ls=style, lw=1.2, label=f"{name} {value:.0f}")
    ax.set(xlabel=f"{people.capitalize()} in a picture", ylabel="Pictures")
    ax.legend(frameon=False)
    return ax


def plot_block_labels(
    picture: np.ndarray,
    points: np.ndarray,
    values: np.ndarray,
    block_size_px: int,
    ax: Axes | None = None,
    wrong: np.ndarray | None = None,
    title: str = "",
) -> Axes:
    """A small picture with its blocks' values written into them (paper, Fig. 2 a–c).

    Parameters
    ----------
    picture : uint8 (H, W, 3), a few blocks wide
    points : (n, 2), the people in it
    values : (h, w), what is written into the blocks: counts, or smoothed counts
    wrong : bool (h, w), blocks whose class is not that of their people; hatched
    """
    ax = ax or plt.subplots(figsize=(2.3, 2.3))[1]
    height, width = picture.shape[:2]
    ax.imshow(picture // 2 + 110, extent=(0, width, height, 0), interpolation="bilinear")
    for edge in range(0, max(height, width) + 1, block_size_px):
        ax.axhline(edge, color="white", lw=0.8)
        ax.axvline(edge, color="white", lw=0.8)
    r = block_size_px
    for (i, j), value in np.ndenumerate(values):
        if wrong is not None and wrong[i, j]:
            box = plt.Rectangle(
                (j * r, i * r), r, r, fc="none", ec=COLOURS[3], hatch="////", lw=1.4
            )
            ax.add_patch(box)
        text = f"{value:.2f}" if values.dtype.kind == "f" else str(value)
        weight = "bold" if value >= 0.5 else "normal"
        ax.text(
            (j + 0.5) * r,
            (i + 0.5) * r,
            text,
            ha="center",
            va="center",
            fontsize=7.5,
            weight=weight,
            path_effects=[withStroke(linewidth=2.2, foreground="white")],
        )
    ax.plot(*points.T, "o", ms=4, mfc="none", mec="black", mew=1)
    ax.set(xlim=(0, width), ylim=(height, 0), xticks=[], yticks=[], title=title)
    sns.despine(ax=ax, left=True, bottom=True)
    return ax


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
