"""Training losses: DACE or ZIP for models with bins, the count losses alone for regression.

The Distance-Aware Cross-Entropy of the paper asks for the right class, and near it where it is wrong.
ZIP, its successor, asks for the likelihood of the counts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor

from ebclib.config import one_of
from ebclib.transport import LEAST_COUNT, transport_loss

OT_WEIGHTS = {"formula": 0.1, "released": 0.8}
"""w_OT by name, of transport averaged over the batch.

The formula has 0.1. The code of DM-Count and of CLIP-EBC *sums* transport over the batch and averages the
rest: with its batch of 8, an average weighs 0.8. So named, the weight does not change with the batch.
"""

TV_WEIGHT = 0.01  # w_TV, of the total variation, which is scaled by n and averaged over the batch


class Loss(NamedTuple):
    """The loss and its two parts, scalars, each a mean over the batch.

    ``classification`` holds ZIP's likelihood, too.
    """

    total: Tensor
    classification: Tensor
    count: Tensor  # type: ignore[assignment]  # tuple has a method of that name


class DMCount(NamedTuple):
    """DM-Count's loss and its parts, scalars, unweighted, each a mean over the batch.

    Transport is in the total: it has a gradient, and the value 0 (`transport.transport_loss`).
    """

    total: Tensor
    count: Tensor  # type: ignore[assignment]  # people
    variation: Tensor  # people


@dataclass(frozen=True)
class CountLoss:
    """A loss between predicted and true density, by name.

    | ``kind`` | for one image |
    |---|---|
    | ``dmcount`` | see `dmcount`; needs points and ``block_size_px`` |
    | ``l1`` | Σ_ij abs(Y*_ij − Y_ij) |
    | ``l2`` | Σ_ij (Y*_ij − Y_ij)² |
    | ``mse`` | the mean of the same, for regression on a (smoothed) density |
    | ``multiscale`` | ZIP's: abs(ΣY* − n) + Σ_s w_s · L1 of the means of s × s blocks (`SCALES`) |

    Parameters
    ----------
    kind : a row of the table
    block_size_px : r
    max_count : m, caps the target's blocks; None, as published, leaves them as they were annotated.
        Transport keeps a point for every person.
    ot_weight : as in `dmcount`

    Raises
    ------
    ValueError : an unknown kind, or ``dmcount`` without a block size
    """

    kind: str
    block_size_px: int | None = None
    max_count: int | None = None
    ot_weight: float | str = "released"

    def __post_init__(self) -> None:
        one_of("count loss", self.kind, ("dmcount", *BLOCK_LOSSES))
        if self.kind == "dmcount" and self.block_size_px is None:
            raise ValueError("dmcount measures distances in pixels: give block_size_px.")
        if self.max_count is not None and self.max_count < 1:
            raise ValueError(f"max_count is {self.max_count}; a block holds at least 1 person.")

    def __call__(
        self, density: Tensor, target: Tensor, points: Sequence[Tensor] | None = None
    ) -> Tensor:
        """The loss, a scalar, averaged over the batch.

        Parameters
        ----------
        density : (B, 1, h, w), people per block as predicted
        target : (B, h, w), people per block, counted or smoothed
        points : B tensors (n_b, 2), x and y in pixels of the crop, for ``dmcount``

        Raises
        ------
        ValueError : shapes that do not belong together, or ``dmcount`` without points
        """
        _same_blocks(density.shape, {"target": target})
        target = target if self.max_count is None else target.clamp(max=self.max_count)
        if self.kind != "dmcount":
            return BLOCK_LOSSES[self.kind](_blocks(density) - target)
        if points is None:
            raise ValueError("dmcount compares with the people's positions: give points.")
        r = cast(int, self.block_size_px)
        return dmcount(density, target, points, r, self.ot_weight).total


SCALES = {1: 0.25, 2: 0.5, 4: 1.0}
"""The sides of ZIP's cells in blocks, and the weight of each."""


def _multiscale(error: Tensor) -> Tensor:
    """|Σ error| and the weighted L1 of its means over cells of `SCALES`: (B, h, w) → scalar."""
    total = error.sum((1, 2)).abs().mean()
    for side, weight in SCALES.items():  # a cell at the border may be smaller: nothing is left out
        cells = F.avg_pool2d(error[:, None], side, ceil_mode=True)
        total = total + weight * cells.abs().sum() / len(error)
    return total


BLOCK_LOSSES = {
    "l1": lambda error: error.abs().sum() / len(error),
    "l2": lambda error: error.square().sum() / len(error),
    "mse": lambda error: error.square().mean(),
    "multiscale": _multiscale,
}


def dace(
    logits: Tensor,
    density: Tensor,
    classes: Tensor,
    counts: Tensor,
    count_weight: float = 1.0,
    count_loss: CountLoss | None = None,
    points: Sequence[Tensor] | None = None,
) -> Loss:
    """Cross-entropy of every block's class plus λ times the count loss (Eq. 3).

        L = 1/B Σ_b Σ_ij −log P*_{b, class(ij), ij} + λ L_count(Y*, Y)

    Parameters
    ----------
    logits : (B, N, h, w)
    density : (B, 1, h, w), people per block as predicted (`BlockwiseModel.density`)
    classes : int64 (B, h, w), the bin of each block's count
    counts : (B, h, w), people per block, not capped
    count_weight : λ
    count_loss : L_count; None is L1 on blocks
    points : B tensors (n_b, 2), x and y in pixels of the crop, for a count loss that needs them

    Raises
    ------
    ValueError : shapes that do not belong together, or points missing
    """
    _same_blocks(logits.shape, {"classes": classes, "counts": counts, "density": density[:, 0]})
    count_loss = count_loss or CountLoss("l1")
    classification = F.cross_entropy(logits, classes, reduction="sum") / len(logits)
    count = count_loss(density, counts, points)
    return Loss(classification + count_weight * count, classification.detach(), count.detach())


