"""A trained model as one ONNX file: it counts wherever onnxruntime runs, without PyTorch and ebclib.

The file's input is ``image``, uint8 RGB (batch, height, width, 3), as an image is read. Its outputs
are ``density`` (people per block) and ``variance`` (people²), float32 (batch, 1, ⌈height/r⌉, ⌈width/r⌉).
Normalisation, padding to whole blocks and the cut back are inside. `METADATA` travels in the file.
`SNIPPET` counts with it as `ebc count` does.
"""

from __future__ import annotations

import copy
import json
import warnings
from collections.abc import Mapping
from importlib.util import find_spec
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

METADATA = {
    "input": "what `image` is",
    "outputs": "what `density` and `variance` are",
    "block_size_px": "r, the side of a block in pixels",
    "least_side": "an image grows until its shorter side has so many pixels, as in training",
    "longest_side": "before that, it shrinks until its longer side has so many; empty: it does not",
    "multiple_px": "after that, its sides are rounded to multiples of so many; empty: they are not",
    "window_px": "the only side an image may have; empty where any will do",
    "representatives": "the count each bin stands for, a JSON list; empty for regression",
    "noun": "what is counted, singular and plural, a JSON list",
    "interval_factor": "of the 90 % interval, count ± factor · (√Σ variance + 1); empty where none was "
    "measured",
    "run": "the run the weights are from",
    "ebclib": "the version that wrote the file",
}
"""What the file says about itself, all of it text; `onnxruntime` reads it with `get_modelmeta()`."""

SNIPPET = """\
import numpy as np, onnxruntime
from PIL import Image, ImageOps

session = onnxruntime.InferenceSession("crowd.onnx")
facts = session.get_modelmeta().custom_metadata_map

image = ImageOps.exif_transpose(Image.open("crowd.jpg"))  # upright
if image.mode.startswith("I"):  # 16 bits to 8
    image = Image.fromarray(np.rint(np.asarray(image) / 257).astype(np.uint8))
over = image.convert("RGBA")  # what is transparent lies over white
image = Image.alpha_composite(Image.new("RGBA", over.size, "white"), over).convert("RGB")

least, longest = int(facts["least_side"] or 1), int(facts["longest_side"] or max(image.size))
scale = max(min(1, longest / max(image.size)), least / min(image.size))
step = int(facts["multiple_px"] or 1)
size = [round(side * scale / step) * step for side in image.size]
image = image.resize(size, Image.Resampling.LANCZOS)

density, variance = session.run(None, {"image": np.asarray(image)[None]})
print(density.sum())  # people
"""
"""The lines that README shows: an image at the size that the model was trained for, and its count."""

TOLERANCE = 1e-3
"""A file whose map of a test image is further from the model's, as a share of it, is not kept."""

HALF_TOLERANCE = 2e-2
"""The same in 16 bits, whose numbers have three digits."""

FULL = ["Resize", "Softmax", "LogSoftmax"]
"""Steps that stay in 32 bits: onnxruntime has not all of their kinds in 16, and bins are weighed there."""

BEFORE = """
<ir_version: 10, opset_import: ["" : {opset}]>
before (uint8[batch, {height}, {width}, 3] image)
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
    => (float[batch, 1, {h}, {w}] density, float[batch, 1, {h}, {w}] variance)
<int64[2] begins = {{0, 0}}, int64[2] axes = {{2, 3}}>
{{
    density = Slice (all_density, begins, ends, axes)
    variance = Slice (all_variance, begins, ends, axes)
}}
"""
"""The cut back to the blocks that the image reaches."""


