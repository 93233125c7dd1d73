import pandas as pd

from ebclib import tables
from ebclib.config import make_config, results_root
from ebclib.runs import all_runs, write_json


def test_tables_are_made_from_runs_and_never_mix_data_sets(make_run):
    make_run("shb-one", mae=10)
    make_run("shb-two", mae=20)
    make_run("synthetic-one", "synthetic")
    unfinished = results_root() / "runs" / "shb-unfinished"
    write_json(unfinished / "config.json", make_config("shb").to_dict())
    assert len(all_runs()) == 4
    written = tables.write_tables()
    assert sorted(written) == ["shb", "synthetic"]
    stored = pd.read_csv(results_root() / "tables" / "runs_shb.csv")
    assert stored["run"].tolist() == ["shb-one", "shb-two"]
    assert stored["ratio"].tolist() == [0.25, 0.5]


def test_a_table_is_saved_where_tables_are():
    path = tables.save(pd.DataFrame({"a": [1 / 3]}), "thirds", digits=3)
    assert path == results_root() / "tables" / "thirds.csv"
    assert path.read_text() == "a\n0.333\n"


def test_no_runs_make_no_tables():
    assert tables.write_tables() == {}
