"""The points of one image from one file: .mat, .csv, .json, .txt."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import scipy.io

MAT_KEYS = ("image_info", "annPoints", "points")
"""Variables that hold points in a .mat: ShanghaiTech's; UCF-QNRF's and NWPU's; anybody's own."""

_SIDES = (("width", "height"), ("w", "h"))
"""What the sides of a box may be called beside x and y."""


def read_mat(path: Path, keys: Sequence[str] = MAT_KEYS) -> np.ndarray:
    """Points (N, 2) of a MATLAB file: an N x 2 matrix under one of ``keys``.

    ShanghaiTech nests it, `image_info[0][0][0][0][0]` (a struct with the field `location`). Where
    ``keys`` are `MAT_KEYS`, a file's only N x 2 matrix is taken under any name.

    Raises
    ------
    ValueError : none of the keys, another shape, not finite, or no .mat that scipy reads
    """
    content = _mat(path, keys)
    key = _key_of(content, path, keys)
    if key is not None:
        return _finite(_matrix(content[key], path, key), path)
    raise ValueError(
        f"{path}: a .mat of another kind. It has {', '.join(map(repr, content)) or 'no variables'}; "
        f"expected is {_either(keys)}, an N x 2 matrix of x and y in pixels."
    )


def mat_key(path: Path) -> str | None:
    """The variable that `read_mat` takes the points from; None where it takes none, or cannot."""
    with contextlib.suppress(ValueError):
        return _key_of(_mat(path, MAT_KEYS), path, MAT_KEYS)
    return None


def _mat(path: Path, keys: Sequence[str]) -> dict[str, np.ndarray]:
    """The variables of a MATLAB file."""
    data = path.read_bytes()
    try:
        content = scipy.io.loadmat(io.BytesIO(data))
    except NotImplementedError as problem:
        raise ValueError(
            f"{path}: a MATLAB 7.3 (HDF5) file. Save it again in MATLAB with "
            "`save(name, 'points', '-v7')`."
        ) from problem
    except Exception as problem:  # scipy has many ways to trip over a file that is no .mat
        raise ValueError(
            f"{path}: not a .mat file, or a damaged one ({problem}). Expected is a MATLAB "
            f"file with the variable {_either(keys)}."
        ) from problem
    return {key: value for key, value in content.items() if not key.startswith("__")}


def _key_of(content: dict[str, np.ndarray], path: Path, keys: Sequence[str]) -> str | None:
    """The first of ``keys`` that is there; of our own `MAT_KEYS` else the only N x 2 matrix."""
    for key in keys:
        if key in content:
            return key
    if tuple(keys) != MAT_KEYS:
        return None
    sizes = {}
    for key, value in content.items():
        with contextlib.suppress(ValueError):
            sizes[key] = len(_matrix(value, path, key))
    alike = [key for key in sizes if sizes[key]] or list(sizes)
    return alike[0] if len(alike) == 1 else None


def _either(keys: Sequence[str]) -> str:
    return " or ".join(map(repr, keys))


def read_jhu(path: Path) -> np.ndarray:
    """Points (N, 2) of JHU-Crowd++: a head a line, ``x y w h o b`` (x and y its centre).

    Raises
    ------
    ValueError : a line that is not numbers, or too short; file and line are named
    """
    points = []
    for number, line in enumerate(_text(path).splitlines(), start=1):
        fields = line.split()
        if not fields:
            continue
        if len(fields) < 2:
            raise ValueError(f"{path}, line {number}: {line!r}; expected is `x y w h o b`.")
        pair = zip(("x", "y"), fields, strict=False)
        points.append(
            [_number(value, f"{path}, line {number}, column {name}") for name, value in pair]
        )
    return as_points(points, path)


def read_csv(path: Path) -> np.ndarray:
    """Points (N, 2) of a CSV file of one image, with the columns x and y (others are ignored).

    Raises
    ------
    ValueError : a column missing, text in a number, or boxes; file, line and column are named
    """
    return as_points([[x, y] for _, x, y in csv_rows(path, ()) if x is not None], path)


def read_json(path: Path, category: str | None = None) -> np.ndarray:
    """Points (N, 2) of a JSON file of one image: ``[[x, y], …]``, that under "points", or labelme's.

    For a point as an object see `json_points`. CCLabeler keeps those that were drawn as a box apart,
    under "boxes" as ``{"sx", "sy", "ex", "ey"}``; each counts by its middle, as a rectangle or a circle
    of labelme does. Boxes of another kind belong to points (NWPU-Crowd) and add nothing.

    Parameters
    ----------
    path : the file
    category : labelme: count the shapes of this label alone

    Raises
    ------
    ValueError : not JSON, or of another shape; the file is named
    """
    content = load_json(path)
    if isinstance(content, dict) and isinstance(content.get("shapes"), list):
        content = _labelme(content["shapes"], path, category)
    elif isinstance(content, dict) and "points" in content:
        boxes = content.get("boxes") or []
        content = content["points"]
        if isinstance(boxes, list) and isinstance(content, list):
            content = [*content, *(_middle(box) for box in boxes if _is_drawn(box))]
    return json_points(content, path)


def _labelme(shapes: list[Any], path: Path, category: str | None) -> list[Any]:
    """One point for each of labelme's shapes of a category."""
    try:
        labels = sorted({str(shape["label"]) for shape in shapes})
        if category is None and len(labels) > 1:
            raise ValueError(
                f"{path}: objects of {len(labels)} labels ({', '.join(labels)}). Say which to count "
                "in `dataset.yaml`: `category: name`."
            )
        points = []
        for number, shape in enumerate(shapes, start=1):
            kind, corners = shape["shape_type"], shape["points"]
            if category not in (None, shape["label"]):
                continue
            if kind not in ("point", "circle", "rectangle"):
                raise ValueError(
                    f"{path}, shape {number}: a {kind}; points, circles and rectangles are counted."
                )
            points.append(np.mean(corners, axis=0).tolist() if kind == "rectangle" else corners[0])
    except (KeyError, TypeError, IndexError) as problem:
        raise ValueError(
            f"{path}: labelme's, but a shape lacks {problem} or is of another kind."
        ) from problem
    return points


