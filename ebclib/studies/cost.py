"""What models and runs cost, before any is trained: torch's meta device knows shapes and needs no weights."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from functools import cache

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from ebclib import data
from ebclib.encoders import build_encoder
from ebclib.encoders.variants import find_variant
from ebclib.models import BlockwiseModel
from ebclib.studies.plan import Experiment, is_done


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

    Gives a row a ``step``: the ``shape`` (C, h, w) of what it makes, ``parameters`` that it learns, and
    ``multiply_adds`` of its convolutions, matrix products and attention.
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
        density = model.density(model(image))
    for hook in hooks:
        hook.remove()
    counts = counter.get_flop_counts()
    rows = {"image": (tuple(image.shape[1:]), 0, 0)}
    for name, part in parts.items():
        learnt = sum(p.numel() for p in part.parameters() if p.requires_grad)
        work = sum(counts.get(f"{type(model).__name__}.{name}", {}).values()) // 2
        rows[name] = (tuple(seen[name].shape[1:]), learnt, work)
    rows["density"] = (tuple(density.shape[1:]), 0, 0)
    names = ["shape", "parameters", "multiply_adds"]
    return pd.DataFrame.from_dict(rows, "index", columns=names).rename_axis("step")


def model_costs(
    names: Iterable[str], sizes: Sequence[tuple[int, int]], block_size_px: int = 8
) -> pd.DataFrame:
    """Parameters and multiply-adds of models with their usual heads and five bins, by image size.

    ``sizes`` are (height, width) in pixels; a ViT sees an image in windows, as in evaluation. Gives a row
    a model: ``parameters`` in millions, then a column of 10⁹ multiply-adds for each size.
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

    ``teraflops`` are 10¹² operations a second that training reaches here; None gives no hours. Gives a row
    a run: ``finished``, ``crops`` it sees, ``petaflop`` (10¹⁵ operations of its convolutions and matrix
    products, evaluation left out), ``hours``.
    """
    rows = {}
    for name, cell in experiment.cells.items():
        config = cell.config
        crops = config.epochs * _training_images(config.dataset)
        one = _of_a_crop(config.model, config.head, config.block_size_px, config.crop_px)
        rows[name] = is_done(cell, experiment), crops, crops * one / 1e15
    names = ["finished", "crops", "petaflop"]
    table = pd.DataFrame.from_dict(rows, orient="index", columns=names).rename_axis("run")
    return table.assign(hours=table["petaflop"] * 1e3 / 3600 / (teraflops or np.nan))


def format_costs(table: pd.DataFrame) -> str:
    """`costs` as text, with the sum of what is still to be trained."""
    left = table[~table["finished"].astype(bool)]
    said = f"{left['petaflop'].sum():.3g} PFLOP"
    if left["hours"].notna().any():
        said += f", {left['hours'].sum():.1f} hours one after the other"
    shown = table.to_string(float_format="{:.3g}".format, na_rep="?")
    return f"{shown}\n{len(left)} of {len(table)} runs to train: {said}"


@cache
def _training_images(dataset: str) -> int:
    """Nine tenths of the training split: as drawn, as published, or as there."""
    published = data.describe(dataset).splits.get("train")
    return round(0.9 * (published or len(data.read(dataset, "train"))))


@cache
def _of_a_crop(model: str, head: str, block_size_px: int, crop_px: int) -> float:
    """Floating-point operations of a training step for one crop."""
    made = steps(outline(model, 5, block_size_px, head), crop_px, crop_px)
    passes = 3  # one forward, and a backward one that takes about two
    return 2 * passes * float(made["multiply_adds"].sum())
