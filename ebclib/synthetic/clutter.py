"""What stands about and is no person, much of it round: trees, lamps, balloons, signs, cars."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache

import numpy as np

from ebclib.synthetic.people import PAINTS, Pen, Sprite

LARGEST_PX, _SHRINK = 100, 0.88  # the most pixels per metre, and from one size to the next
_BODY, _SECOND, _LIGHT, _DARK, _LEAF, _METAL, _WOOD = range(PAINTS)


def _tree(pen: Pen, rng: np.random.Generator) -> None:
    pen.limb([(0, 0), (0.05, -2.4)], 0.22, _WOOD, 0.8)
    for k in range(46):
        angle, radius = rng.uniform(0, 6.3), rng.uniform(0, 1.05)
        x, y = radius * np.cos(angle), -3.0 + 0.85 * radius * np.sin(angle)
        pen.ellipse(x, y, 0.34, 0.3, _LEAF, 0.5 + 0.45 * k / 46)


def _bush(pen: Pen, rng: np.random.Generator) -> None:
    for k in range(26):
        x = rng.uniform(-0.6, 0.6)
        pen.ellipse(x, -0.3 + rng.uniform(-0.2, 0.2), 0.2, 0.18, _LEAF, 0.5 + 0.4 * k / 26)


def _lamp(pen: Pen, rng: np.random.Generator) -> None:
    pen.limb([(0, 0), (0, -3.6)], 0.09, _METAL, 0.6)
    pen.ellipse(0, -0.06, 0.16, 0.08, _METAL, 0.5)
    for x in (0.0,) if rng.random() < 0.5 else (-0.36, 0.36):
        pen.limb([(0, -3.5), (x, -3.5)], 0.06, _METAL, 0.6)
        pen.ellipse(x, -3.7, 0.2, 0.2, _LIGHT, 0.9)
        pen.ellipse(x, -3.73, 0.13, 0.13, _LIGHT, 1.0)


def _bin(pen: Pen, rng: np.random.Generator) -> None:
    pen.polygon([(-0.25, -0.8), (0.25, -0.8), (0.21, 0), (-0.21, 0)], _BODY, 0.75)
    pen.ellipse(0, 0, 0.21, 0.06, _BODY, 0.7)
    pen.ellipse(0, -0.82, 0.28, 0.14, _DARK, 1.0)
    pen.ellipse(0, -0.84, 0.2, 0.08, _BODY, 0.45)


def _bollard(pen: Pen, rng: np.random.Generator) -> None:
    pen.limb([(0, -0.05), (0, -0.75)], 0.16, _METAL, 0.6)
    pen.ellipse(0, -0.85, 0.13, 0.13, _SECOND if rng.random() < 0.5 else _METAL, 0.9)


def _sign(pen: Pen, rng: np.random.Generator) -> None:
    pen.limb([(0, 0), (0, -2.1)], 0.06, _METAL, 0.8)
    pen.ellipse(0, -2.3, 0.3, 0.3, _BODY, 1.0)
    pen.ellipse(0, -2.3, 0.22, 0.22, _LIGHT, 1.0)
    pen.box(-0.15, -2.34, 0.15, -2.26, _DARK)


def _balloons(pen: Pen, rng: np.random.Generator) -> None:
    for paint in (_BODY, _SECOND, _LEAF, _LIGHT, _BODY, _SECOND, _DARK):
        x, y = rng.uniform(-0.45, 0.45), -2.4 + rng.uniform(-0.45, 0.45)
        pen.limb([(0, -0.9), (x, y)], 0.015, _DARK, 0.8)
        pen.ellipse(x, y, 0.16, 0.19, paint, 0.9)
        pen.ellipse(x + 0.04, y - 0.06, 0.07, 0.08, paint, 1.0)
    pen.box(-0.08, -0.9, 0.08, 0, _METAL, 0.7)


def _flag(pen: Pen, rng: np.random.Generator) -> None:
    pen.limb([(0, 0), (0, -3.9)], 0.06, _METAL, 0.9)
    wave = [(0.4 * k, -0.1 * (k % 2)) for k in range(4)]
    for top, bottom, paint in ((3.8, 3.1, _BODY), (3.55, 3.35, _LIGHT)):
        low = [(x, y - bottom) for x, y in wave[::-1]]
        pen.polygon([(x, y - top) for x, y in wave] + low, paint, 0.95)


def _car(pen: Pen, rng: np.random.Generator) -> None:
    pen.ellipse(0, -0.05, 2.1, 0.16, _DARK, 0.6)
    pen.polygon([(-1.2, -0.9), (-0.8, -1.45), (0.7, -1.45), (1.3, -0.9)], _BODY, 0.85)
    pen.polygon([(-1.05, -0.9), (-0.72, -1.36), (-0.05, -1.36), (-0.05, -0.9)], _DARK, 1.0)
    pen.polygon([(0.05, -0.9), (0.05, -1.36), (0.63, -1.36), (1.12, -0.9)], _DARK, 0.8)
    pen.limb([(-1.85, -0.6), (1.85, -0.6)], 0.6, _BODY, 0.95)
    pen.box(-2.1, -0.55, 2.1, -0.3, _BODY, 0.75)
    for x in (-1.3, 1.3):
        pen.ellipse(x, -0.3, 0.34, 0.32, _DARK, 0.5)
        pen.ellipse(x, -0.3, 0.18, 0.17, _METAL, 1.0)
    pen.ellipse(2.0, -0.65, 0.1, 0.1, _LIGHT)


def _bench(pen: Pen, rng: np.random.Generator) -> None:
    for x in (-0.7, 0.7):
        pen.limb([(x, 0), (x, -0.8)], 0.08, _METAL, 0.6)
    pen.box(-0.9, -0.5, 0.9, -0.36, _SECOND, 0.8)
    pen.box(-0.9, -0.85, 0.9, -0.65, _SECOND, 0.65)


def _tent(pen: Pen, rng: np.random.Generator) -> None:
    for x in (-1.1, 1.1):
        pen.limb([(x, 0), (x, -1.9)], 0.07, _METAL, 0.8)
    pen.box(-1.1, -0.9, 1.1, -0.05, _LIGHT, 0.8)
    for k in range(6):
        x = -1.25 + 2.5 * k / 6
        roof = [(x, -1.9), (x + 2.5 / 6, -1.9), (0, -2.7)]
        pen.polygon(roof, _BODY if k % 2 else _LIGHT, 0.95)
        pen.ellipse(x + 1.25 / 6, -1.9, 1.25 / 6, 0.12, _BODY if k % 2 else _LIGHT, 0.9)


def _ball(pen: Pen, rng: np.random.Generator) -> None:
    radius = float(rng.uniform(0.13, 0.3))
    pen.ellipse(0, -radius, radius, radius, _BODY, 0.8)
    pen.ellipse(radius * 0.2, -radius * 1.15, radius * 0.7, radius * 0.7, _SECOND, 1.0)


def _cask(pen: Pen, rng: np.random.Generator) -> None:
    pen.box(-0.3, -0.9, 0.3, -0.08, _SECOND, 0.7)
    pen.ellipse(0, -0.08, 0.3, 0.1, _SECOND, 0.7)
    pen.ellipse(0, -0.9, 0.3, 0.13, _SECOND, 1.0)
    pen.ellipse(0, -1.05, 0.22, 0.2, _LEAF, 0.8)


THINGS: dict[str, Callable[[Pen, np.random.Generator], None]] = {
    drawn.__name__.strip("_"): drawn
    for drawn in (
        *(_tree, _bush, _lamp, _bin, _bollard, _sign, _balloons, _flag, _car, _bench, _tent),
        *(_ball, _cask),
    )
}

_PAINT_RANGES = [
    ((30, 30, 30), (235, 225, 225)),
    ((70, 50, 30), (190, 150, 120)),
    ((225, 220, 205), (255, 252, 245)),
    ((25, 25, 28), (60, 62, 70)),
    ((45, 80, 25), (110, 150, 60)),
    ((70, 72, 75), (170, 172, 175)),
    ((60, 45, 30), (110, 85, 60)),
]


def palette(rng: np.random.Generator) -> np.ndarray:
    """Colours for one object, float32 (PAINTS, 3)."""
    low, high = np.array(_PAINT_RANGES, float).swapaxes(0, 1)
    return (low + (high - low) * rng.random((PAINTS, 3))).astype(np.float32)


@cache
def _level(name: str, variant: int, step: int) -> Sprite:
    """The object at ``LARGEST_PX`` · _SHRINK ** step, made from one about twice as large."""
    if step:
        source = max(step - 5, 0)
        return _level(name, variant, source).resized(_SHRINK ** (step - source))
    rng = np.random.default_rng([list(THINGS).index(name), variant])
    pen = Pen((-2.6, -4.3, 2.6, 0.6), LARGEST_PX)
    THINGS[name](pen, rng)
    return pen.sprite(rng)


def thing(name: str, variant: int, metre_px: float) -> Sprite:
    """An object of ``THINGS`` at about ``metre_px`` pixels per metre; the origin is its foot."""
    step = round(math.log(min(max(metre_px, 5.0), LARGEST_PX) / LARGEST_PX, _SHRINK))
    return _level(name, variant, step)
