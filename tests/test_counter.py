"""Counting with a trained model: whatever is given, however large or broken it is."""

import dataclasses
import importlib.util
import io
import json
import time

import av
import numpy as np
import pandas as pd
import pytest
import torch
from fake_datasets import image
from PIL import Image, ImageFilter
from safetensors.torch import load_file, save_file

from benchmarks.counting import compare_counting
from ebclib import data as datasets
from ebclib import evaluation, training
from ebclib.__main__ import main
from ebclib.config import make_config, project_root
from ebclib.counting import (
    Count,
    CrowdCounter,
    count_files,
    count_regions,
    read_regions,
    results_frame,
)
from ebclib.counting.counter import SHIPPED
from ebclib.counting.files import list_images
from ebclib.counting.sources import IMAGES, files_of, items
from ebclib.data import Sample
from ebclib.data.training_set import TrainingStats, image_stats, peak_density
from ebclib.evaluation.metadata import ModelInfo, read_info, write_info
from ebclib.models import load_model
from ebclib.runs import Run


@pytest.fixture(scope="module")
def run(drawn, tmp_path_factory):
    """A run trained for one epoch on twelve drawn images, in float32, and its prepared data."""
    folder = tmp_path_factory.mktemp("counter")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EBC_DATA", str(drawn))
        patch.setenv("EBC_RESULTS", str(folder / "results"))
        patch.setenv("EBC_PREPARED", str(folder / "prepared"))
        small = {"crop_px": 64, "batch_size": 4, "epochs": 1, "precision": "fp32"}
        config = make_config(
            "drawn",
            "two_cores_20min",
            model="mobilenetv2",
            pretrained="none",
            name="small",
            **small,
        )
        training.train(config, progress=False)
    return Run(folder / "results" / "runs" / "small")


@pytest.fixture(scope="module")
def counted_split(run):
    return datasets.PreparedSplit(run.path.parents[2] / "prepared" / "drawn" / "test")


@pytest.fixture(scope="module")
def alone(run, tmp_path_factory):
    """The file of weights by itself, calibrated as if there had been validation images enough."""
    path = tmp_path_factory.mktemp("alone") / "somewhere.safetensors"
    save_file(load_file(run.weights), path)
    info = dataclasses.replace(
        read_info(run.weights), interval_factor=2.5, held_out_images=40, least_side=1
    )
    write_info(path, info)
    return path


@pytest.fixture(scope="module")
def counter(alone):
    return CrowdCounter(alone)


def test_a_run_s_weights_say_all_that_counting_needs(run, counted_split, tmp_path):
    weights = tmp_path / "elsewhere.safetensors"
    weights.write_bytes(run.weights.read_bytes())
    counter = CrowdCounter(weights)
    assert counter.info.config == run.config and counter.noun == ("person", "people")
    assert counter.info.training_stats.images == 11 and counter.info.held_out_images == 1
    wanted = evaluation.predict(load_model(run), counted_split)
    found = results_frame(counter.count(counted_split))
    assert found["image"].tolist() == wanted["image"].tolist()
    assert np.allclose(found["count"], wanted["count"], rtol=1e-4)
    assert (
        repr(counter)
        == "<CrowdCounter of people: mobilenetv2 (linear) trained on drawn, fp32 on cpu>"
    )


def test_an_uncalibrated_model_has_no_interval_and_says_so(run, counted_split):
    result = CrowdCounter(run).count(counted_split[0])
    assert result.lower is None and result.upper is None
    assert "needs 9 validation images or more, and there was 1." in " ".join(result.notes)
    assert "no interval" in result.text() and results_frame([result])["lower"].isna().all()


def test_intervals_are_those_of_evaluation(counter, counted_split):
    predictions = evaluation.predict(counter.network, counted_split)
    wanted = evaluation.with_intervals(predictions, 2.5)
    found = results_frame(counter.count(counted_split))
    assert np.allclose(found[["lower", "upper"]], wanted[["lower", "upper"]], rtol=1e-3, atol=1e-3)


def test_older_weights_count_from_their_run_s_folder(run, tmp_path):
    folder = tmp_path / "old"
    folder.mkdir()
    save_file(load_file(run.weights), folder / "model.safetensors")
    with pytest.raises(ValueError, match=r"does not say what model.*ebc evaluate"):
        CrowdCounter(folder / "model.safetensors")
    for name in ("config.json", "metrics.json"):
        (folder / name).write_bytes((run.path / name).read_bytes())
    counter = CrowdCounter(folder)
    assert counter.info.training_stats is None and "not flagged" in " ".join(counter.notes)
    assert isinstance(counter.count(np.zeros((40, 40, 3), np.uint8)), Count)


