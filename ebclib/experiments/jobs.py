"""Train the runs of an experiment, each by notebook 04 through papermill."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..choices import choose
from ..config import project_root, results_root
from ..runs import Run, code_digest
from .plan import Cell, Experiment

if TYPE_CHECKING:
    from jupyter_client import AsyncKernelManager

NOTEBOOK = "04_train"

_FORGET = """\
%reset -f
import matplotlib.pyplot, accelerate.state
matplotlib.pyplot.close("all")
accelerate.state.AcceleratorState._reset_state(reset_partial_state=True)
get_ipython().execution_count = 0
%reset -f
"""


def train_runs(experiment: Experiment, names: Sequence[str] | None = None) -> list[str]:
    """Train what is missing among ``names`` (default: every run), one after the other; say how it goes.

    One kernel executes notebook 04 for all of them, and forgets everything but loaded libraries in
    between: loading takes longer than a short run. A run that fails is reported and the next begun. One
    that was stopped goes on from its last epoch; a finished one stays (see `is_done`).

    Returns
    -------
    the names of runs that failed
    """
    cells, failed = experiment.cells, []
    names = sorted(cells) if names is None else list(names)
    for name in names:
        choose(f"run of {experiment.name}", name, cells)
    with _kernel() as kernel:
        for number, name in enumerate(names, start=1):
            place = f"[{number}/{len(names)}] {name}"
            if is_done(cells[name], experiment):
                _say(f"{place}: finished before")
                continue
            start = time.perf_counter()
            try:
                _execute(cells[name], experiment, kernel)
            except Exception as problem:  # whatever it is, the other runs can go on
                failed.append(name)
                _say(f"{place}: FAILED, {type(problem).__name__}: {problem}")
                continue
            seconds, run = time.perf_counter() - start, cells[name].run
            _say(f"{place}: MAE {run.metrics['mae']:.1f} ({seconds:.0f} s)")
    return failed


def is_done(cell: Cell, experiment: Experiment) -> bool:
    """Whether a cell's run needs no training: finished, with the parameters asked for.

    Where the experiment follows the code, the run must also come from this code, and have its weights.
    """
    run = cell.run
    if not run.is_finished or not _has_parameters(run, cell):
        return False
    if not experiment.follow_code:
        return True
    same_code = run.provenance.get("code_digest") == code_digest()
    return same_code and (run.path / "model.safetensors").is_file()


def can_resume(cell: Cell) -> bool:
    """Whether the run was begun with the parameters asked for, and not finished."""
    run = cell.run
    return run.checkpoint.is_file() and not run.is_finished and _has_parameters(run, cell)


def executed(experiment: Experiment, notebook: str) -> Path:
    """Where an executed notebook of the experiment goes; of notebook 04, the name is the run's."""
    return results_root() / "notebooks" / experiment.name / f"{notebook}.ipynb"


def _has_parameters(run: Run, cell: Cell) -> bool:
    return (run.path / "config.json").is_file() and run.config == cell.config


def _execute(cell: Cell, experiment: Experiment, kernel: AsyncKernelManager) -> None:
    import nbformat
    import papermill
    from nbclient import NotebookClient

    out = executed(experiment, f"{NOTEBOOK}/{cell.config.name}")
    out.parent.mkdir(parents=True, exist_ok=True)
    part = out.with_suffix(".part.ipynb")
    parameters: dict[str, Any] = {**cell.given, "name": cell.config.name}
    parameters |= {"resume": can_resume(cell), "figures": experiment.runs_per_job == 1}
    logging.getLogger("papermill").setLevel(
        logging.ERROR
    )  # it warns of every comment it cannot parse
    try:
        papermill.execute_notebook(
            project_root() / "notebooks" / f"{NOTEBOOK}.ipynb",
            part,
            parameters,
            kernel_name=kernel.kernel_name,
            progress_bar=False,
            km=kernel,
        )
    finally:
        cell_of_code = nbformat.v4.new_code_cell(_FORGET)
        NotebookClient(nbformat.v4.new_notebook(cells=[cell_of_code]), km=kernel).execute()
    part.replace(out)


@contextmanager
def _kernel() -> Iterator[AsyncKernelManager]:
    """One kernel, started when the first notebook wants it."""
    import asyncio

    from jupyter_client import AsyncKernelManager

    kernel = AsyncKernelManager(kernel_name="python3", transport="ipc")
    try:
        yield kernel
    finally:
        if kernel.has_kernel:
            asyncio.run(kernel.shutdown_kernel(now=True))


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
