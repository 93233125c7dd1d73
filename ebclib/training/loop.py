"""The training loop, which can be stopped and resumed between any two epochs."""

from __future__ import annotations

import math
import time
import warnings
from typing import Any, cast

import numpy as np
import pandas as pd
import torch
from accelerate.utils import broadcast, set_seed
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel
from torch.utils.data import DataLoader
from tqdm.auto import tqdm

from ebclib import evaluation, losses
from ebclib.config import Config
from ebclib.data import PreparedSplit
from ebclib.data.augmentation import AUGMENTATIONS
from ebclib.data.crops import Batch, DeviceCrops, EpochSampler, TrainingCrops, collate
from ebclib.data.training_set import TrainingSet
from ebclib.models import BlockwiseModel, build_model
from ebclib.runs import Run, put_in_place, write_csv, write_whole
from ebclib.training.devices import (
    check_shares,
    make_accelerator,
    precision_of,
    processes,
    reading_processes,
    with_shared_statistics,
)

RESTART_EPOCHS = 5  # T_0; each following period is twice as long (T_mult = 2)
FIRST_RATE, LAST_RATE = 1e-2, 1e-3  # of the full learning rate: 1e-6 and 1e-7 in the paper
SAVE_EVERY_S = 600.0  # of training, where no validation came before: checkpoints can be gigabytes
READ_EVERY = 10  # steps between two looks at the loss: each makes the host wait for the device
KEPT = 10  # batches of a run without a finite loss that are saved; later ones are only named


def rate_factor(epoch: float, config: Config) -> float:
    """The share of ``config.learning_rate`` in force at a time counted in epochs, fractions included.

    Linear warm-up from 1 % over ``warmup_epochs``; then ``"restarts"``, cosine annealing with warm
    restarts (Loshchilov and Hutter 2017; periods of 5, 10, 20, … epochs, down to 0.1 %), or ``"cosine"``,
    one cosine down to 0.1 % at the last epoch.
    """
    if epoch < config.warmup_epochs:
        return FIRST_RATE + (1 - FIRST_RATE) * epoch / config.warmup_epochs
    since = epoch - config.warmup_epochs
    if config.schedule == "cosine":
        progress = since / max(config.epochs - config.warmup_epochs, 1e-9)
    else:
        restart = int(math.log2(since / RESTART_EPOCHS + 1))
        progress = (since / RESTART_EPOCHS + 1) / 2**restart - 1
    return LAST_RATE + (1 - LAST_RATE) * (1 + math.cos(math.pi * min(progress, 1))) / 2


@torch.no_grad()
def _average(ema: AveragedModel, network: nn.Module, decay: float) -> None:
    """A step of the moving average; `AveragedModel`'s own copies its counter to the device and waits."""
    share = 1 if ema.n_averaged == 0 else 1 - decay
    ema.n_averaged += 1
    mean, now = (
        [t for t in (*each.parameters(), *each.buffers()) if t.is_floating_point()]
        for each in (ema.module, network)
    )
    torch._foreach_lerp_(mean, now, share)


