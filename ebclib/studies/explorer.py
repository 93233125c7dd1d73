"""A live table of bins: sliders for block size, m and policy; bins, sentences and class sizes below."""

from __future__ import annotations

import html
from functools import cache

import ipywidgets as widgets
import numpy as np
import pandas as pd

from ebclib import blocks
from ebclib.bins import INTERVALS, POLICIES, Bins, make_bins
from ebclib.data import PreparedSplit
from ebclib.prompts import sentences
from ebclib.studies.design import joined, split_counts

BLOCK_SIZES_PX = (8, 16, 32)
BAR_PX = 160
CELL = "padding:0 .7em;text-align:"


def bins_table(bins: Bins, counts: np.ndarray, texts: list[str]) -> pd.DataFrame:
    """A row a class: bin, sentence, blocks, middle and mean.

    Parameters
    ----------
    counts : the counts of all training blocks, whole for integer-valued bins, else smoothed
    texts : the bins' sentences (`prompts.sentences`)
    """
    return pd.DataFrame(
        {
            "bin": [str(item) for item in bins.items],
            "sentence": texts,
            "blocks": np.bincount(bins.classes(np.ravel(counts)), minlength=len(bins)),
            "middle": bins.middles(),
            "mean": bins.means(counts),
        }
    )


class Explorer(widgets.VBox):
    """Choose block size, m, policy, noun and numerals of a split; see what becomes of them.

    Parameters
    ----------
    images : the training images, as `datasets.prepared` gives them
    block_size_px, max_count, policy, noun, plural, numerals : where the controls stand at first;
        None takes the label correction's m, and what the data set calls its objects
    sigma_px : the Gaussian of the counts in intervals, in pixels

    ``table`` is the frame of `bins_table` as it now stands.
    """

    def __init__(
        self,
        images: PreparedSplit,
        block_size_px: int = 16,
        max_count: int | None = None,
        policy: str = "dynamic",
        noun: str | None = None,
        plural: str | None = None,
        numerals: str = "words",
        sigma_px: float = 4.0,
    ) -> None:
        @cache
        def counts(r: int, is_integer: bool) -> np.ndarray:
            return joined(split_counts(images, r, None if is_integer else sigma_px))

        self._counts, self.table = counts, pd.DataFrame()
        sizes = sorted({*BLOCK_SIZES_PX, block_size_px})
        limit = blocks.max_count(block_size_px)
        first = max_count or limit
        self.size = widgets.SelectionSlider(
            options=sizes, value=block_size_px, description="block size (px)", **_wide()
        )
        self.m = widgets.IntSlider(first, 1, max(first, 64), description="m", **_wide())
        self.policy = widgets.Dropdown(
            options=list(POLICIES), value=policy, description="policy", **_wide()
        )
        self.intervals = widgets.IntSlider(INTERVALS, 3, 60, description="intervals", **_wide())
        self.noun = widgets.Text(noun or images.noun[0], description="one", **_wide())
        self.plural = widgets.Text(plural or images.noun[1], description="several", **_wide())
        self.numerals = widgets.ToggleButtons(
            options=["words", "digits"], value=numerals, description="numerals", **_wide()
        )
        self.view = widgets.HTML()
        controls = (self.size, self.m, self.policy, self.intervals)
        controls += (self.noun, self.plural, self.numerals)
        for control in controls:
            control.observe(self._change, names="value")
        left = widgets.VBox(controls[:4])
        right = widgets.VBox(controls[4:])
        super().__init__([widgets.HBox([left, right]), self.view])
        self._change()

    def __repr__(self) -> str:
        return "Explorer of bins: run this cell in JupyterLab to move its sliders."

    def _change(self, change: dict | None = None) -> None:
        """Bring the table up to date; a new block size brings its own m."""
        if change and change["owner"] is self.size:
            self.m.value = blocks.max_count(self.size.value)
        is_interval = self.policy.value == "interval"
        self.intervals.layout.visibility = "visible" if is_interval else "hidden"
        bins = make_bins(
            self.policy.value, self.m.value, self.intervals.value if is_interval else None
        )
        counts = self._counts(self.size.value, bins.is_integer)
        texts = sentences(bins, *self._nouns(), self.numerals.value)
        self.table = bins_table(bins, counts, texts)
        limit = blocks.max_count(self.size.value)
        self.view.value = _as_html(self.table, self.m.value, limit, self.size.value)

    def _nouns(self) -> tuple[str, str]:
        """Both forms as typed; while the second one is still to come, the first with an s."""
        noun, plural = self.noun.value.strip() or "object", self.plural.value.strip()
        if not plural or (plural == "people" and noun != "person"):
            plural = f"{noun}s"
        return noun, plural


def _wide() -> dict:
    """Look of a control; a layout of its own each, so that one of them can be hidden."""
    return {"layout": widgets.Layout(width="330px"), "style": {"description_width": "110px"}}


def _as_html(table: pd.DataFrame, m: int, limit: int, block_size_px: int) -> str:
    """The table as HTML, the blocks of a class also as a bar of logarithmic length."""
    longest = np.log10(max(table["blocks"].max(), 1) + 1)
    rows = []
    for row in table.itertuples(index=False):
        length = BAR_PX * np.log10(row.blocks + 1) / longest
        bar = f"<div style='background:#0173b2;height:.7em;width:{length:.0f}px'></div>"
        cells = [
            f"<td style='{CELL}left;white-space:nowrap'>{html.escape(row.bin)}</td>",
            f"<td style='{CELL}left'>{html.escape(row.sentence)}</td>",
            f"<td style='{CELL}right'>{row.blocks:,}</td>",
            f"<td style='{CELL}left'>{bar}</td>",
            f"<td style='{CELL}right'>{row.middle:.2f}</td>",
            f"<td style='{CELL}right'>{row.mean:.2f}</td>",
        ]
        rows.append("".join(cells))
    heads = ("bin", "sentence", "blocks", "(log scale)", "middle", "mean")
    head = "".join(f"<th style='{CELL}left'>{name}</th>" for name in heads)
    empty = int((table["blocks"] == 0).sum())
    note = f"{len(table)} classes, {empty} of them without a block."
    if m > limit:
        note += f" m = {m} is above what {block_size_px} px can show, {limit}."
    body = "".join(f"<tr>{cells}</tr>" for cells in rows)
    return f"<p>{note}</p><table><tr>{head}</tr>{body}</table>"
