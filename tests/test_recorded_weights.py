"""Weights that were trained before still count the same: a recorded run, and every network's layout."""

import hashlib
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from ebclib.encoders import build_encoder
from ebclib.encoders.variants import find_variant
from ebclib.evaluation.metadata import read_info
from ebclib.models import BlockwiseModel, load_model
from ebclib.runs import open_run

RECORDED = Path(__file__).parent / "data" / "recorded_run"
NETWORKS = json.loads((RECORDED / "networks.json").read_text())


def test_a_recorded_run_opens_and_counts_as_it_did():
    run = open_run(RECORDED)
    expected = json.loads((RECORDED / "counts.json").read_text())
    assert read_info(run.weights).config == run.config
    image = torch.from_numpy(np.array(Image.open(RECORDED / "drawn.png"))).permute(2, 0, 1)[None]
    network = load_model(run)
    with torch.inference_mode():
        density = network.density(network(image))
    assert density.sum().item() == pytest.approx(expected["count"], abs=1e-4)
    rows = density[0, 0].sum(dim=1).tolist()
    assert rows == pytest.approx(expected["people_per_row_of_blocks"], abs=1e-4)


@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_filled_by_the_names_of_its_tensors_counts_as_it_did(name):
    """A tensor that is renamed, reshaped, left out or used otherwise shows as another count."""
    assert measured(name) == pytest.approx(NETWORKS[name], rel=1e-4, abs=1e-4)


def measured(name):
    """The density's sum, corners and largest block; after ``+``, what visual prompts a ViT has."""
    model, _, prompts = name.partition("+")
    variant = find_variant(model)
    encoder = build_encoder(model, "none", prompts or "none", 4, load=False)
    text = torch.zeros(5, encoder.embedding) if variant.has_text else None
    head = "text" if variant.has_text else "linear"
    network = BlockwiseModel(encoder, range(5), 8, head, text, variant).eval()
    state = network.state_dict()
    skipped = ("representatives", "log_scale")
    filled = {k: v if k.endswith(skipped) else values(k, v) for k, v in state.items()}
    network.load_state_dict(filled)
    y, x = torch.meshgrid(torch.arange(64), torch.arange(96), indexing="ij")
    image = torch.stack([(x * (c + 2) + y * (5 - c) + x // 16 * y * c) % 256 for c in range(3)])
    with torch.inference_mode():
        density = network.density(network(image.to(torch.uint8)[None]))[0, 0]
    return [v.item() for v in (density.sum(), density[0, 0], density[-1, -1], density.max())]


def values(key, like):
    """Numbers that follow from a tensor's name and shape alone, evenly spread about 0 or 0.7."""
    if not like.is_floating_point():
        return torch.zeros_like(like)
    start = int.from_bytes(hashlib.sha256(key.encode()).digest()[:2], "little")
    times = -(-like.numel() // len(EVEN))
    even = EVEN.roll(start).repeat(times)[: like.numel()].reshape(like.shape)
    if key.endswith("running_var"):
        return 1 + 0.1 * even.abs()
    if like.ndim < 2:
        return 0.05 * even + (0 if key.endswith(("bias", "running_mean", "embedding")) else 0.7)
    return even * math.sqrt(2 / math.prod(like.shape[1:]))


def evenly(length=65537):
    """A prime number of values in ±√3 by an integer hash, the same on any machine."""
    mixed = torch.arange(length)
    for _ in range(2):
        mixed = (mixed ^ (mixed >> 16)) * 0x45D9F3B & 0xFFFFFFFF
    return ((mixed ^ (mixed >> 16)).double() / 2**31 - 1).float() * math.sqrt(3)


EVEN = evenly()
