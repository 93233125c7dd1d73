"""One look at every picture of a split, of which sums are kept and no maps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from torch import nn
from tqdm import tqdm

from ebclib.bins import Bins
from ebclib.blocks import block_counts, smoothed_counts
from ebclib.datasets import PreparedSplit, Sample
from ebclib.diagnosis.calibration import reliability_sums
from ebclib.diagnosis.spacing import SPACING_PX, block_spacing, local_spacing
from ebclib.models import BlockwiseModel
from ebclib.windows import predict_map


@dataclass(frozen=True)
class Diagnosis:
    """What a model says of a split, against what is there.

    Attributes
    ----------
    pictures : a row a picture: ``image``, ``points`` and ``count`` (people annotated and predicted),
        ``spacing`` (the median person's, pixels), ``ghosts`` (people predicted in empty blocks),
        ``absolute`` (Σ over blocks of |predicted − annotated|)
    blocks : sums over each picture's blocks that hold equally many people in the same range of spacing;
        columns ``image``, ``people_in_block``, ``spacing`` (an interval of `SPACING_PX`; nan in a
        picture of fewer than two people), ``blocks``, ``people``, ``predicted``, ``absolute``
    confusion : int64 (N, N) blocks, the true class in rows, the likeliest in columns; None for a
        regression model, which has no classes
    calibration : (N + 1, FINE, 3), `reliability_sums`; None for a regression model
    """

    pictures: pd.DataFrame
    blocks: pd.DataFrame
    confusion: np.ndarray | None = None
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

    A picture's maps are gone when the next one comes; what is kept grows with the pictures, not with
    their blocks.

    Parameters
    ----------
    model : pictures → logits; a `BlockwiseModel`, or one wrapped for a device or precision
    split : prepared pictures with labels
    bins : the model's (`Task.bins`); None for a regression model
    network : the `BlockwiseModel` inside ``model`` where it is wrapped
    smoothing_px : of the labels that interval bins are the classes of (`Config.smoothing_px`)
    indices : which pictures; None takes all
    progress : what the progress bar says; None shows none

    Raises
    ------
    ValueError : a split without labels or pictures, or bins that are not the model's
    """
    network = network or model
    bins = None if network.is_regression else bins
    _check(split, bins, network, smoothing_px)
    device, was_training = network.representatives.device, model.training
    model.eval()
    pictures, tables, confusion, calibration = [], [], 0, 0
    chosen = range(len(split)) if indices is None else indices
    for index in tqdm(chosen, desc=progress, disable=progress is None, unit="picture", leave=False):
        sample = split[int(index)]
        pixels = torch.from_numpy(np.array(sample.picture)).permute(2, 0, 1).to(device)
        maps = predict_map(model, pixels, network, probabilities=bins is not None)
        table = _block_sums(sample, maps.density.double().cpu().numpy(), network.block_size_px)
        pictures.append(_picture_row(sample, table))
        tables.append(table)
        if bins is not None:
            p = maps.probabilities.double().cpu().numpy()  # (N, h, w)
            classes = bins.classes(_labels(sample, network.block_size_px, smoothing_px))
            calibration = calibration + reliability_sums(p, classes)
            pair = classes * len(bins) + p.argmax(axis=0)
            pairs = np.bincount(pair.ravel(), minlength=len(bins) ** 2)
            confusion = confusion + pairs.reshape(len(bins), -1)
    model.train(was_training)
    found = pd.DataFrame(pictures), pd.concat(tables, ignore_index=True)
    return Diagnosis(*found) if bins is None else Diagnosis(*found, confusion, calibration)


def _check(
    split: PreparedSplit, bins: Bins | None, network: BlockwiseModel, smoothing_px: float | None
) -> None:
    if not getattr(split, "is_labelled", True) or not len(split):
        raise ValueError(f"{split!r} has no labels or no pictures: there is nothing to compare with.")
    if network.is_regression:
        return
    n = len(network.representatives)
    if bins is None or len(bins) != n:
        raise ValueError(f"The model has {n} bins; got {bins}. Task.of(run.config).bins has its own.")
    if not bins.is_integer and smoothing_px is None:
        raise ValueError("Interval bins are classes of smoothed counts: give smoothing_px.")


def _labels(sample: Sample, block_size_px: int, smoothing_px: float | None) -> np.ndarray:
    """The counts that classes are of: whole, or smoothed."""
    height, width = sample.picture.shape[:2]
    if smoothing_px is None:
        return block_counts(sample.points, height, width, block_size_px)
    return smoothed_counts(sample.points, height, width, block_size_px, smoothing_px)


def _block_sums(sample: Sample, density: np.ndarray, block_size_px: int) -> pd.DataFrame:
    """A picture's rows of `Diagnosis.blocks`; ``density`` (h, w), people per block as predicted."""
    height, width = sample.picture.shape[:2]
    counts = block_counts(sample.points, height, width, block_size_px)
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


def _picture_row(sample: Sample, sums: pd.DataFrame) -> dict[str, float | str]:
    spacing = local_spacing(sample.points)
    return {
        "image": sample.name,
        "points": len(sample.points),
        "count": sums["predicted"].sum(),
        "spacing": np.median(spacing) if len(spacing) > 1 else np.nan,
        "ghosts": sums.loc[sums["people_in_block"] == 0, "predicted"].sum(),
        "absolute": sums["absolute"].sum(),
    }
