import math

import pytest
import torch

from ebclib.losses import PUBLISHED_OT_WEIGHT, CountLoss, dace, dmcount


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


def picture(n, h=6, w=9, r=8, seed=0):
    """Points (n, 2) in a crop of h × w blocks, and the counts (h, w) they make."""
    generator = torch.Generator().manual_seed(seed)
    points = torch.rand(n, 2, generator=generator) * torch.tensor([w * r, h * r])
    column, row = (points // r).long().T
    counts = torch.zeros(h, w, dtype=torch.long)
    counts.index_put_((row, column), torch.ones(n, dtype=torch.long), accumulate=True)
    return points, counts


def batch(*people):
    points, counts = zip(*(picture(n, seed=n) for n in people), strict=True)
    return list(points), torch.stack(counts)


def test_dmcount_by_hand():
    """A person in the left of two blocks, a prediction of 1 and 3: count 3, variation ¾ + ¾, and the
    transport's value from its own test."""
    density = torch.tensor([[[[1.0, 3.0]]]])
    points, counts = [torch.tensor([[4.0, 4.0]])], torch.tensor([[[1, 0]]])
    loss = dmcount(density, counts, points, 8)
    carried = 0.75 * 64 + 10 * (0.25 * math.log(0.5) + 0.75 * math.log(1.5))
    assert loss.count.item() == pytest.approx(3)
    assert loss.variation.item() == pytest.approx(1.5)
    assert loss.transport.item() == pytest.approx(carried, rel=1e-5)
    assert loss.total.item() == pytest.approx(3 + 0.1 * carried + 0.01 * 1.5, rel=1e-5)


def test_dmcount_is_an_average_with_named_weights():
    points, counts = batch(12, 30, 0)
    density = torch.rand(3, 1, 6, 9, generator=torch.Generator().manual_seed(1))
    each = [dmcount(density[b : b + 1], counts[b : b + 1], points[b : b + 1], 8) for b in range(3)]
    together = dmcount(density, counts, points, 8)
    doubled = dmcount(density.repeat(2, 1, 1, 1), counts.repeat(2, 1, 1), points * 2, 8)
    for part, twice, alone in zip(together, doubled, zip(*each, strict=True), strict=True):
        assert part.item() == pytest.approx(sum(a.item() for a in alone) / 3, rel=1e-4)
        assert part.item() == pytest.approx(twice.item(), rel=1e-4)
    as_published = dmcount(density, counts, points, 8, ot_weight=PUBLISHED_OT_WEIGHT)
    difference = (as_published.total - together.total).item()
    assert difference == pytest.approx(0.7 * together.transport.item(), rel=1e-3)


def test_nobody_there_costs_what_was_counted():
    points, counts = batch(0)
    density = torch.full((1, 1, 6, 9), 0.5, requires_grad=True)
    loss = dmcount(density, counts, points, 8)
    loss.total.backward()
    assert [part.item() for part in loss] == [27, 27, 0, 0]
    assert (density.grad == 1).all()


@pytest.mark.parametrize("solver", ["published", "converged", "pot"])
@pytest.mark.parametrize("scale", [0.0, 1e-30, 1e-6, 1e4])
def test_dmcount_and_its_gradient_are_finite_whatever_is_predicted(scale, solver):
    points, counts = batch(0, 1, 40)
    density = (scale * torch.rand(3, 1, 6, 9)).requires_grad_()
    loss = dmcount(density, counts, points, 8, solver=solver)
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
        dmcount(density.abs(), counts, points, 8, solver="converged").total.backward()
        optimizer.step()
    assert density.abs().sum().item() == pytest.approx(15, abs=0.5)
    even = (counts / 15 - 1 / 54).abs().sum()
    assert (density.detach().abs()[0] / 15 - counts / 15).abs().sum() < 0.5 * even


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
    """Two pictures of two blocks; errors of ½ and 0 in the one, 4 and 0 in the other."""
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
        (lambda: CountLoss("dmcont"), "Did you mean 'dmcount'"),
        (lambda: CountLoss("dmcount"), "give block_size_px"),
        (lambda: CountLoss("l1", solver="exact"), "solver 'exact' is not known"),
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
