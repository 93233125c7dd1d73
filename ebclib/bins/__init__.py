"""Counts to classes, and what each class stands for.

`make_bins` makes the bins of a policy, `Bins` says which class a count has and what the class stands
for, `suggest` says which bins a data set can fill.
"""

from ebclib.bins.binning import Bin, Bins, Interval
from ebclib.bins.policies import (
    INTERVALS,
    NOBODY_BELOW,
    POLICIES,
    coarse,
    dynamic,
    fine,
    interval,
    make_bins,
)
from ebclib.bins.suggestion import MIN_BLOCKS, Suggestion, suggest

__all__ = [
    "INTERVALS",
    "MIN_BLOCKS",
    "NOBODY_BELOW",
    "POLICIES",
    "Bin",
    "Bins",
    "Interval",
    "Suggestion",
    "coarse",
    "dynamic",
    "fine",
    "interval",
    "make_bins",
    "suggest",
]
