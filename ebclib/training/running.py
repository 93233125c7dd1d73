"""A run from its beginning to its end: train, select, evaluate, and leave files behind."""

from __future__ import annotations

import math
import shutil
import sys

import torch
from torch import nn
from tqdm import tqdm

from .. import datasets, evaluation
from ..card import Card, write_card
from ..config import Config, results_root
from ..familiarity import Familiar
from ..models import BlockwiseModel
from ..runs import Run, provenance, write_csv, write_json
from ..task import Task, load_model
from .devices import make_accelerator, precision_of, processes
from .lock import only_writer
from .trainer import Trainer

FREE = {"workers", "resident", "on_nonfinite", "compile"}
"""Parameters that may change when a run is resumed: they say how to compute, not what."""


def train(config: Config, resume: bool = False, progress: bool = True) -> Run:
    """Train, select on the held-out pictures, evaluate on the test split, and leave a run.

    Started in several processes (see `ebclib.training`), these share every batch and every evaluation;
    the first writes the run's files, in a folder that all of them can read. Should one be lost, the
    launcher ends them all, and ``resume`` goes on from the last finished epoch, in as many processes
    as then are started. Another launch of the same run waits until this one has ended.

    Parameters
    ----------
    config : from `make_config`, which names the run
    resume : go on from the run's last checkpoint; the result is that of a run never stopped. A
        finished run is returned as it is, and one that never began is begun. Without it, a run of
        the same name is replaced.
    progress : show progress bars

    Raises
    ------
    FileNotFoundError : the data set is not there
    ValueError : resuming a run of another config, or a batch that the processes cannot share
    FloatingPointError : a loss that is no finite number, unless ``on_nonfinite`` is skip
    """
    run, state = _run_of(config), processes()
    progress = progress and state.is_main_process
    with only_writer(run, state, progress):
        return _train(run, config, resume, progress)


def trained(config: Config, progress: bool = True) -> Run:
    """The run of a config, finished and with its weights: as it is there, or trained now.

    Two that ask at once train it once: the second waits for the first. A run that was begun is gone on
    with; a finished one without its weights (they are not committed) is trained again.

    Parameters
    ----------
    config : from `make_config`, which names the run
    progress : show progress bars

    Raises
    ------
    ValueError : the run that is there was trained with other parameters
    FileNotFoundError, FloatingPointError : as `train`
    """
    run, state = _run_of(config), processes()
    progress = progress and state.is_main_process
    with only_writer(run, state, progress):
        if run.is_finished and run.has_weights:
            _same_config(run, config)
            return run
        return _train(run, config, resume=not run.is_finished, progress=progress)


def _run_of(config: Config) -> Run:
    """Where a config's run lies, or will."""
    if not config.name:
        raise ValueError("The config names no run: make it with make_config, or give name.")
    return Run(results_root() / "runs" / config.name)


def _train(run: Run, config: Config, resume: bool, progress: bool) -> Run:
    """`train`, where nobody else writes the run."""
    state = processes()
    with state.main_process_first():
        task = Task.of(config, progress)
    started = resume and (run.path / "config.json").is_file()
    if started:
        _same_config(run, config)
        if run.is_finished:
            return run
    state.wait_for_everyone()  # all have looked before the first one writes
    if not started and state.is_main_process:
        shutil.rmtree(run.path, ignore_errors=True)
        facts = provenance(precision_of(config), task.split.digest)
    state.wait_for_everyone()
    if progress and state.num_processes > 1:
        tqdm.write(
            f"{state.num_processes} processes share every batch. Should one be lost, all end, and "
            "--resume (resume=True) goes on from the last finished epoch.",
            file=sys.stderr,
        )
    trainer = Trainer(config, task, run, progress)
    if state.is_main_process:
        write_json(run.path / "config.json", config.to_dict())
        if not started:
            facts |= {"weights": trainer.network.weights_source, "processes": state.num_processes}
            write_json(run.path / "provenance.json", facts)
    trainer.fit()
    return _evaluate(run, None, progress, task)


def evaluate(run: Run, split: str | None = None, progress: bool = True) -> Run:
    """Measure a run's weights, and write predictions and metrics into its folder.

    What counting with the weights alone needs goes into their file (`card.Card`: the config, the
    interval's factor, traits of the training pictures). Several processes share the pictures, and the
    first one writes; another launch waits, as in `train`.

    Parameters
    ----------
    run : a run with weights
    split : the split to count; None takes the one that the data set's papers report. The files of
        another split carry its name (`metrics-val.json`).
    """
    state = processes()
    progress = progress and state.is_main_process
    with only_writer(run, state, progress):
        return _evaluate(run, split, progress)


def open_model(run: Run) -> tuple[nn.Module, BlockwiseModel]:
    """A run's trained model as it was measured: on this machine's device, in the run's precision.

    Returns
    -------
    (model, network) : pictures → logits, and the `BlockwiseModel` inside, as `evaluation.predict` and
        `windows.predict_map` take them
    """
    accelerator = make_accelerator(precision_of(run.config))
    network = load_model(run, accelerator.device).to(memory_format=torch.channels_last)
    return accelerator.prepare_model(network, evaluation_mode=True), network


def _evaluate(run: Run, split: str | None, progress: bool, task: Task | None = None) -> Run:
    """`evaluate`, where nobody else writes the run."""
    config, state = run.config, processes()
    state.wait_for_everyone()  # the first one may still be writing the weights
    reported = datasets.describe(config.dataset).test_split
    split = split or reported
    suffix = "" if split == reported else f"-{split}"
    with state.main_process_first():
        task = task or Task.of(config, progress)
        pictures = datasets.prepared(config.dataset, split, progress=progress)
    model, network = open_model(run)
    held, found = (
        evaluation.predict(model, some, indices, network, text if progress else None, state)
        for some, indices, text in (
            (task.split, task.held_out, "Held-out pictures"),
            (pictures, None, f"{config.dataset} {split}"),
        )
    )
    factor = evaluation.conformal_factor(held)
    found = evaluation.with_intervals(found, factor)
    history = run.history
    metrics = {
        "dataset": config.dataset,
        "split": split,
        **evaluation.summarise(found, task.split.counts),
        "held_out_mae": evaluation.errors(held["points"], held["count"])["mae"],
        "held_out_images": len(held),
        "interval_factor": factor if math.isfinite(factor) else None,
        "epochs": len(history),
        "training_minutes": round(history["seconds"].iloc[-1] / 60, 2),
        "representatives": task.representatives.round(4).tolist(),
    }
    if "test_mae" in history and not suffix:
        metrics["test_selected_mae"] = history["test_mae"].min()
    if state.is_main_process:
        familiar = Familiar.of(task.split, task.train, config.block_size_px)
        write_card(run.weights, Card.made(config, factor, len(held), familiar=familiar))
        write_csv(run.path / f"predictions{suffix}.csv", found)
        write_json(run.path / f"metrics{suffix}.json", metrics)
        if not suffix:
            shutil.rmtree(run.checkpoint.parent, ignore_errors=True)
    state.wait_for_everyone()
    return run


def _same_config(run: Run, config: Config) -> None:
    """A run that is there must have the parameters asked for, but for those that are `FREE`."""
    old, new = run.config.to_dict(), config.to_dict()
    differ = [key for key in new if key not in FREE and old[key] != new[key]]
    if differ:
        lines = "; ".join(f"{key} was {old[key]!r}, now {new[key]!r}" for key in differ)
        raise ValueError(
            f"Run {run.name!r} cannot be resumed with other parameters: {lines}. Give another name, or "
            "train it anew without resume."
        )
