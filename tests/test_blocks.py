"""People are conserved, and stand where they stand."""

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ebclib import blocks

SIDES = st.integers(1, 120)


@st.composite
def crowds(draw, least=1):
    """An image's sides and points inside it, ends of the half-open range included."""
    height, width = draw(st.integers(least, 120)), draw(st.integers(least, 120))
    inside = st.floats(0, 1, exclude_max=True)
    shares = draw(st.lists(st.tuples(inside, inside), max_size=40))
    points = np.array(shares).reshape(-1, 2) * (width, height)
    return np.minimum(points, np.nextafter((width, height), 0.0)), height, width


@given(crowds(), st.sampled_from([1, 3, 8, 16, 32]))
def test_every_person_is_in_exactly_one_block(crowd, block_size_px):
    points, height, width = crowd
    counts = blocks.block_counts(points, height, width, block_size_px)
    assert counts.shape == (-(-height // block_size_px), -(-width // block_size_px))
    assert counts.sum() == len(points)


@given(crowds(least=8))
def test_grid_blocks_are_windows_at_multiples_of_r(crowd):
    points, height, width = crowd
    windows = blocks.window_counts(points, height, width, 8)
    grid = blocks.block_counts(points, height, width, 8)
    assert (windows[::8, ::8] == grid[: height // 8, : width // 8]).all()


@given(crowds(), st.sampled_from([1, 3, 8, 16]), st.floats(0.01, 1000))
def test_smoothing_moves_people_and_loses_none(crowd, block_size_px, sigma_px):
    points, height, width = crowd
    smoothed = blocks.smoothed_counts(points, height, width, block_size_px, sigma_px)
    assert smoothed.shape == blocks.grid_shape(height, width, block_size_px)
    assert smoothed.sum() == pytest.approx(len(points), rel=1e-12, abs=1e-12)
    assert (smoothed >= 0).all()


@given(crowds(), st.sampled_from([1, 3, 8, 16]))
def test_a_very_narrow_kernel_leaves_the_counts_of_blocks(crowd, block_size_px):
    points, height, width = crowd
    off = np.abs(points - np.rint(points / block_size_px) * block_size_px).min(axis=1) > 1e-6
    points = points[off]  # a person on the edge of two blocks is split between them, rightly
    counts = blocks.block_counts(points, height, width, block_size_px)
    smoothed = blocks.smoothed_counts(points, height, width, block_size_px, 1e-8)
    assert smoothed == pytest.approx(counts, abs=1e-12)


@given(crowds(least=4), st.integers(0, 3))
def test_smoothing_sees_no_difference_between_left_and_right(crowd, extra):
    points, height, width = crowd
    width += -width % 8  # blocks of the mirrored image are the mirrored blocks
    points = points[points[:, 0] > 1e-6]
    mirrored = points * (-1, 1) + (width, 0)
    one, other = (
        blocks.smoothed_counts(p, height, width, 8, 2.0 + extra) for p in (points, mirrored)
    )
    assert one == pytest.approx(other[:, ::-1], abs=1e-12)


@pytest.mark.parametrize("sigma_px", [0.8, 2.5, 9.0, 40.0, 200.0])
def test_smoothing_against_a_sum_over_tiny_squares(sigma_px):
    """The mirrored Gaussian's density, summed in steps of 1/16 px; 20 × 13 px in blocks of 8."""
    height, width, step = 20, 13, 16
    points = np.array([[0.0, 0.0], [12.4, 3.3], [6.1, 19.9], [7.9, 8.2]])

    def density(at, side):  # (n,) -> (n, side * step), per pixel
        place = (np.arange(side * step) + 0.5) / step
        many = int(10 * sigma_px / side) + 2
        images = [2 * k * side + sign * at for k in range(-many, many + 1) for sign in (1, -1)]
        gaps = place - np.stack(images)[..., None]
        return np.exp(-0.5 * (gaps / sigma_px) ** 2).sum(axis=0) / sigma_px / np.sqrt(2 * np.pi)

    fine = density(points[:, 1], height).T @ density(points[:, 0], width) / step**2
    cut = [np.arange(0, side * step, 8 * step) for side in (height, width)]
    expected = np.add.reduceat(np.add.reduceat(fine, cut[0], axis=0), cut[1], axis=1)
    found = blocks.smoothed_counts(points, height, width, 8, sigma_px)
    assert found == pytest.approx(expected, abs=2e-3 / sigma_px**2)
    assert found.shape == (3, 2)


def test_two_people_on_one_pixel_are_two_unless_asked_otherwise():
    points = np.array([[4.2, 4.7], [4.9, 4.1], [20.0, 4.0]])
    assert blocks.window_counts(points, 8, 24, 8).max() == 2
    assert blocks.window_counts(points, 8, 24, 8, distinct_pixels=True).max() == 1
    assert blocks.block_counts(points, 8, 24, 8).tolist() == [[2, 0, 1]]


def test_a_point_outside_is_named():
    with pytest.raises(ValueError, match=r"1 of 2 points .* x=16, y=3.*0 ≤ x < 16"):
        blocks.block_counts(np.array([[1.0, 1.0], [16.0, 3.0]]), 8, 16, 8)
    with pytest.raises(ValueError, match="outside"):
        blocks.block_counts(np.array([[np.nan, 1.0]]), 8, 16, 8)


def test_importing_blocks_loads_numpy_scipy_and_itself():
    code = (
        "import sys, ebclib.blocks\n"
        "assert not {'torch', 'pandas'} & sys.modules.keys()\n"
        "own = {name for name in sys.modules if name.startswith('ebclib')}\n"
        "assert own == {'ebclib', 'ebclib.blocks'}, own\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_label_correction_follows_the_paper():
    assert [blocks.max_count(r) for r in (8, 16, 32)] == [4, 16, 64]
    with pytest.raises(ValueError, match="min_person_px is 9"):
        blocks.max_count(8, 9)


def test_shapes_that_cannot_be():
    with pytest.raises(ValueError, match="at least 1"):
        blocks.grid_shape(0, 5, 8)
    with pytest.raises(ValueError, match="holds no window of 8 px"):
        blocks.window_counts(np.zeros((0, 2)), 7, 30, 8)
    with pytest.raises(ValueError, match="width above 0"):
        blocks.smoothed_counts(np.zeros((0, 2)), 8, 8, 8, 0)
    with pytest.raises(ValueError, match="width above 0"):
        blocks.smoothed_counts(np.zeros((0, 2)), 8, 8, 8, float("nan"))
    assert blocks.smoothed_counts(np.zeros((0, 2)), 8, 16, 8, 1.0).tolist() == [[0.0, 0.0]]


def test_the_released_statistics_of_shanghaitech_b(ebc_data):
    """With people on one pixel counted once: the released code's numbers, to the last digit."""

    released = blocks.histogram(_windows(distinct_pixels=True))
    assert released.tolist() == [306656205, 2810354, 95231, 10591, 1751, 440, 147, 68, 11, 2]


def test_the_default_loses_nobody_on_shanghaitech_b(ebc_data):
    """All windows that lie inside an image, every person counted: weighted by 64 windows each."""

    everyone = blocks.histogram(_windows(distinct_pixels=False))
    assert everyone.sum() == 400 * 761 * 1017
    released_people = sum(
        c * n for c, n in enumerate([306656205, 2810354, 95231, 10591, 1751, 440, 147, 68, 11, 2])
    )
    assert (everyone * np.arange(len(everyone))).sum() > released_people
    grid = blocks.histogram(blocks.block_counts(points, 768, 1024, 8) for points in _points())
    assert (grid * np.arange(len(grid))).sum() == sum(len(p) for p in _points())


def _points():
    from ebclib import data

    return [sample.points for sample in data.read("shb", "train")]


def _windows(distinct_pixels):
    for points in _points():
        yield blocks.window_counts(points, 768, 1024, 8, distinct_pixels)
