"""Weights from files: OpenAI's format and safetensors, every key accounted for, nothing executed."""

import pickle
import zipfile

import open_clip
import pytest
import timm
import torch
from open_clip.model import CLIP, QuickGELU
from safetensors.torch import load_file, save_file
from torch import nn

from ebclib.config import weights_root
from ebclib.encoders import build_encoder
from ebclib.encoders.clip import DenseViT, build_towers, load_clip
from ebclib.encoders.variants import VARIANTS, find_variant
from ebclib.encoders.weights import Weights, load_exactly, locate, read_torchscript


@pytest.fixture(scope="module", params=["clip_rn50", "clip_vit_b_16"])
def published(request, tmp_path_factory):
    """open_clip's model with random weights in half precision, and the file OpenAI would have made of it."""
    torch.manual_seed(0)
    variant = VARIANTS[request.param]
    clip = CLIP(**open_clip.get_model_config(variant.architecture), quick_gelu=True)
    for name, parameter in clip.named_parameters():
        if name.endswith("bn3.weight"):  # zero at the start: the branch would not count
            nn.init.uniform_(parameter, 0.2, 0.6)
    clip = clip.half().float().eval()
    path = tmp_path_factory.mktemp("openai") / f"{variant.architecture}.pt"
    as_openai(clip).save(path)
    yield request.param, clip, path
    path.unlink()


class Holder(nn.Module):
    """A module of nothing but names: what OpenAI's archives are to somebody who reads weights."""


def as_openai(clip):
    """A TorchScript archive in half precision with the three numbers that OpenAI put beside the weights."""
    root = Holder()
    extras = {"input_resolution": 224, "context_length": 77, "vocab_size": 49408}
    tensors = clip.state_dict() | {key: torch.tensor(value) for key, value in extras.items()}
    for key, value in tensors.items():
        *folders, name = key.split(".")
        holder = root
        for folder in folders:
            if folder not in holder._modules:
                holder.add_module(folder, Holder())
            holder = holder._modules[folder]
        value = value.detach()
        value = value.half() if value.is_floating_point() else value
        holder.register_buffer(name, value)
    return torch.jit.script(root)


def test_openai_s_format_loads_to_the_last_key_and_features_pool_as_clip_s_own(published):
    name, clip, path = published
    tensors = read_torchscript(path)
    assert tensors.keys() - clip.state_dict().keys() == {
        "input_resolution",
        "context_length",
        "vocab_size",
    }
    weights = Weights.read(path)
    assert weights.tensors.keys() == clip.state_dict().keys()
    own = build_towers(VARIANTS[name], str(path)).eval()
    load_clip(own, weights)
    image = torch.rand(2, 3, 224, 224)
    with torch.inference_mode():
        expected = clip.encode_image(image)
        if name == "clip_rn50":
            own.visual.attnpool = nn.Identity()
            pooled = clip.visual.attnpool(own.visual(image))
        else:
            projection = clip.visual.proj
            pooled = DenseViT(own.visual).eval().tokens(image)[:, 0] @ projection
    assert torch.allclose(pooled, expected, rtol=1e-4, atol=1e-5)


def test_safetensors_load_too_and_the_sentences_are_the_text_tower_s(published, tmp_path):
    name, clip, _ = published
    path = tmp_path / "mine.safetensors"
    save_file({k: v.half().contiguous() for k, v in clip.state_dict().items()}, path)
    with pytest.warns(UserWarning, match=r"does not say who trained it.*TAG\.safetensors"):
        encoder = build_encoder(name, str(path))
    assert encoder.source.startswith("mine.safetensors sha256:")
    said = ["There is no person.", "There are more than four people."]
    with torch.inference_mode():
        expected = clip.encode_text(open_clip.get_tokenizer(VARIANTS[name].architecture)(said))
    assert torch.allclose(encoder.embed_text(said), expected, rtol=1e-4, atol=1e-5)
    for key, value in encoder.image.visual.state_dict().items():
        assert torch.equal(value, clip.visual.state_dict()[key]), key


def test_openai_s_file_is_found_in_the_weights_folder(published, monkeypatch):
    name, _, path = published
    monkeypatch.setenv("EBC_WEIGHTS", str(path.parent))
    assert build_encoder(name).source.startswith(f"{path.name} sha256:")


