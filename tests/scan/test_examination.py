"""An examination keeps the limits of a file: the verdict is the worst, and what lies beyond a limit is never safe."""

from __future__ import annotations

import pickle
import time
import zipfile

import pytest

from hauberk.scan import formats as known
from hauberk.scan.content import BytesContent, CutError
from hauberk.scan.examination import Examination, ScanLimits, StopScan
from hauberk.scan.formats import Format, examine
from hauberk.scan.report import Outcome, Rule, Severity, Verdict, shown, worst

BAD = Rule("test-bad", "bad", Severity.HIGH, Outcome.UNSAFE, "It is bad.")
ODD = Rule("test-odd", "odd", Severity.LOW, Outcome.UNKNOWN, "It is odd.")
TOLD = Rule("test-told", "told", Severity.NOTE, Outcome.NOTE, "It is told.")


@pytest.mark.parametrize(
    ("rules", "verdict"),
    [
        ((), Verdict.SAFE),
        ((TOLD,), Verdict.SAFE),
        ((TOLD, ODD), Verdict.UNKNOWN),
        ((ODD, BAD), Verdict.UNSAFE),
        ((BAD, ODD), Verdict.UNSAFE),
    ],
)
def test_the_verdict_is_the_worst_of_what_was_found(rules, verdict):
    examination = Examination()
    for rule in rules:
        examination.find(rule, "something", at=3)
    assert examination.verdict is verdict
    assert [finding.where for finding in examination.findings] == ["byte 3"] * len(rules)


def test_the_same_finding_counts_once_and_too_many_are_counted():
    examination = Examination(ScanLimits(findings=2))
    for place in (1, 1, 2, 3, 3):
        examination.find(ODD, "something", at=place)
    examination.find(BAD, "worse")
    assert [finding.where for finding in examination.findings] == ["byte 1", "byte 2"]
    assert examination.omitted == 3
    assert examination.verdict is Verdict.UNSAFE  # what is not kept counts all the same


def test_places_inside_archives_are_joined():
    examination = Examination()
    with examination.inside("a.zip") as child, child.inside("b.pkl") as grandchild:
        grandchild.find(BAD, "something", at=7)
        grandchild.facts["not"] = "told"
    assert examination.findings[0].where == "a.zip!b.pkl, byte 7"
    assert examination.facts == {}
    assert examination.verdict is Verdict.UNSAFE


def test_what_lies_too_deep_is_not_safe():
    def deeper(examination: Examination) -> None:
        with examination.inside("next") as child:
            deeper(child)

    examination = Examination(ScanLimits(depth=3))
    deeper(examination)
    assert examination.verdict is Verdict.UNKNOWN
    assert [finding.rule for finding in examination.findings] == ["scan-too-deep"]


def test_what_takes_too_long_is_not_safe_wherever_it_is_noticed():
    examination = Examination(ScanLimits(seconds=0.01))
    time.sleep(0.02)
    with pytest.raises(StopScan), examination.inside("member") as child:
        child.check_time()
    assert {finding.rule for finding in examination.findings} == {"scan-out-of-time"}
    assert examination.verdict is Verdict.UNKNOWN


def test_what_unpacks_to_too_much_is_not_safe():
    examination = Examination(ScanLimits(unpacked=100))
    with examination.inside("a") as child:
        child.unpack(60)
    with pytest.raises(StopScan):
        examination.unpack(60)
    assert examination.verdict is Verdict.UNKNOWN


def test_a_scanner_that_fails_does_not_know(monkeypatch):
    def fail(content, examination):
        raise ZeroDivisionError("of the scanner")

    faulty = Format("faulty", lambda head, content: True, fail, ())
    monkeypatch.setattr(known, "_beginning_with", lambda _: (faulty,))
    examination = Examination()
    assert examine(BytesContent(b"anything"), examination) == "faulty"
    assert examination.verdict is Verdict.UNKNOWN
    assert examination.findings[0].what == "ZeroDivisionError while reading faulty"


def test_a_format_that_ends_early_is_not_recognised_and_the_next_one_is_asked(monkeypatch):
    def cut(head, content):
        raise CutError("short")

    formats = (Format("short", cut, pytest.fail, ()), Format("next", lambda *_: True, lambda *_: "exactly", ()))
    monkeypatch.setattr(known, "_beginning_with", lambda _: formats)
    assert examine(BytesContent(b"anything"), Examination()) == "exactly"


def test_nothing_is_read_beyond_the_end_and_parts_stay_inside():
    content = BytesContent(bytes(range(10)))
    part = content.part(2, 5)
    assert (part.read(1, 2), part.head(99), part.tail(2)) == (b"\3\4", b"\2\3\4\5\6", b"\5\6")
    for offset, length in ((4, 2), (-1, 1), (0, 6), (6, 0)):
        with pytest.raises(CutError):
            part.part(0, 5).read(offset, length)
    for offset, length in ((2, 9), (-1, 3), (3, -1)):
        with pytest.raises(CutError):
            content.part(offset, length)
    with pytest.raises(CutError):
        part.part(3, 3)


def test_text_of_a_file_cannot_drive_the_terminal():
    assert shown("ok") == "ok"
    assert "\x1b" not in shown("\x1b[2Jcleared\n")
    assert shown(b"\xff\x00abc").isprintable()
    assert shown("\udcff").isprintable()
    assert len(shown("x" * 1000)) == 101


def test_nothing_at_all_is_not_safe():
    assert worst([]) is Verdict.UNKNOWN
    assert worst([Verdict.SAFE, Verdict.UNKNOWN]) is Verdict.UNKNOWN
    assert worst([Verdict.SAFE, Verdict.UNKNOWN, Verdict.UNSAFE]) is Verdict.UNSAFE


def test_an_archive_behind_what_nobody_knows_is_found(tmp_path):
    place = tmp_path / "model"
    with zipfile.ZipFile(place, "w") as archive:
        archive.writestr("data.pkl", pickle.dumps({"a": 1}))
    junk = bytes(range(0x90, 0xF0)) + place.read_bytes()
    examination = Examination()
    assert examine(BytesContent(junk), examination) == ""
    assert {finding.rule for finding in examination.findings} >= {"scan-unrecognised", "scan-polyglot"}
    assert examination.verdict is Verdict.UNSAFE
