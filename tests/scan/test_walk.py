"""Files and folders: every file has a report, links cannot lead a walk in circles, what cannot be read is unknown."""

from __future__ import annotations

import ast
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import msgspec
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import hauberk.scan
from hauberk.cli import main
from hauberk.errors import InputError
from hauberk.scan import Verdict, scan_paths
from hauberk.scan.report import Finding
from hauberk.scan.supervised import files_to_scan
from hauberk.scan.walk import UNREADABLE, files_of, scan_file


def test_every_file_of_a_folder_has_a_report(tmp_path):
    (tmp_path / "a" / "b").mkdir(parents=True)
    for name in ("a/2.bin", "a/1.bin", "a/b/3.bin"):
        (tmp_path / name).write_bytes(b"\x99\x98")
    reports = list(scan_paths([tmp_path]))
    assert [report.path.removeprefix(f"{tmp_path}/") for report in reports] == ["a/1.bin", "a/2.bin", "a/b/3.bin"]
    assert {report.size for report in reports} == {2}


def test_a_folder_that_holds_itself_ends(tmp_path):
    (tmp_path / "model").write_bytes(b"\x99")
    (tmp_path / "again").symlink_to(tmp_path)
    assert sorted(path.name for path in files_of(tmp_path)) == ["again", "model"]  # named, and not entered


def test_an_empty_file_is_not_safe(tmp_path):
    (tmp_path / "empty.pt").touch()
    report = scan_file(tmp_path / "empty.pt")
    assert (report.verdict, report.findings[0].rule) == (Verdict.UNKNOWN, "scan-empty")


@pytest.mark.parametrize("kind", ["pipe", "dangling", "device"])
def test_what_is_no_file_is_reported_and_not_waited_for(tmp_path, kind):
    place = tmp_path / "model.pt"
    if kind == "pipe":
        os.mkfifo(place)
    elif kind == "dangling":
        place.symlink_to(tmp_path / "nowhere")
    else:
        place.symlink_to("/dev/zero")
    report = scan_file(place)
    assert (report.verdict, report.findings[0].rule) == (Verdict.UNKNOWN, "scan-unreadable")


def test_what_does_not_exist_is_named(tmp_path):
    with pytest.raises(InputError, match="nowhere: no such file or folder"):
        list(scan_paths([tmp_path / "nowhere"]))


def test_the_room_imports_nothing_of_the_world_of_models():
    """What is scanned may name any module: none of them may come into the process, and no heavy one is needed."""
    code = (
        "import sys, hauberk.scan, hauberk.scan.catalogue as c; c.all_rules();"
        " bad = {'torch', 'onnx', 'sklearn', 'joblib', 'h5py', 'safetensors', 'onnxruntime'};"
        " sys.exit(', '.join(bad & set(sys.modules)) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_nothing_in_the_room_can_run_what_it_reads():
    """Neither an unpickler, nor an evaluator, nor an importer of names that it did not write down itself."""
    room = Path(hauberk.scan.__file__).parent
    forbidden = {"pickle", "marshal", "shelve", "runpy", "subprocess", "multiprocessing", "zipfile", "tarfile"}
    called = {"eval", "exec", "compile", "__import__"}
    for path in room.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not forbidden & {name.partition(".")[0] for name in names}, path
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                assert node.func.id not in called, (path, node.lineno)


def test_weights_beside_a_safe_onnx_model_are_safe_and_others_are_not(tmp_path):
    tensor = numpy_helper.from_array(np.random.default_rng(0).random((64, 64), dtype=np.float32), "w")
    entry = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 64])
    leaving = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 64])
    graph = helper.make_graph([helper.make_node("MatMul", ["x", "w"], ["y"])], "g", [entry], [leaving], [tensor])
    folder = tmp_path / "model"
    folder.mkdir()
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10),
        folder / "z.onnx",
        save_as_external_data=True,
        location="a.bin",
        size_threshold=0,
    )
    shutil.copy(folder / "a.bin", folder / "b.bin")
    reports = {Path(report.path).name: report for report in scan_paths([folder])}
    assert json.loads(msgspec.json.encode(reports["z.onnx"]))["facts"]["external_files"] == ["a.bin"]
    verdicts = {name: (report.verdict, report.format) for name, report in reports.items()}
    assert verdicts == {
        "z.onnx": (Verdict.SAFE, "onnx"),
        "a.bin": (Verdict.SAFE, "onnx-weights"),
        "b.bin": (Verdict.UNKNOWN, ""),
    }
    (alone,) = scan_paths([folder / "a.bin"])
    assert alone.verdict is Verdict.UNKNOWN  # nobody says what it is


def test_a_linked_folder_is_not_passed_over_in_silence(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "a.txt").write_text("plain text\n")
    (tmp_path / "d" / "link").symlink_to(tmp_path / "real")
    reports = {Path(report.path).name: report.verdict for report in scan_paths([tmp_path / "d"])}
    assert reports == {"a.txt": Verdict.SAFE, "link": Verdict.UNKNOWN}


