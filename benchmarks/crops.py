"""Batches of augmented training crops: ours beside torchvision's transforms over JPEGs."""

from __future__ import annotations

import csv
import os
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import v2

from ebclib import synthetic
from ebclib.data import PreparedSplit, prepared
from ebclib.data.augmentation import RELEASED, Augmentation
from ebclib.data.crops import DeviceCrops, EpochSampler, TrainingCrops, collate, crop_points

from .timing import race

LEAST_SIDE_PX = 448
_TAPS = 5  # of the blur, as in the release


def draw_jpegs(
    root: Path, images: int, height: int = 768, width: int = 1024, people: int = 200
) -> PreparedSplit:
    """Drawn crowds as JPEGs of quality 90 in `<root>/jpegs/train`, and prepared in `<root>/prepared`.

    Raises
    ------
    ValueError : sides below 448 pixels, which preparation enlarges: the two would not show the same
    """
    if min(height, width) < LEAST_SIDE_PX:
        raise ValueError(
            f"images of {height} × {width} pixels: give sides of {LEAST_SIDE_PX} or more, which "
            "preparation leaves as they are."
        )
    for part, count in (("train", images), ("test", 1)):  # a lone train/ would be divided
        folder = Path(root) / "jpegs" / part
        folder.mkdir(parents=True, exist_ok=True)
        rows = []
        for k in range(count):
            sample = synthetic.split.draw(k, people, height, width)
            Image.fromarray(sample.image).save(folder / f"{k:04d}.jpg", quality=90)
            rows += [(f"{k:04d}.jpg", round(x, 3), round(y, 3)) for x, y in sample.points.tolist()]
        with open(folder / "points.csv", "w", newline="") as file:
            csv.writer(file).writerows([("image", "x", "y"), *rows])
    return prepared("jpegs", "train", root, Path(root) / "prepared", progress=False)


class JpegCrops(Dataset):
    """The same crops the usual way: decode the whole JPEG, cut, shrink, torchvision's transforms.

    Parameters
    ----------
    folder : of the JPEGs, one for each image of the split, of its name
    crops : whose boxes, flips and points are taken, so that both show the same
    """

    def __init__(self, folder: Path, crops: TrainingCrops) -> None:
        self.files = [Path(folder) / f"{name}.jpg" for name in crops.split.names]
        self.crops = crops
        like = crops.augmentation or Augmentation(jitter=0)
        colour, blur = v2.ColorJitter(*[like.jitter] * 3), v2.GaussianBlur(_TAPS, (0.1, 1.4))
        parts = [v2.RandomApply([colour], like.jitter_share)] if like.jitter else []
        parts += [v2.RandomApply([blur], like.blur_share)] if like.blur else []
        self.augment = v2.Compose(parts) if parts else v2.Identity()
        self.noise, self.noise_share = like.noise, like.noise_share

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, draw: int) -> tuple[Tensor, Tensor]:
        index, box, flip = self.crops.crop_box(draw)
        with Image.open(self.files[index]) as file:
            image = v2.functional.pil_to_tensor(file.convert("RGB"))
        cut = image[:, box.top : box.top + box.side, box.left : box.left + box.side]
        size = [self.crops.crop_px] * 2
        image = v2.functional.resize(cut, size, antialias=True)
        image = self.augment(v2.functional.horizontal_flip(image) if flip else image)
        if self.noise and torch.rand(()) < self.noise_share:
            chance = torch.rand(image.shape[1:])
            image = image.masked_fill(chance < self.noise / 2, 0)
            image = image.masked_fill(chance > 1 - self.noise / 2, 255)
        points = crop_points(self.crops.split.points[index], box, self.crops.crop_px, flip)
        return image, torch.from_numpy(points)


def compare_crops(
    split: PreparedSplit,
    folder: Path,
    crop_px: int = 448,
    batch_size: int = 8,
    augmentation: Augmentation = RELEASED,
    workers: int | None = None,
    rounds: int = 3,
) -> pd.DataFrame:
    """An epoch of augmented crops by each way, in turn, with the same boxes.

    Parameters
    ----------
    split : as `draw_jpegs` prepared it, or photographs that preparation left at their size
    folder : its JPEGs
    workers : processes of every DataLoader, and threads that make crops from memory; None: as many as
        cores; 0: all in this process

    Returns
    -------
    a row a way: ``ms_per_crop``, ``cpu_ms_per_crop`` of this process alone, ``crops_per_s``, and
    ``times_faster`` than torchvision over JPEGs
    """
    workers = (os.cpu_count() or 1) if workers is None else workers
    crops = TrainingCrops(split, range(len(split)), crop_px, 8, augmentation=augmentation)
    sampler = EpochSampler(len(crops))
    options = {"batch_size": batch_size, "num_workers": workers}
    options |= {"sampler": sampler, "persistent_workers": workers > 0}
    usual = DataLoader(JpegCrops(folder, crops), collate_fn=_stack, **options)
    ours = DataLoader(crops, collate_fn=collate, **options)
    ways = {
        "torchvision over JPEGs": usual,
        "ours, DataLoader": ours,
        "ours, in memory": DeviceCrops(
            crops, sampler, batch_size, "cpu", drop_last=False, threads=max(workers, 1)
        ),
    }
    times = race({name: lambda way=way: _drain(way) for name, way in ways.items()}, rounds)
    table = times.rename(columns={"ms": "ms_per_crop", "cpu_ms": "cpu_ms_per_crop"}) / len(crops)
    slowest = table["ms_per_crop"]["torchvision over JPEGs"]
    speed = {"crops_per_s": 1e3 / table["ms_per_crop"]}
    return table.assign(**speed, times_faster=slowest / table["ms_per_crop"])


def _stack(items: Sequence[tuple[Tensor, Tensor]]) -> tuple[Tensor, list[Tensor]]:
    return torch.stack([image for image, _ in items]), [points for _, points in items]


def _drain(batches: DataLoader | DeviceCrops) -> int:
    return sum(1 for _ in batches)
