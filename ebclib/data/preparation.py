"""From published files to what training reads: checked, resized, raw; resumable. And what was found."""

from __future__ import annotations

import hashlib
import math
import os
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from filelock import FileLock, Timeout
from PIL import Image
from tqdm.auto import tqdm

from ebclib.config import MOST_LISTED, prepared_root
from ebclib.data.catalogue import describe, read, resolved
from ebclib.data.images import fit, prepared_size, scale_points, upright_points
from ebclib.data.splits import (
    INDEX,
    Dataset,
    Entry,
    PreparedSplit,
    image_path,
    natural,
    save_index,
    write_array,
)
from ebclib.runs import write_json

ORDINARY_OUTSIDE, MOST_OUTSIDE = 0.01, 0.1
"""Shares of points outside their image: up to the first is ordinary, above the second an error."""

SAVE_EVERY = 100
"""Images that a killed preparation loses at most."""

NEAR_BITS = 32
"""Images whose 256-bit hashes differ in so many bits at most are reported."""


def prepare(
    name: str,
    root: str | Path | None = None,
    out: str | Path | None = None,
    skip_bad: bool = False,
    progress: bool = True,
) -> dict[str, Any]:
    """Check a data set and write what training reads; only what is new or changed is done.

    Parameters
    ----------
    name, root : as `read`
    out : where to write `<name>/<split>/` and the report; None: `ebclib.config.prepared_root`
    skip_bad : leave out images that cannot be read, and name them in the report
    progress : show a progress bar, and the disk space needed, on stderr

    Raises
    ------
    FileNotFoundError : the data set is not there
    ValueError : unreadable files (all of them named) unless ``skip_bad``; unknown names
    OSError : not enough space on the disk
    """
    dataset, base = describe(name, root), resolved(out, prepared_root) / name
    for job in [_Preparation(dataset, split, root, base) for split in dataset.splits]:
        job.update(skip_bad, progress)
    with _lock(base, progress):
        report = _report(dataset, [PreparedSplit(base / split) for split in dataset.splits], base)
        write_json(base / "report.json", report)
    return report


def prepared(
    name: str,
    split: str,
    root: str | Path | None = None,
    out: str | Path | None = None,
    progress: bool = True,
    multiples_px: tuple[int, ...] = (),
) -> PreparedSplit:
    """Open a prepared split; what is not prepared yet, or has changed since, is prepared first.

    Where the published files are gone, the prepared ones are opened as they are. Images left out on
    purpose (`skip_bad`) stay out while they are unchanged. With ``multiples_px`` they are prepared for
    released models (`describe`), in a folder of their own. Errors as `prepare`.
    """
    base = resolved(out, prepared_root) / "-".join([name, *map(str, multiples_px)])
    is_there, dataset = (base / split / INDEX).is_file(), None
    try:
        dataset = describe(name, root, multiples_px)
        job = _Preparation(dataset, split, root, base)
    except (ValueError, FileNotFoundError) as problem:
        # an own folder that is gone is unknown, a published one not found
        if is_there and (dataset is None or isinstance(problem, FileNotFoundError)):
            return PreparedSplit(base / split)
        raise
    job.update(skip_bad=False, progress=progress, forgive=True)
    return PreparedSplit(base / split)


class Done(NamedTuple):
    """A prepared image: what the index keeps of it, and its points (N, 2)."""

    record: dict[str, Any]
    points: np.ndarray


def prepare_image(source: Entry, dataset: Dataset, folder: Path) -> Done | str:
    """Decode one image, turn it, resize it and store it; why, if it cannot be used."""
    stamp = source.stamp()
    try:
        (image, size, orientation, _), points, digest = source.read()
        new_size = prepared_size(size, *dataset.sides)
        points, outside, turned = upright_points(points, size, orientation)
    except (ValueError, OSError) as problem:
        return f"{source.name}: {problem}"
    write_array(image_path(folder, source.name), fit(image, *dataset.sides))
    record = {
        "name": source.name,
        "stamp": stamp,
        "sha256": digest,
        "hash": image_hash(image),
        "size": list(new_size),
        "source_size": list(size),
        "orientation": orientation,
        "points_turned": turned,
        "outside": outside,
        "grey": bool((image == image[..., :1]).all()),
    }
    return Done(record, scale_points(points, size, new_size))


