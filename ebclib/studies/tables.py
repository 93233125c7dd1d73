"""Tables to files: CSV to compute with, LaTeX to print, HTML to read."""

from __future__ import annotations

import html
import math
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
from pandas.io.formats.style import Styler
from pylatexenc.latexencode import UnicodeToLatexEncoder

from ebclib.config import results_root
from ebclib.runs import write_csv, write_whole

MISSING = "–"
"""What a printed cell without a value shows."""

_NUMBER = r"[−-]?(?:∞|[\d.]+(?:e[−-]?\d+)?)\s*(?:%|±.*|\(.*\))?"
_LATEX = UnicodeToLatexEncoder(unknown_char_policy="fail").unicode_to_latex
_FONT = "font: 14px/1.45 system-ui, sans-serif; border-collapse: collapse; border-block: 2px solid"
_STYLE = [
    {"selector": "", "props": f"{_FONT}; margin: 1em auto"},
    {"selector": "thead", "props": "border-block-end: 1px solid"},
    {"selector": "th, td", "props": "padding: .2em .7em; font-weight: 400; text-align: start"},
]
_RIGHT = [{"selector": "", "props": "text-align: end; white-space: nowrap"}]
_SHRUNK = r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%" + "\n"


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
    caption, note : above and below the printed table; a caption of None is made from ``name``
    runs : the run or runs of each number, labelled like ``table``: `<name>.runs.csv`, and HTML titles
    decimals : of all printed numbers that are not whole; None: what each column needs

    Raises
    ------
    ValueError : labels that are there twice or other in ``runs``, characters that LaTeX has not; nothing
        is written then
    """
    for axis, labels in (("rows", table.index), ("columns", table.columns)):
        if not labels.is_unique:
            twice = labels[labels.duplicated()].tolist()
            raise ValueError(f"The {axis} {twice} are there twice: name each differently.")
    if runs is not None:
        if not (runs.index.equals(table.index) and runs.columns.equals(table.columns)):
            raise ValueError("runs and table have other labels: give runs.reindex_like(table).")
        runs = runs.map(lambda run: ", ".join(run) if isinstance(run, list) else str(run))
    caption = caption or Path(name).name.strip("0123456789_").replace("_", " ").capitalize()
    label, text = re.sub(r"[^a-zA-Z0-9:]", "-", name.replace("/", ":")), as_text(table, decimals)
    printed = {".tex": _latex(text, caption, label, note)}
    printed[".html"] = _html(text, caption, label.replace(":", "-"), note, runs)
    path = results_root() / "tables" / f"{name}.csv"
    write_csv(path, _flat(table), digits)
    for suffix, content in printed.items():
        write_whole(
            path.with_suffix(suffix), lambda part, content=content: part.write_text(content)
        )
    path.with_suffix(".runs.csv").unlink(missing_ok=True)  # of a former table
    if runs is not None:
        write_csv(path.with_suffix(".runs.csv"), _flat(runs))
    return path


def as_text(table: pd.DataFrame, decimals: int | None = None) -> pd.DataFrame:
    """Every cell as it is printed; the numbers of a column have equally many decimals.

    >>> as_text(pd.DataFrame({"a": [13.0, -29.844], "b": [None, True], "c": [2e-7, 1.0]})).to_numpy()
    array([['13.00', '–', '2e−07'],
           ['−29.84', 'yes', '1']], dtype=object)
    """
    columns = {}
    for k, (_, column) in enumerate(table.items()):
        places = _places(column) if decimals is None else decimals
        columns[k] = [_shown(value, places) for value in column]
    return pd.DataFrame(columns, table.index, dtype=object).set_axis(table.columns, axis=1)


def _shown(value: object, decimals: int | None) -> str:
    if pd.api.types.is_scalar(value) and pd.isna(value):
        return MISSING
    if isinstance(value, float | np.floating):
        value = f"{value:.4g}" if decimals is None else f"{value:.{decimals}f}"
        return value.replace("-", "−").replace("inf", "∞")
    if isinstance(value, bool | np.bool_):
        return "yes" if value else "no"
    text = " ".join(str(value).split())
    return text.replace("-", "−") if isinstance(value, int | np.integer) else text


def _places(column: pd.Series) -> int | None:
    """Decimals for four digits of the largest number and two of the smallest; None: too far apart."""
    there = [abs(float(value)) for value in column if isinstance(value, float | np.floating)]
    there = [value for value in there if math.isfinite(value) and value]
    if not there or all(value.is_integer() for value in there):
        return 0 if there else None
    high, low = (math.floor(math.log10(value)) for value in (max(there), min(there)))
    places = max(3 - high, 1 - low, 0)
    return places if places <= 6 else None


def _styler(cells: pd.DataFrame, escaped: Callable[[str], str]) -> Styler:
    """Cells as they are; labels and the index' names escaped."""
    cells = cells.rename_axis(index=[name and escaped(name) for name in cells.index.names])
    styler = Styler(cells, cell_ids=False)
    for axis in (0, 1):
        styler.format_index(lambda label: escaped(str(label)), axis=axis)
    return styler if _has_labels(cells) else styler.hide(axis="index")


