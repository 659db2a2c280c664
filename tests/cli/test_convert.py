"""`hauberk convert`: what it prints, what it writes, and how it leaves."""

from __future__ import annotations

import json
import subprocess
import sys

import lightgbm
import numpy as np
import onnx
import pytest
import torch
from onnx import parser

from hauberk.cli import main

HEADER = '<ir_version: 8, opset_import: ["" : 13]> g '
PLAIN = "(float[n,2] x) => (float[n,2] y) { y = Relu(x) }"


@pytest.fixture
def graph(tmp_path):
    onnx.save(parser.parse_model(HEADER + PLAIN), tmp_path / "in.onnx")
    return tmp_path / "in.onnx"


def test_the_comparison_is_shown_family_by_family(graph, tmp_path, capsys):
    np.savez(tmp_path / "real.npz", x=np.random.default_rng(0).normal(size=(40, 2)).astype(np.float32))
    out = tmp_path / "out.onnx"
    assert main(["convert", str(graph), str(out), "--data", str(tmp_path / "real.npz")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"{graph}: onnx, the scan says safe"
    assert lines[1].startswith("compared with onnxruntime ")
    header = next(index for index, line in enumerate(lines) if line.startswith("inputs "))
    rows = {line.split()[0]: line.split()[1:] for line in lines[header + 1 :] if line}
    assert rows["real"] == ["40", "0", "100.00", "%", "0"]
    assert "note: the graph had opset 13" in lines
    assert lines[-1].startswith(f"{out}: opset 20, ")
    assert lines[-1].endswith("answers as its source does")


def test_json_is_one_document(graph, tmp_path, capsys):
    out = tmp_path / "out.onnx"
    assert main(["convert", str(graph), str(out), "--opset", "17", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["opset"] == 17
    assert document["verdict"] == "safe"
    assert document["comparison"]["holds"] is True
    assert document["result"]["size"] == out.stat().st_size
    assert document["source"]["sha256"] != document["result"]["sha256"]
    assert {family["name"] for family in document["comparison"]["families"]} >= {
        "random",
        "boundary",
        "zeros",
        "extreme",
    }


def test_weights_become_safetensors(tmp_path, capsys):
    torch.save({"w": torch.ones(3)}, tmp_path / "in.pt")
    assert main(["convert", str(tmp_path / "in.pt"), str(tmp_path / "out.safetensors")]) == 0
    assert "1 tensors" in capsys.readouterr().out


def test_a_result_that_differs_is_written_and_leaves_with_3(graph, tmp_path, capsys, monkeypatch):
    """The converter is replaced by one that is wrong for some inputs; comparing and leaving are the real ones."""
    import hauberk.convert.run as story
    from hauberk.convert.compare import Source

    real = story.from_graph

    def wrong(file):
        import contextlib
        import dataclasses

        @contextlib.contextmanager
        def opened():
            with real(file) as converted:
                source = Source(lambda feeds: [np.maximum(feeds["x"], np.float32(0.5))], "another framework")
                yield dataclasses.replace(converted, source=source)

        return opened()

    monkeypatch.setattr(story, "from_graph", wrong)
    out = tmp_path / "out.onnx"
    assert main(["convert", str(graph), str(out)]) == 3
    printed = capsys.readouterr().out
    assert out.exists()
    assert "DIFFERS from its source" in printed
    assert "differs on " in printed


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["missing.onnx", "out.onnx"], "missing.onnx: cannot read"),
        (["IN", "out.txt"], "end it in .onnx or .safetensors"),
        (["IN", "no/such/folder/out.onnx"], "the folder"),
        (["IN", "out.onnx", "--opset", "1000"], "--opset: 1000"),
        (["IN", "out.onnx", "--seed", "-1"], "--seed: -1"),
        (["IN", "out.onnx", "--arch", "own.py:net"], "leave --arch away"),
        (["IN", "out.onnx", "--data", "missing.csv"], "missing.csv: no such file"),
        (["IN", "out.onnx", "--schema", "missing.json"], "missing.json: cannot read"),
        (["IN", "IN"], "is made of this file"),
        (["FOLDER", "out.onnx"], "a folder without saved_model.pb"),
    ],
)
def test_bad_input_is_one_line_and_leaves_with_2(graph, tmp_path, capsys, monkeypatch, arguments, says):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    named = {"IN": str(graph), "FOLDER": "empty"}
    assert main(["convert", *(named.get(each, each) for each in arguments)]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    (line,) = captured.err.splitlines()
    assert line.startswith("hauberk: ")
    assert says in line
    assert not (tmp_path / "out.onnx").exists()


CORE_ONLY = """
import sys
CORE = {"cffi", "_cffi_backend", "cryptography", "flatbuffers", "google", "hauberk", "msgspec", "numpy", "onnxruntime"}
class Nothing:
    def find_spec(self, name, path=None, target=None):
        top = name.partition(".")[0]
        if top not in CORE and top not in sys.stdlib_module_names:
            raise ModuleNotFoundError(f"No module named {top!r}", name=top)
sys.meta_path.insert(0, Nothing())
from hauberk.cli import main
raise SystemExit(main(sys.argv[1:]))
"""


def test_with_the_core_alone_the_extra_is_named(graph, tmp_path):
    command = [sys.executable, "-c", CORE_ONLY, "convert", str(graph), str(tmp_path / "out.onnx")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.endswith("pip install 'hauberk[harden]'")


def test_a_library_that_is_missing_is_named_with_its_extra(tmp_path, capsys, monkeypatch):
    import importlib.util

    import hauberk.convert.isolated as isolated

    random = np.random.default_rng(0)
    data = lightgbm.Dataset(random.normal(size=(100, 2)), random.integers(0, 2, 100))
    lightgbm.train({"objective": "binary", "verbose": -1}, data, 2).save_model(tmp_path / "model.txt")
    find = importlib.util.find_spec
    monkeypatch.setattr(isolated, "find_spec", lambda name: None if name == "lightgbm" else find(name))
    assert main(["convert", str(tmp_path / "model.txt"), str(tmp_path / "out.onnx")]) == 2
    assert "pip install 'hauberk[trees]'" in capsys.readouterr().err