class Trainer:
    """A model, its optimiser, and where they stand between two epochs.

    Made in every process of a run; the first alone writes files.

    Attributes
    ----------
    network : the model that is trained
    ema : the moving average of its weights, None without ``ema_decay``
    measured : what is evaluated and stored: the average where there is one, else ``network``
    run : where files are written
    replaced : the run whose place ``run`` takes with its first weights, if any
    history : a row an epoch
    """

    def __init__(
        self,
        config: Config,
        task: TrainingSet,
        run: Run,
        progress: bool = True,
        replaced: Run | None = None,
    ) -> None:
        set_seed(config.seed)
        self.replaced = replaced
        self.config, self.task, self.run, self.progress = config, task, run, progress
        self.accelerator = make_accelerator(
            precision_of(config), log_with="tensorboard", project_dir=run.path / "tensorboard"
        )
        check_shares(config, len(task.train), self.accelerator.num_processes)
        self.loader = self._crops()
        network = build_model(config, task).to(memory_format=torch.channels_last)
        shared = with_shared_statistics(network, config, self.accelerator)
        self.network = cast(BlockwiseModel, shared)
        self.ema: AveragedModel | None = None
        self.measured = self.network
        if config.ema_decay is not None:
            self.ema = AveragedModel(self.network)
            self.measured = self.accelerator.prepare_model(self.ema.module, evaluation_mode=True)
        self.trained = [p for p in self.network.parameters() if p.requires_grad]
        self.skips = config.on_nonfinite == "skip"
        # The scaler of fp16 skips a step by itself; without it, only a fused optimiser can be told to.
        self.fused = True if self.skips and self.accelerator.scaler is None else None
        rate, decay = config.learning_rate, config.weight_decay
        adam = torch.optim.Adam(self.trained, rate, weight_decay=decay, fused=self.fused)
        self.model, self.optimizer = self.accelerator.prepare(self.network, adam)
        self.model = torch.compile(self.model) if config.compile else self.model
        cap = task.max_count if config.cap_target else None
        kind = str(config.count_loss)
        self.count_loss = losses.CountLoss(kind, config.block_size_px, cap, config.ot_weight)
        borders = torch.from_numpy(task.bins.lows[1:]).float()
        self.borders = borders.to(self.accelerator.device)
        self.test = task.test(config) if config.watch_test else None
        self.epoch, self.seconds, self.saved, self.best = 0, 0.0, 0.0, math.inf
        self.history: list[dict[str, Any]] = []
        if run.checkpoint.is_file():
            self._restore()

    def _crops(self) -> DataLoader | DeviceCrops:
        """This process's share of each global batch: from a DataLoader, or from images in memory."""
        config, device = self.config, self.accelerator.device
        self.crops = TrainingCrops(
            self.task.split,
            self.task.train.tolist(),
            cast(int, config.crop_px),
            config.block_size_px,
            config.max_scale,
            config.seed,
            config.smoothing_px if config.has_smoothed_labels else None,
            AUGMENTATIONS[config.augmentation],
        )
        self.sampler = EpochSampler(len(self.crops), config.seed)
        drop_last = len(self.crops) >= config.batch_size
        workers = reading_processes(config, self.accelerator)
        if config.resident is True or (config.resident == "auto" and device.type == "cuda"):
            process, count = self.accelerator.process_index, self.accelerator.num_processes
            rest = config.batch_size // count, device, drop_last, process, count, workers
            return DeviceCrops(self.crops, self.sampler, *rest)
        loader = DataLoader(
            self.crops,
            config.batch_size,
            sampler=self.sampler,
            num_workers=workers,
            drop_last=drop_last,
            pin_memory=device.type == "cuda",
            persistent_workers=workers > 0,
            collate_fn=collate,
        )
        return self.accelerator.prepare(loader)

    def fit(self) -> None:
        """Train what is left of ``config.epochs``, with a checkpoint after each validation.

        Raises
        ------
        FloatingPointError : a loss or gradient that is no finite number; its batch is named and saved
        """
        self.accelerator.init_trackers("training")
        bar = tqdm(
            total=self.config.epochs * len(self.loader),
            initial=self.epoch * len(self.loader),
            desc=f"Training {self.run.name}",
            unit="step",
            disable=not (self.progress and self.accelerator.is_main_process),
        )
        with bar:
            for epoch in range(self.epoch, self.config.epochs):
                start = time.perf_counter()
                # Crops have one size, so cuDNN may search for the fastest way; whole images vary.
                with torch.backends.cudnn.flags(enabled=True, benchmark=True, allow_tf32=True):
                    row = self._one_epoch(epoch, bar)
                is_last = epoch + 1 == self.config.epochs
                is_measured = is_last or (epoch + 1) % self.config.evaluate_every == 0
                if is_measured:
                    row |= self._validate()
                self.seconds += time.perf_counter() - start
                self.epoch = epoch + 1
                self.history.append(row | {"seconds": self.seconds})
                self.accelerator.log({k: v for k, v in row.items() if k != "epoch"}, step=epoch + 1)
                self._write_history()
                if is_measured or self.seconds - self.saved >= SAVE_EVERY_S:
                    self._save()
                self._replace()
        if not math.isfinite(self.best):
            raise FloatingPointError(
                "No validation gave a finite error, so no weights were kept: the model's counts are no "
                f"numbers. Lower learning_rate ({self.config.learning_rate:g}), or set clip_norm (1, say)."
            )
        for tracker in self.accelerator.trackers:  # end_training would part the processes too
            tracker.finish()

    def _one_epoch(self, epoch: int, bar: tqdm) -> dict[str, float]:
        self.model.train()
        self.sampler.epoch = epoch
        steps = len(self.loader)
        sums = torch.zeros(3, device=self.accelerator.device)
        bad = torch.zeros(steps, device=self.accelerator.device)  # 1 where a step was not finite
        told = 0
        for step, batch in enumerate(self.loader):
            rate = self.config.learning_rate * rate_factor(epoch + step / steps, self.config)
            for group in self.optimizer.param_groups:
                group["lr"] = rate
            parts, is_bad = self._one_step(batch)
            bad[step] = is_bad
            sums += parts.where(~is_bad, 0)
            if step % READ_EVERY == 0:
                loss, count = torch.stack([parts[0], bad.sum()]).tolist()
                told = self._tell(bad, int(count), told)
                bar.set_postfix(epoch=epoch + 1, loss=f"{loss:.0f}", refresh=False)
            bar.update()
        sums = self.accelerator.reduce(sums, "mean")  # over the processes
        *totals, count = torch.cat([sums, bad.sum()[None]]).tolist()
        self._tell(bad, int(count), told)
        loss, classification, count_loss = (total / (steps - count) for total in totals)
        row = {"epoch": epoch + 1, "learning_rate": rate, "loss": loss}
        row |= {"classification": classification, "count_loss": count_loss}
        return row | ({"skipped": int(count)} if self.config.on_nonfinite == "skip" else {})

    def _one_step(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """One step of the optimiser; the loss and its parts (3,), and whether they were not finite.

        Nothing here makes the host wait for the device, but for the scaler of fp16.
        """
        kept = [b.clone() for b in self.network.buffers()] if self.skips else []
        logits = self.model(batch.image.contiguous(memory_format=torch.channels_last))
        loss = self._loss(logits, batch)
        self.optimizer.zero_grad()
        self.accelerator.backward(loss.total)
        bad = self.accelerator.reduce((~loss.total.detach().isfinite()).float(), "sum") > 0
        if self.accelerator.scaler is None or self.config.clip_norm is not None:
            norm = self.accelerator.clip_grad_norm_(self.trained, self.config.clip_norm or math.inf)
            if self.accelerator.scaler is None:  # with it, gradients overflow now and then
                bad = bad | ~norm.isfinite()
        if self.fused:  # told to skip the step as GradScaler tells it
            self.optimizer.optimizer.found_inf = bad.float()
        if self.skips:  # the running statistics have seen the batch
            for buffer, before in zip(self.network.buffers(), kept, strict=True):
                buffer.copy_(torch.where(bad, before, buffer))
        self.optimizer.step()
        if self.ema is not None:
            _average(self.ema, self.network, cast(float, self.config.ema_decay))
        return torch.stack([part.detach() for part in loss]), bad

    def _tell(self, bad: Tensor, count: int, told: int) -> int:
        """Name the epoch's ``count`` steps marked in ``bad``, but for the ``told`` first; gives ``count``.

        Their batches are saved below `nonfinite/`, cut once more: a draw always gives the same crop. The
        marks are on the device, where a look at them makes the host wait, so looks are few.

        Raises
        ------
        FloatingPointError : under ``on_nonfinite="stop"``, or where no step of the epoch was finite
        """
        if count == told:
            return count
        stops = self.config.on_nonfinite == "stop"
        steps = bad.nonzero().flatten().tolist()[told:]
        messages = [self._keep_batch(step) for step in steps[: 1 if stops else None]]
        self.accelerator.wait_for_everyone()  # a process that ends now would end the one that writes
        if stops or count == len(bad):
            raise FloatingPointError(
                f"{messages[0]} Lower learning_rate ({self.config.learning_rate:g}), or set clip_norm (1, "
                "say) or precision fp32. Resumed with on_nonfinite skip, a run leaves such batches out."
            )
        if self.accelerator.is_main_process:
            warnings.warn(" ".join(messages), stacklevel=4)
        return count

    def _keep_batch(self, step: int) -> str:
        """Save the global batch of a step of this epoch, and say which it was."""
        size, epoch = self.config.batch_size, self.sampler.epoch + 1
        folder = self.run.path / "nonfinite"
        draws = list(self.sampler)[step * size : (step + 1) * size]
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

    def _loss(self, logits: Tensor, batch: Batch) -> losses.Loss:
        """DACE or ZIP of a classifier, the count loss alone of a regression model."""
        density = self.network.density(logits)
        if self.network.is_regression:
            target = batch.labels if self.count_loss.kind == "mse" else batch.counts
            count = self.count_loss(density, target, batch.points)
            return losses.Loss(count, torch.zeros_like(count.detach()), count.detach())
        classes = torch.bucketize(batch.labels.float(), self.borders, right=True)
        rest = (classes, batch.counts, self.config.count_weight, self.count_loss, batch.points)
        if self.network.is_zip:
            return losses.zip_loss(logits, self.network.rate(logits), density, *rest)
        return losses.dace(logits, density, *rest)

    def _validate(self) -> dict[str, float]:
        """Errors on the validation images that select; ``config.keep`` says which weights are kept."""
        broadcast(list(self.measured.buffers()))  # batch statistics differ between processes
        error = self._errors("Validation", self.task.split, self.task.halves(self.config)[0])
        if error["mae"] < self.best or (self.config.keep == "last" and math.isfinite(error["mae"])):
            self.best = error["mae"]
            self._store()
        row = {f"held_out_{name}": value for name, value in error.items()}
        if self.test is not None:
            row["test_mae"] = self._errors("Test, watched", self.test)["mae"]
        return row

    def _errors(
        self, title: str, split: PreparedSplit, indices: np.ndarray | None = None
    ) -> dict[str, float]:
        """Of the weights that are measured, on some of a split's images."""
        bar = title if self.progress else None
        found = evaluation.predict(self.measured, split, indices, progress=bar, state=processes())
        return evaluation.errors(found["points"], found["count"])

    def _replace(self) -> None:
        """Take the place of the run that this one replaces, once weights have been stored."""
        if self.replaced is None or not math.isfinite(self.best):
            return
        self.accelerator.wait_for_everyone()
        if self.accelerator.is_main_process:
            put_in_place(self.replaced)
        self.accelerator.wait_for_everyone()
        self.run, self.replaced = self.replaced, None

    def _store(self) -> None:
        """The weights that are measured, as the run's."""
        if self.accelerator.is_main_process:
            state = {k: v.contiguous() for k, v in self.measured.state_dict().items()}
            write_whole(self.run.path / "model.safetensors", lambda part: save_file(state, part))

    def _save(self) -> None:
        """The checkpoint, which any number of processes can go on from."""
        if not self.accelerator.is_main_process:
            return
        scaler = self.accelerator.scaler
        state = {
            "model": self.network.state_dict(),
            "ema": self.ema.state_dict() if self.ema is not None else None,
            "optimizer": self.optimizer.state_dict(),
            "scaler": scaler.state_dict() if scaler is not None else None,
            "epoch": self.epoch,
            "seconds": self.seconds,
            "best": self.best,
            "history": self.history,
        }
        write_whole(self.run.checkpoint, lambda part: torch.save(state, part))
        self.saved = self.seconds

    def _write_history(self) -> None:
        if self.accelerator.is_main_process:
            write_csv(self.run.path / "history.csv", pd.DataFrame(self.history))

    def _restore(self) -> None:
        state = torch.load(self.run.checkpoint, map_location="cpu", weights_only=True)
        self.network.load_state_dict(state["model"])
        if self.ema is not None:
            self.ema.load_state_dict(state["ema"])
        for group in state["optimizer"]["param_groups"]:
            group["fused"] = self.fused  # on_nonfinite may have changed
        self.optimizer.load_state_dict(state["optimizer"])
        if self.accelerator.scaler is not None and state.get("scaler"):
            self.accelerator.scaler.load_state_dict(state["scaler"])
        self.epoch, self.seconds, self.best = state["epoch"], state["seconds"], state["best"]
        self.history, self.saved = state["history"], self.seconds
        self._write_history()  # a process killed between the two files left the older one
