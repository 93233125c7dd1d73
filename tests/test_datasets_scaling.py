"""Sizes and points of prepared images: nobody is lost."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from ebclib.data.images import (
    MAX_PIXELS,
    frame_of,
    inside,
    prepared_size,
    scale_points,
    turn,
    upright_points,
)
from ebclib.data.preparation import doubts

sides = st.integers(1, 3000)


@pytest.mark.parametrize(
    ("size", "longest", "expected"),
    [
        ((768, 1024), None, (768, 1024)),
        ((448, 448), 448, (448, 448)),
        ((20, 20), None, (448, 448)),
        ((300, 182), None, (738, 448)),
        ((3000, 6000), 2048, (1024, 2048)),
        ((6000, 600), 2048, (4480, 448)),  # the least side has priority
        ((600, 3000), 2048, (448, 2240)),
        ((100, 4000), 2048, (448, 17920)),
        ((1, 20), None, (448, 8960)),
    ],
)
def test_sizes_by_hand(size, longest, expected):
    assert prepared_size(size, 448, longest) == expected


@given(sides, sides, st.none() | st.integers(448, 4000))
def test_sizes_keep_both_rules_and_the_aspect(height: int, width: int, longest: int | None):
    try:
        new = prepared_size((height, width), 448, longest)
    except ValueError:
        assert max(height, width) / min(height, width) * 448**2 > 0.99 * MAX_PIXELS
        return
    assert min(new) >= 448
    assert longest is None or max(new) <= longest or min(new) == 448
    if min(height, width) >= 448 and (longest is None or max(height, width) <= longest):
        assert new == (height, width)
    scale = max(new) / max(height, width)
    assert abs(min(new) - min(height, width) * scale) <= 1 + scale


def test_absurd_shapes_are_refused():
    with pytest.raises(
        ValueError, match=r"20000 x 1 would be .* once prepared; .* cut it into parts"
    ):
        prepared_size((1, 20000))
    with pytest.raises(ValueError, match="longest_side"):
        prepared_size((20000, 20000))
    assert prepared_size((20000, 20000), longest_side=2048) == (2048, 2048)


@given(sides, sides, sides, sides, st.integers(0, 2**32 - 1))
def test_scaling_loses_nobody(height: int, width: int, new_height: int, new_width: int, seed: int):
    size, new_size = (height, width), (new_height, new_width)
    edge = [np.nextafter(width, 0), np.nextafter(height, 0)]
    points = np.vstack([np.random.default_rng(seed).random((50, 2)) * edge, [edge, [0, 0]]])
    assert inside(points, size).all()
    scaled = scale_points(points, size, new_size)
    assert inside(scaled, new_size).all() and len(scaled) == len(points)


@given(sides, sides, st.integers(1, 8), st.integers(0, 2**32 - 1))
def test_placing_counts_everybody(height: int, width: int, orientation: int, seed: int):
    reach = max(height, width)
    points = np.random.default_rng(seed).uniform(-0.2 * reach, 1.2 * reach, (60, 2))
    placed, outside, turned = upright_points(points, (height, width), orientation)
    assert inside(placed, (height, width)).all()
    assert len(placed) + outside == 60
    assert not turned or orientation >= 5


@pytest.mark.parametrize("orientation", range(5, 9))
def test_a_point_turns_with_its_pixel(orientation: int):
    stored = np.zeros((5, 9, 3), np.uint8)
    stored[1, 7] = 255
    image = Image.fromarray(stored)
    exif = image.getexif()
    exif[274] = orientation
    from PIL import ImageOps

    upright = np.asarray(ImageOps.exif_transpose(image))
    ((x, y),) = turn(np.array([[7.5, 1.5]]), (5, 9), orientation)
    assert upright[int(y), int(x)].tolist() == [255, 255, 255]


def grid(number: int, width: float, height: float) -> np.ndarray:
    rng = np.random.default_rng(0)
    return rng.uniform(0, [width, height], (number, 2))


@pytest.mark.parametrize("swapped", [False, True])
@pytest.mark.parametrize("size", [(200, 300), (768, 1024), (400, 400)])
def test_ordinary_points_are_not_doubted(size, swapped: bool):
    points = [grid(60, size[1], size[0]) for _ in range(4)]
    points[0][0] = size[1] + 1, 5  # one of 240
    assert doubts(points, [size] * 4) == ("", False)
    assert doubts([part[:2] for part in points], [size] * 4) == ("", False), "too few to tell"


def test_few_points_in_a_corner_are_not_percents():
    assert doubts([grid(10, 100, 100)], [(768, 1024)]) == ("", False)
    assert doubts([], []) == ("", False) == doubts([np.array([[0.0, 0]])], [(9, 9)])


def test_some_points_outside_are_a_remark_and_many_are_none():
    points = grid(400, 300, 200)
    points[:12, 0] += 300
    text, is_certain = doubts([points], [(200, 300)])
    assert "12 of 400 points (3%) lie outside" in text and not is_certain
    points[:80, 1] -= 200
    text, is_certain = doubts([points], [(200, 300)])
    assert "80 of 400 points (20%)" in text and is_certain


def test_points_of_a_stored_image_are_not_swapped():
    points = grid(40, 300, 200)
    assert (
        frame_of(points, (300, 200), 6) == (200, 300) and frame_of(points, (300, 200), 1)[0] == 300
    )
    assert doubts([points], [frame_of(points, (300, 200), 6)]) == ("", False)
    assert doubts([points], [(300, 200)])[1]
