"""The floored dual: against pencil, the dense loop in float64, POT, and at its worst."""

import math

import numpy as np
import ot
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch._subclasses.fake_tensor import FakeTensorMode

from benchmarks.transport import dense_duals, density_gradient, squared_distances
from ebclib.transport import FLOOR, ITERATIONS, TOLERANCE, block_duals, transport_loss


def crowd(layout, n, h=56, w=56, r=8, seed=0):
    """Points (n, 2) of a layout in an image of h × w blocks; float64."""
    rng = np.random.default_rng(seed)
    side = np.array([w * r, h * r])
    points = rng.random((n, 2)) * side
    if layout == "clustered":
        centres = rng.random((6, 2)) * side
        points = centres[rng.integers(0, 6, n)] + 2.5 * r * rng.standard_normal((n, 2))
    elif layout == "one pixel":
        points = np.broadcast_to(points[:1], (n, 2)) if n else points
    elif layout == "border":
        points[:, 0] = np.where(rng.random(n) < 0.5, 0, side[0])
    elif layout == "corner":
        points = rng.random((n, 2)) * r
    return torch.from_numpy(np.clip(points, 0, side - 1e-3))


def predicted(kind, h=56, w=56, seed=0):
    """A density (h, w) as a model might predict it, people per block; float64."""
    rng = np.random.default_rng(seed)
    noise = rng.random((h, w))
    density = {
        "even": 0.1 + noise,
        "peaked": np.exp(3 * rng.standard_normal((h, w))),
        "nearly zero": np.where(noise > 0.95, noise, 1e-12),
        "zero but for a few": np.where(noise >= np.sort(noise.ravel())[-3:].min(), noise, 0),
        "one block": noise == noise.max(),
        "far corner": np.where(np.add.outer(np.arange(h), np.arange(w)) == h + w - 2, 1.0, 1e-8),
        "minute": 1e-30 * noise,
        "negative in places": noise - 0.5,
        "zero": np.zeros((h, w)),
    }[kind]
    return torch.from_numpy(density.astype(np.float64))


LAYOUTS = ["uniform", "clustered", "one pixel", "border", "corner"]
KINDS = ["even", "peaked", "nearly zero", "zero but for a few", "one block", "far corner"]


def gradient(density, points, r=8):
    """∂ Σ transport_loss / ∂ density (B, h, w); float64."""
    density = density.clone().requires_grad_()
    transport_loss(density, points, r).sum().backward()
    return density.grad.double()


def assert_near(found, true, most=1e-5):
    """Relative L2."""
    assert (found.double() - true).norm() <= most * true.norm()


CROPS = [  # layout, kind, n, h, w, r
    *[("uniform", "even", n, 56, 56, 8) for n in (1, 20, 500)],
    ("clustered", "peaked", 3000, 56, 56, 8),
    *[(layout, "even", 150, 56, 56, 8) for layout in LAYOUTS[1:]],
    *[("clustered", kind, 100, 56, 56, 8) for kind in KINDS[1:]],
    ("uniform", "peaked", 200, 28, 28, 16),
    ("clustered", "even", 200, 14, 14, 32),
    ("uniform", "even", 40, 9, 31, 8),
    ("border", "nearly zero", 40, 31, 9, 16),
    ("corner", "even", 3, 1, 1, 8),
]


@pytest.mark.parametrize(("layout", "kind", "n", "h", "w", "r"), CROPS)
def test_duals_and_gradient_are_those_of_the_dense_loop_in_float64(layout, kind, n, h, w, r):
    points = crowd(layout, n, h, w, r)
    density = predicted(kind, h, w).float()
    true = dense_duals(density.double(), points.float(), r)
    assert_near(block_duals(density[None], [points.float()], r)[0], true)
    true = density_gradient(density, true)
    if density.numel() > 1:  # of one block, the gradient is 0 up to rounding
        assert_near(gradient(density[None], [points.float()], r)[0], true)


def test_a_mixed_batch_is_each_image_alone():
    layouts = [("uniform", 1), ("corner", 0), ("clustered", 60), ("border", 300), ("uniform", 5)]
    points = [crowd(layout, n, 9, 14, seed=n).float() for layout, n in layouts]
    kinds = ("even", "even", "nearly zero", "peaked", "zero")
    density = torch.stack([predicted(kind, 9, 14, k) for k, kind in enumerate(kinds)]).float()
    together, slope = block_duals(density, points, 8), gradient(density, points)
    for b, at in enumerate(points):
        one = density[b : b + 1]
        assert torch.allclose(together[b], block_duals(one, [at], 8)[0], rtol=1e-6)
        assert torch.allclose(slope[b], gradient(one, [at])[0], rtol=1e-5, atol=1e-6)
    for b in (0, 2, 3):
        assert_near(together[b], dense_duals(density[b].double(), points[b], 8))
    for b in (1, 4):  # nobody there, or nothing predicted
        assert not together[b].any() and not slope[b].any()


def test_one_person_and_two_blocks_by_hand():
    """The person at the first block's centre, the other centre 8 px on: v = b / K, so β = C + ε ln b."""
    beta = block_duals(torch.tensor([[[1.0, 3.0]]]), [torch.tensor([[4.0, 4.0]])], 8)[0, 0]
    expected = [10 * math.log(0.25), 64 + 10 * math.log(0.75)]
    assert beta.tolist() == pytest.approx(expected, rel=1e-5)


