"""Figures of where a model errs say what they show; what they look like is for the eye."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from ebclib import plots, studies

pytestmark = pytest.mark.usefixtures("figures")


def axes():
    return plt.subplots()[1]


def legend(ax):
    return [text.get_text() for text in ax.get_legend().get_texts()]


def test_signed_errors_and_groups_of_two_runs_are_told_apart():
    found = pd.DataFrame({"points": [0, 5, 50, 90], "count": [1.0, 4, 60, 70]})
    found = found.assign(lower=0.0, upper=80.0)
    predictions = {"one": found, "two": found.assign(count=found["points"])}
    tables = {name: studies.by_people(some, 2) for name, some in predictions.items()}
    ax = plots.plot_signed_errors(predictions, tables, axes(), people="birds")
    assert ax.get_xlabel() == "Birds annotated"
    assert ax.get_legend_handles_labels()[1] == ["one", "two"]
    ax = plots.plot_groups(tables, "inside", "Inside", axes(), reference=0.9)
    assert [label.get_text() for label in ax.get_xticklabels()] == ["0–5", "50–90"]
    one, two = (container.lines[0] for container in ax.containers)
    assert one.get_ydata().tolist() == [1, 0.5]
    assert (one.get_xdata() < two.get_xdata()).all(), "side by side"


def test_shares_and_windows_draw_their_tables():
    shares = pd.DataFrame(
        {"share_of_blocks": [0.9, 0.1], "share_of_people": [0, 1], "share_of_error": [0.4, 0.6]},
        index=["0", "1"],
    )
    ax = plots.plot_shares(shares, axes())
    assert [bar.get_height() for bar in ax.patches] == [0.9, 0.1, 0, 1, 0.4, 0.6]
    assert legend(ax) == ["blocks", "people", "absolute error"]
    windows = pd.DataFrame({"error": [9.0, 3], "error_low": [8.0, 2], "error_high": [10.0, 4]})
    ax = plots.plot_windows(windows.set_index(pd.Index([8, 16])), axes())
    assert ax.lines[0].get_xydata().tolist() == [[8, 9], [16, 3]] and ax.get_yscale() == "log"


def test_reliability_leaves_out_what_is_too_rare_and_names_only_what_it_draws():
    columns = ["class", "blocks", "probability", "share", "share_low", "share_high"]
    rows = [
        ["{0}", 1000, 0.9, 0.8, 0.7, 0.9],
        ["{0}", 10, 0.1, 0.2, 0.1, 0.3],  # one block expected
        ["{1}", 10, 0.2, 0.3, 0.2, 0.4],
        ["top", 1000, 0.9, 0.8, 0.7, 0.9],
    ]
    ax = plots.plot_reliability(pd.DataFrame(rows, columns=columns), ["{0}", "{1}"], axes())
    assert legend(ax) == ["calibrated", "{0}"]
    assert ax.containers[0].lines[0].get_xydata().tolist() == [[0.9, 0.8]]


def test_confusion_is_shares_of_its_rows():
    sums = np.array([[990, 10, 0], [50, 50, 0], [0, 0, 0]])
    ax = plots.plot_confusion(sums, ["a", "b", "c"])
    written = [text.get_text() for text in ax.texts]
    assert written == ["99%", "1%", "0", "50%", "50%", "0", "", "", ""]
    assert [label.get_text() for label in ax.get_yticklabels()] == ["a: 1,000", "b: 100", "c: 0"]
    many = plots.plot_confusion(np.eye(65) + 1, [str(k) for k in range(65)])
    assert not many.texts and len(many.get_xticks()) <= 17
