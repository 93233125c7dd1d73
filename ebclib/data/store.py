"""The folder of a split while it is prepared: what is done, what is not, whole files only."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from ebclib.data.catalogue import Dataset
from ebclib.data.prepared_split import INDEX, load_index, image_path, save_index
from ebclib.data.sample import Source, natural

JOURNAL = "journal.*.jsonl"
"""What an unfinished preparation has done so far, an image a line; gone once there is an index."""

Problem = tuple[Source, str]
"""A source that cannot be used, and why."""


@dataclass(frozen=True)
class Done:
    """An image that is prepared: what the index keeps of it, and its points (N, 2)."""

    record: dict[str, Any]
    points: np.ndarray


class Store:
    """A split's prepared files, by image.

    Parameters
    ----------
    folder : `<prepared root>/<name>/<split>`; made if it is not there
    dataset : what is prepared; its sizes decide whether older files still serve

    Attributes
    ----------
    done : what is prepared already, by the image's name
    meta : the index's description, None if there is no index that serves
    """

    def __init__(self, folder: Path, dataset: Dataset) -> None:
        self.folder = folder
        self.settings = {"least_side": dataset.least_side, "longest_side": dataset.longest_side}
        self.meta: dict[str, Any] | None = None
        self.done: dict[str, Done] = {}
        self._journal: BinaryIO | None = None
        folder.mkdir(parents=True, exist_ok=True)
        try:
            meta, points, starts, _ = load_index(folder)
        except (FileNotFoundError, ValueError):
            self._read_journals()
            return
        if meta["settings"] == self.settings:
            self.meta = meta
            for number, record in enumerate(meta["records"]):
                part = points[starts[number] : starts[number + 1]]
                self.done[record["name"]] = Done(record, part)

    def is_fresh(self, source: Source) -> bool:
        """Whether the prepared image is there, and its source as it was."""
        item = self.done.get(source.name)
        if item is None or item.record["stamp"] != source.stamp():
            return False
        height, width = item.record["size"]
        try:
            return image_path(self.folder, source.name).stat().st_size > height * width * 3
        except FileNotFoundError:
            return False

    def begin(self, keep: set[str]) -> None:
        """Forget all images but those in ``keep``, and put a journal in the index's place."""
        self.done = {name: item for name, item in self.done.items() if name in keep}
        old = list(self.folder.glob(JOURNAL))
        path = self.folder / JOURNAL.replace("*", f"{os.getpid()}-{time.time_ns()}")
        self._journal = open(path, "ab")  # noqa: SIM115 - closed by `finish` or `close`
        for item in self.done.values():
            self._note(item)
        self.meta = None
        for stale in [self.folder / INDEX, *old]:
            stale.unlink(missing_ok=True)
        for part in self.folder.rglob("*.part"):  # of a killed run; a running one's are younger
            with contextlib.suppress(FileNotFoundError):
                if part.stat().st_mtime < time.time() - 3600:
                    part.unlink()

    def add(self, item: Done) -> None:
        """Note an image whose pixels are written."""
        self.done[item.record["name"]] = item
        self._note(item)

    def close(self) -> None:
        """Close the journal; it stays, and the next preparation goes on from it."""
        if self._journal is not None:
            self._journal.close()
            self._journal = None

    def finish(
        self, sources: Sequence[Source], bad: Sequence[Problem], facts: dict[str, Any]
    ) -> None:
        """Write the index of ``sources`` (all but the bad), and remove other images' files.

        ``facts`` goes into the index as it is.
        """
        self.close()
        items = [self.done[source.name] for source in sources if source.name in self.done]
        records = [item.record for item in items]
        meta = {
            **facts,
            "names": [record["name"] for record in records],
            "digest": digest_of(items),
            "settings": self.settings,
            "records": records,
            "bad": [
                {"name": source.name, "stamp": source.stamp(), "problem": text}
                for source, text in sorted(bad, key=lambda item: natural(item[0].name))
            ],
        }
        points, sizes = [item.points for item in items], [record["size"] for record in records]
        save_index(self.folder, meta, points, sizes)
        keep = {image_path(self.folder, name) for name in meta["names"]}
        for path in [*self.folder.rglob("*.npy"), *self.folder.glob(JOURNAL)]:
            if path not in keep:
                path.unlink(missing_ok=True)

    def _note(self, item: Done) -> None:
        line = {"settings": self.settings, "record": item.record, "points": item.points.tolist()}
        self._journal.write(json.dumps(line).encode() + b"\n")
        self._journal.flush()

    def _read_journals(self) -> None:
        for path in sorted(self.folder.glob(JOURNAL), key=lambda path: path.stat().st_mtime):
            for line in path.read_bytes().splitlines():
                try:
                    note = json.loads(line)
                except ValueError:  # the last line of a killed run
                    continue
                if note["settings"] == self.settings:
                    points = np.array(note["points"], dtype=np.float64).reshape(-1, 2)
                    self.done[note["record"]["name"]] = Done(note["record"], points)


def digest_of(items: Sequence[Done]) -> str:
    """sha256 in hex over the names, source files and prepared points of a split."""
    digest = hashlib.sha256()
    for item in items:
        digest.update(item.record["name"].encode())
        digest.update(bytes.fromhex(item.record["sha256"]))
        digest.update(np.ascontiguousarray(item.points).tobytes())
    return digest.hexdigest()


def write_array(path: Path, array: np.ndarray) -> None:
    """Store ``array`` as .npy, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        with open(part, "wb") as file:
            np.save(file, array)
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)
