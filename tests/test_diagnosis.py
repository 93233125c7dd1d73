"""Where a model errs: numbers worked out by hand, and models that err in known ways."""

import math

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torchmetrics.functional.classification import multiclass_calibration_error

from ebclib import studies
from ebclib.bins import fine, interval
from ebclib.data import Sample
from ebclib.encoders.encoder import Encoder
from ebclib.models import BlockwiseModel


def brightness_model(head, values=()):
    """Sees people where a block is white: it counts them, or is sure that they are there."""
    image = nn.Conv2d(3, 1, 8, 8, bias=False)
    nn.init.constant_(image.weight, 1 / 256)  # exact: of a white block it makes 0.75
    encoder = Encoder(image=image, channels=1, stride_px=8, mean=(0.0,) * 3, std=(1.0,) * 3)
    model = BlockwiseModel(encoder, values, 8, head).eval()
    if head == "regression":
        weight, bias = [(15 + math.log(math.e - 1)) / 0.75], [-15.0]  # softplus(ln(e − 1)) is 1
    else:
        weight, bias = [0.0, 80.0, 0.0][: len(values)], [0.0, -30.0, -60.0][: len(values)]
    model.head.classify.weight.data = torch.tensor(weight).view(-1, 1, 1, 1)
    model.head.classify.bias.data = torch.tensor(bias)
    return model


def white(blocks, name, points=None):
    """An image of blocks that are white where ``blocks`` is 1; one person in each unless given."""
    blocks = np.asarray(blocks)
    pixels = np.kron(blocks * 255, np.ones((8, 8))).astype(np.uint8)
    if points is None:
        points = np.argwhere(blocks)[:, ::-1] * 8.0 + 4
    return Sample(np.repeat(pixels[..., None], 3, axis=2), np.asarray(points, float), name)


SEEN = white([[1, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]], "seen")
BESIDE = white([[0, 1], [0, 0]], "beside", [[4.0, 4.0]])  # predicted one block to the right
MISSED = white([[0, 0, 0, 1]], "missed", [[4.0, 4.0], [4.5, 4.0], [28.0, 4.0]])
SPLIT = [SEEN, BESIDE, MISSED]


@pytest.fixture(scope="module", params=["regression", "linear"])
def found(request):
    model = brightness_model(request.param, [] if request.param == "regression" else [0, 1])
    return studies.diagnose(model, SPLIT, fine(1))


def test_images_and_blocks_say_who_is_missed_and_who_is_made_up(found):
    images = found.images.set_index("image")
    assert images["points"].tolist() == [3, 1, 3]
    assert images["count"].tolist() == pytest.approx([3, 1, 1], abs=1e-4)
    assert images["count_in_empty_blocks"].tolist() == pytest.approx([0, 1, 0], abs=1e-4)
    assert images["absolute"].tolist() == pytest.approx([0, 2, 2], abs=1e-4)
    assert np.isnan(images.loc["beside", "spacing"]), "somebody alone is no distance from anybody"
    sums = found.blocks.groupby("image", sort=False)[["blocks", "people", "predicted"]].sum()
    assert sums["blocks"].tolist() == [12, 4, 4] and sums["people"].tolist() == [3, 1, 3]
    assert np.allclose(sums["predicted"], images["count"])


def test_an_error_of_place_is_gone_in_a_larger_window_and_a_missed_person_is_not(found):
    windows = found.windows.pivot(index="image", columns="side_px", values="absolute")
    assert windows.loc["beside"].dropna().tolist() == pytest.approx([2, 0], abs=1e-4)
    assert windows.loc["missed"].dropna().tolist() == pytest.approx([2, 2, 2], abs=1e-4)
    table = studies.by_window(found.windows)
    assert table.index.tolist() == [8, 16, 32]
    assert table["error"].tolist() == pytest.approx([4 / 3, 2 / 3, 2 / 3], abs=1e-4)
    mae = (found.images["count"] - found.images["points"]).abs().mean()
    assert table["error"].iloc[-1] == pytest.approx(mae)


