"""Bad input to the whole path: one clear line, exit code 2, no traceback, nothing half-written."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from hauberk.cli import main

RECORDS = 400


def write_csv(path: Path, *, records: int = RECORDS, columns: int = 4, label: str = "attack", classes: int = 2) -> Path:
    """A small, learnable data set."""
    generator = np.random.default_rng(7)
    numbers = generator.normal(size=(records, columns))
    attack = (numbers.sum(axis=1) > 0).astype(int) if classes == 2 else np.zeros(records, int)
    header = ",".join([*(f"x{i}" for i in range(columns)), label])
    rows = [",".join([*(f"{v:.4f}" for v in row), str(a)]) for row, a in zip(numbers, attack, strict=True)]
    path.write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def detector(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("detector")
    data = write_csv(folder / "flows.csv")
    words = ["train", "--data", str(data), "--out", str(folder / "model"), "--widths", "16,8", "--epochs", "5"]
    assert main(words) == 0
    return folder / "model"


@pytest.fixture(autouse=True)
def own_keys(tmp_path, monkeypatch):
    monkeypatch.setenv("HAUBERK_HOME", str(tmp_path / "keys"))


def refused(capsys, *words: str) -> str:
    """Run a command that must be refused, and return its one line."""
    capsys.readouterr()
    assert main(list(words)) == 2
    shown = capsys.readouterr()
    lines = [line for line in shown.err.splitlines() if line.startswith("hauberk: ")]
    assert len(lines) == 1, shown.err
    assert "Traceback" not in shown.err
    assert "internal error" not in shown.err
    assert shown.out == ""
    return lines[0]


@pytest.mark.parametrize("command", ["train", "harden"])
@pytest.mark.parametrize(
    ("content", "options", "says"),
    [
        ("", [], "empty"),
        ("x,attack\n", [], "no records"),
        (None, ["--label", "verdict"], "verdict"),
    ],
)
def test_unusable_data(capsys, tmp_path, detector, command, content, options, says):
    data = tmp_path / "data.csv"
    if content is None:
        write_csv(data)
    else:
        data.write_text(content, encoding="utf-8")
    model = [] if command == "train" else [str(detector)]
    out = tmp_path / "out"
    line = refused(capsys, command, *model, "--data", str(data), *options, "--out", str(out))
    assert says in line
    assert not out.exists()


def test_one_class_only(capsys, tmp_path):
    data = write_csv(tmp_path / "data.csv", classes=1)
    line = refused(capsys, "train", "--data", str(data), "--out", str(tmp_path / "out"))
    assert "class" in line


def test_ten_records(capsys, tmp_path):
    data = write_csv(tmp_path / "data.csv", records=10)
    line = refused(capsys, "train", "--data", str(data), "--out", str(tmp_path / "out"))
    assert "10" in line


@pytest.mark.parametrize("name", ["model.onnx", "model.pt", "model.safetensors"])
def test_an_empty_model_file(capsys, tmp_path, name):
    data = write_csv(tmp_path / "data.csv")
    model = tmp_path / name
    model.touch()
    line = refused(capsys, "harden", str(model), "--data", str(data), "--out", str(tmp_path / "out.hbk"))
    assert name in line
    assert "empty" in line


def test_a_model_of_another_width(capsys, tmp_path):
    code = tmp_path / "net.py"
    code.write_text("import torch\ndef build():\n    return torch.nn.Linear(9, 2)\n", encoding="utf-8")
    import torch

    weights = tmp_path / "net.pt"
    torch.save(torch.nn.Linear(9, 2).state_dict(), weights)
    data = write_csv(tmp_path / "data.csv")
    words = ["harden", str(weights), "--arch", f"{code}:build", "--data", str(data), "--out", str(tmp_path / "o.hbk")]
    line = refused(capsys, *words)
    assert "9" in line
    assert "4" in line


def test_an_onnx_model_of_another_width(capsys, tmp_path):
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    weight = numpy_helper.from_array(np.zeros((9, 2), np.float32), "w")
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 9])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 2])
    graph = helper.make_graph([helper.make_node("MatMul", ["x", "w"], ["y"])], "g", [x], [y], [weight])
    model = tmp_path / "m.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), str(model))
    data = write_csv(tmp_path / "data.csv")
    line = refused(capsys, "harden", str(model), "--data", str(data), "--out", str(tmp_path / "o.hbk"))
    assert "9" in line
    assert "4" in line


def test_an_output_folder_that_does_not_exist(capsys, tmp_path, detector):
    data = write_csv(tmp_path / "data.csv")
    out = tmp_path / "nowhere" / "out.hbk"
    line = refused(capsys, "harden", str(detector), "--data", str(data), "--out", str(out))
    assert "nowhere" in line


def test_an_output_that_is_a_folder(capsys, tmp_path, detector):
    data = write_csv(tmp_path / "data.csv")
    line = refused(capsys, "harden", str(detector), "--data", str(data), "--out", str(tmp_path))
    assert str(tmp_path) in line


@pytest.mark.parametrize(
    ("option", "value", "says"),
    [
        ("--require", "speed >= 3", "unknown metric 'speed'"),
        ("--false-positive-rate", "often", "not a rate"),
        ("--false-positive-rate", "150%", "between 0 and 100 %"),
        ("--alerts-per-day", "5", "--records-per-day"),
        ("--records-per-day", "5", "give both"),
        ("--radius", "-1", "radius"),
        ("--name", "two words", "letters, digits"),
    ],
)
def test_bad_options_are_found_before_the_work_begins(capsys, tmp_path, detector, option, value, says):
    data = write_csv(tmp_path / "data.csv")
    out = tmp_path / "out.hbk"
    line = refused(capsys, "harden", str(detector), "--data", str(data), "--out", str(out), option, value)
    assert says in line
    assert not out.exists()


def test_a_disk_that_fills_up_leaves_nothing_behind(tmp_path):
    """The file-size limit makes the kernel refuse the write in the middle, as a full disk does."""
    data = write_csv(tmp_path / "data.csv")
    out = tmp_path / "model"
    words = ["train", "--data", str(data), "--out", str(out), "--widths", "64,32", "--epochs", "1"]

    def small_disk() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))

    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "hauberk", *words],
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=small_disk,
        env=environment,
    )
    assert done.returncode == 2, done.stderr
    assert done.stderr.count("\n") == 1
    assert "Traceback" not in done.stderr
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and path != data]
