"""A drawn crowd: where people stand, what stands about, and the image of it."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from ebclib.synthetic import clutter, people
from ebclib.synthetic.ground import GROUNDS, Camera, choose_camera, paint_ground
from ebclib.synthetic.people import Sprite, paste

_KINDS = ("scattered", "groups", "block", "rows", "stream", "ring")


def stand(rng: np.random.Generator, count: int, camera: Camera, taken: np.ndarray) -> np.ndarray:
    """Heads of ``count`` people, (count, 2), x and y in pixels, most of each in sight.

    ``taken`` is bool, (H, W): where no head may be. Where there is no more room people fill the gaps,
    stand closer, and at last anywhere.
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
    low, high = (0, camera.first), (camera.width, camera.height)
    places = places[((places >= low) & (places < high)).all(axis=1)]
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
    radius = round(radius_px)
    top, left = int(y) - radius, int(x) - radius
    window = blocked[max(top, 0) : top + 2 * radius + 1, max(left, 0) : left + 2 * radius + 1]
    window |= _disc(radius)[max(-top, 0) :, max(-left, 0) :][: window.shape[0], : window.shape[1]]


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
            across = rng.uniform(0, camera.width, len(mine))
            places[mine] = np.stack([across, _rows(rng, camera, len(mine), 2.1)], axis=1)
            continue
        for number in np.unique(where[mine]):
            here = mine[where[mine] == number]
            places[here] = regions[number].place(rng, camera, name, len(here))
    return places


