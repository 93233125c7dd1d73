"""Density over, or beside, the image it is of."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import PowerNorm
from matplotlib.image import AxesImage
from PIL import Image

from ebclib.blocks import smoothed_counts
from ebclib.data import Sample
from ebclib.plots.style import DENSITY_MAP, PAGE_INCHES, bare

LEAST_TOP = 0.05  # people in a block drawn at full strength, at least: empty maps stay calm
PIXELS_A_BLOCK = 8  # of a density drawn without its image


def overlay(
    image: np.ndarray | None, density: np.ndarray, covered: tuple[float, float]
) -> np.ndarray:
    """The image in dark grey, and over it the density, brighter and denser where more people are.

    ``image`` is uint8 (H, W, 3), as what is returned; None draws the density alone. ``density``, (h, w), is
    people per block; ``covered`` says how many blocks the image is high and wide, with fractions.
    """
    share = density / max(density.max(), LEAST_TOP)
    height, width = covered

    def stretched(blocks: np.ndarray, size: tuple[int, int], way: Image.Resampling) -> np.ndarray:
        pixels = Image.fromarray(blocks).resize(size[::-1], way, box=(0, 0, width, height))
        return np.asarray(pixels)

    colours = colormaps[DENSITY_MAP]
    if image is None:
        size = round(height * PIXELS_A_BLOCK), round(width * PIXELS_A_BLOCK)
        return stretched(colours(share, bytes=True)[..., :3], size, Image.Resampling.NEAREST)
    share = stretched(np.float32(share), image.shape[:2], Image.Resampling.BILINEAR).clip(0, 1)
    grey = np.asarray(Image.fromarray(image).convert("L"), np.float32)[..., None] * 0.55
    weight = np.sqrt(share)[..., None]  # a single person is seen, too
    seen = colours(share, bytes=True)[..., :3]
    return np.rint(grey * (1 - weight) + seen * weight).astype(np.uint8)


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

    ``axes`` are one, or two for ``side_by_side``; None makes them. ``people`` says what is counted.
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


def plot_maps(
    samples: Sequence[Sample], densities: Sequence[np.ndarray], block_size_px: int
) -> np.ndarray:
    """A row an image: itself, the truth (smoothed by two blocks) and the prediction (paper, Fig. 6).

    All maps have one colour scale; for several images it is of the square root of people per block, so
    that sparse ones are not black. ``densities``, (h, w) each, are people per block as predicted.
    """
    sizes = [sample.image.shape[:2] for sample in samples]
    truths = [
        smoothed_counts(sample.points, *size, block_size_px, 2 * block_size_px)
        for sample, size in zip(samples, sizes, strict=True)
    ]
    top = max([LEAST_TOP, *(maps.max() for maps in (*truths, *densities))])
    norm = PowerNorm(0.5 if len(samples) > 1 else 1, 0, top)
    heights = [height / width for height, width in sizes]
    inches = (PAGE_INCHES, (PAGE_INCHES - 0.7) / 3 * sum(heights) + 0.35 * len(samples))
    grid = {"figsize": inches, "height_ratios": heights, "squeeze": False}
    figure, axes = plt.subplots(len(samples), 3, **grid)
    for row, sample, truth, density, size in zip(
        axes, samples, truths, densities, sizes, strict=True
    ):
        row[0].imshow(sample.image, interpolation="bilinear")
        for ax, values in ((row[1], truth), (row[2], density)):
            shown = _show_density(ax, values, size, block_size_px, norm=norm)
        said = f"Annotated: {len(sample.points)} (smoothed)", f"Predicted: {density.sum():.1f}"
        for ax, title in zip(row, ("Image", *said), strict=True):
            bare(ax, title)
    figure.colorbar(shown, ax=axes, aspect=25 * len(samples), pad=0.01, label="People per block")
    return axes