def test_groups_of_blocks_hold_everybody(found):
    ranges = studies.by_range(found.blocks)
    assert ranges.index.tolist() == ["0", "1", "2"]
    assert ranges["blocks"].tolist() == [14, 5, 1] and ranges["people"].sum() == 7
    assert ranges["share_of_error"].tolist() == pytest.approx([0.25, 0.25, 0.5], abs=1e-4)
    assert ranges["per_block"].tolist() == pytest.approx([1 / 14, 4 / 5, 0], abs=1e-4)
    assert np.isnan(ranges["relative"].iloc[0]) and ranges["relative"].iloc[2] == pytest.approx(-1)
    spacing = studies.by_spacing(found.blocks)
    assert spacing["blocks"].sum() == 16, "all but those of the image with one person"
    assert (spacing["relative_low"] <= spacing["relative"]).all()


def test_a_regression_model_has_no_classes_and_a_classifier_has(found):
    if found.confusion is None:
        assert found.calibration is None and found.expected is None
        return
    assert found.confusion.tolist() == [[13, 1], [2, 4]]
    assert np.allclose(found.expected, found.confusion, atol=1e-4), "it is sure of everything"
    assert studies.calibration_error(found.calibration) == pytest.approx([0.15] * 3, abs=1e-4)
    table = studies.class_table(found.calibration, found.confusion, fine(1))
    assert table["blocks"].tolist() == [14, 6] and table["said"].tolist() == [15, 5]
    assert table["recall"].tolist() == pytest.approx([13 / 14, 4 / 6])
    assert table["expected"].tolist() == pytest.approx([15, 5], abs=1e-3)


def test_interval_bins_are_classes_of_smoothed_counts():
    """Sharp, the person's block alone is somebody's; wide, all four are, which the model does not say."""
    model, bins = brightness_model("linear", [0.0, 1.0, 2.0]), interval(4, 3)
    assert str(bins) == "[0, 0.05) [0.05, 4) [4, ∞)"
    sharp = studies.diagnose(model, [BESIDE], bins, smoothing_px=2.0)
    assert sharp.confusion.tolist() == [[2, 1, 0], [1, 0, 0], [0, 0, 0]]
    wide = studies.diagnose(model, [BESIDE], bins, smoothing_px=8.0)
    assert wide.confusion.tolist() == [[0, 0, 0], [3, 1, 0], [0, 0, 0]]
    with pytest.raises(ValueError, match="smoothing_px"):
        studies.diagnose(model, [BESIDE], bins)


def test_what_cannot_be_compared_is_refused():
    model = brightness_model("linear", [0, 1])
    with pytest.raises(ValueError, match="no labels or no images"):
        studies.diagnose(model, [], fine(1))
    with pytest.raises(ValueError, match=r"2 bins; got \{0\} \{1\} \{2\}"):
        studies.diagnose(model, SPLIT, fine(3))
    with pytest.raises(ValueError, match="2 bins; got None"):
        studies.diagnose(model, SPLIT, None)


def test_the_spacing_of_a_regular_grid():
    x, y = np.meshgrid(np.arange(5) * 10.0 + 5, np.arange(4) * 10.0 + 5)
    grid = np.stack([x.ravel(), y.ravel()], axis=1)
    assert studies.local_spacing(grid, 1) == pytest.approx(np.full(20, 10.0))
    three = studies.local_spacing(grid).reshape(4, 5)
    assert three[1:-1, 1:-1] == pytest.approx(np.full((2, 3), 10.0))
    assert three[0, 0] == pytest.approx((20 + 10 * 2**0.5) / 3)
    blocks = studies.block_spacing(grid, 40, 50, 10, neighbours=1)
    assert blocks.shape == (4, 5) and blocks == pytest.approx(np.full((4, 5), 10.0))


def test_the_spacing_around_a_block_is_that_of_the_nearest_person():
    points = np.array([[1.0, 1], [3, 1], [60, 1], [76, 1]])
    assert studies.block_spacing(points, 8, 80, 8, 1)[0].tolist() == [2] * 4 + [16] * 6
    for few in (np.empty((0, 2)), np.array([[1.0, 1]])):
        assert np.isnan(studies.block_spacing(few, 8, 8, 8)).all()
        assert np.isnan(studies.local_spacing(few)).all()
    twice = np.array([[1.0, 1], [1, 1], [4, 1]])
    assert studies.local_spacing(twice, 1).tolist() == [0, 0, 3], "two on a pixel are two"


