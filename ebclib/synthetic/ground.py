"""Places without people: a camera above flat ground, what lies on it, and what closes it behind."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

HEAD_M = 0.26  # a drawn head's diameter in metres
STATURE = 6.1  # from a head's centre to the feet, in head diameters


class Camera(NamedTuple):
    """A camera above flat ground, looking down at it."""

    height: int  # of the image, pixels
    width: int
    horizon: float  # its row, pixels; negative for a high camera
    slope: float  # a head's diameter is slope · (row - horizon)
    first: float  # the uppermost row that can hold a head

    @classmethod
    def between(
        cls, height: int, width: int, first: float, far_px: float, near_px: float
    ) -> Camera:
        """Heads of ``far_px`` in row ``first``, of ``near_px`` in the last one."""
        slope = (near_px - far_px) / (height - first)
        return cls(height, width, first - far_px / slope, slope, first)

    def head_px(self, row: np.ndarray) -> np.ndarray:
        """The diameter of a head whose centre lies in ``row``."""
        return self.slope * (np.asarray(row, float) - self.horizon)

    @property
    def upright(self) -> float:
        """The cosine of the angle below the horizontal, in the middle of the crowd."""
        drop = (self.first + self.height) / 2 - self.horizon
        return 1 / math.hypot(1, drop / (1.1 * self.height))

    def feet(self, row: np.ndarray) -> np.ndarray:
        """The row of the feet of somebody whose head's centre lies in ``row``."""
        return row + STATURE * self.upright * self.head_px(row)

    def head_row(self, feet: np.ndarray) -> np.ndarray:
        """The inverse of `feet`."""
        return self.horizon + (feet - self.horizon) / (1 + STATURE * self.upright * self.slope)

    @property
    def metre_slope(self) -> float:
        """Pixels per metre across, on the ground, per row below the horizon."""
        return self.slope / (1 + STATURE * self.upright * self.slope) / HEAD_M


def choose_camera(
    rng: np.random.Generator, count: int, height: int, width: int, headroom: bool
) -> Camera:
    """A camera from which ``count`` people fit into the image; ``headroom`` shows the horizon."""
    if headroom:
        first = rng.uniform(0.15, 0.45) * height
        ratio = math.exp(rng.uniform(math.log(2.2), math.log(7)))
    else:
        first, ratio = 0.0, rng.uniform(1.25, 3.5)
    low, high = (0.02, 0.5) if count < 300 else (0.3, 0.7)
    crowding = math.exp(rng.uniform(math.log(low), math.log(high)))
    # heads of d pixels on rows of slope s: the area in squared diameters is area / (far · near)
    middle = math.sqrt(crowding * (height - first) * width / max(count, rng.integers(4, 60)))
    middle = min(max(middle, 5.0), 34.0)
    near = min(max(middle * math.sqrt(ratio), 6.0), 58.0)
    far = min(max(middle / math.sqrt(ratio), 4.0), near * 0.8)
    return Camera.between(height, width, first, far, near)


