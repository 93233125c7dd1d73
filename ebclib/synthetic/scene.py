"""A drawn crowd: where people stand, what stands about, and the image of it."""

from __future__ import annotations

import math
from collections.abc import Callable
from random import Random
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from ebclib.synthetic.ground import Camera, choose_camera, paint_ground
from ebclib.synthetic.people import THINGS, Pen, Point, person


class Figure(NamedTuple):
    """A person or a thing, before it is painted."""

    shape: Callable[[Pen, Random], None]
    x: float  # of a person's head's centre, of a thing's foot, in pixels
    y: float
    unit: float  # a person's head's diameter, a thing's metre, in pixels
    depth: float  # the row it stands on
    seed: int  # of its look


class Scene(NamedTuple):
    """Everything that is in an image, before it is painted."""

    seed: int  # of the ground and of the light
    camera: Camera
    things: list[Figure]
    crowd: list[Figure]

    @property
    def points(self) -> np.ndarray:
        """The centres of the heads, float64 (N, 2), x and y in pixels."""
        return np.array([(one.x, one.y) for one in self.crowd], float).reshape(-1, 2)


def plan(rng: np.random.Generator, count: int, height: int, width: int) -> Scene:
    """Choose a place, a camera, things, and ``count`` people in it."""
    camera = choose_camera(rng, count, height, width)
    things, crowd = _set_out(rng, camera), []
    canvas = Image.new("RGB", (2 * width, 2 * height))
    _paint_figures(canvas, camera, things, sun=0)
    covered = np.asarray(canvas.convert("L"))[::2, ::2] > 0
    for x, y in _stand(rng, count, camera, covered):
        size = min(max(camera.head_px(y) * math.exp(rng.normal(0, 0.07)), 4), 60)
        depth = camera.feet(y) + rng.normal(0, 0.35) * size
        crowd.append(Figure(person, x, y, size, depth, int(rng.integers(2**31))))
    return Scene(int(rng.integers(2**31)), camera, things, crowd)


def _set_out(rng: np.random.Generator, camera: Camera) -> list[Figure]:
    """Things on the ground, none of which fills the image."""
    figures, first = [], camera.feet(camera.first)
    shares = rng.dirichlet(np.full(len(THINGS), 0.6))
    for kind in rng.choice(len(THINGS), rng.choice([1, 3, 6, 12]), p=shares):
        row = first + (1.05 * camera.height - first) * rng.random()
        metre, x = min(camera.metre_px(row), camera.height / 8), rng.uniform(0, camera.width)
        figures.append(Figure(THINGS[kind], x, row, metre, row, int(rng.integers(2**31))))
    return figures


