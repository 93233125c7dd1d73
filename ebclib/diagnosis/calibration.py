"""Are blocks given a probability of 0.3 right three times in ten? Sums for it, and tables of them."""

from __future__ import annotations

import numpy as np
import pandas as pd

from ebclib.bins import Bins

FINE = 1200
"""Cells of probability that sums are kept for; 10, 12, 15, 20, 24 or 30 wider ones are made of them."""

TOP = "top"
"""The row after the classes': the probability of the class that is likeliest in a block."""


def reliability_sums(probabilities: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """What calibration is computed from, summed over blocks; sums of several pictures add up.

    Parameters
    ----------
    probabilities : (N, …), of each class in each block
    classes : (…), the class that each block has, 0 … N − 1

    Returns
    -------
    float64 (N + 1, `FINE`, 3): for each class, and last for the likeliest one, and each cell of
    probability: blocks, the sum of their probabilities, and how many of them have that class

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
    likeliest = p.argmax(axis=0)
    p = np.concatenate([p, p.max(axis=0)[None]])  # (N + 1, blocks)
    hit = np.concatenate([np.arange(n)[:, None] == truth, (likeliest == truth)[None]])
    cell = np.minimum((p * FINE).astype(np.int64), FINE - 1) + FINE * np.arange(n + 1)[:, None]
    return np.stack(
        [
            np.bincount(cell.ravel(), weights, minlength=(n + 1) * FINE).reshape(n + 1, FINE)
            for weights in (None, p.ravel(), hit.ravel())
        ],
        axis=-1,
    )


def _cells(sums: np.ndarray, cells: int) -> np.ndarray:
    """Sums of ``cells`` wider cells of equal width: (…, FINE, 3) → (…, cells, 3)."""
    if cells < 1 or FINE % cells:
        raise ValueError(
            f"cells is {cells}; it must divide {FINE}, as 10, 12, 15, 20, 24 and 30 do."
        )
    return sums.reshape(*sums.shape[:-2], cells, FINE // cells, 3).sum(axis=-2)


def calibration_error(sums: np.ndarray, cells: int = 15) -> np.ndarray:
    """The expected calibration error, Σ_cells blocks/all · |share that has the class − mean probability|.

    That of the likeliest class (the last row) is the usual ECE (Guo et al. 2017, Eq. 3), those of the
    others are classwise (Kull et al. 2019).

    Parameters
    ----------
    sums : (N + 1, FINE, 3), `reliability_sums`
    cells : of equal width

    Returns
    -------
    float64 (N + 1,), each in [0, 1]

    Raises
    ------
    ValueError : no block, or so many cells as sums cannot be made for
    """
    blocks, probability, hits = np.moveaxis(_cells(sums, cells), -1, 0)  # (N + 1, cells) each
    if not blocks.sum():
        raise ValueError("There is no block to measure calibration on.")
    return np.abs(hits - probability).sum(axis=-1) / blocks.sum(axis=-1)


def reliability(sums: np.ndarray, names: list[str], cells: int = 15) -> pd.DataFrame:
    """The reliability diagram's numbers: a row for each class, and `TOP`, and cell with blocks in it.

    Parameters
    ----------
    sums : (N + 1, FINE, 3), `reliability_sums`
    names : N, of the classes
    cells : of equal width

    Returns
    -------
    columns ``class``, ``blocks``, ``probability`` (their mean), ``share`` (of them that has the class)
    """
    blocks, probability, hits = np.moveaxis(_cells(sums, cells), -1, 0)
    row, cell = np.nonzero(blocks)
    here = blocks[row, cell]
    return pd.DataFrame(
        {
            "class": [[*names, TOP][r] for r in row],
            "blocks": here.astype(int),
            "probability": probability[row, cell] / here,
            "share": hits[row, cell] / here,
        }
    )


def class_table(sums: np.ndarray, confusion: np.ndarray, bins: Bins) -> pd.DataFrame:
    """A row a bin: how often it is there, is expected, is said, and is right.

    Parameters
    ----------
    sums : (N + 1, FINE, 3), `reliability_sums`
    confusion : (N, N) blocks, the true class in rows, the likeliest in columns
    bins : N of them

    Returns
    -------
    columns ``blocks`` (that have the class), ``expected`` (the sum of its probabilities), ``said`` (the
    blocks where it is the likeliest), ``recall``, ``precision``, ``calibration_error``
    """
    there, said, right = confusion.sum(axis=1), confusion.sum(axis=0), np.diag(confusion)
    with np.errstate(invalid="ignore"):
        return pd.DataFrame(
            {
                "blocks": there,
                "expected": sums[:-1, :, 1].sum(axis=1),
                "said": said,
                "recall": right / there,
                "precision": right / said,
                "calibration_error": calibration_error(sums)[:-1],
            },
            index=pd.Index([str(item) for item in bins.items], name="bin"),
        )
