"""Colour, blur and noise on whole batches of crops, on the device that trains.

What a crop gets depends on the seed and its draw key alone: not on the batch it is in, on the order,
or on how many devices share the work. All of it is drawn on the host (`Augmentation.draw`), a few
hundred numbers a crop, so that applying it (`Augmentation.apply`) never waits for the device. Nobody
moves: the people's points are those of the crop.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

GREY = (0.299, 0.587, 0.114)  # of red, green and blue in luma (ITU-R BT.601), as torchvision has it
_STREAM = 1  # of a draw's random numbers; the crop's place is drawn from a stream of its own


class Drawn(NamedTuple):
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

    The default is light colour jitter alone, on every crop. The paper names scale and crop only (Sec.
    IV-2); what the released code adds is `RELEASED`.

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

    def __call__(self, picture: Tensor, draws: Sequence[int], seed: int = 0) -> Tensor:
        """Draw and apply: uint8 (B, 3, H, W) and its B draw keys to uint8 (B, 3, H, W).

        >>> flat = torch.full((1, 3, 4, 4), 100, dtype=torch.uint8)
        >>> Augmentation(jitter=0.2)(flat, draws=[7], seed=0).unique().numel()
        1
        >>> Augmentation(jitter=0)(flat, draws=[7]) is flat
        True
        """
        if not (self.jitter or self.blur or self.noise):
            return picture
        return self.apply(picture, self.draw(draws, *picture.shape[-2:], seed))

    def draw(self, draws: Sequence[int], height: int, width: int, seed: int = 0) -> Drawn:
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
        return Drawn(factors.reshape(-1, 3), sigmas, spots, values)

    def apply(self, picture: Tensor, drawn: Drawn) -> Tensor:
        """Jitter, then blur, then noise: uint8 (B, 3, H, W) in and out, on the picture's device.

        Computed in float32 and rounded once. The input is left as it is.

        Raises
        ------
        ValueError : another shape or type, another number of crops, or a side shorter than the blur
        """
        reach = math.ceil(2 * self.blur)
        _check(picture, drawn, reach)
        made = torch.empty(picture.shape, dtype=torch.uint8, device=picture.device)
        for part in _parts(picture):
            factors, sigmas = drawn.factors[part], drawn.sigmas_px[part]
            if (factors == 1).all() and not sigmas.any():
                made[part] = picture[part]
                continue
            values = torch.empty(picture[part].shape, device=picture.device).copy_(picture[part])
            if (factors != 1).any():
                jitter(values, factors)
            if sigmas.any():
                values = blur(values, sigmas, reach)
            # Cut off to whole numbers: rounded. By way of int16, which processors convert faster.
            made[part] = values.add_(0.5).clamp_(0, 255).to(torch.int16)
        if self.noise:
            _put(made, drawn.spots, drawn.values)
        return made


LIGHT = Augmentation()
"""The default: colour jitter alone."""

RELEASED = Augmentation(jitter=0.1, blur=1.4, noise=2e-3, jitter_share=0.2)
"""The released code's strengths. Its blur has 5 taps and σ up to 5 px, which amounts to σ ≤ 1.4 px."""


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

    Separable, and a sum of shifted copies rather than a convolution with B · 3 groups, which takes
    twice as long on a processor.

    Parameters
    ----------
    values : float (B, 3, H, W), H and W above ``reach_px``
    sigmas_px : (B,), 0 for a crop that stays as it is
    reach_px : how far the window reaches to each side
    """
    taps = np.arange(-reach_px, reach_px + 1)
    weights = np.exp(-0.5 * (taps / np.maximum(sigmas_px, 1e-3)[:, None]) ** 2)  # (B, taps)
    weights = (weights / weights.sum(1, keepdims=True)).astype(np.float32)
    weights = _to(weights.T, values)[..., None, None, None]  # (taps, B, 1, 1, 1)
    padded = F.pad(values, (reach_px,) * 4, mode="reflect")
    for dim in (2, 3):
        length = values.shape[dim]
        total = padded.narrow(dim, 0, length) * weights[0]
        for k in range(1, len(taps)):
            total.addcmul_(padded.narrow(dim, k, length), weights[k])
        padded = total
    return padded


def _put(picture: Tensor, spots: list[np.ndarray], values: list[np.ndarray]) -> None:
    """Black and white pixels, in place; their places are numbers and not a mask, which would sync."""
    crops = np.repeat(np.arange(len(spots)), [len(each) for each in spots])
    where = _to(np.stack([crops, np.concatenate(spots)]), picture)
    what = _to(np.concatenate(values), picture)
    picture.flatten(2)[where[0], :, where[1]] = what[:, None]  # (B, 3, H·W) at k places: (k, 3)


def _parts(picture: Tensor) -> Iterator[slice]:
    """One crop after the other on a processor, whose cache holds one; all at once elsewhere."""
    step = 1 if picture.device.type == "cpu" else max(1, len(picture))
    return (slice(k, k + step) for k in range(0, len(picture), step))


def _to(array: np.ndarray, like: Tensor) -> Tensor:
    """The array on a tensor's device; from pinned memory to a GPU, so that nobody waits."""
    tensor = torch.from_numpy(np.ascontiguousarray(array))
    if like.device.type == "cuda":
        return tensor.pin_memory().to(like.device, non_blocking=True)
    return tensor.to(like.device)


def _check(picture: Tensor, drawn: Drawn, reach_px: int) -> None:
    if picture.dtype != torch.uint8 or picture.ndim != 4 or picture.shape[1] != 3:
        raise ValueError(
            f"picture is {picture.dtype} {tuple(picture.shape)}; expected torch.uint8 (B, 3, H, W)."
        )
    if len(drawn.factors) != len(picture):
        raise ValueError(f"{len(drawn.factors)} draws for {len(picture)} crops: give one each.")
    if min(picture.shape[2:]) <= reach_px:
        raise ValueError(
            f"crops of {tuple(picture.shape[2:])} pixels are too small for a blur that reaches "
            f"{reach_px} pixels: lower blur, or raise crop_px."
        )
