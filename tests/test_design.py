"""What a choice of bins costs, against numbers worked out by hand."""

from types import SimpleNamespace

import numpy as np
import pytest

from ebclib.bins import dynamic, fine, interval
from ebclib.studies import design


@pytest.fixture
def images():
    """Two images of 2 × 3 blocks of 8 px: five people in one block, one in another; and nobody."""
    crowded = np.array([[1.0, 1], [2, 1], [3, 1], [4, 1], [5, 1], [20, 12]])
    return SimpleNamespace(
        points=[crowded, np.zeros((0, 2))],
        sizes=[(16, 24), (16, 24)],
        counts=np.array([6, 0]),
        noun=("person", "people"),
    )


def test_counts_are_whole_or_smoothed(images):
    first, second = design.split_counts(images, 8)
    assert first.tolist() == [[5, 0, 0], [0, 0, 1]] and second.sum() == 0
    smoothed = design.split_counts(images, 8, 2.0)[0]
    assert smoothed.sum() == pytest.approx(6) and (smoothed > 0).all()
    assert design.joined([first, second]).shape == (12,)


def test_label_correction_counts_blocks_and_people_above_m(images):
    table = design.correction(images, (8, 16), (4, 8, 16)).set_index(["r", "s"])
    assert table.index.tolist() == [(8, 4), (8, 8), (16, 4), (16, 8), (16, 16)]
    assert table.loc[(8, 4), ["m", "largest", "blocks", "people"]].tolist() == [4, 5, 1, 1]
    assert table.loc[(8, 8), ["m", "blocks", "people"]].tolist() == [1, 1, 4]
    assert table.loc[(8, 4), "share"] == pytest.approx(1 / 6)
    assert table.loc[(16, 4), "people"] == 0


def test_shaking_points_changes_classes_the_more_the_harder(images):
    def changed(shake_px, sigma_px=None):
        bins = interval(4) if sigma_px else fine(4)
        rng = np.random.default_rng(0)
        return design.changed_by_shaking(images, 8, bins, shake_px, rng, sigma_px)

    assert changed(1e-9) == 0 and changed(1e-9, 2.0) == 0
    assert changed(30.0) > 0.5 and 0 < changed(3.0, 2.0) <= 1


def test_the_table_of_bins_has_a_row_a_class():
    table = design.bins_table(dynamic(4), np.array([0, 0, 1, 3, 9]), ["a", "b", "c", "d"])
    assert table["blocks"].tolist() == [2, 1, 1, 1]
    assert table["mean"].tolist() == [0, 1, 3, 9] and table["middle"].tolist() == [0, 1, 2.5, 4]
