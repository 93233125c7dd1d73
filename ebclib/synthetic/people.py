"""What stands in a drawn place: people, and things that are round and no heads."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

from PIL import ImageColor, ImageDraw

Colour = tuple[int, int, int]
Point = tuple[float, float]


@dataclass
class Pen:
    """Draws shapes about the point (x, y) of an image; a later shape hides an earlier one.

    Lengths are in units of ``unit`` pixels, with y downwards. Seen from above, heights are ``upright``
    times as long. Where ``sun`` is above 0, it is at the right, and what lies there is lighter.
    """

    draw: ImageDraw.ImageDraw
    x: float
    y: float
    unit: float
    upright: float = 1.0
    sun: float = 0.0

    def _pixel(self, point: Point) -> Point:
        return self.x + point[0] * self.unit, self.y + point[1] * self.unit * self.upright

    def _fill(self, colour: Colour, shade: float, x: float = 0) -> Colour:
        light = shade * (1 + self.sun * x)
        return int(colour[0] * light), int(colour[1] * light), int(colour[2] * light)

    def ball(self, at: Point, rx: float, ry: float, colour: Colour, shade: float = 1) -> None:
        """A filled ellipse with half-axes rx, ry."""
        (x, y), rx, ry = self._pixel(at), rx * self.unit, ry * self.unit
        if min(rx, ry) > 0.5:  # no specks
            corners = round(x - rx), round(y - ry), round(x + rx) - 1, round(y + ry) - 1
            self.draw.ellipse(corners, fill=self._fill(colour, shade, at[0]))

    def limb(self, points: list[Point], width: float, colour: Colour, shade: float = 1) -> None:
        """A thick line."""
        fill, thick = self._fill(colour, shade, points[-1][0]), round(width * self.unit)
        self.draw.line([self._pixel(at) for at in points], fill=fill, width=max(thick, 1))


_SKINS = "#f4d2b4 #ecbd96 #e0ac7d #c6865c #a06642 #7a4c32 #583828"
_HAIRS = "#1c1818 #1c1818 #281e1a #3e2a1e #3e2a1e #5c3e28 #967042 #ceac70 #8c8a88 #d0ceca"
_CLOTHS = "#1e2026 #ebebe8 #c4b296 #22305c #3c60a0 #aa282c #6e543c #346e46 #deb43c #d66e2c #784682 #78b4c8"
_BOTTOMS = "#1c1e24 #2c3654 #465880 #3e3c3c #8c7c62 #6e7072 #cec8bc #50322e"
_DARK, _METAL, _WOOD, _WHITE = (34, 34, 36), (115, 118, 122), (92, 68, 45), (250, 246, 232)


def _one_of(rng: Random, colours: str) -> Colour:
    """One of these colours, a little different each time."""
    parts = ImageColor.getrgb(rng.choice(colours.split()))[:3]
    red, green, blue = (int(part * rng.uniform(0.9, 1.1)) for part in parts)
    return red, green, blue


def person(pen: Pen, rng: Random) -> None:
    """Somebody with a head of one unit about the pen's point, seen from any side."""
    palettes = _SKINS, _HAIRS, _CLOTHS, _BOTTOMS, _CLOTHS
    skin, hair, top, bottom, trim = (_one_of(rng, palette) for palette in palettes)
    shoulders, turned = rng.uniform(0.76, 1), rng.choice((-1, 0, 0, 0, 0, 1))
    away = not turned and rng.random() < 0.5
    _legs(pen, rng, skin, bottom)
    _arms(pen, rng, skin, top, shoulders)
    _trunk(pen, rng, top, trim, shoulders)
    pen.limb([(0, 0.3), (0, 0.8)], 0.4, skin, 0.75)
    if rng.random() < 0.35:  # bald, or in a cap or a scarf
        hair = rng.choice((skin, trim, trim))
    if rng.random() < 0.35:
        long = rng.uniform(0.1, 0.35)
        pen.ball((0, long), 0.47, 0.47 + long * pen.upright, hair, 0.78)
    pen.ball((0, 0), 0.45, 0.5, hair, 0.86)
    pen.ball((0.03, -0.13), 0.33, 0.32, hair)
    if not away:
        _face(pen, skin, turned)


def _legs(pen: Pen, rng: Random, skin: Colour, bottom: Colour) -> None:
    """Two legs in shoes, in trousers or bare below a skirt."""
    stride, skirt = rng.uniform(0.05, 0.3), rng.random() < 0.35
    for side in (-1, 1):
        foot = side * (0.3 + stride), 6 + 0.2 * side * stride
        pen.limb([(side * 0.35, 3), foot], 0.56, skin if skirt else bottom, 0.9)
        pen.ball((foot[0] + 0.08 * side, foot[1]), 0.34, 0.2, _DARK)
    if skirt:
        pen.limb([(0, 2.8), (0, rng.uniform(3.8, 4.6))], rng.uniform(1.4, 1.8), bottom, 0.95)