def _is_drawn(box: Any) -> bool:
    return isinstance(box, dict) and {"sx", "sy", "ex", "ey"} <= box.keys()


def _middle(box: dict[str, Any]) -> dict[str, Any]:
    """The middle of one of CCLabeler's boxes as a point; the box itself, to be named, if it has none."""
    if not all(type(box[key]) in (int, float) for key in ("sx", "sy", "ex", "ey")):
        return box
    return {"x": (box["sx"] + box["ex"]) / 2, "y": (box["sy"] + box["ey"]) / 2}


def csv_rows(path: Path, names: Sequence[str]) -> Iterator[tuple[str, float | None, float | None]]:
    """(image, x, y) of each row of a CSV file; x and y are None where a row leaves both empty.

    Parameters
    ----------
    path : UTF-8 text; commas, semicolons or tabs; the first line names the columns
    names : what the image's column may be called; empty: no such column is looked for

    Raises
    ------
    ValueError : a column missing, a row cut short, or text in a number
    """
    lines = _text(path).splitlines()
    header = next((line for line in lines if line.strip()), "")
    delimiter = next((mark for mark in ",;\t" if mark in header), ",")
    reader = csv.reader(lines, delimiter=delimiter)
    columns = [name.strip().lower() for name in next((row for row in reader if row), [])]
    places = [_column(path, columns, ("x",)), _column(path, columns, ("y",))]
    image_at = _column(path, columns, names) if names else None
    sides = next(
        ([columns.index(n) for n in pair] for pair in _SIDES if {*pair} <= {*columns}), None
    )
    boxes = []
    for row in reader:
        if not any(cell.strip() for cell in row):
            continue
        where = f"{path}, line {reader.line_num}"
        if len(row) <= max(*places, image_at or 0):
            raise ValueError(f"{where}: {len(row)} columns; expected are {', '.join(columns)}.")
        cells = [row[at].strip() for at in places]
        image = row[image_at].strip() if image_at is not None else ""
        if not any(cells):
            yield image, None, None
            continue
        x, y = (_number(cell, f"{where}, column {n}") for cell, n in zip(cells, "xy", strict=True))
        if sides and len(row) > max(sides) and all(row[at].strip() for at in sides):
            boxes.append((x, y, *(_number(row[at], f"{where}, {columns[at]}") for at in sides)))
        yield image, x, y
    _refuse_boxes(boxes, path)


def _refuse_boxes(boxes: Sequence[tuple[float, ...]], where: Path | str) -> None:
    """ValueError if (x, y, width, height) are boxes, and not points with the size of their image."""
    beyond = sum(x > width or y > height for x, y, width, height in boxes)
    if beyond > len(boxes) / 10:
        raise ValueError(
            f"{where}: x and y stand beside width and height, so they are corners of boxes, or their "
            "middles. If corners, write x + width / 2 and y + height / 2 for them; then, or if they "
            "are middles, leave width and height out."
        )


def load_json(path: Path) -> Any:
    """What a JSON file holds; ValueError with line and column where it is none."""
    try:
        return json.loads(_text(path))
    except json.JSONDecodeError as problem:
        raise ValueError(
            f"{path}, line {problem.lineno}, column {problem.colno}: not JSON ({problem.msg})."
        ) from problem