def test_a_calibrated_model_has_no_calibration_error_and_a_boaster_the_known_one():
    truth = np.array([0] * 8 + [1] * 2)
    calibrated = np.repeat([[0.8], [0.2]], 10, axis=1)
    sums = studies.reliability_sums(calibrated, truth)
    assert studies.calibration_error(sums) == pytest.approx([0, 0, 0])
    boaster = np.repeat([[0.95], [0.05]], 10, axis=1)
    sums = studies.reliability_sums(boaster, truth)
    assert studies.calibration_error(sums) == pytest.approx([0.15] * 3)
    rng = np.random.default_rng(0)
    p = rng.dirichlet([2.0, 1.0, 0.5], 100_000).T
    drawn = (rng.random(100_000) > p.cumsum(axis=0)).sum(axis=0)
    assert (studies.calibration_error(studies.reliability_sums(p, drawn)) < 0.01).all()


def test_the_calibration_error_is_torchmetrics_and_adds_up_over_images():
    rng = np.random.default_rng(1)
    p, truth = rng.dirichlet([1.0] * 4, 3000).T, rng.integers(0, 4, 3000)
    parts = [studies.reliability_sums(p[:, s], truth[s]) for s in (slice(1000), slice(1000, None))]
    expected = multiclass_calibration_error(
        torch.from_numpy(p.T.copy()), torch.from_numpy(truth), 4, 15, "l1"
    )
    assert studies.calibration_error(sum(parts))[-1] == pytest.approx(expected.item(), 1e-5)


def test_the_reliability_diagram_holds_every_block_once_for_each_class():
    rng = np.random.default_rng(2)
    p, truth = rng.dirichlet([5.0, 0.01], 500).T, rng.integers(0, 2, 500)
    table = studies.reliability(studies.reliability_sums(p, truth), ["none", "some"])
    by_class = table.groupby("class")
    assert by_class["blocks"].sum().to_dict() == {"none": 500, "some": 500, "top": 500}
    hits = (table["share"] * table["blocks"]).groupby(table["class"]).sum()
    assert hits["some"] == pytest.approx((truth == 1).sum())
    assert table["share"].between(table["share_low"] - 1e-12, table["share_high"] + 1e-12).all()
    assert table["probability"].between(0, 1).all()


@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 2**32 - 1))
def test_a_larger_window_errs_no_more_and_the_whole_by_the_image_s_error(h, w, seed):
    error = np.random.default_rng(seed).normal(size=(h, w))
    table = studies.window_errors(error, 8)
    assert (np.diff(table["absolute"]) <= 1e-9).all()
    assert table["absolute"].iloc[0] == pytest.approx(np.abs(error).sum())
    assert table["absolute"].iloc[-1] == pytest.approx(abs(error.sum()), abs=1e-9)
    assert table["side_px"].iloc[-1] >= 8 * max(h, w)


PREDICTIONS = pd.DataFrame(
    {
        "image": list("abcd"),
        "points": [0, 10, 100, 200],
        "count": [2.0, 8.0, 90.0, 150.0],
        "lower": [0.0, 5.0, 80.0, 160.0],
        "upper": [4.0, 9.0, 110.0, 190.0],
    }
)


def test_groups_of_images_by_hand():
    table = studies.by_people(PREDICTIONS, groups=2)
    assert table.index.tolist() == ["0–10", "100–200"] and table["images"].tolist() == [2, 2]
    assert table["people"].tolist() == [5, 150]
    assert table["mae"].tolist() == [2, 30] and table["bias"].tolist() == [0, -30]
    assert table["relative"].tolist() == pytest.approx([0.4, 0.2])
    assert table["inside"].tolist() == [0.5, 0.5]
    assert table["bias_low"].tolist() == [-2, -50] and table["bias_high"].tolist() == [2, -10]
    assert ((table["inside_low"] < 0.5) & (table["inside_high"] > 0.5)).all()
    assert "inside" not in studies.by_people(PREDICTIONS[["points", "count"]])
    everybody = studies.by_people(PREDICTIONS, groups=1)
    assert everybody.index.tolist() == ["0–200"]
    empty = studies.by_people(PREDICTIONS.iloc[:1], groups=6)
    assert empty.index.tolist() == ["0"] and np.isnan(empty["relative"].iloc[0])


