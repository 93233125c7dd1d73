"""The paper's printed numbers as data, from `data/paper/` of the checkout: nothing this workbook measured."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd

from ebclib.config import Config, one_of, project_root
from ebclib.data import DATASETS

MEASURES = {"mae": "MAE", "rmse": "RMSE"}
"""The columns that hold errors, in people, and what tables call them."""


def published(number: int) -> pd.DataFrame:
    """One of the paper's tables (1 to 4), a row a method and data set, in the order it is printed in.

    Its columns are those that `data/paper/README.md` explains; a missing number was not printed.

    Raises
    ------
    ValueError : no such table
    FileNotFoundError : this is no checkout
    """
    one_of("table", str(number), list("1234"))
    types = {"year": "Int64", "count_weight": "float64"}
    path = Path("data", "paper", f"table{number}.csv")
    for root in (project_root(), Path(__file__).resolve().parents[2]):
        if (root / path).is_file():
            return pd.read_csv(root / path, dtype=types)
    raise FileNotFoundError(
        f"There is no {path}. The published numbers come with the workbook, not with the installed "
        "package: run this in a checkout."
    )


def improvement(before: float, after: float) -> float:
    """By how many per cent an error fell; below 0 where it rose.

    >>> improvement(80.0, 60.0)
    25.0
    """
    return 100 * (before - after) / before


def as_printed(percent: float) -> float:
    """``percent`` as the paper prints improvements: cut off, not rounded, after one decimal.

    >>> as_printed(44.594), as_printed(-4.355)
    (44.5, -4.3)
    """
    return float(np.trunc(np.round(percent * 10, 6)) / 10)


def improvements(number: int) -> pd.DataFrame:
    """How much each EBC model of a table betters the one it is compared with.

    ``number`` is 1 (over its regression form) or 4 (over Blockwise on the same backbone). Gives a row a
    cell: ``method``, ``improves_on``, ``dataset``, ``split``, ``backbone`` (table 4), ``measure``,
    ``before`` and ``after`` in people, ``percent`` computed from these, ``printed`` by the paper, and whether
    the two agree (`as_printed`).
    """
    table = published(number)
    keys = ["dataset", "split", *(["backbone"] if number == 4 else [])]
    better = table[table["improves_on"].notna()]
    pairs = better.merge(
        table[["method", *keys, *MEASURES]],
        left_on=["improves_on", *keys],
        right_on=["method", *keys],
        suffixes=("", "_before"),
        validate="one_to_one",
    )
    rows = []
    for (_, pair), (column, measure) in product(pairs.iterrows(), MEASURES.items()):
        printed = pair.get(f"{column}_improvement_printed", np.nan)
        if np.isnan(printed):
            continue
        row = {key: pair[key] for key in ("method", "improves_on", *keys)}
        row |= {"measure": measure, "before": pair[f"{column}_before"], "after": pair[column]}
        percent = improvement(row["before"], row["after"])
        row |= {"percent": percent, "printed": printed}
        rows.append(row | {"agrees": as_printed(percent) == printed})
    return pd.DataFrame(rows)


def wide(table: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """`published` (1) as papers lay it out: rows methods, columns (data set, measure), in the table's order.

    Gives the errors in people, missing where none is published, and where each number is printed.
    """
    place = [label(*pair) for pair in zip(table["dataset"], table["split"], strict=True)]
    source = table["source"] + " (" + table["citation"] + ")"
    cells = table.assign(place=place, source=source).rename(columns=MEASURES)
    cells = cells.melt(["method", "place", "source"], list(MEASURES.values()), "measure", "error")
    cells = cells.dropna(subset="error").set_index(["method", "place", "measure"])
    methods = pd.Index(table["method"].unique(), name="method")
    columns = pd.MultiIndex.from_product([dict.fromkeys(place), MEASURES.values()])
    numbers, sources = (
        cells[what].unstack(["place", "measure"]).reindex(index=methods, columns=columns)
        for what in ("error", "source")
    )
    return numbers, sources.fillna("")


def label(dataset: str, split: str = "test") -> str:
    """A data set in a table's heading, with its split where that is not ``test``, or not the usual one.

    >>> label("sha"), label("nwpu", "val")
    ('ShanghaiTech A', 'NWPU-Crowd val')
    """
    known = DATASETS[dataset]
    return known.title if split == known.test_split == "test" else f"{known.title} {split}"


REGRESSION_LOSSES = {"csrnet": "mse", "dmcount": "dmcount"}
"""What the published regression models were trained by (Li et al. 2018; Wang et al. 2020)."""


def kind_of(config: Config) -> str:
    """Which ``kind`` of published rows (`data/paper/README.md`) a run may stand beside."""
    if config.head == "regression":
        return "regression"
    if config.loss == "zip":
        return "zip"
    if config.bins == "interval":
        return "classification"
    return {"text": "clip-ebc", "linear": "ebc"}.get(str(config.head), "other")


def counterparts(config: Config) -> pd.DataFrame:
    """The published rows of Tables I and IV with a run's model and kind, on its data set and split.

    A regression model trained by another loss than the published one (`REGRESSION_LOSSES`) has none.
    """
    tables = pd.concat([published(1), published(4)], ignore_index=True)
    here = (tables["dataset"] == config.dataset) & (tables["model"] == config.model)
    here &= tables["kind"] == kind_of(config)
    if config.dataset in DATASETS:
        here &= tables["split"] == DATASETS[config.dataset].test_split
    if config.head == "regression":
        here &= REGRESSION_LOSSES.get(config.model) == config.count_loss
    return tables[here].dropna(axis="columns", how="all").reset_index(drop=True)
