"""The published data sets: what they hold, where to get them, how they lie on the disk."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from ebclib.config import one_of

LEAST_SIDE = 448
"""The least side of a prepared image, in pixels: a training crop fits into any of them."""

RELEASED_LONGEST = 4096
"""The released code's longest side where we have none, in pixels."""

SHANGHAITECH = ("shanghaitech", "shanghaitech_crowd_counting_dataset")
"""What the folder above both parts of ShanghaiTech may be called, in whatever case."""

RESERVED = frozenset({"prepared", "paper", "weights", "models"})
"""Folders of `data/` that are no data set."""

EVERY = "all"
"""The split that holds every image of an own folder whose images are divided by a draw."""


@dataclass(frozen=True)
class Dataset:
    """What one data set is."""

    name: str  # as given to `read` and on the command line
    title: str  # as written in a paper
    splits: dict[str, int | None]  # images published in each split; None where it is not fixed
    test_split: str = "test"  # the labelled split that results are reported on
    unlabelled: tuple[str, ...] = ()  # splits whose points the publisher keeps
    # a prepared image's longest side in pixels, unless its least side needs more
    longest_side: int | None = None
    least_side: int = LEAST_SIDE  # a prepared image's least side in pixels
    # what prepared sides are rounded to, and then grown to; none, but for released models
    multiples_px: tuple[int, ...] = ()
    noun: tuple[str, str] = ("person", "people")  # what is counted, (singular, plural)
    source: str = ""  # where to get it, and how large it is
    terms: str = ""  # what its publisher says about its use
    folders: tuple[str, ...] = ()  # names its folder may have below the data root
    # the files expected below the data root, as a small tree
    layout: str = field(default="", repr=False)
    is_drawn: bool = False  # `ebclib.synthetic` makes it; it has no files
    # its splits are parts of one heap of images, drawn, and not folders; then there is also the
    # split `EVERY`
    is_divided: bool = False
    # how its splits came to be, a clause for people: "as published", "by its folders", or the parts
    # drawn
    division: str = "as published"
    checks_coordinates: bool = True  # whether `prepare` refuses points that do not look like pixels

    @property
    def sides(self) -> tuple[int, int | None, tuple[int, ...]]:
        """How its images are scaled, as `images.prepared_size` takes it."""
        return self.least_side, self.longest_side, self.multiples_px


_NO_LICENCE = "published for research, without a licence; ask its authors before any other use"


def _shanghaitech(name: str, train: int, test: int) -> Dataset:
    part = f"part_{name[-1].upper()}"
    return Dataset(
        name=name,
        title=f"ShanghaiTech {part[-1]}",
        splits={"train": train, "test": test},
        source="https://github.com/desenzhou/ShanghaiTechDataset (a zip; 172 MB once unpacked)",
        terms=_NO_LICENCE,
        folders=(part, f"{part}_final", name),
        layout=f"""\
ShanghaiTech/
  {part}/                    (or {part}_final)
    train_data/
      images/IMG_1.jpg …
      ground-truth/GT_IMG_1.mat …   (or ground_truth)
    test_data/ …""",
    )


def _drawn(name: str, title: str, *splits: str) -> Dataset:
    return Dataset(
        name=name,
        title=title,
        splits=dict.fromkeys(splits),
        least_side=1,
        source="nowhere: `ebclib.synthetic` draws it",
        terms="none",
        layout="(no files)",
        is_drawn=True,
        division="each drawn anew",
    )