def _arms(pen: Pen, rng: Random, skin: Colour, top: Colour, shoulders: float) -> None:
    """Two arms, hanging down or, seldom, lifted."""
    short = rng.random() < 0.4
    for side in (-1, 1):
        start, elbow = (side * (shoulders - 0.1), 0.95), (side * (shoulders + 0.12), 2.1)
        hand = side * (shoulders - rng.uniform(-0.1, 0.3)), 3.1
        if rng.random() < 0.06:
            elbow, hand = (side * (shoulders + 0.4), 0.9), (side * (shoulders + 0.1), -0.3)
        pen.limb([start, elbow, hand], 0.38, skin if short else top, 0.8)
        pen.ball(hand, 0.21, 0.21, skin, 0.9)
        if short:
            pen.limb([start, elbow], 0.46, top, 0.82)


def _trunk(pen: Pen, rng: Random, top: Colour, trim: Colour, shoulders: float) -> None:
    """A trunk, and perhaps a bag."""
    pen.limb([(0, 1), (0, 3.3)], 2 * shoulders * rng.uniform(0.75, 0.95), top, 0.94)
    pen.ball((0, 1.05), shoulders, 0.52 - 0.2 * pen.upright, top)
    if rng.random() < 0.2:
        pen.limb([(-0.6 * shoulders, 0.8), (shoulders, 2.9)], 0.13, trim, 0.8)
        pen.ball((shoulders, 3), 0.34, 0.36, trim, 0.85)


def _face(pen: Pen, skin: Colour, turned: int) -> None:
    """A face that looks to the left (-1), at us (0), or to the right (1)."""
    x, y = 0.13 * turned, 0.1 + 0.5 * (1 - pen.upright)
    pen.ball((x, y), 0.34, 0.38, skin, 0.88)
    pen.ball((x, y - 0.03), 0.28, 0.31, skin)
    for eye in (-0.14, 0.14):
        pen.ball((1.7 * x + eye, y - 0.06), 0.05, 0.04, _DARK)
    pen.ball((1.5 * x, y + 0.2), 0.11, 0.04, skin, 0.6)


def _tree(pen: Pen, rng: Random) -> None:
    green = rng.randint(45, 95), rng.randint(85, 140), rng.randint(30, 60)
    pen.limb([(0, 0), (0.05, -2.5)], 0.22, _WOOD, 0.8)
    for k in range(30):
        at = rng.gauss(0, 0.4), -3 - rng.gauss(0, 0.35)
        pen.ball(at, 0.36, 0.32, green, 0.65 + 0.01 * k)


def _lamp(pen: Pen, rng: Random) -> None:
    side = rng.choice((0, 0.36))
    pen.limb([(0, 0), (0, -3.4)], 0.09, _METAL, 0.7)
    pen.limb([(-side, -3.4), (side, -3.4)], 0.06, _METAL, 0.7)
    for x in (-side, side):
        pen.ball((x, -3.55), 0.2, 0.2, _WHITE, 0.9)
        pen.ball((x, -3.58), 0.13, 0.13, _WHITE)


def _sign(pen: Pen, rng: Random) -> None:
    pen.limb([(0, 0), (0, -2.1)], 0.06, _METAL, 0.8)
    pen.ball((0, -2.3), 0.3, 0.3, _one_of(rng, _CLOTHS))
    pen.ball((0, -2.3), 0.22, 0.22, _WHITE)
    pen.limb([(-0.15, -2.3), (0.15, -2.3)], 0.09, _DARK)


def _balloons(pen: Pen, rng: Random) -> None:
    for _ in range(7):
        at, colour = (rng.uniform(-0.45, 0.45), rng.uniform(-2.9, -2)), _one_of(rng, _CLOTHS)
        pen.limb([(0, -0.9), at], 0.02, _DARK, 0.8)
        pen.ball(at, 0.16, 0.19, colour, 0.9)
        pen.ball((at[0] + 0.04, at[1] - 0.06), 0.07, 0.08, colour, 1.15)
    pen.limb([(0, -0.9), (0, 0)], 0.16, _METAL, 0.7)


THINGS = (_tree, _lamp, _sign, _balloons)
"""What stands about and is no person; the unit is a metre, and the pen's point is the foot."""
