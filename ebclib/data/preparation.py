"""From published files to what training reads: checked, resized, raw; resumable."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from filelock import FileLock, Timeout
from tqdm.auto import tqdm

from ebclib.config import prepared_root
from ebclib.data.catalogue import Dataset, choose_split
from ebclib.data.images import fit, is_grey, prepared_size
from ebclib.data.prepared_split import (
    INDEX,
    PreparedSplit,
    image_path,
    load_index,
    save_index,
    write_array,
)
from ebclib.data.reading import describe, read, sources
from ebclib.data.report import build_report, image_hash
from ebclib.data.sample import Entry, Source, natural, scale_points, upright_points
from ebclib.runs import write_json, write_whole

ORDINARY_OUTSIDE, MOST_OUTSIDE = 0.01, 0.1
"""Shares of points outside their image: up to the first is ordinary, above the second an error."""

JOURNAL = "journal.jsonl"
"""What an unfinished preparation has done so far, an image a line; gone once there is an index."""


def prepare(
    name: str,
    splits: Iterable[str] | None = None,
    root: str | Path | None = None,
    out: str | Path | None = None,
    skip_bad: bool = False,
    progress: bool = True,
) -> dict[str, Any]:
    """Check a data set and write what training reads; only what is new or changed is done.

    Parameters
    ----------
    name : sha, shb, qnrf, nwpu, jhu, synthetic, or a folder below the data root
    splits : which; None: all
    root : the data root; None: `ebclib.config.data_root`
    out : where to write `<name>/<split>/`; None: `ebclib.config.prepared_root`
    skip_bad : leave out images that cannot be read, and name them in the report
    progress : show a progress bar, and the disk space needed, on stderr

    Returns
    -------
    The report on all splits of ``name`` prepared so far (also in `report.json`); see `format_report`.

    Raises
    ------
    FileNotFoundError : the data set is not there
    ValueError : unreadable files (all of them named) unless ``skip_bad``; unknown names
    OSError : not enough space on the disk
    """
    dataset = describe(name, root)
    base = _out(out) / name
    chosen = dataset.splits if splits is None else [choose_split(dataset, s) for s in splits]
    for job in [_Preparation(dataset, split, root, base) for split in chosen]:
        job.update(skip_bad, progress)
    with _lock(base, progress):
        ready = [split for split in dataset.splits if (base / split / INDEX).is_file()]
        report = build_report(dataset, {split: load_index(base / split) for split in ready}, base)
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

    Where the published files are gone (a copy on another machine), the prepared ones are opened as
    they are. Images left out on purpose (`skip_bad`) stay out while they are unchanged. With
    ``multiples_px`` they are prepared for released models (`describe`), in a folder of their own.

    Raises
    ------
    FileNotFoundError, ValueError, OSError : as `prepare`
    """
    base = _out(out) / "-".join([name, *map(str, multiples_px)])
    is_there = (base / split / INDEX).is_file()
    try:
        dataset = describe(name, root, multiples_px)
    except ValueError:
        if is_there:
            return PreparedSplit(base / split)
        raise
    try:
        job = _Preparation(dataset, split, root, base)
    except FileNotFoundError:
        if is_there:
            return PreparedSplit(base / split)
        raise
    job.update(skip_bad=False, progress=progress, forgive=True)
    return PreparedSplit(base / split)


class Done(NamedTuple):
    """An image that is prepared: what the index keeps of it, and its points (N, 2)."""

    record: dict[str, Any]
    points: np.ndarray


Problem = tuple[Source, str]
"""A source that cannot be used, and why."""


class BadSource(Exception):
    """An image or its points cannot be used; the text names the file."""


def prepare_image(source: Source, dataset: Dataset, folder: Path) -> Done:
    """Decode one image, turn it, resize it and store it, with its points; `BadSource` if it cannot."""
    stamp = source.stamp()
    try:
        raw = source.read()
        size = raw.image.shape[:2]
        new_size = prepared_size(size, *dataset.sides)
        points, outside, turned = upright_points(raw.points, size, raw.orientation)
    except (ValueError, OSError) as problem:
        raise BadSource(_named(source, problem)) from problem
    write_array(image_path(folder, source.name), fit(raw.image, *dataset.sides))
    record = {
        "name": source.name,
        "stamp": stamp,
        "sha256": raw.sha256,
        "hash": image_hash(raw.image),
        "size": list(new_size),
        "source_size": list(size),
        "orientation": raw.orientation,
        "points_turned": turned,
        "outside": outside,
        "grey": is_grey(raw.image),
    }
    return Done(record, scale_points(points, size, new_size))


