"""How far apart people stand: the usual stand-in for how large their heads are shown.

Points carry no size. In a crowd seen from a camera the distance to the next heads shrinks as heads do
(Zhang et al. 2016, Sec. 2.2, take it for the width of their kernels); where people stand apart by
choice it says less.
"""

from __future__ import annotations

import numpy as np
from scipy.spatial import KDTree

from ebclib.blocks import grid_shape

NEIGHBOURS = 3
"""The heads whose mean distance is taken; one alone is too often the same person's second point."""

SPACING_PX = (0.0, 8.0, 12.0, 16.0, 24.0, 32.0, 48.0, 64.0, 96.0, np.inf)
"""Borders of the ranges of spacing that errors are summed over, pixels."""


def local_spacing(points: np.ndarray, neighbours: int = NEIGHBOURS) -> np.ndarray:
    """The mean distance from each person to the nearest others, pixels.

    Parameters
    ----------
    points : (n, 2), x and y in pixels
    neighbours : how many others, at least 1; where there are fewer, all of them

    Returns
    -------
    float64 (n,); nan for somebody alone

    >>> local_spacing(np.array([[0.0, 0.0], [0.0, 3.0], [4.0, 0.0]]), neighbours=1)
    array([3., 3., 4.])
    """
    if neighbours < 1:
        raise ValueError(f"neighbours is {neighbours}; the spacing needs at least 1.")
    points = np.asarray(points, dtype=np.float64).reshape(-1, 2)
    others = min(neighbours, len(points) - 1)
    if others < 1:
        return np.full(len(points), np.nan)
    distance, _ = KDTree(points).query(points, k=others + 1)  # the first is the person, at 0
    return distance[:, 1:].mean(axis=1)


def block_spacing(
    points: np.ndarray,
    height: int,
    width: int,
    block_size_px: int,
    neighbours: int = NEIGHBOURS,
) -> np.ndarray:
    """The local spacing around each block: that of the person nearest to the block's centre.

    So empty blocks have one, too, and every block belongs to one range of spacing.

    Parameters
    ----------
    points, height, width, block_size_px : as in `blocks.block_counts`
    neighbours : as in `local_spacing`

    Returns
    -------
    float64 (⌈H/r⌉, ⌈W/r⌉), pixels; nan where the image holds fewer than two people
    """
    h, w = grid_shape(height, width, block_size_px)
    points = np.asarray(points, dtype=np.float64).reshape(-1, 2)
    if len(points) < 2:
        return np.full((h, w), np.nan)
    row, column = np.indices((h, w)).reshape(2, -1)  # (h·w,) each
    centres = (np.stack([column, row], axis=1) + 0.5) * block_size_px  # (h·w, 2), x and y
    _, nearest = KDTree(points).query(centres)
    return local_spacing(points, neighbours)[nearest].reshape(h, w)
