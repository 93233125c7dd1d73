"""Blockwise crowd counting with CLIP-EBC: an image and points in, a count out."""

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any


def names_of(package: str, modules: Mapping[str, str]) -> tuple[Callable[[str], Any], list[str]]:
    """A package's ``__getattr__`` and ``__all__``: its names load when used, so importing does nothing.

    Parameters
    ----------
    package : its ``__name__``
    modules : the names that each of its modules gives, separated by spaces
    """
    home = {name: module for module, names in modules.items() for name in names.split()}

    def load(name: str) -> Any:
        if name in home:
            return getattr(import_module(f"{package}.{home[name]}"), name)
        raise AttributeError(f"module {package!r} has no attribute {name!r}")

    return load, sorted(home)


__getattr__, __all__ = names_of(
    __name__,
    {
        "bins": "make_bins",
        "blocks": "block_counts",
        "config": "Config make_config",
        "counting": "CrowdCounter",
        "data": "prepare read",
        "losses": "dace dmcount",
        "models": "BlockwiseModel",
        "prompts": "sentences",
        "runs": "all_runs open_run",
        "training": "evaluate load_or_train submit train",
    },
)
__version__ = "0.1.0"