@pytest.mark.parametrize(
    ("content", "error"),
    [(b"no weights at all", "holds no weights"), (None, "is not there")],
)
def test_what_is_no_weights_file_is_named(tmp_path, content, error):
    path = tmp_path / "x.safetensors"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises((ValueError, FileNotFoundError), match=error):
        CrowdCounter(path)


def test_metadata_survives_its_file_and_equal_files_are_equal_bytes(alone, tmp_path):
    info, other = read_info(alone), tmp_path / "again.safetensors"
    assert ModelInfo.from_json(info.to_json()) == info
    other.write_bytes(alone.read_bytes())
    write_info(other, info)
    assert other.read_bytes() == alone.read_bytes()
    with pytest.raises(ValueError, match="another version of ebclib"):
        ModelInfo.from_json(info.to_json().replace('"format": 1', '"format": 7'))


def png(pixels):
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def test_every_kind_of_image_is_the_same_image(counter, tmp_path):
    pixels = image(1, 50, 70)
    path = tmp_path / "ein Bild – ü.png"
    path.write_bytes(png(pixels))
    kinds = [path, str(path), pixels, pixels / 255, Image.fromarray(pixels), png(pixels)]
    kinds += [Sample(pixels, np.zeros((0, 2)), "a"), np.asfortranarray(pixels)]
    results = [counter.count(kind) for kind in kinds]
    assert {round(each.count, 4) for each in results} == {round(results[0].count, 4)}
    first = results[0]
    assert first.name == "ein Bild – ü.png" and first.size == (50, 70)
    assert first.density.shape == (7, 9) and first.block_size_px == 8
    assert first.count == pytest.approx(first.density.sum(), rel=1e-5)
    grey = counter.count(pixels[..., 0])
    assert grey.count == counter.count(np.repeat(pixels[..., :1], 3, axis=2)).count


@pytest.mark.parametrize(
    ("given", "error"),
    [
        (np.zeros((3, 40, 40), np.uint8), r"an array \(3, 40, 40\) of uint8 is no image"),
        (np.full((40, 40, 3), 200.0), "floats between 0 and 1"),
        (np.full((40, 40, 3), np.nan), "floats between 0 and 1"),
        (np.zeros((0, 40, 3), np.uint8), "is no image"),
        (torch.zeros(3, 40, 40, dtype=torch.uint8), r"an array \(3, 40, 40\)"),
        (b"<html>", "this is no image"),
        (17, "int cannot be counted in"),
        ("nowhere.jpg", "No such file.*nowhere.jpg"),
    ],
)
def test_what_is_no_image_is_an_error_that_says_what_is(counter, given, error):
    with pytest.raises((ValueError, FileNotFoundError), match=error):
        counter.count(given)


def test_many_images_come_in_order_and_no_faster_than_they_are_asked_for(counter):
    asked = []

    def frames():
        for number in range(10_000):
            asked.append(number)
            yield image(number % 5, 40, 48)

    stream = counter.count(frames())
    assert not asked, "nothing is read before the first result is wanted"
    first = [next(stream) for _ in range(5)]
    assert [each.name for each in first] == [f"image {n}" for n in range(5)]
    assert len(asked) < 300
    alone = [counter.count(image(number, 40, 48)).count for number in range(5)]
    assert [each.count for each in first] == pytest.approx(alone, rel=1e-4)
    del stream


def test_a_list_may_mix_sizes_and_a_bad_image_is_named(counter):
    good = [image(n, 30 + 10 * (n % 2), 50) for n in range(4)]
    results = list(counter.count(good))
    assert [each.size[0] for each in results] == [30, 40, 30, 40]
    assert (results[0].image() == good[0]).all()
    with pytest.raises(ValueError, match="image 2"):
        list(counter.count([*good[:2], b"bad", *good[2:]]))


def test_a_image_turned_by_its_camera_is_turned_back(counter, tmp_path):
    pixels = image(3, 40, 64)
    exif = Image.Exif()
    exif[274] = 6
    Image.fromarray(np.rot90(pixels)).save(tmp_path / "turned.png", exif=exif)
    turned = counter.count(tmp_path / "turned.png")
    assert turned.size == (40, 64)
    assert turned.count == pytest.approx(counter.count(pixels).count, rel=1e-5)


