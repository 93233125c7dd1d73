"""Finished runs to tables, and tables to files: CSV to compute with, LaTeX to print, HTML to read."""

from __future__ import annotations

import html
import math
import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from pandas.io.formats.style import Styler
from pylatexenc.latexencode import UnicodeToLatexEncoder
from scipy import stats

from ebclib.config import Config, results_root
from ebclib.data import DATASETS
from ebclib.encoders.variants import find_variant
from ebclib.runs import Run, all_runs, write_csv, write_whole
from ebclib.studies.paper_tables import MEASURES, counterparts, improvement
from ebclib.studies.plan import Cell, Table

MISSING = "–"
"""What a printed cell without a value shows."""

COLUMNS = (
    *("run", "dataset", "split", "images", "epochs", "minutes", "device", "mae", "rmse", "nae"),
    *("mean_predictor_mae", "test_selected_mae", "inside_interval"),
)
"""What tables take of a run: errors in people, nae and inside_interval shares, minutes trained."""


def _measured(run: Run) -> dict[str, Any]:
    """`COLUMNS` of a finished run; older runs lack some."""
    metrics = run.metrics
    row = dict.fromkeys(COLUMNS, math.nan) | metrics
    row |= {"run": run.name, "dataset": run.config.dataset, "minutes": metrics["training_minutes"]}
    row |= {"device": run.provenance["device"]}
    return {name: math.nan if row[name] is None else row[name] for name in COLUMNS}


def write_tables() -> dict[str, pd.DataFrame]:
    """`results/tables/runs_<dataset>.*`, a row a finished run, errors in people.

    ``ratio`` is the MAE over the mean predictor's, ``inside_90`` the share of images inside their 90 %
    interval. A run that another program wrote is left out with a warning.
    """
    rows = []
    for run in all_runs():
        try:
            rows.append(_measured(run))
        except FileNotFoundError:
            continue  # unfinished
        except (KeyError, TypeError, ValueError, AttributeError) as problem:
            why = f"another version or program wrote it ({problem!r})"
            warnings.warn(f"{run.path} is left out of the tables: {why}.", stacklevel=2)
    shown = "run split images mae rmse nae mean_predictor_mae ratio inside_interval epochs minutes device"
    named = {"mae": "MAE", "rmse": "RMSE", "nae": "NAE", "inside_interval": "inside_90"}
    named["mean_predictor_mae"] = "mean_predictor_MAE"
    table = pd.DataFrame(rows, columns=COLUMNS)
    table["ratio"] = table["mae"] / table["mean_predictor_mae"]
    written = {}
    for dataset, some in table.groupby("dataset"):
        title = DATASETS[dataset].title if dataset in DATASETS else dataset
        note = f"Not the published {Config.epochs} epochs: not comparable with the paper."
        note = note if (some["epochs"] < Config.epochs).any() else ""
        written[dataset] = some[shown.split()].rename(columns=named).reset_index(drop=True)
        caption = f"{title}: finished runs; errors in people"
        save(written[dataset], f"runs_{dataset}", digits=4, caption=caption, note=note)
    return written


