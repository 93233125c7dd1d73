"""What training reads, raw pixels and an index of points; and the same folder while it is prepared."""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from ebclib.data.catalogue import Dataset
from ebclib.data.sample import Sample, Source, natural
from ebclib.runs import write_whole

FORMAT = 1
"""Version of the files on disk; what another version wrote is prepared again."""

INDEX = "index.npz"

JOURNAL = "journal.jsonl"
"""What an unfinished preparation has done so far, an image a line; gone once there is an index."""


class Index(NamedTuple):
    """A prepared split's index: its description, and of P images the points, one after the other."""

    meta: dict[str, Any]
    points: np.ndarray  # (ΣN, 2)
    starts: np.ndarray  # (P + 1,)
    sizes: np.ndarray  # (P, 2)


class PreparedSplit(Sequence[Sample]):
    """A prepared split, opened in milliseconds.

    A sample's image is a read-only memory map: slicing it reads only the slice. Nothing stays
    open between two accesses, so a split can be pickled and handed to worker processes.

    Parameters
    ----------
    folder : where `prepare` wrote it, `<prepared root>/<name>/<split>`

    Attributes
    ----------
    names : the images' names
    points : a float64 array (N, 2) for each image, x and y in prepared pixels
    sizes : (H, W) of each image
    source_sizes : (H, W) of each image before it was resized, upright
    counts : int64 array, the points of each image
    hashes : the perceptual hash of each image (`report.image_hash`)
    digest : sha256 in hex over the source files and the prepared points
    noun : what is counted, (singular, plural)
    is_labelled : False where there are no labels (`points` are then empty)
    dataset, split : what it was prepared from

    Raises
    ------
    FileNotFoundError : not prepared
    ValueError : prepared by another version, or damaged
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        meta, points, starts, sizes = load_index(self.folder)
        self.dataset: str = meta["dataset"]
        self.split: str = meta["split"]
        self.names: list[str] = meta["names"]
        self.digest: str = meta["digest"]
        self.noun: tuple[str, str] = tuple(meta["noun"])
        self.is_labelled: bool = meta["is_labelled"]
        self.points: list[np.ndarray] = np.split(points, starts[1:-1]) if self.names else []
        self.sizes: list[tuple[int, int]] = [(int(h), int(w)) for h, w in sizes]
        self.source_sizes: list[tuple[int, int]] = [
            tuple(record["source_size"]) for record in meta["records"]
        ]
        self.counts: np.ndarray = np.diff(starts)
        self.hashes: list[str] = [record["hash"] for record in meta["records"]]

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int | slice) -> Sample | list[Sample]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        return Sample(self.image(index), self.points[index].copy(), self.names[index])

    def image(self, index: int) -> np.ndarray:
        """Read-only memory map (H, W, 3), uint8, RGB.

        Raises
        ------
        FileNotFoundError : the file was removed since
        """
        path = image_path(self.folder, self.names[index])
        try:
            return np.load(path, mmap_mode="r")
        except FileNotFoundError:
            raise FileNotFoundError(f"{path} is gone. Run `ebc prepare {self.dataset}`.") from None

    def crop(self, index: int, top: int, left: int, height: int, width: int) -> np.ndarray:
        """A copy (height, width, 3) of a part of an image; only that part is read.

        Raises
        ------
        ValueError : the crop is empty, or not wholly inside the image
        """
        full_height, full_width = self.sizes[index]
        down = 0 <= top < top + height <= full_height
        across = 0 <= left < left + width <= full_width
        if not (down and across):
            raise ValueError(
                f"crop of {height} rows from {top} and {width} columns from {left} of "
                f"{self.names[index]!r}, which has {full_height} rows and {full_width} columns: it "
                "must be at least one pixel and lie inside."
            )
        return np.array(self.image(index)[top : top + height, left : left + width])

    def __repr__(self) -> str:
        plural = self.noun[1] if self.is_labelled else "no labels"
        count = f"{int(self.counts.sum())} " if self.is_labelled else ""
        return f"<{self.dataset} {self.split}: {len(self)} images, {count}{plural}>"


def image_path(folder: Path, name: str) -> Path:
    """Where the pixels of the image ``name`` lie in a prepared split's folder."""
    return folder / f"{name}.npy"


def load_index(folder: Path) -> Index:
    """The index of a prepared split.

    Raises
    ------
    FileNotFoundError, ValueError : as `PreparedSplit`
    """
    path = folder / INDEX
    again = f"Run `ebc prepare {folder.parent.name}` again."
    if not path.is_file():
        raise FileNotFoundError(f"{path} is not there: this split is not prepared. {again}")
    try:
        with open(path, "rb") as file, np.load(file, allow_pickle=False) as index:
            meta = json.loads(str(index["meta"]))
            version = meta.get("format")
            if version == FORMAT:
                return Index(meta, index["points"], index["starts"], index["sizes"])
    except (zipfile.BadZipFile, KeyError, EOFError, OSError, ValueError) as problem:
        raise ValueError(f"{path} is damaged ({problem}). {again}") from problem
    raise ValueError(f"{path} has format {version}; this version reads format {FORMAT}. {again}")


