"""What suits a data set: bins that its blocks can fill; for one's own also blocks, epochs, commands."""

from __future__ import annotations

import math
import shlex
from dataclasses import dataclass
from typing import Any

import numpy as np
import yaml
from scipy.spatial import cKDTree

from ebclib.bins import Bins, make_bins
from ebclib.blocks import block_counts, histogram
from ebclib.blocks import max_count as most_people
from ebclib.config import OWN, Config
from ebclib.data import PreparedSplit, hold_out
from ebclib.prompts import sentences

MIN_BLOCKS = 100
"""The fewest training blocks a class is to have where nobody says otherwise; a choice, not a law."""

BLOCKS_PX = (8, 16, 32)
STEPS = 2000
"""How many steps of training the advice aims at; ShanghaiTech B took 1800 in 20 minutes on two cores."""

_WHY = {
    "fine": "every count below has enough blocks of its own, so none need share a class",
    "dynamic": "small counts have enough blocks of their own, larger ones only in pairs",
    "coarse": "counts above 0 have enough blocks only in pairs",
}


@dataclass(frozen=True)
class Suggestion:
    """Bins that a data set can fill, and why these; printed, the reason in words."""

    policy: str  # fine, dynamic or coarse
    max_count: int  # m to give with it
    limit: int  # the label correction's m, (r // s)²
    block_size_px: int
    min_blocks: int
    sizes: tuple[int, ...]  # blocks in each class
    error: float  # RMSE in people of a block whose class is known for certain

    @property
    def bins(self) -> Bins:
        """The suggested bins."""
        return make_bins(self.policy, self.max_count)

    def __str__(self) -> str:
        bins, rarest = self.bins, int(np.argmin(self.sizes))
        bound = "and enough blocks of this data set hold that many"
        if bins.open_from < self.limit:
            bound = (
                f"but too few blocks of this data set hold that many: above {bins.open_from} no more "
                f"classes of {self.min_blocks} blocks can be made"
            )
        return (
            f"{self.policy}, m = {self.max_count}: {bins}\n"
            f"A block of {self.block_size_px} px shows at most {self.limit} people, {bound}; "
            f"{_WHY[self.policy]}. The rarest class, {bins.items[rarest]}, has {self.sizes[rarest]} "
            f"blocks. A block whose class is known is then wrong by {self.error:.3f} people (RMSE over "
            f"all blocks, counts capped at {self.limit})."
        )


def suggest(
    histogram: np.ndarray, block_size_px: int, min_person_px: int = 4, min_blocks: int = MIN_BLOCKS
) -> Suggestion:
    """The integer-valued bins that a data set can fill and that lose least.

    Of all fine, dynamic and coarse bins up to m = (r // s)² whose every class has ``min_blocks`` training
    blocks: those by which a perfect classifier with mean representatives (Eq. 2) errs least on a block.
    Ties go to the finer policy and the smaller m.

    Parameters
    ----------
    histogram : (largest count + 1,), how many training blocks hold 0, 1, 2, … people
    block_size_px, min_person_px : r, and s, the side of the smallest person one can recognise

    Raises
    ------
    ValueError : not even the two classes "nobody" and "somebody" have enough blocks
    """
    limit = most_people(block_size_px, min_person_px)
    capped = np.zeros(limit + 1)  # after label correction
    np.add.at(capped, np.minimum(np.arange(len(histogram)), limit), histogram)
    found = []
    for order, policy in enumerate(("fine", "dynamic", "coarse")):
        for m in range(1, limit + 1):
            bins = make_bins(policy, m)
            if (sizes := bins.sizes(capped)).min() >= min_blocks:
                error = _error(bins, capped)
                found.append((round(error, 12), order, m, policy, tuple(map(int, sizes)), error))
    if not found:
        raise ValueError(
            f"{int(capped[0])} blocks hold nobody and {int(capped[1:].sum())} somebody; "
            f"a class needs {min_blocks}. Use more images, smaller blocks than {block_size_px} "
            "px, or a smaller min_blocks."
        )
    *_, m, policy, sizes, error = min(found)
    return Suggestion(policy, m, limit, block_size_px, min_blocks, sizes, error)


