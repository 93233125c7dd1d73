"""Whatever somebody counts in (a file, a folder, an array, a video), as images of the size to count."""

from __future__ import annotations

import csv
import math
import os
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from PIL import Image

from ebclib.data import Sample
from ebclib.data.images import SUFFIXES, decode
from ebclib.data.splits import files_below, natural

if TYPE_CHECKING:
    from av import VideoFrame

    from ebclib.counting.counter import CrowdCounter


RAW = {".cr2", ".cr3", ".nef", ".nrw", ".arw", ".dng", ".orf", ".rw2", ".raf", ".pef", ".srw"}
"""Raw photographs. Pillow takes some for TIFF files and finds their thumbnails."""

HEIF = {".heic", ".heif", ".hif"}
"""What telephones store; read where pillow-heif is installed."""


@dataclass(frozen=True)
class Item:
    """One image that is to be counted: its name, and a file, its bytes, an array, or an image."""

    name: str
    source: Any


@dataclass(frozen=True)
class SourceImage:
    """An image as it is counted."""

    item: Item
    pixels: np.ndarray  # uint8 (H, W, 3), RGB, upright, at the size to count
    size: tuple[int, int]  # (H, W) of the original, upright
    notes: tuple[str, ...] = ()  # remarks on how it was read
    # what `training_set.image_stats` finds in it, where that is asked for
    stats: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Failure:
    """An image that could not be counted, and why."""

    name: str
    source: Any
    problem: Exception

    @property
    def reason(self) -> str:
        """One line for a person."""
        if isinstance(self.problem, OSError) and self.problem.strerror:
            return self.problem.strerror
        return str(self.problem).removeprefix(f"{self.name}: ")


def is_one(given: object) -> bool:
    """Whether ``given`` is a single image; a path that is no folder is one file, be it there or not."""
    if isinstance(given, str | Path):
        return not Path(given).is_dir()
    if hasattr(given, "ndim"):
        return given.ndim <= 3
    return isinstance(given, bytes | bytearray | memoryview | Image.Image | Sample | Item)


def items(given: object) -> Iterator[Item]:
    """The images in what is given, in order, each with a name; ValueError if it holds none.

    Nothing is read yet.
    """
    if is_one(given):
        return iter([_item(given, 0)])
    if isinstance(given, str | Path):
        folder = Path(given)
        return (Item(p.relative_to(folder).as_posix(), p) for p in images_below(folder))
    if isinstance(given, Sequence) and given and all(isinstance(p, str | Path) for p in given):
        return iter(named_files([Path(path) for path in given]))
    if isinstance(given, Iterable):
        return (_item(each, number) for number, each in enumerate(given))
    raise ValueError(
        f"{type(given).__name__} cannot be counted in. Give a path, an array (H, W, 3), a PIL image, "
        "a folder, or any sequence of these."
    )


def _item(given: Any, number: int) -> Item:
    match given:
        case Item():
            return given
        case str() | Path():
            return Item(Path(given).name, Path(given))
        case Sample():
            return Item(given.name, given.image)
        case Image.Image():
            return Item(Path(getattr(given, "filename", "")).name or f"image {number}", given)
        case bytes() | bytearray() | memoryview():
            return Item(f"image {number}", bytes(given))
    return Item(f"image {number}", given)


def named_files(paths: Sequence[Path], base: str | None = None) -> list[Item]:
    """Files, each named by its path below ``base``; None: below the folder they have in common.

    Bytes of a name that are no text are written as \\udcff.
    """
    paths = [Path(os.path.abspath(path)) for path in paths]
    base = base or os.path.commonpath([path.parent for path in paths])
    names = (path.relative_to(base).as_posix() for path in paths)
    names = (name.encode("utf-8", "backslashreplace").decode() for name in names)
    return [Item(name, path) for name, path in zip(names, paths, strict=True)]


