"""Train the runs of an experiment, each by notebook 04 through papermill."""

from __future__ import annotations

import asyncio
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ebclib.config import one_of, project_root, results_root
from ebclib.runs import Run, code_digest
from ebclib.studies.plan import Cell, Experiment

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
    between: loading takes longer than a short run. A run that fails is reported and the next begun, in
    another kernel. One that was stopped goes on from its last epoch; a finished one stays (`is_done`).

    Returns
    -------
    the names of runs that failed

    Raises
    ------
    ValueError : a name that is no run of the experiment; the nearest is given
    """
    cells, failed = experiment.cells, []
    names = list(cells) if names is None else list(names)
    for name in names:
        one_of(f"run of {experiment.name}", name, cells)
    kernel = None
    for number, name in enumerate(names, start=1):
        place = f"[{number}/{len(names)}] {name}"
        if is_done(cells[name], experiment):
            _say(f"{place}: finished before")
            continue
        kernel, start = kernel or _new_kernel(), time.perf_counter()
        try:
            _execute(cells[name], experiment, kernel)
        except Exception as problem:  # whatever it is, the other runs can go on
            failed.append(name)
            _say(f"{place}: FAILED, {type(problem).__name__}: {problem}")
            kernel = _shut_down(kernel)
            continue
        seconds, run = time.perf_counter() - start, cells[name].run
        _say(f"{place}: MAE {run.metrics['mae']:.1f} ({seconds:.0f} s)")
    _shut_down(kernel)
    return failed


def is_done(cell: Cell, experiment: Experiment) -> bool:
    """Whether a cell's run needs no training: finished, with the parameters asked for.

    Where the experiment follows the code, the run must also come from this code, and have its weights.
    """
    run = cell.run
    if not run.is_finished or cell.config.unlike(run.config):
        return False
    return not experiment.follow_code or (_is_of_this_code(run) and run.has_weights)


def begins_anew(cell: Cell, experiment: Experiment) -> bool:
    """Whether a run that is not done must be replaced, and cannot be gone on with.

    Its parameters are others, or, where the experiment follows the code, its code or missing weights.
    One that never began need not be replaced: another process may be about to begin it.
    """
    run = cell.run
    if not (run.path / "config.json").is_file():
        return False
    if cell.config.unlike(run.config):
        return True
    return experiment.follow_code and (run.is_finished or not _is_of_this_code(run))


def _is_of_this_code(run: Run) -> bool:
    try:
        return run.provenance.get("code_digest") == code_digest()
    except FileNotFoundError:  # killed as it began
        return False


def _execute(cell: Cell, experiment: Experiment, kernel: AsyncKernelManager) -> None:
    import nbformat
    import papermill
    from nbclient import NotebookClient

    folder = results_root() / "notebooks" / experiment.name / NOTEBOOK
    folder.mkdir(parents=True, exist_ok=True)
    part = folder / f"{cell.config.name}.part.ipynb"  # one that fails stays, to be read
    parameters: dict[str, Any] = {
        "dataset": cell.config.dataset,
        "name": cell.config.name,
        "overrides": {key: value for key, value in cell.given.items() if key != "dataset"},
        "replace": begins_anew(cell, experiment),
        "figures": experiment.runs_per_job == 1,
    }
    papermill.execute_notebook(
        project_root() / "notebooks" / f"{NOTEBOOK}.ipynb",
        part,
        parameters,
        kernel_name=kernel.kernel_name,
        progress_bar=False,
        km=kernel,
    )
    forget = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(_FORGET)])
    NotebookClient(forget, km=kernel).execute()
    part.replace(folder / f"{cell.config.name}.ipynb")


def _new_kernel() -> AsyncKernelManager:
    """A kernel that is spoken to through files in a folder of its own.

    By default they lie in the working folder under names that two kernels started at once both take.
    """
    from jupyter_client import AsyncKernelManager

    place = tempfile.mkdtemp(prefix="ebc-kernel-")
    return AsyncKernelManager(kernel_name="python3", transport="ipc", ip=f"{place}/socket")


def _shut_down(kernel: AsyncKernelManager | None) -> None:
    if kernel is None:
        return
    if kernel.has_kernel:
        asyncio.run(kernel.shutdown_kernel(now=True))
    shutil.rmtree(Path(kernel.ip).parent, ignore_errors=True)


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
