"""Many files into a folder of counts, maps and points: what is done stays done, what fails is listed."""

from __future__ import annotations

import csv
import errno
import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

import numpy as np
import pandas as pd
import shapely
from tqdm.auto import tqdm

from ebclib.counting.counter import CrowdCounter, weights_of
from ebclib.counting.result import (
    Count,
    count_regions,
    read_regions,
    regions_geojson,
    result_row,
    rows_frame,
)
from ebclib.counting.sources import VIDEOS, Failure, Item, count_video, images_below, named_files
from ebclib.data.splits import file_stamp
from ebclib.runs import Run, write_csv, write_json, write_whole

JOURNAL = "journal.jsonl"
"""What has been counted, a file a line; `count_files` goes on from it."""

FILES = ("maps/{}.png", "maps/{}.json", "points/{}.geojson", "regions/{}.geojson")
"""What may be written of an image, by its name."""


@dataclass(frozen=True)
class Counted:
    """What `count_files` did.

    Attributes
    ----------
    table : one row per image, as `results_frame`; those counted before included
    regions : one row per image and region; empty without regions
    videos : one row per video: video, frames, mean and max of their counts, and table, the CSV of them
    failures : columns image, reason
    again : files counted now; the others were counted before
    """

    table: pd.DataFrame
    regions: pd.DataFrame
    videos: pd.DataFrame
    failures: pd.DataFrame
    again: int


def count_files(
    paths: Sequence[str | Path],
    out: str | Path,
    source: str | Path | Run | None = None,
    regions: str | Path | Mapping[str, Any] | None = None,
    maps: bool = True,
    again: bool = False,
    progress: bool = True,
    precision: str | None = None,
    every_s: float = 1.0,
) -> Counted:
    """Count in files and folders, and write what was found.

    Into ``out`` go `counts.csv`, `points.csv` (image, x, y in its pixels, and the regions it is in),
    `failures.csv` where there are any, `maps/<image>.png`, `points/<image>.geojson`, with regions
    `regions.csv` and `regions/<image>.geojson`, of videos `videos.csv` and `videos/<video>.csv`, and a
    journal. Every file is written whole or not at all. Called again, it counts only what is new: a file
    of the same path, size and time, counted by the same weights in the same regions and precision, is
    taken from the journal. The tables hold every image below the same folder that was counted so into
    ``out`` and is unchanged.

    Parameters
    ----------
    paths : image files, videos, and folders (with those below them)
    out : the folder to write to; images in it are not counted
    source : run or weights, as for `CrowdCounter`
    regions : as `result.read_regions`; of images, not of videos
    maps : write overlays
    again : count everything again
    progress : show a progress bar
    precision : as for `CrowdCounter`
    every_s : from one frame of a video to the next, in seconds

    Raises
    ------
    FileNotFoundError : a path, a run or the regions are not there, or the paths hold no image
    ValueError : regions that make no sense; ``out`` is a file, or holds counts of another folder, whose
        images may have the same names
    """
    out, weights = Path(out), weights_of(source)
    if out.exists() and not out.is_dir():
        raise ValueError(f"{out} is a file; give a folder to write to.")
    polygons = read_regions(regions) if regions is not None else None
    found, failures, base = list_images(paths, out)
    listed = {str(item.source) for item in found}
    header = {"key": _key(weights, polygons, precision), "base": base}
    known = _read_journal(out / JOURNAL, header)
    known = {path: note for path, note in known.items() if not again or path not in listed}

    def kept(item: Item) -> dict[str, Any] | None:
        """What the journal has of a file, if it is the same and all that was written of it is there."""
        note = known.get(str(item.source))
        same = note is not None and note.get("stamp") == file_stamp(item.source)
        if not same or not all((out / name).is_file() for name in note.get("files", [""])):
            return None
        if _is_video(item):
            return note if note.get("every_s") == every_s else None
        return note if not maps or FILES[0].format(item.name) in note["files"] else None

    before = named_files([Path(path) for path in known if path not in listed], base)
    found += [item for item in before if kept(item)]
    done = {item.name: note for item in found if (note := kept(item)) is not None}
    todo = [item for item in found if item.name not in done]
    counter = CrowdCounter(source, precision=precision) if todo else None
    images = [item for item in todo if not _is_video(item)]
    bar = tqdm(total=len(found), initial=len(done), unit="file", disable=not progress)
    with bar, _journal(out / JOURNAL, header, known) as journal:

        def keep(item: Item, note: dict[str, Any]) -> None:
            done[item.name] = note
            journal.write(json.dumps({"path": str(item.source)} | note) + "\n")
            journal.flush()

        stamps: dict[str, str] = {}
        for outcome in counter.outcomes(_stamped(images, stamps)) if images else ():
            item, stamp = Item(outcome.name, outcome.source), stamps.pop(outcome.name)
            if isinstance(outcome, Count):
                try:
                    keep(item, _store(outcome, out, maps, polygons) | {"stamp": stamp})
                except (OSError, ValueError) as problem:  # a name too long, say
                    if getattr(problem, "errno", None) in (errno.ENOSPC, errno.EDQUOT):
                        raise
                    outcome = Failure(item.name, item.source, problem)
            if isinstance(outcome, Failure):
                failures[item.name] = outcome.reason
                _remove(out, item.name)
            bar.update()
        for item in (item for item in todo if _is_video(item)):
            try:
                stamp = file_stamp(item.source)
                keep(item, _store_video(counter, item, out, every_s, progress) | {"stamp": stamp})
            except (OSError, ValueError) as problem:
                failures[item.name] = Failure(item.name, item.source, problem).reason
            bar.update()
    now = sum(item.name in done for item in todo)
    return _write_tables(out, found, done, failures, now)


