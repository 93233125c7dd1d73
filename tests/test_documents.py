"""What stands in the root for people: links lead somewhere, and numbers are those of recorded runs."""

from __future__ import annotations

import ast
import math
import re
import subprocess
from pathlib import Path

import pandas as pd
import pytest
import yaml

import ebclib
from ebclib import evaluation
from ebclib.config import Config
from ebclib.runs import Run

ROOT = Path(__file__).resolve().parents[1]
DOCUMENTS = (
    "README.md",
    "CONTRIBUTING.md",
    "MODEL_CARD.md",
    "data/README.md",
    "data/paper/README.md",
)
LIMITS = {"up to 50": (0, 50), "51 to 100": (51, 100), "101 to 200": (101, 200)}


@pytest.mark.parametrize("name", DOCUMENTS)
def test_links_to_files_lead_to_files(name):
    path = ROOT / name
    links = re.findall(r"\]\(([^)\s]+)\)", path.read_text())
    local = [link.split("#")[0] for link in links if "://" not in link and not link.startswith("#")]
    missing = [link for link in local if not (path.parent / link).exists()]
    assert links and not missing


@pytest.mark.parametrize("name", DOCUMENTS)
def test_a_path_in_back_ticks_is_there(name):
    """`tests/test_x.py`, `ebclib/…`: what is named as a file of the repository is one."""
    named = re.findall(r"`((?:ebclib|tests|data/paper)/[\w./]+)`", (ROOT / name).read_text())
    assert not [path for path in named if not (ROOT / path).exists()]


def test_the_citation_is_a_valid_one_of_workbook_and_paper():
    """Citation File Format 1.2.0: the keys it requires, and those the paper needs to be found."""
    cff = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert cff["cff-version"] == "1.2.0" and cff["message"] and cff["title"]
    assert cff["authors"] == [{"name": "the CLIP-EBC workbook authors"}]
    assert cff["version"] == ebclib.__version__ and cff["license"] == "MIT"
    paper = cff["preferred-citation"]
    assert paper["type"] == "article" and paper["url"] == "https://arxiv.org/abs/2403.09281"
    bibtex = (ROOT / "README.md").read_text()
    names = " and ".join(f"{who['family-names']}, {who['given-names']}" for who in paper["authors"])
    for part in (names, paper["title"], paper["journal"], str(paper["year"])):
        assert part in bibtex


def test_contributing_names_things_that_exist():
    """Every capital name and `Config` field it sends people to is in the file it links there."""
    text = (ROOT / "CONTRIBUTING.md").read_text()
    sources = "\n".join(path.read_text() for path in (ROOT / "ebclib").rglob("*.py"))
    for name in re.findall(r"`([A-Z][A-Z_]+)`", text):
        assert re.search(rf"^{name}\b.*=", sources, flags=re.MULTILINE), name
    fields = set(re.findall(r"`Config\.(\w+)`", text))
    assert fields and fields <= set(Config.__dataclass_fields__)
    functions = {
        node.name
        for path in (ROOT / "ebclib").rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef)
    }
    assert {"make_decoder", "dmcount", "check_parameters", "use_style"} <= functions
    targets = set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
    assert set(re.findall(r"^make (\w+)", text, flags=re.MULTILINE)) <= targets


def card_rows() -> list[list[str]]:
    lines = (ROOT / "MODEL_CARD.md").read_text().splitlines()
    rows = [line.strip("|").split("|") for line in lines if line.startswith("| `shb-")]
    return [[part.strip(" `") for part in row] for row in rows]


def test_the_model_card_s_errors_are_made_from_predictions():
    rows = card_rows()
    assert len({row[0] for row in rows}) == 3 and len(rows) == 12
    for name, people, *printed in rows:
        table = Run(ROOT / "results" / "runs" / name).predictions
        table = table[table["points"].between(*LIMITS.get(people, (201, float("inf"))))]
        error = table["count"] - table["points"]
        inside = table["points"].between(table["lower"], table["upper"]).mean()
        mean = f"{error.mean():+.1f}".replace("-", "−")
        assert printed == [
            str(len(table)),
            f"{error.abs().mean():.1f}",
            mean,
            f"{100 * inside:.0f} %",
        ]


