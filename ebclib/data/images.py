"""Any image file as an upright RGB array, at its own size or the one it is used at; and its points."""

from __future__ import annotations

import io
import threading
from pathlib import Path
from typing import BinaryIO, NamedTuple

import cv2
import numpy as np
from PIL import ExifTags, Image, ImageOps

SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".tif", ".tiff", ".webp", ".gif"}
    | {".ppm", ".pgm", ".pbm", ".pnm", ".jp2", ".avif"}
)
"""Files taken for images, by their ending in lower case."""

MAX_FILE_PIXELS = 500_000_000
"""The largest image decoded (1.5 GB as uint8). Pillow's own guard stops at a third of it."""

MAX_PIXELS = 100_000_000
"""A prepared image holds at most so many pixels (300 MB as uint8)."""

_guard = threading.Lock()


class Decoded(NamedTuple):
    """An image from a file."""

    pixels: np.ndarray  # uint8 (H, W, 3), RGB, upright, at the size wanted
    size: tuple[int, int]  # (H, W) of the upright image in its file
    orientation: int  # of EXIF, 1 to 8
    is_first: bool  # whether the file has further frames, which are not read


def decode(
    data: bytes | Image.Image,
    source: Path | str,
    sides: tuple[int, int | None, tuple[int, ...]] | None = None,
) -> Decoded:
    """An image from the bytes of its file; a JPEG that is to shrink is not decoded at its full size.

    Greyscale is repeated over the channels, 16-bit grey scaled to 8 bits (not clipped), what is
    transparent laid over white; of several frames the first is taken; EXIF turning is applied.

    ``data`` is the file, whole, or an image that Pillow has opened; ``source`` its name, for errors. With
    ``sides`` it is given at the `prepared_size` of these, else at its own. ValueError where it is not an
    image, cut off, above `MAX_FILE_PIXELS`, or as `prepared_size`.
    """
    image = data if isinstance(data, Image.Image) else _open(io.BytesIO(data), source)
    full = image.height, image.width
    is_first = image.format != "MPO" and bool(getattr(image, "is_animated", False))
    try:
        if sides and image is not data:
            height, width = prepared_size(full, *sides)  # the same on its side
            if not sides[2]:  # the released code decodes all of it
                image.draft(None, (width, height))
        try:
            image.load()
            orientation = _orientation(image)
            turned = ImageOps.exif_transpose(image) if orientation != 1 else image
        except Exception as problem:  # each of Pillow's plugins has its own kinds
            raise ValueError(
                f"the image is cut off or damaged ({problem}). Get it again, or leave it out."
            ) from problem
        size = full[::-1] if orientation >= 5 else full
        pixels = np.array(_rgb(turned))
        pixels = fit(pixels, *sides, prepared_size(size, *sides)) if sides else pixels
        return Decoded(pixels, size, orientation, is_first)
    except ValueError as problem:
        raise ValueError(f"{source}: {problem}") from problem
    finally:
        if image is not data:
            image.close()


def image_header(path: Path) -> tuple[tuple[int, int], int]:
    """(H, W) of the upright image and its EXIF orientation, from the file's header; errors as `decode`."""
    with open(path, "rb") as file, _open(file, path) as image:
        orientation = _orientation(image)
        size = (image.height, image.width)
        return size[::-1] if orientation >= 5 else size, orientation


