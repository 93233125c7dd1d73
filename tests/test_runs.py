import pandas as pd
import pytest

from ebclib import tables
from ebclib.config import make_config
from ebclib.runs import all_runs, open_run, write_csv, write_json, write_whole


def make_run(root, name, dataset="shb", mae=10.0):
    """A finished run's small files."""
    folder = root / "runs" / name
    write_json(folder / "config.json", make_config(dataset, name=name).to_dict())
    write_json(folder / "provenance.json", {"device": "a processor"})
    write_json(
        folder / "metrics.json",
        {
            "dataset": dataset,
            "split": "test",
            "images": 3,
            "mae": mae,
            "rmse": 12.0,
            "mean_predictor_mae": 40.0,
            "inside_interval": 0.9,
            "epochs": 2,
            "training_minutes": 1.0,
        },
    )


def test_a_file_is_whole_or_not_there(tmp_path):
    target = tmp_path / "deep" / "file.txt"
    write_whole(target, lambda part: part.write_text("old"))

    def dies(part):
        part.write_text("half of the n")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_whole(target, dies)
    assert target.read_text() == "old"


def test_csv_keeps_the_digits_asked_for(tmp_path):
    write_csv(tmp_path / "a.csv", pd.DataFrame({"x": [1.23456789]}), digits=3)
    assert (tmp_path / "a.csv").read_text() == "x\n1.23\n"


def test_what_is_not_there_is_said(tmp_path):
    make_run(tmp_path, "shb-one")
    run = open_run("shb-one", tmp_path / "runs")
    assert run.is_finished and run.config.dataset == "shb"
    with pytest.raises(FileNotFoundError, match=r"no model\.safetensors.*train it"):
        run.weights  # noqa: B018
    with pytest.raises(FileNotFoundError, match="Did you mean 'shb-one'"):
        open_run("shb-on", tmp_path / "runs")
    assert open_run(tmp_path / "runs" / "shb-one").name == "shb-one"


def test_tables_are_made_from_runs_and_never_mix_data_sets(tmp_path, monkeypatch):
    monkeypatch.setenv("EBC_RESULTS", str(tmp_path))
    make_run(tmp_path, "shb-one", mae=10)
    make_run(tmp_path, "shb-two", mae=20)
    make_run(tmp_path, "synthetic-one", "synthetic")
    write_json(tmp_path / "runs" / "shb-unfinished" / "config.json", make_config("shb").to_dict())
    assert len(all_runs()) == 4
    written = tables.write_tables()
    assert sorted(written) == ["shb", "synthetic"]
    stored = pd.read_csv(tmp_path / "tables" / "runs_shb.csv")
    assert stored["run"].tolist() == ["shb-one", "shb-two"]
    assert stored["ratio"].tolist() == [0.25, 0.5]