def zip_nll(log_p: Tensor, rate: Tensor, counts: Tensor) -> Tensor:
    """−log of the zero-inflated Poisson likelihood of every block's count, (B, h, w).

        −log(π₀ + (1 − π₀) e^−λ)  where y = 0,    λ − y log λ − log(1 − π₀)  where y > 0

    log y! does not depend on the model and is left out. ``log_p`` (B, N, h, w) is log P*, whose first bin
    has π₀; ``rate`` (B, 1, h, w) is λ > 0 (`BlockwiseModel.rate`); ``counts`` (B, h, w) are y.
    """
    nobody, somebody, rate = log_p[:, 0], log_p[:, 1:].logsumexp(1), rate[:, 0]
    empty = -torch.logaddexp(nobody, somebody - rate)
    return torch.where(counts == 0, empty, rate - counts * rate.log() - somebody)


def zip_loss(
    logits: Tensor,
    rate: Tensor,
    density: Tensor,
    classes: Tensor,
    counts: Tensor,
    count_weight: float = 1.0,
    count_loss: CountLoss | None = None,
    points: Sequence[Tensor] | None = None,
) -> Loss:
    """The loss of ZIP (arXiv:2506.19955): likelihood, class where somebody is, and count.

        L = 1/B Σ_b (Σ_ij NLL(y) + Σ_{ij: y > 0} −log p_class) + λ_count L_count(Y*, Y)

    Published with λ_count = 1 and ``multiscale``, or with ``dmcount``. Since λ ≥ 1, the likelihood alone
    counts too many where people are few (notebook 06); the count loss takes that back.

    Parameters
    ----------
    logits : (B, N, h, w); class 0 is the count 0
    rate : (B, 1, h, w), λ > 0 (`BlockwiseModel.rate`)
    density, classes, counts, count_weight, points : as in `dace`
    count_loss : L_count; None is ``multiscale``

    Raises
    ------
    ValueError : shapes that do not belong together, or points missing
    """
    blocks = {"rate": rate[:, 0], "density": density[:, 0], "classes": classes, "counts": counts}
    _same_blocks(logits.shape, blocks)
    likelihood = zip_nll(logits.log_softmax(1), rate, counts).sum()
    # logits[:, 1:] are log p but for a constant; class 0 becomes −1, which is left out
    positive = F.cross_entropy(logits[:, 1:], classes - 1, ignore_index=-1, reduction="sum")
    classification = (likelihood + positive) / len(logits)
    count = (count_loss or CountLoss("multiscale"))(density, counts, points)
    return Loss(classification + count_weight * count, classification.detach(), count.detach())


def dmcount(
    density: Tensor,
    counts: Tensor,
    points: Sequence[Tensor],
    block_size_px: int,
    ot_weight: float | str = "released",
) -> DMCount:
    """The distribution-matching count loss (Wang et al. 2020), averaged over the batch.

        |S − n| + w_OT · OT(Y*/S, points) + w_TV · n · ‖Y*/S − Y/n‖₁,  S = Σ Y*, n = Σ Y

    An image without people has the first term alone, |S|. Below `transport.LEAST_COUNT` people, that
    takes S's place as a divisor, so that the gradient is finite for an empty prediction too.

    Parameters
    ----------
    density : (B, 1, h, w), people per block as predicted
    counts : (B, h, w), people per block
    points : B tensors (n_b, 2), x and y in pixels of the crop; (0, 2) where nobody is
    block_size_px : r
    ot_weight : w_OT, a number or a name of `OT_WEIGHTS`; at 0 transport is not computed

    Raises
    ------
    ValueError : shapes that do not belong together
    """
    _same_blocks(density.shape, {"counts": counts})
    blocks = _blocks(density)
    people, predicted = counts.sum((1, 2)).to(blocks), blocks.sum((1, 2))  # (B,)
    count = (predicted - people).abs()
    shape = blocks / predicted.clamp(min=LEAST_COUNT)[:, None, None]  # Y*/S
    truth = counts / people.clamp(min=LEAST_COUNT)[:, None, None]  # Y/n
    variation = people * (shape - truth).abs().sum((1, 2))
    total = count.mean() + TV_WEIGHT * variation.mean()
    weight = OT_WEIGHTS[ot_weight] if isinstance(ot_weight, str) else ot_weight
    if weight:
        total = total + weight * transport_loss(blocks, points, block_size_px).mean()
    return DMCount(total, count.detach().mean(), variation.detach().mean())


def _blocks(density: Tensor) -> Tensor:
    """(B, 1, h, w) → (B, h, w), float32 at least."""
    return density[:, 0] if density.dtype == torch.float64 else density[:, 0].float()


def _same_blocks(shape: torch.Size, tensors: dict[str, Tensor]) -> None:
    """Each of the tensors is (B, h, w) for a prediction of shape (B, …, h, w)."""
    if len(shape) != 4:
        raise ValueError(
            f"The prediction is {tuple(shape)}; expected four dimensions, (B, …, h, w)."
        )
    batch, _, h, w = shape
    for name, tensor in tensors.items():
        if tuple(tensor.shape) != (batch, h, w):
            raise ValueError(
                f"{name} is {tuple(tensor.shape)} where a prediction of {tuple(shape)} needs "
                f"{(batch, h, w)}: the image or its blocks were cut differently."
            )
