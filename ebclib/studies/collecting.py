"""One look at every image of a split, of which sums are kept and no maps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from torch import nn

from ebclib.bins import Bins
from ebclib.blocks import block_counts, smoothed_counts
from ebclib.data import PreparedSplit, Sample
from ebclib.evaluation.windows import inner_bar, predict_map
from ebclib.models import BlockwiseModel
from ebclib.studies.calibration import class_sums, reliability_sums
from ebclib.studies.spacing import SPACING_PX, block_spacing, local_spacing


@dataclass(frozen=True)
class Diagnosis:
    """What a model says of a split, against what is there.

    Attributes
    ----------
    images : one row per image: ``image``, ``points`` and ``count`` (people annotated and predicted),
        ``spacing`` (the median person's, pixels), ``count_in_empty_blocks`` (people predicted there),
        ``absolute`` (Σ over blocks of |predicted − annotated|)
    blocks : sums over each image's blocks that hold equally many people in the same range of spacing;
        columns ``image``, ``people_in_block``, ``spacing`` (an interval of `SPACING_PX`; nan in a
        image of fewer than two people), ``blocks``, ``people``, ``predicted``, ``absolute``
    windows : columns ``image``, ``side_px`` (r, 2r, 4r, … up to one window for the image) and
        ``absolute``, Σ over windows of that side of |predicted − annotated|
    confusion : int64 (N, N) blocks, the true class in rows, the likeliest in columns; None for a
        regression model, which has no classes
    expected : float64 (N, N), the summed probabilities of each class (columns) in the blocks of each
        true class (rows); None for a regression model
    calibration : (N + 1, cells, 3), `reliability_sums`; None for a regression model
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
    indices: Sequence[int] | None = None,
    progress: str | None = None,
) -> Diagnosis:
    """Compare a model with the truth, block by block.

    An image's maps are gone when the next one comes; what is kept grows with the images, not with
    their blocks.

    Parameters
    ----------
    model : images → logits; a `BlockwiseModel`, or one wrapped for a device or precision
    split : prepared images with labels
    bins : the model's (`TrainingSet.bins`); None for a regression model
    network : the `BlockwiseModel` inside ``model`` where it is wrapped
    smoothing_px : of the labels that interval bins are the classes of (`Config.smoothing_px`)
    indices : which images; None takes all
    progress : what the progress bar says; None shows none

    Raises
    ------
    ValueError : a split without labels or images, or bins that are not the model's
    """
    network = network or model
    bins = None if network.is_regression else bins
    _check(split, bins, network, smoothing_px)
    device, was_training = network.representatives.device, model.training
    model.eval()
    r = network.block_size_px
    images, tables, windows, sums = [], [], [], None
    chosen = range(len(split)) if indices is None else indices
    for index in inner_bar(chosen, progress, "image"):
        sample = split[int(index)]
        pixels = torch.from_numpy(np.array(sample.image)).permute(2, 0, 1).to(device)
        maps = predict_map(model, pixels, network, probabilities=bins is not None)
        density = maps.density.double().cpu().numpy()  # (h, w)
        counts = block_counts(sample.points, *sample.image.shape[:2], r)
        table = _block_sums(sample, density, counts, r)
        images.append(_image_row(sample, table))
        tables.append(table)
        windows.append(window_errors(density - counts, r).assign(image=sample.name))
        if bins is not None:
            p = maps.probabilities.double().cpu().numpy()  # (N, h, w)
            classes = bins.classes(_labels(sample, counts, r, smoothing_px))
            some = (*class_sums(p, classes), reliability_sums(p, classes))
            sums = some if sums is None else tuple(map(np.add, sums, some))
    model.train(was_training)
    found = [pd.concat(frames, ignore_index=True) for frames in (tables, windows)]
    return Diagnosis(pd.DataFrame(images), *found, *(sums or ()))


def window_errors(error: np.ndarray, block_size_px: int) -> pd.DataFrame:
    """Σ |error| over windows of r, 2r, 4r, … pixels, to one window that covers the image.

    Parameters
    ----------
    error : (h, w), people predicted minus people there, of each block

    Returns
    -------
    columns ``side_px``, ``absolute``

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


def _check(
    split: PreparedSplit, bins: Bins | None, network: BlockwiseModel, smoothing_px: float | None
) -> None:
    if not getattr(split, "is_labelled", True) or not len(split):
        raise ValueError(f"{split!r} has no labels or no images: there is nothing to compare with.")
    if network.is_regression:
        return
    n = len(network.representatives)
    if bins is None or len(bins) != n:
        raise ValueError(
            f"The model has {n} bins; got {bins}. TrainingSet.of(run.config).bins has its own."
        )
    if not bins.is_integer and smoothing_px is None:
        raise ValueError("Interval bins are classes of smoothed counts: give smoothing_px.")


def _labels(
    sample: Sample, counts: np.ndarray, block_size_px: int, smoothing_px: float | None
) -> np.ndarray:
    """The counts that classes are of: whole (``counts``), or smoothed."""
    if smoothing_px is None:
        return counts
    height, width = sample.image.shape[:2]
    return smoothed_counts(sample.points, height, width, block_size_px, smoothing_px)


def _block_sums(
    sample: Sample, density: np.ndarray, counts: np.ndarray, block_size_px: int
) -> pd.DataFrame:
    """An image's rows of `Diagnosis.blocks`; people per block as predicted and as annotated, (h, w)."""
    height, width = sample.image.shape[:2]
    spacing = block_spacing(sample.points, height, width, block_size_px)
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
    sums = frame.groupby(keys, observed=True, dropna=False).sum().reset_index()
    sums.insert(0, "image", sample.name)
    return sums


def _image_row(sample: Sample, sums: pd.DataFrame) -> dict[str, float | str]:
    spacing = local_spacing(sample.points)
    return {
        "image": sample.name,
        "points": len(sample.points),
        "count": sums["predicted"].sum(),
        "spacing": np.median(spacing) if len(spacing) > 1 else np.nan,
        "count_in_empty_blocks": sums.loc[sums["people_in_block"] == 0, "predicted"].sum(),
        "absolute": sums["absolute"].sum(),
    }
