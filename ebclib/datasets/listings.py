"""One file with the points of many pictures: CSV with an image column, JSON, COCO."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ebclib.datasets.annotations import as_points, csv_rows, json_points, load_json

IMAGE_COLUMNS = ("image", "file", "filename", "file_name", "picture", "name")
"""What the column with the picture's file may be called, in whatever case."""


class Listing(NamedTuple):
    """Points by the picture's name as the file has it, each (N, 2), and remarks made on the way."""

    points: dict[str, np.ndarray]
    notes: list[str]


def read_listing(path: Path, category: str | None = None) -> Listing:
    """The points of every picture that a CSV or JSON file lists.

    Parameters
    ----------
    path : CSV with the columns image, x, y (a row ``name,,`` lists a picture of nobody); JSON
        ``{"name": [[x, y], …]}`` or ``[{"image": "name", "points": [[x, y], …]}]``; COCO
    category : COCO only: count this category's objects

    Raises
    ------
    ValueError : what the file holds is none of these; file, line, column or item are named
    """
    if path.suffix.lower() == ".csv":
        return _from_csv(path)
    content = load_json(path)
    if isinstance(content, dict) and {"images", "annotations"} <= set(content):
        return _from_coco(content, path, category)
    return Listing(_from_json(content, path), [])


def _from_csv(path: Path) -> Listing:
    rows: dict[str, list[list[float]]] = {}
    for number, (image, x, y) in enumerate(csv_rows(path, IMAGE_COLUMNS), start=1):
        if not image:
            raise ValueError(f"{path}, row {number}: the image's name is empty.")
        points = rows.setdefault(image, [])
        if x is not None:
            points.append([x, y])
    return Listing({image: as_points(points, path) for image, points in rows.items()}, [])


def _from_json(content: Any, path: Path) -> dict[str, np.ndarray]:
    if isinstance(content, list):
        listed = {}
        for number, item in enumerate(content, start=1):
            image = item.get("image") if isinstance(item, dict) else None
            if not isinstance(image, str) or "points" not in item:
                raise ValueError(
                    f"{path}, item {number}: {item!r:.80}; expected is "
                    '{"image": "name.jpg", "points": [[x, y], …]}.'
                )
            if image in listed:
                raise ValueError(f"{path}, item {number}: {image!r} is listed twice.")
            listed[image] = item["points"]
        content = listed
    if not isinstance(content, dict):
        raise ValueError(f'{path}: expected is {{"name.jpg": [[x, y], …], …}}, or COCO.')
    return {image: json_points(points, f"{path}, {image!r}") for image, points in content.items()}


def _from_coco(content: dict[str, Any], path: Path, category: str | None) -> Listing:
    """COCO: an annotation is one object; its point is a keypoint, or the middle of its box."""
    try:
        files = {image["id"]: image["file_name"] for image in content["images"]}
        wanted = _coco_category(content, path, category)
        points: dict[str, list[list[float]]] = {name: [] for name in files.values()}
        crowds = 0
        for number, item in enumerate(content["annotations"], start=1):
            if wanted is not None and item["category_id"] != wanted:
                continue
            if item.get("iscrowd"):
                crowds += 1
                continue
            where = f"{path}, annotation {item.get('id', number)}"
            if item["image_id"] not in files:
                raise ValueError(f"{where}: no image has the id {item['image_id']!r}.")
            points[files[item["image_id"]]].append(_coco_point(item, where))
    except (KeyError, TypeError, AttributeError) as problem:
        raise ValueError(
            f"{path}: COCO, but an entry lacks {problem} or is of another kind."
        ) from problem
    notes = [f"{path.name}: {crowds} regions marked iscrowd are not counted"] if crowds else []
    return Listing({name: as_points(part, path) for name, part in points.items()}, notes)


def _coco_point(item: dict[str, Any], where: str) -> list[float]:
    """The first labelled keypoint (of a person, the nose), else the middle of the box."""
    keypoints = item.get("keypoints") or []
    for x, y, visible in zip(keypoints[0::3], keypoints[1::3], keypoints[2::3], strict=False):
        if visible:
            return [float(x), float(y)]
    if len(item.get("bbox") or []) == 4:
        left, top, width, height = map(float, item["bbox"])
        return [left + width / 2, top + height / 2]
    raise ValueError(f"{where}: neither a labelled keypoint nor a box [left, top, width, height].")


def _coco_category(content: dict[str, Any], path: Path, category: str | None) -> Any:
    """The id of the category to count; None to count every annotation."""
    names = {row["name"]: row["id"] for row in content.get("categories", [])}
    if category is not None:
        if category not in names:
            raise ValueError(
                f"{path}: no category {category!r}; it has {', '.join(map(repr, names))}."
            )
        return names[category]
    used = {item.get("category_id") for item in content["annotations"]}
    if len(used) > 1:
        shown = ", ".join(name for name, number in names.items() if number in used)
        raise ValueError(
            f"{path}: objects of {len(used)} categories ({shown}). Say which to count in "
            "`dataset.yaml`: `category: name`."
        )
    return None
