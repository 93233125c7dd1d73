"""A run from its beginning to its end: train, select, evaluate, and leave files behind."""

from __future__ import annotations

import shutil
import sys

from tqdm import tqdm

from ..config import Config, results_root
from ..runs import Run, provenance, write_json
from ..task import Task
from .devices import precision_of, processes
from .measuring import evaluate
from .trainer import Trainer

FREE = {"workers", "resident", "on_nonfinite", "compile"}
"""Parameters that may change when a run is resumed: they say how to compute, not what."""


def train(config: Config, resume: bool = False, progress: bool = True) -> Run:
    """Train, select on the held-out pictures, evaluate on the test split, and leave a run.

    Started in several processes (see `ebclib.training`), these share every batch and every evaluation;
    the first writes the run's files, in a folder that all of them can read. Should one be lost, the
    launcher ends them all, and ``resume`` goes on from the last finished epoch, in as many processes
    as then are started.

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
    if not config.name:
        raise ValueError("The config names no run: make it with make_config, or give name.")
    run, state = Run(results_root() / "runs" / config.name), processes()
    progress = progress and state.is_main_process
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
    return evaluate(run, progress=progress, task=task)


def _same_config(run: Run, config: Config) -> None:
    """Resuming must go on with the same parameters, but for those that are `FREE`."""
    old, new = run.config.to_dict(), config.to_dict()
    differ = [key for key in new if key not in FREE and old[key] != new[key]]
    if differ:
        lines = "; ".join(f"{key} was {old[key]!r}, now {new[key]!r}" for key in differ)
        raise ValueError(f"Run {run.name!r} cannot be resumed with other parameters: {lines}.")
