"""What becomes of a batch whose loss or gradient is no finite number: named, kept, and looked at later."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path

import torch
from accelerate import Accelerator
from safetensors.torch import save_file

from ebclib.config import Config
from ebclib.data.crops import TrainingCrops, collate
from ebclib.runs import write_json, write_whole

KEPT = 10
"""How many such batches of a run are saved; later ones are only named."""


def names_of(crops: TrainingCrops, draws: Sequence[int]) -> list[str]:
    """The images that ``draws`` are cut from."""
    return [crops.split.names[int(crops.indices[draw % len(crops)])] for draw in draws]


def save_batch(
    folder: Path, crops: TrainingCrops, draws: Sequence[int], epoch: int, step: int
) -> Path | None:
    """Cut a batch once more from its draws, which always give the same crops, and keep it.

    Parameters
    ----------
    folder : `nonfinite/` of the run
    draws : keys of ``crops``
    epoch, step : when it was trained on, from 1 and from 0

    Returns
    -------
    the file, for `safetensors.torch.load_file`: ``images`` uint8 (B, 3, H, W), ``counts`` and
    ``labels`` (B, h, w), ``points`` (Σn_b, 2) and ``people`` (B,), the n_b. A JSON file of the same
    name tells the images' names. None where the folder holds `KEPT` batches.
    """
    path = folder / f"epoch{epoch:04d}_step{step:05d}.safetensors"
    if len(list(folder.glob("*.safetensors"))) >= KEPT:
        return None
    batch = collate([crops[draw] for draw in draws])
    tensors = {
        "images": batch.image.contiguous(),
        "counts": batch.counts,
        "labels": batch.labels.clone(),  # the very tensor of the counts, mostly
        "points": torch.cat(batch.points),
        "people": torch.tensor([len(points) for points in batch.points]),
    }
    write_whole(path, lambda part: save_file(tensors, part))
    facts = {"epoch": epoch, "step": step, "images": names_of(crops, draws), "draws": list(draws)}
    write_json(path.with_suffix(".json"), facts)
    return path


class NonFiniteGuard:
    """Which steps of one epoch were not finite.

    The trainer marks them in ``bad`` on the device. A look at it makes the host wait, so looks are few;
    as an epoch's draws are known beforehand, a late look still tells which batch it was.

    Parameters
    ----------
    config : the run's
    crops, draws : what is trained on, and the epoch's keys of it in order
    steps : of the epoch
    accelerator : the first process of it writes

    Attributes
    ----------
    bad : float32 (steps,), 1 where the loss or its gradient was not finite in any process
    """

    def __init__(
        self,
        config: Config,
        crops: TrainingCrops,
        draws: Sequence[int],
        steps: int,
        accelerator: Accelerator,
    ) -> None:
        self.config, self.crops, self.draws, self.accelerator = config, crops, draws, accelerator
        self.bad, self.seen = torch.zeros(steps, device=accelerator.device), 0

    def check(self, count: float, folder: Path, finished: bool = False) -> None:
        """Tell of the steps marked since the last look, and keep their batches in ``folder``.

        Parameters
        ----------
        count : of marked steps
        finished : the epoch is over

        Raises
        ------
        FloatingPointError : there is a marked step, unless ``on_nonfinite`` is skip and the epoch has
            others
        """
        if count == self.seen:
            return
        steps = self.bad.nonzero().flatten().tolist()[self.seen :]
        self.seen, hopeless = int(count), finished and count == len(self.bad)
        messages = [self._keep(step, folder) for step in steps[: 1 if self._stops else None]]
        self.accelerator.wait_for_everyone()  # a process that ends now would end the one that writes
        if self._stops or hopeless:
            raise FloatingPointError(f"{messages[0]} {self._advice()}")
        if self.accelerator.is_main_process:
            warnings.warn(" ".join(messages), stacklevel=4)

    @property
    def _stops(self) -> bool:
        return self.config.on_nonfinite == "stop"

    def _keep(self, step: int, folder: Path) -> str:
        size, epoch = self.config.batch_size, self.draws[0] // len(self.crops) + 1
        draws = self.draws[step * size : (step + 1) * size]
        path = None
        if self.accelerator.is_main_process:
            path = save_batch(folder, self.crops, draws, epoch, step)
        return (
            f"The loss or its gradient was no finite number in epoch {epoch}, step {step}, on crops of "
            f"{', '.join(names_of(self.crops, draws))}" + (f" (saved as {path})." if path else ".")
        )

    def _advice(self) -> str:
        return (
            f"Lower learning_rate ({self.config.learning_rate:g}), set clip_norm (1, say) or precision "
            "fp32. The last checkpoint is from the epoch before; resumed with on_nonfinite skip, a run "
            "leaves such batches out."
        )
