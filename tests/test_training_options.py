"""Clipping, averaged weights, and batches whose loss is no number."""

from __future__ import annotations

import math

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from ebclib import training
from ebclib.config import make_config, results_root
from ebclib.data.training_set import TrainingSet
from ebclib.runs import Run
from ebclib.training import loop

SMALL = {"crop_px": 64, "batch_size": 4, "epochs": 2, "evaluate_every": 1, "precision": "fp32"}


@pytest.fixture(autouse=True)
def _data(drawn, monkeypatch):
    monkeypatch.setenv("EBC_DATA", str(drawn))


def configured(name="small", **given):
    return make_config("drawn", "two_cores_20min", **(SMALL | {"name": name} | given))


def trainer_of(config):
    run = Run(results_root() / "runs" / config.name)
    return training.Trainer(config, TrainingSet.of(config, progress=False), run, progress=False)


def poisoned(monkeypatch, *steps):
    """The loss of these steps, counted from 0 over the whole run, is NaN."""
    honest, calls = training.Trainer._loss, []

    def loss(self, logits, batch):
        calls.append(batch)
        found = honest(self, logits, batch)
        return found._replace(total=found.total * math.nan) if len(calls) - 1 in steps else found

    monkeypatch.setattr(training.Trainer, "_loss", loss)
    return calls


def everything(trainer):
    """Copies of all tensors that a step may change, but for the average."""
    tensors = {f"model.{k}": v for k, v in trainer.network.state_dict().items()}
    for number, values in trainer.optimizer.state_dict()["state"].items():
        tensors |= {f"{number}.{k}": v for k, v in values.items()}
    return {k: v.clone() for k, v in tensors.items()}


def test_gradients_are_clipped_to_the_norm_asked_for():
    trainer = trainer_of(configured(clip_norm=0.5))
    trainer._one_step(next(iter(trainer.loader)))
    norm = torch.nn.utils.get_total_norm([p.grad for p in trainer.trained])
    assert norm.item() == pytest.approx(0.5, rel=1e-3)


@pytest.mark.parametrize("bins", ["fine", "dynamic", "coarse"])
def test_a_capped_target_is_capped_at_m_where_the_open_bin_begins_lower_too(bins):
    given = {"model": "timm:test_efficientnet", "pretrained": "none", "bins": bins}
    for m in (8, 7):  # pairs leave no room for one of them alone
        trainer = trainer_of(configured(**given, max_count=m, cap_target=True))
        assert trainer.count_loss.max_count == m
        assert trainer.task.bins.open_from in (m - 1, m)


def test_the_average_follows_its_formula_and_is_what_is_stored():
    trainer = trainer_of(configured(ema_decay=0.9))
    first, second = [trainer.network.head.project.weight], None
    batches = list(trainer.loader)
    trainer._one_step(batches[0])
    first = trainer.network.head.project.weight.detach().clone()
    trainer._one_step(batches[1])
    second = trainer.network.head.project.weight.detach()
    average = trainer.measured.head.project.weight
    assert torch.allclose(average, 0.9 * first + 0.1 * second, atol=1e-7)
    assert not torch.equal(average, second)
    trainer._validate()
    stored = load_file(trainer.run.path / "model.safetensors")
    assert torch.equal(stored["head.project.weight"], average)


def test_resuming_equals_never_stopping_with_an_average_too(monkeypatch):
    given = {"ema_decay": 0.8, "clip_norm": 1.0, "epochs": 4, "evaluate_every": 2}
    whole = training.train(configured("whole", **given), progress=False)
    save = training.Trainer._save

    def stop(self):
        save(self)
        if self.epoch == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(training.Trainer, "_save", stop)
    with pytest.raises(KeyboardInterrupt):
        training.train(configured("parts", **given), progress=False)
    monkeypatch.setattr(training.Trainer, "_save", save)
    table = whole.path.with_name("parts") / "history.csv"  # as killed between the files of a save:
    table.write_text("".join(table.read_text().splitlines(keepends=True)[:-1]))
    parts = training.train(configured("parts", **given), resume=True, progress=False)
    assert parts.history["epoch"].tolist() == [1, 2, 3, 4]
    a, b = load_file(whole.weights), load_file(parts.weights)
    assert all(torch.allclose(a[key], b[key], atol=1e-6) for key in a)
    assert parts.metrics["mae"] == pytest.approx(whole.metrics["mae"], rel=1e-4)


def test_a_skipped_step_changes_nothing(monkeypatch):
    calls = poisoned(monkeypatch, 1)
    trainer = trainer_of(configured(on_nonfinite="skip"))
    batches = list(trainer.loader)
    _, bad = trainer._one_step(batches[0])
    before = everything(trainer)
    assert not bad
    _, bad = trainer._one_step(batches[1])
    after = everything(trainer)
    assert bad and len(calls) == 2
    changed = [k for k in before if not torch.equal(before[k], after[k])]
    assert not changed
    _, bad = trainer._one_step(batches[0])
    assert not bad and not torch.equal(everything(trainer)["0.exp_avg"], before["0.exp_avg"])


