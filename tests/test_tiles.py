"""Tiles of large images: what `predict_map` makes of them, where they lie and how far they look."""

import json
import math
import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from timm.layers import Conv2dSame
from torch import nn

from ebclib.encoders.encoder import Encoder
from ebclib.evaluation import windows
from ebclib.evaluation.windows import MARGIN_PX, predict_map, reach_px, spans
from ebclib.models import BlockwiseModel


def wide_counter(*more):
    """Random layers to 16 px a feature that see far: TensorFlow's padding, dilation, upsampling to 8 px."""
    torch.manual_seed(0)
    image = nn.Sequential(
        *(Conv2dSame(3, 8, 3, 2), nn.ReLU(), Conv2dSame(8, 8, 5, 2), nn.ReLU()),
        *(nn.MaxPool2d(2), nn.Conv2d(8, 8, 3, 2, 1), nn.ReLU()),
        *(nn.Conv2d(8, 8, 3, padding=2, dilation=2), *more),
    )
    encoder = Encoder(image=image, channels=8, stride_px=16, mean=(0.5,) * 3, std=(0.2,) * 3)
    model = BlockwiseModel(encoder, [0, 1, 2], 8, "linear").eval()
    nn.init.normal_(model.head.classify.weight, std=5)
    return model


def noise(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


@given(st.integers(1, 400), st.integers(1, 400), st.sampled_from([192, 208, 256, 320]))
@settings(max_examples=40)
def test_tiles_of_any_size_say_what_the_whole_image_says(height, width, tile_px):
    """Everywhere, the border too, where the whole image is padded with zeros at every layer."""
    model, pixels = wide_counter(), noise(height, width)
    whole = predict_map(model, pixels, tile_px=None)
    tiled = predict_map(model, pixels, tile_px=tile_px)
    assert tiled.density.shape == (math.ceil(height / 8), math.ceil(width / 8))
    assert torch.allclose(whole.density, tiled.density, atol=1e-5)
    assert torch.allclose(whole.variance, tiled.variance, atol=1e-5)


def test_less_margin_than_the_model_reaches_changes_the_map_where_tiles_meet_and_only_there(
    monkeypatch,
):
    model, pixels = wide_counter(), noise(320, 640)
    whole = predict_map(model, pixels, tile_px=None).density
    monkeypatch.setattr(windows, "MARGIN_PX", 32)
    parts = predict_map(model, pixels, tile_px=352).density
    off = (whole - parts).abs().amax(dim=0) > 1e-5
    assert off.any(), "or the test above shows nothing"
    assert not off[: (320 - 80) // 8].any() and not off[(320 + 80) // 8 :].any()


def test_quarters_that_overlap_add_up_to_the_image():
    model, pixels = wide_counter(), noise(512, 480)
    total = predict_map(model, pixels, tile_px=256).density.sum().item()
    parts = 0.0
    for y, x in ((y, x) for y in spans(512, 352, 80, 16) for x in spans(480, 352, 80, 16)):
        quarter = predict_map(model, pixels[y.seen, x.seen]).density
        i, j = (y.start - y.seen.start) // 8, (x.start - x.seen.start) // 8
        parts += (
            quarter[i : i + (y.stop - y.start) // 8, j : j + (x.stop - x.start) // 8].sum().item()
        )
    assert parts == pytest.approx(total, rel=1e-5) and total > 100


def test_the_reach_by_hand():
    """A feature looks 2 features of 16 px to the left, 8 px more for the convolution that made them, 2
    for the one before; blocks between features look at the next one. Rounded up: 64 px."""
    image = nn.Conv2d(3, 8, 8, 8)
    encoder = Encoder(image=image, channels=8, stride_px=8, mean=(0.5,) * 3, std=(0.2,) * 3)
    assert reach_px(BlockwiseModel(encoder, [0, 1], 8, "linear")) == 0
    model = wide_counter()
    reach = reach_px(model)
    assert reach == 64
    pixels = torch.full((1, 3, 16, 640), 0.5)
    with torch.inference_mode():
        calm = model(pixels)
        pixels[..., 320 + reach :] = 1
        assert torch.equal(model(pixels)[..., : 320 // 8], calm[..., : 320 // 8])
        pixels[..., 320 + reach - 16 :] = 1
        assert not torch.equal(model(pixels)[..., : 320 // 8], calm[..., : 320 // 8])


def test_a_model_that_sees_everything_says_so_and_is_counted_in_tiles_all_the_same():
    class Average(nn.Module):
        def forward(self, features):
            return features + features.mean(dim=(2, 3), keepdim=True)

    model = wide_counter(Average())
    assert reach_px(model, 1024) is None
    pixels, tile_px = noise(900, 900), 464 + MARGIN_PX  # four tiles
    with pytest.warns(UserWarning, match="sees the whole image"):
        tiled = predict_map(model, pixels, tile_px=tile_px)
    assert tiled.density.shape == (113, 113) and torch.isfinite(tiled.density).all()


def test_looking_for_the_reach_leaves_the_model_as_it_was():
    model = wide_counter(nn.BatchNorm2d(8)).train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    assert reach_px(model) is not None
    assert model.training
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


def test_tiles_cover_a_side_once_and_are_no_longer_than_asked_for():
    for length in (*range(1, 300, 7), 1000, 4096):
        for tile_px, margin_px in ((96, 0), (96, 16), (112, 40), (256, 112)):
            tiles = spans(length, tile_px, margin_px, 16)
            assert [tile.start for tile in tiles] == [0, *(tile.stop for tile in tiles[:-1])]
            assert tiles[-1].stop == length
            for tile in tiles:
                assert tile.seen.stop - tile.seen.start <= tile_px
                assert tile.start % 16 == tile.seen.start % 16 == 0
                assert tile.seen.start <= max(tile.start - margin_px, 0)
                assert tile.seen.stop >= min(tile.stop + margin_px, length)


def test_tiles_that_are_all_margin_are_refused():
    with pytest.raises(ValueError, match="give tile_px of 144 or more"):
        predict_map(wide_counter(), noise(600, 600), tile_px=128)


def test_a_image_may_lie_in_a_file_and_nowhere_else(tmp_path):
    pixels = noise(300, 260)
    np.save(tmp_path / "image.npy", pixels)
    mapped = np.load(tmp_path / "image.npy", mmap_mode="r")
    tensor = torch.from_numpy(pixels).permute(2, 0, 1)
    for sizes in ({}, {"tile_px": 208}, {"window_px": 64, "stride_px": 32}):
        of_file, of_tensor = (
            predict_map(wide_counter(), each, **sizes) for each in (mapped, tensor)
        )
        assert torch.allclose(of_file.density, of_tensor.density, atol=1e-6)


def test_images_of_other_kinds_are_refused():
    for pixels in (noise(9, 9) / 255, noise(9, 9)[..., 0], torch.from_numpy(noise(9, 9))):
        with pytest.raises(ValueError, match="give uint8 RGB"):
            predict_map(wide_counter(), pixels)


PEAKS = """
import json, pathlib, resource, sys
import numpy as np, torch
from torch import nn
from ebclib.encoders.encoder import Encoder
from ebclib.models import BlockwiseModel
from ebclib.evaluation.windows import predict_map

def peak_mb():
    status = pathlib.Path("/proc/self/status")
    if status.is_file():  # getrusage would give what the parent had when it forked, where that is more
        return int(status.read_text().split("VmHWM:")[1].split()[0]) / 2**10
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)

torch.manual_seed(0)
image = nn.Sequential(nn.Conv2d(3, 64, 1), nn.ReLU(), nn.Conv2d(64, 8, 8, 8))
encoder = Encoder(image=image, channels=8, stride_px=8, mean=(0.5,) * 3, std=(0.5,) * 3)
model = BlockwiseModel(encoder, [0, 1], 8, "linear").eval()
image = np.random.default_rng(0).integers(0, 256, (2000, 3000, 3), np.uint8)
small = image[:1000, :1000]
counts, peaks = [], []
for part, tile_px in ((small, 512), (image, 512), (image, None)):
    counts.append(predict_map(model, part, tile_px=tile_px).density.sum().item())
    peaks.append(peak_mb())
print(json.dumps([counts, peaks]))
"""


def test_a_larger_image_takes_no_more_memory():
    """6 megapixels against 1, with 256 bytes a pixel in the model; in one piece it takes 1.5 GB more."""
    done = subprocess.run([sys.executable, "-c", PEAKS], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (_, tiled, whole), (small_mb, tiled_mb, whole_mb) = json.loads(done.stdout)
    assert tiled == pytest.approx(whole, rel=1e-5)
    assert tiled_mb - small_mb < 64
    assert whole_mb - tiled_mb > 1000, "or the test shows nothing"
