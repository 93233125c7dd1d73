"""The model that comes with the repository: what it says of itself, and that it counts as recorded."""

from __future__ import annotations

import math
from pathlib import Path

import pandas as pd
import pytest
from PIL import Image

from ebclib import data
from ebclib.counting import CrowdCounter
from ebclib.counting.counter import SHIPPED
from ebclib.evaluation.metadata import read_info
from ebclib.runs import Run
from ebclib.synthetic import draw

ROOT = Path(__file__).resolve().parents[1]
RUN = Run(ROOT / "results" / "runs" / "crowd_lite")


@pytest.fixture(scope="module")
def counter():
    return CrowdCounter()


def test_the_file_is_small_and_says_where_it_comes_from():
    assert (ROOT / SHIPPED).stat().st_size <= 8_000_000
    info = read_info(ROOT / SHIPPED)
    assert info.config == RUN.config and info.config.dataset == "sha+shb"
    assert "ShanghaiTech A" in info.origin and "research" in info.origin
    assert "lite0" in info.origin  # the ImageNet weights that it started from
    assert info.interval_factor == pytest.approx(RUN.metrics["interval_factor"], rel=1e-6)
    assert info.training_stats.images == 400 and info.held_out_images == 70


def test_a_drawn_crowd_is_counted_with_an_interval(counter, tmp_path):
    Image.fromarray(draw(1, height=480, width=640).image).save(tmp_path / "drawn.png")
    result = counter.count(tmp_path / "drawn.png")
    assert math.isfinite(result.count) and result.lower <= result.count <= result.upper
    assert result.density.shape == (60, 80) and result.model == "crowd_lite"


@pytest.mark.parametrize("part", ["sha", "shb"])
def test_photographs_are_counted_as_recorded(counter, part):
    """In 16 bits and from the files, where the run counted in 32 and from prepared images."""
    try:
        entries = data.read(part, "test").entries[:3]
    except FileNotFoundError:
        pytest.skip(f"needs {part} below $EBC_DATA")
    recorded = pd.read_csv(RUN.path / "predictions.csv", index_col="image")["count"]
    for entry in entries:
        wanted = recorded[f"{part}_{entry.name}"]
        assert counter.count(entry.image).count == pytest.approx(wanted, rel=0.02, abs=0.5)
