"""Experiments: which runs fill which cell of which table, said in YAML; and training them.

`notebooks/params/<name>.yaml` is an experiment. A table is rows times columns; a cell's run is what the
experiment, the table, the column and the row say together, each over the one before:

    title: …                 what it is, for headings
    note: …                  stands below every table
    defaults: {dataset: shb, recipe: paper}
    seeds: [0]               a table or a row may have seeds of its own
    notebooks: {01_count_distribution: {dataset: shb}, …}      parameters of the other notebooks
    tables:
      table4:
        caption: …
        defaults: {head: linear}
        columns: {VGG16: {model: vgg16}, MobileNetV2: {model: mobilenetv2}}
        rows: {Blockwise: {bins: interval, count_weight: 0}, EBC: {}}

What several of them say may stand once, under ``shared``, as YAML's anchors and merges have it. Cells
that ask for the same run share it. What a run is, only `Config` knows: a run's name says its
parameters, so that a changed one makes another run and leaves all others alone.
"""

from __future__ import annotations

import ast
import asyncio
import math
import shutil
import sys
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from ebclib.config import FIELDS, Config, make_config, one_of, project_root, results_root
from ebclib.runs import Run, code_digest

if TYPE_CHECKING:
    from jupyter_client import AsyncKernelManager

_KEYS = (
    *("title", "note", "defaults", "seeds", "follow_code", "runs_per_job", "notebooks", "tables"),
    "shared",
)
_TABLE_KEYS = ("caption", "note", "defaults", "seeds", "columns", "rows")

_FORGET = """\
%reset -f
import matplotlib.pyplot, accelerate.state
matplotlib.pyplot.close("all")
accelerate.state.AcceleratorState._reset_state(reset_partial_state=True)
get_ipython().execution_count = 0
%reset -f
"""


@dataclass(frozen=True)
class Cell:
    """One run in one place of a table."""

    row: str  # labels
    column: str
    given: Mapping[str, Any]  # what was asked for, the arguments of `make_config`
    config: Config  # and what it means

    @property
    def run(self) -> Run:
        """The run, finished or not."""
        return Run(results_root() / "runs" / self.config.name)


@dataclass(frozen=True)
class Table:
    """A table of an experiment: its cells, in the order of rows, columns, seeds."""

    name: str
    caption: str
    note: str
    cells: tuple[Cell, ...]

    @property
    def rows(self) -> list[str]:
        """Labels of the rows, in order."""
        return list(dict.fromkeys(cell.row for cell in self.cells))

    @property
    def columns(self) -> list[str]:
        """Labels of the columns, in order."""
        return list(dict.fromkeys(cell.column for cell in self.cells))

    def at(self, row: str, column: str) -> list[Cell]:
        """The cells of one place: one a seed."""
        return [cell for cell in self.cells if (cell.row, cell.column) == (row, column)]


@dataclass(frozen=True)
class Experiment:
    """What `notebooks/params/<name>.yaml` says."""

    name: str
    title: str
    note: str
    follow_code: bool  # runs are trained again whenever `ebclib` changes (a demo)
    runs_per_job: int  # trained one after the other by one process, which loads the libraries once
    notebooks: Mapping[str, Mapping[str, Any]]  # parameters of each notebook that is run once
    tables: Mapping[str, Table]

    @cached_property
    def cells(self) -> dict[str, Cell]:
        """A cell for each run, by the run's name and in the file's order; the first that asks for it."""
        found: dict[str, Cell] = {}
        for table in self.tables.values():
            for cell in table.cells:
                found.setdefault(cell.config.name, cell)
        return found

    @property
    def jobs(self) -> dict[str, list[str]]:
        """Names of runs by the job that trains them: the run's own name, or `part-1`, `part-2`, …"""
        names = sorted(self.cells)
        if self.runs_per_job == 1:
            return {name: [name] for name in names}
        count = math.ceil(len(names) / self.runs_per_job)
        # dealt like cards, so that the dear ones, which stand together, are spread over the jobs
        return {f"part-{number + 1}": names[number::count] for number in range(count)}


def names() -> list[str]:
    """The experiments there are: the YAML files of `notebooks/params/`."""
    return sorted(path.stem for path in _folder().glob("*.yaml"))


