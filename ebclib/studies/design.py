"""What a choice of blocks, bins and kernel does to a split's labels, and what suits a data set.

A split is anything with ``points`` and ``sizes`` of its images; no image is decoded.
"""

from __future__ import annotations

import math
import shlex
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from scipy.spatial import KDTree

from ebclib import blocks
from ebclib.bins import Bins, make_bins
from ebclib.config import OWN, Config
from ebclib.data import PreparedSplit, hold_out
from ebclib.prompts import sentences

BLOCKS_PX = (8, 16, 32)
MIN_BLOCKS = 100  # the fewest training blocks a class is to have where nobody says otherwise
STEPS = 2000  # of training that are advised: some 20 minutes on two cores


def split_counts(
    images: PreparedSplit, block_size_px: int, sigma_px: float | None = None
) -> list[np.ndarray]:
    """The block counts of each image, (h, w) each: whole, or smoothed where ``sigma_px`` is given."""
    pairs = zip(images.points, images.sizes, strict=True)
    if sigma_px is None:
        return [blocks.block_counts(points, *size, block_size_px) for points, size in pairs]
    return [
        blocks.smoothed_counts(points, *size, block_size_px, sigma_px) for points, size in pairs
    ]


def joined(arrays: Sequence[np.ndarray]) -> np.ndarray:
    """The blocks of all images in one row."""
    return np.concatenate([np.ravel(array) for array in arrays])


def correction(
    images: PreparedSplit,
    block_sizes_px: Sequence[int] = BLOCKS_PX,
    min_person_sizes_px: Sequence[int] = (2, 3, 4, 6, 8),
) -> pd.DataFrame:
    """What label correction takes away, by block size r and smallest person s (Sec. III-A2).

    Gives a row for each r and s ≤ r; columns r, s, m, ``largest`` (count of a block), ``blocks`` above m,
    ``people`` above m, and ``share`` of all people.
    """
    rows = []
    for r in block_sizes_px:
        histogram = blocks.histogram(split_counts(images, r))
        count = np.arange(len(histogram))
        for s in (size for size in min_person_sizes_px if size <= r):
            m = blocks.max_count(r, s)
            beyond = int((histogram * np.maximum(count - m, 0)).sum())
            share = beyond / max((histogram * count).sum(), 1)
            rows.append((r, s, m, len(histogram) - 1, int(histogram[m + 1 :].sum()), beyond, share))
    return pd.DataFrame(rows, columns=["r", "s", "m", "largest", "blocks", "people", "share"])


def changed_by_shaking(
    images: PreparedSplit,
    block_size_px: int,
    bins: Bins,
    shake_px: float,
    rng: np.random.Generator,
    sigma_px: float | None = None,
) -> float:
    """The share of occupied blocks that change class when every point is moved a little.

    Points move by a normal distribution of standard deviation ``shake_px`` and stay in their image.
    Occupied is a block that is in another class than nobody's, before or after.
    """
    moved = SimpleNamespace(points=[], sizes=images.sizes)
    for points, (height, width) in zip(images.points, images.sizes, strict=True):
        shaken = points + rng.normal(0, shake_px, points.shape)
        moved.points.append(np.clip(shaken, 0, np.nextafter((width, height), 0.0)))
    one, other = (
        bins.classes(joined(split_counts(split, block_size_px, sigma_px)))
        for split in (images, moved)
    )
    return float((one != other)[(one > 0) | (other > 0)].mean())


def bins_table(bins: Bins, counts: np.ndarray, texts: list[str]) -> pd.DataFrame:
    """A row a class: bin, sentence (``texts``), blocks of ``counts`` in it, their middle and mean."""
    return pd.DataFrame(
        {
            "bin": [str(item) for item in bins.items],
            "sentence": texts,
            "blocks": np.bincount(bins.classes(np.ravel(counts)), minlength=len(bins)),
            "middle": bins.middles(),
            "mean": bins.means(counts),
        }
    )


class Suggestion(NamedTuple):
    """Bins that a data set can fill."""

    policy: str  # fine, dynamic or coarse
    max_count: int  # m to give with it
    sizes: tuple[int, ...]  # blocks in each class
    error: float  # RMSE in people of a block whose class is known for certain

    @property
    def bins(self) -> Bins:
        """The suggested bins."""
        return make_bins(self.policy, self.max_count)


