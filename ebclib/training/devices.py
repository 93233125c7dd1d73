"""Processes, devices and precision, through Accelerate; one process on one device is the usual case."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import torch
from accelerate import Accelerator, PartialState
from accelerate.state import AcceleratorState
from accelerate.utils import DataLoaderConfiguration, parse_flag_from_env
from filelock import FileLock, Timeout
from timm.layers import convert_sync_batchnorm
from torch import nn
from tqdm.auto import tqdm

from ebclib.config import Config
from ebclib.runs import Run

PATIENCE = timedelta(hours=4)  # the others wait while the first process prepares the data set


def processes() -> PartialState:
    """The processes of this run, joined on the first call; alone where no launcher started more.

    Raises
    ------
    ValueError : several processes on a CPU were asked of ``accelerate launch``, which started one
    """
    started = {"LOCAL_RANK", "RANK", "PMI_RANK", "OMPI_COMM_WORLD_RANK"} & os.environ.keys()
    asked = "ACCELERATE_USE_CPU" in os.environ and "MASTER_ADDR" in os.environ
    if asked and not started:
        raise ValueError(
            "accelerate launch was asked for several processes on a CPU and, without MPI, started one. "
            "Start them with `torchrun --nproc-per-node N -m ebclib …`, or one by --num_processes 1."
        )
    on_cpu = not torch.accelerator.is_available() and "LOCAL_RANK" in os.environ
    return PartialState(cpu=on_cpu or parse_flag_from_env("ACCELERATE_USE_CPU"), timeout=PATIENCE)


def shutdown_processes() -> None:
    """Let go of the other processes, at the end of a program."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def make_accelerator(precision: str, **options: Any) -> Accelerator:
    """Accelerate's handle on devices and precision; the processes share each batch between them.

    Accelerate keeps one precision a process; a notebook that trains in another one starts it anew.
    """
    torch.backends.cuda.matmul.allow_tf32 = True  # as in cuDNN's convolutions
    mixed = "no" if precision == "fp32" else precision
    options["dataloader_config"] = DataLoaderConfiguration(split_batches=True, non_blocking=True)
    try:
        return Accelerator(mixed_precision=mixed, **options)
    except ValueError:  # the process has an accelerator of another precision
        AcceleratorState._reset_state()
        return Accelerator(mixed_precision=mixed, **options)


def precision_of(config: Config, device: torch.device | None = None) -> str:
    """fp32, bf16 or fp16: what is asked for, or what ``device`` multiplies fastest.

    None is the machine's GPU, or its processor where it has none.
    """
    if config.precision != "auto":
        return config.precision
    if torch.cuda.is_available() if device is None else device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"
    able = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    return "bf16" if able.get("avx512_bf16") or able.get("amx_bf16") else "fp32"


def check_shares(config: Config, images: int, count: int) -> None:
    """Refuse a batch, or an epoch of ``images``, that ``count`` processes cannot share equally."""
    if count == 1:
        return
    size = config.batch_size
    if size % count:
        raise ValueError(
            f"batch_size {size} is the global batch, which {count} processes cannot share equally: "
            f"give a multiple of {count}, or start another number of processes."
        )
    if size > images:
        raise ValueError(
            f"batch_size {size} is more than the {images} images trained on, which {count} processes "
            f"cannot share: give at most {images - images % count}, or start one process."
        )


def with_shared_statistics(network: nn.Module, config: Config, state: PartialState) -> nn.Module:
    """The network with batch normalisation over the batches of all processes: on GPUs alone.

    On CPUs each normalises its own share, which is said in a warning; the first one's statistics are kept.
    """
    has_statistics = any(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in network.modules())
    if state.num_processes == 1 or not config.sync_batch_norm or not has_statistics:
        return network
    if state.device.type != "cpu":
        return convert_sync_batchnorm(network)  # timm's, which keeps the activations of its norms
    if state.is_main_process:
        warnings.warn(
            "On CPU processes batch normalisation is over each process's own share of the batch: the "
            "run differs from that of one process. sync_batch_norm false silences this.",
            stacklevel=2,
        )
    return network


def reading_processes(config: Config, state: PartialState) -> int:
    """What makes crops: nobody else on a CPU, which the model keeps busy; up to 8 beside a GPU."""
    if config.workers != "auto":
        return config.workers
    cores = (os.cpu_count() or 1) // state.num_processes
    return 0 if state.device.type == "cpu" else min(8, max(cores, 1))


@contextmanager
def run_lock(run: Run, state: PartialState, progress: bool = False) -> Iterator[None]:
    """Keep other launches from writing ``run`` meanwhile, or wait until one that does has ended.

    The first process of a launch holds the lock, a file beside the run's folder, and the others wait for
    it; held already, it is held once more. The operating system lets go of it when that process ends,
    killed or not; the file stays.
    """
    path = run.path.parent / f"{run.name}.lock"
    lock = FileLock(path, is_singleton=True)
    if state.is_main_process:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            if progress:
                text = f"Another process writes run {run.name!r}; waiting for it to end."
                tqdm.write(text, file=sys.stderr)
            lock.acquire()
    try:
        state.wait_for_everyone()
        yield
    finally:
        lock.release()