class _Preparation:
    """One split that is to be prepared: its sources, and the facts its index keeps."""

    def __init__(self, dataset: Dataset, split: str, root: str | Path | None, base: Path) -> None:
        samples = read(dataset.name, split, root)
        self.dataset, self.folder, self.title = dataset, base / split, f"{dataset.name} {split}"
        self.sources = samples.entries
        self.facts = {
            "dataset": dataset.name,
            "split": split,
            "noun": list(dataset.noun),
            "is_labelled": samples.is_labelled,
            "notes": samples.notes,
            "settings": {"least_side": dataset.least_side, "longest_side": dataset.longest_side},
        }

    def update(self, skip_bad: bool, progress: bool, forgive: bool = False) -> None:
        """Prepare what is new or changed; with ``forgive`` what was left out before stays out."""
        if self._is_done(forgive):
            return
        with _lock(self.folder.parent, progress):
            if self._is_done(forgive):  # by another process meanwhile
                return
            self._check_space(progress)
            self.remarks = self._check()
            self._save()
            try:
                problems = self._prepare(progress)
            finally:  # to go on from
                self._save()
            if problems and not skip_bad:
                raise ValueError(self._list_problems(problems))
            self.bad |= problems
            self._save(finished=True)
            keep = {image_path(self.folder, name) for name in self.fresh}
            parts = self.folder.rglob("*.part")  # of a killed run
            for path in {*self.folder.rglob("*.npy"), *parts} - keep:
                path.unlink(missing_ok=True)
        for text in self.remarks if progress else []:
            tqdm.write(f"note: {text}", sys.stderr)

    def _is_done(self, forgive: bool) -> bool:
        """Whether the index says just this.

        Sets ``fresh`` (what serves, by name), ``pending``, and ``bad`` (why known ones stay out).
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        meta, stored = {}, {}
        with suppress(FileNotFoundError, ValueError):
            old = PreparedSplit(self.folder, finished=False)
            if old.meta["settings"] == self.facts["settings"]:
                meta, items = old.meta, map(Done, old.meta["records"], old.points)
                stored = dict(zip(old.names, items, strict=True))
        known = {(b["name"], b["stamp"]): b["problem"] for b in meta.get("bad", []) if forgive}
        self.fresh: dict[str, Done] = {}
        self.pending: list[Entry] = []
        self.bad: dict[str, str] = {}
        for source in self.sources:
            stamp, item = source.stamp(), stored.get(source.name)
            if (source.name, stamp) in known:
                self.bad[source.name] = known[source.name, stamp]
            elif item and item.record["stamp"] == stamp and self._is_stored(item):
                self.fresh[source.name] = item
            else:
                self.pending.append(source)
        wanted = {"finished": True, **self.facts, "names": list(self.fresh)}
        return not self.pending and {**meta, **wanted} == {"finished": True, **meta}

    def _is_stored(self, item: Done) -> bool:
        path, (height, width) = image_path(self.folder, item.record["name"]), item.record["size"]
        return path.is_file() and path.stat().st_size > height * width * 3

    def _check_space(self, progress: bool) -> None:
        """OSError where what is pending does not fit on the disk."""
        needed, free = 0, shutil.disk_usage(self.folder).free
        for source in self.pending:
            with suppress(ValueError, OSError):  # told when it is prepared
                needed += math.prod(prepared_size(source.size(), *self.dataset.sides)) * 3
        what = f"{self.title}: {len(self.pending)} images, {needed / 1e9:.2f} GB"
        if needed > free:
            raise OSError(
                f"{what} to be written to {self.folder}, where {free / 1e9:.2f} GB are free. Make "
                "room, or set $EBC_PREPARED to a folder on a larger disk."
            )
        if self.pending and progress:
            tqdm.write(f"{what} -> {self.folder} ({free / 1e9:.0f} GB free)", file=sys.stderr)

    def _check(self) -> list[str]:
        """What is to be said of a split's points as a whole; ValueError if they cannot be right."""
        framed = []
        for source in self.sources:
            if isinstance(source, Entry):
                with suppress(ValueError, OSError):  # told with all the others of its kind
                    framed.append(source.framed_points())
        if not framed or not self.facts["is_labelled"]:
            return []
        points, sizes = zip(*framed, strict=True)
        text, is_certain = doubts(points, sizes) if self.dataset.checks_coordinates else ("", False)
        if len(framed) > 1 and not sum(map(len, points)):
            text = f"none of its {len(framed)} images has a point"
            if self.facts["split"] == "train":
                raise ValueError(f"{self.title}: {text}. Was it exported without labels?")
        if is_certain:
            raise ValueError(
                f"{self.title}: {text}. Expected are x and y in pixels of the images as they lie there. "
                "Convert them; or, if they are right, write `coordinates: pixels` into dataset.yaml."
            )
        return [f"{self.title}: {text}"] if text else []

    def _prepare(self, progress: bool) -> dict[str, str]:
        """Prepare in threads (decoding and resizing release the GIL); what cannot be used, and why."""
        problems, pending = {}, self.pending
        with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
            outcomes = pool.map(lambda s: prepare_image(s, self.dataset, self.folder), pending)
            options = {"desc": self.title, "unit": "image", "disable": not (progress and pending)}
            bar = tqdm(outcomes, total=len(pending), **options)
            try:
                for number, (source, outcome) in enumerate(zip(pending, bar, strict=True), 1):
                    kept = problems if isinstance(outcome, str) else self.fresh
                    kept[source.name] = outcome
                    if number % SAVE_EVERY == 0:
                        self._save()
            finally:
                pool.shutdown(cancel_futures=True)
        return problems

    def _save(self, finished: bool = False) -> None:
        """Write an index of what is prepared, in the order of the sources."""
        items = [self.fresh[source.name] for source in self.sources if source.name in self.fresh]
        digest = hashlib.sha256()  # over the names, source files and prepared points
        for item in items:
            digest.update(item.record["name"].encode())
            digest.update(bytes.fromhex(item.record["sha256"]))
            digest.update(np.ascontiguousarray(item.points).tobytes())
        meta = {
            **self.facts,
            "finished": finished,
            "remarks": self.remarks,
            "names": [item.record["name"] for item in items],
            "digest": digest.hexdigest(),
            "records": [item.record for item in items],
            "bad": [
                {"name": s.name, "stamp": s.stamp(), "problem": self.bad[s.name]}
                for s in self.sources
                if s.name in self.bad
            ],
        }
        save_index(self.folder / INDEX, meta, [item.points for item in items])

    def _list_problems(self, problems: Mapping[str, str]) -> str:
        lines = [f"  {problems[name]}" for name in sorted(problems, key=natural)]
        more = [f"  … and {len(lines) - MOST_LISTED} more"] if len(lines) > MOST_LISTED else []
        name, listed = self.dataset.name, "\n".join(lines[:MOST_LISTED] + more)
        return (
            f"{self.title}: {len(problems)} of {len(self.sources)} images cannot be used:\n{listed}\n"
            f"Mend them and run `ebc prepare {name}` again, or leave them out: "
            f"`ebc prepare {name} --skip-bad` (skip_bad=True)."
        )


