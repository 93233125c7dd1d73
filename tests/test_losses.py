import json
import math

import numpy as np
import pytest
import torch
from scipy import stats
from scipy.special import gammaln

from ebclib import losses
from ebclib.config import data_root, project_root
from ebclib.losses import OT_WEIGHTS, CountLoss, dace, dmcount, zip_loss, zip_nll
from ebclib.transport import transport_loss


def test_a_block_by_hand():
    """Two blocks, two bins of 0 and 2 people, both at probability one half: loss by pencil."""
    logits = torch.zeros(1, 2, 1, 2)
    density = torch.ones(1, 1, 1, 2)  # ½·0 + ½·2
    classes = torch.tensor([[[0, 1]]])
    counts = torch.tensor([[[0, 5]]])
    loss = dace(logits, density, classes, counts, count_weight=0.5)
    assert loss.classification.item() == pytest.approx(2 * math.log(2))
    assert loss.count.item() == pytest.approx(1 + 4)
    assert loss.total.item() == pytest.approx(2 * math.log(2) + 0.5 * 5)


def test_the_batch_is_averaged_and_not_summed():
    torch.manual_seed(0)
    logits = torch.randn(3, 4, 5, 6)
    classes, counts = torch.randint(0, 4, (3, 5, 6)), torch.randint(0, 9, (3, 5, 6))
    density = torch.rand(3, 1, 5, 6)
    once = dace(logits, density, classes, counts)
    twice = dace(*(torch.cat([t, t]) for t in (logits, density, classes, counts)))
    for a, b in zip(once, twice, strict=True):
        assert a.item() == pytest.approx(b.item(), rel=1e-6)


def test_right_answers_cost_nothing():
    classes = torch.tensor([[[0, 1]]])
    logits = torch.nn.functional.one_hot(classes, 2).permute(0, 3, 1, 2).float() * 100
    loss = dace(logits, torch.tensor([[[[0.0, 2.0]]]]), classes, classes * 2)
    assert loss.total.item() == pytest.approx(0, abs=1e-6)


def test_shapes_that_do_not_belong_together():
    with pytest.raises(ValueError, match=r"classes is \(1, 2, 3\)"):
        dace(
            torch.zeros(1, 2, 1, 2),
            torch.zeros(1, 1, 1, 2),
            torch.zeros(1, 2, 3, dtype=torch.long),
            torch.zeros(1, 1, 2),
        )


