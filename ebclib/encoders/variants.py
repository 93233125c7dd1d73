"""The table of models: what each is made of. Data alone: reading it imports no network library.

A new backbone is one row here. Two prefixes reach past the table: ``timm:NAME`` is any network of timm
with a plain 1×1 head, ``open_clip:NAME`` any model of open_clip with its own text tower.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ebclib.config import one_of


@dataclass(frozen=True, kw_only=True)
class Variant:
    """One row of the table."""

    name: str  # as given to ``model``
    library: Literal["timm", "open_clip", "packaged"] = "timm"  # packaged: timm, and a text tower
    architecture: str  # its name there
    weights: str = "imagenet"  # the default tag of the pretrained weights
    source: str  # where it comes from
    stage: int | None = None  # the encoder's last of timm's ``feature_info``; None: all of them
    stride_px: int = 16  # the most image pixels to one feature of a convolutional encoder
    decoder: tuple[int, ...] = ()  # widths of the 3×3 convolutions between encoder and head
    dilation: int = 1  # of these
    decoder_stride_px: int | None = None  # features are interpolated to it first
    bottleneck: bool = False  # the residual block before the text head has three convolutions
    has_text: bool = False  # a text tower, and so it can have the text head
    input_px: int = 448  # side of a training crop where the recipe does not say otherwise
    windows: bool = False  # whole images are counted in windows of the training size (ViT)


def _timm(name: str, architecture: str, source: str, **more: object) -> Variant:
    return Variant(name=name, architecture=architecture, source=source, **more)


def _clip(name: str, architecture: str, **more: object) -> Variant:
    return Variant(
        name=name,
        library="open_clip",
        architecture=architecture,
        weights="openai",
        source=f"CLIP's {architecture}, Fig. 1 and Table I",
        has_text=True,
        bottleneck=architecture.startswith("RN"),
        **more,
    )


CSRNET = {"stage": 3, "stride_px": 8, "decoder": (512, 512, 512, 256, 128, 64), "dilation": 2}
DMCOUNT = {"stage": 4, "decoder": (256, 128), "decoder_stride_px": 8}
MINILM = {"library": "packaged", "has_text": True}
VIT = {"input_px": 224, "windows": True}
LITE0 = "tf_efficientnet_lite0"

ROWS = [
    _timm(
        "clip_lite",
        LITE0,
        "with all-MiniLM-L6-v2; no download, no CLIP",
        weights="packaged",
        **MINILM,
    ),
    _timm(
        "clip_lite_mobilenetv2", "mobilenetv2_100", "Table IV's, with all-MiniLM-L6-v2", **MINILM
    ),
    _clip("clip_rn50", "RN50"),
    _clip("clip_rn101", "RN101"),
    _clip("clip_vit_b_16", "ViT-B-16", **VIT),
    _clip("clip_vit_b_32", "ViT-B-32", **VIT),
    _clip("clip_vit_l_14", "ViT-L-14", **VIT),
    _timm("csrnet", "vgg16", "CSRNet (Li et al. 2018), Table I", **CSRNET),
    _timm("dmcount", "vgg19", "DMCount (Wang et al. 2020), Table I", **DMCOUNT),
    _timm("dmcount_vgg16", "vgg16", "DMCount's decoder on VGG16", **DMCOUNT),
    _timm("vgg16", "vgg16", "Tables III and IV", stage=4),
    _timm("resnet101", "resnet101", "Table IV"),
    _timm("mobilenetv2", "mobilenetv2_100", "Table IV"),
    _timm("densenet201", "densenet201", "Table IV"),
    _timm("efficientnet_lite0", LITE0, "clip_lite's image tower, no text"),
]
VARIANTS: dict[str, Variant] = {row.name: row for row in ROWS}
"""Every model of the paper's tables, and a few beside, by its name."""


def find_variant(name: str) -> Variant:
    """The row called ``name``, or the one that ``timm:NAME`` or ``open_clip:NAME`` stands for.

    Raises
    ------
    ValueError : an unknown name; the nearest is named

    >>> find_variant("csrnet").decoder
    (512, 512, 512, 256, 128, 64)
    >>> find_variant("timm:convnext_tiny").architecture
    'convnext_tiny'
    """
    library, _, architecture = name.partition(":")
    if architecture and library == "timm":
        return _timm(name, architecture, "any network of timm")
    if architecture and library == "open_clip":
        vit = VIT if "vit" in architecture.lower() else {}
        return _clip(name, architecture, **vit)
    return VARIANTS[one_of("model", name, VARIANTS)]
