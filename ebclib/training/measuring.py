"""A run's weights on images: its own data set's, another's, or some that nobody has labelled."""

from __future__ import annotations

import hashlib
import math
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ebclib import data as datasets
from ebclib import evaluation
from ebclib.config import RELEASED
from ebclib.data.training_set import TrainingSet, TrainingStats
from ebclib.evaluation.metadata import ModelInfo, write_info
from ebclib.evaluation.positions import DISTANCES_PX
from ebclib.models import BlockwiseModel, load_model
from ebclib.runs import Run, refuse_folder, write_csv, write_json, write_whole
from ebclib.training.devices import make_accelerator, precision_of, processes, run_lock


def evaluate(
    run: Run,
    split: str | None = None,
    progress: bool = True,
    data: str | Path | None = None,
    distances_px: Sequence[float] = DISTANCES_PX,
    task: TrainingSet | None = None,
) -> Run:
    """Measure a run's weights, and write predictions, positions' matches and metrics into its folder.

    What counting with the weights alone needs goes into their file (`ModelInfo`: the config, the
    interval's factor, statistics of the training images). Several processes share the images, and the
    first one writes; another launch waits, as in `train`.

    Parameters
    ----------
    run : a run with weights
    split : the split to count; None takes the one that the data set's papers report, and of another
        folder whose images are not divided into folders, all
    data : another labelled data set, by its name or the path of its folder; its intervals are scaled as
        on the run's own validation images, and the run's own files stay as they are
    distances_px : within which a point found counts as the person annotated; in prepared pixels
    task : the run's own training set, where at hand

    Returns
    -------
    the run; files of another split or data set carry their names (`metrics_suffix`)

    Raises
    ------
    FileNotFoundError : the data set is not there, or the run has no weights
    ValueError : the split has no labels
    """
    config, state = run.config, processes()
    progress = progress and state.is_main_process
    name, root, about, is_own = _data_of(run, data)
    split = split or _usual_split(about, is_own)
    suffix = metrics_suffix(run, split, data)
    with run_lock(run, state, progress):
        with state.main_process_first():
            if is_own:
                task = task or TrainingSet.of(config, progress)
            images = _prepared(run, name, split, root, progress)
        if not images.is_labelled:
            raise ValueError(
                f"{name} {split} has no labels to measure against. "
                f"`ebc submit {run.name} --dataset {name} --split {split}` writes the counts."
            )
        model = open_model(run)
        title = f"{name} {split}" if progress else None
        found = evaluation.predict(model, images, None, title, state, positions=True)
        if is_own and task is not None:
            info, facts = _calibrate(run, task, model, progress)
            if state.is_main_process:
                write_info(run.weights, info)
            counts = task.split.counts
            if "test_mae" in run.history and not suffix:
                facts["test_selected_mae"] = run.history["test_mae"].min()
        else:
            facts = _facts_elsewhere(run, images, root)
            counts = np.array([facts["training_mean"] or math.nan])
        if state.is_main_process:
            matches = evaluation.matches_table(found, images.points, distances_px)
            factor = facts["interval_factor"]
            found = evaluation.with_intervals(found, math.inf if factor is None else factor)
            metrics = {
                "dataset": name,
                "split": split,
                **evaluation.summarise(found, counts),
                "positions": evaluation.localisation(matches),
                **facts,
            }
            write_csv(run.path / f"predictions{suffix}.csv", found)
            write_csv(run.path / f"positions{suffix}.csv", matches)
            write_json(run.path / f"metrics{suffix}.json", metrics)
            if not suffix:
                shutil.rmtree(run.checkpoint.parent, ignore_errors=True)
        state.wait_for_everyone()
    return run


def _calibrate(
    run: Run, task: TrainingSet, model: BlockwiseModel, progress: bool
) -> tuple[ModelInfo, dict[str, Any]]:
    """What the validation images say of a run, for its weights' file and for its metrics."""
    config, history = run.config, run.history
    title = "Validation images" if progress else None
    held = evaluation.predict(model, task.split, task.validation, title, processes())
    calibrating = held[np.isin(task.validation, task.halves(config)[1])]
    factor = evaluation.conformal_factor(calibrating)
    about, began = datasets.describe(config.dataset), run.provenance.get("weights")
    info = ModelInfo.made(
        config,
        factor,
        len(calibrating),
        training_stats=TrainingStats.of(task.split, task.train.tolist(), config.block_size_px),
        origin=f"Trained on {about.title} ({about.terms}), from {began or config.pretrained}.",
    )
    return info, {
        "training_mean": float(np.mean(task.split.counts)),
        "held_out_mae": evaluation.errors(held["points"], held["count"])["mae"],
        "held_out_images": len(calibrating),
        "interval_factor": info.interval_factor,
        "epochs": len(history),
        "training_minutes": round(history["seconds"].iloc[-1] / 60, 2),
        "representatives": task.representatives.round(4).tolist(),
    }


