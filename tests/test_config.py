import dataclasses
import os
import re
import subprocess
import sys
import typing
from pathlib import Path

import pytest
from PIL import Image

from ebclib.config import (
    FIELDS,
    RECIPES,
    Config,
    check_inputs,
    default_recipe,
    explanations,
    make_config,
    one_of,
    project_root,
    results_root,
    say_roots,
)
from ebclib.data import DATASETS
from ebclib.data.augmentation import AUGMENTATIONS
from ebclib.runs import all_runs


def test_the_paper_s_training_is_the_default_for_published_data():
    config = make_config("qnrf")
    assert (config.recipe, config.batch_size, config.crop_px, config.max_scale) == (
        "paper",
        8,
        448,
        2,
    )
    assert (config.learning_rate, config.weight_decay, config.count_weight) == (1e-4, 1e-4, 1)
    assert (config.schedule, config.warmup_epochs, config.block_size_px) == ("restarts", 50, 8)
    assert (config.model, config.augmentation) == ("clip_rn50", "none")
    assert make_config().recipe == "demo"


def test_what_is_not_the_paper_s_training_takes_the_small_model_and_light_augmentation():
    for recipe in RECIPES.keys() - {"paper"}:
        config = make_config("shb", recipe)
        assert (config.model, config.augmentation) == ("clip_lite", "light")
    changed = make_config("shb", augmentation="released", model="csrnet")
    assert changed.name == "shb-csrnet-linear-paper-092d1a-seed0"
    assert set(typing.get_type_hints(Config)["augmentation"].__args__) == AUGMENTATIONS.keys()


def test_what_older_runs_stored_is_read_as_what_it_was():
    now = make_config("shb", "demo").to_dict()
    older = {k: v for k, v in now.items() if k not in ("augmentation", "dual")}
    light = {"jitter": 0.2, "blur": 0.0, "noise": 0.0}
    for strengths, named in (
        ({}, "light"),
        (light, "light"),
        ({**light, "jitter": 0.0}, "none"),
    ):
        config = Config.from_dict(older | strengths | {"solver": "published"})
        assert (config.augmentation, config.dual) == (named, "unfloored")
    assert Config.from_dict(now) == Config(**now)
    with pytest.raises(ValueError, match=r"jitter, blur and noise are \(0\.4, 0\.0, 0\.0\)"):
        Config.from_dict(older | {**light, "jitter": 0.4})


def test_every_recorded_run_opens_with_the_augmentation_it_had():
    recorded = all_runs(project_root(Path(__file__).parent) / "results" / "runs")
    assert len(recorded) > 20
    assert {run.config.augmentation for run in recorded} == {"light"}


def test_the_published_data_sets_and_nobody_s_own_have_the_paper_s_recipe():
    recipes = {name: default_recipe(name) for name in DATASETS}
    drawn = {name for name in DATASETS if name.startswith("synthetic")}
    assert {name for name, recipe in recipes.items() if recipe == "paper"} == {*DATASETS} - drawn
    assert "own" not in recipes.values()
    own = make_config("my_birds")
    assert own.recipe == "own" and own.name == "my_birds-clip_lite-text-own-seed0"
    assert own.epochs < make_config("shb").epochs and own.crop_px == 256
    assert make_config("my_birds", "paper").epochs == make_config("shb").epochs


def test_values_from_a_shell_get_their_types():
    config = make_config("shb", epochs="3", learning_rate="2e-4", block_size_px="16", workers="2")
    assert (config.epochs, config.learning_rate, config.block_size_px) == (3, 2e-4, 16)
    assert config.workers == 2 and make_config("shb", workers="auto").workers == "auto"
    assert make_config("shb", max_count="8").max_count == 8


def test_a_config_survives_its_own_dictionary():
    config = make_config("shb", "two_cores_20min", head="linear", seed=4)
    assert Config(**config.to_dict()) == config


def test_names_tell_runs_apart():
    names = {
        make_config("shb", **given).name
        for given in (
            {},
            {"seed": 1},
            {"head": "linear"},
            {"count_weight": 0.1},
            {"recipe": "two_cores_20min"},
        )
    }
    assert len(names) == 5
    assert make_config("shb", epochs=make_config("shb").epochs).name == make_config("shb").name
    assert make_config("shb", workers=3).name == make_config("shb").name


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"epoch": 3}, "parameter 'epoch' is not known. Did you mean 'epochs'"),
        ({"recipe": "papr"}, "Did you mean 'paper'"),
        ({"head": "txt"}, "head 'txt' is not known. Did you mean 'text'"),
        ({"block_size_px": 12}, "block_size_px is 12; choose from: 8, 16, 32"),
        ({"epochs": 0}, "epochs is 0; the least allowed is 1"),
        ({"epochs": 2.5}, "type int"),
        ({"epochs": "many"}, "epochs is 'many'"),
        ({"epochs": True}, "epochs is True"),
        ({"epochs": float("inf")}, "epochs is inf"),
        ({"learning_rate": -1}, "above 0"),
        ({"learning_rate": float("nan")}, "learning_rate is nan"),
        ({"max_scale": 0.5}, "max_scale is 0.5; the least allowed is 1"),
        ({"max_count": 0}, "max_count is 0; the least allowed is 1"),
        ({"augmentation": "lite"}, "augmentation 'lite' is not known. Did you mean 'light'"),
        ({"crop_px": 100}, "the nearest that fits every block is 96"),
        ({"workers": -1}, "workers is -1"),
    ],
)
def test_what_cannot_be_is_named(given, message):
    with pytest.raises(ValueError, match=message):
        make_config("shb", **given)


