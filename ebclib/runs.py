"""What a run leaves behind, and reading it back.

A run is a folder `results/runs/<name>/`; every table and figure is made from its files:

    config.json        every parameter
    metrics.json       MAE, RMSE, images, split, duration
    history.csv        a row an epoch
    predictions.csv    image, points, count, lower, upper
    positions.csv      image, distance_px, and points found right (tp), wrong (fp) and people missed (fn)
    provenance.json    commit, versions, device, processes, hash of the data
    model.safetensors  the weights (not committed)
    checkpoint/        what `--resume` reads; removed when the run is done
    nonfinite/         batches whose loss was no finite number, if any (not committed)

Beside it, `<name>.lock` keeps two launches from writing one run at a time (not committed, empty).
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import platform
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ebclib import __version__
from ebclib.config import Config, one_of, results_root

if TYPE_CHECKING:
    import pandas as pd  # loaded where a table is read: missing data are told before


@dataclass(frozen=True)
class Run:
    """A run's folder. Reading a part that is not there yet raises FileNotFoundError and says so."""

    path: Path

    @property
    def name(self) -> str:
        """The folder's name."""
        return self.path.name

    @property
    def config(self) -> Config:
        """Every parameter it was trained with."""
        return Config.from_dict(self._json("config.json"))

    @property
    def metrics(self) -> dict[str, Any]:
        """Its numbers on the reported split (`evaluation.summarise`), and how long it was trained."""
        return self._json("metrics.json")

    @property
    def provenance(self) -> dict[str, Any]:
        """Where the numbers come from (`provenance`)."""
        return self._json("provenance.json")

    @property
    def history(self) -> pd.DataFrame:
        """A row an epoch: learning rate, loss and its parts, validation errors where measured, seconds."""
        return self._table("history.csv")

    @property
    def predictions(self) -> pd.DataFrame:
        """One row per image: image, points, count, lower, upper."""
        return self._table("predictions.csv", dtype={"image": str})

    @property
    def weights(self) -> Path:
        """The file of the selected weights."""
        return self._file("model.safetensors")

    @property
    def checkpoint(self) -> Path:
        """Where the state to resume from is kept; it need not exist."""
        return self.path / "checkpoint" / "state.pt"

    @property
    def is_finished(self) -> bool:
        """Whether it was trained and evaluated to the end."""
        return (self.path / "metrics.json").is_file()

    @property
    def has_weights(self) -> bool:
        """Whether its weights are here: they are not committed."""
        return (self.path / "model.safetensors").is_file()

    @property
    def holds_training(self) -> bool:
        """Whether removing it would lose a result: metrics, weights, or epochs to resume from."""
        return self.is_finished or self.has_weights or self.checkpoint.is_file()

    def _file(self, name: str) -> Path:
        path = self.path / name
        if not path.is_file():
            raise FileNotFoundError(
                f"Run {self.name!r} has no {name} ({path}). Weights are not committed and an unfinished "
                "run has no metrics: train it, or continue it with --resume; from Python, "
                f"training.load_or_train(open_run({self.name!r}).config) does what is needed."
            )
        return path

    def _json(self, name: str) -> dict[str, Any]:
        return json.loads(self._file(name).read_text())

    def _table(self, name: str, **options: Any) -> pd.DataFrame:
        import pandas as pd

        return pd.read_csv(self._file(name), **options)


def open_run(name: str | Path) -> Run:
    """A run by its name in `results/runs`, or by its folder.

    Raises
    ------
    FileNotFoundError : no run there; the nearest name is given
    """
    path = Path(name)
    if (path / "config.json").is_file():
        return Run(path)
    root = results_root() / "runs"
    if not (root / name / "config.json").is_file():
        try:
            one_of("run", str(name), [run.name for run in all_runs()])
        except ValueError as unknown:
            raise FileNotFoundError(f"{unknown} (Runs are looked for in {root}.)") from None
    return Run(root / name)


def all_runs(root: Path | None = None) -> list[Run]:
    """Every run below ``root`` (default: `results/runs`), finished or not, by name."""
    paths = sorted((root or results_root() / "runs").glob("*/config.json"))
    return [Run(path.parent) for path in paths if not path.parent.name.startswith(".")]


def successor(run: Run) -> Run:
    """Where the run is trained that will take ``run``'s place: a hidden folder beside it."""
    return Run(run.path.with_name(f".next-{run.name}"))


