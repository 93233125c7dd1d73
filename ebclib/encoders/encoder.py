"""What an encoder brings to a counting model, and the same weights on a finer grid of features."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn


@dataclass(frozen=True, kw_only=True)
class Encoder:
    """What a pretrained model brings to a counting model.

    Attributes
    ----------
    image : module, (B, 3, H, W) normalised → (B, C, H / stride, W / stride)
    channels : C
    stride_px : image pixels to one feature
    mean, std : normalisation of images in [0, 1], one value a colour
    embedding : D, the width of the embedding that sentences and features share
    embed_text : sentences → (N, D) float32; None where there is no text tower, or none was loaded
    source : which weights these are, for the run's provenance
    """

    image: nn.Module
    channels: int
    stride_px: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    embedding: int = 512
    embed_text: Callable[[Sequence[str]], Tensor] | None = None
    source: str = "random"


PROBE_PX = 128
STRIDED = (nn.Conv2d, nn.MaxPool2d, nn.AvgPool2d)


def limit_stride(network: nn.Module, stride_px: int) -> None:
    """Take away every halving that would make a feature coarser than ``stride_px`` image pixels.

    This is what CLIP-EBC does to the last stage of CLIP's ResNets (paper, Sec. III-B). Convolutions
    keep their weights and lose their stride, shortcuts included; pools of two pixels become nothing.
    Which ones they are is seen from a small image sent through.

    Parameters
    ----------
    network : module, (B, 3, H, W) → (B, C, h, w), changed in place

    Raises
    ------
    ValueError : a stride below 1
    """
    if stride_px < 1:
        raise ValueError(f"stride_px is {stride_px}; a feature is at least 1 pixel.")
    too_coarse: list[nn.Module] = []

    def look(module: nn.Module, given: tuple, made: torch.Tensor) -> None:
        halves = made.shape[-1] < given[0].shape[-1]
        if halves and made.shape[-1] * stride_px < PROBE_PX:
            too_coarse.append(module)

    strided = [module for module in network.modules() if isinstance(module, STRIDED)]
    hooks = [module.register_forward_hook(look) for module in strided]
    probe(network)
    for hook in hooks:
        hook.remove()
    for name, module in list(network.named_modules()):
        if not any(module is coarse for coarse in too_coarse):
            continue
        if not isinstance(module, nn.Conv2d) and module.kernel_size in (2, (2, 2)):
            network.set_submodule(name, nn.Identity())
            continue
        module.stride = (1, 1) if isinstance(module, nn.Conv2d) else 1
        if module.padding == (0, 0) and type(module) is nn.Conv2d:
            module.padding = "same"


@torch.no_grad()
def probe(network: nn.Module, side_px: int = PROBE_PX) -> tuple[int, ...]:
    """The shape (1, C, h, w) of the features of a grey square image; batch-norm statistics untouched."""
    was_training = network.training
    features = network.eval()(torch.zeros(1, 3, side_px, side_px))
    network.train(was_training)
    return tuple(features.shape)


def drop_unused(network: nn.Module, forward: nn.Module, side_px: int = PROBE_PX) -> None:
    """Replace the children of ``network`` that ``forward`` never calls by nothing.

    A classifier, say: its weights would be stored with every run and never learn.
    """
    called: set[str] = set()
    children = dict(network.named_children())
    hooks = [
        inner.register_forward_hook(partial(_remember, called, name))
        for name, child in children.items()
        for inner in child.modules()
    ]
    probe(forward, side_px)
    for hook in hooks:
        hook.remove()
    for name in children.keys() - called:
        setattr(network, name, nn.Identity())


def _remember(called: set[str], name: str, *_: object) -> None:
    called.add(name)
