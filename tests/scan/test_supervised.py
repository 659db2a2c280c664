"""The scanning process: what goes wrong in it ends with it, and it can do nothing but read what it was handed."""

from __future__ import annotations

import os
import resource
import socket
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import msgspec
import numpy as np
import onnx
import pytest
from corpus import HONEST, HOSTILE, cases
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from hauberk.errors import InputError
from hauberk.sandbox import landlock, seccomp
from hauberk.sandbox.process import NotStartedError, WorkerLostError
from hauberk.scan import supervised
from hauberk.scan.examination import ScanLimits
from hauberk.scan.report import FileReport, Verdict
from hauberk.scan.supervised import Supervisor, files_to_scan
from hauberk.scan.walk import scan_file, scan_paths

FIELDS = tuple(FileReport.__struct_fields__)


class Trying(Supervisor):
    target = "scan_handlers:scan_handed"


@pytest.fixture(scope="module")
def trying() -> Iterator[Supervisor]:
    """One server for all tests: every group of files has a child of its own."""
    with pytest.MonkeyPatch.context() as patch:
        paths = (str(Path(__file__).parent), *filter(None, [os.environ.get("PYTHONPATH")]))
        patch.setenv("PYTHONPATH", os.pathsep.join(paths))
        with Trying() as supervisor:
            assert supervisor.missing == ()  # this system has all that is asked for
            yield supervisor


def written(folder: Path, **texts: str) -> list[Path]:
    folder.mkdir(exist_ok=True)
    files = []
    for name, text in texts.items():
        files.append(folder / name)
        files[-1].write_text(text)
    return files


def rules(report: FileReport) -> list[str]:
    return [finding.rule for finding in report.findings]


@pytest.mark.parametrize(
    ("word", "says"),
    [
        ("CRASH", "SIGABRT"),
        ("EXIT", "exit code 0"),
        ("MEMORY", "out of memory"),
        ("NONSENSE", "no readable answer"),
        ("NOTHING", "exit code 0"),
        ("HUGE", "at most 4194304 are taken"),
        ("OTHER", "another file"),
    ],
)
def test_a_scan_that_dies_leaves_an_unknown_file_and_goes_on(trying, tmp_path, word, says):
    files = written(tmp_path / "models", a="REMEMBER a", b=word, c="REMEMBER c")
    first, lost, last = trying.scan(files)
    assert [Path(each.path) for each in (first, lost, last)] == files
    assert (lost.verdict, rules(lost), lost.size) == (Verdict.UNKNOWN, ["scan-process-lost"], len(word))
    assert says in lost.findings[0].what
    assert (first.format, last.format) == ("a", "c")  # and the third has a process of its own


@pytest.mark.parametrize("word", ["SLOW", "HALT"])
def test_a_scan_that_hangs_is_ended_by_the_clock(trying, tmp_path, monkeypatch, word):
    monkeypatch.setattr(trying, "_time_limit", 0.5)
    files = written(tmp_path / "models", a="REMEMBER a", b=word, c="REMEMBER c")
    started = time.monotonic()
    first, lost, last = trying.scan(files)
    assert time.monotonic() - started < 20
    assert (first.format, last.format) == ("a", "c")
    assert lost.verdict is Verdict.UNKNOWN
    assert "no answer within the time limit of 0.5 s" in lost.findings[0].what


def test_a_scan_that_computes_too_long_is_ended_by_the_kernel(trying, tmp_path, monkeypatch):
    monkeypatch.setattr(trying, "_limits", msgspec.structs.replace(trying._limits, cpu_seconds=1))
    (lost,) = trying.scan(written(tmp_path / "models", a="SPIN"))
    assert "used up its processor time" in lost.findings[0].what


def test_whoever_comes_after_one_that_used_up_the_time_is_not_lost(trying, tmp_path, monkeypatch):
    monkeypatch.setattr(trying, "_limits", msgspec.structs.replace(trying._limits, cpu_seconds=1))
    reports = list(trying.scan(written(tmp_path / "models", a="SPEND", b="SPEND")))
    assert [(Path(report.path).name, rules(report)) for report in reports] == [("a", []), ("b", [])]


def test_the_limits_of_time_follow_from_the_deadline():
    with Supervisor(ScanLimits(seconds=7.5)) as supervisor:
        assert supervisor._time_limit == 12.5
        assert supervisor._limits.cpu_seconds == 13


@pytest.fixture
def outcome(trying, tmp_path):
    def tried(text: str) -> str:
        (report,) = trying.scan(written(tmp_path / "models", a=text))
        return report.format

    return tried


def test_it_writes_nothing(outcome, tmp_path):
    beside = tmp_path / "models" / "beside"
    assert outcome(f"WRITE {beside}").startswith("refused: ")
    assert not beside.exists()
    assert outcome("CHANGE").startswith("refused: ")
    assert (tmp_path / "models" / "a").read_text() == "CHANGE"


