"""The published layouts: one function for each, folder and split in, entries out."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

from ebclib.data.annotations import read_jhu, read_mat
from ebclib.data.catalogue import SHANGHAITECH, Dataset, missing
from ebclib.data.images import SUFFIXES
from ebclib.data.sample import Entry, natural

_read_image_info = partial(read_mat, keys=("image_info",))
_read_ann_points = partial(read_mat, keys=("annPoints",))


def shanghaitech(dataset: Dataset, root: Path, split: str) -> list[Entry]:
    """`part_A/train_data/{images/IMG_1.jpg, ground-truth/GT_IMG_1.mat}`, or another spelling."""
    above = [root, *_all(root, SHANGHAITECH)]
    parts = [part for folder in above for part in _all(folder, dataset.folders)]
    if not parts:
        raise missing(dataset, root, root / "ShanghaiTech" / dataset.folders[0], split)
    wanted = parts[0] / f"{split}_data"
    folder = _need(dataset, root, split, wanted, parts[0], (f"{split}_data", split))
    images = _need(dataset, root, split, folder / "images", folder, ("images",))
    truths = _need(
        dataset, root, split, folder / "ground-truth", folder, ("ground-truth", "ground_truth")
    )
    return [
        Entry(path.stem, path, truths / f"GT_{path.stem}.mat", _read_image_info)
        for path in images_in(images)
    ]


def qnrf(dataset: Dataset, root: Path, split: str) -> list[Entry]:
    """`Train/{img_0001.jpg, img_0001_ann.mat}`."""
    base = _base(dataset, root, split)
    folder = _need(dataset, root, split, base / split.title(), base, (split,))
    return [
        Entry(path.stem, path, path.with_name(f"{path.stem}_ann.mat"), _read_ann_points)
        for path in images_in(folder)
    ]


def nwpu(dataset: Dataset, root: Path, split: str) -> list[Entry]:
    """`images_part1…5/0001.jpg`, `mats/0001.mat`, and `train.txt` with an id first on each line."""
    base = _base(dataset, root, split)
    folders = [path for path in _folders(base) if path.name.lower().startswith("images")]
    if not folders:
        raise missing(dataset, root, base / "images_part1", split)
    listing = base / f"{split}.txt"
    if not listing.is_file():
        raise missing(dataset, root, listing, split)
    images = {path.stem: path for folder in folders for path in images_in(folder)}
    labelled = split not in dataset.unlabelled
    entries = []
    for line in listing.read_text(encoding="utf-8").splitlines():
        if not line.strip():
            continue
        name = line.split()[0].removesuffix(".jpg").zfill(4)
        if name not in images:
            raise missing(dataset, root, folders[0].parent / "images_part…" / f"{name}.jpg", split)
        mat = base / "mats" / f"{name}.mat"
        entries.append(Entry(name, images[name], *((mat, _read_ann_points) if labelled else ())))
    return entries


def jhu(dataset: Dataset, root: Path, split: str) -> list[Entry]:
    """`train/{images/0001.jpg, gt/0001.txt}`."""
    base = _base(dataset, root, split)
    folder = _need(dataset, root, split, base / split, base, (split,))
    images = _need(dataset, root, split, folder / "images", folder, ("images",))
    return [
        Entry(path.stem, path, folder / "gt" / f"{path.stem}.txt", read_jhu)
        for path in images_in(images)
    ]


READERS: dict[str, Callable[[Dataset, Path, str], list[Entry]]] = {
    "sha": shanghaitech,
    "shb": shanghaitech,
    "qnrf": qnrf,
    "nwpu": nwpu,
    "jhu": jhu,
}


def published_entries(dataset: Dataset, root: Path, split: str) -> list[Entry]:
    """The entries of a published split, in natural order of their names.

    Raises
    ------
    FileNotFoundError : it is not there; the message says what to do
    """
    entries = READERS[dataset.name](dataset, root, split)
    if not entries:
        raise missing(
            dataset, root, f"images of the split {split!r} (its folder is empty)", split
        )
    return sorted(entries, key=lambda entry: natural(entry.name))


def images_in(folder: Path) -> list[Path]:
    """Image files of one folder, hidden ones left out."""
    return [
        path
        for path in folder.iterdir()
        if path.suffix.lower() in SUFFIXES and not path.name.startswith(".")
    ]


def _folders(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []


def _all(folder: Path, names: Iterable[str]) -> list[Path]:
    """Subfolders of ``folder`` called one of ``names`` in whatever case, in the order of names."""
    found = {path.name.lower(): path for path in _folders(folder)}
    return [found[name.lower()] for name in names if name.lower() in found]


def _base(dataset: Dataset, root: Path, split: str) -> Path:
    found = _all(root, dataset.folders)
    if not found:
        raise missing(dataset, root, root / dataset.folders[0], split)
    inner = _all(found[0], dataset.folders)  # an archive unpacked into a folder of its own name
    return inner[0] if inner else found[0]


def _need(
    dataset: Dataset, root: Path, split: str, wanted: Path, folder: Path, names: Iterable[str]
) -> Path:
    found = _all(folder, names)
    if not found:
        raise missing(dataset, root, wanted, split)
    return found[0]