def prepared_size(
    size: tuple[int, int],
    least_side: int = 448,
    longest_side: int | None = None,
    multiples_px: tuple[int, ...] = (),
) -> tuple[int, int]:
    """(H, W) of an image after preparation, its aspect kept up to rounding.

    The longest side shrinks to ``longest_side`` where it is longer; then, and with priority, the
    least side grows to ``least_side`` where it is shorter. Never more than is needed.

    With ``multiples_px`` as the released code has it: each side is then rounded to a multiple of the
    first, and grown to a multiple of the second, if there is one; where both limits cannot be kept,
    there is no upper one. ValueError where more than `MAX_PIXELS` pixels would come out.

    >>> prepared_size((182, 300)), prepared_size((3000, 6000), longest_side=2048)
    ((448, 738), (1024, 2048))
    """
    step_px, *grown_px = multiples_px or (1,)
    least, longest = min(size), max(size)
    if multiples_px and longest_side and longest * least_side > longest_side * least:
        longest_side = None
    scale = min(1.0, longest_side / longest) if longest_side else 1.0
    if least * scale < least_side:
        scaled = least_side, longest * least_side / least
    elif scale < 1:
        scaled = least * scale, longest_side
    else:
        scaled = least, longest
    new_least, new_longest = (max(least_side, round(side / step_px) * step_px) for side in scaled)
    for step_px in grown_px:
        new_least, new_longest = (-(-s // step_px) * step_px for s in (new_least, new_longest))
    if new_least * new_longest > MAX_PIXELS:
        raise ValueError(
            f"an image of {size[1]} x {size[0]} would be {new_longest} x {new_least} once "
            f"prepared; at most {MAX_PIXELS / 1e6:.0f} megapixels are allowed: "
            "cut it into parts, or give the data set a `longest_side`."
        )
    return (new_least, new_longest) if size[0] <= size[1] else (new_longest, new_least)


def fit(
    image: np.ndarray,
    least_side: int,
    longest_side: int | None,
    multiples_px: tuple[int, ...] = (),
    size: tuple[int, int] | None = None,
) -> np.ndarray:
    """``image`` (H, W, 3) at its `prepared_size`, or at ``size``, that of it undrafted.

    By an antialiased Lanczos filter; with ``multiples_px`` by the released code's, OpenCV's cubic to the
    first and an antialiased bicubic to the second.
    """
    full, way = image.shape[:2], Image.Resampling.LANCZOS
    if multiples_px:
        height, width = prepared_size(full, least_side, longest_side, multiples_px[:1])
        image = cv2.resize(image, (width, height), interpolation=cv2.INTER_CUBIC)
        size, way = None, Image.Resampling.BICUBIC
    size = size or prepared_size(full, least_side, longest_side, multiples_px)
    if image.shape[:2] == size:
        return image
    return np.asarray(Image.fromarray(image).resize(size[::-1], way))


def _open(file: BinaryIO, source: Path | str) -> Image.Image:
    try:
        # Pillow's limit is a global; ours is checked below, from the header, before decoding
        with _guard:
            limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
            try:
                image = Image.open(file)
            finally:
                Image.MAX_IMAGE_PIXELS = limit
    except (OSError, SyntaxError, ValueError, EOFError) as problem:
        raise ValueError(
            f"{source}: this is no image that Pillow can read. Get it again."
        ) from problem
    if image.width * image.height > MAX_FILE_PIXELS:
        raise ValueError(
            f"{source}: {image.width} x {image.height} pixels; at most {MAX_FILE_PIXELS / 1e6:.0f} "
            "million are read. Cut the image into parts."
        )
    return image


def _orientation(image: Image.Image) -> int:
    try:
        value = image.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:  # a damaged EXIF block says nothing; the pixels may still be good
        return 1
    return value if value in range(1, 9) else 1


def _rgb(image: Image.Image) -> np.ndarray:
    """uint8 (H, W, 3) of an image of any mode."""
    if image.mode.startswith(("I", "F")):
        return np.repeat(_eight_bits(image)[..., None], 3, axis=2)
    if image.has_transparency_data:
        over = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", over.size, "white"), over)
    return np.asarray(image.convert("RGB"))


def _eight_bits(image: Image.Image) -> np.ndarray:
    """uint8 (H, W) of integers of 16 or 32 bits, or of floats: the format's range to 0..255."""
    values = np.asarray(image).astype(np.float64)
    if not (np.isfinite(values) & (values >= 0)).all():
        raise ValueError(
            f"an image of mode {image.mode} with values that are negative or not finite. Save it as an "
            "8-bit PNG or JPEG."
        )
    high = values.max()
    if image.mode == "F":
        top = 1.0 if high <= 1 else 255.0 if high <= 255 else 65535.0
    elif image.mode == "I" and high <= 255:
        top = 255.0
    else:
        bits = getattr(image, "tag_v2", {}).get(258, (16,))[0]  # TIFF's BitsPerSample
        top = 2.0 ** (bits if 8 < bits < 16 else 16) - 1
    return np.rint(values * (255 / max(top, high))).astype(np.uint8)


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
    """(H, W) of the image that points are of: upright (``size``), or as stored where more fit that."""
    stored = size[::-1]
    if orientation >= 5 and inside(points, stored).sum() > inside(points, size).sum():
        return stored
    return size


def upright_points(
    points: np.ndarray, size: tuple[int, int], orientation: int = 1
) -> tuple[np.ndarray, int, bool]:
    """The annotated points (N, 2) that lie on the upright image, (M, 2); N − M; and whether they were
    turned along because they are of the image as stored (`frame_of`)."""
    frame = frame_of(points, size, orientation)
    kept = points[inside(points, frame)]
    outside, turned = len(points) - len(kept), frame != size
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
