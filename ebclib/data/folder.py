"""Anybody's own folder: images, points beside each or in one listing, and `dataset.yaml` for the rest."""

from __future__ import annotations

import hashlib
from collections import defaultdict
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
from ebclib.data import annotations
from ebclib.data.images import SUFFIXES
from ebclib.data.splits import EVERY, LEAST_SIDE, Dataset, Entry, ReadSplit, files_below, natural

FRACTIONS = {"train": 0.8, "test": 0.2}
"""How images are divided where there are no folders for splits."""

_SPELLINGS = {
    "train": ("train", "training", "train_data"),
    "val": ("val", "valid", "validation", "val_data"),
    "test": ("test", "testing", "test_data"),
}
_KINDS = {  # of the values in `dataset.yaml`, if not a word
    "splits": (dict, "{train: dir, test: dir}"),
    "unlabelled": (list, "a list of splits"),
    **dict.fromkeys(["longest_side", "least_side", "seed"], (int, "a whole number above 0")),
}
_STEMS = ("{0.stem}", "GT_{0.stem}", "{0.stem}_ann", "{0.name}")  # of an image's own file
# Folders' names that say what is in them, not which scene it is of.
_PLAIN = {"images", "image", "imgs", "img", "jpegimages", "pictures", "points", "dots", "csv"}
_PLAIN |= {"labels", "label", "annotations", "annotation", "ann", "anns", "jsons", "json"}
_PLAIN |= {"gt", "ground-truth", "ground_truth", "groundtruth", "mats", "mat"}


@dataclass(frozen=True)
class FolderSettings:
    """What `dataset.yaml` may say (`data/README.md`); everything has a default."""

    title: str = ""
    noun: str = "person"
    plural: str = ""
    longest_side: int | None = None
    least_side: int = LEAST_SIDE
    # folders ``{train: dir, test: dir}`` or parts ``{train: 0.8, test: 0.2}``
    splits: Mapping[str, str | float] = field(default_factory=dict)
    seed: int = 0
    category: str | None = None
    unlabelled: Sequence[str] = ()
    unlisted: Literal["error", "empty"] = "error"
    coordinates: Literal["check", "pixels"] = "check"
    heap: str = ""  # the folder whose images are divided; no key of the file

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
    held_out = settings.splits.keys() - {"train"}
    unseen = [name for name in ("test", "val", *settings.splits) if name in held_out]
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
        terms="your own",
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
    part = _FolderSplit(folder, split, settings, {".csv", ".json", ".mat"})
    noun = settings.noun, settings.plural
    if split in settings.unlabelled:
        return ReadSplit([Entry(name, path) for name, path in part.mine.items()], False, noun)
    entries = part.with_files() if any(part.called.values()) else part.listed()
    if settings.fractions and split != EVERY:
        number = f"{len(part.mine)} of {len(part.here)}"
        part.notes.append(f"{split}: {number} images, divided {settings.division}")
    return ReadSplit(entries, True, noun, part.notes)


def read_published(folder: Path, split: str) -> list[Entry]:
    """The entries of a published split that lies as an own folder would, beside JHU's .txt."""
    splits = _found_splits(folder)
    if split not in splits:
        raise FileNotFoundError(folder / split)
    settings = FolderSettings(splits=splits)
    return _FolderSplit(folder, split, settings, {".mat", ".txt"}).with_files()


