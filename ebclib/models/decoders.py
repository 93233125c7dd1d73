"""What stands between encoder and head: CSRNet's and DMCount's convolutions, the release's block."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock, Bottleneck

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


def residual_block(channels: int, bottleneck: bool = False) -> BasicBlock | Bottleneck:
    """The release's block before CLIP-EBC's projection, as wide inside as outside.

    Parameters
    ----------
    channels : C of the features, in and out
    bottleneck : 1×1, 3×3 and 1×1 convolutions, as behind CLIP's ResNets; else two 3×3, as behind its ViTs
    """
    if bottleneck:
        block = Bottleneck(channels, channels // 4, base_width=256)
    else:
        block = BasicBlock(channels, channels)
    for module in block.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    return block
