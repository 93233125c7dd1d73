"""Points from files: right, or an error that says where."""

from __future__ import annotations

import json
from pathlib import Path

import fake_datasets as fake
import numpy as np
import pytest
import scipy.io

from ebclib.data.annotations import (
    mat_variable,
    read_csv,
    read_jhu,
    read_json,
    read_listing,
    read_mat,
)

POINTS = [[1.5, 2.0], [3.0, 4.25]]


@pytest.fixture
def write(tmp_path: Path):
    """Writes a text file and gives its path."""

    def write(name: str, content: object) -> Path:
        path = tmp_path / name
        text = content if isinstance(content, str) else json.dumps(content)
        path.write_text(text, encoding="utf-8")
        return path

    return write


@pytest.mark.parametrize("points", [POINTS, POINTS[:1], np.empty((0, 2)), np.empty((0, 0))])
def test_mat_of_shanghaitech(tmp_path: Path, points):
    found = read_mat(fake.save_shanghaitech_mat(tmp_path / "GT.mat", points))
    assert found.dtype == np.float64
    assert np.array_equal(found, np.reshape(points, (-1, 2)))


@pytest.mark.parametrize("key", ["annPoints", "points"])
@pytest.mark.parametrize("points", [POINTS, np.array([[7, 8]], np.uint16), np.empty((0, 0))])
def test_mat_with_a_plain_matrix(tmp_path: Path, key: str, points):
    scipy.io.savemat(tmp_path / "a.mat", {key: points})
    assert np.array_equal(read_mat(tmp_path / "a.mat"), np.reshape(points, (-1, 2)))


def test_mat_of_another_kind_says_what_it_has_and_what_was_expected(tmp_path: Path):
    scipy.io.savemat(tmp_path / "a.mat", {"density": np.eye(3), "roi": 1})
    with pytest.raises(
        ValueError, match=r"a\.mat.*'density' \(3, 3\), 'roi' .*expected is 'image_info'"
    ):
        read_mat(tmp_path / "a.mat")


@pytest.mark.parametrize("value", [np.zeros((4, 3)), np.array(["x", "y"]), {"a": np.zeros((1, 5))}])
def test_mat_of_another_shape(tmp_path: Path, value):
    scipy.io.savemat(tmp_path / "a.mat", {"annPoints": value})
    with pytest.raises(ValueError, match=r"a\.mat: .* It has 'annPoints' .* an N x 2"):
        read_mat(tmp_path / "a.mat")


@pytest.mark.parametrize(
    "data", [b"", b"not a mat", b"\0" * 200, b"MATLAB 5.0 MAT-file" + b" " * 200]
)
def test_mat_that_is_none(tmp_path: Path, data: bytes):
    (tmp_path / "a.mat").write_bytes(data)
    with pytest.raises(ValueError, match=r"a\.mat"):
        read_mat(tmp_path / "a.mat")


def test_mat_cut_off(tmp_path: Path):
    path = fake.save_shanghaitech_mat(tmp_path / "a.mat", np.ones((100, 2)))
    path.write_bytes(path.read_bytes()[:900])
    with pytest.raises(ValueError, match=r"a\.mat"):
        read_mat(path)


def test_mat_of_matlab_7_3_says_how_to_save_it(tmp_path: Path):
    header = b"MATLAB 7.3 MAT-file, Platform: GLNXA64".ljust(124) + b"\x00\x02IM"
    (tmp_path / "a.mat").write_bytes(header + b"\x89HDF\r\n\x1a\n" + b"\0" * 600)
    with pytest.raises(ValueError, match=r"a\.mat: a MATLAB 7.3 .*-v7"):
        read_mat(tmp_path / "a.mat")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_point_that_is_not_finite(tmp_path: Path, value: float):
    scipy.io.savemat(tmp_path / "a.mat", {"annPoints": [[1, 2], [value, 3]]})
    with pytest.raises(ValueError, match=r"a\.mat: point 2 of 2 is .* finite"):
        read_mat(tmp_path / "a.mat")


