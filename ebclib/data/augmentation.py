"""Colour, blur and noise on whole batches of crops, on the device that trains.

What a crop gets depends on the seed and its draw key alone: not on the batch it is in, on the order,
or on how many devices share the work. All of it is drawn on the host (`Augmentation.draw`), a few
hundred numbers a crop, so that applying it (`Augmentation.apply`) never waits for the device. Nobody
moves: the people's points are those of the crop.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
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
    """What is done to each crop of a batch, on the host.

    Attributes
    ----------
    factors : float32 (B, 3), of brightness, contrast and saturation; 1 leaves a crop as it is
    sigmas_px : float32 (B,), standard deviations of the blur; 0 leaves a crop as it is
    spots : B int64 arrays (k_b,), different places in the flattened crop, row by row
    values : B uint8 arrays (k_b,), 0 or 255, what is put there in all three colours
    """

    factors: np.ndarray
    sigmas_px: np.ndarray
    spots: list[np.ndarray]
    values: list[np.ndarray]


@dataclass(frozen=True)
class Augmentation:
    """How much crops are changed in colour and sharpness; at zero nothing is.

    Parameters
    ----------
    jitter : brightness, contrast and saturation are each scaled by U(1 − jitter, 1 + jitter); 0…1
    blur : Gaussian, σ ~ U(0, blur), in pixels of the crop; the window reaches 2·blur to each side
    noise : the share of pixels that turn black or white, half of them each (salt and pepper); 0…1
    jitter_share, blur_share, noise_share : the share of crops that it is done to; 0…1

    The default is light colour jitter alone, on every crop. `AUGMENTATIONS` names what a run can have.

    Raises
    ------
    ValueError : a strength or share out of range
    """

    jitter: float = 0.2
    blur: float = 0.0
    noise: float = 0.0
    jitter_share: float = 1.0
    blur_share: float = 0.2
    noise_share: float = 0.5

    def __post_init__(self) -> None:
        for field in fields(self):
            value, most = getattr(self, field.name), 16 if field.name == "blur" else 1
            if not 0 <= value <= most:
                raise ValueError(
                    f"{field.name} is {value}; give a number from 0 (off) to {most}"
                    + (" pixels." if field.name == "blur" else ".")
                )

    def __call__(self, image: Tensor, draws: Sequence[int], seed: int = 0) -> Tensor:
        """Draw and apply: uint8 (B, 3, H, W) and its B draw keys to uint8 (B, 3, H, W).

        >>> flat = torch.full((1, 3, 4, 4), 100, dtype=torch.uint8)
        >>> Augmentation(jitter=0.2)(flat, draws=[7], seed=0).unique().numel()
        1
        >>> Augmentation(jitter=0)(flat, draws=[7]) is flat
        True
        """
        if not self.does_anything:
            return image
        return self.apply(image, self.draw(draws, *image.shape[-2:], seed))

    @property
    def does_anything(self) -> bool:
        """Whether any of the three is on."""
        return bool(self.jitter or self.blur or self.noise)

    def retouch(self, crop: np.ndarray, draw: int, seed: int = 0) -> None:
        """What a call does to a batch, done to one crop in main memory: uint8 (H, W, 3), in place.

        Raises
        ------
        ValueError : a side shorter than the blur
        """
        if self.does_anything:
            _check_reach(crop.shape[:2], self.reach_px)
            drawn = self.draw([draw], *crop.shape[:2], seed)
            _by_opencv(crop, *(each[0] for each in drawn), self.reach_px)

    @property
    def reach_px(self) -> int:
        """How far the blur's window reaches to each side."""
        return math.ceil(2 * self.blur)

    def draw(self, draws: Sequence[int], height: int, width: int, seed: int = 0) -> AugmentParams:
        """What is done to the crops of these draw keys, of ``height`` × ``width`` pixels.

        Switching one of the three off leaves the other two as they were.
        """
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
        return AugmentParams(factors.reshape(-1, 3), sigmas, spots, values)

    def apply(self, image: Tensor, drawn: AugmentParams) -> Tensor:
        """Jitter, then blur, then noise: uint8 (B, 3, H, W) in and out, on the image's device.

        On a processor by OpenCV, crop by crop; elsewhere by torch, the batch at once in float32. Both
        round after each, and differ by up to 3 of 255: OpenCV's blur has weights of 8 bits. The input
        is left as it is.

        Raises
        ------
        ValueError : another shape or type, another number of crops, or a side shorter than the blur
        """
        _check(image, drawn)
        _check_reach(image.shape[-2:], self.reach_px)
        if image.device.type != "cpu":
            return _by_torch(image, drawn, self.reach_px)
        made = image.clone(memory_format=torch.channels_last)
        for crop, *each in zip(made.permute(0, 2, 3, 1).numpy(), *drawn, strict=True):
            _by_opencv(crop, *each, self.reach_px)
        return made


LIGHT = Augmentation()
"""Colour jitter alone, by a fifth."""

RELEASED = Augmentation(jitter=0.1, blur=1.4, noise=2e-3, jitter_share=0.2)
"""The released code's strengths. Its blur has 5 taps and σ up to 5 px, which amounts to σ ≤ 1.4 px."""

AUGMENTATIONS = {"none": None, "light": LIGHT, "released": RELEASED}
"""What is done to crops beside scale and flip, by name. The paper names scale and crop alone (Sec. IV-2)."""


