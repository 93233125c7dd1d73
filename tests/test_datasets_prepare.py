"""Preparation: what it writes, what it reports, and that it goes on where it stopped."""

from __future__ import annotations

import json
import os
import pickle
import shutil
from collections import namedtuple
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import fake_datasets as fake
import numpy as np
import pytest
from PIL import Image

import ebclib.data.preparation as module
from ebclib.data import PreparedSplit, format_report, prepare, prepared, read, shared_images
from ebclib.data.preparation import NEAR_BITS, image_hash, near_pairs
from ebclib.data.splits import INDEX


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A data root with a tiny ShanghaiTech A."""
    fake.shanghaitech(tmp_path / "data")
    return tmp_path / "data"


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the images that are really prepared, as they are."""
    names, real = [], module.prepare_image
    monkeypatch.setattr(
        module, "prepare_image", lambda s, *rest: (names.append(s.name), real(s, *rest))[1]
    )
    return names


def images(root: Path, split: str = "train") -> Path:
    return root / "ShanghaiTech/part_A" / f"{split}_data/images"


def run(root: Path, out: Path, **options) -> dict:
    return prepare("sha", root=root, out=out, progress=False, **options)


def open_split(root: Path, out: Path, split: str = "train") -> PreparedSplit:
    return prepared("sha", split, root=root, out=out, progress=False)


def test_a_prepared_split_is_the_published_one_scaled(root: Path, out: Path):
    train, source = open_split(root, out), read("sha", "train", root=root)
    assert train.names == source.names and len(train) == 3
    assert train.counts.tolist() == [1, 2, 3] and train.sizes == [(448, 597)] * 3
    assert train.noun == ("person", "people") and train.is_labelled
    for sample, original in zip(train, source, strict=True):
        assert sample.image.shape == (448, 597, 3) and sample.image.dtype == np.uint8
        assert sample.points == pytest.approx(original.points * [597 / 32, 448 / 24])
        assert np.array_equal(sample.points, train.points[train.names.index(sample.name)])


def test_images_that_need_no_scaling_keep_every_pixel(root: Path, out: Path):
    fake.save_image(images(root) / "IMG_1.png", 5, 500, 600)
    (images(root) / "IMG_1.jpg").unlink()
    assert np.array_equal(open_split(root, out)[0].image, fake.image(5, 500, 600))


def test_the_report(root: Path, out: Path):
    points = [[31.99, 23.99], [32, 1], [1, -2]]
    fake.save_shanghaitech_mat(
        root / "ShanghaiTech/part_A/train_data/ground-truth/GT_IMG_1.mat", points
    )
    Image.fromarray(fake.image(9)).convert("L").save(images(root) / "IMG_2.jpg")
    fake.save_image(images(root) / "IMG_3.jpg", 30, 460, 470)
    report = run(root, out)
    train, test = report["splits"]["train"], report["splits"]["test"]
    assert (train["images"], train["points"]) == (3, 6)
    assert (train["least"], train["mean"], train["most"]) == (1, 2.0, 3)
    assert train["outside"] == 2 and train["outside_images"] == {"IMG_1": 2}
    assert (train["greyscale"], train["resized"], train["exif_turned"]) == (1, 2, 0)
    assert test["points"] == 3 and test["unreadable"] == []
    assert json.loads((out / "sha" / "report.json").read_text()) == report
    text = format_report(report)
    assert "near-duplicates across splits: none" in text and "300 were published" in text
    assert all(len(line) <= 100 for line in text.splitlines())


def test_exif_is_in_the_report(root: Path, out: Path):
    exif = Image.Exif()
    exif[274] = 6
    for name, point in (("IMG_1", [30, 2]), ("IMG_2", [2, 30])):
        Image.fromarray(fake.image(7)).save(images(root) / f"{name}.jpg", exif=exif)
        truth = images(root).parent / "ground-truth" / f"GT_{name}.mat"
        fake.save_shanghaitech_mat(truth, [point])
    train = run(root, out)["splits"]["train"]
    assert (train["exif_turned"], train["points_turned"], train["outside"]) == (2, 1, 0)
    assert open_split(root, out).sizes[0] == (597, 448)


