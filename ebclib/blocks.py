"""Points to counts of blocks: who stands where, and how many a block can hold.

An image of H × W pixels is cut into h × w square blocks of side r, h = ⌈H / r⌉ and w = ⌈W / r⌉: the
last row and column reach over the border where r does not divide the side, so nobody falls off. Where
it does (every training crop), this is the paper's H // r × W // r. A person belongs to the one block
that contains the point (paper, Sec. III-A1); nothing is smoothed.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from scipy.special import ndtr

MANY_SIGMA = 9.0
"""Beyond so many standard deviations a Gaussian has less than 1e-18 of its mass."""


def grid_shape(height: int, width: int, block_size_px: int) -> tuple[int, int]:
    """The number of block rows and columns (h, w) that cover an image of ``height`` × ``width`` pixels."""
    if min(height, width, block_size_px) < 1:
        raise ValueError(
            f"A {height}×{width} image in blocks of {block_size_px} px: all three must be at least 1."
        )
    return -(-height // block_size_px), -(-width // block_size_px)


def block_counts(points: np.ndarray, height: int, width: int, block_size_px: int) -> np.ndarray:
    """How many people each block holds.

    Parameters
    ----------
    points : array, shape (n, 2)
        Columns x, y in pixels, 0 ≤ x < ``width`` and 0 ≤ y < ``height``.
    height, width : the image's sides in pixels
    block_size_px : r

    Returns
    -------
    int64 array, shape (⌈H/r⌉, ⌈W/r⌉); its sum is n

    Raises
    ------
    ValueError : a point outside the image, or not a number

    >>> block_counts(np.array([[0.0, 0.0], [7.9, 0.0], [8.0, 3.0]]), 8, 16, 8)
    array([[2, 1]])
    """
    h, w = grid_shape(height, width, block_size_px)
    points = _all_inside(points, height, width)
    column, row = (points // block_size_px).astype(np.int64).T
    return np.bincount(row * w + column, minlength=h * w).reshape(h, w)


def _all_inside(points: np.ndarray, height: int, width: int) -> np.ndarray:
    """``points`` as a float64 array (n, 2), or a ValueError that names the first one outside."""
    points = np.asarray(points, dtype=np.float64).reshape(-1, 2)
    within = ((points >= 0) & (points < (width, height))).all(axis=1)  # (n,); NaN is not
    if not within.all():
        x, y = points[np.argmin(within)]
        raise ValueError(
            f"{np.count_nonzero(~within)} of {len(points)} points lie outside the {height}×{width} "
            f"(H×W) image, the first at x={x:g}, y={y:g}. Expected 0 ≤ x < {width}, "
            f"0 ≤ y < {height}; `ebc prepare` drops and counts such points."
        )
    return points


def window_counts(
    points: np.ndarray, height: int, width: int, block_size_px: int, distinct_pixels: bool = False
) -> np.ndarray:
    """How many people each r × r window holds, at every whole-pixel position: int64 (H − r + 1, W − r + 1).

    Arguments are those of `block_counts`, both sides at least r. With ``distinct_pixels`` people on the
    same pixel are counted once, as the authors' released statistics do.
    """
    if min(height, width) < block_size_px:
        raise ValueError(f"A {height}×{width} image holds no window of {block_size_px} px.")
    pixels = block_counts(points, height, width, 1)  # (H, W)
    if distinct_pixels:
        pixels = np.minimum(pixels, 1)
    total = np.pad(pixels, ((1, 0), (1, 0))).cumsum(axis=0).cumsum(axis=1)  # (H + 1, W + 1)
    r = block_size_px
    return total[r:, r:] - total[:-r, r:] - total[r:, :-r] + total[:-r, :-r]


def histogram(counts: Iterable[np.ndarray]) -> np.ndarray:
    """How many blocks hold 0, 1, 2, … people, over any number of count arrays: int64 (largest + 1,).

    >>> histogram([np.array([[0, 2]]), np.array([[0, 1]])])
    array([2, 1, 1])
    """
    total = np.zeros(1, dtype=np.int64)
    for count in counts:
        one = np.bincount(np.ravel(count), minlength=len(total))
        one[: len(total)] += total
        total = one
    return total


def max_count(block_size_px: int, min_person_px: int = 4) -> int:
    """The most people a block can show, m = (r // s)² (paper, Sec. III-A2, label correction).

    ``min_person_px`` is s, the side of the smallest person one can recognise; 4 in the paper.

    >>> [max_count(r) for r in (8, 16, 32)]
    [4, 16, 64]
    """
    if not 1 <= min_person_px <= block_size_px:
        raise ValueError(
            f"min_person_px is {min_person_px}; it must lie between 1 and the block's {block_size_px} px."
        )
    return (block_size_px // min_person_px) ** 2


def smoothed_counts(
    points: np.ndarray, height: int, width: int, block_size_px: int, sigma_px: float
) -> np.ndarray:
    """Block counts after Gaussian smoothing, which the paper argues against (Sec. III-A1, Fig. 2).

    Each person becomes a Gaussian around the point, mirrored at the image's border so that its mass stays
    inside, and a block has the exact integral over it: the counts are an (h, n) times an (n, w) matrix.

    Parameters
    ----------
    points, height, width, block_size_px : as in `block_counts`
    sigma_px : the Gaussian's standard deviation in pixels, above 0

    Returns
    -------
    float64 array, shape (⌈H/r⌉, ⌈W/r⌉); its sum is n up to rounding

    >>> smoothed_counts(np.array([[8.0, 4.0]]), 8, 24, 8, 2.0).round(3)
    array([[0.5, 0.5, 0. ]])
    """
    if not sigma_px > 0:
        raise ValueError(f"sigma_px is {sigma_px}; a Gaussian needs a width above 0.")
    h, w = grid_shape(height, width, block_size_px)
    points = _all_inside(points, height, width)
    rows = _shares(points[:, 1], height, h, block_size_px, sigma_px)  # (n, h)
    columns = _shares(points[:, 0], width, w, block_size_px, sigma_px)  # (n, w)
    return rows.T @ columns


def _shares(
    at_px: np.ndarray, side_px: int, blocks: int, block_size_px: int, sigma_px: float
) -> np.ndarray:
    """How much of each mirrored 1-D Gaussian falls into each block; (n,) to (n, blocks), rows sum to 1."""
    edges = np.minimum(np.arange(blocks + 1) * block_size_px, side_px)  # (blocks + 1,)
    if sigma_px >= 3 * side_px:  # even, to the last digit of a float
        return np.broadcast_to(np.diff(edges) / side_px, (len(at_px), blocks))
    below = np.zeros((len(at_px), blocks + 1))
    reach = int((MANY_SIGMA * sigma_px / side_px + 1) / 2)
    for k in range(-reach, reach + 2):  # mirror images at 2kL ± x, those near enough to matter
        for image in (2 * k * side_px + at_px, 2 * k * side_px - at_px):  # (n,)
            below += ndtr((edges - image[:, None]) / sigma_px)
    shares = np.maximum(np.diff(below, axis=1), 0)
    return shares / shares.sum(axis=1, keepdims=True)
