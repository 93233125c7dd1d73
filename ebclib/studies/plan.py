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

What several of them say may stand once, under ``shared``, as YAML's anchors. Cells that ask for the same
run share it. A run's name says its parameters: a changed one makes another run.
"""

from __future__ import annotations

import math
import re
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import product
from pathlib import Path
from typing import Any

import yaml

from ebclib.config import FIELDS, Config, make_config, one_of, project_root, results_root
from ebclib.runs import Run, code_digest

_TABLE_KEYS = ["caption", "note", "defaults", "seeds", "columns", "rows"]
_KEYS = ["title", "note", "defaults", "seeds", "follow_code", "runs_per_job", "notebooks", "tables"]


@dataclass(frozen=True)
class Cell:
    """One run in one place of a table."""

    row: str  # labels
    column: str
    config: Config

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
        # dealt like cards: the dear ones, which stand together, are spread over the jobs
        return {f"part-{number + 1}": names[number::count] for number in range(count)}


def names() -> list[str]:
    """The experiments there are: the YAML files of `notebooks/params/`."""
    return sorted(path.stem for path in _folder().glob("*.yaml"))


def load(name: str) -> Experiment:
    """An experiment by its name; ValueError where there is none, or its file makes no sense."""
    path = _folder() / f"{one_of('experiment', name, names())}.yaml"
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as problem:
        raise ValueError(f"{path}: not YAML ({problem}).") from problem
    _known(content, [*_KEYS, "shared"], f"{path}")
    note = content.get("note", "")
    tables = {}
    for key, table in content.get("tables", {}).items():
        where = f"{path}, {key}"
        _known(table, _TABLE_KEYS, where)
        cells = tuple(_cells(table, content, where))
        tables[key] = Table(key, table.get("caption", key), table.get("note", note), cells)
    return Experiment(
        name=path.stem,
        title=content.get("title", path.stem),
        note=note,
        follow_code=content.get("follow_code", False),
        runs_per_job=content.get("runs_per_job", 1),
        notebooks=content.get("notebooks", {}),
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
    base = content.get("defaults", {}) | table.get("defaults", {})
    cells = []
    for (row, of_row), (column, of_column) in product(rows.items(), columns.items()):
        given = base | of_column | of_row
        for seed in given.pop("seeds", table.get("seeds", content.get("seeds", [0]))):
            try:
                cells.append(Cell(row, column, make_config(**given, seed=seed)))
            except (TypeError, ValueError) as problem:
                raise ValueError(f"{where}, {row} × {column}: {problem}") from problem
    return cells


def _labelled(content: Any, where: str) -> dict[str, dict[str, Any]]:
    if not isinstance(content, dict) or not content:
        raise ValueError(f"{where}: labels with parameters are expected, not {content!r:.60}.")
    for label, given in content.items():
        _known(given, (*FIELDS, "seeds"), f"{where}, {label}")
    return {str(label): given for label, given in content.items()}


def unfinished(experiment: Experiment) -> list[str]:
    """Names of the runs that the experiment still lacks."""
    return sorted(name for name, cell in experiment.cells.items() if not cell.run.is_finished)


def is_done(cell: Cell, experiment: Experiment) -> bool:
    """Whether a cell's run is finished with its parameters, and of this code if the experiment follows it."""
    run = cell.run
    if not run.is_finished or cell.config.unlike(run.config):
        return False
    return not experiment.follow_code or (_is_of_this_code(run) and run.has_weights)


def begins_anew(cell: Cell, experiment: Experiment) -> bool:
    """Whether a run that is not done must be replaced, and cannot be gone on with (nor just begun)."""
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

    A run that fails is reported, and the next begun. One that was stopped goes on from its last epoch; a
    finished one stays (`is_done`). Gives the names of those that failed.

    Raises
    ------
    ValueError : a name that is no run of the experiment; the nearest is given
    """
    from ebclib.training import load_or_train, train  # they load for seconds

    cells, failed = experiment.cells, []
    names = list(cells) if names is None else names
    for name in names:
        one_of(f"run of {experiment.name}", name, cells)
    shows, say = sys.stderr.isatty(), partial(print, file=sys.stderr, flush=True)
    for number, name in enumerate(names, start=1):
        cell, place = cells[name], f"[{number}/{len(names)}] {name}"
        if is_done(cell, experiment):
            say(f"{place}: finished before")
            continue
        start, anew = time.perf_counter(), begins_anew(cell, experiment)
        try:
            if anew:
                run = train(cell.config, progress=shows, replace=True)
            else:
                run = load_or_train(cell.config, progress=shows)
        except Exception as problem:  # whatever it is, the other runs can go on
            failed.append(name)
            say(f"{place}: FAILED, {type(problem).__name__}: {problem}")
            continue
        seconds = time.perf_counter() - start
        say(f"{place}: MAE {run.metrics['mae']:.1f} ({seconds:.0f} s)")
    return failed


def check_parameters(namespace: Mapping[str, Any], allowed: Sequence[str]) -> dict[str, Any]:
    """The parameters of a notebook; papermill only warns about a mistyped ``-p``.

    Called with ``globals()`` in the cell below the parameters, this looks at the cells of assignments run
    just before, in ``namespace["In"]``: the notebook's own parameters, and papermill's after them.

    Raises
    ------
    ValueError : these cells assign a name that is not ``allowed``; the nearest one is given

    >>> check_parameters({"In": ["dataset = 'shb'", "check"], "dataset": "shb"}, ["dataset", "seed"])
    {'dataset': 'shb'}
    """
    for cell in reversed(namespace.get("In", [])[:-1]):
        lines = re.findall(r"^[^\s#)\]}].*", cell, re.MULTILINE)  # where a statement begins
        assigned = [re.match(r"(\w+) = ", line) for line in lines]
        if not all(assigned):
            break
        for match in assigned:
            one_of("parameter", match[1], allowed)
    return {name: namespace[name] for name in allowed if name in namespace}
