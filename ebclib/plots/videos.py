"""Figures of a video: people over time."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from ebclib.plots.style import COLOURS, PAGE_INCHES


def plot_over_time(counts: pd.DataFrame, what: str = "people", ax: Axes | None = None) -> Axes:
    """Counts of a video's frames, with the 90 % interval where it is finite.

    Parameters
    ----------
    counts : columns seconds, count, lower, upper
    what : is counted, for the axis
    """
    ax = ax or plt.subplots(figsize=(PAGE_INCHES, 2.4))[1]
    unit, scale = _unit(counts["seconds"].max() if len(counts) else 0)
    time = counts["seconds"] / scale
    if np.isfinite(counts[["lower", "upper"]].to_numpy(dtype=float)).all() and len(counts):
        ax.fill_between(
            time, counts["lower"], counts["upper"], color="0.85", lw=0, label="90 % interval"
        )
        legend = True
    else:
        legend = False
    few = len(counts) <= 60  # where each frame can be told from the next
    ax.plot(
        time, counts["count"], "o-" if few else "-", color=COLOURS[0], ms=3, lw=1.3, label="count"
    )
    ax.set(xlabel=f"Time ({unit})", ylabel=f"{what[:1].upper()}{what[1:]} counted", ylim=(0, None))
    ax.margins(x=0.01)
    if legend:
        ax.legend(frameon=False, ncols=2, loc="lower right", bbox_to_anchor=(1, 1), borderaxespad=0)
    return ax


def _unit(seconds: float) -> tuple[str, float]:
    """The unit of a time axis that long, and how many seconds it has."""
    if seconds <= 120:
        return "s", 1.0
    return ("min", 60.0) if seconds <= 7200 else ("h", 3600.0)