def test_a_large_jpeg_is_shrunk_and_its_places_stay_those_of_the_original(alone, tmp_path):
    shrinks = CrowdCounter(alone, longest_side=160)
    small = image(5, 100, 160)
    Image.fromarray(small).resize((1280, 800)).save(tmp_path / "large.jpg", quality=95)
    result = shrinks.count(tmp_path / "large.jpg")
    assert result.size == (800, 1280) and result.counted_size == (100, 160)
    assert result.count == pytest.approx(shrinks.count(small).count, rel=0.15)
    y, x = result.edges
    assert (y[-1], x[-1]) == (800, 1280) and x[1] == 64 and len(y) == 14
    whole = count_regions(result, {"all": [(0, 0), (1280, 0), (1280, 800), (0, 800)]})
    assert whole["count"][0] == pytest.approx(result.count, rel=1e-5)
    assert whole["area_px"][0] == pytest.approx(800 * 1280)


def counted(density, size, block_size_px=8):
    """A result with a density of our own."""
    values = np.asarray(density, np.float32)
    return Count("a <b>.png", values.sum(), 0, 9, values, values, block_size_px, size, size)


def test_regions_are_exact_where_people_stand_evenly():
    """One person a block: a polygon holds its area in blocks; in the cut-off row they stand denser."""
    result = counted(np.ones((3, 4)), (20, 32))
    table = count_regions(
        result,
        {
            "triangle": [(0, 0), (16, 0), (0, 16)],
            "inside": [(2, 2), (6, 2), (6, 6), (2, 6)],
            "last row": [(0, 16), (32, 16), (32, 20), (0, 20)],
            "outside": [(40, 0), (50, 0), (50, 10)],
            "beyond": [(-100, -100), (100, -100), (100, 100), (-100, 100)],
        },
    ).set_index("region")
    assert table["count"].tolist() == pytest.approx([2, 0.25, 4, np.nan, 12], nan_ok=True)
    assert table["area_px"].tolist() == pytest.approx([128, 16, 128, 0, 640])
    assert table["on_border"].tolist() == pytest.approx([2, 1, 0, 0, 0])


def test_regions_come_from_geojson(tmp_path):
    result = counted(np.arange(12).reshape(3, 4), (24, 32))
    left, corner = [(0, 0), (16, 0), (16, 24), (0, 24)], [(0, 0), (4, 0), (0, 4)]
    features = [
        {
            "type": "Feature",
            "properties": {"name": name},
            "geometry": {"type": "Polygon", "coordinates": [[*ring, ring[0]]]},
        }
        for name, ring in (("left", left), ("ü", corner))
    ]
    text = json.dumps({"type": "FeatureCollection", "features": features})
    (tmp_path / "r.geojson").write_text(text, encoding="utf-8-sig")
    table = count_regions(result, tmp_path / "r.geojson")
    assert table["region"].tolist() == ["left", "ü"]
    assert table["count"][0] == pytest.approx(0 + 1 + 4 + 5 + 8 + 9)


@pytest.mark.parametrize(
    ("regions", "error"),
    [
        ({"a": [(0, 0), (5, 5), (5, 0), (0, 5)]}, "region 'a' crosses itself: Self-intersection"),
        ({"a": [(0, 0), (5, 5)]}, "'a' is no polygon"),
        ({"a": "circle"}, "'a' is no polygon"),
        (
            {"a": {"type": "Point", "coordinates": [1, 2]}},
            "is a Point.*A polygon in pixels is expected",
        ),
        ({"a": [(1, -9), (5, -9), (5, -2), (1, -2)]}, "outside every image.*QGIS"),
        ({"a": [(8.54, 47.37), (8.55, 47.37), (8.55, 47.38)]}, "less than a pixel; degrees"),
        ({}, "no region"),
        ({"type": "FeatureCollection", "features": []}, "no region"),
        ([1, 2], "expected is"),
    ],
)
def test_regions_that_make_no_sense_are_named(regions, error):
    with pytest.raises(ValueError, match=error):
        read_regions(regions)


def test_regions_of_one_name_and_files_that_are_none(tmp_path):
    square = {"type": "Polygon", "coordinates": [[[0, 0], [9, 0], [9, 9], [0, 0]]]}
    feature = {"type": "Feature", "properties": {"name": "a"}, "geometry": square}
    with pytest.raises(ValueError, match="two regions are called 'a'"):
        read_regions({"type": "FeatureCollection", "features": [feature, feature]})
    with pytest.raises(FileNotFoundError, match="No such file"):
        read_regions(tmp_path / "no.geojson")
    (tmp_path / "bad.geojson").write_text("{")
    with pytest.raises(ValueError, match="is no GeoJSON"):
        read_regions(tmp_path / "bad.geojson")


