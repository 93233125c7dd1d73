"""Finished runs to the cells of a table: means over seeds, differences between methods."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import product

import numpy as np
import pandas as pd
from scipy import stats

from ebclib.encoders.variants import find_variant
from ebclib.runs import Run
from ebclib.studies.paper_tables import counterparts, improvement
from ebclib.studies.plan import Cell, Table

MISSING = "–"
"""What a cell shows that no run has filled."""


def results_of(table: Table) -> pd.DataFrame:
    """What the runs of a table measured: a row a run that is finished.

    Returns
    -------
    columns row, column, seed, run, dataset, split, images, epochs, minutes, device, and the errors in
    people: mae, rmse, mean_predictor_mae, and test_selected_mae where the run watched the test split;
    nae, a share
    """
    rows = []
    for cell in table.cells:
        if not cell.run.is_finished:
            continue
        metrics, config = cell.run.metrics, cell.config
        if config.unlike(cell.run.config):
            raise ValueError(
                f"{table.name}, {cell.row} × {cell.column}: the run {config.name} was trained with other "
                "parameters than its name says; delete its folder, and train it again."
            )
        rows.append(
            {
                "row": cell.row,
                "column": cell.column,
                "seed": config.seed,
                "run": config.name,
                "dataset": config.dataset,
                "split": metrics["split"],
                "images": metrics["images"],
                "epochs": metrics["epochs"],
                "minutes": metrics["training_minutes"],
                "device": cell.run.provenance["device"],
                "mae": metrics["mae"],
                "rmse": metrics["rmse"],
                "nae": metrics.get("nae"),  # older runs have none
                "mean_predictor_mae": metrics["mean_predictor_mae"],
                "test_selected_mae": metrics.get("test_selected_mae", np.nan),
            }
        )
    columns = (
        "row column seed run dataset split images epochs minutes device mae rmse nae "
        "mean_predictor_mae test_selected_mae"
    )
    return pd.DataFrame(rows, columns=columns.split())


def pivot(
    table: Table, metrics: Sequence[str] = ("mae", "rmse"), digits: int = 1
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """A table as printed: mean over the seeds, ± their standard deviation where there are several.

    Parameters
    ----------
    metrics : columns of `results_of`
    digits : after the point

    Returns
    -------
    two frames of one shape, rows by columns × metrics: the text of each cell (`MISSING` where no run is
    finished), and the names of its runs
    """
    found = results_of(table)
    keys = pd.MultiIndex.from_product([table.columns, [name.upper() for name in metrics]])
    text = pd.DataFrame(MISSING, index=table.rows, columns=keys, dtype=object)
    source = pd.DataFrame("", index=table.rows, columns=keys, dtype=object)
    for (row, column), group in found.groupby(["row", "column"], sort=False):
        for name in metrics:
            text.loc[row, (column, name.upper())] = mean_and_deviation(group[name], digits)
            source.loc[row, (column, name.upper())] = " ".join(group["run"])
    return text, source


def mean_and_deviation(values: Sequence[float], digits: int = 1) -> str:
    """One value as it is; several as mean ± sample standard deviation.

    >>> mean_and_deviation([10.0, 12.0])
    '11.0 ± 1.4'
    """
    values = np.asarray(values, dtype=float)
    if not np.isfinite(values).all() or not len(values):
        return MISSING
    mean = f"{values.mean():.{digits}f}"
    return mean if len(values) == 1 else f"{mean} ± {values.std(ddof=1):.{digits}f}"


CLAIMS = (
    ("integer bins better Blockwise", "table3", "+ integer bins", "Blockwise"),
    ("label correction helps", "table3", "+ label correction", "+ integer bins"),
    ("the count loss helps (λ = 1)", "table3", "λ = 1", "+ label correction"),
    ("λ = 1 is better than 2", "table3", "λ = 1", "λ = 2"),
    ("EBC betters Blockwise", "table4", "EBC", "Blockwise"),
    ("sentences better random vectors", "heads", "text, in words", "random text"),
    ("ZIP betters EBC", "zip", "ZIP", "EBC"),
)
"""What the tables of the paper and its successor say, or would: the first row is better than the second."""


def claims(tables: Mapping[str, Table]) -> pd.DataFrame:
    """The paper's orderings, and whether an experiment's runs show them.

    Returns
    -------
    a row a claim and column with finished runs: ``claim``, ``column``, ``mae`` and ``than`` (means over
    seeds, people), ``seeds``, and ``shown`` (`verdict`)
    """
    rows = []
    for claim, name, better, worse in CLAIMS:
        for column in tables[name].columns if name in tables else ():
            sides = [_finished(tables[name].at(row, column)) for row in (better, worse)]
            if not all(sides):
                continue
            errors = [[cell.run.metrics["mae"] for cell in cells] for cells in sides]
            rows.append(
                {
                    "claim": claim,
                    "column": column,
                    "mae": np.mean(errors[0]),
                    "than": np.mean(errors[1]),
                    "seeds": min(map(len, errors)),
                    "shown": verdict(*errors),
                }
            )
    return pd.DataFrame(rows, columns=["claim", "column", "mae", "than", "seeds", "shown"])


def verdict(better: Sequence[float], worse: Sequence[float]) -> str:
    """Whether errors over seeds show that ``better`` is lower: yes, reversed, or undecided.

    Decided is a difference of means of more than two standard errors (Welch's); one seed decides nothing.

    >>> verdict([9.0, 9.2, 9.1], [12.0, 12.5, 11.8]), verdict([9.0], [12.0])
    ('yes', 'undecided: one seed')
    """
    if min(len(better), len(worse)) < 2:
        return "undecided: one seed"
    difference = np.mean(worse) - np.mean(better)
    error = math.sqrt(sum(np.var(side, ddof=1) / len(side) for side in (better, worse)))
    if abs(difference) <= 2 * error:
        return "undecided: within the seeds' spread"
    return "yes" if difference > 0 else "reversed"


def paired_difference(
    first: Sequence[Run], second: Sequence[Run], resamples: int = 9999, seed: int = 0
) -> dict[str, float]:
    """How much larger the MAE of ``first`` is than that of ``second`` on the same test images.

    The interval is a paired bootstrap over images (BCa; Efron 1987): it says what other test images
    might have shown, and nothing about other seeds. An image's error is the mean over a side's runs.

    Parameters
    ----------
    first, second : finished runs on one data set, one a seed

    Returns
    -------
    ``difference`` in people, ``lower`` and ``upper`` of its 95 % interval, ``images``

    Raises
    ------
    ValueError : the runs did not count the same images
    """
    sides = [pd.concat([_errors(run) for run in runs], axis=1) for runs in (first, second)]
    if sides[0].isna().any(axis=None) or not sides[0].index.equals(sides[1].index):
        raise ValueError(
            f"{first[0].name} and {second[0].name} did not count the same images; a paired difference "
            "needs runs on one split."
        )
    difference = (sides[0].mean(axis=1) - sides[1].mean(axis=1)).to_numpy()
    found = {"difference": float(difference.mean()), "images": len(difference)}
    if np.ptp(difference) == 0:
        return found | {"lower": found["difference"], "upper": found["difference"]}
    interval = stats.bootstrap(
        (difference,), np.mean, n_resamples=resamples, rng=np.random.default_rng(seed)
    ).confidence_interval
    return found | {"lower": float(interval.low), "upper": float(interval.high)}


def _errors(run: Run) -> pd.Series:
    """Each image's absolute error in people."""
    rows = run.predictions.set_index("image")
    return (rows["count"] - rows["points"]).abs().sort_index()


def beside(table: Table, digits: int = 1) -> tuple[pd.DataFrame, pd.DataFrame]:
    """`pivot`, with the published numbers of the same model, kind, data set and split beside.

    Returns
    -------
    two frames of one shape: texts, and where each comes from (names of runs; the paper's table)
    """
    text, source = pivot(table, digits=digits)
    columns, texts, sources = [], {}, {}
    for column in table.columns:
        for metric in ("MAE", "RMSE"):
            columns.append((column, metric))
            texts[columns[-1]], sources[columns[-1]] = text[columns[-1]], source[columns[-1]]
            cells = {row: table.at(row, column) for row in table.rows}
            printed = {row: _printed(of[0], metric) for row, of in cells.items() if of}
            if any(value for value, _ in printed.values()):
                columns.append((column, f"{metric}, paper"))
                for into, place in ((texts, 0), (sources, 1)):
                    found = [printed.get(row, ("", ""))[place] for row in table.rows]
                    into[columns[-1]] = pd.Series(found, index=table.rows)
    keys = pd.MultiIndex.from_tuples(columns)
    return (
        pd.DataFrame(texts, index=table.rows).set_axis(keys, axis="columns"),
        pd.DataFrame(sources, index=table.rows).set_axis(keys, axis="columns"),
    )


def _printed(cell: Cell, metric: str) -> tuple[str, str]:
    """The published number beside a cell, and where it is printed."""
    rows = counterparts(cell.config)
    if metric.lower() not in rows:
        return "", ""
    row = rows.dropna(subset=metric.lower()).head(1)
    if row.empty:
        return "", ""
    return f"{row[metric.lower()].item():.1f}", f"{row['source'].item()} ({row['citation'].item()})"


def against_regression(table: Table, resamples: int = 9999) -> pd.DataFrame:
    """Every classifier of a table beside each regression model of the same network and data set.

    Returns
    -------
    a row a pair with finished runs: ``column``, ``regression`` and ``classifier`` (rows of the table),
    ``before`` and ``after`` (mean MAE, people), ``improvement`` in percent, ``seeds`` of either, and of
    `paired_difference` ``difference``, ``lower``, ``upper``
    """
    pairs = []
    for column in table.columns:
        rows = {row: cells for row in table.rows if (cells := _finished(table.at(row, column)))}
        for (row, cells), (baseline, others) in product(rows.items(), rows.items()):
            if _is_regression(cells[0]) or not _is_regression(others[0]):
                continue
            if _network(cells[0]) != _network(others[0]):
                continue
            sides = [[cell.run for cell in of] for of in (others, cells)]
            before, after = (np.mean([run.metrics["mae"] for run in runs]) for runs in sides)
            pairs.append(
                {
                    "column": column,
                    "regression": baseline,
                    "classifier": row,
                    "before": before,
                    "after": after,
                    "improvement": improvement(before, after),
                    "seeds": " / ".join(str(len(runs)) for runs in sides),
                    **paired_difference(*sides, resamples=resamples),
                }
            )
    names = (
        "column regression classifier before after improvement seeds difference images lower upper"
    )
    return pd.DataFrame(pairs, columns=names.split())


def _network(cell: Cell) -> tuple:
    """What is the same in a model with a text tower and the one without."""
    variant = find_variant(cell.config.model)
    return variant.architecture, variant.stage, variant.decoder


def _finished(cells: Sequence[Cell]) -> list[Cell]:
    return [cell for cell in cells if cell.run.is_finished]


def _is_regression(cell: Cell) -> bool:
    return cell.config.head == "regression"
