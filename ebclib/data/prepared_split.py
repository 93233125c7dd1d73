"""What training reads: raw pixels, so that a crop costs only the crop, and an index of points."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from ebclib.data.sample import Sample
from ebclib.runs import write_whole

FORMAT = 1
"""Version of the files on disk; what another version wrote is prepared again."""

INDEX = "index.npz"


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


def save_index(folder: Path, meta: dict[str, Any], points: Sequence[np.ndarray]) -> None:
    """Write the index of a prepared split, whole or not at all."""
    arrays = {
        "points": np.concatenate([np.empty((0, 2)), *points]),
        "starts": np.cumsum([0, *map(len, points)], dtype=np.int64),
        "sizes": np.array([r["size"] for r in meta["records"]], dtype=np.int64).reshape(-1, 2),
    }
    text = np.array(json.dumps({"format": FORMAT, **meta}))
    _write(folder / INDEX, lambda file: np.savez(file, meta=text, **arrays))


def write_array(path: Path, array: np.ndarray) -> None:
    """Store ``array`` as .npy, whole or not at all."""
    _write(path, lambda file: np.save(file, array))


def _write(path: Path, save: Callable[[BinaryIO], object]) -> None:
    def write(part: Path) -> None:
        with part.open("wb") as file:  # to a name numpy would add an ending of its own
            save(file)

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