def _lock(base: Path, progress: bool) -> AbstractContextManager:
    """Keep other processes from preparing a data set; wait for one that does."""
    base.mkdir(parents=True, exist_ok=True)
    lock = FileLock(base / ".lock")
    try:
        return lock.acquire(timeout=0)
    except Timeout:
        if progress:
            tqdm.write(f"{base.name} is being prepared by another process; waiting.", sys.stderr)
        return lock.acquire()


def doubts(points: Sequence[np.ndarray], sizes: Sequence[tuple[int, int]]) -> tuple[str, bool]:
    """Why the points of a split can hardly be pixels, empty if they can; and whether that is certain.

    Of each image ``points`` are (N, 2), as annotated, and ``sizes`` (H, W).
    """
    every = np.concatenate([np.empty((0, 2)), *points])
    sides = np.repeat(np.array(sizes).reshape(-1, 2)[:, ::-1], [len(p) for p in points], axis=0)
    n = len(every)
    if n < 3:
        return "", False
    low, high = every.min(), every.max(axis=0)
    if low >= 0 and high.max() <= 1 and (every % 1 != 0).any():
        return "all x and y lie between 0 and 1: parts of the width and height", True
    spread = high.min() > 75 and high.max() <= 100 and low >= 0
    if n >= 20 and spread and sides.min() > 150:
        return "all x and y lie between 0 and 100: percents of the width and height", True
    out, swapped = (
        int(((every < 0) | (every >= limits)).any(axis=1).sum())
        for limits in (sides, sides[:, ::-1])
    )
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


def _report(dataset: Dataset, splits: Sequence[PreparedSplit], folder: Path) -> dict[str, Any]:
    """What was found, for `report.json` and `format_report`."""
    images = [
        ({"split": split.split, "name": record["name"], "points": int(count)}, record)
        for split in splits
        for record, count in zip(split.meta["records"], split.counts, strict=True)
    ]
    return {
        "name": dataset.name,
        "title": dataset.title,
        "noun": list(dataset.noun),
        "folder": str(folder),
        "splits": {each.split: _split_report(each) for each in splits},
        "near_duplicates": [
            {
                "first": images[first][0],
                "second": images[second][0],
                "bits": bits,
                "identical": images[first][1]["sha256"] == images[second][1]["sha256"],
            }
            for bits, first, second in near_pairs([record["hash"] for _, record in images])
        ],
        "notes": [n for each in splits for n in each.meta["notes"] + each.meta.get("remarks", [])],
    }


