"""Entropic optimal transport between a picture's density on its blocks and the people's points.

With a = 1/n on the n points, b = Y*/ΣY* on the h × w blocks' centres and C the squared distance in px²,

    OT = min_P ⟨C, P⟩ + ε KL(P ‖ uniform),  P ≥ 0, P 1 = a, Pᵀ 1 = b,

whose duals α (n,) and β (h, w), in px², give P = exp((α + β − C) / ε). β is what a loss needs: held
fixed, ⟨β, Y*/ΣY*⟩ has the gradient β/S − ⟨Y*, β⟩/S² with S = ΣY* (Wang et al. 2020, *Distribution
Matching for Crowd Counting*, ε = 10 and 100 Sinkhorn iterations).

How it stays finite and fast. The cost is a sum over x and y, so it is laid out by one broadcast in
base-two exponents (``exp2`` takes a fifth of ``exp``'s time, more where results underflow) and never
leaves the logarithm there. One such *whole* iteration gives every point's conditional plan R, whose
rows sum to one; the iterations that follow only rescale R's rows and columns, two products of a matrix
and a vector each, until the next whole one takes the scaling up again. Whatever the density, a whole
iteration leaves no row without mass, and no column less than 1/n of its own, so the scaling cannot run
away in between. Nothing in the iterations waits for the device.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import ot
import torch
from scipy.special import logsumexp
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from .config import choose

REGULARISATION = 10.0  # ε, px²
ITERATIONS = 100
LEAST_COUNT = (
    1e-3  # people; a smaller predicted total is divided by this, or gradients would explode
)

_BITS = math.log2(math.e)  # exp(x) = 2^(_BITS x)
_LOWEST = -100.0  # bits below a row's or column's largest term where terms stop to matter
_TINY = 2.0**-120  # of a normalised density; still a normal number in float32

# The published solver. Scaling changes fast at first, hence whole iterations there.
_WHOLE_AT_FIRST = 8
_WHOLE_EVERY = 8

# The converged solver; what each buys was measured against float64 solutions.
_CONJUGATE_STEPS = 12
_DAMPING = 1e-3  # of Newton's matrix, whose eigenvalues lie between 0 and 1
_LONGEST_STEP = 2.0  # in units of the level's ε; a longer one leaves the region it was computed for
_LONGEST_PREDICTION = 1.0  # likewise, of the extrapolation from level to level


class Duals(NamedTuple):
    """The potentials of one batch, in px², detached; a picture without people has β = 0.

    They are known up to a constant, chosen here so that ⟨β, b⟩ = 0.

    Where the density is zero, β is that of a density just above zero: ε·log b cannot be taken there.
    """

    points: list[Tensor]  # α, B of shape (n_b,)
    blocks: Tensor  # β, (B, h, w)


def transport_cost(
    density: Tensor,
    points: Sequence[Tensor],
    block_size_px: int,
    *,
    solver: str = "published",
    regularisation: float = REGULARISATION,
    iterations: int = ITERATIONS,
) -> Tensor:
    """The entropic cost of carrying each picture's normalised density to its points, in px².

    Differentiable in ``density`` with the duals held fixed, as derived in this module's text. Its value
    is that of the duals, a lower bound of OT that is reached at convergence. A picture without people,
    or without any density, costs nothing and has no gradient.

    Parameters and errors are those of `duals`.

    Returns
    -------
    (B,), float32, or float64 where the density is
    """
    found = duals(
        density,
        points,
        block_size_px,
        solver=solver,
        regularisation=regularisation,
        iterations=iterations,
    )
    mass, total = _normalised(density.to(found.blocks.dtype), LEAST_COUNT)
    cost = (mass * found.blocks).sum((1, 2))  # (B,), the only part with a gradient
    blocks = density[0].numel()
    on_points = [
        alpha.mean() + regularisation * math.log(len(alpha) * blocks)
        if len(alpha)
        else cost.new_zeros(())
        for alpha in found.points
    ]
    people = torch.tensor([len(p) > 0 for p in points], device=density.device)
    return torch.where(people & (total > 0), cost + torch.stack(on_points), 0.0)


@torch.no_grad()
def duals(
    density: Tensor,
    points: Sequence[Tensor],
    block_size_px: int,
    *,
    solver: str = "published",
    regularisation: float = REGULARISATION,
    iterations: int = ITERATIONS,
) -> Duals:
    """The dual potentials of entropic transport, picture by picture.

    Parameters
    ----------
    density : (B, h, w), people per block, any scale; what is negative counts as zero
    points : B tensors (n_b, 2), x and y in pixels of the picture; n_b may be 0
    block_size_px : r, the side of a block in pixels
    solver : ``"published"``, as many Sinkhorn iterations as asked from α = 0, blocks first and then
        points, far from convergence at 100; ``"converged"``, ε lowered from the picture's size in
        halves with a Newton step at each (``iterations`` is not used); ``"pot"``, POT's
        ``sinkhorn_log`` in float64, slow, the reference of ``"published"``
    regularisation : ε, px²
    iterations : Sinkhorn iterations of ``"published"`` and ``"pot"``

    Raises
    ------
    ValueError : shapes that do not belong together, an unknown solver, ε or iterations not positive
    """
    _check(density, points, block_size_px, solver, regularisation, iterations)
    dtype = torch.float64 if density.dtype == torch.float64 else torch.float32
    points = [p.to(density.device, dtype) for p in points]
    mass, total = _normalised(density.to(dtype), 0.0)
    mass = torch.where(total[:, None, None] > 0, mass, 1 / density[0].numel())
    mass = torch.where(mass < _TINY, 0.0, mass)
    alpha = [p.new_zeros(0) for p in points]
    beta = torch.zeros_like(mass)
    crowded = [b for b, p in enumerate(points) if len(p)]
    if not crowded:
        return Duals(alpha, beta)

    def solve(positions: Tensor, weights: Tensor, picture: Tensor) -> tuple[Tensor, Tensor]:
        setting = (block_size_px, regularisation, iterations)
        return SOLVERS[solver](positions, weights, picture, *setting)

    with torch.autocast(density.device.type, enabled=False):
        if density.is_cuda and solver != "pot":
            solved = _together(solve, [points[b] for b in crowded], mass[crowded])
        else:  # one after the other: a processor has no use for padding, and a plan fits its cache
            solved = [solve(points[b], _uniform(points[b]), mass[b]) for b in crowded]
    for b, (on_points, on_blocks) in zip(crowded, solved, strict=True):
        shift = mass[b].flatten() @ on_blocks  # duals are known up to a constant
        alpha[b] = on_points + shift
        beta[b] = (on_blocks - shift).view_as(beta[b])  # (h·w,) -> (h, w)
    return Duals(alpha, beta)


def _together(
    solve: Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor]],
    points: list[Tensor],
    mass: Tensor,
) -> list[tuple[Tensor, Tensor]]:
    """All pictures at once: points padded to the largest n, the padding with weight zero."""
    weights = pad_sequence([_uniform(p) for p in points], batch_first=True)  # (B, n)
    positions = pad_sequence(points, batch_first=True)  # (B, n, 2)
    alpha, beta = torch.vmap(solve)(positions, weights, mass)  # (B, n), (B, h·w)
    return [(row[: len(p)], blocks) for row, p, blocks in zip(alpha, points, beta, strict=True)]


def _published(
    points: Tensor, weights: Tensor, mass: Tensor, r: int, epsilon: float, iterations: int
) -> tuple[Tensor, Tensor]:
    """Sinkhorn's iterations as POT counts them: blocks, then points, from zero; α (n,), β (h·w,)."""
    scale = _BITS / epsilon
    affinity = -scale * _cost(points, *mass.shape, r)  # (n, h·w)
    log_a, b = weights.log2(), mass.flatten()
    f = torch.zeros_like(weights)
    for k in range(iterations):
        if k < _WHOLE_AT_FIRST or k % _WHOLE_EVERY == 0 or k == iterations - 1:
            f, g, plan = _whole_iteration(f + log_a, affinity, b)
            start, a = f, weights
        else:
            columns = b / (a @ plan).clamp(min=_TINY)
            rows = 1 / (plan @ columns).clamp(min=_TINY)
            f, a = start + rows.log2(), weights * rows
    return (f + log_a) / scale, g / scale


