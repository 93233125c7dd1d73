"""Anybody's own folder: images, points in one of several forms, a few lines of YAML."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np

from ebclib.config import one_of
from ebclib.data.catalogue import EVERY, Dataset
from ebclib.data.labels import labelled_entries
from ebclib.data.images import SUFFIXES
from ebclib.data.sample import Entry, ReadSplit, files_below, natural
from ebclib.data.settings import FolderSettings, read_settings

LAYOUT = """\
{name}/
  dataset.yaml               (optional: noun, plural, longest_side, splits …)
  train/
    anything.jpg …
    points.csv               image,x,y  (or points.json, COCO, or a file beside each image)
  test/ …                    (without it the images are divided, 80 % train, 20 % test)"""


def describe_folder(folder: Path) -> Dataset:
    """The description of an own data set.

    Raises
    ------
    ValueError : `dataset.yaml` makes no sense
    """
    settings = read_settings(folder)
    labelled = [name for name in settings.splits if name not in settings.unlabelled]
    unseen = [name for name in ("test", "val", *settings.splits) if name in settings.splits]
    unseen = [name for name in unseen if name != "train"]
    return Dataset(
        name=folder.name,
        title=settings.title or folder.name,
        splits=dict.fromkeys(settings.splits),
        test_split=next((name for name in unseen if name in labelled), unseen[0]),
        unlabelled=settings.unlabelled,
        longest_side=settings.longest_side,
        least_side=settings.least_side,
        noun=(settings.noun, settings.plural),
        source=f"your own folder, {folder}",
        terms="your own",
        folders=(folder.name,),
        layout=LAYOUT.format(name=folder.name),
        is_divided=bool(settings.fractions),
        division=_division(settings),
        checks_coordinates=settings.coordinates == "check",
    )


def _division(settings: FolderSettings) -> str:
    fractions = settings.fractions
    if not fractions:
        return "by its folders"
    whole = sum(fractions.values())
    parts = ", ".join(f"{100 * part / whole:.0f} % {name}" for name, part in fractions.items())
    what = f"the images of {settings.heap}/" if settings.heap else "its images"
    return f"by a draw of {what} (seed {settings.seed}): {parts}"


def read_folder(folder: Path, split: str) -> ReadSplit:
    """A split of an own data set, in natural order of the images' names.

    Raises
    ------
    ValueError : images without points, points without images, or a file of another kind
    FileNotFoundError : no images
    """
    settings = read_settings(folder)
    every = split == EVERY and settings.fractions
    if not every:
        one_of(f"split of {folder.name}", split, settings.splits)
    for name in settings.unlabelled:
        one_of(f"{folder / 'dataset.yaml'}: unlabelled split", name, settings.splits)
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
        notes.append(f"{split}: {len(mine)} of {len(here)} images, divided {_division(settings)}")
    return ReadSplit(entries, True, noun, notes)


def _images(folder: Path) -> dict[str, Path]:
    """Images below ``folder`` by name: the path without its ending, and without `images/`."""
    found: dict[str, Path] = {}
    for path in sorted(files_below(folder), key=natural):
        inside = path.relative_to(folder)
        if _is_ending(path) or path.suffix.lower() not in SUFFIXES:
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
