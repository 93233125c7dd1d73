"""Images that are nearly the same, found by perceptual hash."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from PIL import Image

if TYPE_CHECKING:
    from ebclib.data.prepared_split import PreparedSplit

HASH_SIDE = 16
"""A hash has HASH_SIDE² = 256 bits: which low frequencies of an image are above their median."""

NEAR_BITS = 32
"""Images whose hashes differ in so many bits at most are reported.

On ShanghaiTech A the known pairs differ in 0 to 14 bits and all others in at least 94; the nearest
pair of ShanghaiTech B differs in 64 (one street, another moment).
"""


class Pair(NamedTuple):
    """Two images, by their places in the list that was searched, and the bits they differ in."""

    first: int
    second: int
    bits: int


def image_hash(image: np.ndarray) -> str:
    """The perceptual hash (pHash) of an image (H, W, 3), 64 hex digits."""
    import imagehash  # with SciPy's and PyWavelets' transforms: for preparing alone

    return str(imagehash.phash(Image.fromarray(image), hash_size=HASH_SIDE))


def near_pairs(hashes: Sequence[str], most_bits: int = NEAR_BITS) -> list[Pair]:
    """All pairs of ``hashes`` that differ in at most ``most_bits`` bits, nearest first."""
    if len(hashes) < 2:
        return []
    codes = np.array([bytearray.fromhex(text) for text in hashes], dtype=np.uint8)
    bits = np.unpackbits(codes, axis=1).astype(np.float32)  # (images, 256)
    ones = bits.sum(axis=1)
    pairs = []
    for start in range(0, len(bits), 1024):
        rows = bits[start : start + 1024]
        # |a xor b| = |a| + |b| - 2 |a and b|
        apart = rows.sum(axis=1)[:, None] + ones[None, :] - 2 * rows @ bits.T  # (1024, images)
        for first, second in zip(*np.nonzero(apart <= most_bits), strict=True):
            if start + first < second:
                pairs.append(Pair(int(start + first), int(second), int(apart[first, second])))
    return sorted(pairs, key=lambda pair: (pair.bits, pair.first, pair.second))


def shared_images(split: PreparedSplit, other: PreparedSplit) -> dict[str, str]:
    """Images of ``split`` that ``other`` has, too, or nearly (`NEAR_BITS`): name → the nearest's name."""
    pairs = near_pairs([*split.hashes, *other.hashes])
    own = len(split.hashes)
    found: dict[str, str] = {}
    for first, second, _ in pairs:  # nearest first
        if first < own <= second:
            found.setdefault(split.names[first], other.names[second - own])
    return found