def test_bootstrap_intervals_hold_the_mean_as_often_as_they_say():
    """95 % intervals of the MAE of 40 images, whose expectation is known."""
    rng = np.random.default_rng(3)
    held = 0
    for seed in range(100):
        some = pd.DataFrame({"points": np.full(40, 50.0)})
        some["count"] = some["points"] + rng.uniform(-10, 10, 40)
        row = studies.by_people(some, groups=1, seed=seed).iloc[0]
        held += row["mae_low"] <= 5 <= row["mae_high"]
    assert 86 <= held <= 100


def test_ranges_of_block_counts_double():
    blocks = pd.DataFrame({"people_in_block": [0, 3, 5, 40], "image": list("abba")})
    blocks = blocks.assign(blocks=1, people=blocks["people_in_block"], predicted=0.0, absolute=1.0)
    assert studies.by_range(blocks).index.tolist() == ["0", "3", "4–7", "32–40"]


@given(st.lists(st.integers(0, 3000), min_size=2, max_size=60), st.integers(2, 8))
def test_images_go_from_the_sparsest_to_the_most_congested_without_repeating(counts, number):
    chosen = studies.pick_images([str(k) for k in range(len(counts))], counts, number)
    people = [counts[k] for k in chosen]
    assert len(set(chosen)) == len(chosen) <= min(number, len(counts))
    assert people == sorted(people)
    assert people[0] == min(counts) and people[-1] == max(counts)


def test_images_are_found_by_name():
    assert studies.pick_images(["IMG_1", "IMG_2"], [5, 3], wanted=["IMG_2", "IMG_1"]) == [1, 0]
    with pytest.raises(ValueError, match="Did you mean 'IMG_2'"):
        studies.pick_images(["IMG_1", "IMG_2"], [5, 3], wanted=["IMG_22"])
    with pytest.raises(ValueError, match="at least 2"):
        studies.pick_images(["IMG_1", "IMG_2"], [5, 3], number=1)


def test_the_annotation_of_another_image_is_doubted_first():
    """It has as many people as the model sees, elsewhere; the crowd is miscounted, but in its place."""
    left = np.kron([[1, 0]], np.ones((8, 8)))  # white in its left 64 px
    crowd = white(left, "crowd", np.tile([[4.0, 4.0]], (90, 1)))
    swapped = white(left, "swapped", white(left[:, ::-1], "its own").points)
    few = white([[0, 1], [0, 0]], "few", [[4.0, 4.0]])
    model = brightness_model("regression")
    found = studies.diagnose(model, [crowd, few, swapped, white(left, "right")], None)
    table = studies.suspect_annotations(found, 2).set_index("image")
    assert table.index.tolist() == ["swapped", "crowd"]
    assert table["misplaced"].tolist() == pytest.approx([1, 26 / 154], abs=1e-5)
    mean = (154 + 2 + 128 + 128) / 4
    doubts = [128 / (128 + mean), 26 / (154 + mean)]
    assert table["doubt"].tolist() == pytest.approx(doubts, abs=1e-5)
    assert table["count"].tolist() == pytest.approx([64, 64], abs=1e-3)
    by_block = studies.suspect_annotations(found, window_px=4).set_index("image")["misplaced"]
    assert by_block["crowd"] == pytest.approx((89 + 63) / 154, abs=1e-5)


def test_somebody_made_up_in_an_empty_image_is_no_reason_to_doubt_it():
    crowd = white(np.ones((8, 8)), "crowd", np.tile([[4.0, 4.0]], (160, 1)))
    ghost = white([[0, 1], [0, 0]], "ghost", np.empty((0, 2)))
    found = studies.diagnose(brightness_model("regression"), [ghost, crowd], None)
    table = studies.suspect_annotations(found)
    assert table["image"].tolist() == ["crowd", "ghost"]
    assert table["misplaced"].tolist() == pytest.approx([96 / 224, 1], abs=1e-5)
