"""Places without people: a camera above flat ground, its texture, and the skyline behind it."""

from __future__ import annotations

import math
from functools import cache
from typing import NamedTuple, TypeVar

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

HEAD_M = 0.26  # a drawn head's diameter in metres
STATURE = 6.1  # from a head's centre to the feet, in head diameters

Rows = TypeVar("Rows", float, np.ndarray)


class Camera(NamedTuple):
    """A camera above flat ground, looking down at it."""

    height: int  # of the image, pixels
    width: int
    horizon: float  # its row, pixels; negative for a high camera
    slope: float  # a head's diameter is slope · (row - horizon)
    first: float  # the uppermost row that can hold a head

    def head_px(self, row: Rows) -> Rows:
        """The diameter of a head whose centre lies in ``row``."""
        return self.slope * (row - self.horizon)

    @property
    def upright(self) -> float:
        """The cosine of the angle below the horizontal, in the middle of the crowd."""
        drop = (self.first + self.height) / 2 - self.horizon
        return 1 / math.hypot(1, drop / (1.1 * self.height))

    def feet(self, row: Rows) -> Rows:
        """The row of the feet of somebody whose head's centre lies in ``row``."""
        return row + STATURE * self.upright * self.head_px(row)

    def metre_px(self, feet: Rows) -> Rows:
        """Pixels per metre across, where feet stand in row ``feet``."""
        return self.head_px(feet) / (1 + STATURE * self.upright * self.slope) / HEAD_M

    def rows(self, rng: np.random.Generator, number: int, power: float) -> np.ndarray:
        """Rows of heads; people per pixel go with diameter ** -power (3: evenly on the ground)."""
        near, far = self.head_px(float(self.height)), self.head_px(self.first)
        u, e = rng.random(number), 1 - power
        return self.horizon + (far**e + u * (near**e - far**e)) ** (1 / e) / self.slope


def choose_camera(rng: np.random.Generator, count: int, height: int, width: int) -> Camera:
    """A camera from which ``count`` people fit into the image; most show the horizon."""
    first, ratio = 0.0, rng.uniform(1.25, 3.5)
    if rng.random() < 0.6:
        first = rng.uniform(0.15, 0.45) * height
        ratio = math.exp(rng.uniform(math.log(2.2), math.log(7)))
    low, high = (0.02, 0.5) if count < 300 else (0.3, 0.7)
    crowding = math.exp(rng.uniform(math.log(low), math.log(high)))
    # heads of d pixels on rows of slope s: the area in squared diameters is area / (far · near)
    middle = math.sqrt(crowding * (height - first) * width / max(count, int(rng.integers(4, 60))))
    middle = min(max(middle, 5.0), 34.0)
    near = min(max(middle * math.sqrt(ratio), 6.0), 58.0)
    far = min(max(middle / math.sqrt(ratio), 4.0), near * 0.8)
    slope = (near - far) / (height - first)
    return Camera(height, width, first - far / slope, slope, first)


@cache
def _noise() -> np.ndarray:
    """A tile of noise, grainy and cloudy, float32 (512, 512), about -1…1, that joins up at its edges."""
    frequency = np.hypot(np.fft.fftfreq(512)[:, None], np.fft.rfftfreq(512)) + 1 / 512
    spectrum = np.fft.rfft2(np.random.default_rng(7).normal(size=(512, 512))) / frequency**0.8
    spectrum[0, 0] = 0
    tile = np.fft.irfft2(spectrum)
    return np.clip(tile / (2 * tile.std()), -1.2, 1.2).astype(np.float32)