def test_jhu(write):
    assert read_jhu(write("1.txt", "10 20 5 6 1 0\n\n30 40 5 6 3 1\n")).tolist() == [
        [10, 20],
        [30, 40],
    ]
    assert read_jhu(write("2.txt", "")).shape == (0, 2)
    with pytest.raises(ValueError, match=r"3\.txt, line 2: 'here' is not a finite number"):
        read_jhu(write("3.txt", "1 2 3 4 1 0\n1 here 3 4 1 0\n"))
    with pytest.raises(ValueError, match=r"4\.txt, line 1"):
        read_jhu(write("4.txt", "12\n"))


@pytest.mark.parametrize(
    "text",
    [
        "x,y\n1.5,2\n3,4.25\n",
        "\ufeffX , Y\r\n1.5,2\r\n\r\n3,4.25\r\n",
        "id;y;x\na;2;1.5\nb;4.25;3",
        "x\ty\n1.5\t2\n3\t4.25\n",
    ],
)
def test_csv(write, text: str):
    assert read_csv(write("a.csv", text)).tolist() == POINTS


def test_csv_of_nobody(write):
    assert read_csv(write("a.csv", "x,y\n")).shape == (0, 2)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x,y\n1,2\n3,four\n", r"a\.csv, line 3, column y: 'four' is not a finite number"),
        ("x,y\n1,\n", r"a\.csv, line 2, column y: '' is not a finite number"),
        ("x,y\n1,nan\n", r"a\.csv, line 2, column y: 'nan' is not a finite"),
        ("x,y\n1e999,2\n", r"line 2, column x: '1e999' is not a finite"),
        ("x,y\n1\n", r"a\.csv, line 2, column y: '' is not a finite number"),
        ("x,y\n1_0,2\n", r"a\.csv, line 2, column x: '1_0' is not a finite number"),
        ("x,y,width,height\n100,50,8,9\n", r"a\.csv: x and y stand beside width and height"),
        ("w,h,x,y\n10,9,50,60\n10,9,3,4\n", r"corners of boxes"),
        ("1,2\n3,4\n", r"a\.csv: no column 'x' in its first line, which has '1', '2'"),
        ("", r"a\.csv: no column 'x' .* nothing"),
    ],
)
def test_csv_that_is_off(write, text: str, message: str):
    with pytest.raises(ValueError, match=message):
        read_csv(write("a.csv", text))


def test_csv_with_the_size_of_its_image(write):
    text = "x,y,width,height\n1.5,2,640,480\n3,4.25,640,480\n"
    assert read_csv(write("a.csv", text)).tolist() == POINTS


def test_csv_that_is_no_text(tmp_path: Path):
    (tmp_path / "a.csv").write_bytes(b"x,y\n\xff\xfe\x00,2\n")
    with pytest.raises(ValueError, match=r"a\.csv: not UTF-8"):
        read_csv(tmp_path / "a.csv")


@pytest.mark.parametrize(
    "content", [POINTS, {"points": POINTS}, [{"x": 1.5, "y": 2.0}, {"x": 3.0, "y": 4.25}]]
)
def test_json(write, content):
    assert read_json(write("a.json", content)).tolist() == POINTS


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[[1, 2], [3", r"a\.json: not JSON .*line 1 column \d+"),
        ([[1, 2], [3, "4"]], r"a\.json, point 2: \[3, '4'\]"),
        ([[1, 2, 3]], r"a\.json, point 1"),
        ([[True, 2]], r"a\.json, point 1"),
        ([{"x": 90, "y": 2, "width": 4, "height": 4}], r"a\.json: x and y stand beside width"),
        ({"heads": []}, r"a\.json: an entry lacks 'points'"),
        ({"points": {}}, r"a\.json: an entry lacks"),
        ("[[1, NaN]]", r"a\.json: point 1 of 1 is .* finite"),
    ],
)
def test_json_that_is_off(write, content, message: str):
    with pytest.raises(ValueError, match=message):
        read_json(write("a.json", content))


