"""Data sets and splits: as published, decoded when asked for; or prepared as raw pixels, to read crops of."""

from __future__ import annotations

import hashlib
import json
import os
import re
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from ebclib.data.images import Decoded, decode, frame_of, image_header, upright_points
from ebclib.runs import write_whole

FORMAT = 1
"""Version of the files on disk; what another version wrote is prepared again."""

INDEX = "index.npz"
HELD_OUT = 0.1  # the share of the training images that is kept for validation

LEAST_SIDE = 448
"""The least side of a prepared image, in pixels: a training crop fits into any of them."""

EVERY = "all"
"""The split that holds every image of an own folder whose images are divided by a draw."""


@dataclass(frozen=True)
class Dataset:
    """What one data set is."""

    name: str  # as given to `read` and on the command line
    title: str  # as written in a paper
    splits: dict[str, int | None]  # images published in each split; None where it is not fixed
    test_split: str = "test"  # the labelled split that results are reported on
    unlabelled: tuple[str, ...] = ()  # splits whose points the publisher keeps
    longest_side: int | None = None  # of a prepared image, unless its least side needs more
    least_side: int = LEAST_SIDE
    multiples_px: tuple[int, ...] = ()  # of prepared sides, for released models (`prepared_size`)
    noun: tuple[str, str] = ("person", "people")  # what is counted, (singular, plural)
    source: str = ""  # where to get it
    terms: str = ""  # of its use
    folders: tuple[str, ...] = ()  # names its folder may have below the data root
    is_drawn: bool = False  # `ebclib.synthetic` makes it; it has no files
    is_divided: bool = False  # splits are drawn parts of one heap; then there is also `EVERY`
    division: str = "as published"  # how its splits came to be, a clause for people
    checks_coordinates: bool = True  # whether `prepare` refuses points that do not look like pixels

    @property
    def sides(self) -> tuple[int, int | None, tuple[int, ...]]:
        """How its images are scaled, as `images.prepared_size` takes it."""
        return self.least_side, self.longest_side, self.multiples_px


class Sample(NamedTuple):
    """One image and the people in it."""

    image: np.ndarray  # uint8 (H, W, 3), RGB
    points: np.ndarray  # float64 (N, 2), columns x, y in pixels, 0 <= x < W and 0 <= y < H
    name: str  # unique in its split


@dataclass(frozen=True)
class Entry:
    """Where one sample comes from, in files; what `prepare` works on."""

    name: str  # unique in the split
    image: Path  # the image's file
    annotation: Path | None = None  # the file its points are in
    load: Callable[[Path], np.ndarray] | None = None  # reads ``annotation``, gives (N, 2)
    given: np.ndarray | None = None  # the points, where one file lists those of many images

    def stamp(self) -> str:
        """Size and time of the image and its annotation (or a hash of the given points)."""
        parts = [file_stamp(path) for path in (self.image, self.annotation) if path is not None]
        if self.given is not None:
            parts.append(hashlib.sha256(self.given.tobytes()).hexdigest()[:16])
        return " ".join(parts)

    def size(self) -> tuple[int, int]:
        """(H, W) of the upright image, from the file's header."""
        return image_header(self.image)[0]

    def framed_points(self) -> tuple[np.ndarray, tuple[int, int]]:
        """The points as annotated, and (H, W) of the image that they fit: upright, or as stored."""
        points, (size, orientation) = self.points(), image_header(self.image)
        return points, frame_of(points, size, orientation)

    def points(self) -> np.ndarray:
        """(N, 2) as annotated; (0, 2) for an image without labels."""
        if self.annotation is None or self.load is None:
            return np.empty((0, 2)) if self.given is None else self.given
        if not self.annotation.is_file():
            raise FileNotFoundError(f"{self.image}: its annotation {self.annotation} is missing.")
        return self.load(self.annotation)

    def read(self) -> tuple[Decoded, np.ndarray, str]:
        """The image, its points as annotated, and its file's hex digest.

        ValueError or OSError naming the file at fault.
        """
        data = self.image.read_bytes()
        return decode(data, self.image), self.points(), hashlib.sha256(data).hexdigest()


@dataclass(eq=False, repr=False)
class ReadSplit(Sequence[Sample]):
    """A split as published: images are decoded when asked for, at their own size, upright.

    Points outside their image are left out.
    """

    entries: Sequence[Entry]
    is_labelled: bool = True  # False where the publisher keeps the points (they are then empty)
    noun: tuple[str, str] = ("person", "people")  # what is counted, (singular, plural)
    notes: list[str] = field(default_factory=list)  # remarks made while reading

    @property
    def names(self) -> list[str]:
        """The images' names."""
        return [entry.name for entry in self.entries]

    def __len__(self) -> int:
        return len(self.entries)

    def __getitem__(self, index: int | slice) -> Sample | list[Sample]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        image, points, _ = self.entries[index].read()
        points, _, _ = upright_points(points, image.size, image.orientation)
        return Sample(image.pixels, points, self.entries[index].name)


