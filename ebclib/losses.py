"""The Distance-Aware Cross-Entropy of the paper: right class, and near it where it is wrong."""

from __future__ import annotations

from typing import NamedTuple

import torch.nn.functional as F
from torch import Tensor


class Loss(NamedTuple):
    """The loss and its two parts, scalars, each a mean over the batch."""

    total: Tensor
    classification: Tensor
    count: Tensor


def dace(
    logits: Tensor, density: Tensor, classes: Tensor, counts: Tensor, count_weight: float = 1.0
) -> Loss:
    """Cross-entropy of every block's class plus λ times the count loss (Eq. 3), here L1 on blocks.

    Both parts are summed over the blocks of a picture and averaged over the batch:

        L = 1/B Σ_b Σ_ij [ −log P*_{b, class(ij), ij} + λ |Y*_bij − Y_bij| ]

    Parameters
    ----------
    logits : (B, N, h, w)
    density : (B, 1, h, w), people per block as predicted (`BlockwiseModel.density`)
    classes : int64 (B, h, w), the bin of each block's count
    counts : (B, h, w), people per block, not capped
    count_weight : λ

    Raises
    ------
    ValueError : shapes that do not belong together
    """
    batch, _, h, w = logits.shape
    for name, tensor in {"classes": classes, "counts": counts, "density": density[:, 0]}.items():
        if tuple(tensor.shape) != (batch, h, w):
            raise ValueError(
                f"{name} is {tuple(tensor.shape)} where logits of {tuple(logits.shape)} need "
                f"{(batch, h, w)}: the picture or its blocks were cut differently."
            )
    classification = F.cross_entropy(logits, classes, reduction="sum") / batch
    count = (density[:, 0] - counts).abs().sum() / batch
    return Loss(classification + count_weight * count, classification.detach(), count.detach())
