"""Anybody's own folder: images, points in one of several forms, and `dataset.yaml` for the rest."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

import numpy as np
import yaml

from ebclib.config import one_of
from ebclib.data.catalogue import EVERY, LEAST_SIDE, Dataset
from ebclib.data.images import SUFFIXES
from ebclib.data.labels import labelled_entries
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
    category: str | None = None  # COCO: the category to count
    unlabelled: tuple[str, ...] = ()  # splits that have no points
    # what an image means that a listing of points does not name: an ``error``, or nobody
    # (``empty``)
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
        unlabelled=settings.unlabelled,
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
        here = known = _images(base)
        mine = here if every else _divide(here, settings, folder)[split]
    else:
        base = folder / settings.splits[split]
        mine = here = _images(base)
        parts = (_images(folder / part) for part in settings.splits.values())
        known = {path: path for part in parts for path in part.values()}
    if not mine:
        tree = "\n".join(f"  {line}" for line in LAYOUT.format(name=folder.name).splitlines())
        raise FileNotFoundError(
            f"{base} holds no images. Expected is, below {folder.parent}/,\n{tree}"
        )
    noun = (settings.noun, settings.plural)
    if split in settings.unlabelled:
        return ReadSplit([Entry(name, path) for name, path in mine.items()], False, noun)
    entries, notes = labelled_entries(
        folder, base, split, mine, list(here.values()), list(known.values()), settings
    )
    if settings.fractions and not every:
        notes.append(f"{split}: {len(mine)} of {len(here)} images, divided {settings.division}")
    return ReadSplit(entries, True, noun, notes)


def _read_settings(folder: Path) -> FolderSettings:
    """The settings of an own folder, its splits filled in; ValueError where they make no sense."""
    path, short = folder / "dataset.yaml", folder / "dataset.yml"
    if path.is_file() and short.is_file():
        raise ValueError(f"{folder} has both {path.name} and {short.name}. Keep one.")
    path = short if short.is_file() else path
    content: Any = {}
    try:
        if path.is_file():
            content = yaml.safe_load(path.read_text(encoding="utf-8-sig")) or {}
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
    """Turn values into the fields' types, or say which is of another kind."""
    known = [each.name for each in fields(FolderSettings) if each.name != "heap"]
    for key, value in values.items():
        one_of("key", str(key), known)
        if key in ("title", "noun", "plural", "category"):
            right, expected = isinstance(value, str), "a word is expected (quote it)"
        elif key in ("longest_side", "least_side", "seed"):
            least = int(key != "seed")
            right = type(value) is int and value >= least
            expected = f"a whole number from {least} is expected"
        else:
            right = key != "splits" or isinstance(value, dict)
            expected = "expected is {train: dir, test: dir}"
        if not right:
            raise ValueError(f"{key} is {value!r}; {expected}.")
    given = values.get("unlabelled", [])
    values["unlabelled"] = tuple([given] if isinstance(given, str) else given)
    one_of("unlisted", str(values.get("unlisted", "error")), ("error", "empty"))
    one_of("coordinates", str(values.get("coordinates", "check")), ("check", "pixels"))


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
        if _is_ending(path) or path.suffix.lower() not in SUFFIXES:
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


def _is_ending(path: Path) -> bool:
    """Whether this is the image that CCLabeler shows when all are labelled."""
    jsons = path.parent.parent / "jsons"
    ends = path.stem == "default" and path.parent.name == "images"
    return ends and jsons.is_dir() and not (jsons / "default.json").is_file()


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
