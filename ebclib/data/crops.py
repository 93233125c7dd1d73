"""Training crops: where to cut, and the image and its points together through scale and flip.

Crops come from a DataLoader over `TrainingCrops`, or as whole batches from images in memory (`DeviceCrops`).
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import chain, pairwise
from typing import NamedTuple

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from ebclib.blocks import block_counts, smoothed_counts
from ebclib.data import PreparedSplit
from ebclib.data.augmentation import LIGHT, Augmentation


class Box(NamedTuple):
    """A square of an image, in whole pixels."""

    top: int
    left: int
    side: int


def random_box(
    rng: np.random.Generator, height: int, width: int, crop_px: int, max_scale: float
) -> Box:
    """A square of side σ·crop_px, σ ~ U(1, ``max_scale``), or what fits, in the image (Sec. IV-2)."""
    side = min(round(crop_px * rng.uniform(1, max_scale)), height, width)
    return Box(int(rng.integers(height - side + 1)), int(rng.integers(width - side + 1)), side)


def crop_points(points: np.ndarray, box: Box, crop_px: int, flip: bool = False) -> np.ndarray:
    """The points (n, 2) of an image that lie in ``box``, (k, 2) in pixels of the crop, 0 ≤ x, y < crop_px."""
    moved = points - (box.left, box.top)
    moved = moved[((moved >= 0) & (moved < box.side)).all(axis=1)] * (crop_px / box.side)
    if flip:  # [0, r) mirrors to (crop − r, crop]; the step down makes it half-open again
        moved[:, 0] = np.nextafter(crop_px - moved[:, 0], 0)
    return np.minimum(moved, np.nextafter(crop_px, 0))


class CropBox(NamedTuple):
    """Where a draw's crop is cut."""

    index: int  # of the image in its split
    box: Box
    flip: bool


def render(pixels: np.ndarray, flip: bool, crop: np.ndarray) -> None:
    """A square of an image, uint8 (side, side, 3), shrunk with antialiasing and mirrored into ``crop``."""
    if pixels.shape != crop.shape:  # one call of torch: each makes threads wait, views included
        # Only from strides like these is what comes out channels last, too, and not packed anew.
        square = np.ascontiguousarray(pixels).reshape(1, *pixels.shape)
        square = torch.from_numpy(square).permute(0, 3, 1, 2)
        small = F.interpolate(square, crop.shape[:2], mode="bilinear", antialias=True)
        pixels = small.permute(0, 2, 3, 1).numpy()[0]
    if flip:
        cv2.flip(pixels, 1, dst=crop)
    else:
        np.copyto(crop, pixels)


class Crop(NamedTuple):
    """What training sees of an image."""

    image: Tensor  # uint8 (3, crop_px, crop_px)
    counts: Tensor  # int64 (h, w), people per block
    labels: Tensor  # (h, w), what classes are made from: counts, or float32 smoothed counts
    points: Tensor  # float32 (n, 2), the people's x, y in pixels of the crop
    draw: int  # the key it was drawn with, from which `Augmentation` takes its randomness


class Batch(NamedTuple):
    """Crops stacked along a first axis B; the draws stay on the host."""

    image: Tensor
    counts: Tensor
    labels: Tensor
    points: list[Tensor]
    draws: list[int]


def collate(crops: Sequence[Crop]) -> Batch:
    """Crops to a batch, channels last in memory."""
    images, counts, labels, points, draws = zip(*crops, strict=True)
    image = torch.stack([each.permute(1, 2, 0) for each in images]).permute(0, 3, 1, 2)
    return Batch(image, torch.stack(counts), torch.stack(labels), list(points), list(draws))


