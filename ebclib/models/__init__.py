"""Decoder and head on an encoder: features to logits, probabilities, density and count.

One decoder and one head for all models; which ones a name stands for is a row of `ebclib.variants`.
"""

from __future__ import annotations

from .blockwise import BlockwiseModel
from .decoders import make_decoder
from .heads import HEADS, CosineHead, LinearHead, make_head, resize

__all__ = [
    "HEADS",
    "BlockwiseModel",
    "CosineHead",
    "LinearHead",
    "make_decoder",
    "make_head",
    "resize",
]
