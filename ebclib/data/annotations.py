"""Points from files: of one image (.mat, .csv, .json, .txt), or a listing of many (CSV, JSON, COCO).

What cannot be points is a ValueError that names the file, and in it the line, item or point.
"""

from __future__ import annotations

import csv
import io
import json
import math
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np
import scipy.io

MAT_KEYS = ("image_info", "annPoints", "points")
"""Variables that hold points in a .mat: ShanghaiTech's; UCF-QNRF's and NWPU's; anybody's own."""

IMAGE_COLUMNS = ("image", "file", "filename", "file_name", "picture", "name")
"""What a listing's column with the image's file may be called, in whatever case."""

_SIDES = (("width", "height"), ("w", "h"))  # of a box, beside x and y


def read_mat(path: Path) -> np.ndarray:
    """Points (N, 2) of a MATLAB file; see `mat_variable`."""
    return mat_variable(path)[1]


def mat_variable(path: Path) -> tuple[str, np.ndarray]:
    """The variable of a MATLAB file that holds points, and these (N, 2).

    It is one of `MAT_KEYS`, or else the file's only N x 2 matrix. ShanghaiTech nests it,
    `image_info[0][0][0][0][0]` (a struct with the field `location`).
    """
    data = path.read_bytes()
    try:
        content = scipy.io.loadmat(io.BytesIO(data))
    except NotImplementedError as problem:
        raise ValueError(f"{path}: a MATLAB 7.3 file. Save it with MATLAB's -v7.") from problem
    except Exception as problem:  # scipy has many ways to trip over a file that is no .mat
        raise ValueError(f"{path}: not a .mat file, or a damaged one ({problem}).") from problem
    content = {name: value for name, value in content.items() if not name.startswith("__")}
    matrices = {name: matrix for name in content if (matrix := _matrix(content[name])) is not None}
    known = [name for name in MAT_KEYS if name in content]
    found = known[:1] or [name for name in matrices if len(matrices[name])] or list(matrices)
    if len(found) != 1 or found[0] not in matrices:
        has = ", ".join(f"{name!r} {value.shape}" for name, value in content.items())
        raise ValueError(
            f"{path}: a .mat of another kind. It has {has or 'no variables'}; "
            f"expected is {_quoted(MAT_KEYS, ' or ')}, an N x 2 matrix of x and y in pixels."
        )
    return found[0], _as_points(matrices[found[0]], path)


def _matrix(value: np.ndarray) -> np.ndarray | None:
    """The N x 2 matrix of numbers inside nested MATLAB cells and structs, if there is one."""
    while value.dtype.names or (value.dtype == object and value.size == 1):
        names = value.dtype.names
        field = names and ("location" if "location" in names else names[0])
        value = value[field] if names else np.asarray(value.item())
    if value.size == 0 and value.dtype != object:
        return np.empty((0, 2))
    is_good = value.ndim == 2 and value.shape[1] == 2 and np.issubdtype(value.dtype, np.number)
    return value if is_good else None


def read_jhu(path: Path) -> np.ndarray:
    """Points (N, 2) of JHU-Crowd++: a head a line, ``x y w h o b`` (x and y its centre)."""
    points = []
    for number, line in enumerate(_text(path).splitlines(), start=1):
        if line.strip():
            pair = [*line.split(), ""][:2]
            points.append([_number(text, f"{path}, line {number}") for text in pair])
    return _as_points(points, path)


def read_csv(path: Path) -> np.ndarray:
    """Points (N, 2) of a CSV file of one image, with the columns x and y (others are ignored)."""
    return _as_points([point for _, points in _csv_rows(path) for point in points], path)


def read_json(path: Path, category: str | None = None) -> np.ndarray:
    """Points (N, 2) of a JSON file of one image: ``[[x, y], …]``, that under "points", or labelme's.

    CCLabeler's "boxes", ``{"sx", "sy", "ex", "ey"}``, count by their middles; boxes of another kind
    belong to points (NWPU-Crowd). ``category`` is the label of labelme's shapes to count.
    """
    content = load_json(path)
    if not isinstance(content, dict):
        return _json_points(content, path)
    with _entries_of(path):
        if isinstance(content.get("shapes"), list):
            return _json_points(_labelme(content["shapes"], path, category), path)
        boxes = [b for b in content.get("boxes") or [] if isinstance(b, dict) and "sx" in b]
        middles = [[(b["sx"] + b["ex"]) / 2, (b["sy"] + b["ey"]) / 2] for b in boxes]
        return _json_points(content["points"] + middles, path)


