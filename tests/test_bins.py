import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ebclib.bins import Bin, Bins, fine, make_bins


def test_fine_bins_of_the_paper():
    assert [str(b) for b in fine(4).items] == ["{0}", "{1}", "{2}", "{3}", "[4, ∞)"]
    assert len(fine(16)) == 17 and fine(16).max_count == 16


@given(st.integers(1, 80))
def test_every_count_is_in_exactly_one_bin(m):
    bins = fine(m)
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


def test_representatives_are_the_mean_count_of_each_bin():
    histogram = np.array([306656205, 2810354, 95231, 10591, 1751, 440, 147, 68, 11, 2])
    means = fine(4).representatives(histogram)
    assert means[:4].tolist() == [0, 1, 2, 3]
    assert means[4] == pytest.approx(4.41009, abs=5e-6)


def test_an_empty_bin_keeps_its_middle():
    assert fine(4).representatives(np.array([5, 1])).tolist() == [0, 1, 2, 3, 4]
    pair = Bins((Bin(0, 0), Bin(1, 2), Bin(3, None)))
    assert pair.middles().tolist() == [0, 1.5, 3]


@pytest.mark.parametrize(
    ("items", "message"),
    [
        ((Bin(0, 0), Bin(2, None)), "should begin at 1"),
        ((Bin(0, 2), Bin(2, None)), "should begin at 3"),
        ((Bin(1, None),), "should begin at 0"),
        ((Bin(0, 1),), "must be open"),
        ((Bin(0, -1), Bin(0, None)), "holds nothing"),
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
    with pytest.raises(ValueError, match="integers from 0"):
        fine(4).classes(np.array([-1]))
    with pytest.raises(ValueError, match="integers from 0"):
        fine(4).classes(np.array([0.5]))
