"""What the notebooks share as notebooks: parameters that are checked."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Mapping
from typing import Any

from ebclib.config import one_of


def check_parameters(namespace: Mapping[str, Any], allowed: Iterable[str]) -> dict[str, Any]:
    """The parameters of a notebook; a name that its parameters cells assign beside them is an error.

    papermill only warns about a mistyped ``-p``. Called with ``globals()`` in the cell below the
    parameters, this looks at the cells run just before, in ``namespace["In"]``: the notebook's own
    parameters cell, and the one that papermill puts after it.

    Raises
    ------
    ValueError : a parameters cell assigns a name that is not ``allowed``; the nearest one is given

    >>> check_parameters({"In": ["dataset = 'shb'", "check"], "dataset": "shb"}, ["dataset", "seed"])
    {'dataset': 'shb'}
    """
    allowed = list(allowed)
    for cell in reversed(namespace.get("In", [])[:-1]):
        names = _assigned(cell)
        if not names:
            break
        for name in names:
            one_of("parameter", name, allowed)
    return {name: namespace[name] for name in allowed if name in namespace}


def _assigned(cell: str) -> list[str]:
    """The names that a cell assigns; none where it does anything else."""
    try:
        lines = ast.parse(cell).body
    except SyntaxError:  # a magic, say
        return []
    targets = [
        t for line in lines for t in (line.targets if isinstance(line, ast.Assign) else [None])
    ]
    return [t.id for t in targets] if all(isinstance(t, ast.Name) for t in targets) else []
