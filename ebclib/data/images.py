"""Any image file as an upright RGB array, or an error that names the file."""

from __future__ import annotations

import io
import threading
from pathlib import Path
from typing import BinaryIO, NamedTuple

import cv2
import numpy as np
from PIL import Image, ImageCms

from ebclib.data.scaling import prepared_size

SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".tif", ".tiff", ".webp", ".gif"}
    | {".ppm", ".pgm", ".pbm", ".pnm", ".jp2", ".avif"}
)
"""Files taken for images, by their ending in lower case."""

MAX_FILE_PIXELS = 500_000_000
"""The largest image decoded (1.5 GB as uint8). Pillow's own guard stops at a third of it."""

_ORIENTATION = 274  # the EXIF tag
_UPRIGHT = {  # what undoes each orientation; CIPA DC-008, 4.6.4.A
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

_guard = threading.Lock()


def decode(data: bytes, source: Path | str) -> tuple[np.ndarray, int]:
    """An image from the bytes of its file.

    Greyscale is repeated over the channels, 16-bit grey scaled to 8 bits (not clipped), what is
    transparent laid over white; of several frames the first is taken; EXIF turning is applied.

    Parameters
    ----------
    data : the file, whole
    source : its name, for errors

    Returns
    -------
    pixels : uint8 (H, W, 3), RGB, upright
    orientation : what EXIF said, 1 to 8; 1 where it says nothing

    Raises
    ------
    ValueError : not an image, cut off, empty, or above `MAX_FILE_PIXELS`; ``source`` is named
    """
    with _open(data, source) as image:
        return upright(image, source)


class Scaled(NamedTuple):
    """An image decoded at the size it is wanted.

    Attributes
    ----------
    pixels : uint8 (H, W, 3), RGB, upright
    size : (H, W) of the upright image in its file
    is_first : whether the file has further frames, which are not read
    """

    pixels: np.ndarray
    size: tuple[int, int]
    is_first: bool


def decode_scaled(
    data: bytes | Image.Image,
    source: Path | str,
    least_side: int = 1,
    longest_side: int | None = None,
    multiples_px: tuple[int, ...] = (),
) -> Scaled:
    """As `decode`, at another size; a JPEG that is to shrink is not decoded at its full size.

    Parameters
    ----------
    data : the file, whole, or an image that Pillow has opened
    source : its name, for errors
    least_side, longest_side, multiples_px : as `scaling.prepared_size`

    Raises
    ------
    ValueError : as `decode` and `scaling.prepared_size`; ``source`` is named
    """
    image = data if isinstance(data, Image.Image) else _open(data, source)
    sides = least_side, longest_side, multiples_px
    full = image.height, image.width
    is_first = image.format != "MPO" and bool(getattr(image, "is_animated", False))
    try:
        if isinstance(data, bytes):  # somebody's own image stays as it is
            height, width = prepared_size(full, *sides)  # the same on its side
            if not multiples_px:  # the released code decodes all of it
                image.draft(None, (width, height))
        pixels, orientation = upright(image, source)
        size = full[::-1] if orientation >= 5 else full
        return Scaled(fit(pixels, *sides, prepared_size(size, *sides)), size, is_first)
    except ValueError as problem:
        named = str(problem).startswith(str(source))
        raise problem if named else ValueError(f"{source}: {problem}") from problem
    finally:
        if image is not data:
            image.close()


def upright(image: Image.Image, source: Path | str) -> tuple[np.ndarray, int]:
    """An opened image as `decode` gives it: uint8 (H, W, 3), and its EXIF orientation.

    Raises
    ------
    ValueError : cut off, or of values that are no colours; ``source`` is named
    """
    try:
        image.load()
    except Exception as problem:  # each of Pillow's plugins has its own kinds
        raise ValueError(
            f"{source}: the image cannot be decoded ({problem}). It may be cut off or "
            "damaged: get the file again, or leave it out."
        ) from problem
    orientation = _orientation(image)
    turned = image.transpose(_UPRIGHT[orientation]) if orientation != 1 else image
    try:
        return np.array(_rgb(turned)), orientation
    except ValueError as problem:
        raise ValueError(
            f"{source}: an image of mode {image.mode} that cannot be made RGB ({problem}). "
            "Save it as an 8-bit PNG or JPEG."
        ) from problem


def image_header(path: Path) -> tuple[tuple[int, int], int]:
    """(H, W) of the upright image and its EXIF orientation, from the file's header alone.

    Raises
    ------
    ValueError : no image, or above `MAX_FILE_PIXELS`
    """
    with open(path, "rb") as file, _open(file, path) as image:
        orientation = _orientation(image)
        size = (image.height, image.width)
        return size[::-1] if orientation >= 5 else size, orientation


def is_grey(pixels: np.ndarray) -> bool:
    """Whether the three channels of an image (H, W, 3) are the same everywhere."""
    few = pixels[::16, ::16]  # enough to know most coloured images
    return all((part == part[..., :1]).all() for part in (few, pixels))


def resize(pixels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """``image`` (H, W, 3) at ``size`` (H, W), by an antialiased Lanczos filter."""
    if pixels.shape[:2] == tuple(size):
        return pixels
    height, width = size
    image = Image.fromarray(pixels).resize((width, height), Image.Resampling.LANCZOS)
    return np.asarray(image)


def fit(
    image: np.ndarray,
    least_side: int,
    longest_side: int | None,
    multiples_px: tuple[int, ...] = (),
    size: tuple[int, int] | None = None,
) -> np.ndarray:
    """``image`` (H, W, 3) at its `scaling.prepared_size`, or at ``size``, that of it undrafted.

    With ``multiples_px`` by the released code's filters: OpenCV's cubic to the first, an antialiased
    bicubic to the second.
    """
    if not multiples_px:
        return resize(image, size or prepared_size(image.shape[:2], least_side, longest_side))
    full = image.shape[:2]
    height, width = prepared_size(full, least_side, longest_side, multiples_px[:1])
    image = cv2.resize(image, (width, height), interpolation=cv2.INTER_CUBIC)
    height, width = prepared_size(full, least_side, longest_side, multiples_px)
    return np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BICUBIC))


