"""Augmentations: nothing at zero, torchvision's values, and their shares."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.transforms.v2 import functional as vision
from torchvision.tv_tensors import Image

from ebclib.data.augmentation import RELEASED, Augmentation, AugmentParams, augment

STRONG = Augmentation(0.4, blur=2.0, noise=0.05, blur_share=0.7, noise_share=0.7)
seeds = st.integers(0, 2**31)


def image(seed=0, height=40, width=48):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def changed(crop, how, *args):
    made = crop.copy()
    how(made, *args)
    return made


def params(factors=(1, 1, 1), sigma_px=0.0):
    nowhere = (np.empty(0, kind) for kind in (np.int64, np.uint8))
    return AugmentParams(np.float32(factors), sigma_px, *nowhere)


def distance(crop, tensor):
    return abs(crop.transpose(2, 0, 1).astype(int) - tensor.numpy()).max()


def test_crops_and_seeds_differ_and_repeat():
    crop = image()
    one, other, third = (changed(crop, STRONG, *key) for key in ((1, 0), (2, 0), (1, 1)))
    assert (one != other).any() and (one != third).any()
    assert (one == changed(crop, STRONG, 1, 0)).all()


def test_at_zero_nothing_happens():
    crop = image()
    assert (changed(crop, Augmentation(jitter=0), 3) == crop).all()
    assert (changed(crop, augment, params(), 4) == crop).all()


@pytest.mark.parametrize("factors", [(1.2, 1, 1), (1, 0.8, 1), (1, 1, 1.3), (0.9, 1.1, 0.8)])
def test_jitter_is_torchvision_s(factors):
    crop = image() // 2 + 60  # nothing is cut off on the way
    made = changed(crop, augment, params(factors), 4)
    b, c, s = factors
    theirs = vision.adjust_brightness(Image(crop.transpose(2, 0, 1)), b)
    theirs = vision.adjust_saturation(vision.adjust_contrast(theirs, c), s)
    assert distance(made, theirs) <= 3  # it rounds down three times


@pytest.mark.parametrize("sigma", [0.3, 1.0, 2.0])
def test_blur_is_torchvision_s(sigma):
    made = changed(image(), augment, params(sigma_px=sigma), 4)
    theirs = vision.gaussian_blur(Image(image().transpose(2, 0, 1)), [9, 9], [sigma, sigma])
    assert distance(made, theirs) <= 1


@settings(max_examples=25)
@given(seeds, st.floats(0, 1), st.floats(0, 4))
def test_a_grey_crop_stays_grey_and_an_even_one_even(seed, strength, width):
    crop = np.full((24, 24, 3), seed % 256, np.uint8)
    made = changed(crop, Augmentation(strength, width, blur_share=1), seed, seed).astype(int)
    assert made.max() - made.min() <= 1  # a value halfway between two is rounded to either


def test_noise_is_black_and_white_in_the_share_that_was_asked_for():
    crop = np.full((64, 64, 3), 100, np.uint8)
    noisy = Augmentation(0, noise=0.1, noise_share=0.5)
    made = np.stack([changed(crop, noisy, draw, 3) for draw in range(20)])
    there = made != 100
    assert {*np.unique(made)} == {0, 100, 255}
    assert (there.any(-1) == there.all(-1)).all()  # all three colours together
    share = there[..., 0].mean((1, 2))
    assert 4 <= (share == 0).sum() <= 16
    assert share[share > 0].mean() == pytest.approx(0.1, rel=0.1)
    assert (made == 255).sum() == pytest.approx((made == 0).sum(), rel=0.1)


def test_switching_one_off_leaves_the_others():
    only = dataclasses.replace(STRONG, blur=0, noise=0)
    for draw in range(3):
        whole, without = (each.draw(draw, 40, 48) for each in (STRONG, only))
        assert (whole.factors == without.factors).all() and not without.sigma_px
        assert (abs(whole.factors - 1) <= 0.4).all()


def test_released_strengths_reach_the_shares_of_the_release():
    made = [RELEASED.draw(draw, 64, 64) for draw in range(400)]
    assert np.mean([(each.factors != 1).any() for each in made]) == pytest.approx(0.2, abs=0.06)
    assert np.mean([each.sigma_px > 0 for each in made]) == pytest.approx(0.2, abs=0.06)
