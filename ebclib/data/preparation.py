"""From published files to what training reads: checked, resized, raw; resumable."""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from filelock import FileLock, Timeout
from tqdm.auto import tqdm

from ebclib.config import prepared_root
from ebclib.data.catalogue import Dataset, choose_split
from ebclib.data.images import is_grey, prepared_size, resize
from ebclib.data.prepared_split import (
    INDEX,
    Done,
    PreparedSplit,
    Problem,
    Store,
    image_path,
    load_index,
    write_array,
)
from ebclib.data.reading import describe, read, sources
from ebclib.data.report import build_report, image_hash
from ebclib.data.sample import Entry, Source, natural, scale_points, upright_points
from ebclib.runs import write_json

ORDINARY_OUTSIDE, MOST_OUTSIDE = 0.01, 0.1
"""Shares of points outside their image: up to the first is ordinary, above the second an error."""


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
    jobs = [_job(dataset, split, root, base) for split in chosen]
    for job in jobs:
        _update(job, skip_bad, progress)
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
) -> PreparedSplit:
    """Open a prepared split; what is not prepared yet, or has changed since, is prepared first.

    Where the published files are gone (a copy on another machine), the prepared ones are opened as
    they are. Images left out on purpose (`skip_bad`) stay out while they are unchanged.

    Raises
    ------
    FileNotFoundError, ValueError, OSError : as `prepare`
    """
    base = _out(out) / name
    is_there = (base / split / INDEX).is_file()
    try:
        dataset = describe(name, root)
    except ValueError:
        if is_there:
            return PreparedSplit(base / split)
        raise
    try:
        job = _job(dataset, split, root, base)
    except FileNotFoundError:
        if is_there:
            return PreparedSplit(base / split)
        raise
    _update(job, skip_bad=False, progress=progress, forgive=True)
    return PreparedSplit(job.folder)


class Job(NamedTuple):
    """One split to prepare: its sources, and the facts its index keeps."""

    dataset: Dataset
    folder: Path
    sources: Sequence[Source]
    facts: dict[str, Any]

    @property
    def title(self) -> str:
        """Data set and split, for people."""
        return f"{self.facts['dataset']} {self.facts['split']}"


class BadSource(Exception):
    """An image or its points cannot be used; the text names the file."""


def prepare_image(source: Source, dataset: Dataset, folder: Path) -> Done:
    """Decode one image, turn it, resize it and store it, with its points; `BadSource` if it cannot."""
    stamp = source.stamp()
    try:
        raw = source.read()
        size = raw.image.shape[:2]
        new_size = prepared_size(size, dataset.least_side, dataset.longest_side)
        points, outside, turned = upright_points(raw.points, size, raw.orientation)
    except (ValueError, OSError) as problem:
        raise BadSource(_named(source, problem)) from problem
    write_array(image_path(folder, source.name), resize(raw.image, new_size))
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


def _job(dataset: Dataset, split: str, root: str | Path | None, base: Path) -> Job:
    samples = read(dataset.name, split, root)
    facts = {
        "dataset": dataset.name,
        "split": split,
        "noun": list(dataset.noun),
        "is_labelled": getattr(samples, "is_labelled", True),
        "notes": list(getattr(samples, "notes", [])),
    }
    return Job(dataset, base / split, sources(samples, dataset.name), facts)


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


class Todo(NamedTuple):
    """What a look at a split's folder found: names that serve, sources to prepare, known bad ones."""

    store: Store
    fresh: set[str]
    pending: list[Source]
    bad: list[Problem]


def _look(job: Job, forgive: bool) -> Todo | None:
    """What is to do; None where the index is there and says just this.

    ``forgive``: images left out before, and unchanged since, stay out.
    """
    store, fresh, pending, bad = Store(job.folder, job.dataset), set(), [], []
    meta = store.meta or {}
    known = {(item["name"], item["stamp"]): item["problem"] for item in meta.get("bad", [])}
    for source in job.sources:
        before = known.get((source.name, source.stamp())) if known and forgive else None
        if before:
            bad.append((source, before))
        elif store.is_fresh(source):
            fresh.add(source.name)
        else:
            pending.append(source)
    names = [source.name for source in job.sources if source.name in fresh]
    wanted = {**job.facts, "names": names}
    if meta and not pending and all(meta[key] == value for key, value in wanted.items()):
        return None
    return Todo(store, fresh, pending, bad)


def _update(job: Job, skip_bad: bool, progress: bool, forgive: bool = False) -> None:
    """Prepare what is new or changed in one split, then write its index."""
    if not _look(job, forgive):
        return
    with _lock(job.folder.parent, progress):
        todo = _look(job, forgive)  # again: another process may have done it meanwhile
        if not todo:
            return
        store, fresh, pending, bad = todo
        pending, problems = _measure(job, pending, progress)
        remarks = (store.meta or {}).get("remarks", []) if fresh else []
        remarks += [text for text in _check(job, todo) if text not in remarks]
        store.begin(fresh)
        try:
            for source, outcome in _run(job, pending, progress):
                if isinstance(outcome, BadSource):
                    problems.append((source, str(outcome)))
                else:
                    store.add(outcome)
            if problems and not skip_bad:
                raise ValueError(_list_problems(job, problems))
            store.finish(job.sources, bad + problems, {**job.facts, "remarks": remarks})
        finally:
            store.close()
    if progress:
        for text in remarks:
            tqdm.write(f"note: {text}", sys.stderr)


