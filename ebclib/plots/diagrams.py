"""Models as diagrams (paper, Fig. 1 and Fig. 4), every number taken from the modules themselves."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

from ebclib.plots.style import COLOURS, COLUMN_INCHES, MARKERS, PAGE_INCHES, legend_above

IMAGE, TEXT, JOINT, PLAIN = (*(COLOURS[k] for k in (0, 1, 2)), (0.55, 0.55, 0.55))
FROZEN, LEARNT = "--", "-"


def plot_clip_ebc(
    steps: pd.DataFrame, sentences: Sequence[str], embedding: int, ax: Axes | None = None
) -> Axes:
    """The way of CLIP-EBC from an image and sentences to a density map (paper, Fig. 1).

    ``steps`` are `inspection.steps` of a model with the text head, ``embedding`` is D.
    """
    ax = ax or plt.subplots(figsize=(PAGE_INCHES, 2.9))[1]
    shape = steps["shape"]
    bins, h, w = shape["head"]
    listed = [*sentences[:2], "…", sentences[-1]] if len(sentences) > 4 else sentences
    top, low, middle = 1.75, 0.0, 0.875
    features = f"{_millions(steps, 'encoder')}\n{_size(shape['encoder'])}"
    projected = f"{_millions(steps, 'head')}\n{embedding} × {h} × {w}"
    once = f"frozen, used once\n{bins} × {embedding}"
    matched = f"softmax over the bins\n{bins} × {h} × {w}"
    _box(ax, 0, top, 1.75, "image", _size(shape["image"]), PLAIN)
    _box(ax, 2.25, top, 1.9, "image encoder", features, IMAGE)
    _box(ax, 4.65, top, 1.9, "1×1 convolution", projected, IMAGE)
    _box(ax, 0.98, low, 3.7, f"{bins} bins as sentences", "\n".join(listed), PLAIN, height=1.3)
    _box(ax, 4.65, low, 1.9, "text encoder", once, TEXT, FROZEN)
    _box(ax, 7.2, middle, 2.0, "cosine similarity", matched, JOINT)
    _box(ax, 9.75, middle, 1.9, "density map", f"mean of the bins\n1 × {h} × {w}", JOINT)
    _arrow(ax, (0.875, top), (1.3, top))
    _arrow(ax, (3.2, top), (3.7, top))
    _arrow(ax, (5.6, top), (7.2, middle + 0.46), bend=-0.25)
    _arrow(ax, (2.83, low), (3.7, low))
    _arrow(ax, (5.6, low), (7.2, middle - 0.46), bend=0.25)
    _arrow(ax, (8.2, middle), (8.8, middle))
    return _finish(ax, (-0.95, 10.75), (-0.7, 2.3))


def plot_same_network(
    regression: pd.DataFrame, classifier: pd.DataFrame, ax: Axes | None = None
) -> Axes:
    """A regression model's `inspection.steps` above its EBC form's: the output's width changes (Fig. 4)."""
    ax = ax or plt.subplots(figsize=(PAGE_INCHES, 2.5))[1]
    rows = (("Regression", regression, 1.5), ("EBC", classifier, 0.0))
    for title, steps, y in rows:
        ax.text(-1.05, y, title, ha="right", va="center", weight="bold")
        names = [name for name in steps.index if name != "density"]
        for k, name in enumerate(names):
            colour = JOINT if name == "head" else IMAGE if name != "image" else PLAIN
            detail = _size(steps["shape"][name])
            if steps["parameters"][name]:
                detail += f"\n{_millions(steps, name)}"
            _box(ax, 2.2 * k, y, 1.7, name, detail, colour)
            if k:
                _arrow(ax, (2.2 * k - 1.35, y), (2.2 * k - 0.85, y))
        x = 2.2 * len(names)
        how = "softplus" if title == "Regression" else "softmax,\nmean of the bins"
        _arrow(ax, (x - 1.35, y), (x - 0.95, y))
        _box(ax, x + 0.15, y, 2.2, "density", f"{how}\n{_size(steps['shape']['density'])}", PLAIN)
    return _finish(ax, (-2.3, 2.2 * len(names) + 1.3), (-0.55, 2.05))


