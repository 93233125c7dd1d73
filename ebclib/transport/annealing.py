"""The converged solver: ε is lowered level by level, with a Newton step at each.

Sinkhorn's iterations at a small ε move mass by about a block each, so errors over long distances take
thousands of them to die. A large ε sees the whole picture at once; its potentials, extrapolated in ε,
start the next level near that level's solution, and Newton's step takes away what is left of every
length alike.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from .sinkhorn import BITS, LEAST_MASS, squared_distances, whole_iteration

# Chosen by the error of the gradient against float64 solutions of 150 pictures of 2 to 800 people, even,
# clustered and with densities over many orders of magnitude: half are within 0.05 %, all within 2 %.
_RATIO = 1.5  # of ε from level to level
_HIGHEST = 0.1  # ε of the first level, in squares of the picture's diagonal
_STEPS = (2, 8)  # of conjugate gradients, at the upper half of the levels and at the lower
_DAMPING = 3e-4  # of Newton's matrix, whose eigenvalues lie between 0 and 1
_LONGEST_STEP = 2.0  # in units of ε; a longer one leaves the region that it was computed for
_LONGEST_PREDICTION = 1.0  # likewise, of the extrapolation from level to level
_GROUPS = 128  # of neighbouring points, for the preconditioner


def converged(
    points: Tensor, weights: Tensor, mass: Tensor, r: int, epsilon: float, iterations: int
) -> tuple[Tensor, Tensor]:
    """α (n,) and β (h·w,) in px², both marginals about right; parameters as in `sinkhorn.published`.

    ``iterations`` is not used: how many levels there are depends on the picture's size and on ε.
    """
    del iterations
    order = _neighbours_together(points)
    points, weights = points[order], weights[order]
    h, w = mass.shape
    cost = squared_distances(points, h, w, r)  # (n, h·w)
    log_a, b, room = weights.log2(), mass.flatten(), torch.empty_like(cost)
    start = _HIGHEST * (h * h + w * w) * r * r
    levels = max(1, math.ceil(math.log(start / epsilon, _RATIO)))
    f, before = torch.zeros_like(weights), None  # px², less the share of log a
    for level in range(levels, -1, -1):
        e = epsilon * _RATIO**level
        guess = f
        if before is not None:
            guess = f + _limited((f - before) / _RATIO, _LONGEST_PREDICTION * e)
        before = f if level < levels else None
        bits, _g, plan = whole_iteration(guess * (BITS / e) + log_a, cost, BITS / e, b, room)
        step = _newton_step(plan, weights, b, _STEPS[level <= levels / 2])
        f = bits * (e / BITS) + _limited(step * (e / BITS), _LONGEST_STEP * e)
    scale = BITS / epsilon
    f, g, _plan = whole_iteration(f * scale + log_a, cost, scale, b, room)
    return ((f + log_a) / scale)[order.argsort()], g / scale


def _newton_step(plan: Tensor, a: Tensor, b: Tensor, steps: int) -> Tensor:
    """What Newton adds to the points' potentials after a whole iteration, in bits, (n,).

    Near its fixed point, an iteration T multiplies errors by the stochastic matrix
    M = R diag(1/c) Rᵀ diag(a), c = Rᵀ a, so that f + (1 − M)⁻¹ (T f − f) has none left to first
    order. diag(a) (1 − M) is symmetric: conjugate gradients. The little damping is for directions in
    which points share no block and the potentials are undecided.
    """
    inverse = 1 / (a @ plan).clamp(min=LEAST_MASS)
    change = -(plan @ (b * inverse)).clamp(min=LEAST_MASS).log2()  # T f − f
    residual = a * (change - a @ change)
    coarse = _Coarse(plan, a, inverse)
    x, direction = torch.zeros_like(a), coarse.solve(residual)
    square = residual @ direction
    for _ in range(steps):
        ahead = a * direction
        image = (1 + _DAMPING) * ahead - a * (plan @ ((ahead @ plan) * inverse))
        length = square / (direction @ image).clamp(min=1e-30)
        x = x + length * direction
        residual = residual - length * image
        towards = coarse.solve(residual)
        square, previous = residual @ towards, square
        direction = towards + square / previous.clamp(min=1e-30) * direction
    return x


class _Coarse:
    """The preconditioner: each point alone, plus the exact solution between groups of neighbours.

    Points that exchange mass over a long way are what conjugate gradients are slow at. A picture of
    fewer people than groups is solved all but exactly.
    """

    def __init__(self, plan: Tensor, a: Tensor, inverse: Tensor) -> None:
        self.a, n = a, len(a)
        self.members = -(-n // _GROUPS)
        self.missing = -n % self.members
        flow = self._sums(a[:, None] * plan)  # (groups, h·w)
        share = self._sums(a)  # (groups,)
        diagonal = torch.where(share > 0, (1 + _DAMPING) * share, 1.0)
        matrix = torch.diag(diagonal) - (flow * inverse) @ flow.T
        self.factor, _info = torch.linalg.cholesky_ex(matrix)

    def solve(self, residual: Tensor) -> Tensor:
        """Nearly (diag(a) (1 − M))⁻¹ residual: (n,) -> (n,)."""
        between = torch.cholesky_solve(self._sums(residual)[:, None], self.factor)[:, 0]
        alone = torch.where(self.a > 0, residual / self.a, 0.0)
        return alone + between.repeat_interleave(self.members)[: len(residual)]

    def _sums(self, values: Tensor) -> Tensor:
        """Over the members of each group: (n, …) -> (groups, …)."""
        if self.missing:
            values = F.pad(values, (0, 0) * (values.ndim - 1) + (0, self.missing))
        return values.unflatten(0, (-1, self.members)).sum(1)


def _neighbours_together(points: Tensor) -> Tensor:
    """An order of the points, (n,), in which runs are compact: strips of equally many, each along y."""
    n = len(points)
    strips = math.ceil(math.sqrt(min(n, _GROUPS)))
    strip = points[:, 0].argsort().argsort() * strips // n  # (n,)
    y = points[:, 1] - points[:, 1].amin()
    return (strip * (y.amax() + 1) + y).argsort()


def _limited(values: Tensor, limit: float) -> Tensor:
    """Values no further from zero than ``limit``, and zero for what is no number."""
    return values.nan_to_num(0.0, 0.0, 0.0).clamp(-limit, limit)
