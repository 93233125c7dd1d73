"""Anybody's own folder: images, points beside each or in one listing, and `dataset.yaml` for the rest."""

from __future__ import annotations

import difflib
import hashlib
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, fields
from functools import partial
from itertools import chain, takewhile
from pathlib import Path
from typing import Any, Literal

import numpy as np
import yaml

from ebclib.config import one_of
from ebclib.data.annotations import (
    MAT_KEYS,
    load_json,
    mat_variable,
    read_csv,
    read_json,
    read_listing,
    read_mat,
)
from ebclib.data.catalogue import EVERY, LEAST_SIDE, Dataset
from ebclib.data.images import SUFFIXES
from ebclib.data.sample import Entry, ReadSplit, files_below, natural

LAYOUT = """\
{name}/
  dataset.yaml               (optional: noun, plural, longest_side, splits …)
  train/
    anything.jpg …
    points.csv               image,x,y  (or points.json, COCO, or a file beside each image)
  test/ …                    (without it the images are divided, 80 % train, 20 % test)"""

FRACTIONS = {"train": 0.8, "test": 0.2}
"""How images are divided where there are no folders for splits."""

_SPELLINGS = {
    "train": ("train", "training", "train_data"),
    "val": ("val", "valid", "validation", "val_data"),
    "test": ("test", "testing", "test_data"),
}
_POINTS = (".csv", ".json", ".mat")  # files with points
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


@dataclass(frozen=True)
class FolderSettings:
    """What `dataset.yaml` may say; everything has a default."""

    title: str = ""  # for tables
    noun: str = "person"  # what is counted; a plural not given is English's (goose, geese)
    plural: str = ""
    longest_side: int | None = None  # longest side of a prepared image, pixels
    least_side: int = LEAST_SIDE  # its least side, pixels; smaller images are enlarged
    # folders ``{train: dir, test: dir}`` or parts ``{train: 0.8, test: 0.2}``; not given: the
    # folders train, val, test that are there, or else `FRACTIONS`
    splits: Mapping[str, str | float] = field(default_factory=dict)
    seed: int = 0  # of the division into parts
    category: str | None = None  # COCO, Label Studio, labelme: the category to count
    unlabelled: Sequence[str] = ()  # splits that have no points
    # whether an image that a listing of points does not name is an error, or shows nobody
    unlisted: Literal["error", "empty"] = "error"
    # ``check`` whether x and y look like pixels, or take them for ``pixels`` as they are
    coordinates: Literal["check", "pixels"] = "check"
    # the folder whose images are divided, the data set's own if empty; no key of the file
    heap: str = ""

    @property
    def fractions(self) -> dict[str, float]:
        """The parts of a division; empty where splits are folders."""
        return {name: part for name, part in self.splits.items() if not isinstance(part, str)}

    @property
    def division(self) -> str:
        """How the splits came to be, for people."""
        if not self.fractions:
            return "by its folders"
        whole = sum(self.fractions.values())
        parts = ", ".join(f"{100 * p / whole:.0f} % {name}" for name, p in self.fractions.items())
        what = f"the images of {self.heap}/" if self.heap else "its images"
        return f"by a draw of {what} (seed {self.seed}): {parts}"


def describe_folder(folder: Path) -> Dataset:
    """The description of an own data set; ValueError if its `dataset.yaml` makes no sense."""
    settings = _read_settings(folder)
    unseen = [name for name in ("test", "val", *settings.splits) if name in settings.splits]
    unseen = [name for name in unseen if name != "train"]
    labelled = [name for name in unseen if name not in settings.unlabelled]
    return Dataset(
        name=folder.name,
        title=settings.title or folder.name,
        splits=dict.fromkeys(settings.splits),
        test_split=(labelled or unseen)[0],
        unlabelled=tuple(settings.unlabelled),
        longest_side=settings.longest_side,
        least_side=settings.least_side,
        noun=(settings.noun, settings.plural),
        source=f"your own folder, {folder}",
        terms="your own",
        folders=(folder.name,),
        layout=LAYOUT.format(name=folder.name),
        is_divided=bool(settings.fractions),
        division=settings.division,
        checks_coordinates=settings.coordinates == "check",
    )


