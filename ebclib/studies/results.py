"""Finished runs to the cells of a table: means over seeds, differences between methods."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from ebclib.config import Config
from ebclib.data import DATASETS
from ebclib.encoders.variants import find_variant
from ebclib.runs import Run, all_runs
from ebclib.studies import tables
from ebclib.studies.paper_tables import counterparts, improvement
from ebclib.studies.plan import Cell, Table
from ebclib.studies.tables import MISSING

_MEASURED = (
    *("run", "dataset", "split", "images", "epochs", "minutes", "device", "mae", "rmse", "nae"),
    *("mean_predictor_mae", "test_selected_mae", "inside_interval"),
)


def measured(run: Run) -> dict[str, Any]:
    """What a finished run measured: errors in people, nae and inside_interval shares, minutes trained."""
    older = dict.fromkeys(("nae", "test_selected_mae", "inside_interval"))  # runs may lack these
    metrics = older | run.metrics
    row = metrics | {"run": run.name, "dataset": run.config.dataset}
    row |= {"minutes": metrics["training_minutes"], "device": run.provenance["device"]}
    return {name: math.nan if row[name] is None else row[name] for name in _MEASURED}


def write_tables(runs: Sequence[Run] | None = None) -> dict[str, pd.DataFrame]:
    """`results/tables/runs_<dataset>.*`, a row a finished run (default: of all), errors in people.

    ``ratio`` is the MAE over the mean predictor's, ``inside_90`` the share of images inside their 90 %
    interval. A run that another program wrote is left out with a warning.
    """
    found: dict[str, list[tuple[Config, dict]]] = {}
    for run in all_runs() if runs is None else runs:
        try:
            found.setdefault(run.config.dataset, []).append((run.config, measured(run)))
        except FileNotFoundError:
            continue  # unfinished, or begun anew just now
        except (KeyError, TypeError, ValueError, AttributeError) as problem:
            why = f"another version or program wrote it ({type(problem).__name__}: {problem})"
            warnings.warn(f"{run.path} is left out of the tables: {why}.", stacklevel=2)
    named = {"run": "run", "split": "split", "images": "images", "mae": "MAE", "rmse": "RMSE"}
    named |= {"nae": "NAE", "mean_predictor_mae": "mean_predictor_MAE", "ratio": "ratio"}
    named |= {"inside_interval": "inside_90"}
    named |= {name: name for name in ("epochs", "minutes", "device")}
    written = {}
    for dataset, some in sorted((name, some) for name, some in found.items() if some):
        table = pd.DataFrame([row for _, row in some])
        table["ratio"] = table["mae"] / table["mean_predictor_mae"]
        written[dataset] = table[list(named)].rename(columns=named)
        title = DATASETS[dataset].title if dataset in DATASETS else dataset
        about = {"caption": f"{title}: finished runs; errors in people"}
        about["note"] = note([config for config, _ in some])
        tables.save(written[dataset], f"runs_{dataset}", digits=4, **about)
    return written


def note(configs: Sequence[Config]) -> str:
    """How far runs of these are from the paper's training, to stand below their table; else empty."""
    if any(DATASETS[c.dataset].is_drawn for c in configs if c.dataset in DATASETS):
        return "Demo: drawn crowds and short training. It tests the code; not comparable with the paper."
    epochs = sorted({config.epochs for config in configs if config.epochs < Config.epochs})
    if not epochs:
        return ""
    length = " to ".join(str(number) for number in dict.fromkeys((epochs[0], epochs[-1])))
    published = f"not for the published {Config.epochs}: not comparable with the paper's tables."
    return f"Trained for {length} epochs, {published}"


def results_of(table: Table) -> pd.DataFrame:
    """What the runs of a table measured: row, column, seed and `measured`, a row a finished run.

    Raises
    ------
    ValueError : a run was trained with other parameters than its name says
    """
    rows = []
    for cell in table.cells:
        if not cell.run.is_finished:
            continue
        if cell.config.unlike(cell.run.config):
            raise ValueError(
                f"{table.name}, {cell.row} × {cell.column}: the run {cell.config.name} was trained with "
                "other parameters than its name says; delete its folder, and train it again."
            )
        place = {"row": cell.row, "column": cell.column, "seed": cell.config.seed}
        rows.append(place | measured(cell.run))
    return pd.DataFrame(rows, columns=["row", "column", "seed", *_MEASURED])


def pivot(
    table: Table, metrics: Sequence[str] = ("mae", "rmse"), digits: int = 1
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """A table as printed: mean over the seeds, ± their standard deviation where there are several.

    Returns
    -------
    two frames of one shape, rows by columns × metrics: the text of each cell with ``digits`` after the
    point (`MISSING` where no run is finished), and the names of its runs
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


def claims(experiment_tables: Mapping[str, Table]) -> pd.DataFrame:
    """The paper's orderings, and whether an experiment's runs show them.

    Returns
    -------
    a row a claim and column with finished runs: ``claim``, ``column``, ``mae`` and ``than`` (means over
    seeds, people), ``seeds``, and ``shown`` (`verdict`)
    """
    rows = []
    for claim, name, better, worse in CLAIMS:
        of = experiment_tables.get(name)
        for column in of.columns if of else ():
            runs = [_finished(of.at(row, column)) for row in (better, worse)]
            if all(runs):
                errors = [[run.metrics["mae"] for run in side] for side in runs]
                seeds, means = min(map(len, errors)), map(np.mean, errors)
                rows.append((claim, column, *means, seeds, verdict(*errors)))
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
    texts, sources = {}, {}
    for column, metric in text.columns:
        key, beside_it = (column, metric), (column, f"{metric}, paper")
        texts[key], sources[key] = text[key], source[key]
        printed = [_printed(table.at(row, column), metric) for row in table.rows]
        if any(value for value, _ in printed):
            for into, found in zip((texts, sources), zip(*printed, strict=True), strict=True):
                into[beside_it] = pd.Series(found, index=table.rows)
    return pd.DataFrame(texts, index=table.rows), pd.DataFrame(sources, index=table.rows)


def _printed(cells: Sequence[Cell], metric: str) -> tuple[str, str]:
    """The published number beside a place of a table, and where it is printed."""
    rows = counterparts(cells[0].config) if cells else pd.DataFrame()
    row = rows.dropna(subset=metric.lower()).head(1) if metric.lower() in rows else pd.DataFrame()
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
        rows = {row: runs for row in table.rows if (runs := _finished(table.at(row, column)))}
        for (row, runs), (baseline, others) in product(rows.items(), rows.items()):
            one, other = runs[0].config, others[0].config
            if one.head == "regression" or other.head != "regression":
                continue
            if _network(one) != _network(other):
                continue
            before, after = (np.mean([run.metrics["mae"] for run in of]) for of in (others, runs))
            found = {"column": column, "regression": baseline, "classifier": row}
            found |= {"before": before, "after": after, "improvement": improvement(before, after)}
            found["seeds"] = f"{len(others)} / {len(runs)}"
            pairs.append(found | paired_difference(others, runs, resamples))
    names = (
        "column regression classifier before after improvement seeds difference images lower upper"
    )
    return pd.DataFrame(pairs, columns=names.split())


def _network(config: Config) -> tuple:
    """What is the same in a model with a text tower and the one without."""
    variant = find_variant(config.model)
    return variant.architecture, variant.stage, variant.decoder


def _finished(cells: Sequence[Cell]) -> list[Run]:
    return [cell.run for cell in cells if cell.run.is_finished]
