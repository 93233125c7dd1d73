"""The training loop: one function from a config to a finished run, which can be stopped and resumed."""

from __future__ import annotations

import math
import os
import shutil
import time
from typing import Any

import pandas as pd
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.utils import set_seed
from safetensors.torch import save_file
from torch import Tensor
from torch.utils.data import DataLoader
from tqdm import tqdm

from . import datasets, evaluation, losses
from .config import Config, results_root
from .runs import Run, provenance, write_csv, write_json, write_whole
from .task import Task, build_model, load_model
from .transforms import Batch, EpochSampler, TrainingCrops, collate

PAPER_RESTART_EPOCHS = 5  # T_0; each following period is twice as long (T_mult = 2)
FIRST_RATE, LAST_RATE = 1e-2, 1e-3  # of the full learning rate: 1e-6 and 1e-7 in the paper


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
        restart = int(math.log2(since / PAPER_RESTART_EPOCHS + 1))
        period = PAPER_RESTART_EPOCHS * 2**restart
        progress = (since - PAPER_RESTART_EPOCHS * (2**restart - 1)) / period
    return LAST_RATE + (1 - LAST_RATE) * (1 + math.cos(math.pi * min(progress, 1))) / 2


def precision_of(config: Config) -> str:
    """fp32, bf16 or fp16: what is asked for, or what this machine multiplies fastest."""
    if config.precision != "auto":
        return config.precision
    if torch.cuda.is_available():
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"
    able = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    return "bf16" if able.get("avx512_bf16") or able.get("amx_bf16") else "fp32"


def train(config: Config, resume: bool = False, progress: bool = True) -> Run:
    """Train, select on the held-out pictures, evaluate on the test split, and leave a run.

    Parameters
    ----------
    config : from `make_config`, which names the run
    resume : go on from the run's last checkpoint; the result is that of a run never stopped. A
        finished run is returned as it is, and one that never began is begun. Without it, a run of
        the same name is replaced.
    progress : show progress bars

    Raises
    ------
    FileNotFoundError : the data set is not there
    ValueError : resuming a run of another config
    """
    if not config.name:
        raise ValueError("The config names no run: make it with make_config, or give name.")
    run = Run(results_root() / "runs" / config.name)
    task = Task.of(config, progress)
    started = resume and (run.path / "config.json").is_file()
    if started:
        _same_config(run, config)
        if run.is_finished:
            return run
    else:
        shutil.rmtree(run.path, ignore_errors=True)
        facts = provenance(precision_of(config), task.split.digest)
    trainer = Trainer(config, task, run, progress)
    if not started:
        write_json(run.path / "config.json", config.to_dict())
        facts["weights"] = trainer.network.weights_source
        write_json(run.path / "provenance.json", facts)
    trainer.fit()
    return evaluate(run, progress=progress, task=task)


