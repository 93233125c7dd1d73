"""Bins: which class a count has, and what a class stands for (paper, Sec. III-A1, Eq. 2, Table II).

Bins are integer-valued (EBC) or bordering intervals over smoothed counts (the baseline Blockwise). Both
follow one rule: the class of a count c is the number of lower edges ≤ c, minus one. The last bin is
open, so every count has a class.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from ebclib.config import one_of

NOBODY_BELOW = 0.05
"""Upper edge of the first interval. The paper names 0.05 as a border that is hard to learn (Sec. III-A1)."""

INTERVALS = 12
"""How many intervals where nobody says otherwise: about as many classes as the integer policies have."""


@dataclass(frozen=True)
class Bin:
    """The integers ``low`` … ``high``, both included; ``high`` None leaves the bin open upwards."""

    low: int
    high: int | None

    def __str__(self) -> str:
        if self.high is None:
            return f"[{self.low}, ∞)"
        return "{" + ",".join(str(count) for count in range(self.low, self.high + 1)) + "}"


@dataclass(frozen=True)
class Interval:
    """The real counts from ``low`` up to, and without, ``high``; ``high`` None leaves it open upwards."""

    low: float
    high: float | None

    def __str__(self) -> str:
        return f"[{self.low:g}, {'∞' if self.high is None else f'{self.high:g}'})"


@dataclass(frozen=True)
class Bins:
    """Neighbouring bins from 0 to infinity, all integer-valued or all intervals.

    Raises
    ------
    ValueError : a gap, an overlap, a last bin that is not open, or bins of both kinds

    >>> bins = Bins((Bin(0, 0), Bin(1, 2), Bin(3, None)))
    >>> bins.classes(np.array([0, 2, 3, 196]))
    array([0, 1, 2, 2])
    >>> Bins((Interval(0, 0.5), Interval(0.5, None))).classes(np.array([0.49, 0.5]))
    array([0, 1])
    """

    items: tuple[Bin, ...] | tuple[Interval, ...]

    def __post_init__(self) -> None:
        if len({type(item) for item in self.items}) != 1:
            raise ValueError(
                f"{len(self.items)} bins {self}: give at least one, and all Bin or all Interval."
            )
        step, what = (1, "0, 1, 2, …") if self.is_integer else (0, "[0, ∞)")
        expected: float | None = 0
        for item in self.items:
            if expected is None or item.low != expected:
                raise ValueError(
                    f"Bins {self}: {item} should begin at {expected}; "
                    f"bins must cover {what} without gap or overlap."
                )
            if item.high is not None and item.high + step <= item.low:
                raise ValueError(f"A bin from {item.low} to {item.high} holds nothing.")
            expected = None if item.high is None else item.high + step
        if expected is not None:
            raise ValueError(
                "The last bin must be open (high=None), so that every count has a class."
            )

    def __len__(self) -> int:
        return len(self.items)

    def __str__(self) -> str:
        return " ".join(map(str, self.items))

    @property
    def is_integer(self) -> bool:
        """Whether the bins hold whole counts (EBC) and not smoothed ones."""
        return isinstance(self.items[0], Bin)

    @cached_property
    def lows(self) -> np.ndarray:
        """The lower edges, ascending from 0; float64, shape (N,). Borders between bins: ``lows[1:]``."""
        return np.array([item.low for item in self.items], dtype=np.float64)

    @property
    def open_from(self) -> int | float:
        """The lower edge of the open bin: m, or m − 1 where pairs leave no room for m alone."""
        return self.items[-1].low

    def classes(self, counts: np.ndarray) -> np.ndarray:
        """The class of each count; any shape, int64 out.

        Raises
        ------
        ValueError : a count below 0 or not a number; for integer-valued bins, one that is not whole
        """
        counts = np.asarray(counts)
        if self.is_integer and not np.issubdtype(counts.dtype, np.integer):
            raise ValueError(
                f"Counts in integer-valued bins are integers from 0; got {counts.dtype}. "
                "Smoothed counts need interval bins."
            )
        if counts.size and not counts.min() >= 0:
            kind = "integers" if self.is_integer else "numbers"
            raise ValueError(f"Counts are {kind} from 0; got {counts.min()}.")
        return np.searchsorted(self.lows, counts, side="right") - 1

    def sizes(self, histogram: np.ndarray) -> np.ndarray:
        """How many blocks of a `blocks.histogram` fall into each class; float64, shape (N,)."""
        self._integers_only("count the classes of the smoothed counts with np.bincount")
        k = self.classes(np.arange(len(histogram)))
        return np.bincount(k, weights=histogram, minlength=len(self))

    def middles(self) -> np.ndarray:
        """Each bin's middle, as methods before EBC represent it; float64, shape (N,).

        The open bin has its lower edge. An interval from 0 stands for nobody: an image's thousands of
        empty blocks must not add up to a crowd.
        """
        highs = [item.low if item.high is None else item.high for item in self.items]
        middles = (self.lows + np.array(highs)) / 2
        middles[0] = middles[0] if self.is_integer else 0.0
        return middles

    def means(self, counts: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
        """The mean of the counts in each bin (Eq. 2); float64, shape (N,).

        ``counts`` are those of all training blocks, any shape, and ``weights`` how often each of them
        occurs (None: once). A bin that no block falls into keeps its middle.
        """
        counts = np.ravel(counts)
        weights = np.ones(len(counts)) if weights is None else np.ravel(weights)
        k = self.classes(counts)
        blocks = np.bincount(k, weights=weights, minlength=len(self))
        people = np.bincount(k, weights=weights * counts, minlength=len(self))
        return np.where(blocks > 0, people / np.where(blocks > 0, blocks, 1), self.middles())

    def representatives(self, histogram: np.ndarray) -> np.ndarray:
        """The mean, uncapped count of a `blocks.histogram` in each integer-valued bin (Eq. 2); (N,).

        >>> Bins((Bin(0, 0), Bin(1, 1), Bin(2, None))).representatives(np.array([10, 5, 2, 2]))
        array([0. , 1. , 2.5])
        """
        self._integers_only("use middles(), or means() of the smoothed counts")
        return self.means(np.arange(len(histogram)), np.asarray(histogram))

    def _integers_only(self, instead: str) -> None:
        if not self.is_integer:
            raise ValueError(f"Interval bins hold smoothed counts, not whole ones: {instead}.")


def fine(max_count: int) -> Bins:
    """Every integer alone: {0} {1} … {m − 1} [m, ∞).

    >>> print(fine(4))
    {0} {1} {2} {3} [4, ∞)
    """
    return _singles_then_pairs(max_count, max_count)


def dynamic(max_count: int) -> Bins:
    """The lower half alone, larger counts in pairs.

    >>> print(dynamic(8))
    {0} {1} {2} {3} {4,5} {6,7} [8, ∞)
    """
    return _singles_then_pairs(max_count, (max_count + 1) // 2)


def coarse(max_count: int) -> Bins:
    """Nobody alone, everything else in pairs.

    >>> print(coarse(8))
    {0} {1,2} {3,4} {5,6} [7, ∞)
    """
    return _singles_then_pairs(max_count, 1)


def _singles_then_pairs(max_count: int, singles: int) -> Bins:
    """``singles`` bins of one integer, pairs as long as both lie below m, and the rest open."""
    alone = [Bin(count, count) for count in range(singles)]
    pairs = [Bin(low, low + 1) for low in range(singles, max_count - 1, 2)]
    return Bins((*alone, *pairs, Bin(singles + 2 * len(pairs), None)))


def interval(max_count: int, intervals: int = INTERVALS) -> Bins:
    """Bordering intervals over smoothed counts, as in the baseline *Blockwise* (Liu et al. 2019).

    The article does not print its borders. Here the first interval is [0, 0.05) and stands for nobody
    (0.05 is the border the paper names); the others are even in the logarithm from there to m, edges
    rounded to three digits; the last is [m, ∞). ``intervals`` is N, with the first and the open one.

    >>> print(interval(4, 5))
    [0, 0.05) [0.05, 0.215) [0.215, 0.928) [0.928, 4) [4, ∞)
    """
    if intervals < 3:
        raise ValueError(
            f"intervals is {intervals}; nobody, somebody and the open one make at least 3."
        )
    edges = [float(f"{edge:.3g}") for edge in np.geomspace(NOBODY_BELOW, max_count, intervals - 1)]
    lows, highs = [0.0, *edges], [*edges, None]
    return Bins(tuple(Interval(low, high) for low, high in zip(lows, highs, strict=True)))


POLICIES = {"fine": fine, "dynamic": dynamic, "coarse": coarse, "interval": interval}
"""The policies by name; `interval` alone is over smoothed counts."""


def make_bins(policy: str, max_count: int, intervals: int | None = None) -> Bins:
    """The bins of a policy of `POLICIES`, with m = ``max_count`` ≥ 1 of the label correction.

    ``intervals`` says how many, for ``interval`` alone; None takes `INTERVALS`.

    Raises
    ------
    ValueError : an unknown policy, m < 1, or a number of intervals where there are none

    >>> len(make_bins("dynamic", 19)), len(make_bins("interval", 19, 8))
    (15, 8)
    """
    if max_count < 1:
        raise ValueError(f"max_count is {max_count}; a block holds at least 1 person (m ≥ 1).")
    make = POLICIES[one_of("bins", policy, POLICIES)]
    if intervals is None:
        return make(max_count)
    if make is not interval:
        raise ValueError(f"intervals is {intervals}, but {policy} bins are counted by m alone.")
    return interval(max_count, intervals)
