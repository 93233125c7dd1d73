"""Entropic optimal transport between a picture's density on its blocks and the people's points.

With a = 1/n on the n points, b = Y*/ΣY* on the h × w blocks' centres and C the squared distance in px²,

    OT = min_P ⟨C, P⟩ + ε KL(P ‖ uniform),  P ≥ 0, P 1 = a, Pᵀ 1 = b,

whose duals α (n,) and β (h, w), in px², give P = exp((α + β − C) / ε). β is what a loss needs: held
fixed, ⟨β, Y*/ΣY*⟩ has the gradient β/S − ⟨Y*, β⟩/S² with S = ΣY* (Wang et al. 2020, *Distribution
Matching for Crowd Counting*, ε = 10 and 100 Sinkhorn iterations).

`sinkhorn` holds the iterations, `annealing` the converged solver, `reference` POT's. All of them work
on one picture; none waits for the device while it iterates.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from ..choices import choose
from .annealing import converged
from .reference import pot
from .sinkhorn import LEAST_MASS, published

REGULARISATION = 10.0  # ε, px²
ITERATIONS = 100
LEAST_COUNT = (
    1e-3  # people; the divisor of a smaller predicted total, whose gradients would explode
)
SOLVERS = {"published": published, "converged": converged, "pot": pot}


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
        points, far from convergence at 100; ``"converged"``, ε lowered level by level from the
        picture's size, with a Newton step at each (``iterations`` is not used); ``"pot"``, POT's
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
    mass = torch.where(mass < LEAST_MASS, 0.0, mass)
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
        shift = (mass[b].flatten() * on_blocks).sum()  # duals are known up to a constant
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