def _gaps(rng: np.random.Generator, camera: Camera, number: int) -> np.ndarray:
    """Where nobody stands, bool (H, W): ``number`` ellipses."""
    gaps = np.zeros((camera.height, camera.width), bool)
    rows, columns = _rows(rng, camera, number, 1.5), rng.uniform(0, camera.width, number)
    for y, x in zip(rows.tolist(), columns.tolist(), strict=True):
        radius = int(camera.head_px(y) * rng.uniform(2, 8))
        _stamp(gaps, x, y, min(radius, camera.width // 5))
    return gaps


class Figure(NamedTuple):
    """A sprite with its colours and its upper left corner."""

    sprite: Sprite
    left: int
    top: int
    palette: np.ndarray
    depth: float  # the row it stands on


class Scene(NamedTuple):
    """Everything that is in an image, before it is painted."""

    seed: int  # of the ground and of the light
    camera: Camera
    ground: str  # one of ``GROUNDS``
    clutter: list[Figure]
    crowd: list[Figure]  # in the order of ``points``
    points: np.ndarray  # the centres of the heads, float64 (N, 2), x and y in pixels
    heads_px: np.ndarray  # their diameters, (N,)


def plan(rng: np.random.Generator, count: int, height: int, width: int) -> Scene:
    """Choose a place, a camera, clutter, and ``count`` people in it."""
    kind = str(rng.choice(list(GROUNDS)))
    camera = choose_camera(rng, count, height, width, headroom=rng.random() < 0.6)
    things = _set_out(rng, camera, kind)
    heads = stand(rng, count, camera, _hidden(camera, things))
    crowd, points, sizes = _dress(rng, camera, heads)
    return Scene(int(rng.integers(2**31)), camera, kind, things, crowd, points, sizes)


def _set_out(rng: np.random.Generator, camera: Camera, kind: str) -> list[Figure]:
    """Clutter on the ground; nothing that would fill the image."""
    outside = ("tree", "car", "bush") if kind == "hall" else ()
    names = [name for name in clutter.THINGS if name not in outside]
    shares = rng.dirichlet(np.full(len(names), 0.4))
    number = int(rng.choice([2, 5, 10, 20, 45], p=[0.25, 0.3, 0.25, 0.15, 0.05]))
    figures, first = [], float(camera.feet(np.float64(camera.first)))
    for name in rng.choice(names, number, p=shares):
        row = first + (camera.height * 1.05 - first) * rng.random() ** 1.3
        metre_px = float(camera.metre_slope * (row - camera.horizon))
        sprite = clutter.thing(str(name), int(rng.integers(3)), metre_px)
        tall, wide = sprite.size
        if tall > 0.5 * camera.height or wide > 0.4 * camera.width:
            continue
        left, top = round(rng.uniform(0, camera.width) - sprite.x), round(row - sprite.y)
        figures.append(Figure(sprite, left, top, clutter.palette(rng), row))
    return figures


def _hidden(camera: Camera, things: list[Figure]) -> np.ndarray:
    """The places of heads that would be covered by what stands in front of them, bool (H, W)."""
    hidden = np.zeros((camera.height, camera.width), bool)
    for thing in things:
        (_, tall, wide), top, left = thing.sprite.layers.shape, thing.top, thing.left
        bottom = min(top + tall, int(camera.head_row(thing.depth)) + 1)
        window = hidden[max(top, 0) : max(bottom, 0), max(left, 0) : max(left + wide, 0)]
        solid = thing.sprite.layers[-1, max(-top, 0) :, max(-left, 0) :] > 100
        window |= solid[: window.shape[0], : window.shape[1]]
    return hidden


def _dress(
    rng: np.random.Generator, camera: Camera, heads: np.ndarray
) -> tuple[list[Figure], np.ndarray, np.ndarray]:
    """Figures with heads near ``heads``, on whole pixels; their exact centres; their diameters."""
    count = len(heads)
    wanted = camera.head_px(heads[:, 1]) * np.exp(rng.normal(0, 0.07, count))
    ladder = np.array(people.HEAD_SIZES)
    sizes = np.abs(np.log(wanted[:, None] / ladder)).argmin(1)
    view = int(np.abs(np.array(people.UPRIGHT) - camera.upright).argmin())
    looks, mirrored = rng.integers(people.LOOKS, size=count), rng.random(count) < 0.5
    uniform = float(rng.choice([0.0, 0.0, 0.0, 0.3, 0.8]))
    palettes = people.palettes(rng, count, uniform)
    far = 1 - (heads[:, 1] - camera.first) / (camera.height - camera.first)
    haze = (far * rng.uniform(0, 0.3))[:, None, None].astype(np.float32)
    palettes = palettes * (1 - haze) + np.float32(190) * haze
    depths = camera.feet(heads[:, 1]) + rng.normal(0, 0.35, count) * ladder[sizes]
    crowd, points = [], np.empty((count, 2))
    for i, (x, y) in enumerate(heads.tolist()):
        sprite = people.person(int(looks[i]), view, int(sizes[i]), bool(mirrored[i]))
        left = _whole(x, sprite.x, camera.width)
        top = _whole(y, sprite.y, camera.height)
        points[i] = left + sprite.x, top + sprite.y
        crowd.append(Figure(sprite, left, top, palettes[i], float(depths[i])))
    return crowd, points, ladder[sizes]


def _whole(wanted: float, offset: float, side: int) -> int:
    """The whole number nearest to ``wanted - offset`` for which offset + it lies in [0, side)."""
    number = round(wanted - offset)
    return number + (number + offset < 0) - (number + offset >= side)


def paint(scene: Scene) -> np.ndarray:
    """The image of a scene, uint8 (H, W, 3)."""
    rng = np.random.default_rng(scene.seed)
    canvas = paint_ground(rng, scene.camera, scene.ground)
    sun, strength = rng.uniform(-1, 1), rng.uniform(0.0, 0.55)
    figures = sorted(scene.clutter + scene.crowd, key=lambda figure: figure.depth)
    canvas *= _shadows(scene.camera, figures, sun, strength)
    for figure in figures:
        paste(canvas, figure.sprite, figure.left, figure.top, figure.palette, -0.3 * sun)
    return _develop(rng, canvas)


def _shadows(camera: Camera, figures: list[Figure], sun: float, strength: float) -> np.ndarray:
    """How much light falls on the ground, float32 (H, W): less where somebody stands before it."""
    shade = Image.new("L", ((camera.width + 1) // 2, (camera.height + 1) // 2))
    draw = ImageDraw.Draw(shade)
    flat = 0.2 + 0.5 * math.sqrt(1 - camera.upright**2)
    for figure in figures:
        tall, wide = figure.sprite.size
        x, y = (figure.left + figure.sprite.x) / 2, (figure.top + tall) / 2
        length, thick = tall * 0.3, max(1.0, min(wide, tall * 0.4) * 0.16)
        end = x + 1.3 * sun * length, y - 0.8 * flat * length
        draw.ellipse([x - 1.8 * thick, y - thick, x + 1.8 * thick, y + 0.8 * thick], fill=200)
        draw.line([(x, y), end], fill=255, width=max(1, round(2 * thick)))
        draw.ellipse([end[0] - thick, end[1] - thick, end[0] + thick, end[1] + thick], fill=255)
    soft = shade.filter(ImageFilter.BoxBlur(1)).resize((camera.width, camera.height))
    return 1 - np.asarray(soft, np.float32) * np.float32(strength / 255)


def _develop(rng: np.random.Generator, canvas: np.ndarray) -> np.ndarray:
    """Light, colour cast, grain, softness and tone of a photograph."""
    height, width = canvas.shape[1:]
    y = np.linspace(-1, 1, height, dtype=np.float32)[:, None]
    x = np.linspace(-1, 1, width, dtype=np.float32)[None]
    tilt, vignette = rng.normal(0, 0.1, 2), np.float32(rng.uniform(0, 0.16))
    light = 1 + np.float32(tilt[0]) * x + np.float32(tilt[1]) * y - vignette * (x * x + y * y)
    grain = np.frombuffer(rng.bytes(height * width), np.uint8).reshape(height, width)
    canvas *= light
    canvas += grain * np.float32(rng.uniform(1, 9) / 74)
    np.clip(canvas, 0, 255, out=canvas)
    image = Image.fromarray(np.ascontiguousarray(canvas.astype(np.uint8).transpose(1, 2, 0)))
    image = image.filter(ImageFilter.BoxBlur(float(rng.uniform(0.1, 0.55))))
    tone, cast = np.linspace(0, 1, 256), rng.normal(1, 0.05, 3)
    gain, gamma, lift = rng.uniform(0.75, 1.15), math.exp(rng.normal(0, 0.18)), rng.uniform(0, 0.08)
    curves = [np.clip(255 * (lift + (1 - lift) * gain * c * tone**gamma), 0, 255) for c in cast]
    image = image.point(np.concatenate(curves).round().astype(int).tolist())
    if rng.random() < 0.05:
        image = image.convert("L").convert("RGB")
    return np.array(image)
