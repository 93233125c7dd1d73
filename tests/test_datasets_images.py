"""Any image file as RGB, or an error that names it."""

from __future__ import annotations

import io
from pathlib import Path

import fake_datasets as fake
import numpy as np
import pytest
from PIL import Image

from ebclib.data import images
from ebclib.data.images import decode, fit, image_header


def encoded(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def decoded(image: Image.Image, kind: str = "PNG", **options: object) -> np.ndarray:
    pixels = decode(encoded(image, kind, **options), "file").pixels
    assert pixels.dtype == np.uint8 and pixels.shape == (image.height, image.width, 3)
    assert pixels.flags["C_CONTIGUOUS"] and pixels.flags["WRITEABLE"]
    return pixels


def test_rgb_is_as_stored():
    pixels = fake.image(1)
    assert np.array_equal(decoded(Image.fromarray(pixels)), pixels)


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBA", "LA"])
@pytest.mark.parametrize("size", [(1, 1), (1, 20), (20, 20)])
def test_every_mode_and_size_of_png(mode: str, size: tuple[int, int]):
    assert (decoded(Image.new("RGB", size, "white").convert(mode)) == 255).all()


def test_sixteen_bit_grey_is_scaled_not_clipped():
    values = np.array([[0, 257, 32768, 65535]], dtype=np.uint16)
    assert decoded(Image.fromarray(values))[0, :, 0].tolist() == [0, 1, 128, 255]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (np.array([[0, 65535]], np.int32), [0, 255]),
        (np.array([[0, 255]], np.int32), [0, 255]),
        (np.array([[0, 1_000_000]], np.int32), [0, 255]),
        (np.array([[0, 0.5, 1]], np.float32), [0, 128, 255]),
        (np.array([[0, 128, 255]], np.float32), [0, 128, 255]),
    ],
)
def test_wide_numbers_of_a_tiff(values: np.ndarray, expected: list[int]):
    assert decoded(Image.fromarray(values), "TIFF")[0, :, 1].tolist() == expected


@pytest.mark.parametrize("value", [np.nan, -1.0])
def test_a_tiff_without_a_range_is_an_error(value: float):
    data = encoded(Image.fromarray(np.array([[value, 1]], np.float32)), "TIFF")
    with pytest.raises(ValueError, match=r"scan\.tif: an image of mode F"):
        decode(data, "scan.tif")


def test_cmyk_jpeg_keeps_its_colours():
    red = Image.new("RGB", (16, 16), (200, 40, 30))
    assert np.abs(decoded(red.convert("CMYK"), "JPEG").astype(int) - (200, 40, 30)).max() < 12


def test_what_is_transparent_lies_over_white():
    over = Image.new("RGBA", (2, 1), (255, 0, 0, 255))
    over.putpixel((1, 0), (255, 0, 0, 0))
    assert decoded(over)[0].tolist() == [[255, 0, 0], [255, 255, 255]]
    grey = Image.new("LA", (1, 1), (0, 0))
    assert decoded(grey)[0].tolist() == [[255, 255, 255]]


def test_a_palette_with_a_transparent_colour():
    image = Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 200, 100, 50])
    image.putpixel((1, 0), 1)
    assert decoded(image)[0].tolist() == [[10, 20, 30], [200, 100, 50]]
    assert decoded(image, transparency=1)[0].tolist() == [[10, 20, 30], [255, 255, 255]]


def test_lab_is_converted():
    image = Image.merge("LAB", [Image.new("L", (4, 4), value) for value in (255, 128, 128)])
    assert decoded(image, "TIFF").min() > 240


def test_of_several_frames_the_first():
    frames = [Image.new("L", (4, 4), value) for value in (50, 200)]
    assert decoded(frames[0], "TIFF", save_all=True, append_images=frames[1:]).max() == 50


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_turns_as_viewers_do(orientation: int):
    from PIL import ImageOps

    image = Image.fromarray(fake.image(2, 8, 12))
    exif = Image.Exif()
    exif[274] = orientation
    data = encoded(image, exif=exif)
    found = decode(data, "file")
    expected = ImageOps.exif_transpose(Image.open(io.BytesIO(data)))
    assert found.orientation == orientation and found.size == (expected.height, expected.width)
    assert np.array_equal(found.pixels, np.asarray(expected))


@pytest.mark.parametrize("orientation", [0, 9, 77])
def test_an_orientation_that_is_none_is_ignored(orientation: int):
    exif = Image.Exif()
    exif[274] = orientation
    assert decode(encoded(Image.new("RGB", (3, 2)), exif=exif), "file").orientation == 1


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "BMP", "GIF", "TIFF", "WEBP"])
@pytest.mark.parametrize("part", [0.3, 0.6, 0.95])
def test_a_file_cut_off_is_an_error_that_names_it(kind: str, part: float):
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    data = encoded(Image.fromarray(noise), kind)
    with pytest.raises(ValueError, match=r"crowd\.jpg"):
        decode(data[: int(part * len(data))], "crowd.jpg")


def test_a_text_called_jpg(tmp_path: Path):
    path = tmp_path / "page.jpg"
    path.write_text("<html>404</html>")
    for read in (image_header, lambda path: decode(path.read_bytes(), path)):
        with pytest.raises(ValueError, match=r"page\.jpg: this is no image"):
            read(path)


def test_an_empty_file():
    with pytest.raises(ValueError, match=r"none\.jpg: this is no image"):
        decode(b"", "none.jpg")


def test_pillows_limit_is_replaced_by_ours(monkeypatch: pytest.MonkeyPatch):
    data = encoded(Image.new("RGB", (40, 40)))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    assert decode(data, "large.png").pixels.shape == (40, 40, 3)
    assert Image.MAX_IMAGE_PIXELS == 100
    monkeypatch.setattr(images, "MAX_FILE_PIXELS", 1000)
    with pytest.raises(ValueError, match=r"large\.png: 40 x 40"):
        decode(data, "large.png")


def test_size_is_height_width(tmp_path: Path):
    assert image_header(fake.save_image(tmp_path / "a.png", height=5, width=9))[0] == (5, 9)


def test_fit():
    pixels = fake.image(0, 20, 30)
    assert fit(pixels, 20, None) is pixels
    assert fit(pixels, 1, 15).shape == (10, 15, 3)