def _facts_elsewhere(run: Run, images: datasets.PreparedSplit, root: Path | None) -> dict[str, Any]:
    """What the metrics say of the run beside its errors on another data set than its own."""
    facts: dict[str, Any] = {"trained_on": run.config.dataset, "data_sha256": images.digest}
    if root:
        facts["folder"] = str(root / images.dataset)
    if run.config.recipe == RELEASED:  # nothing is known of its training images
        return facts | {"training_mean": None, "interval_factor": None, "held_out_images": 0}
    names = ("interval_factor", "held_out_images", "training_mean")
    facts |= {name: run.metrics.get(name) for name in names}
    scaled = f"{facts['held_out_images']} validation images of {run.config.dataset}"
    return facts | {"intervals_scaled_on": scaled}


def open_model(run: Run) -> BlockwiseModel:
    """A run's trained model as it was measured: on this machine's device, in the run's precision."""
    accelerator = make_accelerator(precision_of(run.config))
    model = load_model(run, accelerator.device).to(memory_format=torch.channels_last)
    return accelerator.prepare_model(model, evaluation_mode=True)


def metrics_suffix(run: Run, split: str | None = None, data: str | Path | None = None) -> str:
    """What the names of `evaluate`'s files, so called, end with: nothing, `-val`, or `-sha-test`.

    A folder outside the data root adds six digits of its path: two may have one name.
    """
    name, root, about, is_own = _data_of(run, data)
    split = split or _usual_split(about, is_own)
    if is_own:
        return "" if split == about.test_split else f"-{split}"
    return f"-{_label(name, root)}-{split}"


def submit(
    run: Run,
    data: str | Path | None = None,
    split: str | None = None,
    positions: bool = False,
    path: Path | None = None,
    progress: bool = True,
) -> Path:
    """Count images that nobody may have labelled, in the form that NWPU-Crowd's site takes.

    A line is an image: its name and its count, `3610 100.0000`. With ``positions``, the benchmark's
    other form: name, number of people, then x and y of each, whole pixels of the published image.

    Parameters
    ----------
    run : a run with weights
    data : a data set's name or the path of its folder; None takes the run's own
    split : None takes the split without labels where there is one, else the reported one
    positions : the localisation form
    path : the file to write; None: `submission-<data set>-<split>.txt` in the run's folder

    Raises
    ------
    FileNotFoundError : the data set is not there, or the run has no weights
    ValueError : images whose names hold a space, which would break the lines
    """
    state = processes()
    name, root, about, _ = _data_of(run, data)
    split = split or next(iter(about.unlabelled), None) or _usual_split(about)
    kind = "-positions" if positions else ""
    path = path or run.path / f"submission-{_label(name, root)}-{split}{kind}.txt"
    refuse_folder(path)
    progress = progress and state.is_main_process
    with state.main_process_first():
        images = _prepared(run, name, split, root, progress)
    spaced = [image for image in images.names if len(image.split()) != 1]
    if spaced:
        raise ValueError(
            f"A line is `name count`, so an image's name may hold no space: {spaced[0]!r} "
            f"({len(spaced)} such). Rename them."
        )
    title = f"{name} {split}" if progress else None
    found = evaluation.predict(open_model(run), images, None, title, state, positions)
    lines = [f"{image} {n:.4f}" for image, n in zip(found["image"], found["count"], strict=True)]
    if positions:
        sizes = np.array(images.source_sizes) / np.array(images.sizes)  # (n, 2), H and W
        where = zip(found["image"], found["positions"], sizes[:, ::-1], strict=True)
        whole = ((image, np.floor(points * ratio).astype(int)) for image, points, ratio in where)
        lines = [" ".join(map(str, [image, len(xy), *xy.ravel()])) for image, xy in whole]
    if state.is_main_process:
        content = "".join(f"{line}\n" for line in lines)
        write_whole(path, lambda part: part.write_text(content, encoding="utf-8"))
    state.wait_for_everyone()
    return path


def _prepared(
    run: Run, name: str, split: str, root: Path | None, progress: bool
) -> datasets.PreparedSplit:
    """A split, prepared as the run's model wants it."""
    multiples_px = run.config.multiples_px
    return datasets.prepared(name, split, root, progress=progress, multiples_px=multiples_px)


def _data_of(run: Run, data: str | Path | None) -> tuple[str, Path | None, datasets.Dataset, bool]:
    """Name, root and description of ``data``, and whether the run was trained on it here; None: it was."""
    name, root = (run.config.dataset, None) if data is None else datasets.locate(data)
    is_own = name == run.config.dataset and root is None and run.config.recipe != RELEASED
    return name, root, datasets.describe(name, root), is_own


def _label(name: str, root: Path | None) -> str:
    """A data set's name in the name of a file, told from other folders of that name."""
    if root is None:
        return name
    return f"{name}-{hashlib.sha256(str(root / name).encode()).hexdigest()[:6]}"


def _usual_split(about: datasets.Dataset, is_own: bool = False) -> str:
    """What is measured: the reported split; of another data set that nobody divided, all."""
    return datasets.EVERY if about.is_divided and not is_own else about.test_split
