"""Drawn crowds: exact, repeatable, long-tailed, and people indeed."""

from __future__ import annotations

import pickle
import time

import numpy as np
import pytest

from ebclib.synthetic import SERIES, SyntheticSplit, count_at, draw
from ebclib.synthetic.ground import Camera
from ebclib.synthetic.people import HEAD_SIZES, LOOKS, PAINTS, UPRIGHT, palettes, paste, person
from ebclib.synthetic.scene import paint, plan


@pytest.fixture(scope="module")
def scenes():
    """Sixteen planned scenes, from one person to many."""
    return [
        plan(np.random.default_rng(seed), count, 448, 576)
        for seed, count in enumerate([1, 3, 10, 20, 40, 80, 160, 320] * 2)
    ]


@pytest.mark.parametrize("count", [0, 1, 7, 150, 1500])
def test_draw_gives_exactly_the_count_asked_for(count):
    image, points, _ = draw(3, count=count, height=448, width=500)
    assert image.shape == (448, 500, 3)
    assert image.dtype == np.uint8
    assert points.shape == (count, 2)
    assert points.dtype == np.float64
    assert (points >= 0).all()
    assert (points < [500, 448]).all()


def test_more_people_than_there_is_room_for_are_all_drawn():
    _, points, _ = draw(0, count=2000, height=64, width=96)
    assert points.shape == (2000, 2)
    assert (points >= 0).all()
    assert (points < [96, 64]).all()


def test_draw_depends_on_the_seed_alone():
    np.random.seed(1)  # noqa: NPY002 - the global state is what must not matter
    first = draw(11, count=30)
    np.random.seed(2)  # noqa: NPY002
    draw(12)
    again, by_generator = draw(11, count=30), draw(np.random.default_rng(11), count=30)
    for other in (again, by_generator):
        np.testing.assert_array_equal(first.image, other.image)
        np.testing.assert_array_equal(first.points, other.points)
        assert first.name == other.name
    assert not np.array_equal(first.points, draw(12, count=30).points)


def test_drawing_leaves_the_global_state_alone():
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    draw(5, count=5)
    np.testing.assert_array_equal(before, np.random.get_state()[1])  # noqa: NPY002


def test_usual_images_vary_in_shape_and_are_large_enough():
    shapes = {draw(seed, count=2).image.shape[:2] for seed in range(24)}
    assert min(min(shape) for shape in shapes) >= 448
    assert max(max(shape) for shape in shapes) <= 800
    assert any(height > width for height, width in shapes)
    assert any(height < width for height, width in shapes)


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"count": -1}, "count is -1"),
        ({"count": 2.5}, "count is 2.5"),
        ({"height": 20}, "height is 20"),
        ({"width": 0}, "width is 0"),
    ],
)
def test_draw_refuses_what_it_cannot_draw(asked, message):
    with pytest.raises(ValueError, match=message):
        draw(0, **asked)


def test_a_split_gives_the_same_images_in_any_order_and_for_any_size():
    whole, few = SyntheticSplit("val", seed=4), SyntheticSplit("val", seed=4, size=3)
    backwards = {index: few[index] for index in (2, 0, 1)}
    for index in range(3):
        np.testing.assert_array_equal(whole[index].image, backwards[index].image)
        np.testing.assert_array_equal(whole[index].points, backwards[index].points)
        assert whole[index].name == backwards[index].name == f"val_{index:04d}"


def test_counts_are_known_without_drawing():
    split = SyntheticSplit("test", size=12)
    assert split.counts.tolist() == [len(sample.points) for sample in split]


def test_a_split_is_a_sequence():
    split = SyntheticSplit("train", size=5)
    assert len(split) == len(split.names) == len(split.counts) == 5
    assert [sample.name for sample in split[3:]] == ["train_0003", "train_0004"]
    assert split[-1].name == "train_0004"
    for outside in (5, -6):
        with pytest.raises(IndexError):
            split[outside]
    copy = pickle.loads(pickle.dumps(split))
    assert copy.names == split.names
    np.testing.assert_array_equal(copy[1].image, split[1].image)
    assert len(SyntheticSplit("train", size=0)) == 0


def test_splits_and_seeds_share_no_image():
    splits = [SyntheticSplit(name, seed, 4) for name in SPLITS for seed in (0, 1)]
    images = [sample.image.tobytes() for split in splits for sample in split]
    assert len(set(images)) == len(images)


@pytest.mark.parametrize("series", list(SERIES))
def test_default_splits(series):
    splits = SERIES[series].splits
    assert {name: len(SyntheticSplit(name, series=series)) for name in splits} == splits
    with pytest.raises(ValueError, match=f"split of {series}"):
        SyntheticSplit("tset", series=series)


def test_the_small_series_is_smaller_and_as_long_tailed():
    split = SyntheticSplit("train", series="synthetic_small")
    assert 8 <= np.median(split.counts) <= 16
    assert 100 < split.counts.max() <= SERIES["synthetic_small"].most
    assert max(split[0].image.shape) <= 288