def test_what_is_far_away_is_let_go_at_the_floor_s_price_by_hand():
    """All density is 96 px from the one person: K is 0 there, v = 1 / δ, and β = ε ln (1 / δ)."""
    density = torch.tensor([[[0.0, 0.0, 0.0, 2.0]]])
    points = [torch.tensor([[16.0, 16.0]])]
    ceiling = 10 * math.log(1 / FLOOR)
    expected = [-ceiling, -ceiling, -ceiling, ceiling]  # v = 0 where nothing is predicted
    assert block_duals(density, points, 32)[0, 0].tolist() == pytest.approx(expected, rel=1e-6)
    slope = gradient(density, points, 32)[0, 0]
    assert slope.tolist() == pytest.approx([-ceiling] * 3 + [0], rel=1e-5, abs=1e-3)


def test_where_everybody_is_near_it_is_pots_sinkhorn():
    """A person in each of 4 × 5 blocks, where the floor has no part; POT knows none."""
    density = predicted("even", 4, 5)
    y, x = torch.meshgrid(torch.arange(4), torch.arange(5), indexing="ij")
    points = 8 * torch.stack([x, y], -1).view(-1, 2) + crowd("uniform", 20, 1, 1)
    b = (density / density.sum()).flatten()
    cost = squared_distances(points, 4, 5, 8)
    options = {"numItermax": 10, "stopThr": 0, "log": True, "warn": False}
    _plan, log = ot.bregman.sinkhorn_log(ot.unif(20, b), b, cost, 10.0, **options)
    found = block_duals(density[None], [points], 8, iterations=10)[0]
    true = density_gradient(density, 10 * log["log_v"].view(4, 5))
    assert_near(density_gradient(density, found), true, 1e-9)


def test_every_tenth_iteration_may_be_the_last():
    """The marginal's error is looked at after 10, 20, … iterations, written out here."""
    density, points = predicted("even", 2, 2), crowd("uniform", 40, 2, 2)
    k = (squared_distances(points, 2, 2, 8) / -10).exp()
    a, b = torch.full((40,), 1 / 40, dtype=torch.float64), (density / density.sum()).flatten()
    u, looks = a, {}
    for iteration in range(1, ITERATIONS + 1):
        v = b / (k.T @ u + FLOOR)
        u = a / (k @ v + FLOOR)
        if iteration % 10 == 0:
            error = (v * (k.T @ u) - b).square().sum().item()
            looks[iteration] = (error, 10 * (v + FLOOR).log())
    last = next(n for n, (error, _) in looks.items() if error <= TOLERANCE)
    assert 10 < last < 90, "a case in which the rule matters"
    found = block_duals(density[None], [points], 8)[0].flatten()
    assert torch.allclose(found, looks[last][1], rtol=1e-10)
    assert (found - looks[last + 10][1]).abs().max() > 1e-6
    assert (found - looks[last - 10][1]).abs().max() > 1e-6


def test_the_value_is_zero_and_the_gradient_is_the_formula_s():
    points, density = crowd("clustered", 50, 9, 14), predicted("even", 9, 14)
    assert transport_loss(density[None], [points], 8).tolist() == [0]
    beta, total = block_duals(density[None], [points], 8)[0], density.sum()
    formula = beta / total - (density * beta).sum() / total**2
    slope = gradient(density[None], [points])[0]
    assert torch.allclose(slope, formula, rtol=1e-9)
    assert (slope * density).sum().item() == pytest.approx(0, abs=1e-9), "whatever the scale"


@settings(max_examples=40)
@given(
    layout=st.sampled_from(LAYOUTS),
    kind=st.sampled_from([*KINDS, "minute", "negative in places", "zero"]),
    n=st.integers(0, 150),
    h=st.integers(1, 20),
    w=st.integers(1, 20),
    r=st.sampled_from([1, 8, 16, 32]),
    seed=st.integers(0, 9),
)
def test_always_finite(layout, kind, n, h, w, r, seed):
    points = [crowd(layout, n, h, w, r, seed).float(), torch.empty(0, 2)]
    density = torch.stack([predicted(kind, h, w, seed)] * 2).float()
    beta, slope = block_duals(density, points, r), gradient(density, points, r)
    assert torch.isfinite(beta).all() and torch.isfinite(slope).all()
    assert beta.abs().max() <= 10 * math.log(1 / FLOOR) * (1 + 1e-6), "the floor is a ceiling"
    assert not slope[1].any()
    if n == 0 or not (density > 0).any():
        assert not slope.any()


def test_it_never_waits_for_the_device():
    """Tensors without values go through it; reading one back would be an error."""
    with FakeTensorMode():
        density, points = torch.rand(2, 9, 14), [torch.rand(5, 2), torch.rand(0, 2)]
        assert block_duals(density, points, 8).shape == density.shape


def test_half_precision_around_it_changes_nothing():
    points, density = crowd("uniform", 20, 9, 14).float(), predicted("even", 9, 14).float()
    plain = block_duals(density[None], [points], 8)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(block_duals(density[None], [points], 8), plain)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"density": torch.ones(1, 1, 2, 2)}, r"\(1, 1, 2, 2\); expected \(B, h, w\)"),
        ({"density": torch.ones(1, 0, 2)}, r"\(1, 0, 2\); expected \(B, h, w\)"),
        ({"points": []}, "0 sets of points for 1 images"),
        ({"points": [torch.zeros(2, 3)]}, r"points\[0\] is \(2, 3\)"),
        ({"block_size_px": 0}, "block_size_px is 0"),
    ],
)
def test_what_does_not_belong_together_is_refused(change, match):
    given = {"density": torch.ones(1, 2, 2), "points": [torch.zeros(1, 2)], "block_size_px": 8}
    with pytest.raises(ValueError, match=match):
        block_duals(**(given | change))
