"""A model, whatever it is given to count in, and results in order: few in memory at a time."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ebclib.config import RELEASED, project_root
from ebclib.counting.result import Count
from ebclib.counting.sources import Failure, Item, SourceImage, is_one, items, read
from ebclib.data.training_set import image_stats, peak_density
from ebclib.evaluation import interval
from ebclib.evaluation.metadata import ModelInfo, read_info, too_few
from ebclib.evaluation.windows import TILE_PX, Maps, predict_map
from ebclib.models import fill_model
from ebclib.runs import Run, open_run
from ebclib.training import precision_of

BATCH_PX = {"cpu": 200_000, "other": 8_000_000}
"""Pixels counted at a time. A processor is fastest while a layer's features stay in its caches and in
memory that the allocator keeps: one ordinary image; a GPU needs more to be busy."""

MOST_IN_A_BATCH = 32
"""Small images counted at a time: the first of a stream does not wait for hundreds."""

SHIPPED = "data/models/crowd_lite.safetensors"
"""Weights for photographs of crowds, in the repository."""

_TYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


class CrowdCounter:
    """A trained model that counts.

    Parameters
    ----------
    source : a run (`runs.Run`, its name, or its folder), or a file of weights alone, which says what
        model it is, how sure, and what it was trained on (`metadata.ModelInfo`); None: the model for
        photographs of crowds that comes with the repository (`SHIPPED`)
    device : as torch names it; None: a GPU where there is one
    longest_side : larger images are shrunk to this, in pixels; None: as the model's data set was
    threads : images that are read at a time; None: one a core, at most 8
    precision : fp32, bf16, fp16, or auto for what the device multiplies fastest; None: as the run was
        measured, so that its counts are these

    Attributes
    ----------
    weights : the file they come from
    info : what they say about themselves
    network : the model
    notes : what everybody should know who reads its counts; each result repeats them

    Raises
    ------
    FileNotFoundError : no such run or file
    ValueError : a file that holds no weights of ours, or an unknown precision
    """

    def __init__(
        self,
        source: str | Path | Run | None = None,
        device: str | torch.device | None = None,
        longest_side: int | None = None,
        threads: int | None = None,
        precision: str | None = None,
    ) -> None:
        self.weights = weights_of(source)
        self.info: ModelInfo = read_info(self.weights)
        found = "cuda" if torch.cuda.is_available() else "cpu"
        self.device = torch.device(device or found)
        if longest_side is not None and longest_side < 1:
            raise ValueError(f"longest_side is {longest_side}; give at least 1 px, or None.")
        self.longest_side = longest_side or self.info.longest_side
        self.threads = threads or min(os.cpu_count() or 1, 8)
        config = self.info.config
        config = config if precision is None else replace(config, precision=precision)
        self.precision = precision_of(config, self.device)
        network = fill_model(self.info.config, self.weights, self.device)
        self.network = network.to(memory_format=torch.channels_last)
        self.notes = _notes(self.info)

    @property
    def noun(self) -> tuple[str, str]:
        """What it counts, (singular, plural)."""
        return self.info.noun

    def __repr__(self) -> str:
        config = self.info.config
        return (
            f"<CrowdCounter of {self.noun[1]}: {config.model} ({config.head}) trained on {config.dataset}, "
            f"{self.precision} on {self.device}>"
        )

    def count(self, source: Any, failures: list[Failure] | None = None) -> Count | Iterator[Count]:
        """Count in one image, or in many.

        One image is a path, a PIL image, an array (H, W, 3) of uint8 or of floats in [0, 1], (H, W)
        for grey, a `Sample`, or the bytes of a file. Many are a folder (with those below it), an array
        (n, H, W, 3), or anything that gives images one after the other: a list, a split, the frames of
        a video. They are read ahead by threads, and few are in memory at a time; what is passed in as
        an iterator is asked for images only as fast as they are counted.

        Parameters
        ----------
        failures : where images that cannot be read are noted, while the others are counted; None:
            the first one is an error

        Returns
        -------
        a result for one image; for many an iterator of results in their order

        Raises
        ------
        ValueError, OSError : what cannot be read, and why
        """
        if is_one(source):
            (result,) = self.outcomes(items(source), keep=True)
            if isinstance(result, Failure):
                raise result.problem
            return result
        stays = isinstance(source, Sequence | np.ndarray)  # in memory: results may refer to it
        return self._counted(self.outcomes(items(source), keep=stays), failures)

    def _counted(
        self, outcomes: Iterable[Count | Failure], failures: list[Failure] | None
    ) -> Iterator[Count]:
        for result in outcomes:
            if isinstance(result, Count):
                yield result
            elif failures is None:
                raise result.problem
            else:
                failures.append(result)

    def outcomes(self, given: Iterable[Item], keep: bool = False) -> Iterator[Count | Failure]:
        """A result or a failure for each image, in order.

        With ``keep`` results refer to images that are no files, too, which keeps them in memory.
        """
        most_px = BATCH_PX["cpu" if self.device.type == "cpu" else "other"]
        group: list[SourceImage] = []
        for image in self._read_ahead(given):
            fits = (
                isinstance(image, SourceImage)
                and group
                and self.network.window_px is None
                and image.pixels.shape == group[0].pixels.shape
                and image.pixels.size <= 3 * TILE_PX**2  # larger ones are cut into tiles
                and len(group) < min(MOST_IN_A_BATCH, 3 * most_px // image.pixels.size)
            )
            if group and not fits:
                yield from self._count(group, keep)
                group = []
            if isinstance(image, Failure):
                yield image
            else:
                group.append(image)
        if group:
            yield from self._count(group, keep)

    def _read_ahead(self, given: Iterable[Item]) -> Iterator[SourceImage | Failure]:
        """Images in order, read by threads while the model counts those before."""
        waiting: deque = deque()
        with ThreadPoolExecutor(self.threads, "ebc-read") as pool:
            try:
                for item in given:
                    waiting.append(pool.submit(self._read, item))
                    if len(waiting) > 2 * self.threads:
                        yield waiting.popleft().result()
                while waiting:
                    yield waiting.popleft().result()
            finally:
                pool.shutdown(cancel_futures=True)

    def _read(self, item: Item) -> SourceImage | Failure:
        try:
            sides = self.info.least_side, self.longest_side, self.info.config.multiples_px
            image = read(item, *sides)
            if self.info.training_stats is None:
                return image
            return replace(image, stats=image_stats(image.pixels))
        except (ValueError, OSError) as problem:
            return Failure(item.name, item.source, problem)

    def _count(self, group: list[SourceImage], keep: bool) -> Iterator[Count]:
        pixels = torch.from_numpy(np.stack([image.pixels for image in group]))
        batch = pixels.to(self.device).permute(0, 3, 1, 2)  # channels last, as it lies in memory
        maps = self._maps(batch)
        for image, density, variance in zip(group, maps.density, maps.variance, strict=True):
            yield self._result(image, density, variance, keep)

    @torch.inference_mode()
    def _maps(self, batch: Tensor) -> Maps:
        """Density and variance of equally large images, float32 (B, h, w) on the processor."""
        if len(batch) == 1 or self.network.window_px is not None:
            each = [predict_map(self._logits, image, self.network) for image in batch]
            found = [torch.stack([maps[part] for maps in each]) for part in (0, 1)]
        else:
            logits = self._logits(batch).float()
            found = [self.network.density(logits)[:, 0], self.network.variance(logits)[:, 0]]
        return Maps(*(maps.float().cpu() for maps in found))

    def _logits(self, batch: Tensor) -> Tensor:
        """The network in its precision."""
        kind = _TYPES.get(self.precision)
        with torch.autocast(self.device.type, kind, enabled=kind is not None):
            return self.network(batch)

    def _result(self, image: SourceImage, density: Tensor, variance: Tensor, keep: bool) -> Count:
        info, source = self.info, image.item.source
        people = density.sum(dtype=torch.float64).item()
        lower = upper = None
        if info.interval_factor is not None:
            deviation = variance.sum(dtype=torch.float64).sqrt().item()
            lower, upper = map(float, interval(people, deviation, info.interval_factor))
        flags: list[str] = []
        if info.training_stats is not None:
            peak = peak_density(density.numpy(), self.network.block_size_px)
            flags = info.training_stats.flags({**image.stats, "peak_density": peak})
        return Count(
            name=image.item.name,
            count=people,
            lower=lower,
            upper=upper,
            density=density.numpy(),
            variance=variance.numpy(),
            block_size_px=self.network.block_size_px,
            counted_size=image.pixels.shape[:2],
            size=image.size,
            noun=self.noun,
            model=info.config.name or "",
            flags=tuple(flags),
            notes=(*self.notes, *image.notes),
            source=source if keep or isinstance(source, Path) else None,
        )


def weights_of(source: str | Path | Run | None) -> Path:
    """The file of weights that a run, its name or folder, or the file itself stands for.

    Raises
    ------
    FileNotFoundError : no such run; or, for None, a checkout without `SHIPPED`
    """
    if source is None:
        path = project_root() / SHIPPED
        if not path.is_file():
            raise FileNotFoundError(
                f"{path}, the model that comes with the repository, is not there. Restore it (git "
                f"checkout {SHIPPED}), or name a run of yours with --run."
            )
        return path
    if isinstance(source, Run):
        return source.weights
    path = Path(source)
    if path.is_file() or path.suffix == ".safetensors":
        return path
    return open_run(source).weights


def _notes(info: ModelInfo) -> tuple[str, ...]:
    notes, is_released = [], info.config.recipe == RELEASED
    if info.config.dataset == "synthetic":
        notes.append("A model for drawn crowds; not for photographs.")
    if info.interval_factor is None:
        notes.append(f"The model has no interval: {too_few(info.held_out_images)}.")
    if info.training_stats is None:
        notes.append(
            "Unusual images are not flagged: these weights do not say what they were trained on"
            + ("." if is_released else " (`ebc evaluate` of their run adds it).")
        )
    return tuple(notes)
