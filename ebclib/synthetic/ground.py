"""Places without people: plazas, grass, streets, sand and halls."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from ebclib.synthetic.backdrop import paint_skyline, paint_wall
from ebclib.synthetic.camera import Camera

_STEP = 2


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
    """Ground seen by a camera, at half the image's size: its coordinates, and patterns on it."""

    def __init__(self, rng: np.random.Generator, camera: Camera) -> None:
        self.across, self.away, self.metre_px = camera.ground(_STEP)
        self.metre_px = self.metre_px / _STEP
        turn, self.shift = rng.uniform(-0.6, 0.6), rng.integers(0, 512, 2)
        self.u = self.across * np.float32(np.cos(turn)) + self.away * np.float32(np.sin(turn))
        self.v = self.away * np.float32(np.cos(turn)) - self.across * np.float32(np.sin(turn))

    def _look_up(self, tile: np.ndarray, per_metre: float) -> np.ndarray:
        u = (self.u * np.float32(per_metre)).astype(np.int32) + self.shift[0]
        v = (self.v * np.float32(per_metre)).astype(np.int32) + self.shift[1]
        return tile[v & 511, u & 511]

    def speckle(self, per_metre: float) -> np.ndarray:
        """Grain of the ground, (h, w), about -1…1, ``per_metre`` grains to a metre."""
        return self._look_up(_noise(False), per_metre) * np.clip(
            self.metre_px / per_metre * 2, 0.3, 1
        )

    def clouds(self, metres: float) -> np.ndarray:
        """Soft patches of about ``metres``, (h, w), about -1…1."""
        return self._look_up(_noise(True), 40 / metres)

    def lines(self, along: np.ndarray, every: float, width: float) -> np.ndarray:
        """Stripes of ``width`` metres each ``every`` metres of ``along``, 0…1; fading afar."""
        fade = np.clip(self.metre_px * every / 5 - 0.4, 0, 1)
        return (along / np.float32(every) % 1 < width / every) * fade

    def checks(self, side: float) -> np.ndarray:
        """A chess board of -1 and 1, fading afar."""
        odd = (np.floor(self.u / np.float32(side)) + np.floor(self.v / np.float32(side))) % 2
        return (2 * odd - 1) * np.clip(self.metre_px * side / 5 - 0.4, 0, 1)


def _flat(colour: tuple[float, ...], ground: _Ground, rough: float, per_metre: float) -> np.ndarray:
    light = 1 + rough * ground.speckle(per_metre) + 0.6 * rough * ground.clouds(1.5)
    return light[..., None] * np.array(colour, np.float32)


def _plaza(rng: np.random.Generator, ground: _Ground) -> np.ndarray:
    stone = rng.uniform(115, 205) * np.array([1, rng.uniform(0.94, 1), rng.uniform(0.82, 1)])
    image, side = _flat(tuple(stone), ground, 0.08, 16), float(rng.uniform(0.5, 1.6))
    joints = np.maximum(ground.lines(ground.u, side, 0.06), ground.lines(ground.v, side, 0.06))
    image *= (1 - rng.uniform(0.1, 0.35) * joints)[..., None]
    if rng.random() < 0.5:
        image *= (1 + rng.uniform(0.03, 0.14) * ground.checks(side))[..., None]
    return image


def _grass(rng: np.random.Generator, ground: _Ground) -> np.ndarray:
    green = rng.uniform(60, 105), rng.uniform(105, 145), rng.uniform(40, 60)
    image = _flat(green, ground, 0.25, 30)
    worn = np.clip(ground.clouds(2.5) * 2.2 - 0.6, 0, 1)[..., None] * rng.uniform(0, 0.8)
    image = image * (1 - worn) + _flat((150, 128, 90), ground, 0.12, 20) * worn
    if rng.random() < 0.3:
        image *= (1 + 0.1 * np.sign(np.sin(ground.u)))[..., None]
    return image


