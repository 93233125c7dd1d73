"""What a choice of blocks, bins and kernel does to a split's labels, measured in blocks and people.

A split is anything with ``points`` and ``sizes`` of its images; no image is decoded.
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
    return _counts(zip(images.points, images.sizes, strict=True), block_size_px, sigma_px)


def _counts(pairs: zip, block_size_px: int, sigma_px: float | None) -> list[np.ndarray]:
    if sigma_px is None:
        return [blocks.block_counts(points, *size, block_size_px) for points, size in pairs]
    return [
        blocks.smoothed_counts(points, *size, block_size_px, sigma_px) for points, size in pairs
    ]


def joined(arrays: Sequence[np.ndarray]) -> np.ndarray:
    """The blocks of all images in one row."""
    return np.concatenate([np.ravel(array) for array in arrays])


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
            share = beyond / max((histogram * count).sum(), 1)
            rows.append((r, s, m, len(histogram) - 1, int(histogram[m + 1 :].sum()), beyond, share))
    return pd.DataFrame(rows, columns=["r", "s", "m", "largest", "blocks", "people", "share"])


def kernels(
    images: PreparedSplit, block_size_px: int, bins: Bins, sigmas_px: Sequence[float]
) -> pd.DataFrame:
    """What smoothing does to the labels as its kernel grows (Sec. III-A1, Fig. 2); ``bins`` are intervals.

    Returns
    -------
    a row for each σ; columns ``sigma``, ``moved`` (share of all people whose label lies in another
    block than they do, in sum), ``changed`` (share of occupied blocks in another class than that of
    their whole count), ``count_in_empty_blocks`` (the same of empty blocks)
    """
    whole = joined(split_counts(images, block_size_px))
    right, occupied = bins.classes(whole.astype(float)), whole > 0
    rows = []
    for sigma in sigmas_px:
        smoothed = joined(split_counts(images, block_size_px, sigma))
        wrong, moved = bins.classes(smoothed) != right, np.abs(smoothed - whole).sum() / 2
        shares = wrong[occupied].mean(), wrong[~occupied].mean()
        rows.append((float(sigma), moved / max(whole.sum(), 1), *shares))
    return pd.DataFrame(rows, columns=["sigma", "moved", "changed", "count_in_empty_blocks"])


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
    standard deviation ``shake_px`` and stay in their image. Occupied is a block that is in another class
    than nobody's, before or after.
    """
    moved = []
    for points, (height, width) in zip(images.points, images.sizes, strict=True):
        shaken = points + rng.normal(0, shake_px, points.shape)
        moved.append(np.clip(shaken, 0, np.nextafter((width, height), 0.0)))
    before = joined(split_counts(images, block_size_px, sigma_px))
    after = joined(_counts(zip(moved, images.sizes, strict=True), block_size_px, sigma_px))
    one, other = bins.classes(before), bins.classes(after)
    return float((one != other)[(one > 0) | (other > 0)].mean())


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


def bins_table(bins: Bins, counts: np.ndarray, texts: list[str]) -> pd.DataFrame:
    """A row a class: bin, sentence (``texts``), blocks of ``counts`` in it, their middle and mean."""
    return pd.DataFrame(
        {
            "bin": [str(item) for item in bins.items],
            "sentence": texts,
            "blocks": np.bincount(bins.classes(np.ravel(counts)), minlength=len(bins)),
            "middle": bins.middles(),
            "mean": bins.means(counts),
        }
    )
