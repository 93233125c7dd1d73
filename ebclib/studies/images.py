"""Which images of a split to look at, and what runs say of the same ones."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from ebclib.config import one_of
from ebclib.runs import Run


def pick_images(
    names: Sequence[str],
    counts: Sequence[int],
    number: int = 6,
    wanted: Sequence[str] | None = None,
) -> list[int]:
    """Indices of ``number`` images whose counts grow by even factors (paper, Fig. 6), or of given ones.

    Counts are spread so unevenly that even steps in rank would show sparse images only. No image
    is taken twice; the first and the last are the split's extremes.

    Parameters
    ----------
    names, counts : of the split's images
    number : how many, at least 2; all where there are fewer
    wanted : names, taken in this order instead

    Raises
    ------
    ValueError : a name that is not there (the nearest is given), or fewer than two images asked for

    >>> pick_images("abcde", [100, 0, 9, 10, 1000], number=3)
    [1, 3, 4]
    """
    if wanted is not None:
        return [list(names).index(one_of("image", name, names)) for name in wanted]
    if number < 2:
        raise ValueError(
            f"images is {number}; from the sparsest to the most congested are at least 2."
        )
    order = np.argsort(counts, kind="stable")
    levels = np.log1p(np.asarray(counts, dtype=float)[order])
    last = len(order) - 1
    number = min(number, len(order))
    chosen: list[int] = []
    for k, level in enumerate(np.linspace(levels[0], levels[-1], number)):
        low = chosen[-1] + 1 if chosen else 0
        high = last - (number - 1 - k)  # leave one for each that is still to come
        nearest = low + int(np.argmin(np.abs(levels[low : high + 1] - level)))
        chosen.append(last if k == number - 1 else nearest)
    return [int(order[place]) for place in chosen]


def predictions_of(runs: Sequence[Run]) -> dict[str, pd.DataFrame]:
    """The predictions of runs on the same images, by the runs' names.

    Raises
    ------
    ValueError : runs that were measured on other images than the first one
    FileNotFoundError : a run without predictions
    """
    found = {run.name: run.predictions for run in runs}
    (first, one), *rest = found.items()
    for name, other in rest:
        if not one[["image", "points"]].equals(other[["image", "points"]]):
            raise ValueError(
                f"Run {name!r} was measured on other images than {first!r}; choose one of the same "
                "data set and split."
            )
    return found
