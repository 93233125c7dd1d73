"""A data frame as a printed table: headings with their spans, and every cell as text.

LaTeX and HTML are two ways to write the same layout down, so a cell reads alike in both.
"""

from __future__ import annotations

import math
import re
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Literal

import numpy as np
import pandas as pd

from ebclib.choices import choose

Best = Literal["min", "max"]
"""Which number of a column is the best one."""

MISSING = "–"
"""What stands where there is no value."""

_NUMBER = re.compile(r"\s*([-−+]?\d+(?:\.\d+)?(?:e[-−+]?\d+)?)\s*(?:%|±.*|\(.*\))?$", re.IGNORECASE)


@dataclass(frozen=True)
class Heading:
    """A heading, and over how many columns it stands; of a line's label, beside how many lines."""

    text: str
    span: int = 1


@dataclass(frozen=True)
class Cell:
    """A value as text, the run it is from where that is known, and whether it is a column's best."""

    text: str
    run: str = ""
    is_best: bool = False


@dataclass(frozen=True)
class Row:
    """A line of the body; where a label of a line above stands for this one too, its own is None."""

    labels: tuple[Heading | None, ...]
    cells: tuple[Cell, ...]

    @property
    def begins_group(self) -> bool:
        """Whether the outermost of several labels is a new one."""
        return len(self.labels) > 1 and self.labels[0] is not None


@dataclass(frozen=True)
class Layout:
    """A printed table.

    ``labels`` are the headings of the index's levels, none for a frame whose index only numbers it;
    ``head`` has a line for each level of the columns; ``is_numeric`` says which columns hold numbers.
    """

    labels: tuple[str, ...]
    head: tuple[tuple[Heading, ...], ...]
    body: tuple[Row, ...]
    is_numeric: tuple[bool, ...]


def lay_out(
    table: pd.DataFrame,
    runs: pd.DataFrame | None = None,
    decimals: int | None = None,
    best: Best | Mapping[Hashable, Best] | None = None,
) -> Layout:
    """The layout of ``table``; the parameters are those of `tables.save`.

    Raises
    ------
    ValueError : two columns of one name, ``runs`` with other rows or columns than ``table``, or a best
        number that is neither ``min`` nor ``max``, or of a column that is not there
    """
    if not table.columns.is_unique:
        twice = table.columns[table.columns.duplicated()].tolist()
        raise ValueError(f"Columns {twice} are there twice; a cell must be one cell: rename them.")
    if runs is not None and not (
        runs.index.equals(table.index) and runs.columns.equals(table.columns)
    ):
        raise ValueError(
            f"runs has shape {runs.shape}, or other labels than the table's {table.shape}; expected is "
            "the run of every cell under the same index and columns: runs.reindex_like(table)."
        )
    of_column = best if isinstance(best, Mapping) else dict.fromkeys(table.columns, best)
    for column, which in of_column.items():
        if column not in table.columns:
            choose("column with a best number", str(column), map(str, table.columns))
        choose("best", str(which), ("min", "max", "None"))
    columns = [_cells(table[name], decimals, of_column.get(name)) for name in table.columns]
    if runs is not None:
        named = [[run_names(run) for run in runs.iloc[:, k]] for k in range(runs.shape[1])]
        columns = [
            [replace(cell, run=run) for cell, run in zip(*pair, strict=True)]
            for pair in zip(columns, named, strict=True)
        ]
    lines = list(zip(*columns, strict=True))  # of cells
    labels = _labels(table.index) if has_labels(table) else [()] * len(lines)
    return Layout(
        labels=tuple(str(name or "") for name in table.index.names) if has_labels(table) else (),
        head=_head(table.columns),
        body=tuple(Row(*line) for line in zip(labels, lines, strict=True)),
        is_numeric=tuple(_is_numeric(table.iloc[:, k]) for k in range(table.shape[1])),
    )


def has_labels(table: pd.DataFrame) -> bool:
    """Whether the index says something: it has a name, or is not just 0, 1, 2, …"""
    index = table.index
    numbers_rows = isinstance(index, pd.RangeIndex) and index.start == 0 and index.step == 1
    return not numbers_rows or index.name is not None