def _error(bins: Bins, histogram: np.ndarray) -> float:
    """RMSE in people, per block, of representing each block by the mean of its class."""
    counts = np.arange(len(histogram))
    apart = counts - bins.representatives(histogram)[bins.classes(counts)]
    return float(np.sqrt((histogram * apart**2).sum() / histogram.sum()))


@dataclass(frozen=True)
class Advice:
    """What suits a data set; printed, the reasons and the commands."""

    dataset: str
    noun: tuple[str, str]  # what is counted, one and several
    images: int  # trained on, without those kept for validation
    spacing_px: float  # median distance to the nearest other object, prepared pixels; inf: no two
    bins: Bins
    sizes: np.ndarray  # training blocks in each class, (N,)
    representatives: np.ndarray  # what each class stands for, (N,)
    parameters: dict[str, Any]  # of `Config`, where they are not the recipe's

    def __str__(self) -> str:
        plural, given, name = self.noun[1], self.parameters, shlex.quote(self.dataset)
        near = f"half of the {plural} have another within {self.spacing_px:.0f} px"
        if not math.isfinite(self.spacing_px):
            near = f"no image shows two {plural}"
        sizes = ", ".join(f"{size:,.0f}" for size in self.sizes)
        means = ", ".join(f"{value:.3g}" for value in self.representatives)
        options = [f"--{k.replace('_', '-')} {shlex.quote(str(v))}" for k, v in given.items()]
        style = {"default_flow_style": True, "sort_keys": False, "width": 1000}
        overrides = shlex.quote(yaml.safe_dump({"overrides": dict(given)}, **style).strip())
        return (
            f"What suits {self.dataset}, by rules of thumb (notebook 02 shows more):\n"
            f"- Blocks of {given['block_size_px']} px: {near}, and a block should be no wider than "
            f"that ({BLOCKS_PX[0]} to {BLOCKS_PX[-1]} px are possible).\n"
            f"- Bins {given['bins']}, m = {given['max_count']}: {self.bins}. {sizes} training blocks are "
            f"in them, whose means, {means} {plural}, they stand for.\n"
            f"- The text tower reads: {' '.join(sentences(self.bins, *self.noun))}\n"
            f"- {given['epochs']} epochs of {self.images} images: about {STEPS} steps, some 20 minutes "
            "on two processor cores that multiply bf16.\n"
            f"To train, either of\n  ebc train {name} {' '.join(options)}\n"
            f"  papermill notebooks/04_train.ipynb out.ipynb -p dataset {name} -y {overrides}"
        )


def advise(split: PreparedSplit) -> Advice:
    """What suits an own data set, from the points of its training split.

    The block is the largest that is no wider than the median distance between neighbours, so that most
    hold one object or none. The bins are `suggest`'s, from fewer blocks a class where there are few; m is
    at least 2, since with m = 1 the open bin's sentence would say "more than one" of blocks that hold one.

    Raises
    ------
    ValueError : no labels, or too little to learn from
    """
    if not split.is_labelled:
        raise ValueError(f"{split.dataset} {split.split} has no labels, so nothing to train on.")
    train, _ = hold_out(split.counts)
    apart = [cKDTree(p).query(p, k=2)[0][:, 1] for p in split.points if len(p) > 1]
    spacing = float(np.median(np.concatenate(apart))) if apart else math.inf
    r = max([side for side in BLOCKS_PX if side <= spacing], default=BLOCKS_PX[0])
    blocks = histogram(block_counts(split.points[i], *split.sizes[i], r) for i in map(int, train))
    fewest = min(MIN_BLOCKS, max(int(blocks[1:].sum()) // 3, 10))
    found = suggest(blocks, r, min_blocks=fewest)
    m = max(found.max_count, 2)
    bins = make_bins(found.policy, m)
    steps = max(len(train) // Config(**OWN).batch_size, 1)
    parameters = {"block_size_px": r, "bins": found.policy, "max_count": m}
    parameters["epochs"] = min(max(round(STEPS / steps), 10), STEPS)
    parameters["name"] = split.dataset
    least = min(min(size) for size in split.sizes)
    if least < OWN["crop_px"]:  # a crop larger than its image would show it enlarged
        parameters["crop_px"] = max(least // 32, 1) * 32
    sizes, means = bins.sizes(blocks), bins.representatives(blocks)
    noun = (split.noun[0], split.noun[1])
    return Advice(split.dataset, noun, len(train), spacing, bins, sizes, means, parameters)
