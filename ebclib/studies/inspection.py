"""What a model is made of: shapes at each step, parameters and multiply-adds, without its weights.

Everything is computed on torch's meta device, which knows shapes and holds no numbers: a model of
300 M parameters is described in seconds and takes no memory.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import pandas as pd
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from ebclib.encoders import build_encoder
from ebclib.encoders.variants import VARIANTS, find_variant
from ebclib.models import BlockwiseModel


def table_of_models() -> pd.DataFrame:
    """The rows of `variants.VARIANTS`, one a model, for reading."""
    rows = [
        {
            "model": row.name,
            "encoder": row.architecture,
            "weights": row.weights,
            "decoder": " ".join(map(str, row.decoder)) or "none",
            "heads": "text, linear, …" if row.has_text else "linear, …",
            "source": row.source,
        }
        for row in VARIANTS.values()
    ]
    return pd.DataFrame(rows).set_index("model")


def outline(
    name: str, bins: int = 5, block_size_px: int = 8, head: str | None = None
) -> BlockwiseModel:
    """A model without its weights, on the meta device.

    Parameters
    ----------
    name : a row of `variants.VARIANTS`, ``timm:NAME`` or ``open_clip:NAME``
    bins : N
    block_size_px : r
    head : None takes ``text`` where the row has a text tower, ``linear`` otherwise
    """
    variant = find_variant(name)
    head = head or ("text" if variant.has_text else "linear")
    with torch.device("meta"):
        encoder = build_encoder(name, "none", load=False)
        text = torch.empty(bins, encoder.embedding) if head == "text" else None
        model = BlockwiseModel(encoder, [0.0] * bins, block_size_px, head, text, variant)
    return model.eval()


def steps(model: nn.Module, height_px: int, width_px: int) -> pd.DataFrame:
    """What each part of a model makes of one image.

    Parameters
    ----------
    model : an `outline`
    height_px, width_px : the image's sides

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
    rows = [{"step": "image", "shape": image.shape, "parameters": 0, "multiply_adds": 0}]
    rows += [
        {
            "step": name,
            "shape": seen[name].shape,
            "parameters": sum(p.numel() for p in part.parameters() if p.requires_grad),
            "multiply_adds": sum(counts.get(f"{kind}.{name}", {}).values()) // 2,
        }
        for name, part in parts.items()
    ]
    rows.append({"step": "density", "shape": density.shape, "parameters": 0, "multiply_adds": 0})
    for row in rows:
        row["shape"] = tuple(row["shape"][1:])
    return pd.DataFrame(rows).set_index("step")


def costs(
    names: Iterable[str], sizes: Sequence[tuple[int, int]], block_size_px: int = 8
) -> pd.DataFrame:
    """Parameters and multiply-adds of models, by image size.

    Parameters
    ----------
    names : models, with their usual heads and five bins
    sizes : (height, width) of images in pixels; a ViT sees them in windows, as in evaluation

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
