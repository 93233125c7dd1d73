"""ShanghaiTech as published, where $EBC_DATA holds it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ebclib.data import prepare, prepared, read
from ebclib.data.images import image_header, inside
from ebclib.data.preparation import image_hash, near_pairs

# train and test image of ShanghaiTech A that show the same
SAME = {(60, 40), (139, 82), (121, 98), (2, 173), (154, 181), (97, 142)}


@pytest.mark.parametrize(
    ("name", "images", "points"),
    [
        ("sha", {"train": 300, "test": 182}, 241_275),
        ("shb", {"train": 400, "test": 316}, 88_272),
    ],
)
def test_totals(ebc_data: Path, name: str, images: dict[str, int], points: int):
    found = 0
    for split, number in images.items():
        source = read(name, split, root=ebc_data)
        assert len(source) == number and source.notes == []
        for entry in source.entries:
            found += int(inside(entry.points(), image_header(entry.image)[0]).sum())
    assert found == points


def test_images_in_both_splits_are_found_and_no_others(ebc_data: Path):
    train, test = (read("sha", split, root=ebc_data) for split in ("train", "test"))
    hashes = [image_hash(sample.image) for split in (train, test) for sample in split]
    number = [int(name.removeprefix("IMG_")) for name in train.names + test.names]
    pairs = [
        (number[first], number[second], second >= len(train) > first)
        for _, first, second in near_pairs(hashes)
    ]
    across = {(first, second) for first, second, is_across in pairs if is_across}
    assert across == SAME
    assert not across & {(second, first) for first, second in SAME}
    assert {(a, b) for a, b, is_across in pairs if not is_across} == {(118, 283), (167, 169)}


def test_a_small_part_is_prepared(ebc_data: Path, tmp_path: Path):
    """Twelve images of sha, linked into a data root of their own."""
    for split in ("train", "test"):
        source = ebc_data / "ShanghaiTech" / "part_A" / f"{split}_data"
        for kind in ("images", "ground-truth"):
            folder = tmp_path / "data" / "part_A" / f"{split}_data" / kind
            folder.mkdir(parents=True)
            for i in range(1, 7):
                stem = f"IMG_{i}.jpg" if kind == "images" else f"GT_IMG_{i}.mat"
                (folder / stem).symlink_to(source / kind / stem)
    options = {"root": tmp_path / "data", "out": tmp_path / "out", "progress": False}
    report = prepare("sha", **options)
    for split in ("train", "test"):
        published, ready = (
            read("sha", split, root=tmp_path / "data"),
            prepared("sha", split, **options),
        )
        assert report["splits"][split]["points"] == int(ready.counts.sum())
        assert np.array_equal(ready.counts, [len(sample.points) for sample in published])
        assert all(min(size) >= 448 for size in ready.sizes)
        assert all(inside(p, size).all() for p, size in zip(ready.points, ready.sizes, strict=True))