DATASETS: dict[str, Dataset] = {
    row.name: row
    for row in (
        _shanghaitech("sha", 300, 182),
        _shanghaitech("shb", 400, 316),
        Dataset(
            name="qnrf",
            title="UCF-QNRF",
            splits={"train": 1201, "test": 334},
            longest_side=2048,
            source="https://www.crcv.ucf.edu/research/data-sets/ucf-qnrf/ (a zip of several GB)",
            terms=_NO_LICENCE,
            folders=("UCF-QNRF_ECCV18", "UCF-QNRF", "UCF_QNRF", "qnrf"),
            layout="""\
UCF-QNRF_ECCV18/             (or UCF-QNRF, qnrf)
  Train/
    img_0001.jpg, img_0001_ann.mat …
  Test/
    img_0001.jpg, img_0001_ann.mat …""",
        ),
        Dataset(
            name="nwpu",
            title="NWPU-Crowd",
            splits={"train": 3109, "val": 500, "test": 1500},
            test_split="val",
            unlabelled=("test",),
            longest_side=3072,
            source="https://www.crowdbenchmark.com/nwpucrowd.html (several zips, some GB each)",
            terms="for academic research, see its site; the test split's points are kept back",
            folders=("NWPU-Crowd", "NWPU_Crowd", "NWPU"),
            layout="""\
NWPU-Crowd/                  (or nwpu)
  images_part1/0001.jpg …    … images_part5/   (or all in images/)
  mats/0001.mat …
  train.txt, val.txt, test.txt""",
        ),
        Dataset(
            name="jhu",
            title="JHU-Crowd++",
            splits={"train": 2272, "val": 500, "test": 1600},
            longest_side=2048,
            source="http://www.crowd-counting.com (jhu_crowd_v2.0.zip, 2.9 GB)",
            terms="for research, see its site",
            folders=("jhu_crowd_v2.0", "JHU-Crowd++", "jhu"),
            layout="""\
jhu_crowd_v2.0/              (or jhu)
  train/
    images/0001.jpg …
    gt/0001.txt …
    image_labels.txt
  val/ …
  test/ …""",
        ),
        _drawn("synthetic", "Drawn crowds", "train", "val", "test"),
        _drawn("synthetic_small", "Small drawn crowds", "train", "test"),
    )
}
"""The data sets this library knows by name; any other name is a folder of somebody's own."""


def choose_split(dataset: Dataset, split: str) -> str:
    """``split`` if the data set has it; otherwise a ValueError that names the nearest."""
    if split == EVERY and dataset.is_divided:
        return split
    return one_of(f"split of {dataset.name}", split, dataset.splits)


def missing(
    dataset: Dataset, root: Path, looked: Path | str, split: str | None = None
) -> FileNotFoundError:
    """The error for a data set of which ``looked`` is not there: where to get it, how to lay it out."""
    part = f", split {split!r}" if split else ""
    tree = "\n".join(f"    {line}" for line in dataset.layout.splitlines())
    return FileNotFoundError(
        f"{dataset.title} ({dataset.name}{part}) is not there.\n"
        f"  Missing:    {looked}\n"
        f"  Get it:     {dataset.source}\n"
        f"  Terms:      {dataset.terms}\n"
        f"  Put it so:  {root}/\n"
        f"{tree}\n"
        f"  It lies elsewhere? Set $EBC_DATA to the folder above it: export EBC_DATA=/that/folder\n"
        f"  Nothing at hand? The data set `synthetic` needs no files."
    )


def unknown(name: str, root: Path) -> ValueError:
    """The error for a name that is neither a published data set nor a folder of the data root."""
    low, hint = name.lower(), ""
    for row in DATASETS.values():
        if low in (row.name, row.title.lower(), *(folder.lower() for folder in row.folders)):
            hint = f" {row.title} is called {row.name!r}."
    if low in SHANGHAITECH:
        hint = " Its two parts are called 'sha' and 'shb'."
    if hint:
        return ValueError(f"Data set {name!r} is not known.{hint}")
    try:
        one_of("Data set", name, [*DATASETS, *own_names(root)])
    except ValueError as problem:
        text = str(problem)
    return ValueError(
        f"{text}\n"
        f"  To count in images of your own, put them and their points into\n"
        f"    {root / name}/\n"
        f"      train/  image.jpg …  and  points.csv  with the columns image,x,y\n"
        f"      test/   the same\n"
        f"  ($EBC_DATA sets the folder above; `data/README.md` has a worked example.)"
    )


def own_names(root: Path) -> list[str]:
    """Folders below the data root that belong to no published data set."""
    if not root.is_dir():
        return []
    published = {folder.lower() for row in DATASETS.values() for folder in (row.name, *row.folders)}
    published |= {*SHANGHAITECH, *RESERVED}
    return sorted(
        path.name
        for path in root.iterdir()
        if path.is_dir() and not path.name.startswith(".") and path.name.lower() not in published
    )
