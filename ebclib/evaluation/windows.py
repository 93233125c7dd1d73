"""An image to its density map: in one piece, in tiles that say the same, or in windows that are averaged.

A convolutional model is counted whole, and where that would take too much memory in tiles with enough
of their surroundings that nobody could tell. A model trained on images of one size (ViT) is counted
in windows of that size, and blocks that several windows see get the mean of what they say.
"""

from __future__ import annotations

import math
import sys
import warnings
from collections.abc import Iterable
from itertools import count, product
from typing import NamedTuple
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from ebclib.models import BlockwiseModel

TILE_PX = 1536
"""Images up to this square are counted in one piece, larger ones in tiles no larger than it."""

MARGIN_PX = 384
"""The widest margin of a tile; one for models whose reach is wider or endless."""

WINDOWS_AT_ONCE = 8


class Maps(NamedTuple):
    """People per block, the variance of that (people²), float32 (⌈H/r⌉, ⌈W/r⌉); bins' probabilities
    (N, ⌈H/r⌉, ⌈W/r⌉) where they were asked for."""

    density: Tensor
    variance: Tensor
    probabilities: Tensor | None = None


@torch.inference_mode()
def predict_map(
    model: BlockwiseModel,
    image: Tensor | np.ndarray,
    window_px: int | None = None,
    stride_px: int | None = None,
    probabilities: bool = False,
    tile_px: int | None = TILE_PX,
) -> Maps:
    """The density of one image, of any size.

    In one piece, or, where it has more than ``tile_px``² pixels, in tiles: of each only the core is
    kept, and its margin is as wide as what the model looks at (`reach_px`), so that the map is that of
    the whole image to rounding.

    With windows (paper, Sec. IV-2) the image is covered by squares of ``window_px``. The last of each row
    and column is moved inside; an image smaller than a window is padded with the mean colour.

    Parameters
    ----------
    model : in evaluation mode
    image : uint8, a tensor (3, H, W) on any device, or an array (H, W, 3), which may be memory-mapped
    window_px : a multiple of r; None takes ``model.window_px``, where None is no windows
    stride_px : from window to window, a multiple of r; None: windows side by side
    probabilities : give those of the bins, too
    tile_px : the longest side of a tile, margins included; None: in one piece, however large

    Raises
    ------
    ValueError : windows that do not fall on blocks, or leave gaps; tiles that are all margin;
        probabilities of a regression model; an image that is no uint8 of three colours

    Warns
    -----
    UserWarning : tiles of a model in which every place sees the whole image (a ViT without
        windows): each tile is then an image of its own, and the map not that of the whole
    """
    image, window_px = _colours_first(image), window_px or model.window_px
    r, step, (height, width) = model.block_size_px, model.step_px, image.shape[1:]

    def layers(pieces: Tensor) -> Tensor:  # (B, 3, H, W) → (B, 2 or 2 + N, h, w)
        logits = model(pieces).float()
        found = [model.density(logits), model.variance(logits)]
        return torch.cat([*found, model.probabilities(logits)] if probabilities else found, dim=1)

    # Where to cut.
    if window_px is not None:
        at_once, stride_px = WINDOWS_AT_ONCE, stride_px or window_px
        if window_px % r or stride_px % r or not 0 < stride_px <= window_px:
            raise ValueError(
                f"Windows of {window_px} px every {stride_px} px: both must be multiples of the block's "
                f"{r} px, and the second no larger than the first."
            )
        if model.pads:
            height, width = -(-height // r) * r, -(-width // r) * r
        cuts = [window_spans(side, window_px, stride_px) for side in (height, width)]
    elif tile_px is None or height * width <= tile_px**2:
        return _maps(layers(_cut(image, slice(0, height), slice(0, width), model)[None])[0])
    else:
        at_once, margin_px = 1, _margin_px(model)
        if not model.pads:
            height, width = height // step * step, width // step * step
        cuts = [spans(side, tile_px, margin_px, step) for side in (height, width)]

    # What the pieces say of each block, added up; the last layer counts the pieces.
    pieces, total = list(product(*cuts)), torch.empty(0)
    for first in range(0, len(pieces), at_once):
        some = pieces[first : first + at_once]
        parts = layers(torch.stack([_cut(image, y.seen, x.seen, model) for y, x in some]))
        if not len(total):
            h, w = (-(-height // r), -(-width // r)) if model.pads else (height // r, width // r)
            total = parts.new_zeros(parts.shape[1] + 1, h, w)
        for (y, x), part in zip(some, parts, strict=True):
            core = total[:, y.blocks(r), x.blocks(r)]
            i, j = (y.start - y.seen.start) // r, (x.start - x.seen.start) // r
            core[:-1] += part[:, i : i + core.shape[1], j : j + core.shape[2]]
            core[-1] += 1
    return _maps(total[:-1] / total[-1])


def _maps(layers: Tensor) -> Maps:
    """The layers of one image by name."""
    return Maps(layers[0], layers[1], layers[2:] if len(layers) > 2 else None)


class Span(NamedTuple):
    """One side of a piece in pixels: what is kept of it, ``start`` to ``stop``, and what is looked at."""

    start: int
    stop: int
    seen: slice

    def blocks(self, r: int) -> slice:
        """The blocks that are kept."""
        first = self.start // r
        return slice(first, first + -(-(self.stop - self.start) // r))


def window_spans(length_px: int, window_px: int, stride_px: int) -> list[Span]:
    """A side in windows that overlap or touch, all of it kept; the last is moved inside.

    >>> [span.start for span in window_spans(500, 224, 224)]
    [0, 224, 276]
    """
    last = max(length_px - window_px, 0)
    starts = [*range(0, last, stride_px), last]
    return [Span(at, at + window_px, slice(at, at + window_px)) for at in starts]


def spans(length_px: int, tile_px: int, margin_px: int, step_px: int) -> list[Span]:
    """A side cut into as few tiles as will do, of nearly the same size, that begin at whole features.

    A tile is at most ``tile_px`` long, margins included. ``margin_px`` is rounded up to a multiple of
    ``step_px``, at which features and blocks begin together; there is none at the image's border.
    ValueError for tiles that are all margin.

    >>> for span in spans(1000, 512, 64, 16):
    ...     print(span)
    Span(start=0, stop=336, seen=slice(0, 400, None))
    Span(start=336, stop=672, seen=slice(272, 736, None))
    Span(start=672, stop=1000, seen=slice(608, 1000, None))
    """
    margin_px = -(-margin_px // step_px) * step_px
    if length_px > tile_px < 2 * margin_px + step_px:
        raise ValueError(
            f"Tiles of {tile_px} px are nothing but their margins of {margin_px} px on either side; "
            f"give tile_px of {2 * margin_px + step_px} or more."
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

    Half of the theoretical receptive field, rounded up to whole features; None where every block of
    ``limit_px`` sees the whole image. It is measured: a column of an image is made "not a number", which
    every block that looks at it then is. cuDNN's other algorithms would spread it, and are left out.

    >>> from ebclib.encoders import build_encoder
    >>> reach_px(BlockwiseModel(build_encoder("mobilenetv2", "none"), [0, 1], head="linear"))
    224
    """
    r, step, was_training = network.block_size_px, network.step_px, network.training
    network.eval()
    width, reach, device = 32 * step, None, network.mean.device
    while width <= limit_px and reach is None:
        strip = torch.zeros(1, 3, step, width, device=device)
        first = width // 2 // step * step
        strip[..., first : first + step] = math.nan
        with torch.backends.cudnn.flags(enabled=False), torch.autocast(device.type, enabled=False):
            logits = network(strip)
        touched = logits.isnan().any(dim=1).flatten(0, 1).any(dim=0).nonzero()  # blocks of a row
        left, right = touched.min().item() * r, touched.max().item() * r + r
        if left > 0 and right < width:
            reach = max(first - left, right - first - step)
        width *= 2
    network.train(was_training)
    return reach if reach is None else -(-reach // step) * step


_REACHES: WeakKeyDictionary[BlockwiseModel, int | None] = WeakKeyDictionary()
"""What was measured of a model, which its shape alone decides: once, not for every image."""


def _margin_px(network: BlockwiseModel) -> int:
    """What a tile sees beyond its core: `reach_px`, but at most `MARGIN_PX`."""
    if network not in _REACHES:
        _REACHES[network] = reach_px(network)
    reach = _REACHES[network]
    if reach is None:
        warnings.warn(
            "Every place of this model sees the whole image, so tiles change its map a little: each "
            "is taken for an image of its own. tile_px=None counts in one piece, if memory allows.",
            stacklevel=4,
        )
    return MARGIN_PX if reach is None else min(reach, MARGIN_PX)


def _colours_first(image: Tensor | np.ndarray) -> Tensor | np.ndarray:
    """The same numbers as (3, H, W), seen and not copied."""
    is_array = isinstance(image, np.ndarray)
    colours = image.ndim == 3 and image.shape[2 if is_array else 0] == 3
    if not colours or image.dtype not in (np.uint8 if is_array else torch.uint8,):
        raise ValueError(
            f"The image is {image.dtype} {tuple(image.shape)}; give uint8 RGB, an array (H, W, 3) "
            "or a tensor (3, H, W)."
        )
    return image.transpose(2, 0, 1) if isinstance(image, np.ndarray) else image


def _cut(image: Tensor | np.ndarray, rows: slice, columns: slice, model: BlockwiseModel) -> Tensor:
    """A part of the image on the device, the mean colour where it reaches over the border."""
    piece = image[:, rows, columns]
    if isinstance(piece, np.ndarray):
        piece = torch.from_numpy(np.array(piece))  # a copy: a mapped file cannot be written to
    piece = piece.to(model.mean.device)
    size = rows.stop - rows.start, columns.stop - columns.start
    if piece.shape[1:] == size:
        return piece
    filled = (model.mean * 255).round().to(piece.dtype).repeat(1, *size)
    filled[:, : piece.shape[1], : piece.shape[2]] = piece
    return filled


def inner_bar(items: Iterable, title: str | None, unit: str) -> Iterable:
    """``items`` with a progress bar that goes away at the end; none without a title.

    None in a notebook's kernel, either: each line of progress would be stored in its output.
    """
    ipython = sys.modules.get("IPython")
    in_kernel = hasattr(ipython and ipython.get_ipython(), "kernel")
    silent = title is None or in_kernel
    return tqdm(items, desc=title, disable=silent, unit=unit, leave=False)
