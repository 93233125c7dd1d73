import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from ebclib.encoders import Encoder, build_encoder
from ebclib.losses import dace
from ebclib.models import BlockwiseModel, resize

SENTENCES = ["There is no person.", "There is one person.", "There are more than two people."]


@pytest.fixture(scope="module")
def encoder():
    return build_encoder("clip_lite")


@pytest.fixture(scope="module", params=["text", "linear"])
def model(request, encoder):
    torch.manual_seed(0)
    return BlockwiseModel(encoder, [0, 1, 2.5], 8, request.param, encoder.embed_text(SENTENCES))


@pytest.mark.parametrize("size", [(448, 448), (20, 20), (1, 1), (449, 300), (77, 501)])
def test_every_block_of_any_picture_gets_an_answer(model, size):
    picture = torch.randint(0, 256, (2, 3, *size), dtype=torch.uint8)
    with torch.inference_mode():
        logits = model.eval()(picture)
    h, w = math.ceil(size[0] / 8), math.ceil(size[1] / 8)
    assert logits.shape == (2, 3, h, w) and logits.dtype == torch.float32
    assert torch.isfinite(logits).all()
    assert torch.allclose(model.probabilities(logits).sum(1), torch.ones(2, h, w), atol=1e-5)
    assert model.density(logits).shape == (2, 1, h, w)


@given(st.integers(1, 90), st.integers(1, 90), st.sampled_from([8, 16, 32]))
@settings(max_examples=30, deadline=None)
def test_a_model_sure_of_one_person_a_block_counts_every_block(height, width, block_size_px):
    """Eq. 1 on a network that always says bin 1: the picture's count is its number of blocks."""
    stride = nn.Conv2d(3, 4, 16, 16)
    encoder = Encoder(stride, 4, 16, 2, (0.5,) * 3, (0.5,) * 3, None)
    model = BlockwiseModel(encoder, [0, 1, 2], block_size_px, "linear")
    nn.init.zeros_(model.head.classify.weight)
    model.head.classify.bias.data = torch.tensor([0.0, 40.0, 0.0])
    density = model.density(model(torch.rand(1, 3, height, width)))
    blocks = math.ceil(height / block_size_px) * math.ceil(width / block_size_px)
    assert density.sum().item() == pytest.approx(blocks, rel=1e-5)


def test_density_and_variance_are_the_moments_of_the_bins(model):
    logits = torch.randn(1, 3, 2, 2)
    p, a = logits.softmax(1), torch.tensor([0, 1, 2.5]).view(1, 3, 1, 1)
    mean = (p * a).sum(1, keepdim=True)
    assert torch.allclose(model.density(logits), mean, atol=1e-6)
    assert torch.allclose(
        model.variance(logits), (p * a**2).sum(1, keepdim=True) - mean**2, atol=1e-5
    )


def test_the_text_head_is_a_cosine_at_the_learnt_temperature(encoder):
    torch.manual_seed(0)
    text = encoder.embed_text(SENTENCES)
    head = BlockwiseModel(encoder, [0, 1, 2], 8, "text", text).head
    features = torch.randn(1, encoder.channels, 3, 4)
    upsampled = head.project(F.interpolate(features, scale_factor=2, mode="bilinear"))
    expected = F.cosine_similarity(upsampled[:, None], text[None, :, :, None, None], dim=2) / 0.07
    assert torch.allclose(head(features, 2), expected, atol=1e-4)


def test_gradients_reach_what_learns_and_nothing_else(model):
    model.train().zero_grad()
    logits = model(torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8))
    classes = torch.randint(0, 3, (2, 8, 8))
    dace(logits, model.density(logits), classes, classes).total.backward()
    still = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert still == []
    frozen = {name for name, _ in model.named_buffers()}
    assert "representatives" in frozen
    assert not any("text" in name for name, _ in model.named_parameters())


def test_four_crops_are_learnt_by_heart(encoder):
    """The loss falls to a tenth: the way from loss to weights is whole."""
    torch.manual_seed(0)
    fresh = build_encoder("clip_lite")
    model = BlockwiseModel(fresh, [0, 1, 2], 8, "text", encoder.embed_text(SENTENCES)).train()
    picture = torch.rand(4, 3, 64, 64)
    classes = torch.randint(0, 3, (4, 1, 1)).expand(4, 8, 8)
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    history = []
    for _ in range(60):
        logits = model(picture)
        loss = dace(logits, model.density(logits), classes, classes).total
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        history.append(loss.item())
    assert history[-1] < history[0] / 10


def test_resize_of_one_changes_nothing():
    features = torch.randn(1, 2, 3, 3)
    assert resize(features, 1) is features


def test_errors_say_what_to_do(encoder):
    with pytest.raises(ValueError, match="Choose from: text, linear"):
        BlockwiseModel(encoder, [0, 1], head="txt")
    with pytest.raises(ValueError, match="give text_features"):
        BlockwiseModel(encoder, [0, 1])
    with pytest.raises(ValueError, match=r"need \(2, 384\)"):
        BlockwiseModel(encoder, [0, 1], text_features=torch.zeros(2, 7))
