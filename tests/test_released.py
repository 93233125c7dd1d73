"""The authors' released files: read as they are, and counting as their code does."""

import hashlib
import json
import math
import re
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import save_file

from ebclib.__main__ import main
from ebclib.bins import fine
from ebclib.config import Config, data_root, make_config, project_root, results_root
from ebclib.counting.released import OPEN_BIN, import_released
from ebclib.data.images import fit, prepared_size
from ebclib.encoders.released import fill, network_of, read_released
from ebclib.encoders.weights import Weights
from ebclib.evaluation.metadata import read_info, write_info
from ebclib.evaluation.windows import predict_map
from ebclib.models import build_model, released_model
from ebclib.prompts import sentences

CHECKED = {
    "vgg19_ae": ["224x224", "236x300"],
    "vgg16": ["236x300"],
    "csrnet": ["236x300"],
    "clip_resnet50": ["224x224", "236x300"],
    "clip_vit_b_16": ["224x224", "236x300.window224_stride224", "320x448.window224_stride112"],
    "clip_vit_b_16_without_vpt_256": ["256x256", "320x448"],
    "clip_vit_l_14": ["224x224", "320x448"],
}
"""Of each architecture, the recorded maps that are computed again here: whole, of odd sides, in windows."""

TOLERANCE = 5e-5


@pytest.fixture(scope="module")
def released():
    """The folder of what the released code computes from known weights on known images."""
    for root in (project_root().parent / "shared", data_root().parent):
        if (root / "released" / "facts.json").is_file():
            return root / "released"
    pytest.skip("needs released/ beside the data, or in ../shared")


@pytest.fixture(scope="module")
def facts(released):
    return json.loads((released / "facts.json").read_text())


def filled(name, shape):
    """The tensor that the records were made with, of a name and a shape alone."""
    seed = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "little")
    if name.endswith("num_batches_tracked"):
        return torch.tensor(0)
    z = np.random.default_rng(seed).standard_normal(shape)
    embeddings = ("class_embedding", "positional_embedding", "token_embedding.weight")
    if name == "logit_scale":
        z = 4 + 0.1 * z
    elif name.endswith(".running_mean"):
        z = 0.1 * z
    elif name.endswith(".running_var"):
        z = 1 + 0.1 * np.abs(z)
    elif name.endswith((".bias", ".in_proj_bias")):
        z = 0.05 * z
    elif name.endswith(embeddings) or name.startswith("vpt_"):
        z = 0.1 * z
    elif name.endswith(".text_projection"):
        z = z / math.sqrt(shape[0])
    elif len(shape) == 1:
        z = 1 + 0.1 * z
    else:
        z = z * math.sqrt(2 / math.prod(shape[1:]))
    return torch.from_numpy(np.asarray(z, dtype=np.float32))


def weights_of(released, architecture):
    keys = json.loads((released / f"{architecture}.keys.json").read_text())["keys"]
    return Weights({name: filled(name, tuple(row[0])) for name, row in keys.items()}, architecture)


def image(height, width):
    """The image that the records are of, uint8 (H, W, 3)."""
    y, x, c = np.ogrid[:height, :width, :3]
    tiles = ((x // 16) * (y // 16) * 37 * (c + 1)) % 97
    return ((x * (c + 2) + y * (5 - c) + tiles + 3 * ((x ^ y) & 15)) % 256).astype(np.uint8)


def build(weights, dataset="nwpu"):
    config = Config(**network_of(weights.tensors))
    representatives = np.array([0, 1, 2, 3, OPEN_BIN[dataset]])
    return released_model(config, weights, representatives, sentences(fine(4))).eval()


@torch.no_grad()
def density(model, what):
    """The map of a recorded image, whole (as the network is called) or in windows."""
    size, *windows = what.split(".")
    pixels = image(*map(int, size.split("x")))
    if windows:
        window_px, stride_px = map(int, re.findall(r"\d+", windows[0]))
        return predict_map(model, pixels, window_px=window_px, stride_px=stride_px).density.numpy()
    return model.density(model(torch.from_numpy(pixels).permute(2, 0, 1)[None]))[0, 0].numpy()


@pytest.mark.parametrize("architecture", CHECKED)
def test_every_architecture_counts_as_the_released_code(released, architecture):
    model = build(weights_of(released, architecture))
    recorded = np.load(released / f"{architecture}.density.npz")
    first = CHECKED[architecture][0]
    if f"{first}.density_with_text_encoder" in recorded:  # prompts through the file's own tower
        own = recorded["text.features_from_filled_text_encoder"]
        expected = F.normalize(torch.from_numpy(own), dim=1)
        torch.testing.assert_close(model.head.text_features, expected, atol=2e-6, rtol=0)
        found = density(model, first)
        assert np.abs(found - recorded[f"{first}.density_with_text_encoder"]).max() < TOLERANCE
    if hasattr(model.head, "text_features"):
        shape = tuple(model.head.text_features.shape)
        model.head.text_features.copy_(F.normalize(filled("text_features", shape), dim=1))
    for what in CHECKED[architecture]:
        found, expected = density(model, what), recorded[f"{what}.density"]
        assert found.shape == expected.shape
        assert np.abs(found - expected).max() < TOLERANCE, what
        assert found.sum() == pytest.approx(float(recorded[f"{what}.sum"]), rel=5e-6)


@pytest.fixture(scope="module")
def small(released):
    """The smallest network, VGG16: its weights and our model, filled."""
    weights = weights_of(released, "vgg16")
    return weights, build(weights)


@pytest.fixture(scope="module")
def checkpoint(small, tmp_path_factory):
    """Its file in a folder named as released."""
    folder = tmp_path_factory.mktemp("files") / "shb" / "vgg16_448_8_4_fine_1.0_dmcount_aug"
    folder.mkdir(parents=True)
    torch.save(dict(small[0].tensors), folder / "best_mae.pth")
    return folder / "best_mae.pth"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"backbone.features.7.bias": None}, "1 missing: backbone.features.7.bias"),
        ({"backbone.features.99.bias": torch.zeros(1)}, "1 left over: backbone.features.99.bias"),
        ({"vpt_0": torch.zeros(32, 768)}, "1 left over: vpt_0"),
        (
            {"classifier.weight": torch.zeros(7, 512, 1, 1)},
            r"classifier.weight \(7, 512, 1, 1\) instead of \(5, 512, 1, 1\)",
        ),
    ],
)
def test_a_file_that_does_not_fit_is_refused_by_name(small, change, message):
    weights, model = small
    tensors = {k: v for k, v in ({**weights.tensors, **change}).items() if v is not None}
    before = model.head.classify.weight.clone()
    with pytest.raises(ValueError, match=f"vgg16: these are not the weights.*{message}"):
        fill(model, "vgg16", replace(weights, tensors=tensors))
    assert torch.equal(model.head.classify.weight, before)


