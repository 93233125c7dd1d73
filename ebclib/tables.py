"""Runs to tables: nothing in a table comes from anywhere but a run's files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from .config import results_root
from .runs import Run, all_runs, write_csv


def runs_table(runs: Sequence[Run]) -> pd.DataFrame:
    """A row for each finished run: what was trained, for how long, and how wrong it is (people).

    Columns: run, split, images, MAE, RMSE, mean predictor's MAE, their ratio, the share of pictures
    inside their 90 % interval, epochs, training minutes, device.
    """
    rows = []
    for run in runs:
        if not run.is_finished:
            continue
        metrics = run.metrics
        rows.append(
            {
                "run": run.name,
                "split": metrics["split"],
                "images": metrics["images"],
                "MAE": metrics["mae"],
                "RMSE": metrics["rmse"],
                "mean_predictor_MAE": metrics["mean_predictor_mae"],
                "ratio": metrics["mae"] / metrics["mean_predictor_mae"],
                "inside_90": metrics["inside_interval"],
                "epochs": metrics["epochs"],
                "minutes": metrics["training_minutes"],
                "device": run.provenance["device"],
            }
        )
    return pd.DataFrame(rows)


def write_tables(runs: Sequence[Run] | None = None) -> dict[str, pd.DataFrame]:
    """One CSV a data set, `results/tables/runs_<dataset>.csv`, from ``runs`` (default: all finished ones).

    Runs on different data sets never share a table. Returns the tables by data set.
    """
    finished = [run for run in (all_runs() if runs is None else runs) if run.is_finished]
    tables = {}
    for dataset in sorted({run.config.dataset for run in finished}):
        tables[dataset] = runs_table([run for run in finished if run.config.dataset == dataset])
        save(tables[dataset], f"runs_{dataset}", digits=4)
    return tables


def save(table: pd.DataFrame, name: str, digits: int = 6) -> Path:
    """Write a table to `results/tables/<name>.csv`, whole; its path is returned."""
    path = results_root() / "tables" / f"{name}.csv"
    write_csv(path, table, digits)
    return path
