"""Speed that is promised, as a ratio taken in one run."""

import time

import numpy as np
import pytest
from PIL import Image

from ebclib import datasets
from ebclib.transforms import random_box


@pytest.fixture
def published(ebc_data, tmp_path):
    """A data root with 24 training pictures of ShanghaiTech B, linked."""
    source = ebc_data / "ShanghaiTech" / "part_B" / "train_data"
    for kind, pattern in (("images", "IMG_{}.jpg"), ("ground-truth", "GT_IMG_{}.mat")):
        folder = tmp_path / "data" / "part_B" / "train_data" / kind
        folder.mkdir(parents=True)
        for number in range(1, 25):
            (folder / pattern.format(number)).symlink_to(source / kind / pattern.format(number))
    return tmp_path / "data"


def test_a_crop_costs_at_most_a_fifth_of_decoding_its_jpeg(published, tmp_path):
    """Crops as the paper's recipe draws them: read from the prepared split, against opening the
    published file, decoding it and cutting. The better of five rounds of each."""
    files = datasets.read("shb", "train", root=published).entries
    split = datasets.prepared("shb", "train", published, tmp_path / "prepared", progress=False)
    rng = np.random.default_rng(0)
    draws = [(k, random_box(rng, *split.sizes[k], 448, 2.0)) for k in rng.permutation(len(split))]

    def from_jpeg(k, box):
        with Image.open(files[k].picture) as file:
            pixels = np.asarray(file.convert("RGB"))
        return pixels[box.top : box.top + box.side, box.left : box.left + box.side].copy()

    def from_prepared(k, box):
        return split.crop(k, box.top, box.left, box.side, box.side)

    seconds = {from_jpeg: [], from_prepared: []}
    for _ in range(5):
        for read, times in seconds.items():
            start = time.perf_counter()
            crops = [read(k, box) for k, box in draws]
            times.append(time.perf_counter() - start)
            assert [c.shape for c in crops] == [(box.side, box.side, 3) for _, box in draws]
    assert min(seconds[from_jpeg]) >= 5 * min(seconds[from_prepared])
    k, box = draws[0]
    assert (from_jpeg(k, box) == from_prepared(k, box)).all()
