"""Splits of drawn crowds: how many people are in which image, and the images one by one."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from statistics import NormalDist

import numpy as np

from ebclib.config import one_of
from ebclib.data.images import Decoded
from ebclib.data.splits import ReadSplit, Sample
from ebclib.synthetic.scene import paint, plan


@dataclass(frozen=True)
class Series:
    """A family of drawn images."""

    splits: dict[str, int]  # and how many images they have if nothing else is asked for
    sizes: tuple[tuple[int, int], ...]  # (H, W) in pixels that an image may have, upright or lying
    median: float  # people in the image in the middle
    most: int  # people in the fullest one


SERIES = {
    "synthetic": Series(
        {"train": 160, "val": 40, "test": 60},
        ((480, 640), (448, 600), (512, 512), (480, 720), (450, 800), (560, 640), (576, 768)),
        median=72,
        most=1500,
    ),
    "synthetic_small": Series(
        {"train": 128, "test": 48}, ((192, 256), (224, 224), (192, 288)), median=12, most=250
    ),
}
"""The data sets that are drawn; the small one is for experiments of many short runs."""

_SPLITS = ("train", "val", "test")
_EMPTY, _SPREAD = 0.04, 1.15
_GOLDEN = (math.sqrt(5) - 1) / 2


def count_at(quantile: float, series: str = "synthetic") -> int:
    """How many people are in an image at this ``quantile`` (in 0…1) of the distribution.

    Four in a hundred are empty; the others are log-normal around the series' median, up to its most.
    """
    if quantile < _EMPTY:
        return 0
    rest = min(max((quantile - _EMPTY) / (1 - _EMPTY), 1e-6), 1 - 1e-6)
    kind = SERIES[series]
    people = kind.median * math.exp(_SPREAD * NormalDist().inv_cdf(rest))
    return min(max(round(people), 1), kind.most)


def _drawn(
    rng: np.random.Generator,
    series: str,
    name: str | None = None,
    count: int | None = None,
    height: int | None = None,
    width: int | None = None,
) -> Sample:
    """An image of a series; what is None is drawn."""
    sizes = SERIES[series].sizes
    quantile, sides = float(rng.random()), sizes[rng.integers(len(sizes))]
    tall = sides[:: -1 if rng.random() < 0.3 else 1]
    count = count_at(quantile, series) if count is None else int(count)
    scene = plan(rng, count, int(height or tall[0]), int(width or tall[1]))
    return Sample(paint(scene), scene.points, name or f"drawn_{scene.seed:010d}")


def draw(
    rng: np.random.Generator | int,
    count: int | None = None,
    height: int | None = None,
    width: int | None = None,
) -> Sample:
    """Draw one crowd with exactly known people; the points are the centres of the heads.

    ``rng`` is a generator, or a seed. By default the ``count`` of people is drawn from the long tail of
    `count_at`, and the sides are those of `SERIES`; given ones are 64 pixels or more.

    Raises
    ------
    ValueError : a negative or fractional count, or an image of less than 64 pixels

    >>> draw(0, count=12).points.shape
    (12, 2)
    """
    for what, value, least in (("count", count, 0), ("height", height, 64), ("width", width, 64)):
        if value is not None and (int(value) != value or value < least):
            raise ValueError(
                f"{what} is {value!r}; give a whole number of {least} or more, or None."
            )
    return _drawn(np.random.default_rng(rng), "synthetic", None, count, height, width)


@dataclass(frozen=True)
class DrawnEntry:
    """What `data.splits.Entry` is of files; its stamp is the code that draws it."""

    name: str
    series: str
    key: tuple[int, ...]  # of its random numbers
    count: int

    def stamp(self) -> str:
        """The same until the code changes."""
        return f"{self.series} {_code()}"

    def size(self) -> tuple[int, int]:
        """(H, W) of the largest image that is drawn: they are known only once they are."""
        return max(SERIES[self.series].sizes, key=math.prod)

    def read(self) -> tuple[Decoded, np.ndarray, str]:
        """The image, drawn, its points, and its pixels' hex digest."""
        sample = _drawn(np.random.default_rng(self.key), self.series, self.name, self.count)
        image = Decoded(sample.image, sample.image.shape[:2], 1, False)
        return image, sample.points, hashlib.sha256(sample.image.tobytes()).hexdigest()


@cache
def _code() -> str:
    files = sorted(Path(__file__).parent.glob("*.py"))
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()[:16]


class SyntheticSplit(ReadSplit):
    """A split of drawn crowds, one of a key of `SERIES`; image i depends on nothing but (seed, split, i).

    ``size`` is how many images there are; the first n are the same for any size. The ``names`` are as
    ``train_0007``. The ``counts`` of people, int64 (size,), are known without drawing: a golden-ratio
    sequence of the distribution's quantiles.
    """

    def __init__(
        self, split: str, seed: int = 0, size: int | None = None, series: str = "synthetic"
    ) -> None:
        splits = SERIES[one_of("series", series, SERIES)].splits
        size = splits[one_of(f"split of {series}", split, splits)] if size is None else size
        key = seed, _SPLITS.index(split)
        quantiles = (np.random.default_rng((*key, 0)).random() + _GOLDEN * np.arange(size)) % 1
        self.counts = np.array([count_at(float(q), series) for q in quantiles], np.int64)
        super().__init__(
            [
                DrawnEntry(f"{split}_{index:04d}", series, (*key, 1, index), count)
                for index, count in enumerate(self.counts.tolist())
            ]
        )
