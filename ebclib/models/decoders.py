"""What stands between encoder and head: CSRNet's and DMCount's convolutions, CANNet's context."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ebclib.variants import Variant

from .heads import resize


def make_decoder(variant: Variant, channels: int, stride_px: int) -> tuple[nn.Module, int, int]:
    """The decoder of a row, for features of ``channels`` at every ``stride_px`` pixels.

    Returns
    -------
    the module, (B, C, H', W') → (B, C', H'', W''); C'; and picture pixels to one of its features

    >>> from ebclib.variants import find_variant
    >>> decoder, channels, stride_px = make_decoder(find_variant("dmcount"), 512, 16)
    >>> decoder(torch.zeros(1, 512, 4, 6)).shape, stride_px
    (torch.Size([1, 128, 8, 12]), 8)
    """
    parts: list[nn.Module] = []
    out_px = variant.decoder_stride_px or stride_px
    if out_px != stride_px:
        parts.append(Resize(stride_px / out_px))
    if variant.context:
        parts.append(Context(channels))
    if variant.decoder:
        parts.append(convolutions(channels, variant.decoder, variant.dilation))
        channels = variant.decoder[-1]
    return nn.Sequential(*parts), channels, out_px


def convolutions(channels: int, widths: Sequence[int], dilation: int = 1) -> nn.Sequential:
    """3×3 convolutions, each followed by a ReLU, that keep the map's size.

    New layers start normal with a deviation of 0.01 (paper, Sec. IV-2; CSRNet, Sec. 3.2).
    """
    parts: list[nn.Module] = []
    for before, width in zip([channels, *widths], widths, strict=False):
        convolution = nn.Conv2d(before, width, 3, padding=dilation, dilation=dilation)
        nn.init.normal_(convolution.weight, std=0.01)
        nn.init.zeros_(convolution.bias)
        parts += [convolution, nn.ReLU(inplace=True)]
    return nn.Sequential(*parts)


class Resize(nn.Module):
    """Features on a grid ``scale`` times as fine."""

    def __init__(self, scale: float) -> None:
        super().__init__()
        self.scale = scale

    def forward(self, features: Tensor) -> Tensor:
        """(B, C, H', W') → (B, C, scale·H', scale·W')."""
        return resize(features, self.scale)


class Context(nn.Module):
    """How each place differs from its surroundings at four scales (Liu et al. 2019, Eq. 2 to 5).

    For a map f and each scale s, s_j = U(F(P_s(f))): pooled to s × s, mixed, brought back. The contrast
    c = s_j − f decides by w = σ(W c) how much each scale counts; the weighted mean is set beside f and
    both are mixed back to C channels.
    """

    SCALES = (1, 2, 3, 6)

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.mix = nn.ModuleList(nn.Conv2d(channels, channels, 1, bias=False) for _ in self.SCALES)
        self.weigh = nn.Conv2d(channels, channels, 1)
        self.join = nn.Conv2d(2 * channels, channels, 1)
        for convolution in (*self.mix, self.weigh, self.join):
            nn.init.normal_(convolution.weight, std=0.01)

    def forward(self, features: Tensor) -> Tensor:
        """(B, C, H', W') → (B, C, H', W')."""
        size = features.shape[-2:]
        total, weights = torch.zeros_like(features), torch.zeros_like(features)
        for scale, mix in zip(self.SCALES, self.mix, strict=True):
            pooled = mix(F.adaptive_avg_pool2d(features, scale))
            around = F.interpolate(pooled, size, mode="bilinear", align_corners=False)
            weight = self.weigh(around - features).sigmoid()
            total, weights = total + weight * around, weights + weight
        return F.relu(self.join(torch.cat([features, total / weights], dim=1)))


class ResidualBlock(nn.Module):
    """Two 3×3 convolutions beside the identity; the release has one before CLIP-EBC's projection."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.first_norm = nn.BatchNorm2d(channels)
        self.second = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.second_norm = nn.BatchNorm2d(channels)
        for convolution in (self.first, self.second):
            nn.init.kaiming_normal_(convolution.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, features: Tensor) -> Tensor:
        """(B, C, H', W') → (B, C, H', W')."""
        inner = F.relu(self.first_norm(self.first(features)))
        return F.relu(features + self.second_norm(self.second(inner)))