def test_a_named_folder_without_a_file_is_not_passed_over_in_silence(tmp_path):
    (tmp_path / "empty" / "inner").mkdir(parents=True)
    (tmp_path / "a.txt").write_text("plain text\n")
    (report,) = scan_paths([tmp_path / "empty"])
    assert (report.verdict, report.findings[0].what) == (Verdict.UNKNOWN, "a folder without a file in it")
    both = {Path(each.path).name: each.verdict for each in scan_paths([tmp_path / "empty", tmp_path / "a.txt"])}
    assert both == {"empty": Verdict.UNKNOWN, "a.txt": Verdict.SAFE}
    assert [Path(each.path).name for each in scan_paths([tmp_path])] == ["a.txt"]  # something is in this one


def test_what_is_no_file_is_not_even_opened(tmp_path):
    """Opening a device may do something; here it would let go whoever waits to write into a pipe."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    waiting = threading.Thread(target=lambda: os.close(os.open(pipe, os.O_WRONLY)))
    waiting.start()
    for _ in range(20):
        scan_file(pipe)
    waiting.join(0.2)
    assert waiting.is_alive()
    reader = os.open(pipe, os.O_RDONLY)
    waiting.join()
    os.close(reader)


@pytest.fixture
def over_long(tmp_path: Path) -> Iterator[Path]:
    """A folder with a hostile pickle, and a nest of folders whose path is longer than the system takes."""
    folder = tmp_path / "models"
    folder.mkdir()
    (folder / "z.pkl").write_bytes(b"cos\nsystem\n(S'true'\ntR.")
    descriptor = os.open(folder, os.O_RDONLY)
    for _ in range(20):
        os.mkdir("n" * 240, dir_fd=descriptor)
        inner = os.open("n" * 240, os.O_RDONLY, dir_fd=descriptor)
        os.close(descriptor)
        descriptor = inner
    os.close(descriptor)
    yield folder
    shutil.rmtree(folder)


def test_a_path_that_is_too_long_hides_nothing_beside_it(over_long, tmp_path):
    sarif = tmp_path / "found.sarif"
    assert main(["scan", str(over_long), "--sarif", str(sarif)]) == 1
    results = json.loads(sarif.read_text())["runs"][0]["results"]
    assert any(
        each["locations"][0]["physicalLocation"]["artifactLocation"]["uri"].endswith("z.pkl") for each in results
    )
    for reports in (list(scan_paths([over_long])), [scan_file(path) for path in files_to_scan([over_long])]):
        found = {Path(each.path).name: (each.verdict, each.findings[0].rule) for each in reports}
        assert found["z.pkl"][0] is Verdict.UNSAFE
        assert found["n" * 240] == (Verdict.UNKNOWN, "scan-unreadable")


def test_a_named_path_that_is_too_long_is_unknown(tmp_path):
    long = tmp_path / ("n" * 300)
    assert files_to_scan([long]) == [long]
    (report,) = scan_paths([long])
    assert (report.verdict, report.findings[0].rule) == (Verdict.UNKNOWN, "scan-unreadable")
    assert "too long" in report.findings[0].what


@pytest.mark.skipif(os.geteuid() != 0, reason="becomes another user")
def test_a_folder_that_must_not_be_entered_hides_nothing_beside_it():
    """It can be listed, and nothing in it can be asked about, not even whether it is a link."""
    code = (
        "import os, sys; from pathlib import Path\n"
        "import hauberk.scan.catalogue; from hauberk.scan.handed import prepare; prepare()\n"
        "from hauberk.scan.supervised import files_to_scan; from hauberk.scan.walk import scan_file, scan_paths\n"
        "top = Path(sys.argv[1]); os.setgid(65534); os.setuid(65534)\n"
        "both = [*scan_paths([top]), *map(scan_file, files_to_scan([top, top / 'a' / 'named']))]\n"
        "print([(Path(each.path).name, str(each.verdict), each.findings[0].rule) for each in both])\n"
    )
    with tempfile.TemporaryDirectory() as made:  # pytest's own folders are closed to others
        top = Path(made)
        (top / "a" / "inner").mkdir(parents=True)
        (top / "a" / "model").write_bytes(b"\x99")
        (top / "a" / "link").symlink_to("inner")
        (top / "z.pkl").write_bytes(b"cos\nsystem\n(S'true'\ntR.")
        top.chmod(0o755)
        (top / "a").chmod(0o744)
        done = subprocess.run(
            [sys.executable, "-c", code, made], capture_output=True, text=True, timeout=60, check=False
        )
    assert (done.returncode, done.stderr) == (0, "")
    found = ast.literal_eval(done.stdout)
    assert [each for each in found if each[0] == "z.pkl"] == [("z.pkl", "unsafe", "pickle-code")] * 2
    others = {each for each in found if each[0] != "z.pkl"}
    assert others == {(name, "unknown", "scan-unreadable") for name in ("model", "inner", "link", "named")}


def test_a_rule_makes_findings_of_its_own():
    found = UNREADABLE.finding("gone", "byte 3")
    assert found == Finding(
        "scan-unreadable", UNREADABLE.severity, UNREADABLE.outcome, "gone", "byte 3", UNREADABLE.why, ""
    )
