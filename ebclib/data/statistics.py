"""Is an image like those a model was trained on? A few statistics of it, against the training images'."""

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
"""Side of the square whose people are `peak_density`."""

TAIL = 0.0025
"""The share of training images beyond each limit; at least the outermost image is the limit."""

ROOM = {"side_px": 2.0}
"""How many times beyond the training images a value may lie that these hardly vary in."""

_GREY = "{0:.0f}, there {1:.0f} to {2:.0f}"
_OCTAVES = "{0:.2f} octaves, there {1:.2f} to {2:.2f}"
_ALL = "all it was trained on"
_SAYINGS = {  # below and above the limits, then the value and both limits
    "brightness": (f"darker than {_ALL}", f"brighter than {_ALL}", f"mean grey {_GREY}"),
    "contrast": (
        f"flatter than {_ALL}",
        f"harsher than {_ALL}",
        f"standard deviation of grey {_GREY}",
    ),
    "sharpness": (
        f"less fine detail than in {_ALL} (blurred, or enlarged?)",
        f"more fine detail than in {_ALL} (noise?)",
        _OCTAVES,
    ),
    "side_px": (
        "much smaller than what it was trained on",
        "much larger than what it was trained on (shrink it, longest_side, if its people are, too)",
        "{0:.0f} px, there {1:.0f} to {2:.0f} px",
    ),
    "peak_density": (
        "",
        f"denser than {_ALL}",
        "up to {0:.0f} in 64 × 64 px, there {2:.0f} at most",
    ),
}


def image_stats(image: np.ndarray) -> dict[str, float]:
    """What is looked at in an image's pixels.

    ``brightness`` and ``contrast`` are mean and standard deviation of its grey values (0 to 255).
    ``sharpness`` is log₂ of the mean squared difference of neighbouring pixels, over that of the image
    at half its size: the slope of its spectrum in the finest octave, whatever its contrast. About −2 is
    a smooth surface, a blurred or an enlarged image, +2 pure noise. ``side_px`` is the longest side.

    Parameters
    ----------
    image : uint8 (H, W, 3), at the size at which it is counted

    >>> image_stats(np.full((20, 30, 3), 7, np.uint8))["brightness"]
    7.0
    """
    height, width = image.shape[:2]
    top, left = max(height - MOST_SIDE_PX, 0) // 2, max(width - MOST_SIDE_PX, 0) // 2
    middle = image[top : top + MOST_SIDE_PX, left : left + MOST_SIDE_PX]
    grey = np.asarray(Image.fromarray(np.ascontiguousarray(middle)).convert("L"), np.float32)
    h, w = (side // 2 for side in grey.shape)
    half = grey[: 2 * h, : 2 * w].reshape(h, 2, w, 2).mean(axis=(1, 3))
    return {
        "brightness": float(grey.mean()),
        "contrast": float(grey.std()),
        "sharpness": math.log2((_roughness(grey) + 1e-3) / (_roughness(half) + 1e-3)),
        "side_px": float(max(height, width)),
    }


def peak_density(density: np.ndarray, block_size_px: int) -> float:
    """The most people in any square of 64 × 64 px; in a smaller image, what it has in all.

    Parameters
    ----------
    density : (h, w), people per block
    """
    blocks = max(SQUARE_PX // block_size_px, 1)
    kernel = [min(blocks, side) for side in density.shape]
    people = torch.as_tensor(density, dtype=torch.float32)[None, None]
    return float(F.avg_pool2d(people, kernel, stride=1, divisor_override=1).max())


@dataclass(frozen=True)
class TrainingStats:
    """The statistics of a model's training images, and so what is unlike them.

    An image drawn like the n training images lies beyond one side's limit of one value with a chance
    of ⌊`TAIL`·(n + 1)⌋ / (n + 1), or 1 / (n + 1) where that is more (ranks are equally likely; the
    reasoning of conformal prediction). That makes few false flags, and no promise to see all that is
    strange.
    """

    images: int  # n, how many were looked at
    # name of a value → (low, middle, high) of these
    limits: Mapping[str, tuple[float, float, float]]

    @classmethod
    def of(cls, split: PreparedSplit, indices: Sequence[int], block_size_px: int) -> TrainingStats:
        """Look at the training images of ``split``; a few milliseconds each.

        Raises
        ------
        ValueError : no image
        """
        if not len(indices):
            raise ValueError("There is no training image to look at.")
        chosen = np.linspace(0, len(indices) - 1, min(len(indices), MOST_IMAGES))
        rows = []
        for index in np.asarray(indices)[chosen.round().astype(int)]:
            sample = split[int(index)]
            people = block_counts(sample.points, *sample.image.shape[:2], block_size_px)
            row = image_stats(np.asarray(sample.image))
            rows.append(row | {"peak_density": peak_density(people, block_size_px)})
        n = len(rows)
        outermost = max(math.floor(TAIL * (n + 1)), 1) - 1
        limits = {}
        for name in rows[0]:
            values = np.sort([row[name] for row in rows])
            low, high = values[outermost], values[n - 1 - outermost]
            limits[name] = tuple(float(f"{v:.5g}") for v in (low, np.median(values), high))
        return cls(n, limits)

    def flags(self, found: Mapping[str, float]) -> list[str]:
        """What is unlike the training images, a sentence each; empty for a usual image.

        Parameters
        ----------
        found : values by name, from `image_stats` and `peak_density`; unknown ones are passed over
        """
        said = []
        for name, (low, _, high) in self.limits.items():
            if name not in found or name not in _SAYINGS:
                continue
            room, value = ROOM.get(name, 1.0), found[name]
            below, above, numbers = _SAYINGS[name]
            words = below if value < low / room else above if value > high * room else ""
            if words:
                said.append(f"{words}: {numbers.format(value, low, high)}")
        return said


def _roughness(grey: np.ndarray) -> float:
    """The mean squared difference of neighbouring pixels, over both directions."""
    down, across = np.diff(grey, axis=0).ravel(), np.diff(grey, axis=1).ravel()
    return sum(float(np.dot(d, d)) / max(d.size, 1) for d in (down, across))
