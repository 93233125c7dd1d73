"""What suits somebody's own images, in words: blocks, bins, epochs, and the commands that use them."""

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
from ebclib.config import OWN, Config
from ebclib.data import PreparedSplit, hold_out
from ebclib.prompts import sentences
from ebclib.studies.bin_suggestion import MIN_BLOCKS, suggest

BLOCKS_PX = (8, 16, 32)
STEPS = 2000
"""How many steps of training the advice aims at; ShanghaiTech B took 1800 in 20 minutes on two cores."""


@dataclass(frozen=True)
class Advice:
    """What suits a data set; printed, the reasons and the commands.

    Attributes
    ----------
    dataset : its name
    noun : what is counted, (singular, plural)
    images : trained on, without those kept for validation
    spacing_px : the median distance from an object to the nearest other one, in prepared pixels;
        infinite where no image shows two
    bins : the classes
    sizes : training blocks in each class, (N,)
    representatives : what each class stands for, (N,)
    parameters : of `Config`, where they are not the recipe's
    """

    dataset: str
    noun: tuple[str, str]
    images: int
    spacing_px: float
    bins: Bins
    sizes: np.ndarray
    representatives: np.ndarray
    parameters: dict[str, Any]

    @property
    def command(self) -> str:
        """The training, from a shell."""
        options = [
            f"--{key.replace('_', '-')} {shlex.quote(str(value))}"
            for key, value in self.parameters.items()
        ]
        return " ".join(["ebc train", shlex.quote(self.dataset), *options])

    @property
    def papermill(self) -> str:
        """The same through notebook 04."""
        given = {"overrides": dict(self.parameters)}
        text = yaml.safe_dump(given, default_flow_style=True, sort_keys=False, width=1000).strip()
        return (
            "papermill notebooks/04_train.ipynb out.ipynb "
            f"-p dataset {shlex.quote(self.dataset)} -y {shlex.quote(text)}"
        )

    def __str__(self) -> str:
        plural, given = self.noun[1], self.parameters
        near = f"half of the {plural} have another within {self.spacing_px:.0f} px"
        if not math.isfinite(self.spacing_px):
            near = f"no image shows two {plural}"
        sizes = ", ".join(f"{size:,.0f}" for size in self.sizes)
        means = ", ".join(f"{value:.3g}" for value in self.representatives)
        return (
            f"What suits {self.dataset}, by rules of thumb (notebook 02 shows more):\n"
            f"- Blocks of {given['block_size_px']} px: {near}, and a block should be no wider than "
            f"that ({BLOCKS_PX[0]} to {BLOCKS_PX[-1]} px are possible).\n"
            f"- Bins {given['bins']}, m = {given['max_count']}: {self.bins}. {sizes} training blocks are "
            f"in them, whose means, {means} {plural}, they stand for.\n"
            f"- The text tower reads: {' '.join(sentences(self.bins, *self.noun))}\n"
            f"- {given['epochs']} epochs of {self.images} images: about {STEPS} steps, some 20 minutes "
            "on two processor cores that multiply bf16.\n"
            f"To train, either of\n  {self.command}\n  {self.papermill}"
        )


def advise(split: PreparedSplit) -> Advice:
    """What suits an own data set, from the points of its training split.

    The block is the largest that is no wider than the median distance between neighbours, so that most
    hold one object or none. The bins are `suggest`'s, from fewer blocks a class where there are few;
    with m = 1 the open bin's sentence would say "more than one" of blocks that hold one, so m is at
    least 2.

    Parameters
    ----------
    split : prepared and labelled

    Raises
    ------
    ValueError : no labels, or too little to learn from
    """
    if not split.is_labelled:
        raise ValueError(f"{split.dataset} {split.split} has no labels, so nothing to train on.")
    train, _ = hold_out(split.counts)
    spacing = spacing_px(split)
    r = max([side for side in BLOCKS_PX if side <= spacing], default=BLOCKS_PX[0])
    blocks = histogram(block_counts(split.points[i], *split.sizes[i], r) for i in map(int, train))
    policy, m = _bins(blocks, r)
    bins = make_bins(policy, m)
    steps = max(len(train) // Config(**OWN).batch_size, 1)
    parameters = {"block_size_px": r, "bins": policy, "max_count": m}
    parameters["epochs"] = min(max(round(STEPS / steps), 10), STEPS)
    parameters["name"] = split.dataset
    least = min(min(size) for size in split.sizes)
    if least < OWN["crop_px"]:  # a crop larger than its image would show it enlarged
        parameters["crop_px"] = max(least // 32, 1) * 32
    sizes, means = bins.sizes(blocks), bins.representatives(blocks)
    noun = (split.noun[0], split.noun[1])
    return Advice(split.dataset, noun, len(train), spacing, bins, sizes, means, parameters)


def spacing_px(split: PreparedSplit) -> float:
    """The median distance from an object to the nearest other one of its image; else infinite."""
    apart = [cKDTree(p).query(p, k=2)[0][:, 1] for p in split.points if len(p) > 1]
    return float(np.median(np.concatenate(apart))) if apart else math.inf


def _bins(blocks: np.ndarray, block_size_px: int) -> tuple[str, int]:
    """Policy and m that the training blocks can fill, with the fewer a class the fewer there are."""
    some = int(blocks[1:].sum())
    fewest = min(MIN_BLOCKS, max(some // 3, 10))
    found = suggest(blocks, block_size_px, min_blocks=fewest)
    return found.policy, max(found.max_count, 2)
