"""What models and runs cost, before any is trained: no weights are needed.

torch's meta device knows shapes and holds no numbers.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable, Sequence
from functools import cache

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from ebclib import data
from ebclib.config import Config
from ebclib.encoders import build_encoder
from ebclib.encoders.variants import find_variant
from ebclib.models import BlockwiseModel
from ebclib.runs import all_runs, device_name
from ebclib.studies.plan import Experiment, is_done

FORWARD_AND_BACKWARD = 3
"""A training step's operations in forward passes: the backward pass takes about two."""

MANY_CROPS = 10_000
"""A run that sees fewer begins without an estimate, which takes seconds itself."""


def outline(
    name: str, bins: int = 5, block_size_px: int = 8, head: str | None = None
) -> BlockwiseModel:
    """A model without its weights, on the meta device.

    ``name`` is a row of `variants.VARIANTS`, ``timm:NAME`` or ``open_clip:NAME``; a ``head`` of None is
    ``text`` where the row has a text tower, else ``linear``.
    """
    variant = find_variant(name)
    head = head or ("text" if variant.has_text else "linear")
    with torch.device("meta"):
        encoder = build_encoder(name, "none", load=False)
        text = torch.empty(bins, encoder.embedding) if head == "text" else None
        model = BlockwiseModel(encoder, [0.0] * bins, block_size_px, head, text, variant)
    return model.eval()


def steps(model: nn.Module, height_px: int, width_px: int) -> pd.DataFrame:
    """What each part of a model (an `outline`) makes of one image.

    Returns
    -------
    a row a step: ``step``, ``shape`` (C, h, w) of what it makes, ``parameters`` that it learns, and
    ``multiply_adds`` of its convolutions, matrix products and attention
    """
    seen: dict[str, Tensor] = {}
    parts = {"encoder": model.encoder, "decoder": model.decoder, "head": model.head}
    parts = {name: part for name, part in parts.items() if not isinstance(part, nn.Identity)}
    hooks = [
        part.register_forward_hook(lambda _, __, made, name=name: seen.__setitem__(name, made))
        for name, part in parts.items()
    ]
    image = torch.empty(1, 3, height_px, width_px, device="meta")
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        logits = model(image)
        density = model.density(logits)
    for hook in hooks:
        hook.remove()
    counts = counter.get_flop_counts()
    kind = type(model).__name__
    rows = {"image": (tuple(image.shape[1:]), 0, 0)}
    for name, part in parts.items():
        learnt = sum(p.numel() for p in part.parameters() if p.requires_grad)
        work = sum(counts.get(f"{kind}.{name}", {}).values()) // 2
        rows[name] = (tuple(seen[name].shape[1:]), learnt, work)
    rows["density"] = (tuple(density.shape[1:]), 0, 0)
    names = ["shape", "parameters", "multiply_adds"]
    return pd.DataFrame.from_dict(rows, "index", columns=names).rename_axis("step")


def model_costs(
    names: Iterable[str], sizes: Sequence[tuple[int, int]], block_size_px: int = 8
) -> pd.DataFrame:
    """Parameters and multiply-adds of models with their usual heads and five bins, by image size.

    ``sizes`` are (height, width) in pixels; a ViT sees an image in windows, as in evaluation.

    Returns
    -------
    a row a model: ``parameters`` in millions, then a column of 10⁹ multiply-adds for each size
    """
    rows = {}
    for name in names:
        model, variant = outline(name, block_size_px=block_size_px), find_variant(name)
        row = {}
        for height, width in sizes:
            side, pieces = variant.input_px, 1
            if variant.windows:
                pieces = math.ceil(height / side) * math.ceil(width / side)
            made = steps(model, *((side, side) if variant.windows else (height, width)))
            row[f"{height} × {width}"] = pieces * made["multiply_adds"].sum() / 1e9
        rows[name] = {"parameters": made["parameters"].sum() / 1e6} | row
    return pd.DataFrame(rows).T.rename_axis("model")


def costs(experiment: Experiment, teraflops: float | None = None) -> pd.DataFrame:
    """What each run of an experiment costs to train.

    ``teraflops`` are 10¹² operations a second that training reaches here; None takes the median of what
    the finished runs on this device reached, and gives no hours where there are none.

    Returns
    -------
    a row a run: ``finished``, ``crops`` it sees, ``petaflop`` (10¹⁵ operations of its convolutions and
    matrix products, evaluation left out), ``hours``
    """
    rows = {
        name: (is_done(cell, experiment), _crops(cell.config), _operations(cell.config) / 1e15)
        for name, cell in experiment.cells.items()
    }
    names = ["finished", "crops", "petaflop"]
    table = pd.DataFrame.from_dict(rows, orient="index", columns=names).rename_axis("run")
    table["finished"] = table["finished"].astype(bool)  # of a plan without tables, too
    rate = teraflops or _measured_teraflops()
    return table.assign(hours=np.nan if rate is None else table["petaflop"] * 1e3 / rate / 3600)


def format_costs(table: pd.DataFrame) -> str:
    """`costs` as text, with the sum of what is still to be trained."""
    formatters = {"finished": lambda done: "yes" if done else "no", "petaflop": "{:.3g}".format}
    formatters["hours"] = lambda value: "?" if np.isnan(value) else f"{value:.2f}"
    left = table[~table["finished"]]
    said = f"{left['hours'].sum():.1f} hours one after the other"
    if left["hours"].isna().any():
        said = "no finished run on this device to estimate hours from (--teraflops gives a rate)"
    return (
        f"{table.to_string(formatters=formatters)}\n{len(left)} of {len(table)} runs to train: "
        f"{left['petaflop'].sum():.3g} PFLOP, {said}"
    )


def say_duration(config: Config) -> None:
    """Say on stderr, before a run on a processor begins, what it will take if that is over an hour.

    The rate is that of finished runs here; without any, that of one large matrix product, which no
    training reaches: then it is a lower bound.
    """
    if torch.cuda.is_available() or _crops(config) < MANY_CROPS:
        return
    known = _measured_teraflops()
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
    from torch.utils.benchmark import Timer  # it warns where CUDA's tools lie without a GPU

    timer = Timer("one @ one", globals={"one": torch.ones(side, side)})
    return 2 * side**3 / 1e12 / min(timer.timeit(1).mean for _ in range(3))


@cache
def _measured_teraflops() -> float | None:
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


def _crops(config: Config) -> int:
    """How many crops a whole training sees."""
    return config.epochs * _training_images(config.dataset)


def _operations(config: Config) -> float:
    """Floating-point operations of a whole training."""
    given = config.model, config.head, config.block_size_px, config.crop_px
    return _crops(config) * _of_a_crop(*given)


@cache
def _of_a_crop(model: str, head: str, block_size_px: int, crop_px: int) -> float:
    made = steps(outline(model, 5, block_size_px, head), crop_px, crop_px)
    return 2 * FORWARD_AND_BACKWARD * float(made["multiply_adds"].sum())
