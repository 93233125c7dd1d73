"""What `prepare` found, near-duplicates among it, as a dict and as a text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from ebclib.data.catalogue import Dataset
from ebclib.data.prepared_split import Index, PreparedSplit

HASH_SIDE = 16
"""A hash has HASH_SIDE² = 256 bits: which low frequencies of an image are above their median."""

NEAR_BITS = 32
"""Images whose hashes differ in so many bits at most are reported.

On ShanghaiTech A the known pairs differ in 0 to 14 bits and all others in at least 94; the nearest
pair of ShanghaiTech B differs in 64 (one street, another moment).
"""

ROWS = {
    "images": "images",
    "points": "",  # what is counted
    "least": "  least in an image",
    "mean": "  mean",
    "most": "  most",
    "outside": "outside, dropped",
    "empty": "empty images",
    "greyscale": "greyscale",
    "exif_turned": "turned by EXIF",
    "points_turned": "  points turned along",
    "resized": "resized",
    "unreadable": "unreadable, left out",
    "bytes": "megabytes",
}
"""What the text shows of each split, and how it is called."""


def build_report(dataset: Dataset, indices: Mapping[str, Index], folder: Path) -> dict[str, Any]:
    """The report of a data set from the indices of its prepared splits.

    Returns
    -------
    name, title, noun, folder;
    splits : for each, images, published, labelled, points, least, mean, most (points of a
        image), empty, outside (points dropped), outside_images (name: points), greyscale,
        exif_turned, points_turned (of those, with points that had to be turned along), resized,
        bytes, unreadable (name, problem), digest;
    near_duplicates : first and second (split, name, points), bits, identical;
    notes : remarks made while reading
    """
    return {
        "name": dataset.name,
        "title": dataset.title,
        "noun": list(dataset.noun),
        "folder": str(folder),
        "splits": {
            split: _split_report(index, dataset.splits.get(split))
            for split, index in indices.items()
        },
        "near_duplicates": _duplicates(indices),
        "notes": [
            note
            for index in indices.values()
            for note in index.meta["notes"] + index.meta.get("remarks", [])
        ],
    }


def format_report(report: Mapping[str, Any]) -> str:
    """The report as a small table, a column for each split; below it what wants a look."""
    splits = report["splits"]
    cells = {split: [_cell(part, key) for key in ROWS] for split, part in splits.items()}
    import pandas as pd  # a missing data set is told before it loads

    table = pd.DataFrame(cells, index=[label or report["noun"][1] for label in ROWS.values()])
    table.columns.name = f"{report['title']} ({report['name']})"
    lines = table.to_string().splitlines()
    lines.insert(1, "-" * len(lines[0]))
    return "\n".join([*lines, *_remarks(report)])


class Pair(NamedTuple):
    """Two images, by their places in the list that was searched, and the bits they differ in."""

    first: int
    second: int
    bits: int


def image_hash(image: np.ndarray) -> str:
    """The perceptual hash (pHash) of an image (H, W, 3), 64 hex digits."""
    import imagehash  # with SciPy's and PyWavelets' transforms: for preparing alone

    return str(imagehash.phash(Image.fromarray(image), hash_size=HASH_SIDE))


def near_pairs(hashes: Sequence[str], most_bits: int = NEAR_BITS) -> list[Pair]:
    """All pairs of ``hashes`` that differ in at most ``most_bits`` bits, nearest first."""
    codes = np.array([bytearray.fromhex(text) for text in hashes], dtype=np.uint8)
    pairs = []
    for first in range(len(codes)):
        bits = np.bitwise_count(codes[first] ^ codes[first + 1 :]).sum(axis=-1)
        for beyond in np.flatnonzero(bits <= most_bits):
            pairs.append(Pair(first, int(first + 1 + beyond), int(bits[beyond])))
    return sorted(pairs, key=lambda pair: (pair.bits, pair.first, pair.second))


def shared_images(split: PreparedSplit, other: PreparedSplit) -> dict[str, str]:
    """Images of ``split`` that ``other`` has, too, or nearly (`NEAR_BITS`): name → the nearest's name."""
    own = len(split.hashes)
    found: dict[str, str] = {}
    for first, second, _ in near_pairs([*split.hashes, *other.hashes]):  # nearest first
        if first < own <= second:
            found.setdefault(split.names[first], other.names[second - own])
    return found


def _split_report(index: Index, published: int | None) -> dict[str, Any]:
    meta, records, counts = index.meta, index.meta["records"], np.diff(index.starts)
    some = len(counts) > 0 and meta["is_labelled"]
    return {
        "images": len(records),
        "published": published,
        "labelled": meta["is_labelled"],
        "points": int(counts.sum()),
        "least": int(counts.min()) if some else None,
        "mean": float(counts.mean()) if some else None,
        "most": int(counts.max()) if some else None,
        "empty": int((counts == 0).sum()) if some else None,
        "outside": sum(record["outside"] for record in records),
        "outside_images": {r["name"]: r["outside"] for r in records if r["outside"]},
        "greyscale": sum(record["grey"] for record in records),
        "exif_turned": sum(record["orientation"] != 1 for record in records),
        "points_turned": sum(record["points_turned"] for record in records),
        "resized": sum(record["size"] != record["source_size"] for record in records),
        "bytes": int((index.sizes.prod(axis=1) * 3).sum()),
        "unreadable": [{"name": bad["name"], "problem": bad["problem"]} for bad in meta["bad"]],
        "digest": meta["digest"],
    }


def _duplicates(indices: Mapping[str, Index]) -> list[dict[str, Any]]:
    images = [
        ({"split": split, "name": record["name"], "points": int(count)}, record)
        for split, index in indices.items()
        for record, count in zip(index.meta["records"], np.diff(index.starts), strict=True)
    ]
    return [
        {
            "first": images[first][0],
            "second": images[second][0],
            "bits": bits,
            "identical": images[first][1]["sha256"] == images[second][1]["sha256"],
        }
        for first, second, bits in near_pairs([record["hash"] for _, record in images])
    ]


def _cell(split: Mapping[str, Any], key: str) -> str:
    value = split[key]
    if value is None or (key == "points" and not split["labelled"]):
        return "-"
    if key == "unreadable":
        return str(len(value))
    if key == "bytes":
        return f"{value / 1e6:,.0f}"
    return f"{value:,.1f}" if isinstance(value, float) else f"{value:,}"


def _remarks(report: Mapping[str, Any], most: int = 20) -> list[str]:
    groups: dict[str, list[str]] = {"across splits": [], "within a split": []}
    for pair in report["near_duplicates"]:
        sides = pair["first"], pair["second"]
        first, second = (f"{side['split']} {side['name']} ({side['points']})" for side in sides)
        how = "the same file" if pair["identical"] else f"{pair['bits']} of 256 bits differ"
        is_across = sides[0]["split"] != sides[1]["split"]
        group = groups["across splits" if is_across else "within a split"]
        group.append(f"  {first} ~ {second}: {how}")
    lines = []
    for title, group in groups.items():
        lines += [f"near-duplicates {title}: {len(group) or 'none'}", *group[:most]]
        if len(group) > most:
            lines.append(f"  … and {len(group) - most} more, in report.json")
    for split, part in report["splits"].items():
        lines += [f"left out of {split}: {bad['problem']}" for bad in part["unreadable"]]
    return lines + [f"note: {note}" for note in report["notes"]]