SPLITS = SERIES["synthetic"].splits


@pytest.mark.parametrize("split", list(SPLITS))
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_split_has_a_long_tail(split, seed):
    counts = SyntheticSplit(split, seed).counts
    assert counts.min() == 0
    assert counts.max() <= SERIES["synthetic"].most
    assert counts.max() > 500
    assert 50 <= np.median(counts) <= 100
    assert counts.mean() > 1.4 * np.median(counts)
    assert 0.005 < (counts > 500).mean() < 0.1


def test_count_at():
    quantiles = np.linspace(0, 1, 201)
    counts = [count_at(quantile) for quantile in quantiles.tolist()]
    assert counts == sorted(counts)
    assert counts[0] == 0
    assert counts[-1] == SERIES["synthetic"].most


def test_a_split_refuses_what_is_wrong():
    with pytest.raises(ValueError, match="'train'"):
        SyntheticSplit("trian")
    with pytest.raises(ValueError, match="non-negative"):
        SyntheticSplit("train", -1)


def test_heads_are_of_many_sizes_and_larger_when_nearer(scenes):
    sizes = np.concatenate([scene.heads_px for scene in scenes])
    assert sizes.min() >= 4
    assert sizes.max() <= 60
    assert sizes.max() > 3 * sizes.min()
    for scene in scenes:
        if len(scene.points) >= 80:
            rows = scene.points[:, 1]
            upper, lower = rows < np.quantile(rows, 0.3), rows > np.quantile(rows, 0.7)
            assert scene.heads_px[lower].mean() > scene.heads_px[upper].mean()


def test_many_people_have_small_heads():
    scene = plan(np.random.default_rng(0), 1500, 448, 600)
    assert np.median(scene.heads_px) <= 12


def test_people_are_drawn_where_the_points_are(scenes):
    changed = []
    for scene in scenes:
        with_people = paint(scene).astype(int)
        without = paint(scene._replace(crowd=[])).astype(int)
        x, y = scene.points.astype(int).T
        changed.append(np.abs(with_people - without).max(2)[y, x] > 6)
    assert np.concatenate(changed).mean() > 0.93


def test_most_heads_are_in_sight(scenes):
    seen = []
    for scene in scenes:
        owner = np.full((scene.camera.height, scene.camera.width), -1)
        for number in np.argsort([figure.depth for figure in scene.crowd]):
            figure = scene.crowd[number]
            alone = np.zeros((3, *owner.shape), np.float32)
            white = np.full((PAINTS, 3), 255, np.float32)
            paste(alone, figure.sprite, figure.left, figure.top, white, 0.0)
            owner[alone[0] > 60] = number
        for number, ((x, y), size) in enumerate(zip(scene.points, scene.heads_px, strict=True)):
            reach = size / 3
            window = owner[max(int(y - reach), 0) : int(y + reach) + 1]
            seen.append((window[:, max(int(x - reach), 0) : int(x + reach) + 1] == number).any())
    assert np.mean(seen) > 0.97


def test_the_origin_of_a_person_is_the_centre_of_the_head():
    palette = np.zeros((PAINTS, 3), np.float32)
    for look in range(LOOKS):
        for view in range(len(UPRIGHT)):
            sprite = person(look, view, len(HEAD_SIZES) - 1)
            mirrored = person(look, view, len(HEAD_SIZES) - 1, mirrored=True)
            assert mirrored.x == pytest.approx(sprite.size[1] - sprite.x)
            canvas = np.full((3, 1, 1), 255, np.float32)
            paste(canvas, sprite, -int(sprite.x), -int(sprite.y), palette, 0.0)
            assert canvas.max() < 1  # covered, and the palette is black


def test_round_things_are_not_people():
    split = [plan(np.random.default_rng(seed), 0, 448, 600) for seed in range(12)]
    assert sum(len(scene.clutter) for scene in split) > 20
    assert all(len(scene.points) == len(scene.crowd) == 0 for scene in split)


def test_palettes_are_colours():
    colours = palettes(np.random.default_rng(0), 50, uniform=0.5)
    assert colours.shape == (50, PAINTS, 3)
    assert colours.dtype == np.float32
    assert colours.min() >= 0
    assert colours.max() <= 255


def test_camera():
    camera = Camera.between(500, 400, 100.0, 8.0, 40.0)
    assert camera.head_px(100.0) == pytest.approx(8)
    assert camera.head_px(500.0) == pytest.approx(40)
    assert camera.horizon == pytest.approx(0)
    rows = np.linspace(100, 500, 7)
    np.testing.assert_allclose(camera.head_row(camera.feet(rows)), rows)
    assert 0.4 < camera.upright < 1


def test_drawing_is_quick():
    draw(0, count=100)
    seconds = []
    for seed in range(5):
        start = time.process_time()
        draw(seed, count=80)
        seconds.append(time.process_time() - start)
    assert min(seconds) < 0.5
