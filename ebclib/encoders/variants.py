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
    """One row of the table.

    Attributes
    ----------
    name : as given to ``model``
    library : who builds the encoder: ``timm``, ``open_clip``, or ``packaged`` (timm, with a text tower
        from a package)
    architecture : its name there
    weights : the default tag of the pretrained weights
    stage : the entry of timm's ``feature_info`` that the encoder ends with; None: its last map
    stride_px : the most image pixels to one feature of a convolutional encoder; later strides are
        taken away, their weights kept
    decoder : widths of the 3×3 convolutions between encoder and head
    dilation : of these
    decoder_stride_px : image pixels to one position of the decoder; features are interpolated to it
    bottleneck : the residual block before the text head, where asked for, is one of three convolutions
    has_text : it has a text tower, and so can have the text head
    input_px : side of a training crop where the recipe does not say otherwise
    windows : whole images are counted in windows of the training size (ViT), not in one piece
    source : where it comes from
    """

    name: str
    library: Literal["timm", "open_clip", "packaged"]
    architecture: str
    weights: str
    source: str
    stage: int | None = None
    stride_px: int = 16
    decoder: tuple[int, ...] = ()
    dilation: int = 1
    decoder_stride_px: int | None = None
    bottleneck: bool = False
    has_text: bool = False
    input_px: int = 448
    windows: bool = False


def _timm(name: str, architecture: str, source: str, **more: object) -> Variant:
    return Variant(
        name=name,
        library="timm",
        architecture=architecture,
        weights="imagenet",
        source=source,
        **more,
    )


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


CSRNET = {"decoder": (512, 512, 512, 256, 128, 64), "dilation": 2}
DMCOUNT = {"decoder": (256, 128), "decoder_stride_px": 8}
VIT = {"input_px": 224, "windows": True}

VARIANTS: dict[str, Variant] = {
    row.name: row
    for row in (
        Variant(
            name="clip_lite",
            library="packaged",
            architecture="tf_efficientnet_lite0",
            weights="packaged",
            source="with all-MiniLM-L6-v2; no download, no CLIP",
            has_text=True,
        ),
        Variant(
            name="clip_lite_mobilenetv2",
            library="packaged",
            architecture="mobilenetv2_100",
            weights="imagenet",
            source="Table IV's, with all-MiniLM-L6-v2",
            has_text=True,
        ),
        _clip("clip_rn50", "RN50"),
        _clip("clip_rn101", "RN101"),
        _clip("clip_vit_b_16", "ViT-B-16", **VIT),
        _clip("clip_vit_b_32", "ViT-B-32", **VIT),
        _clip("clip_vit_l_14", "ViT-L-14", **VIT),
        _timm(
            "csrnet", "vgg16", "CSRNet (Li et al. 2018), Table I", stage=3, stride_px=8, **CSRNET
        ),
        _timm("dmcount", "vgg19", "DMCount (Wang et al. 2020), Table I", stage=4, **DMCOUNT),
        _timm("dmcount_vgg16", "vgg16", "DMCount's decoder on VGG16", stage=4, **DMCOUNT),
        _timm("vgg16", "vgg16", "Tables III and IV", stage=4),
        _timm("resnet101", "resnet101", "Table IV"),
        _timm("mobilenetv2", "mobilenetv2_100", "Table IV"),
        _timm("densenet201", "densenet201", "Table IV"),
        _timm("efficientnet_lite0", "tf_efficientnet_lite0", "clip_lite's image tower, no text"),
    )
}
"""Every model of the paper's tables, and a few beside; the key is the row's name."""


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
