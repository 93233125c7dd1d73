"""The paper's numbers as data: complete, typed, and in agreement with what the paper says of them."""

import numpy as np
import pytest

from ebclib.bins import make_bins
from ebclib.config import make_config
from ebclib.data import DATASETS
from ebclib.encoders.variants import VARIANTS
from ebclib.studies import paper_tables as module
from ebclib.studies.paper_tables import (
    as_printed,
    counterparts,
    improvement,
    improvements,
    published,
    wide,
)

ALLOWED = {
    "kind": {"regression", "classification", "ebc", "clip-ebc", "zip", "other"},
    "source": {
        *("Table I", "Table II", "Table III", "Table IV"),
        *("later version", "successor", "other paper"),
    },
    "model": {np.nan, *VARIANTS},
}
FACTORS = ("block_size_px", "bins", "backbone", "integer_bins", "label_correction", "count_weight")


@pytest.mark.parametrize("number", [1, 2, 3, 4])
def test_every_row_makes_sense(number):
    table = published(number)
    for column, allowed in ALLOWED.items():
        assert table[column].isin(allowed).all(), column
    assert table[["method", "citation"]].notna().all(axis=None)
    for dataset, split in zip(table["dataset"], table["split"], strict=True):
        assert split in DATASETS[dataset].splits
    there = table["mae"].notna()
    assert (table["mae"][there] > 0).all() and table["rmse"][~there].isna().all()
    assert (table["rmse"] >= table["mae"])[table["rmse"].notna()].all()
    keys = ["method", "dataset", "split", *(name for name in FACTORS if name in table)]
    assert not table.duplicated(keys).any()


def test_table_1_has_every_method_on_every_data_set_and_four_dashes():
    table = published(1).query("source == 'Table I'")
    assert table.groupby("method").size().eq(4).all() and table["method"].nunique() == 12
    assert set(table.loc[table["dataset"] == "nwpu", "split"]) == {"val"}
    dashes = table[table["mae"].isna()]
    assert dashes["method"].tolist() == ["CMTL", "Blockwise", "S-DCNet", "DC-Reg"]
    assert set(dashes["dataset"]) == {"nwpu"} and dashes["rmse"].isna().all()


def test_the_rows_that_are_ours_to_compare_with_are_those_of_the_abstract():
    """55.0 and 6.3 are in the paper's first sentences, 6.9 beside our CSRNet in the README."""
    table = published(1).set_index(["method", "dataset"])["mae"]
    assert table["CLIP-EBC (ResNet50)", "sha"] == 55.0
    assert table["CLIP-EBC (ResNet50)", "shb"] == 6.3
    assert table["CSRNet-EBC", "shb"] == 6.9


def test_computed_improvements_are_the_printed_ones_but_for_one_that_contradicts_its_errors():
    """45.5 % is printed (Table I, Sec. IV-A) for CSRNet on NWPU; 104.8 to 42.9 is 59.0 %."""
    table = improvements(1)
    assert len(table) == 16
    odd = table[~table["agrees"]]
    assert odd[["method", "dataset", "measure"]].values.tolist() == [["CSRNet-EBC", "nwpu", "MAE"]]
    assert odd["printed"].item() == 45.5 and as_printed(odd["percent"].item()) == 59.0
    nwpu = table[(table["dataset"] == "nwpu") & table["agrees"]]
    assert nwpu["percent"].map(as_printed).tolist() == [76.9, 43.8, 73.2]
    assert nwpu["printed"].tolist() == [76.9, 43.8, 73.2]


def test_ebc_betters_blockwise_on_every_backbone_as_printed():
    table = improvements(4)
    assert table["backbone"].tolist() == ["VGG16", "ResNet101", "MobileNetV2", "DenseNet201"]
    assert table["percent"].map(as_printed).tolist() == [44.5, 37.3, 38.7, 29.8]
    assert table["agrees"].all()