def list_images(paths: Iterable[str | Path], out: Path) -> tuple[list[Item], dict[str, str], str]:
    """The images and videos of files and folders, each once; what lies in ``out`` is left out.

    Returns
    -------
    files : in natural order, folder by folder, named by their path below ``base``
    failures : folders that cannot be listed → why
    base : the folder that all paths have in common

    Raises
    ------
    FileNotFoundError : a path that is not there, or no image at all
    """
    given = [Path(os.path.abspath(path)) for path in paths]
    found: dict[Path, None] = {}
    problems: list[OSError] = []
    for path in given:
        if path.is_dir():
            found |= dict.fromkeys(images_below(path, out, problems, VIDEOS))
        elif os.path.lexists(path):
            found[path] = None
        else:
            raise FileNotFoundError(
                f"{path} is not there: an image, a video or a folder is expected."
            )
    if not found and not problems:
        raise FileNotFoundError(
            f"There is no image in {', '.join(map(str, given))} (what --out holds is left out)."
        )
    base = os.path.commonpath([path if path.is_dir() else path.parent for path in given])
    folders = named_files([Path(each.filename) for each in problems], base)
    failures = {
        folder.name: str(each.strerror) for folder, each in zip(folders, problems, strict=True)
    }
    return named_files(list(found), base), failures, base


def _is_video(item: Item) -> bool:
    return item.source.suffix.lower() in VIDEOS


def _stamped(given: Iterable[Item], stamps: dict[str, str]) -> Iterator[Item]:
    """The images as they are asked for; their stamps are taken before they are read."""
    for item in given:
        stamps[item.name] = file_stamp(item.source)
        yield item


def _store(
    result: Count, out: Path, maps: bool, polygons: Mapping[str, Any] | None
) -> dict[str, Any]:
    """Write what belongs to one image, and nothing of it stays from before; its note."""
    _remove(out, result.name)
    row, regions, files = result_row(result), [], [FILES[2]]
    if maps:
        result.save(out / "maps")
        files += FILES[:2]
    if polygons is not None:
        regions = count_regions(result, polygons).to_dict("records")
        write_json(out / FILES[3].format(result.name), regions_geojson(result, polygons))
        files.append(FILES[3])
        beyond = [repr(each["region"]) for each in regions if each["area_px"] == 0]
        if beyond:
            size = f"{result.size[1]} x {result.size[0]} px"
            row["notes"] += f" Outside this image of {size}: region {', '.join(beyond)}."
    _write_points(result, out / FILES[2].format(result.name), polygons)
    return {"row": row, "regions": regions, "files": [name.format(result.name) for name in files]}


