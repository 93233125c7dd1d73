"""A run's weights on images: its own data set's, another's, or some that nobody has labelled."""

from __future__ import annotations

import hashlib
import math
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import nn

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
) -> Run:
    """Measure a run's weights, and write predictions, positions' matches and metrics into its folder.

    What counting with the weights alone needs goes into their file (`ModelInfo`: the config, the
    interval's factor, statistics of the training images). Several processes share the images, and the
    first one writes; another launch waits, as in `train`.

    Parameters
    ----------
    run : a run with weights
    split : the split to count; None takes the one that the data set's papers report, and of another
        folder whose images are not divided into folders, all. The files of another split carry its
        name (`metrics-val.json`).
    data : another labelled data set, by its name or the path of its folder; the files carry its name
        and split (`measured`), the intervals are scaled as on the run's own validation images, and the
        run's own files stay as they are
    distances_px : within which a point found counts as the person annotated; in prepared pixels

    Raises
    ------
    FileNotFoundError : the data set is not there, or the run has no weights
    ValueError : the split has no labels
    """
    progress = progress and processes().is_main_process
    with run_lock(run, processes(), progress):
        if not _is_own(run, data):
            data = data or run.config.dataset
            return _evaluate_elsewhere(run, data, split, progress, distances_px)
        return measure(run, split, progress, None, distances_px)


def measure(
    run: Run,
    split: str | None = None,
    progress: bool = True,
    task: TrainingSet | None = None,
    distances_px: Sequence[float] = DISTANCES_PX,
) -> Run:
    """`evaluate` on the run's own data, for a caller that alone writes the run (`run_lock`).

    ``task`` is the run's own, where it is at hand.
    """
    config, state = run.config, processes()
    state.wait_for_everyone()  # the first one may still be writing the weights
    split = split or datasets.describe(config.dataset).test_split
    with state.main_process_first():
        task = task or TrainingSet.of(config, progress)
        images = _prepared(run, config.dataset, split, None, progress)
    _need_labels(images, run)
    model, network = open_model(run)
    held, found = (
        evaluation.predict(model, some, indices, network, text if progress else None, state, where)
        for some, indices, text, where in (
            (task.split, task.validation, "Validation images", False),
            (images, None, f"{config.dataset} {split}", True),
        )
    )
    calibrating = held[np.isin(task.validation, task.halves(config)[1])]
    factor = evaluation.conformal_factor(calibrating)
    history = run.history
    facts = {
        "training_mean": float(np.mean(task.split.counts)),
        "held_out_mae": evaluation.errors(held["points"], held["count"])["mae"],
        "held_out_images": len(calibrating),
        "interval_factor": factor if math.isfinite(factor) else None,
        "epochs": len(history),
        "training_minutes": round(history["seconds"].iloc[-1] / 60, 2),
        "representatives": task.representatives.round(4).tolist(),
    }
    suffix = metrics_suffix(run, split)
    if "test_mae" in history and not suffix:
        facts["test_selected_mae"] = history["test_mae"].min()
    if state.is_main_process:
        stats = TrainingStats.of(task.split, task.train.tolist(), config.block_size_px)
        about, began = datasets.describe(config.dataset), run.provenance.get("weights")
        more = {
            "training_stats": stats,
            "origin": f"Trained on {about.title} ({about.terms}), from {began or config.pretrained}.",
        }
        write_info(run.weights, ModelInfo.made(config, factor, len(calibrating), **more))
    _write(run, suffix, images, found, factor, task.split.counts, facts, distances_px)
    if state.is_main_process and not suffix:
        shutil.rmtree(run.checkpoint.parent, ignore_errors=True)
    state.wait_for_everyone()
    return run


def open_model(run: Run) -> tuple[nn.Module, BlockwiseModel]:
    """A run's trained model as it was measured: on this machine's device, in the run's precision.

    Returns
    -------
    (model, network) : images → logits, and the `BlockwiseModel` inside, as `evaluation.predict` and
        `windows.predict_map` take them
    """
    accelerator = make_accelerator(precision_of(run.config))
    network = load_model(run, accelerator.device).to(memory_format=torch.channels_last)
    return accelerator.prepare_model(network, evaluation_mode=True), network


def metrics_suffix(run: Run, split: str | None = None, data: str | Path | None = None) -> str:
    """What the names of `evaluate`'s files end with: nothing, `-val`, or `-sha-test`.

    A folder outside the data root adds six digits of its path: two may have one name.

    Parameters
    ----------
    run, split, data : as `evaluate` was given them
    """
    if _is_own(run, data):
        reported = datasets.describe(run.config.dataset).test_split
        return "" if split in (None, reported) else f"-{split}"
    name, root = datasets.locate(data or run.config.dataset)
    return f"-{_label(name, root)}-{split or _split_of(datasets.describe(name, root))}"


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
    name, root = datasets.locate(run.config.dataset if data is None else data)
    about = datasets.describe(name, root)
    split = split or next(iter(about.unlabelled), None) or _split_of(about)
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
    model, network = open_model(run)
    text = f"{name} {split}" if progress else None
    found = evaluation.predict(model, images, None, network, text, state, positions)
    if positions:
        where = found["image"], found["positions"], images.sizes, images.source_sizes
        lines = list(map(_position_line, *where))
    else:
        lines = [
            f"{image} {n:.4f}" for image, n in zip(found["image"], found["count"], strict=True)
        ]
    if state.is_main_process:
        content = "".join(f"{line}\n" for line in lines)
        write_whole(path, lambda part: part.write_text(content, encoding="utf-8"))
    state.wait_for_everyone()
    return path


