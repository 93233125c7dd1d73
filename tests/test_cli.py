import pytest

from ebclib.__main__ import main


def test_a_missing_data_set_says_what_to_do(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("EBC_DATA", str(tmp_path))
    assert main(["train", "qnrf"]) == 1
    message = capsys.readouterr().err
    for part in (
        "UCF-QNRF",
        "is not there",
        str(tmp_path),
        "crcv.ucf.edu",
        "data/README.md",
        "EBC_DATA",
    ):
        assert part in message


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["train", "shbb"], "Did you mean 'shb'"),
        (["train", "shb", "--head", "txt"], "Did you mean 'text'"),
        (["evaluate", "nothing"], "run 'nothing' is not known"),
        (["report"], "no finished run yet"),
    ],
)
def test_errors_are_sentences(words, message, capsys, tmp_path, monkeypatch):
    monkeypatch.setenv("EBC_DATA", str(tmp_path))
    assert main(words) == 1
    said = capsys.readouterr().err
    assert message in said and "Traceback" not in said


def test_prepare_train_evaluate_report(drawn, monkeypatch, capsys):
    monkeypatch.setenv("EBC_DATA", str(drawn))
    assert main(["prepare", "drawn"]) == 0
    assert "12" in capsys.readouterr().out
    small = ["--crop-px", "64", "--epochs", "1", "--batch-size", "4", "--name", "tiny"]
    assert main(["train", "drawn", "--recipe", "two_cores_20min", *small]) == 0
    assert "drawn test, 5 images: MAE" in capsys.readouterr().out
    assert main(["evaluate", "tiny"]) == 0
    assert "training mean" in capsys.readouterr().out
    assert main(["report"]) == 0
    assert "tiny" in capsys.readouterr().out