def _stand(rng: np.random.Generator, count: int, camera: Camera, taken: np.ndarray) -> list[Point]:
    """Heads of ``count`` people, x and y in pixels, most of each in sight.

    ``taken`` is bool, (H, W): where no head may be. Where there is no more room people stand closer,
    and at last anywhere.
    """
    number = int(rng.integers(1, 4 + min(count // 12, 12)))
    middles = rng.uniform(0, camera.width, number), camera.rows(rng, number, 1.7)
    groups = np.stack([*middles, rng.uniform(0.4, 1.2, number) * math.sqrt(4 + count / 12)])
    alone, comfort = rng.random() ** 3, rng.uniform(0.72, 0.95)
    heads: list[Point] = []
    for closer in np.linspace(0, 1, 8).tolist():
        spacing = comfort * (1 - closer)
        blocked = taken & (closer < 0.7)
        for x, y in heads:
            _block(blocked, x, y, spacing * camera.head_px(y))
        for x, y in _places(rng, camera, groups, 6 * count, max(alone, closer)).tolist():
            if len(heads) == count:
                return heads
            if not blocked[int(y), int(x)]:
                heads.append((x, y))
                _block(blocked, x, y, spacing * camera.head_px(y))
    return heads


def _block(blocked: np.ndarray, x: float, y: float, radius: float) -> None:
    """Block the places near (x, y), in place; less far up and down than across."""
    top, left = max(int(y - 0.75 * radius), 0), max(int(x - 0.9 * radius), 0)
    blocked[top : int(y + 0.75 * radius), left : int(x + 0.9 * radius)] = True


def _places(
    rng: np.random.Generator, camera: Camera, groups: np.ndarray, number: int, alone: float
) -> np.ndarray:
    """Up to ``number`` places in the image, (n, 2); a share of ``alone`` belongs to no group."""
    x, y, size = groups[:, rng.integers(groups.shape[1], size=number)]
    across, down = rng.normal(size=(2, number)) * size
    y = y + down * camera.head_px(y) * (1 - camera.upright / 2)
    x = x + across * camera.head_px(y)
    single = rng.random(number) < alone
    y = np.where(single, camera.rows(rng, number, 2.1), y)
    x = np.where(single, rng.uniform(0, camera.width, number), x)
    inside = (x >= 0) & (x < camera.width) & (y >= camera.first) & (y < camera.height)
    return np.stack([x, y], axis=1)[inside]


def _paint_figures(canvas: Image.Image, camera: Camera, figures: list[Figure], sun: float) -> None:
    """Paint figures onto a canvas twice as large as the image."""
    draw = ImageDraw.Draw(canvas)
    for one in figures:
        pen = Pen(draw, 2 * one.x, 2 * one.y, 2 * one.unit, camera.upright, 0.25 * sun)
        one.shape(pen, Random(one.seed))


def paint(scene: Scene) -> np.ndarray:
    """The image of a scene, uint8 (H, W, 3)."""
    rng, camera = np.random.default_rng(scene.seed), scene.camera
    figures = sorted(scene.things + scene.crowd, key=lambda figure: figure.depth)
    image, sun = paint_ground(rng, camera), rng.uniform(-1, 1)
    image.paste((0, 0, 0), mask=_shadows(camera, figures, sun, rng.uniform(0.1, 0.55)))
    image = image.resize((2 * camera.width, 2 * camera.height), Image.Resampling.NEAREST)
    _paint_figures(image, camera, figures, sun)
    return _develop(rng, image.reduce(2))


def _shadows(camera: Camera, figures: list[Figure], sun: float, strength: float) -> Image.Image:
    """How dark the ground is behind whatever stands on it, of mode L."""
    image = Image.new("RGB", (camera.width, camera.height))
    draw, dark = ImageDraw.Draw(image), (round(255 * strength),) * 3
    flat = 0.2 + 0.5 * math.sqrt(1 - camera.upright**2)
    for one in figures:
        pen = Pen(draw, one.x, one.depth, camera.metre_px(one.depth), flat)
        pen.limb([(0, 0), (-sun, -0.8)], 0.4, dark)
        pen.ball((-sun, -0.8), 0.2, 0.2, dark)
        pen.ball((0, 0), 0.4, 0.2, dark)
    return image.getchannel(0).filter(ImageFilter.BoxBlur(2))


def _develop(rng: np.random.Generator, image: Image.Image) -> np.ndarray:
    """Light, tone, colour cast and grain of a photograph, uint8 (H, W, 3)."""
    tone, gamma = np.linspace(0, 1, 256), math.exp(rng.normal(-0.05, 0.18))
    gain, lift = rng.uniform(0.75, 1.15), rng.uniform(0, 0.08)
    curves = [255 * (lift + (1 - lift) * gain * c * tone**gamma) for c in rng.normal(1, 0.05, 3)]
    image = image.point(np.clip(curves, 0, 255).astype(int).ravel().tolist())
    grain = rng.random((image.height, image.width, 1), np.float32) - np.float32(0.5)
    pixels = np.asarray(image) + grain * np.float32(rng.uniform(3, 30))
    return np.clip(pixels, 0, 255).astype(np.uint8)
