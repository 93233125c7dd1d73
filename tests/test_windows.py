import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from ebclib.encoders.encoder import Encoder
from ebclib.evaluation.windows import predict_map, window_spans
from ebclib.models import BlockwiseModel


def brightness_counter(block_size_px=8, window_px=None):
    """A regression model that sees a block's mean brightness alone: local, so windows change nothing."""
    image = nn.Conv2d(3, 1, block_size_px, block_size_px, bias=False)
    nn.init.constant_(image.weight, 1 / (3 * block_size_px**2))
    encoder = Encoder(
        image=image, channels=1, stride_px=block_size_px, mean=(0.0,) * 3, std=(1.0,) * 3
    )
    model = BlockwiseModel(encoder, [], block_size_px, "regression", window_px=window_px).eval()
    nn.init.ones_(model.head.classify.weight)
    return model


@given(
    st.integers(1, 150),
    st.integers(1, 150),
    st.sampled_from([(32, 32), (32, 8), (64, 24), (128, 128)]),
)
@settings(max_examples=40)
def test_windows_of_any_size_and_stride_say_what_the_whole_image_says(height, width, window):
    """Inside; where a block reaches over the border, the canvas is black in both."""
    model = brightness_counter()
    pixels = torch.randint(0, 256, (3, height, width), dtype=torch.uint8)
    whole = predict_map(model, pixels)
    parts = predict_map(model, pixels, window_px=window[0], stride_px=window[1])
    assert parts.density.shape == (math.ceil(height / 8), math.ceil(width / 8))
    assert torch.allclose(whole.density, parts.density, atol=1e-5)
    assert torch.allclose(whole.variance, parts.variance, atol=1e-5)


def test_blocks_that_several_windows_see_get_the_mean_of_what_they_say():
    class Numbered(BlockwiseModel):
        calls = 0

        def forward(self, pixels):
            Numbered.calls += len(pixels)
            people = torch.arange(Numbered.calls - len(pixels), Numbered.calls).float() + 1
            return people.expm1().log().view(-1, 1, 1, 1).expand(-1, 1, 2, 2)

    model = brightness_counter(8, 16)
    model.__class__ = Numbered
    maps = predict_map(model, torch.zeros(3, 16, 24, dtype=torch.uint8))
    assert maps.density.flatten().tolist() == pytest.approx([1, 1.5, 2] * 2)


def test_the_last_window_moves_inside_and_none_is_left_out():
    def starts(*given):
        return [span.start for span in window_spans(*given)]

    assert starts(100, 224, 224) == starts(224, 224, 224) == [0]
    assert starts(448, 224, 224) == [0, 224]
    assert starts(232, 224, 224) == [0, 8]
    for length in range(224, 900, 8):
        spans = window_spans(length, 224, 96)
        assert {x for span in spans for x in range(span.start, span.stop)} == set(range(length))
        assert all(span.seen == slice(span.start, span.stop) for span in spans)


def test_windows_that_do_not_fall_on_blocks_are_refused():
    pixels = torch.zeros(3, 64, 64, dtype=torch.uint8)
    for window, stride in ((30, None), (32, 12), (32, 40)):
        with pytest.raises(ValueError, match="multiples of the block's 8 px"):
            predict_map(brightness_counter(), pixels, window_px=window, stride_px=stride)


@pytest.mark.parametrize("window_px", [None, 32])
def test_probabilities_come_with_the_maps_if_asked_for(window_px):
    """In windows their means, so that the density is Eq. 1's of them either way."""
    torch.manual_seed(0)
    image = nn.Conv2d(3, 4, 8, 8)
    encoder = Encoder(image=image, channels=4, stride_px=8, mean=(0.5,) * 3, std=(0.5,) * 3)
    model = BlockwiseModel(encoder, [0, 1, 2.5], 8, "linear", window_px=window_px).eval()
    pixels = torch.randint(0, 256, (3, 50, 75), dtype=torch.uint8)
    assert predict_map(model, pixels).probabilities is None
    maps = predict_map(model, pixels, stride_px=window_px and 24, probabilities=True)
    assert maps.probabilities.shape == (3, 7, 10)
    assert torch.allclose(maps.probabilities.sum(0), torch.ones(7, 10), atol=1e-5)
    people = (maps.probabilities * model.representatives.view(-1, 1, 1)).sum(0)
    assert torch.allclose(people, maps.density, atol=1e-5)
    with pytest.raises(ValueError, match="no bins"):
        predict_map(brightness_counter(), pixels, probabilities=True)
