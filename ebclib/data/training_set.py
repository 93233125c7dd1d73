"""What a config means on its data: who is trained on, who selects, the bins; and what its images are like."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from PIL import Image

from ebclib import data
from ebclib.bins import Bins, make_bins
from ebclib.blocks import block_counts, histogram, max_count, smoothed_counts, window_counts
from ebclib.config import Config
from ebclib.data.crops import crop_points, random_box
from ebclib.prompts import sentences

LEAST_CALIBRATING = 9
"""Images without which there is no interval of 90 % (`evaluation.conformal_factor`)."""


@dataclass(frozen=True)
class TrainingSet:
    """A prepared training split, divided; and the bins made of its training part."""

    split: data.PreparedSplit
    train: np.ndarray  # indices into split
    validation: np.ndarray
    bins: Bins
    representatives: np.ndarray  # (N,)
    max_count: int  # m; with pairs the open bin may begin one below

    @classmethod
    def of(cls, config: Config, progress: bool = True) -> TrainingSet:
        """Read the prepared training split (preparing it first if need be) and derive the rest."""
        prepare = {"progress": progress, "multiples_px": config.multiples_px}
        split = data.prepared(config.dataset, "train", **prepare)
        train, validation = data.hold_out(split.counts, seed=config.seed)
        m = config.max_count
        if m is None:
            m = max_count(config.block_size_px)
        elif m == "largest":
            m = max(len(count_histogram(split, train, config, "grid")) - 1, 1)
        bins = make_bins(config.bins, m, config.intervals)
        representatives = representative_counts(bins, split, train, config)
        return cls(split, train, validation, bins, representatives, m)

    def halves(self, config: Config) -> tuple[np.ndarray, np.ndarray]:
        """The validation images that select the weights, and those that calibrate their interval.

        The halves are alike in how many people they show. All images are in both where a half would be too
        few for an interval, and where the last weights are kept, which no image selects.
        """
        order = self.validation[np.argsort(self.split.counts[self.validation], kind="stable")]
        if config.keep == "last" or len(order) < 2 * LEAST_CALIBRATING:
            return self.validation, self.validation
        return np.sort(order[::2]), np.sort(order[1::2])

    def test(self, config: Config, progress: bool = False) -> data.PreparedSplit:
        """The split that the data set's papers report, which neither trains nor selects."""
        split = data.describe(config.dataset).test_split
        prepare = {"progress": progress, "multiples_px": config.multiples_px}
        return data.prepared(config.dataset, split, **prepare)

    def sentences(self, config: Config) -> list[str]:
        """What the text tower reads, one sentence a bin."""
        return sentences(self.bins, *self.split.noun, numerals=config.numerals)

    def class_frequencies(self, config: Config) -> np.ndarray:
        """The share of training blocks in each class, (N,); for regression people a block, (1,)."""
        people = count_histogram(self.split, self.train, config, "grid")
        if config.head == "regression":
            return np.array([(people * np.arange(len(people))).sum() / people.sum()])
        if self.bins.is_integer:
            sizes = self.bins.sizes(people)
        else:
            smoothed = _smoothed(self.split, self.train, config)
            sizes = np.bincount(self.bins.classes(smoothed), minlength=len(self.bins))
        return sizes / sizes.sum()

    def bin_table(self, config: Config) -> pd.DataFrame:
        """A row a bin: what it holds, the count it stands for, its sentence; none for regression."""
        rows = zip(self.bins.items, self.representatives, self.sentences(config), strict=False)
        table = pd.DataFrame(rows, columns=["bin", "stands for", "sentence"])
        return table.round({"stands for": 3}).set_index("bin")


def count_histogram(
    split: data.PreparedSplit, indices: np.ndarray, config: Config, blocks: str | None = None
) -> np.ndarray:
    """How many training blocks hold 0, 1, 2, … people: int64 (largest count + 1,).

    ``blocks``, or else ``config.representatives``, says which: ``"grid"``, the images' own;
    ``"windows"``, all stride-1 windows; ``"scaled"``, those of ten random crops of each image (a crop
    shown smaller puts more people into a block).
    """
    r, crop_px, rng = config.block_size_px, config.crop_px, np.random.default_rng(config.seed)
    blocks = blocks or config.representatives
    if blocks != "scaled":
        count = window_counts if blocks == "windows" else block_counts
        return histogram(count(split.points[i], *split.sizes[i], r) for i in indices)

    def of_crops(i: int) -> np.ndarray:
        boxes = [random_box(rng, *split.sizes[i], crop_px, config.max_scale) for _ in range(10)]
        points = [crop_points(split.points[i], box, crop_px) for box in boxes]
        return np.stack([block_counts(p, crop_px, crop_px, r) for p in points])

    return histogram(map(of_crops, indices))