def put_in_place(run: Run) -> None:
    """Let `successor` take the place of ``run``, which is removed.

    At any moment one of the two is whole; `recover` mends what a crash in between leaves.
    """
    former = run.path.with_name(f".former-{run.name}")
    remove_run(former)
    run.path.rename(former)
    successor(run).path.rename(run.path)
    remove_run(former)


def recover(run: Run) -> None:
    """Put a run back that `put_in_place` had moved away when it was killed."""
    former = run.path.with_name(f".former-{run.name}")
    if former.is_dir() and not run.path.exists():
        former.rename(run.path)


def remove_run(path: Path) -> None:
    """Remove a run's folder, if there is one; a folder that holds none is left alone.

    Raises
    ------
    ValueError : the folder has files but no config.json, so that it is no run
    """
    if path.is_dir() and any(path.iterdir()) and not (path / "config.json").is_file():
        raise ValueError(
            f"{path} holds files but no run (it has no config.json), so nothing there is removed. "
            "Give the run another name, or move the folder away."
        )
    if path.is_symlink():
        path.unlink()
    elif path.exists():
        shutil.rmtree(path)


def write_whole(path: Path, write: Callable[[Path], object]) -> None:
    """Let ``write`` fill a temporary file beside ``path``, then put it in place in one step.

    After a crash at any moment ``path`` holds the old content or the new, never a part.

    Raises
    ------
    OSError : it cannot be written; ``path`` is named
    """
    refuse_folder(path)
    part = path.with_name(f"{path.name}.{os.getpid()}.part")  # two processes may write one table
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write(part)
        with part.open("rb") as file:
            os.fsync(file.fileno())
        part.replace(path)
    except BaseException as problem:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)
        if isinstance(problem, OSError) and problem.errno is not None:
            raise OSError(problem.errno, problem.strerror, str(path)) from problem
        raise


def refuse_folder(path: Path) -> None:
    """See that a file can be called so, before the work that fills it.

    Raises
    ------
    IsADirectoryError : ``path`` is a folder
    """
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a folder; give the name of a file to write in it.")


def write_json(path: Path, values: dict[str, Any]) -> None:
    """Readable JSON, written whole."""
    write_whole(path, lambda part: part.write_text(json.dumps(values, indent=2) + "\n"))


def write_csv(path: Path, frame: pd.DataFrame, digits: int = 6) -> None:
    """A CSV of ``digits`` significant digits, written whole."""
    write_whole(path, lambda part: frame.to_csv(part, index=False, float_format=f"%.{digits}g"))


def provenance(precision: str, data_digest: str) -> dict[str, Any]:
    """Where a run's numbers will come from, asked as it begins: commit, code, versions, device, data.

    Parameters
    ----------
    precision : fp32, bf16 or fp16
    data_digest : sha256 of the training split (`PreparedSplit.digest`)
    """
    import torch

    packages = ("torch", "torchvision", "open_clip_torch", "timm", "accelerate", "numpy")
    versions = {"python": platform.python_version(), "ebclib": __version__}
    return {
        "commit": _git("rev-parse", "HEAD"),
        "uncommitted_changes": bool(
            _git("status", "--porcelain", "--untracked-files=no", "--", "ebclib")
        ),
        "versions": versions | {package: version(package) for package in packages},
        "code_digest": code_digest(),
        "device": device_name(),
        "threads": torch.get_num_threads(),
        "precision": precision,
        "data_sha256": data_digest,
    }


def device_name(kind: str | None = None) -> str:
    """The name of the GPU ("cuda") or processor ("cpu"); None: the GPU's if there is one."""
    import torch

    kind = kind or ("cuda" if torch.cuda.is_available() else "cpu")
    return torch.cuda.get_device_name() if kind == "cuda" else _processor()


def code_digest() -> str:
    """A hash of the library's source, 16 hex digits: the same code, the same digest."""
    root = Path(__file__).parent
    digest = hashlib.sha256()
    for path in sorted(root.rglob("*.py")):
        digest.update(path.relative_to(root).as_posix().encode() + path.read_bytes())
    return digest.hexdigest()[:16]


def _git(*words: str) -> str | None:
    """What git says of the folder this package lies in; None where it is no checkout."""
    try:
        root, options = Path(__file__).parent.parent, {"capture_output": True, "text": True}
        done = subprocess.run(["git", *words], cwd=root, timeout=10, **options)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names and names[0] else platform.processor() or platform.machine()
