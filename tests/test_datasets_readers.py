"""The published layouts, in their spellings; and what is said of what is not there."""

from __future__ import annotations

import pickle
from pathlib import Path

import fake_datasets as fake
import numpy as np
import pytest
from PIL import Image

from ebclib.config import one_of
from ebclib.data import DATASETS, describe, read


@pytest.mark.parametrize("part", ["part_A", "part_A_final", "PART_A"])
@pytest.mark.parametrize("truths", ["ground-truth", "ground_truth"])
@pytest.mark.parametrize("above", ["ShanghaiTech", "ShanghaiTech_Crowd_Counting_Dataset", "."])
def test_shanghaitech_in_every_spelling(tmp_path: Path, part: str, truths: str, above: str):
    fake.shanghaitech(tmp_path, part, truths, above)
    train = read("sha", "train", root=tmp_path)
    assert train.names == ["IMG_1", "IMG_2", "IMG_3"]
    assert [len(sample.points) for sample in train] == [1, 2, 3]
    assert train[0].image.shape == (24, 32, 3) and train[0].points.tolist() == [[1.5, 2.5]]
    assert len(read("sha", "test", root=tmp_path)) == 2


def test_the_parts_of_shanghaitech_are_not_mixed(tmp_path: Path):
    fake.shanghaitech(tmp_path, "part_B")
    assert len(read("shb", "train", root=tmp_path)) == 3
    with pytest.raises(FileNotFoundError, match="ShanghaiTech A"):
        read("sha", "train", root=tmp_path)


@pytest.mark.parametrize("above", ["UCF-QNRF_ECCV18", "UCF-QNRF", "qnrf", "QNRF"])
def test_qnrf(tmp_path: Path, above: str):
    fake.qnrf(tmp_path, above)
    sample = read("qnrf", "test", root=tmp_path)[0]
    assert sample.name == "img_0001" and sample.points.tolist() == [[3, 4], [5, 6]]


@pytest.mark.parametrize("above", ["NWPU-Crowd", "nwpu", "NWPU-Crowd/NWPU-Crowd"])
def test_nwpu(tmp_path: Path, above: str):
    fake.nwpu(tmp_path, above)
    train = read("nwpu", "train", root=tmp_path)
    assert train.names == ["0001", "0002"] and train.is_labelled
    assert [len(sample.points) for sample in train] == [0, 1]
    assert len(read("nwpu", "val", root=tmp_path)[0].points) == 2


def test_nwpu_test_has_no_labels(tmp_path: Path):
    fake.nwpu(tmp_path)
    test = read("nwpu", "test", root=tmp_path)
    assert not test.is_labelled and test[0].points.shape == (0, 2)
    assert test[0].image.shape == (24, 32, 3)


@pytest.mark.parametrize("above", ["jhu_crowd_v2.0", "jhu"])
def test_jhu(tmp_path: Path, above: str):
    fake.jhu(tmp_path, above)
    for split in ("train", "val", "test"):
        assert read("jhu", split, root=tmp_path)[0].points.tolist() == [[7, 8], [9, 10]]


def test_synthetic_is_a_split_like_the_others():
    split = read("synthetic", "val")
    sample = split[0]
    assert sample.name == split.names[0] and sample.image.dtype == np.uint8
    assert sample.points.shape == (len(sample.points), 2)


def test_a_split_is_a_sequence_and_can_be_pickled(tmp_path: Path):
    fake.shanghaitech(tmp_path)
    train = pickle.loads(pickle.dumps(read("sha", "train", root=tmp_path)))
    assert [sample.name for sample in train[1:]] == ["IMG_2", "IMG_3"]
    assert train[-1].name == "IMG_3"
    with pytest.raises(IndexError):
        train[3]


def test_names_are_in_natural_order_and_hidden_files_are_not_read(tmp_path: Path):
    images = fake.shanghaitech(tmp_path) / "train_data" / "images"
    fake.save_image(images / "IMG_10.jpg")
    fake.save_shanghaitech_mat(images.parent / "ground-truth/GT_IMG_10.mat", [])
    (images / "._IMG_1.jpg").write_bytes(b"\0\5\x16\7")
    assert read("sha", "train", root=tmp_path).names == ["IMG_1", "IMG_2", "IMG_3", "IMG_10"]


def test_an_annotation_that_is_missing_is_named(tmp_path: Path):
    folder = fake.shanghaitech(tmp_path)
    (folder / "train_data/ground-truth/GT_IMG_2.mat").unlink()
    with pytest.raises(ValueError, match=r"1 of 3 images have no points: images/IMG_2\.jpg"):
        read("sha", "train", root=tmp_path)


def test_an_incomplete_data_set_is_remarked(tmp_path: Path):
    fake.shanghaitech(tmp_path)
    assert read("sha", "train", root=tmp_path).notes == [
        "train: 3 images are there, 300 were published"
    ]


def test_points_outside_are_left_out(tmp_path: Path):
    points = [[0, 0], [31.999, 23.999], [32, 5], [5, 24], [-0.001, 5]]
    fake.shanghaitech(tmp_path, points={"train/IMG_1": points})
    assert read("sha", "train", root=tmp_path)[0].points.tolist() == points[:2]