def images_below(
    folder: Path,
    skip: Path | None = None,
    problems: list[OSError] | None = None,
    others: Collection[str] = (),
) -> list[Path]:
    """The image files below a folder, by their ending, in natural order; linked folders once.

    Those of `RAW` and `HEIF` are among them: who cannot read them says so.

    Parameters
    ----------
    skip : a folder inside that is left out
    problems : where folders that cannot be listed are noted; None: the first one is an error
    others : further endings, in lower case
    """
    endings = SUFFIXES | RAW | HEIF | set(others)

    def unlisted(problem: OSError) -> None:
        if problems is None:
            raise problem
        problems.append(problem)

    found = files_below(folder, skip, unlisted)
    return sorted((path for path in found if path.suffix.lower() in endings), key=natural)


def read(
    item: Item,
    least_side: int = 1,
    longest_side: int | None = None,
    multiples_px: tuple[int, ...] = (),
) -> SourceImage:
    """An image at the size to count; a large JPEG is shrunk while it is decoded.

    Parameters
    ----------
    least_side, longest_side, multiples_px : as `images.prepared_size`

    Raises
    ------
    ValueError : no image; its name and what is wrong are said
    OSError : a file that is not there, or must not be read
    """
    source = item.source
    if isinstance(source, Path):
        try:
            source = source.read_bytes()
        except FileNotFoundError:
            raise FileNotFoundError(f"{item.name}: the file is not there ({source}).") from None
    if isinstance(source, bytes):
        _need_reader(source, item.name)
    elif not isinstance(source, Image.Image):
        source = _image(source, item.name)
    scaled = decode(source, item.name, (least_side, longest_side, multiples_px))
    notes = ("The first of its frames was counted.",) if scaled.is_first else ()
    return SourceImage(item, scaled.pixels, scaled.size, notes)


def _need_reader(data: bytes, name: str) -> None:
    """ValueError for a raw photograph, or a HEIC without the package that reads it; taught with it."""
    if os.path.splitext(name)[1].lower() in RAW:
        raise ValueError(f"{name}: a raw photograph. Develop it into a JPEG or PNG file first.")
    if data[4:12] in (b"ftypheic", b"ftypheix", b"ftypheim", b"ftypheis"):
        if find_spec("pillow_heif") is None:
            raise ValueError(
                f"{name}: a HEIC image. `pip install pillow-heif` reads it, or save it as JPEG."
            )
        import pillow_heif

        pillow_heif.register_heif_opener()


def _image(values: Any, name: str) -> Image.Image:
    """An array as an image: uint8, or floats in [0, 1]; grey, RGB or RGBA."""
    array = np.asarray(values)
    if array.dtype == bool or array.ndim not in (2, 3) or 0 in array.shape:
        array = None
    elif array.ndim == 3:
        array = array[..., 0] if array.shape[2] == 1 else array
        array = array if array.ndim == 2 or array.shape[2] in (3, 4) else None
    if array is not None and array.dtype.kind == "f":
        inside = np.isfinite(array).all() and array.min() >= 0 and array.max() <= 1
        array = np.rint(array * 255).astype(np.uint8) if inside else None
    if array is None or array.dtype != np.uint8:
        kind = type(values).__name__
        if hasattr(values, "shape"):
            kind = f"an array {tuple(values.shape)} of {values.dtype}"
        raise ValueError(
            f"{name}: {kind} is no image. An array (H, W, 3) of uint8, or of floats between "
            "0 and 1, is expected; (H, W) for grey."
        )
    return Image.fromarray(np.ascontiguousarray(array))


VIDEOS = frozenset({".mp4", ".m4v", ".mov", ".mkv", ".avi", ".webm", ".mpg", ".mpeg", ".mts"})
"""Endings of files that are taken for videos, in lower case."""

COLUMNS = ("seconds", "count", "lower", "upper")


def frames(path: str | Path, every_s: float = 1.0) -> Iterator[tuple[float, np.ndarray]]:
    """A video's frames, one in every ``every_s`` seconds, in the memory of one.

    Of each stretch of ``every_s`` seconds the first frame is taken, by the times the file gives its
    frames and not by their number; so a varying frame rate is followed, and a stretch without a frame
    of its own gives none. Images come upright, as a player shows them.

    Parameters
    ----------
    path : any file that FFmpeg reads (mp4, mov, mkv, avi, webm, gif …)
    every_s : seconds from one frame to the next; 0 takes every frame

    Yields
    ------
    seconds, image : since the video's first frame; uint8 (H, W, 3), RGB

    Raises
    ------
    FileNotFoundError : no such file
    ValueError : no video, no image in it, or damaged; what came before has been yielded
    """
    path = Path(path).expanduser()
    if not path.is_file():
        raise FileNotFoundError(f"There is no video {path}.")
    if not (math.isfinite(every_s) and every_s >= 0):
        raise ValueError(f"every_s is {every_s}; give seconds from 0, such as 1 or 0.5.")
    return _frames(path, every_s)