def test_the_model_card_s_sentences_follow_from_its_runs():
    names = sorted({row[0] for row in card_rows()})
    found = pd.DataFrame(card_rows(), columns=["run", "people", "n", "mae", "mean", "inside"])
    crowded = found[found["people"] == "above 200"]
    largest = found.groupby("run")["mae"].apply(lambda column: column.astype(float).idxmax())
    assert sorted(largest) == crowded.index.tolist()
    assert crowded["inside"].str.rstrip(" %").astype(float).lt(90).all()
    assert crowded["mean"].str.startswith("−").sum() == 2
    sparse = found[found["people"] == "up to 50"]
    assert sparse["mean"].str.startswith("+").sum() == 2
    worst = set()
    for name in names:
        table = Run(ROOT / "results" / "runs" / name).predictions.set_index("image")
        image = (table["count"] - table["points"]).abs().idxmax()
        assert table["points"].rank(ascending=False)[image] <= 10
        worst.add(image)
    assert len(worst) == 1


def test_the_model_card_s_shipped_model_is_as_its_run_says():
    """Rows of `crowd_lite`: number, MAE, RMSE, NAE, mean error, share inside the interval."""
    lines = (ROOT / "MODEL_CARD.md").read_text().splitlines()
    start = lines.index(next(line for line in lines if line.startswith("| Images | Number"))) + 2
    rows = [line.strip("| ").split(" | ") for line in lines[start : lines.index("", start)]]
    table = Run(ROOT / "results" / "runs" / "crowd_lite").predictions
    assert len(rows) == 10
    for label, *printed in rows:
        part = "sha" if label.startswith(("A,", "ShanghaiTech A")) else "shb"
        low, high = (0, math.inf) if "," not in label else crowd_of(label)
        some = table[table["image"].str.startswith(part) & table["points"].between(low, high)]
        error = some["count"] - some["points"]
        mae, rmse, nae = evaluation.errors(some["points"], some["count"]).values()
        inside = some["points"].between(some["lower"], some["upper"]).mean()
        numbers = [str(len(some)), f"{mae:.1f}", f"{rmse:.1f}", f"{100 * nae:.0f} %"]
        numbers += [f"{error.mean():+.1f}".replace("-", "−"), f"{100 * inside:.0f} %"]
        assert printed == numbers, label


def crowd_of(label: str) -> tuple[float, float]:
    """The people that a row's label speaks of: up to 100, 101 to 300, above 600."""
    numbers = [int(number) for number in re.findall(r"\d+", label)]
    if "above" in label:
        return numbers[0] + 1, math.inf
    return (0, numbers[0]) if "up to" in label else (numbers[0], numbers[1])


def errors_of(run: str) -> pd.DataFrame:
    """What notebook 07 left of a run: columns group, quantity, value, by kind of group."""
    path = ROOT / "results" / "tables" / f"07_errors_{run}.csv"
    return pd.read_csv(path, dtype={"group": str}).set_index("by")


def test_what_the_data_sets_are_said_to_have_wrong_was_measured():
    text = " ".join((ROOT / "data" / "README.md").read_text().split())
    run = "sha-clip_lite-linear-ten_minutes-5717d0-seed0"
    mae = errors_of(run).loc["annotations"].query("quantity == 'mae'")["value"]
    assert f"from {mae.iloc[0]:.1f} to {mae.iloc[1]:.1f} people (notebook 07, `{run}`)" in text
    doubtful = errors_of("shb-mobilenetv2-linear-ten_minutes-a7bfd4-seed0")
    first, second = (
        doubtful.loc["doubted"].query("quantity == 'misplaced'")[["group", "value"]].values[:2]
    )
    assert first[0] == "IMG_108"
    assert f"{100 * first[1]:.0f} % of the people annotated or predicted" in text
    assert f"{100 * second[1]:.0f} % in the next one" in text


def test_the_model_card_s_part_a_is_what_notebook_07_measured():
    card = (ROOT / "MODEL_CARD.md").read_text()
    run = re.search(r"on part A, `(sha-[^`]+)`", card).group(1)
    found = errors_of(run).loc["people"].pivot(index="group", columns="quantity", values="value")
    assert len(found) == 6
    for group, row in found.iterrows():
        bias = f"{row['bias']:+.1f}".replace("-", "−")
        start = f"| {group} | {row['images']:.0f} | {row['mae']:.1f} | {bias} | "
        assert start + f"{100 * row['inside']:.0f} % |" in card
    spacing = (
        errors_of(run).loc["spacing"].query("quantity == 'relative'").set_index("group")["value"]
    )
    assert f"closer than 8 px are missed by {-100 * spacing['0–8']:.0f} %" in " ".join(card.split())


def test_no_document_speaks_of_somebody_s_own_places():
    tracked = subprocess.run(["git", "-C", ROOT, "ls-files", "*.md", "*.cff"], capture_output=True)
    if tracked.returncode:
        pytest.skip("needs a git checkout")
    for name in tracked.stdout.decode().split():
        assert not re.search(r"(?<![\w.])/(home|tmp|work|Users)/", (ROOT / name).read_text()), name
