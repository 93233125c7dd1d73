"""Many files into a folder of counts, maps and points: what is done stays done, what fails is listed."""

from __future__ import annotations

import errno
import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain
from os.path import abspath, commonpath, lexists
from pathlib import Path
from typing import Any

import pandas as pd
import shapely
from tqdm.auto import tqdm

from ebclib.counting.counter import CrowdCounter, weights_of
from ebclib.counting.result import Count, count_regions, read_regions, result_row, results_frame
from ebclib.counting.sources import IMAGES, VIDEOS, Item, files_of, frames, named_files
from ebclib.data.splits import file_stamp
from ebclib.runs import Run, write_csv, write_whole

JOURNAL = "journal.jsonl"
"""What has been counted, a file a line; `count_files` goes on from it."""


@dataclass(frozen=True)
class Counted:
    """What `count_files` did."""

    table: pd.DataFrame  # one row per image, as `results_frame`; those counted before included
    regions: pd.DataFrame  # one row per image and region; empty without regions
    videos: pd.DataFrame  # columns video, frames, mean and max of their counts, table (their CSV)
    failures: pd.DataFrame  # columns image, reason
    again: int  # files counted now; the others were counted before


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

    Into ``out`` go `counts.csv`, `points.csv` (image, x and y in its pixels, the regions it is in),
    `failures.csv` where there are any, `maps/<image>.png`, `points/<image>.geojson`, with regions
    `regions.csv`, of videos `videos.csv` and `videos/<video>.csv`, and a journal. Called again, it counts
    only what is new: a file of the same path, size and time, counted by the same weights in the same
    regions and precision, is taken from the journal, and stays in the tables.

    Parameters
    ----------
    paths : image files, videos, and folders (with those below them); what lies in ``out`` is left out
    source, precision : as for `CrowdCounter`
    regions : as `result.read_regions`; of images, not of videos
    maps : write overlays
    again : count everything again
    every_s : from one frame of a video to the next, in seconds

    Raises
    ------
    FileNotFoundError : a path, a run or the regions are not there, or the paths hold no image
    ValueError : regions that make no sense; ``out`` is a file, or holds counts of another folder
    """
    out, weights = Path(out), weights_of(source)
    if out.exists() and not out.is_dir():
        raise ValueError(f"{out} is a file; give a folder to write to.")
    polygons = read_regions(regions) if regions is not None else {}
    found, failures, base = list_images(paths, out)
    listed = {str(item.source) for item in found}
    same = {"key": _key(weights, polygons, precision), "base": base}
    known = _read_journal(out / JOURNAL, same)
    before = named_files([Path(path) for path in known if path not in listed], base)
    old = before if again else [*found, *before]
    noted = {item: known[str(item.source)] for item in old if str(item.source) in known}
    done = {i: note for i, note in noted.items() if _is_counted(i, note, out, maps, every_s)}
    todo = [item for item in found if item not in done]
    stamps = {item: file_stamp(item.source) for item in todo}  # before they are read
    counter = CrowdCounter(source, precision=precision) if todo else None
    out.mkdir(parents=True, exist_ok=True)
    whole = len(done) + len(todo)
    bar = tqdm(total=whole, initial=len(done), unit="file", disable=not progress)
    images = [item for item in todo if not _is_video(item)]
    outcomes: Iterable[Count | Exception] = counter.outcomes(images) if images else ()
    videos = ((item, None) for item in todo if _is_video(item))
    with bar, (out / JOURNAL).open("a") as journal:
        journal.write("\n")  # a line that was cut off stays by itself
        for item, outcome in chain(zip(images, outcomes, strict=True), videos):
            try:
                for file in _outputs(item, maps=True):  # they would stand beside another count
                    (out / file).unlink(missing_ok=True)
                if isinstance(outcome, Exception):
                    raise outcome
                if outcome is None:
                    note = _store_video(counter, item, out, every_s, progress)
                else:
                    note = _store(outcome, out, maps, polygons)
                note |= same | {"path": str(item.source), "stamp": stamps[item]}
                note["files"] = _outputs(item, maps)
                journal.write(json.dumps(note) + "\n")
                journal.flush()
                done[item] = note
            except (OSError, ValueError) as problem:  # a damaged file, or a name too long
                if getattr(problem, "errno", None) in (errno.ENOSPC, errno.EDQUOT):
                    raise
                reason = getattr(problem, "strerror", None) or str(problem)
                failures[item.name] = reason.removeprefix(f"{item.name}: ")
            bar.update()
    now = sum(item in done for item in todo)
    notes = {item: done[item] for item in (*found, *before) if item in done}
    return _write_tables(out, notes, failures, now)


def _is_counted(item: Item, note: dict[str, Any], out: Path, maps: bool, every_s: float) -> bool:
    """Whether the journal's note is of the same file, and all that is wanted of it is there."""
    if note.get("stamp") != file_stamp(item.source) or note.get("every_s", every_s) != every_s:
        return False
    wanted = _outputs(item, maps)
    return set(wanted) <= set(note["files"]) and all((out / each).is_file() for each in wanted)