def test_it_opens_nothing_not_even_what_it_was_handed(outcome, tmp_path):
    (other,) = written(tmp_path / "models", other="beside")
    for text in (f"READ {other}", f"READ {os.__file__}", "READ /proc/self/environ", f"LIST {other.parent}", "REOPEN"):
        assert outcome(text).startswith("refused: "), text


def test_it_has_no_network(outcome):
    with socket.create_server(("127.0.0.1", 0)) as server:
        assert outcome(f"CONNECT {server.getsockname()[1]}").startswith("refused: ")


def test_it_starts_nothing_and_no_threads(outcome):
    assert outcome("START").startswith("refused: ")
    assert outcome("THREAD").startswith("refused: ")


def test_it_reaches_no_other_process(outcome, trying):
    for process in (os.getpid(), trying._server.pid, -1, 0):
        assert outcome(f"SIGNAL {process}").startswith("refused: ")


def test_it_takes_no_memory_that_is_shared(outcome):
    assert outcome("SHARE").startswith("refused: ")


def test_it_has_the_file_and_a_connection_and_nothing_else(outcome):
    assert sorted(outcome("DESCRIPTORS").split()) == ["device", "device", "device", "file", "socket"]


def test_what_one_child_remembers_the_next_does_not_know(trying, tmp_path, monkeypatch):
    files = written(tmp_path / "models", a="REMEMBER a", b="REMEMBER b", c="REMEMBER c")
    assert [report.format for report in trying.scan(files)] == ["a", "a b", "a b c"]  # one child for small ones
    monkeypatch.setattr(trying, "_together", 2)
    assert [report.format for report in trying.scan(files)] == ["a", "a b", "c"]
    monkeypatch.setattr(supervised, "_BYTES_TOGETHER", 9)
    assert [report.format for report in trying.scan(files)] == ["a", "b", "c"]


def test_files_that_a_model_names_can_be_read_and_no_others(trying, tmp_path):
    folder = tmp_path / "models"
    (secret, linked) = written(tmp_path / "elsewhere", secret="a", linked="b")
    written(folder, **{"w.bin": "1", "x.bin": "2", "two.bin": "3", "other.bin": "4"})
    (folder / "link.bin").symlink_to(linked)
    (folder / "three.bin").hardlink_to(folder / "two.bin")
    os.mkfifo(folder / "pipe.bin")
    names = f"w.bin | x.bin | two.bin | link.bin | pipe.bin | ../elsewhere/secret | {secret}"
    (report,) = trying.scan(written(folder, model=f"BESIDE {names}"))
    assert report.format == "w.bin x.bin"


def test_who_may_open_few_files_opens_few_together(tmp_path):
    files = written(tmp_path / "models", **{f"f{number}": "plain text" for number in range(60)})
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    used = len(list(Path("/proc/self/fd").iterdir()))
    resource.setrlimit(resource.RLIMIT_NOFILE, (used + 40, hard))
    try:
        with Supervisor() as supervisor:
            reports = list(supervisor.scan(files))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert [rules(report) for report in reports] == [[]] * 60


def test_who_may_open_few_files_opens_few_beside_a_model(trying, tmp_path):
    """A model that names many files is scanned all the same, with as many of them as there is room for."""
    names = [f"w{number:03}" for number in range(150)]
    written(tmp_path / "models", **dict.fromkeys(names, "1"))
    says = f"BESIDE {' | '.join(names)}"
    models = written(tmp_path / "models", one=says, two=says, three=says)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    used = len(list(Path("/proc/self/fd").iterdir()))
    resource.setrlimit(resource.RLIMIT_NOFILE, (used + 40, hard))
    try:
        reports = list(trying.scan(models))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert [rules(report) for report in reports] == [[]] * 3
    assert all(10 <= len(report.format.split()) <= 20 for report in reports)


def test_where_nothing_more_can_be_opened_no_process_is_said_to_start(trying):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (1, hard))  # what is open stays open
    try:
        with pytest.raises(NotStartedError, match="no connection to a process that parses files"):
            list(trying._ask([supervised.Opened(Path("a"), 0, 1)]))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert trying._server.alive


def test_nothing_hidden_is_handed_over(trying, tmp_path):
    folder = tmp_path / "models"
    folder.mkdir()
    written(folder / ".ssh", key="1")
    written(folder / "a", **{"w.bin": "1", ".env": "2"})
    names = "a/w.bin | .ssh/key | a/.env | .key"
    written(folder, **{".key": "1"})
    (report,) = trying.scan(written(folder, model=f"BESIDE {names}"))
    assert report.format == "a/w.bin"


def test_what_a_system_cannot_refuse_is_told_and_files_are_scanned(tmp_path, monkeypatch):
    monkeypatch.setattr(landlock, "version", lambda: 0)
    monkeypatch.setattr(seccomp, "available", lambda: False)
    with Supervisor() as supervisor:
        (report,) = supervisor.scan(written(tmp_path / "models", a="plain text"))
    assert report.verdict is Verdict.SAFE
    assert "opening files (no Landlock)" in supervisor.missing
    assert "sockets (no filter of system calls)" in supervisor.missing


