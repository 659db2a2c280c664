"""The scanning process: what goes wrong in it ends with it, and it can do nothing but read what is scanned."""

from __future__ import annotations

import socket
import time
from pathlib import Path

import pytest

from hauberk.errors import InputError
from hauberk.scan.examination import ScanLimits
from hauberk.scan.report import Verdict
from hauberk.scan.supervised import Supervisor, files_to_scan


class Trying(Supervisor):
    target = "scan_handlers:start"


@pytest.fixture(autouse=True)
def _handlers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))


def written(folder: Path, **texts: str) -> list[Path]:
    folder.mkdir(exist_ok=True)
    files = []
    for name, text in texts.items():
        files.append(folder / name)
        files[-1].write_text(text)
    return files


@pytest.mark.parametrize(
    ("word", "says"),
    [
        ("CRASH", "SIGABRT"),
        ("MEMORY", "out of memory"),
        ("NONSENSE", "no readable answer"),
        ("NOTHING", "other files"),
    ],
)
def test_a_scan_that_dies_leaves_an_unknown_file_and_goes_on(tmp_path, word, says):
    files = written(tmp_path / "models", a="plain", b=word, c="plain")
    with Trying([tmp_path / "models"]) as supervisor:
        first, lost, last = supervisor.scan(files)
    assert [Path(each.path) for each in (first, lost, last)] == files
    assert lost.verdict is Verdict.UNKNOWN
    assert lost.findings[0].rule == "scan-process-lost"
    assert says in lost.findings[0].what
    assert first.findings == last.findings or first.format == last.format  # scanned as if nothing had happened
    assert "scan-process-lost" not in {finding.rule for each in (first, last) for finding in each.findings}


def test_a_scan_that_hangs_is_ended_by_the_clock(tmp_path, monkeypatch):
    monkeypatch.setattr("hauberk.scan.supervised._GRACE", 0.3)
    (file,) = written(tmp_path / "models", a="SLOW")
    started = time.monotonic()
    with Trying([file], ScanLimits(seconds=0.2)) as supervisor:
        (report,) = supervisor.scan([file])
    assert time.monotonic() - started < 20
    assert report.verdict is Verdict.UNKNOWN
    assert "no answer within the time limit" in report.findings[0].what


def outcome(tmp_path: Path, text: str) -> str:
    (file,) = written(tmp_path / "models", a=text)
    with Trying([file]) as supervisor:
        assert supervisor.missing == ()  # this kernel has all that is asked for
        (report,) = supervisor.scan([file])
    return report.format


def test_it_writes_nothing(tmp_path):
    beside = tmp_path / "models" / "beside"
    assert outcome(tmp_path, f"WRITE {beside}").startswith("refused: ")
    assert not beside.exists()


def test_it_reads_nothing_else(tmp_path):
    (secret,) = written(tmp_path / "secrets", key="secret")
    assert outcome(tmp_path, f"READ {secret}").startswith("refused: ")
    assert outcome(tmp_path, f"READ {written(tmp_path / 'models', weights='data')[0]}") == "possible"


def test_it_has_no_network(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as server:
        assert outcome(tmp_path, f"CONNECT {server.getsockname()[1]}").startswith("refused: ")


def test_it_starts_nothing(tmp_path):
    assert outcome(tmp_path, "START x").startswith("refused: ")


def test_each_file_is_scanned_once_however_often_it_is_named(tmp_path):
    a, b = written(tmp_path / "models", a="plain", b="plain")
    assert files_to_scan([a, tmp_path / "models", b]) == [a, b]


def test_what_does_not_exist_is_named(tmp_path):
    with pytest.raises(InputError, match="nowhere: no such file or folder"):
        files_to_scan([tmp_path / "nowhere"])
    with pytest.raises(InputError, match="nowhere: no such file or folder"):
        Supervisor([tmp_path / "nowhere"])
