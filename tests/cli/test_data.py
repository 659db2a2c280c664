import json

import pytest

from hauberk.cli import main


def test_list_says_what_is_here_and_what_is_wanted(capsys, monkeypatch):
    monkeypatch.delenv("HAUBERK_DATA", raising=False)
    assert main(["data", "list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].split()[:2] == ["spambase", "here"]
    assert lines[2].split()[:2] == ["nsl-kdd", "missing"]
    assert "7ea86479faab5ca2190b7f18b4982fb058ce5bf2b46e0e1017d0d9ef90f9c16e" in lines[-1]


def test_list_is_one_json_document(capsys, monkeypatch):
    monkeypatch.delenv("HAUBERK_DATA", raising=False)
    assert main(["data", "list", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert [(entry["name"], entry["problem"] is None) for entry in document] == [("spambase", True), ("nsl-kdd", False)]


def test_describe_gives_origin_columns_and_classes(capsys):
    assert main(["data", "describe", "spambase"]) == 0
    text = capsys.readouterr().out
    for words in ("CC BY 4.0", "10.24432/C53G6X", "word_freq_george"):
        assert words in text
    row = next(line for line in text.splitlines() if line.startswith("capital_run_length_total"))
    assert (row.split()[1], row.split()[-1]) == ("integer", "yes")


def test_describe_as_json_counts_the_classes(capsys):
    assert main(["data", "describe", "spambase", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert sum(document["classes"]["spam"].values()) == 1812
    assert len(document["schema"]["features"]) == 57


def test_describe_works_without_the_files(capsys, monkeypatch):
    monkeypatch.delenv("HAUBERK_DATA", raising=False)
    assert main(["data", "describe", "nsl-kdd"]) == 0
    text = capsys.readouterr().out
    assert "University of New Brunswick" in text
    assert "set HAUBERK_DATA" in text


def test_an_unknown_name_is_one_clear_line(capsys):
    assert main(["data", "describe", "cifar"]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == "hauberk: no data set is called 'cifar'; known are spambase, nsl-kdd\n"


@pytest.mark.parametrize("words", [["data"], ["data", "describe"]])
def test_what_is_left_out_is_bad_usage(words):
    with pytest.raises(SystemExit) as caught:
        main(words)
    assert caught.value.code == 2