class TrainingCrops(Dataset):
    """Random crops of a prepared split's images.

    Keys are *draws*: number ``epoch · len(indices) + position``. A draw's randomness comes from the
    seed and its key alone, so a crop is the same in whatever process, order or session it is read.
    With ``smoothing_px`` the labels are Gaussian-smoothed counts, as the methods before EBC have them.
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
        self.images: dict[int, np.ndarray] = {}  # in memory, uint8 (H, W, 3); others are read

    def in_memory(self, budget_bytes: float) -> TrainingCrops:
        """The same crops, cut from images in memory: as many as fit into ``budget_bytes``."""
        held = copy.copy(self)
        held.images = {}
        for index in map(int, self.indices):
            budget_bytes -= math.prod(self.split.sizes[index]) * 3
            if budget_bytes < 0:
                break
            held.images[index] = np.array(self.split.image(index))
        return held

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, draw: int) -> Crop:
        cv2.setNumThreads(1)  # threads of OpenCV's own do not outlive a DataLoader's fork
        index, (top, left, side), flip = cut = self.crop_box(draw)
        if index in self.images:
            pixels = self.images[index][top : top + side, left : left + side]
        else:
            pixels = self.split.crop(index, top, left, side, side)
        crop = np.empty((self.crop_px, self.crop_px, 3), np.uint8)
        render(pixels, flip, crop)
        if self.augmentation is not None:
            self.augmentation(crop, draw, self.seed)
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
    """The draws of the epoch ``epoch`` in an order that depends on the seed and the epoch alone."""

    def __init__(self, length: int, seed: int = 0) -> None:
        self.length, self.seed, self.epoch = length, seed, 0

    def __len__(self) -> int:
        return self.length

    def __iter__(self) -> Iterator[int]:
        order = np.random.default_rng((self.seed, self.epoch)).permutation(self.length)
        return iter((self.epoch * self.length + order).tolist())


class DeviceCrops:
    """Whole batches of training crops on a device: to the bit those of a DataLoader of ``crops``, and faster.

    Threads cut them from images in memory while the batch before is trained on. To a GPU they go by way of
    pinned memory, so that the host waits for nothing.

    Several processes, a device each, share an epoch as Accelerate does: process p gets batches p,
    p + P, …; do not give this to ``accelerator.prepare``.

    Parameters
    ----------
    sampler : the draw keys of an epoch, in their order (`EpochSampler`)
    batch_size : B, on each device
    drop_last : leave out what does not fill a batch on every process
    process, processes : p and P
    threads : how many crops are made at a time; None or 0: torch's number of threads
    budget_bytes : what images in memory may take; the rest is read from disk
    """

    def __init__(
        self,
        crops: TrainingCrops,
        sampler: Sampler[int],
        batch_size: int,
        device: str | torch.device,
        drop_last: bool = True,
        process: int = 0,
        processes: int = 1,
        threads: int | None = None,
        budget_bytes: float = 4e9,
    ) -> None:
        self.crops = crops.in_memory(budget_bytes)
        self.sampler, self.batch_size = sampler, batch_size
        self.drop_last, self.process, self.processes = drop_last, process, processes
        self.device, self.map = torch.device(device), map
        threads = threads or torch.get_num_threads()
        if threads > 1:  # one crop takes one thread
            self.map = ThreadPoolExecutor(threads, "crops", torch.set_num_threads, (1,)).map

    def __len__(self) -> int:
        """Batches of an epoch on this process; the same on all."""
        whole = self.batch_size * self.processes
        return len(self.sampler) // whole if self.drop_last else -(-len(self.sampler) // whole)

    def __iter__(self) -> Iterator[Batch]:
        draws, size = list(self.sampler), self.batch_size
        batches = [draws[k : k + size] for k in range(0, len(draws), size)]
        turns = range(self.process, len(self) * self.processes, self.processes)
        works = (self.map(self.crops.__getitem__, batches[turn % len(batches)]) for turn in turns)
        for work, _ in pairwise(chain(works, [None])):  # the next has begun
            yield self._finished(work)

    def batch(self, draws: Sequence[int]) -> Batch:
        """The crops of these draws."""
        return self._finished(self.map(self.crops.__getitem__, draws))

    def _finished(self, work: Iterable[Crop]) -> Batch:
        """The batch of crops that threads make, on the device."""
        *stacked, points, draws = collate(list(work))
        stacked = [self._there(each) for each in stacked]
        people = self._there(torch.cat(points)).split([len(each) for each in points])
        return Batch(*stacked, list(people), draws)

    def _there(self, tensor: Tensor) -> Tensor:
        if self.device.type == "cuda":
            return tensor.pin_memory().to(self.device, non_blocking=True)
        return tensor.to(self.device)
