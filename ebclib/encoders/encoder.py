"""What an encoder brings to a counting model, and building one by its name."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

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