def test_dark_blurred_and_enlarged_images_are_told_from_ordinary_ones(run, counted_split, alone):
    """Limits from 11 drawn training images; each change is flagged for what it is, in each image."""
    known = read_info(run.weights).training_stats
    ordinary = [known.flags(image_stats(np.array(sample.image))) for sample in counted_split]
    assert sum(map(bool, ordinary)) <= 1
    for sample in counted_split:
        image = Image.fromarray(np.array(sample.image))
        enlarged = image.resize((4 * image.width, 4 * image.height), Image.Resampling.BICUBIC)
        for changed, word in (
            (image.point(lambda value: value * 0.12), "darker"),
            (image.filter(ImageFilter.GaussianBlur(4)), "less fine detail"),
            (enlarged, "much larger"),
            (enlarged.crop((0, 0, image.width, image.height)), "less fine detail"),
        ):
            assert word in " ".join(known.flags(image_stats(np.asarray(changed)))), word
    result = CrowdCounter(alone).count(np.asarray(image) // 9)
    assert any("darker" in flag for flag in result.flags) and "flagged" in repr(result)
    assert "darker" in results_frame([result])["flags"][0]


def test_image_stats_by_hand():
    flat, noise = (
        np.full((64, 64, 3), 10, np.uint8),
        np.random.default_rng(0).integers(0, 256, (256, 256)),
    )
    assert image_stats(flat) == {"brightness": 10, "contrast": 0, "sharpness": 0, "side_px": 64}
    white = image_stats(np.repeat(noise[..., None], 3, axis=2).astype(np.uint8))
    assert white["sharpness"] == pytest.approx(2, abs=0.05), (
        "four pixels' mean has half their deviation"
    )
    slope = np.repeat(np.tile(np.arange(256, dtype=np.uint8), (64, 1))[..., None], 3, axis=2)
    assert image_stats(slope)["sharpness"] == pytest.approx(-2, abs=0.05)
    density = np.zeros((20, 30))
    density[3:5, 28:] = 2
    assert peak_density(density, 8) == 8 and peak_density(np.ones((3, 4)), 8) == 12
    known = TrainingStats(100, {"peak_density": (0.0, 3.0, 7.0), "new": (0.0, 0.0, 0.0)})
    assert (
        known.flags({"peak_density": 6.9}) == []
        and "denser" in known.flags({"peak_density": 8.0})[0]
    )
    assert image_stats(np.zeros((1, 1, 3), np.uint8))["side_px"] == 1


def test_a_map_is_saved_above_its_count(counter, tmp_path):
    result = counter.count(image(2, 45, 60))
    path = result.save(tmp_path / "deep")
    assert [each.name for each in path.parent.iterdir()] == ["image 0.png"]
    shown = np.asarray(Image.open(path))
    assert (shown[:45, :60] == result.overlay()).all()
    strip = shown[45:]
    assert (
        len(strip) == 24 * (1 + len(result.flags)) and strip.min() == 0 and (strip[0] == 255).all()
    )


def test_figures_and_what_a_notebook_shows(counter):
    result = counter.count(image(2, 45, 60))
    ax = result.plot()
    assert ax.get_title() == result.text() and ax.child_axes[0].get_ylabel() == "people per block"
    left, right = result.plot(side_by_side=True)
    assert right.images[0].get_array().shape == (6, 8) and right.get_xlim() == (0, 7.5)
    assert left.images[0].get_array().shape == (45, 60, 3)
    shown = Image.open(io.BytesIO(result._repr_jpeg_()))
    assert shown.format == "JPEG" and shown.height >= 45 + 24
    lost = counted(np.ones((3, 4)), (20, 32))
    assert lost.overlay().shape == (20, 32, 3)


def test_the_overlay_is_brightest_where_people_are():
    density = np.zeros((4, 6))
    density[1, 4] = 1
    values = np.asarray(counted(density, (32, 48)).overlay()).sum(2)
    assert np.unravel_index(values.argmax(), values.shape) == (8, 32)


@pytest.fixture
def messy(tmp_path):
    """A folder as people have them."""
    folder = tmp_path / "Bilder aus München"
    (folder / "sub").mkdir(parents=True)
    Image.fromarray(image(1, 40, 60)).save(folder / "Platz 10.jpg")
    Image.fromarray(image(2, 40, 60)).save(folder / "Platz 2.png")
    Image.fromarray(image(3, 30, 30)).save(folder / "sub" / "über.jpeg")
    frames = [Image.fromarray(image(n, 24, 24)) for n in (4, 5)]
    frames[0].save(folder / "moving.gif", save_all=True, append_images=frames[1:])
    Image.fromarray(image(6, 1, 1)).save(folder / "dot.png")
    (folder / "letter.jpg").write_text("Dear Sir or Madam")
    (folder / "half.jpg").write_bytes((folder / "Platz 10.jpg").read_bytes()[:900])
    (folder / "notes.txt").write_text("no image, and not meant as one")
    (folder / "sub" / "back").symlink_to(folder, target_is_directory=True)
    (folder / "loop.jpg").symlink_to(folder / "loop.jpg")
    return folder


COUNTED = ["Platz 2.png", "Platz 10.jpg", "dot.png", "moving.gif", "sub/über.jpeg"]
LOST = ["half.jpg", "letter.jpg", "loop.jpg"]


def test_a_messy_folder_from_a_shell(messy, alone, capsys, tmp_path):
    out = messy / "out"
    square = {"type": "Polygon", "coordinates": [[[0, 0], [20, 0], [20, 20], [0, 20], [0, 0]]]}
    (tmp_path / "r.json").write_text(
        json.dumps({"features": [{"geometry": square, "id": "corner"}]})
    )
    words = ["count", str(messy), "--out", str(out), "--run", str(alone)]
    words += ["--regions", str(tmp_path / "r.json")]
    assert main(words) == 3
    said = capsys.readouterr()
    assert (
        "5 counted, 3 not" in said.out and "not counted: letter.jpg: this is no image" in said.err
    )
    table = pd.read_csv(out / "counts.csv")
    assert sorted(table["image"]) == sorted(COUNTED)
    assert (table["lower"] <= table["count"]).all() and (table["count"] <= table["upper"]).all()
    failures = pd.read_csv(out / "failures.csv")
    assert failures["image"].tolist() == LOST and "symbolic links" in failures["reason"][2]
    regions = pd.read_csv(out / "regions.csv")
    assert regions["image"].tolist() == table["image"].tolist()
    assert (regions["count"] <= table["count"] + 5e-4).all(), "but for the digits that are written"
    for name in COUNTED:
        assert (out / "maps" / f"{name}.png").is_file()
    assert (table["model"] == "small").all()
    assert "The first of its frames" in table.set_index("image")["notes"]["moving.gif"]
    assert "the first is moving.gif: The first of its frames was counted." in said.out
    points = pd.read_csv(out / "points.csv")
    people = points.groupby("image").size().reindex(table["image"], fill_value=0)
    assert people.tolist() == [int(count + 0.5) for count in table["count"]]
    corner = points["regions"] == "corner"
    assert (corner == (points[["x", "y"]] <= 20).all(axis=1)).all() and corner.any()
    for name, some in points.groupby("image"):
        features = json.loads((out / "points" / f"{name}.geojson").read_text())["features"]
        assert [f["geometry"]["coordinates"] for f in features] == some[["x", "y"]].values.tolist()
    assert not list(out.rglob("*.part"))

    before = (out / "counts.csv").read_text()
    for name in LOST:
        (messy / name).unlink()
    listed = (out / "points.csv").read_text()
    assert main(words) == 0
    assert (out / "points.csv").read_text() == listed
    assert "5 counted (5 of them before), 0 not" in capsys.readouterr().out
    assert (out / "counts.csv").read_text() == before and not (out / "failures.csv").exists()


def test_what_was_counted_is_not_counted_again_unless_it_changed(messy, alone, tmp_path):
    out = tmp_path / "out"

    def count(**more):
        return count_files([messy], out, alone, progress=False, **more)

    first = count(maps=False)
    assert first.again == 5 and not (out / "maps").exists()
    assert count(maps=False).again == 0
    assert count().again == 5, "the maps were missing"
    with (out / "journal.jsonl").open("a") as journal:
        journal.write('{"path": "a line that was cut o')
    Image.fromarray(image(9, 40, 60)).save(messy / "Platz 2.png")
    (out / "maps" / "dot.png.png").unlink()
    second = count()
    assert second.again == 2
    same = second.table["image"] != "Platz 2.png"
    pd.testing.assert_frame_equal(second.table[same], first.table[same])
    assert count().again == 0
    assert count(regions={"a": [(0, 0), (9, 0), (9, 9)]}).again == 5
    assert count(again=True).again == 5
    Image.fromarray(image(8, 40, 60)).save(messy / "Platz 2.png")
    assert count(maps=False).again == 1
    assert not (out / "maps" / "Platz 2.png.png").exists(), "a map of another count is gone"
    assert count().again == 1 and (out / "maps" / "Platz 2.png.png").is_file()


def test_a_folder_of_counts_is_of_one_folder(alone, tmp_path):
    """Images of one name elsewhere cannot take the place of these; files one by one add up."""
    for number, folder in enumerate(("a", "b")):
        (tmp_path / folder).mkdir()
        for name in ("1.png", "2.png"):
            (tmp_path / folder / name).write_bytes(png(image(number, 30, 40)))
    out = tmp_path / "out"
    first = count_files([tmp_path / "a" / "1.png"], out, alone, progress=False)
    both = count_files([tmp_path / "a" / "2.png"], out, alone, progress=False)
    assert sorted(both.table["image"]) == ["1.png", "2.png"] and both.again == 1
    content = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    with pytest.raises(ValueError, match=r"images below .*a, and these lie below .*b:"):
        count_files([tmp_path / "b"], out, alone, progress=False)
    assert content == {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    again = count_files([tmp_path / "a"], out, alone, progress=False)
    assert again.again == 0 and first.table["count"][0] == again.table["count"][0]
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match="is a file; give a folder"):
        count_files([tmp_path / "a"], tmp_path / "file", alone, progress=False)


def test_what_cannot_be_read_is_listed_and_not_passed_over(alone, tmp_path, capsys):
    folder, out = tmp_path / "photos", tmp_path / "out"
    folder.mkdir()
    (folder / "fine.png").write_bytes(png(image(1, 30, 40)))
    (folder / "IMG_1.HEIC").write_bytes(b"\0\0\0\x18ftypheic" + bytes(40))
    Image.fromarray(image(2, 30, 40)).save(folder / "thumbnail.tif")
    (folder / "thumbnail.tif").rename(folder / "IMG_2.NEF")
    assert main(["count", str(folder), "--out", str(out), "--run", str(alone)]) == 3
    reasons = pd.read_csv(out / "failures.csv", index_col="image")["reason"]
    assert list(reasons.index) == ["IMG_1.HEIC", "IMG_2.NEF"]
    assert "raw photograph" in reasons["IMG_2.NEF"]
    if importlib.util.find_spec("pillow_heif") is None:
        assert "pillow-heif" in reasons["IMG_1.HEIC"]


def test_a_region_outside_an_image_has_no_count(alone, tmp_path):
    (tmp_path / "a.png").write_bytes(png(image(1, 30, 40)))
    square = [[[100, 0], [200, 0], [200, 50], [100, 0]]]
    regions = {"features": [{"id": "far", "geometry": {"type": "Polygon", "coordinates": square}}]}
    (tmp_path / "r.json").write_text(json.dumps(regions))
    words = ["count", str(tmp_path / "a.png"), "--out", str(tmp_path / "out"), "--run", str(alone)]
    assert main([*words, "--regions", str(tmp_path / "r.json")]) == 0
    assert pd.read_csv(tmp_path / "out" / "regions.csv")["count"].isna().all()


def test_points_are_in_pixels_of_the_original(alone, tmp_path):
    density = np.zeros((3, 4))
    density[1, 2] = 2
    small = dataclasses.replace(counted(density, (24, 32)), size=(240, 320))
    assert small.points().tolist() == [[200, 120]] * 2


def test_a_image_that_vanishes_meanwhile_is_listed(counter, alone, tmp_path, monkeypatch):
    for number in range(40):
        Image.fromarray(image(number, 24 + number, 24)).save(tmp_path / f"{number}.png")
    outcomes = CrowdCounter.outcomes

    def deletes_the_last_ones(self, given):
        for result in outcomes(self, given):
            for number in (38, 39):
                (tmp_path / f"{number}.png").unlink(missing_ok=True)
            yield result

    monkeypatch.setattr(CrowdCounter, "outcomes", deletes_the_last_ones)
    done = count_files([tmp_path], tmp_path / "out", alone, progress=False)
    assert done.table["image"].tolist() == [f"{n}.png" for n in range(38)]
    assert done.failures["image"].tolist() == ["38.png", "39.png"]
    assert done.failures["reason"].str.contains("No such file").all()


def test_stopped_in_the_middle_it_goes_on(alone, tmp_path, monkeypatch):
    for number in range(8):
        Image.fromarray(image(number, 24, 24 + number)).save(tmp_path / f"{number}.png")
    outcomes = CrowdCounter.outcomes

    def stopped(self, given):
        for number, result in enumerate(outcomes(self, given)):
            if number == 3:
                raise KeyboardInterrupt
            yield result

    with monkeypatch.context() as patch:
        patch.setattr(CrowdCounter, "outcomes", stopped)
        with pytest.raises(KeyboardInterrupt):
            count_files([tmp_path], tmp_path / "out", alone, progress=False)
    done = count_files([tmp_path], tmp_path / "out", alone, progress=False)
    assert done.again == 5 and len(done.table) == 8


def test_files_and_folders_together_are_named_apart(tmp_path):
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "same.png").write_bytes(png(image(1)))
    (tmp_path / "odd").write_bytes(png(image(1)))
    given = [tmp_path / "one", tmp_path / "two", tmp_path / "odd", tmp_path / "one" / "same.png"]
    found, problems, base = list_images(given, tmp_path / "out")
    assert [each.name for each in found] == ["one/same.png", "two/same.png", "odd"] and not problems
    assert base == str(tmp_path)
    listed = [tmp_path / "one" / "same.png", str(tmp_path / "two" / "same.png")]
    assert [each.name for each in items(listed)] == ["one/same.png", "two/same.png"]


