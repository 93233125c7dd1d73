"""What DM-Count's loss does to a density that nothing holds back: no network, no picture.

Transport and variation look at the density's shape alone, |S − n| at its sum S alone. Yet the three are
made small together, step by step, by a density that cannot be negative.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F

from .. import losses
from ..blocks import block_counts


def descend(
    points: np.ndarray,
    side_px: int,
    ot_weights: Sequence[float] = (0, 0.01, losses.OT_WEIGHT, losses.PUBLISHED_OT_WEIGHT),
    block_size_px: int = 8,
    steps: int = 200,
    learning_rate: float = 0.1,
) -> pd.DataFrame:
    """`losses.dmcount` made smaller by Adam, from everybody spread evenly: the right sum at the start.

    The density is the softplus of free values, one a block.

    Parameters
    ----------
    points : (n, 2), x and y in pixels, n > 0
    side_px : of the square crop, a multiple of ``block_size_px``
    ot_weights : w_OT, each from the same start
    steps : of Adam
    learning_rate : Adam's

    Returns
    -------
    a row a weight and step, 0 to ``steps``: ``ot_weight``, ``step``, ``people`` (S) and ``transport``
    (px²)

    Raises
    ------
    ValueError : nobody in the crop
    """
    if not len(points):
        raise ValueError("there is nobody in the crop: give points to carry the density to.")
    counts = torch.from_numpy(block_counts(points, side_px, side_px, block_size_px)).float()[None]
    people = [torch.as_tensor(points, dtype=torch.float32)]
    rows = []
    for weight in ot_weights:
        free = torch.full_like(counts[None], float(counts.mean())).expm1().log().requires_grad_()
        adam = torch.optim.Adam([free], learning_rate)
        for step in range(steps + 1):
            density = F.softplus(free)
            loss = losses.dmcount(density, counts, people, block_size_px, ot_weight=weight)
            rows.append((weight, step, density.sum().item(), loss.transport.item()))
            adam.zero_grad()
            loss.total.backward()
            adam.step()
    return pd.DataFrame(rows, columns=["ot_weight", "step", "people", "transport"])