def list_images(paths: Iterable[str | Path], out: Path) -> tuple[list[Item], dict[str, str], str]:
    """The images and videos of files and folders, each once; what lies in ``out`` is left out.

    Returns
    -------
    files, named by their path below ``base``; folders that cannot be listed → why; and ``base``, the
        folder that all paths have in common

    Raises
    ------
    FileNotFoundError : a path that is not there, or no image at all
    """
    given = [Path(abspath(path)) for path in paths]
    found: dict[Path, None] = {}
    problems: list[OSError] = []
    for path in given:
        if path.is_dir():
            found |= dict.fromkeys(files_of(path, IMAGES | VIDEOS, out, problems.append))
        elif lexists(path):
            found[path] = None
        else:
            raise FileNotFoundError(
                f"{path} is not there: an image, a video or a folder is expected."
            )
    if not found and not problems:
        raise FileNotFoundError(
            f"There is no image in {', '.join(map(str, given))} (what --out holds is left out)."
        )
    base = commonpath([path if path.is_dir() else path.parent for path in given])
    folders = named_files([Path(problem.filename) for problem in problems], base)
    failures = {f.name: str(p.strerror) for f, p in zip(folders, problems, strict=True)}
    return named_files(list(found), base), failures, base


def _is_video(item: Item) -> bool:
    return item.source.suffix.lower() in VIDEOS


def _outputs(item: Item, maps: bool) -> list[str]:
    """What is written of an image or a video."""
    if _is_video(item):
        return [f"videos/{item.name}.csv"]
    return [f"points/{item.name}.geojson", *([f"maps/{item.name}.png"] if maps else [])]


def _store(result: Count, out: Path, maps: bool, polygons: Mapping[str, Any]) -> dict[str, Any]:
    """Write the points and the map of one image; its row and regions."""
    text = json.dumps(_points_geojson(result, polygons))
    write_whole(out / f"points/{result.name}.geojson", lambda part: part.write_text(text))
    if maps:
        result.save(out / "maps")
    regions = count_regions(result, polygons).to_dict("records") if polygons else []
    return {"row": result_row(result), "regions": regions}


def _points_geojson(result: Count, polygons: Mapping[str, Any]) -> dict[str, Any]:
    """The people of an image as GeoJSON: x and y in its pixels, and the regions that hold them."""
    points = result.points().round(1)
    held = {name: shapely.intersects_xy(polygon, points) for name, polygon in polygons.items()}
    features = [
        {
            "type": "Feature",
            "geometry": {"type": "Point", "coordinates": point},
            "properties": {"regions": [name for name, inside in held.items() if inside[i]]},
        }
        for i, point in enumerate(points.tolist())
    ]
    return {"type": "FeatureCollection", "features": features}