def read_folder(folder: Path, split: str) -> ReadSplit:
    """A split of an own data set, in natural order of the images' names.

    Raises
    ------
    ValueError : images without points, points without images, or a file of another kind
    FileNotFoundError : no images
    """
    settings = _read_settings(folder)
    every = split == EVERY and settings.fractions
    if not every:
        one_of(f"split of {folder.name}", split, settings.splits)
    if settings.fractions:
        base = folder / settings.heap
        here = _images(base)
        known = list(here.values())
        mine = here if every else _divide(here, settings, folder)[split]
    else:
        base = folder / settings.splits[split]
        mine = here = _images(base)
        known = [p for part in settings.splits.values() for p in _images(folder / part).values()]
    if not mine:
        tree = "\n".join(f"  {line}" for line in LAYOUT.format(name=folder.name).splitlines())
        raise FileNotFoundError(
            f"{base} holds no images. Expected is, below {folder.parent}/,\n{tree}"
        )
    noun = (settings.noun, settings.plural)
    if split in settings.unlabelled:
        return ReadSplit([Entry(name, path) for name, path in mine.items()], False, noun)
    files = _point_files(files_below(base))
    own, refused = _own_files(base, list(here.values()), files)
    if own or refused:
        entries, notes = _entries_with_files(base, split, mine, here, own, refused, settings)
    else:
        listing = _the_listing(folder, base, split, settings, files)
        images, scenes = (
            list(here.values()) if listing in files else known,
            _all_scenes(known, folder),
        )
        points, notes = _match(listing, images, scenes, folder, base, settings)
        entries = _listed_entries(listing, points, split, mine, settings, notes)
    if settings.fractions and not every:
        notes.append(f"{split}: {len(mine)} of {len(here)} images, divided {settings.division}")
    return ReadSplit(entries, True, noun, notes)


def _read_settings(folder: Path) -> FolderSettings:
    """The settings of an own folder, its splits filled in; ValueError where they make no sense."""
    path, short = folder / "dataset.yaml", folder / "dataset.yml"
    if path.is_file() and short.is_file():
        raise ValueError(f"{folder} has both {path.name} and {short.name}. Keep one.")
    path = short if short.is_file() else path
    try:
        text = path.read_text(encoding="utf-8-sig") if path.is_file() else ""
        content = yaml.safe_load(text) or {}
    except (yaml.YAMLError, UnicodeDecodeError) as problem:
        raise ValueError(f"{path}: not YAML ({problem}).") from problem
    if not isinstance(content, dict):
        raise ValueError(f"{path}: lines such as `noun: bird` are expected, not {content!r:.60}.")
    values = {key: value for key, value in content.items() if value is not None}
    try:
        _check(values)
        values["splits"] = values.get("splits") or _found_splits(folder) or FRACTIONS
        _check_splits(values["splits"], folder)
        if list(values["splits"]) == ["train"]:  # something has to be left to measure on
            values |= {"heap": values["splits"]["train"], "splits": FRACTIONS}
        for name in values["unlabelled"]:
            one_of("unlabelled split", name, values["splits"])
    except ValueError as problem:
        raise ValueError(f"{path}: {problem}") from None
    noun = values.get("noun", "person")
    values.setdefault("plural", "people" if noun == "person" else _plural(noun))
    return FolderSettings(**values)


def _check(values: dict[str, Any]) -> None:
    """ValueError if a value is not of its field's type; ``unlabelled`` becomes a list."""
    known = [each.name for each in fields(FolderSettings) if each.name != "heap"]
    values.setdefault("unlabelled", [])
    if isinstance(values["unlabelled"], str):
        values["unlabelled"] = [values["unlabelled"]]
    kinds = {"unlabelled": list, "splits": dict}
    for key, value in values.items():
        one_of("key", str(key), known)
        kind, expected = kinds.get(key, str), "a word is expected (quote it)"
        if kind is not str:
            expected = (
                "expected is {train: dir, test: dir}" if kind is dict else "a list is expected"
            )
        right = isinstance(value, kind)
        if key in ("longest_side", "least_side", "seed"):
            least = int(key != "seed")
            right = type(value) is int and value >= least
            expected = f"a whole number from {least} is expected"
        if not right:
            raise ValueError(f"{key} is {value!r}; {expected}.")
    one_of("unlisted", values.get("unlisted", "error"), ("error", "empty"))
    one_of("coordinates", values.get("coordinates", "check"), ("check", "pixels"))


def _found_splits(folder: Path) -> dict[str, str]:
    there = {path.name.lower(): path.name for path in folder.iterdir() if path.is_dir()}
    return {
        split: there[name] for split, names in _SPELLINGS.items() for name in names if name in there
    }


def _check_splits(splits: Mapping[str, Any], folder: Path) -> None:
    kinds = {isinstance(value, str) for value in splits.values()}
    if len(kinds) != 1:
        raise ValueError(f"splits are folders or parts, not both: {dict(splits)!r}.")
    for name, value in splits.items():
        if not isinstance(name, str) or not name.isidentifier():
            raise ValueError(f"{name!r} is no name for a split; train, val, test are.")
        if isinstance(value, str) and not (folder / value).is_dir():
            raise ValueError(f"split {name!r} is the folder {folder / value}, which is not there.")
        if not isinstance(value, str) and (type(value) not in (int, float) or not value > 0):
            raise ValueError(f"split {name!r} is {value!r}; a part above 0 is expected.")
    if list(splits) == ["train"] and kinds == {False}:
        raise ValueError("splits leave nothing to measure on; give test a part, too.")


