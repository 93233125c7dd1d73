"""Where the ground lies in an image, and how large a head is in each of its rows."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

HEAD_M = 0.26
"""A drawn head's diameter in metres."""

STATURE = 6.1
"""From a head's centre to the feet, in head diameters."""


class Camera(NamedTuple):
    """A camera above flat ground, looking down at it.

    height, width : of the image, pixels.
    horizon : the row of the horizon, pixels; above the image (negative) for a high camera.
    slope : growth of a head's diameter per row: diameter = slope · (row - horizon).
    first : the uppermost row that can hold a head.
    """

    height: int
    width: int
    horizon: float
    slope: float
    first: float

    @classmethod
    def between(
        cls, height: int, width: int, first: float, far_px: float, near_px: float
    ) -> Camera:
        """Heads of ``far_px`` in row ``first``, of ``near_px`` in the last one."""
        slope = (near_px - far_px) / (height - first)
        return cls(height, width, first - far_px / slope, slope, first)

    def head_px(self, row: np.ndarray) -> np.ndarray:
        """The diameter of a head whose centre lies in ``row``."""
        return self.slope * (np.asarray(row, float) - self.horizon)

    @property
    def upright(self) -> float:
        """The cosine of the angle below the horizontal, in the middle of the crowd."""
        drop = (self.first + self.height) / 2 - self.horizon
        return 1 / math.hypot(1, drop / (1.1 * self.height))

    @property
    def stature(self) -> float:
        """From a head's centre down to the feet, in head diameters, as seen."""
        return STATURE * self.upright

    def feet(self, row: np.ndarray) -> np.ndarray:
        """The row of the feet of somebody whose head's centre lies in ``row``."""
        return row + self.stature * self.head_px(row)

    def head_row(self, feet: np.ndarray) -> np.ndarray:
        """The inverse of `feet`."""
        return self.horizon + (feet - self.horizon) / (1 + self.stature * self.slope)

    @property
    def metre_slope(self) -> float:
        """Pixels per metre across, on the ground, per row below the horizon."""
        return self.slope / (1 + self.stature * self.slope) / HEAD_M

    def ground(self, step: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Metres across and away of each ``step``-th pixel, (h, w) each; pixels per metre, (h, 1).

        Rows above the horizon are given the farthest place that is drawn.
        """
        rows = np.arange(step / 2, self.height, step, dtype=np.float32)[:, None]
        columns = np.arange(step / 2, self.width, step, dtype=np.float32)[None] - self.width / 2
        drop = np.maximum(rows - self.horizon, 2.0).astype(np.float32)
        focal = 1.1 * self.height / math.sqrt(1 - min(self.upright, 0.99) ** 2 + 0.3)
        across = columns / np.float32(self.metre_slope) / drop
        away = np.float32(focal / self.metre_slope) / drop + np.zeros_like(across)
        return across, away, np.float32(self.metre_slope) * drop


def choose_camera(
    rng: np.random.Generator, count: int, height: int, width: int, headroom: bool
) -> Camera:
    """A camera from which ``count`` people fit into the image; ``headroom`` shows the horizon."""
    first = rng.uniform(0.15, 0.45) * height if headroom else 0.0
    ratio = (
        math.exp(rng.uniform(math.log(2.2), math.log(7))) if headroom else rng.uniform(1.25, 3.5)
    )
    low, high = (0.02, 0.5) if count < 300 else (0.3, 0.7)
    crowding = math.exp(rng.uniform(math.log(low), math.log(high)))
    # heads of d pixels on rows of slope s: the area in squared diameters is area / (far · near)
    middle = math.sqrt(crowding * (height - first) * width / max(count, rng.integers(4, 60)))
    middle = min(max(middle, 5.0), 34.0)
    near = min(max(middle * math.sqrt(ratio), 6.0), 58.0)
    far = min(max(middle / math.sqrt(ratio), 4.0), near * 0.8)
    return Camera.between(height, width, first, far, near)
