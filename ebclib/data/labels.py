"""Finding the points of an own folder's images: in a file beside each one, or all in one listing."""

from __future__ import annotations

import difflib
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import suppress
from functools import partial
from itertools import chain, takewhile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ebclib.data.annotations import (
    MAT_KEYS,
    load_json,
    mat_variable,
    read_csv,
    read_json,
    read_listing,
    read_mat,
)
from ebclib.data.sample import Entry, files_below

if TYPE_CHECKING:
    from ebclib.data.folder import FolderSettings

SUFFIXES = (".csv", ".json", ".mat")
"""Files with points, by their ending in lower case."""

_STEMS = ("{0.stem}", "GT_{0.stem}", "{0.stem}_ann", "{0.name}")  # of an image's own file
# Folders' names that say what is in them, not which scene it is of.
_PLAIN = {"images", "image", "imgs", "img", "jpegimages", "pictures", "points", "dots", "csv"}
_PLAIN |= {"labels", "label", "annotations", "annotation", "ann", "anns", "jsons", "json"}
_PLAIN |= {"gt", "ground-truth", "ground_truth", "groundtruth", "mats", "mat"}
_UNREAD = {
    ".txt": "text, as YOLO's",
    ".xml": "XML, as CVAT's or Pascal VOC's",
    ".npy": "arrays of numpy",
    ".npz": "arrays of numpy",
    ".h5": "density maps, as a rule",
    ".xlsx": "a spreadsheet",
}


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
    base : folder of the split, or of all images where they are divided by a draw
    mine, here, every : the split's images, by name; all below ``base``; all below ``folder``

    Raises
    ------
    ValueError : an image without points, points without an image, or several files to choose from
    """
    files = _files(files_below(base))
    own, refused = _own_files(base, here, files)
    if own or refused:
        lacking = [path for path in here if path not in own]
        if lacking:
            names = [path.relative_to(base).as_posix() for path in lacking]
            raise ValueError(
                f"{base}: {len(lacking)} of {len(here)} images have no points, the others have "
                f"them in a file each: {_some(names)}. Give them one too (with no points for "
                "nobody), or move out what is no image of the data set (thumbnails, density maps)."
                + "".join(f" {text}" for text in list(refused.values())[:2])
            )
        readers: dict[str, Callable[[Path], np.ndarray]] = {
            ".json": partial(read_json, category=settings.category),
            ".csv": read_csv,
            ".mat": read_mat,
        }
        entries = [
            Entry(name, path, own[path], readers[own[path].suffix.lower()])
            for name, path in mine.items()
        ]
        return entries, _remarks(base, split, entries)
    listing = _the_listing(folder, base, split, settings, files)
    known, scenes = here if listing in files else every, _all_scenes(every, folder)
    points, notes = _match(listing, known, scenes, folder, base, settings)
    unlisted = [path.name for path in mine.values() if path not in points]
    if unlisted and settings.unlisted == "error":
        raise ValueError(
            f"{listing} does not name {len(unlisted)} of the {len(mine)} images of {split}: "
            f"{_some(unlisted)}. Where they show nobody, say so (CSV: a row `name,,`; JSON: "
            '`"name": []`), or write `unlisted: empty` into dataset.yaml.'
        )
    if unlisted:
        notes.append(f"{split}: {len(unlisted)} images that {listing.name} does not name count 0")
    nobody = np.empty((0, 2))
    return [Entry(name, path, given=points.get(path, nobody)) for name, path in mine.items()], notes


def _files(paths: Iterable[Path]) -> list[Path]:
    return sorted(path for path in paths if path.suffix.lower() in SUFFIXES and not _is_mark(path))


def _is_mark(path: Path) -> bool:
    """Whether this is CCLabeler's note of how far an image is labelled, beside its `jsons/`."""
    return path.parent.name == "marks" and (path.parent.parent / "jsons").is_dir()


