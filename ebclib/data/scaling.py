"""Geometry of preparation: turning points with their image, and scaling both."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

MAX_PIXELS = 100_000_000
"""A prepared image holds at most so many pixels (300 MB as uint8)."""

ORDINARY_OUTSIDE, MOST_OUTSIDE = 0.01, 0.1
"""Shares of points outside their image: up to the first is ordinary, above the second an error."""


def inside(points: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Which of ``points`` (N, 2) lie in [0, W) x [0, H), as bools (N,); ``size`` is (H, W)."""
    height, width = size
    x, y = points[:, 0], points[:, 1]
    return (x >= 0) & (x < width) & (y >= 0) & (y < height)


def clamp(points: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """``points`` with what lies on or beyond an edge moved just inside [0, W) x [0, H)."""
    height, width = size
    return np.clip(points, 0.0, [np.nextafter(width, 0.0), np.nextafter(height, 0.0)])


def turn(points: np.ndarray, size: tuple[int, int], orientation: int) -> np.ndarray:
    """Points of a stored image where they are once it is upright.

    Parameters
    ----------
    points : (N, 2), x and y in the image as stored
    size : (H, W) of the image as stored
    orientation : EXIF tag 274, 1 (upright) to 8; CIPA DC-008, 4.6.4.A
    """
    height, width = size
    x, y = points[:, 0], points[:, 1]
    x_back, y_back = width - x, height - y
    new_x, new_y = {
        1: (x, y),
        2: (x_back, y),
        3: (x_back, y_back),
        4: (x, y_back),
        5: (y, x),
        6: (y_back, x),
        7: (y_back, x_back),
        8: (y, x_back),
    }[orientation]
    return np.stack([new_x, new_y], axis=1)


def place(
    points: np.ndarray, size: tuple[int, int], orientation: int = 1
) -> tuple[np.ndarray, int, bool]:
    """The annotated points on the upright image.

    Where EXIF swaps the sides and more points fit the image as stored than the upright one, they
    were annotated on the stored one and are turned along.

    Parameters
    ----------
    points : (N, 2) as annotated
    size : (H, W) of the upright image
    orientation : EXIF orientation of its file

    Returns
    -------
    points : (M, 2), inside [0, W) x [0, H)
    outside : how many were dropped because they lie outside, N - M
    turned : whether the points were turned along
    """
    frame = frame_of(points, size, orientation)
    keep = inside(points, frame)
    if frame == size:
        return points[keep], int((~keep).sum()), False
    # x = 0 becomes x = W, just outside the half-open rectangle: clamp
    return clamp(turn(points[keep], frame, orientation), size), int((~keep).sum()), True


def frame_of(points: np.ndarray, size: tuple[int, int], orientation: int) -> tuple[int, int]:
    """(H, W) of the image that points were annotated on: upright (``size``), or as its file stores it.

    The latter where EXIF swaps the sides, and more points fit it.
    """
    stored = size[::-1]
    if orientation >= 5 and inside(points, stored).sum() > inside(points, size).sum():
        return stored
    return size


def doubts(points: Sequence[np.ndarray], sizes: Sequence[tuple[int, int]]) -> tuple[str, bool]:
    """Why the points of a split, taken together, can hardly be pixels of its images.

    Parameters
    ----------
    points : (N, 2) of each image, as annotated
    sizes : (H, W) of each image

    Returns
    -------
    text : empty where there is nothing to say
    is_certain : whether it is more than a note
    """
    every = np.concatenate([np.empty((0, 2)), *points])
    sides = np.repeat(np.array(sizes).reshape(-1, 2)[:, ::-1], [len(p) for p in points], axis=0)
    n = len(every)
    if n < 3:
        return "", False
    low, high = every.min(axis=0), every.max(axis=0)
    if low.min() >= 0 and high.max() <= 1 and (every % 1 != 0).any():
        return (
            "all x and y lie between 0 and 1: parts of the width and height, and not pixels",
            True,
        )
    spread = high.min() > 75 and high.max() <= 100 and low.min() >= 0
    if n >= 20 and spread and sides.min() > 150:
        return "all x and y lie between 0 and 100: percents of the width and height", True
    out = int(((every < 0) | (every >= sides)).any(axis=1).sum())
    swapped = int(((every < 0) | (every >= sides[:, ::-1])).any(axis=1).sum())
    text = f"{out} of {n} points ({out / n:.0%}) lie outside their image"
    if out >= 3 and out / n > 0.05 and 5 * swapped < out:
        return f"{text}, {swapped} with x and y swapped: are they (row, column)?", True
    across, down = reach = np.quantile(every / sides, 0.99, axis=0)
    where = f"they reach {across:.2f} x its width and {down:.2f} x its height"
    if out >= 3 and out / n > ORDINARY_OUTSIDE:
        cause = "are they of the images at another size, or of other images?"
        return f"{text}; {where}: {cause}", out >= 10 and out / n > MOST_OUTSIDE
    if n >= 50 and len(points) >= 3 and reach.max() < 0.6 and reach.max() < 1.2 * reach.min():
        return f"{where} at most: are they of the images at a smaller size?", False
    return "", False


def prepared_size(
    size: tuple[int, int],
    least_side: int = 448,
    longest_side: int | None = None,
    multiples_px: tuple[int, ...] = (),
) -> tuple[int, int]:
    """(H, W) of an image after preparation, its aspect kept up to rounding.

    The longest side shrinks to ``longest_side`` where it is longer; then, and with priority, the
    least side grows to ``least_side`` where it is shorter. Never more than is needed.

    With ``multiples_px`` as the released code has it: each side is then rounded to a multiple of the
    first, and grown to a multiple of the second, if there is one; where both limits cannot be kept,
    there is no upper one.

    Raises
    ------
    ValueError : more than `MAX_PIXELS` pixels would come out

    >>> prepared_size((182, 300)), prepared_size((3000, 6000), longest_side=2048)
    ((448, 738), (1024, 2048))
    """
    step_px, *grown_px = multiples_px or (1,)
    least, longest = min(size), max(size)
    if multiples_px and longest_side and longest * least_side > longest_side * least:
        longest_side = None
    scale = min(1.0, longest_side / longest) if longest_side else 1.0
    if least * scale < least_side:
        scaled = least_side, longest * least_side / least
    elif scale < 1:
        scaled = least * scale, longest_side
    else:
        scaled = least, longest
    new_least, new_longest = (max(least_side, round(side / step_px) * step_px) for side in scaled)
    for step_px in grown_px:
        new_least, new_longest = (-(-side // step_px) * step_px for side in (new_least, new_longest))
    if new_least * new_longest > MAX_PIXELS:
        grown = new_longest > longest
        advice = (
            "cut it into parts" if grown else "give the data set a `longest_side`, or cut it up"
        )
        raise ValueError(
            f"an image of {size[1]} x {size[0]} would be {new_longest} x {new_least} once "
            f"prepared (least side {least_side}), {new_least * new_longest / 1e6:.0f} megapixels; at "
            f"most {MAX_PIXELS / 1e6:.0f} are allowed: {advice}."
        )
    return (new_least, new_longest) if size[0] <= size[1] else (new_longest, new_least)


def scale_points(
    points: np.ndarray, size: tuple[int, int], new_size: tuple[int, int]
) -> np.ndarray:
    """``points`` (N, 2) of an image of ``size`` (H, W) resized to ``new_size``; none falls out."""
    if size == new_size:
        return points
    ratio = np.array([new_size[1] / size[1], new_size[0] / size[0]])
    return clamp(points * ratio, new_size)
