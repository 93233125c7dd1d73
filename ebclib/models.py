"""Decoder and head: encoder features to logits, probabilities, density and count.

Everything is sized in blocks of r pixels: logits (B, N, h, w) with h = ⌈H / r⌉, w = ⌈W / r⌉.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .encoders import Encoder


class EBC(nn.Module):
    """A network that says for every block which bin its count falls into (paper, Fig. 1 and Sec. III-B).

    Parameters
    ----------
    encoder : the pretrained image tower
    representatives : N values, the count each bin stands for (`Bins.representatives`)
    block_size_px : r
    head : ``"text"`` compares the features' cosine with the text features (CLIP-EBC), ``"linear"``
        is the plain 1×1 convolution of EBC
    text_features : (N, D) embeddings of the bins' sentences; the text head needs them, or, where the
        model is filled from a file, zeros in their place

    Raises
    ------
    ValueError : an unknown head, or text features of another shape than (N, D)
    """

    def __init__(
        self,
        encoder: Encoder,
        representatives: Sequence[float],
        block_size_px: int = 8,
        head: str = "text",
        text_features: Tensor | None = None,
    ) -> None:
        super().__init__()
        self.block_size_px = block_size_px
        self.stride_px = encoder.stride_px
        self.encoder = encoder.image
        bins = len(representatives)
        if head == "text":
            self.head: nn.Module = CosineHead(
                encoder.channels, encoder.embedding, bins, text_features
            )
        elif head == "linear":
            self.head = LinearHead(encoder.channels, bins)
        else:
            raise ValueError(f"head {head!r} is not known. Choose from: text, linear.")
        self.register_buffer(
            "representatives", torch.as_tensor(representatives, dtype=torch.float32)
        )
        self.register_buffer("mean", torch.tensor(encoder.mean).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(encoder.std).view(3, 1, 1), persistent=False)

    def forward(self, picture: Tensor) -> Tensor:
        """Logits of the N bins for every block.

        Parameters
        ----------
        picture : uint8 (B, 3, H, W), or float in [0, 1]; RGB, any H and W

        Returns
        -------
        float32 (B, N, ⌈H/r⌉, ⌈W/r⌉)
        """
        height, width = picture.shape[-2:]
        h, w = -(-height // self.block_size_px), -(-width // self.block_size_px)
        features = self.encoder(
            self._padded(self._normalised(picture))
        )  # (B, C, H/stride, W/stride)
        return self.head(features, self.stride_px / self.block_size_px)[..., :h, :w]

    def probabilities(self, logits: Tensor) -> Tensor:
        """P*, the softmax over the bins: (B, N, h, w) → (B, N, h, w)."""
        return logits.softmax(dim=1)

    def density(self, logits: Tensor) -> Tensor:
        """Y* of Eq. 1, people per block: (B, N, h, w) → (B, 1, h, w)."""
        return (self.probabilities(logits) * self.representatives.view(-1, 1, 1)).sum(
            1, keepdim=True
        )

    def variance(self, logits: Tensor) -> Tensor:
        """The variance of each block's count under P*, people²: (B, N, h, w) → (B, 1, h, w)."""
        p, a = self.probabilities(logits), self.representatives.view(-1, 1, 1)
        mean = (p * a).sum(1, keepdim=True)
        return (p * (a - mean).square()).sum(1, keepdim=True)

    def _normalised(self, picture: Tensor) -> Tensor:
        if picture.dtype == torch.uint8:
            picture = picture / 255
        return (picture - self.mean) / self.std

    def _padded(self, picture: Tensor) -> Tensor:
        """Zeros right and below, up to whole features and whole blocks, so that no strip goes unseen."""
        step = math.lcm(self.stride_px, self.block_size_px)
        height, width = picture.shape[-2:]
        return F.pad(picture, (0, -width % step, 0, -height % step))


class LinearHead(nn.Module):
    """EBC's head: one 1×1 convolution from C channels to N logits (paper, Fig. 4, right)."""

    def __init__(self, channels: int, bins: int) -> None:
        super().__init__()
        self.classify = nn.Conv2d(channels, bins, 1)
        nn.init.normal_(self.classify.weight, std=0.01)
        nn.init.zeros_(self.classify.bias)

    def forward(self, features: Tensor, scale: float) -> Tensor:
        """(B, C, H', W') → float32 (B, N, scale·H', scale·W')."""
        return resize(self.classify(features), scale).float()


class CosineHead(nn.Module):
    """CLIP-EBC's head: project to D, compare with each sentence, scale by a learnt temperature.

    logits = exp(t) · cos(features, text), t starting at ln(1 / 0.07) and exp(t) capped at 100 as in CLIP.
    """

    def __init__(
        self, channels: int, embedding: int, bins: int, text_features: Tensor | None = None
    ) -> None:
        super().__init__()
        if text_features is None:
            raise ValueError(
                "The text head compares with sentences: give text_features of shape (N, D)."
            )
        if tuple(text_features.shape) != (bins, embedding):
            raise ValueError(
                f"text_features are {tuple(text_features.shape)}; {bins} bins and an embedding of width "
                f"{embedding} need ({bins}, {embedding})."
            )
        self.project = nn.Conv2d(channels, embedding, 1)
        nn.init.normal_(self.project.weight, std=channels**-0.5)
        nn.init.zeros_(self.project.bias)
        self.register_buffer("text_features", F.normalize(text_features.float(), dim=1))  # (N, D)
        self.log_scale = nn.Parameter(torch.tensor(math.log(1 / 0.07)))

    def forward(self, features: Tensor, scale: float) -> Tensor:
        """(B, C, H', W') → float32 (B, N, scale·H', scale·W').

        A 1×1 convolution and bilinear interpolation commute, and so do cosines' numerators: project on
        the coarse map, where it is cheap, then interpolate.
        """
        image = resize(self.project(features), scale).float()  # (B, D, h, w)
        with torch.autocast(image.device.type, enabled=False):
            similarity = F.conv2d(F.normalize(image, dim=1), self.text_features[:, :, None, None])
            return self.log_scale.exp().clamp(max=100) * similarity


def resize(features: Tensor, scale: float) -> Tensor:
    """Bilinear interpolation of a (B, C, H', W') map by ``scale``; 1 changes nothing."""
    if scale == 1:
        return features
    return F.interpolate(features, scale_factor=scale, mode="bilinear", align_corners=False)
