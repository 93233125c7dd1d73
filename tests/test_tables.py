"""Tables hold what runs wrote, and say the same in CSV, LaTeX and HTML."""

import html
import re
import shutil
import subprocess
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
from pylatexenc.latexwalker import LatexEnvironmentNode, LatexWalker

from ebclib.config import make_config, results_root
from ebclib.runs import all_runs, write_json
from ebclib.studies import tables

ODD = "50% of a_b & $x$ {0} ~ ^ # \\ <i> |e| × − ± σ ≤ “q” é"


@pytest.fixture
def wide() -> pd.DataFrame:
    """Two groups of methods on two data sets, with every kind of cell there is."""
    columns = pd.MultiIndex.from_tuples(
        [("SHA", "MAE"), ("SHA", "RMSE"), ("SHB & 50%", "MAE"), ("", "bins")]
    )
    index = pd.MultiIndex.from_tuples(
        [("paper", "CSRNet"), ("paper", "[4, ∞) a_b"), ("ours", "x ± y")], names=["whose", "method"]
    )
    values = [
        ["12.3 ± 0.4", 20.0, np.nan, "[4, ∞)"],
        ["11.0 ± 0.2", 18.5, 6.25, ODD],
        [None, 19.0, -7.0, "*"],
    ]
    return pd.DataFrame(values, index=index, columns=columns)


@pytest.fixture
def names(wide) -> pd.DataFrame:
    """Which run each of its cells is from."""
    runs = pd.DataFrame("", index=wide.index, columns=wide.columns, dtype=object)
    runs.iat[1, 0] = "one"
    runs.iat[2, 1] = "two three"
    return runs


def test_tables_are_made_from_runs_and_never_mix_data_sets(make_run):
    make_run("shb-one", mae=10)
    make_run("shb-two", mae=20)
    make_run("synthetic-one", "synthetic")
    unfinished = results_root() / "runs" / "shb-unfinished"
    write_json(unfinished / "config.json", make_config("shb").to_dict())
    assert len(all_runs()) == 4
    written = tables.write_tables()
    assert sorted(written) == ["shb", "synthetic"]
    stored = pd.read_csv(results_root() / "tables" / "runs_shb.csv")
    assert stored["run"].tolist() == ["shb-one", "shb-two"]
    assert stored["ratio"].tolist() == [0.25, 0.5]
    shown = (results_root() / "tables" / "runs_shb.html").read_text()
    assert "Not the published 2600 epochs" in shown


@pytest.mark.parametrize("gone", ["metrics.json", "provenance.json", "config.json"])
def test_a_run_that_is_begun_anew_meanwhile_is_left_out(make_run, monkeypatch, gone):
    """Its folder may be emptied by another process after it was listed."""
    for name in ("shb-one", "shb-two"):
        make_run(name)
    listed = all_runs()
    (results_root() / "runs" / "shb-two" / gone).unlink()
    monkeypatch.setattr(tables, "all_runs", lambda: listed)
    assert tables.write_tables()["shb"]["run"].tolist() == ["shb-one"]


@pytest.mark.parametrize("content", ['{"future": 1}', "[1]", "no JSON"])
def test_a_foreign_run_is_named_and_left_out(make_run, content):
    for name in ("shb-one", "shb-two"):
        make_run(name)
    (results_root() / "runs" / "shb-two" / "config.json").write_text(content)
    with pytest.warns(UserWarning, match="shb-two is left out of the tables"):
        written = tables.write_tables()
    assert written["shb"]["run"].tolist() == ["shb-one"]


def test_a_table_is_saved_where_tables_are():
    path = tables.save(pd.DataFrame({"a": [1 / 3]}), "thirds", digits=3)
    assert path == results_root() / "tables" / "thirds.csv"
    assert path.read_text() == "a\n0.333\n"
    assert sorted(file.name for file in path.parent.iterdir()) == [
        "thirds.csv",
        "thirds.html",
        "thirds.tex",
    ]


def test_no_runs_make_no_tables():
    assert tables.write_tables() == {}