def test_ten_thousand_images_are_listed_at_once(tmp_path):
    for number in range(10_000):
        (tmp_path / f"{number}.jpg").touch()
    start = time.perf_counter()
    found = files_of(tmp_path, IMAGES)
    assert time.perf_counter() - start < 3
    assert len(found) == 10_000 and found[2].name == "2.jpg"


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """An empty checkout, to stand in for this one."""
    (tmp_path / "pyproject.toml").touch()
    (tmp_path / "notebooks").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_where_no_run_is_named_the_repository_s_model_counts(alone, checkout, capsys):
    (checkout / "data" / "models").mkdir(parents=True)
    (checkout / SHIPPED).write_bytes(alone.read_bytes())
    (checkout / "a.png").write_bytes(png(image(1)))
    assert main(["count", "a.png"]) == 0
    assert "1 counted, 0 not" in capsys.readouterr().out
    written = pd.read_csv(checkout / "counts" / "counts.csv")
    assert written["count"][0] == pytest.approx(CrowdCounter().count("a.png").count, rel=1e-4)


def test_a_model_that_is_not_there_is_named(checkout, capsys):
    (checkout / "a.png").write_bytes(png(image(1)))
    assert main(["count", "a.png"]) == 1
    said = capsys.readouterr().err
    assert SHIPPED in said and "git checkout" in said and "--run" in said
    assert main(["count", "a.png", "--run", "nothing"]) == 1


