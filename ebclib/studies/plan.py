"""Which runs fill which cell of which table, said in YAML.

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

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from ebclib.config import FIELDS, Config, make_config, one_of, project_root, results_root
from ebclib.runs import Run

_KEYS = (
    *("title", "note", "defaults", "seeds", "follow_code", "runs_per_job", "notebooks", "tables"),
    "shared",
)
_TABLE_KEYS = ("caption", "note", "defaults", "seeds", "columns", "rows")


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
    tables = {}
    for key, table in (content.get("tables") or {}).items():
        where = f"{path}, {key}"
        _known(table, _TABLE_KEYS, where)
        tables[key] = Table(
            name=key,
            caption=str(table.get("caption", key)),
            note=str(table.get("note", content.get("note", ""))),
            cells=tuple(_cells(table, content, where)),
        )
    return Experiment(
        name=path.stem,
        title=str(content.get("title", path.stem)),
        note=str(content.get("note", "")),
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