def as_lists(listing) -> dict:
    return {name: points.tolist() for name, points in listing[0].items()}


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.csv", "image,x,y\na.jpg,1.5,2\nb.jpg,,\na.jpg,3,4.25\n"),
        ("a.csv", "Filename;label;x;y\na.jpg;head;1.5;2\nb.jpg;;;\na.jpg;head;3;4.25\n"),
        ("a.json", {"a.jpg": POINTS, "b.jpg": []}),
        ("a.json", [{"image": "a.jpg", "points": POINTS}, {"image": "b.jpg", "points": []}]),
    ],
)
def test_listing(write, name: str, content):
    assert as_lists(read_listing(write(name, content))) == {"a.jpg": POINTS, "b.jpg": []}


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", "image,x,y\n,1,2\n", r"a\.csv, line 2: the image's name is empty"),
        ("a.csv", "x,y\n1,2\n", r"a\.csv: no column 'image'"),
        ("a.csv", "image,x,y\na.jpg,1,two\n", r"a\.csv, line 2, column y: 'two'"),
        ("a.json", [[1, 2]], r"a\.json: an entry lacks"),
        ("a.json", 3, r"a\.json: an entry lacks"),
        ("a.json", {"a.jpg": [[1]]}, r"a\.json, 'a\.jpg', point 1"),
        ("a.json", [{"image": "a", "points": []}] * 2, r"a\.json: 'a' is listed twice"),
    ],
)
def test_listing_that_is_off(write, name: str, content, message: str):
    with pytest.raises(ValueError, match=message):
        read_listing(write(name, content))


def coco(annotations: list[dict], **more: object) -> dict:
    images = [{"id": 1, "file_name": "a.jpg"}, {"id": 2, "file_name": "b.jpg"}]
    annotations = [{"id": 5, "image_id": 1, "category_id": 7, **item} for item in annotations]
    categories = [{"id": 7, "name": "bird"}, {"id": 8, "name": "plane"}]
    return {"images": images, "annotations": annotations, "categories": categories, **more}


def test_coco_keypoints_and_box_centres(write):
    keypoints = [0, 0, 0, 11, 12, 2, 13, 14, 1]  # the first is not labelled
    content = coco([{"bbox": [10, 20, 4, 6]}, {"keypoints": keypoints, "bbox": [0, 0, 9, 9]}])
    listing = read_listing(write("a.json", content))
    assert as_lists(listing) == {"a.jpg": [[12, 23], [11, 12]], "b.jpg": []}


def test_coco_category_has_to_be_chosen_where_there_are_two(write):
    path = write("a.json", coco([{"bbox": [0, 0, 2, 2]}, {"bbox": [4, 4, 2, 2], "category_id": 8}]))
    assert as_lists(read_listing(path, "plane"))["a.jpg"] == [[5, 5]]
    with pytest.raises(ValueError, match=r"a\.json: objects of 2 categories \(bird, plane\)"):
        read_listing(path)
    with pytest.raises(ValueError, match=r"no category 'cat'; it has 'bird', 'plane'"):
        read_listing(path, "cat")


def test_coco_crowd_regions_are_left_out_and_said(write):
    listing = read_listing(write("a.json", coco([{"bbox": [0, 0, 2, 2], "iscrowd": 1}])))
    assert as_lists(listing)["a.jpg"] == [] and "1 regions marked iscrowd" in listing[1][0]


@pytest.mark.parametrize(
    ("item", "message"),
    [
        ({"image_id": 9, "bbox": [0, 0, 1, 1]}, r"a\.json: an entry lacks 9"),
        ({"segmentation": []}, r"annotation 5: neither a labelled keypoint nor a box"),
        ({"bbox": [0, 0, 0, 0]}, r"annotation 5: .*that is not empty"),
        ({"keypoints": [0, 0, 0], "bbox": [0, 0, 0, 0]}, r"annotation 5: neither"),
        ({"keypoints": [1, 2, 2, 3]}, r"annotation 5: 4 numbers of keypoints"),
    ],
)
def test_coco_that_is_off(write, item: dict, message: str):
    with pytest.raises(ValueError, match=message):
        read_listing(write("a.json", coco([item])))