def _converged(
    points: Tensor, weights: Tensor, mass: Tensor, r: int, epsilon: float, _: int
) -> tuple[Tensor, Tensor]:
    """ε lowered level by level, on each a Sinkhorn iteration and a Newton step; α (n,), β (h·w,).

    A small ε moves mass by one block an iteration, so long-range errors die only after thousands.
    A large ε sees the whole picture, and its potentials, extrapolated in ε, start the next level near
    its solution.
    """
    h, w = mass.shape
    cost = _cost(points, h, w, r)  # (n, h·w)
    log_a, b = weights.log2(), mass.flatten()
    levels = max(1, math.ceil(math.log2((h * h + w * w) * r * r / 10 / epsilon)))
    f, previous = torch.zeros_like(weights), None  # px², without the share of log a
    for level in range(levels, -1, -1):
        e = epsilon * 2.0**level
        guess = f
        if previous is not None:
            limit = _LONGEST_PREDICTION * e
            guess = f + ((f - previous) / 2).clamp(-limit, limit)
        previous = f if level < levels else None
        bits, _g, plan = _whole_iteration(guess * (_BITS / e) + log_a, cost * (-_BITS / e), b)
        step = _newton_step(plan, weights, b) * (e / _BITS)
        f = bits * (e / _BITS) + step.clamp(-_LONGEST_STEP * e, _LONGEST_STEP * e)
    scale = _BITS / epsilon
    f, g, _plan = _whole_iteration(f * scale + log_a, cost * -scale, b)
    return (f + log_a) / scale, g / scale


