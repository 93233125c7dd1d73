"""One launch at a time writes a run: another waits for it, and finds what it left."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from types import SimpleNamespace

import pytest

from ebclib import training
from ebclib.config import make_config, results_root
from ebclib.runs import Run
from ebclib.training import run_lock, running

SMALL = {"crop_px": 64, "batch_size": 4, "epochs": 1, "evaluate_every": 1, "precision": "fp32"}
SMALL |= {"model": "mobilenetv2", "pretrained": "none"}
ALONE = SimpleNamespace(is_main_process=True, wait_for_everyone=lambda: None)


@pytest.fixture
def config(drawn, monkeypatch):
    monkeypatch.setenv("EBC_DATA", str(drawn))
    return make_config("drawn", "two_cores_20min", **SMALL, name="small")


def test_a_second_launch_waits_until_the_first_has_ended(tmp_path, capsys):
    run, order = Run(tmp_path / "runs" / "a"), []

    def second():
        with run_lock(run, ALONE, progress=True):
            order.append("second")

    with run_lock(run, ALONE), run_lock(Run(tmp_path / "runs" / "b"), ALONE):
        waiting = threading.Thread(target=second)
        waiting.start()
        waiting.join(timeout=0.3)
        assert waiting.is_alive(), "it waits for this run, and not for another one"
        order.append("first")
    waiting.join(timeout=10)
    assert order == ["first", "second"]
    assert "Another process writes run 'a'" in capsys.readouterr().err
    assert not run.path.exists(), "the lock lies beside the folder, which a new run replaces"


def test_an_error_lets_go_of_the_run(tmp_path):
    run = Run(tmp_path / "a")
    with pytest.raises(RuntimeError), run_lock(run, ALONE):
        raise RuntimeError
    with run_lock(run, ALONE):
        pass


def test_the_other_processes_of_a_launch_share_the_lock_and_wait_for_the_first(tmp_path):
    run, waits = Run(tmp_path / "a"), []
    other = SimpleNamespace(is_main_process=False, wait_for_everyone=lambda: waits.append(1))
    with run_lock(run, ALONE), run_lock(run, other), run_lock(run, other):
        assert len(waits) == 2


def refuse(*_):
    raise AssertionError("it is trained already")


def test_what_is_there_is_taken_and_only_what_is_missing_is_trained(config, monkeypatch):
    run = training.load_or_train(config, progress=False)
    assert run.is_finished and run.has_weights
    with monkeypatch.context() as patch:
        patch.setattr(running, "Trainer", refuse)
        assert training.load_or_train(config, progress=False) == run
    other = make_config("drawn", "two_cores_20min", **SMALL, name="small", seed=1)
    with pytest.raises(ValueError, match=r"seed was 0, now 1.*another name"):
        training.load_or_train(other, progress=False)
    run.weights.unlink()
    with pytest.raises(
        FileNotFoundError, match=r"training\.load_or_train\(open_run\('small'\)\.config\)"
    ):
        _ = run.weights
    before = run.predictions["count"]
    assert training.load_or_train(config, progress=False).has_weights
    assert run.predictions["count"].tolist() == pytest.approx(before.tolist(), rel=1e-4)


ASK = """
import json, sys
from ebclib import training
from ebclib.config import make_config
training.load_or_train(make_config("drawn", "two_cores_20min", **json.loads(sys.argv[1])), progress=False)
"""


def test_two_processes_that_ask_at_once_train_once(config, monkeypatch, capsys):
    """The other one has the run; this one may not train, and gets it finished."""
    given = SMALL | {"epochs": 3, "name": "asked"}
    asked = make_config("drawn", "two_cores_20min", **given)
    run = Run(results_root() / "runs" / "asked")
    process = subprocess.Popen([sys.executable, "-c", ASK, json.dumps(given)])
    deadline = time.monotonic() + 120
    while not (run.path / "config.json").is_file():
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.01)
    assert not run.is_finished
    monkeypatch.setattr(running, "Trainer", refuse)
    found = training.load_or_train(asked)
    assert found.is_finished and found.has_weights and len(found.history) == 3
    assert "Another process writes run" in capsys.readouterr().err
    assert process.wait(timeout=60) == 0
