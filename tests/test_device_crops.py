"""Crops that threads make are those of the DataLoader, to the bit, on whatever device."""

import math
import threading

import pytest
import torch
from torch.utils.data import DataLoader

from ebclib import data
from ebclib.data.augmentation import RELEASED
from ebclib.data.crops import DeviceCrops, EpochSampler, TrainingCrops, collate

DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]


@pytest.fixture
def split(drawn, monkeypatch):
    monkeypatch.setenv("EBC_DATA", str(drawn))
    return data.prepared("drawn", "train", progress=False)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(("smoothing_px", "threads"), [(None, 1), (4.0, 3)])
def test_batches_are_those_of_the_data_loader(split, device, smoothing_px, threads):
    crops = TrainingCrops(split, range(10), 128, 16, 2.0, 5, smoothing_px, RELEASED)
    sampler = EpochSampler(10, seed=5)
    sampler.epoch = 3
    theirs = list(DataLoader(crops, 4, sampler=sampler, collate_fn=collate, drop_last=True))
    mine = DeviceCrops(crops, sampler, 4, device, threads=threads)
    assert len(mine) == len(theirs) == 2
    for batch, expected in zip(mine, theirs, strict=True):
        assert batch.draws == expected.draws
        assert batch.image.dtype == torch.uint8 and batch.image.device.type == device
        assert batch.image.is_contiguous(memory_format=torch.channels_last)
        for name in ("image", "counts", "labels"):
            assert torch.equal(getattr(batch, name).cpu(), getattr(expected, name))
        for found, wanted in zip(batch.points, expected.points, strict=True):
            assert torch.equal(found.cpu(), wanted)


def test_images_that_do_not_fit_are_read_from_disk(split):
    crops = TrainingCrops(split, range(4), 64, 8)
    sizes = [math.prod(split.sizes[k]) * 3 for k in range(4)]
    part, whole = (
        DeviceCrops(crops, EpochSampler(4), 4, "cpu", budget_bytes=budget)
        for budget in (sum(sizes[:2]), sum(sizes))
    )
    assert list(part.crops.images) == [0, 1] and list(whole.crops.images) == [0, 1, 2, 3]
    assert not crops.images, "others that read them do so still"
    assert torch.equal(part.batch(range(8)).image, whole.batch(range(8)).image)


def test_threads_make_a_batch_ahead(split, monkeypatch):
    makers, read = set(), split.crop

    def crop(*place):
        makers.add(threading.current_thread().name.partition("_")[0])
        return read(*place)

    monkeypatch.setattr(split, "crop", crop)
    crops = TrainingCrops(split, range(4), 64, 8)
    batches = iter(DeviceCrops(crops, EpochSampler(4), 2, "cpu", threads=2, budget_bytes=0))
    assert next(batches).image.shape == (2, 3, 64, 64)
    assert makers == {"crops"}


@pytest.mark.parametrize("drop_last", [True, False])
def test_processes_share_an_epoch(split, drop_last):
    crops = TrainingCrops(split, range(11), 64, 8)
    sampler = EpochSampler(11)
    loaders = [DeviceCrops(crops, sampler, 2, "cpu", drop_last, process, 3) for process in range(3)]
    assert {len(loader) for loader in loaders} == {1 if drop_last else 2}
    seen = [draw for loader in loaders for batch in loader for draw in batch.draws]
    assert len(set(seen)) == (6 if drop_last else 11)
