"""Finished runs to the cells of a table: means over seeds, differences between methods."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy import stats

from ..runs import Run
from .plan import Table

MISSING = "–"
"""What a cell shows that no run has filled."""


def measured(table: Table) -> pd.DataFrame:
    """What the runs of a table measured: a row a run that is finished.

    Returns
    -------
    columns row, column, seed, run, dataset, split, images, epochs, minutes, device, and the errors in
    people: mae, rmse, mean_predictor_mae, and test_selected_mae where the run watched the test split
    """
    rows = []
    for cell in table.cells:
        if not cell.run.is_finished:
            continue
        metrics, config = cell.run.metrics, cell.config
        if cell.run.config != dataclasses.replace(config, name=cell.run.config.name):
            raise ValueError(
                f"{table.name}, {cell.row} × {cell.column}: the run {config.name} was trained with other "
                "parameters than its name says; delete its folder, and train it again."
            )
        rows.append(
            {
                "row": cell.row,
                "column": cell.column,
                "seed": config.seed,
                "run": config.name,
                "dataset": config.dataset,
                "split": metrics["split"],
                "images": metrics["images"],
                "epochs": metrics["epochs"],
                "minutes": metrics["training_minutes"],
                "device": cell.run.provenance["device"],
                "mae": metrics["mae"],
                "rmse": metrics["rmse"],
                "mean_predictor_mae": metrics["mean_predictor_mae"],
                "test_selected_mae": metrics.get("test_selected_mae", np.nan),
            }
        )
    columns = (
        "row column seed run dataset split images epochs minutes device mae rmse mean_predictor_mae "
        "test_selected_mae"
    )
    return pd.DataFrame(rows, columns=columns.split())


def pivot(
    table: Table, metrics: Sequence[str] = ("mae", "rmse"), digits: int = 1
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """A table as printed: mean over the seeds, ± their standard deviation where there are several.

    Parameters
    ----------
    metrics : columns of `measured`
    digits : after the point

    Returns
    -------
    two frames of one shape, rows by columns × metrics: the text of each cell (`MISSING` where no run is
    finished), and the names of its runs
    """
    found = measured(table)
    keys = pd.MultiIndex.from_product([table.columns, [name.upper() for name in metrics]])
    text = pd.DataFrame(MISSING, index=table.rows, columns=keys, dtype=object)
    source = pd.DataFrame("", index=table.rows, columns=keys, dtype=object)
    for (row, column), group in found.groupby(["row", "column"], sort=False):
        for name in metrics:
            text.loc[row, (column, name.upper())] = mean_and_deviation(group[name], digits)
            source.loc[row, (column, name.upper())] = " ".join(group["run"])
    return text, source


def mean_and_deviation(values: Sequence[float], digits: int = 1) -> str:
    """One value as it is; several as mean ± sample standard deviation.

    >>> mean_and_deviation([10.0, 12.0])
    '11.0 ± 1.4'
    """
    values = np.asarray(values, dtype=float)
    if not np.isfinite(values).all() or not len(values):
        return MISSING
    mean = f"{values.mean():.{digits}f}"
    return mean if len(values) == 1 else f"{mean} ± {values.std(ddof=1):.{digits}f}"


def improvement(before: float, after: float) -> float:
    """By how much an error fell, in percent of what it was; below 0 where it rose.

    >>> improvement(140.6, 77.9).__round__(1)
    44.6
    """
    return 100 * (before - after) / before


def paired_difference(
    first: Sequence[Run], second: Sequence[Run], resamples: int = 9999, seed: int = 0
) -> dict[str, float]:
    """How much larger the MAE of ``first`` is than that of ``second`` on the same test pictures.

    The interval is a paired bootstrap over pictures (BCa; Efron 1987): it says what other test pictures
    might have shown, and nothing about other seeds. A picture's error is the mean over a side's runs.

    Parameters
    ----------
    first, second : finished runs on one data set, one a seed

    Returns
    -------
    ``difference`` in people, ``lower`` and ``upper`` of its 95 % interval, ``pictures``

    Raises
    ------
    ValueError : the runs did not count the same pictures
    """
    sides = [pd.concat([_errors(run) for run in runs], axis=1) for runs in (first, second)]
    if sides[0].isna().any(axis=None) or not sides[0].index.equals(sides[1].index):
        raise ValueError(
            f"{first[0].name} and {second[0].name} did not count the same pictures; a paired difference "
            "needs runs on one split."
        )
    difference = (sides[0].mean(axis=1) - sides[1].mean(axis=1)).to_numpy()
    found = {"difference": float(difference.mean()), "pictures": len(difference)}
    if np.ptp(difference) == 0:
        return found | {"lower": found["difference"], "upper": found["difference"]}
    interval = stats.bootstrap(
        (difference,), np.mean, n_resamples=resamples, rng=np.random.default_rng(seed)
    ).confidence_interval
    return found | {"lower": float(interval.low), "upper": float(interval.high)}


def _errors(run: Run) -> pd.Series:
    """Each picture's absolute error in people."""
    rows = run.predictions.set_index("image")
    return (rows["count"] - rows["points"]).abs().sort_index()
