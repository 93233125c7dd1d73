"""Cut-out figures in a few paints: drawn once per look and size, coloured and pasted many times."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw

PAINTS = 7
"""How many paints a figure has; a palette is a float32 array (PAINTS, 3), RGB in 0…255."""

_SUPERSAMPLING = 2


class Sprite(NamedTuple):
    """A figure at one size, not yet coloured.

    layers : uint8, (PAINTS + 1, h, w): how much of each paint there is, shade included, and at
        last how much of the pixel is covered at all, each times 255.
    x, y : where the figure's origin lies, in pixels from the sprite's upper left corner.
    """

    layers: np.ndarray
    x: float
    y: float

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return self.layers.shape[1], self.layers.shape[2]

    def resized(self, factor: float) -> Sprite:
        """The same figure, ``factor`` times as large, each pixel the mean of what it covers."""
        height, width = self.size
        size = max(1, round(width * factor)), max(1, round(height * factor))
        # four bands at a time; CMYK is the mode whose bands are resized each for itself
        halves = [
            Image.frombytes("CMYK", (width, height), half.transpose(1, 2, 0).tobytes())
            for half in (self.layers[:4], self.layers[4:])
        ]
        smaller = [np.asarray(half.resize(size, Image.Resampling.HAMMING)) for half in halves]
        layers = np.ascontiguousarray(np.concatenate(smaller, -1).transpose(2, 0, 1))
        return Sprite(layers, self.x * size[0] / width, self.y * size[1] / height)

    def flipped(self) -> Sprite:
        """The mirror image, left for right."""
        return Sprite(self.layers[..., ::-1], self.size[1] - self.x, self.y)


class Pen:
    """Draws shapes in paints about an origin; a later shape hides what lies below it.

    Lengths are in the figure's own unit (a head's diameter, a metre), y downwards; ``box`` is
    (left, top, right, bottom) in that unit and ``scale`` the finished pixels per unit.
    """

    def __init__(self, box: tuple[float, float, float, float], scale: float) -> None:
        self._left, self._top, right, bottom = box
        self._scale = scale * _SUPERSAMPLING
        size = (round((right - box[0]) * self._scale), round((bottom - box[1]) * self._scale))
        self._paint, self._shade = Image.new("L", size), Image.new("L", size)
        self._draws = ImageDraw.Draw(self._paint), ImageDraw.Draw(self._shade)

    def _xy(self, points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
        return [((x - self._left) * self._scale, (y - self._top) * self._scale) for x, y in points]

    def ellipse(
        self, x: float, y: float, rx: float, ry: float, paint: int, shade: float = 1.0
    ) -> None:
        """A filled ellipse about (x, y) with half-axes rx, ry."""
        corners = self._xy([(x - rx, y - ry), (x + rx, y + ry)])
        for draw, value in zip(self._draws, (paint + 1, round(255 * shade)), strict=True):
            draw.ellipse(corners, fill=value)

    def polygon(
        self, points: Sequence[tuple[float, float]], paint: int, shade: float = 1.0
    ) -> None:
        """A filled polygon."""
        for draw, value in zip(self._draws, (paint + 1, round(255 * shade)), strict=True):
            draw.polygon(self._xy(points), fill=value)

    def box(
        self, x0: float, y0: float, x1: float, y1: float, paint: int, shade: float = 1.0
    ) -> None:
        """A filled rectangle."""
        self.polygon([(x0, y0), (x1, y0), (x1, y1), (x0, y1)], paint, shade)

    def limb(
        self, points: Sequence[tuple[float, float]], width: float, paint: int, shade: float = 1.0
    ) -> None:
        """A thick line with round joints and ends."""
        line, thick = self._xy(points), max(1, round(width * self._scale))
        for draw, value in zip(self._draws, (paint + 1, round(255 * shade)), strict=True):
            draw.line(line, fill=value, width=thick)
        for x, y in points:
            self.ellipse(x, y, width / 2, width / 2, paint, shade)

    def sprite(self, rng: np.random.Generator, folds: float = 0.12) -> Sprite:
        """What has been drawn, trimmed; ``folds`` is how much light and dark vary over it."""
        left, top, right, bottom = self._paint.getbbox() or (0, 0, 1, 1)
        paint = np.asarray(self._paint.crop((left, top, right, bottom)))
        shade = np.asarray(self._shade.crop((left, top, right, bottom)), np.float32)
        coarse = rng.uniform(1 - folds, 1.0, (8, 4)).astype(np.float32)
        shade = shade * np.asarray(Image.fromarray(coarse).resize(paint.shape[::-1]))
        layers = [(paint == i + 1) * shade for i in range(PAINTS)] + [(paint > 0) * np.float32(255)]
        origin = -self._left * self._scale - left, -self._top * self._scale - top
        return Sprite(np.stack(layers).astype(np.uint8), *origin).resized(1 / _SUPERSAMPLING)


def paste(
    canvas: np.ndarray, sprite: Sprite, left: int, top: int, palette: np.ndarray, light: float
) -> None:
    """Lay ``sprite`` over ``canvas`` (float32, (3, H, W)) with its corner at (left, top), in place.

    ``palette`` is (PAINTS, 3); ``light`` in -1…1 makes one side darker: > 0, the left one.
    """
    height, width = sprite.size
    y0, x0 = max(top, 0), max(left, 0)
    y1, x1 = min(top + height, canvas.shape[1]), min(left + width, canvas.shape[2])
    if y0 >= y1 or x0 >= x1:
        return
    layers = sprite.layers[:, y0 - top : y1 - top, x0 - left : x1 - left].astype(
        np.float32, order="C"
    )
    mixing = np.zeros((4, PAINTS + 1), np.float32)
    mixing[:3, :PAINTS], mixing[3, PAINTS] = palette.T / np.float32(255), -1 / 255
    mixed = (mixing @ layers.reshape(PAINTS + 1, -1)).reshape(4, y1 - y0, x1 - x0)
    colour, clear = mixed[:3], mixed[3]
    clear += 1
    colour *= np.arange(x0 - left, x1 - left, dtype=np.float32) * (2 * light / width) + (1 - light)
    target = canvas[:, y0:y1, x0:x1]
    target *= clear
    target += colour