def test_the_second_time_nothing_is_done(root: Path, out: Path, made: list[str]):
    first, digest = run(root, out), open_split(root, out).digest
    assert len(made) == 5
    assert run(root, out) == first and open_split(root, out).digest == digest
    assert len(made) == 5


def test_only_what_changed_is_done_again(root: Path, out: Path, made: list[str]):
    before = open_split(root, out)
    made.clear()
    truth = images(root).parent / "ground-truth" / "GT_IMG_2.mat"
    fake.save_shanghaitech_mat(truth, [[5, 5]])
    fake.save_image(images(root) / "IMG_4.jpg", 77)
    fake.save_shanghaitech_mat(truth.with_name("GT_IMG_4.mat"), [])
    (images(root) / "IMG_3.jpg").unlink()
    after = open_split(root, out)
    assert sorted(made) == ["IMG_2", "IMG_4"]
    assert after.names == ["IMG_1", "IMG_2", "IMG_4"] and after.counts.tolist() == [1, 1, 0]
    assert after.digest != before.digest
    assert not (out / "sha/train/IMG_3.npy").exists()


def test_it_goes_on_where_it_was_stopped(
    root: Path, out: Path, made: list[str], monkeypatch: pytest.MonkeyPatch
):
    digest = open_split(root, out).digest
    shutil.rmtree(out)
    monkeypatch.setattr(module, "ThreadPoolExecutor", lambda _: ThreadPoolExecutor(1))
    real = module.write_array

    def fail_at_third(path: Path, array: np.ndarray) -> None:
        if path.stem == "IMG_3":
            raise KeyboardInterrupt
        real(path, array)

    monkeypatch.setattr(module, "write_array", fail_at_third)
    with pytest.raises(KeyboardInterrupt):
        open_split(root, out)
    with pytest.raises(FileNotFoundError, match=r"prepared in part\. Run `ebc prepare sha`"):
        PreparedSplit(out / "sha/train")
    (out / "sha/train/IMG_3.npy.123.part").touch()  # of a killed run
    monkeypatch.setattr(module, "write_array", real)
    made.clear()
    assert open_split(root, out).digest == digest
    assert made == ["IMG_3"]
    assert sorted(path.name for path in (out / "sha/train").iterdir()) == [
        *(f"IMG_{i}.npy" for i in (1, 2, 3)),
        INDEX,
    ]


def test_a_prepared_file_that_is_gone_is_made_again(root: Path, out: Path, made: list[str]):
    split = open_split(root, out)
    made.clear()
    (out / "sha/train/IMG_2.npy").unlink()
    with pytest.raises(FileNotFoundError, match=r"IMG_2\.npy is gone. Run `ebc prepare sha`"):
        split[1]
    assert open_split(root, out)[1].name == "IMG_2" and made == ["IMG_2"]


def break_two(root: Path) -> None:
    path = images(root) / "IMG_1.jpg"
    path.write_bytes(path.read_bytes()[:-200])
    (images(root) / "IMG_2.jpg").write_text("<html>")


def test_all_unreadable_files_are_named(root: Path, out: Path, made: list[str]):
    break_two(root)
    with pytest.raises(ValueError, match="2 of 3 images cannot be used") as caught:
        run(root, out)
    assert "IMG_1.jpg" in str(caught.value) and "IMG_2.jpg" in str(caught.value)
    assert "--skip-bad" in str(caught.value)
    with pytest.raises(ValueError, match="cannot be used"):
        open_split(root, out)
    assert made.count("IMG_3") == 1


