"""Is an image like those a model was trained on? A few traits of it, against the training images'."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

from ebclib.blocks import block_counts
from ebclib.data import PreparedSplit

MOST_IMAGES = 400
"""So many training images are looked at, evenly spaced."""

MOST_SIDE_PX = 2048
"""Of a larger image the middle is looked at."""

SQUARE_PX = 64
"""Side of the square whose people are `crowding`."""

TAIL = 0.0025
"""The share of training images beyond each limit; at least the outermost image is the limit."""

ROOM = {"side_px": 2.0}
"""How many times beyond the training images a trait may lie that these hardly vary in."""

_SAYINGS = {  # below and above the limits: value, then both limits
    "brightness": (
        "darker than all it was trained on: mean grey {0:.0f}, there {1:.0f} to {2:.0f}",
        "brighter than all it was trained on: mean grey {0:.0f}, there {1:.0f} to {2:.0f}",
    ),
    "contrast": (
        "flatter than all it was trained on: standard deviation of grey {0:.0f}, there {1:.0f} to {2:.0f}",
        "harsher than all it was trained on: standard deviation of grey {0:.0f}, there {1:.0f} to {2:.0f}",
    ),
    "sharpness": (
        "less fine detail than in all it was trained on (blurred, or enlarged?): "
        "{0:.2f} octaves, there {1:.2f} to {2:.2f}",
        "more fine detail than in all it was trained on (noise?): "
        "{0:.2f} octaves, there {1:.2f} to {2:.2f}",
    ),
    "side_px": (
        "much smaller than what it was trained on: {0:.0f} px, there {1:.0f} to {2:.0f} px",
        "much larger than what it was trained on: {0:.0f} px, there {1:.0f} to {2:.0f} px; "
        "shrink it (longest_side) if its people are larger, too",
    ),
    "crowding": (
        "",
        "denser than all it was trained on: up to {0:.0f} in 64 × 64 px, there {2:.0f} at most",
    ),
}


def traits(image: np.ndarray) -> dict[str, float]:
    """What is looked at in an image's pixels.

    ``brightness`` and ``contrast`` are mean and standard deviation of its grey values (0 to 255).
    ``sharpness`` is log₂ of the mean squared difference of neighbouring pixels, over that of the image
    at half its size: the slope of its spectrum in the finest octave, whatever its contrast. About −2 is
    a smooth surface, a blurred or an enlarged image, +2 pure noise. ``side_px`` is the longest side.

    Parameters
    ----------
    image : uint8 (H, W, 3), at the size at which it is counted

    >>> traits(np.full((20, 30, 3), 7, np.uint8))["brightness"]
    7.0
    """
    height, width = image.shape[:2]
    top, left = max(height - MOST_SIDE_PX, 0) // 2, max(width - MOST_SIDE_PX, 0) // 2
    middle = image[top : top + MOST_SIDE_PX, left : left + MOST_SIDE_PX]
    grey = np.asarray(Image.fromarray(np.ascontiguousarray(middle)).convert("L"), np.float32)
    h, w = (side // 2 for side in grey.shape)
    even = grey[: 2 * h, : 2 * w]
    half = (even[::2, ::2] + even[1::2, ::2] + even[::2, 1::2] + even[1::2, 1::2]) / 4
    return {
        "brightness": float(grey.mean()),
        "contrast": float(grey.std()),
        "sharpness": math.log2((_roughness(grey) + 1e-3) / (_roughness(half) + 1e-3)),
        "side_px": float(max(height, width)),
    }


def crowding(density: np.ndarray, block_size_px: int) -> float:
    """The most people in any square of 64 × 64 px; in a smaller image, what it has in all.

    Parameters
    ----------
    density : (h, w), people per block
    """
    blocks = max(SQUARE_PX // block_size_px, 1)
    kernel = [min(blocks, side) for side in density.shape]
    people = torch.as_tensor(density, dtype=torch.float32)[None, None]
    return float(F.avg_pool2d(people, kernel, stride=1).max()) * kernel[0] * kernel[1]


@dataclass(frozen=True)
class TrainingStats:
    """The traits of a model's training images, and so what is unlike them.

    An image drawn like the n training images lies beyond one side's limit of one trait with a chance
    of ⌊`TAIL`·(n + 1)⌋ / (n + 1), or 1 / (n + 1) where that is more (ranks are equally likely; the
    reasoning of conformal prediction). That makes few false flags, and no promise to see all that is
    strange.

    Attributes
    ----------
    images : n, how many were looked at
    limits : trait → (low, middle, high) of these
    """

    images: int
    limits: Mapping[str, tuple[float, float, float]]

    @classmethod
    def of(cls, split: PreparedSplit, indices: Sequence[int], block_size_px: int) -> TrainingStats:
        """Look at training images; a few milliseconds each.

        Parameters
        ----------
        split : prepared images
        indices : those trained on

        Raises
        ------
        ValueError : no image
        """
        if not len(indices):
            raise ValueError("There is no training image to look at.")
        places = np.linspace(0, len(indices) - 1, min(len(indices), MOST_IMAGES))
        rows = []
        for index in np.asarray(indices)[places.round().astype(int)]:
            sample = split[int(index)]
            people = block_counts(sample.points, *sample.image.shape[:2], block_size_px)
            row = traits(np.asarray(sample.image))
            rows.append(row | {"crowding": crowding(people, block_size_px)})
        n = len(rows)
        outermost = max(math.floor(TAIL * (n + 1)), 1) - 1
        limits = {}
        for trait in rows[0]:
            values = np.sort([row[trait] for row in rows])
            low, high = values[outermost], values[n - 1 - outermost]
            limits[trait] = tuple(float(f"{v:.5g}") for v in (low, np.median(values), high))
        return cls(n, limits)

    def flags(self, found: Mapping[str, float]) -> list[str]:
        """What is unlike the training images, a sentence each; empty for a usual image.

        Parameters
        ----------
        found : trait → value, from `traits` and `crowding`; others than those known are passed over
        """
        said = []
        for trait, (low, _, high) in self.limits.items():
            room, value = ROOM.get(trait, 1.0), found.get(trait)
            if value is None or trait not in _SAYINGS:
                continue
            below, above = _SAYINGS[trait]
            if below and value < low / room:
                said.append(below.format(value, low, high))
            elif value > high * room:
                said.append(above.format(value, low, high))
        return said


def _roughness(grey: np.ndarray) -> float:
    """The mean squared difference of neighbouring pixels, over both directions."""
    down, across = np.diff(grey, axis=0).ravel(), np.diff(grey, axis=1).ravel()
    return sum(float(np.dot(d, d)) / max(d.size, 1) for d in (down, across))
