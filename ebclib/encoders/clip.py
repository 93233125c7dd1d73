"""CLIP's own encoders, dense, and any other pair that open_clip knows; learnt visual prompts as an option."""

from __future__ import annotations

import math
import warnings
from collections import OrderedDict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import open_clip
import torch
from open_clip.constants import OPENAI_DATASET_MEAN, OPENAI_DATASET_STD
from open_clip.convert import convert_state_dict
from open_clip.model import CLIP, CustomTextCLIP, convert_to_custom_text_state_dict
from open_clip.modified_resnet import ModifiedResNet
from open_clip.pretrained import download_pretrained, get_pretrained_cfg
from open_clip.timm_model import TimmModel
from open_clip.transformer import VisionTransformer
from timm.layers import resample_abs_pos_embed
from torch import Tensor, nn

from ebclib.config import one_of
from ebclib.encoders.encoder import Encoder, channels_and_stride, dense_timm, limit_stride
from ebclib.encoders.variants import Variant
from ebclib.encoders.weights import Weights, fetch, load_exactly, locate, tag_in


class DenseViT(nn.Module):
    """Patch tokens after the final layer norm: (B, 3, H, W) → (B, C, H / patch, W / patch).

    The class token takes part and is dropped at the end; position embeddings are interpolated to the
    image's own grid (bicubic). With visual prompts (Jia et al. 2022) the transformer is frozen and
    only they learn: ``shallow`` tokens enter before the first layer, ``deep`` ones anew at each layer.

    Parameters
    ----------
    visual : open_clip's tower with its weights; its projection is taken away
    visual_prompts, prompt_tokens : as in `encoders.build_encoder`

    Raises
    ------
    ValueError : unknown prompts, or a tower that pools otherwise than by its class token
    """

    def __init__(
        self, visual: VisionTransformer, visual_prompts: str = "none", prompt_tokens: int = 32
    ) -> None:
        super().__init__()
        if visual.attn_pool is not None:
            raise ValueError("A ViT with an attentional pool has no class token to go without.")
        self.visual = visual
        self.visual.proj = None
        self.antialias = True  # of position embeddings, where they shrink
        self.patch_px = visual.patch_size[0]
        self.channels = visual.transformer.width
        layers = {"none": 0, "shallow": 1, "deep": len(visual.transformer.resblocks)}
        layers = layers[one_of("visual_prompts", visual_prompts, layers)]
        self.prompts = nn.Parameter(torch.empty(layers, prompt_tokens, self.channels))
        if layers:
            visual.requires_grad_(False)
            reach = math.sqrt(6 / (3 * self.patch_px**2 + self.channels))  # Xavier, as VPT has it
            nn.init.uniform_(self.prompts, -reach, reach)
        else:
            self.prompts = None

    def forward(self, image: Tensor) -> Tensor:
        """Dense features; H and W are multiples of the patch's side."""
        height, width = (side // self.patch_px for side in image.shape[-2:])
        tokens = self.tokens(image)[:, -height * width :]  # (B, h·w, C)
        return tokens.transpose(1, 2).unflatten(2, (height, width))

    def tokens(self, image: Tensor) -> Tensor:
        """All tokens after the final layer norm, (B, 1 + prompts + h·w, C); the class token first."""
        visual = self.visual
        patches = visual.conv1(image)  # (B, C, h, w)
        position = self._positions(*patches.shape[-2:]).to(patches.dtype)
        patches = patches.flatten(2).transpose(1, 2)  # (B, h·w, C)
        first = visual.class_embedding.to(patches.dtype).expand(patches.shape[0], 1, -1)
        tokens = visual.ln_pre(torch.cat([first, patches], dim=1) + position)
        for layer, block in enumerate(visual.transformer.resblocks):
            if self.prompts is not None and layer < len(self.prompts):
                own = self.prompts[layer].to(tokens.dtype).expand(len(tokens), -1, -1)
                rest = tokens[:, -patches.shape[1] :]
                tokens = torch.cat([tokens[:, :1], own, rest], dim=1)
            tokens = block(tokens)
        return visual.ln_post(tokens)

    def _positions(self, height: int, width: int) -> Tensor:
        """Position embeddings of a class token and height × width patches, (1 + h·w, C)."""
        embedding, grid = self.visual.positional_embedding, tuple(self.visual.grid_size)
        size = height, width
        if size == grid:
            return embedding
        return resample_abs_pos_embed(embedding[None], size, grid, antialias=self.antialias)[0]


def build_clip(variant: Variant, pretrained: str, prompts: tuple[str, int], load: bool) -> Encoder:
    """The encoder of a row that open_clip builds; see `encoders.build_encoder`."""
    tag = variant.weights if pretrained == "default" else pretrained
    published = published_cfg(variant, tag)
    clip, source = build_towers(variant, tag), "random"
    if load and pretrained != "none":
        weights = clip_weights(variant, tag)
        own = variant.name.startswith("clip_")
        if own and not weights.is_openai and known_tag(variant, tag) is None:
            name = Path(tag).name
            warnings.warn(
                f"{name} does not say who trained it, and is taken for OpenAI's (QuickGELU, its mean and "
                f"std). Others' weights: name the file {variant.architecture}.TAG.safetensors.",
                stacklevel=3,
            )
        load_clip(clip, weights)
        source = weights.source
    image, channels, stride_px = _dense(clip.visual, variant, prompts)
    return Encoder(
        image=image,
        channels=channels,
        stride_px=stride_px,
        mean=tuple(published.get("mean", OPENAI_DATASET_MEAN)),
        std=tuple(published.get("std", OPENAI_DATASET_STD)),
        embedding=_config(variant)["embed_dim"],
        embed_text=text_embedder(clip, variant) if load else None,
        source=source,
    )


def published_cfg(variant: Variant, tag: str) -> dict[str, Any]:
    """open_clip's entry for the weights that are meant: ``quick_gelu`` where they have it, mean, std.

    Without a tag in its name, a file is of the row's own weights; of ``open_clip:NAME``, nothing is known.
    """
    found = known_tag(variant, tag)
    if found is None and variant.name.startswith("clip_"):
        found = variant.weights
    return get_pretrained_cfg(variant.architecture, found or "")


def known_tag(variant: Variant, tag: str) -> str | None:
    """A tag of open_clip's, or the one in a file's name."""
    tags = open_clip.list_pretrained_tags_by_model(variant.architecture)
    return tag_in(tag, variant.architecture, tags)


def build_towers(variant: Variant, tag: str) -> CLIP | CustomTextCLIP:
    """open_clip's model of a row, random, with the activation that the tag's weights were trained with."""
    config = _config(variant)
    published = published_cfg(variant, tag)
    config["quick_gelu"] = published.get("quick_gelu") or config.get("quick_gelu", False)
    config.pop("multimodal_cfg", None)  # CoCa's writer of captions
    text = config["text_cfg"].get("hf_model_name")
    if text:
        config["text_cfg"]["hf_model_pretrained"] = False
    make = CustomTextCLIP if config.pop("custom_text", False) or text else CLIP
    try:
        return make(**config)
    except OSError as problem:
        raise FileNotFoundError(
            f"{variant.name} needs Hugging Face's {text!r}, which is not on this machine. "
            f"Where there is a network, once: hf download {text}"
        ) from problem


def clip_weights(variant: Variant, tag: str) -> Weights:
    """A file given or lying in the weights' folder (OpenAI's names too), or the registry's."""
    name, wanted = variant.architecture, f"{variant.architecture}.{tag}"
    path = locate(tag, [wanted], [name] if tag == "openai" else [])
    if path is None:
        tags = open_clip.list_pretrained_tags_by_model(name)
        one_of(f"pretrained (of {name}: a tag, a file, or none)", tag, [*tags, "none"])
        published = get_pretrained_cfg(name, tag)
        hub = published.get("hf_hub", "")
        address = f"https://huggingface.co/{hub}" if hub else published.get("url", "")
        path = fetch(f"{name}, {tag},", lambda: download_pretrained(published), wanted, address)
    return Weights.read(Path(path))


def load_clip(clip: CLIP | CustomTextCLIP, weights: Weights) -> None:
    """Fill both towers, every key accounted for; names of other libraries are translated by open_clip."""
    tensors = convert_state_dict(clip, dict(weights.tensors))
    if isinstance(clip, CustomTextCLIP) and "positional_embedding" in tensors:
        tensors = convert_to_custom_text_state_dict(tensors)
    if "logit_scale" in tensors:
        tensors["logit_scale"] = tensors["logit_scale"].reshape(clip.logit_scale.shape)
    # Which position a token has: a constant that older transformers stored.
    tensors.pop("text.transformer.embeddings.position_ids", None)
    load_exactly(clip, Weights(tensors, weights.source))


def _config(variant: Variant) -> dict[str, Any]:
    one_of("open_clip model", variant.architecture, open_clip.list_models())
    return open_clip.get_model_config(variant.architecture)


def _dense(
    visual: nn.Module, variant: Variant, prompts: tuple[str, int]
) -> tuple[nn.Module, int, int]:
    """The image tower without pooling and projection, its channels, and pixels to a feature."""
    if isinstance(visual, VisionTransformer):
        image = DenseViT(visual, *prompts)
        return image, image.channels, image.patch_px
    if isinstance(visual, ModifiedResNet):
        visual.attnpool = nn.Identity()  # the map is not pooled
        image = nn.Sequential(OrderedDict(visual=visual))
        limit_stride(image, variant.stride_px)
    elif isinstance(visual, TimmModel):
        image = dense_timm(visual.trunk, variant.stride_px)
    else:
        raise ValueError(f"{variant.name}: its image tower, {type(visual).__name__}, has no map.")
    return image, *channels_and_stride(image)


def build_text(variant: Variant) -> CLIP:
    """The text tower of a row of CLIP's own, random, beside an image tower of next to nothing."""
    tiny = {"image_size": 32, "patch_size": 32, "width": 64, "layers": 1}
    return CLIP(**_config(variant) | {"vision_cfg": tiny, "quick_gelu": True})


def text_embedder(
    clip: CLIP | CustomTextCLIP, variant: Variant
) -> Callable[[Sequence[str]], Tensor]:
    """The frozen text tower with its tokenizer: sentences → (N, D), not normalised."""
    clip.visual = None
    clip.eval().requires_grad_(False)
    tokenizer = open_clip.get_tokenizer(variant.architecture)

    @torch.no_grad()
    def embed_text(sentences: Sequence[str]) -> Tensor:
        return clip.encode_text(tokenizer(list(sentences))).float()

    return embed_text
