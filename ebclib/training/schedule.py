"""The learning rate over time."""

from __future__ import annotations

import math

from ..config import Config

PAPER_RESTART_EPOCHS = 5  # T_0; each following period is twice as long (T_mult = 2)
FIRST_RATE, LAST_RATE = 1e-2, 1e-3  # of the full learning rate: 1e-6 and 1e-7 in the paper


def rate_factor(epoch: float, config: Config) -> float:
    """The share of ``config.learning_rate`` in force at a time counted in epochs, fractions included.

    Linear warm-up from 1 % over ``warmup_epochs``; then ``"restarts"``, cosine annealing with warm
    restarts (Loshchilov and Hutter 2017; periods of 5, 10, 20, … epochs, down to 0.1 %), or ``"cosine"``,
    one cosine down to 0.1 % at the last epoch.
    """
    if epoch < config.warmup_epochs:
        return FIRST_RATE + (1 - FIRST_RATE) * epoch / config.warmup_epochs
    since = epoch - config.warmup_epochs
    if config.schedule == "cosine":
        progress = since / max(config.epochs - config.warmup_epochs, 1e-9)
    else:
        restart = int(math.log2(since / PAPER_RESTART_EPOCHS + 1))
        period = PAPER_RESTART_EPOCHS * 2**restart
        progress = (since - PAPER_RESTART_EPOCHS * (2**restart - 1)) / period
    return LAST_RATE + (1 - LAST_RATE) * (1 + math.cos(math.pi * min(progress, 1))) / 2