def test_weights_of_16_bits_count_as_the_run_does(run, counted_split, tmp_path, capsys):
    path = tmp_path / "models" / "small.safetensors"
    assert main(["export", str(run.path), "--out", str(path), "--half"]) == 0
    assert "MB" in capsys.readouterr().out
    assert path.stat().st_size < 0.6 * run.weights.stat().st_size
    half, whole = CrowdCounter(path), CrowdCounter(run)
    assert half.info == whole.info and half.info.origin.startswith("Trained on drawn (")
    found, wanted = (results_frame(each.count(counted_split))["count"] for each in (half, whole))
    assert np.allclose(found, wanted, rtol=5e-3) and (found != wanted).any()


def test_nothing_to_count_is_an_error(alone, tmp_path, capsys):
    run = ["--out", str(tmp_path / "out"), "--run", str(alone)]
    assert main(["count", str(tmp_path / "nowhere"), *run]) == 1
    assert "is not there" in capsys.readouterr().err
    (tmp_path / "empty").mkdir()
    assert main(["count", str(tmp_path / "empty"), *run]) == 1
    assert "There is no image in" in capsys.readouterr().err
    (tmp_path / "letter.jpg").write_text("Dear Sir or Madam")
    assert main(["count", str(tmp_path / "letter.jpg"), *run]) == 1


