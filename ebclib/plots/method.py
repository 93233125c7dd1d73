"""Figures before any training: people in images and blocks, bins, what is done to labels, and models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.patheffects import withStroke
from matplotlib.text import Text

from ebclib.bins import Bin, Bins, Interval
from ebclib.plots.style import COLOURS, PAGE_INCHES, PLAIN, bare, mark

NOBODY, CLOSED, OPEN = "0.78", (COLOURS[0], COLOURS[9]), COLOURS[1]
IMAGE, TEXT, JOINT, GREY = (*COLOURS[:3], (0.55, 0.55, 0.55))


def plot_long_tail(histograms: Mapping[str, np.ndarray], ax: Axes, longest: int = 30) -> Axes:
    """How many blocks hold how many people, as shares on a logarithmic axis (paper, Fig. 2).

    ``histograms`` are `blocks.histogram`'s by label, a curve each; one that goes on beyond ``longest``
    says in its label how far.
    """
    for k, (label, blocks) in enumerate(histograms.items()):
        count = np.flatnonzero(blocks)
        shown = count[count <= longest]
        tail = f" (to {count.max()})" if count.max() > longest else ""
        ax.plot(shown, blocks[shown] / blocks.sum(), label=label + tail, **mark(k, ms=3.5, lw=1))
    ax.set(yscale="log", xlabel="People in a block", ylabel="Share of blocks")
    ax.legend()
    return ax


def plot_block_labels(
    image: np.ndarray,
    points: np.ndarray,
    values: np.ndarray,
    block_size_px: int,
    ax: Axes,
    wrong: np.ndarray | None = None,
    title: str = "",
) -> Axes:
    """A small image with its blocks' values written into them (paper, Fig. 2 a–c).

    Parameters
    ----------
    image : uint8 (H, W, 3), a few blocks wide
    points : (n, 2), the people in it
    values : (h, w), counts or smoothed counts
    wrong : bool (h, w), blocks to be hatched: their class is not that of their people
    """
    (height, width), r = image.shape[:2], block_size_px
    ax.imshow(image // 2 + 110, extent=(0, width, height, 0), interpolation="bilinear")
    for edge in range(0, max(height, width) + 1, r):
        ax.axhline(edge, color="white", lw=0.8)
        ax.axvline(edge, color="white", lw=0.8)
    for i, j in np.argwhere(wrong) if wrong is not None else ():
        look = {"fc": "none", "ec": COLOURS[3], "hatch": "////", "lw": 1.4}
        ax.add_patch(plt.Rectangle((j * r, i * r), r, r, **look))
    middle = {"ha": "center", "va": "center", "fontsize": 7.5}
    middle["path_effects"] = [withStroke(linewidth=2.2, foreground="white")]
    for (i, j), value in np.ndenumerate(values):
        text = f"{value:.2f}" if values.dtype.kind == "f" else str(value)
        weight = "bold" if value >= 0.5 else "normal"
        ax.text((j + 0.5) * r, (i + 0.5) * r, text, weight=weight, **middle)
    size = {"ms": 4, "mew": 1} if len(points) <= 100 else {"ms": 1.8, "mew": 0.6}
    ax.plot(*points.T, "o", mfc="none", mec="black", **size)
    ax.set(xlim=(0, width), ylim=(height, 0))
    return bare(ax, title)


def _looks(bins: Bins) -> dict[str, Any]:
    """Grey for nobody, two colours by turns, and hatches for the open bin."""
    closed = [CLOSED[k % 2] for k in range(1, len(bins) - 1)]
    hatches = [""] * (len(bins) - 1) + ["////"]
    return {"color": [NOBODY, *closed, OPEN], "hatch": hatches, "edgecolor": "white"}


def _short(item: Bin | Interval) -> str:
    if item.high is None:
        return f"≥ {item.low:g}"
    if isinstance(item, Interval):
        return f"{item.low:.2g}–{item.high:.2g}"
    return f"{item.low}" if item.low == item.high else f"{item.low}–{item.high}"


def plot_class_sizes(
    bins: Bins, sizes: np.ndarray, ax: Axes, min_blocks: int | None = None
) -> Axes:
    """How many blocks each class gets, (N,), on a logarithmic axis; a class without any is marked ×.

    A line is drawn at ``min_blocks``, the fewest that a class should have.
    """
    floor = 0.6
    ax.bar(range(len(bins)), sizes.clip(floor) - floor, 0.9, floor, lw=0.6, **_looks(bins))
    for k in np.flatnonzero(sizes == 0):
        ax.plot(k, floor * 1.6, "x", color=COLOURS[3], ms=4.5, mew=1.3)
    if min_blocks:
        ax.axhline(min_blocks, color="black", ls="--", lw=0.9, label=f"{min_blocks} blocks")
        ax.legend(fontsize=7)
    many = {"rotation": 90, "fontsize": 7} if len(bins) > 8 else {}
    ax.set_xticks(range(len(bins)), map(_short, bins.items), **many)
    ax.set(yscale="log", ylim=(floor, max(sizes.max(), 1) * 2.5), ylabel="Training blocks")
    ax.set_xlabel("People in a block" if bins.is_integer else "Smoothed people in a block")
    return ax


def plot_bias(errors: pd.DataFrame, ax: Axes, title: str = "") -> Axes:
    """The miscount of a perfect classifier against the people in an image, a point an image.

    ``errors`` has ``people`` in the image, and a column of errors (predicted − annotated) for each kind of
    representative; the kind's mean absolute error goes into the legend.
    """
    for k, kind in enumerate(errors.columns.drop("people")):
        look = mark(k, ls="none", ms=3.4, mew=0.8, color=COLOURS[1 - k % 2])
        look |= {"mfc": "none"} if k == 0 else {}
        label = f"{kind}: {errors[kind].abs().mean():.1f}"
        ax.plot(errors["people"], errors[kind], label=label, **look)
    ax.axhline(0, color="black", lw=0.8, zorder=0)
    ax.set(xlabel="People in an image", ylabel="Error (people)", title=title, xscale="symlog")
    ax.set_xlim(-0.5, errors["people"].max() * 1.5 + 1)
    ax.xaxis.set_major_formatter(PLAIN)
    ax.legend(title="mean |error|", fontsize=7, title_fontsize=7, alignment="left")
    return ax


def plot_clip_ebc(steps: pd.DataFrame, sentences: Sequence[str], embedding: int) -> Axes:
    """The way of CLIP-EBC from an image and sentences to a density map (paper, Fig. 1).

    ``steps`` are `cost.steps` of a model with the text head, ``embedding`` is D.
    """
    ax = plt.subplots(figsize=(PAGE_INCHES, 2.9))[1]
    shape = steps["shape"]
    bins, h, w = shape["head"]
    listed = [*sentences[:2], "…", sentences[-1]] if len(sentences) > 4 else sentences
    image = _box(ax, 0, 1.75, "image", _size(shape["image"]), GREY)
    features = _box(ax, 2.2, 1.75, "image encoder", _learnt(steps, "encoder"), IMAGE)
    detail = _learnt(steps, "head", f"{embedding} × {h} × {w}")
    joint = _box(ax, 4.7, 1.75, "1×1 convolution", detail, IMAGE)
    words = _box(ax, 0.9, 0, f"{bins} bins as sentences", "\n".join(listed), GREY)
    detail = f"frozen, used once\n{bins} × {embedding}"
    text = _box(ax, 4.7, 0, "text encoder", detail, TEXT, style="--")
    detail = f"softmax over the bins\n{bins} × {h} × {w}"
    cosine = _box(ax, 7.2, 0.875, "cosine similarity", detail, JOINT)
    density = _box(ax, 9.75, 0.875, "density map", f"mean of the bins\n1 × {h} × {w}", JOINT)
    for ends in ((image, features), (features, joint), (words, text), (cosine, density)):
        _arrow(ax, *ends)
    _arrow(ax, joint, cosine, bend=-0.25)
    _arrow(ax, text, cosine, bend=0.25)
    ax.set(xlim=(-0.95, 10.75), ylim=(-0.7, 2.3))
    ax.axis("off")
    return ax


def plot_same_network(regression: pd.DataFrame, classifier: pd.DataFrame) -> Axes:
    """A regression model's `cost.steps` above its EBC form's: the output's width changes (Fig. 4)."""
    ax = plt.subplots(figsize=(PAGE_INCHES, 2.5))[1]
    colours = {"head": JOINT, "image": GREY, "density": GREY}
    for y, title, steps, how in (
        (1.5, "Regression", regression, "softplus"),
        (0.0, "EBC", classifier, "softmax,\nmean of the bins"),
    ):
        ax.text(-1.05, y, title, ha="right", va="center", weight="bold")
        boxes = []
        for k, (name, step) in enumerate(steps.iterrows()):
            detail = _learnt(steps, name) if step["parameters"] else _size(step["shape"])
            detail = f"{how}\n{detail}" if name == "density" else detail
            boxes.append(_box(ax, 2.2 * k, y, name, detail, colours.get(name, IMAGE)))
        for ends in pairwise(boxes):
            _arrow(ax, *ends)
    ax.set(xlim=(-2.3, 2.2 * k + 1.3), ylim=(-0.55, 2.05))
    ax.axis("off")
    return ax


