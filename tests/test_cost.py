import numpy as np
import pytest

from ebclib.studies.cost import model_costs, outline, steps


def test_a_model_s_steps_have_the_shapes_and_sizes_of_the_real_one():
    made = steps(outline("csrnet", head="regression"), 448, 640)
    assert made.index.tolist() == ["image", "encoder", "decoder", "head", "density"]
    shapes = [(3, 448, 640), (512, 56, 80), (64, 56, 80), (1, 56, 80), (1, 56, 80)]
    assert made["shape"].tolist() == shapes
    assert made["parameters"].sum() == 16_263_489
    assert made["multiply_adds"]["head"] == 64 * 56 * 80


def test_multiply_adds_are_the_published_ones():
    """VGG16's convolutions: 15.3 billion at 224² (Simonyan and Zisserman 2015; He et al. 2016)."""
    table = model_costs(["vgg16", "clip_vit_b_16"], [(224, 224), (448, 448)])
    assert table["224 × 224"]["vgg16"] == pytest.approx(15.35, abs=0.05)
    assert table["448 × 448"]["vgg16"] == pytest.approx(4 * table["224 × 224"]["vgg16"], rel=0.01)
    windows = table.loc["clip_vit_b_16", ["224 × 224", "448 × 448"]]
    assert np.isclose(windows.iloc[1], 4 * windows.iloc[0]), "four windows"


def test_an_outline_holds_no_numbers():
    assert all(p.is_meta for p in outline("clip_vit_l_14").parameters())
