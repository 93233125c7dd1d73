"""Where the tiles of a large image lie, and how far beyond a tile a model has to look."""

from __future__ import annotations

import math
from itertools import count
from typing import NamedTuple

import torch

from ebclib.models import BlockwiseModel


class Span(NamedTuple):
    """One side of a tile in pixels: what is kept of it, ``start`` to ``stop``, and what is looked at."""

    start: int
    stop: int
    seen: slice


def spans(length_px: int, tile_px: int, margin_px: int, step_px: int) -> list[Span]:
    """A side cut into as few tiles as will do, of nearly the same size, that begin at whole features.

    Parameters
    ----------
    length_px : of the image's side
    tile_px : the longest a tile may be, margins included
    margin_px : rounded up to a multiple of ``step_px``; there is none at the image's border
    step_px : what both the model's features and its blocks begin at

    Raises
    ------
    ValueError : tiles that are all margin

    >>> for span in spans(1000, 512, 64, 16):
    ...     print(span)
    Span(start=0, stop=336, seen=slice(0, 400, None))
    Span(start=336, stop=672, seen=slice(272, 736, None))
    Span(start=672, stop=1000, seen=slice(608, 1000, None))
    """
    if margin_px < 0:
        raise ValueError(f"margin_px is {margin_px}; give 0 or more pixels.")
    margin_px = -(-margin_px // step_px) * step_px
    if length_px > tile_px < 2 * margin_px + step_px:
        raise ValueError(
            f"Tiles of {tile_px} px are nothing but their margins of {margin_px} px on either side; "
            f"give tile_px of {2 * margin_px + step_px} or more, or a smaller margin_px."
        )
    for tiles in count(1):
        core = -(-length_px // (tiles * step_px)) * step_px
        if min(core, length_px) + min(tiles - 1, 2) * margin_px <= tile_px:
            break
    starts = range(0, length_px, core)
    stops = [min(start + core, length_px) for start in starts]
    return [
        Span(start, stop, slice(max(start - margin_px, 0), min(stop + margin_px, length_px)))
        for start, stop in zip(starts, stops, strict=True)
    ]


@torch.inference_mode()
def reach_px(network: BlockwiseModel, limit_px: int = 8192) -> int | None:
    """How far from a block a pixel can lie and still change what the model says of that block.

    Half of the theoretical receptive field, rounded up to whole features, and measured, not added up
    from layers: a column of an image is made "not a number", which every block that looks at it then
    is. Convolutions by other algorithms than the direct one would spread it, so cuDNN is left out.

    Parameters
    ----------
    network : the model, left as it was found
    limit_px : the widest image that is tried

    Returns
    -------
    pixels; None where every block sees the whole image (a global pool, attention, group norm)

    >>> from ebclib.encoders import build_encoder
    >>> reach_px(BlockwiseModel(build_encoder("mobilenetv2", "none"), [0, 1], head="linear"))
    224
    """
    r, step, was_training = network.block_size_px, network.step_px, network.training
    network.eval()
    width, reach = 32 * step, None
    while width <= limit_px and reach is None:
        strip = torch.zeros(1, 3, step, width, device=network.mean.device)
        first = width // 2 // step * step
        strip[..., first : first + step] = math.nan
        with torch.backends.cudnn.flags(enabled=False):
            logits = network(strip)
        touched = logits.isnan().any(dim=1).flatten(0, 1).any(dim=0).nonzero()  # blocks of a row
        left, right = touched.min().item() * r, touched.max().item() * r + r
        if left > 0 and right < width:
            reach = max(first - left, right - first - step)
        width *= 2
    network.train(was_training)
    return reach if reach is None else -(-reach // step) * step
