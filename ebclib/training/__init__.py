"""From a config to a finished run: on one processor or GPU, or on many of them at once.

| module | what is in it |
|---|---|
| `running` | `train` and `load_or_train`: what a run is from its beginning to its end |
| `measuring` | `evaluate` and `submit`: a run's weights on its own images, or others |
| `loop` | `Trainer`: the model, its optimiser, the rate over time, and the loop |
| `devices` | processes, devices and precision (Accelerate); one launch at a time writes a run |

A run on many devices is started by the launcher that its machine has; nothing in the config changes:

    accelerate launch --num_processes 4 -m ebclib train qnrf         # four GPUs
    torchrun --nproc-per-node 2 -m ebclib train synthetic            # two processes on a CPU
    accelerate.notebook_launcher(training.train, (config,), num_processes=2)      # from a notebook

``batch_size`` is the *global* batch: N processes take an equal share of it each, of the same crops in
the same order as one process would, and their gradients are averaged. So a run is the same on any
number of devices, up to rounding and one thing: batch normalisation. Its statistics are of the whole
batch on GPUs (``sync_batch_norm``), and of each process's own share on CPUs, always.
"""

from ebclib.training.devices import precision_of, run_lock, shutdown_processes
from ebclib.training.loop import Trainer, rate_factor
from ebclib.training.measuring import evaluate, metrics_suffix, open_model, submit
from ebclib.training.running import load_or_train, train

__all__ = [
    "Trainer",
    "evaluate",
    "load_or_train",
    "metrics_suffix",
    "open_model",
    "precision_of",
    "rate_factor",
    "run_lock",
    "shutdown_processes",
    "submit",
    "train",
]
