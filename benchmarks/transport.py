"""Transport's time: ours beside the loop that one writes first, and POT's solver."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from ebclib.transport import CHECK_EVERY, FLOOR, ITERATIONS, REGULARISATION, TOLERANCE, block_duals

from .timing import race

BLOCK_PX = 8


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
    """Milliseconds of a batch as one of people, side and batch grows, the others at their middle.

    Returns
    -------
    rows (``varied``, ``value``, ``way``, ``ms``, ``cpu_ms``); a way is ``ours`` or ``dense loop``
    """
    middles = [sorted(values)[len(values) // 2] for values in (people, sides_px, batches)]
    names = ("people in a crop", "side of the crop, px", "crops in a batch")
    rows = []
    for k, (name, values) in enumerate(zip(names, (people, sides_px, batches), strict=True)):
        for value in values:
            n, side, batch = (*middles[:k], value, *middles[k + 1 :])
            density, points = _crowds(n, side, batch, device)
            runners = {
                "ours": lambda d=density, p=points: block_duals(d, p, BLOCK_PX),
                "dense loop": lambda d=density, p=points: _each(d, p),
            }
            times = race(runners, rounds, device)
            rows += [
                {"varied": name, "value": value, "way": way, **times.loc[way]}
                for way in times.index
            ]
    return pd.DataFrame(rows)


def compare_transport(
    people: Sequence[int], side_px: int = 448, batch: int = 8, rounds: int = 3
) -> pd.DataFrame:
    """Ours on a batch of crops, the plain loop over them, and POT on one of them, in turn.

    POT's `sinkhorn_log` has no floor: it is here for its time, and its error says what the floor does.

    Parameters
    ----------
    people : numbers of people in each crop, compared one after the other

    Returns
    -------
    a row a number of people and way: ``ms`` and ``cpu_ms`` a crop, ``times_faster`` than the plain loop,
    and ``error``, ‖g − g*‖ / ‖g*‖ of the first crop's gradient against the loop in float64
    """
    tables = {}
    for n in people:
        density, points = _crowds(n, side_px, batch)
        runners = {
            "ours": lambda d=density, p=points: block_duals(d, p, BLOCK_PX),
            "dense loop": lambda d=density, p=points: _each(d, p),
            "POT, no floor": lambda d=density, p=points: _pot(d[0], p[0])[None],
        }
        table = race(runners, rounds)
        crops = [batch, batch, 1]
        table = table.div(crops, axis=0)
        table["times_faster"] = table["ms"]["dense loop"] / table["ms"]
        exact = density_gradient(density[0], dense_duals(density[0].double(), points[0], BLOCK_PX))
        found = [density_gradient(density[0], run()[0]) for run in runners.values()]
        table["error"] = [float((each - exact).norm() / exact.norm()) for each in found]
        tables[n] = table
    return pd.concat(tables, names=["people", "way"])


@torch.no_grad()
def dense_duals(
    density: Tensor,
    points: Tensor,
    block_size_px: int,
    regularisation: float = REGULARISATION,
    iterations: int = ITERATIONS,
) -> Tensor:
    """β of one image by the rule of `ebclib.transport`, with K as one full matrix: the plain loop.

    Parameters
    ----------
    density : (h, w), its sum above 0; its type is the loop's
    points : (n, 2), x and y in pixels, n > 0

    Returns
    -------
    (h, w)
    """
    k = (
        squared_distances(points.to(density), *density.shape, block_size_px) / -regularisation
    ).exp()
    a, b = k.new_full((len(k),), 1 / len(k)), (density / density.sum()).flatten()
    u, v = a, b
    for iteration in range(iterations):
        reached = k.T @ u  # (h·w,)
        looks = iteration and iteration % CHECK_EVERY == 0
        if looks and (reached * v - b).square().sum() <= TOLERANCE:
            break
        v = b / (reached + FLOOR)
        u = a / (k @ v + FLOOR)
    return (regularisation * (v + FLOOR).log()).view_as(density)


def squared_distances(points: Tensor, h: int, w: int, block_size_px: int) -> Tensor:
    """From n points to the centres of h × w blocks, in px²: (n, h·w)."""
    y, x = torch.meshgrid(torch.arange(h), torch.arange(w), indexing="ij")
    centres = (torch.stack([x, y], -1).view(-1, 2).to(points) + 0.5) * block_size_px
    return (points[:, None] - centres).square().sum(-1)


def density_gradient(density: Tensor, beta: Tensor) -> Tensor:
    """β/S − ⟨Y*, β⟩/S², float64 (h, w); the same for β plus a constant."""
    density, beta = density.double(), beta.double()
    total = density.sum()
    return beta / total - (density * beta).sum() / total**2


def _crowds(
    people: int, side_px: int, batch: int, device: str | torch.device = "cpu"
) -> tuple[Tensor, list[Tensor]]:
    """Densities (B, h, w) and B sets of points, each a `crowd` of its own seed."""
    density, points = zip(*(crowd(people, side_px, seed) for seed in range(batch)), strict=True)
    return torch.stack(density).to(device), [each.to(device) for each in points]


def _each(density: Tensor, points: Sequence[Tensor]) -> Tensor:
    """The plain loop over the images of a batch, (B, h, w)."""
    pairs = zip(density, points, strict=True)
    return torch.stack([dense_duals(each, at, BLOCK_PX) for each, at in pairs])


def _pot(density: Tensor, points: Tensor) -> Tensor:
    """β of one image by POT in float32, (h, w)."""
    import ot  # takes seconds

    cost = squared_distances(points, *density.shape, BLOCK_PX)
    b = (density / density.sum()).flatten()
    options = {"numItermax": ITERATIONS, "log": True, "warn": False}
    _plan, log = ot.bregman.sinkhorn_log(
        ot.unif(len(points), b), b, cost, REGULARISATION, **options
    )
    return (REGULARISATION * log["log_v"]).view_as(density)