def test_counting_many_is_faster_than_a_plain_loop(alone, tmp_path):
    """Usual are three times and more where bf16 is multiplied fast; elsewhere it is no slower."""

    info, weights = read_info(alone), tmp_path / "auto.safetensors"
    weights.write_bytes(alone.read_bytes())
    config = dataclasses.replace(info.config, precision="auto")
    write_info(weights, dataclasses.replace(info, config=config))
    paths = [tmp_path / f"{number}.jpg" for number in range(4)]
    for number, path in enumerate(paths):
        Image.fromarray(image(number, 480, 640)).save(path)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # parallel loops wait for cores that others use
    table = compare_counting(weights, paths, rounds=3)
    torch.set_num_threads(threads)
    print(f"\n{table.round(2)}")
    assert table["mean"]["CrowdCounter"] == pytest.approx(table["mean"]["plain loop"], rel=0.05)
    times = table["cpu_ms"]["plain loop"] / table["cpu_ms"]["CrowdCounter"]
    assert times >= (1.5 if training.precision_of(config) == "bf16" else 0.8)


def video(path):
    """Two seconds of two frames each."""
    path.parent.mkdir(exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=2)
        stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
        for number in range(4):
            pixels = image(number, 64, 64)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, "rgb24")))
        container.mux(stream.encode())


