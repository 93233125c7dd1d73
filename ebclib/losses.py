"""The Distance-Aware Cross-Entropy of the paper: right class, and near it where it is wrong."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from .choices import choose


class Loss(NamedTuple):
    """The loss and its two parts, scalars, each a mean over the batch."""

    total: Tensor
    classification: Tensor
    count: Tensor


def dace(
    logits: Tensor,
    density: Tensor,
    classes: Tensor,
    counts: Tensor,
    count_weight: float = 1.0,
    count_loss: str = "l1",
) -> Loss:
    """Cross-entropy of every block's class plus λ times the count loss (Eq. 3).

    Both parts are summed over the blocks of a picture and averaged over the batch:

        L = 1/B Σ_b Σ_ij [ −log P*_{b, class(ij), ij} + λ |Y*_bij − Y_bij| ]

    Parameters
    ----------
    logits : (B, N, h, w)
    density : (B, 1, h, w), people per block as predicted (`BlockwiseModel.density`)
    classes : int64 (B, h, w), the bin of each block's count
    counts : (B, h, w), people per block, not capped
    count_weight : λ
    count_loss : see `block_loss`

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
    count = block_loss(density, counts, count_loss)
    return Loss(classification + count_weight * count, classification.detach(), count.detach())


def regression(density: Tensor, counts: Tensor, count_loss: str = "l1") -> Loss:
    """The loss of a model without bins: the count loss alone; shapes as in `dace`."""
    count = block_loss(density, counts, count_loss)
    return Loss(count, torch.zeros_like(count.detach()), count.detach())


def block_loss(density: Tensor, counts: Tensor, kind: str) -> Tensor:
    """|Y* − Y| (``l1``) or (Y* − Y)² (``l2``), summed over the blocks and averaged over the batch."""
    choose("count_loss", kind, ("l1", "l2"))
    difference = density[:, 0] - counts
    each = difference.abs() if kind == "l1" else difference.square()
    return each.sum() / len(density)
