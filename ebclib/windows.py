"""A picture to its density map: in one piece, or in windows that nobody is lost or counted twice in."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from .models import BlockwiseModel


class Maps(NamedTuple):
    """People per block and the variance of that (people²), float32 (⌈H/r⌉, ⌈W/r⌉).

    ``probabilities``, float32 (N, ⌈H/r⌉, ⌈W/r⌉), are those of the bins where they were asked for.
    """

    density: Tensor
    variance: Tensor
    probabilities: Tensor | None = None


@torch.inference_mode()
def predict_map(
    model: nn.Module,
    picture: Tensor,
    network: BlockwiseModel | None = None,
    window_px: int | None = None,
    stride_px: int | None = None,
    batch_size: int = 8,
    probabilities: bool = False,
) -> Maps:
    """The density of one picture.

    With windows (as the paper does for ViT, Sec. IV-2) the picture is covered by squares of
    ``window_px``; the last of each row and column is moved inside, blocks that several windows see get
    the mean of what they say, and a picture smaller than a window is padded with the mean colour.

    Parameters
    ----------
    model : pictures → logits, in evaluation mode; a `BlockwiseModel`, or one wrapped for a device
    picture : uint8 (3, H, W) on the model's device
    network : the `BlockwiseModel` inside ``model`` where it is wrapped
    window_px : a multiple of r; None takes ``network.window_px``, where None is the whole picture
    stride_px : from window to window, a multiple of r; None: windows side by side
    batch_size : windows at a time
    probabilities : give those of the bins, too

    Raises
    ------
    ValueError : windows that do not fall on blocks, or leave gaps; probabilities of a regression model
    """
    network = network or model
    r, window_px = network.block_size_px, window_px or network.window_px
    if window_px is None:
        return _maps(_layers(network, model(picture[None]), probabilities)[0])
    stride_px = stride_px or window_px
    if window_px % r or stride_px % r or not 0 < stride_px <= window_px:
        raise ValueError(
            f"Windows of {window_px} px every {stride_px} px: both must be multiples of the block's "
            f"{r} px, and the second no larger than the first."
        )
    height, width = picture.shape[-2:]
    whole = _padded(picture, network, window_px)
    rows, columns = (window_starts(side, window_px, stride_px) for side in whole.shape[-2:])
    corners = [(top, left) for top in rows for left in columns]
    layers = 2 + probabilities * len(network.representatives)
    total = torch.zeros(
        layers + 1, *(side // r for side in whole.shape[-2:]), device=picture.device
    )
    for first in range(0, len(corners), batch_size):
        some = corners[first : first + batch_size]
        seen = torch.stack([whole[:, y : y + window_px, x : x + window_px] for y, x in some])
        parts = _layers(network, model(seen), probabilities)
        parts = torch.cat([parts, torch.ones_like(parts[:, :1])], dim=1)  # (windows, layers + 1, …)
        for (top, left), part in zip(some, parts, strict=True):
            i, j, side = top // r, left // r, window_px // r
            total[:, i : i + side, j : j + side] += part
    *sums, windows = total[:, : -(-height // r), : -(-width // r)]
    return _maps(torch.stack(sums) / windows)


def _layers(network: BlockwiseModel, logits: Tensor, probabilities: bool) -> Tensor:
    """Density, variance and, if wanted, the N probabilities: (B, N, h, w) → (B, 2 or 2 + N, h, w)."""
    logits = logits.float()
    layers = [network.density(logits), network.variance(logits)]
    if probabilities:
        layers.append(network.probabilities(logits))
    return torch.cat(layers, dim=1)


def _maps(layers: Tensor) -> Maps:
    """What `_layers` gives for one picture, by name."""
    return Maps(layers[0], layers[1], layers[2:] if len(layers) > 2 else None)


def window_starts(length_px: int, window_px: int, stride_px: int) -> list[int]:
    """Where windows begin along a side at least as long as one; the last is moved inside.

    >>> window_starts(500, 224, 224)
    [0, 224, 276]
    """
    return [*range(0, length_px - window_px, stride_px), length_px - window_px]


def _padded(picture: Tensor, network: BlockwiseModel, window_px: int) -> Tensor:
    """The picture on a canvas of whole blocks, at least one window large, of the mean colour."""
    r = network.block_size_px
    height, width = picture.shape[-2:]
    sides = [max(-(-side // r) * r, window_px) for side in (height, width)]
    canvas = (network.mean * 255).round().to(picture.dtype).repeat(1, *sides)
    canvas[:, :height, :width] = picture
    return canvas
