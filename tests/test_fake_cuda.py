"""The GPU's way on a machine without one: torch's fake tensors have a device and a shape, and no numbers.

What mixes devices fails here as it would there, and `Device` notes what would make the host wait. Not
covered: numbers, memory and speed; the backward pass and the optimiser, as autograd does not run on
the fake device (gradients are put in their place); many processes; fp16's scaler; torch.compile.
"""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    FakeTensorDeviceMismatchError,
    FakeTensorMode,
)
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from ebclib import evaluation
from ebclib.config import make_config
from ebclib.counting import CrowdCounter
from ebclib.data.augmentation import Augmentation
from ebclib.data.crops import Batch, DeviceCrops, EpochSampler, TrainingCrops
from ebclib.data.splits import Sample
from ebclib.encoders import build_encoder
from ebclib.encoders.variants import find_variant
from ebclib.losses import CountLoss
from ebclib.models import BlockwiseModel
from ebclib.training.loop import Trainer

aten = torch.ops.aten
SIDE, R, BINS = 64, 8, 5
ALL = Augmentation(0.2, blur=1.4, noise=0.01, blur_share=1.0, noise_share=1.0)
WAITING = {aten._local_scalar_dense, aten.nonzero, aten.masked_select, aten.equal, aten._unique2}


class Device(TorchDispatchMode):
    """A log of what makes the host wait for a GPU, and the pinned memory that fake tensors lack.

    Parameters
    ----------
    number : what a tensor's `.item()` gives; None: it has no numbers, which is an error
    """

    def __init__(self, number=None):
        super().__init__()
        self.number, self.waits, self.kinds, self.pinned = number, [], set(), []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs, name = kwargs or {}, func.overloadpacket
        if (
            torch.is_inference_mode_enabled() and func.namespace == "aten"
        ):  # there, what is made of others arrives whole
            with self:
                made = func.decompose(*args, **kwargs)
            if made is not NotImplemented:
                return made
        if name is aten.is_pinned:
            return any(args[0] is each for each in self.pinned)
        if name is aten._pin_memory:
            self.pinned.append(aten.clone.default(args[0]))
            return self.pinned[-1]
        if self._waits(name, func, args, kwargs):
            self.waits.append(str(func))
        if name is aten._local_scalar_dense and self.number is not None:
            return self.number
        if name is aten.convolution:
            self.kinds.add(args[0].dtype)
        return func(*args, **kwargs)

    def _waits(self, name, func, args, kwargs):
        there = [t.is_cuda for t in tree_leaves((args, kwargs)) if isinstance(t, torch.Tensor)]
        if name in (aten._to_copy, aten.copy_):
            to, source = (args[:2]) if name is aten.copy_ else (kwargs.get("device"), args[0])
            to = getattr(to, "device", to) or source.device
            free = to.type == "cuda" and any(source is each for each in self.pinned)
            free = free and (kwargs.get("non_blocking") or True in args[2:])
            return (
                to.type != source.device.type
                and "cuda" in (to.type, source.device.type)
                and not free
            )
        if name in (aten.index, aten.index_put, aten.index_put_):
            places = [each for each in args[1] if each is not None]
            return any(there) and any(not p.is_cuda or p.dtype == torch.bool for p in places)
        if name is aten.repeat_interleave:
            return any(there) and kwargs.get("output_size") is None
        return any(there) and name in WAITING


