"""Training crops cut on the device from a split that lies in its memory: nothing is read or copied.

`TrainingCrops` in a DataLoader reads, shrinks and stacks on the processor and moves the batch. Here the
pixels move once, before training, and the host only says where to cut. On a processor threads make the
crops of a batch: they hand over nothing, where a DataLoader's processes copy every batch.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Sampler
from torchvision.transforms.v2 import functional as vision

from ebclib.data import PreparedSplit
from ebclib.data.crops import Batch, CropBox, TrainingCrops, render

SHARE_OF_FREE_MEMORY = 0.5  # of a GPU, that images may take where nothing else is said


class ResidentImages:
    """A prepared split's images in a device's memory, as many as fit; the rest is read from disk.

    Parameters
    ----------
    split : the prepared split
    indices : which of its images, the first ones first
    device : where they are kept; ``"cpu"`` is main memory
    budget_bytes : the most they may take; None is half of a GPU's free memory, and all of them on a CPU

    Attributes
    ----------
    resident_bytes : what they take
    is_complete : whether all of them fitted
    """

    def __init__(
        self,
        split: PreparedSplit,
        indices: Sequence[int],
        device: str | torch.device = "cpu",
        budget_bytes: float | None = None,
    ) -> None:
        self.split, self.device = split, torch.device(device)
        if budget_bytes is None:
            budget_bytes = math.inf
            if self.device.type == "cuda":
                budget_bytes = SHARE_OF_FREE_MEMORY * torch.cuda.mem_get_info(self.device)[0]
        self.images: dict[int, np.ndarray | Tensor] = {}  # uint8 (H, W, 3)
        self.resident_bytes = 0
        wanted = list(dict.fromkeys(int(index) for index in indices))
        for index in wanted:
            size = math.prod(split.sizes[index]) * 3
            if self.resident_bytes + size <= budget_bytes:
                self.images[index] = self._there(np.array(split.image(index)))
                self.resident_bytes += size
        self.is_complete = len(self.images) == len(wanted)

    def cut(self, place: CropBox) -> np.ndarray | Tensor:
        """The pixels of a place, uint8 (side, side, 3); a view where they are resident.

        On a processor an array, for what is done to it there is numpy's and OpenCV's; else a tensor.
        """
        top, left, side = place.box
        if place.index in self.images:
            return self.images[place.index][top : top + side, left : left + side]
        return self._there(self.split.crop(place.index, top, left, side, side))

    def _there(self, pixels: np.ndarray) -> np.ndarray | Tensor:
        if self.device.type == "cpu":
            return pixels
        return _moved(torch.from_numpy(pixels), self.device)


class DeviceCrops:
    """Whole batches of training crops on the device: what a DataLoader of ``crops`` gives, and faster.

    Boxes, flips, counts and points of a draw are those of ``crops`` exactly, pixels but for rounding
    (a GPU shrinks in float32). ``crops.augmentation`` is done to the batch on the device. The host
    waits for no result, so it prepares the next batch while a GPU computes.

    Several processes, a device each, share an epoch as Accelerate does: process p gets batches p,
    p + P, …; iterate over this directly, do not give it to ``accelerator.prepare``.

    Parameters
    ----------
    crops : the draws' places and targets, from its split
    sampler : the draw keys of an epoch, in their order (`EpochSampler`)
    batch_size : B, on each device
    device : where batches are made
    drop_last : leave out what does not fill a batch on every process; otherwise the last batches are
        smaller, and processes that would get none begin again
    process, processes : p and P
    budget_bytes : of `ResidentImages`
    threads : on a processor, and where images do not fit on the device, how many crops are made at a
        time; None: as many as torch has threads

    Raises
    ------
    ValueError : no such process, or no thread
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
        if not 0 <= process < processes:
            raise ValueError(f"process {process} of {processes}: give 0 to {processes - 1}.")
        if threads is not None and threads < 1:
            raise ValueError(f"threads is {threads}; give at least 1, or None.")
        self.crops, self.sampler, self.batch_size = crops, sampler, batch_size
        self.drop_last, self.process, self.processes = drop_last, process, processes
        self.device = torch.device(device)
        self.images = ResidentImages(crops.split, crops.indices, device, budget_bytes)
        threads = threads or torch.get_num_threads()
        self.pool = None
        reads = self.device.type == "cpu" or not self.images.is_complete
        if reads and threads > 1:  # one crop takes one thread
            self.pool = ThreadPoolExecutor(threads, "crops", torch.set_num_threads, (1,))

    def __len__(self) -> int:
        """Batches of an epoch on this process; the same on all."""
        whole = self.batch_size * self.processes
        return len(self.sampler) // whole if self.drop_last else -(-len(self.sampler) // whole)

    def __iter__(self) -> Iterator[Batch]:
        draws, size = list(self.sampler), self.batch_size
        batches = [draws[k : k + size] for k in range(0, len(draws), size)]
        finish = None
        for turn in range(len(self)):
            own = batches[(turn * self.processes + self.process) % len(batches)]
            following = self._begin(own)  # threads go on with it while the one before is trained on
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
        crops, places = self.crops, [self.crops.crop_box(draw) for draw in draws]
        side, on_host = crops.crop_px, self.device.type == "cpu"
        rows = torch.empty((len(draws), side, side, 3), dtype=torch.uint8, device=self.device)
        image = rows.permute(0, 3, 1, 2)  # channels last in memory
        made = rows.numpy() if on_host else None

        def make(k: int) -> None:
            pixels, flip = self.images.cut(places[k]), places[k].flip
            if not on_host:
                image[k].copy_(_shown(pixels, side, flip))
                return
            render(pixels, flip, made[k])
            if crops.augmentation is not None:
                crops.augmentation.retouch(made[k], draws[k], crops.seed)

        work = (self.pool.map if self.pool else map)(make, range(len(draws)))

        def finish() -> Batch:
            counts, labels, points = zip(*(crops.targets(place) for place in places), strict=True)
            people = _moved(torch.cat(points), self.device).split([len(each) for each in points])
            stacked = [_moved(torch.stack(each), self.device) for each in (counts, labels)]
            for _ in work:
                pass
            whole = image
            if not on_host and crops.augmentation is not None:
                whole = crops.augmentation(image, draws, crops.seed)
            return Batch(whole, *stacked, list(people), list(draws))

        return finish


def _shown(pixels: Tensor, crop_px: int, flip: bool) -> Tensor:
    """What `crops.render` does, on a GPU: uint8 (side, side, 3) to (3, crop_px, crop_px)."""
    crop = pixels.permute(2, 0, 1)
    if crop.shape[-1] != crop_px:
        crop = vision.resize(crop, [crop_px, crop_px], antialias=True)
    return vision.horizontal_flip(crop) if flip else crop


def _moved(tensor: Tensor, device: torch.device) -> Tensor:
    """To the device, by way of pinned memory to a GPU: nobody waits."""
    if device.type == "cuda":
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)