def _paint_skyline(rng: np.random.Generator, image: Image.Image, edge: int) -> None:
    """Sky, houses with windows and trees above row ``edge``, in place."""
    draw, width = ImageDraw.Draw(image), image.width
    dull = rng.random() ** 1.5
    top = np.array([95, 145, 205]) * (1 - dull) + rng.uniform(150, 215) * dull
    haze = top * 0.4 + rng.uniform([215, 205, 190], [240, 238, 236]) * 0.6
    for y in range(edge):
        part = y / edge
        draw.line([(0, y), (width, y)], fill=_rgb(top * (1 - part) + haze * part))
    if rng.random() < 0.8:
        x = -rng.uniform(0, 60)
        while x < width:
            wide = rng.uniform(0.08, 0.3) * width
            if rng.random() < 0.85:
                _house(rng, draw, (x, edge - edge * rng.uniform(0.25, 1.1), x + wide, edge))
            x += wide
    if rng.random() < 0.7:
        green, number = rng.uniform([45, 70, 30], [85, 115, 60]), int(rng.integers(20, 160))
        for x in rng.uniform(0, width, number):
            radius = edge * rng.uniform(0.05, 0.16)
            y = edge - radius * rng.uniform(0.3, 2)
            colour = _rgb(green * rng.uniform(0.7, 1.2))
            draw.ellipse([x - radius, y - radius, x + radius, y + radius], fill=colour)
    base = edge + max(2, edge // 40)
    draw.rectangle([0, edge, width, base], fill=_rgb(rng.uniform(90, 150, 3)))
    _soften(image, base)


def _house(
    rng: np.random.Generator, draw: ImageDraw.ImageDraw, box: tuple[float, float, float, float]
) -> None:
    """A front with rows of windows, square or round."""
    x0, y0, x1, y1 = box
    wall = rng.uniform(80, 215) * np.array([1, rng.uniform(0.88, 1), rng.uniform(0.75, 1)])
    pane, round_ones = _rgb(wall * rng.uniform(0.35, 0.7)), rng.random() < 0.2
    draw.rectangle(box, fill=_rgb(wall))
    step = max(7.0, (x1 - x0) / rng.integers(4, 9))
    shape = draw.ellipse if round_ones else draw.rectangle
    for y in np.arange(y0 + step * 0.5, y1 - step * 0.8, step * 1.25):
        for x in np.arange(x0 + step * 0.3, x1 - step * 0.5, step):
            shape([x, y, x + step * 0.5, y + step * (0.5 if round_ones else 0.75)], fill=pane)


def _paint_wall(rng: np.random.Generator, image: Image.Image, edge: int) -> None:
    """The end of a hall: panels, posters, and round lamps, above row ``edge``, in place."""
    draw, width = ImageDraw.Draw(image), image.width
    wall = rng.uniform(90, 200) * np.array([1, rng.uniform(0.9, 1), rng.uniform(0.8, 1)])
    draw.rectangle([0, 0, width, edge], fill=_rgb(wall))
    draw.rectangle([0, 0, width, edge * 0.3], fill=_rgb(wall * 0.65))
    panel = rng.uniform(0.1, 0.25) * width
    for x in np.arange(rng.uniform(0, panel), width, panel):
        draw.line([(x, edge * 0.3), (x, edge)], fill=_rgb(wall * 0.8), width=2)
        if rng.random() < 0.5:
            box = [x + panel * 0.2, edge * 0.45, x + panel * 0.7, edge * 0.85]
            draw.rectangle(box, fill=_rgb(rng.uniform(40, 230, 3)))
    radius = max(2.0, edge * rng.uniform(0.02, 0.06))
    for y in (edge * 0.1, edge * 0.2):
        for x in np.arange(radius * 2, width, radius * rng.uniform(5, 9)):
            draw.ellipse([x - radius, y - radius, x + radius, y + radius], fill=(250, 246, 230))
    draw.rectangle([0, edge, width, edge + 3], fill=_rgb(wall * 0.45))
    _soften(image, edge + 3)


def _soften(image: Image.Image, rows: int) -> None:
    """Blur the rows above ``rows``: they are far away."""
    box = (0, 0, image.width, min(rows, image.height))
    image.paste(image.crop(box).filter(ImageFilter.BoxBlur(1)), box)


def _rgb(colour: np.ndarray) -> tuple[int, ...]:
    return tuple(np.clip(colour, 0, 255).astype(int).tolist())


@lru_cache(maxsize=2)
def _noise(smooth: bool) -> np.ndarray:
    """A tile of noise, float32 (512, 512), about -1…1, that joins up at its edges."""
    rng = np.random.default_rng(7)
    spectrum = np.fft.rfft2(rng.normal(size=(512, 512)))
    frequency = np.hypot(np.fft.fftfreq(512)[:, None], np.fft.rfftfreq(512)[None])
    spectrum *= np.exp(-((frequency * 24) ** 2)) if smooth else (frequency + 1 / 512) ** -0.8
    spectrum[0, 0] = 0
    tile = np.fft.irfft2(spectrum, (512, 512))
    return np.clip(tile / (2 * tile.std()), -1.2, 1.2).astype(np.float32)


class _Ground:
    """Ground seen by a camera, at half the image's size: places in metres, and patterns, (h, w, 1) each."""

    def __init__(self, rng: np.random.Generator, camera: Camera) -> None:
        rows = np.arange(1, camera.height, 2, dtype=np.float32)[:, None, None]
        columns = np.arange(1, camera.width, 2, dtype=np.float32)[:, None] - camera.width / 2
        drop = np.maximum(rows - camera.horizon, 2.0).astype(np.float32)  # the sky is far ground
        focal = 1.1 * camera.height / math.sqrt(1 - min(camera.upright, 0.99) ** 2 + 0.3)
        across = columns / np.float32(camera.metre_slope) / drop
        away = np.float32(focal / camera.metre_slope) / drop + np.zeros_like(across)
        self.metre_px = np.float32(camera.metre_slope) * drop / 2
        turn, self.shift = rng.uniform(-0.6, 0.6), rng.integers(0, 512, 2)
        self.u = across * np.float32(np.cos(turn)) + away * np.float32(np.sin(turn))
        self.v = away * np.float32(np.cos(turn)) - across * np.float32(np.sin(turn))

    def _look_up(self, tile: np.ndarray, per_metre: float) -> np.ndarray:
        u = (self.u * np.float32(per_metre)).astype(np.int32) + self.shift[0]
        v = (self.v * np.float32(per_metre)).astype(np.int32) + self.shift[1]
        return tile[v & 511, u & 511]

    def speckle(self, per_metre: float) -> np.ndarray:
        """Grain of the ground, about -1…1, ``per_metre`` grains to a metre."""
        fade = np.clip(self.metre_px / per_metre * 2, 0.3, 1)
        return self._look_up(_noise(False), per_metre) * fade

    def clouds(self, metres: float) -> np.ndarray:
        """Soft patches of about ``metres``, about -1…1."""
        return self._look_up(_noise(True), 40 / metres)

    def lines(self, along: np.ndarray, every: float, width: float) -> np.ndarray:
        """Stripes of ``width`` metres each ``every`` metres of ``along``, 0…1; fading afar."""
        fade = np.clip(self.metre_px * every / 5 - 0.4, 0, 1)
        return (along / np.float32(every) % 1 < width / every) * fade

    def checks(self, side: float) -> np.ndarray:
        """A chess board of -1 and 1, fading afar."""
        odd = (np.floor(self.u / np.float32(side)) + np.floor(self.v / np.float32(side))) % 2
        return (2 * odd - 1) * np.clip(self.metre_px * side / 5 - 0.4, 0, 1)

    def flat(self, colour: Sequence[float], rough: float, per_metre: float) -> np.ndarray:
        """A colour with grain and patches, (h, w, 3)."""
        light = 1 + rough * self.speckle(per_metre) + 0.6 * rough * self.clouds(1.5)
        return light * np.array(colour, np.float32)


def _plaza(rng: np.random.Generator, ground: _Ground) -> np.ndarray:
    stone = rng.uniform(115, 205) * np.array([1, rng.uniform(0.94, 1), rng.uniform(0.82, 1)])
    image, side = ground.flat(stone, 0.08, 16), float(rng.uniform(0.5, 1.6))
    joints = np.maximum(ground.lines(ground.u, side, 0.06), ground.lines(ground.v, side, 0.06))
    image *= 1 - rng.uniform(0.1, 0.35) * joints
    if rng.random() < 0.5:
        image *= 1 + rng.uniform(0.03, 0.14) * ground.checks(side)
    return image


def _grass(rng: np.random.Generator, ground: _Ground) -> np.ndarray:
    green = rng.uniform(60, 105), rng.uniform(105, 145), rng.uniform(40, 60)
    image = ground.flat(green, 0.25, 30)
    worn = np.clip(ground.clouds(2.5) * 2.2 - 0.6, 0, 1) * rng.uniform(0, 0.8)
    image = image * (1 - worn) + ground.flat((150, 128, 90), 0.12, 20) * worn
    if rng.random() < 0.3:
        image *= 1 + 0.1 * np.sign(np.sin(ground.u))
    return image


def _street(rng: np.random.Generator, ground: _Ground) -> np.ndarray:
    asphalt = ground.flat((rng.uniform(72, 120),) * 3, 0.1, 25)
    half, middle = float(rng.uniform(3, 7)), float(rng.uniform(-3, 3))
    axis, other = (ground.u, ground.v) if rng.random() < 0.6 else (ground.v, ground.u)
    place = axis - np.float32(middle + (0 if axis is ground.u else np.median(ground.v)))
    crossing = np.abs(other - np.median(other)) < 1.6
    dashes = (np.abs(place) < 0.12) & (other % 5 < 2.6) & ~crossing
    edges = np.abs(np.abs(place) - half + 0.4) < 0.08
    paint = dashes | edges | (crossing & (place % 1.1 < 0.55) & (np.abs(place) < half - 0.6))
    asphalt += (paint * rng.uniform(70, 120)).astype(np.float32)
    joints = np.maximum(ground.lines(axis, 0.9, 0.06), ground.lines(other, 0.9, 0.06))
    walk = ground.flat((165, 160, 152), 0.07, 16) * (1 - 0.18 * joints)
    ways = [np.abs(np.abs(place) - half) < 0.15, np.abs(place) < half]
    return np.select(ways, [np.float32(188), asphalt], walk)


def _sand(rng: np.random.Generator, ground: _Ground) -> np.ndarray:
    colour = rng.uniform(195, 222), rng.uniform(172, 195), rng.uniform(125, 160)
    ripples = np.sin(ground.v * 7 + 4 * ground.clouds(1.2)) * np.clip(ground.metre_px / 8, 0, 1)
    return ground.flat(colour, 0.13, 14) * (1 + 0.04 * ripples)


def _hall(rng: np.random.Generator, ground: _Ground) -> np.ndarray:
    image = ground.flat(rng.uniform(70, 190, 3) * 0.3 + rng.uniform(55, 130), 0.05, 12)
    if rng.random() < 0.5:
        boards = np.maximum(ground.lines(ground.u, 0.22, 0.03), ground.lines(ground.v, 2.1, 0.04))
        return image * (1 - 0.3 * boards)
    return image * (1 + 0.1 * ground.checks(float(rng.uniform(0.6, 2))))


GROUNDS: dict[str, Callable[[np.random.Generator, _Ground], np.ndarray]] = {
    "plaza": _plaza,
    "grass": _grass,
    "street": _street,
    "sand": _sand,
    "hall": _hall,
}


def paint_ground(rng: np.random.Generator, camera: Camera, kind: str) -> np.ndarray:
    """An empty place, float32 (3, H, W), about 0…255; ``kind`` is one of ``GROUNDS``."""
    small = np.clip(GROUNDS[kind](rng, _Ground(rng, camera)), 0, 255).astype(np.uint8)
    soft = Image.fromarray(small).filter(ImageFilter.BoxBlur(0.4))
    image = soft.resize((camera.width, camera.height), Image.Resampling.BILINEAR)
    _litter(rng, camera, image)
    tall = float(camera.feet(camera.first) - camera.horizon)
    edge = camera.horizon + rng.uniform(0.45, 0.9) * tall
    if edge > 12:
        (_paint_wall if kind == "hall" else _paint_skyline)(rng, image, int(edge))
    return np.asarray(image).transpose(2, 0, 1).astype(np.float32, order="C")


def _litter(rng: np.random.Generator, camera: Camera, image: Image.Image) -> None:
    """Round flat things on the ground: manholes, puddles, leaves, stones."""
    draw = ImageDraw.Draw(image, "RGBA")
    flat = 0.25 + 0.6 * (1 - camera.upright)
    number, tone = int(rng.choice([0, 4, 12, 40, 120])), rng.uniform(30, 220, 3)
    rows = camera.height - (camera.height - camera.first) * rng.random(number) ** 0.7
    for y, x in zip(rows, rng.uniform(0, camera.width, number), strict=True):
        radius = float(camera.head_px(y) * rng.uniform(0.15, 0.75))
        colour = (*_rgb(tone + rng.normal(0, 25, 3)), int(rng.integers(60, 230)))
        draw.ellipse([x - radius, y - radius * flat, x + radius, y + radius * flat], fill=colour)