def test_videos_of_one_name_and_a_broken_one(alone, tmp_path, capsys):
    """Each has files of its own, in folders, too; what cannot be read does not stop the others."""
    folder, out = tmp_path / "videos", tmp_path / "out"
    folder.mkdir()
    given = ["counts.mp4", "gate/cam.mp4", "stairs/cam.avi", "stairs/cam.mp4"]
    for name in given:
        video(folder / name)
    (folder / "broken.mp4").write_text("no video")
    (folder / "a.png").write_bytes(png(image(1, 30, 40)))
    words = ["count", str(folder), "--out", str(out), "--run", str(alone), "--every", "1"]
    assert main(words) == 3
    said = capsys.readouterr()
    assert "5 counted, 1 not" in said.out and "broken.mp4: " in said.err
    table = pd.read_csv(out / "videos.csv")
    assert table["video"].tolist() == given and (table["frames"] == 2).all()
    for name in given:
        counts = pd.read_csv(out / "videos" / f"{name}.csv")
        assert counts["seconds"].tolist() == [0, 1] and (out / "videos" / f"{name}.png").is_file()
    assert pd.read_csv(out / "counts.csv")["image"].tolist() == ["a.png"]
    (folder / "broken.mp4").unlink()
    assert main(words) == 0
    assert "5 counted (5 of them before)" in capsys.readouterr().out
    assert main([*words[:-1], "0"]) == 0, "other frames are asked for"
    assert (pd.read_csv(out / "videos.csv")["frames"] == 4).all()


def test_the_precision_may_be_another_than_the_run_s(alone):
    as_measured = CrowdCounter(alone)
    fast = CrowdCounter(alone, precision="bf16")
    assert (as_measured.precision, fast.precision) == ("fp32", "bf16")
    counts = [counter.count(image(1, 128, 128)).count for counter in (as_measured, fast)]
    assert counts[0] != counts[1] and counts[1] == pytest.approx(counts[0], rel=0.1)
    with pytest.raises(ValueError, match=r"precision 'bf61'.*'bf16'"):
        CrowdCounter(alone, precision="bf61")


def run_notebook(**given):
    """Notebook 08's cells with other parameters; its variables."""
    notebook = project_root() / "notebooks" / "08_count_your_own.ipynb"
    space = {}
    for cell in json.loads(notebook.read_text(encoding="utf-8"))["cells"]:
        if cell["cell_type"] == "code":
            exec("".join(cell["source"]), space)
            space |= given if "parameters" in cell["metadata"].get("tags", ()) else {}
    return space


@pytest.mark.parametrize(
    ("content", "error"),
    [
        ({}, "There is no image in"),
        ({"a.jpg": b"broken"}, "could be counted: .*this is no image"),
    ],
)
def test_notebook_08_says_why_nothing_is_counted(alone, tmp_path, content, error):
    folder = tmp_path / "images"
    folder.mkdir()
    for name, data in content.items():
        (folder / name).write_bytes(data)
    with pytest.raises((ValueError, FileNotFoundError), match=error):
        run_notebook(folder=str(folder), run=str(alone), out=str(tmp_path / "out"))


def test_notebook_08_takes_one_file(alone, tmp_path, figures):
    (tmp_path / "a.png").write_bytes(png(image(1, 60, 80)))
    said = run_notebook(folder=str(tmp_path / "a.png"), run=str(alone), out=str(tmp_path / "out"))
    assert said["first"].name == "a.png" and said["done"].table["image"].tolist() == ["a.png"]
