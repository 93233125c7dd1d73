"""A training step, part by part, on drawn crowds."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor

from ebclib import losses
from ebclib.data.crops import Batch, DeviceCrops
from ebclib.encoders import build_encoder
from ebclib.encoders.variants import find_variant
from ebclib.models import BlockwiseModel
from ebclib.runs import device_name
from ebclib.transport import transport_loss

from .figures import LOSS_PARTS
from .timing import Laps, race

REPRESENTATIVES = (0.0, 1.0, 2.0, 3.0, 4.4)  # of the fine bins at r = 8
_BORDERS = (1.0, 2.0, 3.0, 4.0)
_MATRIX_SIDE = {"cpu": 2048}  # elsewhere 8192


def make_model(name: str, device: str | torch.device = "cpu") -> BlockwiseModel:
    """A model with random weights and five bins; its head is linear, the cost of the text head's."""
    encoder = build_encoder(name, "none", load=False)
    model = BlockwiseModel(encoder, REPRESENTATIVES, 8, "linear", None, find_variant(name))
    return model.to(device, memory_format=torch.channels_last)


def step_parts(
    model: BlockwiseModel,
    crops: DeviceCrops,
    steps: int = 2,
    precision: str = "fp32",
) -> pd.DataFrame:
    """What each part of a training step costs: crops, network, loss, optimiser.

    The loss is taken apart at the logits: its backward pass ends there, the network's begins there.
    The first step warms up and is not counted.

    Parameters
    ----------
    model : in training mode, on the crops' device
    crops : where batches come from; its keys are taken in order
    steps : how many are measured; each part's median is taken
    precision : of the network, fp32 or bf16; the loss is in fp32

    Returns
    -------
    a row a part: ``ms`` and ``cpu_ms`` a step, and ``share`` of the step's wall time
    """
    model.train()
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], 1e-5)
    rows = []
    for step in range(steps + 1):
        laps = Laps(crops.device)
        size, total = crops.batch_size, len(crops.sampler)
        keys = [(step * size + k) % total for k in range(size)]
        batch = crops.batch(keys)
        laps.lap("crops")
        one_step(model, batch, optimizer, laps, precision)
        rows += [row | {"step": step} for row in laps.rows if step]
    table = pd.DataFrame(rows).groupby("part", sort=False)[["ms", "cpu_ms"]].median()
    return table.assign(share=table["ms"] / table["ms"].sum())


def one_step(
    model: BlockwiseModel,
    batch: Batch,
    optimizer: torch.optim.Optimizer,
    laps: Laps,
    precision: str = "fp32",
) -> None:
    """One step of training with DACE, a lap after each part."""
    image = batch.image.contiguous(memory_format=torch.channels_last)
    with torch.autocast(image.device.type, torch.bfloat16, enabled=precision == "bf16"):
        made = model(image)
    laps.lap("forward")
    logits = made.detach().float().requires_grad_()
    classes = torch.bucketize(
        batch.labels.float(), torch.tensor(_BORDERS, device=image.device), right=True
    )
    loss = F.cross_entropy(logits, classes, reduction="sum") / len(logits)
    laps.lap("cross-entropy")
    density = model.density(logits)
    carried = transport_loss(density[:, 0], batch.points, 8).mean()
    laps.lap("transport")
    rest = losses.dmcount(density, batch.counts, batch.points, 8, ot_weight=0)
    loss = loss + losses.OT_WEIGHTS["released"] * carried + rest.total
    laps.lap("rest of the loss")
    loss.backward()
    laps.lap("loss backward")
    optimizer.zero_grad()
    made.backward(logits.grad.to(made.dtype))
    laps.lap("backward")
    optimizer.step()
    laps.lap("optimiser")


def step_summary(parts: pd.DataFrame) -> pd.Series:
    """Shares of a step: crops, loss (forward and backward to the logits), transport, network."""
    share = parts["share"]
    whole = {
        "crops": share["crops"],
        "loss": share[list(LOSS_PARTS)].sum(),
        "transport": share["transport"],
        "network": share[["forward", "backward", "optimiser"]].sum(),
    }
    return pd.Series(whole, name="share of a step")


def compare_precisions(
    model: BlockwiseModel, image: Tensor, precisions: Sequence[str] = ("fp32", "bf16")
) -> pd.DataFrame:
    """Forward and backward by precision and by memory layout, in turn: ms, and images a second."""
    layouts = {"channels first": torch.contiguous_format, "channels last": torch.channels_last}

    def runner(precision: str, layout: torch.memory_format) -> None:
        model.to(memory_format=layout)
        shown = image.contiguous(memory_format=layout)
        with torch.autocast(shown.device.type, torch.bfloat16, enabled=precision == "bf16"):
            made = model(shown)
        made.float().square().mean().backward()

    runners = {
        f"{precision}, {name}": lambda p=precision, layout=layout: runner(p, layout)
        for precision in precisions
        for name, layout in layouts.items()
    }
    table = race(runners, 3, image.device)
    return table.assign(images_per_s=len(image) / table["ms"] * 1e3)


def device_share(
    model: BlockwiseModel, image: Tensor, multiply_adds: float, precision: str = "bf16"
) -> pd.Series:
    """How much of a device's measured matrix rate the network reaches, forward and backward.

    Parameters
    ----------
    model : in training mode, on the device
    image : uint8 (B, 3, H, W) there
    multiply_adds : of one image's forward pass (`cost.steps`); backward is twice that
    precision : of the network and of the matrices, fp32 or bf16

    Returns
    -------
    ``images_per_s``, 10¹² operations a second of the network (``network_tera_per_s``) and of a product
    of large matrices (``matrix_tera_per_s``), and their ratio, ``share``; named after the device
    """
    side = _MATRIX_SIDE.get(image.device.type, 8192)
    kind = torch.bfloat16 if precision == "bf16" else torch.float32
    square = torch.randn(side, side, device=image.device, dtype=kind)
    matrix = race({"matrix": lambda: square @ square}, 5, image.device)["ms"]["matrix"]
    table = compare_precisions(model, image, [precision])
    rate = table["images_per_s"].max()
    reached = rate * 3 * 2 * multiply_adds / 1e12
    able = 2 * side**3 / (matrix * 1e-3) / 1e12
    return pd.Series(
        {
            "images_per_s": rate,
            "network_tera_per_s": reached,
            "matrix_tera_per_s": able,
            "share": reached / able,
        },
        name=f"{device_name(image.device.type)}, {precision}",
    )