def image(n, h=6, w=9, r=8, seed=0):
    """Points (n, 2) in a crop of h × w blocks, and the counts (h, w) they make."""
    generator = torch.Generator().manual_seed(seed)
    points = torch.rand(n, 2, generator=generator) * torch.tensor([w * r, h * r])
    column, row = (points // r).long().T
    counts = torch.zeros(h, w, dtype=torch.long)
    counts.index_put_((row, column), torch.ones(n, dtype=torch.long), accumulate=True)
    return points, counts


def batch(*people):
    points, counts = zip(*(image(n, seed=n) for n in people), strict=True)
    return list(points), torch.stack(counts)


def test_dmcount_by_hand():
    """A person in the left of two blocks, a prediction of 1 and 3: count 3, variation ¾ + ¾, and no
    value of transport, whose gradient has its own test."""
    density = torch.tensor([[[[1.0, 3.0]]]])
    points, counts = [torch.tensor([[4.0, 4.0]])], torch.tensor([[[1, 0]]])
    loss = dmcount(density, counts, points, 8)
    assert loss.count.item() == pytest.approx(3)
    assert loss.variation.item() == pytest.approx(1.5)
    assert loss.total.item() == pytest.approx(3 + 0.01 * 1.5, rel=1e-6)


def slope_of(density, counts, points, **weights):
    """dmcount's gradient to the density."""
    density = density.clone().requires_grad_()
    dmcount(density, counts, points, 8, **weights).total.backward()
    return density.grad


def test_dmcount_is_an_average_with_named_weights():
    points, counts = batch(12, 30, 0)
    density = torch.rand(3, 1, 6, 9, generator=torch.Generator().manual_seed(1))
    each = [dmcount(density[b : b + 1], counts[b : b + 1], points[b : b + 1], 8) for b in range(3)]
    together = dmcount(density, counts, points, 8)
    for part, alone in zip(together, zip(*each, strict=True), strict=True):
        assert part.item() == pytest.approx(sum(a.item() for a in alone) / 3, rel=1e-4)
    whole = slope_of(density, counts, points)
    for b in range(3):
        alone = slope_of(density[b : b + 1], counts[b : b + 1], points[b : b + 1])
        assert torch.allclose(whole[b], alone[0] / 3, rtol=1e-4, atol=1e-6)
    released, formula, none = (
        slope_of(density, counts, points, ot_weight=weight) for weight in ("released", "formula", 0)
    )
    assert torch.allclose(released - none, 8 * (formula - none), rtol=1e-3, atol=1e-4)
    assert torch.equal(released, whole), "what the release has is the default"
    assert OT_WEIGHTS["released"] == 8 * OT_WEIGHTS["formula"]


def test_transport_without_weight_is_not_computed(monkeypatch):
    monkeypatch.setattr(losses, "transport_loss", lambda *_: pytest.fail("it was computed"))
    points, counts = batch(12)
    assert torch.isfinite(dmcount(torch.rand(1, 1, 6, 9), counts, points, 8, ot_weight=0).total)


def test_nobody_there_costs_what_was_counted():
    points, counts = batch(0)
    density = torch.full((1, 1, 6, 9), 0.5, requires_grad=True)
    loss = dmcount(density, counts, points, 8)
    loss.total.backward()
    assert [part.item() for part in loss] == [27, 27, 0]
    assert (density.grad == 1).all()


@pytest.mark.parametrize("scale", [0.0, 1e-30, 1e-6, 1e4])
def test_dmcount_and_its_gradient_are_finite_whatever_is_predicted(scale):
    points, counts = batch(0, 1, 40)
    density = (scale * torch.rand(3, 1, 6, 9)).requires_grad_()
    loss = dmcount(density, counts, points, 8)
    loss.total.backward()
    assert all(torch.isfinite(part) for part in loss)
    assert torch.isfinite(density.grad).all()


def test_dmcount_leads_to_the_people():
    """Gradient descent on the density alone finds the count and the places."""
    points, counts = batch(15)
    density = torch.full((1, 1, 6, 9), 0.1, requires_grad=True)
    optimizer = torch.optim.Adam([density], lr=0.05)
    for _ in range(80):
        optimizer.zero_grad()
        dmcount(density.abs(), counts, points, 8).total.backward()
        optimizer.step()
    assert density.abs().sum().item() == pytest.approx(15, abs=0.5)
    even = (counts / 15 - 1 / 54).abs().sum()
    assert (density.detach().abs()[0] / 15 - counts / 15).abs().sum() < 0.5 * even


@pytest.fixture(scope="module")
def released():
    """Values of the released loss code on five small examples, by name."""
    for root in (project_root().parent / "shared", data_root().parent):
        path = root / "released" / "dmcount.json"
        if path.is_file():
            return {case["name"]: case for case in json.loads(path.read_text())["cases"]}
    pytest.skip("needs released/dmcount.json beside the data, or in ../shared")


def released_case(case):
    """Density (B, 1, h, w), counts of blocks (B, h, w) as recorded, and B sets of points.

    The release puts the second of two people on one pixel into no block, yet counts both in n. Our
    blocks hold both. So terms are compared with its blocks where these hold everybody.
    """
    density = torch.tensor(case["pred_density"])[:, None].requires_grad_()
    points = [torch.tensor(each).view(-1, 2) for each in case["points_xy"]]
    counts = torch.tensor(case["target_blocks"])
    return density, counts, points, counts.sum().item() == sum(map(len, points))


def near(found, recorded):
    """Within 1e-3 of the recorded tensor, relative L2."""
    recorded = torch.tensor(recorded).view_as(found)
    return (found - recorded).norm() <= 1e-3 * recorded.norm() + 1e-6


CASES = [
    "three points, one picture",
    "uniform density, two pairs of points share a pixel",
    "six in one block: class capped, target not",
    "nobody",
    "batch of two and an empty one",
]


@pytest.mark.parametrize("name", CASES)
def test_the_released_codes_recorded_values(released, name):
    """Every term and gradient; 0.1 of a sum over the batch is 0.1 B of our average."""
    case = released[name]
    density, counts, points, is_whole = released_case(case)
    transport_loss(density[:, 0], points, case["reduction"]).sum().backward()
    assert near(density.grad, case["grad_of_ot_loss"])
    if not is_whole:
        assert any(len(each.long().unique(dim=0)) < len(each) for each in points)
        return
    assert case["weights"] == {"ot": OT_WEIGHTS["formula"], "tv": 0.01, "count": 1}
    density.grad, logits = None, torch.tensor(case["logits"]).requires_grad_()
    weight = OT_WEIGHTS["formula"] * len(density)
    parts = dmcount(density, counts, points, 8, ot_weight=weight)
    assert parts.count.item() == pytest.approx(case["count_loss"], rel=1e-3)
    assert parts.variation.item() == pytest.approx(case["tv_loss"], rel=1e-3)
    classes, count_loss = torch.tensor(case["target_class"]), CountLoss("dmcount", 8, None, weight)
    loss = dace(logits, density, classes, counts, 1.0, count_loss, points)
    assert loss.classification.item() == pytest.approx(case["ce_loss"], rel=1e-3)
    assert loss.count.item() == pytest.approx(case["dm_loss"], rel=1e-3)
    assert loss.total.item() == pytest.approx(case["total_loss"], rel=1e-3)
    loss.total.backward()
    assert near(density.grad, case["grad_of_dm_loss"])
    assert near(logits.grad, case["grad_of_total_to_logits"])


def test_dace_with_dmcount_is_the_sum_of_its_parts():
    points, counts = batch(10, 25)
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 5, 6, 9, generator=generator, requires_grad=True)
    density = (logits.softmax(1) * torch.arange(5.0).view(-1, 1, 1)).sum(1, keepdim=True)
    count_loss = CountLoss("dmcount", block_size_px=8)
    loss = dace(logits, density, counts.clamp(max=4), counts, 0.5, count_loss, points)
    expected = dmcount(density, counts, points, 8).total.item()
    assert loss.count.item() == pytest.approx(expected, rel=1e-5)
    whole = loss.classification.item() + 0.5 * expected
    assert loss.total.item() == pytest.approx(whole, rel=1e-5)
    loss.total.backward()
    assert torch.isfinite(logits.grad).all()


