"""What a person looks like, and how any figure is drawn: once per look and size, then coloured and pasted."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from functools import cache, partial
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageColor, ImageDraw

PAINTS = 7
"""How many paints a figure has; a palette is a float32 array (PAINTS, 3), RGB in 0…255."""

_SUPERSAMPLING, _FOLDS = 2, 0.12


class Sprite(NamedTuple):
    """A figure at one size, not yet coloured."""

    layers: (
        np.ndarray
    )  # uint8 (PAINTS + 1, h, w): 255 × how much of each paint, and of any, there is
    x: float  # where the origin lies, in pixels from the upper left corner
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
        self._image = Image.new("RGB", size)  # paint, shade
        self._draw = ImageDraw.Draw(self._image)

    def _xy(self, points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
        return [((x - self._left) * self._scale, (y - self._top) * self._scale) for x, y in points]

    def ellipse(
        self, x: float, y: float, rx: float, ry: float, paint: int, shade: float = 1.0
    ) -> None:
        """A filled ellipse about (x, y) with half-axes rx, ry."""
        corners = self._xy([(x - rx, y - ry), (x + rx, y + ry)])
        self._draw.ellipse(corners, fill=(paint + 1, round(255 * shade), 0))

    def polygon(
        self, points: Sequence[tuple[float, float]], paint: int, shade: float = 1.0
    ) -> None:
        """A filled polygon."""
        self._draw.polygon(self._xy(points), fill=(paint + 1, round(255 * shade), 0))

    def box(
        self, x0: float, y0: float, x1: float, y1: float, paint: int, shade: float = 1.0
    ) -> None:
        """A filled rectangle."""
        self.polygon([(x0, y0), (x1, y0), (x1, y1), (x0, y1)], paint, shade)

    def limb(
        self, points: Sequence[tuple[float, float]], width: float, paint: int, shade: float = 1.0
    ) -> None:
        """A thick line with round joints and ends."""
        thick = max(1, round(width * self._scale))
        self._draw.line(self._xy(points), fill=(paint + 1, round(255 * shade), 0), width=thick)
        for x, y in points:
            self.ellipse(x, y, width / 2, width / 2, paint, shade)

    def sprite(self, rng: np.random.Generator) -> Sprite:
        """What has been drawn, trimmed, with folds of light and dark over it."""
        left, top, right, bottom = self._image.getbbox()
        drawn = np.asarray(self._image.crop((left, top, right, bottom)))
        paint, shade = drawn[..., 0], drawn[..., 1].astype(np.float32)
        coarse = rng.uniform(1 - _FOLDS, 1.0, (8, 4)).astype(np.float32)
        shade *= np.asarray(Image.fromarray(coarse).resize(paint.shape[::-1]))
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
    target = canvas[:, max(top, 0) : max(top + height, 0), max(left, 0) : max(left + width, 0)]
    _, h, w = target.shape
    y, x = max(-top, 0), max(-left, 0)
    mixing = np.zeros((4, PAINTS + 1), np.float32)
    mixing[:3, :PAINTS], mixing[3, PAINTS] = palette.T / np.float32(255), -1 / 255
    layers = sprite.layers[:, y : y + h, x : x + w].astype(np.float32)
    mixed = np.tensordot(mixing, layers, 1)  # (4, h, w): colour, and −cover
    target *= mixed[3] + 1
    shade = np.arange(x, x + w, dtype=np.float32) * (2 * light / width) + (1 - light)
    target += mixed[:3] * shade


SKIN, HAIR, TOP, BOTTOM, TRIM, HAT, DARK = range(PAINTS)

LOOKS = 20  # for each view; each may be mirrored
UPRIGHT = (1.0, 0.85, 0.68, 0.5)  # views: the cosine of the camera's angle below the horizontal
HEAD_SIZES = (4, 4.6, 5.3, 6.1, 7, 8, 9.2, 10.5, 12, 14, 16, 18.5, 21.5, 25, 30, 37, 47, 60)
"""The diameters of heads, in pixels, that are drawn."""

_SKINS = "#f4d2b4 #ecbd96 #e0ac7d #c6865c #a06642 #7a4c32 #583828"
_HAIRS = "#1c1818 #281e1a #3e2a1e #5c3e28 #967042 #ceac70 #964a28 #8c8a88 #d0ceca"
_HAIR_SHARES = (0.3, 0.2, 0.16, 0.1, 0.06, 0.05, 0.03, 0.06, 0.04)
_CLOTHS = (
    "#1e2026 #3c3e46 #ebebe8 #96989c #22305c #3c60a0 #aa282c #c83c5a #346e46 #deb43c #d66e2c "
    "#784682 #c4b296 #6e543c #78b4c8"
)
_BOTTOMS = "#1c1e24 #2c3654 #465880 #3e3c3c #8c7c62 #6e7072 #cec8bc #50322e"


def palettes(rng: np.random.Generator, count: int, uniform: float = 0.0) -> np.ndarray:
    """Colours of ``count`` people, float32 (count, PAINTS, 3); ``uniform``: share dressed alike."""
    tops = _pick(rng, _CLOTHS, count)
    vivid = rng.random(count) < 0.35
    bright = rng.uniform(20, 225, (int(vivid.sum()), 3))
    tops[vivid] = 0.7 * bright + 0.3 * bright.mean(1, keepdims=True)
    team = rng.random(count) < uniform
    tops[team] = _pick(rng, _CLOTHS, 1) * rng.uniform(0.9, 1.1, (int(team.sum()), 1))
    pick = partial(_pick, rng, count=count)
    skin, hair, bottom = pick(_SKINS), pick(_HAIRS, shares=_HAIR_SHARES), pick(_BOTTOMS)
    trim, hat, dark = pick(_CLOTHS), pick(_CLOTHS), np.full_like(tops, 34)
    paints = np.stack([skin, hair, tops, bottom, trim, hat, dark], axis=1)  # as SKIN, HAIR, …
    return np.clip(paints + rng.normal(0, 5, paints.shape), 8, 250).astype(np.float32)


def _pick(
    rng: np.random.Generator, colours: str, count: int, shares: tuple[float, ...] | None = None
) -> np.ndarray:
    """``count`` of these colours, each lighter or darker by up to 15 %, (count, 3)."""
    table = np.array([ImageColor.getrgb(colour) for colour in colours.split()])
    chosen = table[rng.choice(len(table), count, p=shares)]
    return chosen * rng.uniform(0.85, 1.15, (count, 1))


@cache
def person(look: int, view: int, size: int, mirrored: bool = False) -> Sprite:
    """A person with a head of ``HEAD_SIZES[size]`` pixels, which the origin is the centre of."""
    if mirrored:
        return person(look, view, size).flipped()
    largest, wanted = len(HEAD_SIZES) - 1, HEAD_SIZES[size]
    if size < largest:  # made from one about twice as large
        source = min(bisect_left(HEAD_SIZES, 1.9 * wanted), largest)
        return person(look, view, source).resized(wanted / HEAD_SIZES[source])
    rng, upright = np.random.default_rng([look, 20]), UPRIGHT[view]
    pen = Pen((-2.2, -1.6, 2.2, 7.2), wanted)
    side = ("front", "back", "side", "front", "back")[look % 5]
    _body(pen, rng, float(rng.uniform(0.74, 0.98)), upright)
    if look % 12 == 7:
        _covered_head(pen, side, upright)
    else:
        _head(pen, rng, side, upright, hat=look % 6 == 4)
    return pen.sprite(rng)


def _body(pen: Pen, rng: np.random.Generator, shoulders: float, upright: float) -> None:
    """Legs, arms and trunk below a head of diameter 1 about the origin."""

    def at(x: float, y: float) -> tuple[float, float]:
        return x, 0.35 + (y - 0.35) * upright

    stride, hip, foot = rng.uniform(0.05, 0.45), 3.1, float(rng.uniform(5.6, 6.4))
    skirt, bare = rng.random() < 0.2, rng.random() < 0.25
    for sign in (-1, 1):
        end = at(sign * (0.25 + stride * (0.5 + 0.5 * sign)), foot - 0.15 * (sign < 0))
        knee = at(sign * (0.3 + 0.3 * stride), 4.5)
        shade = 0.78 if sign < 0 else 0.95
        pen.limb([at(sign * 0.35, hip), knee, end], 0.52, SKIN if skirt or bare else BOTTOM, shade)
        if bare or skirt:
            pen.limb([at(sign * 0.35, hip), knee], 0.62, BOTTOM, shade)
        pen.ellipse(end[0] + 0.08 * sign, end[1] + 0.05, 0.32, 0.2, DARK)
    if skirt:
        pen.polygon([at(-0.6, 2.6), at(0.6, 2.6), at(0.95, 4.5), at(-0.95, 4.5)], BOTTOM, 0.92)
    waist = shoulders * float(rng.uniform(0.72, 0.95))
    lift = float(rng.choice([0.0, 0.0, 0.0, 0.0, 0.5, 1.0]))
    sleeve = rng.random() < 0.55
    for sign in (-1, 1):
        shade = 0.66 if sign < 0 else 0.82
        start = at(sign * shoulders * 0.9, 1.05)
        up = lift * (sign > 0 or rng.random() < 0.4)
        elbow = at(sign * (shoulders + 0.3 * up + 0.12), 2.1 - 1.1 * up)
        hand = at(sign * (shoulders + 0.05 - 0.5 * (up > 0) * (up < 1)), 3.1 - 3.4 * up)
        pen.limb([start, elbow, hand], 0.34, TOP if sleeve else SKIN, shade)
        pen.ellipse(*hand, 0.2, 0.2, SKIN, shade)
        pen.limb([start, elbow], 0.44, TOP, shade)
    trunk = [at(-shoulders, 1.05), at(-shoulders * 0.62, 0.62), at(shoulders * 0.62, 0.62)]
    trunk += [at(shoulders, 1.05), at(waist, 2.3), at(waist, hip), at(-waist, hip), at(-waist, 2.3)]
    pen.polygon(trunk, TOP, 0.97)
    pen.ellipse(*at(0, hip), waist, 0.22 * upright, TOP, 0.93)
    top = at(0, 1.0)[1]
    pen.ellipse(0, top, shoulders, 0.28 + 0.2 * (1 - upright), TOP, 1.0)
    extra = rng.random()
    if extra < 0.2:
        pen.polygon([at(-0.55, 1.0), at(0.55, 1.0), at(0.6, 2.5), at(-0.6, 2.5)], TRIM, 0.9)
    elif extra < 0.32:
        belt = [at(-waist, 1.7), at(waist, 1.7), at(waist, 2.15), at(-waist, 2.15)]
        pen.polygon(belt, TRIM, 0.95)
    elif extra < 0.45:
        pen.limb([at(-shoulders * 0.7, 0.75), at(waist, 2.9)], 0.14, TRIM, 0.8)
        pen.ellipse(*at(waist, 3.0), 0.36, 0.4 * upright, TRIM, 0.85)
    pen.limb([(0, 0.3), at(0, 0.72)], 0.4, SKIN, 0.72)


def _face(pen: Pen, side: str, upright: float, narrow: float = 0.0) -> None:
    """The part of the head's skin that is seen; ``narrow`` makes it smaller."""
    drop = 0.1 + 0.22 * (1 - upright)
    if side == "front":
        pen.ellipse(0, drop, 0.35 - narrow, 0.4 - narrow, SKIN, 0.88)
        pen.ellipse(0, drop - 0.03, 0.29 - narrow, 0.33 - narrow, SKIN, 1.0)
        for x in (-0.14, 0.14):
            pen.ellipse(x, drop - 0.05, 0.05, 0.035, DARK)
        pen.ellipse(0, drop + 0.07, 0.05, 0.07, SKIN, 0.85)
        pen.ellipse(0, drop + 0.2, 0.11, 0.03, SKIN, 0.6)
    elif side == "side":
        pen.ellipse(0.4, drop + 0.03, 0.1, 0.08, SKIN, 0.95)
        pen.ellipse(0.16, drop, 0.28 - narrow / 2, 0.38 - narrow, SKIN, 0.95)
        pen.ellipse(0.3, drop - 0.06, 0.04, 0.035, DARK)