def _split_report(split: PreparedSplit) -> dict[str, Any]:
    records, counts = split.meta["records"], split.counts

    def over(function: Callable) -> int | float | None:
        return function(counts).item() if split.is_labelled and len(counts) else None

    return {
        "images": len(records),
        "points": over(np.sum),
        "least": over(np.min),
        "mean": over(np.mean),
        "most": over(np.max),
        "outside": sum(record["outside"] for record in records),
        "empty": over(lambda counts: (counts == 0).sum()),
        "greyscale": sum(record["grey"] for record in records),
        "exif_turned": sum(record["orientation"] != 1 for record in records),
        "points_turned": sum(record["points_turned"] for record in records),
        "resized": sum(record["size"] != record["source_size"] for record in records),
        "left_out": len(split.meta["bad"]),
        "megabytes": round(sum(height * width * 3 for height, width in split.sizes) / 1e6),
        "outside_images": {r["name"]: r["outside"] for r in records if r["outside"]},
        "unreadable": [{key: bad[key] for key in ("name", "problem")} for bad in split.meta["bad"]],
    }


def format_report(report: Mapping[str, Any]) -> str:
    """The report as a small table, a column for each split; below it what wants a look."""
    import pandas as pd  # a missing data set is told before it loads

    def cell(value: float | None) -> str:
        return (
            "-" if value is None else f"{value:,.1f}" if isinstance(value, float) else f"{value:,}"
        )

    table = pd.DataFrame(report["splits"], dtype=object).loc["images":"megabytes"].map(cell)
    table.index = [report["noun"][1] if r == "points" else r.replace("_", " ") for r in table.index]
    table.columns.name = f"{report['title']} ({report['name']})"
    lines = table.to_string().splitlines()
    lines.insert(1, "-" * len(lines[0]))
    groups: dict[str, list[str]] = {"across splits": [], "within a split": []}
    for pair in report["near_duplicates"]:
        sides = pair["first"], pair["second"]
        first, second = (f"{side['split']} {side['name']} ({side['points']})" for side in sides)
        how = "the same file" if pair["identical"] else f"{pair['bits']} of 256 bits differ"
        is_across = sides[0]["split"] != sides[1]["split"]
        group = groups["across splits" if is_across else "within a split"]
        group.append(f"  {first} ~ {second}: {how}")
    for title, group in groups.items():
        lines += [f"near-duplicates {title}: {len(group) or 'none'}", *group[:MOST_LISTED]]
        lines += ["  … all of them are in report.json"] if len(group) > MOST_LISTED else []
    for split, part in report["splits"].items():
        lines += [f"left out of {split}: {bad['problem']}" for bad in part["unreadable"]]
    return "\n".join([*lines, *(f"note: {note}" for note in report["notes"])])


def image_hash(image: np.ndarray) -> str:
    """The perceptual hash (pHash) of an image (H, W, 3): 64 hex digits, 256 low frequencies."""
    import imagehash  # with SciPy's and PyWavelets' transforms: for preparing alone

    return str(imagehash.phash(Image.fromarray(image), hash_size=16))


def near_pairs(hashes: Sequence[str], most_bits: int = NEAR_BITS) -> list[tuple[int, int, int]]:
    """All pairs of ``hashes`` that differ in at most ``most_bits`` bits, nearest first: bits, both places."""
    codes = np.array([bytearray.fromhex(text) for text in hashes], dtype=np.uint8)
    pairs = []
    for first, code in enumerate(codes):
        bits = np.bitwise_count(code ^ codes[first + 1 :]).sum(axis=-1)
        near = np.flatnonzero(bits <= most_bits)
        pairs += [(int(bits[k]), first, int(first + 1 + k)) for k in near]
    return sorted(pairs)


def shared_images(split: PreparedSplit, other: PreparedSplit) -> dict[str, str]:
    """Images of ``split`` that ``other`` has, too, or nearly: name → the nearest's name."""
    own, found = len(split), {}
    hashes = [record["hash"] for each in (split, other) for record in each.meta["records"]]
    for _, first, second in near_pairs(hashes):  # nearest first
        if first < own <= second:
            found.setdefault(split.names[first], other.names[second - own])
    return found
