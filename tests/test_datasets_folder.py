"""A folder of anybody's own: what is understood, and what is said of the rest."""

from __future__ import annotations

import json
import re
from pathlib import Path

import fake_datasets as fake
import pytest
import scipy.io

from ebclib.data import describe, prepare, read


@pytest.fixture
def birds(tmp_path: Path) -> Path:
    """`birds/` with train (a, b) and test (c), without points."""
    folder = tmp_path / "birds"
    for seed, name in enumerate(("train/a.jpg", "train/b.png", "test/c.jpg")):
        fake.save_image(folder / name, seed)
    return folder


def write(path: Path, content: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return path


def points(folder: Path, split: str) -> dict[str, list]:
    samples = read(folder.name, split, root=folder.parent)
    return {sample.name: sample.points.tolist() for sample in samples}


EXPECTED = {"a": [[1, 2], [3, 4.5]], "b": []}


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("train/points.csv", "image,x,y\na.jpg,1,2\na.jpg,3,4.5\nb.png,,\n"),
        (
            "train/points.csv",
            "image,x,y\nsomewhere/else/a.jpg,1,2\nsomewhere/else/a.jpg,3,4.5\nb,,\n",
        ),
        ("train/points.json", {"a.jpg": EXPECTED["a"], "b.png": []}),
        ("points.json", {"train/a.jpg": EXPECTED["a"], "train/b.png": [], "test/c.jpg": []}),
        ("annotations/instances_train.json", {"a.jpg": EXPECTED["a"], "b.png": []}),
        (
            "train/_annotations.coco.json",
            {
                "images": [{"id": 0, "file_name": "a.jpg"}, {"id": 1, "file_name": "b.png"}],
                "annotations": [
                    {"image_id": 0, "category_id": 1, "bbox": [0, 1, 2, 2]},
                    {"image_id": 0, "category_id": 1, "keypoints": [3, 4.5, 2]},
                ],
                "categories": [{"id": 1, "name": "bird"}],
            },
        ),
    ],
)
def test_one_file_for_many_images(birds: Path, name: str, content: object):
    write(birds / name, content)
    assert points(birds, "train") == EXPECTED


@pytest.mark.parametrize("place", ["train", "train/labels"])
@pytest.mark.parametrize("form", ["{}", "GT_{}", "{}_ann"])
def test_a_file_for_each_image(birds: Path, place: str, form: str):
    write(birds / place / f"{form.format('a')}.csv", "x,y\n1,2\n3,4.5\n")
    write(birds / place / f"{form.format('b')}.json", [])
    assert points(birds, "train") == EXPECTED


def test_a_mat_for_each_image(birds: Path):
    scipy.io.savemat(birds / "test" / "c.mat", {"points": [[5.0, 6.0]]})
    assert points(birds, "test") == {"c": [[5, 6]]}


def cclabeler(folder: Path) -> Path:
    """CCLabeler's `data/`: two people in image 1, one of them drawn as a box; 2 is half done."""
    for seed, name in enumerate(("1", "2", "default")):
        fake.save_image(folder / "images" / f"{name}.jpg", seed)
    box = {"sx": 4.0, "sy": 6.0, "ex": 8.0, "ey": 10.0}
    one = {"img_id": "1.jpg", "human_num": 2, "boxes": [box], "points": [{"x": 1.5, "y": 2.0}]}
    two = {"img_id": "2.jpg", "human_num": 1, "boxes": [], "points": [{"x": 3.0, "y": 4.0}]}
    for name, content, marks in (("1", one, [1] * 4), ("2", two, [1, 0, 1, 1])):
        write(folder / "jsons" / f"{name}.json", content)
        write(folder / "marks" / f"{name}.json", marks)
    return folder


def test_a_folder_of_cclabeler_as_it_is(tmp_path: Path):
    folder = cclabeler(tmp_path / "square")
    found = {**points(folder, "train"), **points(folder, "test")}
    assert found == {"1": [[1.5, 2], [6, 8]], "2": [[3, 4]]}
    assert points(folder, "all") == found
    notes = read("square", "all", root=tmp_path).notes
    assert notes == ["all: 1 images not marked as finished: 2"]