def _evaluate_elsewhere(
    run: Run,
    data: str | Path,
    split: str | None,
    progress: bool,
    distances_px: Sequence[float],
) -> Run:
    """`evaluate` on another data set than the run's own."""
    state = processes()
    is_released = run.config.recipe == RELEASED  # then nothing is known of its training images
    own = {"training_mean": math.nan, "interval_factor": None, "held_out_images": 0}
    own = own if is_released else run.metrics
    name, root = datasets.locate(data)
    split = split or _split_of(datasets.describe(name, root))
    progress = progress and state.is_main_process
    with state.main_process_first():
        images = _prepared(run, name, split, root, progress)
        mean = own.get("training_mean")
        if mean is None:  # a run of before it was kept
            mean = np.mean(datasets.prepared(run.config.dataset, "train", progress=progress).counts)
    _need_labels(images, run)
    model, network = open_model(run)
    text = f"{name} {split}" if progress else None
    found = evaluation.predict(model, images, None, network, text, state, positions=True)
    factor = own["interval_factor"]
    scaled = f"{own['held_out_images']} validation images of {run.config.dataset}"
    facts = {
        "trained_on": run.config.dataset,
        "training_mean": None if math.isnan(mean) else float(mean),
        "interval_factor": factor,
        "held_out_images": own["held_out_images"],
        "data_sha256": images.digest,
        **({"folder": str(root / name)} if root else {}),
        **({} if is_released else {"intervals_scaled_on": scaled}),
    }
    factor = math.inf if factor is None else factor
    suffix = f"-{_label(name, root)}-{split}"
    _write(run, suffix, images, found, factor, [mean], facts, distances_px)
    state.wait_for_everyone()
    return run


def _write(
    run: Run,
    suffix: str,
    images: datasets.PreparedSplit,
    found: pd.DataFrame,
    factor: float,
    training_counts: Sequence[float] | np.ndarray,
    facts: dict[str, Any],
    distances_px: Sequence[float],
) -> None:
    """The files of one evaluation, by the first process."""
    if not processes().is_main_process:
        return
    matches = evaluation.matches_table(found, images.points, distances_px)
    found = evaluation.with_intervals(found, factor)
    metrics = {
        "dataset": images.dataset,
        "split": images.split,
        **evaluation.summarise(found, training_counts),
        "positions": evaluation.localisation(matches),
        **facts,
    }
    write_csv(run.path / f"predictions{suffix}.csv", found)
    write_csv(run.path / f"positions{suffix}.csv", matches)
    write_json(run.path / f"metrics{suffix}.json", metrics)


def _prepared(
    run: Run, name: str, split: str, root: Path | None, progress: bool
) -> datasets.PreparedSplit:
    """A split, prepared as the run's model wants it."""
    multiples_px = run.config.multiples_px
    return datasets.prepared(name, split, root, progress=progress, multiples_px=multiples_px)


def _is_own(run: Run, data: str | Path | None) -> bool:
    """Whether ``data`` (None: the same) is the data set that the run was trained on, and here."""
    name, root = (run.config.dataset, None) if data is None else datasets.locate(data)
    return name == run.config.dataset and root is None and run.config.recipe != RELEASED


def _label(name: str, root: Path | None) -> str:
    """A data set's name in the name of a file, told from other folders of that name."""
    if root is None:
        return name
    return f"{name}-{hashlib.sha256(str(root / name).encode()).hexdigest()[:6]}"


def _split_of(about: datasets.Dataset) -> str:
    """What of another data set is measured: its reported split, or all where nobody divided it."""
    return datasets.EVERY if about.is_divided else about.test_split


def _need_labels(images: datasets.PreparedSplit, run: Run) -> None:
    if not images.is_labelled:
        raise ValueError(
            f"{images.dataset} {images.split} has no labels to measure against. "
            f"`ebc submit {run.name} --dataset {images.dataset} --split {images.split}` writes the "
            "counts."
        )


def _position_line(
    image: str, points: np.ndarray, size: tuple[int, int], source: tuple[int, int]
) -> str:
    """`name n x1 y1 …` in whole pixels of the image as published."""
    ratio = np.array([source[1] / size[1], source[0] / size[0]])
    whole = np.floor(points * ratio).astype(int)
    return " ".join(map(str, [image, len(whole), *whole.ravel()]))
