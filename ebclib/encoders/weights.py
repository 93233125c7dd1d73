"""Weights from files: found, read without executing anything in them, and loaded to the last key."""

from __future__ import annotations

import hashlib
import io
import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from ebclib.config import WEIGHTS, weights_file, weights_root

_SCALAR = np.float64(0).__reduce__()[0]
_NUMBERS = [
    *((_SCALAR, f"numpy.{core}.multiarray.scalar") for core in ("core", "_core")),
    *(np.dtype, *{type(np.dtype(kind)) for kind in ("f8", "f4", "i8")}),
]
"""What a training keeps of its scores beside the weights: numbers of numpy, and nothing that runs."""

OPENAI_EXTRAS = ("input_resolution", "context_length", "vocab_size")


@dataclass(frozen=True)
class Weights:
    """Tensors by name, in words where they come from, and whether in the form that OpenAI published."""

    tensors: Mapping[str, Tensor]
    source: str
    is_openai: bool = False

    @classmethod
    def read(cls, path: Path) -> Weights:
        """All tensors of a safetensors file, a PyTorch checkpoint or an archive as OpenAI published CLIP.

        Nothing in the file is executed.

        Raises
        ------
        ValueError : none of the three formats, a damaged file, or one that holds more than weights
        """
        damaged = (RuntimeError, EOFError, KeyError, zipfile.BadZipFile)
        try:
            tensors = _tensors(path)
        except (SafetensorError, pickle.UnpicklingError, *damaged) as problem:
            first = (str(problem) or type(problem).__name__).splitlines()[0]
            raise ValueError(
                f"{path} cannot be read as weights ({first}). Expected: a safetensors file, a PyTorch "
                "checkpoint of tensors alone, or an archive as OpenAI published CLIP."
            ) from None
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        return cls(tensors, f"{path.name} sha256:{digest[:16]}", _is_torchscript(path))


def load_exactly(module: nn.Module, weights: Weights, allowed: Iterable[str] = ()) -> None:
    """Fill ``module`` with ``weights``, every key accounted for, in the module's own precision.

    Names that are ``allowed`` may stand in the file without a place in the module.

    Raises
    ------
    ValueError : missing, left over or misshapen weights; the first of them are named
    """
    own = module.state_dict()
    refuse_others(own, weights, allowed)
    module.load_state_dict({key: weights.tensors.get(key, value) for key, value in own.items()})


def refuse_others(own: Mapping[str, Tensor], weights: Weights, allowed: Iterable[str] = ()) -> None:
    """See that ``weights`` has the names and shapes of ``own``, and no others; as `load_exactly`."""
    given = weights.tensors
    found = {
        # A counter that batch norm keeps and nothing reads; some published files lack it.
        "missing": [k for k in own if k not in given and not k.endswith("num_batches_tracked")],
        "of another shape": [
            f"{key} {tuple(given[key].shape)} instead of {tuple(own[key].shape)}"
            for key in own
            if key in given and given[key].shape != own[key].shape
        ],
        "left over": sorted(given.keys() - own.keys() - set(allowed)),
    }
    problems = [
        f"{len(names)} {what}: {', '.join(names[:4])}{', …' if len(names) > 4 else ''}"
        for what, names in found.items()
        if names
    ]
    if problems:
        raise ValueError(
            f"{weights.source}: these are not the weights of this network. " + "; ".join(problems)
        )


def tag_in(pretrained: str, architecture: str, tags: Collection[str]) -> str | None:
    """The published tag that ``pretrained`` is, or that a file of an architecture has in its name.

    >>> tag_in("/w/RN50.yfcc15m.fp16.safetensors", "RN50", ["openai", "yfcc15m"])
    'yfcc15m'
    """
    name = Path(pretrained).name
    within = name.removeprefix(f"{architecture}.").split(".")[0]
    return next((tag for tag in (pretrained, within) if tag in tags), None)


def locate(pretrained: str, names: Iterable[str], bare: Iterable[str] = ()) -> Path | None:
    """The file of weights that is meant, or None where the library's registry should be asked.

    A ``pretrained`` that looks like a path must be there; otherwise `weights_root` is searched for
    ``<name>.safetensors`` and the like. Between name and suffix more may stand (``.fp16``), but not
    after a ``bare`` name, which has no tag: there it could be the tag of other weights.

    Raises
    ------
    FileNotFoundError : a path that leads nowhere
    """
    stems = [*(stem for name in names for stem in (name, f"{name}.*")), *bare]
    patterns = (stem + suffix for stem in stems for suffix in WEIGHTS)
    found = (file for each in patterns for file in sorted(weights_root().glob(each)))
    return weights_file(pretrained) or next(found, None)