def test_folders_of_cclabeler_as_splits(tmp_path: Path):
    for split in ("train", "test"):
        cclabeler(tmp_path / "square" / split)
    assert points(tmp_path / "square", "test")["1"] == [[1.5, 2], [6, 8]]
    bad = {"points": [], "boxes": [dict.fromkeys(("sx", "sy", "ex", "ey"), "left")]}
    write(tmp_path / "square/test/jsons/1.json", bad)
    with pytest.raises(ValueError, match=r"1\.json: an entry"):
        points(tmp_path / "square", "test")


def test_boxes_of_the_points_themselves_add_nobody(tmp_path: Path):
    folder = tmp_path / "nwpu_like"
    fake.save_image(folder / "test" / "1.jpg")
    content = {"img_id": "1.jpg", "human_num": 1, "points": [[5, 6]], "boxes": [[4, 5, 6, 7]]}
    write(folder / "test" / "1.json", content)
    assert points(folder, "test") == {"1": [[5, 6]]}


def test_every_image_of_a_heap_is_a_split_and_of_folders_is_none(tmp_path: Path, birds: Path):
    parts = flat(tmp_path / "cars", 7)
    assert read("cars", "all", root=tmp_path).names == sorted(parts["train"] + parts["test"])
    with pytest.raises(ValueError, match="split of birds 'all' is not known"):
        read("birds", "all", root=birds.parent)


def test_images_in_folders_of_their_own(tmp_path: Path):
    folder = tmp_path / "cars"
    for seed, name in enumerate(("images/day/1.jpg", "images/night/1.jpg")):
        fake.save_image(folder / "train" / name, seed)
        write(folder / "train" / name.replace(".jpg", ".csv"), f"x,y\n{seed},{seed}\n")
    assert points(folder, "all") == {"day/1": [[0, 0]], "night/1": [[1, 1]]}


def test_yaml_says_what_is_counted_and_how(birds: Path):
    write(
        birds / "dataset.yaml",
        "title: Birds of the shore\nnoun: bird\nlongest_side: 1000\nunlabelled: test\n"
        "splits: {train: train, test: test}\n",
    )
    about = describe("birds", birds.parent)
    assert about.title == "Birds of the shore" and about.noun == ("bird", "birds")
    assert about.longest_side == 1000 and list(about.splits) == ["train", "test"]
    test = read("birds", "test", root=birds.parent)
    assert not test.is_labelled and test.noun == ("bird", "birds") and len(test[0].points) == 0


@pytest.mark.parametrize(
    ("noun", "plural"),
    [
        ("goose", "geese"),
        ("sheep", "sheep"),
        ("box", "boxes"),
        ("fly", "flies"),
        ("Vogel", "Vogels"),
    ],
)
def test_a_plural_not_given_is_english(birds: Path, noun: str, plural: str):
    write(birds / "dataset.yaml", f"noun: {noun}\nleast_side: 64\n")
    about = describe("birds", birds.parent)
    assert about.noun == (noun, plural) and about.least_side == 64


