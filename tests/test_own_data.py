"""Somebody's own images, by the README's text alone: dark discs to count, bars not to."""

import json
import re
import shlex
from pathlib import Path

import discs
import numpy as np
import pytest
from yaml import safe_load

from ebclib.__main__ import main, parser
from ebclib.config import FIELDS, make_config
from ebclib.data import prepared
from ebclib.runs import open_run
from ebclib.studies.design import advise

README = (Path(__file__).parents[1] / "data" / "README.md").read_text(encoding="utf-8")
SECTION = README[README.index("## Your own data") :]
COMMANDS = [
    shlex.split(line, comments=True)
    for block in re.findall(r"```bash\n(.*?)```", SECTION, flags=re.DOTALL)
    for line in block.splitlines()
]
QUICK = {  # a small network from nothing, on small images: seconds, not minutes
    "model": "timm:test_resnet",
    "pretrained": "none",
    "head": "linear",
    "crop_px": 128,
    "max_scale": 1,
    "epochs": 50,
    "learning_rate": 8e-3,
    "evaluate_every": 50,
    "precision": "fp32",
}


def command(*start):
    """The README's first command that begins so."""
    return next(words for words in COMMANDS if words[: len(start)] == list(start))


@pytest.fixture(scope="module")
def birds(tmp_path_factory):
    """A data root with `birds`: the README's `dataset.yaml`, its layout, and discs for birds."""
    root = tmp_path_factory.mktemp("own")
    folder = discs.save(root / "birds")
    (yaml,) = re.findall(r"```yaml\n(.*?)```", SECTION, flags=re.DOTALL)
    more = "least_side: 128\nsplits: {train: train, test: test, bars: bars}\n"
    (folder / "dataset.yaml").write_text(yaml + more)
    return root


@pytest.fixture
def here(birds, monkeypatch):
    monkeypatch.setenv("EBC_DATA", str(birds))


def test_the_readme_s_commands_count_discs_and_no_bars(here, capsys):
    """Five times better than always saying the training mean; of images of bars it says about nobody."""
    assert main(command("ebc", "prepare", "birds")[1:]) == 0
    said = capsys.readouterr().out
    assert "24" in said and "What suits birds" in said
    quick = [word for key, value in QUICK.items() for word in (f"--{key.replace('_', '-')}", value)]
    assert main([*command("ebc", "train", "birds")[1:], *map(str, quick)]) == 0
    assert main(command("ebc", "evaluate", "birds")[1:]) == 0
    run = open_run("birds")
    assert run.metrics["mae"] < run.metrics["mean_predictor_mae"] / 5
    assert run.metrics["positions"][1]["f1"] > 0.8
    assert main(["evaluate", "birds", "--split", "bars"]) == 0
    bars = json.loads((run.path / "metrics-bars.json").read_text())
    assert bars["images"] == 4 and bars["mae"] < 0.5


def test_prepare_says_what_suits_and_how_to_train(here, capsys):
    assert main(["prepare", "birds"]) == 0
    said = capsys.readouterr().out
    for part in (
        "half of the birds have another within 23 px",
        "Bins fine, m = 2: {0} {1} [2, ∞)",
        "There is no bird. There is one bird. There are more than two birds.",
        "epochs of 22 images: about 2000 steps",
    ):
        assert part in said
    given = vars(parser().parse_args(shlex.split(said.splitlines()[-1])[1:]))
    config = make_config(**{name: given[name] for name in FIELDS})
    assert (config.recipe, config.block_size_px, config.crop_px) == ("own", 16, 128)
    assert config.epochs * (22 // 8) == 2000


def pairs(words):
    """The parameters of a papermill command."""
    given = {words[k + 1]: words[k + 2] for k, word in enumerate(words) if word == "-p"}
    for k, word in enumerate(words):
        given |= safe_load(words[k + 1])["overrides"] if word == "-y" else {}
    return given


def test_the_readme_s_lines_are_of_one_kind_and_understood():
    given = vars(parser().parse_args(command("ebc", "train", "birds")[1:]))
    config = make_config(**{name: given[name] for name in FIELDS})
    assert make_config(**pairs(command("papermill"))) == config
    assert config.recipe == "own" and config.epochs * (45 // 8) == 2000
    for words in COMMANDS:
        if words[0] == "ebc":
            parser().parse_args(words[1:])


def test_advice_follows_from_the_points(here):
    split = prepared("birds", "train", progress=False)
    given, text = advise(split)
    assert (given["block_size_px"], given["max_count"], given["crop_px"]) == (16, 2, 128)
    sizes = re.search(r"∞\)\. (.+) training blocks", text)[1].split(", ")
    assert sum(int(size.replace(",", "")) for size in sizes) == 22 * 8 * 8
    split.points = [points[:0] for points in split.points]
    split.counts = np.zeros(24, dtype=int)
    with pytest.raises(ValueError, match="0 somebody"):
        advise(split)


def test_wide_apart_objects_get_wide_blocks(here):
    split = prepared("birds", "train", progress=False)
    split.points = [np.array([[10.0, 10], [100, 100]])] * 24
    assert advise(split)[0]["block_size_px"] == 32
    split.points = [np.array([[10.0, 10], [13, 10]])] * 24
    assert advise(split)[0]["block_size_px"] == 8
