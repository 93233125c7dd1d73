"""A name among allowed ones, or an error that names the nearest."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def choose(what: str, value: str, options: Iterable[str]) -> str:
    """``value`` if it is one of ``options``; otherwise a ValueError that names the nearest one.

    >>> choose("head", "text", ["text", "linear"])
    'text'
    """
    options = list(options)
    if value in options:
        return value
    near = difflib.get_close_matches(str(value), options, n=1, cutoff=0.5)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    raise ValueError(f"{what} {value!r} is not known.{hint} Choose from: {', '.join(options)}.")