def _open(data: bytes | BinaryIO, source: Path | str) -> Image.Image:
    if isinstance(data, bytes):
        if not data:
            raise ValueError(f"{source}: the file is empty (0 bytes). Get it again.")
        data = io.BytesIO(data)
    try:
        # Pillow's limit is a global; ours is checked below, from the header, before decoding
        with _guard:
            limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
            try:
                image = Image.open(data)
            finally:
                Image.MAX_IMAGE_PIXELS = limit
    except (OSError, SyntaxError, ValueError, EOFError) as problem:
        reason = "" if isinstance(problem, Image.UnidentifiedImageError) else f" ({problem})"
        raise ValueError(
            f"{source}: this is no image{reason}, or of a kind that Pillow cannot read. Look at "
            "what the file holds (a saved web page?) and get it again."
        ) from problem
    if image.width * image.height > MAX_FILE_PIXELS:
        raise ValueError(
            f"{source}: {image.width} x {image.height} is {image.width * image.height / 1e6:.0f} "
            f"megapixels; at most {MAX_FILE_PIXELS / 1e6:.0f} are read. Cut the image into parts."
        )
    return image


def _orientation(image: Image.Image) -> int:
    try:
        value = image.getexif().get(_ORIENTATION, 1)
    except Exception:  # a damaged EXIF block says nothing; the pixels may still be good
        return 1
    return value if value in _UPRIGHT else 1


def _rgb(image: Image.Image) -> np.ndarray:
    """uint8 (H, W, 3) of an image of any mode."""
    mode = image.mode
    if mode == "RGB" and "transparency" not in image.info:
        return np.asarray(image)
    if mode.startswith(("I", "F")):
        grey = _eight_bits(image)
        return np.repeat(grey[..., None], 3, axis=2)
    if mode == "LAB":
        to_rgb = ImageCms.buildTransform(
            ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB"), "LAB", "RGB"
        )
        return np.asarray(ImageCms.applyTransform(image, to_rgb))
    if mode in ("RGBA", "RGBa", "LA", "La", "PA") or "transparency" in image.info:
        if mode == "La":
            image = image.convert("LA")
        over = image.convert("RGBA")
        white = Image.new("RGBA", over.size, "white")
        return np.asarray(Image.alpha_composite(white, over).convert("RGB"))
    return np.asarray(image.convert("RGB"))


def _eight_bits(image: Image.Image) -> np.ndarray:
    """uint8 (H, W) of integers of 16 or 32 bits, or of floats: the format's range to 0..255."""
    values = np.asarray(image).astype(np.float64)
    if not np.isfinite(values).all():
        raise ValueError("it holds values that are not finite")
    low, high = values.min(), values.max()
    if low < 0:
        raise ValueError(f"it holds negative values (down to {low:g})")
    if image.mode == "F":
        top = 1.0 if high <= 1 else 255.0 if high <= 255 else 65535.0
    elif image.mode == "I" and high <= 255:
        top = 255.0
    else:
        bits = getattr(image, "tag_v2", {}).get(258, (16,))[0]  # TIFF's BitsPerSample
        top = 2.0 ** (bits if 8 < bits < 16 else 16) - 1
    return np.rint(values * (255 / max(top, high))).astype(np.uint8)
