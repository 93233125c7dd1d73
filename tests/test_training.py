import dataclasses
import math
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from torch.optim.lr_scheduler import CosineAnnealingWarmRestarts

from ebclib import training
from ebclib.config import make_config
from ebclib.data.training_set import TrainingSet, count_histogram
from ebclib.models import build_model
from ebclib.training import rate_factor

SMALL = {"crop_px": 64, "batch_size": 4, "epochs": 2, "evaluate_every": 1, "precision": "fp32"}


@pytest.fixture
def config(drawn, monkeypatch):
    """Two quick epochs on twelve drawn images."""
    monkeypatch.setenv("EBC_DATA", str(drawn))
    return make_config("drawn", "two_cores_20min", **SMALL, name="small")


def test_the_rate_follows_the_paper_s_schedule():
    """Warm-up from 1e-6 over 50 epochs, restarts at 50, 55, 65, 85, 125, …, as torch has them."""
    config = make_config("shb")
    rate = [config.learning_rate * rate_factor(epoch, config) for epoch in range(400)]
    assert rate[0] == pytest.approx(1e-6)
    assert rate[25] == pytest.approx((1e-6 + 1e-4) / 2)
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([parameter], lr=1e-4)
    reference = CosineAnnealingWarmRestarts(optimizer, T_0=5, T_mult=2, eta_min=1e-7)
    for epoch in range(50, 400):
        assert rate[epoch] == pytest.approx(reference.get_last_lr()[0]), epoch
        optimizer.step()
        reference.step()
    assert [e for e in range(400) if rate[e] == pytest.approx(1e-4)] == [
        50,
        55,
        65,
        85,
        125,
        205,
        365,
    ]


def test_the_short_schedule_falls_to_a_thousandth_at_the_end():
    config = make_config("shb", "two_cores_20min", epochs=10, warmup_epochs=1)
    assert rate_factor(1, config) == 1 and rate_factor(10, config) == pytest.approx(1e-3)
    rates = [rate_factor(e, config) for e in np.linspace(1, 10, 50)]
    assert (np.diff(rates) < 0).all()
    assert rate_factor(0, make_config("shb", "two_cores_20min", warmup_epochs=0)) == 1


def test_a_run_leaves_what_the_contract_says(config):
    run = training.train(config, progress=False)
    names = {path.name for path in run.path.iterdir()}
    assert {
        "config.json",
        "metrics.json",
        "history.csv",
        "predictions.csv",
        "positions.csv",
        "provenance.json",
        "model.safetensors",
        "tensorboard",
    } == names
    assert run.config == config
    assert run.predictions.columns.tolist() == ["image", "points", "count", "lower", "upper"]
    assert len(run.predictions) == run.metrics["images"] == 5
    error = (run.predictions["points"] - run.predictions["count"]).abs().mean()
    assert run.metrics["mae"] == pytest.approx(error, rel=1e-4)
    assert run.history["epoch"].tolist() == [1, 2]
    assert {"commit", "versions", "device", "data_sha256"} <= run.provenance.keys()
    assert run.metrics["interval_factor"] is None, "two validation images promise nothing"
    again = training.train(config, resume=True, progress=False)
    assert again.metrics == run.metrics
    with pytest.raises(ValueError, match="seed was 0, now 1"):
        training.train(
            make_config("drawn", "two_cores_20min", **SMALL, name="small", seed=1), resume=True
        )


def test_the_stored_weights_are_the_ones_measured(config):
    run = training.train(config, progress=False)
    before = run.predictions
    training.evaluate(run, progress=False)
    assert np.allclose(run.predictions["count"], before["count"], rtol=1e-5)
    training.evaluate(run, split="train", progress=False)
    assert (run.path / "metrics-train.json").is_file()
    assert np.allclose(run.predictions["count"], before["count"], rtol=1e-5), "the test's stay"


def test_representatives_at_each_scale(config):
    task = TrainingSet.of(config, progress=False)
    grid = count_histogram(task.split, task.train, config)
    assert (grid * np.arange(len(grid))).sum() == task.split.counts[task.train].sum()
    by = {
        how: TrainingSet.of(
            make_config("drawn", "two_cores_20min", crop_px=224, representatives=how), False
        )
        for how in ("grid", "windows", "scaled", "middle")
    }
    assert by["middle"].representatives.tolist() == [0, 1, 2, 3, 4]
    assert by["scaled"].representatives[-1] >= 4 and by["windows"].representatives[-1] >= 4
    assert by["grid"].representatives.tolist() == task.representatives.tolist()


def test_a_loss_that_is_no_number_stops_with_advice(config):
    task = TrainingSet.of(config, progress=False)
    trainer = training.Trainer(config, task, open_or_new(config), progress=False)
    with torch.no_grad():
        trainer.network.head.project.bias.fill_(math.nan)
    with pytest.raises(FloatingPointError, match="Lower learning_rate"):
        trainer.fit()


def open_or_new(config):
    from ebclib.config import results_root
    from ebclib.runs import Run, write_json

    run = Run(results_root() / "runs" / config.name)
    write_json(run.path / "config.json", config.to_dict())
    return run


