"""What a config means on its data: who is trained on, who selects, the bins, and the model."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np
import pandas as pd

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
    """What a config means on its data: who is trained on, who selects, and the bins between them."""

    split: data.PreparedSplit
    train: np.ndarray  # indices into split
    validation: np.ndarray
    bins: Bins
    representatives: np.ndarray  # (N,)
    max_count: int  # m; with pairs the open bin may begin one below

    @classmethod
    def of(cls, config: Config, progress: bool = True) -> TrainingSet:
        """Read the prepared training split (preparing it first if need be) and derive the rest."""
        rule = {"progress": progress, "multiples_px": config.multiples_px}
        split = data.prepared(config.dataset, "train", **rule)
        train, validation = data.hold_out(split.counts, seed=config.seed)
        m = _max_count(config, split, train)
        bins = make_bins(config.bins, m, config.intervals)
        representatives = representative_counts(bins, split, train, config)
        return cls(split, train, validation, bins, representatives, m)

    @property
    def halves(self) -> tuple[np.ndarray, np.ndarray]:
        """The validation images that select the weights, and those that calibrate their interval.

        Images that chose the weights flatter them, and an interval made of their errors is too short.
        The halves are alike in how many people they show. Where one alone would be too few for an
        interval (`evaluation.conformal_factor`), all images do both.
        """
        order = self.validation[np.argsort(self.split.counts[self.validation], kind="stable")]
        if len(order) < 2 * LEAST_CALIBRATING:
            return self.validation, self.validation
        return np.sort(order[::2]), np.sort(order[1::2])

    def test(self, config: Config, progress: bool = False) -> data.PreparedSplit:
        """The split that the data set's papers report, which neither trains nor selects."""
        split = data.describe(config.dataset).test_split
        rule = {"progress": progress, "multiples_px": config.multiples_px}
        return data.prepared(config.dataset, split, **rule)

    def sentences(self, config: Config) -> list[str]:
        """What the text tower reads, one sentence a bin."""
        return sentences(self.bins, *self.split.noun, numerals=config.numerals)

    def class_frequencies(self, config: Config) -> np.ndarray:
        """The share of training blocks in each class, (N,); for regression people a block, (1,)."""
        bins, split, indices = self.bins, self.split, self.train
        grid = dataclasses.replace(config, representatives="grid")
        if config.head == "regression":
            people = count_histogram(split, indices, grid)
            return np.array([(people * np.arange(len(people))).sum() / people.sum()])
        if bins.is_integer:
            sizes = bins.sizes(count_histogram(split, indices, grid))
        else:
            smoothed = _smoothed(split, indices, config)
            sizes = np.bincount(bins.classes(smoothed), minlength=len(bins))
        return sizes / sizes.sum()

    def bin_table(self, config: Config) -> pd.DataFrame:
        """A row a bin: what it holds, the count it stands for, its sentence; none for regression."""
        rows = zip(self.bins.items, self.representatives, self.sentences(config), strict=False)
        table = pd.DataFrame(rows, columns=["bin", "stands for", "sentence"])
        return table.round({"stands for": 3}).set_index("bin")


def _max_count(config: Config, split: data.PreparedSplit, indices: np.ndarray) -> int:
    """m: as given, by the label correction's rule, or the largest count of a training block."""
    if config.max_count is None:
        return max_count(config.block_size_px)
    if config.max_count == "largest":
        grid = dataclasses.replace(config, representatives="grid")
        return max(len(count_histogram(split, indices, grid)) - 1, 1)
    return config.max_count


def count_histogram(split: data.PreparedSplit, indices: np.ndarray, config: Config) -> np.ndarray:
    """How many training blocks hold 0, 1, 2, … people, as ``config.representatives`` counts blocks.

    ``"grid"``: the images' own blocks. ``"windows"``: all stride-1 windows. ``"scaled"``: the blocks
    of crops drawn as training draws them, ten an image; a crop shown smaller puts more people into a block.

    Returns
    -------
    int64 array, shape (largest count + 1,)
    """
    r, crop_px, rng = config.block_size_px, config.crop_px, np.random.default_rng(config.seed)
    if config.representatives != "scaled":
        count = window_counts if config.representatives == "windows" else block_counts
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