class _Preparation:
    """One split that is to be prepared: its sources, the facts its index keeps, what its folder holds."""

    def __init__(self, dataset: Dataset, split: str, root: str | Path | None, base: Path) -> None:
        samples = read(dataset.name, split, root)
        self.dataset, self.folder, self.title = dataset, base / split, f"{dataset.name} {split}"
        self.sources = sources(samples, dataset.name)
        self.settings = {"least_side": dataset.least_side, "longest_side": dataset.longest_side}
        self.facts = {
            "dataset": dataset.name,
            "split": split,
            "noun": list(dataset.noun),
            "is_labelled": getattr(samples, "is_labelled", True),
            "notes": list(getattr(samples, "notes", [])),
        }

    def update(self, skip_bad: bool, progress: bool, forgive: bool = False) -> None:
        """Prepare what is new or changed, then write the index.

        Parameters
        ----------
        forgive : images left out before, and unchanged since, stay out
        """
        if self._is_done(forgive):
            return
        with _lock(self.folder.parent, progress):
            if self._is_done(forgive):  # by another process meanwhile
                return
            pending, problems = self._measure(progress)
            remarks = self.meta.get("remarks", []) if self.fresh else []
            remarks += [text for text in self._check() if text not in remarks]
            with self._journal() as journal:
                for source, outcome in self._outcomes(pending, progress):
                    if isinstance(outcome, BadSource):
                        problems.append((source, str(outcome)))
                    else:
                        self.fresh[source.name] = outcome
                        journal(outcome)
            if problems and not skip_bad:
                raise ValueError(self._list_problems(problems))
            self._finish(problems, remarks)
        if progress:
            for text in remarks:
                tqdm.write(f"note: {text}", sys.stderr)

    def _is_done(self, forgive: bool) -> bool:
        """Whether the index is there and says just this; otherwise what is to do.

        Sets ``meta`` (the index's description, empty without one that serves), ``fresh`` (images that
        serve), ``pending`` and ``bad`` (known ones that stay out).
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        stored, self.meta = self._stored()
        self.fresh: dict[str, Done] = {}
        self.pending: list[Source] = []
        self.bad: list[Problem] = []
        known = {(b["name"], b["stamp"]): b["problem"] for b in self.meta.get("bad", []) if forgive}
        for source in self.sources:
            stamp = source.stamp()
            if (source.name, stamp) in known:
                self.bad.append((source, known[source.name, stamp]))
            elif self._serves(stored.get(source.name), stamp):
                self.fresh[source.name] = stored[source.name]
            else:
                self.pending.append(source)
        wanted = {**self.facts, "names": list(self.fresh)}
        return (
            bool(self.meta)
            and not self.pending
            and all(self.meta[key] == value for key, value in wanted.items())
        )

    def _stored(self) -> tuple[dict[str, Done], dict[str, Any]]:
        """What was prepared at these sizes, by name, and the index's description; a journal has none."""
        try:
            meta, points, starts, _ = load_index(self.folder)
        except (FileNotFoundError, ValueError):
            notes, meta = [], {}
            with suppress(FileNotFoundError):
                for line in (self.folder / JOURNAL).read_bytes().splitlines():
                    with suppress(ValueError):  # the last line of a killed run
                        notes.append(json.loads(line))
            parts = [np.array(n["points"], dtype=np.float64).reshape(-1, 2) for n in notes]
            items = [
                Done(note["record"], part)
                for note, part in zip(notes, parts, strict=True)
                if note["settings"] == self.settings
            ]
        else:
            if meta["settings"] != self.settings:
                return {}, {}
            parts = np.split(points, starts[1:-1]) if meta["records"] else []
            items = map(Done, meta["records"], parts)
        return {item.record["name"]: item for item in items}, meta

    def _serves(self, item: Done | None, stamp: str) -> bool:
        """Whether a prepared image is there, and its source as it was."""
        if item is None or item.record["stamp"] != stamp:
            return False
        path, (height, width) = image_path(self.folder, item.record["name"]), item.record["size"]
        return path.is_file() and path.stat().st_size > height * width * 3

    @contextmanager
    def _journal(self) -> Iterator[Callable[[Done], object]]:
        """Put a journal of what serves in the index's place; gives what notes one image more."""

        def line(item: Done) -> bytes:
            note = {"settings": self.settings, "record": item.record}
            return json.dumps(note | {"points": item.points.tolist()}).encode() + b"\n"

        path, kept = self.folder / JOURNAL, b"".join(map(line, self.fresh.values()))
        write_whole(path, lambda part: part.write_bytes(kept))
        for stale in [self.folder / INDEX, *self.folder.rglob("*.part")]:  # of a killed run
            stale.unlink(missing_ok=True)
        with open(path, "ab", buffering=0) as file:
            yield lambda item: file.write(line(item))

    def _measure(self, progress: bool) -> tuple[list[Source], list[Problem]]:
        """The pending sources that can be opened, the others with their problem; checks the disk."""
        good, problems, needed = [], [], 0
        for source in self.pending:
            try:
                height, width = prepared_size(source.size(), *self.dataset.sides)
            except (ValueError, OSError) as problem:
                problems.append((source, _named(source, problem)))
                continue
            good.append(source)
            needed += height * width * 3
        free = shutil.disk_usage(self.folder).free
        what = f"{self.title}: {len(good)} images, {needed / 1e9:.2f} GB"
        if needed > free:
            raise OSError(
                f"{what} to be written to {self.folder}, where {free / 1e9:.2f} GB are free. Make "
                "room, or set $EBC_PREPARED to a folder on a larger disk."
            )
        if good and progress:
            tqdm.write(f"{what} -> {self.folder} ({free / 1e9:.0f} GB free)", file=sys.stderr)
        return good, problems

    def _check(self) -> list[str]:
        """What is to be said of a split's points as a whole, before anything is written.

        Raises
        ------
        ValueError : a training split without any point, or x and y that can hardly be pixels
        """
        framed = []
        for source in self.pending:
            if isinstance(source, Entry):
                with suppress(ValueError, OSError):  # told with all the others of its kind
                    framed.append(source.framed_points())
        if not framed or not self.facts["is_labelled"]:
            return []
        points, sizes = zip(*framed, strict=True)
        kept = sum(len(item.points) for item in self.fresh.values())
        if len(framed) > 1 and not kept + sum(map(len, points)):
            text = (
                f"{self.title}: none of its {len(framed)} images has a point. Was it exported before "
                "the labels were saved, or without them?"
            )
            if self.facts["split"] == "train":
                raise ValueError(f"{text} There is nothing to train on.")
            return [text]
        text, is_certain = doubts(points, sizes) if self.dataset.checks_coordinates else ("", False)
        if is_certain:
            raise ValueError(
                f"{self.title}: {text}. Expected are x (from the left) and y (from the top) in pixels "
                "of the images as they lie there. Convert them; or, if they are right, write "
                "`coordinates: pixels` into dataset.yaml."
            )
        return [f"{self.title}: {text}"] if text else []

    def _outcomes(
        self, pending: Sequence[Source], progress: bool
    ) -> Iterator[tuple[Source, Done | BadSource]]:
        """Prepare in threads (decoding and resizing release the GIL); outcomes as they come."""
        bar = tqdm(
            total=len(pending), desc=self.title, unit="image", disable=not (progress and pending)
        )
        with bar, ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
            waiting = {pool.submit(prepare_image, s, self.dataset, self.folder): s for s in pending}
            try:
                for future in as_completed(waiting):
                    problem = future.exception()
                    if problem is not None and not isinstance(problem, BadSource):
                        raise problem
                    bar.update()
                    yield waiting[future], problem or future.result()
            finally:
                pool.shutdown(cancel_futures=True)

    def _finish(self, problems: Sequence[Problem], remarks: Sequence[str]) -> None:
        """Write the index of all sources but the bad; the journal and other images' files go."""
        items = [self.fresh[source.name] for source in self.sources if source.name in self.fresh]
        digest = hashlib.sha256()  # over the names, source files and prepared points
        for item in items:
            digest.update(item.record["name"].encode())
            digest.update(bytes.fromhex(item.record["sha256"]))
            digest.update(np.ascontiguousarray(item.points).tobytes())
        bad = sorted([*self.bad, *problems], key=lambda item: natural(item[0].name))
        meta = {
            **self.facts,
            "remarks": remarks,
            "names": [item.record["name"] for item in items],
            "digest": digest.hexdigest(),
            "settings": self.settings,
            "records": [item.record for item in items],
            "bad": [{"name": s.name, "stamp": s.stamp(), "problem": text} for s, text in bad],
        }
        save_index(self.folder, meta, [item.points for item in items])
        keep = {image_path(self.folder, name) for name in meta["names"]}
        for path in {*self.folder.rglob("*.npy"), self.folder / JOURNAL} - keep:
            path.unlink(missing_ok=True)

    def _list_problems(self, problems: Sequence[Problem], most: int = 15) -> str:
        """The problems, those of one kind in one line: how many, the first, and where else."""
        kinds: dict[str, list[Problem]] = {}
        for source, text in sorted(problems, key=lambda item: natural(item[0].name)):
            kinds.setdefault(_kind(source, text), []).append((source, text))
        lines = []
        for (_, first), *others in sorted(kinds.values(), key=len, reverse=True)[:most]:
            number = f"{len(others) + 1} times, as " if others else ""
            also = f" Also {others[0][0].name}" if others else ""
            more = f" and {len(others) - 1} more." if len(others) > 1 else "." if also else ""
            lines.append(f"  {number}{first}{also}{more}")
        if len(kinds) > most:
            lines.append(f"  … and problems of {len(kinds) - most} other kinds")
        name, listed = self.dataset.name, "\n".join(lines)
        return (
            f"{self.title}: {len(problems)} of {len(self.sources)} images cannot be used:\n{listed}\n"
            f"Mend them and run `ebc prepare {name}` again (what is done is not done twice), or leave "
            f"them out: `ebc prepare {name} --skip-bad` (skip_bad=True)."
        )