def _remarks(base: Path, split: str, entries: Sequence[Entry]) -> list[str]:
    """What is to be said of images with a file each."""
    notes = []
    for path in [e.annotation for e in entries if e.annotation.suffix.lower() == ".mat"][:1]:
        with suppress(ValueError):  # told with all the others when it is read
            key, _ = mat_variable(path)
            if key not in MAT_KEYS:
                notes.append(
                    f"{split}: points are taken from {key!r}, the only N x 2 matrix of {path.name}"
                )
    marks = {entry.name: base / "marks" / f"{entry.name}.json" for entry in entries}
    half = [name for name, mark in marks.items() if mark.is_file() and not all(load_json(mark))]
    if half:
        notes.append(f"{split}: {len(half)} images not marked as finished: {_some(half)}")
    return notes


def _folders(path: Path, base: Path) -> tuple[str, ...]:
    """The folders between ``base`` and a file, in lower case."""
    return tuple(part.lower() for part in path.relative_to(base).parent.parts)


def _scenes(folders: Iterable[str]) -> tuple[str, ...]:
    """``folders`` without those whose name only says what is in them."""
    return tuple(name for name in folders if name not in _PLAIN)


def _all_scenes(paths: Iterable[Path], base: Path) -> set[str]:
    return {name for path in paths for name in _scenes(_folders(path, base))}


def _tail(one: Sequence[str], other: Sequence[str]) -> int:
    """How many names two paths have in common at their ends."""
    pairs = zip(reversed(one), reversed(other), strict=False)
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))


def _nearness(one: Sequence[str], other: Sequence[str]) -> tuple[int, ...]:
    """How near two places are, compared in turn: the common tail of their paths, their common
    folders, the folders that only one is in, and the same without `_PLAIN`."""
    apart = len(set(one) ^ set(other))
    return (
        _tail(one, other),
        len(set(one) & set(other)),
        -apart,
        -len(set(_scenes(one)) ^ set(_scenes(other))),
    )


def _nearest(place: Sequence[str], paths: Iterable[Path], base: Path) -> list[Path]:
    """Those of ``paths`` that are nearest to a place; several where none is nearer."""
    ranks = {path: _nearness(place, _folders(path, base)) for path in paths}
    return [path for path, rank in ranks.items() if rank == max(ranks.values())]


def _own_files(
    base: Path, images: Sequence[Path], files: Sequence[Path]
) -> tuple[dict[Path, Path], dict[Path, str]]:
    """For each image that has one the file with its points; for others why one called alike is not.

    It is called like the image, the nearest one. No file serves two images, and none an image of
    another scene.
    """
    by_stem = defaultdict(list)
    for path in files:
        by_stem[path.stem].append(path)
    called = {
        image: list(dict.fromkeys(f for form in _STEMS for f in by_stem[form.format(image)]))
        for image in images
    }
    image_scenes = _all_scenes(images, base)
    label_scenes = _all_scenes(chain(*called.values()), base)
    claims = defaultdict(list)
    for image, found in called.items():
        best = _nearest(_folders(image, base), found, base)
        if len(best) > 1:
            raise ValueError(
                f"{image} has several files of points: {_some(best)}. Keep one, or lay them out in "
                "the same folders as the images."
            )
        if best:
            claims[best[0]].append(image)
    own, refused = {}, {}
    for path, claimants in claims.items():
        best = _nearest(_folders(path, base), claimants, base)
        if len(best) > 1:
            raise ValueError(
                f"{path} could hold the points of {_some(best)}. Put it beside the one it is of, or "
                "into a folder called like the image's; move out thumbnails and density maps."
            )
        image, label = _folders(best[0], base), _folders(path, base)
        only_image, only_label = set(image) - set(label), set(label) - set(image)
        elsewhere = (
            min(len(only_image), len(only_label)) > 1
            or image_scenes.intersection(_scenes(only_label))
            or label_scenes.intersection(_scenes(only_image))
        )
        if not elsewhere:
            own[best[0]] = path
        for other in claimants:
            if other not in own:
                whose = f"is of {best[0]}" if other != best[0] else "lies in the folder of others"
                refused[other] = f"{path}, which is called like {other}, {whose}."
    return own, refused


