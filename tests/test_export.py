import json
import math
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from open_clip.transformer import VisionTransformer
from PIL import Image
from safetensors.torch import save_file
from timm.layers import Conv2dSame
from torch import nn

from ebclib.__main__ import main
from ebclib.config import make_config, project_root, results_root
from ebclib.counting import CrowdCounter
from ebclib.counting.export import export_run, write_onnx
from ebclib.encoders import build_encoder
from ebclib.encoders.clip import DenseViT
from ebclib.encoders.encoder import Encoder
from ebclib.models import BlockwiseModel
from ebclib.runs import open_run, write_json

SIZES = [(1, 97, 131), (2, 131, 97), (1, 1, 1), (1, 16, 32), (3, 65, 200)]


def small_model(head, block_size_px, variant=None):
    """Strides 2 to 16 px, TensorFlow's padding as EfficientNet-Lite's, and outputs far from zero."""
    torch.manual_seed(0)
    image = nn.Sequential(
        Conv2dSame(3, 8, 3, 2), nn.ReLU(), Conv2dSame(8, 8, 5, 2, groups=8), nn.ReLU6()
    )
    image += nn.Sequential(Conv2dSame(8, 16, 4, 2), nn.SiLU(), nn.Conv2d(16, 16, 3, 2, 1))
    encoder = Encoder(
        image=image,
        channels=16,
        stride_px=16,
        mean=(0.4, 0.5, 0.6),
        std=(0.2, 0.3, 0.25),
        embedding=8,
    )
    counts = [] if head == "regression" else [0, 1, 2.5, 4]
    model = BlockwiseModel(
        encoder, counts, block_size_px, head, torch.randn(len(counts), 8), variant
    )
    if head != "text":
        nn.init.normal_(model.head.classify.weight, std=2)
        nn.init.constant_(model.head.classify.bias, 0.5)
    return model.eval()


@pytest.fixture(
    scope="module", params=[("text", 8), ("linear", 32), ("regression", 16), ("zip", 16)]
)
def exported(request, tmp_path_factory):
    model = small_model(*request.param)
    path = tmp_path_factory.mktemp("onnx") / "small.onnx"
    return model, write_onnx(model, path, {"noun": '["car", "cars"]'})


def images(*shape):
    return np.random.default_rng(sum(shape)).integers(0, 256, (*shape, 3), np.uint8)


def counted(path, image):
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return session.run(["density", "variance"], {"image": image})


def expected(model, image):
    with torch.inference_mode():
        logits = model(torch.from_numpy(image).permute(0, 3, 1, 2))
        return model.density(logits).numpy(), model.variance(logits).numpy()


@pytest.mark.parametrize("shape", SIZES)
def test_the_file_says_what_the_model_says_of_any_size_and_batch(exported, shape):
    model, path = exported
    image = images(*shape)
    for found, wanted in zip(counted(path, image), expected(model, image), strict=True):
        h, w = (math.ceil(side / model.block_size_px) for side in shape[1:])
        assert found.shape == (shape[0], 1, h, w) and found.dtype == np.float32
        np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-4)
        assert found.sum() == pytest.approx(wanted.sum(), rel=1e-3, abs=1e-4)


def test_the_test_s_models_see_people_and_not_the_same_everywhere(exported):
    density, _ = expected(exported[0], images(1, 97, 131))
    assert density.sum() > 1 and density.std() > 0.01


WITHOUT_TORCH = """
import sys
sys.modules["torch"] = sys.modules["ebclib"] = None  # importing either fails
import numpy as np, onnxruntime
session = onnxruntime.InferenceSession(sys.argv[1], providers=["CPUExecutionProvider"])
density, variance = session.run(None, {"image": np.load(sys.argv[2])})
print(float(density.sum()))
"""


def test_the_file_runs_without_torch(exported, tmp_path):
    model, path = exported
    image = images(1, 97, 131)
    np.save(tmp_path / "image.npy", image)
    words = [sys.executable, "-c", WITHOUT_TORCH, str(path), str(tmp_path / "image.npy")]
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    done = subprocess.run(words, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) == pytest.approx(expected(model, image)[0].sum(), rel=1e-3)


def test_the_file_says_what_it_is_and_nothing_of_where_it_was_written(exported):
    model, path = exported
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    facts = session.get_modelmeta().custom_metadata_map
    assert facts["noun"] == '["car", "cars"]' and facts["window_px"] == ""
    assert int(facts["block_size_px"]) == model.block_size_px
    assert json.loads(facts["representatives"]) == model.representatives.tolist()
    assert session.get_inputs()[0].shape == ["batch", "height", "width", 3]
    assert (
        b"site-packages" not in path.read_bytes() and b"ebclib/export.py" not in path.read_bytes()
    )


def test_the_model_is_left_as_it_was():
    model = small_model("linear", 16)
    assert any(isinstance(module, Conv2dSame) for module in model.modules())