def json_points(items: Any, where: Path | str) -> np.ndarray:
    """Points (N, 2) of a parsed list of ``[x, y]`` or ``{"x": x, "y": y}``.

    Label Studio's have percents, and "original_width" and "original_height": they are converted, and a
    rectangle ("height" beside) counts by its middle.

    Raises
    ------
    ValueError : anything else, or boxes; ``where`` and the point's number are named
    """
    if not isinstance(items, list):
        raise ValueError(f"{where}: a list of points [[x, y], …] is expected, not {_kind(items)}.")
    points, boxes = [], []
    for number, item in enumerate(items, start=1):
        pair = [item.get("x"), item.get("y")] if isinstance(item, dict) else item
        numbers = isinstance(pair, list) and len(pair) == 2
        if not numbers or not all(type(value) in (int, float) for value in pair):
            raise ValueError(f"{where}, point {number}: {item!r}; expected is [x, y], two numbers.")
        if isinstance(item, dict) and "original_width" in item:
            pair = _label_studio_point(item, f"{where}, point {number}")
        elif isinstance(item, dict):
            sides = next((s for s in _SIDES if {*s} <= item.keys()), ())
            if sides and all(type(item[key]) in (int, float) for key in sides):
                boxes.append((*pair, *(item[key] for key in sides)))
        points.append(pair)
    _refuse_boxes(boxes, where)
    return as_points(points, where)


def _label_studio_point(item: dict[str, Any], where: str) -> list[float]:
    """x and y in pixels of one of Label Studio's points, or of the middle of a rectangle."""
    try:
        sides = [item["original_width"], item["original_height"]]
        half = [item["width"] / 2, item["height"] / 2] if "height" in item else [0, 0]
        start = [item["x"], item["y"]]
        return [(at + h) * side / 100 for at, h, side in zip(start, half, sides, strict=True)]
    except (KeyError, TypeError) as problem:
        raise ValueError(f"{where}: {item!r:.80} lacks {problem} of Label Studio.") from problem


def as_points(values: Any, where: Path | str) -> np.ndarray:
    """``values`` as float64 (N, 2); ValueError naming the first that is not finite."""
    points = np.asarray(values, dtype=np.float64)
    if points.size == 0:
        return np.empty((0, 2))
    return _finite(points, where)


def _finite(points: np.ndarray, where: Path | str) -> np.ndarray:
    good = np.isfinite(points).all(axis=1)
    if not good.all():
        first = int(np.argmin(good))
        x, y = points[first]
        raise ValueError(
            f"{where}: point {first + 1} of {len(points)} is ({x}, {y}); x and y must be finite "
            f"numbers ({int((~good).sum())} such points)."
        )
    return points


def _matrix(value: np.ndarray, path: Path, key: str) -> np.ndarray:
    """The numeric N x 2 matrix inside nested MATLAB cells and structs."""
    while value.dtype.names or value.dtype == object:
        if value.dtype.names:
            field = "location" if "location" in value.dtype.names else value.dtype.names[0]
            value = value[field]
        elif value.size == 1:
            value = np.asarray(value.item())
        else:
            break
    if value.size == 0 and value.dtype != object:
        return np.empty((0, 2))
    if value.ndim != 2 or value.shape[1] != 2 or not np.issubdtype(value.dtype, np.number):
        raise ValueError(
            f"{path}: {key!r} holds {value.dtype} of shape {value.shape}; expected is an N x 2 "
            "matrix of numbers, x and y in pixels."
        )
    return value.astype(np.float64)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as problem:
        raise ValueError(
            f"{path}: not UTF-8 text ({problem.reason}). Save it as UTF-8."
        ) from problem


def _column(path: Path, columns: Sequence[str], names: Sequence[str]) -> int:
    for name in names:
        if name in columns:
            return columns.index(name)
    raise ValueError(
        f"{path}: no column {' or '.join(map(repr, names))} in its first line, which has "
        f"{', '.join(map(repr, columns)) or 'nothing'}."
    )


def _number(text: str, where: str) -> float:
    try:
        value = float(text if "_" not in text else "")  # Python reads 1_0 as 10
    except ValueError:
        raise ValueError(f"{where}: {text!r} is not a number.") from None
    if not math.isfinite(value):
        raise ValueError(f"{where}: {text!r} is not a finite number.")
    return value


def _kind(value: Any) -> str:
    if isinstance(value, dict):
        return f"an object with the keys {', '.join(map(repr, list(value)[:6])) or '(none)'}"
    return f"{type(value).__name__} {value!r:.60}"