def _point_rows(name: str, path: Path) -> list[tuple[str, float, float, str]]:
    """A row of `points.csv` for each person in an image's GeoJSON."""
    features = json.loads(path.read_text())["features"]
    at = [(f["geometry"]["coordinates"], "; ".join(f["properties"]["regions"])) for f in features]
    return [(name, x, y, regions) for (x, y), regions in at]


def _store_video(
    counter: CrowdCounter, item: Item, out: Path, every_s: float, progress: bool
) -> dict[str, Any]:
    """Count a video; its row."""
    name = f"videos/{item.name}.csv"
    people = count_video(counter, item.source, out / name, every_s, progress)["count"]
    row = {"video": item.name, "frames": len(people), "mean": people.mean(), "max": people.max()}
    return {"row": row | {"table": name}, "every_s": every_s}


def count_video(
    counter: CrowdCounter,
    path: str | Path,
    out: str | Path,
    every_s: float = 1.0,
    progress: bool = True,
) -> pd.DataFrame:
    """Count a video's frames (`sources.frames`) into a CSV ``out``, with a chart as PNG beside it.

    Its columns are seconds, count, lower, upper; the last two empty without intervals.
    """
    import matplotlib.pyplot as plt

    from ebclib.plots import plot_over_time
    from ebclib.plots.style import use_style

    rows, out, found = [], Path(out), frames(path, every_s)
    for seconds, image in tqdm(found, unit="frame", disable=not progress, leave=False):
        said = counter.count(image)
        rows.append((seconds, said.count, said.lower, said.upper))
    counts = pd.DataFrame(rows, columns=["seconds", "count", "lower", "upper"], dtype=float)
    write_csv(out, counts)
    with plt.rc_context():
        use_style()
        figure = plot_over_time(counts, counter.noun[1]).figure
        figure.savefig(out.with_suffix(".png"))
        plt.close(figure)
    return counts


def _key(weights: Path, polygons: Mapping[str, Any], precision: str | None) -> str:
    """Changes when the weights, the regions or the precision do."""
    with weights.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256")
    digest.update((precision or "").encode())
    for name, polygon in polygons.items():
        digest.update(f"{name} {polygon.wkt}".encode())
    return digest.hexdigest()


def _read_journal(path: Path, same: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    """The last note of each path, of those that begin with ``same``; ValueError if of another base."""
    notes = {}
    for line in path.read_text().splitlines() if path.is_file() else ():
        with suppress(ValueError, KeyError, TypeError):  # a line that was cut off
            note = json.loads(line)
            notes[note["path"]] = note
    for note in notes.values():
        if note.get("base", same["base"]) != same["base"]:
            raise ValueError(
                f"{path.parent} holds counts of images below {note['base']}, and these lie below "
                f"{same['base']}: names could be the same. Give another folder to write to."
            )
    return {path: note for path, note in notes.items() if same.items() <= note.items()}


def _write_tables(
    out: Path, done: Mapping[Item, dict[str, Any]], failures: Mapping[str, str], again: int
) -> Counted:
    images = [note for item, note in done.items() if not _is_video(item)]
    table = results_frame(note["row"] for note in images)
    parts = [{"image": n["row"][0]} | region for n in images for region in n["regions"]]
    regions = pd.DataFrame(parts, columns=["image", "region", "count", "on_border", "area_px"])
    videos = [note["row"] for item, note in done.items() if _is_video(item)]
    videos = pd.DataFrame(videos, columns=["video", "frames", "mean", "max", "table"])
    lost = pd.DataFrame(sorted(failures.items()), columns=["image", "reason"])
    write_csv(out / "counts.csv", table)
    people = [_point_rows(name, out / f"points/{name}.geojson") for name in table["image"]]
    columns = ["image", "x", "y", "regions"]
    write_csv(out / "points.csv", pd.DataFrame(chain.from_iterable(people), columns=columns))
    tables = {"regions.csv": regions, "videos.csv": videos, "failures.csv": lost}
    for name, frame in tables.items():
        if len(frame):
            write_csv(out / name, frame)
        else:
            (out / name).unlink(missing_ok=True)
    return Counted(table, regions, videos, lost, again)