def _size(shape: Sequence[int]) -> str:
    return " × ".join(map(str, shape))


def _learnt(steps: pd.DataFrame, step: str, size: str | None = None) -> str:
    """How many weights a step has, and below it the size of what it makes."""
    count = steps["parameters"][step]
    weights = f"{count / 1e6:.1f} M weights" if count >= 1e5 else f"{count:,} weights"
    return f"{weights}\n{size or _size(steps['shape'][step])}"


def _box(
    ax: Axes, x: float, y: float, title: str, detail: str, colour: tuple, style: str = "-"
) -> Text:
    """A box around (x, y), as large as its bold title and the text below it."""
    look = {"boxstyle": "round,pad=0.6", "fc": (*colour, 0.13), "ec": colour, "ls": style}
    bold = title.replace(" ", r"\ ")
    text = rf"$\bf{{{bold}}}$" + f"\n{detail}"
    middle = {"ha": "center", "va": "center", "fontsize": 6.5, "linespacing": 1.35}
    return ax.text(x, y, text, bbox=look, **middle)


def _arrow(ax: Axes, start: Text, end: Text, bend: float = 0.0) -> None:
    """From the border of one box to that of another."""
    look = {"arrowstyle": "-|>", "color": "0.25", "connectionstyle": f"arc3,rad={bend}"}
    look |= {"patchA": start.get_bbox_patch(), "patchB": end.get_bbox_patch()}
    ax.annotate("", end.get_position(), start.get_position(), arrowprops=look)
