"""What is known of one image after counting: how many, how sure, where, and in which region.

A block of which a polygon covers the share a (of what lies inside the image) gives it a times its
people, as if they stood evenly in it. Blocks inside are exact sums; a border can be wrong by no more
than the people in the blocks it crosses, which is told beside the count.
"""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from matplotlib import colormaps
from PIL import Image, ImageDraw, ImageFont

from ebclib.counting.sources import Item, read
from ebclib.data.images import scale_points
from ebclib.data.splits import write_array
from ebclib.evaluation.positions import find_positions
from ebclib.runs import write_json, write_whole

if TYPE_CHECKING:
    from matplotlib.axes import Axes
import json
import math
from collections.abc import Mapping

import shapely
import shapely.geometry
from shapely.errors import ShapelyError
from shapely.geometry.base import BaseGeometry

SHOWN_PX = 1600
"""The longest side of an image that is drawn."""


@dataclass(frozen=True, eq=False)
class Count:
    """The people in one image.

    Attributes
    ----------
    name : of the image
    count : how many
    lower, upper : ends of the 90 % interval; None where the model is not calibrated
    density, variance : float32 (h, w), people per block and people²
    block_size_px : side of a block, in pixels of ``counted_size``
    counted_size : (H, W) as the model saw it
    size : (H, W) of the original image, upright; points and regions are in its pixels
    noun : what was counted, (singular, plural)
    model : the name of the run that counted
    flags : what about this image makes its count doubtful; a sentence each
    notes : other remarks: on the model, and on how the image was read
    source : where the pixels are: a file, or an array that somebody keeps; None where neither
    """

    name: str
    count: float
    lower: float | None
    upper: float | None
    density: np.ndarray = field(repr=False)
    variance: np.ndarray = field(repr=False)
    block_size_px: int
    counted_size: tuple[int, int]
    size: tuple[int, int]
    noun: tuple[str, str] = ("person", "people")
    model: str = ""
    flags: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    source: Any = field(default=None, repr=False)

    @property
    def edges(self) -> tuple[np.ndarray, np.ndarray]:
        """Where blocks begin and end, in original pixels: y (h + 1,) and x (w + 1,), the last at the
        image's border."""
        sides = zip(self.density.shape, self.counted_size, self.size, strict=True)
        y, x = (
            np.minimum(np.arange(blocks + 1) * self.block_size_px, counted) * (original / counted)
            for blocks, counted, original in sides
        )
        return y, x

    def points(self) -> np.ndarray:
        """Where the people are: (n, 2), x and y in original pixels, n the count rounded.

        See `positions.find_positions`; each is as sure as its block is small.
        """
        points = find_positions(self.density, self.block_size_px, self.counted_size)
        return scale_points(points, self.counted_size, self.size)

    def image(self) -> np.ndarray | None:
        """The image, uint8 (H, W, 3), at most `SHOWN_PX` long; read again from its file.

        None where nobody kept it: a frame of a stream.

        Raises
        ------
        OSError, ValueError : the file is gone, or another
        """
        if self.source is None:
            return None
        return read(Item(self.name, self.source), longest_side=SHOWN_PX).pixels

    def overlay(self) -> np.ndarray:
        """The image in grey with its density over it, uint8 (H, W, 3); the density alone without it."""
        from ebclib.plots.overlay import overlay

        return overlay(self._shown(), self.density, self._covered())

    def plot(self, side_by_side: bool = False, axes: Any = None) -> Axes | np.ndarray:
        """The density over the image, or beside it; what was drawn on.

        Parameters
        ----------
        side_by_side : image left, density right
        axes : one Axes, or two side by side; None makes them
        """
        from ebclib.plots import plot_count

        shown, covered, what = self._shown(), self._covered(), self.noun[1]
        return plot_count(shown, self.density, covered, self.text(), axes, what, side_by_side)

    def save(self, folder: str | Path, maps: bool = False) -> Path:
        """Write an overlay with count, interval and scale (PNG) and the numbers (JSON) into a folder.

        With ``maps`` the density, too: float32 (h, w), .npy. Gives the PNG; the others lie beside it.
        """
        path = Path(folder) / f"{self.name}.png"
        write_whole(path, lambda part: self._captioned().save(part, "PNG"))
        write_json(path.with_suffix(".json"), self.to_dict())
        if maps:
            write_array(path.with_suffix(".npy"), self.density)
        return path

    def to_dict(self) -> dict[str, Any]:
        """Plain values, without the map."""
        return {
            "image": self.name,
            "model": self.model,
            "count": round(self.count, 3),
            "lower": None if self.lower is None else round(self.lower, 3),
            "upper": None if self.upper is None else round(self.upper, 3),
            "calibrated": self.lower is not None,
            "flags": list(self.flags),
            "notes": list(self.notes),
            "noun": list(self.noun),
            "height": self.size[0],
            "width": self.size[1],
            "counted_height": self.counted_size[0],
            "counted_width": self.counted_size[1],
            "block_size_px": self.block_size_px,
        }

    def text(self) -> str:
        """Count and interval in words."""
        said = f"{self.count:.0f} {self.noun[round(self.count) != 1]}"
        if self.lower is None:
            return f"{said} (no interval)"
        return f"{said} (90 %: {self.lower:.0f} to {self.upper:.0f})"

    def __repr__(self) -> str:
        flagged = f", {len(self.flags)} flagged" if self.flags else ""
        return f"<{self.name}: {self.text()}{flagged}>"

    def _repr_html_(self) -> str:
        """Count, remarks and a small overlay; a JPEG, as notebooks store it."""
        image, buffer = Image.fromarray(self.overlay()), io.BytesIO()
        image.thumbnail((480, 480))
        image.save(buffer, "JPEG", quality=85)
        encoded = base64.b64encode(buffer.getvalue()).decode()
        remarks = [f"<li>&#9888; {html.escape(flag)}</li>" for flag in self.flags]
        remarks += [f"<li>{html.escape(note)}</li>" for note in self.notes]
        return (
            f"<div><b>{html.escape(self.name)}</b>: {html.escape(self.text())}"
            f"<ul>{''.join(remarks)}</ul>"
            f'<img alt="density over the image" src="data:image/jpeg;base64,{encoded}"></div>'
        )

    def _shown(self) -> np.ndarray | None:
        """The image if it can still be had; a result outlives its file."""
        try:
            return self.image()
        except (OSError, ValueError):
            return None

    def _captioned(self) -> Image.Image:
        """The overlay above a strip with the count, its interval, and what the colours stand for."""
        from ebclib.plots.overlay import LEAST_TOP
        from ebclib.plots.style import DENSITY_MAP

        shown = Image.fromarray(self.overlay())
        px = max(12, min(shown.size) // 30)  # the height of the letters
        font = ImageFont.load_default(px)
        said = f"{self.text()}    0 "
        top = f" {max(float(self.density.max()), LEAST_TOP):.2g} {self.noun[1]} per block"
        start, bar = px // 2 + round(font.getlength(said)), 8 * px
        end = start + bar + round(font.getlength(top)) + px // 2
        whole = Image.new("RGB", (max(shown.width, end), shown.height + 2 * px), "white")
        whole.paste(shown)
        draw, y = ImageDraw.Draw(whole), shown.height + px // 2
        draw.text((px // 2, y), said, "black", font)
        draw.text((start + bar, y), top, "black", font)
        colours = np.rint(255 * colormaps[DENSITY_MAP](np.linspace(0, 1, bar))[None, :, :3])
        whole.paste(Image.fromarray(colours.astype(np.uint8)).resize((bar, px)), (start, y))
        return whole

    def _covered(self) -> tuple[float, float]:
        """How many blocks, in parts of one, the image is high and wide."""
        height, width = self.counted_size
        return height / self.block_size_px, width / self.block_size_px


COLUMNS = ("image", "count", "lower", "upper", "height", "width", "flags", "notes", "model")


def results_frame(results: Iterable[Count]) -> pd.DataFrame:
    """One row per image, of `COLUMNS`; one pass, no map is kept."""
    return rows_frame(result_row(result) for result in results)


def rows_frame(rows: Iterable[dict[str, Any]]) -> pd.DataFrame:
    """Rows of `result_row` as a frame; ends of intervals that are not known are NaN."""
    frame = pd.DataFrame(list(rows), columns=list(COLUMNS))
    return frame.astype({"count": float, "lower": float, "upper": float})


def result_row(result: Count) -> dict[str, Any]:
    """A result as a row of `results_frame`."""
    said = {"flags": "; ".join(result.flags), "notes": " ".join(result.notes)}
    row = result.to_dict() | said
    return {column: row[column] for column in COLUMNS}


POLYGONS = ("Polygon", "MultiPolygon")


def read_regions(source: str | Path | Mapping[str, Any]) -> dict[str, BaseGeometry]:
    """Named polygons in original image pixels: x to the right, y down, the corner at (0, 0).

    Parameters
    ----------
    source : a GeoJSON FeatureCollection (its file, or as read), named by each feature's property
        ``name``, else its ``id``; or ``{name: polygon}``, a polygon being [(x, y), …], a GeoJSON
        geometry, or one of shapely's

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
        where, source = str(source), _load(Path(source))
    if not isinstance(source, Mapping):
        raise ValueError(f"{where}: {type(source).__name__}; expected is {{name: [(x, y), …]}}.")
    if "features" in source or source.get("type") == "FeatureCollection":
        pairs = [_named(feature, n) for n, feature in enumerate(source.get("features") or [], 1)]
    else:
        pairs = list(source.items())
    if not pairs:
        raise ValueError(f"{where}: no region. At least one polygon is expected.")
    found: dict[str, BaseGeometry] = {}
    for name, polygon in pairs:
        if name in found:
            raise ValueError(f"{where}: two regions are called {name!r}. Rename one.")
        found[name] = _in_pixels(_polygon(polygon, f"{where}: region {name!r}"), where, name)
    return found


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
        touched, whole = shapely.intersects(polygon, boxes), shapely.covers(polygon, boxes)
        crossed = touched & ~whole
        share = whole.astype(np.float64)
        share[crossed] = shapely.area(shapely.intersection(boxes[crossed], polygon))
        share[crossed] /= areas[crossed]
        crossed &= share > 0  # not those that the border only touches
        rows.append(
            {
                "region": name,
                "count": float((share * result.density).sum()) if share.any() else math.nan,
                "on_border": float(result.density[crossed].sum()),
                "area_px": float((share * areas).sum()),
            }
        )
    return pd.DataFrame(rows, columns=["region", "count", "on_border", "area_px"])


def regions_geojson(result: Count, regions: Mapping[str, Any] | str | Path) -> dict[str, Any]:
    """The polygons as a GeoJSON FeatureCollection in pixels, with properties name, count, on_border.

    It can be given to `read_regions` again.
    """
    polygons = read_regions(regions)
    features = [
        {
            "type": "Feature",
            "geometry": shapely.geometry.mapping(polygons[row.region]),
            "properties": {
                "name": row.region,
                "count": None if math.isnan(row.count) else round(row.count, 3),
                "on_border": round(row.on_border, 3),
            },
        }
        for row in count_regions(result, polygons).itertuples(index=False, name="Row")
    ]
    return {"type": "FeatureCollection", "features": features}


def _load(path: Path) -> Any:
    if not path.is_file():
        raise FileNotFoundError(f"{path} is not there: a GeoJSON file of polygons is expected.")
    try:
        return json.loads(path.read_text(encoding="utf-8-sig"))
    except ValueError as problem:
        raise ValueError(f"{path} is no GeoJSON ({problem}).") from problem


def _named(feature: Any, number: int) -> tuple[str, Any]:
    if not isinstance(feature, Mapping):
        raise ValueError(f"Feature {number} of the regions is no GeoJSON feature: {feature!r:.60}.")
    name = (feature.get("properties") or {}).get("name", feature.get("id"))
    return str(f"region {number}" if name is None else name), feature.get("geometry")


def _in_pixels(polygon: BaseGeometry, where: str, name: str) -> BaseGeometry:
    west, north, east, south = polygon.bounds
    lies = f"{where}: region {name!r} lies at x {west:g} to {east:g}, y {north:g} to {south:g}"
    if east <= 0 or south <= 0:
        raise ValueError(
            f"{lies}, outside every image. Pixels are expected, x to the right and y down from the "
            "upper left corner, both from 0; QGIS writes y negative: change its sign."
        )
    if polygon.area < 1:
        raise ValueError(
            f"{lies}, which is less than a pixel. Pixels of the image are expected, not degrees and "
            "not shares of its sides."
        )
    return polygon


def _polygon(given: Any, what: str) -> BaseGeometry:
    try:
        if isinstance(given, BaseGeometry):
            polygon = given
        elif isinstance(given, Mapping):
            polygon = shapely.geometry.shape(given)
        else:
            polygon = shapely.Polygon(np.asarray(given, dtype=np.float64))
    except (ValueError, TypeError, KeyError, AttributeError, ShapelyError) as problem:
        raise ValueError(
            f"{what} is no polygon ({problem}). Three corners (x, y) or more are expected, in pixels."
        ) from problem
    if polygon.geom_type not in POLYGONS or polygon.is_empty:
        raise ValueError(f"{what} is an empty or a {polygon.geom_type}; a polygon is expected.")
    if not polygon.is_valid:
        raise ValueError(
            f"{what}: {shapely.is_valid_reason(polygon)}. A border must not cross itself."
        )
    return polygon
