"""Runs in several processes: the same weights as in one, shared evaluation, and a process that is lost.

The processes are on the CPU and talk through gloo; each takes some seconds to load its libraries, so
there are two launches here and no more.
"""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from types import SimpleNamespace

import numpy as np
import psutil
import pytest
import torch
from safetensors.torch import load_file
from timm.layers import BatchNormAct2d

from ebclib import evaluation, losses, training
from ebclib.__main__ import main
from ebclib.config import make_config, results_root
from ebclib.runs import Run
from ebclib.training import devices

# A network without batch normalisation, whose statistics would be each process's own; ten steps.
OPTIONS = {
    "model": "timm:convnext_atto",
    "pretrained": "none",
    "crop_px": 64,
    "batch_size": 4,
    "epochs": 5,
    "evaluate_every": 5,
    "precision": "fp32",
}


@pytest.fixture(scope="module")
def places(drawn, tmp_path_factory):
    """Prepared data and runs that the tests of this module share."""
    root = tmp_path_factory.mktemp("devices")
    names = {"EBC_DATA": drawn, "EBC_PREPARED": root / "prepared", "EBC_RESULTS": root / "results"}
    return {name: str(path) for name, path in names.items()}


@pytest.fixture(autouse=True)
def _places(places, monkeypatch):
    for name, path in places.items():
        monkeypatch.setenv(name, path)


@pytest.fixture(scope="module")
def alone(places):
    """The run of one process that the others are compared with."""
    with pytest.MonkeyPatch.context() as patch:
        for name, path in places.items():
            patch.setenv(name, path)
        yield training.train(make_config("drawn", "two_cores_20min", **OPTIONS, name="alone"))


def start(*words):
    """Python in a process of its own, on the CPU; what it prints comes as one text."""
    environment = os.environ | {"ACCELERATE_USE_CPU": "1", "OMP_NUM_THREADS": "1"}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    return subprocess.Popen([sys.executable, *words], env=environment, **pipes)


def difference(one, other):
    """The largest difference between two runs' weights."""
    a, b = (load_file(run.weights) for run in (one, other))
    assert a.keys() == b.keys()
    return max((a[key] - b[key]).abs().max().item() for key in a)


def test_two_processes_give_the_weights_of_one(alone):
    words = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    words += ["-m", "ebclib", "train", "drawn", "--recipe", "two_cores_20min"]
    for key, value in (OPTIONS | {"name": "together"}).items():
        words += [f"--{key.replace('_', '-')}", str(value)]
    process = start(*words)
    text, _ = process.communicate(timeout=300)
    assert process.returncode == 0, text
    run = Run(results_root() / "runs" / "together")
    assert difference(alone, run) < 1e-5
    for column in ("loss", "classification", "count_loss"):
        assert np.allclose(run.history[column], alone.history[column], rtol=1e-4)
    assert run.provenance["processes"] == 2 and alone.provenance["processes"] == 1
    assert run.predictions["image"].tolist() == alone.predictions["image"].tolist()
    assert np.allclose(run.predictions["count"], alone.predictions["count"], rtol=1e-3)
    assert len(re.findall(r"drawn test, 5 images: MAE", text)) == 1, "one process speaks"
    assert "Training together" in text and text.count("Training together: 100%") >= 1


NOTEBOOK = """
import json, sys
from accelerate import notebook_launcher
from ebclib import training
from ebclib.config import make_config
config = make_config("drawn", "two_cores_20min", **json.loads(sys.argv[1]))
notebook_launcher(training.train, (config,), num_processes=2, use_port=sys.argv[2])
"""


def test_a_notebook_s_lost_process_ends_the_run_and_one_process_finishes_it(alone):
    """SIGKILL to one of two: the launcher fails, the last epoch is there, and resuming goes on."""
    config = make_config("drawn", "two_cores_20min", **OPTIONS, name="lost")
    given = {name: getattr(config, name) for name in (*OPTIONS, "name")}
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    launcher = start("-c", NOTEBOOK, json.dumps(given), str(port))
    run = Run(results_root() / "runs" / "lost")
    deadline = time.monotonic() + 200
    while not (run.path / "history.csv").is_file():
        assert launcher.poll() is None and time.monotonic() < deadline, launcher.communicate()[0]
        time.sleep(0.01)
    _, second = sorted(child.pid for child in psutil.Process(launcher.pid).children())
    os.kill(second, signal.SIGKILL)
    text, _ = launcher.communicate(timeout=120)
    assert launcher.returncode != 0
    # whichever is noticed first: the lost process, or the other one's lost connection
    assert "SIGKILL" in text or "Another process of run 'lost' was lost" in text, text
    assert not run.is_finished and 0 < len(run.history) < OPTIONS["epochs"]
    resumed = training.train(config, resume=True, progress=False)
    assert resumed.history["epoch"].tolist() == [1, 2, 3, 4, 5]
    assert difference(alone, resumed) < 1e-5
    assert resumed.metrics["mae"] == pytest.approx(alone.metrics["mae"], rel=1e-3)


