"""Many files into a folder of counts and maps: what is done stays done, what fails is listed."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

import pandas as pd
from tqdm.auto import tqdm

from ..datasets.sample import file_stamp
from ..runs import Run, write_csv, write_json, write_whole
from .counting import Counter, weights_of
from .regions import count_regions, read_regions, regions_geojson
from .result import Count, result_row, rows_frame
from .sources import Failure, Item, pictures_below

JOURNAL = "journal.jsonl"
"""What has been counted, a picture a line; `count_files` goes on from it."""


@dataclass(frozen=True)
class Counted:
    """What `count_files` did.

    Attributes
    ----------
    table : a row a picture, as `results_frame`; those counted before included
    regions : a row a picture and region; empty without regions
    failures : columns image, reason
    again : pictures counted now; the others were counted before
    """

    table: pd.DataFrame
    regions: pd.DataFrame
    failures: pd.DataFrame
    again: int


def count_files(
    paths: Sequence[str | Path],
    out: str | Path,
    source: str | Path | Run,
    regions: str | Path | Mapping[str, Any] | None = None,
    maps: bool = True,
    again: bool = False,
    progress: bool = True,
    precision: str | None = None,
) -> Counted:
    """Count in files and folders, and write what was found.

    Into ``out`` go `counts.csv`, `failures.csv` where there are any, `maps/<picture>.png`, with regions
    `regions.csv` and `regions/<picture>.geojson`, and a journal. Every file is written whole or not at
    all. Called again, it counts only what is new: a picture of the same path, size and time, counted by
    the same weights in the same regions and precision, is taken from the journal.

    Parameters
    ----------
    paths : picture files, and folders (with those below them)
    out : the folder to write to; pictures in it are not counted
    source : run or weights, as for `Counter`
    regions : as `regions.read_regions`
    maps : write overlays
    again : count everything again
    progress : show a progress bar
    precision : as for `Counter`

    Raises
    ------
    FileNotFoundError : a path, a run or the regions are not there, or the paths hold no picture
    ValueError : regions that make no sense
    """
    out, weights = Path(out), weights_of(source)
    polygons = read_regions(regions) if regions is not None else None
    found, failures = list_pictures(paths, out)
    key = _key(weights, polygons, precision)
    known = {} if again else _read_journal(out / JOURNAL, key)
    done = {item.name: row for item in found if (row := _kept(item, known, out, maps)) is not None}
    todo = [item for item in found if item.name not in done]
    counter = Counter(source, precision=precision) if todo else None
    bar = tqdm(total=len(found), initial=len(done), unit="picture", disable=not progress)
    with bar, _journal(out / JOURNAL, key, known) as journal:
        stamps: dict[str, str] = {}
        for outcome in counter.outcomes(_stamped(todo, stamps)) if counter else ():
            stamp = stamps.pop(outcome.name)
            if isinstance(outcome, Count):
                try:
                    row = _store(outcome, out, maps, polygons) | {"stamp": stamp}
                except OSError as problem:  # a name too long, say
                    outcome = Failure(outcome.name, outcome.source, problem)
            if isinstance(outcome, Failure):
                failures[outcome.name] = outcome.reason
            else:
                done[outcome.name] = row
                journal.write(json.dumps({"path": str(outcome.source)} | row) + "\n")
                journal.flush()
            bar.update()
    now = sum(item.name in done for item in todo)
    return _write_tables(out, [item.name for item in found], done, failures, now)


def list_pictures(paths: Iterable[str | Path], out: Path) -> tuple[list[Item], dict[str, str]]:
    """The pictures of files and folders, each once, named by their path below what all have in common.

    Parameters
    ----------
    out : a folder that is left out

    Returns
    -------
    pictures : in natural order, folder by folder
    failures : folders that cannot be listed → why

    Raises
    ------
    FileNotFoundError : a path that is not there, or no picture at all
    """
    given = [Path(os.path.abspath(path)) for path in paths]
    found: dict[Path, None] = {}
    problems: list[OSError] = []
    for path in given:
        if path.is_dir():
            found |= dict.fromkeys(pictures_below(path, out, problems))
        elif os.path.lexists(path):
            found[path] = None
        else:
            raise FileNotFoundError(f"{path} is not there: a picture or a folder is expected.")
    if not found and not problems:
        raise FileNotFoundError(f"There is no picture in {', '.join(map(str, given))}.")
    base = os.path.commonpath([path if path.is_dir() else path.parent for path in given])
    failures = {_name(Path(each.filename), base): str(each.strerror) for each in problems}
    return [Item(_name(path, base), path) for path in found], failures


def _name(path: Path, base: str) -> str:
    """What a picture is called: its path below ``base``, bytes that are no text written as \\udcff."""
    name = path.relative_to(base).as_posix()
    return name.encode("utf-8", "backslashreplace").decode()


def _stamped(given: Iterable[Item], stamps: dict[str, str]) -> Iterator[Item]:
    """The pictures as they are asked for; their stamps are taken before they are read."""
    for item in given:
        stamps[item.name] = file_stamp(item.source)
        yield item


def _store(
    result: Count, out: Path, maps: bool, polygons: Mapping[str, Any] | None
) -> dict[str, Any]:
    """Write what belongs to one picture; its row."""
    if maps:
        result.save(out / "maps")
    row = {"row": result_row(result), "regions": []}
    if polygons is not None:
        row["regions"] = count_regions(result, polygons).to_dict("records")
        name = f"{result.name}.geojson"
        write_json(out / "regions" / name, regions_geojson(result, polygons))
    return row


def _kept(
    item: Item, known: Mapping[str, dict[str, Any]], out: Path, maps: bool
) -> dict[str, Any] | None:
    """What the journal has of a picture, if it is the same picture and all its files are there."""
    row = known.get(str(item.source))
    if row is None or row["row"]["image"] != item.name or row["stamp"] != file_stamp(item.source):
        return None
    has_map = (out / "maps" / f"{item.name}.png").is_file()
    return row if has_map or not maps else None


def _key(weights: Path, polygons: Mapping[str, Any] | None, precision: str | None) -> str:
    """Changes when the weights, the regions or the precision do."""
    with weights.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256")
    digest.update((precision or "").encode())
    for name, polygon in (polygons or {}).items():
        digest.update(f"{name} {polygon.wkt}".encode())
    return digest.hexdigest()


def _read_journal(path: Path, key: str) -> dict[str, dict[str, Any]]:
    """Rows by path, of the same weights and regions; a line that was cut off is passed over."""
    rows, current = {}, None
    with suppress(FileNotFoundError):
        for line in path.read_bytes().splitlines():
            with suppress(ValueError, KeyError, TypeError):
                note = json.loads(line)
                if "key" in note:
                    current = note["key"]
                elif current == key:
                    rows[note.pop("path")] = note
    return rows


def _journal(path: Path, key: str, known: Mapping[str, dict[str, Any]]) -> TextIO:
    """The journal, open for more lines; what no longer serves is gone from it."""
    lines = [json.dumps({"key": key})]
    lines += [json.dumps({"path": name} | note) for name, note in known.items()]
    write_whole(path, lambda part: part.write_text("\n".join(lines) + "\n"))
    return path.open("a")


def _write_tables(
    out: Path,
    order: Sequence[str],
    done: Mapping[str, dict[str, Any]],
    failures: Mapping[str, str],
    again: int,
) -> Counted:
    counted = [done[name] for name in order if name in done]
    table = rows_frame(each["row"] for each in counted)
    parts = [{"image": e["row"]["image"]} | region for e in counted for region in e["regions"]]
    regions = pd.DataFrame(parts, columns=["image", "region", "count", "on_border", "area_px"])
    lost = pd.DataFrame(sorted(failures.items()), columns=["image", "reason"])
    write_csv(out / "counts.csv", table)
    for name, frame in (("regions.csv", regions), ("failures.csv", lost)):
        if len(frame):
            write_csv(out / name, frame)
        else:
            (out / name).unlink(missing_ok=True)
    return Counted(table, regions, lost, again)
