import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from torch import nn

from ebclib.encoders import build_encoder
from ebclib.encoders.encoder import Encoder
from ebclib.encoders.variants import VARIANTS, find_variant
from ebclib.losses import dace, zip_loss
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
def test_every_block_of_any_image_gets_an_answer(model, size):
    pixels = torch.randint(0, 256, (2, 3, *size), dtype=torch.uint8)
    with torch.inference_mode():
        logits = model.eval()(pixels)
    h, w = math.ceil(size[0] / 8), math.ceil(size[1] / 8)
    assert logits.shape == (2, 3, h, w) and logits.dtype == torch.float32
    assert torch.isfinite(logits).all()
    assert torch.allclose(model.probabilities(logits).sum(1), torch.ones(2, h, w), atol=1e-5)
    assert model.density(logits).shape == (2, 1, h, w)


@given(st.integers(1, 90), st.integers(1, 90), st.sampled_from([8, 16, 32]))
@settings(max_examples=30)
def test_a_model_sure_of_one_person_a_block_counts_every_block(height, width, block_size_px):
    """Eq. 1 on a network that always says bin 1: the image's count is its number of blocks."""
    stride = nn.Conv2d(3, 4, 16, 16)
    encoder = Encoder(image=stride, channels=4, stride_px=16, mean=(0.5,) * 3, std=(0.5,) * 3)
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


VGGS = ("csrnet", "dmcount", "dmcount_vgg16", "vgg16")
RATES = {"clip_vit_b_16": 1e-4, "clip_vit_b_32": 1e-4, "clip_vit_l_14": 1e-2}
RATES |= dict.fromkeys(VGGS, 1e-4)
"""Learning rates with which a few steps from a random start are enough, where it is not 1e-3."""


def build(name, block_size_px=8, head=None):
    """A row's model, random, with three bins and some text; the largest ViT learns by prompts alone."""
    variant = find_variant(name)
    prompts = ("deep", 4) if name == "clip_vit_l_14" else ("none", 32)
    encoder = build_encoder(name, "none", *prompts, load=False)
    head = head or ("text" if variant.has_text else "linear")
    text = torch.randn(3, encoder.embedding) if head == "text" else None
    return BlockwiseModel(encoder, [0, 1, 2], block_size_px, head, text, variant)


BY_HEART = {"clip_lite", "clip_rn50", "clip_vit_b_32", "csrnet", "mobilenetv2"}
"""One of each kind learns for a minute; of the others a few steps are seen to go down."""


@pytest.mark.parametrize("name", VARIANTS)
def test_every_model_answers_for_every_block_and_learns(name):
    """Shapes for sizes that are multiples of nothing; gradients; the loss falls."""
    torch.manual_seed(0)
    model = build(name).eval()
    for block_size_px, size in ((8, (50, 77)), (16, (33, 90)), (32, (65, 47))):
        model.block_size_px = block_size_px
        with torch.inference_mode():
            logits = model(torch.randint(0, 256, (1, 3, *size), dtype=torch.uint8))
        h, w = (math.ceil(side / block_size_px) for side in size)
        assert logits.shape == (1, 3, h, w) and torch.isfinite(logits).all()
    model.block_size_px = 8
    if name in VGGS:  # VGG has no normalisation: a random one passes next to nothing on
        for module in model.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
    by_heart = name in BY_HEART
    losses = list(four_crops(model.train(), RATES.get(name, 1e-3), 60 if by_heart else 5))
    assert min(losses) < losses[0] / (10 if by_heart else 1), losses


def four_crops(model, rate, steps=60):
    """The losses of training on four crops of three classes, until they are known by heart."""
    pixels = F.interpolate(torch.rand(4, 3, 4, 4), (56, 56), mode="bilinear")
    classes = torch.tensor([0, 1, 2, 1]).view(4, 1, 1).expand(4, 7, 7)
    learning = {n: p for n, p in model.named_parameters() if p.requires_grad}
    optimizer = torch.optim.Adam(learning.values(), rate)
    first = math.inf
    for step in range(steps):
        logits = model(pixels)
        loss = dace(logits, model.density(logits), classes, classes, 0).total
        optimizer.zero_grad()
        loss.backward()
        if step == 0:
            first = loss.item()
            assert [n for n, p in learning.items() if p.grad is None] == []
            assert all(p.grad is None for p in model.parameters() if not p.requires_grad)
        optimizer.step()
        yield loss.item()
        if loss.item() < first / 10:
            return