def suggest(
    histogram: np.ndarray, block_size_px: int, min_person_px: int = 4, min_blocks: int = MIN_BLOCKS
) -> Suggestion:
    """The integer-valued bins that a data set can fill and that lose least.

    Of all fine, dynamic and coarse bins up to m = (r // s)² whose every class has ``min_blocks`` training
    blocks: those by which a perfect classifier with mean representatives (Eq. 2) errs least on a block.
    ``histogram``, (largest count + 1,), says how many training blocks hold 0, 1, 2, … people.

    Raises
    ------
    ValueError : not even the two classes "nobody" and "somebody" have enough blocks
    """
    limit = blocks.max_count(block_size_px, min_person_px)
    capped, counts = np.zeros(limit + 1), np.arange(limit + 1)  # after label correction
    np.add.at(capped, np.minimum(np.arange(len(histogram)), limit), histogram)
    found = []
    for order, policy in enumerate(("fine", "dynamic", "coarse")):
        for m in range(1, limit + 1):
            bins = make_bins(policy, m)
            if (sizes := bins.sizes(capped)).min() >= min_blocks:
                apart = counts - bins.representatives(capped)[bins.classes(counts)]
                error = math.sqrt((capped * apart**2).sum() / capped.sum())
                found.append((round(error, 12), order, m, policy, tuple(map(int, sizes)), error))
    if not found:
        raise ValueError(
            f"{int(capped[0])} blocks hold nobody and {int(capped[1:].sum())} somebody; a class needs "
            f"{min_blocks}. Use more images, blocks below {block_size_px} px, or a smaller min_blocks."
        )
    *_, m, policy, sizes, error = min(found)
    return Suggestion(policy, m, sizes, error)


def advise(split: PreparedSplit) -> tuple[dict[str, Any], str]:
    """What suits an own data set, from the points of its training split.

    The block is the largest that is no wider than the median distance between neighbours, so that most
    hold one object or none. The bins are `suggest`'s, from fewer blocks a class where there are few; m is
    at least 2, since with m = 1 the open bin's sentence would say "more than one" of blocks that hold one.
    Gives the parameters of `Config` that are not the recipe's, and a text with them and the command.

    Raises
    ------
    ValueError : no labels, or too little to learn from
    """
    if not split.is_labelled:
        raise ValueError(f"{split.dataset} {split.split} has no labels, so nothing to train on.")
    train, _ = hold_out(split.counts)
    apart = [KDTree(p).query(p, k=2)[0][:, 1] for p in split.points if len(p) > 1]
    spacing = float(np.median(np.concatenate(apart))) if apart else math.inf
    r = max([side for side in BLOCKS_PX if side <= spacing], default=BLOCKS_PX[0])
    counts = (blocks.block_counts(split.points[i], *split.sizes[i], r) for i in map(int, train))
    histogram = blocks.histogram(counts)
    fewest = min(MIN_BLOCKS, max(int(histogram[1:].sum()) // 3, 10))
    found = suggest(histogram, r, min_blocks=fewest)
    m = max(found.max_count, 2)
    bins = make_bins(found.policy, m)
    epochs = round(STEPS / max(len(train) // Config(**OWN).batch_size, 1))
    given: dict[str, Any] = {"block_size_px": r, "bins": found.policy, "max_count": m}
    given |= {"epochs": min(max(epochs, 10), STEPS), "name": split.dataset}
    least = min(min(size) for size in split.sizes)
    if least < OWN["crop_px"]:  # a crop larger than its image would show it enlarged
        given["crop_px"] = max(least // 32, 1) * 32

    name, plural = shlex.quote(split.dataset), split.noun[1]
    sizes = ", ".join(f"{size:,.0f}" for size in bins.sizes(histogram))
    options = [f"--{k.replace('_', '-')} {shlex.quote(str(v))}" for k, v in given.items()]
    return given, (
        f"What suits {split.dataset}, by rules of thumb (notebook 02 shows more):\n"
        f"- Blocks of {r} px: half of the {plural} have another within {spacing:.0f} px.\n"
        f"- Bins {found.policy}, m = {m}: {bins}. {sizes} training blocks are in them.\n"
        f"- The text tower reads: {' '.join(sentences(bins, *split.noun))}\n"
        f"- {given['epochs']} epochs of {len(train)} images: about {STEPS} steps.\n"
        f"To train:\n  ebc train {name} {' '.join(options)}"
    )
