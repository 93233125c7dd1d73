"""Encoder, decoder, head: an image to logits, probabilities P*, density and count (Eq. 1, Fig. 1, Fig. 4).

One decoder and one head for all models; which ones a name stands for is a row of
`ebclib.encoders.variants`. Everything is sized in blocks of r pixels: logits are (B, N, h, w).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torchvision.models.resnet import BasicBlock, Bottleneck

from ebclib.config import Config, one_of
from ebclib.encoders import build_encoder
from ebclib.encoders.encoder import Encoder
from ebclib.encoders.released import as_released, fill, read_released
from ebclib.encoders.variants import Variant, find_variant
from ebclib.encoders.weights import Weights
from ebclib.runs import Run

if TYPE_CHECKING:
    from ebclib.data.training_set import TrainingSet

HEADS = ("text", "linear", "random_text", "regression", "zip")
"""``text``: cosine with the bins' sentences (CLIP-EBC). ``linear``: a 1×1 convolution (EBC).
``random_text``: cosine with random directions, to see what language adds. ``regression``: people
directly, without bins (the models EBC is compared with). ``zip``: the linear head under ``loss="zip"``."""


def make_head(
    name: str, channels: int, outputs: int, embedding: int, text_features: Tensor | None = None
) -> LinearHead | CosineHead:
    """A head of `HEADS` by its name, with ``outputs`` N (1 for regression) and text features (N, D).

    Raises
    ------
    ValueError : an unknown head, or text features that are missing or misshapen
    """
    one_of("head", name, HEADS)
    if name == "text":
        return CosineHead(channels, embedding, outputs, text_features)
    if name == "random_text":
        return CosineHead(channels, embedding, outputs, torch.randn(outputs, embedding))
    if name == "zip":
        return ZIPHead(channels, outputs)
    return LinearHead(channels, outputs)


def new_convolution(
    channels: int, outputs: int, side: int = 1, dilation: int = 1, std: float = 0.01
) -> nn.Conv2d:
    """A convolution that keeps the map's size; it starts normal, by 0.01 as in the paper (Sec. IV-2)."""
    padding = dilation * (side // 2)
    convolution = nn.Conv2d(channels, outputs, side, padding=padding, dilation=dilation)
    nn.init.normal_(convolution.weight, std=std)
    convolution.bias = nn.Parameter(torch.zeros(outputs))
    return convolution


class LinearHead(nn.Module):
    """EBC's head: one 1×1 convolution from C channels to N logits (paper, Fig. 4, right).

    With one output it is the regression models' (Fig. 4, left): only the width differs.
    """

    def __init__(self, channels: int, outputs: int) -> None:
        super().__init__()
        self.classify = new_convolution(channels, outputs)

    def start_at(self, frequencies: Tensor) -> None:
        """Let the bias say, before any training, what is usual (Lin et al. 2017, Sec. 3.3).

        ``frequencies`` are the (N,) shares of the classes; with one output, the mean people of a block.
        """
        usual = frequencies.clamp(1e-4)
        is_count = len(usual) == 1  # then the output's softplus is to be it, else the softmax
        self.classify.bias = nn.Parameter(usual.expm1().log() if is_count else usual.log())

    def forward(self, features: Tensor, scale: float) -> Tensor:
        """(B, C, H', W') → float32 (B, N, scale·H', scale·W')."""
        return resize(self.classify(features), scale).float()


class ZIPHead(LinearHead):
    """Zero-inflated Poisson (Ma et al. 2025, arXiv:2506.19955): two 1×1 heads on the same features.

    One says π₀, the probability of a block where nobody can be; the other p, a softmax over the bins above
    0. The logits are log P*, with P*₀ = π₀ and P*ₖ = (1 − π₀) pₖ, so Eq. 1 is Y* = (1 − π₀) Σ pₖ aₖ.
    """

    def __init__(self, channels: int, outputs: int) -> None:
        super().__init__(channels, 2 + outputs - 1)

    def start_at(self, frequencies: Tensor) -> None:
        """As in `LinearHead`, for the (N,) shares of the classes: P* is to be them."""
        super().start_at(torch.cat([frequencies[:1], 1 - frequencies[:1], frequencies[1:]]))

    def forward(self, features: Tensor, scale: float) -> Tensor:
        """(B, C, H', W') → float32 log P* (B, N, scale·H', scale·W')."""
        logits = super().forward(features, scale)
        nobody, somebody = logits[:, :2].log_softmax(1).split(1, dim=1)  # log π₀ and log(1 − π₀)
        return torch.cat([nobody, somebody + logits[:, 2:].log_softmax(1)], dim=1)


class CosineHead(nn.Module):
    """CLIP-EBC's head: project to D, compare with each sentence, scale by a learnt temperature.

    logits = exp(t) · cos(features, text), t starting at ln(1 / 0.07) and exp(t) capped at 100 as in CLIP.
    """

    text_features: Tensor  # (N, D), of length 1

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
        self.project = new_convolution(channels, embedding, std=channels**-0.5)
        self.register_buffer("text_features", F.normalize(text_features.float(), dim=1))  # (N, D)
        self.log_scale = nn.Parameter(torch.tensor(math.log(1 / 0.07)))
        self.most = 100.0  # of exp(t); the released code has no limit

    def forward(self, features: Tensor, scale: float) -> Tensor:
        """(B, C, H', W') → float32 (B, N, scale·H', scale·W').

        A 1×1 convolution and interpolation commute: project on the coarse map, where it is cheap.
        """
        image = resize(self.project(features), scale).float()  # (B, D, h, w)
        device = "cpu" if image.is_meta else image.device.type  # meta: where only shapes are asked
        with torch.autocast(device, enabled=False):
            similarity = F.conv2d(F.normalize(image, dim=1), self.text_features[:, :, None, None])
            return self.log_scale.exp().clamp(max=self.most) * similarity


def resize(features: Tensor, scale: float) -> Tensor:
    """A (B, C, H', W') map on a grid ``scale`` times as fine: bilinear upwards, means downwards."""
    if scale == 1:
        return features
    ratio = Fraction(scale).limit_denominator(64)  # whole, for sizes that an export leaves open
    if ratio.numerator == 1:
        return F.avg_pool2d(features, ratio.denominator)
    if scale < 1:
        height, width = (s * ratio.numerator // ratio.denominator for s in features.shape[-2:])
        return F.adaptive_avg_pool2d(features, (height, width))
    return F.interpolate(features, scale_factor=float(scale), mode="bilinear", align_corners=False)


def make_decoder(
    variant: Variant | None, channels: int, stride_px: int, residual_px: int | None = None
) -> tuple[nn.Module, int, int]:
    """The decoder of a row, for features of ``channels`` at every ``stride_px`` pixels.

    Without one in the row (None has none), and with ``residual_px`` (r), the release's residual block on
    the grid of blocks: 1×1, 3×3 and 1×1 convolutions as behind CLIP's ResNets, or two 3×3.

    Returns
    -------
    the module, (B, C, H', W') → (B, C', H'', W''); C'; and image pixels to one of its features

    >>> from ebclib.encoders.variants import find_variant
    >>> decoder, channels, stride_px = make_decoder(find_variant("dmcount"), 512, 16)
    >>> decoder(torch.zeros(1, 512, 4, 6)).shape, stride_px
    (torch.Size([1, 128, 8, 12]), 8)
    """
    if variant is not None and variant.decoder:
        layers: list[nn.Module] = []
        for width in variant.decoder:
            layers += [new_convolution(channels, width, 3, variant.dilation), nn.ReLU(inplace=True)]
            channels = width
        out_px = variant.decoder_stride_px or stride_px
        first = [Resize(stride_px / out_px)] if out_px != stride_px else []
        return nn.Sequential(*first, nn.Sequential(*layers)), channels, out_px
    if residual_px is None:
        return nn.Identity(), channels, stride_px
    if variant is not None and variant.bottleneck:
        block: nn.Module = Bottleneck(channels, channels // 4, base_width=256)
    else:
        block = BasicBlock(channels, channels)
    for module in block.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    return nn.Sequential(Resize(stride_px / residual_px), block), channels, residual_px


class Resize(nn.Module):
    """Features on a grid ``scale`` times as fine."""

    def __init__(self, scale: float) -> None:
        super().__init__()
        self.scale = scale

    def forward(self, features: Tensor) -> Tensor:
        """(B, C, H', W') → (B, C, scale·H', scale·W')."""
        return resize(features, self.scale)


class BlockwiseModel(nn.Module):
    """A network that says for every block which bin its count falls into (paper, Fig. 1, Sec. III-B).

    With the regression head it says the count itself: the same network with one output (Fig. 4), whose
    softplus is the people of a block. (A published ReLU that is 0 everywhere learns no more.)

    Parameters
    ----------
    encoder : the pretrained image tower
    representatives : N values, the count each bin stands for (`Bins.representatives`); not used with
        the regression head
    block_size_px : r
    head : one of `HEADS`
    text_features : (N, D) embeddings of the bins' sentences, for the text head
    variant : the row that says which decoder; None has none
    residual_block : one before the head, on the grid of blocks, as in the released code
    window_px : whole images are to be counted in windows of this side; None: in one piece
    pads : a strip too narrow for a feature or a block is filled up; False loses it, as the released code

    Raises
    ------
    ValueError : an unknown head, or text features of another shape than (N, D)
    """

    representatives: Tensor  # (N,)
    mean: Tensor  # (3, 1, 1), of images in [0, 1]
    std: Tensor

    def __init__(
        self,
        encoder: Encoder,
        representatives: Sequence[float] | np.ndarray,
        block_size_px: int = 8,
        head: str = "text",
        text_features: Tensor | None = None,
        variant: Variant | None = None,
        residual_block: bool = False,
        window_px: int | None = None,
        pads: bool = True,
    ) -> None:
        super().__init__()
        self.block_size_px, self.window_px, self.pads = block_size_px, window_px, pads
        self.encoder_px = encoder.stride_px
        self.encoder, self.weights_source = encoder.image, encoder.source
        self.decoder, channels, self.feature_px = make_decoder(
            variant, encoder.channels, encoder.stride_px, block_size_px if residual_block else None
        )
        self.is_regression, self.is_zip = head == "regression", head == "zip"
        outputs = 1 if self.is_regression else len(representatives)
        self.head = make_head(head, channels, outputs, encoder.embedding, text_features)
        self.register_buffer(
            "representatives", torch.as_tensor(representatives, dtype=torch.float32)
        )
        self.register_buffer("mean", torch.tensor(encoder.mean).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(encoder.std).view(3, 1, 1), persistent=False)

    @property
    def step_px(self) -> int:
        """Pixels from one place where a feature and a block begin together to the next."""
        return math.lcm(self.encoder_px, self.block_size_px)

    def forward(self, image: Tensor) -> Tensor:
        """Logits of the N bins for every block; with the regression head what `density` makes people of.

        ``image`` is uint8 (B, 3, H, W), or float in [0, 1]; RGB, any H and W. Gives float32
        (B, N, ⌈H/r⌉, ⌈W/r⌉), rounded down without ``pads``; N = 1 with the regression head.
        """
        r = self.block_size_px  # rounded up without a negative number, which ONNX divides otherwise
        h, w = ((side + r - 1) // r for side in image.shape[-2:])
        features = self.encoder(self._normalised(image))  # (B, C, H/stride, W/stride)
        features = self.decoder(features)
        return self.head(features, self.feature_px / self.block_size_px)[..., :h, :w]

    def probabilities(self, logits: Tensor) -> Tensor:
        """P*, the softmax over the bins: (B, N, h, w) → (B, N, h, w).

        Of ZIP, P*₀ is π₀ alone: a block where somebody could be is empty with probability e^−λ, too.

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

    def rate(self, logits: Tensor) -> Tensor:
        """λ of ZIP, people per block where somebody can be: (B, N, h, w) → (B, 1, h, w)."""
        people = logits[:, 1:].softmax(1) * self.representatives[1:].view(-1, 1, 1)
        return people.sum(1, keepdim=True)

    def variance(self, logits: Tensor) -> Tensor:
        """The variance of each block's count under P*, people²: (B, N, h, w) → (B, 1, h, w).

        ZIP's is Y* (1 + π₀ λ). Of a regression model the density is taken, as of a Poisson variable.
        """
        if self.is_regression:
            return self.density(logits)
        if self.is_zip:
            nobody = self.probabilities(logits)[:, :1]
            return self.density(logits) * (1 + nobody * self.rate(logits))
        p, a = self.probabilities(logits), self.representatives.view(-1, 1, 1)
        mean = (p * a).sum(1, keepdim=True)
        return (p * (a - mean).square()).sum(1, keepdim=True)

    def _normalised(self, image: Tensor) -> Tensor:
        """With zeros right and below, up to whole features and blocks, so that no strip goes unseen."""
        image = image / 255 if image.dtype == torch.uint8 else image
        image, (height, width) = (image - self.mean) / self.std, image.shape[-2:]
        if not self.pads:
            return image
        return F.pad(image, (0, -width % self.step_px, 0, -height % self.step_px))


def build_model(config: Config, task: TrainingSet) -> BlockwiseModel:
    """The model a config asks for, with the pretrained weights it asks for."""
    if config.released and config.pretrained not in ("default", "none"):
        weights, sentences = read_released(config.pretrained), task.sentences(config)
        return released_model(config, weights, task.representatives, sentences)
    texts = task.sentences(config) if config.head == "text" else ()
    model = _new_model(config, task.representatives, texts)
    if config.prior_bias and isinstance(model.head, LinearHead):  # a cosine has no bias
        frequencies = task.class_frequencies(config)
        model.head.start_at(torch.from_numpy(frequencies).float())
    return model


def released_model(
    config: Config, weights: Weights, representatives: np.ndarray, sentences: Sequence[str]
) -> BlockwiseModel:
    """A network of the authors', filled from one of their files (`encoders.released.read_released`).

    The file does not hold the (N,) ``representatives``. Its own text tower embeds the N ``sentences``,
    which a model without text does not use. ValueError for a file that does not fit; what is missing,
    left over or misshapen is named.
    """
    with _NoDraws():
        model = _new_model(config, representatives)
    model.weights_source = weights.source
    embed = fill(model, config.model, weights)
    if embed is not None and isinstance(model.head, CosineHead):
        model.head.text_features.copy_(F.normalize(embed(sentences), dim=1))
    return model


def load_model(run: Run, device: str | torch.device = "cpu") -> BlockwiseModel:
    """A run's trained model, in evaluation mode."""
    return fill_model(run.config, run.weights, device)


def fill_model(config: Config, weights: Path, device: str | torch.device = "cpu") -> BlockwiseModel:
    """The model a config describes with trained weights from a file, in evaluation mode."""
    state = load_file(weights)
    with _NoDraws():
        model = _new_model(config, np.zeros(len(state["representatives"])))
    model.load_state_dict(state)
    return model.to(device).eval()


class _NoDraws(TorchFunctionMode):
    """Leaves out the drawing of random weights, which takes seconds, where all are to be overwritten."""

    def __torch_function__(self, func, types, args=(), kwargs=None):  # noqa: ANN001
        is_draw = func in (Tensor.normal_, Tensor.uniform_)
        return args[0] if is_draw else func(*args, **(kwargs or {}))


def _new_model(
    config: Config, representatives: np.ndarray, sentences: Sequence[str] | None = None
) -> BlockwiseModel:
    """The model a config describes, with pretrained weights; without ``sentences``, for those of a file."""
    encoder = build_encoder(
        config.model,
        config.pretrained,
        config.visual_prompts,
        config.prompt_tokens,
        load=sentences is not None,
    )
    text = None
    if config.head == "text":
        if sentences is None:
            text = torch.zeros(len(representatives), encoder.embedding)
        elif encoder.embed_text is not None:
            text = encoder.embed_text(sentences)
    if config.released:
        encoder = as_released(encoder, cast(int, config.crop_px))
    variant = find_variant(config.model)
    model = BlockwiseModel(
        encoder,
        representatives,
        config.block_size_px,
        "zip" if config.loss == "zip" else str(config.head),
        text,
        variant,
        config.residual_block,
        window_px=config.crop_px if variant.windows else None,
        pads=not config.released,
    )
    if config.released and isinstance(model.head, CosineHead):
        model.head.most = math.inf
    return model
