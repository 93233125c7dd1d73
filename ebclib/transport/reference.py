"""The same problem given to POT (Python Optimal Transport), in float64 on the processor."""

from __future__ import annotations

import math
import random

import numpy as np
import torch
from scipy.special import logsumexp
from torch import Tensor

from .sinkhorn import LEAST_MASS, squared_distances


def pot(
    points: Tensor, weights: Tensor, mass: Tensor, r: int, epsilon: float, iterations: int
) -> tuple[Tensor, Tensor]:
    """α (n,) and β (h·w,) of ``ot.bregman.sinkhorn_log``; parameters as in `sinkhorn.published`."""
    state = random.getstate()
    import ot  # here, for it takes seconds and draws from Python's random numbers as it is imported

    random.setstate(state)
    cost = squared_distances(points.double().cpu(), *mass.shape, r).numpy()  # (n, h·w)
    a, b = (t.double().cpu().numpy() for t in (weights, mass.flatten()))
    held = b > 0
    _plan, log = ot.bregman.sinkhorn_log(
        a / a.sum(),
        b[held] / b.sum(),
        cost[:, held],
        epsilon,
        numItermax=iterations,
        log=True,
        warn=False,
    )
    beta = np.empty_like(b)
    beta[held] = epsilon * log["log_v"]
    reach = logsumexp(log["log_u"][:, None] - cost[:, ~held] / epsilon, axis=0)
    beta[~held] = epsilon * (math.log(LEAST_MASS) - reach)
    return tuple(torch.from_numpy(t).to(mass) for t in (epsilon * log["log_u"], beta))
