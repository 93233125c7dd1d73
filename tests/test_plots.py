"""Figures say what they show; what they look like is for the eye."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from ebclib import plots
from ebclib.bins import dynamic
from ebclib.config import results_root
from ebclib.data import Sample

pytestmark = pytest.mark.usefixtures("figures")


def axes():
    return plt.subplots()[1]


def legend(ax):
    return [text.get_text() for text in ax.get_legend().get_texts()]


def test_the_long_tail_is_shares_on_a_logarithmic_axis():
    ax = plots.plot_long_tail({"a": np.array([90, 9, 0, 1]), "b": np.array([5] * 40)}, axes())
    assert ax.get_yscale() == "log"
    assert legend(ax) == ["a", "b (to 39)"]
    counts, shares = ax.lines[0].get_data()
    assert counts.tolist() == [0, 1, 3] and shares.tolist() == [0.9, 0.09, 0.01]


def test_block_labels_write_every_value_and_hatch_the_wrong_ones():
    image = np.zeros((16, 16, 3), np.uint8)
    values = np.array([[0.25, 1.0], [0.0, 2.0]])
    ax = plots.plot_block_labels(image, np.zeros((0, 2)), values, 8, axes(), values == 1)
    assert [t.get_text() for t in ax.texts] == ["0.25", "1.00", "0.00", "2.00"]
    (box,) = ax.patches
    assert box.get_xy() == (8, 0) and box.get_hatch()


def test_history_shows_held_out_errors_where_they_were_measured():
    history = pd.DataFrame({"epoch": [1, 2], "loss": [9.0, 4.0], "held_out_mae": [np.nan, 3.0]})
    ax = plots.plot_history(history, mean_predictor=10)
    assert legend(ax) == ["training loss", "validation MAE", "mean predictor"]
    (right,) = [other for other in ax.figure.axes if other is not ax]
    assert right.lines[0].get_ydata().tolist() == [3.0]


def test_predictions_show_intervals_only_where_there_are_any():
    frame = pd.DataFrame(
        {"points": [0, 10], "count": [1.0, 9.0], "lower": [0, 5], "upper": [4, 14]}
    )
    assert legend(plots.plot_predictions(frame)) == ["image", "exact", "90 % interval"]
    assert legend(plots.plot_predictions(frame.assign(upper=np.inf))) == ["image", "exact"]


def test_maps_share_one_scale_and_state_their_counts():
    few = Sample(np.zeros((20, 30, 3), np.uint8), np.array([[1.0, 1.0], [2.0, 2.0]]), "few")
    nobody = Sample(np.zeros((16, 24, 3), np.uint8), np.empty((0, 2)), "nobody")
    axes = plots.plot_maps([few, nobody], [np.full((3, 4), 0.25), np.zeros((2, 3))], 8)
    said = [[ax.get_title() for ax in row] for row in axes]
    assert said[0] == ["Image", "Annotated: 2 (smoothed)", "Predicted: 3.0"]
    assert said[1][1:] == ["Annotated: 0 (smoothed)", "Predicted: 0.0"]
    norms = {ax.images[0].norm for ax in axes[:, 1:].flat}
    assert len(norms) == 1 and norms.pop().vmax >= 0.25
    assert axes[0, 2].get_xlim() == (0, 30), "blocks reach over the image's border"


def test_class_sizes_are_bars():
    ax = plots.plot_class_sizes(dynamic(4), np.array([900, 50, 3, 0]), axes(), min_blocks=10)
    assert [bar.get_height() for bar in ax.patches] == [900, 50, 3, 0]
    assert [t.get_text() for t in ax.get_xticklabels()] == ["{0}", "{1}", "{2,3}", "[4, ∞)"]
    assert legend(ax) == ["10 blocks"] and ax.get_yscale() == "log"


def test_bias_states_the_mean_error_of_each_kind():
    errors = pd.DataFrame({"people": [0, 10], "middles": [0.0, 4.0], "means": [-1.0, 1.0]})
    ax = plots.plot_bias(errors, axes(), title="coarse")
    assert legend(ax) == ["middles: 2.0", "means: 1.0"] and ax.get_title() == "coarse"


def test_a_figure_is_saved_where_figures_are():
    figure = plt.figure()
    plots.save(figure, "counts", "drawn")
    assert [path.name for path in (results_root() / "figures" / "drawn").iterdir()] == [
        "counts.png"
    ]


def test_the_diagrams_say_what_the_modules_say():
    from ebclib.studies.cost import outline, steps

    def texts(ax):
        return " ".join(text.get_text() for text in ax.texts)

    said = ["There is no person.", "There is one person."]
    drawn = texts(
        plots.plot_networks({"CLIP-EBC": steps(outline("clip_lite", bins=2), 64, 96)}, said, 384)
    )
    for part in (*said, "CLIP-EBC", "1280 × 4 × 6", "2 × 384", "2 × 8 × 12", "1 × 8 × 12"):
        assert part in drawn
    pair = [steps(outline("csrnet", 7, 8, head), 64, 64) for head in ("regression", "linear")]
    drawn = texts(plots.plot_networks(dict(zip(("a", "b"), pair, strict=True))))
    assert "65 weights\n1 × 8 × 8" in drawn and "455 weights\n7 × 8 × 8" in drawn
