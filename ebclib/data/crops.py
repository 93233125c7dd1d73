"""Training crops: where to cut, and the image and its points together through scale and flip.

Crops come from a DataLoader over `TrainingCrops`, or as whole batches from images in memory (`DeviceCrops`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import Dataset, Sampler
from torchvision.transforms.v2 import functional as vision

from ebclib.blocks import block_counts, smoothed_counts
from ebclib.data import PreparedSplit
from ebclib.data.augmentation import LIGHT, Augmentation, opencv, to_device


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
        opencv().flip(pixels, 1, dst=crop)
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

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, draw: int) -> Crop:
        cut = self.crop_box(draw)
        top, left, side = cut.box
        pixels = self.split.crop(cut.index, top, left, side, side)
        crop = np.empty((self.crop_px, self.crop_px, 3), np.uint8)
        self.fill(crop, pixels, cut, draw)
        image = torch.from_numpy(crop).permute(2, 0, 1)  # channels last in memory
        return Crop(image, *self.targets(cut), draw)

    def fill(self, crop: np.ndarray, pixels: np.ndarray, cut: CropBox, draw: int) -> None:
        """Put what was cut into ``crop``, shrunk, mirrored and augmented."""
        render(pixels, cut.flip, crop)
        if self.augmentation is not None:
            self.augmentation.retouch(crop, draw, self.seed)

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
    """Whole batches of training crops on the device: what a DataLoader of ``crops`` gives, and faster.

    The images move into the device's memory once, as many as fit; the rest is read from disk. Boxes,
    flips, counts and points of a draw are those of ``crops`` exactly, pixels but for rounding (a GPU
    shrinks in float32). The host waits for no result, so it prepares the next batch while a GPU computes.

    Several processes, a device each, share an epoch as Accelerate does: process p gets batches p,
    p + P, …; do not give this to ``accelerator.prepare``.

    Parameters
    ----------
    sampler : the draw keys of an epoch, in their order (`EpochSampler`)
    batch_size : B, on each device
    drop_last : leave out what does not fill a batch on every process
    process, processes : p and P
    budget_bytes : what images may take; None: half of a GPU's free memory, and all they need elsewhere
    threads : how many crops the host makes or reads at a time; None: torch's number
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
        budget_bytes: float | None = None,
        threads: int | None = None,
    ) -> None:
        self.crops, self.sampler, self.batch_size = crops, sampler, batch_size
        self.drop_last, self.process, self.processes = drop_last, process, processes
        self.device = torch.device(device)
        self.on_host = self.device.type == "cpu"
        if budget_bytes is None:
            on_gpu = self.device.type == "cuda"
            budget_bytes = torch.cuda.mem_get_info(self.device)[0] / 2 if on_gpu else math.inf
        self.images: dict[int, np.ndarray | Tensor] = {}  # uint8 (H, W, 3)
        for index in map(int, crops.indices):
            budget_bytes -= math.prod(crops.split.sizes[index]) * 3
            if budget_bytes < 0:
                break
            self.images[index] = self._there(np.array(crops.split.image(index)))
        threads = threads or torch.get_num_threads()
        self.map = map
        if threads > 1 and (self.on_host or len(self.images) < len(crops)):
            # one crop takes one thread
            self.map = ThreadPoolExecutor(threads, "crops", torch.set_num_threads, (1,)).map

    def __len__(self) -> int:
        """Batches of an epoch on this process; the same on all."""
        whole = self.batch_size * self.processes
        return len(self.sampler) // whole if self.drop_last else -(-len(self.sampler) // whole)

    def __iter__(self) -> Iterator[Batch]:
        draws, size = list(self.sampler), self.batch_size
        batches = [draws[k : k + size] for k in range(0, len(draws), size)]
        turns = range(self.process, len(self) * self.processes, self.processes)
        finish = None
        for turn in turns:  # threads go on with a batch while the one before is trained on
            following = self._begin(batches[turn % len(batches)])
            if finish is not None:
                yield finish()
            finish = following
        if finish is not None:
            yield finish()

    def batch(self, draws: Sequence[int]) -> Batch:
        """The crops of these draws."""
        return self._begin(draws)()

    def _begin(self, draws: Sequence[int]) -> Callable[[], Batch]:
        """Let the threads, if there are any, begin with a batch; what is returned finishes it."""
        crops, cuts = self.crops, [self.crops.crop_box(draw) for draw in draws]
        shape = len(draws), crops.crop_px, crops.crop_px, 3
        rows = torch.empty(shape, dtype=torch.uint8, device=self.device)
        image = rows.permute(0, 3, 1, 2)  # channels last in memory
        made = rows.numpy() if self.on_host else None

        def make(k: int) -> None:
            pixels = self._cut(cuts[k])
            if self.on_host:
                crops.fill(made[k], pixels, cuts[k], draws[k])
            else:
                image[k].copy_(_shown(pixels, crops.crop_px, cuts[k].flip))

        work = self.map(make, range(len(draws)))

        def finish() -> Batch:
            counts, labels, points = zip(*map(crops.targets, cuts), strict=True)
            people = to_device(torch.cat(points), self.device).split([len(each) for each in points])
            stacked = [to_device(torch.stack(each), self.device) for each in (counts, labels)]
            for _ in work:
                pass
            augment = None if self.on_host else crops.augmentation
            whole = augment(image, draws, crops.seed) if augment else image
            return Batch(whole, *stacked, list(people), list(draws))

        return finish

    def _cut(self, cut: CropBox) -> np.ndarray | Tensor:
        """The pixels of a crop, uint8 (side, side, 3); a view where they are resident."""
        top, left, side = cut.box
        if cut.index in self.images:
            return self.images[cut.index][top : top + side, left : left + side]
        return self._there(self.crops.split.crop(cut.index, top, left, side, side))

    def _there(self, pixels: np.ndarray) -> np.ndarray | Tensor:
        """On a processor an array, for numpy and OpenCV; else a tensor on the device."""
        return pixels if self.on_host else to_device(torch.from_numpy(pixels), self.device)


def _shown(pixels: Tensor, crop_px: int, flip: bool) -> Tensor:
    """What `render` does, on a GPU: uint8 (side, side, 3) to (3, crop_px, crop_px)."""
    crop = pixels.permute(2, 0, 1)
    if crop.shape[-1] != crop_px:
        crop = vision.resize(crop, [crop_px, crop_px], antialias=True)
    return vision.horizontal_flip(crop) if flip else crop
