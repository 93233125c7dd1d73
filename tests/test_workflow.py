"""The workbook as a whole: every item of the paper has a notebook, every notebook a place in the plan."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
import yaml

from ebclib import studies

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOKS = sorted(path.stem for path in (ROOT / "notebooks").glob("[0-9][0-9]_*.ipynb"))
ITEMS = [*(f"Fig. {n}" for n in (1, 2, 4, 5, 6)), *(f"Table {n}" for n in ("I", "II", "III", "IV"))]


PARTIAL = ("gpu_quarter_hour", "two_cores")
"""Experiments that make a table or two, and not every notebook."""


def rows_of_notebooks():
    """The README's table: notebook → its row."""
    lines = (ROOT / "README.md").read_text().splitlines()
    found = (re.match(r"\| \[(\w+)\]\(notebooks/\1\.ipynb\)", line) for line in lines)
    return {m[1]: line for m, line in zip(found, lines, strict=True) if m}


def test_every_notebook_has_a_row_and_a_place_in_every_whole_experiment():
    assert list(rows_of_notebooks()) == NOTEBOOKS
    for name in studies.names():
        own = sorted(studies.load(name).notebooks)
        assert own == NOTEBOOKS or (name in PARTIAL and set(own) <= set(NOTEBOOKS)), name


def test_an_experiment_gives_notebooks_parameters_that_they_have():
    for name in studies.names():
        for notebook, given in studies.load(name).notebooks.items():
            cells = nbformat.read(ROOT / "notebooks" / f"{notebook}.ipynb", as_version=4).cells
            known = re.findall(r"^(\w+) =", cells[2].source, re.MULTILINE)
            assert set(given) <= set(known), (name, notebook)


@pytest.mark.parametrize("item", ITEMS)
def test_every_item_of_the_paper_has_a_notebook(item):
    rows = [row.split("|")[3] for row in rows_of_notebooks().values()]
    if item.startswith("Table"):
        named = {
            n
            for row in rows
            for part in re.findall(r"Tables? ([IV, and–]+)", row)
            for n in re.findall(r"I{1,3}V?|IV", part)
        }
        assert item.split()[1] in named
    else:
        assert any(re.search(rf"{re.escape(item)}\b", row) for row in rows)


def snakemake(*words, results):
    """What a dry run prints."""
    environment = os.environ | {"EBC_RESULTS": str(results)}
    done = subprocess.run(
        [sys.executable, "-m", "snakemake", "--dry-run", *words],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout + done.stderr


def test_the_plan_says_what_it_would_train_and_what_that_costs(tmp_path):
    """A real experiment trains a run a job; the demo's, several, and by default."""
    plan = studies.load("shanghaitech")
    words = ("--cores", "2", "--config", "experiment=shanghaitech", "--workflow-profile", "none")
    told = snakemake(*words, results=tmp_path)
    assert f"{len(plan.cells)} of {len(plan.cells)} runs to train" in told and "PFLOP" in told
    assert re.search(rf"^notebook\s+{len(NOTEBOOKS)}$", told, re.MULTILINE)
    assert re.search(rf"^train\s+{len(plan.cells)}$", told, re.MULTILINE)
    (own,) = re.findall(r"wildcards: notebook=04_train\n(?: .*\n)*", told)  # it trains, too
    assert "gpu=1" in own and "threads: 2" in own
    assert len(studies.load("demo").jobs) < len(studies.load("demo").cells)


@pytest.mark.parametrize("profile", ["slurm", "kubernetes"])
def test_profiles_are_what_snakemake_reads(profile):
    content = yaml.safe_load((ROOT / "profiles" / profile / "config.yaml").read_text())
    assert content["executor"] == profile
    assert content["cores"] > 0  # the Snakefile gives a training all of them, and fails without
    assert "rules" not in content["quiet"]  # with it, nobody is told which job failed
    assert not {"set-resources", "set-threads"} & content.keys()  # the demo's jobs take other ones


@pytest.mark.parametrize("notebook", ["05_comparison", "06_ablations"])
def test_tables_without_runs_have_dashes(notebook, tmp_path, run_notebook):
    run_notebook(notebook, experiment="shanghaitech")
    folder = tmp_path / "results" / "tables" / "shanghaitech"
    written = {p.name for p in folder.iterdir()}
    for name in ("table1",) if notebook == "05_comparison" else ("table2", "table3", "table4"):
        assert {f"{name}.csv", f"{name}.tex", f"{name}.html", f"{name}.runs.csv"} <= written
        assert "–" in (folder / f"{name}.html").read_text().replace("&#8211;", "–")


def test_names_of_folders_and_data_sets_are_quoted(drawn, tmp_path):
    """A checkout below "My Project", and a data set whose name a shell would run a part of."""
    root, dataset = tmp_path / "My Project", "my birds; touch broken"
    (root / "notebooks" / "params").mkdir(parents=True)
    for name in ("Snakefile", "pyproject.toml"):
        shutil.copy(ROOT / name, root)
    plan = {"title": "odd", "notebooks": {"01_count_distribution": {"dataset": dataset}}}
    (root / "notebooks" / "params" / "odd.yaml").write_text(yaml.safe_dump(plan))
    (root / "notebooks" / "01_count_distribution.ipynb").touch()
    shutil.copytree(drawn / "drawn", root / "data" / dataset)
    done = root / "results" / "notebooks" / "odd" / f"prepare-{dataset}.done"
    words = [sys.executable, "-m", "snakemake", "--cores", "1", "--config", "experiment=odd", "--"]
    clean = {k: v for k, v in os.environ.items() if k not in ("EBC_DATA", "EBC_RESULTS")}
    clean["PYTHONPATH"] = str(ROOT)
    ran = subprocess.run([*words, str(done)], cwd=root, env=clean, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr[-2000:]
    assert done.is_file() and not (root / "broken").exists()
