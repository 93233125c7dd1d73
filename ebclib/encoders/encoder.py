"""What an encoder brings to a counting model, and timm's networks as encoders."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import timm
import torch
from timm.layers import Format
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_hook

from ebclib.config import one_of
from ebclib.encoders.clip_lite import embed_text, load_efficientnet_lite0
from ebclib.encoders.variants import Variant
from ebclib.encoders.weights import Weights, fetch, load_exactly, locate, tag_in


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


class DenseTimm(nn.Module):
    """A timm network's feature map, unpooled: (B, 3, H, W) → (B, C, H / stride, W / stride).

    ``tokens``: it is a transformer, whose map is asked for by `forward_intermediates`.
    """

    def __init__(self, trunk: nn.Module, tokens: bool = False) -> None:
        super().__init__()
        self.trunk, self.tokens = trunk, tokens
        self.patch_px = trunk.patch_embed.patch_size[0] if tokens else 32

    def forward(self, image: Tensor) -> Tensor:
        """The map of C channels before pooling."""
        if not self.tokens:
            return self.trunk.forward_features(image)
        (features,) = self.trunk.forward_intermediates(
            image, indices=1, norm=True, output_fmt="NCHW", intermediates_only=True
        )
        return features


def build_timm(variant: Variant, pretrained: str, load: bool = True) -> Encoder:
    """The encoder of a row whose images timm's network sees; see `encoders.build_encoder`."""
    name, source = full_name(variant, pretrained), "random"
    notes = getattr(timm.get_pretrained_cfg(name), "notes", None) or ()
    if any("quickgelu" in note for note in notes):  # of the weights: another network has it
        name = name.replace("_clip_", "_clip_quickgelu_")
    trunk = timm.create_model(name, num_classes=0)
    classifier = trunk.pretrained_cfg.get("classifier")
    cut = {*trunk.state_dict(), f"{classifier}.weight", f"{classifier}.bias"}
    if variant.stage is not None:
        trunk.prune_intermediate_layers([variant.stage])
    if load and pretrained == "default" and variant.weights == "packaged":
        source = load_efficientnet_lite0(trunk)
    elif load and pretrained != "none":
        weights = find_weights(variant, pretrained)
        load_exactly(trunk, weights, allowed=cut)
        source = weights.source
    image = dense_timm(trunk, variant.stride_px)
    channels, stride_px = channels_and_stride(image)
    return Encoder(
        image=image,
        channels=channels,
        stride_px=stride_px,
        mean=tuple(trunk.pretrained_cfg["mean"]),
        std=tuple(trunk.pretrained_cfg["std"]),
        embedding=384 if variant.has_text else 512,
        embed_text=embed_text if load and variant.has_text else None,
        source=source,
    )


def full_name(variant: Variant, pretrained: str) -> str:
    """timm's name of a row with the tag of the weights that are meant, a file's too (`tag_in`)."""
    architecture, _, tag = variant.architecture.partition(".")
    one_of("timm network", architecture, timm.list_models())
    tags = tags_of(architecture)
    if tag:
        one_of(f"tag of timm's {architecture}", tag, tags)
    tag = tag_in(pretrained, architecture, tags) or tag
    return f"{architecture}.{tag}" if tag else architecture


def tags_of(architecture: str) -> list[str]:
    """The tags of the weights that timm's registry has for a network."""
    return [name.partition(".")[2] for name in timm.list_pretrained(f"{architecture}.*")]


def dense_timm(trunk: nn.Module, stride_px: int) -> DenseTimm:
    """A timm network as a dense encoder of images of any size, its classifier dropped."""
    tokens = hasattr(trunk, "blocks") and hasattr(trunk, "patch_embed")
    image = DenseTimm(trunk, tokens)
    try:
        if tokens:
            # What timm sets where a ViT is built for images of any size (dynamic_img_size).
            trunk.dynamic_img_size, trunk.patch_embed.strict_img_size = True, False
            trunk.patch_embed.flatten, trunk.patch_embed.output_fmt = False, Format.NHWC
        called = {module for module, _, _ in _calls(image, 8 * image.patch_px)}
        for name, child in list(trunk.named_children()):
            if called.isdisjoint(child.modules()):  # a classifier, say: it would never learn
                setattr(trunk, name, nn.Identity())
        if not tokens:
            limit_stride(image, stride_px)
    except (AttributeError, RuntimeError, TypeError, AssertionError) as problem:
        raise ValueError(
            f"{type(trunk).__name__} makes no feature map of images of any size: {problem}"
        ) from problem
    return image


def channels_and_stride(image: nn.Module) -> tuple[int, int]:
    """How many channels a feature has, and how many image pixels lie between two of them."""
    side_px = 8 * getattr(image, "patch_px", 32)
    _, channels, height, _ = probe(image, side_px)
    return channels, side_px // height


def find_weights(variant: Variant, pretrained: str) -> Weights:
    """A file given or lying in the weights' folder, or what timm's registry has."""
    name = full_name(variant, pretrained)
    architecture, _, tag = name.partition(".")
    wanted = name if tag else f"{architecture}.{variant.weights}"
    path = locate(pretrained, [wanted])
    if path is not None:
        return Weights.read(path)
    if pretrained not in ("default", tag):
        what = f"pretrained (of {architecture}: a tag, a file, or none)"
        one_of(what, pretrained, [*tags_of(architecture), "none"])

    def from_registry() -> Weights:
        whole = timm.create_model(name, pretrained=True, num_classes=0)
        return Weights(whole.state_dict(), f"timm {whole.pretrained_cfg['tag'] or name}")

    return fetch(f"timm's {name}", from_registry, wanted, "https://huggingface.co/timm/" + name)
