"""How wrong a model is: predictions of whole images, MAE and RMSE, intervals, and where people stand."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TypeAlias, TypeVar, cast

import numpy as np
import pandas as pd
import torch
from accelerate import PartialState
from accelerate.utils import gather_object

from ebclib.data import PreparedSplit, Sample
from ebclib.evaluation.positions import DISTANCES_PX, find_positions, match
from ebclib.evaluation.windows import inner_bar, predict_map
from ebclib.models import BlockwiseModel

COVERAGE = 0.9
"""The share of images that an interval is made to hold."""

_Values = TypeVar("_Values", float, pd.Series)
_Counts: TypeAlias = Sequence[float] | np.ndarray | pd.Series


@torch.inference_mode()
def predict(
    model: BlockwiseModel,
    split: PreparedSplit,
    indices: Sequence[int] | np.ndarray | None = None,
    progress: str | None = None,
    state: PartialState | None = None,
    positions: bool = False,
) -> pd.DataFrame:
    """Count the people in whole images, one after the other.

    Parameters
    ----------
    split : prepared images
    indices : which of them; None takes all
    progress : what the progress bar says; None shows none
    state : processes that share the images; every one calls this and gets all rows. None: this
        process counts them all
    positions : find where the people are, too

    Returns
    -------
    one row per image, in the order asked for: ``image``, ``points`` (people annotated), ``count`` (people
    predicted), ``deviation`` (people; the standard deviation if blocks erred independently, a scale
    and no more); where asked for ``positions``, an array (n, 2) of x and y in pixels
    """
    device, was_training = model.representatives.device, model.training
    model.eval()
    rows = []
    chosen = [int(i) for i in (range(len(split)) if indices is None else indices)]
    own = slice(state.process_index, None, state.num_processes) if state else slice(None)
    places = range(len(chosen))[own]
    for place in inner_bar(places, progress, "image"):
        sample = cast(Sample, split[chosen[place]])
        image = torch.from_numpy(np.array(sample.image)).permute(2, 0, 1).to(device)
        maps = predict_map(model, image)
        row = {
            "place": place,
            "image": sample.name,
            "points": len(sample.points),
            "count": maps.density.sum().item(),
            "deviation": maps.variance.sum().sqrt().item(),
        }
        if positions:
            density, size = maps.density.float().cpu().numpy(), sample.image.shape[:2]
            row["positions"] = find_positions(density, model.block_size_px, size)
        rows.append(row)
    model.train(was_training)
    rows = sorted(gather_object(rows) if state else rows, key=lambda row: row["place"])
    columns = ["image", "points", "count", "deviation", *(["positions"] if positions else [])]
    return pd.DataFrame(rows, columns=columns)


def errors(points: _Counts, counts: _Counts) -> dict[str, float]:
    """MAE and RMSE of counts, in people (paper, Eq. 4), and NAE, a share.

    NAE is the mean of |count − people| / people over the images with somebody in them, as NWPU-Crowd
    has it; NaN where there is nobody in any.

    >>> errors([10, 20, 0], [13, 16, 2])
    {'mae': 3.0, 'rmse': 3.1091263510296048, 'nae': 0.25}
    """
    if not len(points):
        raise ValueError("There is no image to measure an error on.")
    people = np.asarray(points, dtype=np.float64)
    wrong = np.abs(np.asarray(counts, dtype=np.float64) - people)
    some = people > 0
    return {
        "mae": float(wrong.mean()),
        "rmse": float(np.sqrt(np.square(wrong).mean())),
        "nae": float((wrong[some] / people[some]).mean()) if some.any() else math.nan,
    }


def conformal_factor(held_out: pd.DataFrame, coverage: float = COVERAGE) -> float:
    """How many deviations an interval must reach to hold ``coverage`` of unseen images.

    Split-conformal prediction (Vovk et al. 2005; Lei et al. 2018, Sec. 5.2): the ⌈(n + 1)·coverage⌉-th
    smallest of |points − count| / (deviation + 1) over the n validation images; infinite where n is too
    small to promise that coverage. ``held_out`` is what `predict` returns for these images, to which the
    weights were not fitted.
    """
    scores = np.sort((held_out["points"] - held_out["count"]).abs() / (held_out["deviation"] + 1))
    rank = math.ceil((len(scores) + 1) * coverage)
    return float(scores[rank - 1]) if rank <= len(scores) else math.inf


def with_intervals(predictions: pd.DataFrame, factor: float) -> pd.DataFrame:
    """Columns image, points, count, lower, upper: `predict`'s rows with ``factor`` deviations each way.

    Where ``factor`` is infinite there is no interval: lower and upper are NaN.
    """
    factor = factor if math.isfinite(factor) else math.nan
    lower, upper = interval(predictions["count"], predictions["deviation"], factor)
    return predictions[["image", "points", "count"]].assign(lower=lower, upper=upper)


def interval(count: _Values, deviation: _Values, factor: float) -> tuple[_Values, _Values]:
    """Both ends of the interval that reaches ``factor`` deviations each way, never below nobody.

    >>> [float(end) for end in interval(10.0, 1.0, 3.0)]
    [4.0, 16.0]
    """
    reach = factor * (deviation + 1)
    return np.maximum(count - reach, 0), count + reach


def matches_table(
    predictions: pd.DataFrame,
    annotated: Sequence[np.ndarray],
    distances_px: Sequence[float] = DISTANCES_PX,
) -> pd.DataFrame:
    """Positions against people, a row for each image and distance: image, distance_px, tp, fp, fn.

    ``predictions`` have the columns image and positions, as `predict` gives them; ``annotated`` are the
    (m, 2) people of each image, from whom a point is at most ``distances_px`` away.
    """
    rows = []
    for distance in distances_px:
        found = zip(predictions["image"], predictions["positions"], annotated, strict=True)
        for image, points, people in found:
            hits = match(points, people, distance)
            rows.append((image, distance, hits, len(points) - hits, len(people) - hits))
    return pd.DataFrame(rows, columns=["image", "distance_px", "tp", "fp", "fn"])


def localisation(matches: pd.DataFrame) -> list[dict[str, float]]:
    """Precision, recall and F1 at each distance of a `matches_table`, over all its images together.

    A share of nothing is 1: nobody was missed where nobody is.

    >>> table = pd.DataFrame({"distance_px": [8.0, 8.0], "tp": [1, 1], "fp": [0, 1], "fn": [2, 0]})
    >>> localisation(table)[0]["recall"]
    0.5
    """
    sums = matches.groupby("distance_px")[["tp", "fp", "fn"]].sum()
    tp, fp, fn = sums["tp"], sums["fp"], sums["fn"]
    shares = {
        "precision": tp / (tp + fp),
        "recall": tp / (tp + fn),
        "f1": 2 * tp / (2 * tp + fp + fn),
    }
    table = pd.DataFrame(shares).fillna(1.0)
    return table.reset_index().astype(float).to_dict("records")


def summarise(predictions: pd.DataFrame, training_counts: _Counts) -> dict[str, float | None]:
    """A run's numbers: errors, the share of images inside their interval, and the mean predictor's MAE.

    None for what there is not: the share without intervals, and NAE of images without anybody.
    ``predictions`` have the columns points, count, lower and upper; the mean of ``training_counts``, the
    people in each training image, is the simplest predictor there is.
    """
    points = predictions["points"]
    mean = errors(points, np.full(len(points), np.mean(training_counts)))
    inside = points.between(predictions["lower"], predictions["upper"]).mean()
    numbers = {
        **errors(points, predictions["count"]),
        "images": len(predictions),
        "inside_interval": float(inside) if predictions["lower"].notna().any() else None,
        **{f"mean_predictor_{name}": value for name, value in mean.items()},
    }
    return {name: None if value != value else value for name, value in numbers.items()}