def results_of(table: Table) -> pd.DataFrame:
    """What the runs of a table measured: row, column, seed and `COLUMNS`, a row a finished run.

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
        rows.append(place | _measured(cell.run))
    return pd.DataFrame(rows, columns=["row", "column", "seed", *COLUMNS])


def beside(table: Table) -> tuple[pd.DataFrame, pd.DataFrame]:
    """A table as printed, with the published numbers of the same model, kind, data set and split beside.

    Gives texts, rows by columns × MAE, RMSE: the mean over the seeds, ± their sample standard deviation
    where there are several, `MISSING` where no run is finished. And, of the same shape, where each comes
    from: names of runs, or the paper's table.
    """
    found = results_of(table)
    texts: dict[tuple[str, str], list[str]] = {}
    sources: dict[tuple[str, str], list[str]] = {}
    for column, (name, title) in product(table.columns, MEASURES.items()):
        places = [found[(found["row"] == row) & (found["column"] == column)] for row in table.rows]
        texts[column, title] = [_mean_and_deviation(runs[name]) for runs in places]
        sources[column, title] = [" ".join(runs["run"]) for runs in places]
        printed = [_printed(table.at(row, column), name) for row in table.rows]
        if any(value for value, _ in printed):
            key = column, f"{title}, paper"
            texts[key], sources[key] = map(list, zip(*printed, strict=True))
    return pd.DataFrame(texts, index=table.rows), pd.DataFrame(sources, index=table.rows)


def _mean_and_deviation(values: pd.Series) -> str:
    if values.empty or not np.isfinite(values).all():
        return MISSING
    mean = f"{values.mean():.1f}"
    return mean if len(values) == 1 else f"{mean} ± {values.std():.1f}"


def _printed(cells: Sequence[Cell], measure: str) -> tuple[str, str]:
    """The published number beside a place of a table, and where it is printed."""
    rows = counterparts(cells[0].config) if cells else pd.DataFrame()
    row = rows.dropna(subset=measure).head(1) if measure in rows else pd.DataFrame()
    if row.empty:
        return "", ""
    return f"{row[measure].item():.1f}", f"{row['source'].item()} ({row['citation'].item()})"


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

    Gives a row a claim and column with finished runs: ``claim``, ``column``, ``mae`` and ``than`` (means
    over seeds, people), ``seeds``, and by how many ``standard_errors`` (Welch's) they differ: above 2 the
    claim is shown, below −2 reversed; nan of one seed.
    """
    rows = []
    for claim, name, better, worse in CLAIMS:
        of = experiment_tables.get(name)
        for column in of.columns if of else ():
            runs = [_finished(of.at(row, column)) for row in (better, worse)]
            if all(runs):
                errors = [[run.metrics["mae"] for run in side] for side in runs]
                better_mae, worse_mae = map(np.mean, errors)
                seeds = min(map(len, errors))
                spread = np.hypot(*map(stats.sem, errors)) if seeds > 1 else math.nan
                ratio = (worse_mae - better_mae) / spread
                rows.append((claim, column, better_mae, worse_mae, seeds, ratio))
    return pd.DataFrame(
        rows, columns=["claim", "column", "mae", "than", "seeds", "standard_errors"]
    )


def paired_difference(
    first: Sequence[Run], second: Sequence[Run], resamples: int = 9999
) -> dict[str, float]:
    """How much larger the MAE of ``first`` is than that of ``second`` on the same test images.

    The interval is a paired bootstrap over images (BCa; Efron 1987): it says what other test images
    might have shown, and nothing about other seeds. An image's error is the mean over a side's runs.
    Gives ``difference`` in people, ``lower`` and ``upper`` of its 95 % interval, ``images``.

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
    mean = low = high = float(difference.mean())
    if np.ptp(difference):
        rng = np.random.default_rng(0)
        drawn = stats.bootstrap((difference,), np.mean, n_resamples=resamples, rng=rng)
        low, high = map(float, drawn.confidence_interval)
    return {"difference": mean, "images": len(difference), "lower": low, "upper": high}


def _errors(run: Run) -> pd.Series:
    """Each image's absolute error in people."""
    rows = run.predictions.set_index("image")
    return (rows["count"] - rows["points"]).abs().sort_index()


def against_regression(table: Table, resamples: int = 9999) -> pd.DataFrame:
    """Every classifier of a table beside each regression model of the same network and data set.

    Gives a row a pair with finished runs: ``column``, ``regression`` and ``classifier`` (rows of the
    table), ``before`` and ``after`` (mean MAE, people), ``improvement`` in percent, ``seeds`` of either, and
    what `paired_difference` gives.
    """
    pairs = []
    for column in table.columns:
        rows = {row: runs for row in table.rows if (runs := _finished(table.at(row, column)))}
        for (row, runs), (baseline, others) in product(rows.items(), rows.items()):
            one, other = runs[0].config, others[0].config
            forms = one.head != "regression" and other.head == "regression"
            if not forms or _network(one) != _network(other):
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