def _latex(text: pd.DataFrame, caption: str, label: str, note: str) -> str:
    r"""A `table` with booktabs' rules; one wider than the line is shrunk to it."""

    def escaped(value: str) -> str:
        r"""Braces keep `\\` and rules before a cell from taking [ or * for an option of theirs."""
        latex = _LATEX(value).replace("|", r"{\textbar}")
        return f"{{{latex}}}" if latex.startswith(("[", "*")) else latex

    kinds = "l" * text.index.nlevels * _has_labels(text)
    kinds += "".join("r" if _is_numeric(column) else "l" for _, column in text.items())
    about = {
        "caption": escaped(caption),
        "label": f"tab:{label}",
        "position": "tbp",
        "hrules": True,
    }
    about |= {"column_format": f"@{{}}{kinds}@{{}}", "position_float": "centering"}
    about |= {"multicol_align": "c", "multirow_align": "naive"}
    written = _styler(text.map(escaped), escaped).to_latex(**about)
    below = rf"\par\medskip\parbox{{\linewidth}}{{\footnotesize {escaped(note)}}}" + "\n"
    for before, after in (
        (r"\begin{tabular}", _SHRUNK + r"\begin{tabular}"),
        (r"\end{tabular}", r"\end{tabular}}"),
        (r"\end{table}", (below if note else "") + r"\end{table}"),
    ):
        written = written.replace(before, after)
    return "% needs \\usepackage{booktabs,graphicx}\n" + written


def _html(text: pd.DataFrame, caption: str, uuid: str, note: str, runs: pd.DataFrame | None) -> str:
    """A fragment that a page can include and a browser opens as it is, in ASCII."""
    cells = text.map(html.escape)
    if runs is not None:
        titled = '<span title="run: ' + runs.map(html.escape) + '">' + cells + "</span>"
        cells = cells.where(runs == "", titled)
    styler = _styler(cells, html.escape).set_uuid(uuid).set_caption(html.escape(caption))
    right = {key: _RIGHT for key, column in text.items() if _is_numeric(column)}
    styler.set_table_styles(_STYLE).set_table_styles(right, overwrite=False)
    below = f"<p><small>{html.escape(note)}</small></p>\n" if note else ""
    return (styler.to_html() + below).encode("ascii", "xmlcharrefreplace").decode()


def _is_numeric(texts: pd.Series) -> bool:
    """Whether every text that is there is a number, or begins as "mean ± sd" does."""
    there = texts[texts != MISSING]
    return bool(len(there)) and there.str.fullmatch(_NUMBER).all()


def _has_labels(table: pd.DataFrame) -> bool:
    """Whether the index says something: it has a name, or is not just 0, 1, 2, …"""
    return table.index.names != [None] or not table.index.equals(pd.RangeIndex(len(table)))


def _flat(table: pd.DataFrame) -> pd.DataFrame:
    """A frame of one heading a column and no index, as a CSV has them."""
    if table.columns.nlevels > 1:
        names = [" ".join(str(part) for part in key if part != "") for key in table.columns]
        table = table.set_axis(names, axis="columns")
    return table.reset_index() if _has_labels(table) else table
