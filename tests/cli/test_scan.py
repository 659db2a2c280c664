"""`hauberk scan`: verdicts, exit codes, one JSON document, SARIF, or one clear line."""

from __future__ import annotations

import json
import os
import pickle
import pty
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import torch

from hauberk.cli import main


class Hostile:
    def __init__(self, flag: Path) -> None:
        self.flag = flag

    def __reduce__(self):
        return Path.touch, (self.flag,)


@pytest.fixture
def safe(tmp_path) -> Path:
    path = tmp_path / "safe.pt"
    torch.save({"weight": torch.zeros(3)}, path)
    return path


@pytest.fixture
def unsafe(tmp_path) -> Path:
    path = tmp_path / "unsafe.pt"
    torch.save({"weight": Hostile(tmp_path / "flag")}, path)
    return path


@pytest.fixture
def unknown(tmp_path) -> Path:
    path = tmp_path / "unknown.bin"
    path.write_bytes(bytes(range(200, 256)))
    return path


def test_the_exit_code_is_the_worst_verdict(safe, unsafe, unknown, tmp_path, capsys):
    assert main(["scan", str(safe)]) == 0
    assert main(["scan", str(safe), str(unknown)]) == 2
    assert main(["scan", str(safe), str(unknown), str(unsafe)]) == 1
    assert main(["scan", str(tmp_path)]) == 1
    assert not (tmp_path / "flag").exists()
    shown = capsys.readouterr().out
    assert "1 safe, 1 unsafe, 1 unknown" in shown


def test_a_finding_says_what_where_and_why(unsafe, capsys):
    assert main(["scan", str(unsafe)]) == 1
    shown = capsys.readouterr().out
    assert shown.startswith(f"unsafe  {unsafe}  (")
    assert "pathlib" in shown
    assert "data.pkl, byte " in shown
    assert "critical" in shown


def test_json_is_one_document(safe, unsafe, capsys):
    assert main(["scan", str(safe), str(unsafe), "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert found["verdict"] == "unsafe"
    assert [file["verdict"] for file in found["files"]] == ["safe", "unsafe"]
    assert found["files"][1]["findings"][0]["outcome"] == "unsafe"


def test_sarif_is_written(unsafe, tmp_path):
    out = tmp_path / "scan.sarif"
    assert main(["scan", str(unsafe), "--sarif", str(out)]) == 1
    log = json.loads(out.read_text())
    assert log["runs"][0]["results"][0]["level"] == "error"


def test_content_decides_and_not_the_name(tmp_path, capsys):
    for name in ("model.onnx", "README.md", "weights.safetensors", "picture.png"):
        (tmp_path / name).write_bytes(pickle.dumps(Hostile(tmp_path / "flag")))
        assert main(["scan", str(tmp_path / name)]) == 1, name
    with (tmp_path / "array.pkl").open("wb") as file:
        np.save(file, np.zeros(3))
    assert main(["scan", str(tmp_path / "array.pkl")]) == 0


def test_long_lists_show_what_is_not_safe(tmp_path, unsafe, capsys):
    folder = tmp_path / "many"
    folder.mkdir()
    for number in range(40):
        np.save(folder / f"{number}.npy", np.zeros(1))
    unsafe.rename(folder / "bad.pt")
    assert main(["scan", str(folder)]) == 1
    shown = capsys.readouterr().out
    assert "40 safe, 1 unsafe" in shown
    assert "17.npy" not in shown
    assert main(["scan", str(folder), "--all"]) == 1
    assert "17.npy" in capsys.readouterr().out


def test_a_name_can_neither_write_a_verdict_nor_stop_the_scan(tmp_path, capsys):
    (tmp_path / "a\nsafe    evil.pkl  (pickle, 5 bytes)").write_bytes(pickle.dumps(Hostile(tmp_path / "flag")))
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff\xfe.pkl")).write_bytes(pickle.dumps(Hostile(tmp_path / "flag")))
    (tmp_path / "z.bin").write_bytes(b"\x99\x98")
    out = tmp_path.parent / "names.sarif"
    assert main(["scan", str(tmp_path), "--sarif", str(out)]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert sum(line.startswith("unsafe") for line in lines) == 2
    assert not any(line.startswith("safe") for line in lines)
    assert any(r"\xff\xfe.pkl" in line for line in lines)
    assert len(json.loads(out.read_text())["runs"][0]["artifacts"]) == 3
    assert main(["scan", str(tmp_path), "--json"]) == 1
    assert [file["verdict"] for file in json.loads(capsys.readouterr().out)["files"]].count("unsafe") == 2


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ([], "nothing to scan: name files or folders"),
        (["nowhere.pt"], "nowhere.pt: no such file or folder"),
        (["pyproject.toml", "--deadline", "0"], "--deadline is 0.0; give a positive number"),
        (["pyproject.toml", "--deadline", "nan"], "--deadline is nan; give a positive number"),
        (["pyproject.toml", "--memory", "1e300"], "--memory is 1e+300; give a positive number, at most 1e+09"),
        (["pyproject.toml", "--batch", "99999999999999999999"], "at most 1e+09"),
        (["pyproject.toml", "--sarif", "nowhere/at/all.sarif"], "nowhere/at"),
    ],
)
def test_bad_input_is_one_line(words, says, capsys, monkeypatch):
    monkeypatch.chdir(Path(__file__).parents[2])
    assert main(["scan", *words]) == 2
    shown = capsys.readouterr().err
    assert says in shown
    assert shown.count("\n") == 1


def test_an_empty_folder_is_no_model(safe, tmp_path, capsys):
    (tmp_path / "empty" / "inner").mkdir(parents=True)
    assert main(["scan", str(tmp_path / "empty")]) == 2
    assert f"unknown {tmp_path / 'empty'}" in capsys.readouterr().out
    assert main(["scan", str(safe), str(tmp_path / "empty")]) == 2
    shown = capsys.readouterr().out
    assert "1 safe, 1 unknown" in shown
    assert shown.count("a folder without a file in it") == 1


def test_an_empty_name_is_not_the_working_directory(capsys):
    """`hauberk scan "$UNSET"` must not scan something else and call it safe."""
    with pytest.raises(SystemExit) as ended:
        main(["scan", ""])
    assert ended.value.code == 2
    assert "an empty name" in capsys.readouterr().err


def test_what_is_redirected_does_not_go_to_the_terminal_with_the_bars(safe, tmp_path):
    terminal, its_end = pty.openpty()
    printed = tmp_path / "printed"
    with printed.open("wb") as file:
        done = subprocess.Popen([sys.executable, "-m", "hauberk", "scan", str(safe)], stdout=file, stderr=its_end)
    os.close(its_end)
    with suppress(OSError):  # that is how a terminal ends
        while os.read(terminal, 1 << 16):
            pass
    os.close(terminal)
    assert done.wait(60) == 0
    assert printed.read_text().startswith(f"safe    {safe}")


def test_rules_are_listed(capsys):
    assert main(["scan", "--rules"]) == 0
    assert "scan-polyglot" in capsys.readouterr().out
