"""Where the people are: points from a density map, and how many of them are right.

A blockwise classifier says how many people a block holds; training on whole counts makes its map
sharp enough to say, to about a block, where they stand. The points found keep the count: there are as
many as the map's sum, rounded.
"""

from __future__ import annotations

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from scipy.sparse import csr_array
from scipy.sparse.csgraph import maximum_flow
from scipy.spatial import cKDTree

from ebclib.data.images import clamp

DISTANCES_PX = (8.0, 16.0)
"""How far a point may be from the person it stands for, where nobody says otherwise."""

_STEPS = np.stack(np.meshgrid([-1, 0, 1], [-1, 0, 1]), axis=-1)  # (3, 3, 2): x, y of each neighbour
_SQUARES = (_STEPS**2).sum(axis=-1)
_WEIGHTS = np.exp(-_SQUARES / (2 * 0.8**2))  # a head is seen in its block and a little around it
_NEAREST_FIRST = np.argsort(_SQUARES, axis=None, kind="stable")


def find_positions(
    density: np.ndarray, block_size_px: int, size: tuple[int, int] | None = None
) -> np.ndarray:
    """Points that stand for a density map's people, as many as its sum rounded.

    One person after the other is taken out of the map: where the weighted mass of a block and its
    eight neighbours is largest, up to one person's mass is removed, from the block first and then from
    the nearest neighbours, and the point is the centre of what was removed. So a block of 2.9 gets
    three points, and three neighbours of 0.3 get one between them.

    Parameters
    ----------
    density : (h, w), people per block, nowhere below 0
    block_size_px : r
    size : (H, W) of the image; its last blocks may reach over the border, the points do not

    Returns
    -------
    float64 (n, 2), columns x, y in pixels, the surest first; n = ⌊sum + ½⌋

    Raises
    ------
    ValueError : a map with negative or not finite values, or a size it does not cover

    >>> find_positions(np.array([[0.0, 0.5, 0.5, 0.0]]), 8)
    array([[16.,  4.]])
    """
    density = np.asarray(density, dtype=np.float64)
    height, width = size or (side * block_size_px for side in density.shape)
    shape = -(-height // block_size_px), -(-width // block_size_px)
    if density.shape != shape or not (np.isfinite(density) & (density >= 0)).all():
        raise ValueError(
            f"The density is {density.shape}, from {density.min():g} to {density.max():g}; expected are "
            f"the {shape} blocks of {block_size_px} px of an image {(height, width)} (H, W), finite and "
            "not below 0."
        )
    left = np.pad(density, 3)  # what is not taken yet; (h + 6, w + 6)
    inside = np.pad(np.ones(density.shape, dtype=bool), 2)
    score = np.where(inside, _weighted(left), -1.0)  # (h + 4, w + 4)
    best = score.max(axis=1)  # of each row
    points = np.empty((int(density.sum() + 0.5), 2))
    for point in points:
        i = int(best.argmax())
        j = int(score[i].argmax())
        around = left[i : i + 3, j : j + 3]  # a view: centred, as left has one more pad
        mass = around.ravel()[_NEAREST_FIRST]
        taken = np.empty(9)
        taken[_NEAREST_FIRST] = np.diff(np.minimum(mass.cumsum(), 1.0), prepend=0.0)
        around -= taken.reshape(3, 3)
        np.maximum(around, 0.0, out=around)
        shift = taken @ _STEPS.reshape(9, 2) / taken.sum()
        point[:] = (np.array([j - 2, i - 2]) + 0.5 + shift) * block_size_px
        rows, columns = slice(i - 2, i + 3), slice(j - 2, j + 3)
        fresh = _weighted(left[i - 2 : i + 5, j - 2 : j + 5])  # (5, 5)
        score[rows, columns] = np.where(inside[rows, columns], fresh, -1.0)
        best[rows] = score[rows].max(axis=1)
    return points if size is None else clamp(points, size)


def match(found: np.ndarray, annotated: np.ndarray, distance_px: float) -> int:
    """The most pairs of points and people at most ``distance_px`` apart, each in one pair at most.

    A maximum matching, as NWPU-Crowd's localisation has it, found as the greatest flow from points to
    people (Dinic 1970): scipy's own matching takes time exponential in the length of a dense crowd.
    ``found`` (n, 2) and ``annotated`` (m, 2) are x and y in pixels; ``distance_px`` is above 0.

    >>> match(np.array([[0.0, 0.0], [30, 0]]), np.array([[5.0, 0.0]]), 8)
    1
    """
    if not distance_px > 0:
        raise ValueError(f"distance_px is {distance_px}; give a distance in pixels above 0.")
    found, annotated = (np.asarray(p, dtype=np.float64).reshape(-1, 2) for p in (found, annotated))
    n, m = len(found), len(annotated)
    if not n or not m:
        return 0
    pairs = cKDTree(found).sparse_distance_matrix(
        cKDTree(annotated), distance_px, output_type="coo_matrix"
    )
    source, sink = n + m, n + m + 1
    tails = np.concatenate([np.full(n, source), pairs.row, np.arange(n, n + m)])
    heads = np.concatenate([np.arange(n), pairs.col + n, np.full(m, sink)])
    edges = csr_array((np.ones(len(tails), np.int32), (tails, heads)), shape=(n + m + 2,) * 2)
    return int(maximum_flow(edges, source, sink, method="dinic").flow_value)


def _weighted(mass: np.ndarray) -> np.ndarray:
    """(h, w) to (h − 2, w − 2): each block's mass and its neighbours', the nearer ones counting more."""
    return np.einsum("hwij,ij->hw", sliding_window_view(mass, (3, 3)), _WEIGHTS)