def _head(pen: Pen, rng: np.random.Generator, side: str, upright: float, hat: bool) -> None:
    """A head of diameter 1 about the origin, with hair (or little of it) and perhaps a hat."""
    style = rng.choice(["short", "short", "long", "long", "tied", "bald"])
    if style == "bald":
        pen.ellipse(0, 0, 0.43, 0.5, SKIN, 0.92)
        pen.ellipse(0.03, -0.1, 0.3, 0.33, SKIN, 1.0)
        if side != "front":
            pen.ellipse(-0.36, 0.14, 0.08, 0.2, HAIR, 0.9)
            pen.ellipse(0.36, 0.14, 0.08, 0.2, HAIR, 0.9)
    else:
        if style == "long":
            length = float(rng.uniform(0.6, 1.15))
            pen.limb([(-0.2, 0.1), (-0.24, length)], 0.46, HAIR, 0.8)
            if side != "side":
                pen.limb([(0.2, 0.1), (0.24, length)], 0.46, HAIR, 0.85)
        elif style == "tied":
            pen.ellipse(*((-0.46, -0.12) if side == "side" else (0, -0.5)), 0.2, 0.2, HAIR, 0.8)
        pen.ellipse(0, 0, 0.45, 0.5, HAIR, 0.85)
        pen.ellipse(0.04, -0.12, 0.33, 0.33, HAIR, 1.0)
        if side == "back" and style == "short":
            pen.ellipse(0, 0.42, 0.24, 0.12, SKIN, 0.8)
    for x in (-0.43, 0.43):
        if side != "side" and style != "long":
            pen.ellipse(x, 0.1, 0.07, 0.11, SKIN, 0.85)
    _face(pen, side, upright)
    if side == "front" and rng.random() < 0.2:
        pen.ellipse(0, 0.36 + 0.15 * (1 - upright), 0.2, 0.12, HAIR, 0.9)
    if hat:
        _hat(pen, rng, side, upright)


def _hat(pen: Pen, rng: np.random.Generator, side: str, upright: float) -> None:
    """A cap or a broad hat on the head about the origin."""
    lift = 0.1 * upright
    if rng.random() < 0.35:
        pen.ellipse(0, -0.12, 0.8, 0.22 + 0.3 * (1 - upright), HAT, 0.8)
        pen.ellipse(0, -0.24 - lift, 0.42, 0.32, HAT, 1.0)
        return
    if side != "back":
        pen.ellipse(0.34 if side == "side" else 0, -0.08, 0.36, 0.13, HAT, 0.7)
    pen.ellipse(0, -0.2 - lift / 2, 0.45, 0.35, HAT, 0.95)
    pen.ellipse(0.05, -0.28 - lift / 2, 0.28, 0.2, HAT, 1.0)


def _covered_head(pen: Pen, side: str, upright: float) -> None:
    """A head in a scarf or hood."""
    pen.ellipse(0, 0.5, 0.62, 0.42, HAT, 0.8)
    pen.ellipse(0, 0, 0.47, 0.53, HAT, 0.92)
    pen.ellipse(0.04, -0.15, 0.32, 0.32, HAT, 1.0)
    _face(pen, side, upright, narrow=0.05)