def test_without_yaml_people_are_counted(birds: Path):
    assert describe("birds", birds.parent).noun == ("person", "people")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("nuon: bird", "'nuon' is not known. Did you mean 'noun'"),
        ("noun: 3", "noun is 3; a word"),
        ("longest_side: big", "longest_side is 'big'; a whole number"),
        ("longest_side: 0", "longest_side is 0"),
        ("least_side: -1", "least_side is -1"),
        ("noun: [bird", "while parsing"),
        ("just text", "lines such as"),
        ("splits: [train]", "splits is"),
        ("splits: {train: trian}", "trian, which is not there"),
        ("splits: {train: train, test: 0.5}", "not both"),
        ("splits: {train: 0}", "a part above 0"),
        ("unlabelled: [tset]", "Did you mean 'test'"),
        ("unlisted: nobody", "unlisted 'nobody' is not known"),
    ],
)
def test_yaml_that_is_off(birds: Path, text: str, message: str):
    write(birds / "dataset.yaml", text)
    with pytest.raises(ValueError, match=message) as caught:
        read("birds", "train", root=birds.parent)
    assert "dataset.yaml" in str(caught.value)


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, r"train has images but no points"),
        ({"train/points.csv": "image,x,y\na.jpg,1,2\n"}, r"does not name 1 of the 2 .*: b\.png"),
        (
            {"train/points.csv": "image,x,y\na.jpg,1,2\nb.pgn,1,1\n"},
            r"1 images that are not there: b\.pgn",
        ),
        ({"train/points.csv": "image,x,y\na.jpg,1,x2\n"}, r"points\.csv, line 2, column y: 'x2'"),
        ({"train/points.csv": "image,x,y\na.jpg,1,2\na,1,1\nb,,\n"}, r"is named in two ways"),
        ({"train/a.csv": "x,y\n"}, r"1 of 2 images have no points.*: b\.png"),
        ({"train/a.csv": "x,y\n", "train/a.json": []}, r"a\.jpg has several files of points"),
        ({"train/p.csv": "image,x,y\n", "train/q.csv": "image,x,y\n"}, r"several files could list"),
        ({"p.csv": "image,x,y\n", "q.csv": "image,x,y\n"}, r"several files could list"),
    ],
)
def test_points_that_are_off(birds: Path, files: dict, message: str):
    for name, content in files.items():
        write(birds / name, content)
    with pytest.raises(ValueError, match=message):
        read("birds", "train", root=birds.parent)


def test_a_image_not_listed_may_mean_nobody(birds: Path):
    write(birds / "dataset.yaml", "unlisted: empty")
    write(birds / "train/points.csv", "image,x,y\na.jpg,1,2\na.jpg,3,4.5\n")
    assert points(birds, "train") == EXPECTED
    assert "1 images" in read("birds", "train", root=birds.parent).notes[0]


def test_a_name_for_two_images(birds: Path):
    fake.save_image(birds / "train" / "a.png")
    with pytest.raises(ValueError, match="would both be called 'a'"):
        read("birds", "train", root=birds.parent)


def test_a_name_that_could_be_either_of_two(tmp_path: Path):
    folder = tmp_path / "cars"
    for seed, name in enumerate(("day/1.jpg", "night/1.jpg")):
        fake.save_image(folder / "train" / name, seed)
    write(folder / "train/points.csv", "image,x,y\n1.jpg,1,1\n")
    with pytest.raises(ValueError, match=r"'1\.jpg' could be .*day.*night"):
        read("cars", "train", root=tmp_path)


def test_a_folder_without_images(tmp_path: Path):
    (tmp_path / "cars").mkdir()
    with pytest.raises(FileNotFoundError, match=r"holds no images"):
        read("cars", "train", root=tmp_path)


def flat(folder: Path, number: int) -> dict[str, list[str]]:
    listing = {}
    for i in range(number):
        fake.save_image(folder / f"{i}.png", i, 4, 4)
        listing[f"{i}.png"] = [[i % 4, 1]]
    write(folder / "points.json", listing)
    splits = describe(folder.name, folder.parent).splits
    return {split: read(folder.name, split, root=folder.parent).names for split in splits}


@pytest.mark.parametrize("number", [2, 3, 7, 40])
def test_images_without_folders_are_divided(tmp_path: Path, number: int):
    parts = flat(tmp_path / "cars", number)
    assert sorted(parts["train"] + parts["test"], key=int) == [str(i) for i in range(number)]
    assert len(parts["test"]) == min(number - 1, max(1, round(0.2 * number)))
    assert parts == flat(tmp_path / "cars", number)


def test_parts_and_seed_can_be_given(tmp_path: Path):
    parts = []
    for seed in (0, 1):
        text = f"seed: {seed}\nsplits: {{train: 60, val: 20, test: 20}}\n"
        write(tmp_path / "cars" / "dataset.yaml", text)
        parts.append(flat(tmp_path / "cars", 20))
        assert [len(names) for names in parts[-1].values()] == [12, 4, 4]
    assert parts[0] != parts[1]


def test_a_image_added_moves_few_others(tmp_path: Path):
    before, after = flat(tmp_path / "cars", 40), flat(tmp_path / "cars", 41)
    assert len(set(before["test"]) - set(after["test"])) <= 1


def test_too_few_images_to_divide(tmp_path: Path):
    with pytest.raises(ValueError, match="1 images; they cannot be divided"):
        flat(tmp_path / "cars", 1)


