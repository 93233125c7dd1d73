"""Transport: how its cost grows, and our solvers beside POT's, in time, error and memory."""

from __future__ import annotations

import math
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


def compare_solvers(
    people: int, side_px: int, batch: int = 1, rounds: int = 2, exact: bool = True
) -> pd.DataFrame:
    """Our solvers on a batch of crops, and the plain way and POT's on one of them, in turn.

    *Plain* is Sinkhorn in logarithms throughout, in float32 by torch: what one writes first. Errors are
    relative ones of the gradient that the density gets, ‖g − g*‖ / ‖g*‖, in the first crop: against
    POT's after the same 100 iterations in float64, and against the exact solution.

    Parameters
    ----------
    people : in each crop; for some hundred the exact solution takes a minute
    exact : compute it

    Returns
    -------
    a row a solver: ``ms`` and ``cpu_ms`` a crop, ``peak_mb`` (what it allocates beyond its inputs, for the
    crops that it is given: ``crops``), ``error_100`` and ``error_exact`` (NaN where not computed)
    """
    crowds = [crowd(people, side_px, seed) for seed in range(batch)]
    density, points = torch.stack([each for each, _ in crowds]), [each for _, each in crowds]
    one = (density[:1], points[:1])
    runners: dict[str, Callable[[], Tensor]] = {
        "published (ours)": lambda: _ours(density, points, "published"),
        "converged (ours)": lambda: _ours(density, points, "converged"),
        "plain, torch float32": lambda: _plain(density[0], points[0]),
        "POT, torch float32": lambda: _pot_torch(density[0], points[0]),
        "POT, numpy float64": lambda: _ours(*one, "pot"),
    }
    table = race(runners, rounds)
    found, peaks = zip(*map(_peak_mb, runners.values()), strict=True)
    table["crops"] = [batch if "ours" in name else 1 for name in runners]
    table[["ms", "cpu_ms"]] = table[["ms", "cpu_ms"]].div(table["crops"], axis=0)
    table["peak_mb"] = peaks
    references = {"error_100": found[-1]}
    table["error_exact"] = np.nan
    if exact:
        references["error_exact"] = exact_beta(density[0], points[0])
    for column, beta in references.items():
        wanted = _gradient(density[0], beta.view_as(density[0]))
        errors = [(_gradient(density[0], each) - wanted).norm() for each in found]
        table[column] = [float(error / wanted.norm()) for error in errors]
    return table[["ms", "cpu_ms", "crops", "peak_mb", "error_100", "error_exact"]]


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


def _ours(density: Tensor, points: list[Tensor], solver: str) -> Tensor:
    return transport.duals(density, points, BLOCK_PX, solver=solver).blocks[0]


def _plain(density: Tensor, points: Tensor) -> Tensor:
    """β of 100 iterations by `torch.logsumexp`, (h, w)."""
    cost = squared_distances(points, *density.shape, BLOCK_PX) / -_EPSILON
    log_b = (density / density.sum()).flatten().log()
    u = torch.zeros(len(points))
    for _ in range(transport.ITERATIONS):
        v = log_b - torch.logsumexp(cost + u[:, None], 0)
        u = -math.log(len(points)) - torch.logsumexp(cost + v, 1)
    return (_EPSILON * v).view_as(density)


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