class Trainer:
    """A model, its optimiser, and where they stand between two epochs."""

    def __init__(self, config: Config, task: Task, run: Run, progress: bool = True) -> None:
        set_seed(config.seed)
        self.config, self.task, self.run, self.progress = config, task, run, progress
        precision = precision_of(config)
        self.accelerator = make_accelerator(
            precision, log_with="tensorboard", project_dir=run.path / "tensorboard"
        )
        crops = TrainingCrops(
            task.split,
            task.train,
            config.crop_px,
            config.block_size_px,
            config.max_scale,
            config.seed,
            config.smoothing_px if config.has_smoothed_labels else None,
        )
        self.sampler = EpochSampler(len(crops), config.seed)
        loader = DataLoader(
            crops,
            config.batch_size,
            sampler=self.sampler,
            num_workers=_workers(config, self.accelerator.device),
            drop_last=len(crops) >= config.batch_size,
            pin_memory=self.accelerator.device.type == "cuda",
            collate_fn=collate,
        )
        self.network = build_model(config, task).to(memory_format=torch.channels_last)
        optimizer = torch.optim.Adam(
            [p for p in self.network.parameters() if p.requires_grad],
            config.learning_rate,
            weight_decay=config.weight_decay,
        )
        self.model, self.optimizer, self.loader = self.accelerator.prepare(
            self.network, optimizer, loader
        )
        self.count_loss = losses.CountLoss(
            config.count_loss,
            config.block_size_px,
            task.bins.open_from if config.cap_target else None,
            config.solver,
            config.ot_weight,
        )
        borders = torch.from_numpy(task.bins.lows[1:]).float()
        self.borders = borders.to(self.accelerator.device)
        self.epoch, self.seconds, self.best = 0, 0.0, math.inf
        self.history: list[dict[str, Any]] = []
        if run.checkpoint.is_file():
            self._restore()

    def fit(self) -> None:
        """Train what is left of ``config.epochs``; a checkpoint after each."""
        self.accelerator.init_trackers("training")
        epochs = range(self.epoch, self.config.epochs)
        bar = tqdm(
            total=self.config.epochs * len(self.loader),
            initial=self.epoch * len(self.loader),
            desc=f"Training {self.run.name}",
            unit="step",
            disable=not (self.progress and self.accelerator.is_main_process),
        )
        with bar:
            for epoch in epochs:
                start = time.perf_counter()
                row = self._one_epoch(epoch, bar)
                if (epoch + 1) % self.config.evaluate_every == 0 or epoch + 1 == self.config.epochs:
                    row |= self._look_at_held_out()
                self.seconds += time.perf_counter() - start
                self.epoch = epoch + 1
                self.history.append(row | {"seconds": self.seconds})
                self.accelerator.log({k: v for k, v in row.items() if k != "epoch"}, step=epoch + 1)
                self._save()
        self.accelerator.end_training()

    def _one_epoch(self, epoch: int, bar: tqdm) -> dict[str, float]:
        self.model.train()
        self.sampler.epoch = epoch
        sums = torch.zeros(3, device=self.accelerator.device)
        for step, batch in enumerate(self.loader):
            rate = self.config.learning_rate * rate_factor(
                epoch + step / len(self.loader), self.config
            )
            for group in self.optimizer.param_groups:
                group["lr"] = rate
            logits = self.model(batch.picture.contiguous(memory_format=torch.channels_last))
            loss = self._loss(logits, batch)
            self.optimizer.zero_grad()
            self.accelerator.backward(loss.total)
            self.optimizer.step()
            sums += torch.stack([part.detach() for part in loss])
            if step % 10 == 0:
                bar.set_postfix(
                    epoch=epoch + 1, loss=f"{loss.total.detach().item():.0f}", refresh=False
                )
            bar.update()
        total, classification, count = (sums / len(self.loader)).tolist()
        if not math.isfinite(total):
            raise FloatingPointError(
                f"The loss of epoch {epoch + 1} is {total}. Lower learning_rate "
                f"({self.config.learning_rate:g}), or set precision to fp32; the last checkpoint is "
                "from the epoch before."
            )
        parts = {"classification": classification, "count_loss": count}
        return {"epoch": epoch + 1, "learning_rate": rate, "loss": total, **parts}

    def _loss(self, logits: Tensor, batch: Batch) -> losses.Loss:
        """DACE of a classifier, the count loss alone of a regression model."""
        density = self.network.density(logits)
        if self.network.is_regression:
            target = batch.labels if self.count_loss.kind == "mse" else batch.counts
            count = self.count_loss(density, target, batch.points)
            return losses.Loss(count, torch.zeros_like(count.detach()), count.detach())
        classes = torch.bucketize(batch.labels.float(), self.borders, right=True)
        weight = self.config.count_weight
        return losses.dace(
            logits, density, classes, batch.counts, weight, self.count_loss, batch.points
        )

    def _look_at_held_out(self) -> dict[str, float]:
        """Errors on the held-out pictures; the weights are kept where their MAE is the least so far."""
        held = evaluation.predict(
            self.model,
            self.task.split,
            self.task.held_out,
            self.network,
            progress=self._bar("Held-out"),
        )
        error = evaluation.errors(held["points"], held["count"])
        if error["mae"] < self.best:
            self.best = error["mae"]
            state = {k: v.contiguous() for k, v in self.network.state_dict().items()}
            write_whole(self.run.path / "model.safetensors", lambda part: save_file(state, part))
        return {"held_out_mae": error["mae"], "held_out_rmse": error["rmse"]}

    def _bar(self, text: str) -> str | None:
        return text if self.progress else None

    def _save(self) -> None:
        state = {
            "model": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "epoch": self.epoch,
            "seconds": self.seconds,
            "best": self.best,
            "history": self.history,
        }
        write_whole(self.run.checkpoint, lambda part: torch.save(state, part))
        write_csv(self.run.path / "history.csv", pd.DataFrame(self.history))

    def _restore(self) -> None:
        state = torch.load(self.run.checkpoint, map_location="cpu", weights_only=True)
        self.network.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.epoch, self.seconds, self.best = state["epoch"], state["seconds"], state["best"]
        self.history = state["history"]


