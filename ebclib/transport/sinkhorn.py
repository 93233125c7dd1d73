"""Sinkhorn's iterations on one picture, in base-two logarithms, and the published solver.

The cost is a sum over x and y, so one broadcast lays it out, as exponents of two: ``exp2`` takes a fifth
of ``exp``'s time on a processor, and far less where results underflow. A *whole* iteration stays in
logarithms and ends with the conditional plan R (n, h·w), whose rows sum to one. *Light* iterations only
rescale R's rows and columns, a product of a matrix and a vector each, until the next whole one takes
the scaling up. A whole iteration leaves no row of R without mass, and no column with less than 1/n of
what it should have, so nothing can run away in between.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

BITS = math.log2(math.e)  # exp(x) = 2^(BITS x)
LEAST_MASS = 2.0**-120  # of a normalised density that counts; still a normal number in float32

_LOWEST = -112.0  # bits below the largest term of a sum where terms stop to matter

# Smaller shares of a point are none: beside the rest of its row they are lost in rounding, and products
# of them are so small that some processors take a hundred times as long for each.
_LEAST_SHARE = 2.0**-60

# Points far from all density climb over blocks that hold next to nothing, by −log₂ b bits an iteration,
# and must not pass `_LOWEST` between two whole iterations. Every third is enough down to b = 1e-16;
# every eighth would take two thirds of the time and be right down to 1e-6 only.
_WHOLE_AT_FIRST = 8
_WHOLE_EVERY = 3


def published(
    points: Tensor, weights: Tensor, mass: Tensor, r: int, epsilon: float, iterations: int
) -> tuple[Tensor, Tensor]:
    """So many Sinkhorn iterations from α = 0, each blocks first and then points, as POT counts them.

    Parameters
    ----------
    points : (n, 2), x and y in pixels
    weights : (n,), sum 1; zero for padding
    mass : (h, w), the normalised density
    r : the block's side in pixels
    epsilon : ε, px²
    iterations : at least 1

    Returns
    -------
    α (n,) and β (h·w,), in px²
    """
    scale = BITS / epsilon
    cost = squared_distances(points, *mass.shape, r)  # (n, h·w)
    log_a, b, room = weights.log2(), mass.flatten(), torch.empty_like(cost)
    f = torch.zeros_like(weights)
    for k in range(iterations):
        if k < _WHOLE_AT_FIRST or k % _WHOLE_EVERY == 0 or k == iterations - 1:
            f, g, plan = whole_iteration(f + log_a, cost, scale, b, room)
            start, a = f, weights
        else:
            columns = b / (a @ plan).clamp(min=LEAST_MASS)
            rows = 1 / (plan @ columns).clamp(min=LEAST_MASS)
            f, a = start + rows.log2(), weights * rows
    return (f + log_a) / scale, g / scale


def whole_iteration(
    u: Tensor, cost: Tensor, scale: float, b: Tensor, room: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """One iteration in logarithms.

    Parameters
    ----------
    u : (n,), α/ε in bits; −∞ for padding
    cost : (n, h·w), C in px²
    scale : bits to a px²
    b : (h·w,), the normalised density; where it is zero, β is that of a density just above zero
    room : (n, h·w), to work in: fresh memory for each iteration would cost as much as the iteration

    Returns
    -------
    (n,), the new α/ε less log a, in bits; (h·w,), β/ε in bits; R (n, h·w), whose rows sum to one, in
    ``room``
    """
    _terms, _sum, reach = _log_sum(room.copy_(u[:, None]).sub_(cost, alpha=scale), 0)
    v = b.clamp(min=LEAST_MASS).log2() - reach  # (h·w,)
    held = torch.where(b > 0, v, -torch.inf)
    share, total, reach = _log_sum(room.copy_(held).sub_(cost, alpha=scale), 1)
    return -reach, v, F.threshold_(share.div_(total), _LEAST_SHARE, 0)


def squared_distances(points: Tensor, h: int, w: int, r: int) -> Tensor:
    """From points to the centres of h × w blocks of side r, px²: (n, 2) -> (n, h·w)."""
    centre_x, centre_y = (
        (torch.arange(length, device=points.device, dtype=points.dtype) + 0.5) * r
        for length in (w, h)
    )
    across = (points[:, :1] - centre_x).square()  # (n, w)
    down = (points[:, 1:] - centre_y).square()  # (n, h)
    return (down[:, :, None] + across[:, None, :]).flatten(1)  # (n, h, w) -> (n, h·w)


def _log_sum(bits: Tensor, dim: int) -> tuple[Tensor, Tensor, Tensor]:
    """2^(bits − largest), in place of ``bits``, the sum along ``dim``, and log₂ Σ 2^bits."""
    largest = bits.amax(dim, keepdim=True)
    terms = bits.sub_(largest).clamp_min_(_LOWEST).exp2_()
    total = terms.sum(dim, keepdim=True)
    return terms, total, (largest + total.log2()).squeeze(dim)
