"""Augmentations: nothing at zero, the same in whatever batch, torchvision's values, and their shares."""

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.transforms.v2 import functional as vision

from ebclib.data.augmentation import (
    RELEASED,
    Augmentation,
    AugmentParams,
    blur,
    by_opencv,
    by_torch,
)

STRONG = Augmentation(0.4, blur=2.0, noise=0.05, blur_share=0.7, noise_share=0.7)
seeds = st.integers(0, 2**31)


def crops(batch=4, height=40, width=48, seed=0):
    rng = np.random.default_rng(seed)
    return torch.from_numpy(rng.integers(0, 256, (batch, 3, height, width), dtype=np.uint8))


def drawn(batch, factors=(1, 1, 1), sigma=0.0):
    spots, values = ([np.empty(0, kind)] * batch for kind in (np.int64, np.uint8))
    factors = np.tile(np.float32(factors), (batch, 1))
    return AugmentParams(factors, np.full(batch, sigma, np.float32), spots, values)


def opencv_s(image, params, reach_px=4):
    """A batch, crop by crop."""
    made = image.permute(0, 2, 3, 1).contiguous()
    for crop, *each in zip(made.numpy(), *params, strict=True):
        by_opencv(crop, *each, reach_px)
    return made.permute(0, 3, 1, 2)


def torch_s(image, params, reach_px=4):
    return by_torch(image, params, reach_px)


WAYS = pytest.mark.parametrize("way", [opencv_s, torch_s])


@settings(max_examples=25)
@given(seeds, st.permutations(range(6)), st.integers(1, 6))
def test_a_draw_gives_the_same_crop_in_whatever_batch(seed, order, size):
    image, draws = crops(6), [3, 99, 0, 12345, 7, 8]
    whole = STRONG(image, draws, seed)
    rows = order[:size]
    part = STRONG(image[rows], [draws[k] for k in rows], seed)
    assert (part.int() - whole[rows].int()).abs().max() <= 1  # halves are rounded to either side
    crop = image[0].permute(1, 2, 0).numpy().copy()
    STRONG.retouch(crop, draws[0], seed)
    assert abs(crop.transpose(2, 0, 1).astype(int) - whole[0].numpy()).max() <= 3


def test_crops_and_seeds_differ():
    image = crops(1).expand(2, -1, -1, -1)
    one, other = STRONG(image, [1, 2], seed=0)
    assert not torch.equal(one, other)
    assert not torch.equal(one, STRONG(image, [1, 2], seed=1)[0])


def test_at_zero_nothing_happens_and_the_input_is_left_alone():
    image = crops()
    before = image.clone()
    assert torch.equal(Augmentation(jitter=0)(image, range(4)), image)
    assert torch.equal(opencv_s(image, drawn(4)), image)
    STRONG(image, range(4))
    assert torch.equal(image, before)


@WAYS
@pytest.mark.parametrize("factors", [(1.2, 1, 1), (1, 0.8, 1), (1, 1, 1.3), (0.9, 1.1, 0.8)])
def test_jitter_is_torchvision_s(factors, way):
    image = crops() // 2 + 60  # nothing is cut off on the way
    made = way(image, drawn(4, factors))
    b, c, s = factors
    for mine, before in zip(made, image, strict=True):
        theirs = vision.adjust_brightness(before, b)
        theirs = vision.adjust_saturation(vision.adjust_contrast(theirs, c), s)
        assert (mine.int() - theirs.int()).abs().max() <= 3  # it rounds down three times


@WAYS
@pytest.mark.parametrize("sigma", [0.3, 1.0, 2.0])
def test_blur_is_torchvision_s_with_a_sigma_for_each_crop(sigma, way):
    image = crops()
    sigmas = np.array([sigma, 0, sigma / 2, 0], np.float32)
    made = way(image, drawn(4)._replace(sigmas_px=sigmas))
    for mine, before, each in zip(made, image, sigmas.tolist(), strict=True):
        theirs = vision.gaussian_blur(before, [9, 9], [each, each]) if each else before
        assert (mine.int() - theirs.int()).abs().max() <= 1


def test_a_processor_and_a_gpu_s_way_differ_by_rounding():
    """OpenCV's crop by crop, and torch's of the whole batch; also where jitter leaves 0 to 255."""
    for image in (crops(24) // 2 + 40, crops(24), crops(24) // 128 * 255):
        like = STRONG.draw(range(24), 40, 48)
        other = by_torch(image, like, 4)
        assert (opencv_s(image, like).int() - other.int()).abs().max() <= 3


def test_blur_of_many_crops_at_once_is_that_of_each():
    """The way it runs on a GPU."""
    values, sigmas = crops().float(), np.array([0, 0.5, 1, 2], np.float32)
    each = [blur(values[k : k + 1], sigmas[k : k + 1], 4) for k in range(4)]
    assert torch.allclose(blur(values, sigmas, 4), torch.cat(each), atol=1e-3)


@settings(max_examples=25)
@given(seeds, st.floats(0, 1), st.floats(0, 4))
def test_a_grey_crop_stays_grey_and_an_even_one_even(seed, strength, width):
    image = torch.full((1, 3, 24, 24), seed % 256, dtype=torch.uint8)
    made = Augmentation(strength, width, blur_share=1)(image, [seed], seed).int()
    assert made.max() - made.min() <= 1  # a value halfway between two is rounded to either


def test_noise_is_black_and_white_in_the_share_that_was_asked_for():
    image = torch.full((20, 3, 64, 64), 100, dtype=torch.uint8)
    made = Augmentation(0, noise=0.1, noise_share=0.5)(image, range(20), 3)
    changed = made != 100
    assert set(made.unique().tolist()) == {0, 100, 255}
    assert torch.equal(changed.any(1), changed.all(1))  # all three colours together
    share = changed[:, 0].float().mean((1, 2))
    assert 4 <= (share == 0).sum() <= 16
    assert share[share > 0].mean() == pytest.approx(0.1, rel=0.1)
    assert (made == 255).sum().item() == pytest.approx((made == 0).sum().item(), rel=0.1)


def test_switching_one_off_leaves_the_others():
    factors = STRONG.draw([1, 2, 3], 40, 48).factors
    without = dataclasses.replace(STRONG, blur=0, noise=0).draw([1, 2, 3], 40, 48)
    assert (without.factors == factors).all() and not without.sigmas_px.any()
    assert (abs(factors - 1) <= 0.4).all()


def test_released_strengths_reach_the_shares_of_the_release():
    made = RELEASED.draw(range(400), 64, 64)
    assert (made.factors != 1).any(1).mean() == pytest.approx(0.2, abs=0.06)
    assert (made.sigmas_px > 0).mean() == pytest.approx(0.2, abs=0.06)