def representative_counts(
    bins: Bins, split: data.PreparedSplit, indices: np.ndarray, config: Config
) -> np.ndarray:
    """What each bin stands for, float64 (N,): its mean count (Eq. 2), or its middle.

    Interval bins have the mean of the smoothed counts. A regression model has no bins: shape (0,).
    """
    if config.head == "regression":
        return np.zeros(0)
    if config.representatives == "middle":
        return bins.middles()
    if bins.is_integer:
        return bins.representatives(count_histogram(split, indices, config))
    return bins.means(_smoothed(split, indices, config))


def _smoothed(split: data.PreparedSplit, indices: np.ndarray, config: Config) -> np.ndarray:
    """The smoothed counts of all blocks, in one row."""
    rule = config.block_size_px, config.smoothing_px
    counts = (smoothed_counts(split.points[i], *split.sizes[i], *rule) for i in indices)
    return np.concatenate([each.ravel() for each in counts])


MOST_IMAGES = 400  # training images that are looked at, evenly spaced
MOST_SIDE_PX = 2048  # of a larger image the middle is looked at
SQUARE_PX = 64  # side of the square whose people are `peak_density`
TAIL = 0.0025  # share of training images beyond each limit, or the outermost one
ROOM = {"side_px": 2.0}  # times beyond its limits that a value of little variation may lie

_SAYINGS = {  # below and above the limits of all training images
    "brightness": ("darker", "brighter"),
    "contrast": ("flatter", "harsher"),
    "sharpness": ("less fine detail (blurred, or enlarged?)", "more fine detail (noise?)"),
    "side_px": ("much smaller", "much larger (shrink it, if its people are large, too)"),
    "peak_density": ("", "denser"),
}


def image_stats(image: np.ndarray) -> dict[str, float]:
    """Statistics of an image's pixels, uint8 (H, W, 3), at the size at which it is counted.

    ``brightness`` and ``contrast`` are mean and standard deviation of its grey values (0 to 255).
    ``sharpness`` is log₂ of the mean squared difference of neighbouring pixels, over that of the image
    at half its size: about −2 for a blurred or an enlarged image, +2 for pure noise. ``side_px`` is
    the longest side.

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
    """The most people in any square of 64 × 64 px, of (h, w) people per block."""
    blocks = max(SQUARE_PX // block_size_px, 1)
    kernel = [min(blocks, side) for side in density.shape]
    people = torch.as_tensor(density, dtype=torch.float32)[None, None]
    return float(F.avg_pool2d(people, kernel, stride=1, divisor_override=1).max())


@dataclass(frozen=True)
class TrainingStats:
    """The statistics of a model's training images, and so what is unlike them.

    An image drawn like the n training images lies beyond one limit of one value with a chance of
    ⌊`TAIL`·(n + 1)⌋ / (n + 1), or 1 / (n + 1) where that is more (ranks are equally likely).
    """

    images: int  # n, how many were looked at
    limits: Mapping[str, tuple[float, float, float]]  # of each value: low, middle, high

    @classmethod
    def of(
        cls, split: data.PreparedSplit, indices: Sequence[int], block_size_px: int
    ) -> TrainingStats:
        """Those of the training images of ``split``."""
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
        """What is unlike the training images, a sentence each, of `image_stats` and `peak_density`."""
        said = []
        for name, (low, _, high) in self.limits.items():
            if name not in found or name not in _SAYINGS:
                continue
            (below, above), value, room = _SAYINGS[name], found[name], ROOM.get(name, 1.0)
            words = below if value < low / room else above if value > high * room else ""
            if words:
                numbers = f"{name} {value:.5g}, there {low:.5g} to {high:.5g}"
                said.append(f"{words} than all it was trained on: {numbers}")
        return said


def _roughness(grey: np.ndarray) -> float:
    """The mean squared difference of neighbouring pixels, over both directions."""
    down, across = np.diff(grey, axis=0).ravel(), np.diff(grey, axis=1).ravel()
    return sum(float(np.dot(d, d)) / max(d.size, 1) for d in (down, across))
