"""Experiments: plans read from YAML, runs trained once, tables made of what is there."""

import json

import numpy as np
import pandas as pd
import pytest

from ebclib import studies, training
from ebclib.config import make_config
from ebclib.runs import Run, code_digest, write_csv, write_json
from ebclib.studies import tables
from ebclib.studies.plan import begins_anew, is_done

PLAN = """
title: Two heads
note: small
defaults: {dataset: synthetic_small, model: mobilenetv2, pretrained: none, epochs: 1, crop_px: 32}
runs_per_job: 2
tables:
  table1:
    caption: Heads
    columns: {drawn: {}}
    rows:
      regression: {head: regression, seeds: [0, 1]}
      classifier: {head: linear, seeds: [0, 1]}
  table2:
    columns: {fine: {bins: fine}, coarse: {bins: coarse}}
    rows: {"8": {}, "16": {block_size_px: 16, max_count: 8}}
"""


@pytest.fixture
def plan(tmp_path, monkeypatch):
    """An experiment of its own, in a project of its own."""
    (tmp_path / "notebooks" / "params").mkdir(parents=True)
    (tmp_path / "pyproject.toml").touch()
    (tmp_path / "notebooks" / "params" / "heads.yaml").write_text(PLAN)
    monkeypatch.chdir(tmp_path)
    return studies.load("heads")


def finish(cell, error=3.0, **metrics):
    """The small files of a finished run whose every count is ``error`` too high."""
    points = np.array([10, 20, 30])
    frame = pd.DataFrame({"image": ["a", "b", "c"], "points": points, "count": points + error})
    write_json(cell.run.path / "config.json", cell.config.to_dict())
    write_json(cell.run.path / "provenance.json", {"device": "x", "code_digest": code_digest()})
    write_csv(cell.run.path / "predictions.csv", frame.assign(lower=0, upper=99))
    values = {"mae": error, "rmse": error, "mean_predictor_mae": 7.0, "split": "test"}
    values |= {"images": 3, "epochs": 1, "training_minutes": 0.1}
    write_json(cell.run.path / "metrics.json", values | metrics)


def test_cells_are_rows_times_columns_times_seeds_and_share_runs(plan):
    table1, table2 = plan.tables.values()
    assert [(c.row, c.config.seed) for c in table1.cells] == [
        ("regression", 0),
        ("regression", 1),
        ("classifier", 0),
        ("classifier", 1),
    ]
    assert [c.config.bins for c in table2.at("16", "coarse")] == ["coarse"]
    assert table2.at("16", "fine")[0].config.max_count == 8
    assert len(plan.cells) == 7  # "8" × fine is the classifier of seed 0
    assert table2.at("8", "fine")[0].config == table1.at("classifier", "drawn")[0].config
    assert sorted(n for names in plan.jobs.values() for n in names) == sorted(plan.cells)
    assert {len(names) for names in plan.jobs.values()} == {1, 2}


def test_a_changed_weight_changes_its_runs_alone(plan, tmp_path):
    path = tmp_path / "notebooks" / "params" / "heads.yaml"
    path.write_text(
        PLAN.replace("coarse: {bins: coarse}", "coarse: {bins: coarse, count_weight: 2}")
    )
    changed = set(studies.load("heads").cells)
    assert len(changed - set(plan.cells)) == len(set(plan.cells) - changed) == 2


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ("title:", "titel:", r"heads\.yaml: key 'titel' .* 'title'"),
        ("caption:", "capton:", r"table1: key 'capton' .* 'caption'"),
        ("bins: coarse", "bins: corse", r"table2, 8 × coarse: .*'corse' .* 'coarse'"),
        (
            "block_size_px: 16",
            "block_size: 16",
            r"table2, rows, 16: key 'block_size' .*block_size_px",
        ),
        ("rows:\n      regression", "rows: []\n    x:\n      regression", r"table1: key 'x'"),
        ("{head: linear, seeds: [0, 1]}", "3", r"table1, rows, classifier: lines such as"),
        ("note: small", "note: [", "not YAML"),
    ],
)
def test_a_plan_that_makes_no_sense_says_where(plan, tmp_path, before, after, message):
    assert before in PLAN
    path = tmp_path / "notebooks" / "params" / "heads.yaml"
    path.write_text(PLAN.replace(before, after, 1))
    with pytest.raises(ValueError, match=message):
        studies.load("heads")
    with pytest.raises(ValueError, match="Did you mean 'heads'"):
        studies.load("head")


