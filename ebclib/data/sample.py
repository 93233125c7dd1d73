"""What a split is made of: images and their points, and the sources that both are read from."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np

from ebclib.data.images import decode, image_header


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
    """An image as its file has it, turned upright, and the points as annotated."""

    image: np.ndarray  # uint8 array (H, W, 3), RGB, upright
    points: np.ndarray  # float64 array (N, 2); not yet turned, nor checked against the image
    orientation: int  # the file's EXIF orientation, 1 to 8
    sha256: str  # hex digest of the file


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
    """A `Source` in files."""

    name: str  # unique in the split
    image: Path  # the image's file
    # the file its points are in; None where ``given`` has them, or there are none
    annotation: Path | None = None
    load: Callable[[Path], np.ndarray] | None = None  # reads ``annotation``, gives (N, 2)
    # the points themselves, when one file lists those of many images
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
        image = decode(data, self.image)
        digest = hashlib.sha256(data).hexdigest()
        return Raw(image.pixels, self.points(), image.orientation, digest)


@dataclass(eq=False, repr=False)
class ReadSplit(Sequence[Sample]):
    """A split as published: images are decoded when asked for, at their own size, upright.

    Points outside their image are left out; `prepare` counts them.
    """

    entries: Sequence[Entry]  # where each image comes from
    is_labelled: bool = True  # False where the publisher keeps the points (`points` are then empty)
    noun: tuple[str, str] = ("person", "people")  # what is counted, (singular, plural)
    # remarks made while reading, for `prepare`'s report
    notes: list[str] = field(default_factory=list)

    @property
    def names(self) -> list[str]:
        """The images' names."""
        return [entry.name for entry in self.entries]

    def __len__(self) -> int:
        return len(self.entries)

    def __getitem__(self, index: int | slice) -> Sample | list[Sample]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        entry = self.entries[index]
        raw = entry.read()
        points, _, _ = upright_points(raw.points, raw.image.shape[:2], raw.orientation)
        return Sample(raw.image, points, entry.name)


def inside(points: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Which of ``points`` (N, 2) lie in [0, W) x [0, H), as bools (N,); ``size`` is (H, W)."""
    return ((points >= 0) & (points < size[::-1])).all(axis=1)


def clamp(points: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """``points`` with what lies on or beyond an edge moved just inside [0, W) x [0, H)."""
    return np.clip(points, 0.0, np.nextafter(size[::-1], 0.0))


def scale_points(
    points: np.ndarray, size: tuple[int, int], new_size: tuple[int, int]
) -> np.ndarray:
    """``points`` (N, 2) of an image of ``size`` (H, W) resized to ``new_size``; none falls out."""
    if size == new_size:
        return points
    ratio = np.array([new_size[1] / size[1], new_size[0] / size[0]])
    return clamp(points * ratio, new_size)


def frame_of(points: np.ndarray, size: tuple[int, int], orientation: int) -> tuple[int, int]:
    """(H, W) of the image that points were annotated on: upright (``size``), or as its file stores it.

    The latter where EXIF swaps the sides, and more points fit it.
    """
    stored = size[::-1]
    if orientation >= 5 and inside(points, stored).sum() > inside(points, size).sum():
        return stored
    return size


def upright_points(
    points: np.ndarray, size: tuple[int, int], orientation: int = 1
) -> tuple[np.ndarray, int, bool]:
    """The annotated points on the upright image; those of the image as stored are turned along.

    Parameters
    ----------
    points : (N, 2) as annotated
    size : (H, W) of the upright image
    orientation : EXIF orientation of its file

    Returns
    -------
    points : (M, 2), inside [0, W) x [0, H)
    outside : how many were dropped because they lie outside, N - M
    turned : whether the points were turned along (`frame_of`)
    """
    frame = frame_of(points, size, orientation)
    keep = inside(points, frame)
    kept, outside, turned = points[keep], int((~keep).sum()), frame != size
    if turned:  # x = 0 becomes x = W, just outside the half-open rectangle: clamp
        kept = clamp(turn(kept, frame, orientation), size)
    return kept, outside, turned


def turn(points: np.ndarray, size: tuple[int, int], orientation: int) -> np.ndarray:
    """Points (N, 2) of an image as stored, of ``size`` (H, W), where they are once it is upright.

    ``orientation`` is one of EXIF's that change sides, 5 to 8 (tag 274; CIPA DC-008, 4.6.4.A).
    """
    (height, width), (x, y) = size, points.T
    new_x = height - y if orientation in (6, 7) else y
    new_y = width - x if orientation in (7, 8) else x
    return np.stack([new_x, new_y], axis=1)


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

    ``unlisted`` is called with the error of a folder that cannot be listed; None: it is passed over.
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
