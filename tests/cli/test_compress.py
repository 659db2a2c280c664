"""`hauberk compress`: a graph and an account of it, or one clear line and nothing."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import numpy as np
import onnx
import psutil
import pytest

from hauberk.cli import main


@pytest.fixture(scope="module")
def detector(tmp_path_factory):
    folder = tmp_path_factory.mktemp("detector")
    assert main(["train", "--data", "spambase", "--epochs", "5", "--widths", "32,16", "--out", str(folder)]) == 0
    return folder


@pytest.fixture
def words(tmp_path_factory, save_mlp):
    """A graph alone, a random one: its decisions are bad, and that is all the same to these tests."""
    model = tmp_path_factory.mktemp("graph") / "model.onnx"
    save_mlp(model, 57)
    return ["compress", str(model), "--preprocessing", "minmax", "--data", "spambase", "--timing", "0.1"]


def test_it_writes_the_graph_and_says_what_it_gained(detector, tmp_path, capsys):
    out = tmp_path / "small.onnx"
    words = ["compress", str(detector), "--data", "spambase", "--timing", "0.1"]
    assert main([*words, "--recipe", "int8-static", "--out", str(out)]) == 0
    shown = capsys.readouterr().out
    for word in ("quantize-static", "kept", "agreement", "latency.p50", "parameters", "size", "optimised float32"):
        assert word in shown
    assert "training_time" not in shown  # nothing was trained
    assert "caution" not in shown  # by its card, the detector was trained on other records
    graph = onnx.load(out).graph
    assert [value.name for value in (*graph.input, *graph.output)] == ["features", "logits"]
    assert "QuantizeLinear" in {node.op_type for node in graph.node}
    assert [path.name for path in tmp_path.iterdir()] == ["small.onnx"]


def test_test_records_that_the_model_may_know_are_told(detector, tmp_path, capsys):
    """Another seed splits otherwise: most of the test records are those that it was trained on."""
    words = ["compress", str(detector), "--data", "spambase", "--timing", "0.1", "--recipe", "float16"]
    assert main([*words, "--seed", "7"]) == 0
    assert "nothing shows that the model was not trained on these test records" in capsys.readouterr().out


def test_json_is_one_document_with_the_recipe_in_it(words, tmp_path, capsys):
    (tmp_path / "mine.json").write_text(
        '{"name": "mine", "steps": [{"step": "half-precision"}, {"step": "strip-metadata"}]}'
    )
    assert main([*words, "--recipe", str(tmp_path / "mine.json"), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert [step["step"] for step in document["recipe"]["steps"]] == ["half-precision", "strip-metadata"]
    assert document["measurements"]["agreement"]["value"] > 0.99
    assert document["verdict"]


def test_a_missed_requirement_is_exit_code_3_and_the_graph_is_written(words, tmp_path, capsys):
    out = tmp_path / "small.onnx"
    assert main([*words, "--recipe", "float16", "--require", "size <= 100 B", "--out", str(out)]) == 3
    assert "MISSED" in capsys.readouterr().out
    assert out.is_file()


def test_a_step_that_found_nothing_to_do_is_told(words, tmp_path, capsys):
    """Half precision leaves no metadata that could be stripped."""
    recipe = tmp_path / "mine.json"
    recipe.write_text('{"name": "mine", "steps": [{"step": "half-precision"}, {"step": "strip-metadata"}]}')
    assert main([*words, "--recipe", str(recipe)]) == 0
    lines = {line.split()[0]: line for line in capsys.readouterr().out.splitlines() if line.strip()}
    assert "kept" in lines["half-precision"]
    assert "no change" in lines["strip-metadata"]


def test_a_step_that_is_undone_is_exit_code_3(words, tmp_path, capsys):
    """Two levels a tensor are too few for weights that were never trained with them."""
    step = {"step": "codebook", "bits": 1, "smallest": 1}
    (tmp_path / "mine.json").write_text(json.dumps({"name": "mine", "steps": [step]}))
    assert main([*words, "--recipe", str(tmp_path / "mine.json")]) == 3
    assert "step codebook was undone: " in capsys.readouterr().out


def test_a_model_of_windows_needs_no_source(tmp_path, capsys, save_mlp):
    save_mlp(tmp_path / "windows.onnx", 6, 4)
    features = np.random.default_rng(0).normal(size=(200, 6, 4)).astype(np.float32)
    np.savez(tmp_path / "windows.npz", features=features, labels=(features[:, -1].mean(axis=1) > 0).astype(int))
    data = ["--data", str(tmp_path / "windows.npz"), "--timing", "0.1"]
    assert main(["compress", str(tmp_path / "windows.onnx"), *data, "--recipe", "float16", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["records"] == 40


def test_recipes_are_listed(capsys):
    assert main(["compress", "--list"]) == 0
    assert "int8-static" in capsys.readouterr().out
    assert main(["compress", "--list", "--json"]) == 0
    assert "distilled-half" in json.loads(capsys.readouterr().out)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--recipe", "int9"], "unknown recipe 'int9'; known are"),
        (["--recipe", "nowhere.json"], "nowhere.json"),
        ([], "--recipe is missing; --list shows"),
        (["--recipe", "float16", "--data", "nowhere.csv"], "nowhere.csv"),
        (["--recipe", "float16", "--require", "size < 3"], "expected METRIC <= VALUE"),
        (
            ["--recipe", "float16", "--require", "auroc >= 50%"],
            "auroc is not measured here; measured are latency.p50",
        ),
        (["--recipe", "float16", "--require", "detection_rate@fpr=1% >= 50%"], "is not measured here; measured are"),
        (["--recipe", "float16", "--require", "speed >= 3"], "unknown metric 'speed'; measured are latency.p50, "),
        (["--recipe", "float16", "--teacher", "nobody.onnx"], "nobody.onnx"),
        (["--recipe", "float16", "--timing", "0"], "above 0"),
    ],
)
def test_bad_input_is_one_line_and_leaves_no_file(words, options, says, tmp_path, capsys):
    assert main([*words, "--out", str(tmp_path / "out.onnx"), *options]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert says in error
    assert not list(tmp_path.iterdir())


def test_the_model_itself_is_never_written_over(detector, capsys):
    words = ["compress", str(detector), "--data", "spambase"]
    before = (detector / "detector.safetensors").read_bytes()
    assert main([*words, "--recipe", "float16", "--out", str(detector / "detector.safetensors")]) == 2
    assert "the result is made of this file" in capsys.readouterr().err
    assert (detector / "detector.safetensors").read_bytes() == before


def test_an_interrupt_leaves_130_and_no_file(words, tmp_path):
    tuning = {"epochs": 1000000, "patience": 1000000}
    step = {"step": "distill", "student": {"kind": "itself"}, "tuning": tuning}
    recipe = tmp_path / "endless.json"
    recipe.write_text(json.dumps({"name": "endless", "steps": [step]}))
    command = [sys.executable, "-m", "hauberk", *words, "--recipe", str(recipe), "--out", str(tmp_path / "o.onnx")]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    work = psutil.Process(process.pid)
    while work.cpu_times().user < 5:  # importing takes about 3 seconds of it, training would never end
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    assert process.wait(30) in {130, -signal.SIGINT}
    assert process.stderr is not None
    assert process.stderr.read() == "hauberk: interrupted\n"
    assert [path.name for path in tmp_path.iterdir()] == ["endless.json"]


def test_without_data_it_says_what_data_may_be(capsys):
    assert main(["compress", "detector", "--recipe", "float16"]) == 2
    assert "--data is missing; say which records to measure with: spambase, " in capsys.readouterr().err


def test_a_recipe_beside_the_model_is_not_a_card(words, capsys):
    """A file with the model's name that ends in .json is taken for its card."""
    beside = Path(words[1]).with_suffix(".json")
    beside.write_text('{"name": "mine", "steps": [{"step": "strip-metadata"}]}')
    assert main([*words, "--recipe", str(beside)]) == 2
    assert "model.json: not a model card: " in (error := capsys.readouterr().err)
    assert "rename it, or name the card with --card" in error


def test_a_bundle_is_told_from_a_model(tmp_path, capsys):
    with zipfile.ZipFile(tmp_path / "detector.hbk", "w") as archive:
        archive.writestr("manifest.json", "{}")
    assert main(["compress", str(tmp_path / "detector.hbk"), "--data", "spambase", "--recipe", "float16"]) == 2
    assert "a Hauberk bundle, it seems; give the model that it was made of" in capsys.readouterr().err