def read_listing(
    path: Path, category: str | None = None
) -> tuple[dict[str, np.ndarray], list[str]]:
    """The points (N, 2) of every image that a CSV or JSON file lists, by name, and remarks.

    CSV has the columns image, x, y (a row ``name,,`` lists an image of nobody); JSON is
    ``{"name": [[x, y], …]}``, ``[{"image": "name", "points": [[x, y], …]}]``, COCO, or an export of
    Label Studio. Of the last two ``category``'s objects alone are counted.
    """
    if path.suffix.lower() == ".csv":
        rows: dict[str, list[list[float]]] = {}
        for image, points in _csv_rows(path, IMAGE_COLUMNS):
            rows.setdefault(image, []).extend(points)
        return {image: _as_points(points, path) for image, points in rows.items()}, []
    content = load_json(path)
    with _entries_of(path):
        if isinstance(content, dict) and {"images", "annotations"} <= set(content):
            return _coco(content, path, category)
        if isinstance(content, list):
            if '"original_width"' in _text(path):
                content = _label_studio(content, path, category)
            names = [item["image"] for item in content]
            if len({*names}) < len(names):
                twice = next(name for name in names if names.count(name) > 1)
                raise ValueError(f"{path}: {twice!r} is listed twice.")
            content = {item["image"]: item["points"] for item in content}
        return {n: _json_points(part, f"{path}, {n!r}") for n, part in content.items()}, []


def load_json(path: Path) -> Any:
    """What a JSON file holds; ValueError with line and column where it is none."""
    try:
        return json.loads(_text(path))
    except json.JSONDecodeError as problem:
        raise ValueError(f"{path}: not JSON ({problem}).") from problem


def _json_points(items: Any, where: Path | str) -> np.ndarray:
    """Points (N, 2) of a parsed list of ``[x, y]`` or ``{"x": x, "y": y}``."""
    if not isinstance(items, list):
        raise ValueError(f"{where}: a list of points [[x, y], …] is expected, not {items!r:.60}.")
    points, boxes = [], []
    for number, item in enumerate(items, start=1):
        pair = [item.get("x"), item.get("y")] if isinstance(item, dict) else item
        if not isinstance(pair, list) or len(pair) != 2 or not _are_numbers(pair):
            raise ValueError(f"{where}, point {number}: {item!r}; expected is [x, y], two numbers.")
        points.append(pair)
        sides = [[item.get(key) for key in keys] for keys in _SIDES if isinstance(item, dict)]
        boxes += [[*pair, *two] for two in sides if _are_numbers(two)]
    _refuse_boxes(boxes, where)
    return _as_points(points, where)


def _csv_rows(path: Path, names: Sequence[str] = ()) -> Iterator[tuple[str, list[list[float]]]]:
    """The image of each row of a CSV file and its point, ``[[x, y]]``; ``[]`` where a row has none.

    ``names`` is what the image's column may be called; empty: no such column is looked for.
    """
    lines = _text(path).splitlines()
    mark = next((mark for mark in ",;\t" if lines and mark in lines[0]), ",")
    reader = csv.DictReader(lines, delimiter=mark, restval="")
    columns = reader.fieldnames = [name.strip().lower() for name in reader.fieldnames or []]
    for choice in (["x"], ["y"], names):
        if choice and not {*choice} & {*columns}:
            raise ValueError(
                f"{path}: no column {_quoted(choice, ' or ')} in its first line, which has "
                f"{_quoted(columns) or 'nothing'}."
            )
    at_image = next((name for name in names if name in columns), None)
    boxes = []
    for cells in reader:
        row = {name: cells[name].strip() for name in columns}
        if not any(row.values()):
            continue
        where = f"{path}, line {reader.line_num}"
        image = row[at_image] if at_image else ""
        if at_image and not image:
            raise ValueError(f"{where}: the image's name is empty.")
        if not row["x"] and not row["y"]:
            yield image, []
            continue
        sides = next((s for s in _SIDES if all(row.get(name) for name in s)), ())
        point = [_number(row[name], f"{where}, column {name}") for name in ("x", "y", *sides)]
        boxes += [point] if sides else []
        yield image, [point[:2]]
    _refuse_boxes(boxes, path)