def test_it_is_prepared_like_the_others(birds: Path, tmp_path: Path):
    write(birds / "dataset.yaml", "noun: goose\nplural: geese\n")
    write(birds / "points.csv", "image,x,y\na.jpg,31.9,23.9\nb.png,32,1\nc.jpg,,\n")
    report = prepare("birds", root=tmp_path, out=tmp_path / "out", progress=False)
    assert report["noun"] == ["goose", "geese"]
    assert report["splits"]["train"]["points"] == 1 and report["splits"]["train"]["outside"] == 1
    assert report["splits"]["test"]["empty"] == 1
    write(birds / "points.csv", "image,x,y\na.jpg,1,1\nb.png,1,1\nc.jpg,1,1\n")
    again = prepare("birds", root=tmp_path, out=tmp_path / "out", progress=False)
    assert [part["points"] for part in again["splits"].values()] == [2, 1]


def test_the_worked_example_of_the_readme(tmp_path: Path):
    text = (Path(__file__).parents[1] / "data" / "README.md").read_text(encoding="utf-8")
    csv, yaml = (re.search(f"```{kind}\n(.*?)```", text, re.DOTALL)[1] for kind in ("csv", "yaml"))
    for seed, name in enumerate(("shore.jpg", "island.png")):
        fake.save_image(tmp_path / "birds/train" / name, seed, 400, 500)
    fake.save_image(tmp_path / "birds/test/bay.jpg")
    write(tmp_path / "birds/train/points.csv", csv)
    write(tmp_path / "birds/dataset.yaml", yaml)
    train = read("birds", "train", root=tmp_path)
    assert train.noun == ("bird", "birds")
    assert {sample.name: len(sample.points) for sample in train} == {"shore": 2, "island": 0}


def scenes(folder: Path, *names: str) -> Path:
    for seed, name in enumerate(names):
        fake.save_image(folder / name, seed)
    return folder


GATE = "x,y\n1,2\n3,4.5\n"
TWO_SCENES = ("gate/000.jpg", "gate/001.jpg", "stairs/000.jpg", "stairs/001.jpg")


@pytest.mark.parametrize("top", ["train/", ""])
def test_points_of_a_scene_are_not_those_of_another(tmp_path: Path, top: str):
    folder = scenes(tmp_path / "square", *(top + name for name in TWO_SCENES))
    for name in ("000", "001"):
        write(folder / top / "gate" / f"{name}.csv", GATE)
    with pytest.raises(ValueError, match=r"2 of 4 images have no points.*stairs/000\.jpg"):
        read("square", "train", root=tmp_path)


@pytest.mark.parametrize(
    ("image", "others", "label"),
    [
        ("a.jpg", ["thumbs/a.jpg"], "a.csv"),
        ("a.jpg", ["density/a.png"], "labels/a.csv"),
        ("images/a.jpg", ["density/a.png", "thumbs/a.jpg"], "labels/a.csv"),
    ],
)
def test_copies_of_an_image_do_not_get_its_points(tmp_path: Path, image, others, label):
    folder = scenes(tmp_path / "square", *(f"train/{name}" for name in (image, *others, "b.jpg")))
    write(folder / "train" / label, GATE)
    write(folder / "train" / label.replace("a.csv", "b.csv"), "x,y\n")
    with pytest.raises(ValueError, match=r"have no points") as caught:
        read("square", "all", root=tmp_path)
    assert all(name in str(caught.value) for name in others)


@pytest.mark.parametrize(
    ("images", "label", "message"),
    [
        (["stairs/000.jpg", "hall/000.jpg"], "points/000.csv", "could hold the points of"),
        (["images/stairs/000.jpg"], "annotations/gate/000.csv", "have no points"),
    ],
)
def test_a_folder_that_contradicts_is_an_error(tmp_path: Path, images, label, message: str):
    folder = scenes(tmp_path / "square", *images)
    write(folder / label, GATE)
    with pytest.raises(ValueError, match=message):
        read("square", "all", root=tmp_path)


