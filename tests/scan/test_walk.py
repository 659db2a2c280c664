"""Files and folders: every file has a report, links cannot lead a walk in circles, what cannot be read is unknown."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from hauberk.errors import InputError
from hauberk.scan import Verdict, scan_paths
from hauberk.scan.walk import files_of, scan_file


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
    assert [path.name for path in files_of(tmp_path)] == ["model"]


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
        " bad = {'torch', 'onnx', 'sklearn', 'joblib', 'pickle', 'h5py', 'safetensors', 'onnxruntime'};"
        " sys.exit(', '.join(bad & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")
