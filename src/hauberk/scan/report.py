"""What a scan says: rules, findings, and a verdict for every file.

A verdict is never better than what was looked at: `safe` says that every byte that a loader would interpret was
followed and asks for nothing but data; `unknown` says that the scan could not tell, and is never to be read as safe.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import msgspec


class Verdict(StrEnum):
    """What may be done with a file."""

    SAFE = "safe"
    UNSAFE = "unsafe"
    UNKNOWN = "unknown"


class Severity(StrEnum):
    """How bad it is if the finding is what it looks like (the words of CVSS)."""

    CRITICAL = "critical"
    """Loading the file runs code of its choice."""
    HIGH = "high"
    """It reads or writes what it should not, or takes the machine's memory or time."""
    MEDIUM = "medium"
    """It is built so that readers disagree about it, or hides something."""
    LOW = "low"
    """It is unusual or cannot be followed."""
    NOTE = "note"
    """Worth knowing; nothing is wrong with it."""


class Outcome(StrEnum):
    """What a finding makes of the verdict."""

    UNSAFE = "unsafe"
    UNKNOWN = "unknown"
    NOTE = "note"
    """Nothing: it is only told."""


@dataclass(frozen=True)
class Rule:
    """One thing that the scan looks for.

    Attributes:
        id: `format-thing`, in lower case with hyphens; never changes once it was released.
        title: A few words, fit for a heading.
        severity: See `Severity`.
        outcome: See `Outcome`.
        why: One or two sentences: why it is dangerous, and what to do instead.
        reference: Where to read on: an advisory, a paper, a specification (a URL); empty where there is none.
    """

    id: str
    title: str
    severity: Severity
    outcome: Outcome
    why: str
    reference: str = ""

    def finding(self, what: str, where: str = "") -> Finding:
        """A finding of this rule; see `Finding`."""
        return Finding(self.id, self.severity, self.outcome, what, where, self.why, self.reference)


class Finding(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A rule that a file broke, and where.

    Attributes:
        rule: The rule's `id`.
        severity: The rule's.
        outcome: The rule's.
        what: What was found, in one line; text of the file in it is shortened and printable.
        where: Place inside the file: members of archives joined by `!`, then `byte N`; empty for the file as a whole.
        why: The rule's.
        reference: The rule's.
    """

    rule: str
    severity: Severity
    outcome: Outcome
    what: str
    where: str
    why: str
    reference: str


Fact = str | int | float | tuple[str, ...]
"""What a report tells of a file beside what was found."""


class FileReport(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the scan says of one file.

    Attributes:
        path: As it was named or found; see `path_text`.
        verdict: The worst that any finding asks for.
        format: What the content is (`pytorch-zip`, `pickle`, `onnx`, …); empty where it was not recognised.
        size: Bytes.
        findings: In the order in which they were found; at most as many as the scan keeps.
        omitted: Findings beyond these; they count for the verdict.
        facts: What a reader may want to know (tensors, opset, estimated peak memory), by name.
        seconds: Wall-clock time that the scan of this file took.
    """

    path: str
    verdict: Verdict
    format: str
    size: int
    findings: tuple[Finding, ...] = ()
    omitted: int = 0
    facts: dict[str, Fact] = {}
    seconds: float = 0.0


class ScanReport(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the scan says of all that it was given.

    Attributes:
        version: Of Hauberk, which made it.
        verdict: The worst of all files.
        files: In the order of scanning.
    """

    version: str
    verdict: Verdict
    files: tuple[FileReport, ...]


def worst(verdicts: Iterable[Verdict]) -> Verdict:
    """Unsafe before unknown before safe; what holds nothing is unknown."""
    found = set(verdicts)
    for verdict in (Verdict.UNSAFE, Verdict.UNKNOWN, Verdict.SAFE):
        if verdict in found:
            return verdict
    return Verdict.UNKNOWN


def path_text(path: Path) -> str:
    """A path as it stands in reports: bytes of it that are no UTF-8 are written in hexadecimal, behind a backslash."""
    text = str(path)
    return text if text.isascii() else os.fsencode(path).decode("utf-8", "backslashreplace")


_SHOWN_CHARACTERS = 100


def shown(text: str | bytes, most: int = _SHOWN_CHARACTERS) -> str:
    """Text from an unadmitted file, fit for a terminal: short, on one line, without control characters."""
    if isinstance(text, bytes):
        text = text[: 4 * most].decode("utf-8", "backslashreplace")
    kept = text[:most]
    if not kept.isprintable():
        kept = "".join(
            letter if letter.isprintable() else letter.encode("unicode_escape", "surrogatepass").decode("ascii")
            for letter in kept
        )
    return kept + "…" if len(text) > most else kept