def test_the_prompts_of_a_vit_are_missed_by_name(released):
    """No weights are needed to see what lacks: everything is on the meta device."""
    keys = json.loads((released / "clip_vit_b_16.keys.json").read_text())["keys"]
    tensors = {name: torch.empty(row[0], device="meta") for name, row in keys.items()}
    fields = network_of(tensors)
    assert fields["visual_prompts"] == "deep" and fields["crop_px"] == 224
    del tensors["vpt_3"], tensors["text_encoder.ln_final.bias"]
    config = Config(**fields)
    with pytest.raises(ValueError, match=r"2 missing: vpt_3, text_encoder\.ln_final\.bias"):
        released_model(config, Weights(tensors, "a file"), np.zeros(5), [])


def test_each_network_is_known_by_its_keys(released):
    models = {}
    for path in sorted(released.glob("*.keys.json")):
        keys = json.loads(path.read_text())["keys"]
        shapes = {name: torch.empty(row[0], device="meta") for name, row in keys.items()}
        config = Config(**network_of(shapes))
        models[path.name.split(".")[0]] = (config.model, config.crop_px, config.multiples_px)
    assert models == {
        "clip_resnet50": ("clip_rn50", 448, (32,)),
        "clip_vit_b_16": ("clip_vit_b_16", 224, (32,)),
        "clip_vit_b_16_without_vpt_256": ("clip_vit_b_16", 256, (32, 256)),
        "clip_vit_l_14": ("clip_vit_l_14", 224, (32,)),
        "csrnet": ("csrnet", 448, (32,)),
        "vgg16": ("vgg16", 448, (32,)),
        "vgg19_ae": ("dmcount", 448, (32,)),
    }
    assert network_of({"visual.conv1.weight": torch.zeros(1)}) == {}


def test_all_three_kinds_of_file_hold_the_same(small, tmp_path):
    tensors = dict(list(small[0].tensors.items())[:3])
    torch.save(tensors, tmp_path / "best_mae.pth")
    scores = {"mae": [np.float64(3.5)], "rmse": np.inf}
    state = {"epoch": 3, "model_state_dict": tensors, "hist_scores": scores, "best_scores": scores}
    torch.save(state, tmp_path / "ckpt.pth")
    prefixed = {f"model.{name}": value for name, value in tensors.items()}
    save_file(prefixed, tmp_path / "model.safetensors")
    for name in ("best_mae.pth", "ckpt.pth", "model.safetensors"):
        found = read_released(tmp_path / name).tensors
        assert found.keys() == tensors.keys()
        assert all(torch.equal(found[key], value) for key, value in tensors.items())


def test_nothing_in_a_file_is_executed(tmp_path):
    class Planted:
        def __reduce__(self):
            return (open, (str(tmp_path / "planted"), "w"))

    torch.save({"model_state_dict": {}, "hist_scores": Planted()}, tmp_path / "ckpt.pth")
    with pytest.raises(ValueError, match="cannot be read as weights"):
        read_released(tmp_path / "ckpt.pth")
    assert not (tmp_path / "planted").exists()


