"""Colour, blur and noise on a crop, by OpenCV.

What a crop gets depends on the seed and its draw key alone. Nobody moves: the people's points are those of
the crop.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np

GREY = (0.299, 0.587, 0.114)  # of red, green and blue in luma (ITU-R BT.601), as torchvision has it
_STREAM = 1  # of a draw's random numbers; the crop's place is drawn from a stream of its own


class AugmentParams(NamedTuple):
    """What is done to a crop."""

    factors: np.ndarray  # float32 (3,), of brightness, contrast and saturation; 1 changes nothing
    sigma_px: float  # standard deviation of the blur; 0 changes nothing
    spots: np.ndarray  # int64 (k,), different places in the flattened crop
    values: np.ndarray  # uint8 (k,), 0 or 255, put there in all three colours


@dataclass(frozen=True)
class Augmentation:
    """How much crops are changed in colour and sharpness; at zero nothing is.

    >>> crop = np.full((4, 4, 3), 100, np.uint8)
    >>> Augmentation(jitter=0.2)(crop, draw=7, seed=0)
    >>> len(np.unique(crop))
    1
    """

    jitter: float = 0.2  # scales brightness, contrast, saturation by U(1 − jitter, 1 + jitter)
    blur: float = 0.0  # Gaussian, σ ~ U(0, blur) in pixels of the crop
    noise: float = 0.0  # the share of pixels that turn black or white, half of them each
    jitter_share: float = 1.0  # the shares of crops that each is done to
    blur_share: float = 0.2
    noise_share: float = 0.5

    def __call__(self, crop: np.ndarray, draw: int, seed: int = 0) -> None:
        """Change a crop, uint8 (H, W, 3), in place."""
        augment(crop, self.draw(draw, *crop.shape[:2], seed), self.reach_px)

    @property
    def reach_px(self) -> int:
        """How far the blur's window reaches to each side."""
        return math.ceil(2 * self.blur)

    def draw(self, draw: int, height: int, width: int, seed: int = 0) -> AugmentParams:
        """What is done to the crop of this key; switching one of the three off leaves the others."""
        rng = np.random.default_rng((seed, draw, _STREAM))
        chance, strength = rng.random(3), rng.random(4)
        jitter = self.jitter if chance[0] < self.jitter_share else 0.0
        blur = self.blur if chance[1] < self.blur_share else 0.0
        noise = self.noise if chance[2] < self.noise_share else 0.0
        factors = (1 + jitter * (2 * strength[:3] - 1)).astype(np.float32)
        number = rng.binomial(height * width, noise)
        spots = rng.choice(height * width, number, replace=False, shuffle=False)
        values = rng.integers(2, size=number).astype(np.uint8) * 255
        return AugmentParams(factors, float(np.float32(blur * strength[3])), spots, values)


LIGHT = Augmentation()
RELEASED = Augmentation(jitter=0.1, blur=1.4, noise=2e-3, jitter_share=0.2)
"""The released code's strengths. Its blur has 5 taps and σ up to 5 px, which amounts to σ ≤ 1.4 px."""

AUGMENTATIONS = {"none": None, "light": LIGHT, "released": RELEASED}
"""What is done to crops beside scale and flip. The paper names scale and crop alone (Sec. IV-2)."""


def augment(crop: np.ndarray, drawn: AugmentParams, reach_px: int) -> None:
    """Jitter, then blur, then noise on a crop (H, W, 3), in place; the border mirrors.

    Brightness b, contrast c and saturation s are one matrix of a pixel x, torchvision's adjustments in
    turn, not cut off between them:

        y = b·c·(s·x + (1 − s)·grey(x)) + b·(1 − c)·grey(mean of x)
    """
    if (drawn.factors != 1).any():
        (b, c, s), grey = drawn.factors, np.array([GREY] * 3)
        own = b * c * (s * np.eye(3) + (1 - s) * grey)
        rest = b * (1 - c) * grey @ cv2.mean(crop)[:3]
        cv2.transform(crop, np.column_stack([own, rest]), dst=crop)
    if drawn.sigma_px:
        border = {"borderType": cv2.BORDER_REFLECT_101}
        cv2.GaussianBlur(crop, (2 * reach_px + 1,) * 2, drawn.sigma_px, dst=crop, **border)
    crop.reshape(-1, 3)[drawn.spots] = drawn.values[:, None]
