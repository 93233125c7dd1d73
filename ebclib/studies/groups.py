"""Errors by groups of images and of blocks, each with how far chance could have moved it."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from scipy.stats import binomtest

from ebclib.config import one_of
from ebclib.runs import Run

if TYPE_CHECKING:
    from ebclib.studies.diagnosis import Diagnosis

DRAWS = 1000
"""Bootstrap samples of the images behind an interval."""


def by_people(predictions: pd.DataFrame, groups: int = 6, seed: int = 0) -> pd.DataFrame:
    """Errors and coverage of images, in groups of about equally many with like numbers of people.

    ``predictions`` are `Run.predictions`. Fewer ``groups`` are made where many images hold equally many.
    Gives a row a group, named by its people ("13–58"): ``images``, ``people`` (their mean), ``mae`` and
    ``bias`` (mean of predicted − annotated, people), ``relative`` (mae / people; nan where nobody is),
    ``inside`` (the share of images inside their interval). Each of the last four has columns
    ``_low`` and ``_high``, the ends of a 95 % interval: bootstrap over images; Wilson's for the share.
    """
    points = predictions["points"].to_numpy()
    error = predictions["count"].to_numpy() - points
    edges = np.unique(np.quantile(points, np.linspace(0, 1, groups + 1)[1:-1]))
    place = np.unique(np.searchsorted(edges, points), return_inverse=True)[1]
    member = np.eye(place.max() + 1)[place]  # (images, groups)
    images = member.sum(axis=0)
    names = [_range(points[rows].min(), points[rows].max()) for rows in member.T.astype(bool)]
    table = pd.DataFrame(
        {"images": images.astype(int), "people": points @ member / images},
        index=pd.Index(names, name="people annotated"),
    )
    parts = {"mae": (np.abs(error), 1), "bias": (error, 1), "relative": (np.abs(error), points)}
    for name, (top, bottom) in parts.items():
        sums = [np.broadcast_to(side, len(points))[:, None] * member for side in (top, bottom)]
        table = table.assign(**_ratios(name, *sums, seed))
    if "lower" not in predictions or predictions["lower"].isna().all():
        return table
    inside = predictions["points"].between(predictions["lower"], predictions["upper"]).to_numpy()
    return table.assign(**wilson("inside", inside @ member, images))


def by_range(blocks: pd.DataFrame, seed: int = 0) -> pd.DataFrame:
    """Errors of blocks (`Diagnosis.blocks`) by how many people they hold: 0, 1, 2, 3, 4–7, 8–15, …

    Gives a row a range that has blocks: ``blocks``, ``people``, ``predicted``, ``absolute`` (sums), the
    ``share_of_`` all ``blocks``, ``people`` and ``error`` (absolute) that is in it, ``per_block`` (people
    predicted in one) and ``relative`` ((predicted − people) / people; nan for empty blocks), these two
    with the ends ``_low`` and ``_high`` of a 95 % interval, bootstrap over images.
    """
    largest = int(blocks["people_in_block"].max())
    lows = [low for low in (*range(4), *2 ** np.arange(2, 31)) if low <= largest]
    names = [_range(low, high - 1) for low, high in pairwise([*lows, largest + 1])]
    place = np.searchsorted(lows, blocks["people_in_block"], side="right") - 1
    group = pd.Categorical.from_codes(place, names, ordered=True)
    return _block_groups(blocks, group, "people in block", seed)


def by_spacing(blocks: pd.DataFrame, seed: int = 0) -> pd.DataFrame:
    """`by_range`, by how far apart people stand around a block (`diagnosis.block_spacing`).

    Blocks of images with fewer than two people have no spacing and are left out.
    """
    there = blocks[blocks["spacing"].notna()]
    group = there["spacing"].cat.remove_unused_categories().cat
    names = [
        f"≥ {span.left:g}" if np.isinf(span.right) else f"{span.left:g}–{span.right:g}"
        for span in group.categories
    ]
    return _block_groups(there, group.rename_categories(names).array, "spacing (px)", seed)


def by_window(windows: pd.DataFrame, seed: int = 0) -> pd.DataFrame:
    """What of the error remains when people are counted in larger and larger windows.

    A row a side (``side_px``), from the block's to the whole image, where it is the MAE (GAME of
    Guerrero-Gómez-Olmo et al. 2015): ``error``, the mean over images of `Diagnosis.windows`, and the ends
    ``error_low`` and ``error_high`` of a 95 % interval, bootstrap over images.
    """
    wide = windows.pivot(index="image", columns="side_px", values="absolute").ffill(axis=1)
    table = pd.DataFrame(index=wide.columns)
    return table.assign(**_ratios("error", wide.to_numpy(), np.ones(wide.shape), seed))


def _range(low: float, high: float) -> str:
    return f"{low:g}" if low == high else f"{low:g}–{high:g}"


def _block_groups(
    blocks: pd.DataFrame, group: pd.Categorical, name: str, seed: int
) -> pd.DataFrame:
    """The table of `by_range` and `by_spacing`; ``group``, a row of ``blocks`` each."""
    values = ["blocks", "people", "predicted", "absolute"]
    keys = ["image", pd.Series(group, index=blocks.index, name=name)]
    sums = blocks.groupby(keys, observed=True)[values].sum().unstack(fill_value=0)
    table = pd.DataFrame({value: sums[value].sum() for value in values})
    for share, value in (("blocks", "blocks"), ("people", "people"), ("error", "absolute")):
        table[f"share_of_{share}"] = table[value] / table[value].sum()
    count, people, predicted = (sums[value].to_numpy() for value in values[:3])  # (images, groups)
    table = table.assign(
        **_ratios("per_block", predicted, count, seed),
        **_ratios("relative", predicted - people, people, seed),
    )
    return table.set_axis(table.index.astype(str)).rename_axis(name)


def _ratios(name: str, top: np.ndarray, bottom: np.ndarray, seed: int) -> dict[str, np.ndarray]:
    """Σ top / Σ bottom over images, and the ends of its 95 % bootstrap interval: (P, G) → (G,) each.

    Whole images are drawn, since blocks of one image err together.
    """
    rng = np.random.default_rng(seed)
    often = rng.multinomial(len(top), np.full(len(top), 1 / len(top)), size=DRAWS)  # (draws, P)
    with np.errstate(divide="ignore", invalid="ignore"):
        drawn = pd.DataFrame((often @ top) / (often @ bottom))  # (draws, G)
        estimate = pd.Series(top.sum(axis=0) / bottom.sum(axis=0))
    known = np.isfinite(estimate)
    ends = drawn.where(np.isfinite(drawn)).quantile([0.025, 0.975]).where(known, axis=1)
    values = estimate.where(known), *(ends.loc[end] for end in ends.index)
    return {
        f"{name}{end}": v.to_numpy() for end, v in zip(("", "_low", "_high"), values, strict=True)
    }


def wilson(name: str, hits: np.ndarray, of: np.ndarray) -> dict[str, list[float]]:
    """Columns ``name``, ``name_low``, ``name_high``: hits / of (G,), and Wilson's 95 % interval."""
    tests = [binomtest(int(k), int(n)) for k, n in zip(hits, of, strict=True)]
    ends = [test.proportion_ci(method="wilson") for test in tests]
    return {
        name: [test.statistic for test in tests],
        f"{name}_low": [end.low for end in ends],
        f"{name}_high": [end.high for end in ends],
    }