def test_bins_and_prompts_are_the_released_ones(facts):
    rows = facts["bins_and_anchor_points"]["reduction 8"]["truncation 4"]
    assert {name: row["fine"]["average"] for name, row in rows.items()} == {
        name: [0, 1, 2, 3, last] for name, last in OPEN_BIN.items()
    }
    for numerals, kind in (("words", "word"), ("released_digits", "number")):
        said = facts["prompts"][kind]
        assert sentences(fine(4), numerals=numerals) == [
            said[which] for which in ("0", "1", "2", "3", "4 to inf")
        ]


def test_sizes_are_the_released_ones(facts):
    for dataset, (least, longest) in facts["preparation"].items():
        for (width, height), expected in facts["preparation_examples_wh_to_wh"][dataset]:
            found = prepared_size((height, width), least, longest, (32,))
            assert [found[1], found[0]] == expected, (dataset, width, height)
    assert prepared_size((480, 640), 448, 3072, (32, 256)) == (512, 768)
    assert fit(image(450, 460), 448, 4096, (32, 256)).shape == (512, 512, 3)
    same = image(448, 480)
    assert np.array_equal(fit(same, 448, 4096, (32,)), same)


def test_a_released_file_is_a_run_that_counts_and_evaluates(
    small, checkpoint, tmp_path, monkeypatch, capsys
):
    run = import_released(checkpoint)
    assert run.name.startswith("released-shb-vgg16-") and run.config.dataset == "shb"
    assert run.config.pretrained == "best_mae.pth" and run.config.precision == "fp32"
    info = read_info(run.weights)
    assert (info.least_side, info.longest_side, info.interval_factor) == (448, 4096, None)
    write_info(run.weights, replace(info, least_side=32))  # small images, for this test to be fast

    yard = tmp_path / "data" / "yard"
    (yard / "test").mkdir(parents=True)
    pixels = image(112, 150)
    Image.fromarray(pixels).save(yard / "test" / "a.png")
    (yard / "test" / "points.csv").write_text("image,x,y\na.png,10,20\na.png,100,80\n")
    (yard / "dataset.yaml").write_text("least_side: 32\n")
    monkeypatch.setenv("EBC_DATA", str(tmp_path / "data"))
    model = small[1]
    model.representatives[-1] = 4.41009  # of part B
    fitted = fit(pixels, 32, 4096, (32,))
    assert fitted.shape == (128, 160, 3)
    people = predict_map(model, fitted).density.sum().item()

    counted = ["count", str(yard / "test" / "a.png"), "--out", str(tmp_path / "out"), "--no-maps"]
    assert main([*counted, "--weights", str(checkpoint)]) == 0
    row = pd.read_csv(tmp_path / "out" / "counts.csv").iloc[0]
    assert row["count"] == pytest.approx(people, rel=1e-5)
    assert np.isnan(row["lower"]) and "no interval" in row["notes"]

    assert main(["evaluate", run.name, "--dataset", "yard", "--split", "test"]) == 0
    assert (
        run.path.joinpath("predictions-yard-test.csv").read_text().startswith("image,points,count")
    )
    metrics = json.loads((run.path / "metrics-yard-test.json").read_text())
    assert metrics["mae"] == pytest.approx(people - 2, rel=1e-5) and not run.is_finished
    assert "training mean: MAE —" in capsys.readouterr().out


def test_what_no_name_says_is_asked_for(checkpoint, tmp_path):
    bare = tmp_path / "weights.pth"
    bare.hardlink_to(checkpoint)
    with pytest.raises(ValueError, match="Give --trained-on, one of: sha, shb"):
        import_released(bare)
    with pytest.raises(ValueError, match="trained-on 'qnfr' is not known"):
        import_released(bare, "qnfr")
    coarse = tmp_path / "sha" / "vgg16_448_16_8_coarse_1.0_dmcount"
    coarse.mkdir(parents=True)
    (coarse / "best_mae.pth").hardlink_to(checkpoint)
    with pytest.raises(ValueError, match="reduction 16, truncation 8, coarse bins"):
        import_released(coarse / "best_mae.pth")
    vit = tmp_path / "nwpu_weights" / "CLIP_EBC_ViT_B_16"
    vit.mkdir(parents=True)
    save_file({"model.image_encoder.transformer.x": torch.zeros(1)}, vit / "model.safetensors")
    with pytest.raises(ValueError, match="Give --prompts word"):
        import_released(vit / "model.safetensors")
    assert not list(results_root().glob("runs/*"))


def test_a_run_starts_from_a_released_file(small, checkpoint):
    config = make_config("synthetic_small", pretrained=str(checkpoint))
    assert (config.model, config.released, config.head) == ("vgg16", True, "linear")
    task = SimpleNamespace(representatives=np.arange(5.0), sentences=lambda config: [])
    model = build_model(config, task)
    assert model.weights_source.startswith("best_mae.pth sha256:")
    own, given = model.state_dict(), small[1].state_dict()
    learnt = own.keys() - {"representatives"}
    assert all(torch.equal(own[key], given[key]) for key in learnt)
    assert all(value.requires_grad for value in model.parameters())
