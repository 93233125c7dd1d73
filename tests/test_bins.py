"""Every count is in exactly one bin, the published bins are the published ones, suggestions can be filled."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ebclib.bins import (
    NOBODY_BELOW,
    POLICIES,
    Bin,
    Bins,
    Interval,
    coarse,
    dynamic,
    fine,
    interval,
    make_bins,
)
from ebclib.studies.design import suggest

INTEGER = ("fine", "dynamic", "coarse")
SHB_WINDOWS = np.array([306656205, 2810354, 95231, 10591, 1751, 440, 147, 68, 11, 2])


def names(bins):
    return [str(item) for item in bins.items]


def test_the_published_bins():
    """Sec. III-A1 and IV-B: r = 8 with m = 4, and Table II's r = 16 with m = 8, r = 32 with m = 19."""
    assert names(fine(4)) == ["{0}", "{1}", "{2}", "{3}", "[4, ∞)"]
    assert str(dynamic(8)) == "{0} {1} {2} {3} {4,5} {6,7} [8, ∞)"
    assert str(coarse(8)) == "{0} {1,2} {3,4} {5,6} [7, ∞)"
    singles = [f"{{{c}}}" for c in range(10)]
    pairs = ["{10,11}", "{12,13}", "{14,15}", "{16,17}"]
    assert names(dynamic(19)) == [*singles, *pairs, "[18, ∞)"]
    pairs = [f"{{{c},{c + 1}}}" for c in range(1, 18, 2)]
    assert names(coarse(19)) == ["{0}", *pairs, "[19, ∞)"]


def test_the_open_bin_begins_at_m_or_one_below():
    assert [make_bins(p, 8).open_from for p in INTEGER] == [8, 8, 7]
    assert [make_bins(p, 19).open_from for p in INTEGER] == [19, 18, 19]
    assert fine(16).open_from == 16


@given(st.sampled_from(INTEGER), st.integers(1, 80))
def test_every_count_is_in_exactly_one_integer_bin(policy, m):
    bins = make_bins(policy, m)
    counts = np.arange(10_001)
    classes = bins.classes(counts)
    for count in (0, 1, m - 1, m, m + 1, 10_000):
        holding = [
            k
            for k, b in enumerate(bins.items)
            if b.low <= count and (b.high is None or count <= b.high)
        ]
        assert holding == [classes[count]]
    assert (np.diff(classes) >= 0).all() and classes.max() == len(bins) - 1
    assert m - 1 <= bins.open_from <= m


@given(st.integers(1, 64), st.integers(3, 80), st.floats(0, 1000))
def test_every_smoothed_count_is_in_exactly_one_interval(m, intervals, count):
    bins = interval(m, intervals)
    assert len(bins) == intervals and bins.open_from == m
    holding = [
        k for k, b in enumerate(bins.items) if b.low <= count and (b.high is None or count < b.high)
    ]
    assert holding == [bins.classes(np.array([count]))[0]]


def test_intervals_border_each_other_and_the_first_stands_for_nobody():
    bins = interval(16, 10)
    assert not bins.is_integer and bins.lows[1] == NOBODY_BELOW == 0.05
    assert [b.high for b in bins.items[:-1]] == bins.lows[1:].tolist()
    ratios = bins.lows[2:] / bins.lows[1:-1]
    assert ratios == pytest.approx(320 ** (1 / 8), rel=0.01)
    middles = bins.middles()
    assert middles[0] == 0 and middles[-1] == 16
    assert middles[1:-1] == pytest.approx((bins.lows[1:-1] + bins.lows[2:]) / 2)


def test_sixty_intervals_to_sixteen_have_the_step_of_liu_and_lu_s_code():
    steps = np.diff(np.log(interval(16, 60).lows[1:]))
    assert steps == pytest.approx(0.1, abs=0.02) and steps.mean() == pytest.approx(0.1, abs=1e-3)


def test_a_border_belongs_to_the_interval_above_it_as_in_torch_bucketize():
    torch = pytest.importorskip("torch")
    bins = interval(4, 7)
    counts = np.concatenate([bins.lows, bins.lows + 1e-9, np.linspace(0, 9, 50)])
    there = torch.bucketize(
        torch.from_numpy(counts), torch.from_numpy(bins.lows[1:].copy()), right=True
    )
    assert there.tolist() == bins.classes(counts).tolist()
    assert bins.classes(bins.lows).tolist() == list(range(7))


def test_representatives_are_the_mean_count_of_each_bin():
    means = fine(4).representatives(SHB_WINDOWS)
    assert means[:4].tolist() == [0, 1, 2, 3]
    assert means[4] == pytest.approx(4.41009, abs=5e-6)


