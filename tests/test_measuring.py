"""A run's weights on other data than its own, and on images that nobody has labelled."""

import json
import re
import shutil

import fake_datasets as fake
import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import save_file

from ebclib import evaluation, training
from ebclib.__main__ import main
from ebclib.config import make_config, results_root
from ebclib.data import prepared
from ebclib.data.training_set import TrainingSet
from ebclib.models import build_model, load_model
from ebclib.runs import Run, write_json

FACTOR = 2.5


@pytest.fixture
def run(drawn, tmp_path, monkeypatch):
    """A run on `drawn`: weights nobody trained, and the metrics of its own evaluation."""
    monkeypatch.setenv("EBC_DATA", str(drawn))
    given = {"model": "mobilenetv2", "pretrained": "none", "precision": "fp32", "crop_px": 64}
    config = make_config("drawn", "two_cores_20min", **given, name="tiny")
    run = Run(results_root() / "runs" / "tiny")
    write_json(run.path / "config.json", config.to_dict())
    network = build_model(config, TrainingSet.of(config, progress=False))
    network.head.classify.bias.data[0] += 8  # few people
    save_file(network.state_dict(), run.path / "model.safetensors")
    own = {"dataset": "drawn", "split": "test", "interval_factor": FACTOR, "held_out_images": 9}
    write_json(run.path / "metrics.json", own | {"training_mean": 30.0})
    return run


@pytest.fixture
def square(tmp_path):
    """A folder elsewhere: three images in one heap, not divided into training and test."""
    folder = tmp_path / "elsewhere" / "square"
    rows = ["image,x,y"]
    for number, people in enumerate((1, 2, 4)):
        fake.save_image(folder / f"{number}.png", seed=number)
        rows += [f"{number}.png,{3 + 4 * k},{5 + k}" for k in range(people)]
    (folder / "points.csv").write_text("\n".join(rows))
    return folder


def predicted(run, split, **given):
    return evaluation.predict(load_model(run).to(memory_format=torch.channels_last), split, **given)


def names(run):
    return {path.name for path in run.path.iterdir()}


def test_another_folder_is_measured_whole_and_beside_the_run_s_own_files(run, square, capsys):
    before = (run.path / "metrics.json").read_bytes()
    assert main(["evaluate", "tiny", str(square), "--positions-px", "10"]) == 0
    said = capsys.readouterr().out
    assert "square all, 3 images: MAE" in said and "scaled on 9 validation images of drawn" in said
    assert (run.path / "metrics.json").read_bytes() == before
    suffix = training.metrics_suffix(run, data=square)
    assert re.fullmatch(r"-square-[0-9a-f]{6}-all", suffix)
    new = {f"{kind}{suffix}" for kind in ("metrics", "predictions", "positions")}
    assert {name.split(".")[0] for name in names(run)} >= new
    metrics = json.loads((run.path / f"metrics{suffix}.json").read_text())
    assert metrics["folder"] == str(square) and metrics["nae"] > 0
    assert metrics["trained_on"] == "drawn" and metrics["images"] == 3
    assert metrics["mean_predictor_mae"] == pytest.approx((29 + 28 + 26) / 3)
    found = pd.read_csv(run.path / f"predictions{suffix}.csv", dtype={"image": str})
    assert found["points"].tolist() == [1, 2, 4]
    there = prepared("square", "all", square.parent)
    again = predicted(run, there)
    reach = FACTOR * (again["deviation"] + 1)
    assert found["upper"].to_numpy() == pytest.approx(again["count"] + reach, rel=1e-3)
    matches = pd.read_csv(run.path / f"positions{suffix}.csv")
    assert matches["distance_px"].tolist() == [10] * 3
    assert (matches["tp"] + matches["fn"]).tolist() == [1, 2, 4]
    expected = [int(count + 0.5) for count in again["count"]]
    assert (matches["tp"] + matches["fp"]).tolist() == expected


def test_folders_of_one_name_have_files_of_their_own(run, square, tmp_path, capsys):
    other = shutil.copytree(square, tmp_path / "other" / "square")
    (other / "0.png").unlink()
    rows = (other / "points.csv").read_text().splitlines()
    (other / "points.csv").write_text("\n".join(r for r in rows if not r.startswith("0.png")))
    for folder, images in ((square, 3), (other, 2)):
        assert main(["evaluate", "tiny", str(folder)]) == 0
        assert f"{images} images" in capsys.readouterr().out
    found = [json.loads(path.read_text()) for path in run.path.glob("metrics-square-*.json")]
    assert {each["images"] for each in found} == {3, 2}


def test_without_an_interval_none_is_claimed(run, square, capsys):
    own = run.metrics | {"interval_factor": None, "held_out_images": 1}
    write_json(run.path / "metrics.json", own)
    assert main(["evaluate", "tiny", str(square)]) == 0
    assert "intervals: none; one of 90 % needs 9 validation images" in capsys.readouterr().out
    suffix = training.metrics_suffix(run, data=square)
    found = pd.read_csv(run.path / f"predictions{suffix}.csv")
    assert found[["lower", "upper"]].isna().all(axis=None)
    assert json.loads((run.path / f"metrics{suffix}.json").read_text())["inside_interval"] is None