def test_coco_keypoints_that_are_objects_each(write):
    """Annotation tools put all dots of an image into one object; a skeleton has one size, and names."""
    dots = [{"keypoints": [1, 2, 2, 3, 4, 2]}, {"image_id": 2, "keypoints": [5, 6, 2] * 3}]
    listing = read_listing(write("a.json", coco(dots)))
    assert as_lists(listing) == {"a.jpg": [[1, 2], [3, 4]], "b.jpg": [[5, 6]] * 3}
    assert "each is counted, 5 in all" in listing[1][0]
    assert len(read_listing(write("a.json", coco(dots[:1])))[0]["a.jpg"]) == 2
    bird = [{"id": 7, "name": "bird", "keypoints": ["beak", "tail"]}]
    listing = read_listing(write("a.json", coco(dots[:1], categories=bird)))
    assert as_lists(listing)["a.jpg"] == [[1, 2]] and not listing[1]


SIZE = {"original_width": 200, "original_height": 50}


@pytest.mark.parametrize(
    "tasks",
    [
        [
            {
                "data": {"image": "/data/upload/1/0a1b2c3d-my%20a.jpg"},
                "annotations": [
                    {
                        "result": [
                            {**SIZE, "value": {"x": 10, "y": 20, "width": 0.5, **label}},
                            {**SIZE, "value": {"x": 1, "y": 2, "width": 4, "height": 8}},
                            {"type": "choices", "value": {"choices": ["day"]}},
                        ]
                    }
                ],
            }
            for label in [{"keypointlabels": ["bird"]}]
        ],
        [
            {
                "img": "/data/local-files/?d=day/my a.jpg",
                "kp": [{**SIZE, "x": 10, "y": 20, "width": 0.5, "keypointlabels": ["bird"]}],
                "boxes": [{**SIZE, "x": 1, "y": 2, "width": 4, "height": 8}],
            }
        ],
    ],
)
def test_label_studio(write, tasks: list):
    found = as_lists(read_listing(write("a.json", tasks)))
    assert found == {"my a.jpg": [[20, 10], [6, 3]]}


def test_label_studio_points_in_percents_and_labels(write):
    points = [{**SIZE, "x": 50, "y": 50, "keypointlabels": [kind]} for kind in ("bird", "plane")]
    path = write("a.json", [{"image": "a.jpg", "points": points}])
    with pytest.raises(ValueError, match=r"2 categories \(bird, plane\)"):
        read_listing(path)
    assert as_lists(read_listing(path, "plane")) == {"a.jpg": [[100, 25]]}
    with pytest.raises(ValueError, match=r"b\.json: an entry lacks"):
        read_listing(write("b.json", [{"data": {"image": "a.jpg"}, "annotations": [SIZE]}]))


def test_label_studio_s_skipped_tasks_are_not_images_of_nobody(write):
    half = {"result": [], "was_cancelled": True}
    done = {"result": [{**SIZE, "value": {"x": 50, "y": 50}}], "was_cancelled": False}
    tasks = [{"data": {"image": f"{n}.jpg"}, "annotations": a} for n, a in enumerate(([half], []))]
    tasks += [{"data": {"image": "2.jpg"}, "annotations": [half, done]}]
    assert as_lists(read_listing(write("a.json", tasks))) == {"2.jpg": [[100, 25]]}


@pytest.mark.parametrize("others", [{}, {"density": np.eye(3), "roi": [[1.0]], "none": []}])
@pytest.mark.parametrize("points", [POINTS, np.empty((0, 2))])
def test_the_only_matrix_of_points_of_a_mat(tmp_path: Path, others: dict, points):
    kept = others if len(points) else {}
    scipy.io.savemat(tmp_path / "a.mat", {"loc": points, **kept})
    assert np.array_equal(read_mat(tmp_path / "a.mat"), np.reshape(points, (-1, 2)))
    assert mat_variable(tmp_path / "a.mat")[0] == "loc"
    scipy.io.savemat(tmp_path / "a.mat", {"loc": points, "more": np.ones((3, 2)), "far": POINTS})
    with pytest.raises(
        ValueError, match=r"a .mat of another kind. It has 'loc' .*, 'more' .*, 'far'"
    ):
        read_mat(tmp_path / "a.mat")
