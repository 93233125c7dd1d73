"""From a config to a finished run: on one processor or GPU, or on many of them at once.

| module | what is in it |
|---|---|
| `running` | `train` and `trained`: what a run is from its beginning to its end |
| `measuring` | `evaluate` and `submit`: a run's weights on its own pictures, or others |
| `lock` | one launch at a time writes a run |
| `trainer` | `Trainer`: the model, its optimiser, and the loop |
| `schedule` | `rate_factor`: the learning rate over time |
| `devices` | processes, devices and precision (Accelerate) |
| `nonfinite` | what becomes of a batch whose loss is no number |

A run on many devices is started by the launcher that its machine has; nothing in the config changes:

    accelerate launch --num_processes 4 -m ebclib train qnrf         # four GPUs
    torchrun --nproc-per-node 2 -m ebclib train synthetic            # two processes on a CPU
    accelerate.notebook_launcher(training.train, (config,), num_processes=2)      # from a notebook

``batch_size`` is the *global* batch: N processes take an equal share of it each, of the same crops in
the same order as one process would, and their gradients are averaged. So a run is the same on any
number of devices, up to rounding and one thing: batch normalisation. Its statistics are of the whole
batch on GPUs (``sync_batch_norm``), and of each process's own share on CPUs, always.
"""

from .devices import make_accelerator, part, precision_of
from .lock import only_writer
from .measuring import evaluate, measured, open_model, submit
from .running import train, trained
from .schedule import rate_factor
from .trainer import Trainer

__all__ = [
    "Trainer",
    "evaluate",
    "make_accelerator",
    "measured",
    "only_writer",
    "open_model",
    "part",
    "precision_of",
    "rate_factor",
    "submit",
    "train",
    "trained",
]
