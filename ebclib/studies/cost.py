"""What the runs of an experiment cost, before they are started."""

from __future__ import annotations

import sys
import time
from functools import cache

import numpy as np
import pandas as pd

from ebclib import data
from ebclib.config import Config
from ebclib.runs import all_runs, device_name
from ebclib.studies.jobs import is_done
from ebclib.studies.plan import Experiment

FORWARD_AND_BACKWARD = 3
"""A training step's operations in forward passes: the backward pass takes about two."""

MANY_CROPS = 10_000
"""A run that sees fewer begins without an estimate, which takes seconds itself."""


def costs(experiment: Experiment, teraflops: float | None = None) -> pd.DataFrame:
    """What each run of an experiment costs to train.

    ``teraflops`` are 10¹² operations a second that training reaches here; None takes the median of what
    the finished runs on this device reached, and gives no hours where there are none.

    Returns
    -------
    a row a run: ``finished``, ``crops`` it sees, ``petaflop`` (10¹⁵ operations of its convolutions and
    matrix products, evaluation left out), ``hours``
    """
    rows = {}
    for name, cell in experiment.cells.items():
        crops = cell.config.epochs * _training_images(cell.config.dataset)
        rows[name] = is_done(cell, experiment), crops, _operations(cell.config) / 1e15
    names = ["finished", "crops", "petaflop"]
    table = pd.DataFrame.from_dict(rows, orient="index", columns=names).rename_axis("run")
    table["finished"] = table["finished"].astype(bool)  # of a plan without tables, too
    rate = teraflops or measured_teraflops()
    return table.assign(hours=np.nan if rate is None else table["petaflop"] * 1e3 / rate / 3600)


def format_costs(table: pd.DataFrame) -> str:
    """`costs` as text, with the sum of what is still to be trained."""
    formatters = {"finished": lambda done: "yes" if done else "no", "petaflop": "{:.3g}".format}
    formatters["hours"] = lambda value: "?" if np.isnan(value) else f"{value:.2f}"
    left = table[~table["finished"]]
    hours = left["hours"].sum(min_count=1)
    time = (
        "no finished run on this device to estimate hours from (--teraflops gives a rate)"
        if np.isnan(hours) and len(left)
        else f"{np.nan_to_num(hours):.1f} hours one after the other"
    )
    return (
        f"{table.to_string(formatters=formatters)}\n{len(left)} of {len(table)} runs to train: "
        f"{left['petaflop'].sum():.3g} PFLOP, {time}"
    )


def say_duration(config: Config) -> None:
    """Say on stderr, before a run on a processor begins, what it will take if that is over an hour.

    The rate is that of finished runs here; without any, that of one large matrix product, which no
    training reaches: then it is a lower bound.
    """
    import torch

    crops = config.epochs * _training_images(config.dataset)
    if torch.cuda.is_available() or crops < MANY_CROPS:
        return
    known = measured_teraflops()
    hours = _operations(config) / 1e12 / (known or _product_teraflops()) / 3600
    if hours > 1:
        print(
            f"{config.epochs} epochs of {config.dataset} take {'about' if known else 'more than'} "
            f"{hours:.0f} hours on this processor. A GPU is wanted, or fewer --epochs, or --recipe "
            "two_cores_20min.",
            file=sys.stderr,
        )


def _product_teraflops(side: int = 1024) -> float:
    """10¹² operations a second of the best of three matrix products."""
    import torch

    one, seconds = torch.ones(side, side), []
    for _ in range(3):
        start = time.perf_counter()
        one @ one
        seconds.append(time.perf_counter() - start)
    return 2 * side**3 / 1e12 / min(seconds)


@cache
def measured_teraflops() -> float | None:
    """The median rate of finished runs on this device in 10¹² operations a second; None: there is none."""
    rates = []
    for run in all_runs():
        try:
            if not run.is_finished or run.provenance.get("device") != device_name():
                continue
            config, seconds = run.config, 60 * run.metrics["training_minutes"]
        except (FileNotFoundError, KeyError, TypeError, ValueError):
            continue  # another version or program wrote it, or it is begun anew just now
        if seconds:
            done = run.metrics["epochs"] / config.epochs
            rates.append(done * _operations(config) / 1e12 / seconds)
    return float(np.median(rates)) if rates else None


@cache
def _training_images(dataset: str) -> int:
    """Nine tenths of the training split: as drawn, as published, or as there."""
    published = data.describe(dataset).splits.get("train")
    return round(0.9 * (published or len(data.read(dataset, "train"))))


def _operations(config: Config) -> float:
    """Floating-point operations of a whole training."""
    crops = config.epochs * _training_images(config.dataset)
    return crops * _of_a_crop(config.model, config.head, config.block_size_px, config.crop_px)


@cache
def _of_a_crop(model: str, head: str, block_size_px: int, crop_px: int) -> float:
    from ebclib.studies.inspection import outline, steps  # networks: a finished plan needs none

    made = steps(outline(model, 5, block_size_px, head), crop_px, crop_px)
    return 2 * FORWARD_AND_BACKWARD * float(made["multiply_adds"].sum())
