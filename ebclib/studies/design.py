"""What a choice of blocks, bins and kernel does to a split's labels, measured in blocks and people.

A split is anything with ``points`` and ``sizes`` of its images, as `datasets.prepared` gives; no
image is decoded.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from ebclib import blocks
from ebclib.bins import Bins
from ebclib.data import PreparedSplit


def split_counts(
    images: PreparedSplit, block_size_px: int, sigma_px: float | None = None
) -> list[np.ndarray]:
    """The block counts of each image, (h, w) each: whole, or smoothed where ``sigma_px`` is given."""
    pairs = zip(images.points, images.sizes, strict=True)
    if sigma_px is None:
        return [blocks.block_counts(points, *size, block_size_px) for points, size in pairs]
    return [
        blocks.smoothed_counts(points, *size, block_size_px, sigma_px) for points, size in pairs
    ]


def joined(arrays: Sequence[np.ndarray]) -> np.ndarray:
    """The blocks of all images in one row."""
    return np.concatenate([np.ravel(array) for array in arrays])


def perfect_errors(
    counts: Sequence[np.ndarray], bins: Bins, values: np.ndarray, people: np.ndarray
) -> np.ndarray:
    """By how many people a classifier that is never wrong miscounts each image (Eq. 1).

    Parameters
    ----------
    counts : the block counts of each image, which decide the class
    bins : the bins
    values : what each class stands for, shape (N,)
    people : the people in each image, shape (images,)

    Returns
    -------
    float64 array, shape (images,): predicted minus annotated

    >>> from ebclib.bins import coarse
    >>> bins = coarse(4)
    >>> perfect_errors([np.array([[1, 1, 0]])], bins, bins.middles(), np.array([2]))
    array([1.])
    """
    predicted = np.array([values[bins.classes(array)].sum() for array in counts])
    return predicted - people


def correction(
    images: PreparedSplit,
    block_sizes_px: Sequence[int] = (8, 16, 32),
    min_person_sizes_px: Sequence[int] = (2, 3, 4, 6, 8),
) -> pd.DataFrame:
    """What label correction takes away, by block size r and smallest person s (Sec. III-A2).

    Returns
    -------
    a row for each r and s ≤ r; columns r, s, m, ``largest`` (count of a block), ``blocks`` above m,
    ``people`` above m, and ``share`` of all people
    """
    rows = []
    for r in block_sizes_px:
        histogram = blocks.histogram(split_counts(images, r))
        count = np.arange(len(histogram))
        for s in (size for size in min_person_sizes_px if size <= r):
            m = blocks.max_count(r, s)
            beyond = int((histogram * np.maximum(count - m, 0)).sum())
            rows.append(
                {
                    "r": r,
                    "s": s,
                    "m": m,
                    "largest": len(histogram) - 1,
                    "blocks": int(histogram[m + 1 :].sum()),
                    "people": beyond,
                    "share": beyond / max((histogram * count).sum(), 1),
                }
            )
    return pd.DataFrame(rows)


def kernels(
    images: PreparedSplit, block_size_px: int, bins: Bins, sigmas_px: Sequence[float]
) -> pd.DataFrame:
    """What smoothing does to the labels as its kernel grows (Sec. III-A1, Fig. 2).

    Parameters
    ----------
    bins : interval bins; the right class of a block is that of its whole count

    Returns
    -------
    a row for each σ; columns ``sigma``, ``moved`` (share of all people whose label lies in another
    block than they do, in sum), ``changed`` (share of occupied blocks in a wrong class),
    ``count_in_empty_blocks`` (share of empty blocks no longer in the class of nobody)
    """
    whole = joined(split_counts(images, block_size_px))
    right, occupied = bins.classes(whole.astype(float)), whole > 0
    rows = []
    for sigma in sigmas_px:
        smoothed = joined(split_counts(images, block_size_px, sigma))
        wrong = bins.classes(smoothed) != right
        rows.append(
            {
                "sigma": float(sigma),
                "moved": np.abs(smoothed - whole).sum() / 2 / max(whole.sum(), 1),
                "changed": wrong[occupied].mean(),
                "count_in_empty_blocks": wrong[~occupied].mean(),
            }
        )
    return pd.DataFrame(rows)


def near_border(counts: np.ndarray, borders: np.ndarray, within: float = 0.1) -> np.ndarray:
    """Which counts lie within ± ``within`` of a border, as a share of the count itself; bool, as ``counts``.

    >>> near_border(np.array([0.97, 1.4]), np.array([1.0, 4.0]))
    array([ True, False])
    """
    low, high = counts * (1 - within), counts * (1 + within)
    return np.searchsorted(borders, low, "right") != np.searchsorted(borders, high, "right")


def changed_by_shaking(
    images: PreparedSplit,
    block_size_px: int,
    bins: Bins,
    shake_px: float,
    rng: np.random.Generator,
    sigma_px: float | None = None,
) -> float:
    """The share of occupied blocks that change class when every point is moved a little.

    No annotator hits the middle of a head to the pixel. Points move by a normal distribution of
    standard deviation ``shake_px`` and stay in their image; with ``sigma_px`` the labels are
    smoothed, and ``bins`` are intervals. Occupied is a block that is in another class than nobody's,
    before or after.
    """
    before = joined(split_counts(images, block_size_px, sigma_px))
    moved = []
    for points, (height, width) in zip(images.points, images.sizes, strict=True):
        top = np.nextafter((width, height), 0.0)
        shaken = np.clip(points + rng.normal(0, shake_px, points.shape), 0, top)
        if sigma_px is None:
            moved.append(blocks.block_counts(shaken, height, width, block_size_px))
        else:
            moved.append(blocks.smoothed_counts(shaken, height, width, block_size_px, sigma_px))
    one, other = bins.classes(before), bins.classes(joined(moved))
    occupied = (one > 0) | (other > 0)
    return float((one != other)[occupied].mean())


def fullest_block(images: PreparedSplit, block_size_px: int) -> tuple[int, int, int, int]:
    """The whole block with the most people of a split: (image, row, column, people)."""
    best = (0, 0, 0, -1)
    for k, counts in enumerate(split_counts(images, block_size_px)):
        height, width = images.sizes[k]
        counts = counts[: height // block_size_px, : width // block_size_px]
        if counts.max(initial=-1) > best[3]:
            row, column = np.unravel_index(counts.argmax(), counts.shape)
            best = (k, int(row), int(column), int(counts.max()))
    return best


def crowd_into_block(
    points: np.ndarray,
    row: int,
    column: int,
    block_size_px: int,
    people: int,
    rng: np.random.Generator,
) -> np.ndarray:
    """``points`` and ``people`` made-up ones in one block, spread evenly: an over-annotated region."""
    corner = np.array([column, row])
    made_up = (corner + rng.random((people, 2))) * block_size_px
    return np.concatenate([points, made_up])


def patch_of_blocks(
    size: tuple[int, int], row: int, column: int, block_size_px: int, side: int
) -> tuple[int, int]:
    """The first row and column of ``side`` × ``side`` whole blocks around a block, inside the image.

    Raises
    ------
    ValueError : the image (H, W) has no so many whole blocks
    """
    most = [length // block_size_px - side for length in size]
    if min(most) < 0:
        raise ValueError(
            f"A {size[0]}×{size[1]} image holds no {side}×{side} blocks of {block_size_px} px."
        )
    middle = side // 2
    return min(max(row - middle, 0), most[0]), min(max(column - middle, 0), most[1])
