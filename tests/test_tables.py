"""Tables hold what runs wrote, and say the same in CSV, LaTeX and HTML."""

import json
import shutil
import subprocess
from html.parser import HTMLParser
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
from pylatexenc.latexwalker import LatexEnvironmentNode, LatexWalker

from ebclib import tables
from ebclib.config import make_config, results_root
from ebclib.runs import all_runs, write_json
from ebclib.tables.latex import escaped
from ebclib.tables.layout import lay_out, shown

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
    runs.iat[1, 0] = ['one "and" <two>', "three"]
    runs.iat[2, 1] = "four"
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
    drawn = (results_root() / "tables" / "runs_synthetic.tex").read_text()
    assert "Demo: drawn crowds" in drawn and "not comparable" in drawn
    assert "not comparable" not in (results_root() / "tables" / "runs_shb.html").read_text()


@pytest.mark.parametrize("gone", ["metrics.json", "provenance.json", "config.json"])
def test_a_run_that_is_begun_anew_meanwhile_is_left_out(make_run, monkeypatch, gone):
    """Its folder may be emptied by another process after it was listed."""
    for name in ("shb-one", "shb-two"):
        make_run(name)
    listed = all_runs()
    (results_root() / "runs" / "shb-two" / gone).unlink()
    monkeypatch.setattr(tables, "all_runs", lambda: listed)
    assert tables.write_tables()["shb"]["run"].tolist() == ["shb-one"]


def test_a_note_says_how_much_shorter_the_training_was_than_the_paper_s(make_run):
    make_run("shb-paper")
    assert tables.note([run.config for run in all_runs()]) == ""
    for name, epochs in (("shb-short", 5), ("shb-longer", 40)):
        make_run(name)
        path = results_root() / "runs" / name / "config.json"
        write_json(path, json.loads(path.read_text()) | {"epochs": epochs})
    assert "5 to 40 epochs, not for the published 2600" in tables.note(
        [run.config for run in all_runs()]
    )


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


@pytest.mark.parametrize("best", [None, "min"])
def test_latex_is_whole_and_every_line_has_every_column(wide, names, best):
    tables.save(wide, "06_wide", caption=ODD, note=ODD, runs=names, best=best)
    text = (results_root() / "tables" / "06_wide.tex").read_text()
    assert text.isascii()
    nodes, *_ = LatexWalker(text, tolerant_parsing=False).get_latex_nodes()
    (table,) = [node for node in nodes if isinstance(node, LatexEnvironmentNode)]
    assert table.environmentname == "table"
    assert r"\label{tab:06-wide}" in text and text.count(escaped(ODD)) == 3
    lines = [line for line in text.splitlines() if line.endswith(r" \\")]
    assert len(lines) == 2 + 3
    for line in lines:
        ands = line.replace(r"\&", "").count("&")
        spanned = sum(int(part.split("}")[0]) - 1 for part in line.split(r"\multicolumn{")[1:])
        assert ands + 1 + spanned == 6, line
    assert r"\begin{tabular}{@{}llrrrl@{}}" in text
    assert r"\cmidrule(lr){3-4} \cmidrule(lr){5-5}" in text
    assert "|" not in text, "prints a dash"
    assert text.index(r"\bottomrule") < text.index(r"\footnotesize")
    assert text.count(r"\addlinespace") == 1


def test_no_line_of_latex_begins_with_what_the_command_before_it_would_take(wide):
    """`\\\\` and rules take [ and * for options of theirs."""
    tables.save(wide.reset_index()[[("", "bins"), ("SHA", "RMSE")]], "bins")
    lines = (results_root() / "tables" / "bins.tex").read_text().splitlines()
    ruled = [after for before, after in pairwise(lines) if before.endswith(("rule", r"\\"))]
    assert len(ruled) == 8
    assert not [line for line in ruled if line.startswith(("[", "*"))]


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="needs pdflatex")
def test_latex_compiles(wide, tmp_path):
    tables.save(wide, "wide", caption=ODD, note=ODD, best="min")
    document = r"\documentclass{article}\usepackage{booktabs,graphicx}\begin{document}\input{wide}"
    (tmp_path / "all.tex").write_text(document + r"\end{document}")
    shutil.copy(results_root() / "tables" / "wide.tex", tmp_path)
    words = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "all.tex"]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_a_character_that_latex_lacks_is_named():
    with pytest.raises(ValueError, match="holds ☃, which LaTeX has no command for"):
        tables.save(pd.DataFrame({"é": ["a ☃"]}), "snow")
    assert not (results_root() / "tables").exists()


