"""Runs to tables, and tables to files: nothing in a table comes from anywhere but a run's files.

A table is saved as CSV, to go on computing with, as LaTeX, to be printed, and as HTML, to be read in a
browser (`save`).
"""

from __future__ import annotations

import html
import math
import re
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import pandas as pd
from pandas.io.formats.style import Styler
from pylatexenc.latexencode import UnicodeToLatexEncoder

from ebclib.config import Config, results_root
from ebclib.data import DATASETS
from ebclib.runs import Run, all_runs, write_csv, write_whole
from ebclib.studies.tables.layout import as_text, has_labels, is_numeric, relabelled

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
    """What a run's files say; None where it is unfinished, or just now begun anew by somebody else.

    A run whose files another program or version wrote is named in a warning, and left out.
    """
    try:
        return _Look(run.config, _row(run))
    except FileNotFoundError:
        return None
    except (KeyError, TypeError, ValueError, AttributeError) as problem:
        warnings.warn(
            f"{run.path} is left out of the tables: another version, or another program, wrote it "
            f"({type(problem).__name__}: {problem}).",
            stacklevel=3,
        )
        return None


def _row(run: Run) -> dict[str, object]:
    metrics = run.metrics
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
        "device": run.provenance["device"],
    }
    return {name: math.nan if value is None else value for name, value in row.items()}


def note(configs: Sequence[Config]) -> str:
    """What must be said below a table of runs of these: how far they are from the paper's training.

    Empty where all of them were trained on published images for as many epochs.
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
    runs: pd.DataFrame | None = None,
    decimals: int | None = None,
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
    runs : the run or runs (a name, or several) each number is from, in a frame labelled like ``table``;
        written to `<name>.runs.csv`, and shown where the mouse rests on a number in HTML
    decimals : of all printed numbers that are not whole; None: what each column needs

    Returns
    -------
    path of the CSV

    Raises
    ------
    ValueError : two rows or columns of one name, ``runs`` labelled otherwise than ``table``, or a
        character that LaTeX has no command for; nothing is written then
    """
    for axis, labels in (("rows", table.index), ("columns", table.columns)):
        if not labels.is_unique:
            twice = labels[labels.duplicated()].tolist()
            raise ValueError(f"The {axis} {twice} are there twice: name each differently.")
    if runs is not None:
        if not (runs.index.equals(table.index) and runs.columns.equals(table.columns)):
            raise ValueError(
                f"runs has shape {runs.shape}, or other labels than the table's {table.shape}; expected "
                "is the run of every cell under the same index and columns: runs.reindex_like(table)."
            )
        runs = runs.map(_names)
    text = as_text(table, decimals)
    caption = (
        caption or Path(name).name.strip("0123456789").strip("_").replace("_", " ").capitalize()
    )
    path = results_root() / "tables" / f"{name}.csv"
    label = re.sub(r"[^a-zA-Z0-9:]", "-", name.replace("/", ":"))
    printed = {
        ".tex": _latex(text, caption, f"tab:{label}", note),
        ".html": _html(text, caption, label.replace(":", "-"), note, runs),
    }
    write_csv(path, _flat(table), digits)
    for suffix, content in printed.items():
        write_whole(
            path.with_suffix(suffix), lambda part, content=content: part.write_text(content)
        )
    beside = path.with_suffix(".runs.csv")
    if runs is None:
        beside.unlink(missing_ok=True)  # of a former table: it would name other numbers' runs
    else:
        write_csv(beside, _flat(runs))
    return path


_ESCAPED = UnicodeToLatexEncoder(unknown_char_policy="fail").unicode_to_latex
_STYLE = [
    {
        "selector": "",
        "props": "border-collapse: collapse; border-block: 2px solid; margin: 1em auto; "
        "font: 14px/1.45 system-ui, sans-serif; font-variant-numeric: tabular-nums",
    },
    {"selector": "caption", "props": "padding: .5em; font-weight: 600; text-align: start"},
    {"selector": "thead", "props": "border-block-end: 1px solid"},
    {"selector": "th, td", "props": "padding: .2em .7em; font-weight: 400; text-align: start"},
    {"selector": "tbody th", "props": "vertical-align: top"},
    {"selector": "th[colspan]", "props": "text-align: center"},
]


def _latex(text: pd.DataFrame, caption: str, label: str, note: str) -> str:
    r"""A `table` ruled as booktabs rules tables; one wider than the line is shrunk to it.

    Text is text: nothing in a cell, heading, caption or note is taken for a command.
    """

    def escaped(value: str) -> str:
        r"""Braces keep `\\` and rules before a cell from taking [ or * for an option of theirs."""
        latex = _ESCAPED(value).replace("|", r"{\textbar}")
        return f"{{{latex}}}" if latex.startswith(("[", "*")) else latex

    styler = _styler(text, escaped)
    stubs = text.index.nlevels if has_labels(text) else 0
    kinds = ["r" if is_numeric(text.iloc[:, k]) else "l" for k in range(text.shape[1])]
    written = styler.set_caption(escaped(caption)).to_latex(
        column_format="@{}" + "l" * stubs + "".join(kinds) + "@{}",
        position="tbp",
        position_float="centering",
        hrules=True,
        label=label,
        multicol_align="c",
        multirow_align="naive",
    )
    shrunk = r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%" + "\n"
    written = written.replace(r"\begin{tabular}", shrunk + r"\begin{tabular}")
    below = (
        rf"\par\medskip\parbox{{\linewidth}}{{\footnotesize {escaped(note)}}}" + "\n"
        if note
        else ""
    )
    written = written.replace(r"\end{tabular}", r"\end{tabular}}")
    written = written.replace(r"\end{table}", below + r"\end{table}")
    return "% needs \\usepackage{booktabs,graphicx}\n" + written


def _html(text: pd.DataFrame, caption: str, uuid: str, note: str, runs: pd.DataFrame | None) -> str:
    """A fragment that a page can include and a browser opens as it is, in ASCII."""
    styler = _styler(text, html.escape).set_uuid(uuid)
    numbers = [key for k, key in enumerate(styler.columns) if is_numeric(text.iloc[:, k])]
    right = [{"selector": "", "props": "text-align: end; white-space: nowrap"}]
    styler.set_table_styles(_STYLE).set_table_styles(
        dict.fromkeys(numbers, right), overwrite=False
    ).set_caption(html.escape(caption))
    if runs is not None:
        cells = styler.data
        titled = '<span title="run: ' + runs.map(html.escape).to_numpy() + '">' + cells + "</span>"
        styler.data.iloc[:] = cells.where((runs == "").to_numpy(), titled)
    below = f"<p><small>{html.escape(note)}</small></p>\n" if note else ""
    return (styler.to_html() + below).encode("ascii", "xmlcharrefreplace").decode()


def _styler(text: pd.DataFrame, escaped: Callable[[str], str]) -> Styler:
    """A table of texts, each of them escaped."""
    styler = Styler(relabelled(text.map(escaped), escaped), cell_ids=False)
    return styler if has_labels(text) else styler.hide(axis="index")


def _names(value: object) -> str:
    """The runs of one cell as text: a name, several, or none."""
    if isinstance(value, list | tuple | set):
        return ", ".join(map(str, value))
    return "" if pd.isna(value) else " ".join(str(value).split())


def _flat(table: pd.DataFrame) -> pd.DataFrame:
    """A frame of one heading a column and no index, as a CSV has them."""
    if table.columns.nlevels > 1:
        names = [" ".join(str(part) for part in key if part != "") for key in table.columns]
        table = table.set_axis(names, axis="columns")
    return table.reset_index() if has_labels(table) else table
