"""Blockwise crowd counting with CLIP-EBC: an image and points in, a count out."""

from importlib import import_module
from typing import Any

_NAMES = {
    "bins": ("make_bins",),
    "blocks": ("block_counts",),
    "config": ("Config", "make_config"),
    "counting": ("CrowdCounter",),
    "data": ("prepare", "read"),
    "losses": ("dace", "dmcount"),
    "models": ("BlockwiseModel",),
    "prompts": ("sentences",),
    "runs": ("all_runs", "open_run"),
    "training": ("evaluate", "load_or_train", "submit", "train"),
}
_HOME = {name: module for module, names in _NAMES.items() for name in names}
__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:  # names are loaded when used: importing does nothing
    if name in _HOME:
        return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


__version__ = "0.1.0"