def test_another_data_set_by_its_name(run, tmp_path, monkeypatch):
    fake.jhu(tmp_path)
    monkeypatch.setenv("EBC_DATA", str(tmp_path))
    assert main(["evaluate", "tiny", "--dataset", "jhu", "--split", "val"]) == 0
    metrics = json.loads((run.path / "metrics-jhu-val.json").read_text())
    assert (metrics["dataset"], metrics["split"], metrics["images"]) == ("jhu", "val", 1)
    assert [row["distance_px"] for row in metrics["positions"]] == [8, 16]


def test_the_run_s_own_data_by_name_or_path_is_its_own(run, drawn):
    assert training.metrics_suffix(run) == training.metrics_suffix(run, data="drawn") == ""
    assert training.metrics_suffix(run, data=drawn / "drawn") == ""
    assert training.metrics_suffix(run, "train") == "-train"


def test_the_benchmark_s_form_of_counts(run, tmp_path, monkeypatch, capsys):
    """NWPU-Crowd: a line a test image, `id count` with four decimals; no points are read."""
    folder = fake.nwpu(tmp_path)
    fake.save_image(folder / "images_part5" / "3610.jpg", seed=9, height=30, width=20)
    (folder / "test.txt").write_text("3610 0 1\n0004\n")
    monkeypatch.setenv("EBC_DATA", str(tmp_path))
    assert main(["submit", "tiny", "--dataset", "nwpu"]) == 0
    path = run.path / "submission-nwpu-test.txt"
    assert capsys.readouterr().out.strip() == str(path)
    found = predicted(run, prepared("nwpu", "test"))
    assert found["image"].tolist() == ["0004", "3610"]
    lines = path.read_text().splitlines()
    assert [re.fullmatch(r"(\d{4}) (\d+\.\d{4})", line)[1] for line in lines] == ["0004", "3610"]
    counts = [float(line.split()[1]) for line in lines]
    assert counts == pytest.approx(found["count"].tolist(), abs=1e-3) and min(counts) > 0


def test_the_benchmark_s_form_of_positions_is_in_the_published_image_s_pixels(
    run, tmp_path, monkeypatch
):
    fake.nwpu(tmp_path)
    monkeypatch.setenv("EBC_DATA", str(tmp_path))
    out = tmp_path / "positions.txt"
    assert main(["submit", "tiny", "--dataset", "nwpu", "--positions", "--out", str(out)]) == 0
    name, number, *numbers = out.read_text().split()
    split = prepared("nwpu", "test")
    found = predicted(run, split, positions=True)["positions"][0]
    assert (name, int(number)) == ("0004", len(found)) and len(numbers) == 2 * len(found) > 0
    assert (split.source_sizes, split.sizes) == ([(24, 32)], [(448, 597)])
    x, y = np.array(numbers, dtype=int).reshape(-1, 2).T
    assert x == pytest.approx(found[:, 0] * 32 / 597 - 0.5, abs=0.51)
    assert y == pytest.approx(found[:, 1] * 24 / 448 - 0.5, abs=0.51)
    assert x.max() < 32 and y.max() < 24


def test_an_own_folder_without_labels_can_be_submitted_but_not_measured(run, square, capsys):
    (square / "points.csv").unlink()
    (square / "dataset.yaml").write_text("splits: {train: 1, test: 2}\nunlabelled: [test, train]\n")
    words = ["tiny", str(square), "--split", "test"]
    assert main(["evaluate", *words]) == 1
    assert "no labels to measure against. `ebc submit" in capsys.readouterr().err
    assert main(["submit", *words]) == 0
    (path,) = run.path.glob("submission-square-*-test.txt")
    assert len(path.read_text().splitlines()) == 2
    assert main(["submit", *words, "--out", str(run.path)]) == 1
    assert "is a folder" in capsys.readouterr().err
    (square / "1.png").rename(square / "a b.png")
    (square / "0.png").rename(square / "c d.png")
    (square / "2.png").rename(square / "e f.png")
    assert main(["submit", *words]) == 1
    assert "may hold no space" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["evaluate", "tiny", "/not/there"], "There is no folder /not/there"),
        (["evaluate", "tiny", "--dataset", "shaa"], "Did you mean 'sha'"),
        (["evaluate", "tiny", "--split", "tset"], "Did you mean 'test'"),
        (["submit", "tiny", "--dataset", "nwpu"], "NWPU-Crowd (nwpu, split 'test') is not there"),
    ],
)
def test_what_is_not_there_is_named(run, words, message, capsys):
    assert main(words) == 1
    assert message in capsys.readouterr().err
