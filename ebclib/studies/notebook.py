"""What the notebooks share as notebooks: parameters that are checked."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Mapping
from typing import Any

from ebclib.config import one_of


def check_parameters(namespace: Mapping[str, Any], allowed: Iterable[str]) -> dict[str, Any]:
    """The parameters of a notebook; a name that its parameters cells assign beside them is an error.

    papermill only warns about a mistyped ``-p``. Called with ``globals()`` in the cell below the
    parameters, this raises instead. The cells looked at are those run just before: the notebook's own
    parameters cell, and the one that papermill puts after it. The notebook's other variables are its
    own affair, so that it can be run again in the same kernel.

    Parameters
    ----------
    namespace : the notebook's ``globals()``, where IPython keeps the cells as ``In``
    allowed : the names of the notebook's parameters

    Raises
    ------
    ValueError : a parameters cell assigns another name; the nearest one is given

    >>> check_parameters({"In": ["dataset = 'shb'", "check"], "dataset": "shb"}, ["dataset", "seed"])
    {'dataset': 'shb'}
    """
    allowed = list(allowed)
    for name in _assigned(namespace.get("In", [])[:-1]):
        one_of("parameter", name, allowed)
    return {name: namespace[name] for name in allowed if name in namespace}


def _assigned(cells: Iterable[str]) -> list[str]:
    """The names that the last of the cells assign, back to the first that does anything else."""
    names: list[str] = []
    for cell in reversed(list(cells)):
        try:
            lines = ast.parse(cell).body
        except SyntaxError:  # a magic, say
            break
        targets = [line.targets if isinstance(line, ast.Assign) else [None] for line in lines]
        if not lines or not all(isinstance(t, ast.Name) for line in targets for t in line):
            break
        names = [t.id for line in targets for t in line] + names
    return names