def _refuse_boxes(boxes: Sequence[Sequence[float]], where: Path | str) -> None:
    """ValueError if (x, y, width, height) are boxes, and not points with the size of their image."""
    beyond = sum(x > width or y > height for x, y, width, height in boxes)
    if beyond > len(boxes) / 10:
        raise ValueError(
            f"{where}: x and y stand beside width and height, so they are corners of boxes or their "
            "middles. Write middles, x + width / 2 and y + height / 2, and leave the sides out."
        )


def _labelme(shapes: list[Any], path: Path, category: str | None) -> list[Any]:
    """One point for each of labelme's shapes of a category."""
    if category is None:
        _check_category({shape["label"] for shape in shapes}, None, path)
    points = []
    for shape in shapes:
        kind, corners = shape["shape_type"], shape["points"]
        if category not in (None, shape["label"]):
            continue
        if kind not in ("point", "circle", "rectangle"):
            raise ValueError(f"{path}: a {kind}; points, circles and rectangles are counted.")
        points.append(np.mean(corners, axis=0).tolist() if kind == "rectangle" else corners[0])
    return points


def _label_studio(tasks: list[Any], path: Path, category: str | None) -> list[dict[str, Any]]:
    """Tasks of Label Studio as ``{"image": name, "points": [...]}``; of several results the first.

    Percents become pixels; a rectangle counts by its middle. A task that was skipped, or has no result
    yet, is not an image of nobody: it is not listed.
    """
    listed, labels = [], set()
    is_image = re.compile(r"\.(jpe?g|png|tiff?|webp|bmp)$", re.I).search
    for task in tasks:
        fields = task.get("data", task)
        image = next(v for k, v in fields.items() if k in ("image", "img") or is_image(str(v)))
        if "annotations" in task:  # JSON
            done = [each for each in task["annotations"] if not each.get("was_cancelled")]
            if not done:
                continue
            items = [{**item, **item["value"]} for item in done[0]["result"]]
        else:  # JSON-MIN: a list for each control, called as somebody called it
            lists = [value for value in task.values() if isinstance(value, list)]
            items = [item for part in lists for item in part if isinstance(item, dict)]
        points = []
        for item in items:
            if "x" not in item or "original_width" not in item:
                continue
            own = item.get("keypointlabels", item.get("rectanglelabels", []))
            labels.update(own)
            wide, high = (item["width"], item["height"]) if "height" in item else (0, 0)
            x = (item["x"] + wide / 2) * item["original_width"] / 100
            y = (item["y"] + high / 2) * item["original_height"] / 100
            points += [[x, y]] if category in (None, *own) else []
        name = unquote(str(image)).split("?d=")[-1].rsplit("/", 1)[-1]
        listed.append({"image": re.sub("^[0-9a-f]{8}-", "", name), "points": points})
    _check_category(labels, category, path)
    return listed


