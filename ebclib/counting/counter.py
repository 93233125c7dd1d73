"""A model, whatever it is given to count in, and results in order: few in memory at a time."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ebclib.config import RELEASED, project_root
from ebclib.counting.result import Count
from ebclib.counting.sources import Item, is_one, items, read
from ebclib.data.images import Decoded
from ebclib.data.training_set import image_stats, peak_density
from ebclib.evaluation import interval
from ebclib.evaluation.metadata import ModelInfo, read_info, too_few
from ebclib.evaluation.windows import Maps, predict_map
from ebclib.models import fill_model
from ebclib.runs import Run, open_run
from ebclib.training import precision_of

SHIPPED = "data/models/crowd_lite.safetensors"
"""Weights for photographs of crowds, in the repository."""

_TYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


class CrowdCounter:
    """A trained model that counts.

    Its ``info`` (`metadata.ModelInfo`) is what the weights say about themselves, and its ``notes`` what
    everybody should know who reads its counts; each result repeats them.

    Parameters
    ----------
    source : a run (`runs.Run`, its name, or its folder), or a file of weights alone; None: the model
        for photographs of crowds that comes with the repository (`SHIPPED`)
    device : as torch names it; None: a GPU where there is one
    longest_side : larger images are shrunk to this, in pixels; None: as the model's data set was
    precision : fp32, bf16, fp16, or auto for what the device multiplies fastest; None: as the run was
        measured, so that its counts are these

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
        precision: str | None = None,
    ) -> None:
        self.weights = weights_of(source)
        self.info: ModelInfo = read_info(self.weights)
        self.noun = self.info.noun
        self.device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        self.longest_side = longest_side or self.info.longest_side
        config = self.info.config
        asked = replace(config, precision=precision or config.precision)
        self.precision = precision_of(asked, self.device)
        network = fill_model(config, self.weights, self.device)
        self.network = network.to(memory_format=torch.channels_last)
        self.notes = _notes(self.info)

    def __repr__(self) -> str:
        config = self.info.config
        return (
            f"<CrowdCounter of {self.noun[1]}: {config.model} ({config.head}) trained on {config.dataset}, "
            f"{self.precision} on {self.device}>"
        )

    def count(self, source: Any) -> Count | Iterator[Count]:
        """Count in one image, or in many.

        One image is a path, a PIL image, an array (H, W, 3) of uint8 or of floats in [0, 1], (H, W)
        for grey, a `Sample`, or the bytes of a file. Many are a folder (with those below it), an array
        (n, H, W, 3), or anything that gives images one after the other: a list, a split, the frames of
        a video. They are read ahead by threads, and their results come in order.

        Raises
        ------
        ValueError, OSError : what cannot be read, and why
        """
        results = map(_or_raise, self.outcomes(items(source)))
        return next(results) if is_one(source) else results

    def outcomes(self, given: Iterable[Item]) -> Iterator[Count | Exception]:
        """For each image, in order, a result, or the ValueError or OSError that says why there is none."""
        threads = min(os.cpu_count() or 1, 8)
        sides = self.info.least_side, self.longest_side, self.info.config.multiples_px
        waiting: deque = deque()
        with ThreadPoolExecutor(threads, "ebc-read") as pool:
            try:
                for item in given:
                    waiting.append((item, pool.submit(read, item, *sides)))
                    if len(waiting) > 2 * threads:
                        yield self._outcome(*waiting.popleft())
                while waiting:
                    yield self._outcome(*waiting.popleft())
            finally:
                pool.shutdown(cancel_futures=True)

    def _outcome(self, item: Item, reading: Future[Decoded]) -> Count | Exception:
        try:
            image, info = reading.result(), self.info
        except (ValueError, OSError) as problem:
            return problem
        maps = self._maps(image.pixels)
        people = maps.density.sum(dtype=torch.float64).item()
        lower = upper = None
        if info.interval_factor is not None:
            deviation = maps.variance.sum(dtype=torch.float64).sqrt().item()
            lower, upper = map(float, interval(people, deviation, info.interval_factor))
        density, flags = maps.density.numpy(), []
        if info.training_stats is not None:
            peak = peak_density(density, self.network.block_size_px)
            flags = info.training_stats.flags(image_stats(image.pixels) | {"peak_density": peak})
        first = ("The first of its frames was counted.",) if image.is_first else ()
        return Count(
            name=item.name,
            count=people,
            lower=lower,
            upper=upper,
            density=density,
            variance=maps.variance.numpy(),
            block_size_px=self.network.block_size_px,
            counted_size=image.pixels.shape[:2],
            size=image.size,
            noun=self.noun,
            model=info.config.name or "",
            flags=tuple(flags),
            notes=(*self.notes, *first),
            source=item.source,
        )

    @torch.inference_mode()
    def _maps(self, image: Tensor | np.ndarray) -> Maps:
        """Density and variance of an image, float32 (h, w), on the processor."""
        kind = _TYPES.get(self.precision)
        with torch.autocast(self.device.type, kind, enabled=kind is not None):
            maps = predict_map(self.network, image)
        return Maps(maps.density.cpu(), maps.variance.cpu())


def _or_raise(outcome: Count | Exception) -> Count:
    if isinstance(outcome, Exception):
        raise outcome
    return outcome


def weights_of(source: str | Path | Run | None) -> Path:
    """The file of weights that a run, its name or folder, or the file itself stands for."""
    if source is None:
        path = project_root() / SHIPPED
        if not path.is_file():
            raise FileNotFoundError(
                f"{path} is not there. Restore it (git checkout {SHIPPED}), or give a run with --run."
            )
        return path
    if isinstance(source, Run):
        return source.weights
    path = Path(source)
    if path.is_file() or path.suffix == ".safetensors":
        return path
    return open_run(source).weights


def _notes(info: ModelInfo) -> tuple[str, ...]:
    notes = []
    if info.config.dataset == "synthetic":
        notes.append("A model for drawn crowds; not for photographs.")
    if info.interval_factor is None:
        notes.append(f"The model has no interval: {too_few(info.held_out_images)}.")
    if info.training_stats is None:
        cure = "" if info.config.recipe == RELEASED else " (`ebc evaluate` of their run adds it)"
        notes.append(
            f"Unusual images are not flagged: these weights know no training images{cure}."
        )
    return tuple(notes)