@pytest.mark.parametrize(
    ("kind", "expected"), [("l1", 4.5 / 2), ("l2", 16.25 / 2), ("mse", 16.25 / 4)]
)
def test_losses_on_blocks_by_hand(kind, expected):
    """Two images of two blocks; errors of ½ and 0 in the one, 4 and 0 in the other."""
    density = torch.tensor([[[[0.5, 1.0]]], [[[4.0, 2.0]]]])
    target = torch.tensor([[[0.0, 1.0]], [[0.0, 2.0]]])
    assert CountLoss(kind)(density, target).item() == pytest.approx(expected)


def test_capping_the_target_is_an_option():
    density, target = torch.zeros(1, 1, 1, 2), torch.tensor([[[196, 3]]])
    assert CountLoss("l1")(density, target).item() == 199
    assert CountLoss("l1", max_count=4)(density, target).item() == 7


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (
            lambda: zip_loss(torch.zeros(1, 2, 2, 2), *[torch.ones(1, 1, 2, 2)] * 3, None),
            r"classes is \(1, 1, 2, 2\)",
        ),
        (lambda: CountLoss("dmcont"), "Did you mean 'dmcount'"),
        (lambda: CountLoss("dmcount"), "give block_size_px"),
        (lambda: CountLoss("l1", max_count=0), "max_count is 0"),
        (
            lambda: CountLoss("dmcount", 8)(torch.ones(1, 1, 2, 2), torch.ones(1, 2, 2)),
            "give points",
        ),
        (lambda: CountLoss("l1")(torch.ones(1, 2, 2), torch.ones(1, 2, 2)), "four dimensions"),
        (
            lambda: CountLoss("l1")(torch.ones(1, 1, 2, 2), torch.ones(1, 2, 3)),
            r"target is \(1, 2, 3\)",
        ),
    ],
)
def test_what_a_count_loss_refuses(make, match):
    with pytest.raises(ValueError, match=match):
        make()


