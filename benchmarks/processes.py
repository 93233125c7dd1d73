"""One training by several processes: how its time falls."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from ebclib import data
from ebclib.runs import Run

EPOCHS = 4


def compare_processes(
    counts: Sequence[int],
    dataset: str = "synthetic",
    model: str = "clip_lite",
    crop_px: int = 224,
    batch_size: int = 8,
    precision: str = "fp32",
) -> pd.DataFrame:
    """The same training by each number of processes, one after the other, as `torchrun` starts them.

    Each process has one thread, or a GPU of its own where there are as many. A run's first epoch warms
    up, its last one evaluates, too; the shortest of the others counts.

    Parameters
    ----------
    counts : numbers of processes, each a divisor of ``batch_size``
    dataset : what is trained on

    Returns
    -------
    a row a number of processes: ``s_per_epoch``, ``crops_per_s``, and ``times_faster`` than the first row

    Raises
    ------
    ValueError : a number that does not divide ``batch_size``
    RuntimeError : a training failed; its last words
    """
    odd = [count for count in counts if count < 1 or batch_size % count]
    if odd:
        raise ValueError(
            f"{odd[0]} processes cannot share batches of {batch_size} equally: give a divisor."
        )
    split = data.prepared(dataset, "train", progress=False)
    train, _ = data.hold_out(split.counts, seed=0)
    crops = len(train) // batch_size * batch_size
    seconds = {}
    for count in counts:
        with tempfile.TemporaryDirectory() as results:
            words = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
            words += ["--nproc-per-node", str(count), "-m", "ebclib", "train", dataset]
            options = {"model": model, "head": "linear", "pretrained": "none", "crop_px": crop_px}
            options |= {"batch_size": batch_size, "precision": precision, "count_loss": "dmcount"}
            options |= {"epochs": EPOCHS, "evaluate_every": EPOCHS, "name": "shared"}
            for key, value in options.items():
                words += [f"--{key.replace('_', '-')}", str(value)]
            places = {"EBC_RESULTS": results, "OMP_NUM_THREADS": "1"}
            done = subprocess.run(words, env=os.environ | places, capture_output=True, text=True)
            if done.returncode:
                raise RuntimeError(f"training by {count} processes failed: {done.stderr[-2000:]}")
            history = Run(Path(results) / "runs" / "shared").history
        seconds[count] = history["seconds"].diff().iloc[1:-1].min()
    table = pd.DataFrame({"s_per_epoch": seconds}).rename_axis("processes")
    rate = crops / table["s_per_epoch"]
    return table.assign(crops_per_s=rate, times_faster=rate / rate.iloc[0])
