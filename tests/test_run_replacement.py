"""Nothing that a user types empties a folder, and a finished run outlives a successor that fails."""

import dataclasses
import json
from pathlib import Path

import pytest

from ebclib import runs, training
from ebclib.__main__ import main
from ebclib.config import Config, make_config, project_root

SMALL = {"crop_px": 64, "batch_size": 4, "epochs": 1, "evaluate_every": 1, "precision": "fp32"}


@pytest.fixture
def make(drawn, monkeypatch):
    monkeypatch.setenv("EBC_DATA", str(drawn))

    def config(**given):
        return make_config("drawn", "two_cores_20min", **(SMALL | {"name": "kept"} | given))

    return config


def content(folder):
    return {p.relative_to(folder): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.mark.parametrize(
    "name",
    ["..", ".", "a/b", "/tmp/elsewhere", ".hidden", "", "a b", "-rf", "a\\b", "a\n", "x" * 201],
)
def test_a_name_is_one_folder_below_runs(name):
    with pytest.raises(ValueError, match="cannot name a run"):
        Config(name=name)


def test_names_in_use_are_allowed():
    recorded = runs.all_runs(project_root(Path(__file__).parent) / "results" / "runs")
    assert recorded and all(run.config.name == run.name for run in recorded)
    assert Config(name="a.b_c-d+e=1").name == "a.b_c-d+e=1"
    assert make_config("my birds;rm").name == "my_birds_rm-clip_lite-text-own-seed0"


@pytest.mark.parametrize(
    "given",
    [{"augmentation": "heavy"}, {"learning_rate": "inf"}, {"max_scale": "nan"}],
)
def test_values_no_training_can_have_are_refused_at_once(given):
    with pytest.raises(ValueError, match=next(iter(given))):
        make_config(**given)


def test_a_downloaded_config_cannot_lead_out_of_the_runs(make, tmp_path):
    folder = tmp_path / "downloaded"
    folder.mkdir()
    values = make().to_dict() | {"name": str(tmp_path / "precious")}
    (folder / "config.json").write_text(json.dumps(values))
    with pytest.raises(ValueError, match="cannot name a run"):
        _ = runs.open_run(folder).config


def test_a_folder_that_is_no_run_stays(make):
    folder = runs.results_root() / "runs" / "notes"
    folder.mkdir(parents=True)
    (folder / "thesis.txt").write_text("years of work")
    with pytest.raises(ValueError, match="no run"):
        training.train(make(name="notes"), progress=False)
    assert (folder / "thesis.txt").read_text() == "years of work"


def test_a_finished_run_is_replaced_only_when_its_successor_has_weights(make, capsys, monkeypatch):
    run = training.train(make(), progress=False)
    before = content(run.path)
    with pytest.raises(ValueError, match="--replace"):
        training.train(make(seed=1), progress=False)
    options = [f"--{k.replace('_', '-')}={v}" for k, v in SMALL.items()]
    lost = ["train", "drawn", "--name=kept", "--model=clip_rn50", "--replace", *options]
    assert main(lost) == 1 and "RN50" in capsys.readouterr().err
    assert content(run.path) == before

    def fail(*_):
        raise RuntimeError("the disk is full")

    with monkeypatch.context() as broken:
        broken.setattr(training.Trainer, "_one_epoch", fail)
        with pytest.raises(RuntimeError, match="disk"):
            training.train(make(seed=1), replace=True, progress=False)
    assert content(run.path) == before and runs.all_runs(run.path.parent) == [run]

    again = training.train(make(seed=1), replace=True, progress=False)
    assert again == run and run.config.seed == 1 and run.is_finished and run.has_weights
    assert [p.name for p in run.path.parent.iterdir() if p.is_dir()] == ["kept"]


def test_a_crash_while_runs_change_places_loses_neither(make):
    config = make()
    run = training.train(config, progress=False)
    before = content(run.path)
    run.path.rename(run.path.with_name(".former-kept"))  # as killed between the two renames
    assert training.train(config, resume=True, progress=False) == run
    assert content(run.path) == before


def test_an_unfinished_run_with_epochs_is_not_begun_anew_unasked(make):
    run = training.train(make(), progress=False)
    (run.path / "metrics.json").unlink()
    with pytest.raises(ValueError, match="--resume"):
        training.train(make(), progress=False)
    assert dataclasses.asdict(run.config) == dataclasses.asdict(make())
