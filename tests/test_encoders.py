"""The pretrained towers are the published ones, to the last bit, or it is said what is missing."""

import subprocess
import sys

import pytest
import timm
import torch
import torch.nn.functional as F
from torch import nn

from ebclib import config
from ebclib.encoders import build_encoder, clip_lite
from ebclib.encoders.encoder import limit_stride, probe
from ebclib.encoders.variants import VARIANTS


@pytest.fixture(scope="module")
def encoder():
    return build_encoder("clip_lite")


def parameters(module):
    return sum(p.numel() for p in module.parameters())


def test_the_text_tower_is_all_minilm_s_own(encoder):
    """Mean over the tokens of the real encoder, and sentences that mean alike lie near each other."""
    same = F.normalize(
        encoder.embed_text(
            ["There are three people.", "There are 3 persons.", "The invoice is overdue."]
        ),
        dim=1,
    )
    assert same.shape == (3, 384)
    assert same[0] @ same[1] > 0.8 > 0.3 > same[0] @ same[2]
    alone = F.normalize(encoder.embed_text(["There are three people."]), dim=1)
    assert torch.allclose(
        alone[0], same[0], atol=1e-5
    )  # padding beside longer sentences changes nothing


PUBLISHED = {
    # Known sizes of the image towers without classifier, pooling and projection.
    "clip_lite": 4_652_008 - 1000 * 1281,
    "csrnet": 7_635_264,  # VGG16 to conv4_3
    "dmcount": 20_024_384,  # VGG19's sixteen convolutions
    "vgg16": 14_714_688,  # VGG16's thirteen
    "resnet101": 44_549_160 - 1000 * 2049,
    "mobilenetv2": 3_504_872 - 1000 * 1281,
    "densenet201": 20_013_928 - 1000 * 1921,
    "clip_rn50": 38_316_896 - (50 * 2048 + 3 * 2048 * 2049 + 2049 * 1024),  # less attention pool
    "clip_vit_b_16": 86_192_640 - 768 * 512,  # less projection
    "clip_vit_b_32": 87_849_216 - 768 * 512,
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_an_image_tower_has_the_architecture_s_known_number_of_parameters(name):
    bare = build_encoder(name, load=False)
    assert parameters(bare.image) == PUBLISHED[name]
    assert bare.embed_text is None and bare.source == "random"
    assert all(p.requires_grad for p in bare.image.parameters())


@pytest.mark.parametrize("name", ["resnet101", "densenet201", "timm:convnext_atto", "clip_rn50"])
def test_a_tower_s_last_stride_is_taken_away_and_its_weights_stay(name):
    """Twice the features on the same weights, and the same features up to the stage that changed."""
    bare = build_encoder(name, load=False)
    assert bare.stride_px == 16
    assert probe(bare.image, 160)[2:] == (10, 10)
    if name == "resnet101":
        whole = timm.create_model("resnet101", num_classes=0).eval()
        whole.load_state_dict(bare.image.trunk.state_dict())
        pixels = torch.randn(1, 3, 96, 160)
        options = {"indices": [3], "intermediates_only": True}
        with torch.inference_mode():
            (ours,) = bare.image.eval().trunk.forward_intermediates(pixels, **options)
            (theirs,) = whole.forward_intermediates(pixels, **options)
            assert whole.forward_features(pixels).shape[-2:] == (3, 5)
        assert torch.allclose(ours, theirs, atol=1e-5)


def test_limiting_the_stride_touches_shortcuts_and_pools():
    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.main = nn.Conv2d(3, 3, 3, 2, 1)
            self.short = nn.Sequential(nn.AvgPool2d(2), nn.Conv2d(3, 3, 1))

        def forward(self, x):
            return self.main(x) + self.short(x)

    network = nn.Sequential(*(Block() for _ in range(5)))
    before = [p.clone() for p in network.parameters()]
    keys = list(network.state_dict())
    limit_stride(network, 8)
    assert probe(network, 64) == (1, 3, 8, 8)
    assert list(network.state_dict()) == keys
    assert all((a == b).all() for a, b in zip(before, network.parameters(), strict=True))
    with pytest.raises(ValueError, match="at least 1 pixel"):
        limit_stride(network, 0)


def test_missing_packages_are_named(monkeypatch):
    monkeypatch.setattr(config, "find_spec", lambda package: None)
    with pytest.raises(FileNotFoundError, match=r"pip install -e '\.\[offline\]'"):
        build_encoder("clip_lite")


def test_damaged_packages_are_refused(monkeypatch):
    monkeypatch.setattr(clip_lite, "MINILM_SHA256", "0" * 64)
    encoder = build_encoder("clip_lite")  # sentences alone need the text tower
    with pytest.raises(ValueError, match="expected 0000"):
        encoder.embed_text(["There is one person."])
    monkeypatch.setattr(clip_lite, "EFFICIENTNET_SHA256", "0" * 64)
    with pytest.raises(ValueError, match="expected 0000"):
        build_encoder("clip_lite")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("clip_light", "Did you mean 'clip_lite'"),
        ("timm:resnet5", "Did you mean 'resnet"),
        ("open_clip:RN5", "Did you mean 'RN50'"),
    ],
)
def test_an_unknown_model_names_the_nearest(name, message):
    with pytest.raises(ValueError, match=message):
        build_encoder(name)


