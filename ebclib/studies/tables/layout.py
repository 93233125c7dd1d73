"""Numbers as a printed table shows them."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd

MISSING = "–"
"""What stands where there is no value."""

_NUMBER = r"\s*[-−+]?(?:∞|[\d.]+(?:e[-−+]?\d+)?)\s*(?:%|±.*|\(.*\))?"


def as_text(table: pd.DataFrame, decimals: int | None = None) -> pd.DataFrame:
    """Every cell, label and heading as text; the parameters are those of `tables.save`."""
    columns = [
        [shown(value, _places(column) if decimals is None else decimals) for value in column]
        for _, column in table.items()
    ]
    text = pd.DataFrame(dict(enumerate(columns)), index=table.index, dtype=object)
    return relabelled(text.set_axis(table.columns, axis="columns"), shown)


def relabelled(table: pd.DataFrame, function: Callable[[Any], str]) -> pd.DataFrame:
    """``function`` of every heading, and of every label and its name, at every level."""

    def each(index: pd.Index) -> pd.Index:
        names = [function(name) if name is not None else None for name in index.names]
        if index.nlevels == 1:
            return pd.Index([function(key) for key in index], name=names[0], dtype=object)
        return pd.MultiIndex.from_tuples([tuple(map(function, key)) for key in index], names=names)

    if has_labels(table):
        table = table.set_axis(each(table.index))
    return table.set_axis(each(table.columns), axis="columns")


def has_labels(table: pd.DataFrame) -> bool:
    """Whether the index says something: it has a name, or is not just 0, 1, 2, …"""
    return table.index.names != [None] or not table.index.equals(pd.RangeIndex(len(table)))


def is_numeric(texts: pd.Series) -> bool:
    """Whether every text that is there is a number, or begins as "mean ± sd" does."""
    there = texts[texts != MISSING]
    return bool(len(there)) and there.str.fullmatch(_NUMBER, case=False).all()


def shown(value: object, decimals: int | None = None) -> str:
    """A value as it is printed; a number that is not whole has ``decimals``, or four digits.

    >>> shown(1234.5), shown(0.01234), shown(-7.26, 1), shown(3), shown(None), shown(2e-7)
    ('1234', '0.01234', '−7.3', '3', '–', '2e−07')
    """
    if pd.api.types.is_scalar(value) and pd.isna(value):
        return MISSING
    if isinstance(value, bool | np.bool_):
        return "yes" if value else "no"
    if isinstance(value, float | np.floating):
        text = f"{value:.4g}" if decimals is None else f"{value:.{decimals}f}"
        return text.replace("-", "−").replace("inf", "∞")
    text = " ".join(str(value).split())
    return text.replace("-", "−") if isinstance(value, int | np.integer) else text


def _places(column: pd.Series) -> int | None:
    """The decimals of all numbers of a column: four digits of the largest and two of the smallest.

    None where they differ too much for that.
    """
    values = [abs(value) for value in column if isinstance(value, float | np.floating)]
    values = [float(value) for value in values if math.isfinite(value) and value]
    if not values or all(value.is_integer() for value in values):
        return 0 if values else None
    places = max(3 - _exponent(max(values)), 1 - _exponent(min(values)), 0)
    return places if places <= 6 else None


def _exponent(value: float) -> int:
    return math.floor(math.log10(value))
