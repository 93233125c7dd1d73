"""The data sets: what they hold, where to get them, how they lie on the disk; and reading a split of one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from ebclib.config import data_root, one_of
from ebclib.data.annotations import read_mat
from ebclib.data.folder import describe_folder, read_folder, read_published
from ebclib.data.splits import EVERY, Dataset, Entry, ReadSplit, natural

RELEASED_LONGEST = 4096
"""The released code's longest side where we have none, in pixels."""

_SHANGHAITECH = ("ShanghaiTech", "ShanghaiTech_Crowd_Counting_Dataset")  # above both parts
_RESERVED = {"prepared", "paper", "weights", "models"}  # folders of `data/` that are no data set
_JOINT = "+"  # between the names of data sets that are taken as one
_NO_LICENCE = "published for research, without a licence; ask its authors before any other use"


def _part_of_shanghaitech(name: str, train: int, test: int) -> Dataset:
    part = f"part_{name[-1].upper()}"
    return Dataset(
        name=name,
        title=f"ShanghaiTech {part[-1]}",
        splits={"train": train, "test": test},
        source="https://github.com/desenzhou/ShanghaiTechDataset",
        terms=_NO_LICENCE,
        folders=(part, f"{part}_final", name),
    )


_DRAWN = {"least_side": 1, "source": "nowhere: `ebclib.synthetic` draws it", "terms": "none"}
_DRAWN |= {"is_drawn": True, "division": "each drawn anew"}


DATASETS: dict[str, Dataset] = {
    row.name: row
    for row in (
        _part_of_shanghaitech("sha", 300, 182),
        _part_of_shanghaitech("shb", 400, 316),
        Dataset(
            name="qnrf",
            title="UCF-QNRF",
            splits={"train": 1201, "test": 334},
            longest_side=2048,
            source="https://www.crcv.ucf.edu/research/data-sets/ucf-qnrf/",
            terms=_NO_LICENCE,
            folders=("UCF-QNRF_ECCV18", "UCF-QNRF", "UCF_QNRF", "qnrf"),
        ),
        Dataset(
            name="nwpu",
            title="NWPU-Crowd",
            splits={"train": 3109, "val": 500, "test": 1500},
            test_split="val",
            unlabelled=("test",),
            longest_side=3072,
            source="https://www.crowdbenchmark.com/nwpucrowd.html",
            terms="for academic research, see its site; the test split's points are kept back",
            folders=("NWPU-Crowd", "NWPU_Crowd", "NWPU"),
        ),
        Dataset(
            name="jhu",
            title="JHU-Crowd++",
            splits={"train": 2272, "val": 500, "test": 1600},
            longest_side=2048,
            source="http://www.crowd-counting.com",
            terms="for research, see its site",
            folders=("jhu_crowd_v2.0", "JHU-Crowd++", "jhu"),
        ),
        Dataset("synthetic", "Drawn crowds", dict.fromkeys(("train", "val", "test")), **_DRAWN),
        Dataset(
            "synthetic_small", "Small drawn crowds", dict.fromkeys(("train", "test")), **_DRAWN
        ),
    )
}
"""The data sets this library knows by name; any other name is a folder of somebody's own."""


def describe(
    name: str, root: str | Path | None = None, multiples_px: tuple[int, ...] = ()
) -> Dataset:
    """What the data set ``name`` is: a row of `DATASETS`, or what a folder's `dataset.yaml` says.

    ``a+b`` are the images of both data sets. With ``multiples_px`` its images are prepared as the
    released code does (`Config.multiples_px`). ValueError for an unknown name.
    """
    if multiples_px:
        own = describe(name, root)
        longest_side = own.longest_side or RELEASED_LONGEST
        return replace(own, longest_side=longest_side, multiples_px=multiples_px)
    if name in DATASETS:
        return DATASETS[name]
    base = resolved(root, data_root)
    if name in own_names(base):
        return describe_folder(base / name)
    if _JOINT in name:
        return _describe_several(name, root)
    try:
        one_of("Data set", name, [*DATASETS, *own_names(base)])
    except ValueError as problem:
        raise ValueError(
            f"{problem} Images of your own go into {base / name}/train and test, with a points.csv "
            "(image,x,y) in each; $EBC_DATA sets the folder above, `data/README.md` has an example."
        ) from None


