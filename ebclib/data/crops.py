"""Training crops: where to cut, and the image and its points together through scale and flip.

The box is drawn before a pixel is read, so that reading costs the crop and not the image.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from ebclib.blocks import block_counts, smoothed_counts
from ebclib.data import PreparedSplit
from ebclib.data.augmentation import LIGHT, Augmentation, opencv


class Box(NamedTuple):
    """A square of an image, in whole pixels."""

    top: int
    left: int
    side: int


def random_box(
    rng: np.random.Generator, height: int, width: int, crop_px: int, max_scale: float
) -> Box:
    """A square of side σ·crop_px, σ ~ U(1, ``max_scale``), anywhere inside the image (Sec. IV-2).

    Where the image is smaller than that, the square is as large as fits: no crop shows padding.
    """
    side = min(round(crop_px * rng.uniform(1, max_scale)), height, width)
    return Box(int(rng.integers(height - side + 1)), int(rng.integers(width - side + 1)), side)


def crop_points(points: np.ndarray, box: Box, crop_px: int, flip: bool = False) -> np.ndarray:
    """The points inside ``box``, in the pixels of the crop scaled to ``crop_px``.

    Parameters
    ----------
    points : array, shape (n, 2), columns x, y in pixels of the image
    flip : mirror left and right

    Returns
    -------
    float64 array, shape (k, 2), 0 ≤ x, y < crop_px; k is exactly the number of points in the box
    """
    moved = points - (box.left, box.top)
    moved = moved[((moved >= 0) & (moved < box.side)).all(axis=1)] * (crop_px / box.side)
    if flip:  # [0, r) mirrors to (crop − r, crop]; the step down makes it half-open again
        moved[:, 0] = np.nextafter(crop_px - moved[:, 0], 0)
    return np.minimum(moved, np.nextafter(crop_px, 0))


class CropBox(NamedTuple):
    """Where a draw's crop is cut: the image's index in its split, the square, and whether mirrored."""

    index: int
    box: Box
    flip: bool


def render(pixels: np.ndarray, flip: bool, crop: np.ndarray) -> None:
    """A square of an image as training sees it: shrunk with antialiasing, and mirrored.

    Threads that make crops wait for each other at every call that lets go of the interpreter, as each of
    torch's does, views included. So there is one, which shrinks; numpy and OpenCV do the rest.

    Parameters
    ----------
    pixels : uint8 (side, side, 3), in rows of any stride
    flip : whether left and right change places
    crop : uint8 (crop_px, crop_px, 3), which is written
    """
    if pixels.shape != crop.shape:
        # Pixels that lie side by side shrink in two thirds of the time; and only from strides like these,
        # that of the one image included, is what comes out channels last, too, and not packed anew.
        square = np.ascontiguousarray(pixels).reshape(1, *pixels.shape)
        square = torch.from_numpy(square).permute(0, 3, 1, 2)
        small = F.interpolate(square, crop.shape[:2], mode="bilinear", antialias=True)
        pixels = small.permute(0, 2, 3, 1).numpy()[0]
    if flip:
        opencv().flip(pixels, 1, dst=crop)
    else:
        np.copyto(crop, pixels)


class Crop(NamedTuple):
    """What training sees of an image."""

    image: Tensor  # uint8 (3, crop_px, crop_px)
    counts: Tensor  # int64 (h, w), people per block
    # (h, w), what classes are made from: ``counts``, or float32 smoothed counts (Blockwise)
    labels: Tensor
    points: Tensor  # float32 (n, 2), the people's x, y in pixels of the crop
    draw: int  # the key it was drawn with, from which `Augmentation` takes its randomness


class Batch(NamedTuple):
    """Crops stacked along a first axis B; in lists the points, a number of its own each, and the draws.

    The draws are Python's integers, which stay on the host when a batch is moved to a device.
    """

    image: Tensor
    counts: Tensor
    labels: Tensor
    points: list[Tensor]
    draws: list[int]


def collate(crops: Sequence[Crop]) -> Batch:
    """Crops to a batch, whose images are channels last in memory, as crops are and networks like it."""
    images, counts, labels, points, draws = zip(*crops, strict=True)
    image = torch.stack([each.permute(1, 2, 0) for each in images]).permute(0, 3, 1, 2)
    return Batch(image, torch.stack(counts), torch.stack(labels), list(points), list(draws))


class TrainingCrops(Dataset):
    """Random crops of a prepared split's images.

    Keys are *draws*: number ``epoch · len(indices) + position``. A draw's randomness comes from the
    seed and its key alone, so a crop is the same in whatever process, order or session it is read.
    With ``smoothing_px`` the labels are Gaussian-smoothed counts, as the methods before EBC have them.
    ``augmentation`` is done crop by crop as they are read; with None, do the same to whole batches on
    the device that trains, by `Augmentation` itself and with `Batch.draws`.
    """

    def __init__(
        self,
        split: PreparedSplit,
        indices: Sequence[int],
        crop_px: int,
        block_size_px: int,
        max_scale: float = 2.0,
        seed: int = 0,
        smoothing_px: float | None = None,
        augmentation: Augmentation | None = LIGHT,
    ) -> None:
        self.smoothing_px, self.augmentation = smoothing_px, augmentation
        self.split, self.indices, self.seed = split, np.asarray(indices), seed
        self.crop_px, self.block_size_px, self.max_scale = crop_px, block_size_px, max_scale

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, draw: int) -> Crop:
        cut = self.crop_box(draw)
        top, left, side = cut.box
        pixels = self.split.crop(cut.index, top, left, side, side)
        crop = np.empty((self.crop_px, self.crop_px, 3), np.uint8)
        render(pixels, cut.flip, crop)
        if self.augmentation is not None:
            self.augmentation.retouch(crop, draw, self.seed)
        image = torch.from_numpy(crop).permute(2, 0, 1)  # channels last in memory
        return Crop(image, *self.targets(cut), draw)

    def crop_box(self, draw: int) -> CropBox:
        """Where the crop of this draw is cut."""
        rng = np.random.default_rng((self.seed, draw))
        index = int(self.indices[draw % len(self)])
        box = random_box(rng, *self.split.sizes[index], self.crop_px, self.max_scale)
        return CropBox(index, box, bool(rng.random() < 0.5))

    def targets(self, cut: CropBox) -> tuple[Tensor, Tensor, Tensor]:
        """Counts, labels and points of the crop cut there, as `Crop` has them."""
        points = crop_points(self.split.points[cut.index], cut.box, self.crop_px, cut.flip)
        grid = (self.crop_px, self.crop_px, self.block_size_px)
        counts = labels = torch.from_numpy(block_counts(points, *grid))
        if self.smoothing_px is not None:
            labels = torch.from_numpy(smoothed_counts(points, *grid, self.smoothing_px)).float()
        return counts, labels, torch.from_numpy(points).float().reshape(-1, 2)


class EpochSampler(Sampler[int]):
    """The draws of one epoch after another, each epoch in an order of its own.

    Set ``epoch`` before iterating; the order depends on the seed and the epoch alone, which is what
    lets a run go on after a stop as if there had been none.
    """

    def __init__(self, length: int, seed: int = 0) -> None:
        self.length, self.seed, self.epoch = length, seed, 0

    def __len__(self) -> int:
        return self.length

    def __iter__(self) -> Iterator[int]:
        order = np.random.default_rng((self.seed, self.epoch)).permutation(self.length)
        return iter((self.epoch * self.length + order).tolist())