_LATEX = UnicodeToLatexEncoder(unknown_char_policy="fail").unicode_to_latex


def save(
    table: pd.DataFrame,
    name: str,
    digits: int = 6,
    *,
    caption: str | None = None,
    note: str = "",
    runs: pd.DataFrame | None = None,
    decimals: int | None = None,
) -> Path:
    """Write a table to `results/tables/` as `<name>.csv` (the path returned), `.tex` and `.html`.

    Parameters
    ----------
    table : numbers, or text such as "12.3 ± 0.4"; a missing value is a dash in print. An index that only
        numbers the rows is left out, and in the CSV headings of several levels are joined by spaces
    digits : significant digits in the CSV
    caption, note : printed with the table, one after the other; a caption of None is made from ``name``
    runs : the run or runs of each number, labelled like ``table``: `<name>.runs.csv`, and HTML tooltips
    decimals : of all printed numbers that are not whole; None: four significant digits

    Raises
    ------
    ValueError : characters that LaTeX has not; nothing is written then
    """
    caption = caption or Path(name).name.strip("0123456789_").replace("_", " ").capitalize()
    caption = f"{caption}. {note}" if note else caption
    latex = "% needs \\usepackage{booktabs}\n" + _styler(table, decimals, _escaped).to_latex(
        caption=_escaped(caption),
        label="tab:" + re.sub(r"[^a-zA-Z0-9:]", "-", name.replace("/", ":")),
        position_float="centering",
        hrules=True,
        multicol_align="c",
        multirow_align="naive",
    )
    page = _styler(table, decimals, html.escape).set_caption(html.escape(caption))
    if runs is not None:
        page.set_tooltips(runs)
    page = page.set_table_attributes('border="1"').to_html(doctype_html=True)
    path = results_root() / "tables" / f"{name}.csv"
    write_csv(path, _flat(table), digits)
    for suffix, content in ((".tex", latex), (".html", page)):
        write_whole(
            path.with_suffix(suffix),
            lambda part, content=content: part.write_text(content, "utf-8"),
        )
    if runs is not None:
        write_csv(path.with_suffix(".runs.csv"), _flat(runs))
    return path


def _styler(table: pd.DataFrame, decimals: int | None, escaped: Callable[[str], str]) -> Styler:
    """Cells and headings as they are printed."""

    def shown(value: object) -> str:
        if pd.isna(value):
            return escaped(MISSING)
        if isinstance(value, float):
            value = f"{value:.4g}" if decimals is None else f"{value:.{decimals}f}"
            value = value.replace("-", "−")
        return escaped(str(value))

    styler = Styler(table, uuid="table").format(shown)
    for axis in (0, 1):
        styler.format_index(lambda label: escaped(str(label)), axis=axis)
    return styler if _has_labels(table) else styler.hide(axis="index")


def _escaped(text: str) -> str:
    r"""LaTeX; in braces where `\\` and rules before a cell would take its [ or * for an option."""
    latex = _LATEX(text).replace("|", r"{\textbar}")
    return f"{{{latex}}}" if latex.startswith(("[", "*")) else latex


def _has_labels(table: pd.DataFrame) -> bool:
    """Whether the index says something: it has a name, or is not just 0, 1, 2, …"""
    return table.index.names != [None] or not table.index.equals(pd.RangeIndex(len(table)))


def _flat(table: pd.DataFrame) -> pd.DataFrame:
    """A frame of one heading a column and no index, as a CSV has them."""
    if table.columns.nlevels > 1:
        names = [" ".join(str(part) for part in key if part != "") for key in table.columns]
        table = table.set_axis(names, axis="columns")
    return table.reset_index() if _has_labels(table) else table