@pytest.mark.parametrize("name", ["open_clip:ViT-B-16-SigLIP", "timm:vit_tiny_patch16_224"])
def test_other_libraries_vits_see_images_of_any_shape(name):
    bare = build_encoder(name, load=False)
    assert bare.stride_px == 16
    with torch.inference_mode():
        features = bare.image.eval()(torch.zeros(1, 3, 32, 96))
    assert features.shape == (1, bare.channels, 2, 6)


@pytest.mark.parametrize(
    ("name", "error", "message"),
    [
        ("open_clip:coca_ViT-B-32", ValueError, "attentional pool"),
        ("open_clip:xlm-roberta-base-ViT-B-32", FileNotFoundError, "hf download xlm-roberta-base"),
        ("timm:swin_tiny_patch4_window7_224", ValueError, "images of any size"),
    ],
)
def test_what_cannot_be_built_is_said(name, error, message):
    with pytest.raises(error, match=message):
        build_encoder(name, load=False)


def test_visual_prompts_need_a_vit():
    for name in ("csrnet", "clip_rn50", "clip_lite"):
        with pytest.raises(ValueError, match="clip_vit_b_16"):
            build_encoder(name, visual_prompts="deep", load=False)
    with pytest.raises(ValueError, match="Did you mean 'deep'"):
        build_encoder("clip_vit_b_32", visual_prompts="depp", load=False)


def test_without_pretraining_the_tower_has_the_same_shape(encoder):
    bare = build_encoder("clip_lite", load=False)
    shapes = [{k: v.shape for k, v in e.image.state_dict().items()} for e in (bare, encoder)]
    assert shapes[0] == shapes[1]
    assert (bare.stride_px, bare.channels) == (16, 1280)


def test_the_table_names_its_rows():
    assert all(name == row.name for name, row in VARIANTS.items())


def test_importing_and_building_vgg_loads_no_clip():
    """In a process of its own, whose imports are then looked at."""
    code = (
        "import sys, ebclib.encoders.variants, ebclib.config\n"
        "assert 'torch' not in sys.modules\n"
        "from ebclib.encoders import build_encoder\n"
        "build_encoder('csrnet', 'none')\n"
        "assert 'open_clip' not in sys.modules and 'transformers' not in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("prompts", ["shallow", "deep"])
def test_visual_prompts_learn_and_the_transformer_is_frozen(prompts):
    torch.manual_seed(0)
    image = build_encoder("clip_vit_b_32", visual_prompts=prompts, load=False).image
    layers = {"shallow": 1, "deep": 12}[prompts]
    assert image.prompts.shape == (layers, 32, 768)
    features = image(torch.randn(1, 3, 96, 64))
    assert features.shape == (1, 768, 3, 2)
    features.square().sum().backward()
    assert image.prompts.grad.flatten(1).any(dim=1).all()
    assert [name for name, p in image.named_parameters() if p.requires_grad] == ["prompts"]
    assert image.tokens(torch.randn(1, 3, 64, 64)).shape == (1, 1 + 32 + 4, 768)


def test_position_embeddings_follow_the_image_s_shape():
    image = build_encoder("clip_vit_b_32", load=False).image.eval()
    with torch.inference_mode():
        own = image._positions(7, 7)
        assert own is image.visual.positional_embedding
        wide = image._positions(7, 14)
    assert wide.shape == (1 + 7 * 14, 768) and torch.equal(wide[0], own[0])
    assert wide[1:].mean(0).allclose(own[1:].mean(0), atol=2e-3), "stretched, not changed"