def export_run(run: Run, path: str | Path | None = None, half: bool = False) -> Path:
    """Write a run's trained model as an ONNX file.

    Parameters
    ----------
    run : a run with weights
    path : where to; None: ``model.onnx`` in the run's folder
    half : numbers of 16 bits inside (`write_onnx`)

    Raises
    ------
    FileNotFoundError : no weights, or the packages for it are not installed
    ValueError : a model that ONNX cannot hold (`write_onnx`)
    """
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

    Parameters
    ----------
    network : on the CPU, in evaluation mode; left as it is
    path : where to; a file that is there is replaced
    facts : values of `METADATA` that the model does not know itself
    half : weights and features in 16 bits: half the size, for devices that are quick at it (a processor
        is slower); input and output stay as they are

    Raises
    ------
    FileNotFoundError : onnx, onnxscript or onnxruntime are not installed
    ValueError : a model that ONNX cannot hold; a file that would count otherwise than the model
    """
    missing = [name for name in ("onnx", "onnxscript", "onnxruntime") if find_spec(name) is None]
    if missing:
        raise FileNotFoundError(
            f"ONNX files need {', '.join(missing)}, not installed here. In the checkout: "
            "pip install -e '.[export]'"
        )
    from onnx import helper

    refuse_folder(Path(path))
    facts = _facts(network, facts or {})
    model = _with_ends(_core(network), network)
    if half:
        from onnxruntime.transformers.float16 import convert_float_to_float16

        model = convert_float_to_float16(model, keep_io_types=True, op_block_list=FULL)
    helper.set_model_props(model, facts)
    file = model.SerializeToString()
    _check(file, network, HALF_TOLERANCE if half else TOLERANCE)
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
            plain = nn.Conv2d(
                module.in_channels,
                module.out_channels,
                module.kernel_size,
                module.stride,
                dilation=module.dilation,
                groups=module.groups,
                bias=module.bias is not None,
            )
            plain.load_state_dict(module.state_dict())
            network.set_submodule(
                name, nn.Sequential(nn.ZeroPad2d((left, right, top, bottom)), plain)
            )
    return network


def _core(network: BlockwiseModel) -> onnx.ModelProto:
    """The network itself, translated by torch; batch and sides are open but for a ViT's window."""
    step, window = network.step_px, network.window_px
    side = torch.export.Dim
    if window is None:
        open_sides = {0: side("batch"), 2: step * side("rows"), 3: step * side("columns")}
        example = torch.zeros(2, 3, 5 * step, 6 * step)
    else:
        open_sides = {0: side("batch")}
        padded_px = -(-window // step) * step
        example = torch.zeros(2, 3, padded_px, padded_px)
    try:
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the translators' own parts
            program = torch.onnx.export(
                _Core(network),
                (example,),
                dynamo=True,
                dynamic_shapes=(open_sides,),
                input_names=["padded"],
                output_names=["all_density", "all_variance"],
                verbose=False,
            )
    except RuntimeError as problem:
        raise _impossible(problem) from problem
    core = program.model_proto
    for node in [*core.graph.node, *(node for part in core.functions for node in part.node)]:
        node.ClearField("metadata_props")  # where each step is in whose source
    for value in (*core.graph.input, *core.graph.value_info, *core.graph.output):
        value.ClearField("metadata_props")
    return core


def _with_ends(core: onnx.ModelProto, network: BlockwiseModel) -> onnx.ModelProto:
    """The core between normalisation and padding before it, and the cut to the image's blocks after."""
    from onnx import checker, compose, parser

    window, r, step = network.window_px, network.block_size_px, network.step_px
    (opset,) = (each.version for each in core.opset_import if each.domain == "")
    mean, std = (
        ", ".join(map(repr, (255 * v).flatten().tolist())) for v in (network.mean, network.std)
    )
    sides = {"height": window or "height", "width": window or "width"}
    blocks = {"h": -(-window // r), "w": -(-window // r)} if window else {"h": "h", "w": "w"}
    before = parser.parse_model(
        BEFORE.format(opset=opset, mean=mean, std=std, step=step, r=r, last=r - 1, **sides)
    )
    after = parser.parse_model(AFTER.format(opset=opset, **blocks))
    core.ir_version = before.ir_version
    core = compose.add_prefix(core, "core/", rename_inputs=False, rename_outputs=False)
    whole = compose.merge_models(before, core, [("padded", "padded")])
    joints = [("all_density",) * 2, ("all_variance",) * 2, ("blocks", "ends")]
    whole = compose.merge_models(
        whole, after, joints, producer_name="ebclib", producer_version=__version__
    )
    del whole.opset_import[1:]  # merging lists the same one three times
    checker.check_model(whole)
    return whole


def _facts(network: BlockwiseModel, facts: Mapping[str, str]) -> dict[str, str]:
    own = {
        "input": "image: uint8 RGB, (batch, height, width, 3)",
        "outputs": "density: people per block, variance: people², float32 (batch, 1, h, w)",
        "block_size_px": str(network.block_size_px),
        "window_px": str(network.window_px or ""),
        "representatives": json.dumps([round(a, 6) for a in network.representatives.tolist()]),
        "ebclib": __version__,
    }
    unknown = facts.keys() - METADATA.keys()
    if unknown:
        raise ValueError(f"{', '.join(sorted(unknown))}: the file says only {', '.join(METADATA)}.")
    return dict.fromkeys(METADATA, "") | own | dict(facts)


def _check(file: bytes, network: BlockwiseModel, tolerance: float) -> None:
    """Count noise with both; the image is no multiple of anything, and not what was translated with."""
    import onnxruntime

    shape = (1, network.window_px, network.window_px, 3) if network.window_px else (1, 97, 131, 3)
    image = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    try:
        session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
        found = session.run(["density"], {"image": image})[0]
    except Exception as problem:  # onnxruntime's have no class of their own in common
        raise _impossible(problem) from problem
    with torch.inference_mode():
        density = network.density(network(torch.from_numpy(image).permute(0, 3, 1, 2)))
    expected = density.numpy()
    same = found.shape == expected.shape
    if not same or not np.abs(found - expected).sum() <= tolerance * expected.sum() + 1e-6:
        raise ValueError(
            f"The ONNX file says {found.sum():.4f} {found.shape} of an image of which the model says "
            f"{expected.sum():.4f} {expected.shape}. It was not kept."
        )


def _impossible(reason: object) -> ValueError:
    return ValueError(
        "This model cannot be written as ONNX: it has a step that ONNX lacks, or that cannot be left "
        f"open for images of any size ({str(reason).strip().splitlines()[-1]})."
    )