def test_a_scan_that_is_given_up_leaves_nothing_running(trying, tmp_path):
    files = written(tmp_path / "models", a="REMEMBER a", b="SLOW")
    reports = trying.scan(files)
    assert next(reports).format == "a"
    reports.close()
    children = Path(f"/proc/{trying._server.pid}/task/{trying._server.pid}/children")
    assert children.read_text() == ""
    (report,) = trying.scan(files[:1])
    assert report.format == "a"


def test_a_server_that_dies_is_replaced(trying, tmp_path):
    files = written(tmp_path / "models", a="REMEMBER a")
    list(trying.scan(files))
    os.kill(trying._server.pid, 9)
    trying._server._process.wait()
    (report,) = trying.scan(files)
    assert report.format == "a"


def small_onnx(folder: Path, location: str = "shape.bin") -> Path:
    """A model of which the shape of one tensor, and so the cost, stands in a file beside it."""
    folder.mkdir()
    shape = numpy_helper.from_array(np.array([1 << 10, 1 << 10, 1 << 13], dtype=np.int64), "shape")
    nodes = [helper.make_node("ConstantOfShape", ["shape"], ["large"]), helper.make_node("ReduceMax", ["large"], ["y"])]
    leaving = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    graph = helper.make_graph(nodes, "g", [], [leaving], [shape])
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10),
        folder / "model.onnx",
        save_as_external_data=True,
        location=location,
        size_threshold=0,
    )
    return folder / "model.onnx"


def test_what_lies_beside_a_model_counts(tmp_path):
    path = small_onnx(tmp_path / "models")
    with Supervisor() as supervisor:
        (found,) = supervisor.scan([path])
    assert found.verdict is Verdict.UNSAFE
    assert "onnx-memory-bomb" in rules(found)
    assert rules(found) == rules(scan_file(path))


def test_a_model_with_weights_in_a_hidden_file_is_unknown(tmp_path):
    path = small_onnx(tmp_path / "models", ".shape.bin")
    with Supervisor() as supervisor:
        (found,) = [report for report in supervisor.scan([path, path.parent / ".shape.bin"]) if report.format == "onnx"]
    assert found.verdict is Verdict.UNKNOWN
    assert "onnx-external-missing" in rules(found)
    assert rules(found) == rules(scan_file(path))


def test_it_finds_what_a_scan_in_this_process_finds(tmp_path):
    """The process that scans can open nothing: what it needs of Python and of its own lists it must have before."""
    for number, (_, case) in enumerate(list(cases((*HOSTILE, *HONEST)))[::30]):
        folder = tmp_path / str(number)
        folder.mkdir()
        case.make(folder)
    expected = {report.path: (report.verdict, rules(report), report.format) for report in scan_paths([tmp_path])}
    with Supervisor() as supervisor:
        found = {
            report.path: (report.verdict, rules(report), report.format)
            for report in supervisor.scan(files_to_scan([tmp_path]))
        }
    assert len(found) > 40
    assert found == expected


def test_what_cannot_be_opened_is_reported_beside_the_rest(trying, tmp_path):
    good = written(tmp_path / "models", a="REMEMBER a")
    (tmp_path / "models" / "dangling").symlink_to("nowhere")
    os.mkfifo(tmp_path / "models" / "pipe")
    (tmp_path / "models" / "device").symlink_to("/dev/zero")
    (tmp_path / "models" / "gone").write_text("REMEMBER b")
    files = files_to_scan([tmp_path / "models"])
    (tmp_path / "models" / "gone").unlink()
    reports = {Path(report.path).name: report for report in trying.scan(files)}
    assert reports.pop("a").format == "a"
    assert set(reports) == {"dangling", "device", "gone", "pipe"}
    assert all(rules(report) == ["scan-unreadable"] for report in reports.values())
    assert good[0].exists()


@settings(max_examples=80, deadline=None)
@given(
    st.one_of(
        st.binary(max_size=60),
        st.recursive(
            st.one_of(st.none(), st.floats(), st.integers(-(2**63), 2**64 - 1), st.text(max_size=5), st.binary()),
            lambda inner: st.one_of(st.lists(inner, max_size=5), st.dictionaries(st.sampled_from(FIELDS), inner)),
        ).map(msgspec.msgpack.encode),
    )
)
def test_no_answer_makes_its_reading_fail_otherwise(answer):
    file = supervised.Opened(Path("a"), -1, 5)
    with suppress(WorkerLostError):
        report = supervised._checked(answer, file, b"/a")
        assert (report.path, report.size) == ("a", 5)


def test_each_file_is_scanned_once_however_often_it_is_named(tmp_path):
    a, b = written(tmp_path / "models", a="plain", b="plain")
    assert files_to_scan([a, tmp_path / "models", b]) == [a, b]


def test_what_does_not_exist_is_named(tmp_path):
    with pytest.raises(InputError, match="nowhere: no such file or folder"):
        files_to_scan([tmp_path / "nowhere"])
