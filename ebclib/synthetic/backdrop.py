"""What closes a place behind: sky, houses and trees, or the end of a hall."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw, ImageFilter


def paint_skyline(rng: np.random.Generator, image: Image.Image, edge: int) -> None:
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
                _house(rng, draw, x, edge - edge * rng.uniform(0.25, 1.1), x + wide, edge)
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
    rng: np.random.Generator,
    draw: ImageDraw.ImageDraw,
    x0: float,
    y0: float,
    x1: float,
    y1: float,
) -> None:
    """A front with rows of windows, square or round."""
    wall = rng.uniform(80, 215) * np.array([1, rng.uniform(0.88, 1), rng.uniform(0.75, 1)])
    pane, round_ones = _rgb(wall * rng.uniform(0.35, 0.7)), rng.random() < 0.2
    draw.rectangle([x0, y0, x1, y1], fill=_rgb(wall))
    step = max(7.0, (x1 - x0) / rng.integers(4, 9))
    shape = draw.ellipse if round_ones else draw.rectangle
    for y in np.arange(y0 + step * 0.5, y1 - step * 0.8, step * 1.25):
        for x in np.arange(x0 + step * 0.3, x1 - step * 0.5, step):
            shape([x, y, x + step * 0.5, y + step * (0.5 if round_ones else 0.75)], fill=pane)


def paint_wall(rng: np.random.Generator, image: Image.Image, edge: int) -> None:
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


def _rgb(colour: np.ndarray) -> tuple[int, int, int]:
    r, g, b = np.clip(colour, 0, 255).astype(int).tolist()
    return r, g, b