@pytest.mark.parametrize(
    ("model", "pretrained", "activation"),
    [
        ("clip_vit_b_32", "default", QuickGELU),
        ("clip_vit_b_32", "none", QuickGELU),
        ("clip_vit_b_32", "laion400m_e32", QuickGELU),
        ("clip_vit_b_32", "/w/own.safetensors", QuickGELU),
        ("clip_vit_b_32", "laion2b_s34b_b79k", nn.GELU),
        ("clip_vit_b_16", "laion2b_s34b_b88k", nn.GELU),
        ("clip_vit_b_16", "/w/ViT-B-16.datacomp_xl_s13b_b90k.safetensors", nn.GELU),
        ("clip_vit_b_16", "/w/ViT-B-16.metaclip_400m.fp16.safetensors", QuickGELU),
        ("open_clip:ViT-B-16", "/w/own.safetensors", nn.GELU),
        ("open_clip:ViT-B-16", "openai", QuickGELU),
        ("open_clip:ViT-B-16-quickgelu", "none", QuickGELU),
    ],
)
def test_the_activation_is_the_one_the_weights_were_trained_with(model, pretrained, activation):
    """As open_clip's table of tags has it; its towers are built without numbers."""
    variant = find_variant(model)
    tag = variant.weights if pretrained == "default" else pretrained
    with torch.device("meta"):
        towers = build_towers(variant, tag)
    assert type(towers.visual.transformer.resblocks[0].mlp.gelu) is activation
    assert type(towers.transformer.resblocks[-1].mlp.gelu) is activation


def test_another_s_file_in_the_weights_folder_is_not_taken_for_openai_s(tmp_path, monkeypatch):
    monkeypatch.setenv("EBC_WEIGHTS", str(tmp_path))
    (tmp_path / "RN50.yfcc15m.safetensors").touch()
    with pytest.raises(FileNotFoundError, match="RN50, openai, are not on this machine"):
        build_encoder("clip_rn50")
    assert locate("yfcc15m", ["RN50.yfcc15m"]).name == "RN50.yfcc15m.safetensors"
    for name in ("RN50.pt", "RN50.openai.fp16.safetensors"):  # the second has the name in full
        (tmp_path / name).touch()
        assert locate("openai", ["RN50.openai"], ["RN50"]).name == name


@pytest.mark.parametrize("tag", ["dino", "augreg_in21k_ft_in1k"])
def test_timm_s_networks_are_normalised_as_their_tag_s_weights_were_trained(
    tag, tmp_path, monkeypatch
):
    """Given as a tag, and as a file that has it in its name; trained and filled from a run alike."""
    name = "vit_small_patch16_224"
    file = tmp_path / f"{name}.{tag}.safetensors"
    save_file(timm.create_model(name, num_classes=0).state_dict(), file)
    monkeypatch.setenv("EBC_WEIGHTS", str(tmp_path))
    expected = timm.data.resolve_data_config(
        pretrained_cfg=timm.get_pretrained_cfg(f"{name}.{tag}").to_dict()
    )
    for pretrained in (tag, str(file)):
        for load in (True, False):
            encoder = build_encoder(f"timm:{name}", pretrained, load=load)
            assert (encoder.mean, encoder.std) == (expected["mean"], expected["std"])
            assert encoder.source.startswith(file.name if load else "random")


def test_clip_s_towers_of_timm_have_the_activation_that_timm_says():
    quick, other = (
        build_encoder("timm:vit_base_patch32_clip_224", tag, load=False).image.trunk
        for tag in ("openai", "laion2b_ft_in1k")
    )
    assert type(quick.blocks[0].mlp.act) is timm.layers.QuickGELU
    assert type(other.blocks[0].mlp.act) is nn.GELU


@pytest.fixture
def vgg16(tmp_path):
    """A file of the thirteen convolutions under timm's names."""
    tensors = build_encoder("vgg16", "none").image.trunk.state_dict()
    path = tmp_path / "own.safetensors"
    save_file(tensors, path)
    return tensors, path


def test_missing_extra_and_misshapen_weights_are_refused_by_name(vgg16, tmp_path):
    tensors, path = vgg16
    assert build_encoder("csrnet", str(path)).source.startswith("own.safetensors")
    wrong = {
        "1 missing: features.0.weight": {
            k: v for k, v in tensors.items() if k != "features.0.weight"
        },
        "1 left over: decoder.weight": tensors | {"decoder.weight": torch.zeros(1)},
        r"features.0.bias \(3,\) instead of \(64,\)": tensors | {"features.0.bias": torch.zeros(3)},
    }
    for message, state in wrong.items():
        save_file(state, tmp_path / "wrong.safetensors")
        with pytest.raises(ValueError, match=message):
            build_encoder("vgg16", str(tmp_path / "wrong.safetensors"))


