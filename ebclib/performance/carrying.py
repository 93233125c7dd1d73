"""Transport: how its cost grows, and our solvers beside POT's, in time, error and memory."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from .. import transport
from ..transport.sinkhorn import squared_distances
from .timing import race

BLOCK_PX = 8
_EPSILON = transport.REGULARISATION


def crowd(people: int, side_px: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """A predicted density (h, w), uneven, and ``people`` points (n, 2) in clusters; float32."""
    rng = np.random.default_rng(seed)
    blocks = side_px // BLOCK_PX
    density = np.exp(rng.standard_normal((blocks, blocks)))
    centres = rng.random((8, 2)) * side_px
    points = centres[rng.integers(0, 8, people)] + side_px / 12 * rng.standard_normal((people, 2))
    points = np.clip(points, 0, side_px - 1e-3)
    return torch.from_numpy(density * people / density.sum()).float(), torch.from_numpy(
        points
    ).float()


def transport_growth(
    people: Sequence[int],
    sides_px: Sequence[int],
    batches: Sequence[int],
    device: str | torch.device = "cpu",
    rounds: int = 2,
) -> pd.DataFrame:
    """Milliseconds of both solvers as one of people, side and batch grows, the others at their middle.

    Returns
    -------
    rows (``varied``, ``value``, ``solver``, ``ms``, ``cpu_ms``)
    """
    middles = [sorted(values)[len(values) // 2] for values in (people, sides_px, batches)]
    names = ("people in a crop", "side of the crop, px", "crops in a batch")
    rows = []
    for k, (name, values) in enumerate(zip(names, (people, sides_px, batches), strict=True)):
        for value in values:
            n, side, batch = (*middles[:k], value, *middles[k + 1 :])
            crowds = [crowd(n, side, seed) for seed in range(batch)]
            density = torch.stack([each for each, _ in crowds]).to(device)
            points = [each.to(device) for _, each in crowds]
            runners = {
                solver: lambda s=solver, d=density, p=points: transport.duals(
                    d, p, BLOCK_PX, solver=s
                )
                for solver in ("published", "converged")
            }
            times = race(runners, rounds, device)
            rows += [
                {"varied": name, "value": value, "solver": solver, **times.loc[solver]}
                for solver in times.index
            ]
    return pd.DataFrame(rows)


def compare_solvers(people: int, side_px: int, rounds: int = 2) -> pd.DataFrame:
    """Our solvers and POT's on one crop, in turn.

    Errors are relative ones of the gradient that the density gets, ‖g − g*‖ / ‖g*‖: against POT's
    after the same 100 iterations in float64, and against the exact solution.

    Returns
    -------
    a row a solver: ``ms``, ``cpu_ms``, ``peak_mb`` (what it allocates beyond its inputs),
    ``error_100`` and ``error_exact``
    """
    density, points = crowd(people, side_px)
    runners: dict[str, Callable[[], Tensor]] = {
        "published (ours)": lambda: _ours(density, points, "published"),
        "converged (ours)": lambda: _ours(density, points, "converged"),
        "POT, numpy": lambda: _ours(density, points, "pot"),
        "POT, torch float32": lambda: _pot_torch(density, points),
    }
    table = race(runners, rounds)
    found, peaks = zip(*map(_peak_mb, runners.values()), strict=True)
    table["peak_mb"] = peaks
    references = {"error_100": found[2], "error_exact": exact_beta(density, points)}
    for column, beta in references.items():
        wanted = _gradient(density, beta.view_as(density))
        errors = [(_gradient(density, each) - wanted).norm() for each in found]
        table[column] = [float(error / wanted.norm()) for error in errors]
    return table


def exact_beta(density: Tensor, points: Tensor, tolerance: float = 1e-6) -> Tensor:
    """β (h·w,) in float64 with both marginals right: Newton's method on the dual, ε lowered by halves.

    For some hundred points, as every step solves a system of their number; no block may be empty.
    """
    n = len(points)
    cost = squared_distances(points.double(), *density.shape, BLOCK_PX)
    b = (density.double() / density.double().sum()).flatten()
    f, e = torch.zeros(n, dtype=torch.float64), 0.1 * float(cost.max())

    def rise(f: Tensor) -> Tensor:
        return f.mean() - e * b @ torch.logsumexp((f[:, None] - cost) / e, 0)

    while True:
        e = max(e / 2, _EPSILON)
        for _ in range(60):
            share = torch.softmax((f[:, None] - cost) / e, 0)  # (n, h·w)
            slope = 1 / n - share @ b
            if slope.abs().sum() < (tolerance if e == _EPSILON else 1e-2):
                break
            matrix = torch.diag(share @ b) - (share * b) @ share.T + 1e-3 / n**2
            matrix.diagonal().add_(1e-13)
            step, length, here = e * torch.linalg.solve(matrix, slope), 1.0, rise(f)
            while length > 1e-8 and rise(f + length * step) < here:
                length /= 2
            f = f + length * step
        if e == _EPSILON:
            return e * (b.log() - torch.logsumexp((f[:, None] - cost) / e, 0))


def _gradient(density: Tensor, beta: Tensor) -> Tensor:
    """∂⟨β, Y*/S⟩/∂Y* = β/S − ⟨Y*, β⟩/S², float64 (h, w); the same for β + a constant."""
    density, beta = density.double(), beta.double()
    total = density.sum()
    return beta / total - (density * beta).sum() / total**2


def _ours(density: Tensor, points: Tensor, solver: str) -> Tensor:
    return transport.duals(density[None], [points], BLOCK_PX, solver=solver).blocks[0]


def _pot_torch(density: Tensor, points: Tensor) -> Tensor:
    """POT's solver with its torch backend, in float32 as published code runs it."""
    import ot  # takes seconds; `transport.reference` keeps Python's random state around the first time

    cost = squared_distances(points, *density.shape, BLOCK_PX)
    a, b = torch.full((len(points),), 1 / len(points)), (density / density.sum()).flatten()
    with torch.no_grad():
        _plan, log = ot.bregman.sinkhorn_log(
            a, b, cost, _EPSILON, numItermax=transport.ITERATIONS, log=True, warn=False
        )
    return (_EPSILON * log["log_v"]).view_as(density)


def _peak_mb(run: Callable[[], Tensor]) -> tuple[Tensor, float]:
    """What it gives, and the most that its tensors and arrays take at a time, in 10⁶ bytes."""
    tracemalloc.start()
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        made = run()
    arrays = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    held = peak = 0
    for event in profiler.profiler.kineto_results.events():
        if event.name() == "[memory]":
            held += event.nbytes()
            peak = max(peak, held)
    return made, (peak + arrays) / 1e6
