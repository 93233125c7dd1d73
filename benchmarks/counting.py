"""Counting many images, beside the plain loop that everybody writes first."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from PIL import Image

from ebclib.counting import CrowdCounter
from ebclib.models import BlockwiseModel, fill_model
from ebclib.runs import Run

from .timing import race


def compare_counting(
    source: str | Path | Run,
    paths: Sequence[Path],
    rounds: int = 3,
    precision: str | None = None,
) -> pd.DataFrame:
    """`CrowdCounter` and a plain loop over the same image files with the same weights, in turn.

    The plain loop opens a file, sends the whole image through the network in float32 as torch has it
    by default, and adds up the density, one image after the other.

    Parameters
    ----------
    source : run or weights, as for `CrowdCounter`
    paths : image files of sizes that the model's data set leaves as they are
    rounds : 2 or more; the first one warms up, the best counts
    precision : of `CrowdCounter`

    Returns
    -------
    a row a way: ``ms`` and ``cpu_ms`` (of all cores) an image, ``images_per_s``, ``times_faster`` than
    the plain loop, and ``mean``, the people counted on average
    """
    counter = CrowdCounter(source, precision=precision)
    plain = fill_model(counter.info.config, counter.weights, counter.device)
    sums: dict[str, float] = {}

    def by_loop() -> None:
        sums["plain loop"] = sum(plain_count(plain, path) for path in paths)

    def by_counter() -> None:
        sums["CrowdCounter"] = sum(result.count for result in counter.count(list(paths)))

    table = race({"plain loop": by_loop, "CrowdCounter": by_counter}, rounds, counter.device)
    ms = table["ms"] / len(paths)
    return pd.DataFrame(
        {
            "ms": ms,
            "cpu_ms": table["cpu_ms"] / len(paths),
            "images_per_s": 1e3 / ms,
            "times_faster": ms["plain loop"] / ms,
            "mean": pd.Series(sums) / len(paths),
        }
    ).loc[list(sums)]


@torch.inference_mode()
def plain_count(network: BlockwiseModel, path: Path) -> float:
    """Read an image and count in it, as simply as it can be written."""
    with Image.open(path) as file:
        pixels = np.array(file.convert("RGB"))
    batch = torch.from_numpy(pixels).permute(2, 0, 1)[None].contiguous()
    batch = batch.to(network.representatives.device)
    return network.density(network(batch)).sum().item()