def test_a_table_is_made_of_finished_runs_and_names_them(plan):
    table = plan.tables["table1"]
    text, source = studies.beside(table)
    assert (text == studies.MISSING).all(axis=None) and (source == "").all(axis=None)
    for cell, error in zip(table.cells, (4, 6, 3), strict=False):
        finish(cell, error)
    text, source = studies.beside(table)
    assert text.columns.tolist() == [("drawn", "MAE"), ("drawn", "RMSE")]  # nobody published those
    assert text.loc["regression", ("drawn", "MAE")] == "5.0 ± 1.4"
    assert text.loc["classifier", ("drawn", "MAE")] == "3.0"  # one of two seeds is there
    assert source.loc["classifier", ("drawn", "MAE")] == table.at("classifier", "drawn")[0].run.name
    assert len(studies.unfinished(plan)) == 4
    write_json(table.cells[0].run.path / "config.json", make_config(name="other").to_dict())
    with pytest.raises(ValueError, match="other parameters than its name says"):
        studies.results_of(table)


def test_published_numbers_stand_beside_runs_of_the_same_kind(plan, tmp_path):
    real = PLAN.replace(
        "dataset: synthetic_small, model: mobilenetv2", "dataset: shb, model: csrnet"
    ).replace("head: regression,", "head: regression, count_loss: mse,")
    (tmp_path / "notebooks" / "params" / "heads.yaml").write_text(real)
    table = studies.load("heads").tables["table1"]
    text, source = studies.beside(table)
    assert text["drawn", "MAE, paper"].tolist() == ["10.6", "6.9"]
    assert source["drawn", "RMSE, paper"].str.startswith("Table I (").all()


def test_a_classifier_is_compared_with_regression_image_by_image(plan):
    table = plan.tables["table1"]
    for cell, error in zip(table.cells, (4, 6, 3, 3), strict=True):
        finish(cell, error)
    (pair,) = studies.against_regression(table, resamples=99).to_dict("records")
    assert (pair["regression"], pair["classifier"], pair["seeds"]) == (*table.rows, "2 / 2")
    assert pair["before"] == 5 and pair["improvement"] == 40
    assert pair["difference"] == pair["lower"] == pair["upper"] == 2 and pair["images"] == 3
    frame = table.cells[0].run.predictions
    write_csv(table.cells[0].run.path / "predictions.csv", frame.iloc[:2])
    with pytest.raises(ValueError, match="did not count the same images"):
        studies.against_regression(table)


def test_the_paired_interval_holds_the_difference_as_often_as_it_says(tmp_path):
    rng = np.random.default_rng(0)
    inside = 0
    for trial in range(20):
        runs = []
        for side, mean in enumerate((5.0, 4.0)):
            run = Run(tmp_path / f"{trial}-{side}")
            points = np.full(80, 50)
            count = points + np.abs(rng.normal(mean, 1, 80))
            names = [f"p{i}" for i in range(80)]
            frame = pd.DataFrame({"image": names, "points": points, "count": count})
            write_csv(run.path / "predictions.csv", frame)
            runs.append([run])
        found = studies.paired_difference(*runs, resamples=199)
        inside += found["lower"] <= 1 <= found["upper"]
    assert 16 <= inside <= 20


def test_what_is_done_depends_on_parameters_code_and_weights(plan, tmp_path):
    path = tmp_path / "notebooks" / "params" / "heads.yaml"
    path.write_text(PLAN + "follow_code: true\n")
    demo = studies.load("heads")
    cell = demo.tables["table1"].cells[0]
    assert not is_done(cell, demo) and not begins_anew(cell, demo)
    finish(cell)
    assert is_done(cell, plan)  # small files are enough, unless the code is followed
    assert not is_done(cell, demo)
    (cell.run.path / "model.safetensors").touch()
    assert is_done(cell, demo)
    write_json(cell.run.path / "provenance.json", {"device": "x", "code_digest": "older"})
    assert is_done(cell, plan) and not is_done(cell, demo) and begins_anew(cell, demo)
    (cell.run.path / "metrics.json").unlink()
    assert not is_done(cell, plan) and not begins_anew(cell, plan)  # stopped: it goes on
    assert begins_anew(cell, demo)  # but not with other code
    (cell.run.path / "provenance.json").unlink()
    assert begins_anew(cell, demo)
    write_json(cell.run.path / "config.json", cell.config.to_dict() | {"workers": 2})
    assert not begins_anew(cell, plan)
    write_json(cell.run.path / "config.json", cell.config.to_dict() | {"seed": 7})
    assert begins_anew(cell, plan)


