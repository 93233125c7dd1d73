"""Which bins suit a data set: as fine as its training blocks can fill."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ebclib.bins import Bins, make_bins
from ebclib.blocks import max_count as most_people

MIN_BLOCKS = 100
"""The fewest training blocks a class is to have where nobody says otherwise; a choice, not a law."""


@dataclass(frozen=True)
class Suggestion:
    """Bins that a data set can fill, and why these; printed, the reason in words."""

    policy: str  # fine, dynamic or coarse
    max_count: int  # m to give with it
    limit: int  # the label correction's m, (r // s)²
    block_size_px: int
    min_blocks: int
    sizes: tuple[int, ...]  # blocks in each class
    error: float  # RMSE in people of a block whose class is known for certain

    @property
    def bins(self) -> Bins:
        """The suggested bins."""
        return make_bins(self.policy, self.max_count)

    def __str__(self) -> str:
        bins, rarest = self.bins, int(np.argmin(self.sizes))
        if bins.open_from < self.limit:
            bound = (
                f"A block of {self.block_size_px} px shows at most {self.limit} people, but too few "
                f"blocks of this data set hold that many: above {bins.open_from} no more classes of "
                f"{self.min_blocks} blocks can be made"
            )
        else:
            bound = (
                f"A block of {self.block_size_px} px shows at most {self.limit} people, and enough "
                "blocks of this data set hold that many"
            )
        why = {
            "fine": "every count below has enough blocks of its own, so none need share a class",
            "dynamic": "small counts have enough blocks of their own, larger ones only in pairs",
            "coarse": "counts above 0 have enough blocks only in pairs",
        }[self.policy]
        return (
            f"{self.policy}, m = {self.max_count}: {bins}\n"
            f"{bound}; {why}. The rarest class, {bins.items[rarest]}, has "
            f"{self.sizes[rarest]} blocks. A block whose class is known is then "
            f"wrong by {self.error:.3f} people (RMSE over all blocks, counts capped at {self.limit})."
        )


def suggest(
    histogram: np.ndarray,
    block_size_px: int,
    min_person_px: int = 4,
    min_blocks: int = MIN_BLOCKS,
) -> Suggestion:
    """The integer-valued bins that a data set can fill and that lose least.

    Among fine, dynamic and coarse bins for every m up to the label correction's (r // s)², those
    whose every class has ``min_blocks`` training blocks are kept; of these, the ones by which a
    perfect classifier with mean representatives (Eq. 2) errs least on a block are suggested. That is
    fine bins where every count has enough blocks, dynamic or coarse ones where only pairs have, and a
    smaller m where the tail is too thin. Ties go to the finer policy and the smaller m.

    Parameters
    ----------
    histogram : array, shape (largest count + 1,)
        How many training blocks hold 0, 1, 2, … people (`blocks.histogram`).
    block_size_px : r, the blocks' side
    min_person_px : s, the side of the smallest person one can recognise
    min_blocks : the fewest blocks a class may have

    Raises
    ------
    ValueError : not even the two classes "nobody" and "somebody" have enough blocks
    """
    limit = most_people(block_size_px, min_person_px)
    capped = _capped(np.asarray(histogram), limit)
    best: tuple[float, str, int, np.ndarray] | None = None
    for policy in ("fine", "dynamic", "coarse"):
        for m in range(1, limit + 1):
            bins = make_bins(policy, m)
            sizes = bins.sizes(capped)
            if sizes.min() < min_blocks:
                continue
            error = _error(bins, capped)
            if best is None or error < best[0] - 1e-12:
                best = error, policy, m, sizes
    if best is None:
        raise ValueError(
            f"{int(capped[0])} blocks hold nobody and {int(capped[1:].sum())} somebody; "
            f"a class needs {min_blocks}. Use more images, smaller blocks than {block_size_px} "
            "px, or a smaller min_blocks."
        )
    error, policy, m, sizes = best
    sizes = tuple(int(size) for size in sizes)
    return Suggestion(policy, m, limit, block_size_px, min_blocks, sizes, error)


def _capped(histogram: np.ndarray, limit: int) -> np.ndarray:
    """The histogram after label correction, shape (limit + 1,): counts above the limit are the limit."""
    capped = np.zeros(limit + 1)
    counts = np.minimum(np.arange(len(histogram)), limit)
    np.add.at(capped, counts, histogram)
    return capped


def _error(bins: Bins, histogram: np.ndarray) -> float:
    """RMSE in people, per block, of representing each block by the mean of its class."""
    counts = np.arange(len(histogram))
    apart = counts - bins.representatives(histogram)[bins.classes(counts)]
    return float(np.sqrt((histogram * apart**2).sum() / histogram.sum()))