def test_a_checkpoint_of_tensors_loads_and_one_that_runs_code_is_refused(vgg16, tmp_path):
    tensors, _ = vgg16
    wrapped = {"state_dict": {f"module.{key}": value for key, value in tensors.items()}}
    torch.save(wrapped, tmp_path / "good.pth")
    assert build_encoder("vgg16", str(tmp_path / "good.pth")).source.startswith("good.pth")

    class Trap:
        def __reduce__(self):
            return (open, (str(tmp_path / "executed"), "w"))

    torch.save({"features.0.weight": Trap()}, tmp_path / "trap.pth")
    archive = tmp_path / "trap.pt"
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("trap/constants.pkl", b"")
        file.writestr("trap/data.pkl", pickle.dumps({"weight": Trap()}))
    for path in (tmp_path / "trap.pth", archive):
        with pytest.raises(ValueError, match="cannot be read as weights"):
            build_encoder("vgg16", str(path))
    assert not (tmp_path / "executed").exists()


def test_what_is_no_weights_file_is_said(tmp_path):
    for name, content in (("a.safetensors", b"no"), ("b.pt", b"no"), ("c.pth", b"")):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ValueError, match=f"{name} cannot be read as weights"):
            Weights.read(tmp_path / name)
    pickled = {
        "list.pth": ([torch.zeros(1)], "a list and no tensors by name"),
        "inner.pth": ({"state_dict": [torch.zeros(1)]}, "a list and no tensors by name"),
        "one.pth": (torch.zeros(2), "a Tensor and no tensors by name"),
        "numbers.pth": ({0: torch.zeros(1)}, "0 is no tensor"),
        "epoch.pth": ({"epoch": 3}, "epoch is no tensor"),
        "empty.pth": ({}, "it is empty"),
    }
    for name, (content, message) in pickled.items():
        torch.save(content, tmp_path / name)
        with pytest.raises(ValueError, match=rf"{name} cannot be read as weights \({message}"):
            Weights.read(tmp_path / name)
    with pytest.raises(FileNotFoundError, match="no such file"):
        locate(str(tmp_path / "nowhere.pt"), [])


def test_without_a_network_it_is_said_how_to_get_the_weights(tmp_path, monkeypatch):
    """The registries are out of reach here; the message names what to fetch and where to put it."""
    monkeypatch.setenv("EBC_WEIGHTS", str(tmp_path))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    expected = {
        "clip_rn50": ["RN50, openai", "huggingface.co/timm/resnet50_clip.openai", "RN50.openai"],
        "csrnet": ["vgg16", "vgg16.imagenet.safetensors"],
    }
    for name, parts in expected.items():
        with pytest.raises(FileNotFoundError) as error:
            build_encoder(name)
        for part in [*parts, str(tmp_path), "pretrained=none", "clip_lite", "EBC_WEIGHTS"]:
            assert part in str(error.value)


def test_an_unknown_tag_names_the_nearest():
    with pytest.raises(ValueError, match="Did you mean 'laion2b_s34b_b88k'"):
        build_encoder("clip_vit_b_16", "laion2b_s34b_b88")
    with pytest.raises(ValueError, match="Did you mean 'fb_swsl_ig1b_ft_in1k'"):
        build_encoder("timm:resnet18", "fb_swsl_ig1b_ft_in")
    with pytest.raises(ValueError, match="tag of timm's resnet18 'a2_in1' is not known"):
        build_encoder("timm:resnet18.a2_in1", "none")


def test_half_precision_is_read_into_single():
    layer = nn.Linear(2, 1)
    load_exactly(layer, Weights({"weight": torch.ones(1, 2).half(), "bias": torch.ones(1)}, "x"))
    assert layer.weight.dtype == torch.float32 and layer.weight.tolist() == [[1, 1]]


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("csrnet", "vgg16.imagenet.fp16.safetensors"),
        ("vgg16", "vgg16.imagenet.fp16.safetensors"),
        ("mobilenetv2", "mobilenetv2_100.imagenet.safetensors"),
    ],
)
def test_imagenet_s_weights_load_where_they_are(name, file):
    path = weights_root() / file
    if not path.is_file():
        pytest.skip(f"needs {file} in $EBC_WEIGHTS")
    encoder = build_encoder(name)
    assert encoder.source.startswith(f"{file} sha256:")
    stored = load_file(path)
    own = encoder.image.trunk.state_dict()
    assert own.keys() <= stored.keys() and len(own) > 15
    assert all(torch.equal(value, stored[key].to(value.dtype)) for key, value in own.items())
