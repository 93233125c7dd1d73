"""A part of the training images set aside, to select checkpoints on."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def hold_out(
    counts: Sequence[int] | np.ndarray, fraction: float = 0.1, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Split images into training and validation ones, alike in how many people they show.

    The images are sorted by count and cut into as many equal groups as are to be kept for validation; one
    is drawn from each.

    Parameters
    ----------
    counts : people of each image, (n,)
    fraction : part to hold out; at least one image is, and one is left
    seed : of the draw

    Returns
    -------
    train, held : int64 indices in ascending order; disjoint, together all of 0..n-1

    Raises
    ------
    ValueError : fewer than 2 images, or a fraction outside (0, 1)
    """
    counts = np.asarray(counts)
    if counts.ndim != 1 or len(counts) < 2:
        raise ValueError(
            f"hold_out was given counts of shape {counts.shape}; one row of at least 2 images is "
            "expected: one to train on and one to hold out."
        )
    if not 0 < fraction < 1:
        raise ValueError(f"fraction is {fraction}; it must lie between 0 and 1, as 0.1 does.")
    number = min(len(counts) - 1, max(1, round(len(counts) * fraction)))
    rng = np.random.default_rng(seed)
    order = np.argsort(counts, kind="stable")
    held = np.sort([rng.choice(group) for group in np.array_split(order, number)])
    return np.setdiff1d(np.arange(len(counts)), held), held