def load(name: str) -> Experiment:
    """An experiment by its name.

    Raises
    ------
    ValueError : no such experiment (the nearest is named), or a file that makes no sense; says where
    """
    path = _folder() / f"{one_of('experiment', name, names())}.yaml"
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as problem:
        raise ValueError(f"{path}: not YAML ({problem}).") from problem
    _known(content, _KEYS, f"{path}")
    note = str(content.get("note", ""))
    tables = {}
    for key, table in (content.get("tables") or {}).items():
        where = f"{path}, {key}"
        _known(table, _TABLE_KEYS, where)
        cells = tuple(_cells(table, content, where))
        tables[key] = Table(
            key, str(table.get("caption", key)), str(table.get("note", note)), cells
        )
    return Experiment(
        name=path.stem,
        title=str(content.get("title", path.stem)),
        note=note,
        follow_code=bool(content.get("follow_code", False)),
        runs_per_job=int(content.get("runs_per_job", 1)),
        notebooks={k: dict(v or {}) for k, v in (content.get("notebooks") or {}).items()},
        tables=tables,
    )


def _folder() -> Path:
    return project_root() / "notebooks" / "params"


def _known(content: Any, keys: Sequence[str], where: str) -> None:
    if not isinstance(content, dict):
        raise ValueError(f"{where}: lines such as `title: …` are expected, not {content!r:.60}.")
    for key in content:
        one_of(f"{where}: key", str(key), keys)


def _cells(table: Mapping[str, Any], content: Mapping[str, Any], where: str) -> list[Cell]:
    """Rows times columns times seeds."""
    rows, columns = (_labelled(table.get(key), f"{where}, {key}") for key in ("rows", "columns"))
    base = {**(content.get("defaults") or {}), **(table.get("defaults") or {})}
    cells = []
    for row, of_row in rows.items():
        for column, of_column in columns.items():
            given = {**base, **of_column, **of_row}
            seeds = given.pop("seeds", table.get("seeds", content.get("seeds", [0])))
            for seed in seeds:
                own = given | {"seed": seed}
                try:
                    cells.append(Cell(row, column, own, make_config(**own)))
                except (TypeError, ValueError) as problem:
                    raise ValueError(f"{where}, {row} × {column}: {problem}") from problem
    return cells


def _labelled(content: Any, where: str) -> dict[str, dict[str, Any]]:
    if not isinstance(content, dict) or not content:
        raise ValueError(
            f"{where}: labels with their parameters are expected, not {content!r:.60}."
        )
    for label, given in content.items():
        _known(given or {}, (*FIELDS, "seeds"), f"{where}, {label}")
    return {str(label): dict(given or {}) for label, given in content.items()}


def unfinished(experiment: Experiment) -> list[str]:
    """Names of the runs that the experiment still lacks."""
    return sorted(name for name, cell in experiment.cells.items() if not cell.run.is_finished)


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


def _execute(cell: Cell, experiment: Experiment, kernel: AsyncKernelManager) -> None:
    import nbformat
    import papermill
    from nbclient import NotebookClient

    folder = results_root() / "notebooks" / experiment.name / "04_train"
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
        project_root() / "notebooks" / "04_train.ipynb",
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


def check_parameters(namespace: Mapping[str, Any], allowed: Iterable[str]) -> dict[str, Any]:
    """The parameters of a notebook; a name that its parameters cells assign beside them is an error.

    papermill only warns about a mistyped ``-p``. Called with ``globals()`` in the cell below the
    parameters, this looks at the cells run just before, in ``namespace["In"]``: the notebook's own
    parameters cell, and the one that papermill puts after it.

    Raises
    ------
    ValueError : a parameters cell assigns a name that is not ``allowed``; the nearest one is given

    >>> check_parameters({"In": ["dataset = 'shb'", "check"], "dataset": "shb"}, ["dataset", "seed"])
    {'dataset': 'shb'}
    """
    allowed = list(allowed)
    for cell in reversed(namespace.get("In", [])[:-1]):
        names = _assigned(cell)
        if not names:
            break
        for name in names:
            one_of("parameter", name, allowed)
    return {name: namespace[name] for name in allowed if name in namespace}


def _assigned(cell: str) -> list[str]:
    """The names that a cell assigns; none where it does anything else."""
    try:
        lines = ast.parse(cell).body
    except SyntaxError:  # a magic, say
        return []
    targets = [
        t for line in lines for t in (line.targets if isinstance(line, ast.Assign) else [line])
    ]
    return [t.id for t in targets] if all(isinstance(t, ast.Name) for t in targets) else []
