"""CLIP's vision transformer as a dense encoder, with learnt visual prompts as an option."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from open_clip.transformer import VisionTransformer
from torch import Tensor, nn

from ebclib.config import one_of

PROMPTS = ("none", "shallow", "deep")


class DenseViT(nn.Module):
    """Patch tokens after the final layer norm: (B, 3, H, W) → (B, C, H / patch, W / patch).

    The class token takes part and is dropped at the end; position embeddings are interpolated to the
    image's own grid (bicubic). With visual prompts (Jia et al. 2022) the transformer is frozen and
    only they learn: ``shallow`` tokens enter before the first layer, ``deep`` ones anew at each layer.

    Parameters
    ----------
    visual : open_clip's tower with its weights; its projection is taken away
    visual_prompts : ``none``, ``shallow`` or ``deep``
    prompt_tokens : how many a layer

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
        layers = layers[one_of("visual_prompts", visual_prompts, PROMPTS)]
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
            tokens = block(self._prompted(tokens, layer))
        return visual.ln_post(tokens)

    def _prompted(self, tokens: Tensor, layer: int) -> Tensor:
        """The tokens with this layer's prompts between class token and patches."""
        if self.prompts is None or layer >= len(self.prompts):
            return tokens
        skip = 1 if layer == 0 else 1 + self.prompts.shape[1]
        own = self.prompts[layer].to(tokens.dtype).expand(tokens.shape[0], -1, -1)
        return torch.cat([tokens[:, :1], own, tokens[:, skip:]], dim=1)

    def _positions(self, height: int, width: int) -> Tensor:
        """Position embeddings of a class token and height × width patches, (1 + h·w, C)."""
        embedding = self.visual.positional_embedding
        if (height, width) == tuple(self.visual.grid_size):
            return embedding
        grid = embedding[1:].unflatten(0, self.visual.grid_size)  # (h₀, w₀, C)
        resized = F.interpolate(
            grid.permute(2, 0, 1)[None], (height, width), mode="bicubic", antialias=self.antialias
        )
        return torch.cat([embedding[:1], resized[0].flatten(1).T])