def _describe_several(name: str, root: str | Path | None) -> Dataset:
    """Several data sets as one: the splits that all of them have with points."""
    first, *_ = parts = [describe(part, root) for part in name.split(_JOINT)]
    if len({part.name for part in parts}) < len(parts) or any(part.is_drawn for part in parts):
        raise ValueError(f"{name!r}: name data sets that lie in files, each once.")
    for what in ("noun", "sides", "test_split"):
        theirs = [getattr(part, what) for part in parts]
        if theirs != theirs[:1] * len(parts):
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
    """Name and root, as `read` takes them, of a known name (root None) or the path of a folder.

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


def read(name: str, split: str, root: str | Path | None = None) -> ReadSplit:
    """A split as published; images are decoded when asked for, at their own size.

    Parameters
    ----------
    name : a key of `DATASETS`, a folder below the data root, or several of these as in sha+shb
    split : train, test, and val where there is one
    root : the data root; None: `ebclib.config.data_root`

    Raises
    ------
    FileNotFoundError : not there; says what is missing and where to get it
    ValueError : an unknown data set or split, or a file that makes no sense
    """
    dataset, base = describe(name, root), resolved(root, data_root)
    if not (split == EVERY and dataset.is_divided):
        one_of(f"split of {name}", split, dataset.splits)
    if dataset.is_drawn:
        from ebclib.synthetic import SyntheticSplit  # it is a `ReadSplit`: imported late

        return SyntheticSplit(split, series=name)
    if name in DATASETS:
        entries = sorted(_published(dataset, base, split), key=lambda entry: natural(entry.name))
        notes, published = [], dataset.splits[split]
        if published != len(entries):
            notes.append(f"{split}: {len(entries)} images are there, {published} were published")
        return ReadSplit(entries, split not in dataset.unlabelled, dataset.noun, notes)
    if name in own_names(base):
        return read_folder(base / name, split)
    entries, notes = [], []
    for part in name.split(_JOINT):
        samples = read(part, split, root)
        entries += [replace(each, name=f"{part}_{each.name}") for each in samples.entries]
        notes += samples.notes
    return ReadSplit(entries, True, dataset.noun, notes)


def _published(dataset: Dataset, root: Path, split: str) -> list[Entry]:
    """The entries of a published split, or the error that says where to get it."""
    above = [root, *_folders(root, (*_SHANGHAITECH, *dataset.folders))]
    found = [base for folder in above for base in _folders(folder, dataset.folders)]
    try:
        if not found:
            is_part = dataset.folders[0].startswith("part_")
            raise FileNotFoundError(
                root / (_SHANGHAITECH[0] if is_part else "") / dataset.folders[0]
            )
        return (_nwpu if dataset.name == "nwpu" else read_published)(found[-1], split)
    except FileNotFoundError as problem:
        raise FileNotFoundError(
            f"{dataset.title} ({dataset.name}, split {split!r}) is not there.\n"
            f"  Missing:    {problem}\n"
            f"  Get it:     {dataset.source} ({dataset.terms})\n"
            f"  Put it in:  {root}/, or set $EBC_DATA to the folder above it; see data/README.md\n"
            f"  The data set `synthetic` needs no files."
        ) from problem


def _nwpu(base: Path, split: str) -> list[Entry]:
    """`images_part1…5/0001.jpg`, `mats/0001.mat`, and `train.txt` with an id first on each line."""
    images = {path.stem: path for path in base.glob("[Ii]mages*/[!.]*.jpg")}
    lines = filter(str.strip, (base / f"{split}.txt").read_text(encoding="utf-8").splitlines())
    names = [line.split()[0].removesuffix(".jpg").zfill(4) for line in lines]
    for name in names:
        if name not in images:
            raise FileNotFoundError(base / "images_part…" / f"{name}.jpg")
    if split in DATASETS["nwpu"].unlabelled:
        return [Entry(name, images[name]) for name in names]
    return [Entry(name, images[name], base / "mats" / f"{name}.mat", read_mat) for name in names]


def _folders(folder: Path, names: Sequence[str]) -> list[Path]:
    """Subfolders called one of ``names`` in whatever case, in the order of names."""
    there = sorted(path for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []
    found = {path.name.lower(): path for path in there}
    return [found[name.lower()] for name in names if name.lower() in found]


def resolved(folder: str | Path | None, default: Callable[[], Path]) -> Path:
    """A folder as somebody gave it, whole; the default where nobody did."""
    return default() if folder is None else Path(folder).expanduser().resolve()


def own_names(root: Path) -> list[str]:
    """Folders below the data root that belong to no published data set."""
    known = {folder.lower() for row in DATASETS.values() for folder in (row.name, *row.folders)}
    known |= {*map(str.lower, _SHANGHAITECH), *_RESERVED}
    folders = sorted(path for path in root.glob("[!.]*") if path.is_dir())
    return [path.name for path in folders if path.name.lower() not in known]
