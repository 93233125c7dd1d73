"""One file with the points of many images: CSV with an image column, JSON, COCO, Label Studio."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import unquote

import numpy as np

from ebclib.data.annotations import as_points, csv_rows, json_points, load_json

IMAGE_COLUMNS = ("image", "file", "filename", "file_name", "picture", "name")
"""What the column with the image's file may be called, in whatever case."""


class Listing(NamedTuple):
    """Points by the image's name as the file has it, each (N, 2), and remarks made on the way."""

    points: dict[str, np.ndarray]
    notes: list[str]


def read_listing(path: Path, category: str | None = None) -> Listing:
    """The points of every image that a CSV or JSON file lists.

    Parameters
    ----------
    path : CSV with the columns image, x, y (a row ``name,,`` lists an image of nobody); JSON
        ``{"name": [[x, y], …]}`` or ``[{"image": "name", "points": [[x, y], …]}]``; COCO; an
        export of Label Studio as JSON or JSON-MIN
    category : count this category's objects alone (COCO, Label Studio)

    Raises
    ------
    ValueError : what the file holds is none of these; file, line, column or item are named
    """
    if path.suffix.lower() == ".csv":
        return _from_csv(path)
    content = load_json(path)
    if isinstance(content, dict) and {"images", "annotations"} <= set(content):
        return _from_coco(content, path, category)
    if isinstance(content, list) and '"original_width"' in path.read_text(encoding="utf-8-sig"):
        content = _label_studio(content, path, category)
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


def _label_studio(tasks: list[Any], path: Path, category: str | None) -> list[dict[str, Any]]:
    """Tasks of Label Studio as ``{"image": name, "points": [...]}``; of several results the first."""
    listed, labels = [], set()
    try:
        for task in tasks:
            fields = task.get("data", task)
            image = next(
                value
                for key, value in fields.items()
                if key in ("image", "img") or _is_image(value)
            )
            if "annotations" in task:  # JSON
                done = [part["result"] for part in task["annotations"][:1]]
                items = [{**item, **item["value"]} for part in done for item in part]
            else:  # JSON-MIN: a list for each control, called as somebody called it
                lists = [value for value in task.values() if isinstance(value, list)]
                items = [item for part in lists for item in part if isinstance(item, dict)]
            items = [item for item in items if "x" in item and "original_width" in item]
            kinds = [_labels_of(item) for item in items]
            labels.update(*kinds)
            points = [
                item for item, kind in zip(items, kinds, strict=True) if category in (None, *kind)
            ]
            name = unquote(str(image)).split("?d=")[-1].rsplit("/", 1)[-1]
            listed.append({"image": re.sub("^[0-9a-f]{8}-", "", name), "points": points})
    except (KeyError, TypeError, AttributeError, StopIteration) as problem:
        raise ValueError(
            f"{path}: Label Studio's, but a task lacks {problem} or is of another kind."
        ) from problem
    _choose_category(sorted(labels), category, path)
    return listed


def _is_image(value: Any) -> bool:
    return isinstance(value, str) and bool(re.search(r"\.(jpe?g|png|tiff?|webp|bmp)$", value, re.I))


def _labels_of(item: Mapping[str, Any]) -> list[str]:
    return next((item[key] for key in ("keypointlabels", "rectanglelabels") if key in item), [])


def _choose_category(used: Sequence[str], category: str | None, path: Path) -> None:
    """ValueError where there are several categories and none is chosen, or another is."""
    if category is not None and category not in used:
        raise ValueError(f"{path}: no category {category!r}; it has {', '.join(map(repr, used))}.")
    if category is None and len(used) > 1:
        raise ValueError(
            f"{path}: objects of {len(used)} categories ({', '.join(used)}). Say which to count in "
            "`dataset.yaml`: `category: name`."
        )


def _from_coco(content: dict[str, Any], path: Path, category: str | None) -> Listing:
    """COCO: an annotation is one object; its point is a keypoint, or the middle of its box."""
    notes = []
    try:
        files = {image["id"]: image["file_name"] for image in content["images"]}
        names = {row["id"]: row["name"] for row in content.get("categories", [])}
        items = content["annotations"]
        if category is not None:
            _choose_category(list(names.values()), category, path)
            items = [item for item in items if names.get(item["category_id"]) == category]
        used = {item.get("category_id") for item in items}
        _choose_category(sorted(str(names.get(number, number)) for number in used), category, path)
        crowds = sum(bool(item.get("iscrowd")) for item in items)
        items = [item for item in items if not item.get("iscrowd")]
        if crowds:
            notes.append(f"{path.name}: {crowds} regions marked iscrowd are not counted")
        dots = _are_dots([_keypoints(item) for item in items], content.get("categories", []))
        points: dict[str, list[list[float]]] = {name: [] for name in files.values()}
        nowhere = []
        for number, item in enumerate(items, start=1):
            where = item.get("id", number)
            if item["image_id"] not in files:
                raise ValueError(
                    f"{path}, annotation {where}: no image has the id {item['image_id']!r}."
                )
            found = _coco_points(item, dots)
            points[files[item["image_id"]]] += found
            nowhere += [] if found else [where]
    except (KeyError, TypeError, AttributeError) as problem:
        raise ValueError(
            f"{path}: COCO, but an entry lacks {problem} or is of another kind."
        ) from problem
    if nowhere:
        raise ValueError(
            f"{path}, annotation {', '.join(map(str, nowhere[:2]))}: neither a labelled keypoint nor "
            f"a box [left, top, width, height] ({len(nowhere)} such annotations). An empty box at "
            "(0, 0) is no place: mark the object, or remove the annotation."
        )
    if dots:
        total = sum(map(len, points.values()))
        notes.append(
            f"{path.name}: its {len(items)} annotations hold several keypoints each that are no "
            f"skeleton (their number varies, or has no names): every one is counted, {total} in all"
        )
    return Listing({name: as_points(part, path) for name, part in points.items()}, notes)


def _keypoints(item: Mapping[str, Any]) -> np.ndarray:
    """Keypoints (K, 3) of an annotation: x, y and whether it is labelled (above 0)."""
    given = item.get("keypoints") or []
    return np.array(given[: len(given) // 3 * 3], dtype=np.float64).reshape(-1, 3)


def _are_dots(keypoints: Sequence[np.ndarray], categories: Sequence[Mapping[str, Any]]) -> bool:
    """Whether keypoints are objects each, and not the joints of one.

    A skeleton has one number of joints, most often with names, and some that are not seen.
    """
    numbers = {len(part) for part in keypoints if len(part)}
    if max(numbers, default=0) < 2:
        return False
    named = numbers <= {len(row.get("keypoints") or []) for row in categories}
    all_seen = all((part[:, 2] > 0).all() for part in keypoints)
    return len(numbers) > 1 or (not named and all_seen)


def _coco_points(item: Mapping[str, Any], dots: bool) -> list[list[float]]:
    """All labelled keypoints, or the first (of a person, the nose), else the middle of the box."""
    keypoints = _keypoints(item)
    seen = keypoints[keypoints[:, 2] > 0, :2].tolist()
    if seen:
        return seen if dots else seen[:1]
    box = [float(value) for value in item.get("bbox") or []]
    if len(box) != 4 or not any(box):
        return []
    return [[box[0] + box[2] / 2, box[1] + box[3] / 2]]
