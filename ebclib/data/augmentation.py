"""Colour, blur and noise on crops: one by one by OpenCV, or a whole batch on the device by torch.

What a crop gets depends on the seed and its draw key alone. It is drawn on the host, so that nothing waits
for a device. Nobody moves: the people's points are those of the crop.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from types import ModuleType
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

GREY = (0.299, 0.587, 0.114)  # of red, green and blue in luma (ITU-R BT.601), as torchvision has it
_STREAM = 1  # of a draw's random numbers; the crop's place is drawn from a stream of its own


class AugmentParams(NamedTuple):
    """What is done to each crop of a batch, on the host."""

    factors: np.ndarray  # float32 (B, 3), of brightness, contrast and saturation; 1 changes nothing
    sigmas_px: np.ndarray  # float32 (B,), standard deviations of the blur; 0 changes nothing
    spots: list[np.ndarray]  # B int64 arrays (k_b,), different places in the flattened crop
    values: list[np.ndarray]  # B uint8 arrays (k_b,), 0 or 255, put there in all three colours


@dataclass(frozen=True)
class Augmentation:
    """How much crops are changed in colour and sharpness; at zero nothing is."""

    jitter: float = 0.2  # scales brightness, contrast, saturation by U(1 − jitter, 1 + jitter)
    blur: float = 0.0  # Gaussian, σ ~ U(0, blur) in pixels of the crop
    noise: float = 0.0  # the share of pixels that turn black or white, half of them each
    jitter_share: float = 1.0  # the shares of crops that each is done to
    blur_share: float = 0.2
    noise_share: float = 0.5

    def __call__(self, image: Tensor, draws: Sequence[int], seed: int = 0) -> Tensor:
        """By torch: uint8 (B, 3, H, W) and its B draw keys to uint8 (B, 3, H, W).

        >>> flat = torch.full((1, 3, 4, 4), 100, dtype=torch.uint8)
        >>> Augmentation(jitter=0.2)(flat, draws=[7], seed=0).unique().numel()
        1
        """
        drawn = self.draw(draws, *image.shape[-2:], seed)
        return by_torch(image, drawn, self.reach_px)

    def retouch(self, crop: np.ndarray, draw: int, seed: int = 0) -> None:
        """The same to one crop by OpenCV: uint8 (H, W, 3), in place."""
        drawn = self.draw([draw], *crop.shape[:2], seed)
        by_opencv(crop, *(each[0] for each in drawn), self.reach_px)

    @property
    def reach_px(self) -> int:
        """How far the blur's window reaches to each side."""
        return math.ceil(2 * self.blur)

    def draw(self, draws: Sequence[int], height: int, width: int, seed: int = 0) -> AugmentParams:
        """What is done to the crops of these keys; switching one of the three off leaves the others."""
        factors, sigmas, spots, values = [], [], [], []
        for draw in draws:
            rng = np.random.default_rng((seed, draw, _STREAM))
            chance, strength = rng.random(3), rng.random(4)
            jitter = self.jitter if chance[0] < self.jitter_share else 0.0
            blur = self.blur if chance[1] < self.blur_share else 0.0
            noise = self.noise if chance[2] < self.noise_share else 0.0
            factors.append(1 + jitter * (2 * strength[:3] - 1))
            sigmas.append(blur * strength[3])
            number = rng.binomial(height * width, noise)
            spots.append(rng.choice(height * width, number, replace=False, shuffle=False))
            values.append(rng.integers(2, size=number).astype(np.uint8) * 255)
        sigmas, factors = np.array(sigmas, np.float32), np.array(factors, np.float32)
        return AugmentParams(factors, sigmas, spots, values)


LIGHT = Augmentation()
RELEASED = Augmentation(jitter=0.1, blur=1.4, noise=2e-3, jitter_share=0.2)
"""The released code's strengths. Its blur has 5 taps and σ up to 5 px, which amounts to σ ≤ 1.4 px."""

AUGMENTATIONS = {"none": None, "light": LIGHT, "released": RELEASED}
"""What is done to crops beside scale and flip. The paper names scale and crop alone (Sec. IV-2)."""