def test_skip_bad_leaves_them_out_and_says_so(root: Path, out: Path):
    break_two(root)
    report = run(root, out, skip_bad=True)
    assert report["splits"]["train"]["images"] == 1
    assert [bad["name"] for bad in report["splits"]["train"]["unreadable"]] == ["IMG_1", "IMG_2"]
    assert "left out of train: " in format_report(report)
    assert open_split(root, out).names == ["IMG_3"]  # known: stays out
    with pytest.raises(ValueError, match="cannot be used"):
        run(root, out)
    fake.save_image(images(root) / "IMG_1.jpg", 1)
    fake.save_image(images(root) / "IMG_2.jpg", 2)
    assert run(root, out)["splits"]["train"]["unreadable"] == []


@pytest.mark.parametrize("split", ["train", "test"])
def test_a_mat_of_another_kind_is_a_bad_file(root: Path, out: Path, split: str):
    import scipy.io

    truth = images(root, split).parent / "ground-truth" / "GT_IMG_1.mat"
    scipy.io.savemat(truth, {"density": np.eye(3)})
    with pytest.raises(ValueError, match=r"GT_IMG_1\.mat: a \.mat of another kind.*'density'"):
        run(root, out)


def test_an_absurd_image_is_refused_before_it_is_decoded(root: Path, out: Path):
    fake.save_image(images(root) / "IMG_1.png", 0, 1, 30000)
    (images(root) / "IMG_1.jpg").unlink()
    with pytest.raises(ValueError, match=r"IMG_1: an image of 30000 x 1 would be"):
        run(root, out)


@pytest.mark.parametrize(("height", "width"), [(20, 20), (30, 1), (1, 1)])
def test_tiny_images(root: Path, out: Path, height: int, width: int):
    fake.save_image(images(root) / "IMG_1.png", 0, height, width)
    (images(root) / "IMG_1.jpg").unlink()
    truth = images(root).parent / "ground-truth" / "GT_IMG_1.mat"
    fake.save_shanghaitech_mat(truth, [[width - 0.001, height - 0.001]])
    split = open_split(root, out)
    assert min(split.sizes[0]) == 448 and split.counts[0] == 1


def test_a_image_of_nobody(root: Path, out: Path):
    fake.save_shanghaitech_mat(images(root).parent / "ground-truth/GT_IMG_2.mat", [])
    split = open_split(root, out)
    assert split.counts.tolist() == [1, 0, 3] and split[1].points.shape == (0, 2)


def test_no_space_on_the_disk(root: Path, out: Path, monkeypatch: pytest.MonkeyPatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(9, 9, 1000))
    with pytest.raises(OSError, match=r"3 images, 0.00 GB to be written .*EBC_PREPARED"):
        run(root, out)


def test_the_space_needed_is_said(root: Path, out: Path, capfd: pytest.CaptureFixture):
    prepare("sha", root=root, out=out)
    printed = capfd.readouterr()
    assert "sha train: 3 images, 0.00 GB ->" in printed.err and printed.out == ""
    prepare("sha", root=root, out=out)
    assert capfd.readouterr().err == ""


def test_near_duplicates_within_and_across(root: Path, out: Path):
    image = Image.fromarray(fake.image(10, 300, 400))
    image.save(images(root) / "IMG_1.jpg", quality=95)
    image.resize((200, 150)).convert("L").save(images(root) / "IMG_3.jpg", quality=60)
    shutil.copy(images(root) / "IMG_1.jpg", images(root, "test") / "IMG_2.jpg")
    pairs = run(root, out)["near_duplicates"]
    found = {
        tuple(
            sorted((side["split"], side["name"]) for side in (pair["first"], pair["second"]))
        ): pair
        for pair in pairs
    }
    one, three, two = ("train", "IMG_1"), ("train", "IMG_3"), ("test", "IMG_2")
    assert set(found) == {(one, three), (two, one), (two, three)}
    assert found[two, one]["identical"] and not found[one, three]["identical"]
    train, test = (prepared("sha", split, root=root, out=out) for split in ("train", "test"))
    assert shared_images(test, train) == {"IMG_2": "IMG_1"}, "the nearest"
    assert shared_images(train, test) == {"IMG_1": "IMG_2", "IMG_3": "IMG_2"}