def test_choose_lists_what_there_is():
    with pytest.raises(ValueError, match=r"Choose from: a, b\."):
        one_of("letter", "zzz", ["a", "b"])


def test_the_project_is_found_from_its_notebooks(tmp_path):
    (tmp_path / "notebooks" / "deep").mkdir(parents=True)
    (tmp_path / "pyproject.toml").touch()
    assert project_root(tmp_path / "notebooks" / "deep") == tmp_path


def test_outside_a_checkout_the_project_is_the_installed_one(tmp_path, monkeypatch, capsys):
    checkout = Path(__file__).resolve().parents[1]
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("EBC_DATA", raising=False)
    assert project_root() == checkout
    say_roots()
    assert f"Data in {checkout / 'data'}, results in {results_root()}" in capsys.readouterr().err
    monkeypatch.chdir(checkout / "tests")
    say_roots()
    assert not capsys.readouterr().err


def test_every_field_has_a_flag_that_is_explained(capsys):
    from ebclib.__main__ import main, parser

    flags = vars(parser().parse_args(["train", "shb"]))
    assert {field.name for field in dataclasses.fields(Config)} <= {*flags}
    assert list(explanations()) == list(FIELDS)
    with pytest.raises(SystemExit):
        main(["train", "--help"])
    said = " ".join(capsys.readouterr().out.split())
    for name, explanation in explanations().items():
        if name not in ("dataset", "recipe"):
            assert f"--{name.replace('_', '-')} " in said and explanation in said


def test_a_test_split_without_points_is_told_before_a_training(tmp_path, monkeypatch):
    monkeypatch.setenv("EBC_DATA", str(tmp_path))
    for split in ("train", "test"):
        (tmp_path / "birds" / split).mkdir(parents=True)
        Image.new("RGB", (64, 64)).save(tmp_path / "birds" / split / f"{split}.png")
    (tmp_path / "birds" / "train" / "points.csv").write_text("image,x,y\ntrain.png,3,4\n")
    with pytest.raises(ValueError, match="test"):
        check_inputs(make_config("birds"))


def test_missing_inputs_are_told_before_libraries_are_loaded(tmp_path):
    """Before torch, timm and transformers, which take seconds."""
    calls = {
        "make_config('shb')": "ShanghaiTech",
        "make_config('synthetic', pretrained='/no/file.pt')": "no such file",
        "make_config('synthetic')": "pip install -e '.[offline]'",
    }
    script = """
import importlib.util, sys
from ebclib import config
from ebclib.config import check_inputs, make_config
config.find_spec = lambda name: None
for call in sys.argv[1:]:
    try:
        check_inputs(eval(call))
    except FileNotFoundError as problem:
        print(problem, end="\\0")
heavy = {"torch", "timm", "open_clip", "transformers", "pandas"} & set(sys.modules)
if heavy:
    raise RuntimeError(f"loaded {sorted(heavy)}")
"""
    environment = {**os.environ, "EBC_DATA": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", script, *calls], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    for said, expected in zip(done.stdout.split("\0"), calls.values(), strict=False):
        assert expected in said


def test_of_many_names_an_error_lists_the_nearest():
    runs = [f"shb-clip_lite-text-paper-seed{k}" for k in range(70)]
    with pytest.raises(ValueError) as problem:
        one_of("run", "shb-clip_lite-text-paper-seed70", runs)
    assert "Did you mean 'shb-clip" in str(problem.value) and "from 70" in str(problem.value)
    assert len(str(problem.value)) < 300


def test_head_crop_and_representatives_follow_from_the_model_and_the_bins():
    assert (make_config("shb").head, make_config("shb").crop_px) == ("text", 448)
    csrnet = make_config("shb", model="csrnet")
    assert csrnet.head == "linear" and csrnet.name == "shb-csrnet-linear-paper-seed0"
    vit = make_config("shb", model="clip_vit_b_16")
    assert (vit.head, vit.crop_px, vit.name) == ("text", 224, "shb-clip_vit_b_16-text-paper-seed0")
    assert make_config("shb", bins="interval").representatives == "middle"
    zip_ = make_config("shb", loss="zip")
    assert (zip_.head, zip_.count_loss) == ("linear", "multiscale")
    weights = make_config("shb", pretrained="/a/b/own.safetensors", model="timm:resnet18")
    assert re.fullmatch("shb-timm_resnet18-linear-paper-[0-9a-f]{6}-seed0", weights.name)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"model": "clip_rn5"}, "Did you mean 'clip_rn50'"),
        ({"model": "csrnet", "head": "text"}, "csrnet has no text tower"),
        ({"bins": "interval", "representatives": "windows"}, "interval bins take middle"),
        ({"count_loss": "mse"}, "regression"),
        ({"loss": "zip", "head": "text"}, "leave head 'text' .* out"),
        ({"loss": "zip", "bins": "interval"}, "bins 'interval' out"),
        ({"loss": "zap"}, "Did you mean 'zip'"),
        ({"intervals": 5}, "fine bins have none"),
        ({"max_count": 0}, "max_count is 0; the least allowed is 1"),
        ({"residual_block": "maybe"}, "True or False"),
        ({"residual_block": True, "model": "csrnet"}, "without decoder"),
        ({"prompt_tokens": 0}, "least allowed is 1"),
        ({"smoothing_px": 0}, "must be above 0"),
    ],
)
def test_parameters_that_do_not_go_together_are_refused(given, message):
    with pytest.raises(ValueError, match=message):
        make_config("shb", **given)