def test_a_gradient_that_is_no_number_counts_too(monkeypatch):
    trainer = trainer_of(configured(on_nonfinite="skip"))
    trainer.network.head.project.weight.register_hook(lambda gradient: gradient * math.inf)
    before = everything(trainer)
    _, bad = trainer._one_step(next(iter(trainer.loader)))
    assert bad and torch.equal(
        trainer.network.head.project.weight, before["model.head.project.weight"]
    )


def test_a_batch_without_a_finite_loss_stops_the_run_is_named_and_kept(monkeypatch):
    config = configured()
    steps = len(trainer_of(config).loader)
    calls = poisoned(monkeypatch, steps + 1)
    with pytest.raises(FloatingPointError, match=r"epoch 2, step 1, .*Lower learning_rate"):
        training.train(config, progress=False)
    run = Run(results_root() / "runs" / config.name)
    assert len(run.history) == 1 and run.checkpoint.is_file(), "the epoch before is there"
    folder = run.path / "nonfinite"
    kept = load_file(folder / "epoch0002_step00001.safetensors")
    with safe_open(folder / "epoch0002_step00001.safetensors", "pt") as file:
        names = file.metadata()["images"]
    batch = calls[steps + 1]
    assert torch.equal(kept["images"], batch.image) and torch.equal(kept["counts"], batch.counts)
    assert kept["people"].tolist() == [len(p) for p in batch.points]
    assert torch.equal(kept["points"], torch.cat(batch.points))
    assert len(names.split(", ")) == 4 and names.startswith("train_")

    # The same run goes on without such batches, if asked to.
    poisoned(monkeypatch, 1)
    with pytest.warns(UserWarning, match=names):
        done = training.train(configured(on_nonfinite="skip"), resume=True, progress=False)
    assert done.is_finished and done.config.on_nonfinite == "skip"
    assert done.history["skipped"].tolist()[-1] == 1


def test_an_epoch_without_one_finite_step_stops_in_any_case():
    trainer = trainer_of(configured(on_nonfinite="skip"))
    with torch.no_grad():
        trainer.network.head.project.bias.fill_(math.nan)
    with (
        pytest.warns(UserWarning, match="no finite number"),
        pytest.raises(FloatingPointError, match="Lower learning_rate"),
    ):
        trainer.fit()


def test_only_so_many_batches_are_kept(monkeypatch):
    monkeypatch.setattr(loop, "KEPT", 2)
    trainer = trainer_of(configured(batch_size=1, on_nonfinite="skip"))
    with pytest.warns(UserWarning, match="step 2, on crops of train_"):
        assert trainer._tell(torch.tensor([1.0, 1, 1, 0]), 3, 0) == 3
    assert len(list((trainer.run.path / "nonfinite").iterdir())) == 2


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"ema_decay": 1}, "ema_decay is 1"),
        ({"clip_norm": 0}, "clip_norm is 0"),
        ({"on_nonfinite": "go"}, "stop, skip"),
    ],
)
def test_options_out_of_range_are_named(given, message):
    with pytest.raises(ValueError, match=message):
        configured(**given)


@pytest.mark.parametrize(("keep", "kept"), [("best", 0), ("last", 1)])
def test_the_best_weights_are_kept_or_the_last(keep, kept, monkeypatch):
    given = {"model": "timm:test_efficientnet", "pretrained": "none", "head": "linear"}
    trainer, stored = trainer_of(configured(**given, keep=keep)), []
    for mae in (1.0, 2.0):
        found = {"mae": mae, "rmse": mae}
        monkeypatch.setattr("ebclib.training.loop.evaluation.errors", lambda *_, f=found: f)
        trainer._one_step(next(iter(trainer.loader)))
        trainer._validate()
        stored.append(trainer.measured.state_dict()["head.classify.weight"].clone())
    weights = load_file(trainer.run.path / "model.safetensors")["head.classify.weight"]
    assert torch.equal(weights, stored[kept]) and not torch.equal(*stored)


def test_a_model_whose_validation_is_never_a_number_says_so(monkeypatch):
    nothing = {"mae": float("nan"), "rmse": float("nan")}
    monkeypatch.setattr("ebclib.training.loop.evaluation.errors", lambda *_: nothing)
    with pytest.raises(FloatingPointError, match="no weights were kept"):
        training.train(configured("lost", epochs=1, evaluate_every=1), progress=False)


def test_a_checkpoint_is_written_where_a_validation_was(monkeypatch):
    """Not after each epoch: the paper's 2600 would write terabytes."""
    at, save = [], training.Trainer._save
    monkeypatch.setattr(training.Trainer, "_save", lambda self: (at.append(self.epoch), save(self)))
    training.train(configured("sparing", epochs=5, evaluate_every=2), progress=False)
    assert at == [2, 4, 5]
