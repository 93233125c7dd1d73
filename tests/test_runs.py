import errno

import pandas as pd
import pytest

from ebclib.config import results_root
from ebclib.runs import open_run, write_csv, write_whole


def test_a_file_is_whole_or_not_there(tmp_path):
    target = tmp_path / "deep" / "file.txt"
    write_whole(target, lambda part: part.write_text("old"))

    def dies(part):
        part.write_text("half of the n")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_whole(target, dies)
    assert target.read_text() == "old"

    def full(part):
        part.write_text("half of the n")
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OSError, match=r"No space left.*file\.txt'$"):
        write_whole(target, full)
    with pytest.raises(IsADirectoryError, match="deep is a folder; give"):
        write_whole(target.parent, lambda part: part.write_text("new"))
    assert [path.name for path in target.parent.iterdir()] == ["file.txt"], "no part is left"
    assert target.read_text() == "old" and not list(tmp_path.glob("*.part"))


def test_csv_keeps_the_digits_asked_for(tmp_path):
    write_csv(tmp_path / "a.csv", pd.DataFrame({"x": [1.23456789]}), digits=3)
    assert (tmp_path / "a.csv").read_text() == "x\n1.23\n"


def test_what_is_not_there_is_said(make_run):
    make_run("shb-one")
    run = open_run("shb-one")
    assert run.is_finished and run.config.dataset == "shb"
    with pytest.raises(FileNotFoundError, match=r"no model\.safetensors.*train it"):
        run.weights  # noqa: B018
    with pytest.raises(FileNotFoundError, match="Did you mean 'shb-one'"):
        open_run("shb-on")
    assert open_run(results_root() / "runs" / "shb-one").name == "shb-one"