def shown(value: object, decimals: int | None = None) -> str:
    """A value as it is printed; a number that is not whole has ``decimals``, or what it needs.

    >>> shown(1234.5), shown(0.01234), shown(-7.26, 1), shown(3), shown(None), shown(2e-7)
    ('1234', '0.01234', '−7.3', '3', '–', '2e−07')
    """
    if pd.api.types.is_scalar(value) and pd.isna(value):
        return MISSING
    if isinstance(value, bool | np.bool_):
        return "yes" if value else "no"
    if isinstance(value, int | float | np.number):
        if isinstance(value, int | np.integer) or not math.isfinite(value):
            text = str(value)
        elif decimals is not None:
            text = f"{value:.{decimals}f}"
        else:
            text = f"{value:.3g}" if 0 < abs(value) < 1e-4 else f"{value:.{_places(value)}f}"
        return text.replace("-", "−").replace("inf", "∞")
    return " ".join(str(value).split())


def _places(value: float, significant: int = 4) -> int:
    """Decimals that show so many significant digits of a number, 0 for a whole one."""
    if float(value).is_integer():
        return 0
    return max(0, significant - 1 - math.floor(math.log10(abs(value))))


def _decimals(column: pd.Series) -> int | None:
    """The decimals all numbers of a column have; None where they differ too much for that.

    Four significant digits of the largest, and two of the smallest.
    """
    values = [
        abs(float(value))
        for value in column
        if isinstance(value, float | np.floating) and math.isfinite(value) and value
    ]
    if not values or all(value.is_integer() for value in values):
        return 0 if values else None
    places = max(_places(max(values) + 1e-12), _places(min(values), 2))
    return places if places <= 6 else None


def run_names(value: object) -> str:
    """The runs of one cell as text: a name, several, or none."""
    if isinstance(value, list | tuple | set):
        return ", ".join(map(str, value))
    return "" if pd.isna(value) else " ".join(str(value).split())


def _cells(column: pd.Series, decimals: int | None, best: Best | None) -> list[Cell]:
    places = _decimals(column) if decimals is None else decimals
    texts = [shown(value, places) for value in column]
    numbers = [_number(text) for text in texts]
    known = [number for number in numbers if not math.isnan(number)]
    marked = None
    if best is not None and len(known) > 1:
        marked = min(known) if best == "min" else max(known)
    return [
        Cell(text, is_best=number == marked) for text, number in zip(texts, numbers, strict=True)
    ]


def _number(text: str) -> float:
    """The number a cell shows, of "mean ± sd" the mean; not a number where it shows none."""
    match = _NUMBER.match(text)
    return float(match[1].replace("−", "-")) if match else math.nan


def _is_numeric(column: pd.Series) -> bool:
    """Whether every value that is there is a number, or text that begins as "mean ± sd" does."""
    texts = [shown(value) for value in column]
    texts = [text for text in texts if text != MISSING]
    is_number = [text in ("∞", "−∞") or not math.isnan(_number(text)) for text in texts]
    return bool(texts) and all(is_number)


def _head(columns: pd.Index) -> tuple[tuple[Heading, ...], ...]:
    """Neighbours that share a heading, and all headings above it, stand under one; inner ones never."""
    keys = _keys(columns)
    return tuple(
        tuple(
            Heading(shown(key[level]), length)
            for (key, length) in _stretches(keys, level, columns.nlevels)
        )
        for level in range(columns.nlevels)
    )


def _labels(index: pd.Index) -> list[tuple[Heading | None, ...]]:
    """Each line's labels: outer ones once for all lines they stand for, None on the lines after."""
    keys = _keys(index)
    levels = []
    for level in range(index.nlevels):
        column: list[Heading | None] = []
        for key, length in _stretches(keys, level, index.nlevels):
            column += [Heading(shown(key[level]), length), *[None] * (length - 1)]
        levels.append(column)
    return list(zip(*levels, strict=True))


def _keys(index: pd.Index) -> list[tuple[object, ...]]:
    return [key if isinstance(key, tuple) else (key,) for key in index]


def _stretches(
    keys: Sequence[tuple[object, ...]], level: int, levels: int
) -> list[tuple[tuple[object, ...], int]]:
    """The first key of each stretch that agrees down to ``level``, and its length; 1 on the innermost."""
    if level == levels - 1:
        return [(key, 1) for key in keys]
    groups = (list(group) for _, group in groupby(keys, key=lambda key: key[: level + 1]))
    return [(group[0], len(group)) for group in groups]