@given(st.sampled_from(INTEGER), st.integers(1, 12), st.lists(st.integers(0, 30), min_size=1))
def test_mean_representatives_keep_the_number_of_people(policy, m, counts):
    """What Eq. 2 is for: summed over the blocks it was made from, a perfect classifier is exact."""
    bins = make_bins(policy, m)
    values = bins.representatives(np.bincount(counts))
    assert values[bins.classes(np.array(counts))].sum() == pytest.approx(sum(counts))
    assert bins.means(np.array(counts)) == pytest.approx(values)


def test_an_empty_bin_keeps_its_middle():
    assert fine(4).representatives(np.array([5, 1])).tolist() == [0, 1, 2, 3, 4]
    assert coarse(4).middles().tolist() == [0, 1.5, 3]
    assert interval(4, 3).means(np.array([0.0])).tolist() == [0, 2.025, 4]


def test_sizes_count_the_blocks_of_each_class():
    assert coarse(4).sizes(np.array([90, 5, 3, 1, 0, 1])).tolist() == [90, 8, 2]


@pytest.mark.parametrize(
    ("items", "message"),
    [
        ((Bin(0, 0), Bin(2, None)), "should begin at 1"),
        ((Bin(0, 2), Bin(2, None)), "should begin at 3"),
        ((Bin(1, None),), "should begin at 0"),
        ((Bin(0, 1),), "must be open"),
        ((Bin(0, -1), Bin(0, None)), "holds nothing"),
        ((Interval(0, 0.5), Interval(0.6, None)), r"\[0.6, ∞\) should begin at 0.5"),
        ((Interval(0, 0.5), Interval(0.4, None)), "should begin at 0.5"),
        ((Interval(0, 0), Interval(0, None)), "holds nothing"),
        ((Interval(0, 0.5),), "must be open"),
        ((Bin(0, 0), Interval(1, None)), "all Bin or all Interval"),
        ((), "at least one"),
    ],
)
def test_bins_that_leave_gaps_or_overlap_are_refused(items, message):
    with pytest.raises(ValueError, match=message):
        Bins(items)


def test_errors_say_what_to_do():
    with pytest.raises(ValueError, match="Did you mean 'fine'"):
        make_bins("fin", 4)
    with pytest.raises(ValueError, match="m ≥ 1"):
        make_bins("fine", 0)
    with pytest.raises(ValueError, match="at least 3"):
        make_bins("interval", 4, 2)
    with pytest.raises(ValueError, match="counted by m alone"):
        make_bins("coarse", 4, 7)
    with pytest.raises(ValueError, match="integers from 0"):
        fine(4).classes(np.array([-1]))
    with pytest.raises(ValueError, match="Smoothed counts need interval bins"):
        fine(4).classes(np.array([0.5]))
    for counts in ([-0.1], [np.nan]):
        with pytest.raises(ValueError, match="numbers from 0"):
            interval(4).classes(np.array(counts))


@pytest.mark.parametrize("ask", ["sizes", "representatives"])
def test_what_needs_whole_counts_refuses_intervals_and_says_what_instead(ask):
    given = (np.array([3, 1]),)
    with pytest.raises(ValueError, match=r"smoothed counts, not whole ones: "):
        getattr(interval(4), ask)(*given)


def test_every_policy_is_made_by_name():
    assert set(POLICIES) == {*INTEGER, "interval"}
    assert len(make_bins("interval", 4, 7)) == 7


def test_enough_of_every_count_suggests_fine_bins_up_to_the_limit():
    found = suggest(np.array([9000, 500, 400, 300, 200, 50]), 8)
    assert (found.policy, found.max_count) == ("fine", 4)
    assert found.sizes == (9000, 500, 400, 300, 250) and found.error == 0


def test_a_thin_tail_suggests_pairs_and_a_smaller_m():
    tail = np.array([43620, 6691, 2107, 899, 449, 226, 167, 93, 64, 49, 30, 23, 16, 19, 14, 6, 5])
    found = suggest(tail, 32)
    assert (found.policy, found.max_count) == ("dynamic", 11)
    assert str(found.bins) == "{0} {1} {2} {3} {4} {5} {6,7} {8,9} [10, ∞)"


@given(st.lists(st.integers(0, 400), min_size=3, max_size=20), st.integers(1, 100))
def test_a_suggestion_can_be_filled(blocks, least):
    histogram = np.array(blocks)
    if min(blocks[0], sum(blocks[1:])) < least:
        with pytest.raises(ValueError, match=f"a class needs {least}"):
            suggest(histogram, 16, min_blocks=least)
        return
    found = suggest(histogram, 16, min_blocks=least)
    assert min(found.sizes) >= least and sum(found.sizes) == histogram.sum()
    assert found.bins.sizes(histogram).tolist() == list(found.sizes)