def _write_points(result: Count, path: Path, polygons: Mapping[str, Any] | None) -> None:
    """A GeoJSON file of a point per person, in pixels."""
    points = result.points().round(1)
    names = np.full(len(points), "", dtype=object)
    for name, polygon in (polygons or {}).items():
        inside = shapely.intersects_xy(polygon, *points.T)
        names[inside] = [f"{before}; {name}" if before else name for before in names[inside]]
    features = [
        {
            "type": "Feature",
            "geometry": {"type": "Point", "coordinates": point},
            "properties": {"region": name} if polygons else {},
        }
        for point, name in zip(points.tolist(), names, strict=True)
    ]
    text = json.dumps({"type": "FeatureCollection", "features": features})
    write_whole(path, lambda part: part.write_text(text, encoding="utf-8"))


def _store_video(
    counter: CrowdCounter, item: Item, out: Path, every_s: float, progress: bool
) -> dict[str, Any]:
    """Count a video; its note."""
    name = f"videos/{item.name}.csv"
    counts = count_video(counter, item.source, out / name, every_s, progress, counter.noun[1])
    row = {
        "video": item.name,
        "frames": len(counts),
        "mean": counts["count"].mean(),
        "max": counts["count"].max(),
        "table": name,
    }
    return {"row": row, "files": [name], "every_s": every_s}


def _remove(out: Path, name: str) -> None:
    """Remove what was written of an image before: it would stand beside another count."""
    for file in FILES:
        with suppress(OSError):
            (out / file.format(name)).unlink(missing_ok=True)


def _key(weights: Path, polygons: Mapping[str, Any] | None, precision: str | None) -> str:
    """Changes when the weights, the regions or the precision do."""
    with weights.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256")
    digest.update((precision or "").encode())
    for name, polygon in (polygons or {}).items():
        digest.update(f"{name} {polygon.wkt}".encode())
    return digest.hexdigest()


def _read_journal(path: Path, header: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    """Notes by path, of the same weights and regions; a line that was cut off is passed over.

    Raises
    ------
    ValueError : the journal is of another folder
    """
    notes, current = {}, {}
    with suppress(FileNotFoundError):
        for line in path.read_bytes().splitlines():
            with suppress(ValueError, KeyError, TypeError):
                note = json.loads(line)
                if "key" in note:
                    current = note
                elif current == header:
                    notes[note.pop("path")] = note
    if current.get("base", header["base"]) != header["base"]:
        raise ValueError(
            f"{path.parent} holds counts of images below {current['base']}, and these lie below "
            f"{header['base']}: names could be the same. Give another folder to write to."
        )
    return notes


def _journal(path: Path, header: Mapping[str, str], known: Mapping[str, dict[str, Any]]) -> TextIO:
    """The journal, open for more lines; what no longer serves is gone from it."""
    lines = [json.dumps(header)]
    lines += [json.dumps({"path": name} | note) for name, note in known.items()]
    write_whole(path, lambda part: part.write_text("\n".join(lines) + "\n"))
    return path.open("a")


def _write_tables(
    out: Path,
    order: Sequence[Item],
    done: Mapping[str, dict[str, Any]],
    failures: Mapping[str, str],
    again: int,
) -> Counted:
    counted = [item for item in order if item.name in done]
    notes = [done[item.name] for item in counted if not _is_video(item)]
    table = rows_frame(note["row"] for note in notes)
    parts = [{"image": n["row"]["image"]} | region for n in notes for region in n["regions"]]
    regions = pd.DataFrame(parts, columns=["image", "region", "count", "on_border", "area_px"])
    videos = [done[item.name]["row"] for item in counted if _is_video(item)]
    videos = pd.DataFrame(videos, columns=["video", "frames", "mean", "max", "table"])
    lost = pd.DataFrame(sorted(failures.items()), columns=["image", "reason"])
    write_csv(out / "counts.csv", table)
    tables = {"regions.csv": regions, "videos.csv": videos, "failures.csv": lost}
    for name, frame in tables.items():
        if len(frame):
            write_csv(out / name, frame)
        else:
            (out / name).unlink(missing_ok=True)
    write_whole(out / "points.csv", lambda part: _gather_points(out, table["image"], part))
    return Counted(table, regions, videos, lost, again)


def _gather_points(out: Path, images: Iterable[str], part: Path) -> None:
    """The points of all images in one table, read from the file of each."""
    with part.open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(["image", "x", "y", "region"])
        for image in images:
            points = json.loads((out / FILES[2].format(image)).read_text(encoding="utf-8"))
            for point in points["features"]:
                where = point["geometry"]["coordinates"]
                rows.writerow([image, *where, point["properties"].get("region", "")])