def test_killed_and_resumed_is_as_if_never_stopped(drawn, tmp_path, monkeypatch):
    """kill -9 between two epochs or inside one; then resume gives the same images the same counts."""
    monkeypatch.setenv("EBC_DATA", str(drawn))
    options = {**SMALL, "epochs": 8, "evaluate_every": 2}

    def make(name):
        return make_config("drawn", "two_cores_20min", **options, name=name)

    whole = training.train(make("whole"), progress=False)
    words = [sys.executable, "-m", "ebclib", "train", "drawn", "--recipe", "two_cores_20min"]
    for key, value in options.items():
        words += [f"--{key.replace('_', '-')}", str(value)]
    victim = subprocess.Popen([*words, "--name", "killed"], stderr=subprocess.PIPE, text=True)
    history = tmp_path / "results" / "runs" / "killed" / "history.csv"
    deadline = time.monotonic() + 120
    while not (history.is_file() and len(history.read_text().splitlines()) > 3):
        assert victim.poll() is None and time.monotonic() < deadline, (
            "finished before it was killed"
        )
        time.sleep(0.01)
    victim.send_signal(signal.SIGKILL)
    victim.communicate()
    stopped_at = len(history.read_text().splitlines()) - 1
    assert stopped_at < 8 and not (history.parent / "metrics.json").exists()

    killed = training.train(make("killed"), resume=True, progress=False)
    assert killed.history["epoch"].tolist() == list(range(1, 9))
    for column in ("loss", "held_out_mae"):
        assert np.allclose(whole.history[column], killed.history[column], rtol=1e-4, equal_nan=True)
    assert killed.metrics["mae"] == pytest.approx(whole.metrics["mae"], rel=1e-4)
    assert np.allclose(whole.predictions["count"], killed.predictions["count"], rtol=1e-3)


TINY = {"model": "timm:test_resnet", "pretrained": "none"}
OPTIONS = {
    "transport": {"count_loss": "dmcount"},
    "transport as in the formula": {"ot_weight": "formula", "cap_target": True, **TINY},
    "blockwise": {"bins": "interval", "intervals": 6, "count_weight": 0},
    "no label correction": {"max_count": "largest", "bins": "dynamic", "block_size_px": 16, **TINY},
    "regression": {"head": "regression", "count_loss": "mse", **TINY},
    "zip": {"loss": "zip", "count_loss": "multiscale", "block_size_px": 16, "max_count": 4},
    "random text": {
        "head": "random_text",
        "numerals": "digits",
        "residual_block": True,
        "block_size_px": 16,  # larger blocks are fewer: an untrained head sees people in each
        "max_count": 4,
        **TINY,
    },
}


@pytest.mark.parametrize("how", OPTIONS)
def test_every_kind_of_model_trains_and_is_loaded_again(how, config):
    """One epoch; the weights that were stored count as the run says."""
    given = {**SMALL, "epochs": 1, **OPTIONS[how], "name": "own"}
    run = training.train(make_config("drawn", "two_cores_20min", **given), progress=False)
    values = run.metrics["representatives"]
    expected = {"blockwise": 6, "regression": 0, "no label correction": None}.get(how, 5)
    assert len(values) == expected or (expected is None and len(values) > 2)
    assert run.history["loss"].notna().all()
    before = run.predictions["count"]
    training.evaluate(run, progress=False)
    assert np.allclose(before, run.predictions["count"], rtol=1e-4, atol=1e-4)
    source = "random" if "pretrained" in OPTIONS[how] else "efficientnet-lite0"
    assert run.provenance["weights"].startswith(source)


def test_the_largest_count_leaves_nobody_above_the_bins(config):
    given = {**SMALL, "max_count": "largest"}
    task = TrainingSet.of(make_config("drawn", "two_cores_20min", **given), progress=False)
    grid = count_histogram(task.split, task.train, config)
    assert task.bins.open_from == len(grid) - 1
    table = task.bin_table(config)
    assert len(table) == len(grid) and table["sentence"].iloc[1] == "There is one person."


def test_images_in_memory_train_as_those_read_do(config):
    """On a processor the crops are the same to the last bit, and so is the training."""
    losses = []
    for resident in (False, True):
        given = {**SMALL, "epochs": 1, "augmentation": "released", "resident": resident}
        made = make_config("drawn", "two_cores_20min", **given, name=f"resident{resident}")
        losses.append(training.train(made, progress=False).history["loss"].iloc[0])
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


@pytest.mark.parametrize(
    "given", [{}, {"bins": "interval"}, {"loss": "zip"}, {"head": "regression"}]
)
def test_a_head_may_start_at_what_is_usual(config, given):
    """The bias alone, before any training, says the classes' shares, or the people of a block."""
    given = {**SMALL, "model": "mobilenetv2", "pretrained": "none", "head": "linear", **given}
    made = make_config("drawn", "two_cores_20min", prior_bias=True, **given)
    task = TrainingSet.of(made, progress=False)
    bias = build_model(made, task).head.classify.bias.detach()
    blocks = sum(-(-h // 8) * -(-w // 8) for h, w in (task.split.sizes[i] for i in task.train))
    people = task.split.counts[task.train].sum()
    if made.head == "regression":
        assert bias.exp().log1p().item() == pytest.approx(people / blocks, rel=1e-4)
        return
    if made.loss == "zip":  # P* and not the bias alone
        bias = torch.cat([bias[:1], bias[1] + bias[2:].log_softmax(0)])
    shares = bias.softmax(0).numpy()
    assert len(shares) == len(task.bins) and shares[0] > 0.5
    if made.bins == "fine":
        counted = count_histogram(task.split, task.train, made)
        assert shares[0] == pytest.approx(counted[0] / blocks, rel=1e-3)
    plain = build_model(dataclasses.replace(made, prior_bias=False), task)
    assert not plain.head.classify.bias.any()