def test_the_gradient_of_the_batch_is_the_mean_of_its_shares_whoever_is_in_them():
    """What averaging over processes rests on, with everybody in one half of the batch."""
    generator = torch.Generator().manual_seed(0)
    points = [torch.rand(n, 2, generator=generator) * 32 for n in (7, 12, 0, 1)]
    counts = torch.zeros(4, 4, 4, dtype=torch.long)
    for image, some in zip(counts, points, strict=True):
        for x, y in (some // 8).long():
            image[y, x] += 1
    start = torch.randn(4, 3, 4, 4, generator=generator)
    values = torch.tensor([0.0, 1.0, 2.5]).view(-1, 1, 1)

    def gradient(some):
        logits = start[some].clone().requires_grad_()
        density = (logits.softmax(1) * values).sum(1, keepdim=True)
        kind = losses.CountLoss("dmcount", 8)
        classes, own = counts[some].clamp(max=2), [points[i] for i in range(4)[some]]
        loss = losses.dace(logits, density, classes, counts[some], 1.0, kind, own).total
        return loss.detach(), torch.autograd.grad(loss, logits)[0]

    whole, halves = gradient(slice(0, 4)), [gradient(slice(0, 2)), gradient(slice(2, 4))]
    assert whole[0] == pytest.approx(((halves[0][0] + halves[1][0]) / 2).item(), rel=1e-5)
    assert torch.allclose(whole[1], torch.cat([half[1] for half in halves]) / 2, atol=1e-6)


@pytest.mark.parametrize("count", [1, 2, 3, 7])
def test_processes_share_images_in_order_and_each_exactly_once(count, monkeypatch):
    """Five images, also among more processes than there are images."""

    class Network(torch.nn.Module):
        representatives = torch.zeros(1)

    maps = SimpleNamespace(density=torch.ones(2), variance=torch.ones(2))
    monkeypatch.setattr(evaluation, "predict_map", lambda *_: maps)
    image = np.zeros((8, 8, 3), np.uint8)
    split = [
        SimpleNamespace(name=name, points=[0] * i, image=image) for i, name in enumerate("abcde")
    ]
    states = [SimpleNamespace(process_index=i, num_processes=count) for i in range(count)]
    rows = []
    monkeypatch.setattr(evaluation, "gather_object", lambda own: rows.extend(own) or own)
    for state in states:
        evaluation.predict(Network(), split, [4, 0, 2, 1, 3], state=state)
    assert len(rows) == 5
    monkeypatch.setattr(evaluation, "gather_object", lambda own: rows)
    for state in states:
        found = evaluation.predict(Network(), split, [4, 0, 2, 1, 3], state=state)
        assert found["image"].tolist() == list("eacbd") and found["points"].tolist() == [
            4,
            0,
            2,
            1,
            3,
        ]


def test_a_batch_that_cannot_be_shared_says_what_to_do():
    config = make_config("shb", batch_size=8)
    devices.check_shares(config, 100, 4)
    devices.check_shares(config, 5, 1)
    with pytest.raises(ValueError, match=r"give a multiple of 3"):
        devices.check_shares(config, 100, 3)
    with pytest.raises(ValueError, match="give at most 4, or start one process"):
        devices.check_shares(config, 5, 2)


def test_several_cpu_processes_of_accelerate_launch_would_be_one(monkeypatch, capsys):
    """`accelerate launch --cpu --num_processes 2` starts one process; that is said, not hidden."""
    monkeypatch.setenv("ACCELERATE_USE_CPU", "True")
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
    assert main(["train", "drawn"]) == 1
    assert "torchrun --nproc-per-node" in capsys.readouterr().err


def test_batch_statistics_are_shared_on_gpus_and_said_not_to_be_on_cpus():
    """timm's norms, which have their activation inside, keep it."""
    config = make_config("shb")

    def found(device, count, *layers):
        state = SimpleNamespace(
            num_processes=count, device=torch.device(device), is_main_process=True
        )
        return devices.with_shared_statistics(torch.nn.Sequential(*layers), config, state)

    (shared,) = found("cuda", 2, BatchNormAct2d(1))
    assert isinstance(shared, torch.nn.SyncBatchNorm) and isinstance(shared.act, torch.nn.ReLU)
    (own,) = found("cuda", 1, BatchNormAct2d(1))
    assert not isinstance(own, torch.nn.SyncBatchNorm)
    with pytest.warns(UserWarning, match="each process's own share"):
        found("cpu", 2, torch.nn.BatchNorm2d(1))
    found("cpu", 2, torch.nn.LayerNorm(1))
