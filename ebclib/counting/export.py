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

BEFORE = """
<ir_version: 10, opset_import: ["" : {opset}]>
before (uint8[batch, height, width, 3] image)
    => (float[batch, 3, padded_height, padded_width] padded, int64[2] blocks)
<float[3] mean = {{{mean}}}, float[3] std = {{{std}}}, int64[1] step = {{{step}}},
 int64[1] r = {{{r}}}, int64[1] last = {{{last}}}, int64[6] none = {{0, 0, 0, 0, 0, 0}}>
{{
    sides = Shape <start = 1, end = 3> (image)
    beyond = Add (sides, last)
    blocks = Div (beyond, r)
    short = Neg (sides)
    lacking = Mod (short, step)
    pads = Concat <axis = 0> (none, lacking)
    values = Cast <to = 1> (image)
    centred = Sub (values, mean)
    normalised = Div (centred, std)
    colours_first = Transpose <perm = [0, 3, 1, 2]> (normalised)
    padded = Pad (colours_first, pads)
}}
"""
"""`BlockwiseModel`'s own normalisation and padding, for sizes that are known only when it runs."""

AFTER = """
<ir_version: 10, opset_import: ["" : {opset}]>
after (float[batch, 1, rows, columns] all_density, float[batch, 1, rows, columns] all_variance,
       int64[2] ends)
    => (float[batch, 1, h, w] density, float[batch, 1, h, w] variance)
<int64[2] begins = {{0, 0}}, int64[2] axes = {{2, 3}}>
{{
    density = Slice (all_density, begins, ends, axes)
    variance = Slice (all_variance, begins, ends, axes)
}}
"""
"""The cut back to the blocks that the image reaches."""


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
    model = _with_ends(_core(network), network)
    if half:
        from onnxruntime.transformers.float16 import convert_float_to_float16

        model = convert_float_to_float16(model, keep_io_types=True, op_block_list=FULL)
    helper.set_model_props(model, own | dict(facts or {}))
    file = model.SerializeToString()
    _check(file, network, 2e-2 if half else 1e-3)  # 16 bits have three digits
    write_whole(Path(path), lambda part: part.write_bytes(file))
    return Path(path)


class _Core(nn.Module):
    """What lies between padding and cut: (B, 3, H', W') normalised → density and variance (B, 1, h', w')."""

    def __init__(self, network: BlockwiseModel) -> None:
        super().__init__()
        self.network = _with_fixed_padding(copy.deepcopy(network).eval())

    def forward(self, padded: Tensor) -> tuple[Tensor, Tensor]:
        network = self.network
        features = network.decoder(network.encoder(padded))
        logits = network.head(features, network.feature_px / network.block_size_px)
        return network.density(logits), network.variance(logits)


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


def _core(network: BlockwiseModel) -> onnx.ModelProto:
    """The network itself, translated by torch; batch and sides are open but for a ViT's window."""
    step, window = network.step_px, network.window_px
    batch, rows, columns = map(torch.export.Dim, ("batch", "rows", "columns"))
    if window is None:
        open_sides, sides = {0: batch, 2: step * rows, 3: step * columns}, (5 * step, 6 * step)
    else:
        open_sides, sides = {0: batch}, (-(-window // step) * step,) * 2
    try:
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the translators' own parts
            program = torch.onnx.export(
                _Core(network),
                (torch.zeros(2, 3, *sides),),
                dynamo=True,
                dynamic_shapes=(open_sides,),
                input_names=["padded"],
                output_names=["all_density", "all_variance"],
                verbose=False,
            )
    except RuntimeError as problem:
        raise ValueError(
            "This model cannot be written as ONNX: it has a step that ONNX lacks, or that cannot be left "
            f"open for images of any size ({str(problem).strip().splitlines()[-1]})."
        ) from problem
    core = program.model_proto
    graph, inner = core.graph, (node for part in core.functions for node in part.node)
    for each in (*graph.node, *inner, *graph.input, *graph.value_info, *graph.output):
        each.ClearField("metadata_props")  # where each step is in whose source
    return core


def _with_ends(core: onnx.ModelProto, network: BlockwiseModel) -> onnx.ModelProto:
    """The core between normalisation and padding before it, and the cut to the image's blocks after."""
    from onnx import compose, parser

    r, step = network.block_size_px, network.step_px
    (opset,) = (each.version for each in core.opset_import if each.domain == "")
    mean, std = (
        ", ".join(map(repr, (255 * v).flatten().tolist())) for v in (network.mean, network.std)
    )
    before = parser.parse_model(
        BEFORE.format(opset=opset, mean=mean, std=std, step=step, r=r, last=r - 1)
    )
    after = parser.parse_model(AFTER.format(opset=opset))
    core.ir_version = before.ir_version
    core = compose.add_prefix(core, "core/", rename_inputs=False, rename_outputs=False)
    whole = compose.merge_models(before, core, [("padded", "padded")])
    joints = [("all_density",) * 2, ("all_variance",) * 2, ("blocks", "ends")]
    whole = compose.merge_models(whole, after, joints, producer_name="ebclib")
    del whole.opset_import[1:]  # merging lists the same one three times
    return whole


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