class _FolderSplit:
    """The images of a split of an own data set, and the finding of their points.

    Attributes
    ----------
    base : folder of the split, or of all images where they are divided by a draw
    mine, here, known : the split's images, by name; those below ``base``; those of all splits
    scenes : names of folders that images of any split are in
    files : files below ``base`` that may hold points
    called : for each image below ``base`` the files that are called like it
    notes : remarks on what was found
    """

    def __init__(
        self, folder: Path, split: str, settings: FolderSettings, endings: Collection[str]
    ) -> None:
        self.folder, self.split, self.settings = folder, split, settings
        is_every = split == EVERY and settings.fractions
        if not is_every:
            one_of(f"split of {folder.name}", split, settings.splits)
        tops = [settings.heap] if settings.fractions else settings.splits.values()
        self.base = folder / (settings.heap if settings.fractions else settings.splits[split])
        self.here = self.mine = _images(self.base)
        self.known = [path for top in tops for path in _images(folder / top).values()]
        self.scenes = _all_scenes(self.known, folder)
        if settings.fractions and not is_every:
            self.mine = _divide(self.here, settings, folder)[split]
        if not self.mine:
            raise FileNotFoundError(
                f"{self.base} holds no images. `data/README.md` shows how images and points lie."
            )
        self.files = _point_files(files_below(self.base), endings)
        by_stem = defaultdict(list)
        for path in self.files:
            by_stem[path.stem].append(path)
        self.called = {
            image: list(dict.fromkeys(f for form in _STEMS for f in by_stem[form.format(image)]))
            for image in self.here.values()
        }
        self.notes: list[str] = []

    def with_files(self) -> list[Entry]:
        """The entries of a split whose images have a file of points each."""
        base, split, own = self.base, self.split, self._own_files()
        lacking = [p.relative_to(base).as_posix() for p in self.here.values() if p not in own]
        if lacking:
            raise ValueError(
                f"{base}: {len(lacking)} of {len(self.here)} images have no points: {_some(lacking)}. "
                "Give each a file of its own, in a folder of the same name (with no points for "
                "nobody), or move out what is no image of the data set."
            )
        readers = {".json": partial(annotations.read_json, category=self.settings.category)}
        readers |= {".csv": annotations.read_csv, ".mat": annotations.read_mat}
        readers[".txt"] = annotations.read_jhu
        for path in [own[p] for p in self.mine.values() if own[p].suffix.lower() == ".mat"][:1]:
            with suppress(ValueError):  # told with all the others when it is read
                key, _ = annotations.mat_variable(path)
                if key not in annotations.MAT_KEYS:
                    where = f"{key!r}, the only N x 2 matrix of {path.name}"
                    self.notes.append(f"{split}: points are taken from {where}")
        marks = {name: base / "marks" / f"{name}.json" for name in self.mine}
        half = [n for n, m in marks.items() if m.is_file() and not all(annotations.load_json(m))]
        if half:
            self.notes.append(f"{split}: {len(half)} images not marked as finished: {_some(half)}")
        return [
            Entry(name, path, own[path], readers[own[path].suffix.lower()])
            for name, path in self.mine.items()
        ]

    def _own_files(self) -> dict[Path, Path]:
        """The nearest file for each image; none serves two images, or an image of another scene."""
        base, called = self.base, self.called
        image_scenes = _all_scenes(called, base)
        label_scenes = _all_scenes(chain(*called.values()), base)

        def fits(image: Path, label: Path) -> bool:
            of_image, of_label = {*_folders(image, base)}, {*_folders(label, base)}
            return (
                min(len(of_image - of_label), len(of_label - of_image)) <= 1
                and image_scenes.isdisjoint(_scenes(of_label - of_image))
                and label_scenes.isdisjoint(_scenes(of_image - of_label))
            )

        claims = defaultdict(list)
        for image, found in called.items():
            best = _nearest(_folders(image, base), found, base)
            if len(best) > 1:
                raise ValueError(f"{image} has several files of points: {_some(best)}. Keep one.")
            for path in best:
                claims[path].append(image)
        own = {}
        for path, images in claims.items():
            image, *others = _nearest(_folders(path, base), images, base)
            if others:
                both = _some([image, *others])
                raise ValueError(
                    f"{path} could hold the points of {both}. Put it beside one of them."
                )
            if fits(image, path):
                own[image] = path
        return own

    def listed(self) -> list[Entry]:
        """The entries of a split whose points one file lists."""
        listing = self._listing()
        points = self._match(listing)
        unlisted = [path.name for path in self.mine.values() if path not in points]
        if unlisted and self.settings.unlisted == "error":
            raise ValueError(
                f"{listing} does not name {len(unlisted)} of the {len(self.mine)} images of "
                f"{self.split}: {_some(unlisted)}. Where they show nobody, say so (CSV: a row `name,,`; "
                'JSON: `"name": []`), or write `unlisted: empty` into dataset.yaml.'
            )
        if unlisted:
            what = f"images that {listing.name} does not name"
            self.notes.append(f"{self.split}: {len(unlisted)} {what} count 0")
        nobody = np.empty((0, 2))
        return [Entry(n, path, given=points.get(path, nobody)) for n, path in self.mine.items()]

    def _listing(self) -> Path:
        """The one file that lists a split's points: below its folder, or above it under its name."""
        folder, base = self.folder, self.base
        found = _point_files(self.files, {".csv", ".json"})
        if not found:
            above = [*folder.glob("*"), *folder.glob("annotations/*")]
            above = _point_files(above, {".csv", ".json"})
            word = base.name.lower() if self.settings.fractions else self.split
            found = [path for path in above if word in path.stem.lower()] or above
        if len(found) > 1:
            raise ValueError(
                f"{base}: several files could list its points: {_some(found)}. Keep one there."
            )
        if not found:
            raise ValueError(
                f"{base} has images but no points. Expected is `points.csv` (columns image,x,y), or a "
                "file beside each image; `data/README.md` has all formats. Nothing to label? Write "
                f"`unlabelled: [{self.split}]` into {folder / 'dataset.yaml'}."
            )
        return found[0]

    def _match(self, listing: Path) -> dict[Path, np.ndarray]:
        """Points by image; of images of one name the nearest to what is listed is meant."""
        images = self.here.values() if listing in self.files else self.known
        called = defaultdict(list)
        for path in images:
            for key in {path.name, path.stem}:
                called[key].append(path)
        listed, self.notes = annotations.read_listing(listing, self.settings.category)
        points: dict[Path, np.ndarray] = {}
        strange = []
        for reference, part in listed.items():
            *places, name = reference.replace("\\", "/").split("/")
            place = tuple(n.lower() for n in places if n not in ("", "."))
            if not place and listing.is_relative_to(self.base):
                place = _folders(listing, self.base)
            fitting = [path for path in called[name] if self._is_meant(place, path)]
            best = _nearest(place, fitting, self.folder)
            if len(best) > 1:
                could = f"{reference!r} could be {_some(sorted(map(str, best)))}"
                raise ValueError(f"{listing}: {could}. Write its path from {self.folder}.")
            for image in best:
                if image in points:
                    raise ValueError(f"{listing}: {image} is named in two ways, as {reference!r}.")
                points[image] = part
            strange += [] if best else [reference]
        if strange:
            raise ValueError(
                f"{listing} names {len(strange)} images that are not there: {_some(strange)}. "
                f"Write file names, or paths from {self.folder}."
            )
        return points

    def _is_meant(self, place: Sequence[str], image: Path) -> bool:
        """Whether a place may be an image's: it may begin with folders of another machine, not of images."""
        top = self.base if image.is_relative_to(self.base) else self.folder
        wanted, inner = _scenes(place), _scenes(_folders(image, top))
        tail = _tail(wanted, _scenes(_folders(image, self.folder)))
        beyond = wanted[: len(wanted) - tail]
        return not beyond or (tail >= len(inner) and beyond[-1] not in self.scenes)


