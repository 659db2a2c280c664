"""SARIF: what the specification asks of a log with results, and places that a reader can go to."""

from __future__ import annotations

import json
import re
from pathlib import Path

import msgspec
import pytest

from hauberk.scan.catalogue import all_rules
from hauberk.scan.report import FileReport, Finding, Outcome, ScanReport, Severity, Verdict
from hauberk.scan.sarif import to_sarif


def report(*files: FileReport) -> ScanReport:
    return ScanReport("1.2.3", Verdict.UNSAFE, files)


def finding(rule: str, where: str) -> Finding:
    found = all_rules()[rule]
    return Finding(rule, found.severity, found.outcome, "a \x41 text", where, found.why, found.reference)


def log(*files: FileReport) -> dict:
    found = json.loads(to_sarif(report(*files)))
    assert (found["version"], len(found["runs"])) == ("2.1.0", 1)
    return found["runs"][0]


def test_a_result_names_its_rule_its_level_and_its_place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run = log(
        FileReport(
            str(tmp_path / "models" / "a b%.pt"),
            Verdict.UNSAFE,
            "pytorch-zip",
            7,
            (finding("scan-polyglot", "byte 12"), finding("scan-too-deep", "x.zip!y.pkl, byte 3")),
        ),
        FileReport("/elsewhere/ü.onnx", Verdict.UNSAFE, "onnx", 1, (finding("scan-unrecognised", ""),)),
    )
    first, second, third = run["results"]
    rules = run["tool"]["driver"]["rules"]
    for result in run["results"]:
        assert rules[result["ruleIndex"]]["id"] == result["ruleId"]
    assert [each["level"] for each in (first, second, third)] == ["error", "warning", "warning"]
    (place,) = first["locations"]
    assert place["physicalLocation"]["artifactLocation"]["uri"] == "models/a%20b%25.pt"  # relative, as viewers want it
    assert place["physicalLocation"]["region"] == {"byteOffset": 12, "byteLength": 0}
    assert second["locations"][0]["logicalLocations"] == [{"fullyQualifiedName": "x.zip!y.pkl, byte 3"}]
    assert third["locations"][0]["physicalLocation"]["artifactLocation"]["uri"] == "file:///elsewhere/%C3%BC.onnx"
    assert [artifact["length"] for artifact in run["artifacts"]] == [7, 1]


def test_every_rule_is_described_and_has_one_meaning():
    rules = all_rules()
    assert list(rules) == sorted(rules)
    for name, rule in rules.items():
        assert name == rule.id == rule.id.lower()
        assert rule.title
        assert rule.why.endswith("."), name
        assert not rule.reference or rule.reference.startswith("https://"), name
        assert (rule.outcome is Outcome.NOTE) == (rule.severity is Severity.NOTE), name


def test_every_rule_that_is_written_down_is_in_the_catalogue():
    """A rule that no format lists could be found, and would have no description in SARIF."""
    room = Path(__file__).parents[2] / "src" / "hauberk" / "scan"
    text = "\n".join(path.read_text(encoding="utf-8") for path in room.rglob("*.py"))
    listed = all_rules()

    written = set(re.findall(r'Rule\(\s*"([a-z0-9-]+)"', text))
    assert written <= set(listed), written - set(listed)


# What the schema of SARIF 2.1.0 asks of the objects that are written: type of each property, `!` where it must be.
SCHEMA: dict[str, dict[str, object]] = {
    "log": {"version!": "2.1.0", "runs!": ["run"], "$schema": str},
    "run": {
        "tool!": "tool", "invocations": ["invocation"], "artifacts": ["artifact"], "results": ["result"],
        "columnKind": {"utf16CodeUnits", "unicodeCodePoints"},
    },
    "tool": {"driver!": "component"},
    "component": {"name!": str, "version": str, "semanticVersion": str, "informationUri": str, "rules": ["descriptor"]},
    "descriptor": {
        "id!": str, "name": str, "shortDescription": "text", "fullDescription": "text", "help": "text", "helpUri": str,
        "defaultConfiguration": "configuration", "properties": dict,
    },
    "configuration": {"level": {"none", "note", "warning", "error"}},
    "text": {"text!": str},
    "message": {"text": str},
    "invocation": {"executionSuccessful!": bool, "toolExecutionNotifications": ["notification"]},
    "notification": {
        "message!": "message", "level": {"none", "note", "warning", "error"}, "locations": ["location"],
    },
    "artifact": {"location": "file", "length": int, "properties": dict},
    "file": {"uri": str},
    "result": {
        "ruleId": str, "ruleIndex": int, "level": {"none", "note", "warning", "error"}, "message!": "message",
        "locations": ["location"], "properties": dict,
    },
    "location": {"physicalLocation": "physical", "logicalLocations": ["logical"]},
    "physical": {"artifactLocation": "file", "region": "region"},
    "region": {"byteOffset": int, "byteLength": int},
    "logical": {"fullyQualifiedName": str},
}  # fmt: skip
UNIQUE = {"artifacts", "rules", "logicalLocations"}


