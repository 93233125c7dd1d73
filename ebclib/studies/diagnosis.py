"""Where a model errs: sums over the blocks of every image, and errors by groups of images and of blocks.

Each error comes with how far chance could have moved it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pandas as pd
import torch
from scipy.spatial import KDTree
from scipy.stats import binomtest

from ebclib.bins import Bins
from ebclib.blocks import block_counts, grid_shape, smoothed_counts
from ebclib.config import one_of
from ebclib.data import PreparedSplit
from ebclib.evaluation.windows import inner_bar, predict_map
from ebclib.models import BlockwiseModel

DRAWS = 1000  # bootstrap samples of the images behind an interval
NEIGHBOURS = 3  # of a head's spacing; one alone is too often the same person's second point
SPACING_PX = (0.0, 8.0, 12.0, 16.0, 24.0, 32.0, 48.0, 64.0, 96.0, np.inf)
"""Borders of the ranges of spacing that errors are summed over, pixels."""

CELLS = np.arange(16) / 15  # borders of probability of the calibration error: 15 cells, as is usual
STEPS = np.concatenate([[0.0], np.geomspace(1e-5, 1, 16)])  # and of the reliability diagram
EDGES = np.union1d(CELLS, STEPS)  # all that sums are kept for


@dataclass(frozen=True)
class Diagnosis:
    """What a model says of a split, against what is there; the last three are None for regression.

    Attributes
    ----------
    images : one row per image: ``image``, ``points`` and ``count`` (people annotated and predicted),
        ``spacing`` (the median person's, pixels), ``count_in_empty_blocks``, ``absolute`` (Σ over blocks
        of |predicted − annotated|)
    blocks : sums over each image's blocks of like people and spacing: ``image``, ``people_in_block``,
        ``spacing`` (an interval of `SPACING_PX`; nan in an image of fewer than two people), ``blocks``,
        ``people``, ``predicted``, ``absolute``
    windows : `window_errors` of each ``image``
    confusion : int64 (N, N), blocks by true class (rows) and likeliest class (columns)
    expected : float64 (N, N), their summed probabilities by true class (rows) and class (columns)
    calibration : (N + 1, cells, 3), `reliability_sums`
    """

    images: pd.DataFrame
    blocks: pd.DataFrame
    windows: pd.DataFrame
    confusion: np.ndarray | None = None
    expected: np.ndarray | None = None
    calibration: np.ndarray | None = None


@torch.inference_mode()
def diagnose(
    model: BlockwiseModel,
    split: PreparedSplit,
    bins: Bins | None,
    smoothing_px: float | None = None,
    progress: str | None = None,
) -> Diagnosis:
    """Compare a model with the truth, block by block, one image after the other.

    Parameters
    ----------
    bins : the model's (`TrainingSet.bins`); None for a regression model
    smoothing_px : of the labels that interval bins are the classes of (`Config.smoothing_px`)
    progress : what the progress bar says; None shows none

    Raises
    ------
    ValueError : a split without labels or images, or bins that are not the model's
    """
    n, r, device = len(model.representatives), model.block_size_px, model.representatives.device
    if not len(split) or not getattr(split, "is_labelled", True):
        raise ValueError(f"{split!r} has no labels or no images: there is nothing to compare with.")
    if model.is_regression:
        bins = None
    elif bins is None or len(bins) != n or (not bins.is_integer and smoothing_px is None):
        raise ValueError(
            f"The model has {n} bins; got {bins} and smoothing_px {smoothing_px}. Interval bins need "
            "smoothing; TrainingSet.of(run.config).bins has a run's own bins."
        )
    model.eval()
    images, tables, windows, sums = [], [], [], []
    for index in inner_bar(range(len(split)), progress, "image"):
        sample = split[index]
        points, size = sample.points, sample.image.shape[:2]
        pixels = torch.from_numpy(np.array(sample.image)).permute(2, 0, 1).to(device)
        maps = predict_map(model, pixels, probabilities=bins is not None)
        density = maps.density.double().cpu().numpy()  # (h, w)
        counts = block_counts(points, *size, r)
        table = _block_sums(density, counts, block_spacing(points, *size, r))
        empty, spacing = table["people_in_block"] == 0, local_spacing(points)
        row = {"image": sample.name, "points": len(points), "count": table["predicted"].sum()}
        row["spacing"] = np.median(spacing) if len(spacing) > 1 else np.nan
        row["count_in_empty_blocks"] = table["predicted"][empty].sum()
        images.append(row | {"absolute": table["absolute"].sum()})
        tables.append(table.assign(image=sample.name))
        windows.append(window_errors(density - counts, r).assign(image=sample.name))
        if bins is not None:
            p = maps.probabilities.double().cpu().numpy()  # (N, h, w)
            if smoothing_px is not None:
                counts = smoothed_counts(points, *size, r, smoothing_px)
            classes = bins.classes(counts)
            sums.append((*_class_sums(p, classes), reliability_sums(p, classes)))
    found = [pd.concat(frames, ignore_index=True) for frames in (tables, windows)]
    return Diagnosis(pd.DataFrame(images), *found, *map(sum, zip(*sums, strict=True)))


def _block_sums(density: np.ndarray, counts: np.ndarray, spacing: np.ndarray) -> pd.DataFrame:
    """An image's rows of `Diagnosis.blocks`, from its blocks (h, w) as predicted and as annotated."""
    frame = pd.DataFrame(
        {
            "people_in_block": counts.ravel(),
            "spacing": pd.cut(spacing.ravel(), SPACING_PX, right=False),
            "blocks": 1,
            "people": counts.ravel(),
            "predicted": density.ravel(),
            "absolute": np.abs(density - counts).ravel(),
        }
    )
    keys = ["people_in_block", "spacing"]
    return frame.groupby(keys, observed=True, dropna=False).sum().reset_index()