class Cells(HTMLParser):
    """The lines of a table, each a list of (tag, attributes, text)."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.lines, self.tags = [], set()
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        if tag == "tr":
            self.lines.append([])
        if tag in ("th", "td"):
            self.lines[-1].append([tag, dict(attrs), ""])

    def handle_data(self, data):
        if self.lines and self.lines[-1]:
            self.lines[-1][-1][2] += data.strip()


def test_html_has_caption_scopes_every_cell_and_the_runs_of_numbers(wide, names):
    tables.save(wide, "wide", caption=ODD, note="Demo: drawn.", runs=names, best="min")
    text = (results_root() / "tables" / "wide.html").read_text()
    assert text.isascii() and "<i>" not in text
    cells = Cells(text)
    assert {"style", "table", "caption", "thead", "tbody", "tfoot", "strong"} <= cells.tags
    free = [0] * 6  # lines further down that a cell above still covers
    for line in cells.lines:
        places = [k for k, n in enumerate(free) if n == 0]
        widths = [int(attributes.get("colspan", 1)) for _, attributes, _ in line]
        assert sum(widths) == len(places)
        free = [max(0, n - 1) for n in free]
        taken = iter(places)
        for (_, attributes, _), width in zip(line, widths, strict=True):
            for _ in range(width):
                free[next(taken)] = int(attributes.get("rowspan", 1)) - 1
    heads = [cell for line in cells.lines for cell in line if cell[0] == "th"]
    assert {cell[1]["scope"] for cell in heads} == {"col", "colgroup", "row", "rowgroup"}
    titles = [cell[1]["title"] for line in cells.lines for cell in line if "title" in cell[1]]
    assert titles == ['run: one "and" <two>, three', "run: four"]
    assert cells.lines[3][4][2] == ODD
    stored = pd.read_csv(results_root() / "tables" / "wide.runs.csv", keep_default_na=False)
    assert stored["SHA MAE"].tolist() == ["", 'one "and" <two>, three', ""]
    tables.save(wide, "wide")
    assert not (results_root() / "tables" / "wide.runs.csv").exists()


def test_the_best_of_a_column_is_by_the_mean_and_of_the_columns_asked_for(wide):
    bold = {
        which: [
            [cell.text for cell in row.cells if cell.is_best]
            for row in lay_out(wide, best=which).body
        ]
        for which in ("min", "max")
    }
    assert bold["min"] == [[], ["11.0 ± 0.2", "18.50"], ["−7.000"]]
    assert bold["max"] == [["12.3 ± 0.4", "20.00"], ["6.250"], []]
    some = lay_out(wide, best={("SHA", "RMSE"): "min"})
    assert [sum(cell.is_best for cell in row.cells) for row in some.body] == [0, 1, 0]
    lone = lay_out(pd.DataFrame({"MAE": [3.0, np.nan]}), best="min")
    assert not any(cell.is_best for row in lone.body for cell in row.cells)


def test_numbers_of_a_column_have_as_many_decimals_as_one_another():
    table = pd.DataFrame({"a": [13.0, 29.844], "whole": [2.0, 300.0], "far": [1.3e-7, 1.0]})
    printed = [[cell.text for cell in row.cells] for row in lay_out(table).body]
    assert printed == [["13.00", "2", "1.3e−07"], ["29.84", "300", "1"]]
    assert [cell.text for cell in lay_out(table, decimals=1).body[1].cells] == [
        "29.8",
        "300.0",
        "1.0",
    ]
    values = [True, np.bool_(False), np.inf, -3, pd.NA, "two\nlines"]
    assert [shown(value) for value in values] == ["yes", "no", "∞", "−3", "–", "two lines"]


def test_what_cannot_be_a_table_is_said(wide, names):
    twice = pd.DataFrame([[1, 2]], columns=["a", "a"])
    with pytest.raises(ValueError, match=r"Columns \['a'\] are there twice"):
        tables.save(twice, "twice")
    with pytest.raises(ValueError, match="reindex_like"):
        tables.save(wide, "wide", runs=names.iloc[:2])
    with pytest.raises(ValueError, match="best 'least' is not known"):
        tables.save(wide, "wide", best="least")
    with pytest.raises(ValueError, match="column with a best number 'MEA' is not known"):
        tables.save(pd.DataFrame({"MAE": [1.0]}), "one", best={"MEA": "min"})