@pytest.fixture
def fake(monkeypatch):
    """Every tensor is fake; CUDA says that it is there, as far as autocast asks."""
    monkeypatch.setattr(torch.cuda.amp.common, "amp_definitely_not_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda *_, **__: True)
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        yield mode


def make_model(name="csrnet", head="linear", **options):
    encoder = build_encoder(name, "none", load=False, **options)
    text = torch.zeros(BINS, encoder.embedding) if head == "text" else None
    a = np.arange(BINS, dtype=float)
    window_px = 224 if find_variant(name).windows else None
    model = BlockwiseModel(encoder, a, R, head, text, find_variant(name), window_px=window_px)
    for module in model.modules():  # `Module.to` cannot swap fake tensors
        for key, value in module.named_parameters(recurse=False):
            module._parameters[key] = torch.nn.Parameter(value.to("cuda"), value.requires_grad)
        for key, value in module.named_buffers(recurse=False):
            module._buffers[key] = value.to("cuda")
    return model


def bf16():
    return torch.autocast("cuda", torch.bfloat16)


def make_batch(people=(3, 0), side=SIDE):
    h, size = side // R, len(people)
    counts = torch.zeros(size, h, h, dtype=torch.int64, device="cuda")
    points = [torch.zeros(n, 2, device="cuda") for n in people]
    image = torch.zeros(size, 3, side, side, dtype=torch.uint8, device="cuda")
    return Batch(image, counts, counts, points, list(range(size)))


def make_trainer(model, loss="dmcount", skips=True):
    """What `Trainer._one_step` reads, with gradients from nowhere and an optimiser that does nothing."""

    def backward(loss):
        assert loss.is_cuda and loss.requires_grad
        for parameter in model.parameters():
            parameter.grad = torch.empty_like(parameter)

    def forward(image):
        with bf16():
            return model(image).float()

    accelerator = SimpleNamespace(
        backward=backward,
        reduce=lambda tensor, _: tensor,
        scaler=None,
        clip_grad_norm_=torch.nn.utils.clip_grad_norm_,
    )
    return SimpleNamespace(
        model=forward,
        network=model,
        trained=list(model.parameters()),
        accelerator=accelerator,
        optimizer=SimpleNamespace(
            zero_grad=lambda: None, step=lambda: None, optimizer=SimpleNamespace()
        ),
        config=make_config("synthetic", model="csrnet", clip_norm=1.0, ema_decay=0.9),
        count_loss=CountLoss(loss, R, 4),
        borders=torch.arange(1.0, BINS).to("cuda"),
        skips=skips,
        fused=skips,
        ema=None,
    )


def step(trainer, batch):
    trainer._loss = lambda *given: Trainer._loss(trainer, *given)
    with Device() as device:
        parts, bad = Trainer._one_step(trainer, batch)
    assert parts.shape == (3,) and parts.is_cuda and bad.is_cuda
    return device


KINDS = [
    ("csrnet", "linear", {}),
    ("dmcount_vgg16", "regression", {}),
    ("timm:resnet18", "random_text", {}),
    ("clip_lite", "text", {}),
    ("clip_rn50", "text", {}),
    ("clip_vit_b_16", "text", {"visual_prompts": "deep"}),
]


@pytest.mark.parametrize(("name", "head", "options"), KINDS)
def test_a_forward_pass_in_bf16_stays_on_the_device(name, head, options, fake):
    model = make_model(name, head, **options)
    side = model.window_px or SIDE
    image = torch.zeros(2, 3, side, side, dtype=torch.uint8, device="cuda")
    with Device() as device, bf16():
        logits = model(image)
        density, variance = model.density(logits), model.variance(logits)
    assert device.kinds >= {torch.bfloat16} and not device.waits
    assert logits.dtype == torch.float32
    for each in (density, variance):
        assert each.is_cuda and each.shape == (2, 1, side // R, side // R)


@pytest.mark.parametrize(
    ("head", "loss"), [("linear", "dmcount"), ("linear", "l1"), ("regression", "mse")]
)
@pytest.mark.parametrize("people", [(3, 0), (0, 0)])
def test_a_training_step_copies_nothing_back_and_waits_for_nothing(head, loss, people, fake):
    trainer = make_trainer(make_model("timm:resnet18", head), loss)
    assert step(trainer, make_batch(people)).waits == []


def test_an_average_of_the_weights_waits_for_nothing(fake):
    trainer = make_trainer(make_model("timm:resnet18"))
    trainer.ema = SimpleNamespace(module=make_model("timm:resnet18"), n_averaged=1)
    assert step(trainer, make_batch()).waits == []


def test_a_misplaced_tensor_is_found(fake):
    trainer = make_trainer(make_model())
    trainer.borders = trainer.borders.cpu()
    with pytest.raises(FakeTensorDeviceMismatchError):
        step(trainer, make_batch())
    model, batch = make_model(), make_batch()
    model.representatives = model.representatives.cpu()
    with pytest.raises(FakeTensorDeviceMismatchError):
        step(make_trainer(model), batch)


def test_a_number_asked_for_in_the_step_is_found(fake):
    trainer = make_trainer(make_model())
    loss = trainer.count_loss
    trainer.count_loss = lambda density, *more: loss(density / density.sum().item(), *more)
    with pytest.raises(DataDependentOutputException):
        step(trainer, make_batch())


@pytest.mark.parametrize(
    "slip",
    [
        lambda density: density[[0, 1]],  # a list of places is copied to the device
        lambda density: density * torch.tensor([1.0, 2.0], device="cuda").view(2, 1, 1, 1),
        lambda density: density.cpu().to("cuda"),
        lambda density: (
            density * torch.ones(2, 1, 1, 1).to("cuda", non_blocking=True)
        ),  # not pinned
    ],
)
def test_a_copy_in_the_step_is_found(slip, fake):
    trainer = make_trainer(make_model(), "l1")
    loss = trainer.count_loss
    trainer.count_loss = lambda density, *more: loss(slip(density), *more)
    assert step(trainer, make_batch()).waits


class Split(list):
    """What crops and predictions read of a prepared split."""

    sizes = property(lambda self: [each.image.shape[:2] for each in self])
    points = property(lambda self: [each.points for each in self])

    def image(self, index):
        return self[index].image

    def crop(self, index, top, left, height, width):
        return self[index].image[top : top + height, left : left + width].copy()


SPLIT = Split(
    Sample(np.zeros((90, 80 + k, 3), np.uint8), np.ones((k, 2)), str(k)) for k in range(4)
)


@pytest.mark.parametrize("budget_bytes", [1e9, 0])
def test_crops_get_to_the_device_and_nobody_waits(budget_bytes, fake):
    crops = TrainingCrops(SPLIT, range(4), SIDE, R, 2.0, 5, None, ALL)
    with Device() as device:
        loader = DeviceCrops(
            crops, EpochSampler(4), 2, "cuda", threads=2, budget_bytes=budget_bytes
        )
        batches = list(loader)
    assert device.waits == [] and len(batches) == 2
    for batch in batches:
        assert batch.image.shape == (2, 3, SIDE, SIDE) and batch.image.dtype == torch.uint8
        assert all(each.is_cuda for each in (*batch[:3], *batch.points))


@pytest.mark.parametrize("name", ["mobilenetv2", "clip_vit_b_16"])  # whole, and in windows
def test_validation_waits_for_an_image_s_numbers_alone(name, fake):
    model = make_model(name)
    with Device(number=1.0) as device, bf16():
        found = evaluation.predict(model, SPLIT)
    assert found["count"].tolist() == found["deviation"].tolist() == [1.0] * 4
    assert len(device.waits) == 3 * 4  # the image there, its count and its deviation back


def test_counting_waits_for_images_and_maps_alone(fake):
    counter = object.__new__(CrowdCounter)  # its file of weights would be real
    counter.device, counter.precision = torch.device("cuda"), "bf16"
    counter.network = make_model("mobilenetv2").eval()
    with Device() as device:
        maps = counter._maps(torch.zeros(3, SIDE, SIDE, dtype=torch.uint8, device="cuda"))
    assert [each.shape for each in maps[:2]] == [(SIDE // R, SIDE // R)] * 2
    assert device.waits == ["aten._to_copy.default"] * 2 and torch.bfloat16 in device.kinds