def _street(rng: np.random.Generator, ground: _Ground) -> np.ndarray:
    asphalt = _flat((rng.uniform(72, 120),) * 3, ground, 0.1, 25)
    half, middle = float(rng.uniform(3, 7)), float(rng.uniform(-3, 3))
    axis, other = (ground.u, ground.v) if rng.random() < 0.6 else (ground.v, ground.u)
    place = axis - np.float32(middle + (0 if axis is ground.u else np.median(ground.v)))
    crossing = np.abs(other - np.median(other)) < 1.6
    dashes = (np.abs(place) < 0.12) & (other % 5 < 2.6) & ~crossing
    edges = np.abs(np.abs(place) - half + 0.4) < 0.08
    paint = dashes | edges | (crossing & (place % 1.1 < 0.55) & (np.abs(place) < half - 0.6))
    asphalt += (paint * rng.uniform(70, 120))[..., None].astype(np.float32)
    walk = _flat((165, 160, 152), ground, 0.07, 16)
    walk *= (1 - 0.18 * np.maximum(ground.lines(axis, 0.9, 0.06), ground.lines(other, 0.9, 0.06)))[
        ..., None
    ]
    kerb = (np.abs(np.abs(place) - half) < 0.15)[..., None]
    return np.where(
        kerb, np.float32(188), np.where((np.abs(place) < half)[..., None], asphalt, walk)
    )


def _sand(rng: np.random.Generator, ground: _Ground) -> np.ndarray:
    image = _flat(
        (rng.uniform(195, 222), rng.uniform(172, 195), rng.uniform(125, 160)), ground, 0.13, 14
    )
    ripples = np.sin(ground.v * 7 + 4 * ground.clouds(1.2)) * np.clip(ground.metre_px / 8, 0, 1)
    return image * (1 + 0.04 * ripples)[..., None]


def _hall(rng: np.random.Generator, ground: _Ground) -> np.ndarray:
    colour = tuple(rng.uniform(70, 190, 3) * 0.3 + rng.uniform(55, 130))
    image = _flat(colour, ground, 0.05, 12)
    if rng.random() < 0.5:
        boards = np.maximum(ground.lines(ground.u, 0.22, 0.03), ground.lines(ground.v, 2.1, 0.04))
        return image * (1 - 0.3 * boards)[..., None]
    return image * (1 + 0.1 * ground.checks(float(rng.uniform(0.6, 2))))[..., None]


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
    size = camera.width, camera.height
    image = (
        Image.fromarray(small)
        .filter(ImageFilter.BoxBlur(0.4))
        .resize(size, Image.Resampling.BILINEAR)
    )
    _litter(rng, camera, image)
    edge = camera.horizon + rng.uniform(0.45, 0.9) * float(
        camera.feet(camera.first) - camera.horizon
    )
    if edge > 12:
        (paint_wall if kind == "hall" else paint_skyline)(rng, image, int(edge))
    return np.asarray(image).transpose(2, 0, 1).astype(np.float32, order="C")


def _litter(rng: np.random.Generator, camera: Camera, image: Image.Image) -> None:
    """Round flat things on the ground: manholes, puddles, leaves, stones."""
    draw = ImageDraw.Draw(image, "RGBA")
    flat = 0.25 + 0.6 * (1 - camera.upright)
    number, tone = int(rng.choice([0, 4, 12, 40, 120])), rng.uniform(30, 220, 3)
    rows = camera.height - (camera.height - camera.first) * rng.random(number) ** 0.7
    for y, x in zip(rows, rng.uniform(0, camera.width, number), strict=True):
        radius = float(camera.head_px(y) * rng.uniform(0.15, 0.75))
        colour = (
            *np.clip(tone + rng.normal(0, 25, 3), 0, 255).astype(int).tolist(),
            int(rng.integers(60, 230)),
        )
        draw.ellipse([x - radius, y - radius * flat, x + radius, y + radius * flat], fill=colour)