def fetch(what: str, get: Callable[[], Any], file_name: str, address: str) -> Any:
    """What ``get`` brings from a registry, or a FileNotFoundError that says how to do without one."""
    try:
        return get()
    except Exception as problem:  # each registry has errors of its own
        raise FileNotFoundError(
            f"The weights of {what} are not on this machine and could not be fetched "
            f"({type(problem).__name__}).\n"
            f"  Put the file of {address} there as {weights_root() / file_name}.safetensors\n"
            f"  (or .pt; $EBC_WEIGHTS names another folder), or give its path as pretrained. Without "
            f"any: pretrained=none, or the model clip_lite."
        ) from problem


def _tensors(path: Path) -> dict[str, Tensor]:
    """Names → float32 (or integer) tensors."""
    if path.suffix == ".safetensors":
        tensors = load_file(path)
    elif _is_torchscript(path):
        tensors = read_torchscript(path)
    else:
        with torch.serialization.safe_globals(_NUMBERS):
            tensors = torch.load(path, map_location="cpu", weights_only=True)
        if isinstance(tensors, Mapping):  # a training's checkpoint has more beside the weights
            tensors = tensors.get("state_dict", tensors.get("model_state_dict", tensors))
    if not isinstance(tensors, Mapping):
        raise pickle.UnpicklingError(f"a {type(tensors).__name__} and no tensors by name")
    strange = [k for k, v in tensors.items() if not (isinstance(k, str) and isinstance(v, Tensor))]
    if strange or not tensors:
        raise pickle.UnpicklingError(f"{strange[0]} is no tensor" if strange else "it is empty")
    return {
        key.removeprefix("module."): value.float() if value.is_floating_point() else value
        for key, value in tensors.items()
        if key not in OPENAI_EXTRAS
    }


def _is_torchscript(path: Path) -> bool:
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any(name.endswith("constants.pkl") for name in archive.namelist())


def read_torchscript(path: Path) -> dict[str, Tensor]:
    """The parameters and buffers in a TorchScript archive, as OpenAI's RN50.pt; its code is not looked at.

    Its ``data.pkl`` is a tree of modules, whose leaves point to files of raw numbers.
    """
    with zipfile.ZipFile(path) as archive:
        (member,) = [name for name in archive.namelist() if name.endswith("/data.pkl")]
        root = _TensorsOnly(archive, member.removesuffix("data.pkl")).load()
    found: dict[str, Tensor] = {}
    todo = [("", root)]
    while todo:
        prefix, record = todo.pop()
        for name, value in record.items():
            if isinstance(value, Tensor):
                found[prefix + name] = value
            elif isinstance(value, _Record):
                todo.append((f"{prefix}{name}.", value))
    return found


class _Record(dict):
    """A TorchScript object as its attributes."""

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.update(state)


class _TensorsOnly(pickle.Unpickler):
    """Unpickles tensors, containers and plain values; any other name in the file is refused."""

    def __init__(self, archive: zipfile.ZipFile, folder: str) -> None:
        super().__init__(io.BytesIO(archive.read(f"{folder}data.pkl")))
        self.archive, self.folder = archive, folder

    def find_class(self, module: str, name: str) -> Any:
        if module.startswith("__torch__"):
            return _Record
        if module == "torch" and name in _DTYPES:
            return _DTYPES[name]
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _rebuild
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if module == "torch.jit._pickle" and name.startswith("build_"):
            return list
        raise pickle.UnpicklingError(f"it asks for {module}.{name}")

    def persistent_load(self, pid: tuple) -> Tensor:
        _, dtype, key, _, _ = pid
        raw = bytearray(self.archive.read(f"{self.folder}data/{key}"))
        return torch.frombuffer(raw, dtype=dtype) if raw else torch.empty(0, dtype=dtype)


def _rebuild(storage: Tensor, offset: int, size: tuple, stride: tuple, *_: object) -> Tensor:
    return storage.as_strided(size, stride, offset)


_DTYPES = {
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
}
