"""A model against the truth, block by block: sums of every image of a split are kept, and no maps."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from scipy.spatial import KDTree
from torch import nn

from ebclib.bins import Bins
from ebclib.blocks import block_counts, grid_shape, smoothed_counts
from ebclib.data import PreparedSplit
from ebclib.evaluation.windows import inner_bar, predict_map
from ebclib.models import BlockwiseModel
from ebclib.studies.groups import wilson

SPACING_PX = (0.0, 8.0, 12.0, 16.0, 24.0, 32.0, 48.0, 64.0, 96.0, np.inf)
"""Borders of the ranges of spacing that errors are summed over, pixels."""

NEIGHBOURS = 3
"""The heads whose mean distance is taken; one alone is too often the same person's second point."""

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
    model: nn.Module,
    split: PreparedSplit,
    bins: Bins | None,
    network: BlockwiseModel | None = None,
    smoothing_px: float | None = None,
    progress: str | None = None,
) -> Diagnosis:
    """Compare a model with the truth, block by block, one image after the other.

    Parameters
    ----------
    model : images → logits; a `BlockwiseModel`, or one wrapped for a device or precision
    bins : the model's (`TrainingSet.bins`); None for a regression model
    network : the `BlockwiseModel` inside ``model`` where it is wrapped
    smoothing_px : of the labels that interval bins are the classes of (`Config.smoothing_px`)
    progress : what the progress bar says; None shows none

    Raises
    ------
    ValueError : a split without labels or images, or bins that are not the model's
    """
    network = network or model
    n, r, device = (
        len(network.representatives),
        network.block_size_px,
        network.representatives.device,
    )
    if not len(split) or not getattr(split, "is_labelled", True):
        raise ValueError(f"{split!r} has no labels or no images: there is nothing to compare with.")
    if network.is_regression:
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
        maps = predict_map(model, pixels, network, probabilities=bins is not None)
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
