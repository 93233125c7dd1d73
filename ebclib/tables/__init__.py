"""Runs to tables, and tables to files: nothing in a table comes from anywhere but a run's files.

A table is saved as CSV, to go on computing with, as LaTeX, to be printed, and as HTML, to be read in a
browser (`save`).
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from ebclib.config import Config, results_root
from ebclib.datasets import DATASETS
from ebclib.runs import Run, all_runs, write_csv, write_whole

from .html import html
from .latex import latex
from .layout import Best, has_labels, lay_out, run_names

PAPER_EPOCHS = Config.epochs
"""How long the published training is: the default of a run."""


def write_tables(runs: Sequence[Run] | None = None) -> dict[str, pd.DataFrame]:
    """A table a data set, `results/tables/runs_<dataset>.*`, from ``runs`` (default: all finished ones).

    A row a run: run, split, images, MAE, RMSE (people), NAE, the mean predictor's MAE, their ratio, the
    share of images inside their 90 % interval, epochs, training minutes, device. Runs on different data sets
    never share a table. Returns the tables by data set.
    """
    looks = [look for run in (all_runs() if runs is None else runs) if (look := _look(run))]
    tables = {}
    for dataset in sorted({look.config.dataset for look in looks}):
        own = [look for look in looks if look.config.dataset == dataset]
        tables[dataset] = pd.DataFrame([look.row for look in own])
        title = DATASETS[dataset].title if dataset in DATASETS else dataset
        caption = f"{title}: finished runs; errors in people"
        below = note([look.config for look in own])
        save(tables[dataset], f"runs_{dataset}", digits=4, caption=caption, note=below)
    return tables


class _Look(NamedTuple):
    """A finished run's config, and its row of the table."""

    config: Config
    row: dict[str, object]


def _look(run: Run) -> _Look | None:
    """What a run's files say; None where it is unfinished, or just now begun anew by somebody else."""
    try:
        metrics, config, device = run.metrics, run.config, run.provenance["device"]
    except FileNotFoundError:
        return None
    row = {
        "run": run.name,
        "split": metrics["split"],
        "images": metrics["images"],
        "MAE": metrics["mae"],
        "RMSE": metrics["rmse"],
        "NAE": metrics.get("nae"),
        "mean_predictor_MAE": metrics["mean_predictor_mae"],
        "ratio": metrics["mae"] / metrics["mean_predictor_mae"],
        "inside_90": metrics["inside_interval"],
        "epochs": metrics["epochs"],
        "minutes": metrics["training_minutes"],
        "device": device,
    }
    return _Look(
        config, {name: math.nan if value is None else value for name, value in row.items()}
    )


def note(configs: Sequence[Config]) -> str:
    """What must be said below a table of runs of these: how far they are from the paper's training.

    Empty where all of them were trained on published pictures for as many epochs.
    """
    drawn = any(DATASETS[c.dataset].is_drawn for c in configs if c.dataset in DATASETS)
    epochs = [config.epochs for config in configs if config.epochs < PAPER_EPOCHS]
    if drawn:
        return "Demo: drawn crowds and short training. It tests the code; not comparable with the paper."
    if not epochs:
        return ""
    least, most = min(epochs), max(epochs)
    length = f"{least}" if least == most else f"{least} to {most}"
    return (
        f"Trained for {length} epochs, not for the published {PAPER_EPOCHS}: not comparable with the "
        "paper's tables."
    )


def save(
    table: pd.DataFrame,
    name: str,
    digits: int = 6,
    *,
    caption: str | None = None,
    note: str = "",
    label: str | None = None,
    runs: pd.DataFrame | None = None,
    decimals: int | None = None,
    best: Best | Mapping[Hashable, Best] | None = None,
) -> Path:
    """Write a table to `results/tables/` as `<name>.csv`, `<name>.tex` and `<name>.html`, each whole.

    An index that only numbers the rows is left out; any other is there as the first columns. Columns of
    several levels stand under grouped headings, and in the CSV under one, joined by spaces.

    Parameters
    ----------
    table : a frame of numbers, or of text such as "12.3 ± 0.4"; missing values are missing in the CSV
        and a dash in print
    name : of the files, below a folder (``demo/table1``) if it is to be
    digits : significant digits in the CSV
    caption : None: made from ``name``
    note : stands below the printed table; what must not be missed, such as `note` of its runs
    label : for LaTeX's references; None: ``tab:`` and the name
    runs : the run or runs (a name, or several) each number is from, in a frame labelled like ``table``;
        written to `<name>.runs.csv`, and shown where the mouse rests on a number in HTML
    decimals : of all printed numbers that are not whole; None: what each column needs
    best : ``min`` or ``max`` prints the best number of each column bold, of "mean ± sd" by the mean; a
        mapping does so for some columns. The CSV's numbers stay as they are

    Returns
    -------
    path of the CSV

    Raises
    ------
    ValueError : two columns of one name, ``runs`` labelled otherwise than ``table``, ``best`` of no
        column, or a character that LaTeX has no command for; nothing is written then
    """
    layout = lay_out(table, runs, decimals, best)
    caption = (
        caption or Path(name).name.strip("0123456789").strip("_").replace("_", " ").capitalize()
    )
    label = label or f"tab:{name.replace('_', '-').replace('/', ':')}"
    path = results_root() / "tables" / f"{name}.csv"
    printed = {
        ".tex": latex(layout, caption, label, note),
        ".html": html(layout, caption, note),
    }
    write_csv(path, _flat(table), digits)
    for suffix, text in printed.items():
        write_whole(path.with_suffix(suffix), lambda part, text=text: part.write_text(text))
    beside = path.with_suffix(".runs.csv")
    if runs is None:
        beside.unlink(missing_ok=True)  # of a former table: it would name other numbers' runs
    else:
        write_csv(beside, _flat(runs.map(run_names)))
    return path


def _flat(table: pd.DataFrame) -> pd.DataFrame:
    """A frame of one heading a column and no index, as a CSV has them."""
    if table.columns.nlevels > 1:
        names = [" ".join(str(part) for part in key if part != "") for key in table.columns]
        table = table.set_axis(names, axis="columns")
    return table.reset_index() if has_labels(table) else table