def window_errors(error: np.ndarray, block_size_px: int) -> pd.DataFrame:
    """Σ |error| over windows of r, 2r, 4r, … pixels, to one window that covers the image.

    ``error``, (h, w), is people predicted minus people there, of each block.

    >>> window_errors(np.array([[1.0, -1.0, 0.5]]), 8)["absolute"].tolist()
    [2.5, 0.5, 0.5]
    """
    sides, sums = [block_size_px], [np.abs(error).sum()]
    while max(error.shape) > 1:
        error = np.pad(error, [(0, side % 2) for side in error.shape])
        h, w = error.shape
        error = error.reshape(h // 2, 2, w // 2, 2).sum(axis=(1, 3))  # (h / 2, w / 2)
        sides.append(sides[-1] * 2)
        sums.append(np.abs(error).sum())
    return pd.DataFrame({"side_px": sides, "absolute": sums})


def local_spacing(points: np.ndarray, neighbours: int = NEIGHBOURS) -> np.ndarray:
    """The mean distance from each person to the nearest ``neighbours`` others: (n, 2) → (n,), pixels.

    It stands in for the size of heads (Zhang et al. 2016, Sec. 2.2); nan for somebody alone.

    >>> local_spacing(np.array([[0.0, 0.0], [0.0, 3.0], [4.0, 0.0]]), neighbours=1)
    array([3., 3., 4.])
    """
    others = min(neighbours, len(points) - 1)
    if others < 1:
        return np.full(len(points), np.nan)
    distance, _ = KDTree(points).query(points, k=others + 1)  # the first is the person, at 0
    return distance[:, 1:].mean(axis=1)


def block_spacing(
    points: np.ndarray, height: int, width: int, block_size_px: int, neighbours: int = NEIGHBOURS
) -> np.ndarray:
    """The local spacing of the person nearest to each block's centre: (h, w), pixels; nan of fewer than 2."""
    h, w = grid_shape(height, width, block_size_px)
    if len(points) < 2:
        return np.full((h, w), np.nan)
    row, column = np.indices((h, w)).reshape(2, -1)  # (h·w,) each
    centres = (np.stack([column, row], axis=1) + 0.5) * block_size_px  # (h·w, 2), x and y
    _, nearest = KDTree(points).query(centres)
    return local_spacing(points, neighbours)[nearest].reshape(h, w)


def _class_sums(probabilities: np.ndarray, classes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """An image's ``confusion`` and ``expected`` (`Diagnosis`), from (N, h, w) and (h, w)."""
    n = len(probabilities)
    p, truth = probabilities.reshape(n, -1), np.ravel(classes)
    confusion = np.bincount(truth * n + p.argmax(axis=0), minlength=n * n).reshape(n, n)
    return confusion, np.stack([np.bincount(truth, row, minlength=n) for row in p], axis=1)


def reliability_sums(probabilities: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """What calibration is computed from, summed over blocks; sums of several images add up.

    ``probabilities`` are (N, …), of each class in each block; ``classes``, (…), those that blocks have.
    Gives float64 (N + 1, len(`EDGES`) − 1, 3): for each class, and last for the likeliest one, and each
    cell of probability: blocks, the sum of their probabilities, and how many of them have that class.
    """
    n, cells = len(probabilities), len(EDGES) - 1
    p = np.asarray(probabilities, dtype=np.float64).reshape(n, -1)  # (N, blocks)
    truth = np.ravel(classes)
    hit = np.concatenate([np.arange(n)[:, None] == truth, (p.argmax(axis=0) == truth)[None]])
    p = np.concatenate([p, p.max(axis=0)[None]])  # (N + 1, blocks)
    cell = np.searchsorted(EDGES[1:-1], p, side="right") + cells * np.arange(n + 1)[:, None]
    weights = (None, p.ravel(), hit.ravel())
    sums = [np.bincount(cell.ravel(), each, (n + 1) * cells) for each in weights]
    return np.stack(sums, axis=-1).reshape(n + 1, cells, 3)


def _merged(sums: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """Sums of the wider cells between ``edges``, which are some of `EDGES`: (3, N + 1, len(edges) − 1)."""
    starts = np.searchsorted(EDGES, edges[:-1] - 1e-12)
    return np.moveaxis(np.add.reduceat(sums, starts, axis=1), -1, 0)


def calibration_error(sums: np.ndarray) -> np.ndarray:
    """The expected calibration error, Σ_cells blocks/all · |share that has the class − mean probability|.

    Of each class (Kull et al. 2019), and last of the likeliest, the usual ECE (Guo et al. 2017, Eq. 3):
    float64 (N + 1,), each in [0, 1]. ``sums`` are `reliability_sums`.
    """
    blocks, probability, hits = _merged(sums, CELLS)
    return np.abs(hits - probability).sum(axis=-1) / blocks.sum(axis=-1)


def reliability(sums: np.ndarray, names: list[str]) -> pd.DataFrame:
    """The reliability diagram's numbers: a row for each class (``names``), and ``top``, and cell with blocks.

    Columns are ``class`` (``top``: the likeliest of each block), ``blocks``, ``probability`` (their mean),
    ``share`` (of them that has the class), ``share_low`` and ``share_high`` (Wilson's 95 % interval).
    """
    blocks, probability, hits = _merged(sums, STEPS)
    row, cell = np.nonzero(blocks)
    here = blocks[row, cell]
    table = pd.DataFrame({"class": np.array([*names, "top"], dtype=object)[row]})
    table = table.assign(blocks=here.astype(int), probability=probability[row, cell] / here)
    return table.assign(**wilson("share", hits[row, cell], here))


def class_table(sums: np.ndarray, confusion: np.ndarray, bins: Bins) -> pd.DataFrame:
    """A row a bin, from `Diagnosis.calibration` and `Diagnosis.confusion`.

    Columns are ``blocks`` (that have the class), ``expected`` (the sum of its probabilities), ``said`` (the
    blocks where it is the likeliest), ``recall``, ``precision``, ``calibration_error``.
    """
    there, said, right = confusion.sum(axis=1), confusion.sum(axis=0), np.diag(confusion)
    with np.errstate(invalid="ignore"):
        shares = {"recall": right / there, "precision": right / said}
    counts = {"blocks": there, "expected": sums[:-1, :, 1].sum(axis=1), "said": said}
    index = pd.Index([str(item) for item in bins.items], name="bin")
    last = {"calibration_error": calibration_error(sums)[:-1]}
    return pd.DataFrame(counts | shares | last, index=index)


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
    group = pd.cut(blocks["people_in_block"], [*lows, np.inf], right=False, labels=names)
    return _block_groups(blocks, group.rename("people in block"), seed)


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
    return _block_groups(there, group.rename_categories(names).rename("spacing (px)"), seed)


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


def _block_groups(blocks: pd.DataFrame, group: pd.Series, seed: int) -> pd.DataFrame:
    """The table of `by_range` and `by_spacing`; ``group``, a row of ``blocks`` each."""
    values = ["blocks", "people", "predicted", "absolute"]
    sums = blocks.groupby(["image", group], observed=True)[values].sum().unstack(fill_value=0)
    table = pd.DataFrame({value: sums[value].sum() for value in values})
    for share, value in (("blocks", "blocks"), ("people", "people"), ("error", "absolute")):
        table[f"share_of_{share}"] = table[value] / table[value].sum()
    count, people, predicted = (sums[value].to_numpy() for value in values[:3])  # (images, groups)
    table = table.assign(
        **_ratios("per_block", predicted, count, seed),
        **_ratios("relative", predicted - people, people, seed),
    )
    return table.set_axis(table.index.astype(str)).rename_axis(group.name)


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
    low, high = ends.to_numpy()
    return {name: estimate.where(known).to_numpy(), f"{name}_low": low, f"{name}_high": high}


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
