"""One file under examination: scanners report to it what they find, and ask it how far they may go.

It keeps the limits in one place: how long a file may take, how deep archives may lie in one another, how much may be
unpacked. What goes beyond a limit is never called safe.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from hauberk.scan.content import Content
from hauberk.scan.report import Fact, Finding, Outcome, Rule, Severity, Verdict

GIBIBYTE = 1 << 30

TOO_DEEP = Rule(
    "scan-too-deep",
    "archives in archives in archives",
    Severity.LOW,
    Outcome.UNKNOWN,
    "The scan follows archives only so deep; what lies deeper was not looked at. Unpack the outer ones and scan again.",
)
TOO_LONG = Rule(
    "scan-out-of-time",
    "the scan ran out of time",
    Severity.LOW,
    Outcome.UNKNOWN,
    "The rest of the file was not looked at. Give it more time (--deadline) or find out why it takes so long.",
)
TOO_MUCH = Rule(
    "scan-too-much",
    "it unpacks to more than is looked at",
    Severity.MEDIUM,
    Outcome.UNKNOWN,
    "What it unpacks to is larger than the scan follows, as a decompression bomb does; the rest was not looked at.",
    "https://cwe.mitre.org/data/definitions/409.html",
)
FAILED = Rule(
    "scan-failed",
    "the scan itself failed",
    Severity.LOW,
    Outcome.UNKNOWN,
    "A fault of the scanner, not a property of the file; nothing is known about what was not looked at. Please report.",
)
UNRECOGNISED = Rule(
    "scan-unrecognised",
    "no known format",
    Severity.LOW,
    Outcome.UNKNOWN,
    "The content is of no format that the scan knows, so nobody can say what a loader would make of it.",
)
RULES = (TOO_DEEP, TOO_LONG, TOO_MUCH, FAILED, UNRECOGNISED)


class StopScan(Exception):  # noqa: N818 - no error: a scan that has nothing more to look at
    """Nothing more of this file is looked at; the reason has been noted as a finding."""


@dataclass(frozen=True)
class ScanLimits:
    """How far a scan goes.

    Attributes:
        seconds: For one file, wall clock.
        depth: Archives in archives.
        unpacked: Bytes that one file may unpack to in all, where unpacking is needed to look inside.
        members: Of one archive.
        findings: Kept for each file; the rest is counted.
        model_memory: Bytes that a graph may take at its peak when it runs (see `batch`).
        model_operations: Multiply-adds and other scalar operations that a graph may take for one run.
        batch: Records for which memory and operations of a graph are estimated.
    """

    seconds: float = 60.0
    depth: int = 8
    unpacked: int = 4 * GIBIBYTE
    members: int = 100_000
    findings: int = 100
    model_memory: int = 4 * GIBIBYTE
    model_operations: int = 10**13
    batch: int = 1


@dataclass
class _Shared:
    """What all parts of one file have in common."""

    limits: ScanLimits
    deadline: float
    findings: list[Finding] = field(default_factory=list)
    seen: set[tuple[str, str, str]] = field(default_factory=set)
    omitted: int = 0
    verdict: Verdict = Verdict.SAFE
    facts: dict[str, Fact] = field(default_factory=dict)
    unpacked: int = 0


class Examination:
    """What a scanner is handed beside the content.

    Attributes:
        path: The file on disk, for the few formats that name other files (weights of ONNX models); `None` for what
            comes out of an archive, where nothing beside it exists.
        name: What the content is called, the last part of a member's name; serves for wording only, never for
            deciding what something is.
        depth: Archives around it.
        format: What it was recognised as, once it was.
    """

    def __init__(self, limits: ScanLimits | None = None, *, path: Path | None = None, name: str = "") -> None:
        limits = limits or ScanLimits()
        self.path = path
        self.name = name or (path.name if path else "")
        self.depth = 0
        self.format = ""
        self._place = ""
        self._shared = _Shared(limits, time.monotonic() + limits.seconds)

    @property
    def limits(self) -> ScanLimits:
        """How far this scan goes."""
        return self._shared.limits

    @property
    def facts(self) -> dict[str, Fact]:
        """What a reader may want to know; only the file's own format writes here, not what lies inside archives."""
        return self._shared.facts if not self.depth else {}

    @property
    def verdict(self) -> Verdict:
        """The worst so far."""
        return self._shared.verdict

    @property
    def findings(self) -> tuple[Finding, ...]:
        """What was found so far."""
        return tuple(self._shared.findings)

    @property
    def omitted(self) -> int:
        """Findings that were counted and not kept."""
        return self._shared.omitted

    def find(self, rule: Rule, what: str, *, at: int | str | None = None) -> None:
        """Note a finding; the same one at the same place counts once.

        Args:
            rule: What was broken.
            what: In one line; pass text of the file through `report.shown`.
            at: Byte offset in this content, or a place in words.
        """
        shared = self._shared
        spot = "" if at is None else f"byte {at}" if isinstance(at, int) else at
        where = ", ".join(part for part in (self._place, spot) if part)
        if rule.outcome is Outcome.UNSAFE:
            shared.verdict = Verdict.UNSAFE
        elif rule.outcome is Outcome.UNKNOWN and shared.verdict is Verdict.SAFE:
            shared.verdict = Verdict.UNKNOWN
        key = (rule.id, what, where)
        if key in shared.seen:
            return
        if len(shared.findings) >= shared.limits.findings:
            shared.omitted += 1
            return
        shared.seen.add(key)
        shared.findings.append(rule.finding(what, where))

    def check_time(self) -> None:
        """Call it every few thousand steps of any loop that the file's content can prolong.

        Raises:
            StopScan: Time is up; the finding is noted.
        """
        if time.monotonic() > self._shared.deadline:
            self.find(TOO_LONG, f"not done after {self.limits.seconds:g} s")
            raise StopScan

    def unpack(self, count: int) -> None:
        """Account for bytes before, or while, they are unpacked.

        Raises:
            StopScan: It is more than one file may unpack to; the finding is noted.
        """
        self._shared.unpacked += count
        if self._shared.unpacked > self.limits.unpacked:
            self.find(TOO_MUCH, f"more than {self.limits.unpacked} bytes, unpacked")
            raise StopScan

    @contextlib.contextmanager
    def inside(self, member: str) -> Iterator[Examination]:
        """The examination of something that lies inside this content: a member of an archive, a part of a file.

        A `StopScan` of it ends it alone, except when time is up.

        Raises:
            StopScan: It would lie too deep, or time is up.
        """
        if self.depth >= self.limits.depth:
            self.find(TOO_DEEP, f"more than {self.limits.depth} archives in one another")
            raise StopScan
        child = object.__new__(Examination)
        child.path = None
        child.name = member.rpartition("/")[2]
        child.depth = self.depth + 1
        child.format = ""
        child._shared = self._shared
        child._place = f"{self._place}!{member}" if self._place else member
        with contextlib.suppress(StopScan):
            yield child
        self.check_time()

    def examine(self, content: Content, member: str) -> str:
        """Recognise and examine something inside, whatever it is.

        Args:
            content: Its bytes.
            member: Its name, already printable (`report.shown`).

        Returns:
            Its format; empty where it has none that is known (and that is then a finding) or it lies too deep.
        """
        from hauberk.scan.formats import examine  # noqa: PLC0415 - formats know examinations, and archives formats

        with self.inside(member) as child:
            examine(content, child)
        return child.format
