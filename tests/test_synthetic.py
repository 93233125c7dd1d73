"""Drawn crowds: exact, repeatable, long-tailed, and people indeed."""

from __future__ import annotations

import pickle
import time
from random import Random

import numpy as np
import pytest
from PIL import Image, ImageDraw

from ebclib.synthetic import SERIES, SyntheticSplit, count_at, draw
from ebclib.synthetic.ground import HEAD_M, Camera
from ebclib.synthetic.people import Pen, person
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


def head_sizes(scene):
    return np.array([one.unit for one in scene.crowd])


def test_heads_are_of_many_sizes_and_larger_when_nearer(scenes):
    sizes = np.concatenate([head_sizes(scene) for scene in scenes])
    assert sizes.min() >= 4
    assert sizes.max() <= 60
    assert sizes.max() > 3 * sizes.min()
    for scene in scenes:
        if len(scene.points) >= 80:
            rows = scene.points[:, 1]
            upper, lower = rows < np.quantile(rows, 0.3), rows > np.quantile(rows, 0.7)
            assert head_sizes(scene)[lower].mean() > head_sizes(scene)[upper].mean()


def test_many_people_have_small_heads():
    scene = plan(np.random.default_rng(0), 1500, 448, 600)
    assert np.median(head_sizes(scene)) <= 12


def test_people_are_drawn_where_the_points_are(scenes):
    changed = []
    for scene in scenes:
        with_people = paint(scene).astype(int)
        without = paint(scene._replace(crowd=[])).astype(int)
        x, y = scene.points.astype(int).T
        changed.append(np.abs(with_people - without).max(2)[y, x] > 6)
    assert np.concatenate(changed).mean() > 0.93


class Numbered(Pen):
    """Writes the figure's number, given as ``sun``, instead of colours."""

    def _fill(self, *_):
        return self.sun


def test_most_heads_are_in_sight(scenes):
    seen = []
    for scene in scenes:
        image = Image.new("I", (scene.camera.width, scene.camera.height))
        numbers = {id(one): number for number, one in enumerate(scene.crowd, 1)}
        for one in sorted(scene.crowd + scene.things, key=lambda one: one.depth):
            place = one.x, one.y, one.unit, scene.camera.upright, numbers.get(id(one), 0)
            one.shape(Numbered(ImageDraw.Draw(image), *place), Random(one.seed))
        owner = np.asarray(image)
        for number, one in enumerate(scene.crowd, 1):
            reach = one.unit / 3
            window = owner[max(int(one.y - reach), 0) : int(one.y + reach) + 1]
            window = window[:, max(int(one.x - reach), 0) : int(one.x + reach) + 1]
            seen.append((window == number).mean() > 0.5)
    assert np.mean(seen) > 0.965


def test_who_stands_in_front_hides_who_stands_behind(scenes):
    scene = scenes[1]
    one, other = scene.crowd[0], scene.crowd[0]._replace(seed=1)
    near, far = (one._replace(depth=one.depth + k) for k in (1, 0))
    images = [paint(scene._replace(crowd=crowd)) for crowd in ([near, other], [other, near])]
    np.testing.assert_array_equal(*images)
    behind = paint(scene._replace(crowd=[far, other._replace(depth=far.depth + 1)]))
    assert not np.array_equal(images[0], behind)


@pytest.mark.parametrize("upright", [1.0, 0.75, 0.5])
def test_the_point_of_a_person_is_the_centre_of_the_head(upright):
    for seed in range(40):
        image = Image.new("RGB", (200, 400), "white")
        person(Pen(ImageDraw.Draw(image), 100.0, 100.0, 40.0, upright), Random(seed))
        drawn = np.asarray(image).min(axis=2) < 255
        assert drawn[100, 100]
        assert abs(drawn[:, 100].argmax() - 80) <= 1  # its top is half a unit above the centre
        right, left = (~drawn[100, 100:]).argmax(), (~drawn[100, 100::-1]).argmax()
        if max(right, left) < 28:  # no lifted arm beside it
            assert abs(right - left) <= 2  # a face that looks aside is a little wider there
            assert min(right, left) >= 17


def test_round_things_are_not_people():
    split = [plan(np.random.default_rng(seed), 0, 448, 600) for seed in range(12)]
    assert sum(len(scene.things) for scene in split) > 20
    assert all(len(scene.points) == len(scene.crowd) == 0 for scene in split)


def test_camera():
    camera = Camera(height=500, width=400, horizon=0.0, slope=0.08, first=100.0)
    rows = np.linspace(100, 500, 7)
    np.testing.assert_allclose(camera.head_px(rows), 0.08 * rows)
    np.testing.assert_allclose(camera.metre_px(camera.feet(rows)) * HEAD_M, camera.head_px(rows))
    assert 0.4 < camera.upright < 1
    drawn = camera.rows(np.random.default_rng(0), 1000, 2.0)
    assert drawn.min() >= 100 and drawn.max() <= 500
    assert np.median(drawn) < 300  # afar there are more people to a row


def test_drawing_is_quick():
    draw(0, count=100)
    seconds = []
    for seed in range(5):
        start = time.process_time()
        draw(seed, count=80)
        seconds.append(time.process_time() - start)
    assert min(seconds) < 0.5
