"""`hauberk predict`: scores to standard output or to a file, and never half of them."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys

import numpy as np
import pytest
from onnx import TensorProto, helper

from hauberk.bundle import BundleContents, write_bundle
from hauberk.cli import main
from hauberk.schema import NumericFeature, RecordSchema
from hauberk.tensors import Signature, TensorSpec
from hauberk.trust import default_keys

ROWS = [(0.1, 0.2), (0.9, 0.8), (0.5, 0.6)]
CSV = "a,b\n" + "".join(f"{a},{b}\n" for a, b in ROWS)


def mean_model() -> bytes:
    """scores = mean of two numbers; an alert from 0.5 on."""
    nodes = [
        helper.make_node("ReduceMean", ["numeric", "axes"], ["scores"], keepdims=0),
        helper.make_node("GreaterOrEqual", ["scores", "threshold"], ["over"]),
        helper.make_node("Cast", ["over"], ["labels"], to=TensorProto.INT64),
    ]
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "mean",
        [value("numeric", TensorProto.FLOAT, ["batch", 2])],
        [value("scores", TensorProto.FLOAT, ["batch"]), value("labels", TensorProto.INT64, ["batch"])],
        [
            helper.make_tensor("axes", TensorProto.INT64, [1], [1]),
            helper.make_tensor("threshold", TensorProto.FLOAT, [], [0.5]),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    return model.SerializeToString()


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with a bundle of one's own and records for it."""
    monkeypatch.setenv("HAUBERK_HOME", str(tmp_path / "keys"))
    keys, model = default_keys(), mean_model()
    contents = BundleContents(
        name="mean",
        model=model,
        schema=RecordSchema(features=tuple(NumericFeature(name=name, low=0, high=1) for name in "ab")),
        signature=Signature(
            inputs=(TensorSpec("numeric", "float32", ("batch", 2)),),
            outputs=(TensorSpec("scores", "float32", ("batch",)), TensorSpec("labels", "int64", ("batch",))),
        ),
        threshold=0.5,
        public={
            "_type": "https://in-toto.io/Statement/v1",
            "subject": [{"name": "mean", "digest": {"sha256": hashlib.sha256(model).hexdigest()}}],
            "predicateType": "https://example.org/test/v1",
            "predicate": {},
        },
    )
    write_bundle(tmp_path / "mean.hbk", contents, encryption=keys.encryption, signing=keys.signing)
    (tmp_path / "flows.csv").write_text(CSV)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def columns(text: str) -> tuple[list[float], list[int]]:
    header, *lines = text.splitlines()
    assert header == "record,score,label"
    cells = [line.split(",") for line in lines]
    assert [cell[0] for cell in cells] == [str(number) for number in range(len(cells))]
    return [float(cell[1]) for cell in cells], [int(cell[2]) for cell in cells]


def test_scores_go_to_standard_output(folder, capsys):
    assert main(["predict", "mean.hbk", "flows.csv"]) == 0
    scores, labels = columns(capsys.readouterr().out)
    np.testing.assert_allclose(scores, np.mean(ROWS, axis=1), rtol=1e-6)
    assert labels == [0, 1, 1]


def test_scores_go_to_a_file(folder, capsys):
    assert main(["predict", "mean.hbk", "flows.csv", "--out", "scores.csv"]) == 0
    assert capsys.readouterr().out == "2 of 3 records raised an alert; scores are in scores.csv\n"
    assert columns((folder / "scores.csv").read_text())[1] == [0, 1, 1]


@pytest.mark.parametrize("out", [[], ["--out", "scores.csv"]])
def test_one_json_document(folder, capsys, out):
    assert main(["predict", "mean.hbk", "flows.csv", "--json", *out]) == 0
    document = json.loads(capsys.readouterr().out)
    assert {name: document[name] for name in ("detector", "records", "alerts", "threshold")} == {
        "detector": "mean",
        "records": 3,
        "alerts": 2,
        "threshold": 0.5,
    }
    if out:
        assert document["out"] == "scores.csv"
    else:
        assert [entry["label"] for entry in document["predictions"]] == [0, 1, 1]
        np.testing.assert_allclose([entry["score"] for entry in document["predictions"]], np.mean(ROWS, axis=1))


@pytest.mark.parametrize(("words", "content"), [([], CSV), (["-", "--format", "json"], '[{"a": 1, "b": 0}]')])
def test_standard_input(folder, words, content):
    done = subprocess.run(
        [sys.executable, "-m", "hauberk", "predict", "mean.hbk", *words],
        input=content,
        capture_output=True,
        text=True,
        check=True,
    )
    assert len(columns(done.stdout)[0]) == (3 if not words else 1)
    assert done.stderr == ""


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("a,b\n1,2\n3,x\n", "flows.csv: record 1, column 'b': 'x' is not a number"),
        ("a\n1\n", "flows.csv: record 0, column 'b' is not there"),
        ("", "flows.csv: the file is empty"),
    ],
)
def test_records_that_do_not_fit_leave_nothing(folder, capsys, content, says):
    (folder / "flows.csv").write_text(content)
    (folder / "scores.csv").write_text("from yesterday")
    assert main(["predict", "mean.hbk", "flows.csv", "--out", "scores.csv"]) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.startswith(f"hauberk: {says}")
    assert shown.err.count("\n") == 1
    assert (folder / "scores.csv").read_text() == "from yesterday"


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["mean.hbk", "nowhere.csv"], "nowhere.csv: No such file"),
        (["nowhere.hbk", "flows.csv"], "nowhere.hbk"),
        (["mean.hbk", "flows.parquet"], "unknown kind of file"),
        (["mean.hbk", "flows.csv", "--out", "nowhere/scores.csv"], "does not exist"),
        (["flows.csv", "flows.csv"], "flows.csv"),
    ],
)
def test_bad_usage_is_one_line_and_exit_code_2(folder, capsys, words, says):
    assert main(["predict", *words]) == 2
    shown = capsys.readouterr()
    assert says in shown.err
    assert shown.err.count("\n") == 1
    assert shown.out == ""