@pytest.mark.parametrize("along", [False, True])
def test_a_image_turned_by_exif_and_its_points(tmp_path: Path, along: bool):
    """Annotated upright the points stay; annotated on the stored image they are turned along."""
    stored = np.zeros((20, 40, 3), np.uint8)
    stored[4, 35] = 255  # upright (turned clockwise by 90°) it lies in row 35, column 15
    exif = Image.Exif()
    exif[274] = 6
    folder = fake.shanghaitech(tmp_path)
    Image.fromarray(stored).save(folder / "train_data/images/IMG_1.png", exif=exif)
    (folder / "train_data/images/IMG_1.jpg").unlink()
    points = [[35.5, 4.5], [39.0, 0.0]] if along else [[15.5, 35.5], [5.0, 39.0]]
    fake.save_shanghaitech_mat(folder / "train_data/ground-truth/GT_IMG_1.mat", points)
    sample = read("sha", "train", root=tmp_path)[0]
    assert sample.image.shape == (40, 20, 3)
    (x, y), other = sample.points
    assert sample.image[int(y), int(x)].tolist() == [255, 255, 255]
    assert (other < (20, 40)).all()


@pytest.mark.parametrize("name", ["sha", "shb", "qnrf", "nwpu", "jhu"])
@pytest.mark.parametrize("above", ["", "not/there"])
def test_what_is_missing_is_said_with_where_to_get_it(tmp_path: Path, name: str, above: str):
    root = tmp_path / above
    with pytest.raises(FileNotFoundError) as caught:
        read(name, "train", root=root)
    text = str(caught.value)
    for part in (str(root), "http", "train", "EBC_DATA", "synthetic", DATASETS[name].title):
        assert part in text


@pytest.mark.parametrize(
    ("name", "make", "gone"),
    [
        ("sha", fake.shanghaitech, "test_data"),
        ("sha", fake.shanghaitech, "test_data/ground-truth"),
        ("qnrf", fake.qnrf, "Test"),
        ("nwpu", fake.nwpu, "test.txt"),
        ("nwpu", fake.nwpu, "images_part4/0004.jpg"),
        ("jhu", fake.jhu, "test/images"),
        ("jhu", fake.jhu, "test/images/0001.jpg"),
    ],
)
def test_a_part_that_is_missing_is_named(tmp_path: Path, name: str, make, gone: str):
    path = make(tmp_path) / gone
    path.rename(tmp_path / "away")
    with pytest.raises((FileNotFoundError, ValueError)) as caught:
        read(name, "test", root=tmp_path)
    assert path.name in str(caught.value) or "test" in str(caught.value)
    assert len(read(name, "train", root=tmp_path)) > 0


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("shaa", "Did you mean 'sha'"),
        ("bird", "Did you mean 'birds'"),
        ("../birds", "Did you mean 'birds'"),
        ("whatever", "points.csv"),
        ("", "Choose from"),
    ],
)
def test_an_unknown_name(tmp_path: Path, name: str, hint: str):
    (tmp_path / "birds").mkdir()
    with pytest.raises(ValueError, match="is not known") as caught:
        read(name, "train", root=tmp_path)
    assert hint in str(caught.value)


def test_an_unknown_split():
    with pytest.raises(ValueError, match=r"'trian' is not known\. Did you mean 'train'"):
        read("qnrf", "trian")


def test_every_description_is_whole():
    for row in DATASETS.values():
        assert one_of("split", row.test_split, row.splits) not in row.unlabelled
        assert row.title and row.source and row.terms
        assert describe(row.name) is row


def test_several_data_sets_are_one(tmp_path: Path):
    fake.shanghaitech(tmp_path, "part_A")
    fake.shanghaitech(tmp_path, "part_B", points={"test/IMG_2": [[3, 4]]})
    about, both = describe("sha+shb"), read("sha+shb", "test", tmp_path)
    parts = [read(name, "test", tmp_path) for name in ("sha", "shb")]
    assert about.title == "ShanghaiTech A + ShanghaiTech B"
    assert list(about.splits) == ["train", "test"] and about.test_split == "test"
    assert both.names == ["sha_IMG_1", "sha_IMG_2", "shb_IMG_1", "shb_IMG_2"]
    for sample, own in zip(both, [*parts[0], *parts[1]], strict=True):
        assert np.array_equal(sample.image, own.image)
        assert np.array_equal(sample.points, own.points)
    assert len(both.notes) == 2 and both.is_labelled


def test_a_folder_whose_name_holds_a_plus_is_itself(tmp_path: Path):
    for seed, split in enumerate(("train", "test")):
        fake.save_image(tmp_path / "a+b" / split / "one.jpg", seed)
        (tmp_path / "a+b" / split / "points.csv").write_text("image,x,y\none.jpg,3,4\n")
    assert describe("a+b", tmp_path).name == "a+b"
    assert read("a+b", "train", tmp_path).names == ["one"]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("sha+sha", "each once"),
        ("sha+synthetic", "that lie in files"),
        ("sha+qnrf", "sides differs"),
        ("sha+sbh", "Did you mean 'shb'"),
        ("sha+", "is not known"),
    ],
)
def test_data_sets_that_cannot_be_one(tmp_path: Path, name: str, text: str):
    with pytest.raises(ValueError, match=text):
        describe(name, tmp_path)