def plot_costs(costs: pd.DataFrame, ax: Axes | None = None) -> Axes:
    """Multiply-adds of each model, a row a model and a marker an image size (`inspection.costs`)."""
    ax = ax or plt.subplots(figsize=(PAGE_INCHES, 0.8 + 0.2 * len(costs)))[1]
    sizes = [column for column in costs.columns if column != "parameters"]
    order = costs.sort_values("parameters")
    place = np.arange(len(order))
    for k, size in enumerate(sizes):
        ax.plot(order[size], place, MARKERS[k], color=COLOURS[k], ms=5, label=f"{size} px")
    names = [f"{name} ({millions:.1f} M)" for name, millions in order["parameters"].items()]
    ax.set_yticks(place, names)
    ax.set(xscale="log", xlabel="Multiply-adds of one image (10⁹)", ylim=(len(order) - 0.5, -0.5))
    ax.set_ylabel("Model (parameters)")
    ax.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    ax.grid(axis="both", lw=0.4)
    legend_above(ax, columns=len(sizes))
    return ax


def plot_similarity(
    similarity: np.ndarray, sentences: Sequence[str], ax: Axes | None = None
) -> Axes:
    """How alike the text encoder finds the bins' sentences: cosines, (N, N), written into the cells."""
    n = len(sentences)
    side = max(COLUMN_INCHES * 0.9, 0.34 * n + 1)
    ax = ax or plt.subplots(figsize=(side + 2.4, side))[1]
    scale = {"vmin": min(0.5, float(similarity.min())), "vmax": 1, "cmap": "cividis"}
    texts = {"annot": n <= 12, "fmt": ".2f", "annot_kws": {"fontsize": 7}}
    bar = {"cbar_kws": {"label": "cosine", "shrink": 0.8}}
    sns.heatmap(similarity, ax=ax, square=True, linewidths=0.5, **scale, **texts, **bar)
    ax.set_yticks(np.arange(n) + 0.5, sentences, rotation=0)
    ax.set_xticks(np.arange(n) + 0.5, [str(k) for k in range(n)])
    ax.set(xlabel="bin")
    ax.tick_params(length=0)
    return ax


def _size(shape: Sequence[int]) -> str:
    return " × ".join(map(str, shape))


def _millions(steps: pd.DataFrame, step: str) -> str:
    count = steps["parameters"][step]
    return f"{count / 1e6:.1f} M weights" if count >= 1e5 else f"{count:,} weights"


def _box(
    ax: Axes,
    x: float,
    y: float,
    width: float,
    title: str,
    detail: str,
    colour: tuple,
    style: str = LEARNT,
    height: float = 0.92,
) -> None:
    """A labelled box around (x, y)."""
    look = {"fc": (*colour, 0.13), "ec": colour, "ls": style, "lw": 1.3}
    corner = (x - width / 2, y - height / 2)
    round_ = "round,pad=0,rounding_size=0.08"
    ax.add_patch(FancyBboxPatch(corner, width, height, boxstyle=round_, **look))
    top = y + height / 2
    ax.text(x, top - 0.1, title, ha="center", va="top", fontsize=7.5, weight="bold")
    below = {"ha": "center", "va": "center", "fontsize": 6.5, "linespacing": 1.25}
    ax.text(x, top - 0.3 - (height - 0.36) / 2, detail, **below)


def _arrow(
    ax: Axes, start: tuple[float, float], end: tuple[float, float], bend: float = 0.0
) -> None:
    look = {"arrowstyle": "-|>", "mutation_scale": 9, "color": "0.25", "lw": 1.1}
    look |= {"shrinkA": 1, "shrinkB": 1, "connectionstyle": f"arc3,rad={bend}"}
    ax.add_patch(FancyArrowPatch(start, end, **look))


def _finish(ax: Axes, xlim: tuple[float, float], ylim: tuple[float, float]) -> Axes:
    ax.set(xlim=xlim, ylim=ylim)
    ax.axis("off")
    return ax