def test_a_tree_of_images_and_one_of_annotations(tmp_path: Path):
    folder = scenes(tmp_path / "square", *(f"images/{name}" for name in TWO_SCENES))
    for number, name in enumerate(TWO_SCENES):
        write(folder / "annotations" / name.replace(".jpg", ".csv"), f"x,y\n{number},1\n")
    found = points(folder, "all")
    assert found == {name[:-4]: [[number, 1]] for number, name in enumerate(TWO_SCENES)}


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ("gate/000.jpg", r"not there: gate/000\.jpg"),
        ("test/001.jpg", r"not there: test/001\.jpg"),
        ("cam/000.jpg", r"not there"),
    ],
)
def test_a_list_that_names_another_folder(tmp_path: Path, reference: str, message: str):
    folder = scenes(tmp_path / "square", "train/stairs/000.jpg", "train/001.jpg", "test/002.jpg")
    write(folder / "train/points.csv", f"image,x,y\n{reference},1,2\n")
    with pytest.raises(ValueError, match=message):
        read("square", "train", root=tmp_path)


def test_a_list_of_another_machine(tmp_path: Path):
    folder = scenes(tmp_path / "square", "000.jpg", "001.jpg")
    write(folder / "points.csv", "image,x,y\n/home/me/000.jpg,1,2\n/home/me/001.jpg,1,2\n")
    assert points(folder, "all") == {"000": [[1, 2]], "001": [[1, 2]]}


def test_a_list_in_a_scenes_own_folder_is_of_that_scene(tmp_path: Path):
    folder = scenes(tmp_path / "square", "gate/000.jpg", "stairs/000.jpg")
    write(folder / "gate/points.csv", "image,x,y\n000.jpg,1,2\n")
    with pytest.raises(ValueError, match=r"does not name 1 of the 2"):
        read("square", "all", root=tmp_path)


@pytest.mark.parametrize("given", ["", "splits: {train: photos}"])
def test_only_a_train_folder_is_divided(tmp_path: Path, given: str):
    top = "photos" if given else "train"
    folder = scenes(tmp_path / "square", *(f"{top}/{n}.jpg" for n in range(10)), "preview.png")
    write(folder / "dataset.yaml", given)
    write(folder / top / "points.json", {f"{n}.jpg": [[n, 1]] for n in range(10)})
    about = describe("square", tmp_path)
    assert about.is_divided and about.test_split == "test"
    assert about.division == f"by a draw of the images of {top}/ (seed 0): 80 % train, 20 % test"
    parts = [points(folder, split) for split in ("train", "test")]
    assert [len(part) for part in parts] == [8, 2] and not {*parts[0]} & {*parts[1]}
    assert about.division in read("square", "test", root=tmp_path).notes[0]


def test_all_parts_for_training_leave_nothing_to_measure_on(birds: Path):
    write(birds / "dataset.yaml", "splits: {train: 1}")
    with pytest.raises(ValueError, match="nothing to measure on"):
        describe("birds", birds.parent)


def test_what_is_reported_is_labelled_and_not_trained_on(birds: Path):
    fake.save_image(birds / "val" / "d.jpg")
    write(birds / "dataset.yaml", "unlabelled: test")
    assert describe("birds", birds.parent).test_split == "val"


def test_folders_that_are_links_are_followed_once(tmp_path: Path):
    images = scenes(tmp_path / "disk", "a.jpg", "day/b.jpg")
    write(images / "points.json", {"a.jpg": [[1, 2]], "day/b.jpg": []})
    (images / "day" / "up").symlink_to(images)
    for split in ("train", "test"):
        (tmp_path / "square" / split).mkdir(parents=True)
        (tmp_path / "square" / split / "images").symlink_to(images)
    assert points(tmp_path / "square", "train") == {"a": [[1, 2]], "day/b": []}
    assert prepare("square", root=tmp_path, out=tmp_path / "out", progress=False)["notes"] == []