def check(value: object, expected: object, place: str) -> None:
    if isinstance(expected, type):
        assert type(value) is expected, place
        assert value != "", place
        assert not isinstance(value, int) or value >= 0, place
    elif isinstance(expected, set):
        assert value in expected, place
    elif isinstance(expected, list):
        assert isinstance(value, list), place
        if place.rpartition(".")[2] in UNIQUE:
            assert len({json.dumps(each, sort_keys=True) for each in value}) == len(value), place
        for number, each in enumerate(value):
            check(each, expected[0], f"{place}[{number}]")
    elif expected in SCHEMA:
        assert isinstance(value, dict), place
        known = {name.rstrip("!"): kind for name, kind in SCHEMA[str(expected)].items()}
        assert value.keys() <= known.keys(), place
        assert {name[:-1] for name in SCHEMA[str(expected)] if name.endswith("!")} <= value.keys(), place
        for name, each in value.items():
            check(each, known[name], f"{place}.{name}")
    else:
        assert value == expected, place


def every_kind_of_report() -> list[FileReport]:
    plain = finding("scan-polyglot", "byte 12")
    return [
        FileReport(
            "a.pt", Verdict.UNSAFE, "pytorch-zip", 7, (plain, finding("scan-too-deep", "x!y, byte 3")), omitted=7
        ),
        FileReport("a.pt", Verdict.UNSAFE, "pytorch-zip", 7, (plain,)),
        FileReport("b: c?#[].pt", Verdict.UNKNOWN, "", 0, (finding("scan-process-lost", ""),)),
        FileReport("\\xff\\xfe", Verdict.SAFE, "pickle", 5),
        FileReport("n", Verdict.UNSAFE, "", 5, (msgspec.structs.replace(plain, rule="of-another-version"),)),
    ]


def test_a_log_is_what_the_schema_asks_for():
    made = json.loads(to_sarif(report(*every_kind_of_report())))
    check(made, "log", "log")
    for place in (each["location"]["uri"] for each in made["runs"][0]["artifacts"]):
        assert re.fullmatch(r"[A-Za-z0-9._~%/-]+", place), place  # a relative reference of RFC 3986, with no scheme


def test_the_check_of_the_schema_can_fail():
    for broken in ({"runs": []}, {"version": "2.1.0", "runs": [{"tool": {"driver": {}}}]}):
        with pytest.raises(AssertionError):
            check(broken, "log", "log")


def test_findings_that_are_not_listed_and_files_at_which_the_scan_failed_are_told():
    run = log(*every_kind_of_report())
    (invocation,) = run["invocations"]
    failed, omitted = invocation["toolExecutionNotifications"]
    assert invocation["executionSuccessful"] is False
    assert (failed["level"], omitted["level"]) == ("error", "warning")
    assert omitted["message"]["text"] == "7 more findings in this file are not listed."
    assert omitted["locations"][0]["physicalLocation"]["artifactLocation"]["uri"] == "a.pt"
    assert log(FileReport("s", Verdict.UNKNOWN, "", 1))["invocations"][0]["executionSuccessful"] is True


def test_a_rule_that_is_not_known_here_is_a_result_all_the_same():
    result = log(*every_kind_of_report())["results"][-1]
    assert result["ruleId"] == "of-another-version"
    assert "ruleIndex" not in result


def test_text_of_a_file_becomes_neither_a_link_nor_a_place_for_an_argument():
    what = "member '[press here](https://example.org/)' of {0}"
    hostile = msgspec.structs.replace(finding("scan-polyglot", ""), what=what)
    (result,) = log(FileReport("a", Verdict.UNSAFE, "", 1, (hostile,)))["results"]
    assert result["message"]["text"].startswith("Member '[press here] (https://example.org/)' of {{0}}. ")


def test_a_place_beyond_all_files_is_no_number():
    """A process that was taken over may say so, and JSON has no number for it."""
    far = f"byte {10**30}"
    (result,) = log(FileReport("a", Verdict.UNSAFE, "", 1, (finding("scan-polyglot", far),)))["results"]
    assert result["locations"][0]["logicalLocations"] == [{"fullyQualifiedName": far}]


def test_an_address_names_no_folder_above(tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    uris = [
        each["location"]["uri"]
        for each in log(
            FileReport("../other/a.pt", Verdict.SAFE, "", 1), FileReport("./x/../b.pt", Verdict.SAFE, "", 1)
        )["artifacts"]
    ]
    assert uris == [(tmp_path / "other" / "a.pt").as_uri(), "b.pt"]
