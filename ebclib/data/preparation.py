"""From published files to what training reads: checked, resized, raw; resumable."""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

from filelock import FileLock, Timeout
from tqdm.auto import tqdm

from ebclib.config import prepared_root
from ebclib.data.catalogue import Dataset, choose_split
from ebclib.data.duplicates import image_hash
from ebclib.data.images import fit, is_grey
from ebclib.data.prepared_split import INDEX, PreparedSplit, load_index, image_path
from ebclib.data.reading import describe, read, sources
from ebclib.data.report import build_report
from ebclib.data.sample import Entry, Source, natural
from ebclib.data.scaling import doubts, place, prepared_size, scale_points
from ebclib.data.store import Done, Problem, Store, write_array


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
    The report (also `report.json` beside the splits); `format_report` makes a text of it. It covers
    all splits of ``name`` prepared so far.

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
        part = base / f"report.json.{os.getpid()}.part"
        part.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
        os.replace(part, base / "report.json")
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
    """Decode one image, turn it, resize it and store it, with its points.

    Raises
    ------
    BadSource : the image or its points cannot be had
    OSError : it cannot be written
    """
    stamp = source.stamp()
    try:
        raw = source.read()
        size = raw.image.shape[:2]
        new_size = prepared_size(size, *dataset.sides)
        points, outside, turned = place(raw.points, size, raw.orientation)
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

    def is_done(self, job: Job) -> bool:
        """Whether the index is there and says just this."""
        meta = self.store.meta
        names = [source.name for source in job.sources if source.name in self.fresh]
        return (
            meta is not None
            and not self.pending
            and meta["names"] == names
            and all(meta[key] == value for key, value in job.facts.items())
        )


def _look(job: Job, forgive: bool) -> Todo:
    """What is to do; ``forgive``: images left out before, and unchanged since, stay out."""
    todo = Todo(Store(job.folder, job.dataset), set(), [], [])
    known = {(bad["name"], bad["stamp"]): bad for bad in (todo.store.meta or {}).get("bad", [])}
    for source in job.sources:
        before = known.get((source.name, source.stamp())) if known and forgive else None
        if before:
            todo.bad.append((source, before["problem"]))
        elif todo.store.is_fresh(source):
            todo.fresh.add(source.name)
        else:
            todo.pending.append(source)
    return todo


def _update(job: Job, skip_bad: bool, progress: bool, forgive: bool = False) -> None:
    """Prepare what is new or changed in one split, then write its index."""
    if _look(job, forgive).is_done(job):
        return
    with _lock(job.folder.parent, progress):
        todo = _look(job, forgive)  # again: another process may have done it meanwhile
        if todo.is_done(job):
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
            height, width = prepared_size(source.size(), *job.dataset.sides)
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
    workers = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    bar = tqdm(total=len(pending), desc=job.title, unit="image", disable=not progress)
    with bar, ThreadPoolExecutor(min(8, workers or 1)) as pool:
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
