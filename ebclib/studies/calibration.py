"""Are blocks given a probability of 0.3 right three times in ten? Sums for it, and tables of them."""

from __future__ import annotations

import numpy as np
import pandas as pd

from ebclib.bins import Bins
from ebclib.studies.groups import wilson

_STEPS = np.geomspace(1e-5, 1, 16)[:-1]  # three to a tenfold
EDGES = np.union1d(np.arange(61) / 60, _STEPS)
"""Borders of the cells of probability that sums are kept for: small ones for small probabilities, since
most blocks are almost surely empty, and all multiples of 1/60, of which 10, 12, 15, 20 or 30 cells of
equal width are made."""

TOP = "top"
"""The row after the classes': the probability of the class that is likeliest in a block."""


def class_sums(probabilities: np.ndarray, classes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What is said of the blocks of each class; both add up over images. Parameters: `reliability_sums`.

    Returns
    -------
    confusion : int64 (N, N), blocks by true class (rows) and likeliest class (columns)
    expected : float64 (N, N), their summed probabilities by true class (rows) and class (columns)
    """
    n = len(probabilities)
    p, truth = probabilities.reshape(n, -1), np.ravel(classes)
    confusion = np.bincount(truth * n + p.argmax(axis=0), minlength=n * n).reshape(n, n)
    expected = np.stack([np.bincount(truth, row, minlength=n) for row in p], axis=1)
    return confusion, expected


def reliability_sums(probabilities: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """What calibration is computed from, summed over blocks; sums of several images add up.

    Parameters
    ----------
    probabilities : (N, …), of each class in each block
    classes : (…), the class that each block has, 0 … N − 1

    Returns
    -------
    float64 (N + 1, len(`EDGES`) − 1, 3): for each class, and last for the likeliest one, and each cell
    of probability: blocks, the sum of their probabilities, and how many of them have that class

    Raises
    ------
    ValueError : shapes that do not fit, or numbers that are no probabilities
    """
    n = len(probabilities)
    p = np.asarray(probabilities, dtype=np.float64).reshape(n, -1)  # (N, blocks)
    truth = np.ravel(classes)
    if p.shape[1:] != truth.shape:
        raise ValueError(f"{p.shape[1]} blocks have probabilities and {truth.size} have classes.")
    if p.size and not (p.min() >= 0 and p.max() <= 1 + 1e-6):
        raise ValueError(f"Probabilities lie in [0, 1]; got {p.min():g} to {p.max():g}.")
    hit = np.concatenate([np.arange(n)[:, None] == truth, (p.argmax(axis=0) == truth)[None]])
    p = np.concatenate([p, p.max(axis=0)[None]])  # (N + 1, blocks)
    cells = len(EDGES) - 1
    cell = np.searchsorted(EDGES[1:-1], p, side="right") + cells * np.arange(n + 1)[:, None]
    weights = (None, p.ravel(), hit.ravel())
    sums = [np.bincount(cell.ravel(), each, (n + 1) * cells) for each in weights]
    return np.stack(sums, axis=-1).reshape(n + 1, cells, 3)


def _merged(sums: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """Sums of the wider cells between ``edges``, which are some of `EDGES`: (3, N + 1, len(edges) − 1)."""
    starts = np.searchsorted(EDGES, edges[:-1] - 1e-12)
    return np.moveaxis(np.add.reduceat(sums, starts, axis=1), -1, 0)


def calibration_error(sums: np.ndarray, cells: int = 15) -> np.ndarray:
    """The expected calibration error, Σ_cells blocks/all · |share that has the class − mean probability|.

    That of the likeliest class (the last) is the usual ECE (Guo et al. 2017, Eq. 3), those of the others
    are classwise (Kull et al. 2019). ``sums`` are `reliability_sums`; ``cells`` of equal width divide 60.

    Returns
    -------
    float64 (N + 1,), each in [0, 1]

    Raises
    ------
    ValueError : no block, or so many cells as sums were not kept for
    """
    if cells < 1 or 60 % cells:
        raise ValueError(f"cells is {cells}; it must divide 60, as 10, 12, 15, 20 and 30 do.")
    blocks, probability, hits = _merged(sums, np.arange(cells + 1) / cells)
    if not blocks.sum():
        raise ValueError("There is no block to measure calibration on.")
    return np.abs(hits - probability).sum(axis=-1) / blocks.sum(axis=-1)


def reliability(sums: np.ndarray, names: list[str]) -> pd.DataFrame:
    """The reliability diagram's numbers: a row for each class (``names``), and `TOP`, and cell with blocks.

    Returns
    -------
    columns ``class``, ``blocks``, ``probability`` (their mean), ``share`` (of them that has the class),
    ``share_low`` and ``share_high`` (Wilson's 95 % interval as if blocks were independent; too narrow
    where neighbours err together)
    """
    blocks, probability, hits = _merged(sums, np.array([0.0, *_STEPS, 1.0]))
    row, cell = np.nonzero(blocks)
    here = blocks[row, cell]
    table = pd.DataFrame({"class": np.array([*names, TOP], dtype=object)[row]})
    table = table.assign(blocks=here.astype(int), probability=probability[row, cell] / here)
    return table.assign(**wilson("share", hits[row, cell], here))


def class_table(sums: np.ndarray, confusion: np.ndarray, bins: Bins) -> pd.DataFrame:
    """A row a bin, from `reliability_sums` and `class_sums`.

    Returns
    -------
    columns ``blocks`` (that have the class), ``expected`` (the sum of its probabilities), ``said`` (the
    blocks where it is the likeliest), ``recall``, ``precision``, ``calibration_error``
    """
    there, said, right = confusion.sum(axis=1), confusion.sum(axis=0), np.diag(confusion)
    with np.errstate(invalid="ignore"):
        shares = {"recall": right / there, "precision": right / said}
    counts = {"blocks": there, "expected": sums[:-1, :, 1].sum(axis=1), "said": said}
    index = pd.Index([str(item) for item in bins.items], name="bin")
    last = {"calibration_error": calibration_error(sums)[:-1]}
    return pd.DataFrame(counts | shares | last, index=index)