def _plural(noun: str) -> str:
    """The English plural of a noun; of one that is no English its own with an s."""
    import inflect  # slow, and only needed where a folder gives no plural

    return str(inflect.engine().plural_noun(noun) or f"{noun}s") if noun.strip() else noun


def _images(folder: Path) -> dict[str, Path]:
    """Images below ``folder`` by name: the path without its ending, and without `images/`."""
    found: dict[str, Path] = {}
    for path in sorted(files_below(folder), key=natural):
        jsons = path.parent.parent / "jsons"
        is_closing = path.stem == "default" and path.parent.name == "images" and jsons.is_dir()
        if is_closing and not (jsons / "default.json").is_file():
            continue  # what CCLabeler shows when all are labelled
        if path.suffix.lower() not in SUFFIXES:
            continue
        parts = path.relative_to(folder).parts
        parts = parts[1:] if parts[0].lower() == "images" else parts
        name = Path(*parts).with_suffix("").as_posix()
        if name in found:
            raise ValueError(
                f"{folder}: {found[name].name} and {path.name} would both be called {name!r}. "
                "Rename one."
            )
        found[name] = path
    return found


def _divide(
    images: dict[str, Path], settings: FolderSettings, folder: Path
) -> dict[str, dict[str, Path]]:
    """Images divided by fractions, by a seeded draw for each name.

    An image added later moves few others, so that a test image seldom becomes a training one.
    """
    fractions = settings.fractions
    if 0 < len(images) < len(fractions):
        raise ValueError(
            f"{folder} holds {len(images)} images; they cannot be divided into "
            f"{', '.join(fractions)}. Add images, or folders for the splits."
        )

    def draw(name: str) -> str:
        return hashlib.sha256(f"{settings.seed}/{name}".encode()).hexdigest()

    order = sorted(images, key=draw)
    shares = np.cumsum(list(fractions.values())) / sum(fractions.values())
    edges = [0, *(round(len(order) * share) for share in shares)]
    for number in range(1, len(edges) - 1):  # every split gets one
        after = len(edges) - 1 - number
        edges[number] = min(max(edges[number], edges[number - 1] + 1), len(order) - after)
    return {
        split: {name: images[name] for name in sorted(order[start:end], key=natural)}
        for split, start, end in zip(fractions, edges[:-1], edges[1:], strict=True)
    }


def _point_files(paths: Iterable[Path]) -> list[Path]:
    """Files that may hold points; not CCLabeler's notes of how far an image is labelled."""
    return sorted(
        path
        for path in paths
        if path.suffix.lower() in _POINTS
        and not (path.parent.name == "marks" and (path.parent.parent / "jsons").is_dir())
    )


def _entries_with_files(
    base: Path,
    split: str,
    mine: dict[str, Path],
    here: dict[str, Path],
    own: dict[Path, Path],
    refused: dict[Path, str],
    settings: FolderSettings,
) -> tuple[list[Entry], list[str]]:
    """The entries of a split whose images have a file of points each, and remarks on them."""
    lacking = [path.relative_to(base).as_posix() for path in here.values() if path not in own]
    if lacking:
        raise ValueError(
            f"{base}: {len(lacking)} of {len(here)} images have no points, the others have "
            f"them in a file each: {_some(lacking)}. Give them one too (with no points for "
            "nobody), or move out what is no image of the data set (thumbnails, density maps)."
            + "".join(f" {text}" for text in list(refused.values())[:2])
        )
    readers = {".json": partial(read_json, category=settings.category)}
    readers |= {".csv": read_csv, ".mat": read_mat}
    entries = [
        Entry(name, path, own[path], readers[own[path].suffix.lower()])
        for name, path in mine.items()
    ]
    notes = []
    for path in [e.annotation for e in entries if e.annotation.suffix.lower() == ".mat"][:1]:
        with suppress(ValueError):  # told with all the others when it is read
            key, _ = mat_variable(path)
            if key not in MAT_KEYS:
                notes.append(
                    f"{split}: points are taken from {key!r}, the only N x 2 matrix of {path.name}"
                )
    marks = {name: base / "marks" / f"{name}.json" for name in mine}
    half = [name for name, mark in marks.items() if mark.is_file() and not all(load_json(mark))]
    if half:
        notes.append(f"{split}: {len(half)} images not marked as finished: {_some(half)}")
    return entries, notes


