"""Where one bin ends and the next begins: the paper's policies, and the intervals it compares with."""

from __future__ import annotations

import numpy as np

from ebclib.bins.binning import Bin, Bins, Interval
from ebclib.choices import choose

NOBODY_BELOW = 0.05
"""Upper edge of the first interval. The paper names 0.05 as a border that is hard to learn (Sec. III-A1)."""

INTERVALS = 12
"""How many intervals where nobody says otherwise: about as many classes as the integer policies have."""


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
    items = [Bin(count, count) for count in range(singles)]
    low = singles
    while low + 1 < max_count:
        items.append(Bin(low, low + 1))
        low += 2
    return Bins((*items, Bin(low, None)))


def interval(max_count: int, intervals: int = INTERVALS) -> Bins:
    """Bordering intervals over smoothed counts, as in the baseline *Blockwise* (Liu et al. 2019).

    What is public: code of two of its authors (L. Liu and H. Lu, 2020) leaves exactly zero a class
    of its own and cuts the rest evenly in the logarithm, by default in steps of 0.1 from e⁻² on (60
    classes, blocks of 64 px), each class standing for its midpoint. Whether the article's tables were
    made so, it does not say. Xiong et al. (2019, S-DCNet), from the same group, cut at 0.05, 0.10, …,
    0.5, 1, 1.5, …; 0.05 is the border the paper names.

    What is chosen here: the first interval is [0, 0.05) and stands for nobody, since an exact
    Gaussian leaves no block at exactly zero; the others are even in the logarithm from 0.05 to m,
    edges rounded to three digits; the last is [m, ∞). ``interval(16, 60)`` has the step of 0.1.

    Parameters
    ----------
    max_count : m, the lower edge of the open interval
    intervals : N, with the first and the open one; at least 3

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
    """The bins of a policy by name.

    Parameters
    ----------
    policy : fine, dynamic, coarse or interval
    max_count : m ≥ 1 of the label correction
    intervals : how many, for ``interval`` alone; None takes `INTERVALS`

    Raises
    ------
    ValueError : an unknown policy, m < 1, or a number of intervals where there are none

    >>> len(make_bins("dynamic", 19)), len(make_bins("interval", 19, 8))
    (15, 8)
    """
    if max_count < 1:
        raise ValueError(f"max_count is {max_count}; a block holds at least 1 person (m ≥ 1).")
    make = POLICIES[choose("bins", policy, POLICIES)]
    if intervals is None:
        return make(max_count)
    if make is not interval:
        raise ValueError(f"intervals is {intervals}, but {policy} bins are counted by m alone.")
    return interval(max_count, intervals)