class PreparedSplit(Sequence[Sample]):
    """A prepared split, as `prepare` wrote it to ``folder``; opened in milliseconds.

    A sample's image is a read-only memory map: slicing it reads only the slice. Nothing stays
    open between two accesses, so a split can be pickled and handed to worker processes. One that is
    not ``finished`` is opened to go on with it alone.

    Attributes
    ----------
    points : a float64 array (N, 2) for each image, x and y in prepared pixels
    sizes, source_sizes : (H, W) of each image, and before it was resized
    counts : int64 array, the points of each image
    digest : sha256 in hex over the source files and the prepared points
    meta : all that the index says beside the points, with a record of each image

    Raises
    ------
    FileNotFoundError : not prepared
    ValueError : prepared by another version, or damaged
    """

    def __init__(self, folder: str | Path, finished: bool = True) -> None:
        self.folder = Path(folder)
        path = self.folder / INDEX
        again = f"Run `ebc prepare {self.folder.parent.name}` again."
        if not path.is_file():
            raise FileNotFoundError(f"{path} is not there: this split is not prepared. {again}")
        try:
            with open(path, "rb") as file, np.load(file, allow_pickle=False) as arrays:
                self.meta: dict[str, Any] = json.loads(str(arrays["meta"]))
                points, starts, sizes = (arrays[key] for key in ("points", "starts", "sizes"))
            if self.meta["format"] != FORMAT:
                raise ValueError(f"format {self.meta['format']}, this version reads {FORMAT}")
        except (zipfile.BadZipFile, KeyError, EOFError, OSError, ValueError) as problem:
            raise ValueError(f"{path} is damaged ({problem}). {again}") from problem
        if finished and not self.meta.get("finished", True):
            raise FileNotFoundError(f"{self.folder} is prepared in part. {again}")
        self.dataset: str = self.meta["dataset"]
        self.split: str = self.meta["split"]
        self.names: list[str] = self.meta["names"]
        self.digest: str = self.meta["digest"]
        self.noun: tuple[str, str] = tuple(self.meta["noun"])
        self.is_labelled: bool = self.meta["is_labelled"]
        self.points: list[np.ndarray] = np.split(points, starts[1:-1]) if self.names else []
        self.sizes: list[tuple[int, int]] = [(int(h), int(w)) for h, w in sizes]
        self.source_sizes = [tuple(record["source_size"]) for record in self.meta["records"]]
        self.counts: np.ndarray = np.diff(starts)

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int | slice) -> Sample | list[Sample]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        return Sample(self.image(index), self.points[index].copy(), self.names[index])

    def image(self, index: int) -> np.ndarray:
        """Read-only memory map (H, W, 3), uint8, RGB; FileNotFoundError if the file was removed since."""
        path = image_path(self.folder, self.names[index])
        try:
            return np.load(path, mmap_mode="r")
        except FileNotFoundError:
            raise FileNotFoundError(f"{path} is gone. Run `ebc prepare {self.dataset}`.") from None

    def crop(self, index: int, top: int, left: int, height: int, width: int) -> np.ndarray:
        """A copy (height, width, 3) of a part of an image, which lies inside; only that part is read."""
        return np.array(self.image(index)[top : top + height, left : left + width])

    def __repr__(self) -> str:
        what = f"{self.counts.sum()} {self.noun[1]}" if self.is_labelled else "no labels"
        return f"<{self.dataset} {self.split}: {len(self)} images, {what}>"


def image_path(folder: Path, name: str) -> Path:
    """Where the pixels of the image ``name`` lie in a prepared split's folder."""
    return folder / f"{name}.npy"


def save_index(path: Path, meta: dict[str, Any], points: Sequence[np.ndarray]) -> None:
    """Write the index of a prepared split."""
    arrays = {
        "points": np.concatenate([np.empty((0, 2)), *points]),
        "starts": np.cumsum([0, *map(len, points)], dtype=np.int64),
        "sizes": np.array([r["size"] for r in meta["records"]], dtype=np.int64).reshape(-1, 2),
    }
    text = np.array(json.dumps({"format": FORMAT, **meta}))
    _write(path, lambda file: np.savez(file, meta=text, **arrays))


def write_array(path: Path, array: np.ndarray) -> None:
    """Store ``array`` as .npy, whole or not at all."""
    _write(path, lambda file: np.save(file, array))


def _write(path: Path, save: Callable[[BinaryIO], object]) -> None:
    def write(part: Path) -> None:
        with part.open("wb") as file:  # to a name numpy would add an ending of its own
            save(file)

    write_whole(path, write)


def hold_out(counts: Sequence[int] | np.ndarray, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Split images into training and validation ones, alike in how many people they show.

    The images are sorted by count (n,) and cut into n/10 equal groups; one is drawn from each.

    Returns
    -------
    train, held : int64 indices in ascending order; disjoint, together all of 0..n-1
    """
    counts = np.asarray(counts)
    if len(counts) < 2:
        raise ValueError(f"{len(counts)} images cannot be divided; at least 2 images are expected.")
    rng = np.random.default_rng(seed)
    order = np.argsort(counts, kind="stable")
    groups = np.array_split(order, max(1, round(len(counts) * HELD_OUT)))
    held = np.sort([rng.choice(group) for group in groups])
    return np.setdiff1d(np.arange(len(counts)), held), held


def natural(text: str | Path) -> list:
    """Sort key under which IMG_2 comes before IMG_10.

    >>> sorted(["IMG_10", "IMG_2"], key=natural)
    ['IMG_2', 'IMG_10']
    """
    parts = re.split(r"(\d+)", str(text))
    return [(int(part), part) if part.isdecimal() else (-1, part.lower()) for part in parts]


def files_below(
    folder: Path,
    skip: Path | None = None,
    unlisted: Callable[[OSError], None] | None = None,
) -> Iterator[Path]:
    """All files below ``folder`` but hidden ones and those in ``skip``; linked folders are walked once.

    ``unlisted`` is called with the error of a folder that cannot be listed.
    """
    seen = {os.path.realpath(skip)} if skip else set()
    for top, folders, files in os.walk(folder, onerror=unlisted, followlinks=True):
        real = os.path.realpath(top)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if name[0] != ".")
        yield from (Path(top, name) for name in files if name[0] != ".")


def file_stamp(path: Path) -> str:
    """Size and time of a file: another where it was changed, or is not there."""
    try:
        stat = path.stat()
    except OSError:
        return "missing"
    return f"{stat.st_size}-{stat.st_mtime_ns}"
