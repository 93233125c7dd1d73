"""What an encoder brings to a counting model, and the same weights on a finer grid of features."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_hook


@dataclass(frozen=True, kw_only=True)
class Encoder:
    """What a pretrained model brings to a counting model."""

    image: nn.Module  # (B, 3, H, W) normalised → (B, C, H / stride, W / stride)
    channels: int  # C
    stride_px: int  # image pixels to one feature
    mean: tuple[float, float, float]  # normalisation of images in [0, 1], one value a colour
    std: tuple[float, float, float]
    embedding: int = 512  # D, the width of the embedding that sentences and features share
    # sentences → (N, D) float32; None where there is no text tower, or none was loaded
    embed_text: Callable[[Sequence[str]], Tensor] | None = None
    source: str = "random"  # which weights these are, for the run's provenance


PROBE_PX = 128
STRIDED = (nn.Conv2d, nn.MaxPool2d, nn.AvgPool2d)


def limit_stride(network: nn.Module, stride_px: int) -> None:
    """Take away every halving that would make a feature coarser than ``stride_px`` image pixels.

    This is what CLIP-EBC does to the last stage of CLIP's ResNets (paper, Sec. III-B). Convolutions
    keep their weights and lose their stride, shortcuts included; pools of two pixels become nothing.

    Parameters
    ----------
    network : module, (B, 3, H, W) → (B, C, h, w), changed in place

    Raises
    ------
    ValueError : a stride below 1
    """
    if stride_px < 1:
        raise ValueError(f"stride_px is {stride_px}; a feature is at least 1 pixel.")
    names = {module: name for name, module in network.named_modules()}
    for module, given, made in _calls(network):
        if not isinstance(module, STRIDED):
            continue
        width, is_convolution = made.shape[-1], isinstance(module, nn.Conv2d)
        if width >= given[0].shape[-1] or width * stride_px >= PROBE_PX:
            continue
        if not is_convolution and module.kernel_size in (2, (2, 2)):
            network.set_submodule(names[module], nn.Identity())
            continue
        module.stride = (1, 1) if is_convolution else 1
        if module.padding == (0, 0) and type(module) is nn.Conv2d:
            module.padding = "same"


def drop_unused(network: nn.Module, forward: nn.Module, side_px: int = PROBE_PX) -> None:
    """Replace the children of ``network`` that ``forward`` never calls by nothing.

    A classifier, say: its weights would be stored with every run and never learn.
    """
    called = {module for module, _, _ in _calls(forward, side_px)}
    for name, child in list(network.named_children()):
        if called.isdisjoint(child.modules()):
            setattr(network, name, nn.Identity())


def _calls(network: nn.Module, side_px: int = PROBE_PX) -> list[tuple[nn.Module, Any, Any]]:
    """The modules that an image goes through, each with what it was given and what it made."""
    calls: list[tuple[nn.Module, Any, Any]] = []
    hook = register_module_forward_hook(lambda *call: calls.append(call))
    try:
        probe(network, side_px)
    finally:
        hook.remove()
    return calls


@torch.no_grad()
def probe(network: nn.Module, side_px: int = PROBE_PX) -> tuple[int, ...]:
    """The shape (1, C, h, w) of the features of a grey square image; batch-norm statistics untouched."""
    was_training = network.training
    features = network.eval()(torch.zeros(1, 3, side_px, side_px))
    network.train(was_training)
    return tuple(features.shape)
