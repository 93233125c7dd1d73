"""Figures say what they show; what they look like is for the eye."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from ebclib import plots
from ebclib.config import results_root


@pytest.fixture(autouse=True)
def closed():
    plots.use_style()
    yield
    plt.close("all")


def legend(ax):
    return [text.get_text() for text in ax.get_legend().get_texts()]


def test_the_long_tail_is_shares_on_a_logarithmic_axis():
    ax = plots.plot_long_tail({"a": np.array([90, 9, 0, 1]), "b": np.array([5] * 40)}, longest=30)
    assert ax.get_yscale() == "log"
    assert legend(ax) == ["a", "b (to 39)"]
    counts, shares = ax.lines[0].get_data()
    assert counts.tolist() == [0, 1, 3] and shares.tolist() == [0.9, 0.09, 0.01]


def test_picture_counts_name_their_mean_and_median():
    ax = plots.plot_picture_counts(np.array([0, 10, 50]), people="birds")
    assert legend(ax) == ["mean 20", "median 10"]
    assert ax.get_xlabel() == "Birds in a picture"


def test_block_labels_write_every_value_and_hatch_the_wrong_ones():
    picture = np.zeros((16, 16, 3), np.uint8)
    values = np.array([[0.25, 1.0], [0.0, 2.0]])
    ax = plots.plot_block_labels(picture, np.zeros((0, 2)), values, 8, wrong=values == 1)
    assert [t.get_text() for t in ax.texts] == ["0.25", "1.00", "0.00", "2.00"]
    (box,) = ax.patches
    assert box.get_xy() == (8, 0) and box.get_hatch()


def test_history_shows_held_out_errors_where_they_were_measured():
    history = pd.DataFrame({"epoch": [1, 2], "loss": [9.0, 4.0], "held_out_mae": [np.nan, 3.0]})
    ax = plots.plot_history(history, mean_predictor=10)
    assert legend(ax) == ["training loss", "held-out MAE", "mean predictor"]
    (right,) = [other for other in ax.figure.axes if other is not ax]
    assert right.lines[0].get_ydata().tolist() == [3.0]


def test_predictions_show_intervals_only_where_there_are_any():
    frame = pd.DataFrame(
        {"points": [0, 10], "count": [1.0, 9.0], "lower": [0, 5], "upper": [4, 14]}
    )
    assert legend(plots.plot_predictions(frame)) == ["picture", "exact", "90 % interval"]
    assert legend(plots.plot_predictions(frame.assign(upper=np.inf))) == ["picture", "exact"]


def test_maps_share_one_scale_and_state_their_counts():
    picture = np.zeros((20, 30, 3), np.uint8)
    axes = plots.plot_maps(picture, np.array([[1.0, 1.0], [2.0, 2.0]]), np.full((3, 4), 0.25), 8)
    assert [ax.get_title() for ax in axes] == [
        "Picture",
        "Annotated: 2 (smoothed)",
        "Predicted: 3.0",
    ]
    scales = [ax.images[0].get_clim() for ax in axes[1:]]
    assert scales[0] == scales[1] and scales[0][0] == 0 and scales[0][1] >= 0.25


def test_a_figure_is_saved_for_print_and_for_the_screen():
    figure = plots.plot_picture_counts(np.array([1, 2])).figure
    plots.save(figure, "counts", "drawn")
    path = results_root() / "figures" / "drawn" / "counts.png"
    assert path.is_file() and path.with_suffix(".pdf").read_bytes().startswith(b"%PDF")


def test_the_diagrams_say_what_the_modules_say():
    from ebclib.inspection import costs, outline, steps

    def texts(ax):
        return " ".join(text.get_text() for text in ax.texts)

    said = ["There is no person.", "There is one person."]
    drawn = texts(plots.plot_clip_ebc(steps(outline("clip_lite", bins=2), 64, 96), said, 384))
    for part in (*said, "1280 × 4 × 6", "384 × 8 × 12", "2 × 384", "1 × 8 × 12"):
        assert part in drawn
    pair = [steps(outline("csrnet", 7, 8, head), 64, 64) for head in ("regression", "linear")]
    drawn = texts(plots.plot_same_network(*pair))
    assert "1 × 8 × 8\n65 weights" in drawn and "7 × 8 × 8\n455 weights" in drawn
    ax = plots.plot_costs(costs(["vgg16", "mobilenetv2"], [(64, 64), (96, 96)]))
    assert [label.get_text().split("\n")[0] for label in ax.get_xticklabels()] == [
        "mobilenetv2",
        "vgg16",
    ]
    ax = plots.plot_similarity(np.eye(2), said)
    assert [label.get_text() for label in ax.get_yticklabels()] == said
