"""How wrong a model is: predictions of whole pictures, MAE and RMSE, and intervals that say how sure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TypeVar

import numpy as np
import pandas as pd
import torch
from accelerate import PartialState
from accelerate.utils import gather_object
from torch import nn
from tqdm import tqdm

from .datasets import PreparedSplit
from .models import BlockwiseModel
from .windows import predict_map

COVERAGE = 0.9
"""The share of pictures that an interval is made to hold."""

_Values = TypeVar("_Values", float, pd.Series)


@torch.inference_mode()
def predict(
    model: nn.Module,
    split: PreparedSplit,
    indices: Sequence[int] | None = None,
    network: BlockwiseModel | None = None,
    progress: str | None = None,
    state: PartialState | None = None,
) -> pd.DataFrame:
    """Count the people in whole pictures, one after the other.

    Parameters
    ----------
    model : pictures → logits; a `BlockwiseModel`, or one wrapped for a device or precision
    split : prepared pictures
    indices : which of them; None takes all
    network : the `BlockwiseModel` inside ``model`` where it is wrapped
    progress : what the progress bar says; None shows none
    state : processes that share the pictures; every one calls this and gets all rows. None: this
        process counts them all

    Returns
    -------
    a row a picture, in the order asked for: ``image``, ``points`` (people annotated), ``count`` (people
    predicted) and ``deviation`` (people; the standard deviation if blocks erred independently, a scale
    and no more)
    """
    network = network or model
    device = network.representatives.device
    was_training = model.training
    model.eval()
    rows = []
    chosen = [int(i) for i in (range(len(split)) if indices is None else indices)]
    own = slice(state.process_index, None, state.num_processes) if state else slice(None)
    places = range(len(chosen))[own]
    for place in tqdm(places, desc=progress, disable=progress is None, unit="picture", leave=False):
        sample = split[chosen[place]]
        picture = torch.from_numpy(np.array(sample.picture)).permute(2, 0, 1).to(device)
        maps = predict_map(model, picture, network)
        rows.append(
            {
                "place": place,
                "image": sample.name,
                "points": len(sample.points),
                "count": maps.density.sum().item(),
                "deviation": maps.variance.sum().sqrt().item(),
            }
        )
    model.train(was_training)
    rows = sorted(gather_object(rows) if state else rows, key=lambda row: row["place"])
    return pd.DataFrame(rows, columns=["image", "points", "count", "deviation"])


def errors(points: Sequence[float], counts: Sequence[float]) -> dict[str, float]:
    """MAE and RMSE of counts, in people (paper, Eq. 4).

    >>> errors([10, 20], [13, 16])["mae"]
    3.5
    """
    if not len(points):
        raise ValueError("There is no picture to measure an error on.")
    difference = np.asarray(counts, dtype=np.float64) - np.asarray(points, dtype=np.float64)
    return {
        "mae": float(np.abs(difference).mean()),
        "rmse": float(np.sqrt(np.square(difference).mean())),
    }


def conformal_factor(held_out: pd.DataFrame, coverage: float = COVERAGE) -> float:
    """How many deviations an interval must reach to hold ``coverage`` of unseen pictures.

    Split-conformal prediction (Vovk et al. 2005; Lei et al. 2018, Sec. 5.2): the ⌈(n + 1)·coverage⌉-th
    smallest of |points − count| / (deviation + 1) over the n held-out pictures; infinite where n is too
    small to promise that coverage.

    Parameters
    ----------
    held_out : what `predict` returns for pictures the weights were not fitted to
    """
    scores = np.sort((held_out["points"] - held_out["count"]).abs() / (held_out["deviation"] + 1))
    rank = math.ceil((len(scores) + 1) * coverage)
    return float(scores[rank - 1]) if rank <= len(scores) else math.inf


def with_intervals(predictions: pd.DataFrame, factor: float) -> pd.DataFrame:
    """Columns image, points, count, lower, upper: `predict`'s rows with ``factor`` deviations each way."""
    lower, upper = interval(predictions["count"], predictions["deviation"], factor)
    return predictions.drop(columns="deviation").assign(lower=lower, upper=upper)


def interval(count: _Values, deviation: _Values, factor: float) -> tuple[_Values, _Values]:
    """Both ends of the interval that reaches ``factor`` deviations each way, never below nobody.

    >>> [float(end) for end in interval(10.0, 1.0, 3.0)]
    [4.0, 16.0]
    """
    reach = factor * (deviation + 1)
    return np.maximum(count - reach, 0), count + reach


def summarise(predictions: pd.DataFrame, training_counts: Sequence[float]) -> dict[str, float]:
    """A run's numbers: errors, the share of pictures inside their interval, and the mean predictor's MAE.

    Parameters
    ----------
    predictions : columns points, count, lower, upper
    training_counts : people in each training picture; their mean is the simplest predictor there is
    """
    points = predictions["points"]
    mean = np.full(len(points), np.mean(training_counts))
    return {
        **errors(points, predictions["count"]),
        "images": len(predictions),
        "inside_interval": float(points.between(predictions["lower"], predictions["upper"]).mean()),
        "mean_predictor_mae": errors(points, mean)["mae"],
        "mean_predictor_rmse": errors(points, mean)["rmse"],
    }
