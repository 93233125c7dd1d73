"""What a split is made of: samples, and the sources they are read from."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np

from ebclib.data.images import decode, image_header
from ebclib.data.scaling import frame_of, place


class Sample(NamedTuple):
    """One image and the people in it.

    Attributes
    ----------
    image : uint8 array (H, W, 3), RGB
    points : float64 array (N, 2), columns x, y in pixels, 0 <= x < W and 0 <= y < H
    name : the image's name, unique in its split
    """

    image: np.ndarray
    points: np.ndarray
    name: str


class Raw(NamedTuple):
    """An image as its file has it, turned upright, and the points as annotated.

    Attributes
    ----------
    image : uint8 array (H, W, 3), RGB, upright
    points : float64 array (N, 2); not yet turned, nor checked against the image
    orientation : the file's EXIF orientation, 1 to 8
    sha256 : hex digest of the file
    """

    image: np.ndarray
    points: np.ndarray
    orientation: int
    sha256: str


class Source(Protocol):
    """Where one sample comes from; what `prepare` works on."""

    name: str

    def stamp(self) -> str:
        """Changes when the source does; cheap (no file is read)."""

    def size(self) -> tuple[int, int]:
        """(H, W) of the upright image, without decoding it."""

    def read(self) -> Raw:
        """The image and its points; ValueError or OSError when either cannot be had."""


@dataclass(frozen=True)
class Entry:
    """An image file and where its points are.

    Attributes
    ----------
    name : unique in the split
    image : the image's file
    annotation : the file its points are in; None where ``given`` has them, or there are none
    load : reads ``annotation``, gives (N, 2)
    given : the points themselves, when one file lists those of many images
    """

    name: str
    image: Path
    annotation: Path | None = None
    load: Callable[[Path], np.ndarray] | None = None
    given: np.ndarray | None = None

    def stamp(self) -> str:
        """Size and time of the image and its annotation (or a hash of the given points)."""
        parts = [file_stamp(self.image)]
        if self.annotation is not None:
            parts.append(file_stamp(self.annotation))
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
        if self.given is not None:
            return self.given
        if self.annotation is None or self.load is None:
            return np.empty((0, 2))
        if not self.annotation.is_file():
            raise FileNotFoundError(
                f"{self.image} has no annotation: {self.annotation} is missing."
            )
        return self.load(self.annotation)

    def read(self) -> Raw:
        """The image and its points; ValueError or OSError naming the file at fault."""
        data = self.image.read_bytes()
        image, orientation = decode(data, self.image)
        return Raw(image, self.points(), orientation, hashlib.sha256(data).hexdigest())


class ReadSplit(Sequence[Sample]):
    """A split as published: images are decoded when asked for, at their own size, upright.

    Points outside their image are left out; `prepare` counts them.

    Attributes
    ----------
    names : the images' names
    entries : where each comes from
    is_labelled : False where the publisher keeps the points (`points` are then empty)
    noun : what is counted, (singular, plural)
    notes : remarks made while reading, for `prepare`'s report
    """

    def __init__(
        self,
        entries: Sequence[Entry],
        is_labelled: bool = True,
        noun: tuple[str, str] = ("person", "people"),
        notes: Sequence[str] = (),
    ) -> None:
        self.entries = list(entries)
        self.names = [entry.name for entry in self.entries]
        self.is_labelled = is_labelled
        self.noun = noun
        self.notes = list(notes)

    def __len__(self) -> int:
        return len(self.entries)

    def __getitem__(self, index: int | slice) -> Sample | list[Sample]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        entry = self.entries[index]
        raw = entry.read()
        points, _, _ = place(raw.points, raw.image.shape[:2], raw.orientation)
        return Sample(raw.image, points, entry.name)


def natural(text: str | Path) -> list:
    """Sort key under which IMG_2 comes before IMG_10.

    >>> sorted(["IMG_10", "IMG_2"], key=natural)
    ['IMG_2', 'IMG_10']
    """
    parts = re.split(r"(\d+)", str(text))
    return [(int(part), part) if part.isdecimal() else (-1, part.lower()) for part in parts]


def files_below(folder: Path) -> Iterator[Path]:
    """All files below ``folder`` but hidden ones; folders that are links are followed, each once."""
    seen = set()
    for top, folders, files in os.walk(folder, followlinks=True):
        real = os.path.realpath(top)
        shown = [name for name in folders if not name.startswith((".", "__"))]
        folders[:] = [] if real in seen else sorted(shown)
        if real not in seen:
            yield from (Path(top, name) for name in files if not name.startswith((".", "__")))
        seen.add(real)


def file_stamp(path: Path) -> str:
    """Size and time of a file: another where it was changed, or is not there."""
    try:
        stat = path.stat()
    except OSError:
        return "missing"
    return f"{stat.st_size}-{stat.st_mtime_ns}"
