import math

import numpy as np
import pandas as pd
import pytest
import torch

from ebclib import evaluation
from ebclib.data import Sample
from ebclib.encoders.encoder import Encoder
from ebclib.models import BlockwiseModel


def test_mae_rmse_and_nae_by_hand():
    assert evaluation.errors([10, 20, 30], [13, 16, 30]) == pytest.approx(
        {"mae": 7 / 3, "rmse": math.sqrt(25 / 3), "nae": 0.5 / 3}
    )
    assert evaluation.errors([0, 4], [3, 5])["nae"] == 0.25, "of the images with somebody in them"
    assert math.isnan(evaluation.errors([0], [3])["nae"])
    with pytest.raises(ValueError, match="no image"):
        evaluation.errors([], [])


def test_errors_keep_large_counts_exact():
    assert evaluation.errors([2**25 + 1], [2**25])["mae"] == 1


class OneSplit(list):
    """Two images of different sizes in memory."""

    names: tuple = ("a", "b")


@pytest.fixture
def always_one():
    """A model sure that every block holds one person."""
    convolution = torch.nn.Conv2d(3, 2, 8, 8)
    encoder = Encoder(
        image=convolution, channels=2, stride_px=8, mean=(0.5,) * 3, std=(0.5,) * 3, embedding=2
    )
    model = BlockwiseModel(encoder, [0, 1], 8, "linear")
    model.head.classify.weight.data.zero_()
    model.head.classify.bias.data = torch.tensor([0.0, 30.0])
    return model


def test_predictions_of_whole_images(always_one):
    split = OneSplit(
        Sample(np.zeros((h, w, 3), np.uint8), np.zeros((n, 2)), name)
        for h, w, n, name in ((16, 24, 3, "a"), (17, 8, 0, "b"))
    )
    always_one.train()
    found = evaluation.predict(always_one, split)
    assert found["image"].tolist() == ["a", "b"]
    assert found["points"].tolist() == [3, 0]
    assert found["count"].tolist() == pytest.approx([6, 3], abs=1e-4)
    assert (found["deviation"] < 1e-3).all()
    assert always_one.training, "the model is left as it was found"
    assert evaluation.predict(always_one, split, [1])["image"].tolist() == ["b"]


def test_conformal_intervals_hold_what_they_promise():
    """Exchangeable errors: intervals of 90 % hold 90 % of new images, within sampling error."""
    rng = np.random.default_rng(0)

    def images(n):
        deviation = rng.uniform(1, 20, n)
        count = rng.uniform(50, 500, n)
        points = count + rng.standard_t(3, n) * (deviation + 1) * 2.5
        return pd.DataFrame(
            {"image": "x", "points": points, "count": count, "deviation": deviation}
        )

    factor = evaluation.conformal_factor(images(2000))
    found = evaluation.with_intervals(images(4000), factor)
    assert found.columns.tolist() == ["image", "points", "count", "lower", "upper"]
    assert found["points"].between(found["lower"], found["upper"]).mean() == pytest.approx(
        0.9, abs=0.02
    )
    assert (found["lower"] >= 0).all()


def test_too_few_held_out_images_promise_nothing():
    few = pd.DataFrame(
        {"image": "x", "points": [1.0] * 8, "count": [2.0] * 8, "deviation": [1.0] * 8}
    )
    assert evaluation.conformal_factor(few) == math.inf
    nine = pd.DataFrame({"points": [1.0] * 9, "count": [2.0] * 9, "deviation": [1.0] * 9})
    assert evaluation.conformal_factor(nine) == 0.5
    found = evaluation.with_intervals(few, evaluation.conformal_factor(few))
    assert found[["lower", "upper"]].isna().all(axis=None)
    assert evaluation.summarise(found, [1])["inside_interval"] is None
    assert evaluation.summarise(found.assign(points=0), [1])["nae"] is None


def test_the_summary_compares_with_the_mean_predictor():
    found = pd.DataFrame(
        {"points": [10, 30], "count": [12, 30], "lower": [11, 20], "upper": [20, 40]}
    )
    summary = evaluation.summarise(found, [10, 20])
    assert summary["mae"] == 1 and summary["mean_predictor_mae"] == 10
    assert summary["inside_interval"] == 0.5 and summary["images"] == 2


def test_positions_are_matched_image_by_image_and_summed():
    found = pd.DataFrame(
        {"image": ["a", "b"], "positions": [np.array([[0.0, 0]]), np.array([[0.0, 0], [50, 0]])]}
    )
    people = [np.array([[10.0, 0]]), np.array([[3.0, 0]])]
    matches = evaluation.matches_table(found, people, [8, 16])
    assert matches.to_numpy().tolist() == [
        ["a", 8, 0, 1, 1],
        ["b", 8, 1, 1, 0],
        ["a", 16, 1, 0, 0],
        ["b", 16, 1, 1, 0],
    ]
    near, far = evaluation.localisation(matches)
    assert (near["distance_px"], near["precision"], near["recall"]) == (8, 1 / 3, 1 / 2)
    assert far["f1"] == pytest.approx(4 / 5)


def test_predictions_with_positions(always_one):
    split = OneSplit([Sample(np.zeros((16, 24, 3), np.uint8), np.zeros((1, 2)), "a")])
    (points,) = evaluation.predict(always_one, split, positions=True)["positions"]
    assert sorted(map(tuple, points.tolist())) == [(x, y) for x in (4, 12, 20) for y in (4, 12)]