def _check(job: Job, todo: Todo) -> list[str]:
    """What is to be said of a split's points as a whole, before anything is written.

    Raises
    ------
    ValueError : a training split without any point, or x and y that can hardly be pixels
    """
    framed = []
    for source in todo.pending:
        if isinstance(source, Entry):
            with suppress(ValueError, OSError):  # told with all the others of its kind
                framed.append(source.framed_points())
    if not framed or not job.facts["is_labelled"]:
        return []
    points, sizes = zip(*framed, strict=True)
    kept = sum(len(todo.store.done[name].points) for name in todo.fresh)
    if len(framed) > 1 and not kept + sum(map(len, points)):
        text = (
            f"{job.title}: none of its {len(framed)} images has a point. Was it exported before the "
            "labels were saved, or without them?"
        )
        if job.facts["split"] == "train":
            raise ValueError(f"{text} There is nothing to train on.")
        return [text]
    text, is_certain = doubts(points, sizes) if job.dataset.checks_coordinates else ("", False)
    if is_certain:
        raise ValueError(
            f"{job.title}: {text}. Expected are x (from the left) and y (from the top) in pixels of "
            "the images as they lie there. Convert them; or, if they are right, write `coordinates: "
            "pixels` into dataset.yaml."
        )
    return [f"{job.title}: {text}"] if text else []


def _measure(
    job: Job, pending: Sequence[Source], progress: bool
) -> tuple[list[Source], list[Problem]]:
    """The pending sources that can be opened, the others with their problem; checks the disk."""
    good, problems, needed = [], [], 0
    for source in pending:
        try:
            height, width = prepared_size(
                source.size(), job.dataset.least_side, job.dataset.longest_side
            )
        except (ValueError, OSError) as problem:
            problems.append((source, _named(source, problem)))
            continue
        good.append(source)
        needed += height * width * 3
    free = shutil.disk_usage(job.folder).free
    what = f"{job.title}: {len(good)} images, {needed / 1e9:.2f} GB"
    if needed > free:
        raise OSError(
            f"{what} to be written to {job.folder}, where {free / 1e9:.2f} GB are free. Make room, "
            "or set $EBC_PREPARED to a folder on a larger disk."
        )
    if good and progress:
        tqdm.write(f"{what} -> {job.folder} ({free / 1e9:.0f} GB free)", file=sys.stderr)
    return good, problems


def _run(
    job: Job, pending: Sequence[Source], progress: bool
) -> Iterator[tuple[Source, Done | BadSource]]:
    """Prepare in threads (decoding and resizing release the GIL); outcomes as they come."""
    if not pending:
        return
    bar = tqdm(total=len(pending), desc=job.title, unit="image", disable=not progress)
    with bar, ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        waiting = {pool.submit(prepare_image, s, job.dataset, job.folder): s for s in pending}
        try:
            for future in as_completed(waiting):
                problem = future.exception()
                if problem is not None and not isinstance(problem, BadSource):
                    raise problem
                bar.update()
                yield waiting[future], problem or future.result()
        finally:
            pool.shutdown(cancel_futures=True)


def _named(source: Source, problem: Exception) -> str:
    """The problem's text, with the image's file or name in front unless it is there."""
    where = str(getattr(source, "image", source.name))
    text = str(problem)
    return text if where in text or source.name in text else f"{where}: {text}"


def _list_problems(job: Job, problems: Sequence[Problem], most: int = 15) -> str:
    """The problems, those of one kind in one line: how many, the first, and where else."""
    kinds: dict[str, list[Problem]] = {}
    for source, text in sorted(problems, key=lambda item: natural(item[0].name)):
        kinds.setdefault(_kind(source, text), []).append((source, text))
    lines = []
    for same in sorted(kinds.values(), key=len, reverse=True)[:most]:
        number = f"{len(same)} times, as " if len(same) > 1 else ""
        also = f" Also {same[1][0].name}" if len(same) > 1 else ""
        more = f" and {len(same) - 2} more." if len(same) > 2 else "." if also else ""
        lines.append(f"  {number}{same[0][1]}{also}{more}")
    if len(kinds) > most:
        lines.append(f"  … and problems of {len(kinds) - most} other kinds")
    return (
        f"{job.title}: {len(problems)} of {len(job.sources)} images cannot be used:\n"
        + "\n".join(lines)
        + f"\nMend them and run `ebc prepare {job.dataset.name}` again (what is done is not done "
        f"twice), or leave them out: `ebc prepare {job.dataset.name} --skip-bad` (skip_bad=True)."
    )


def _kind(source: Source, text: str) -> str:
    """A problem's text without what is peculiar to one file: paths, quoted words, numbers."""
    for path in (getattr(source, "image", None), getattr(source, "annotation", None)):
        text = text.replace(str(path), "")
    return re.sub(r"'[^']*'|\d+(\.\d+)?|\S*/\S*", "", text.replace(source.name, ""))


def _out(out: str | Path | None) -> Path:
    return Path(out).expanduser().resolve() if out is not None else prepared_root()