def test_tables_agree_with_each_other_and_with_the_text():
    ablation = published(3)["mae"]
    assert as_printed(improvement(ablation[0], ablation[1])) == 37.1  # Sec. IV-C
    weighted = published(3).set_index("count_weight")["mae"]
    vgg16 = published(4).query("model == 'vgg16'").set_index("method")["mae"]
    assert (ablation[0], weighted[1.0]) == (vgg16["Blockwise"], vgg16["EBC"])
    assert weighted.idxmin() == 1.0
    best = published(2).groupby("block_size_px")["mae"].idxmin()
    assert published(2).loc[best, "bins"].tolist() == ["dynamic", "dynamic"]  # Sec. IV-B


def test_table_2_s_factors_make_bins():
    for row in published(2).itertuples():
        assert len(make_bins(row.bins, row.max_count)) > 4


def test_wide_has_a_source_for_every_number_and_none_without():
    numbers, sources = wide(published(1))
    places = ["ShanghaiTech A", "ShanghaiTech B", "UCF-QNRF", "NWPU-Crowd val", "NWPU-Crowd test"]
    places.append("JHU-Crowd++")
    assert numbers.columns.get_level_values(0).unique().tolist() == places
    assert numbers.loc["ZIP-B", ("NWPU-Crowd val", "RMSE")] == 64.8
    assert numbers.index[0] == "MCNN" and numbers.index.is_unique
    assert (sources != "").equals(numbers.notna())
    assert sources.loc["BL", ("ShanghaiTech A", "MAE")] == "Table I (Ma et al., ICCV 2019)"


def test_a_run_s_counterparts_are_of_its_model_kind_data_set_and_split():
    found = counterparts(make_config("shb", model="csrnet", head="linear"))
    assert found["method"].tolist() == ["CSRNet-EBC"] and found["mae"].tolist() == [6.9]
    csrnet = {"model": "csrnet", "head": "regression"}
    found = counterparts(make_config("shb", **csrnet, count_loss="mse"))
    assert found["method"].tolist() == ["CSRNet"]
    assert counterparts(make_config("shb", **csrnet)).empty  # by DM-Count's loss: nobody's
    found = counterparts(make_config("shb", model="dmcount", head="regression"))
    assert found["method"].tolist() == ["DMCount"]
    blockwise = make_config("qnrf", model="vgg16", bins="interval")
    assert counterparts(blockwise)["mae"].tolist() == [140.6]
    vit = counterparts(make_config("nwpu", model="clip_vit_b_16"))
    assert vit["split"].tolist() == ["val"] and vit["rmse"].tolist() == [126.5]
    assert counterparts(
        make_config("shb", model="clip_lite")
    ).empty  # clip_lite is nobody's but ours
    assert counterparts(make_config("synthetic", model="csrnet")).empty
    assert counterparts(make_config("shb", model="csrnet", loss="zip")).empty  # it is no EBC


def test_rows_of_other_papers_are_told_from_the_paper_s():
    table = published(1).set_index(["method", "dataset"])
    assert table.loc[("ZIP-P", "shb"), ["mae", "source", "kind"]].tolist() == [
        8.2,
        "successor",
        "zip",
    ]
    others = table[table["source"] == "other paper"]
    assert set(others["kind"]) == {"other"} and others["improves_on"].isna().all()
    assert others.loc[("MPCount, trained on ShanghaiTech B", "sha"), "rmse"] == 182.9


def test_an_unknown_table_is_an_error_that_lists_the_known_ones():
    with pytest.raises(ValueError, match=r"table '5' is not known\..*1, 2, 3, 4"):
        published(5)


def test_without_a_checkout_the_error_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(module, "project_root", lambda: tmp_path)
    monkeypatch.setattr(
        module, "__file__", str(tmp_path / "ebclib" / "studies" / "paper_tables.py")
    )
    with pytest.raises(FileNotFoundError, match="with the workbook, not with the installed"):
        published(1)
