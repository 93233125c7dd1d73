import time

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist

from ebclib.blocks import block_counts
from ebclib.evaluation import localisation
from ebclib.evaluation.positions import find_positions, match

CLOUD = st.integers(0, 12).flatmap(
    lambda n: arrays(np.float64, (n, 2), elements=st.floats(0, 60, width=16))
)


def test_a_person_is_found_within_the_distance_and_no_farther():
    there = np.array([[10.0, 10.0]])
    assert match(np.array([[17.9, 10.0]]), there, 8) == 1
    assert match(np.array([[18.1, 10.0]]), there, 8) == 0
    assert match(there, there, 8) == 1, "a distance of 0 is near enough"
    assert match(np.array([[15.0, 15.0]]), there, 8) == 1, "Euclidean, 7.07"
    assert match(np.array([[16.0, 16.0]]), there, 8) == 0


def test_the_matching_is_the_largest_where_the_nearest_pair_first_is_not():
    found, annotated = np.array([[0.0, 0], [6, 0]]), np.array([[5.0, 0], [13, 0]])
    # 6 is nearest to 5; taken first, 0 has nobody left within 8 (13 is too far)
    assert match(found, annotated, 8) == 2


def shares(tp: int, fp: int, fn: int) -> tuple[float, float, float]:
    """Precision, recall and F1."""
    table = pd.DataFrame([(8.0, tp, fp, fn)], columns=["distance_px", "tp", "fp", "fn"])
    (found,) = localisation(table)
    return found["precision"], found["recall"], found["f1"]


def test_a_person_is_counted_once():
    crowd = np.array([[10.0, 10], [11, 10], [12, 10]])
    assert match(crowd, crowd[:1], 8) == 1
    assert shares(1, 2, 0) == (1 / 3, 1, 0.5)


def test_nobody_and_no_point_is_right():
    nothing, one = np.empty((0, 2)), np.zeros((1, 2))
    assert match(nothing, nothing, 8) == match(one, nothing, 8) == match(nothing, one, 8) == 0
    assert shares(0, 0, 0) == (1, 1, 1) and shares(0, 1, 0)[2] == shares(0, 0, 1)[2] == 0
    with pytest.raises(ValueError, match="distance_px is 0"):
        match(one, one, 0)


@given(CLOUD, CLOUD, st.sampled_from([4, 8, 16]))
def test_matches_are_one_to_one_symmetric_and_the_most(found, annotated, distance):
    here, back = match(found, annotated, distance), match(annotated, found, distance)
    assert here == back <= min(len(found), len(annotated))
    near = cdist(found, annotated) <= distance
    best = near[linear_sum_assignment(near, maximize=True)].sum() if near.size else 0
    assert here == best


def test_images_are_summed_not_averaged():
    rows = [(8, 98, 2, 2), (8, 0, 0, 100)]
    table = pd.DataFrame(rows, columns=["distance_px", "tp", "fp", "fn"])
    (found,) = localisation(table)
    assert found["recall"] == 0.49


def test_thousands_are_matched_and_found_in_seconds():
    rng = np.random.default_rng(0)
    points = rng.uniform(0, 2048, (10_000, 2))
    start = time.perf_counter()
    found = find_positions(block_counts(points, 2048, 2048, 8), 8, (2048, 2048))
    hits = match(found, points, 8)
    assert time.perf_counter() - start < 10
    assert len(found) == 10_000
    assert hits > 9500, "the centre of the right block is at most 5.7 px off"


@given(
    arrays(np.float64, (5, 7), elements=st.floats(0, 3)),
    st.sampled_from([8, 16]),
)
def test_there_are_as_many_points_as_people_and_all_inside(density, block):
    size = (5 * block - 3, 7 * block - 5)
    found = find_positions(density, block, size)
    assert len(found) == int(density.sum() + 0.5)
    assert ((found >= 0) & (found < size[::-1])).all()


@given(arrays(np.int64, (4, 6), elements=st.integers(0, 3)))
def test_sure_blocks_far_apart_keep_their_own_count(counts):
    spread = np.zeros((4 * 3, 6 * 3))
    spread[1::3, 1::3] = counts
    found = find_positions(spread, 8)
    assert (block_counts(found, 96, 144, 8) == spread).all()


def test_mass_between_blocks_is_one_person_between_them():
    density = np.zeros((6, 8))
    density[2:4, 3:5] = 0.25
    assert find_positions(density, 8).tolist() == [[32, 24]]
    density[2:4, 3:5] = 0.5
    assert len(find_positions(density, 8)) == 2


def test_the_surest_comes_first_and_faint_mass_is_still_counted():
    density = np.full((1, 10), 0.1)
    density[0, 8] = 1.0
    first, second = find_positions(density, 8)
    assert first.tolist() == [68, 4] and second[0] < 60


@pytest.mark.parametrize(
    ("density", "size", "message"),
    [
        (np.array([[-0.1]]), None, "not below 0"),
        (np.array([[np.nan]]), None, "finite"),
        (np.zeros((2, 2)), (16, 24), "blocks of 8 px"),
    ],
)
def test_what_is_no_map_is_refused(density, size, message):
    with pytest.raises(ValueError, match=message):
        find_positions(density, 8, size)


def test_points_of_a_map_are_near_the_people_it_was_made_from():
    """A map that is exact up to half a block's smoothing finds nearly everybody within a block and a half."""
    from ebclib.blocks import smoothed_counts

    rng = np.random.default_rng(1)
    points = rng.uniform(0, 256, (60, 2))
    density = smoothed_counts(points, 256, 256, 8, 4.0)
    assert match(find_positions(density, 8), points, 12) > 54


def test_rows_of_people_cost_no_more_than_others():
    """Two rows to the left, one to the right, and a point in the middle that fits in only if all to the
    right move by one. A search that looks into the left rows again and again takes 2⁴⁰ steps, as
    scipy's `maximum_bipartite_matching` does."""
    left = [(-10.0 * k, y) for k in range(1, 41) for y in (0.0, 1.0)]
    right = [(10.0 * k, 0.5) for k in range(1, 41)]
    found = np.array([*left, *right, (0.0, 0.5)])
    annotated = [(x - 5, y) for x, y in right] + [(405, 0.5)] + [(x + 5, y) for x, y in left]
    start = time.perf_counter()
    assert match(found, np.array(annotated), 5.5) == 121
    assert time.perf_counter() - start < 1
