"""The notebooks' contract, and their behaviour under papermill; nbval compares their stored outputs."""

import ast
import json
import logging
import re
import shutil
import subprocess
import sys

import nbformat
import pandas as pd
import papermill
import pytest
from yaml import safe_load

from ebclib import training
from ebclib.config import make_config, project_root
from ebclib.studies import check_parameters

NOTEBOOKS = sorted((project_root() / "notebooks").glob("[0-9][0-9]_*.ipynb"))
each = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def code(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def test_there_are_notebooks():
    assert NOTEBOOKS


@each
def test_a_notebook_opens_as_the_contract_says(path):
    notebook = nbformat.read(path, as_version=4)
    first, imports = notebook.cells[0], notebook.cells[1]
    assert first.source.startswith(f"# {path.stem[:2]} · ")
    for row in ("Question", "Paper item", "Inputs", "Outputs", "Time at default"):
        assert f"**{row}**" in first.source
    assert imports.source.startswith(("import ", "from "))
    tagged = [k for k, c in enumerate(notebook.cells) if "parameters" in c.metadata.get("tags", [])]
    assert tagged == [2]
    for line in notebook.cells[2].source.splitlines():
        assert "#" in line, f"no allowed values: {line}"
    assert "check_parameters" in notebook.cells[3].source
    loads = re.findall(
        r"^(?:import|from) (\w+)", "\n".join(c.source for c in notebook.cells[1:4]), re.M
    )
    assert set(loads) - sys.stdlib_module_names == {"ebclib"}, (
        "a mistyped parameter is told before anything large is loaded"
    )
    assert "assert" in notebook.cells[-1].source


@each
def test_a_notebook_is_stored_run_and_without_stderr(path):
    notebook = nbformat.read(path, as_version=4)
    assert [c.execution_count for c in code(notebook)] == list(range(1, len(code(notebook)) + 1))
    outputs = [out for cell in code(notebook) for out in cell.outputs]
    assert not [out for out in outputs if out.get("name") == "stderr" or out.output_type == "error"]
    bars = [out for out in outputs if re.search(r"\d+%\|", str(out.get("data", "")))]
    assert not bars, "stored while it drew or trained: store it again"
    assert any("image/png" in out.get("data", {}) for out in outputs)


@each
def test_cells_hold_one_idea_and_no_place_of_somebody_s(path):
    for cell in code(nbformat.read(path, as_version=4)):
        is_list = "parameters" in cell.metadata.get("tags", [])
        assert is_list or len(cell.source.splitlines()) <= 20
    text = path.read_text()
    assert not re.search(r"""[\s"'(](/home|/tmp|/Users)/""", text)


def test_a_mistyped_parameter_is_an_error_that_names_the_nearest(tmp_path):
    notebook = project_root() / "notebooks" / "04_train.ipynb"
    with pytest.raises(papermill.PapermillExecutionError, match="Did you mean 'dataset'"):
        papermill.execute_notebook(
            notebook, tmp_path / "out.ipynb", {"datset": "qnrf"}, progress_bar=False, cwd=tmp_path
        )


def test_a_missing_data_set_stops_the_notebook_at_once(tmp_path, monkeypatch):
    monkeypatch.setenv("EBC_DATA", str(tmp_path))
    out = tmp_path / "out.ipynb"
    words = [
        sys.executable,
        "-m",
        "papermill",
        str(project_root() / "notebooks" / "04_train.ipynb"),
    ]
    done = subprocess.run(
        [*words, str(out), "-p", "dataset", "qnrf"], capture_output=True, text=True
    )
    assert done.returncode != 0
    for part in ("UCF-QNRF", "is not there", "crcv.ucf.edu", "UCF-QNRF_ECCV18", "EBC_DATA"):
        assert part in done.stderr


def test_notebook_04_trains_on_somebody_s_own_folder(drawn, tmp_path, monkeypatch, run_notebook):
    """Other parameters than the stored ones: another data set, the linear head, larger blocks."""
    monkeypatch.setenv("EBC_DATA", str(drawn))
    given = {
        "dataset": "drawn",
        "recipe": "two_cores_20min",
        "head": "linear",
        "block_size_px": 16,
        "epochs": 1,
        "name": "own",
        "overrides": {"crop_px": 64},
    }
    run_notebook("04_train", **given)
    metrics = json.loads((tmp_path / "results" / "runs" / "own" / "metrics.json").read_text())
    assert metrics["dataset"] == "drawn" and metrics["images"] == 5
    assert len(metrics["representatives"]) == 17
    assert (tmp_path / "results" / "figures" / "drawn" / "04_maps_own.png").is_file()


def test_notebook_01_at_another_block_size(drawn, tmp_path, monkeypatch):
    monkeypatch.setenv("EBC_DATA", str(drawn))
    papermill.execute_notebook(
        project_root() / "notebooks" / "01_count_distribution.ipynb",
        tmp_path / "out.ipynb",
        {"dataset": "drawn", "block_size_px": 16},
        progress_bar=False,
    )
    assert (tmp_path / "results" / "tables" / "01_block_counts_drawn.csv").is_file()


def test_notebook_02_on_larger_blocks_and_other_objects(drawn, tmp_path, monkeypatch, run_notebook):
    monkeypatch.setenv("EBC_DATA", str(drawn))
    run_notebook(
        "02_bin_design",
        dataset="drawn",
        block_size_px=32,
        min_blocks=20,
        noun="bird",
        plural="birds",
    )
    table = pd.read_csv(tmp_path / "results" / "tables" / "02_bins_drawn.csv", index_col="bins")
    assert table.loc[["fine", "dynamic", "coarse"], "classes"].tolist() == [65, 49, 33]
    assert table.loc["suggested", "below 20 blocks"] == 0
    figures = tmp_path / "results" / "figures" / "drawn"
    assert {path.name for path in figures.glob("02_*.png")} == {
        f"02_{name}.png" for name in ("class_sizes", "bias", "maps_overannotated")
    }


@each
def test_a_notebook_s_first_cells_run_twice_in_one_kernel(path, shell):
    """Between the two runs the rest of the notebook has left its variables there."""
    first, *rest = cells = [cell.source for cell in code(nbformat.read(path, as_version=4))]
    beginning = [first, *rest[: next(k for k, c in enumerate(rest) if "check_parameters" in c) + 1]]
    for cell in beginning:
        shell.run_cell(cell, store_history=True).raise_error()
    for node in ast.walk(ast.parse("\n".join(cells[len(beginning) :]))):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            shell.user_ns.setdefault(node.id, 1)
    for cell in beginning:
        again = shell.run_cell(cell, store_history=True)
        assert again.success, again.error_in_exec


def test_a_name_that_papermill_injects_or_somebody_writes_is_checked(shell):
    check = "check_parameters(globals(), ['dataset', 'epochs'])"
    shell.user_ns |= {"check_parameters": check_parameters, "singular": "car"}
    for cells in (['dataset = "shb"', "# Parameters\nepoch = 1"], ['epoch = 1\ndataset = "shb"']):
        for cell in cells:
            shell.run_cell(cell, store_history=True)
        with pytest.raises(ValueError, match="Did you mean 'epochs'"):
            shell.run_cell(check, store_history=True, silent=False).raise_error()
    shell.run_cell("epochs = float('inf')", store_history=True)
    assert shell.run_cell(check, store_history=True).result["dataset"] == "shb"


@each
def test_papermill_infers_every_parameter(path, caplog):
    """Of a line with a second "=" it says "Unable to parse", and takes the parameter for unknown."""
    (cell,) = [
        c
        for c in nbformat.read(path, as_version=4).cells
        if "parameters" in c.metadata.get("tags", [])
    ]
    assigned = [line.targets[0].id for line in ast.parse(cell.source).body]
    with caplog.at_level(logging.WARNING, logger="papermill"):
        inferred = papermill.inspect_notebook(path)
    assert list(inferred) == assigned and not caplog.records
    assert all(parameter["help"] for parameter in inferred.values())


def test_the_experiments_give_notebooks_parameters_that_they_have():
    given = {
        (notebook, name)
        for path in (project_root() / "notebooks" / "params").glob("*.yaml")
        for notebook, values in (safe_load(path.read_text()).get("notebooks") or {}).items()
        for name in values
    }
    known = {
        (path.stem, name) for path in NOTEBOOKS for name in papermill.inspect_notebook(str(path))
    }
    assert given and given <= known


def test_notebook_03_with_another_model_and_other_things_to_count(tmp_path, run_notebook):
    given = {
        "model": "clip_vit_b_32",
        "baseline": "dmcount",
        "block_size_px": 16,
        "policy": "dynamic",
        "numerals": "digits",
        "noun": "goose",
        "plural": "geese",
        "side_px": 224,
    }
    made = run_notebook("03_models", **given)
    assert "There are 3 geese." in made["printed"]
    assert (tmp_path / "results" / "figures" / "models" / "03_clip_ebc.png").is_file()


def test_notebook_07_with_a_regression_model_beside_a_classifier(
    drawn, tmp_path, monkeypatch, run_notebook
):
    """A run of somebody's own data on larger blocks; the one beside it has other bins."""
    monkeypatch.setenv("EBC_DATA", str(drawn))
    small = {"model": "mobilenetv2", "pretrained": "none", "block_size_px": 16, "crop_px": 64}
    small |= {"epochs": 1, "precision": "fp32"}
    for name, head, loss in (("own", "regression", "mse"), ("other", "linear", "l1")):
        given = small | {"head": head, "count_loss": loss, "name": name}
        training.train(make_config("drawn", "two_cores_20min", **given), progress=False)
    made = run_notebook(
        "07_visualization", run="own", other_run="other", images=3, groups=2, doubts=5
    )
    assert "has no bins" in made["printed"]
    table = pd.read_csv(tmp_path / "results" / "tables" / "07_errors_own.csv")
    assert set(table["by"]) == {
        "people",
        "annotations",
        "suspect_annotations",
        "block",
        "spacing",
        "window",
    }
    metrics = json.loads((tmp_path / "results" / "runs" / "own" / "metrics.json").read_text())
    whole = table.query("by == 'window' and quantity == 'error'")["value"].iloc[-1]
    assert whole == pytest.approx(metrics["mae"], rel=1e-2)
    every = table.query("group == 'all' and quantity == 'mae'")["value"].item()
    assert every == pytest.approx(metrics["mae"])
    figures = tmp_path / "results" / "figures" / "drawn"
    assert {path.stem for path in figures.glob("07_*.png")} == {
        "07_maps_own",
        "07_people_own",
        "07_blocks_own",
    }


def test_notebook_09_with_another_model_and_small_crops(tmp_path, run_notebook):
    given = {
        "model": "mobilenetv2",
        "side_px": 64,
        "batch_size": 2,
        "steps": 1,
        "people": 20,
        "images": 4,
        "most_people": 10,
        "compared_people": [20],
        "compared_batch": 1,
        "device": "cpu",
        "record": "here",
    }
    run_notebook("09_performance", **given)
    tables, figures = (tmp_path / "results" / each for each in ("tables", "figures"))
    table = pd.read_csv(tables / "performance" / "here" / "09_step_mobilenetv2.csv")
    assert table["share"].sum() == pytest.approx(1, abs=1e-3)
    assert (figures / "performance" / "here" / "09_crops.png").is_file()


def test_notebook_08_counts_a_folder_with_a_broken_image_in_it(
    drawn, tmp_path, monkeypatch, run_notebook
):
    """Other parameters than the stored ones: somebody's images and run, a polygon, a place to keep."""
    monkeypatch.setenv("EBC_DATA", str(drawn))
    small = {"crop_px": 64, "batch_size": 4, "epochs": 1, "name": "own"}
    model = {"model": "mobilenetv2", "pretrained": "none"}
    training.train(make_config("drawn", "two_cores_20min", **small, **model), progress=False)
    images = tmp_path / "images"
    shutil.copytree(drawn / "drawn" / "test", images)
    (images / "letter.jpg").write_text("Dear Sir or Madam")
    ring = [[0, 0], [200, 0], [200, 200], [0, 200], [0, 0]]
    corner = {"geometry": {"type": "Polygon", "coordinates": [ring]}, "id": "corner"}
    (tmp_path / "regions.geojson").write_text(json.dumps({"features": [corner]}))
    given = {
        "folder": str(images),
        "run": "own",
        "regions": str(tmp_path / "regions.geojson"),
        "out": str(tmp_path / "counts"),
    }
    run_notebook("08_count_your_own", **given)
    assert len(pd.read_csv(tmp_path / "counts" / "counts.csv")) == 5
    assert pd.read_csv(tmp_path / "counts" / "failures.csv")["image"].tolist() == ["letter.jpg"]
    assert set(pd.read_csv(tmp_path / "counts" / "regions.csv")["region"]) == {"corner"}