def evaluate(
    run: Run, split: str | None = None, progress: bool = True, task: Task | None = None
) -> Run:
    """Measure a run's weights, and write predictions and metrics into its folder.

    Parameters
    ----------
    run : a run with weights
    split : the split to count; None takes the one that the data set's papers report. The files of
        another split carry its name (`metrics-val.json`).
    """
    config = run.config
    task = task or Task.of(config, progress)
    reported = datasets.describe(config.dataset).test_split
    split = split or reported
    suffix = "" if split == reported else f"-{split}"
    pictures = datasets.prepared(config.dataset, split, progress=progress)
    precision = precision_of(config)
    accelerator = make_accelerator(precision)
    network = load_model(run, accelerator.device).to(memory_format=torch.channels_last)
    model = accelerator.prepare_model(network, evaluation_mode=True)
    held = evaluation.predict(
        model, task.split, task.held_out, network, "Held-out pictures" if progress else None
    )
    found = evaluation.predict(
        model, pictures, None, network, f"{config.dataset} {split}" if progress else None
    )
    factor = evaluation.conformal_factor(held)
    found = evaluation.with_intervals(found, factor)
    history = run.history
    metrics = {
        "dataset": config.dataset,
        "split": split,
        **evaluation.summarise(found, task.split.counts),
        "held_out_mae": evaluation.errors(held["points"], held["count"])["mae"],
        "held_out_images": len(held),
        "interval_factor": factor if math.isfinite(factor) else None,
        "epochs": len(history),
        "training_minutes": round(history["seconds"].iloc[-1] / 60, 2),
        "representatives": task.representatives.round(4).tolist(),
    }
    write_csv(run.path / f"predictions{suffix}.csv", found)
    write_json(run.path / f"metrics{suffix}.json", metrics)
    if not suffix:
        shutil.rmtree(run.checkpoint.parent, ignore_errors=True)
    return run


def make_accelerator(precision: str, **options: Any) -> Accelerator:
    """Accelerate's handle on devices and precision.

    Accelerate keeps one precision a process; a notebook that trains in another one starts it anew.
    """
    mixed = "no" if precision == "fp32" else precision
    try:
        return Accelerator(mixed_precision=mixed, **options)
    except ValueError:  # the process has an accelerator of another precision
        AcceleratorState._reset_state()
        return Accelerator(mixed_precision=mixed, **options)


def _same_config(run: Run, config: Config) -> None:
    """Resuming must go on with the same parameters; how many workers read the crops is free."""
    old, new = run.config.to_dict(), config.to_dict()
    differ = [key for key in new if key != "workers" and old[key] != new[key]]
    if differ:
        lines = "; ".join(f"{key} was {old[key]!r}, now {new[key]!r}" for key in differ)
        raise ValueError(f"Run {run.name!r} cannot be resumed with other parameters: {lines}.")


def _workers(config: Config, device: torch.device) -> int:
    """Reading processes: none on a CPU, whose cores the model keeps busy; up to 8 beside a GPU."""
    if config.workers != "auto":
        return config.workers
    return 0 if device.type == "cpu" else min(8, os.cpu_count() or 1)