def zip_of(z, representatives):
    """Log P*, λ and Y* of a block's two logits of π and those of its bins above 0, (B, N + 1, h, w)."""
    zero, p = z[:, :2].log_softmax(1), z[:, 2:].log_softmax(1)
    rate = (p.exp() * representatives[1:].view(-1, 1, 1)).sum(1, keepdim=True)
    return torch.cat([zero[:, :1], zero[:, 1:] + p], 1), rate, zero[:, 1:].exp() * rate


def test_the_likelihood_of_zip_is_scipy_s():
    torch.manual_seed(0)
    z = 3 * torch.randn(2, 5, 6, 7, dtype=torch.float64)
    log_p, rate, _ = zip_of(z, torch.tensor([0, 1, 2, 4.4], dtype=torch.float64))
    counts = torch.randint(0, 9, (2, 6, 7)) * torch.randint(0, 2, (2, 6, 7))
    nobody, y = log_p[:, 0].exp().numpy(), counts.numpy()
    likelihood = nobody * (y == 0) + (1 - nobody) * stats.poisson.pmf(y, rate[:, 0].numpy())
    found = zip_nll(log_p, rate, counts).numpy()
    assert (y == 0).any() and y.max() == 8
    np.testing.assert_allclose(found + gammaln(y + 1), -np.log(likelihood), rtol=1e-10)


def test_zip_is_likelihood_class_and_count_by_hand():
    """Two blocks, nobody and three people; π₀ = ½, bins {1} {2} [3, ∞) at ⅓ each, so λ = 2, Y* = 1."""
    log_p, rate, density = zip_of(torch.zeros(1, 5, 1, 2), torch.tensor([0.0, 1, 2, 3]))
    assert rate.flatten().tolist() == pytest.approx(
        [2, 2]
    ) and density.sum().item() == pytest.approx(2)
    counts = torch.tensor([[[0, 3]]])
    loss = zip_loss(log_p, rate, density, counts, counts, 0.5)
    empty, three = -math.log(0.5 + 0.5 * math.exp(-2)), 2 - 3 * math.log(2) - math.log(0.5)
    assert loss.classification.item() == pytest.approx(empty + three + math.log(3))
    # one person short of three; by scales: |1| and |−2|, then the mean of both twice
    assert loss.count.item() == pytest.approx(1 + 0.25 * 3 + 0.5 * 0.5 + 1.0 * 0.5)
    assert loss.total.item() == pytest.approx(loss.classification.item() + 0.5 * loss.count.item())


@pytest.mark.parametrize("kind", ["multiscale", "l2"])
def test_the_gradient_of_zip_is_that_of_its_value(kind):
    torch.manual_seed(0)
    z = torch.randn(2, 5, 5, 6, dtype=torch.float64, requires_grad=True)
    representatives = torch.tensor([0, 1, 2, 4.4], dtype=torch.float64)
    counts = torch.randint(0, 6, (2, 5, 6))

    def total(z):
        count_loss = CountLoss(kind)
        return zip_loss(
            *zip_of(z, representatives), counts.clamp(max=3), counts, 1, count_loss
        ).total

    assert torch.autograd.gradcheck(total, z)


def test_zip_s_gradient_is_finite_where_it_is_sure_and_wrong():
    z = torch.tensor([200.0, -200, 80, -80, 0]).view(1, 5, 1, 1).repeat(1, 1, 1, 2).requires_grad_()
    counts = torch.tensor([[[0, 400]]])
    loss = zip_loss(*zip_of(z, torch.tensor([0.0, 1, 2, 4])), counts.clamp(max=3), counts).total
    loss.backward()
    assert loss.isfinite() and z.grad.isfinite().all() and z.grad[..., 1].abs().sum() > 0