def _whole_iteration(u: Tensor, affinity: Tensor, b: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """One Sinkhorn iteration in base-two logarithms.

    Parameters
    ----------
    u : (n,), α/ε in bits; −∞ for padding
    affinity : (n, h·w), −C/ε in bits
    b : (h·w,), the normalised density

    Returns
    -------
    (n,), the new α/ε less log a, in bits; (h·w,), β/ε in bits; R (n, h·w), whose rows sum to one
    """
    _terms, _sum, reach = _log_sum(affinity + u[:, None], 0)
    v = b.clamp(min=_TINY).log2() - reach  # (h·w,)
    share, total, reach = _log_sum(affinity + torch.where(b > 0, v, -torch.inf), 1)
    return -reach, v, share.div_(total)


def _log_sum(bits: Tensor, dim: int) -> tuple[Tensor, Tensor, Tensor]:
    """Terms 2^(bits − largest), in place of ``bits``, their sum along ``dim``, and log₂ Σ 2^bits."""
    largest = bits.amax(dim, keepdim=True)
    terms = bits.sub_(largest).clamp_(min=_LOWEST).exp2_()
    total = terms.sum(dim, keepdim=True)
    return terms, total, (largest + total.log2()).squeeze(dim)


def _newton_step(plan: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """What Newton adds to the points' potentials, in bits, (n,).

    Near its fixed point a Sinkhorn iteration T multiplies errors by the stochastic matrix
    M = R diag(1/c) Rᵀ diag(a), c = Rᵀ a, so that f + (1 − M)⁻¹ (T f − f) has none left to first
    order. 1 − M is symmetric in the inner product weighted by a: conjugate gradients, with a little
    damping, which is for the directions in which the points share no block and the dual is undecided.
    """
    inverse = 1 / (a @ plan).clamp(min=_TINY)
    residual = -(plan @ (b * inverse)).clamp(min=_TINY).log2()  # T f − f
    residual = residual - (a * residual).sum()
    x, direction = torch.zeros_like(residual), residual
    square = (a * residual * residual).sum()
    for _ in range(_CONJUGATE_STEPS):
        image = (1 + _DAMPING) * direction - plan @ (((a * direction) @ plan) * inverse)
        length = square / (a * direction * image).sum().clamp(min=1e-30)
        x = x + length * direction
        residual = residual - length * image
        square, before = (a * residual * residual).sum(), square
        direction = residual + square / before.clamp(min=1e-30) * direction
    return x


def _pot(
    points: Tensor, weights: Tensor, mass: Tensor, r: int, epsilon: float, iterations: int
) -> tuple[Tensor, Tensor]:
    """The same through POT, in float64 on the processor; α (n,), β (h·w,)."""
    h, w = mass.shape
    a, b = weights.double().cpu().numpy(), mass.flatten().double().cpu().numpy()
    cost = _cost(points.double().cpu(), h, w, r).numpy()
    a, held = a / a.sum(), b > 0
    _plan, log = ot.bregman.sinkhorn_log(
        a,
        b[held] / b.sum(),
        cost[:, held],
        epsilon,
        numItermax=iterations,
        log=True,
        warn=False,
    )
    beta = np.full(len(b), -np.inf)
    beta[held] = epsilon * log["log_v"]
    reach = logsumexp(log["log_u"][:, None] - cost[:, ~held] / epsilon, axis=0)
    beta[~held] = epsilon * (math.log(_TINY) - reach)
    as_given = {"device": mass.device, "dtype": mass.dtype}
    return torch.tensor(epsilon * log["log_u"], **as_given), torch.tensor(beta, **as_given)


SOLVERS = {"published": _published, "converged": _converged, "pot": _pot}


def _cost(points: Tensor, h: int, w: int, r: int) -> Tensor:
    """Squared distances of points to block centres, px²: (n, 2) -> (n, h·w)."""
    centre_x, centre_y = (
        (torch.arange(length, device=points.device, dtype=points.dtype) + 0.5) * r
        for length in (w, h)
    )
    across = (points[:, :1] - centre_x).square()  # (n, w)
    down = (points[:, 1:] - centre_y).square()  # (n, h)
    return (down[:, :, None] + across[:, None, :]).flatten(1)  # (n, h, w) -> (n, h·w)


def _normalised(density: Tensor, least: float) -> tuple[Tensor, Tensor]:
    """Density over its sum, or over ``least`` people if that is more: (B, h, w), and the sums (B,)."""
    density = density.clamp(min=0)
    total = density.sum((1, 2))
    divisor = torch.where(total > 0, total, 1.0).clamp(min=least)
    return density / divisor[:, None, None], total


def _uniform(points: Tensor) -> Tensor:
    """1/n for each of n points: (n, 2) -> (n,)."""
    return torch.full_like(points[:, 0], 1 / max(1, len(points)))


def _check(
    density: Tensor,
    points: Sequence[Tensor],
    r: int,
    solver: str,
    epsilon: float,
    iterations: int,
) -> None:
    """Refuse what does not belong together, saying why."""
    choose("solver", solver, SOLVERS)
    if density.ndim != 3 or density[:1].numel() == 0:
        raise ValueError(f"density is {tuple(density.shape)}; expected (B, h, w), none of them 0.")
    if len(points) != len(density):
        raise ValueError(
            f"{len(points)} sets of points for {len(density)} pictures: give one tensor a picture, "
            "of shape (0, 2) where nobody is."
        )
    for b, positions in enumerate(points):
        if positions.ndim != 2 or positions.shape[1] != 2:
            raise ValueError(
                f"points[{b}] is {tuple(positions.shape)}; expected (n, 2), columns x and y in pixels."
            )
    for name, value in {
        "block_size_px": r,
        "regularisation": epsilon,
        "iterations": iterations,
    }.items():
        if not value > 0:
            raise ValueError(f"{name} is {value}; it must be above 0.")
