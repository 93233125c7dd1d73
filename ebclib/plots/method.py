"""Figures before any training: people in images and blocks, bins, what is done to labels, and models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.patheffects import withStroke
from matplotlib.text import Text

from ebclib.bins import Bins
from ebclib.plots.style import COLOURS, PAGE_INCHES, PLAIN, bare, mark

IMAGE, TEXT, JOINT, GREY = (*COLOURS[:3], (0.55, 0.55, 0.55))


def plot_long_tail(histograms: Mapping[str, np.ndarray], ax: Axes, longest: int = 30) -> Axes:
    """How many blocks hold how many people, as shares on a logarithmic axis (paper, Fig. 2).

    ``histograms`` are `blocks.histogram`'s by label; one longer than ``longest`` says so in its label.
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
    """A small image (uint8, (H, W, 3)) with its blocks' ``values``, (h, w), written into them (Fig. 2 a–c).

    ``points``, (n, 2), are the people in it; blocks that are ``wrong``, bool (h, w), are hatched.
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


def plot_class_sizes(bins: Bins, sizes: np.ndarray, ax: Axes, min_blocks: int) -> Axes:
    """How many blocks each class gets, (N,), on a logarithmic axis, and the fewest that it should have."""
    ax.bar(range(len(bins)), sizes, 0.9, color=[*[COLOURS[0]] * (len(bins) - 1), COLOURS[1]])
    ax.axhline(min_blocks, color="black", ls="--", lw=0.9, label=f"{min_blocks} blocks")
    ax.legend(fontsize=7)
    many = {"rotation": 90, "fontsize": 7} if len(bins) > 6 else {}
    ax.set_xticks(range(len(bins)), map(str, bins.items), **many)
    ax.set(yscale="log", ylim=(0.6, max(sizes.max(), 1) * 2.5), ylabel="Training blocks")
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


def plot_networks(
    networks: Mapping[str, pd.DataFrame], sentences: Sequence[str] = (), embedding: int = 0
) -> Axes:
    """Each network's `cost.steps` as a row of boxes (Fig. 4), and what its text encoder reads (Fig. 1).

    ``sentences`` are the bins', and ``embedding`` the width D of their vectors.
    """
    rows = len(networks) + bool(sentences)
    ax = plt.subplots(figsize=(PAGE_INCHES, 1.25 * rows))[1]
    names = {"encoder": "image encoder", "density": "density map"}
    colours = {"image": GREY, "density": GREY, "head": JOINT}
    for y, (title, steps) in enumerate(networks.items()):
        ax.text(-1.05, -y, title, ha="right", va="center", weight="bold")
        boxes = []
        for k, (name, step) in enumerate(steps.iterrows()):
            count, size = step["parameters"], " × ".join(map(str, step["shape"]))
            weights = f"{count / 1e6:.1f} M weights\n" if count >= 1e5 else f"{count:,} weights\n"
            detail = f"{weights if count else ''}{size}"
            colour = colours.get(name, IMAGE)
            boxes.append(_box(ax, 2.2 * k, -y, names.get(name, name), detail, colour))
        for ends in pairwise(boxes):
            _arrow(ax, *ends)
    if sentences:
        listed = [*sentences[:2], "…", sentences[-1]] if len(sentences) > 4 else sentences
        words = _box(ax, 0.4, 1 - rows, f"{len(sentences)} bins", "\n".join(listed), GREY)
        detail = f"frozen, used once\n{len(sentences)} × {embedding}"
        text = _box(ax, 2.2 * (k - 1), 1 - rows, "text encoder", detail, TEXT)
        _arrow(ax, words, text)
        _arrow(ax, text, boxes[-2])
    ax.set(xlim=(-2.3, 2.2 * k + 1.3), ylim=(0.45 - rows, 0.45))
    ax.axis("off")
    return ax


def _box(ax: Axes, x: float, y: float, title: str, detail: str, colour: tuple) -> Text:
    """A box around (x, y), as large as its bold title and the text below it."""
    bold = title.replace(" ", r"\ ")
    text = rf"$\bf{{{bold}}}$" + f"\n{detail}"
    look = {"boxstyle": "round,pad=0.6", "fc": (*colour, 0.13), "ec": colour}
    middle = {"ha": "center", "va": "center", "fontsize": 6.5, "linespacing": 1.35}
    return ax.text(x, y, text, bbox=look, **middle)


def _arrow(ax: Axes, start: Text, end: Text) -> None:
    """From the border of one box to that of another."""
    look = {"arrowstyle": "-|>", "color": "0.25"}
    look |= {"patchA": start.get_bbox_patch(), "patchB": end.get_bbox_patch()}
    ax.annotate("", end.get_position(), start.get_position(), arrowprops=look)
