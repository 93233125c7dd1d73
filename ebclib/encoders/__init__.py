"""Pretrained image and text encoders, by the names in `ebclib.encoders.variants`.

An encoder gives dense image features and embeds sentences; what is made of them is `models`' affair.
timm builds the ImageNet ones, open_clip the CLIPs; weights come from those libraries' registries, or
from a file, which is read without executing anything in it (`weights`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ebclib.encoders.variants import find_variant

if TYPE_CHECKING:
    from ebclib.encoders.encoder import Encoder

__all__ = ["build_encoder"]


def build_encoder(
    name: str,
    pretrained: str = "default",
    visual_prompts: str = "none",
    prompt_tokens: int = 32,
    load: bool = True,
) -> Encoder:
    """The encoder called ``name``: a row of `variants.VARIANTS`, ``timm:NAME`` or ``open_clip:NAME``.

    Parameters
    ----------
    name : as above
    pretrained : ``default`` for the row's own weights, another tag of the library, the path of a file,
        or ``none`` for a random start
    visual_prompts : ``shallow`` or ``deep`` learn tokens beside those of a frozen ViT (Jia et al. 2022)
    prompt_tokens : how many a layer
    load : False leaves the weights random and brings no text: the same network, to be filled from a run

    Raises
    ------
    ValueError : an unknown name (the nearest is named), weights that do not fit, prompts without a ViT
    FileNotFoundError : weights that are not on this machine, and how to get them
    """
    variant = find_variant(name)
    prompts = (visual_prompts, prompt_tokens)
    if variant.library == "open_clip":
        from ebclib.encoders.clip import build_clip

        return build_clip(variant, pretrained, prompts, load)
    if visual_prompts != "none":
        raise ValueError(
            f"visual_prompts {visual_prompts!r} need CLIP's ViT, and {name} is none; "
            "choose clip_vit_b_16, clip_vit_b_32 or clip_vit_l_14, or visual_prompts none."
        )
    if variant.library == "packaged":
        from ebclib.encoders.clip_lite import build_clip_lite

        return build_clip_lite(variant, pretrained, load)
    from ebclib.encoders.networks import build_timm

    return build_timm(variant, pretrained, load)