def test_a_csv_has_one_heading_a_column_and_the_index_that_says_something(wide):
    stored = pd.read_csv(tables.save(wide, "wide"))
    assert stored.columns.tolist() == [
        *("whose", "method", "SHA MAE", "SHA RMSE", "SHB & 50% MAE", "bins")
    ]
    assert stored["whose"].tolist() == ["paper", "paper", "ours"]
    assert stored["SHB & 50% MAE"].tolist()[1:] == [6.25, -7.0]


def test_latex_is_whole_and_every_line_has_every_column(wide, names):
    tables.save(wide, "06_wide", caption=ODD, note=ODD, runs=names)
    text = (results_root() / "tables" / "06_wide.tex").read_text()
    assert text.isascii()
    nodes, *_ = LatexWalker(text, tolerant_parsing=False).get_latex_nodes()
    (table,) = [node for node in nodes if isinstance(node, LatexEnvironmentNode)]
    assert table.environmentname == "table"
    escaped = r"50\% of a\_b \& \$x\$ \{0\}"
    assert r"\label{tab:06-wide}" in text and text.count(escaped) == 3
    lines = [line for line in text.splitlines() if line.endswith(r" \\")]
    assert len(lines) == 3 + 3
    for line in lines:
        ands = line.replace(r"\&", "").count("&")
        spanned = sum(int(part.split("}")[0]) - 1 for part in line.split(r"\multicolumn{")[1:])
        assert ands + 1 + spanned == 6, line
    assert r"\begin{tabular}{lllrrl}" in text
    assert "|" not in text, "prints a dash"


def test_no_line_of_latex_begins_with_what_the_command_before_it_would_take(wide):
    """`\\\\` and rules take [ and * for options of theirs."""
    tables.save(wide.reset_index()[[("", "bins"), ("SHA", "RMSE")]], "bins")
    lines = (results_root() / "tables" / "bins.tex").read_text().splitlines()
    ruled = [after for before, after in pairwise(lines) if before.endswith(("rule", r"\\"))]
    assert len(ruled) == 8
    assert not [line for line in ruled if line.startswith(("[", "*"))]


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="needs pdflatex")
def test_latex_compiles(wide, tmp_path):
    tables.save(wide, "wide", caption=ODD, note=ODD)
    document = r"\documentclass{article}\usepackage{booktabs}\begin{document}\input{wide}"
    (tmp_path / "all.tex").write_text(document + r"\end{document}")
    shutil.copy(results_root() / "tables" / "wide.tex", tmp_path)
    words = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "all.tex"]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_a_character_that_latex_lacks_is_named():
    with pytest.raises(ValueError, match="☃"):
        tables.save(pd.DataFrame({"é": ["a ☃"]}), "snow")
    assert not (results_root() / "tables").exists()


def test_html_is_text_with_the_runs_of_numbers(wide, names):
    tables.save(wide, "wide", caption=ODD, note="Demo: drawn.", runs=names)
    text = (results_root() / "tables" / "wide.html").read_text()
    assert "<i>" not in text and "Demo: drawn." in text
    cells = re.findall(r"<td[^>]*>(.*?)(?:<span[^>]*></span>)?</td>", text)
    cells = np.reshape([html.unescape(cell) for cell in cells], wide.shape)
    assert cells[1, 3] == ODD and cells[:, 1].tolist() == ["20", "18.5", "19"]
    assert 'colspan="2">SHA<' in text and 'rowspan="2">paper<' in text
    assert re.findall(r'content: "(.+)";', text) == ["one", "two three"]
    stored = pd.read_csv(results_root() / "tables" / "wide.runs.csv", keep_default_na=False)
    assert stored["SHA MAE"].tolist() == ["", "one", ""]


def test_cells_are_printed_as_one_writes_them():
    table = pd.DataFrame({"a": [13.0, -29.844], "whole": [2, 300], "far": [1.3e-7, None]})
    for decimals, expected in ((None, "13 2 1.3e−07 −29.84 300 –"), (1, "13.0 2 0.0 −29.8 300 –")):
        tables.save(table, "cells", decimals=decimals)
        text = (results_root() / "tables" / "cells.html").read_text()
        assert re.findall(r"<td[^>]*>(.*?)</td>", text) == expected.split()
