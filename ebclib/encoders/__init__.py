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
    pretrained : ``default`` for the row's own weights, another tag of the library, the path of a file
        (whose name may have the tag, ``RN50.yfcc15m.pt``; else it is of the row's own), or ``none``
    visual_prompts : ``shallow`` or ``deep`` learn ``prompt_tokens`` a layer beside those of a frozen ViT
    load : False leaves the weights random and brings no text: the same network, to be filled from a run

    Raises
    ------
    ValueError : an unknown name (the nearest is named), weights that do not fit, prompts without a ViT
    FileNotFoundError : weights that are not on this machine, and how to get them
    """
    variant = find_variant(name)
    if variant.library == "open_clip":
        from ebclib.encoders.clip import build_clip

        encoder = build_clip(variant, pretrained, (visual_prompts, prompt_tokens), load)
    else:
        from ebclib.encoders.encoder import build_timm

        encoder = build_timm(variant, pretrained, load)
    if visual_prompts != "none" and not hasattr(encoder.image, "prompts"):
        raise ValueError(
            f"visual_prompts {visual_prompts!r} need CLIP's ViT, and {name} is none; "
            "choose one, such as clip_vit_b_16, or visual_prompts none."
        )
    return encoder
