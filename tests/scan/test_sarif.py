"""SARIF: what the specification asks of a log with results, and places that a reader can go to."""

from __future__ import annotations

import json
from pathlib import Path

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
    import re

    written = set(re.findall(r'Rule\(\s*"([a-z0-9-]+)"', text))
    assert written <= set(listed), written - set(listed)
