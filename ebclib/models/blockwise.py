"""A counting model: encoder, decoder, head, and from logits to people.

Everything is sized in blocks of r pixels: logits (B, N, h, w) with h = ⌈H / r⌉, w = ⌈W / r⌉.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ebclib.encoders import Encoder
from ebclib.variants import Variant

from .decoders import Resize, make_decoder
from .decoders import residual_block as make_residual_block
from .heads import make_head


class BlockwiseModel(nn.Module):
    """A network that says for every block which bin its count falls into (paper, Fig. 1, Sec. III-B).

    With the regression head it says the count itself: the same network with one output (Fig. 4), whose
    softplus is the people of a block. Published regression models end in a ReLU or in nothing; a ReLU
    that is 0 everywhere learns no more, which happens where people are few.

    Parameters
    ----------
    encoder : the pretrained image tower
    representatives : N values, the count each bin stands for (`Bins.representatives`); not used, and
        best left empty, with the regression head
    block_size_px : r
    head : one of `heads.HEADS`
    text_features : (N, D) embeddings of the bins' sentences; the text head needs them, or, where the
        model is filled from a file, zeros in their place
    variant : the row that says which decoder; None has none
    residual_block : one before the head, on the grid of blocks, as in the released code
    window_px : whole pictures are to be counted in windows of this side; None: in one piece

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
        variant: Variant | None = None,
        residual_block: bool = False,
        window_px: int | None = None,
    ) -> None:
        super().__init__()
        self.block_size_px, self.window_px = block_size_px, window_px
        self.encoder_px = encoder.stride_px
        self.encoder, self.weights_source = encoder.image, encoder.source
        channels, self.feature_px = encoder.channels, encoder.stride_px
        self.decoder: nn.Module = nn.Identity()
        if variant is not None and variant.decoder:
            self.decoder, channels, self.feature_px = make_decoder(
                variant, channels, encoder.stride_px
            )
        elif residual_block:
            block = make_residual_block(channels, variant is not None and variant.bottleneck)
            self.decoder = nn.Sequential(Resize(self.feature_px / block_size_px), block)
            self.feature_px = block_size_px
        self.is_regression = head == "regression"
        outputs = 1 if self.is_regression else len(representatives)
        self.head = make_head(head, channels, outputs, encoder.embedding, text_features)
        self.register_buffer(
            "representatives", torch.as_tensor(representatives, dtype=torch.float32)
        )
        self.register_buffer("mean", torch.tensor(encoder.mean).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(encoder.std).view(3, 1, 1), persistent=False)

    @property
    def step_px(self) -> int:
        """From one place where a feature and a block begin together to the next, in pixels."""
        return math.lcm(self.encoder_px, self.block_size_px)

    def forward(self, picture: Tensor) -> Tensor:
        """Logits of the N bins for every block; with the regression head what `density` makes people of.

        Parameters
        ----------
        picture : uint8 (B, 3, H, W), or float in [0, 1]; RGB, any H and W

        Returns
        -------
        float32 (B, N, ⌈H/r⌉, ⌈W/r⌉); N = 1 with the regression head
        """
        height, width = picture.shape[-2:]
        h, w = -(-height // self.block_size_px), -(-width // self.block_size_px)
        features = self.encoder(
            self._padded(self._normalised(picture))
        )  # (B, C, H/stride, W/stride)
        features = self.decoder(features)
        return self.head(features, self.feature_px / self.block_size_px)[..., :h, :w]

    def probabilities(self, logits: Tensor) -> Tensor:
        """P*, the softmax over the bins: (B, N, h, w) → (B, N, h, w).

        Raises
        ------
        ValueError : a regression model, which has no bins
        """
        if self.is_regression:
            raise ValueError("A regression model has no bins, and so no probabilities.")
        return logits.softmax(dim=1)

    def density(self, logits: Tensor) -> Tensor:
        """Y* of Eq. 1, people per block: (B, N, h, w) → (B, 1, h, w), nowhere below 0."""
        if self.is_regression:
            return F.softplus(logits)
        people = self.probabilities(logits) * self.representatives.view(-1, 1, 1)
        return people.sum(1, keepdim=True)

    def variance(self, logits: Tensor) -> Tensor:
        """The variance of each block's count under P*, people²: (B, N, h, w) → (B, 1, h, w).

        A regression model says nothing of it; its density is taken, as for a count of independent
        people (Poisson).
        """
        if self.is_regression:
            return self.density(logits)
        p, a = self.probabilities(logits), self.representatives.view(-1, 1, 1)
        mean = (p * a).sum(1, keepdim=True)
        return (p * (a - mean).square()).sum(1, keepdim=True)

    def _normalised(self, picture: Tensor) -> Tensor:
        if picture.dtype == torch.uint8:
            picture = picture / 255
        return (picture - self.mean) / self.std

    def _padded(self, picture: Tensor) -> Tensor:
        """Zeros right and below, up to whole features and whole blocks, so that no strip goes unseen."""
        height, width = picture.shape[-2:]
        return F.pad(picture, (0, -width % self.step_px, 0, -height % self.step_px))
