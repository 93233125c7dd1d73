"""Anybody's own folder: pictures, points in one of several forms, a few lines of YAML."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np

from ebclib.choices import choose
from ebclib.datasets.catalogue import EVERY, Dataset
from ebclib.datasets.labels import labelled_entries
from ebclib.datasets.pictures import SUFFIXES
from ebclib.datasets.sample import Entry, ReadSplit, natural
from ebclib.datasets.settings import FolderSettings, read_settings

LAYOUT = """\
{name}/
  dataset.yaml               (optional: noun, plural, longest_side, splits …)
  train/
    anything.jpg …
    points.csv               image,x,y  (or points.json, COCO, or a file beside each picture)
  test/ …                    (no such folders: the pictures are divided, 80 % train, 20 % test)"""


def describe_folder(folder: Path) -> Dataset:
    """The description of an own data set.

    Raises
    ------
    ValueError : `dataset.yaml` makes no sense
    """
    settings = read_settings(folder)
    return Dataset(
        name=folder.name,
        title=settings.title or folder.name,
        splits=dict.fromkeys(settings.splits),
        test_split="test" if "test" in settings.splits else list(settings.splits)[-1],
        unlabelled=settings.unlabelled,
        longest_side=settings.longest_side,
        least_side=settings.least_side,
        noun=(settings.noun, settings.plural),
        source=f"your own folder, {folder}",
        terms="your own",
        folders=(folder.name,),
        layout=LAYOUT.format(name=folder.name),
        is_divided=bool(settings.fractions),
    )


def read_folder(folder: Path, split: str) -> ReadSplit:
    """A split of an own data set, in natural order of the pictures' names.

    Raises
    ------
    ValueError : pictures without points, points without pictures, or a file of another kind
    FileNotFoundError : no pictures
    """
    settings = read_settings(folder)
    every = split == EVERY and settings.fractions
    if not every:
        choose(f"split of {folder.name}", split, settings.splits)
    for name in settings.unlabelled:
        choose(f"{folder / 'dataset.yaml'}: unlabelled split", name, settings.splits)
    if settings.fractions:
        base, here = folder, _pictures(folder)
        mine = here if every else _divide(here, settings, folder)[split]
        known = list(here.values())
    else:
        base = folder / settings.splits[split]
        mine = here = _pictures(base)
        known = [
            path for part in settings.splits.values() for path in _pictures(folder / part).values()
        ]
    if not mine:
        tree = "\n".join(f"  {line}" for line in LAYOUT.format(name=folder.name).splitlines())
        raise FileNotFoundError(
            f"{base} holds no pictures. Expected is, below {folder.parent}/,\n{tree}"
        )
    noun = (settings.noun, settings.plural)
    if split in settings.unlabelled:
        return ReadSplit([Entry(name, path) for name, path in mine.items()], False, noun)
    entries, notes = labelled_entries(
        folder, base, split, mine, list(here.values()), known, settings
    )
    return ReadSplit(entries, True, noun, notes)


def _pictures(folder: Path) -> dict[str, Path]:
    """Pictures below ``folder`` by name: the path without its ending, and without `images/`."""
    found: dict[str, Path] = {}
    for path in sorted(folder.rglob("*"), key=natural):
        inside = path.relative_to(folder)
        hidden = any(part.startswith((".", "__")) for part in inside.parts)
        if hidden or _is_ending(path) or path.suffix.lower() not in SUFFIXES or not path.is_file():
            continue
        parts = inside.parts[1:] if inside.parts[0].lower() == "images" else inside.parts
        name = Path(*parts).with_suffix("").as_posix()
        if name in found:
            raise ValueError(
                f"{folder}: {found[name].name} and {path.name} would both be called {name!r}. "
                "Rename one."
            )
        found[name] = path
    return found


def _is_ending(path: Path) -> bool:
    """Whether this is the picture that CCLabeler shows when all are labelled."""
    jsons = path.parent.parent / "jsons"
    ends = path.stem == "default" and path.parent.name == "images"
    return ends and jsons.is_dir() and not (jsons / "default.json").is_file()


def _divide(
    pictures: dict[str, Path], settings: FolderSettings, folder: Path
) -> dict[str, dict[str, Path]]:
    """Pictures divided by fractions, by a seeded draw for each name.

    A picture added later moves few others, so that a test picture seldom becomes a training one.
    """
    fractions = settings.fractions
    if 0 < len(pictures) < len(fractions):
        raise ValueError(
            f"{folder} holds {len(pictures)} pictures; they cannot be divided into "
            f"{', '.join(fractions)}. Add pictures, or folders for the splits."
        )

    def draw(name: str) -> str:
        return hashlib.sha256(f"{settings.seed}/{name}".encode()).hexdigest()

    order = sorted(pictures, key=draw)
    shares = np.cumsum(list(fractions.values())) / sum(fractions.values())
    edges = [0, *(round(len(order) * share) for share in shares)]
    for number in range(1, len(edges) - 1):  # every split gets one
        after = len(edges) - 1 - number
        edges[number] = min(max(edges[number], edges[number - 1] + 1), len(order) - after)
    return {
        split: {name: pictures[name] for name in sorted(order[start:end], key=natural)}
        for split, start, end in zip(fractions, edges[:-1], edges[1:], strict=True)
    }
