"""Where people stand: crowds, groups, rows, streams and rings, with gaps between them."""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np

from ebclib.synthetic.camera import Camera

_KINDS = ("scattered", "groups", "block", "rows", "stream", "ring")


def stand(rng: np.random.Generator, count: int, camera: Camera, taken: np.ndarray) -> np.ndarray:
    """Heads of ``count`` people, (count, 2), x and y in pixels, most of each in sight.

    ``taken`` is bool, (H, W): where no head may be. Nobody is refused: where there is no more room
    people fill the gaps, stand closer, and at last anywhere.
    """
    shares = rng.dirichlet(np.full(len(_KINDS), 0.35))
    number = int(rng.integers(1, 4 + min(count // 12, 12)))
    regions = [_Region(rng, camera, count) for _ in range(number)]
    gaps = _gaps(rng, camera, int(rng.integers(0, 5)))
    spacing, heads = float(rng.uniform(0.72, 0.95)), np.empty((0, 2))
    for attempt in range(12):
        blocked = taken.copy() if attempt < 9 else np.zeros_like(taken)
        if attempt < 3:
            blocked |= gaps
        if attempt == 11:
            spacing = 0.0
        for x, y in heads.tolist():
            _stamp(blocked, x, y, float(camera.head_px(y)) * spacing)
        loners = 0.06 + 0.08 * attempt
        for _ in range(5):
            kinds = rng.choice(len(_KINDS), 2 * (count - len(heads)) + 8, p=shares)
            kinds[rng.random(len(kinds)) < loners] = _KINDS.index("scattered")
            places = _propose(rng, camera, kinds, regions)
            found = _accept(places, count - len(heads), camera, blocked, spacing)
            heads = np.concatenate([heads, found])
            if len(heads) == count:
                return heads
        spacing *= 0.8
    return heads


def _accept(
    places: np.ndarray, wanted: int, camera: Camera, blocked: np.ndarray, spacing: float
) -> np.ndarray:
    """The first ``wanted`` of ``places`` with room for a head, (n, 2); they block what is near."""
    inside = (places[:, 0] >= 0) & (places[:, 0] < camera.width)
    inside &= (places[:, 1] >= camera.first) & (places[:, 1] < camera.height)
    places = places[inside]
    if spacing == 0:
        return places[:wanted]
    found, radii = [], camera.head_px(places[:, 1]) * spacing
    for (x, y), radius in zip(places.tolist(), radii.tolist(), strict=True):
        if len(found) == wanted:
            break
        if not blocked[int(y), int(x)]:
            found.append((x, y))
            _stamp(blocked, x, y, radius)
    return np.array(found, float).reshape(-1, 2)


@lru_cache(maxsize=128)
def _disc(radius: int) -> np.ndarray:
    y, x = np.mgrid[-radius : radius + 1, -radius : radius + 1]
    return (x / (radius + 0.3)) ** 2 + (y / (0.8 * radius + 0.3)) ** 2 <= 1


def _stamp(blocked: np.ndarray, x: float, y: float, radius_px: float) -> None:
    """Block the places within ``radius_px`` of (x, y), in place."""
    radius, row, column = round(radius_px), int(y), int(x)
    disc = _disc(radius)
    top, left = max(row - radius, 0), max(column - radius, 0)
    window = blocked[top : row + radius + 1, left : column + radius + 1]
    y0, x0 = top - row + radius, left - column + radius
    window |= disc[y0 : y0 + window.shape[0], x0 : x0 + window.shape[1]]


def _rows(rng: np.random.Generator, camera: Camera, n: int, power: float) -> np.ndarray:
    """Rows, such that the people per pixel go with diameter ** -power (3: evenly on the ground)."""
    near, far = float(camera.head_px(camera.height)), float(camera.head_px(camera.first))
    u, e = rng.random(n), 1 - power
    size = (far**e + u * (near**e - far**e)) ** (1 / e)
    return camera.horizon + size / camera.slope


class _Region:
    """A group, block, queue, stream or ring: a centre in the image, sizes in head diameters."""

    def __init__(self, rng: np.random.Generator, camera: Camera, count: int) -> None:
        self.y = float(_rows(rng, camera, 1, 1.7)[0])
        self.x = float(rng.uniform(0.02, 0.98)) * camera.width
        self.size = float(camera.head_px(self.y))
        self.spread = float(rng.uniform(0.6, 1.6)) * math.sqrt(4 + count / 12)
        self.angle = float(rng.normal(0, 0.35))
        self.pitch = float(rng.uniform(1.6, 2.6))
        self.goal = float(rng.uniform(0.2, 0.8)) * camera.width

    def place(self, rng: np.random.Generator, camera: Camera, kind: str, n: int) -> np.ndarray:
        """``n`` places of this kind, (n, 2)."""
        flat = 1 - camera.upright * 0.55
        a, b = rng.normal(size=(2, n))
        u, v = rng.uniform(-1, 1, (2, n))
        if kind == "stream":
            y = _rows(rng, camera, n, 2.0)
            part = (y - camera.first) / (camera.height - camera.first)
            middle = self.goal + (self.x - self.goal) * part
            return np.stack([middle + a * camera.head_px(y) * 2.5, y], 1)
        if kind == "groups":
            across, down = a * self.spread * 0.45, b * self.spread * 0.45 * flat
        elif kind == "block":
            across, down = u * self.spread * 1.8, v * self.spread * 1.4 * flat
        elif kind == "rows":
            line = np.round(v * 2) * self.pitch
            step = np.round(u * self.spread * 2.2 / 1.15) * 1.15
            across = step * math.cos(self.angle) + 0.12 * a
            down = (line + step * math.sin(self.angle)) * 0.8 + 0.1 * b
        else:
            radius = self.spread * 0.9 * (1 + np.abs(a) * 0.2)
            across, down = radius * np.cos(np.pi * u), radius * np.sin(np.pi * u) * flat
        y = self.y + down * self.size
        size = np.clip(camera.head_px(y), 1, None)
        # along a row of the ground, what is nearer is also wider
        return np.stack([self.x + across * size, y], 1)


def _propose(
    rng: np.random.Generator, camera: Camera, kinds: np.ndarray, regions: list[_Region]
) -> np.ndarray:
    """One place for each of ``kinds``, in their order, (n, 2); some lie outside the image."""
    places = np.empty((len(kinds), 2))
    where = rng.integers(0, len(regions), len(kinds))
    for kind, name in enumerate(_KINDS):
        mine = np.flatnonzero(kinds == kind)
        if name == "scattered":
            places[mine, 0] = rng.uniform(0, camera.width, len(mine))
            places[mine, 1] = _rows(rng, camera, len(mine), 2.1)
            continue
        for number in np.unique(where[mine]):
            here = mine[where[mine] == number]
            places[here] = regions[number].place(rng, camera, name, len(here))
    return places


def _gaps(rng: np.random.Generator, camera: Camera, number: int) -> np.ndarray:
    """Where nobody stands, bool (H, W): ``number`` ellipses."""
    gaps = np.zeros((camera.height, camera.width), bool)
    for y, x in zip(
        _rows(rng, camera, number, 1.5), rng.uniform(0, camera.width, number), strict=True
    ):
        radius = int(camera.head_px(y) * rng.uniform(2, 8))
        _stamp(gaps, float(x), float(y), min(radius, camera.width // 5))
    return gaps
