"""Images of dark discs to count and bars not to, as somebody's own data set."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

SIDE_PX = 128
RADIUS_PX = 7


def draw(rng: np.random.Generator, discs: int, bars: int) -> tuple[Image.Image, np.ndarray]:
    """An image of that many dark discs and bars on bright ground, and the discs' centres (n, 2)."""
    ground = rng.normal(rng.uniform(170, 220, 3), 6, (SIDE_PX, SIDE_PX, 3)).clip(0, 255)
    image = Image.fromarray(ground.astype(np.uint8))
    pen = ImageDraw.Draw(image)
    for _ in range(bars):
        x, y = rng.uniform(0, SIDE_PX, 2)
        angle = rng.uniform(0, np.pi)
        end = (x + 40 * np.cos(angle), y + 40 * np.sin(angle))
        pen.line([(x, y), end], fill=shade(rng), width=4)
    cells = rng.choice(5 * 5, discs, replace=False)  # a place each, so that none hides another
    centres = np.stack([cells % 5, cells // 5], axis=1) * 25.0 + 14 + rng.uniform(-3, 3, (discs, 2))
    for x, y in centres:
        pen.circle((x, y), RADIUS_PX, fill=shade(rng))
    return image, centres


def shade(rng: np.random.Generator) -> tuple[int, int, int]:
    return tuple(int(value) for value in rng.integers(10, 60, 3))


def save(folder: Path, images: int = 24) -> Path:
    """`train/`, `test/` and `bars/`, the last with bars alone; each with its `points.csv`."""
    rng = np.random.default_rng(0)
    for split, number in (("train", images), ("test", 8), ("bars", 4)):
        rows = ["image,x,y"]
        (folder / split).mkdir(parents=True)
        for index in range(number):
            discs = 0 if split == "bars" else int(rng.integers(0, 26))
            image, centres = draw(rng, discs, int(rng.integers(3, 9)))
            image.save(folder / split / f"{index}.png")
            rows += [f"{index}.png,{x:.1f},{y:.1f}" for x, y in centres] or [f"{index}.png,,"]
        (folder / split / "points.csv").write_text("\n".join(rows) + "\n")
    return folder