def _coco(
    content: dict[str, Any], path: Path, category: str | None
) -> tuple[dict[str, np.ndarray], list[str]]:
    """COCO: an annotation is one object; its point is a keypoint, or the middle of its box."""
    notes, categories = [], content.get("categories", [])
    files = {image["id"]: image["file_name"] for image in content["images"]}
    names = {row["id"]: row["name"] for row in categories}
    items = content["annotations"]
    labels = [names.get(item.get("category_id"), item.get("category_id")) for item in items]
    _check_category(names.values() if category else {*labels}, category, path)
    items = [item for item, label in zip(items, labels, strict=True) if category in (None, label)]
    crowds = sum(bool(item.get("iscrowd")) for item in items)
    if crowds:
        items = [item for item in items if not item.get("iscrowd")]
        notes.append(f"{path.name}: {crowds} regions marked iscrowd are not counted")
    keypoints = [_keypoints(item, path) for item in items]
    dots = _are_dots(keypoints, categories)
    points: dict[str, list[list[float]]] = {name: [] for name in files.values()}
    for item, joints in zip(items, keypoints, strict=True):
        found = joints[joints[:, 2] > 0, :2].tolist()
        box = item.get("bbox") or []
        if not found and len(box) == 4 and any(box):
            found = [[box[0] + box[2] / 2, box[1] + box[3] / 2]]
        if not found:
            raise ValueError(
                f"{path}, annotation {item.get('id')}: neither a labelled keypoint nor a box "
                "[left, top, width, height] that is not empty."
            )
        points[files[item["image_id"]]] += found if dots else found[:1]  # of a person, the nose
    if dots:
        notes.append(
            f"{path.name}: its {len(items)} annotations hold keypoints that are no skeleton (their "
            f"number varies, or has no names): each is counted, {sum(map(len, points.values()))} in all"
        )
    return {name: _as_points(part, path) for name, part in points.items()}, notes


def _keypoints(item: Mapping[str, Any], path: Path) -> np.ndarray:
    """Keypoints (K, 3) of an annotation: x, y and whether it is labelled (above 0)."""
    given = item.get("keypoints") or []
    if len(given) % 3:
        raise ValueError(
            f"{path}, annotation {item.get('id')}: {len(given)} numbers of keypoints; expected are "
            "x, y and visibility of each."
        )
    return np.array(given, dtype=np.float64).reshape(-1, 3)


def _are_dots(keypoints: Sequence[np.ndarray], categories: Sequence[Mapping[str, Any]]) -> bool:
    """Whether keypoints are objects each, and not a skeleton of named joints, some of them unseen."""
    numbers = {len(part) for part in keypoints if len(part)}
    named = numbers <= {len(row.get("keypoints") or []) for row in categories}
    all_seen = all((part[:, 2] > 0).all() for part in keypoints)
    return max(numbers, default=0) > 1 and (len(numbers) > 1 or (not named and all_seen))


def _check_category(known: Collection[Any], category: str | None, path: Path) -> None:
    """ValueError where there are several categories and none is chosen, or another is."""
    if category is not None and category not in known:
        raise ValueError(f"{path}: no category {category!r}; it has {_quoted(sorted(known))}.")
    if category is None and len(known) > 1:
        raise ValueError(
            f"{path}: objects of {len(known)} categories ({', '.join(sorted(map(str, known)))}). Say "
            "which to count in `dataset.yaml`: `category: name`."
        )


@contextmanager
def _entries_of(path: Path) -> Iterator[None]:
    """What a look-up in a file's content fails on, as a ValueError that names the file."""
    try:
        yield
    except (KeyError, TypeError, IndexError, AttributeError, StopIteration) as problem:
        raise ValueError(
            f"{path}: an entry lacks {problem}, or is of another kind. `data/README.md` has the formats."
        ) from problem


def _as_points(values: Any, where: Path | str) -> np.ndarray:
    """``values`` as float64 (N, 2); ValueError naming the first that is not finite."""
    points = np.asarray(values, dtype=np.float64).reshape(-1, 2)
    good = np.isfinite(points).all(axis=1)
    if not good.all():
        first, (x, y) = np.argmin(good) + 1, points[np.argmin(good)]
        raise ValueError(f"{where}: point {first} of {len(points)} is ({x}, {y}), not finite.")
    return points


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as problem:
        raise ValueError(f"{path}: not UTF-8 text. Save it as UTF-8.") from problem


def _number(text: str, where: str) -> float:
    with suppress(ValueError):
        if "_" not in text and math.isfinite(value := float(text)):  # Python reads 1_0 as 10
            return value
    raise ValueError(f"{where}: {text!r} is not a finite number.")


def _are_numbers(values: Iterable[Any]) -> bool:
    return all(type(value) in (int, float) for value in values)


def _quoted(names: Iterable[str], joint: str = ", ") -> str:
    return joint.join(map(repr, names))