@contextmanager
def _lock(base: Path, progress: bool) -> Iterator[None]:
    """Keep other processes from writing what is prepared of a data set; wait for one that does."""
    base.mkdir(parents=True, exist_ok=True)
    lock = FileLock(base / ".lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        if progress:
            tqdm.write(f"{base.name} is being prepared by another process; waiting.", sys.stderr)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def doubts(points: Sequence[np.ndarray], sizes: Sequence[tuple[int, int]]) -> tuple[str, bool]:
    """Why the points of a split can hardly be pixels, empty if they can; and whether that is certain.

    Parameters
    ----------
    points : (N, 2) of each image, as annotated
    sizes : (H, W) of each image
    """
    every = np.concatenate([np.empty((0, 2)), *points])
    sides = np.repeat(np.array(sizes).reshape(-1, 2)[:, ::-1], [len(p) for p in points], axis=0)
    n = len(every)
    if n < 3:
        return "", False
    low, high = every.min(axis=0), every.max(axis=0)
    if low.min() >= 0 and high.max() <= 1 and (every % 1 != 0).any():
        return "all x and y lie between 0 and 1: parts of the width and height", True
    spread = high.min() > 75 and high.max() <= 100 and low.min() >= 0
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


def _named(source: Source, problem: Exception) -> str:
    """The problem's text, with the image's file or name in front unless it is there."""
    where, text = str(getattr(source, "image", source.name)), str(problem)
    return text if where in text or source.name in text else f"{where}: {text}"


def _kind(source: Source, text: str) -> str:
    """A problem's text without what is peculiar to one file: paths, quoted words, numbers."""
    for path in (getattr(source, "image", None), getattr(source, "annotation", None)):
        text = text.replace(str(path), "")
    return re.sub(r"'[^']*'|\d+(\.\d+)?|\S*/\S*", "", text.replace(source.name, ""))


def _out(out: str | Path | None) -> Path:
    return Path(out).expanduser().resolve() if out is not None else prepared_root()
