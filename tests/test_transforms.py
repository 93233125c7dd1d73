import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torchvision.transforms.v2 import functional as vision

from ebclib import data, synthetic
from ebclib.blocks import block_counts
from ebclib.data.crops import Box, EpochSampler, TrainingCrops, crop_points, random_box, render

seeds = st.integers(0, 2**32 - 1)


@given(seeds, st.integers(1, 900), st.integers(1, 900))
def test_a_box_lies_inside_whatever_the_image(seed, height, width):
    box = random_box(np.random.default_rng(seed), height, width, 448, 2.0)
    assert 1 <= box.side <= min(height, width, 896)
    assert 0 <= box.top <= height - box.side and 0 <= box.left <= width - box.side
    if min(height, width) >= 896:
        assert box.side >= 448


@given(seeds, st.integers(64, 200), st.booleans())
def test_nobody_inside_a_crop_is_lost(seed, side, flip):
    rng = np.random.default_rng(seed)
    points = rng.uniform(0, 200, (50, 2))
    box = Box(*rng.integers(0, 201 - side, 2), side)
    inside = ((points >= (box.left, box.top)) & (points < (box.left + side, box.top + side))).all(1)
    cropped = crop_points(points, box, 64, flip)
    assert len(cropped) == inside.sum() == block_counts(cropped, 64, 64, 8).sum()


@given(seeds)
def test_a_flip_mirrors_the_blocks_even_of_whole_pixels(seed):
    points = np.random.default_rng(seed).integers(0, 64, (40, 2)).astype(float)
    box = Box(0, 0, 64)
    straight = block_counts(crop_points(points, box, 64), 64, 64, 8)
    mirrored = block_counts(crop_points(points, box, 64, flip=True), 64, 64, 8)
    assert (mirrored == straight[:, ::-1]).all()


def test_scaling_keeps_a_person_on_the_same_spot():
    box = Box(top=10, left=20, side=100)
    assert crop_points(np.array([[45.0, 60.0]]), box, 200).tolist() == [[50.0, 100.0]]
    assert crop_points(np.array([[45.0, 60.0]]), box, 200, flip=True)[0] == pytest.approx(
        [150, 100]
    )


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("side", [48, 64, 77, 101, 128])
def test_a_crop_is_shrunk_as_by_torchvision_and_then_mirrored(side, flip):
    image = np.random.default_rng(0).integers(0, 256, (150, 150, 3), dtype=np.uint8)
    pixels, crop = image[9 : 9 + side, 5 : 5 + side], np.zeros((64, 64, 3), np.uint8)
    render(pixels, flip, crop)
    theirs = torch.from_numpy(pixels.copy()).permute(2, 0, 1)
    theirs = vision.resize(theirs, [64, 64], antialias=True)
    theirs = vision.horizontal_flip(theirs) if flip else theirs
    assert (crop.transpose(2, 0, 1).astype(int) - theirs.numpy()).max() <= 1
    assert (crop.transpose(2, 0, 1).astype(int) - theirs.numpy()).min() >= -1


def test_an_epoch_shows_every_image_once_in_its_own_order():
    sampler = EpochSampler(10, seed=3)
    orders = []
    for sampler.epoch in (0, 1):
        draws = list(sampler)
        assert sorted(d % 10 for d in draws) == list(range(10))
        assert all(d // 10 == sampler.epoch for d in draws)
        orders.append([d % 10 for d in draws])
    assert orders[0] != orders[1]
    assert list(EpochSampler(10, seed=3)) == orders[0]


@pytest.fixture
def prepared(tmp_path, monkeypatch):
    """Six drawn images, prepared."""
    monkeypatch.setattr(synthetic, "SyntheticSplit", _six)
    return data.prepared("synthetic", "train", out=tmp_path, progress=False)


def _six(split, series):
    return synthetic.split.SyntheticSplit(split, size=6, series=series)


def test_a_crop_is_what_it_says_and_repeats(prepared):
    crops = TrainingCrops(prepared, [0, 2, 5], crop_px=128, block_size_px=16, seed=7)
    crop = crops[4]
    assert crop.image.shape == (3, 128, 128) and crop.image.dtype == torch.uint8
    assert crop.counts.shape == (8, 8) and crop.counts.dtype == torch.int64
    again = TrainingCrops(prepared, [0, 2, 5], crop_px=128, block_size_px=16, seed=7)[4]
    assert torch.equal(crop.image, again.image) and torch.equal(crop.counts, again.counts)
    assert not torch.equal(crop.image, crops[1].image)
