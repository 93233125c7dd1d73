"""What is known of one image after counting: how many, how sure, where, and in which region.

A block of which a polygon covers the share a (of what lies inside the image) gives it a times its
people, as if they stood evenly in it. A border can be wrong by no more than the people in the blocks
it crosses, which is told beside the count.
"""

from __future__ import annotations

import io
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import shapely
import shapely.geometry
from PIL import Image, ImageDraw, ImageFont
from shapely.geometry.base import BaseGeometry

from ebclib.counting.sources import Item, read
from ebclib.data.images import scale_points
from ebclib.evaluation.positions import find_positions
from ebclib.runs import write_whole

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SHOWN_PX = 1600
"""The longest side of an image that is drawn."""

COLUMNS = ("image", "count", "lower", "upper", "height", "width", "flags", "notes", "model")
"""Of a table of results."""


@dataclass(frozen=True, eq=False)
class Count:
    """The people in one image."""

    name: str  # of the image
    count: float
    lower: float | None  # ends of the 90 % interval; None where the model is not calibrated
    upper: float | None
    density: np.ndarray  # float32 (h, w), people per block
    variance: np.ndarray  # float32 (h, w), people²
    block_size_px: int  # side of a block, in pixels of ``counted_size``
    counted_size: tuple[int, int]  # (H, W) as the model saw it
    size: tuple[int, int]  # (H, W) of the original, upright; points and regions are in its pixels
    noun: tuple[str, str] = ("person", "people")  # what was counted, (singular, plural)
    model: str = ""  # the name of the run that counted
    flags: tuple[str, ...] = ()  # what about this image makes its count doubtful; a sentence each
    notes: tuple[str, ...] = ()  # other remarks: on the model, and on how the image was read
    source: Any = None  # the file or the pixels that were counted

    @property
    def edges(self) -> tuple[np.ndarray, np.ndarray]:
        """Where blocks begin and end, in original pixels: y (h + 1,) and x (w + 1,)."""
        sides = zip(self.density.shape, self.counted_size, self.size, strict=True)
        y, x = (
            np.minimum(np.arange(blocks + 1) * self.block_size_px, counted) * (original / counted)
            for blocks, counted, original in sides
        )
        return y, x

    def points(self) -> np.ndarray:
        """Where the people are: (n, 2), x and y in original pixels, n the count rounded."""
        points = find_positions(self.density, self.block_size_px, self.counted_size)
        return scale_points(points, self.counted_size, self.size)

    def image(self) -> np.ndarray | None:
        """The image, uint8 (H, W, 3), at most `SHOWN_PX` long; None where its file is gone."""
        if self.source is None:
            return None
        try:
            return read(Item(self.name, self.source), longest_side=SHOWN_PX).pixels
        except (OSError, ValueError):
            return None

    def overlay(self) -> np.ndarray:
        """The image in grey with its density over it, uint8 (H, W, 3); the density alone without it."""
        from ebclib.plots.overlay import overlay

        return overlay(self.image(), self.density, self._covered())

    def plot(self, side_by_side: bool = False, axes: Any = None) -> Axes | np.ndarray:
        """The density over the image, or at its right, on one Axes or two, which None makes."""
        from ebclib.plots import plot_count

        shown, covered, what = self.image(), self._covered(), self.noun[1]
        return plot_count(shown, self.density, covered, self.text(), axes, what, side_by_side)

    def save(self, folder: str | Path) -> Path:
        """Write the overlay, above a strip that says count and doubts, as ``<name>.png`` into a folder."""
        path = Path(folder) / f"{self.name}.png"
        write_whole(path, lambda part: self._captioned().save(part, "PNG"))
        return path

    def _captioned(self) -> Image.Image:
        shown = Image.fromarray(self.overlay())
        px = max(12, min(shown.size) // 30)  # the height of the letters
        font = ImageFont.load_default(px)
        scale = f"brightest: {self.density.max():.2g} {self.noun[1]} per block"
        lines = [f"{self.text()}; {scale}", *self.flags]
        width = max(shown.width, px + round(max(map(font.getlength, lines))))
        whole = Image.new("RGB", (width, shown.height + 2 * px * len(lines)), "white")
        whole.paste(shown)
        place = px // 2, shown.height + px // 2
        ImageDraw.Draw(whole).text(place, "\n".join(lines), "black", font, spacing=px // 2)
        return whole

    def text(self) -> str:
        """Count and interval in words."""
        said = f"{self.count:.0f} {self.noun[round(self.count) != 1]}"
        if self.lower is None:
            return f"{said} (no interval)"
        return f"{said} (90 %: {self.lower:.0f} to {self.upper:.0f})"

    def __repr__(self) -> str:
        flagged = f", {len(self.flags)} flagged" if self.flags else ""
        return f"<{self.name}: {self.text()}{flagged}>"

    def _repr_jpeg_(self) -> bytes:
        """What a notebook shows and stores."""
        image, buffer = self._captioned(), io.BytesIO()
        image.thumbnail((640, 640))
        image.save(buffer, "JPEG", quality=85)
        return buffer.getvalue()

    def _covered(self) -> tuple[float, float]:
        """How many blocks, in parts of one, the image is high and wide."""
        height, width = self.counted_size
        return height / self.block_size_px, width / self.block_size_px


def results_frame(results: Iterable[Count | Sequence]) -> pd.DataFrame:
    """One row per image, of `COLUMNS`; results may be given as their `result_row`, too."""
    rows = (result_row(each) if isinstance(each, Count) else each for each in results)
    frame = pd.DataFrame(list(rows), columns=list(COLUMNS))
    return frame.astype({"count": float, "lower": float, "upper": float})


def result_row(result: Count) -> list[Any]:
    """The values of `COLUMNS`."""
    ends = (result.count, result.lower, result.upper)
    said = ("; ".join(result.flags), " ".join(result.notes))
    return [result.name, *ends, *result.size, *said, result.model]


def read_regions(source: str | Path | Mapping[str, Any]) -> dict[str, BaseGeometry]:
    """Named polygons in original image pixels: x to the right, y down, the corner at (0, 0).

    Parameters
    ----------
    source : a GeoJSON FeatureCollection (its file, or as read), named by each feature's ``name`` or
        ``id``; or ``{name: polygon}``, a polygon being [(x, y), …], a GeoJSON geometry, or shapely's

    Raises
    ------
    FileNotFoundError : no such file
    ValueError : no GeoJSON, something else than polygons, two of one name, borders that cross
        themselves, or a polygon that is in no image or smaller than a pixel; the region is named

    >>> read_regions({"left": [(0, 0), (50, 0), (50, 80), (0, 80)]})["left"].area
    4000.0
    """
    where = "The regions"
    if isinstance(source, str | Path):
        where, text = str(source), Path(source).read_text(encoding="utf-8-sig")
        try:
            source = json.loads(text)
        except ValueError as problem:
            raise ValueError(f"{where} is no GeoJSON ({problem}).") from problem
    if not isinstance(source, Mapping):
        raise ValueError(f"{where}: {type(source).__name__}; expected is {{name: [(x, y), …]}}.")
    given = list(source.items())
    if "features" in source:
        given = [_named(feature, number) for number, feature in enumerate(source["features"], 1)]
    found: dict[str, BaseGeometry] = {}
    for name, polygon in given:
        if name in found:
            raise ValueError(f"{where}: two regions are called {name!r}. Rename one.")
        found[name] = _polygon(polygon, f"{where}: region {name!r}")
    if not found:
        raise ValueError(f"{where}: no region. At least one polygon is expected.")
    return found


def _named(feature: Mapping[str, Any], number: int) -> tuple[str, Any]:
    name = (feature.get("properties") or {}).get("name", feature.get("id"))
    return str(f"region {number}" if name is None else name), feature.get("geometry")


def _polygon(given: Any, what: str) -> BaseGeometry:
    try:
        if isinstance(given, BaseGeometry):
            polygon = given
        elif isinstance(given, Mapping):
            polygon = shapely.geometry.shape(given)
        else:
            polygon = shapely.Polygon(given)
    except Exception as problem:  # shapely and numpy have several kinds
        raise ValueError(f"{what} is no polygon ({problem}). Give corners (x, y).") from problem
    east, south = polygon.bounds[2:]
    if polygon.geom_type not in ("Polygon", "MultiPolygon"):
        wrong = f"is a {polygon.geom_type}"
    elif not polygon.is_valid:
        wrong = f"crosses itself: {shapely.is_valid_reason(polygon)}"
    elif east <= 0 or south <= 0:
        wrong = "lies outside every image; QGIS writes y negative: change its sign"
    elif not polygon.area >= 1:
        wrong = "is less than a pixel; degrees and shares of a side are no pixels"
    else:
        return polygon
    raise ValueError(
        f"{what} {wrong}. A polygon in pixels is expected, x to the right and y down, both from 0."
    )


def count_regions(result: Count, regions: Mapping[str, Any] | str | Path) -> pd.DataFrame:
    """The people in each polygon; regions as `read_regions` takes them.

    Returns
    -------
    a row a region: ``region``, ``count``, ``on_border`` (people in the blocks that its border crosses:
        the count is off by no more than that because of it) and ``area_px``, inside the image; where a
        region lies outside the image its count is NaN, as nobody looked there
    """
    y, x = result.edges
    boxes = shapely.box(x[:-1], y[:-1, None], x[1:], y[1:, None])  # (h, w)
    areas = np.diff(y)[:, None] * np.diff(x)
    rows = []
    for name, polygon in read_regions(regions).items():
        shapely.prepare(polygon)
        touched = shapely.intersects(polygon, boxes)
        share = np.zeros(boxes.shape)
        share[touched] = shapely.area(shapely.intersection(boxes[touched], polygon))
        share /= areas
        crossed = (share > 0) & (share < 1 - 1e-9)
        rows.append(
            {
                "region": name,
                "count": float((share * result.density).sum()) if share.any() else math.nan,
                "on_border": float(result.density[crossed].sum()),
                "area_px": float((share * areas).sum()),
            }
        )
    return pd.DataFrame(rows)