def _the_listing(
    folder: Path, base: Path, split: str, settings: FolderSettings, files: Sequence[Path]
) -> Path:
    """The one file that lists a split's points: in its folder, or above it under its name."""
    found = [path for path in files if path.suffix.lower() != ".mat"]
    if not found:
        above = _files([*folder.glob("*"), *folder.glob("annotations/*")])
        above = [path for path in above if path.suffix.lower() != ".mat"]
        word = base.name.lower() if settings.fractions else split
        found = [path for path in above if word in path.stem.lower()] or above
    if not found:
        raise ValueError(
            f"{base} has images but no points.{_seen(folder, base)} Expected is one file "
            "`points.csv` (columns image,x,y), `points.json` ({image: [[x, y], …]}) or COCO, or a "
            ".csv (x,y), .json or .mat of the same name beside each image. Nothing to label? Write "
            f"`unlabelled: [{split}]` into {folder / 'dataset.yaml'}."
        )
    if len(found) > 1:
        raise ValueError(
            f"{base}: several files could list its points: {_some(found)}. Keep one there, or name "
            "one for each image like the image."
        )
    return found[0]


def _seen(folder: Path, base: Path) -> str:
    """Which files are there that may hold points in a form that is not read."""
    seen = [path for path in files_below(folder) if path.suffix.lower() in _UNREAD]
    seen = [path for path in seen if path.is_relative_to(base)] or seen
    kinds = Counter(path.suffix.lower() for path in seen)
    texts = [
        f"{number} {kind} ({_UNREAD[kind]}; {next(p for p in seen if p.suffix.lower() == kind)})"
        for kind, number in kinds.most_common()
    ]
    return f" Seen, but not read: {', '.join(texts)}; convert them." if texts else ""


def _match(
    listing: Path,
    images: Sequence[Path],
    scenes: Collection[str],
    folder: Path,
    base: Path,
    settings: FolderSettings,
) -> tuple[dict[Path, np.ndarray], list[str]]:
    """Points by image: the image of that file name whose path has the longest tail in common.

    A name may begin with folders of another machine; they must not be ``scenes``, folders with images.
    """
    called = defaultdict(list)
    for path in images:
        for key in {path.name, path.stem}:
            called[key].append(path)
    below = _folders(listing, base) if listing.is_relative_to(base) else ()
    listed, notes = read_listing(listing, settings.category)
    points: dict[Path, np.ndarray] = {}
    strange, sources = [], defaultdict(dict)
    for reference, part in listed.items():
        *places, name = reference.replace("\\", "/").split("/")
        place = [n.lower() for n in places if n not in ("", ".")] or list(below)
        found = {}
        for path in called.get(name, ()):
            tops = [top for top in (folder, base) if path.is_relative_to(top)]
            if any(list(_folders(path, top)) == place for top in tops):
                found = {path: ()}
                break
            wanted, there = _scenes(place), _scenes(_folders(path, folder))
            inner = _scenes(_folders(path, base)) if base in tops else there
            tail = _tail(wanted, there)
            beyond = wanted[: len(wanted) - tail]  # folders of another machine, as a rule
            if not beyond or (tail >= len(inner) and beyond[-1] not in scenes):
                found[path] = beyond
        best = _nearest(place, found, folder)
        if len(best) > 1:
            raise ValueError(
                f"{listing}: {reference!r} could be {_some(sorted(map(str, best)))}. Write its "
                f"path from {folder}."
            )
        if not best:
            strange.append(reference)
            continue
        if best[0] in points:
            raise ValueError(
                f"{listing}: {best[0]} is named in two ways, one of them {reference!r}."
            )
        points[best[0]] = part
        if found[best[0]]:
            sources[best[0].parent][found[best[0]]] = reference
    for place, several in sources.items():
        if len(several) > 1:
            raise ValueError(
                f"{listing} names images of several folders ({_some(list(several.values()))}) that "
                f"all lie in {place}. Lay them out in those folders, or write their file names alone."
            )
    if strange:
        raise ValueError(
            f"{listing} names {len(strange)} images that are not there: {_some(strange)}."
            + _hint(strange[0], called)
        )
    return points, list(notes)


def _hint(reference: str, called: dict[str, list[Path]]) -> str:
    """What a listed name without an image may be meant to be."""
    name = reference.replace("\\", "/").rsplit("/", 1)[-1]
    if called.get(name):
        return f" {called[name][0]} has that file name, but lies in another folder."
    near = difflib.get_close_matches(name, [key for key in called if "." in key], n=1)
    return f" Is {reference!r} meant to be {near[0]!r}?" if near else ""


def _some(names: Sequence, most: int = 5) -> str:
    rest = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(map(str, names[:most])) + rest
