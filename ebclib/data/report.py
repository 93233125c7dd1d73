"""What `prepare` found, as a dict and as a text."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ebclib.data.catalogue import Dataset
from ebclib.data.duplicates import near_pairs

Index = tuple[dict[str, Any], np.ndarray, np.ndarray, np.ndarray]
"""What `prepared_split.load_index` gives."""


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
            for meta, *_ in indices.values()
            for note in meta["notes"] + meta.get("remarks", [])
        ],
    }


def format_report(report: Mapping[str, Any]) -> str:
    """The report as a small table, a column for each split; below it what wants a look."""
    splits = report["splits"]
    rows = [[f"{report['title']} ({report['name']})", *splits]]
    for label, key in (
        ("images", "images"),
        (report["noun"][1], "points"),
        ("  least in an image", "least"),
        ("  mean", "mean"),
        ("  most", "most"),
        ("outside, dropped", "outside"),
        ("empty images", "empty"),
        ("greyscale", "greyscale"),
        ("turned by EXIF", "exif_turned"),
        ("  points turned along", "points_turned"),
        ("resized", "resized"),
        ("unreadable, left out", "unreadable"),
        ("megabytes", "bytes"),
    ):
        rows.append([label, *(_cell(split, key) for split in splits.values())])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "  ".join(
            [
                row[0].ljust(widths[0]),
                *(c.rjust(w) for c, w in zip(row[1:], widths[1:], strict=True)),
            ]
        )
        for row in rows
    ]
    lines.insert(1, "-" * len(lines[0]))
    return "\n".join(line.rstrip() for line in [*lines, *_remarks(report)])


def _split_report(index: Index, published: int | None) -> dict[str, Any]:
    meta, _, starts, sizes = index
    records, counts = meta["records"], np.diff(starts)
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
        "bytes": int((sizes.prod(axis=1) * 3).sum()),
        "unreadable": [{"name": bad["name"], "problem": bad["problem"]} for bad in meta["bad"]],
        "digest": meta["digest"],
    }


def _duplicates(indices: Mapping[str, Index]) -> list[dict[str, Any]]:
    images = [
        ({"split": split, "name": record["name"], "points": int(count)}, record)
        for split, (meta, _, starts, _) in indices.items()
        for record, count in zip(meta["records"], np.diff(starts), strict=True)
    ]
    return [
        {
            "first": images[pair.first][0],
            "second": images[pair.second][0],
            "bits": pair.bits,
            "identical": images[pair.first][1]["sha256"] == images[pair.second][1]["sha256"],
        }
        for pair in near_pairs([record["hash"] for _, record in images])
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
    pairs = report["near_duplicates"]
    across = [pair for pair in pairs if pair["first"]["split"] != pair["second"]["split"]]
    within = [pair for pair in pairs if pair["first"]["split"] == pair["second"]["split"]]
    lines = []
    for title, group in (("across splits", across), ("within a split", within)):
        lines.append(f"near-duplicates {title}: {len(group) or 'none'}")
        lines += [f"  {_pair(pair)}" for pair in group[:most]]
        if len(group) > most:
            lines.append(f"  … and {len(group) - most} more, in report.json")
    for split, part in report["splits"].items():
        lines += [f"left out of {split}: {bad['problem']}" for bad in part["unreadable"]]
    return lines + [f"note: {note}" for note in report["notes"]]


def _pair(pair: Mapping[str, Any]) -> str:
    first, second = (
        f"{side['split']} {side['name']} ({side['points']})"
        for side in (pair["first"], pair["second"])
    )
    how = "the same file" if pair["identical"] else f"{pair['bits']} of 256 bits differ"
    return f"{first} ~ {second}: {how}"