class _Ground:
    """Ground seen by a camera, at half the image's size: places in metres, and patterns, (h, w)."""

    def __init__(self, rng: np.random.Generator, camera: Camera) -> None:
        rows = np.arange(1, camera.height, 2, dtype=np.float32)[:, None]
        columns = np.arange(1, camera.width, 2, dtype=np.float32)
        metre_px = np.maximum(camera.metre_px(rows), np.float32(1))
        across = (columns - camera.width / 2) / metre_px
        away, turn = 1.1 * camera.height / camera.upright / metre_px, rng.uniform(-0.6, 0.6)
        self.u = across * math.cos(turn) + away * math.sin(turn)
        self.v = away * math.cos(turn) - across * math.sin(turn)
        self.metre_px, self._shift = metre_px / 2, rng.integers(0, 512, 2)

    def noise(self, grain: float) -> np.ndarray:
        """Grain of this many metres, and clouds, about -1…1; fading afar."""
        u = np.floor(self.u / grain).astype(np.int32) + self._shift[0]
        v = np.floor(self.v / grain).astype(np.int32) + self._shift[1]
        return _noise()[v & 511, u & 511] * np.clip(self.metre_px * grain * 2, 0.3, 1)

    def flat(self, colour: np.ndarray, rough: float) -> np.ndarray:
        """A colour with grain, (h, w, 3)."""
        return (1 + rough * self.noise(0.06))[..., None] * colour.astype(np.float32)


def _grass(rng: np.random.Generator, ground: _Ground) -> np.ndarray:
    image = ground.flat(rng.uniform([75, 110, 45], [130, 150, 80]), 0.25)
    worn = np.clip(ground.noise(0.07) * 2.2 - 0.4, 0, 1) * rng.uniform(0, 1)
    return image + (np.array([150, 128, 90]) - image) * worn[..., None]


def _paved(rng: np.random.Generator, ground: _Ground) -> np.ndarray:
    """Slabs, in half of the places with a street between them."""
    stone, side = rng.uniform([110, 85, 60], [205, 195, 185]), rng.uniform(0.5, 1.6)
    slabs = ground.flat(np.sort(stone)[::-1], 0.12)
    joints = np.minimum(ground.u % side, ground.v % side) < 0.06
    depth = np.clip(0.05 * ground.metre_px * side - 0.1, 0, 0.2)  # of their shade; none afar
    slabs *= (1 + 0.1 * ground.noise(side) - depth * joints)[..., None]
    place, half = np.abs(ground.u - rng.uniform(-3, 3)), rng.choice([0, 0, 4, 7])
    road = ground.flat(np.array([100, 101, 104]), 0.12)
    road[(place < 0.12) & (ground.v % 5 < 2.6) | (np.abs(place - half + 0.4) < 0.08)] += 90
    return np.where((place < half)[..., None], road, slabs)


def paint_ground(rng: np.random.Generator, camera: Camera) -> Image.Image:
    """An empty place."""
    texture = (_paved, _paved, _grass)[rng.integers(3)](rng, _Ground(rng, camera))
    small = Image.fromarray(np.clip(texture, 0, 255).astype(np.uint8))
    image = small.resize((camera.width, camera.height), Image.Resampling.BILINEAR)
    tall = camera.feet(camera.first) - camera.horizon
    edge = int(camera.horizon + rng.uniform(0.45, 0.9) * tall)
    if edge > 12:
        image.paste(_skyline(rng, camera.width, edge).filter(ImageFilter.BoxBlur(1)))
    return image


def _skyline(rng: np.random.Generator, width: int, height: int) -> Image.Image:
    """Sky, houses and trees."""
    part = np.linspace(rng.random() ** 2, 0.9, height)[:, None, None]
    sky = np.array([100, 150, 210]) * (1 - part) + np.array([235, 232, 228]) * part
    image = Image.fromarray(np.broadcast_to(sky, (height, width, 3)).astype(np.uint8))
    draw, wide = ImageDraw.Draw(image), rng.uniform(0.12, 0.25) * width
    for x in np.arange(-rng.random() * wide, width, wide):
        top, light = height * rng.uniform(0, 1.5), rng.integers(45, 85)
        wall = f"hsl({rng.integers(60)}, 12%, {light}%)"
        draw.rectangle([x, top, x + wide, 2 * height], fill=wall)
        for y in np.arange(top + 5, height, 10):
            draw.line([x + 5, y, x + wide - 5, y], f"hsl(30, 8%, {light - 20}%)", width=4)
    hue = rng.integers(80, 120)
    for x in rng.uniform(0, width, rng.integers(0, 100)):
        r, colour = height * rng.uniform(0.06, 0.15), f"hsl({hue}, 32%, {rng.integers(25, 40)}%)"
        draw.ellipse([x - r, height - 1.6 * r, x + r, height + r], fill=colour)
    return image
