"""From a name to its images and points, whoever published them."""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from ebclib.config import data_root
from ebclib.data.catalogue import (
    DATASETS,
    RELEASED_LONGEST,
    Dataset,
    choose_split,
    own_names,
    unknown,
)
from ebclib.data.folder import describe_folder, read_folder
from ebclib.data.readers import published_entries
from ebclib.data.sample import Raw, ReadSplit, Sample, Source


def describe(
    name: str, root: str | Path | None = None, multiples_px: tuple[int, ...] = ()
) -> Dataset:
    """What the data set ``name`` is: a row of `DATASETS`, or what a folder's `dataset.yaml` says.

    With ``multiples_px`` its images are prepared as the released code does (`Config.multiples_px`).

    Raises
    ------
    ValueError : neither a published data set nor a folder below the data root; names the nearest
    """
    if multiples_px:
        own = describe(name, root)
        longest_side = own.longest_side or RELEASED_LONGEST
        return replace(own, longest_side=longest_side, multiples_px=multiples_px)
    if name in DATASETS:
        return DATASETS[name]
    base = _root(root)
    if name not in own_names(base):
        raise unknown(name, base)
    return describe_folder(base / name)


def locate(data: str | Path) -> tuple[str, Path | None]:
    """Name and root of what somebody calls a data set: a known name, or the path of a folder.

    Returns
    -------
    name, root : as `read` and `prepared` take them; root is None for a name

    Raises
    ------
    FileNotFoundError : a path where there is no folder

    >>> locate("sha")
    ('sha', None)
    """
    name, path = str(data), Path(data).expanduser()
    if name in DATASETS or name in own_names(data_root()):
        return name, None
    if path.is_dir():
        path = path.resolve()
        return path.name, None if path.parent == data_root() else path.parent
    if len(path.parts) > 1:
        raise FileNotFoundError(f"There is no folder {path}. Give one, or a data set's name.")
    return name, None


def read(name: str, split: str, root: str | Path | None = None) -> Sequence[Sample]:
    """A split as published; images are decoded when asked for, at their own size.

    Parameters
    ----------
    name : sha, shb, qnrf, nwpu, jhu, synthetic, synthetic_small, or a folder below the data root
    split : train, test, and val where there is one
    root : the data root; None: `ebclib.config.data_root`

    Raises
    ------
    FileNotFoundError : not there; says what is missing, where to get it, the layout expected
    ValueError : an unknown data set or split (names the nearest), or a file that makes no sense
    """
    dataset = describe(name, root)
    choose_split(dataset, split)
    if dataset.is_drawn:
        return _drawn(name, split)
    if name not in DATASETS:
        return read_folder(_root(root) / name, split)
    entries = published_entries(dataset, _root(root), split)
    published = dataset.splits[split]
    notes = []
    if published not in (None, len(entries)):
        notes.append(f"{split}: {len(entries)} images are there, {published} were published")
    return ReadSplit(entries, split not in dataset.unlabelled, dataset.noun, notes)


def sources(split: Sequence[Sample], name: str) -> list[Source]:
    """Where the samples of a split that `read` gave come from, for `prepare`."""
    if isinstance(split, ReadSplit):
        return list(split.entries)
    first_size = cache(lambda: split[0].image.shape[:2])
    code = _code_of(split)
    return [
        DrawnSource(image, split, index, f"{name} {code}", first_size)
        for index, image in enumerate(split.names)
    ]


@dataclass(frozen=True)
class DrawnSource:
    """A source that is drawn, not read; its stamp is the code that draws it."""

    name: str
    split: Sequence[Sample]
    index: int
    code: str
    first_size: Callable[[], tuple[int, int]]

    def stamp(self) -> str:
        """The code's hash."""
        return self.code

    def size(self) -> tuple[int, int]:
        """(H, W) of the split's first image: an estimate."""
        return self.first_size()

    def read(self) -> Raw:
        """The image, drawn, and its points."""
        sample = self.split[self.index]
        digest = hashlib.sha256(sample.image.tobytes()).hexdigest()
        return Raw(sample.image, sample.points, 1, digest)


def _drawn(name: str, split: str) -> Sequence[Sample]:
    from ebclib.synthetic import SyntheticSplit  # it draws `Sample`s: imported late

    return SyntheticSplit(split, series=name)


def _code_of(split: Sequence[Sample]) -> str:
    """A hash of the source code that draws ``split``: of its module, and of those beside it."""
    path = Path(inspect.getfile(type(split)))
    files = sorted(path.parent.glob("*.py")) if path.parent.name == "synthetic" else [path]
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()[:16]


def _root(root: str | Path | None) -> Path:
    return Path(root).expanduser().resolve() if root is not None else data_root()
