"""Density over, or beside, the image it was counted in."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import seaborn as sns
from matplotlib import colormaps
from matplotlib.axes import Axes
from PIL import Image

from ebclib.plots.style import DENSITY_MAP, PAGE_INCHES

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
    covered : how many blocks the image is high and wide, with fractions: h, w without what the last
        row and column reach over the border

    Returns
    -------
    uint8 (H, W, 3)
    """
    share = density / _top(density)
    if image is None:
        whole = np.rint(255 * colormaps[DENSITY_MAP](share)[..., :3]).astype(np.uint8)
        size = [round(side * PIXELS_A_BLOCK) for side in covered]
        return _stretched(whole, covered, size, Image.Resampling.NEAREST)
    height, width = image.shape[:2]
    share = _stretched(np.float32(share), covered, (height, width), Image.Resampling.BILINEAR)
    share = share.clip(0, 1)
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
    ax: Axes | None = None,
    people: str = "people",
) -> Axes:
    """The overlay with its scale.

    Parameters are those of `overlay`; ``title`` says the count, ``people`` what is counted.
    """
    ax = ax or plt.subplots(figsize=_figure_size(covered, 1))[1]
    ax.imshow(overlay(image, density, covered), interpolation="bilinear")
    _scale(ax, density, people)
    return _bare(ax, title)


def plot_count_beside(
    image: np.ndarray | None,
    density: np.ndarray,
    covered: tuple[float, float],
    title: str = "",
    axes: np.ndarray | None = None,
    people: str = "people",
) -> np.ndarray:
    """Image left, density right, with its scale; parameters are those of `overlay`."""
    if axes is None:
        axes = plt.subplots(1, 2, figsize=_figure_size(covered, 2))[1]
    height, width = covered
    if image is not None:
        axes[0].imshow(image, extent=(0, width, height, 0), interpolation="bilinear")
    h, w = density.shape
    axes[1].imshow(
        density, cmap=DENSITY_MAP, vmin=0, vmax=_top(density), extent=(0, w, h, 0), aspect="equal"
    )
    for ax, name in zip(axes, ("Image", title), strict=True):
        ax.set(xlim=(0, width), ylim=(height, 0))
        _bare(ax, name)
    _scale(axes[1], density, people)
    return axes


def _top(density: np.ndarray) -> float:
    return max(float(density.max()), LEAST_TOP)


def _stretched(
    blocks: np.ndarray,
    covered: tuple[float, float],
    size: tuple[int, int] | list[int],
    way: Image.Resampling,
) -> np.ndarray:
    """A map of blocks at the image's pixels; what reaches over its border is cut off."""
    height, width = covered
    image = Image.fromarray(blocks)
    return np.asarray(image.resize((size[1], size[0]), way, box=(0, 0, width, height)))


def _figure_size(covered: tuple[float, float], panels: int) -> tuple[float, float]:
    width = PAGE_INCHES * (0.7 if panels == 1 else 1)
    return width, min((width - 0.7) / panels * covered[0] / covered[1] + 0.35, 9)


def _scale(ax: Axes, density: np.ndarray, people: str) -> None:
    """A bar of colours, as high as the image."""
    colours = plt.cm.ScalarMappable(plt.Normalize(0, _top(density)), DENSITY_MAP)
    beside = ax.inset_axes([1.02, 0, 0.03, 1])
    ax.figure.colorbar(colours, cax=beside, label=f"{people} per block")


def _bare(ax: Axes, title: str) -> Axes:
    ax.set(xticks=[], yticks=[], title=title)
    sns.despine(ax=ax, left=True, bottom=True)
    return ax
