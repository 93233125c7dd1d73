"""A run from its beginning to its end: train, select, evaluate, and leave files behind."""

from __future__ import annotations

import torch

from ebclib.config import Config, results_root
from ebclib.data import PreparedSplit
from ebclib.data.training_set import TrainingSet
from ebclib.runs import Run, provenance, recover, remove_run, successor, write_json
from ebclib.training.devices import precision_of, processes, run_lock
from ebclib.training.loop import Trainer
from ebclib.training.measuring import evaluate


def train(
    config: Config, resume: bool = False, progress: bool = True, replace: bool = False
) -> Run:
    """Train, select on the validation images, evaluate on the test split, and leave a run.

    Started in several processes (see `ebclib.training`), these share every batch and every evaluation,
    and the first writes the run's files. Another launch of the same run waits until this one has ended.

    Parameters
    ----------
    config : from `make_config`, which names the run
    resume : go on from the run's last checkpoint; the result is that of a run never stopped. A
        finished run is returned as it is, and one that never began is begun
    progress : show progress bars
    replace : train anew where a run of that name has results. The old run stays until the new one's
        first weights are there.

    Raises
    ------
    FileNotFoundError : the data set is not there
    ValueError : resuming a run of another config or on other data, a run that is there and neither
        ``resume`` nor ``replace``, or a batch that the processes cannot share
    FloatingPointError : a loss that is no finite number, unless ``on_nonfinite`` is skip
    RuntimeError : another process of the run was lost
    """
    run, state = _run_of(config), processes()
    progress = progress and state.is_main_process
    with run_lock(run, state, progress):
        if state.is_main_process:
            recover(run)
        state.wait_for_everyone()
        started = resume and (run.path / "config.json").is_file()
        if started:
            _same_config(run, config)
            if run.is_finished:
                return run
        elif run.holds_training and not replace:
            raise ValueError(
                f"Run {run.name!r} is there already ({run.path}). Go on with it (or show it, if it is "
                "finished) by --resume (resume=True), train it anew by --replace (replace=True), or give "
                "another --name."
            )
        replaced = run if run.holds_training and not started else None
        run = successor(run) if replaced else run
        with state.main_process_first():
            task = TrainingSet.of(config, progress)
        if started:
            _same_data(run, task.split)
        state.wait_for_everyone()  # all have looked before the first one writes
        if not started and state.is_main_process:
            remove_run(run.path)
            facts = provenance(precision_of(config), task.split.digest) | _size(task.split)
        state.wait_for_everyone()
        trainer = Trainer(config, task, run, progress, replaced)
        if state.is_main_process:
            write_json(run.path / "config.json", config.to_dict())
            if not started:
                facts["weights"] = trainer.network.weights_source
                facts["processes"] = state.num_processes
                write_json(run.path / "provenance.json", facts)
        try:
            trainer.fit()
        except RuntimeError as problem:  # gloo, on a CPU, says its name alone
            is_lost = isinstance(problem, torch.distributed.DistError) or "gloo" in str(problem)
            if state.num_processes > 1 and is_lost:
                raise RuntimeError(
                    f"Another process of run {run.name!r} was lost, so this one ends, too: --resume "
                    "(resume=True) goes on from the last checkpoint, in any number of processes."
                ) from problem
            raise
        return evaluate(trainer.run, progress=progress, task=task)


def load_or_train(config: Config, progress: bool = True) -> Run:
    """The run of a config, finished and with its weights: as it is there, or trained now.

    Two that ask at once train it once: the second waits for the first. A run that was begun is gone on
    with; a finished one without its weights (they are not committed) is trained again.

    Raises
    ------
    ValueError : the run that is there was trained with other parameters
    FileNotFoundError, FloatingPointError : as `train`
    """
    run, state = _run_of(config), processes()
    progress = progress and state.is_main_process
    with run_lock(run, state, progress):
        if run.is_finished and run.has_weights:
            _same_config(run, config)
            return run
        done = run.is_finished
        return train(config, resume=not done, progress=progress, replace=done)


def _run_of(config: Config) -> Run:
    """Where a config's run lies, or will."""
    if not config.name:
        raise ValueError("The config names no run: make it with make_config, or give name.")
    if config.dual != "floored":
        raise ValueError(
            f"dual is {config.dual!r}, which only older recorded runs have: give floored, the published one."
        )
    return Run(results_root() / "runs" / config.name)


def _same_config(run: Run, config: Config) -> None:
    """A run that is there must have the parameters asked for, but for those that are `config.FREE`."""
    old = run.config
    differ = [
        f"{k} was {getattr(old, k)!r}, now {getattr(config, k)!r}" for k in config.unlike(old)
    ]
    if differ:
        lines = "; ".join(differ)
        raise ValueError(
            f"Run {run.name!r} cannot be resumed with other parameters: {lines}. Give another name, or "
            "train it anew without resume."
        )


def _size(split: PreparedSplit) -> dict[str, int]:
    """How much a training split holds, as `provenance.json` keeps it."""
    return {"training_images": len(split), "training_points": int(split.counts.sum())}


def _same_data(run: Run, split: PreparedSplit) -> None:
    """A run that is gone on with must find the images and points it began with."""
    began, now = run.provenance, _size(split)
    if began.get("data_sha256") in (None, split.digest):
        return
    changed = [
        f"{key.replace('_', ' ')} were {began[key]}, now {number}"
        for key, number in now.items()
        if began.get(key, number) != number
    ]
    what = "; ".join(changed) or "images or points were replaced or moved"
    raise ValueError(
        f"The data of {split.dataset} {split.split} changed since run {run.name!r} began: {what}. "
        "It cannot be resumed on them: put the data back, train anew by --replace (replace=True), or "
        "give another --name."
    )