def test_a_vit_takes_its_windows(tmp_path):
    torch.manual_seed(0)
    image = DenseViT(VisionTransformer(32, 8, 16, 1, 2, 2.0, output_dim=4))
    encoder = Encoder(image=image, channels=16, stride_px=8, mean=(0.5,) * 3, std=(0.5,) * 3)
    model = BlockwiseModel(encoder, [0, 1, 2], 8, "linear", window_px=48).eval()
    nn.init.normal_(model.head.classify.weight, std=1)
    path = write_onnx(model, tmp_path / "vit.onnx")
    for batch in (1, 3):
        image = images(batch, 48, 48)
        np.testing.assert_allclose(
            counted(path, image)[0], expected(model, image)[0], rtol=1e-3, atol=1e-4
        )
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    assert session.get_modelmeta().custom_metadata_map["window_px"] == "48"


def test_a_model_that_onnx_cannot_hold_is_refused_and_leaves_no_file(tmp_path):
    """ONNX has no singular values."""

    class Singular(nn.Module):
        def forward(self, features):
            return features * torch.linalg.svdvals(features.float()).sum()

    model = small_model("linear", 16)
    model.decoder = Singular()
    with pytest.raises(ValueError, match="cannot be written as ONNX"):
        write_onnx(model, tmp_path / "singular.onnx")
    assert not list(tmp_path.iterdir())


def weight_types(path):
    tensors = onnx.load(path).graph.initializer
    return {onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type).name for tensor in tensors}


@pytest.mark.parametrize("head", ["linear", "zip"])
def test_half_the_bits_say_nearly_the_same(head, tmp_path):
    model = small_model(head, 8)
    path = write_onnx(model, tmp_path / "half.onnx", half=True)
    assert "float16" in weight_types(path)
    image = images(2, 90, 130)
    for found, wanted in zip(counted(path, image), expected(model, image), strict=True):
        assert found.dtype == np.float32 and found.sum() == pytest.approx(wanted.sum(), rel=1e-2)


@pytest.fixture
def tiny():
    """A run for photographs of at least 448 px, with weights."""
    torch.manual_seed(0)
    config = make_config("shb", model="timm:test_resnet", head="linear", name="tiny")
    encoder = build_encoder(config.model, "none", load=False)
    model = BlockwiseModel(encoder, [0, 1, 2, 3, 4.4], 8, "linear").eval()
    nn.init.normal_(model.head.classify.weight, std=1)
    folder = results_root() / "runs" / "tiny"
    write_json(folder / "config.json", config.to_dict())
    write_json(folder / "metrics.json", {"interval_factor": 1.25})
    save_file(model.state_dict(), folder / "model.safetensors")
    return model


def test_ebc_export_writes_a_run_s_model(tiny, tmp_path, capsys):
    model, path = tiny, tmp_path / "crowd.onnx"
    assert main(["export", "tiny", "--out", str(path)]) == 0
    assert str(path) in capsys.readouterr().out
    image = images(1, 50, 70)
    assert counted(path, image)[0].sum() == pytest.approx(expected(model, image)[0].sum(), rel=1e-3)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    facts = session.get_modelmeta().custom_metadata_map
    assert facts["run"] == "tiny" and float(facts["interval_factor"]) == 1.25
    assert json.loads(facts["noun"]) == ["person", "people"]
    assert "float16" not in weight_types(path)
    assert main(["export", "tiny", "--out", str(tmp_path)]) == 1
    assert f"{tmp_path} is a folder" in capsys.readouterr().err
    assert [each.name for each in tmp_path.iterdir() if each.is_file()] == ["crowd.onnx"]


def test_the_snippet_counts_as_ebc_count_does(tiny, tmp_path):
    """Small, turned, transparent, of 16 bits, and large: without torch and ebclib. README shows it."""
    readme = (project_root(Path(__file__).parent) / "README.md").read_text()
    start = readme.index("import numpy as np, onnxruntime")
    snippet = readme[start : readme.index("```", start)]
    export_run(open_run("tiny"), tmp_path / "crowd.onnx")
    exif = Image.Exif()
    exif[274] = 6
    alpha = np.dstack([images(60, 90), np.arange(5400).reshape(60, 90) % 256]).astype(np.uint8)
    deep = np.random.default_rng(0).integers(0, 2**16, (480, 500), np.uint16)
    given = {
        "small": (Image.fromarray(images(48, 64)), {}),
        "turned": (Image.fromarray(images(60, 90)), {"exif": exif}),
        "transparent": (Image.fromarray(alpha), {}),
        "16 bits": (Image.fromarray(deep), {}),
        "grey": (Image.fromarray(images(460, 470)[..., 0]), {}),
        "large": (Image.fromarray(images(640, 2500)), {}),
    }
    counter, kinds, lines = CrowdCounter(open_run("tiny")), [], []
    for name, (image, more) in given.items():
        image.save(tmp_path / f"{name}.png", **more)
        kinds.append(counter.count(tmp_path / f"{name}.png"))
        lines.append(snippet.replace("crowd.jpg", f"{name}.png"))
    assert kinds[0].counted_size == (448, 597) and kinds[1].size == (90, 60)
    hidden = 'import sys; sys.modules["torch"] = sys.modules["ebclib"] = None\n'
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    words = [sys.executable, "-c", hidden + "\n".join(lines)]
    done = subprocess.run(words, capture_output=True, text=True, env=environment, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert list(map(float, done.stdout.split())) == pytest.approx(
        [each.count for each in kinds], rel=2e-3
    )
    plain = np.asarray(Image.open(tmp_path / "small.png").convert("RGB"))[None]
    assert counted(tmp_path / "crowd.onnx", plain)[0].sum() < 0.5 * kinds[0].count
