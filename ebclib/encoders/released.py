"""The released checkpoints of CLIP-EBC's authors: told by their tensors' names, and put into our models.

A file is ``best_mae.pth`` and the like, ``ckpt.pth``, or Hugging Face's ``model.safetensors``. It says
nothing of data set, bins or prompts. Its own frozen text tower makes the embeddings.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from timm.data.constants import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from torch import Tensor, nn

from ebclib.encoders.encoder import Encoder
from ebclib.encoders.variants import find_variant
from ebclib.encoders.weights import Weights, refuse_others

NETWORKS = {
    "backbone.reg_layer.": "dmcount",
    "backbone.decoder.": "csrnet",
    "backbone.features.": "vgg16",
    "image_encoder.layer1.": "clip_rn50",
    "image_encoder.transformer.resblocks.12.": "clip_vit_l_14",
    "image_encoder.transformer.": "clip_vit_b_16",
}
"""What the names in a file begin with → our model; the first that fits."""

RENAMED = {
    "encoder.trunk.features.": "backbone.features.",
    "encoder.visual.": "image_encoder.",
    "head.classify.": "classifier.",
    "head.project.": "projection.",
    "head.log_scale": "logit_scale",
}
"""Our names' beginnings → theirs."""

DECODERS = {
    "dmcount": ("decoder.1.", "backbone.reg_layer."),
    "csrnet": ("decoder.0.", "backbone.decoder."),
}
"""The same of the decoder, by model; any other has CLIP-EBC's residual block."""


def read_released(path: str | Path) -> Weights:
    """The tensors of a released file, by the authors' names; errors as `Weights.read`."""
    weights = Weights.read(Path(path).expanduser())
    tensors = {name.removeprefix("model."): value for name, value in weights.tensors.items()}
    return replace(weights, tensors=tensors)


def network_of(tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    """The fields of `Config` that describe a released network; empty for any other file.

    >>> network_of({"backbone.features.0.weight": torch.zeros(1)})
    {'model': 'vgg16', 'released': True}
    """
    rows = NETWORKS.items()
    model = next((row for start, row in rows if any(k.startswith(start) for k in tensors)), None)
    if model is None:
        return {}
    fields: dict[str, Any] = {"model": model, "released": True}
    if model.startswith("clip_"):
        fields["residual_block"] = True
    if model.startswith("clip_vit"):
        positions = tensors.get("image_encoder.positional_embedding", torch.empty(197))
        patch_px = 14 if model == "clip_vit_l_14" else 16
        fields["crop_px"] = patch_px * math.isqrt(len(positions) - 1)
        prompted = any(name.startswith("vpt_") for name in tensors)
        fields["visual_prompts"] = "deep" if prompted else "none"
    return fields


def network_in(path: str | Path) -> dict[str, Any]:
    """`network_of` a file that may be anything."""
    try:
        return network_of(read_released(path).tensors)
    except (ValueError, OSError):
        return {}


def as_released(encoder: Encoder, input_px: int) -> Encoder:
    """An encoder of ours, empty, as the released code has it: ImageNet's mean and std, for CLIP too.

    A ViT's position embedding is of windows of ``input_px``, and is interpolated without antialiasing.
    """
    if hasattr(encoder.image, "prompts"):  # CLIP's ViT
        visual, side = encoder.image.visual, input_px // encoder.image.patch_px
        encoder.image.antialias = False
        if visual.grid_size != (side, side):
            visual.grid_size = (side, side)
            learns = visual.positional_embedding.requires_grad
            positions = torch.zeros(1 + side * side, encoder.channels)
            visual.positional_embedding = nn.Parameter(positions, learns)
    return replace(encoder, mean=IMAGENET_DEFAULT_MEAN, std=IMAGENET_DEFAULT_STD)


@torch.no_grad()
def fill(model: nn.Module, name: str, weights: Weights) -> Callable[[Sequence[str]], Tensor] | None:
    """Put a released file into our model, the row ``name`` with ``released`` set, every name accounted for.

    Gives the file's own text tower, sentences → (N, D), not normalised; None where it has none.

    Raises
    ------
    ValueError : names that are missing or left over, or tensors of another shape; they are named
    """
    own = _by_their_names(model, name)
    variant, embed = find_variant(name), None
    if variant.has_text:
        from ebclib.encoders.clip import build_text, text_embedder  # open_clip loads for seconds

        clip = build_text(variant)
        embed = text_embedder(clip, variant)
        tower = clip.state_dict()
        del tower["logit_scale"]  # theirs stands beside the towers
        own |= {f"text_encoder.{key}": value for key, value in tower.items()}
    refuse_others(own, weights)
    for key, value in own.items():
        value.copy_(weights.tensors.get(key, value))
    return embed


def _by_their_names(model: nn.Module, name: str) -> dict[str, Tensor]:
    """The model's own tensors, not copied, by the names they have in the authors' files."""
    decoder = DECODERS.get(name, ("decoder.1.", "image_decoder.0."))
    own: dict[str, Tensor] = {}
    for key, value in model.state_dict().items():
        if key == "encoder.prompts":
            own |= {f"vpt_{layer}": tokens for layer, tokens in enumerate(value)}
        elif key not in ("representatives", "head.text_features"):  # made anew, not in the file
            pairs = (*RENAMED.items(), decoder)
            start, theirs = next(pair for pair in pairs if key.startswith(pair[0]))
            own[theirs + key.removeprefix(start)] = value
    return own