def small_zip():
    """ZIP on blocks of 8 px behind two convolutions, with the bins {0} {1} {2} [3, ∞)."""
    torch.manual_seed(0)
    image = nn.Sequential(nn.Conv2d(3, 99, 8, 8), nn.ReLU(), nn.Conv2d(99, 32, 1), nn.ReLU())
    encoder = Encoder(image=image, channels=32, stride_px=8, mean=(0.5,) * 3, std=(0.2,) * 3)
    return BlockwiseModel(encoder, [0, 1, 2, 4.5], 8, "zip")


def test_zip_s_density_and_variance_are_the_moments_of_its_distribution():
    model = small_zip()
    nn.init.normal_(model.head.classify.weight, std=3)
    logits = model(torch.rand(1, 3, 40, 56)).double()
    p, rate = model.probabilities(logits), model.rate(logits)
    assert torch.allclose(logits, p.log(), atol=1e-5) and p[:, 0].std() > 0.1 and rate.std() > 0.1
    y = torch.arange(100).view(-1, 1, 1)
    pmf = torch.from_numpy(stats.poisson.pmf(y, rate[0].detach()))  # (100, h, w)
    pmf = (1 - p[:, 0]) * pmf + p[:, 0] * (y == 0)
    mean = (pmf * y).sum(0)
    assert torch.allclose(pmf.sum(0), torch.ones_like(mean))
    assert torch.allclose(model.density(logits)[0, 0], mean, rtol=1e-6)
    assert torch.allclose(model.variance(logits)[0, 0], (pmf * (y - mean) ** 2).sum(0), rtol=1e-6)


def test_zip_learns_a_batch_by_heart():
    model = small_zip().train()
    image = torch.rand(2, 3, 32, 40)
    counts = torch.tensor([0, 0, 0, 1, 2, 3, 6])[torch.randint(0, 7, (2, 4, 5))]
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    for _ in range(300):
        logits = model(image)
        density = model.density(logits)
        loss = zip_loss(logits, model.rate(logits), density, counts.clamp(max=3), counts)
        optimizer.zero_grad()
        loss.total.backward()
        optimizer.step()
    assert all(p.grad.any() for p in model.parameters())
    error = (density.sum((1, 2, 3)) - counts.sum((1, 2))).abs() / counts.sum((1, 2))
    assert error.max() < 0.05, error
    nobody = model.probabilities(logits)[:, 0]
    assert (nobody[counts == 0] > 0.9).all() and (nobody[counts > 0] < 0.1).all()


KNOWN_SIZES = {
    ("csrnet", "regression"): 16_263_489,  # Li et al. 2018: 16.26 M
    ("dmcount", "regression"): 21_499_457,  # Wang et al. 2020: 21.5 M
}


@pytest.mark.parametrize(("name", "head"), KNOWN_SIZES)
def test_a_published_model_has_its_published_size_and_ebc_changes_the_width_alone(name, head):
    with torch.device("meta"):  # no numbers, only their shapes
        regression, classifier = build(name, 8, head), build(name, 8, "linear")
    sizes = [sum(p.numel() for p in m.parameters()) for m in (regression, classifier)]
    assert sizes[0] == KNOWN_SIZES[name, head]
    channels = regression.head.classify.in_channels
    assert sizes[1] - sizes[0] == 2 * (channels + 1)


