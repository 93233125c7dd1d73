"""Density over, or beside, the image it is of."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from PIL import Image

from ebclib.blocks import smoothed_counts
from ebclib.data import Sample
from ebclib.plots.style import DENSITY_MAP, PAGE_INCHES, bare

LEAST_TOP = 0.05
"""A block of fewer people than this is never drawn at full strength: an empty image stays calm."""

PIXELS_A_BLOCK = 8
"""Of a density drawn without its image."""


def overlay(
    image: np.ndarray | None, density: np.ndarray, covered: tuple[float, float]
) -> np.ndarray:
    """The image in dark grey, and over it the density, brighter and denser where more people are.

    Parameters
    ----------
    image : uint8 (H, W, 3); None draws the density alone
    density : (h, w), people per block
    covered : how many blocks the image is high and wide, with fractions: the last row and column may
        reach over its border

    Returns
    -------
    uint8 (H, W, 3)
    """
    share = density / max(density.max(), LEAST_TOP)
    height, width = covered

    def stretched(blocks: np.ndarray, size: tuple[int, int], way: Image.Resampling) -> np.ndarray:
        pixels = Image.fromarray(blocks).resize(size[::-1], way, box=(0, 0, width, height))
        return np.asarray(pixels)

    if image is None:
        whole = np.rint(255 * colormaps[DENSITY_MAP](share)[..., :3]).astype(np.uint8)
        size = round(height * PIXELS_A_BLOCK), round(width * PIXELS_A_BLOCK)
        return stretched(whole, size, Image.Resampling.NEAREST)
    share = stretched(np.float32(share), image.shape[:2], Image.Resampling.BILINEAR).clip(0, 1)
    levels = np.rint(255 * share).astype(np.uint8)
    table = np.rint(255 * colormaps[DENSITY_MAP](np.arange(256))[:, :3]).astype(np.float32)
    grey = np.asarray(Image.fromarray(image).convert("L"), np.float32) * 0.55
    weight = np.sqrt(share)[..., None]  # a single person is seen, too
    return np.rint(grey[..., None] * (1 - weight) + table[levels] * weight).astype(np.uint8)


def plot_count(
    image: np.ndarray | None,
    density: np.ndarray,
    covered: tuple[float, float],
    title: str = "",
    axes: Any = None,
    people: str = "people",
    side_by_side: bool = False,
) -> Axes | np.ndarray:
    """The density over its image, or at its right, with a scale; other parameters as in `overlay`.

    Parameters
    ----------
    axes : one Axes, or two for ``side_by_side``; None makes them
    people : what is counted
    """
    (height, width), panels = covered, 1 + side_by_side
    if axes is None:
        inches = PAGE_INCHES * (1 if side_by_side else 0.7)
        size = inches, min((inches - 0.7) / panels * height / width + 0.35, 9)
        axes = plt.subplots(1, panels, figsize=size)[1]
    top = max(density.max(), LEAST_TOP)
    if side_by_side:
        left, ax = axes
        if image is not None:
            left.imshow(image, extent=(0, width, height, 0), interpolation="bilinear")
        left.set(xlim=(0, width), ylim=(height, 0))
        bare(left, "Image")
        _show_density(ax, density, covered, 1, vmin=0, vmax=top)
    else:
        ax = axes
        ax.imshow(overlay(image, density, covered), interpolation="bilinear")
    colours = plt.cm.ScalarMappable(plt.Normalize(0, top), DENSITY_MAP)
    beside = ax.inset_axes([1.02, 0, 0.03, 1])  # as high as the image
    ax.figure.colorbar(colours, cax=beside, label=f"{people} per block")
    bare(ax, title)
    return axes


def _show_density(
    ax: Axes, values: np.ndarray, size: tuple[float, float], block_size: int, **scale: Any
) -> AxesImage:
    """A map (h, w) in the coordinates of an image of that size: the last blocks reach over its border."""
    h, w = values.shape
    extent = (0, w * block_size, h * block_size, 0)
    shown = ax.imshow(values, cmap=DENSITY_MAP, extent=extent, **scale)
    ax.set(xlim=(0, size[1]), ylim=(size[0], 0))
    return shown


def _smoothed(points: np.ndarray, size: tuple[int, int], block_size_px: int) -> np.ndarray:
    """Annotated people as maps show them (paper, Fig. 6): smoothed by a Gaussian of two blocks."""
    return smoothed_counts(points, *size, block_size_px, 2 * block_size_px)


def plot_maps(
    image: np.ndarray, points: np.ndarray, density: np.ndarray, block_size_px: int
) -> np.ndarray:
    """Image, truth (smoothed) and prediction side by side, the maps on one scale (paper, Fig. 6).

    Parameters
    ----------
    image : uint8 (H, W, 3)
    points : (n, 2), the people annotated
    density : (h, w), people per block as predicted
    """
    size = image.shape[:2]
    inches = (PAGE_INCHES, (PAGE_INCHES - 0.7) / 3 * size[0] / size[1] + 0.35)
    axes = plt.subplots(1, 3, figsize=inches)[1]
    truth = _smoothed(points, size, block_size_px)
    top = max(truth.max(), density.max(), LEAST_TOP)
    axes[0].imshow(image, interpolation="bilinear")
    for ax, values in ((axes[1], truth), (axes[2], density)):
        shown = _show_density(ax, values, size, block_size_px, vmin=0, vmax=top)
    said = f"Annotated: {len(points)} (smoothed)", f"Predicted: {density.sum():.1f}"
    for ax, title in zip(axes, ("Image", *said), strict=True):
        bare(ax, title)
    axes[0].figure.colorbar(shown, ax=list(axes), aspect=25, pad=0.01, label="People per block")
    return axes


def plot_gallery(
    samples: Sequence[Sample], densities: Sequence[np.ndarray], block_size_px: int
) -> Figure:
    """A column an image: itself, the truth (smoothed) and the prediction (paper, Fig. 6).

    All maps have one colour scale, of the square root of people per block: on a linear one either sparse
    images are black or dense ones white. ``densities``, (h, w) each, are people per block as predicted.
    """
    sizes = [sample.image.shape[:2] for sample in samples]
    truths = [
        _smoothed(sample.points, size, block_size_px)
        for sample, size in zip(samples, sizes, strict=True)
    ]
    norm = PowerNorm(0.5, 0, max([LEAST_TOP, *(maps.max() for maps in (*truths, *densities))]))
    ratios = [width / height for height, width in sizes]
    height = (PAGE_INCHES - 1.3) / sum(ratios)  # of one image, if all are equally high
    grid = {"figsize": (PAGE_INCHES, 3 * height + 0.55), "width_ratios": ratios}
    figure, axes = plt.subplots(3, len(samples), squeeze=False, **grid)
    for k, (sample, size) in enumerate(zip(samples, sizes, strict=True)):
        axes[0, k].imshow(sample.image, interpolation="bilinear")
        said = f"{len(sample.points)}", f"{densities[k].sum():.1f}"
        for ax, values, title in zip(axes[1:, k], (truths[k], densities[k]), said, strict=True):
            shown = _show_density(ax, values, size, block_size_px, norm=norm)
            ax.set_title(title, fontsize=8, pad=2)
    for ax, text in zip(axes[:, 0], ("Image", "Annotated\n(smoothed)", "Predicted"), strict=True):
        ax.set_ylabel(text, fontsize=8)
    for ax in axes.flat:
        bare(ax)
    bar = figure.colorbar(shown, ax=axes[1:], aspect=35, pad=0.01, label="People per block")
    bar.ax.tick_params(labelsize=7)
    return figure
