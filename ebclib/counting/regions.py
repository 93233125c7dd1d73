"""People inside polygons: the exact share of every block that a border crosses.

A block of which a polygon covers the share a (of what lies inside the image) gives it a times its
people, as if they stood evenly in it. Blocks inside are exact sums; a border can be wrong by no more
than the people in the blocks it crosses, which is told beside the count.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import shapely
import shapely.geometry
from shapely.errors import ShapelyError
from shapely.geometry.base import BaseGeometry

from ebclib.counting.result import Count

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
