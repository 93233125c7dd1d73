"""What every test has: its own places to write to, no network, real data where there is any."""

from __future__ import annotations

import os
import shutil
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from IPython.core.interactiveshell import InteractiveShell
from IPython.utils.capture import capture_output
from papermill.iorw import load_notebook_node
from papermill.parameterize import parameterize_notebook
from PIL import Image

from ebclib.config import data_root, make_config, project_root, results_root
from ebclib.runs import write_json
from ebclib.synthetic import SyntheticSplit

_SESSION_FOLDER = pytest.StashKey[str]()
_DEMO_RUNS = pytest.StashKey[Path]()


def pytest_configure(config: pytest.Config) -> None:
    """Set for the whole session, and so for notebooks, what `_own_places` sets for each test.

    It happens here because a notebook's kernel takes no fixture, and because the Hugging Face
    libraries read their variables when they are imported. Processes that share the tests (xdist) share
    the folder, so that notebooks train the demo's run once.
    """
    settings.register_profile("ours", deadline=None)  # a busy machine is no fault
    settings.load_profile("ours")
    os.environ["HF_HUB_OFFLINE"] = "1"
    os.environ["TRANSFORMERS_OFFLINE"] = "1"
    if not hasattr(
        config, "workerinput"
    ):  # a process of xdist has the folder of the one it is from
        folder = tempfile.mkdtemp(prefix="ebc-test-")
        os.environ["EBC_PREPARED"] = str(Path(folder, "prepared"))
        os.environ["EBC_RESULTS"] = str(Path(folder, "results"))
        _lay_out_demo_runs(Path(folder, "results", "runs"))
        config.stash[_SESSION_FOLDER] = folder
    config.stash[_DEMO_RUNS] = Path(os.environ["EBC_RESULTS"], "runs")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The notebook that trains the demo's run comes first, those that would wait for it come last."""
    place = {"04_train.ipynb": -1, "07_visualization.ipynb": 1, "08_count_your_own.ipynb": 1}
    items.sort(key=lambda item: place.get(item.path.name, 0))


def _lay_out_demo_runs(into: Path) -> None:
    """The small files of the demo's runs (`make store` packs them), which notebooks make tables of."""
    with tarfile.open(Path(__file__).parent / "data" / "demo_runs.tgz") as runs:
        runs.extractall(into, filter="data")


def pytest_unconfigure(config: pytest.Config) -> None:
    """Remove the session's folder."""
    if folder := config.stash.get(_SESSION_FOLDER, ""):
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def demo_runs(request: pytest.FixtureRequest) -> Path:
    """The folder that holds the demo's runs."""
    return request.config.stash[_DEMO_RUNS]


@pytest.fixture(autouse=True)
def _own_places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prepared data and runs of a test go to its own folders, never into the checkout."""
    monkeypatch.setenv("EBC_PREPARED", str(tmp_path / "prepared"))
    monkeypatch.setenv("EBC_RESULTS", str(tmp_path / "results"))


@pytest.fixture
def figures() -> Iterator[None]:
    """The workbook's style, and no figure left open."""
    import matplotlib.pyplot as plt

    from ebclib.plots import use_style

    use_style()
    yield
    plt.close("all")


@pytest.fixture
def shell() -> Iterator[InteractiveShell]:
    """IPython without a kernel: it keeps the cells that it ran as `In`."""
    shell = InteractiveShell.instance()
    shell.history_manager.enabled = False
    yield shell
    InteractiveShell.clear_instance()


@pytest.fixture
def run_notebook(shell: InteractiveShell, figures: None) -> Callable[..., dict[str, Any]]:
    """Run a notebook with parameters, as papermill puts them in, but without a kernel's start."""

    def run(name: str, /, **given: object) -> dict[str, Any]:
        """What the cells leave, and ``printed``: what they print."""
        notebook = load_notebook_node(str(project_root() / "notebooks" / f"{name}.ipynb"))
        printed = ""
        for cell in parameterize_notebook(notebook, given).cells:
            if cell.cell_type == "code":
                with capture_output() as said:
                    done = shell.run_cell(cell.source, store_history=True)
                done.raise_error()
                printed += said.stdout
        return shell.user_ns | {"printed": printed}

    return run


@pytest.fixture(scope="session")
def ebc_data() -> Path:
    """The folder that holds ShanghaiTech as published; a test that asks for it skips without."""
    root = data_root()
    if not (root / "ShanghaiTech").is_dir():
        pytest.skip("needs ShanghaiTech in $EBC_DATA")
    return root


@pytest.fixture(scope="session")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data root that holds `drawn`: a folder of somebody's own, 12 images to train on and 5 to test."""
    root = tmp_path_factory.mktemp("data")
    for split, images in (("train", 12), ("test", 5)):
        folder = root / "drawn" / split
        folder.mkdir(parents=True)
        lines = ["image,x,y"]
        for sample in SyntheticSplit(split, size=images):
            Image.fromarray(sample.image).save(folder / f"{sample.name}.png")
            lines += [f"{sample.name}.png,{x:.3f},{y:.3f}" for x, y in sample.points]
        (folder / "points.csv").write_text("\n".join(lines) + "\n")
    return root


@pytest.fixture
def make_run() -> Callable[..., None]:
    """Write the small files of a finished run into this test's results."""

    def write(name: str, dataset: str = "shb", mae: float = 10.0) -> None:
        folder = results_root() / "runs" / name
        write_json(folder / "config.json", make_config(dataset, name=name).to_dict())
        write_json(folder / "provenance.json", {"device": "a processor"})
        metrics = {"mae": mae, "rmse": 12.0, "mean_predictor_mae": 40.0, "inside_interval": 0.9}
        length = {"images": 3, "epochs": 2, "training_minutes": 1.0}
        facts = {"dataset": dataset, "split": "test"}
        write_json(folder / "metrics.json", facts | metrics | length)

    return write
