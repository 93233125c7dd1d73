"""A name among allowed ones, or an error that names the nearest."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

MOST_LISTED = 20
"""Options that an error lists; of more it lists three."""


def choose(what: str, value: str, options: Iterable[str]) -> str:
    """``value`` if it is one of ``options``; otherwise a ValueError that names the nearest one.

    Of many options the few nearest are listed.

    >>> choose("head", "text", ["text", "linear"])
    'text'
    """
    options = list(options)
    if value in options:
        return value
    near = difflib.get_close_matches(str(value), options, n=3, cutoff=0.5)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    listed = options if len(options) <= MOST_LISTED else [*(near or options[:3]), "…"]
    raise ValueError(
        f"{what} {value!r} is not known.{hint} Choose from{_of(options)}: {', '.join(listed)}."
    )


def _of(options: list[str]) -> str:
    return f" {len(options)}" if len(options) > MOST_LISTED else ""
