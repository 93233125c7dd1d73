"""Whatever somebody counts in (a file, a folder, an array, a video), as images of the size to count."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from os.path import abspath, commonpath
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ebclib.data import Sample
from ebclib.data.images import SUFFIXES, Decoded, decode
from ebclib.data.splits import files_below, natural

RAW = {".cr2", ".cr3", ".nef", ".nrw", ".arw", ".dng", ".orf", ".rw2", ".raf", ".pef", ".srw"}
"""Raw photographs. Pillow takes some for TIFF files and finds their thumbnails."""

HEIF = {".heic", ".heif", ".hif"}
"""What telephones store; read where pillow-heif is installed."""

IMAGES = SUFFIXES | RAW | HEIF
VIDEOS = frozenset({".mp4", ".m4v", ".mov", ".mkv", ".avi", ".webm", ".mpg", ".mpeg", ".mts"})
"""Endings of files that are taken for images and videos, in lower case."""


@dataclass(frozen=True)
class Item:
    """One image that is to be counted: its name, and a file, its bytes, an array, or an image."""

    name: str
    source: Any


def is_one(given: object) -> bool:
    """Whether ``given`` is a single image; a path that is no folder is one file, be it there or not."""
    if isinstance(given, str | Path):
        return not Path(given).is_dir()
    if hasattr(given, "ndim"):
        return given.ndim <= 3
    return isinstance(given, bytes | Image.Image | Sample | Item)


def items(given: object) -> Iterator[Item]:
    """The images in what is given, in order, each with a name; nothing is read yet."""
    if is_one(given):
        return iter([_item(given)])
    if isinstance(given, str | Path):
        return iter(named_files(files_of(Path(given), IMAGES, unlisted=_refuse), str(given)))
    if isinstance(given, Sequence) and given and all(isinstance(p, str | Path) for p in given):
        return iter(named_files([Path(path) for path in given]))
    if isinstance(given, Iterable):
        return (_item(each, number) for number, each in enumerate(given))
    raise ValueError(
        f"{type(given).__name__} cannot be counted in. Give a path, an array (H, W, 3), a PIL image, "
        "a folder, or any sequence of these."
    )


def _refuse(problem: OSError) -> None:
    raise problem


def _item(given: Any, number: int = 0) -> Item:
    match given:
        case Item():
            return given
        case str() | Path():
            return Item(Path(given).name, Path(given))
        case Sample():
            return Item(given.name, given.image)
    return Item(Path(getattr(given, "filename", "")).name or f"image {number}", given)


def named_files(paths: Sequence[Path], base: str | None = None) -> list[Item]:
    """Files, each named by its path below ``base``; None: below the folder they have in common.

    Bytes of a name that are no text are written as \\udcff.
    """
    paths = [Path(abspath(path)) for path in paths]
    base = abspath(base) if base else commonpath([path.parent for path in paths])
    names = (path.relative_to(base).as_posix() for path in paths)
    names = (name.encode("utf-8", "backslashreplace").decode() for name in names)
    return [Item(name, path) for name, path in zip(names, paths, strict=True)]


def files_of(
    folder: Path,
    endings: Collection[str],
    skip: Path | None = None,
    unlisted: Callable[[OSError], None] | None = None,
) -> list[Path]:
    """The files below a folder that have one of ``endings``, in natural order; others as `files_below`."""
    found = files_below(folder, skip, unlisted)
    return sorted((path for path in found if path.suffix.lower() in endings), key=natural)


def read(
    item: Item,
    least_side: int = 1,
    longest_side: int | None = None,
    multiples_px: tuple[int, ...] = (),
) -> Decoded:
    """An image at its `images.prepared_size`; a ValueError or OSError says why it is none."""
    source = item.source
    if isinstance(source, Path):
        source = source.read_bytes()
    if isinstance(source, bytes):
        _need_reader(source, item.name)
    elif not isinstance(source, Image.Image):
        source = _image(source, item.name)
    return decode(source, item.name, (least_side, longest_side, multiples_px))


def _need_reader(data: bytes, name: str) -> None:
    """ValueError for a raw photograph, or a HEIC without the package that teaches Pillow to read it."""
    if Path(name).suffix.lower() in RAW:
        raise ValueError(f"{name}: a raw photograph. Develop it into a JPEG or PNG file first.")
    if data[4:12] in (b"ftypheic", b"ftypheix", b"ftypheim", b"ftypheis"):
        try:
            from pillow_heif import register_heif_opener
        except ModuleNotFoundError:
            raise ValueError(
                f"{name}: a HEIC image. `pip install pillow-heif` reads it, or save it as JPEG."
            ) from None
        register_heif_opener()


def _image(values: Any, name: str) -> Image.Image:
    """An array as an image: uint8, or floats in [0, 1]; grey, RGB or RGBA."""
    array = np.asarray(values)
    if array.dtype.kind == "f" and array.size and array.min() >= 0 and array.max() <= 1:
        array = np.rint(array * 255).astype(np.uint8)
    is_image = array.ndim == 2 or (array.ndim == 3 and array.shape[2] in (3, 4))
    if not (is_image and array.size and array.dtype == np.uint8):
        raise ValueError(
            f"{name}: an array {array.shape} of {array.dtype} is no image. An array (H, W, 3) of uint8, "
            "or of floats between 0 and 1, is expected; (H, W) for grey."
        )
    return Image.fromarray(np.ascontiguousarray(array))


def frames(path: str | Path, every_s: float = 1.0) -> Iterator[tuple[float, np.ndarray]]:
    """A video's frames, one in every ``every_s`` seconds (0: all of them), in the memory of one.

    Of each stretch of ``every_s`` seconds the first frame is taken, by the times that the file gives its
    frames: a varying frame rate is followed, and a stretch without a frame of its own gives none.

    Yields
    ------
    seconds since the video's first frame, and the image: uint8 (H, W, 3), RGB, upright

    Raises
    ------
    FileNotFoundError : no such file
    ValueError : no video, no image in it, or damaged; what came before has been yielded
    """
    import av

    if not (math.isfinite(every_s) and every_s >= 0):
        raise ValueError(f"every_s is {every_s}; give seconds from 0, such as 1 or 0.5.")
    seconds, start, stretch = 0.0, None, -1
    try:
        with av.open(str(path)) as container:
            if not container.streams.video:
                raise ValueError(f"{path} holds no images to count in.")
            stream = container.streams.video[0]
            stream.thread_type = "AUTO"
            for frame in container.decode(stream):
                start = frame.time if start is None else start
                seconds = frame.time - start
                now = math.floor(seconds / every_s + 1e-6) if every_s else stretch + 1
                if now > stretch:
                    stretch = now
                    image = frame.to_ndarray(format="rgb24")
                    yield seconds, np.ascontiguousarray(np.rot90(image, round(frame.rotation / 90)))
    except av.error.FileNotFoundError:
        raise
    except av.error.FFmpegError as problem:
        raise ValueError(
            f"{path} is no video that FFmpeg can read, or damaged after {seconds:.1f} s "
            f"({problem.strerror})."
        ) from problem
    if start is None:
        raise ValueError(f"{path} holds no frame: an empty or unfinished recording.")
