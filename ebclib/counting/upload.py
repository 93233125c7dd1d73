"""Images chosen in a notebook, and what was counted in them below."""

from __future__ import annotations

import html
from typing import Any

import ipywidgets as widgets

from ebclib.counting.counter import CrowdCounter
from ebclib.counting.result import Count
from ebclib.counting.sources import Failure, Item


class Upload(widgets.VBox):
    """A button to choose images with; each upload is counted and shown.

    Parameters
    ----------
    counter : what counts

    ``results`` are those of the last upload, ``failures`` what could not be counted.
    """

    def __init__(self, counter: CrowdCounter) -> None:
        self.counter = counter
        self.results: list[Count] = []
        self.failures: list[Failure] = []
        label = f"Choose images of {counter.noun[1]}…"
        self.button = widgets.FileUpload(
            accept="image/*", multiple=True, description=label, layout={"width": "300px"}
        )
        self.view = widgets.HTML()
        self.button.observe(self._change, names="value")
        super().__init__([self.button, self.view])

    def __repr__(self) -> str:
        return "Upload of images: run this cell in JupyterLab to choose some."

    def _change(self, change: dict[str, Any]) -> None:
        given = [Item(file["name"], bytes(file["content"])) for file in change["new"]]
        self.view.value = "Counting …"
        outcomes = list(self.counter.outcomes(given, keep=True))
        self.results = [each for each in outcomes if isinstance(each, Count)]
        self.failures = [each for each in outcomes if isinstance(each, Failure)]
        said = [each._repr_html_() for each in self.results]
        said += [
            f"<p>{html.escape(each.name)}: {html.escape(each.reason)}</p>" for each in self.failures
        ]
        self.view.value = "".join(said)
