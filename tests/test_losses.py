import math

import pytest
import torch

from ebclib.losses import dace


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