def _by_opencv(
    crop: np.ndarray,
    factors: np.ndarray,
    sigma_px: float,
    spots: np.ndarray,
    values: np.ndarray,
    reach_px: int,
) -> None:
    """A crop's row of `AugmentParams` done to it, (H, W, 3) in place: a tenth of torch's time on a CPU."""
    cv2 = opencv()
    if (factors != 1).any():
        cv2.transform(crop, _colours(factors, cv2.mean(crop)[:3]), dst=crop)
    if sigma_px:
        border = {"borderType": cv2.BORDER_REFLECT_101}
        cv2.GaussianBlur(crop, (2 * reach_px + 1,) * 2, float(sigma_px), dst=crop, **border)
    if len(spots):
        crop.reshape(-1, 3)[spots] = values[:, None]


def _by_torch(image: Tensor, drawn: AugmentParams, reach_px: int) -> Tensor:
    values = image.float()
    if (drawn.factors != 1).any():
        jitter(values, drawn.factors)
    if drawn.sigmas_px.any():
        values = blur(values.round_().clamp_(0, 255), drawn.sigmas_px, reach_px)
    made = values.add_(0.5).clamp_(0, 255).to(torch.uint8)  # cut off to whole numbers: rounded
    if any(map(len, drawn.spots)):
        _put(made, drawn.spots, drawn.values)
    return made


@cache
def opencv() -> ModuleType:
    """OpenCV on one thread: crops are small, and threads of its own do not outlive a DataLoader's fork."""
    import cv2

    cv2.setNumThreads(1)
    return cv2


def _colours(factors: np.ndarray, means: Sequence[float]) -> np.ndarray:
    """`jitter` as a matrix (3, 4) that takes (red, green, blue, 1) of a crop of these mean colours."""
    brightness, contrast, saturation = factors
    own = saturation * np.eye(3) + (1 - saturation) * np.array([GREY] * 3)
    offset = brightness * (1 - contrast) * np.dot(GREY, means)
    return np.column_stack([brightness * contrast * own, np.full(3, offset)])


def jitter(values: Tensor, factors: np.ndarray) -> Tensor:
    """Brightness b, contrast c and saturation s of each crop, in place.

        y = b·c·(s·x + (1 − s)·grey(x)) + b·(1 − c)·mean(grey(x))

    That is torchvision's three adjustments in turn, without cutting off at 0 and 255 between them.

    Parameters
    ----------
    values : float (B, 3, H, W)
    factors : (B, 3): b, c, s
    """
    brightness, contrast, saturation = factors.T
    scale = brightness * contrast
    columns = np.stack([scale * saturation, scale * (1 - saturation), brightness * (1 - contrast)])
    own, shared, mean = _to(columns, values)[..., None, None, None]  # each (B, 1, 1, 1)
    grey = values[:, :1] * GREY[0]
    grey.add_(values[:, 1:2], alpha=GREY[1]).add_(values[:, 2:], alpha=GREY[2])  # (B, 1, H, W)
    offset = grey.mean((2, 3), keepdim=True) * mean
    return values.mul_(own).add_(grey.mul_(shared).add_(offset))


def blur(values: Tensor, sigmas_px: np.ndarray, reach_px: int) -> Tensor:
    """A Gaussian blur of each crop with its own σ; the border mirrors.

    Separable: two convolutions, with a kernel for each colour of each crop.

    Parameters
    ----------
    values : float (B, 3, H, W), H and W above ``reach_px``
    sigmas_px : (B,), 0 for a crop that stays as it is
    reach_px : how far the window reaches to each side
    """
    taps = np.arange(-reach_px, reach_px + 1)
    weights = np.exp(-0.5 * (taps / np.maximum(sigmas_px, 1e-3)[:, None]) ** 2)  # (B, taps)
    weights = (weights / weights.sum(1, keepdims=True)).astype(np.float32)
    kernels = _to(weights.repeat(3, 0), values)  # (B·3, taps)
    padded = F.pad(values, (reach_px,) * 4, mode="reflect")
    rows = padded.flatten(0, 1)[None]  # (1, B·3, H + 2·reach, W + 2·reach)
    for kernel in (kernels[:, None, None, :], kernels[:, None, :, None]):
        rows = F.conv2d(rows, kernel, groups=len(kernels))
    return rows.reshape(values.shape)


def _put(image: Tensor, spots: list[np.ndarray], values: list[np.ndarray]) -> None:
    """Black and white pixels, in place; their places are numbers and not a mask, which would sync."""
    crops = np.repeat(np.arange(len(spots)), [len(each) for each in spots])
    where = _to(np.stack([crops, np.concatenate(spots)]), image)
    what = _to(np.concatenate(values), image)
    image.flatten(2)[where[0], :, where[1]] = what[:, None]  # (B, 3, H·W) at k places: (k, 3)


def _to(array: np.ndarray, like: Tensor) -> Tensor:
    """The array on a tensor's device; from pinned memory to a GPU, so that nobody waits."""
    tensor = torch.from_numpy(np.ascontiguousarray(array))
    if like.device.type == "cuda":
        return tensor.pin_memory().to(like.device, non_blocking=True)
    return tensor.to(like.device)


def _check(image: Tensor, drawn: AugmentParams) -> None:
    if image.dtype != torch.uint8 or image.ndim != 4 or image.shape[1] != 3:
        raise ValueError(
            f"image is {image.dtype} {tuple(image.shape)}; expected torch.uint8 (B, 3, H, W)."
        )
    if len(drawn.factors) != len(image):
        raise ValueError(f"{len(drawn.factors)} draws for {len(image)} crops: give one each.")


def _check_reach(size: Sequence[int], reach_px: int) -> None:
    if min(size) <= reach_px:
        raise ValueError(
            f"crops of {tuple(size)} pixels are too small for a blur that reaches "
            f"{reach_px} pixels: lower blur, or raise crop_px."
        )
