"""A scan's findings as SARIF 2.1.0, which code hosts and security dashboards read.

Source: OASIS, "Static Analysis Results Interchange Format (SARIF) Version 2.1.0"
(https://docs.oasis-open.org/sarif/sarif/v2.1.0/sarif-v2.1.0.html). Severities are numbers as GitHub code scanning wants
them (`security-severity`): critical above 9, high above 7, medium above 4, low below.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import msgspec

from hauberk.scan.catalogue import all_rules
from hauberk.scan.examination import FAILED
from hauberk.scan.report import FileReport, Finding, Outcome, Rule, ScanReport, Severity
from hauberk.scan.supervised import LOST

_SCHEMA = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
_LEVELS = {Outcome.UNSAFE: "error", Outcome.UNKNOWN: "warning", Outcome.NOTE: "note"}
_SCORES = {
    Severity.CRITICAL: "9.5",
    Severity.HIGH: "8.0",
    Severity.MEDIUM: "5.5",
    Severity.LOW: "2.0",
    Severity.NOTE: "0.0",
}
_FAILURES = frozenset({FAILED.id, LOST.id})
_OFFSET = re.compile(r"byte ([0-9]{1,18})")


def to_sarif(report: ScanReport) -> bytes:
    """The report as a SARIF log, JSON in UTF-8.

    Paths are relative to the working directory where they lie in it, and absolute `file:` addresses elsewhere. A place
    that is a byte of the file itself becomes a region; one inside an archive becomes a logical location. That the scan
    itself failed at a file, and how many findings of a file are not listed, are notifications of the run.
    """
    rules = all_rules()
    order = {name: index for index, name in enumerate(rules)}
    results = [_result(file, finding, order.get(finding.rule)) for file in report.files for finding in file.findings]
    failures = [each for file in report.files for each in _failures(file)]
    omissions = [_omission(file) for file in report.files if file.omitted]
    artifacts = {_address(file.path): _artifact(file) for file in report.files}  # each once, as the schema asks
    run = {
        "tool": {
            "driver": {
                "name": "hauberk scan",
                "version": report.version,
                "semanticVersion": report.version,
                "rules": [_rule(rule) for rule in rules.values()],
            }
        },
        "columnKind": "unicodeCodePoints",
        "invocations": [{"executionSuccessful": not failures, "toolExecutionNotifications": failures + omissions}],
        "artifacts": list(artifacts.values()),
        "results": results,
    }
    log = {"$schema": _SCHEMA, "version": "2.1.0", "runs": [run]}
    return msgspec.json.format(msgspec.json.encode(log), indent=2) + b"\n"


def _rule(rule: Rule) -> dict[str, Any]:
    found: dict[str, Any] = {
        "id": rule.id,
        "name": "".join(part.capitalize() for part in rule.id.split("-")),
        "shortDescription": {"text": _literal(rule.title)},
        "fullDescription": {"text": _literal(rule.why)},
        "defaultConfiguration": {"level": _LEVELS[rule.outcome]},
        "properties": {"security-severity": _SCORES[rule.severity], "tags": ["security"]},
    }
    if rule.reference.startswith("https://"):
        found["helpUri"] = rule.reference
    return found


def _artifact(file: FileReport) -> dict[str, Any]:
    return {
        "location": {"uri": _address(file.path)},
        "length": file.size,
        "properties": {"verdict": file.verdict, "format": file.format, "findingsNotListed": file.omitted},
    }


def _failures(file: FileReport) -> Iterator[dict[str, Any]]:
    """What went wrong with the scan, not with the file."""
    for finding in file.findings:
        if finding.rule in _FAILURES:
            yield _notification(file, "error", f"{finding.what}. {finding.why}")


def _omission(file: FileReport) -> dict[str, Any]:
    return _notification(file, "warning", f"{file.omitted:,} more findings in this file are not listed.")


def _notification(file: FileReport, level: str, text: str) -> dict[str, Any]:
    place = {"physicalLocation": {"artifactLocation": {"uri": _address(file.path)}}}
    return {"level": level, "message": {"text": _literal(text)}, "locations": [place]}


def _result(file: FileReport, finding: Finding, index: int | None) -> dict[str, Any]:
    physical: dict[str, Any] = {"artifactLocation": {"uri": _address(file.path)}}
    location: dict[str, Any] = {"physicalLocation": physical}
    offset = _OFFSET.fullmatch(finding.where)
    if offset:
        physical["region"] = {"byteOffset": int(offset[1]), "byteLength": 0}
    elif finding.where:
        location["logicalLocations"] = [{"fullyQualifiedName": finding.where}]
    return {
        "ruleId": finding.rule,
        **({} if index is None else {"ruleIndex": index}),  # a report of another version may know other rules
        "level": _LEVELS[finding.outcome],
        "message": {"text": _literal(f"{finding.what[:1].upper()}{finding.what[1:]}. {finding.why}")},
        "locations": [location],
        "properties": {"severity": finding.severity},
    }


def _literal(text: str) -> str:
    """Text that is shown as it is.

    A viewer makes a link of `[words](address)`, and looks for arguments between braces (sections 3.11.5 and 3.11.6);
    some of this text comes from the files that were scanned.
    """
    return text.replace("{", "{{").replace("}", "}}").replace("](", "] (")


def _address(path: str) -> str:
    place = Path(os.path.normpath(Path(path).absolute()))  # `..` has no place in an address
    here = Path.cwd()
    if not place.is_relative_to(here):
        return place.as_uri()
    place = place.relative_to(here)
    return quote(place.as_posix(), safe="/", errors="surrogateescape")
