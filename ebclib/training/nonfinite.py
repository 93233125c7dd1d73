"""What becomes of a batch whose loss or gradient is no finite number: it is named, and kept."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path

import torch
from accelerate import Accelerator
from safetensors.torch import save_file

from ebclib.config import Config
from ebclib.data.crops import TrainingCrops, collate
from ebclib.runs import write_whole

KEPT = 10
"""How many such batches of a run are saved; later ones are only named."""


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
        """Tell of the ``count`` steps marked so far, and keep the new ones' batches in ``folder``.

        Raises
        ------
        FloatingPointError : a marked step under ``on_nonfinite="stop"``; or the epoch is ``finished``
            and has no other
        """
        if count == self.seen:
            return
        stops = self.config.on_nonfinite == "stop"
        steps = self.bad.nonzero().flatten().tolist()[self.seen :]
        self.seen = int(count)
        messages = [self._keep(step, folder) for step in steps[: 1 if stops else None]]
        self.accelerator.wait_for_everyone()  # a process that ends now would end the one that writes
        if stops or (finished and count == len(self.bad)):
            raise FloatingPointError(
                f"{messages[0]} Lower learning_rate ({self.config.learning_rate:g}), or set clip_norm (1, "
                "say) or precision fp32. Resumed with on_nonfinite skip, a run leaves such batches out."
            )
        if self.accelerator.is_main_process:
            warnings.warn(" ".join(messages), stacklevel=4)

    def _keep(self, step: int, folder: Path) -> str:
        """Save a step's batch, cut once more: a draw always gives the same crop."""
        size, epoch = self.config.batch_size, self.draws[0] // len(self.crops) + 1
        draws = self.draws[step * size : (step + 1) * size]
        indices = [int(self.crops.indices[draw % len(self.crops)]) for draw in draws]
        names = ", ".join(self.crops.split.names[index] for index in indices)
        where = f"epoch {epoch}, step {step}, on crops of {names}"
        text = f"The loss or its gradient was no finite number in {where}"
        if not self.accelerator.is_main_process or len(list(folder.glob("*"))) >= KEPT:
            return f"{text}."
        batch = collate([self.crops[draw] for draw in draws])
        tensors = {
            "images": batch.image.contiguous(),  # uint8 (B, 3, H, W)
            "counts": batch.counts,  # (B, h, w)
            "points": torch.cat(batch.points),  # (Σn_b, 2)
            "people": torch.tensor([len(points) for points in batch.points]),  # n_b
        }
        path = folder / f"epoch{epoch:04d}_step{step:05d}.safetensors"
        write_whole(path, lambda part: save_file(tensors, part, metadata={"images": names}))
        return f"{text} (saved as {path})."