def _frames(path: Path, every_s: float) -> Iterator[tuple[float, np.ndarray]]:
    import av

    seconds, start, stretch = 0.0, None, -1
    try:
        with av.open(str(path)) as container:
            if not container.streams.video:
                raise ValueError(f"{path} has sound or text, but no images to count in.")
            stream = container.streams.video[0]
            stream.thread_type = "AUTO"
            for frame in container.decode(stream):
                if frame.time is None:  # some raw streams give none
                    raise ValueError(
                        f"{path} does not say when its frames are shown. Put it into a container that "
                        "does: `ffmpeg -i FILE out.mp4`."
                    )
                start = frame.time if start is None else start
                seconds = frame.time - start
                now = math.floor(seconds / every_s + 1e-6) if every_s else stretch + 1
                if now > stretch:
                    stretch = now
                    yield seconds, _upright(frame)
    except av.error.FFmpegError as problem:
        if start is None:
            raise ValueError(
                f"{path} is no video that FFmpeg can read ({problem.strerror}). Images are counted "
                "by giving their folder."
            ) from problem
        raise ValueError(
            f"{path} is damaged or cut off after {seconds:.1f} s ({problem.strerror})."
        ) from problem
    if start is None:
        raise ValueError(f"{path} holds no frame: an empty or unfinished recording.")


def _upright(frame: VideoFrame) -> np.ndarray:
    """RGB (H, W, 3), turned by quarters as the file's display matrix says."""
    image = frame.to_ndarray(format="rgb24")
    return np.ascontiguousarray(np.rot90(image, round(frame.rotation / 90)))


def count_video(
    counter: CrowdCounter,
    path: str | Path,
    out: str | Path,
    every_s: float = 1.0,
    progress: bool = True,
    what: str = "people",
) -> pd.DataFrame:
    """Count a video's frames one after the other, draw the counts over time, and give the rows.

    Rows are written as they come, to ``out`` with `.part` behind it, which becomes ``out`` when the
    video has ended; beside it lies the chart, as PDF and PNG. No image is kept.

    Parameters
    ----------
    path, every_s : as in `frames`, which says what is raised
    out : the CSV; columns seconds, count, lower, upper (the last two empty without intervals)
    what : is counted, for the chart's axis
    """
    from tqdm.auto import tqdm

    out = Path(out)
    found = frames(path, every_s)
    out.parent.mkdir(parents=True, exist_ok=True)
    part = out.with_name(out.name + ".part")
    rows: list[tuple[float, ...]] = []
    bar = tqdm(found, desc=Path(path).name, unit="frame", disable=not progress, leave=False)
    with part.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        file.flush()
        for seconds, image in bar:
            said = counter.count(image)
            ends = (math.nan if end is None else end for end in (said.lower, said.upper))
            rows.append((seconds, said.count, *ends))
            # nothing for an interval that is not there or reaches everywhere
            writer.writerow([f"{v:.6g}" if math.isfinite(v) else "" for v in rows[-1]])
            file.flush()
        os.fsync(file.fileno())
    part.replace(out)
    counts = pd.DataFrame(rows, columns=list(COLUMNS))
    _draw(counts, out, what)
    return counts


def _draw(counts: pd.DataFrame, out: Path, what: str) -> None:
    import matplotlib.pyplot as plt

    from ebclib.plots import plot_over_time
    from ebclib.plots.style import use_style

    with plt.rc_context():
        use_style()
        figure = plot_over_time(counts, what).figure
        for kind in (".pdf", ".png"):
            figure.savefig(out.with_suffix(kind))
        plt.close(figure)
