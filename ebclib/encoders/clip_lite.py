"""Weights that packages carry: EfficientNet-Lite0 of ImageNet, and the text encoder all-MiniLM-L6-v2.

The two are `clip_lite`. They were not trained together as CLIP's towers were. They make the whole way
of CLIP-EBC, text included, walkable where nothing can be downloaded, and are never taken silently in
CLIP's place.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from ebclib.config import EFFICIENTNET, MINILM, package_folder
from ebclib.encoders.weights import Weights, load_exactly

EFFICIENTNET_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
MINILM_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"


@torch.no_grad()
def embed_text(sentences: Sequence[str]) -> Tensor:
    """Embeddings of sentences by all-MiniLM-L6-v2, mean over the words: float32 (N, 384).

    Raises
    ------
    FileNotFoundError, ValueError : the package with the weights is not there, or not as published
    """
    path = _packaged(MINILM, "model/model.safetensors", MINILM_SHA256)
    from open_clip.hf_model import HFTextEncoder  # these two take seconds to import
    from open_clip.tokenizer import HFTokenizer

    with torch.random.fork_rng(devices=[]):  # it is drawn first: what is drawn later stays the same
        tower = HFTextEncoder(str(path.parent), 384, pooler_type="mean_pooler", pretrained=False)
    cut = ("embeddings.position_ids", "pooler.dense.weight", "pooler.dense.bias")
    load_exactly(tower.transformer, Weights(load_file(path), path.name), allowed=cut)
    tokenizer = HFTokenizer(str(path.parent), context_length=64)
    return tower.eval()(tokenizer(list(sentences)))


def load_efficientnet_lite0(trunk: nn.Module) -> str:
    """ImageNet weights, published under other names in the same order; where they come from."""
    file = "models/efficientnet-lite0-57934424.pth"
    path = _packaged(EFFICIENTNET, file, EFFICIENTNET_SHA256)
    published = torch.load(path, map_location="cpu", weights_only=True)  # the classifier comes last
    trunk.load_state_dict(dict(zip(trunk.state_dict(), published.values(), strict=False)))
    return f"{path.name} sha256:{EFFICIENTNET_SHA256[:16]}"


def _packaged(package: str, file: str, sha256: str) -> Path:
    """A weights file inside an installed package, checked to the last bit."""
    path = package_folder(package) / file
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    if found != sha256:
        raise ValueError(
            f"{path} has sha256 {found}, expected {sha256}: another release, or damaged. "
            "Reinstall the package at the version that pyproject.toml names."
        )
    return path