def write_array(path: Path, array: np.ndarray) -> None:
    """Store ``array`` as .npy, whole or not at all."""

    def write(part: Path) -> None:
        with part.open("wb") as file:  # by its name, numpy would add an ending of its own
            np.save(file, array)

    write_whole(path, write)


def hold_out(
    counts: Sequence[int] | np.ndarray, fraction: float = 0.1, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Split images into training and validation ones, alike in how many people they show.

    The images are sorted by count and cut into as many equal groups as are to be kept for validation;
    one is drawn from each.

    Parameters
    ----------
    counts : people of each image, (n,)
    fraction : part to hold out; at least one image is, and one is left
    seed : of the draw

    Returns
    -------
    train, held : int64 indices in ascending order; disjoint, together all of 0..n-1

    Raises
    ------
    ValueError : fewer than 2 images, or a fraction outside (0, 1)
    """
    counts = np.asarray(counts)
    if counts.ndim != 1 or len(counts) < 2:
        raise ValueError(
            f"hold_out was given counts of shape {counts.shape}; one row of at least 2 images is "
            "expected: one to train on and one to hold out."
        )
    if not 0 < fraction < 1:
        raise ValueError(f"fraction is {fraction}; it must lie between 0 and 1, as 0.1 does.")
    number = min(len(counts) - 1, max(1, round(len(counts) * fraction)))
    rng = np.random.default_rng(seed)
    order = np.argsort(counts, kind="stable")
    held = np.sort([rng.choice(group) for group in np.array_split(order, number)])
    return np.setdiff1d(np.arange(len(counts)), held), held


class Done(NamedTuple):
    """An image that is prepared: what the index keeps of it, and its points (N, 2)."""

    record: dict[str, Any]
    points: np.ndarray


Problem = tuple[Source, str]
"""A source that cannot be used, and why."""


class Store:
    """The folder of a split while it is prepared; files made for other sizes of images do not serve.

    ``done`` is what is prepared already, by the image's name; ``meta`` the index's description, None if
    there is no index that serves.
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
            self._read_journal()
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
        lines = [self._line(item) for item in self.done.values()]
        path = self.folder / JOURNAL
        write_whole(path, lambda part: part.write_bytes(b"".join(lines)))
        self._journal = open(path, "ab")  # noqa: SIM115 - closed by `finish` or `close`
        self.meta = None
        for stale in [self.folder / INDEX, *self.folder.rglob("*.part")]:  # of a killed run
            stale.unlink(missing_ok=True)

    def add(self, item: Done) -> None:
        """Note an image whose pixels are written."""
        self.done[item.record["name"]] = item
        self._journal.write(self._line(item))
        self._journal.flush()

    def close(self) -> None:
        """Close the journal; it stays, and the next preparation goes on from it."""
        if self._journal is not None:
            self._journal.close()
            self._journal = None

    def finish(
        self, sources: Sequence[Source], bad: Sequence[Problem], facts: dict[str, Any]
    ) -> None:
        """Write the index of ``sources`` (all but the bad) with ``facts``; other images' files go."""
        self.close()
        items = [self.done[source.name] for source in sources if source.name in self.done]
        digest = hashlib.sha256()  # over the names, source files and prepared points
        for item in items:
            digest.update(item.record["name"].encode())
            digest.update(bytes.fromhex(item.record["sha256"]))
            digest.update(np.ascontiguousarray(item.points).tobytes())
        records = [item.record for item in items]
        meta = {
            "format": FORMAT,
            **facts,
            "names": [record["name"] for record in records],
            "digest": digest.hexdigest(),
            "settings": self.settings,
            "records": records,
            "bad": [
                {"name": source.name, "stamp": source.stamp(), "problem": text}
                for source, text in sorted(bad, key=lambda item: natural(item[0].name))
            ],
        }
        arrays = {
            "points": np.concatenate([np.empty((0, 2)), *(item.points for item in items)]),
            "starts": np.cumsum([0, *(len(item.points) for item in items)], dtype=np.int64),
            "sizes": np.array([r["size"] for r in records], dtype=np.int64).reshape(-1, 2),
        }

        def write(part: Path) -> None:
            with part.open("wb") as file:
                np.savez(file, meta=np.array(json.dumps(meta)), **arrays)

        write_whole(self.folder / INDEX, write)
        keep = {image_path(self.folder, name) for name in meta["names"]}
        for path in {*self.folder.rglob("*.npy"), self.folder / JOURNAL} - keep:
            path.unlink(missing_ok=True)

    def _line(self, item: Done) -> bytes:
        note = {"settings": self.settings, "record": item.record, "points": item.points.tolist()}
        return json.dumps(note).encode() + b"\n"

    def _read_journal(self) -> None:
        with suppress(FileNotFoundError):
            for line in (self.folder / JOURNAL).read_bytes().splitlines():
                with suppress(ValueError):  # the last line of a killed run
                    note = json.loads(line)
                    if note["settings"] == self.settings:
                        points = np.array(note["points"], dtype=np.float64).reshape(-1, 2)
                        self.done[note["record"]["name"]] = Done(note["record"], points)
