"""The validation part: disjoint, complete, alike, and the same again."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ebclib.bins import make_bins
from ebclib.config import make_config
from ebclib.data import hold_out
from ebclib.data.training_set import LEAST_CALIBRATING, TrainingSet
from ebclib.evaluation import conformal_factor

counts_of = st.lists(st.integers(0, 5000), min_size=2, max_size=400)


@given(counts_of, st.integers(0, 1000))
def test_disjoint_complete_deterministic(counts: list[int], seed: int):
    train, held = hold_out(counts, seed)
    assert sorted([*train, *held]) == list(range(len(counts)))
    assert len(train) >= 1 and len(held) >= 1
    for part, again in zip((train, held), hold_out(counts, seed), strict=True):
        assert np.array_equal(part, again) and np.array_equal(part, np.sort(part))


def test_a_tenth_is_held_and_the_seed_matters():
    counts = np.random.default_rng(0).geometric(0.01, 400)
    draws = [hold_out(counts, seed=seed)[1] for seed in range(5)]
    assert all(len(held) == 40 for held in draws)
    assert len({tuple(held) for held in draws}) == 5


def test_the_long_tail_is_in_both_parts():
    counts = np.random.default_rng(1).geometric(0.01, 400)
    top = set(np.argsort(counts)[-10:])
    for seed in range(20):
        _, held = hold_out(counts, seed=seed)
        assert len(top & set(held)) == 1
        assert abs(counts[held].mean() / counts.mean() - 1) < 0.1


@pytest.mark.parametrize("counts", [[], [3]])
def test_too_few_images(counts: list):
    with pytest.raises(ValueError, match="at least 2 images"):
        hold_out(counts)


@pytest.mark.parametrize("images", [400, 181, 170, 20])
def test_half_of_the_validation_images_selects_and_half_calibrates(images: int):
    counts = np.random.default_rng(2).geometric(0.01, images)
    train, held = hold_out(counts)
    split = SimpleNamespace(counts=counts)
    task = TrainingSet(split, train, held, make_bins("fine", 4), None, 4)
    assert all(np.array_equal(half, held) for half in task.halves(make_config(keep="last")))
    selecting, calibrating = task.halves(make_config())
    if len(held) < 2 * LEAST_CALIBRATING:  # too few for an interval in a half: all do both
        assert np.array_equal(selecting, held) and np.array_equal(calibrating, held)
        return
    assert sorted([*selecting, *calibrating]) == list(held)
    assert 0 <= len(selecting) - len(calibrating) <= 1
    assert len(calibrating) >= LEAST_CALIBRATING
    ordered = np.sort(counts[selecting])[: len(calibrating)], np.sort(counts[calibrating])
    assert (ordered[0] <= ordered[1]).all()  # one of each pair of neighbours
    assert (ordered[0][1:] >= ordered[1][:-1]).all()


def test_fewer_images_than_calibrate_have_no_interval():
    found = pd.DataFrame({"points": 5.0, "count": 4.0, "deviation": 1.0}, index=range(9))
    assert LEAST_CALIBRATING == 9 and np.isfinite(conformal_factor(found))
    assert conformal_factor(found[1:]) == np.inf