def by_opencv(
    crop: np.ndarray,
    factors: np.ndarray,
    sigma_px: float,
    spots: np.ndarray,
    values: np.ndarray,
    reach_px: int,
) -> None:
    """A crop's row of `AugmentParams` done to it, (H, W, 3) in place; up to 3 of 255 from `by_torch`."""
    cv2 = opencv()
    if (factors != 1).any():
        own, means = np.split(_colours(factors[None])[0], 2, axis=1)
        cv2.transform(crop, np.column_stack([own, means @ cv2.mean(crop)[:3]]), dst=crop)
    if sigma_px:
        border = {"borderType": cv2.BORDER_REFLECT_101}
        cv2.GaussianBlur(crop, (2 * reach_px + 1,) * 2, float(sigma_px), dst=crop, **border)
    crop.reshape(-1, 3)[spots] = values[:, None]


def by_torch(image: Tensor, drawn: AugmentParams, reach_px: int) -> Tensor:
    """Jitter, then blur, then noise on a batch (B, 3, H, W), rounded after each; the input is left."""
    values = image.float()
    if (drawn.factors != 1).any():
        pixels = values.flatten(2)  # (B, 3, H·W)
        own, means = _to(_colours(drawn.factors).astype(np.float32), image).chunk(2, dim=2)
        values = (own @ pixels).add_(means @ pixels.mean(2, keepdim=True)).view_as(values)
    if drawn.sigmas_px.any():
        values = blur(values.round_().clamp_(0, 255), drawn.sigmas_px, reach_px)
    made = values.add_(0.5).clamp_(0, 255).to(torch.uint8)  # cut off to whole numbers: rounded
    if any(map(len, drawn.spots)):  # places are numbers and not a mask, which would wait
        crops = np.repeat(np.arange(len(image)), [len(each) for each in drawn.spots])
        where = _to(np.stack([crops, np.concatenate(drawn.spots)]), image)
        what = _to(np.concatenate(drawn.values), image)
        made.flatten(2)[where[0], :, where[1]] = what[:, None]  # k places of (B, 3, H·W): (k, 3)
    return made


@cache
def opencv() -> ModuleType:
    """OpenCV on one thread: threads of its own do not outlive a DataLoader's fork."""
    import cv2

    cv2.setNumThreads(1)
    return cv2


def _colours(factors: np.ndarray) -> np.ndarray:
    """Brightness b, contrast c and saturation s of each crop, (B, 3), as matrices (B, 3, 6).

        y = b·c·(s·x + (1 − s)·grey(x)) + b·(1 − c)·grey(mean of x)

    The first three columns are for a pixel x, the last three for the mean of its crop: torchvision's
    adjustments in turn, not cut off between them.
    """
    (brightness, contrast, saturation), grey = factors.T[..., None, None], np.array([GREY] * 3)
    own = brightness * contrast * (saturation * np.eye(3) + (1 - saturation) * grey)
    return np.concatenate([own, brightness * (1 - contrast) * grey], axis=2)


def blur(values: Tensor, sigmas_px: np.ndarray, reach_px: int) -> Tensor:
    """A Gaussian blur of each crop, float (B, 3, H, W), with its own σ (0: none); the border mirrors."""
    taps = np.arange(-reach_px, reach_px + 1)
    weights = np.exp(-0.5 * (taps / np.maximum(sigmas_px, 1e-3)[:, None]) ** 2)  # (B, taps)
    weights = (weights / weights.sum(1, keepdims=True)).astype(np.float32)
    kernels = _to(weights.repeat(3, 0), values)  # (B·3, taps)
    padded = F.pad(values, (reach_px,) * 4, mode="reflect")
    rows = padded.flatten(0, 1)[None]  # (1, B·3, H + 2·reach, W + 2·reach)
    for kernel in (kernels[:, None, None, :], kernels[:, None, :, None]):
        rows = F.conv2d(rows, kernel, groups=len(kernels))
    return rows.reshape(values.shape)


def _to(array: np.ndarray, like: Tensor) -> Tensor:
    return to_device(torch.from_numpy(np.ascontiguousarray(array)), like.device)


def to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """To the device; to a GPU by way of pinned memory, so that nobody waits."""
    if device.type == "cuda":
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)