def test_labelme_and_a_file_called_like_the_image_and_its_ending(birds: Path):
    kinds = [("point", [[1, 2]]), ("rectangle", [[2, 3], [4, 6]]), ("circle", [[5, 6], [7, 8]])]
    shapes = [{"label": "bird", "shape_type": kind, "points": p} for kind, p in kinds]
    write(birds / "train/a.jpg.json", {"shapes": shapes, "imagePath": "a.jpg"})
    write(birds / "train/b.json", {"shapes": []})
    assert points(birds, "train") == {"a": [[1, 2], [3, 4.5], [5, 6]], "b": []}
    shapes.append({"label": "nest", "shape_type": "polygon", "points": [[1, 2]] * 3})
    write(birds / "train/a.jpg.json", {"shapes": shapes})
    with pytest.raises(ValueError, match=r"2 categories \(bird, nest\)"):
        points(birds, "train")
    write(birds / "dataset.yaml", "category: bird")
    assert len(points(birds, "train")["a"]) == 3
    write(birds / "dataset.yaml", "category: nest")
    with pytest.raises(ValueError, match="a polygon; points"):
        points(birds, "train")


def test_a_mat_of_another_variable_is_read_and_said(birds: Path):
    for name in ("a", "b"):
        scipy.io.savemat(birds / "train" / f"{name}.mat", {"loc": [[5.0, 6.0]], "roi": [[1, 2, 3]]})
    assert points(birds, "train") == {"a": [[5, 6]], "b": [[5, 6]]}
    (note,) = read("birds", "train", root=birds.parent).notes
    assert "taken from 'loc', the only N x 2 matrix of a.mat" in note


def test_the_short_ending_of_yaml(birds: Path):
    write(birds / "dataset.yml", "\ufeffnoun: bird")
    assert describe("birds", birds.parent).noun == ("bird", "birds")


def crowd(folder: Path, listing: dict, split: str = "train", size=(200, 300)) -> Path:
    """Images of 300 x 200 with the points of a listing, and a test image."""
    for seed, name in enumerate(listing):
        fake.save_image(folder / split / name, seed, *size)
    write(folder / split / "points.json", listing)
    if split == "train":
        fake.save_image(folder / "test" / "z.jpg", 99)
        write(folder / "test/points.json", {"z.jpg": [[1, 2]]})
    return folder


def spread(factor_x: float = 300, factor_y: float = 200) -> dict[str, list]:
    """Points all over three images, in units of ``factor``."""
    grid = [(i % 6 / 6.01, i // 6 / 5.01) for i in range(30)]
    return {f"{n}.jpg": [[x * factor_x, y * factor_y] for x, y in grid] for n in range(3)}


@pytest.mark.parametrize(
    ("listing", "message"),
    [
        (spread(1, 1), "between 0 and 1"),
        (spread(100, 100), "between 0 and 100: percents"),
        ({name: [p[::-1] for p in part] for name, part in spread().items()}, "x and y swapped"),
        (spread(900, 600), "at another size"),
        ({name: [] for name in spread()}, "none of its 3 images has a point"),
    ],
)
def test_points_that_cannot_be_pixels(tmp_path: Path, listing: dict, message: str):
    crowd(tmp_path / "square", listing)
    with pytest.raises(ValueError, match=message):
        prepare("square", root=tmp_path, out=tmp_path / "out", progress=False)
    assert not list((tmp_path / "out").rglob("*.npy")), "nothing is written before"


def test_points_that_are_right_are_taken_and_may_be_vouched_for(tmp_path: Path):
    def prepared_points(listing: dict) -> dict:
        crowd(tmp_path / "square", listing)
        report = prepare("square", root=tmp_path, out=tmp_path / "out", progress=False)
        return report["splits"]["train"]["points"], report["notes"]

    assert prepared_points(spread()) == (90, [])
    count, notes = prepared_points(spread(150, 100))
    assert count == 90 and "at a smaller size" in notes[0]
    write(tmp_path / "square/dataset.yaml", "coordinates: pixels")
    assert prepared_points(spread(100, 100)) == (90, [])


def test_a_test_split_of_nobody_is_remarked_and_stays_so(tmp_path: Path):
    crowd(tmp_path / "square", spread())
    crowd(tmp_path / "square", {"0.jpg": [], "1.jpg": []}, "test")
    (tmp_path / "square/test/z.jpg").unlink()
    for _ in range(2):
        report = prepare("square", root=tmp_path, out=tmp_path / "out", progress=False)
        assert len(report["notes"]) == 1 and "none of its 2 images" in report["notes"][0]
