"""From a data set's name to its images and points, whoever published them."""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from ebclib.config import data_root
from ebclib.data.annotations import read_jhu, read_mat
from ebclib.data.catalogue import (
    DATASETS,
    RELEASED_LONGEST,
    SHANGHAITECH,
    Dataset,
    choose_split,
    missing,
    own_names,
    unknown,
)
from ebclib.data.folder import describe_folder, read_folder
from ebclib.data.images import SUFFIXES
from ebclib.data.sample import Entry, Raw, ReadSplit, Sample, Source, natural

JOINT = "+"
"""Stands between the names of data sets that are taken as one."""


def describe(
    name: str, root: str | Path | None = None, multiples_px: tuple[int, ...] = ()
) -> Dataset:
    """What the data set ``name`` is: a row of `DATASETS`, or what a folder's `dataset.yaml` says.

    ``a+b`` are the images of both data sets. With ``multiples_px`` its images are prepared as the
    released code does (`Config.multiples_px`).

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
    if name in own_names(base):
        return describe_folder(base / name)
    if JOINT in name:
        return _describe_several(name, root)
    raise unknown(name, base)


def _describe_several(name: str, root: str | Path | None) -> Dataset:
    """Several data sets as one: the splits that all of them have with points."""
    parts = [describe(part, root) for part in name.split(JOINT)]
    first = parts[0]
    if len({part.name for part in parts}) < len(parts) or any(part.is_drawn for part in parts):
        raise ValueError(f"{name!r}: name data sets that lie in files, each once.")
    for what in ("noun", "sides", "test_split"):
        theirs = [getattr(part, what) for part in parts]
        if any(each != theirs[0] for each in theirs):
            raise ValueError(f"{name!r} cannot be one data set: {what} differs, {theirs}.")
    labelled = [set(part.splits) - set(part.unlabelled) for part in parts]
    shared = [split for split in first.splits if all(split in each for each in labelled)]
    sizes = {split: [part.splits[split] for part in parts] for split in shared}
    return replace(
        first,
        name=name,
        title=" + ".join(part.title for part in parts),
        splits={split: None if None in each else sum(each) for split, each in sizes.items()},
        unlabelled=(),
        is_divided=False,
        division="; ".join(dict.fromkeys(part.division for part in parts)),
        checks_coordinates=all(part.checks_coordinates for part in parts),
    )


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
    name : sha, shb, qnrf, nwpu, jhu, synthetic, synthetic_small, a folder below the data root, or
        several of these with + between them, as in sha+shb
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
        from ebclib.synthetic import SyntheticSplit  # it draws `Sample`s: imported late

        return SyntheticSplit(split, series=name)
    if name not in DATASETS and name in own_names(_root(root)):
        return read_folder(_root(root) / name, split)
    if name not in DATASETS:
        return _read_several(name, split, root)
    entries = READERS[name](_Tree(dataset, _root(root), split))
    if not entries:
        nothing = f"images of the split {split!r} (its folder is empty)"
        raise missing(dataset, _root(root), nothing, split)
    entries.sort(key=lambda entry: natural(entry.name))
    published = dataset.splits[split]
    notes = []
    if published != len(entries):
        notes.append(f"{split}: {len(entries)} images are there, {published} were published")
    return ReadSplit(entries, split not in dataset.unlabelled, dataset.noun, notes)


def _read_several(name: str, split: str, root: str | Path | None) -> ReadSplit:
    """The images of all parts of ``name``, each called by its data set and its own name."""
    parts = {part: read(part, split, root) for part in name.split(JOINT)}
    entries = [
        replace(entry, name=f"{part}_{entry.name}")
        for part, samples in parts.items()
        for entry in samples.entries
    ]
    notes = [note for samples in parts.values() for note in samples.notes]
    return ReadSplit(entries, True, describe(name, root).noun, notes)


@dataclass(frozen=True)
class _Tree:
    """The folders of a published split, looked for in whatever case."""

    dataset: Dataset
    root: Path
    split: str

    def base(self) -> Path:
        """The data set's own folder; an archive may be unpacked into a folder of its own name."""
        found = self.need(self.root, *self.dataset.folders)
        return next(iter(_folders(found, self.dataset.folders)), found)

    def need(self, folder: Path, *names: str) -> Path:
        """The first subfolder of ``folder`` called one of ``names``, or the error that it is missing."""
        for found in _folders(folder, names):
            return found
        raise self.missing(folder / names[0])

    def missing(self, path: Path) -> FileNotFoundError:
        """The error for a file or folder that is not there."""
        return missing(self.dataset, self.root, path, self.split)


