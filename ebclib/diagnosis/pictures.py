"""Which pictures of a split to look at: from the sparsest to the most congested, or by name."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ebclib.choices import choose


def pick_pictures(
    names: Sequence[str],
    counts: Sequence[int],
    number: int = 6,
    wanted: Sequence[str] | None = None,
) -> list[int]:
    """Indices of ``number`` pictures whose counts grow by even factors (paper, Fig. 6), or of given ones.

    Counts are spread so unevenly that even steps in rank would show sparse pictures only. No picture
    is taken twice; the first and the last are the split's extremes.

    Parameters
    ----------
    names, counts : of the split's pictures
    number : how many, at least 2; all where there are fewer
    wanted : names, taken in this order instead

    Raises
    ------
    ValueError : a name that is not there (the nearest is given), or fewer than two pictures asked for

    >>> pick_pictures("abcde", [100, 0, 9, 10, 1000], number=3)
    [1, 3, 4]
    """
    if wanted is not None:
        return [list(names).index(choose("picture", name, names)) for name in wanted]
    if number < 2:
        raise ValueError(
            f"pictures is {number}; from the sparsest to the most congested are at least 2."
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
