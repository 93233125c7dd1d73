"""A trained model as one ONNX file: it counts wherever onnxruntime runs, without PyTorch and ebclib.

The file's input is ``image``, uint8 RGB (batch, height, width, 3), as an image is read. Its outputs
are ``density`` (people per block) and ``variance`` (people²), float32 (batch, 1, ⌈height/r⌉, ⌈width/r⌉).
Normalisation, padding to whole blocks and the cut back are inside. README has the lines that count with
it as `ebc count` does; what they ask the file is listed at `write_onnx`.
"""

from __future__ import annotations

import copy
import json
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from timm.layers import Conv2dSame
from torch import Tensor, nn

from ebclib import __version__
from ebclib.evaluation.metadata import read_info
from ebclib.models import BlockwiseModel, load_model
from ebclib.runs import Run, refuse_folder, write_whole

if TYPE_CHECKING:
    import onnx

FULL = ["Resize", "Softmax", "LogSoftmax"]
"""Steps that stay in 32 bits: onnxruntime has not all of their kinds in 16, and bins are weighed there."""


def export_run(run: Run, path: str | Path | None = None, half: bool = False) -> Path:
    """Write a run's trained model, by default as ``model.onnx`` in its folder; errors as `write_onnx`."""
    info = read_info(run.weights)
    facts = {
        "run": run.name,
        "noun": json.dumps(info.noun),
        "least_side": str(info.least_side),
        "longest_side": str(info.longest_side or ""),
        "multiple_px": "".join(map(str, info.config.multiples_px[:1])),
        "interval_factor": str(info.interval_factor or ""),
    }
    model = load_model(run)
    model.pads = True  # of sides of whole `multiple_px`, there is nothing to pad or to lose
    return write_onnx(model, path or run.path / "model.onnx", facts, half)


def write_onnx(
    network: BlockwiseModel,
    path: str | Path,
    facts: Mapping[str, str] | None = None,
    half: bool = False,
) -> Path:
    """Write a model as an ONNX file, and see that the file counts as the model does.

    The file's metadata are text, empty where they do not apply. Of the model: ``block_size_px`` (r),
    ``window_px`` (the only side an image may have), ``representatives`` (JSON) and ``ebclib`` (the
    version). Of a run: ``run``; ``noun`` (JSON); ``least_side`` (an image grows until its shorter side
    is so long), ``longest_side`` (before that, it shrinks to this) and ``multiple_px`` (of which its
    sides then are multiples); ``interval_factor`` (of count ± factor · (√Σ variance + 1), 90 %).

    Parameters
    ----------
    network : on the CPU, in evaluation mode; left as it is
    facts : metadata that the model does not know itself
    half : weights and features in 16 bits; input and output stay as they are

    Raises
    ------
    ModuleNotFoundError : the extra ``export`` is not installed
    ValueError : a model that ONNX cannot hold; a file that would count otherwise than the model
    """
    from onnx import helper

    refuse_folder(Path(path))
    own = {
        "block_size_px": str(network.block_size_px),
        "window_px": str(network.window_px or ""),
        "representatives": json.dumps([round(a, 6) for a in network.representatives.tolist()]),
        "ebclib": __version__,
    }
    model = _translated(network)
    if half:
        from onnxruntime.transformers.float16 import convert_float_to_float16

        model = convert_float_to_float16(model, keep_io_types=True, op_block_list=FULL)
    helper.set_model_props(model, own | dict(facts or {}))
    file = model.SerializeToString()
    _check(file, network, 2e-2 if half else 1e-3)  # 16 bits have three digits
    write_whole(Path(path), lambda part: part.write_bytes(file))
    return Path(path)


class _Whole(nn.Module):
    """What the file does: uint8 (B, H, W, 3) → density and variance, (B, 1, h, w) each."""

    def __init__(self, network: BlockwiseModel) -> None:
        super().__init__()
        self.network = _with_fixed_padding(copy.deepcopy(network).eval())

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        logits = self.network(image.permute(0, 3, 1, 2))
        return self.network.density(logits), self.network.variance(logits)


def _with_fixed_padding(network: nn.Module) -> nn.Module:
    """TensorFlow's padding, which follows the size of its input, as what it is for whole features.

    An input of n·s pixels and a stride of s lack (k − 1)·d + 1 − s of them, whatever n is.
    """
    for name, module in list(network.named_modules()):
        if isinstance(module, Conv2dSame):
            lacking = [
                max((k - 1) * d + 1 - s, 0)
                for k, d, s in zip(module.kernel_size, module.dilation, module.stride, strict=True)
            ]
            (top, bottom), (left, right) = ((n // 2, n - n // 2) for n in lacking)
            module.__class__ = nn.Conv2d  # the same weights, and no padding of its own
            pad = nn.ZeroPad2d((left, right, top, bottom))
            network.set_submodule(name, nn.Sequential(pad, module))
    return network


def _translated(network: BlockwiseModel) -> onnx.ModelProto:
    """The network, translated by torch; batch and sides are open but for a ViT's window."""
    window = network.window_px
    names = ("batch",) if window else ("batch", "height", "width")
    open_sides = dict(enumerate(names))
    sides = (window, window) if window else (5 * network.step_px + 1, 6 * network.step_px + 3)
    try:
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the translators' own parts
            program = torch.onnx.export(
                _Whole(network),
                (torch.zeros(2, *sides, 3, dtype=torch.uint8),),
                dynamo=True,
                dynamic_shapes=(open_sides,),
                input_names=["image"],
                output_names=["density", "variance"],
                verbose=False,
            )
    except RuntimeError as problem:
        raise ValueError(
            "This model cannot be written as ONNX: it has a step that ONNX lacks, or that cannot be left "
            f"open for images of any size ({str(problem).strip().splitlines()[-1]})."
        ) from problem
    model = program.model_proto
    graph, inner = model.graph, (node for part in model.functions for node in part.node)
    for each in (*graph.node, *inner, *graph.input, *graph.value_info, *graph.output):
        each.ClearField("metadata_props")  # where each step is in whose source
    return model


def _check(file: bytes, network: BlockwiseModel, tolerance: float) -> None:
    """Count noise with both; the image is no multiple of anything, and not what was translated with."""
    import onnxruntime

    shape = (1, network.window_px, network.window_px, 3) if network.window_px else (1, 97, 131, 3)
    image = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    found = session.run(["density"], {"image": image})[0]
    with torch.inference_mode():
        density = network.density(network(torch.from_numpy(image).permute(0, 3, 1, 2)))
    expected = density.numpy()
    if (
        found.shape != expected.shape
        or not np.abs(found - expected).sum() <= tolerance * expected.sum() + 1e-6
    ):
        raise ValueError(
            f"The ONNX file says {found.sum():.4f} {found.shape} of an image of which the model says "
            f"{expected.sum():.4f} {expected.shape}. It was not kept."
        )