def test_hashes_are_compared_over_all_pairs():
    hashes = [image_hash(fake.image(seed, 100, 130)) for seed in range(30)]
    assert near_pairs(hashes) == []
    pairs = near_pairs([*hashes, hashes[4]])
    assert pairs == [(0, 4, 30)]
    bits = [bin(int(hashes[0], 16) ^ int(other, 16)).count("1") for other in hashes[1:]]
    assert [b for b, first, _ in near_pairs(hashes, 256) if first == 0] == sorted(bits)
    assert min(bits) > NEAR_BITS
    assert near_pairs([]) == near_pairs(hashes[:1]) == []


def test_unlabelled_splits_are_prepared_too(tmp_path: Path, out: Path):
    fake.nwpu(tmp_path / "data")
    report = prepare("nwpu", root=tmp_path / "data", out=out, progress=False)
    assert report["splits"]["test"]["least"] is None
    test = prepared("nwpu", "test", root=tmp_path / "data", out=out, progress=False)
    assert not test.is_labelled and test.counts.tolist() == [0] and "no labels" in repr(test)
    assert "-" in format_report(report)


def test_synthetic_is_prepared_like_the_others(out: Path, monkeypatch: pytest.MonkeyPatch):
    synthetic = pytest.importorskip("ebclib.synthetic")
    real = synthetic.SyntheticSplit
    monkeypatch.setattr(
        synthetic, "SyntheticSplit", lambda split, series: real(split, size=3, series=series)
    )
    drawn, kept = real("val", size=3), prepared("synthetic", "val", out=out, progress=False)
    for one, other in zip(drawn, kept, strict=True):
        assert one.name == other.name
        assert np.array_equal(one.image, other.image)
        assert np.array_equal(one.points, other.points)


def test_crops_are_copies_of_the_part(root: Path, out: Path):
    split = open_split(root, out)
    crop = split.crop(1, 10, 20, 30, 40)
    assert np.array_equal(crop, split[1].image[10:40, 20:60])
    assert crop.flags["C_CONTIGUOUS"] and crop.flags["WRITEABLE"] and type(crop) is np.ndarray
    assert split.crop(-1, 0, 0, 448, 597).shape == (448, 597, 3)


def test_images_are_read_only_maps(root: Path, out: Path):
    image = open_split(root, out)[0].image
    assert isinstance(image, np.memmap)
    with pytest.raises(ValueError, match="read-only"):
        image[0, 0] = 0


def test_a_split_can_be_pickled_and_leaves_no_file_open(root: Path, out: Path):
    split = pickle.loads(pickle.dumps(open_split(root, out)))
    before = len(os.listdir("/dev/fd"))
    for _ in range(50):
        for index in range(len(split)):
            split.crop(index, 0, 0, 8, 8)
    assert len(os.listdir("/dev/fd")) <= before
    assert [sample.name for sample in split[:2]] == ["IMG_1", "IMG_2"]
    with pytest.raises(IndexError):
        split[3]


def test_what_is_prepared_opens_without_the_source(root: Path, out: Path):
    digest = open_split(root, out).digest
    shutil.rmtree(root)
    assert open_split(root, out).digest == digest
    with pytest.raises(FileNotFoundError, match="Get it:"):
        open_split(root, out, "test")


def test_a_split_that_is_not_prepared(tmp_path: Path):
    with pytest.raises(FileNotFoundError, match=r"not prepared\. Run `ebc prepare sha`"):
        PreparedSplit(tmp_path / "sha" / "train")


