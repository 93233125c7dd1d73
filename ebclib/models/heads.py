"""The last step: features to a value for every bin and block, or to a density."""

from __future__ import annotations

import math
from fractions import Fraction

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ebclib.choices import choose

HEADS = ("text", "linear", "random_text", "regression")
"""``text``: cosine with the bins' sentences (CLIP-EBC). ``linear``: a 1×1 convolution (EBC).
``random_text``: cosine with random directions, to see what language adds. ``regression``: people
directly, without bins (the models EBC is compared with)."""


def make_head(
    name: str, channels: int, outputs: int, embedding: int, text_features: Tensor | None = None
) -> nn.Module:
    """A head by its name, for features of ``channels``; a new head is one class and one line here.

    Parameters
    ----------
    name : one of `HEADS`
    outputs : N bins; 1 for regression
    embedding : D, the width of text features
    text_features : (N, D); the text head needs them

    Raises
    ------
    ValueError : an unknown head, or text features that are missing or misshapen
    """
    choose("head", name, HEADS)
    if name == "text":
        return CosineHead(channels, embedding, outputs, text_features)
    if name == "random_text":
        return CosineHead(channels, embedding, outputs, torch.randn(outputs, embedding))
    return LinearHead(channels, outputs)


class LinearHead(nn.Module):
    """EBC's head: one 1×1 convolution from C channels to N logits (paper, Fig. 4, right).

    With one output it is the regression models' (Fig. 4, left): only the width differs.
    """

    def __init__(self, channels: int, outputs: int) -> None:
        super().__init__()
        self.classify = nn.Conv2d(channels, outputs, 1)
        nn.init.normal_(self.classify.weight, std=0.01)
        nn.init.zeros_(self.classify.bias)

    def start_at(self, frequencies: Tensor) -> None:
        """Let the bias say, before any training, what is usual (Lin et al. 2017, Sec. 3.3).

        Parameters
        ----------
        frequencies : (N,) shares of the classes; with one output, the people in a block on average
        """
        with torch.no_grad():
            usual = frequencies.clamp(1e-4)
            is_count = len(usual) == 1  # then the output's softplus is to be it, else the softmax
            self.classify.bias.copy_(usual.expm1().log() if is_count else usual.log())

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

        A 1×1 convolution and interpolation commute: project on the coarse map, where it is cheap.
        """
        image = resize(self.project(features), scale).float()  # (B, D, h, w)
        device = "cpu" if image.is_meta else image.device.type  # meta: where only shapes are asked
        with torch.autocast(device, enabled=False):
            similarity = F.conv2d(F.normalize(image, dim=1), self.text_features[:, :, None, None])
            return self.log_scale.exp().clamp(max=100) * similarity


def resize(features: Tensor, scale: float) -> Tensor:
    """A (B, C, H', W') map on a grid ``scale`` times as fine: bilinear upwards, means downwards.

    At half the size the two are the same. Coarser still, interpolation would look at four features of
    each block and pass over the rest. H' and W' times the scale are whole numbers.
    """
    if scale == 1:
        return features
    ratio = Fraction(scale).limit_denominator(
        64
    )  # whole numbers, for sizes that an export leaves open
    if ratio.numerator == 1:
        return F.avg_pool2d(features, ratio.denominator)
    size = [side * ratio.numerator // ratio.denominator for side in features.shape[-2:]]
    if scale < 1:
        return F.adaptive_avg_pool2d(features, size)
    return F.interpolate(features, size, mode="bilinear", align_corners=False)
