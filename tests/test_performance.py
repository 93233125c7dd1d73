"""What measures: laps add up, both ways of transport agree, both ways to crops show the same."""

import time

import pandas as pd
import pytest
import torch

from benchmarks import figures, step
from benchmarks.crops import JpegCrops, compare_crops, draw_jpegs
from benchmarks.processes import compare_processes
from benchmarks.timing import Laps, race
from benchmarks.transport import compare_transport, transport_growth
from ebclib.data.crops import DeviceCrops, TrainingCrops


@pytest.fixture(scope="module")
def jpegs(tmp_path_factory):
    root = tmp_path_factory.mktemp("jpegs")
    return draw_jpegs(root, 4, 448, 512, people=12), root / "jpegs" / "train"


def test_a_race_takes_each_runner_s_best_round():
    waits = {"slow": iter([0.05, 0.03]), "fast": iter([0.04, 0.002])}
    runners = {name: lambda rest=rest: time.sleep(next(rest)) for name, rest in waits.items()}
    table = race(runners, rounds=2)
    assert list(table.index) == ["slow", "fast"]
    assert table["ms"]["slow"] >= 30 and 2 <= table["ms"]["fast"] < 30
    assert (table["cpu_ms"] < 20).all()  # it slept


def test_laps_are_named_and_in_order():
    laps = Laps(torch.device("cpu"))
    laps.lap("one")
    laps.lap("two")
    assert [row["part"] for row in laps.rows] == ["one", "two"]


def test_a_step_s_shares_are_those_of_a_whole(jpegs):
    crops = TrainingCrops(jpegs[0], range(4), 64, 8)
    model = step.make_model("clip_lite")
    before = [p.clone() for p in model.parameters()]
    parts = step.step_parts(model, DeviceCrops(crops, range(4), 2, "cpu"), steps=1)
    assert parts["share"].sum() == pytest.approx(1)
    assert set(figures.LOSS_PARTS) < set(parts.index) and (parts["ms"] > 0).all()
    summary = step.step_summary(parts)
    assert summary[["crops", "loss", "network"]].sum() == pytest.approx(1)
    assert any(not torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))
    assert figures.plot_step(parts).get_legend_handles_labels()[1]


def test_transport_is_compared_in_time_and_error():
    table = compare_transport([9, 30], 64, batch=2, rounds=1)
    assert table.index.names == ["people", "way"] and (table["ms"] > 0).all()
    assert table["times_faster"].xs("dense loop", level="way").tolist() == [1, 1]
    error = table["error"].unstack("people")
    assert (error.loc[["ours", "dense loop"]] < 1e-5).all(axis=None)
    assert (error.loc["POT, no floor"] > 0.05).all(), "without the floor the gradient is another"


def test_growth_varies_one_thing_at_a_time():
    growth = transport_growth([1, 5], [32, 64], [1, 2], rounds=1)
    assert len(growth) == 12 and growth["varied"].nunique() == 3
    assert len(figures.plot_growth(growth).axes) == 3
    assert set(growth["way"]) == {"ours", "dense loop"}


def test_both_ways_show_the_same_crops(jpegs):
    split, folder = jpegs
    crops = TrainingCrops(split, range(4), 64, 8, augmentation=None)
    usual = JpegCrops(folder, crops)
    assert len(usual) == 4
    for draw in range(4):
        image, points = usual[draw]
        assert (image.int() - crops[draw].image.int()).abs().float().mean() < 2
        assert torch.equal(points.float(), crops[draw].points)


def test_images_that_preparation_enlarges_are_refused(tmp_path):
    with pytest.raises(ValueError, match="sides of 448 or more"):
        draw_jpegs(tmp_path, 1, 96, 128)


def test_ways_to_crops_are_compared(jpegs):
    ways = compare_crops(*jpegs, crop_px=64, batch_size=2, workers=0, rounds=1)
    assert ways["times_faster"]["torchvision over JPEGs"] == 1
    assert len(figures.plot_crops(ways).patches) == 3


def test_precisions_are_compared_and_the_device_s_share_is_of_its_matrices():
    model = step.make_model("clip_lite")
    image = torch.zeros(2, 3, 64, 64, dtype=torch.uint8)
    table = step.compare_precisions(model, image)
    assert isinstance(table, pd.DataFrame) and len(table) == 4
    used = step.device_share(model, image, 1e9, "fp32")
    reached = used["images_per_s"] * 6e9 / 1e12
    assert used["network_tera_per_s"] == pytest.approx(reached)
    assert used["share"] == pytest.approx(reached / used["matrix_tera_per_s"])


def test_processes_share_a_training():
    table = compare_processes([1], "synthetic_small", crop_px=32, batch_size=16)
    assert table["times_faster"].tolist() == [1]
    assert table["crops_per_s"].item() == pytest.approx(112 / table["s_per_epoch"].item())
    with pytest.raises(ValueError, match="3 processes cannot share batches of 16"):
        compare_processes([3], "synthetic_small", batch_size=16)
    with pytest.raises(RuntimeError, match="training by 1 processes failed"):
        compare_processes([1], "synthetic_small", crop_px=33)