def test_another_version_is_an_error_and_prepared_again(
    root: Path, out: Path, monkeypatch: pytest.MonkeyPatch, made: list[str]
):
    folder = open_split(root, out).folder
    made.clear()
    monkeypatch.setattr("ebclib.data.splits.FORMAT", 99)
    with pytest.raises(ValueError, match=r"format 1, this version reads 99\). Run `ebc prep"):
        PreparedSplit(folder)
    assert len(open_split(root, out)) == 3 and len(made) == 3


def test_a_damaged_index_is_an_error_and_prepared_again(root: Path, out: Path):
    split = open_split(root, out)
    path = split.folder / INDEX
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(ValueError, match=r"is damaged .* Run `ebc prepare sha`"):
        PreparedSplit(split.folder)
    assert open_split(root, out).digest == split.digest


def test_the_digest_is_of_sources_and_points(root: Path, out: Path):
    digest = open_split(root, out).digest
    assert len(digest) == 64
    os.utime(images(root) / "IMG_1.jpg")
    assert open_split(root, out).digest == digest
    fake.save_shanghaitech_mat(images(root).parent / "ground-truth/GT_IMG_1.mat", [[1.6, 2.5]])
    assert open_split(root, out).digest != digest


def test_of_many_problems_the_first_are_listed(tmp_path: Path):
    folder = tmp_path / "square"
    for number in range(40):
        fake.save_image(folder / "train" / f"{number}.jpg", number, 8, 8)
        (folder / "train" / f"{number}.csv").write_text(f"x,y\n{number},left\n")
    fake.save_image(folder / "test/a.jpg")
    (folder / "test/a.csv").write_text("x,y\n1,1\n")
    with pytest.raises(ValueError, match="40 of 40 images cannot be used") as caught:
        prepare("square", root=tmp_path, out=tmp_path / "out", progress=False)
    lines = str(caught.value).splitlines()
    assert len(lines) == 23 and "and 20 more" in lines[21]
    assert "0.csv, line 2, column y: 'left'" in lines[1]
    assert "`ebc prepare square --skip-bad`" in lines[22]


def test_two_preparations_at_once_are_one(root: Path, out: Path, made: list[str]):
    with ThreadPoolExecutor(4) as pool:
        splits = list(pool.map(lambda _: open_split(root, out), range(4)))
    assert len({split.digest for split in splits}) == 1 and sorted(made) == splits[0].names


def test_a_preparation_waits_for_another(root: Path, out: Path, made: list[str]):
    with ThreadPoolExecutor(1) as pool, module._lock(out / "sha", False):
        later = pool.submit(open_split, root, out)
        with pytest.raises(TimeoutError):
            later.result(timeout=0.5)
        assert not made


def test_what_is_prepared_opens_where_nothing_can_be_written(root: Path, out: Path, monkeypatch):
    digest = open_split(root, out).digest
    monkeypatch.setattr(module, "_lock", lambda *_: pytest.fail("a lock is a file"))
    assert open_split(root, out).digest == digest


def test_a_run_is_not_resumed_on_other_labels(root: Path, out: Path, tmp_path: Path):
    from ebclib.runs import Run, write_json
    from ebclib.training import running

    run, split = Run(tmp_path / "run"), open_split(root, out)
    run.path.mkdir()
    began = {"data_sha256": split.digest, **running._size(split)}
    write_json(run.path / "provenance.json", began)
    running._same_data(run, split)
    truth = images(root).parent / "ground-truth/GT_IMG_1.mat"
    fake.save_shanghaitech_mat(truth, [[1.6, 2.5]])
    with pytest.raises(ValueError, match=r"sha train changed since run 'run' began: .* moved"):
        running._same_data(run, open_split(root, out))
    fake.save_shanghaitech_mat(truth, [[1.5, 2.5]] * 4)
    with pytest.raises(ValueError, match=r"training points were 6, now 9\. .*--replace"):
        running._same_data(run, open_split(root, out))
    write_json(run.path / "provenance.json", {"data_sha256": began["data_sha256"]})
    with pytest.raises(ValueError, match="replaced or moved"):
        running._same_data(run, open_split(root, out))
