"""Counts to classes: integer-valued bins that cover 0, 1, 2, … once each, and what each bin stands for.

The last bin is open: it takes the largest count m and everything above (paper, Sec. III-A1).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ebclib.config import choose


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
class Bins:
    """Neighbouring bins from 0 to infinity.

    Raises
    ------
    ValueError : a gap, an overlap, or a last bin that is not open

    >>> bins = fine(4)
    >>> print(*bins.items)
    {0} {1} {2} {3} [4, ∞)
    >>> bins.classes(np.array([0, 3, 4, 196]))
    array([0, 3, 4, 4])
    """

    items: tuple[Bin, ...]

    def __post_init__(self) -> None:
        expected: int | None = 0
        for item in self.items:
            if expected is None or item.low != expected:
                raise ValueError(
                    f"Bins {' '.join(map(str, self.items))}: {item} should begin at {expected}; "
                    "bins must cover 0, 1, 2, … without gap or overlap."
                )
            if item.high is not None and item.high < item.low:
                raise ValueError(f"A bin from {item.low} to {item.high} holds nothing.")
            expected = None if item.high is None else item.high + 1
        if expected is not None:
            raise ValueError(
                "The last bin must be open (high=None), so that every count has a class."
            )

    def __len__(self) -> int:
        return len(self.items)

    @property
    def max_count(self) -> int:
        """The lower edge of the open bin: m."""
        return self.items[-1].low

    def classes(self, counts: np.ndarray) -> np.ndarray:
        """The class k with c ∈ B_k of each count; any shape, integers from 0, int64 out."""
        counts = np.asarray(counts)
        if counts.size and (counts.min() < 0 or not np.issubdtype(counts.dtype, np.integer)):
            raise ValueError(
                f"Counts are integers from 0; got {counts.dtype} with least {counts.min()}."
            )
        return self.lookup()[np.minimum(counts, self.max_count)]

    def lookup(self) -> np.ndarray:
        """The class of every count 0 … m; int64, shape (m + 1,)."""
        lows = np.array([item.low for item in self.items])
        return np.searchsorted(lows, np.arange(self.max_count + 1), side="right") - 1

    def middles(self) -> np.ndarray:
        """Each bin's middle, and the lower edge of the open one; float64, shape (N,)."""
        return np.array([(b.low + (b.low if b.high is None else b.high)) / 2 for b in self.items])

    def representatives(self, histogram: np.ndarray) -> np.ndarray:
        """The mean count of the blocks in each bin (Eq. 2).

        Parameters
        ----------
        histogram : array, shape (largest count + 1,)
            How many blocks hold 0, 1, 2, … people (`blocks.histogram`), uncapped.

        Returns
        -------
        float64 array, shape (N,); a bin that no block falls into keeps its middle

        >>> fine(2).representatives(np.array([10, 5, 2, 2]))
        array([0. , 1. , 2.5])
        """
        counts = np.arange(len(histogram))
        k = self.classes(counts)
        blocks = np.bincount(k, weights=histogram, minlength=len(self))
        people = np.bincount(k, weights=histogram * counts, minlength=len(self))
        return np.where(blocks > 0, people / np.maximum(blocks, 1), self.middles())


def fine(max_count: int) -> Bins:
    """Every integer alone: {0} {1} … {m − 1} [m, ∞)."""
    return Bins((*(Bin(c, c) for c in range(max_count)), Bin(max_count, None)))


POLICIES = {"fine": fine}


def make_bins(policy: str, max_count: int) -> Bins:
    """The bins of a policy by name; ``max_count`` is m ≥ 1, the lower edge of the open bin."""
    if max_count < 1:
        raise ValueError(f"max_count is {max_count}; a block holds at least 1 person (m ≥ 1).")
    return POLICIES[choose("bins", policy, POLICIES)](max_count)
