"""Finding the points of an own folder's pictures: beside each one, or all in one listing."""

from __future__ import annotations

import difflib
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from ebclib.datasets.annotations import load_json, read_csv, read_json, read_mat
from ebclib.datasets.listings import read_listing
from ebclib.datasets.sample import Entry
from ebclib.datasets.settings import FolderSettings

READERS = {".csv": read_csv, ".json": read_json, ".mat": read_mat}
"""Readers of one picture's points, by the file's ending."""

_STEMS = ("{}", "GT_{}", "{}_ann")  # what the annotation of picture {} may be called


def labelled_entries(
    folder: Path,
    base: Path,
    split: str,
    mine: dict[str, Path],
    here: Sequence[Path],
    every: Sequence[Path],
    settings: FolderSettings,
) -> tuple[list[Entry], list[str]]:
    """The entries of a split, each with its points, and remarks made on the way.

    Parameters
    ----------
    folder : of the data set
    base : of the split; ``folder`` itself where its pictures are divided
    split : its name
    mine : the split's pictures, by name
    here : all pictures below ``base``
    every : all pictures of the data set
    settings : of the data set

    Raises
    ------
    ValueError : a picture without points, points without a picture, or several files to choose from
    """
    files = _files(base.rglob("*"))
    own = _own_files(here, files)
    if len(own) == len(here):
        beside = {name: own[path] for name, path in mine.items()}
        half = _unfinished(base, mine)
        notes = (
            [f"{split}: {len(half)} pictures not marked as finished: {_some(half)}"] if half else []
        )
        return [
            Entry(name, path, beside[name], READERS[beside[name].suffix.lower()])
            for name, path in mine.items()
        ], notes
    if own:
        lacking = [path.name for path in here if path not in own]
        raise ValueError(
            f"{base}: {len(lacking)} of {len(here)} pictures have no points, the others have "
            f"them in a file each: {_some(lacking)}. Give them one too (with no points for nobody)."
        )
    listing = _the_listing(folder, base, split, files)
    points, notes = _match(listing, here if listing in files else every, folder, base, settings)
    unlisted = [path.name for path in mine.values() if path not in points]
    if unlisted and settings.unlisted == "error":
        raise ValueError(
            f"{listing} does not name {len(unlisted)} of the {len(mine)} pictures of {split}: "
            f"{_some(unlisted)}. Where they show nobody, say so (CSV: a row `name,,`; JSON: "
            '`"name": []`), or write `unlisted: empty` into dataset.yaml.'
        )
    if unlisted:
        notes.append(f"{split}: {len(unlisted)} pictures that {listing.name} does not name count 0")
    nobody = np.empty((0, 2))
    return [Entry(name, path, given=points.get(path, nobody)) for name, path in mine.items()], notes


def _files(paths: Iterable[Path]) -> list[Path]:
    return sorted(
        path
        for path in paths
        if path.suffix.lower() in READERS and not path.name.startswith(".") and not _is_mark(path)
    )


def _is_mark(path: Path) -> bool:
    """Whether this is CCLabeler's note of how far a picture is labelled, beside its `jsons/`."""
    return path.parent.name == "marks" and (path.parent.parent / "jsons").is_dir()


def _unfinished(base: Path, names: Iterable[str]) -> list[str]:
    """The pictures of a CCLabeler folder that it has no full set of marks of, by name."""
    return [
        name
        for name in names
        if (mark := base / "marks" / f"{name}.json").is_file() and not all(load_json(mark))
    ]


def _own_files(pictures: Sequence[Path], files: Sequence[Path]) -> dict[Path, Path]:
    """For each picture that has one, the file with its points: called alike, the nearest one."""
    by_stem = defaultdict(list)
    for path in files:
        by_stem[path.stem].append(path)
    own = {}
    for picture in pictures:
        found = [path for form in _STEMS for path in by_stem[form.format(picture.stem)]]
        beside = [path for path in found if path.parent == picture.parent] or found
        if len(beside) > 1:
            raise ValueError(
                f"{picture} has several files of points: {', '.join(map(str, beside))}. Keep one."
            )
        if beside:
            own[picture] = beside[0]
    return own


def _the_listing(folder: Path, base: Path, split: str, files: Sequence[Path]) -> Path:
    """The one file that lists a split's points: in its folder, or above it."""
    found = [path for path in files if path.suffix.lower() != ".mat"]
    if not found:
        above = _files([*folder.glob("*"), *folder.glob("annotations/*")])
        above = [path for path in above if path.suffix.lower() != ".mat"]
        found = [path for path in above if split in path.stem.lower()] or above
    if not found:
        raise ValueError(
            f"{base} has pictures but no points. Expected is one file `points.csv` (columns "
            "image,x,y), `points.json` ({picture: [[x, y], …]}) or COCO, or a .csv (x,y), .json or "
            f".mat of the same name beside each picture. Nothing to label? Write "
            f"`unlabelled: [{split}]` into {folder / 'dataset.yaml'}."
        )
    if len(found) > 1:
        raise ValueError(
            f"{base}: several files could list its points: {', '.join(map(str, found))}. Keep one "
            "there, or name one for each picture like the picture."
        )
    return found[0]


def _match(
    listing: Path, pictures: Sequence[Path], folder: Path, base: Path, settings: FolderSettings
) -> tuple[dict[Path, np.ndarray], list[str]]:
    """Points by picture: the listing's names taken for paths from either folder, or file names."""
    known = defaultdict(set)
    for path in pictures:
        for top in (folder, base):
            if path.is_relative_to(top):
                inside = path.relative_to(top)
                for key in (inside, inside.with_suffix("")):
                    known[key.as_posix()].add(path)
        for key in (path.name, path.stem):
            known[key].add(path)
    listed, notes = read_listing(listing, settings.category)
    points: dict[Path, np.ndarray] = {}
    strange = []
    for reference, part in listed.items():
        key = reference.replace("\\", "/").removeprefix("./")
        found = known.get(key) or known.get(key.rsplit("/", 1)[-1]) or set()
        if len(found) > 1:
            raise ValueError(
                f"{listing}: {reference!r} could be {_some(sorted(map(str, found)))}. Write its "
                f"path from {folder}."
            )
        for path in found:
            if path in points:
                raise ValueError(
                    f"{listing}: {path} is named in two ways, one of them {reference!r}."
                )
            points[path] = part
        if not found:
            strange.append(reference)
    if strange:
        near = difflib.get_close_matches(strange[0], [path.name for path in pictures], n=1)
        hint = f" Is {strange[0]!r} meant to be {near[0]!r}?" if near else ""
        raise ValueError(
            f"{listing} names {len(strange)} pictures that are not there: {_some(strange)}.{hint}"
        )
    return points, list(notes)


def _some(names: Sequence[str], most: int = 5) -> str:
    rest = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(map(str, names[:most])) + rest
