"""Stopwatches: wall and processor time, and functions that run in turn."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

import pandas as pd
import torch


class Laps:
    """Times of the parts of a sequence, on a processor or a GPU (which is waited for at each lap)."""

    def __init__(self, device: torch.device) -> None:
        self.device, self.rows = device, []
        self._last = self._now()

    def lap(self, part: str) -> None:
        """What passed since the last lap was ``part``."""
        now = self._now()
        wall, cpu = ((b - a) * 1e3 for a, b in zip(self._last, now, strict=True))
        self.rows.append({"part": part, "ms": wall, "cpu_ms": cpu})
        self._last = now

    def _now(self) -> tuple[float, float]:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.perf_counter(), time.process_time()


def race(
    runners: Mapping[str, Callable[[], object]],
    rounds: int = 3,
    device: str | torch.device = "cpu",
) -> pd.DataFrame:
    """The best time of each function, run in turn so that a busy machine slows all of them.

    Two rounds or more: the first one warms up.

    Returns
    -------
    a row a function: ``ms``, wall time, and ``cpu_ms``, this process's time on all cores
    """
    device = torch.device(device)
    laps = Laps(device)
    for _ in range(rounds):
        for name, run in runners.items():
            run()
            laps.lap(name)
    return pd.DataFrame(laps.rows).groupby("part", sort=False).min().rename_axis(None)