def test_a_regression_model_says_people_and_has_no_bins():
    model = build("mobilenetv2", 16, "regression").eval()
    logits = model(torch.rand(1, 3, 40, 40)) - 0.5
    assert logits.shape == (1, 1, 3, 3)
    density = model.density(logits)
    assert torch.allclose(density.exp() - 1, logits.exp()) and (density > 0).all()
    assert torch.equal(model.variance(logits), density)
    nobody = torch.full_like(logits, -8).requires_grad_()
    model.density(nobody).sum().backward()
    assert (nobody.grad > 0).all(), "a density of nobody can still learn"
    with pytest.raises(ValueError, match="no bins"):
        model.probabilities(logits)


@pytest.mark.parametrize(
    ("name", "widths"),
    [  # as in the released checkpoints, with C channels: convolutions' kernels in order
        ("clip_rn50", [1, 3, 1]),
        ("clip_vit_b_16", [3, 3]),
    ],
)
@pytest.mark.parametrize("block_size_px", [8, 16, 32])
def test_a_residual_block_stands_on_the_grid_of_blocks_before_the_projection(
    name, widths, block_size_px
):
    """The release: encoder, twice the size, image_decoder.0, projection; all on blocks of 8 px."""
    image = nn.Conv2d(3, 8, 16, 16)
    encoder = Encoder(image=image, channels=8, stride_px=16, mean=(0.5,) * 3, std=(0.2,) * 3)
    model = BlockwiseModel(
        encoder, [0, 1], block_size_px, "random_text", None, VARIANTS[name], residual_block=True
    ).eval()
    block = model.decoder[-1]
    shapes = [p.shape for p in block.parameters() if p.ndim == 4]
    assert shapes == [(8, 8, k, k) for k in widths]
    seen = []
    block.register_forward_hook(lambda _, given, made: seen.extend((given[0], made)))
    model.head.project.register_forward_hook(lambda _, given, made: seen.append(given[0]))
    pixels = torch.rand(1, 3, 64, 96)
    logits = model(pixels)
    h, w = 64 // block_size_px, 96 // block_size_px
    assert logits.shape == (1, 2, h, w) and seen[0].shape == seen[1].shape == (1, 8, h, w)
    assert seen[2] is seen[1], "the projection follows at once"
    features = image((pixels - 0.5) / 0.2)
    assert torch.allclose(seen[0], resize(features, 16 / block_size_px), atol=1e-6)


def test_random_text_is_fixed_and_no_two_bins_alike():
    torch.manual_seed(3)
    model = build("mobilenetv2", 8, "random_text")
    text = model.head.text_features
    assert text.shape == (3, 512) and (text @ text.T - torch.eye(3)).abs().max() < 0.3
    assert "head.text_features" in model.state_dict()
    assert "head.text_features" not in dict(model.named_parameters())


@given(st.integers(1, 9), st.integers(1, 9), st.sampled_from([0.25, 0.5, 2, 1.75, 14 / 16]))
@settings(max_examples=25)
def test_resizing_a_constant_changes_nothing_but_the_size(height, width, scale):
    features = torch.full((1, 2, 8 * height, 8 * width), 3.0)
    resized = resize(features, scale)
    assert resized.shape == (1, 2, round(8 * height * scale), round(8 * width * scale))
    assert torch.allclose(resized, torch.tensor(3.0))


def test_half_the_size_is_bilinear_and_the_mean():
    features = torch.randn(1, 2, 8, 6)
    bilinear = F.interpolate(features, scale_factor=0.5, mode="bilinear", align_corners=False)
    assert torch.allclose(resize(features, 0.5), bilinear, atol=1e-6)


def test_resize_of_one_changes_nothing():
    features = torch.randn(1, 2, 3, 3)
    assert resize(features, 1) is features


def test_errors_say_what_to_do(encoder):
    with pytest.raises(ValueError, match="Did you mean 'text'"):
        BlockwiseModel(encoder, [0, 1], head="txt")
    with pytest.raises(ValueError, match="give text_features"):
        BlockwiseModel(encoder, [0, 1])
    with pytest.raises(ValueError, match=r"need \(2, 384\)"):
        BlockwiseModel(encoder, [0, 1], text_features=torch.zeros(2, 7))
