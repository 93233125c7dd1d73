"""The explorer follows its controls, without a screen."""

import numpy as np
import pytest

from ebclib import data
from ebclib.bins import dynamic
from ebclib.studies.explorer import Explorer, bins_table


@pytest.fixture
def images(drawn, monkeypatch):
    monkeypatch.setenv("EBC_DATA", str(drawn))
    return data.prepared("drawn", "train", progress=False)


def test_the_table_has_a_row_a_class():
    table = bins_table(dynamic(4), np.array([0, 0, 1, 3, 9]), ["a", "b", "c", "d"])
    assert table["blocks"].tolist() == [2, 1, 1, 1]
    assert table["mean"].tolist() == [0, 1, 3, 9] and table["middle"].tolist() == [0, 1, 2.5, 4]


def test_moving_the_controls_changes_the_table(images):
    explorer = Explorer(images, 16, policy="coarse")
    blocks = explorer.table["blocks"].sum()
    assert explorer.m.value == 16 and len(explorer.table) == 9
    explorer.m.value = 8
    assert explorer.table["bin"].tolist() == ["{0}", "{1,2}", "{3,4}", "{5,6}", "[7, ∞)"]
    explorer.policy.value = "interval"
    explorer.intervals.value = 5
    assert len(explorer.table) == 5 and explorer.table["blocks"].sum() == blocks
    explorer.policy.value = "fine"
    explorer.size.value = 8
    assert explorer.m.value == 4 and explorer.table["blocks"].sum() > blocks
    explorer.noun.value, explorer.plural.value = "duck", "ducks"
    explorer.numerals.value = "digits"
    assert explorer.table["sentence"].tolist()[1:3] == ["There is 1 duck.", "There are 2 ducks."]
    assert "There are 2 ducks." in explorer.view.value


def test_only_the_intervals_slider_hides(images):
    explorer = Explorer(images, policy="dynamic")
    assert explorer.intervals.layout.visibility == "hidden"
    assert explorer.size.layout.visibility is None
    explorer.policy.value = "interval"
    assert explorer.intervals.layout.visibility == "visible"


def test_an_m_beyond_the_block_is_said_and_a_noun_cannot_inject_markup(images):
    explorer = Explorer(images, 8, max_count=20, noun="<b>", plural="<i>")
    assert "m = 20 is above what 8 px can show, 4." in explorer.view.value
    assert "<b>" not in explorer.view.value and "&lt;i&gt;" in explorer.view.value
    assert "JupyterLab" in repr(explorer)