def suspect_annotations(found: Diagnosis, most: int = 5, window_px: int = 64) -> pd.DataFrame:
    """The ``most`` images whose annotation a model believes least.

    People are compared in windows of ``window_px``, or of the next smaller side that an image has.
    Gives ``image``, ``points``, ``count``, ``misplaced`` (Σ over windows of |predicted − annotated|, as a
    share of the people predicted and annotated; Bray and Curtis 1957) and ``doubt``, by which they are
    ranked: that share with an average image rightly counted beside it.
    """
    windows = found.windows
    near = windows[windows["side_px"] <= max(window_px, windows["side_px"].min())]
    wrong = near.loc[near.groupby("image")["side_px"].idxmax()].set_index("image")["absolute"]
    images = found.images.set_index("image")[["points", "count"]]
    people = images.sum(axis=1)
    shares = {"misplaced": wrong / people, "doubt": wrong / (people + people.mean())}
    return images.assign(**shares).nlargest(most, "doubt").reset_index()


def pick_images(
    names: Sequence[str],
    counts: Sequence[int],
    number: int = 6,
    wanted: Sequence[str] | None = None,
) -> list[int]:
    """Indices of ``number`` images whose counts grow by even factors (paper, Fig. 6), or of given ones.

    No image is taken twice, so there may be fewer; the first and the last are the split's extremes.

    Raises
    ------
    ValueError : a ``wanted`` name that is not there, or fewer than two images asked for

    >>> pick_images("abcde", [100, 0, 9, 10, 1000], number=3)
    [1, 3, 4]
    """
    if wanted is not None:
        return [list(names).index(one_of("image", name, names)) for name in wanted]
    if number < 2:
        raise ValueError(f"images is {number}; give at least 2.")
    order = np.argsort(counts, kind="stable")
    levels = np.log1p(np.asarray(counts, dtype=float)[order])
    wanted_levels = np.linspace(levels[0], levels[-1], number)[:, None]
    nearest = np.unique(np.abs(levels - wanted_levels).argmin(axis=1))
    return order[nearest].tolist()


def predictions_of(runs: Sequence[Run]) -> dict[str, pd.DataFrame]:
    """The predictions of runs, by the runs' names; ValueError where they are of different images."""
    found = {run.name: run.predictions for run in runs}
    (first, one), *rest = found.items()
    for name, other in rest:
        if not one[["image", "points"]].equals(other[["image", "points"]]):
            raise ValueError(
                f"Run {name!r} was measured on other images than {first!r}; choose one of the same "
                "data set and split."
            )
    return found
