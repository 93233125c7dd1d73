"""What the notebooks share as notebooks: parameters that are checked, and outputs that are stored."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from .choices import choose


def check_parameters(namespace: Mapping[str, Any], allowed: Iterable[str]) -> dict[str, Any]:
    """The parameters among a notebook's variables; a variable that is none of them is an error.

    papermill only warns about a mistyped ``-p``. Called right after the parameters cell with
    ``globals()``, this raises instead, before anything runs.

    Parameters
    ----------
    namespace : the notebook's ``globals()``
    allowed : the names of the notebook's parameters

    Raises
    ------
    ValueError : a plain value under a name that is no parameter; the nearest is named

    >>> check_parameters({"dataset": "shb", "_": 3}, ["dataset", "seed"])
    {'dataset': 'shb'}
    """
    allowed = list(allowed)
    for name, value in namespace.items():
        plain = value is None or isinstance(value, bool | int | float | str | list | dict)
        shell = name.startswith("_") or name in {"In", "Out"}
        if plain and not shell and name not in allowed:
            choose("parameter", name, allowed)
    return {name: namespace[name] for name in allowed if name in namespace}


def store(path: Path) -> None:
    """Run a notebook from top to bottom and save it in place with its outputs, without stderr.

    Raises
    ------
    papermill.PapermillExecutionError : a cell failed; the stored notebook stays as it was
    """
    import nbformat
    import papermill

    path = Path(path).resolve()
    executed = path.with_name(f".{path.stem}.part.ipynb")
    try:
        papermill.execute_notebook(path, executed, cwd=path.parent, kernel_name="python3")
        notebook = nbformat.read(executed, as_version=4)
    finally:
        executed.unlink(missing_ok=True)
    for cell in notebook.cells:
        tags = cell.metadata.get("tags", [])
        cell.metadata = {"tags": tags} if tags else {}
        if cell.cell_type == "code":
            cell.outputs = [out for out in cell.outputs if out.get("name") != "stderr"]
    notebook.metadata.pop("papermill", None)
    nbformat.write(notebook, path)