def _shanghaitech(tree: _Tree) -> list[Entry]:
    """`part_A/train_data/{images/IMG_1.jpg, ground-truth/GT_IMG_1.mat}`, or another spelling."""
    above = [tree.root, *_folders(tree.root, SHANGHAITECH)]
    parts = [part for folder in above for part in _folders(folder, tree.dataset.folders)]
    if not parts:
        raise tree.missing(tree.root / "ShanghaiTech" / tree.dataset.folders[0])
    folder = tree.need(parts[0], f"{tree.split}_data", tree.split)
    points = tree.need(folder, "ground-truth", "ground_truth")
    return [
        Entry(path.stem, path, points / f"GT_{path.stem}.mat", read_mat)
        for path in _images(tree.need(folder, "images"))
    ]


def _qnrf(tree: _Tree) -> list[Entry]:
    """`Train/{img_0001.jpg, img_0001_ann.mat}`."""
    return [
        Entry(path.stem, path, path.with_name(f"{path.stem}_ann.mat"), read_mat)
        for path in _images(tree.need(tree.base(), tree.split.title()))
    ]


def _nwpu(tree: _Tree) -> list[Entry]:
    """`images_part1…5/0001.jpg`, `mats/0001.mat`, and `train.txt` with an id first on each line."""
    base = tree.base()
    folders = [path for path in _folders(base) if path.name.lower().startswith("images")]
    listing = base / f"{tree.split}.txt"
    if not folders or not listing.is_file():
        raise tree.missing(listing if folders else base / "images_part1")
    images = {path.stem: path for folder in folders for path in _images(folder)}
    entries = []
    for line in filter(str.strip, listing.read_text(encoding="utf-8").splitlines()):
        name = line.split()[0].removesuffix(".jpg").zfill(4)
        if name not in images:
            raise tree.missing(base / "images_part…" / f"{name}.jpg")
        points = (base / "mats" / f"{name}.mat", read_mat)
        is_labelled = tree.split not in tree.dataset.unlabelled
        entries.append(Entry(name, images[name], *(points if is_labelled else ())))
    return entries


def _jhu(tree: _Tree) -> list[Entry]:
    """`train/{images/0001.jpg, gt/0001.txt}`."""
    folder = tree.need(tree.base(), tree.split)
    return [
        Entry(path.stem, path, folder / "gt" / f"{path.stem}.txt", read_jhu)
        for path in _images(tree.need(folder, "images"))
    ]


READERS: dict[str, Callable[[_Tree], list[Entry]]] = {
    "sha": _shanghaitech,
    "shb": _shanghaitech,
    "qnrf": _qnrf,
    "nwpu": _nwpu,
    "jhu": _jhu,
}
"""The published layouts: the entries of a split, in any order."""


def _images(folder: Path) -> list[Path]:
    """Image files of one folder, hidden ones left out."""
    return [
        path
        for path in folder.iterdir()
        if path.suffix.lower() in SUFFIXES and not path.name.startswith(".")
    ]


def _folders(folder: Path, names: Iterable[str] | None = None) -> list[Path]:
    """Subfolders: those called one of ``names`` in whatever case, in the order of names, or all."""
    there = sorted(path for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []
    if names is None:
        return there
    found = {path.name.lower(): path for path in there}
    return [found[name.lower()] for name in names if name.lower() in found]


def sources(split: Sequence[Sample], name: str) -> Sequence[Source]:
    """Where the samples of a split that `read` gave come from, for `prepare`."""
    if isinstance(split, ReadSplit):
        return split.entries
    size, code = cache(lambda: split[0].image.shape[:2]), f"{name} {_code_of(split)}"
    return [_Drawn(image, split, index, code, size) for index, image in enumerate(split.names)]


@dataclass(frozen=True)
class _Drawn:
    """A `Source` that is drawn, not read; its stamp is the code that draws it."""

    name: str
    split: Sequence[Sample]
    index: int
    code: str
    size: Callable[[], tuple[int, int]]  # of the split's first image: an estimate

    def stamp(self) -> str:
        return self.code

    def read(self) -> Raw:
        sample = self.split[self.index]
        digest = hashlib.sha256(sample.image.tobytes()).hexdigest()
        return Raw(sample.image, sample.points, 1, digest)


def _code_of(split: Sequence[Sample]) -> str:
    """A hash of the source code that draws ``split``: of its module, and of those beside it."""
    path = Path(inspect.getfile(type(split)))
    files = sorted(path.parent.glob("*.py")) if path.parent.name == "synthetic" else [path]
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()[:16]


def _root(root: str | Path | None) -> Path:
    return Path(root).expanduser().resolve() if root is not None else data_root()