def _listed_entries(
    listing: Path,
    points: dict[Path, np.ndarray],
    split: str,
    mine: dict[str, Path],
    settings: FolderSettings,
    notes: list[str],
) -> list[Entry]:
    """The entries of a split whose points one file lists."""
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
    return [Entry(name, path, given=points.get(path, nobody)) for name, path in mine.items()]


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


def _nearest(place: Sequence[str], paths: Iterable[Path], base: Path) -> list[Path]:
    """Those of ``paths`` that are nearest to a place; several where none is nearer.

    Compared in turn: the common tail of their paths, their common folders, the folders that only one is
    in, and the same without `_PLAIN`.
    """
    ranks = {}
    for path in paths:
        there = _folders(path, base)
        common, apart = len({*place} & {*there}), len({*place} ^ {*there})
        scenes_apart = len({*_scenes(place)} ^ {*_scenes(there)})
        ranks[path] = _tail(place, there), common, -apart, -scenes_apart
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
        image, *others = _nearest(_folders(path, base), claimants, base)
        if others:
            raise ValueError(
                f"{path} could hold the points of {_some([image, *others])}. Put it beside the one it "
                "is of, or into a folder called like the image's; move out thumbnails and density maps."
            )
        only_image = {*_folders(image, base)} - {*_folders(path, base)}
        only_label = {*_folders(path, base)} - {*_folders(image, base)}
        is_elsewhere = (
            min(len(only_image), len(only_label)) > 1
            or image_scenes.intersection(_scenes(only_label))
            or label_scenes.intersection(_scenes(only_image))
        )
        if not is_elsewhere:
            own[image] = path
        for other in claimants:
            if other not in own:
                whose = f"is of {image}" if other != image else "lies in the folder of others"
                refused[other] = f"{path}, which is called like {other}, {whose}."
    return own, refused


def _the_listing(
    folder: Path, base: Path, split: str, settings: FolderSettings, files: Sequence[Path]
) -> Path:
    """The one file that lists a split's points: in its folder, or above it under its name."""
    found = [path for path in files if path.suffix.lower() != ".mat"]
    if not found:
        above = _point_files([*folder.glob("*"), *folder.glob("annotations/*")])
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
    first = {path.suffix.lower(): path for path in reversed(seen)}
    kinds = Counter(path.suffix.lower() for path in seen).most_common()
    texts = [f"{number} {kind} ({_UNREAD[kind]}; {first[kind]})" for kind, number in kinds]
    return f" Seen, but not read: {', '.join(texts)}; convert them." if texts else ""


def _match(
    listing: Path,
    images: Sequence[Path],
    scenes: Collection[str],
    folder: Path,
    base: Path,
    settings: FolderSettings,
) -> tuple[dict[Path, np.ndarray], list[str]]:
    """Points by image, and remarks: the image of that file name whose path has the longest tail in common.

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
        place = tuple(n.lower() for n in places if n not in ("", ".")) or below
        found = {}  # candidates, and the folders of the name that are not theirs
        for path in called.get(name, ()):
            tops = [top for top in (folder, base) if path.is_relative_to(top)]
            if any(_folders(path, top) == place for top in tops):
                found = {path: ()}
                break
            wanted, inner = _scenes(place), _scenes(_folders(path, tops[-1]))
            tail = _tail(wanted, _scenes(_folders(path, folder)))
            beyond = wanted[: len(wanted) - tail]  # folders of another machine, as a rule
            if not beyond or (tail >= len(inner) and beyond[-1] not in scenes):
                found[path] = beyond
        best, *others = _nearest(place, found, folder) or [None]
        if best is None:
            strange.append(reference)
            continue
        if others:
            raise ValueError(
                f"{listing}: {reference!r} could be {_some(sorted(map(str, [best, *others])))}. "
                f"Write its path from {folder}."
            )
        if best in points:
            raise ValueError(f"{listing}: {best} is named in two ways, one of them {reference!r}.")
        points[best] = part
        if found[best]:
            sources[best.parent][found[best]] = reference
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
    return points, notes


def _hint(reference: str, called: Mapping[str, list[Path]]) -> str:
    """What a listed name without an image may be meant to be."""
    name = reference.replace("\\", "/").rsplit("/", 1)[-1]
    if called.get(name):
        return f" {called[name][0]} has that file name, but lies in another folder."
    near = difflib.get_close_matches(name, [key for key in called if "." in key], n=1)
    return f" Is {reference!r} meant to be {near[0]!r}?" if near else ""


def _some(names: Sequence, most: int = 5) -> str:
    rest = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(map(str, names[:most])) + rest