def test_costs_grow_with_images_and_pixels(plan):
    table = studies.costs(plan, teraflops=1.0)
    assert len(table) == 7 and not table["finished"].any()
    assert (table["crops"] == 115).all()  # 128 images less a tenth, one epoch
    linear = table["petaflop"].filter(like="-linear-").iloc[0]
    assert table["hours"].filter(like="-linear-").iloc[0] == pytest.approx(linear * 1e3 / 3600)
    text = studies.format_costs(table)
    assert "7 of 7 runs to train" in text
    finish(plan.tables["table1"].cells[0])
    assert "6 of 7 runs to train" in studies.format_costs(studies.costs(plan))


def test_missing_runs_are_trained_and_a_failing_one_stops_no_other(
    plan, tmp_path, monkeypatch, capsys
):
    """One run fails; of two in a row the second is what it is alone; a third time nothing is done."""
    monkeypatch.setenv("EBC_DATA", str(tmp_path))
    path = tmp_path / "notebooks" / "params" / "heads.yaml"
    path.write_text(PLAN.replace("coarse: {bins: coarse}", "coarse: {bins: coarse, dataset: shb}"))
    plan = studies.load("heads")  # some of its runs are on data that is not there
    (missing, *_), names = sorted(n for n in plan.cells if "shb" in n), sorted(plan.cells)[-2:]
    assert studies.train_runs(plan, [missing, *names]) == [missing]
    assert "is not there" in capsys.readouterr().err
    second = plan.cells[names[1]].run
    together = json.loads((second.path / "metrics.json").read_text())
    alone = training.train(plan.cells[names[1]].config, progress=False, replace=True).metrics
    assert alone["mae"] == pytest.approx(together["mae"], rel=1e-4)
    assert studies.train_runs(plan, names) == []
    assert capsys.readouterr().err.count("finished before") == 2


def test_the_experiments_of_the_repository_fill_every_table_of_the_paper():
    """All but the one that compares methods at a small budget, which has tables of its own."""
    assert set(studies.names()) >= {"demo", "paper", "shanghaitech", "two_cores"}
    for name in studies.names():
        plan = studies.load(name)
        assert plan.note, name
        assert all(table.caption for table in plan.tables.values()), name
    for name in ("demo", "paper", "shanghaitech"):
        plan = studies.load(name)
        assert {"table1", "table2", "table3", "table4"} <= set(plan.tables), name
        assert plan.tables["table3"].rows[:3] == [
            "Blockwise",
            "+ integer bins",
            "+ label correction",
        ]


def test_a_claim_is_told_in_standard_errors(plan, monkeypatch):
    claim = ("EBC betters regression", "table1", "classifier", "regression")
    monkeypatch.setattr(tables, "CLAIMS", (claim,))
    table = plan.tables["table1"]
    for cell, error in zip(table.cells, (4, 6, 3), strict=False):
        finish(cell, error)
    (row,) = studies.claims(plan.tables).to_dict("records")
    assert (row["mae"], row["than"], row["seeds"]) == (3, 5, 1) and np.isnan(row["standard_errors"])
    finish(table.cells[3], 3)
    assert studies.claims(plan.tables)["standard_errors"].tolist() == [2]


def test_the_recorded_demo_shows_what_is_stable_and_no_more(demo_runs):
    """EBC against regression over two seeds; what the paper's tables say is told as it came out."""
    table = studies.load("demo").tables["table1"]
    maes = {
        row: [
            json.loads((demo_runs / c.config.name / "metrics.json").read_text())["mae"]
            for c in cells
        ]
        for row in ("clip_lite, regression", "clip_lite, EBC")
        if (cells := table.at(row, "synthetic_small"))
    }
    regression, ebc = maes.values()
    assert len(ebc) == len(regression) == 2
    assert max(ebc) < min(regression)