def _read_settings(folder: Path) -> FolderSettings:
    """The settings of an own folder, its splits filled in; ValueError where they make no sense."""
    path, short = folder / "dataset.yaml", folder / "dataset.yml"
    path = short if short.is_file() and not path.is_file() else path
    try:
        text = path.read_text(encoding="utf-8-sig") if path.is_file() else ""
        content = yaml.safe_load(text) or {}
        if not isinstance(content, dict):
            raise ValueError(f"lines such as `noun: bird` are expected, not {content!r:.60}.")
        values = {key: value for key, value in content.items() if value is not None}
        _check(values)
        values["splits"] = values.get("splits") or _found_splits(folder) or FRACTIONS
        _check_splits(values["splits"], folder)
        if list(values["splits"]) == ["train"]:  # something has to be left to measure on
            values |= {"heap": values["splits"]["train"], "splits": FRACTIONS}
        for name in values["unlabelled"]:
            one_of("unlabelled split", name, values["splits"])
    except (ValueError, yaml.YAMLError) as problem:
        raise ValueError(f"{path}: {problem}") from problem
    noun = values.get("noun", "person")
    values.setdefault("plural", "people" if noun == "person" else _plural(noun))
    return FolderSettings(**values)


def _check(values: dict[str, Any]) -> None:
    """ValueError if a value is not of its field's type; ``unlabelled`` becomes a list."""
    known = [each.name for each in fields(FolderSettings) if each.name != "heap"]
    given = values.get("unlabelled", [])
    values["unlabelled"] = [given] if isinstance(given, str) else given
    for key, value in values.items():
        one_of("key", str(key), known)
        kind, expected = _KINDS.get(key, (str, "a word (quote it)"))
        if type(value) is not kind or (kind is int and value < int(key != "seed")):
            raise ValueError(f"{key} is {value!r}; {expected} is expected.")
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
            both = f"{found[name].name} and {path.name}"
            raise ValueError(f"{folder}: {both} would both be called {name!r}. Rename one.")
        found[name] = path
    return found


def _divide(
    images: dict[str, Path], settings: FolderSettings, folder: Path
) -> dict[str, dict[str, Path]]:
    """Images divided by fractions, by a seeded draw for each name: one added later moves few others."""
    fractions = settings.fractions
    if 0 < len(images) < len(fractions):
        raise ValueError(
            f"{folder}: {len(images)} images; they cannot be divided into {[*fractions]}."
        )
    order = sorted(images, key=lambda n: hashlib.sha256(f"{settings.seed}/{n}".encode()).digest())
    shares = np.cumsum(list(fractions.values())) / sum(fractions.values())
    edges = [0, *(round(len(order) * share) for share in shares)]
    for number in range(1, len(edges) - 1):  # every split gets one
        after = len(edges) - 1 - number
        edges[number] = min(max(edges[number], edges[number - 1] + 1), len(order) - after)
    return {
        split: {name: images[name] for name in sorted(order[start:end], key=natural)}
        for split, start, end in zip(fractions, edges[:-1], edges[1:], strict=True)
    }


def _some(names: Sequence, most: int = 5) -> str:
    rest = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(map(str, names[:most])) + rest


def _point_files(paths: Iterable[Path], endings: Collection[str]) -> list[Path]:
    """Files that may hold points; not CCLabeler's notes of how far an image is labelled."""
    return sorted(
        path
        for path in paths
        if path.suffix.lower() in endings
        and not (path.parent.name == "marks" and (path.parent.parent / "jsons").is_dir())
    )


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

    Compared are the common tail, then the folders that only one is in, then these without `_PLAIN`.
    """
    ranks = {}
    for path in paths:
        there = _folders(path, base)
        apart, scenes_apart = {*place} ^ {*there}, {*_scenes(place)} ^ {*_scenes(there)}
        ranks[path] = _tail(place, there), -len(apart), -len(scenes_apart)
    return [path for path, rank in ranks.items() if rank == max(ranks.values())]
