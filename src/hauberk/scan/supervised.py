"""Scanning in a process of its own: hard limits on memory and time, no network, no writing, nothing but reading.

The scanners keep limits of their own and run nothing of a file; this is for the day on which one of them is wrong. The
process can read the folders of the named files and what Python needs, no more. Where it dies or takes too long, the
file is reported as unknown, another process is started, and the scan goes on.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Self

import msgspec

from hauberk.errors import HauberkError, InputError
from hauberk.sandbox import landlock
from hauberk.sandbox.limits import GIBIBYTE, MEBIBYTE, Limits, offered
from hauberk.sandbox.worker import Worker, WorkerLostError
from hauberk.scan.examination import ScanLimits
from hauberk.scan.report import FileReport, Finding, Outcome, Rule, Severity, Verdict, path_text
from hauberk.scan.walk import files_of, scan_file, settled

LOST = Rule(
    "scan-process-lost",
    "the scanning process ended",
    Severity.LOW,
    Outcome.UNKNOWN,
    "The process that looked at the file ran into its limits of memory or time, or crashed. What it had not looked at"
    " is unknown. If the file is an honest one, please report it.",
)
RULES = (LOST,)

MEMORY = 2 * GIBIBYTE
"""Private memory of the scanning process, in bytes; scans take a small part of it."""

_GRACE = 5.0  # seconds beyond the deadline that scanners keep themselves
_START = 60.0  # seconds; on a busy machine an interpreter takes its time
_SMALL = MEBIBYTE  # bytes of files that are asked for together: a question costs as much as scanning a small file
_TOGETHER = 32
_LONGEST_ANSWER = 64 * MEBIBYTE


class _Setup(msgspec.Struct):
    limits: ScanLimits


class Inside:
    """The inside of the process: a question is a list of paths, the answer their reports."""

    greeting = b""

    def __init__(self, limits: ScanLimits) -> None:
        self._limits = limits

    def answer(self, question: bytes) -> bytes:
        """Scan some files, one after the other."""
        paths = msgspec.msgpack.decode(question, type=list[bytes])  # a name need not be text
        return msgspec.json.encode([scan_file(Path(os.fsdecode(path)), self._limits) for path in paths])


def start(setup: bytes) -> Inside:
    """What a worker process is set up with (see `hauberk.sandbox.child`)."""
    from hauberk.scan.formats import formats  # noqa: PLC0415 - in the process, before the first file

    formats()
    return Inside(msgspec.json.decode(setup, type=_Setup).limits)


class Supervisor:
    """Scans files in a process of its own. Use it as a context manager, from one thread.

    Args:
        paths: Files and folders that may be read, with what lies beside them.
        limits: How far a scan goes; by default `ScanLimits()`.

    Attributes:
        missing: What this kernel cannot keep the process from, one phrase each; empty where everything holds.

    Raises:
        InputError: A path does not exist.
        LimitError: The process could not be started under its limits.
    """

    target = f"{__name__}:start"
    """What the process runs; see `hauberk.sandbox.child`."""

    def __init__(self, paths: Sequence[Path], limits: ScanLimits | None = None) -> None:
        self._scan_limits = limits or ScanLimits()
        readable = dict.fromkeys(landlock.runtime_paths())
        for path in paths:
            if not path.exists():
                raise InputError(f"{path}: no such file or folder")
            for place in (path.absolute(), path.resolve()):
                readable[str(place if place.is_dir() else place.parent)] = None
        wanted = Limits(
            memory=MEMORY,
            files=256,
            file_size=0,
            processes=0,
            read_only=tuple(readable),
            network=False,
            system_calls="compute",
        )
        self._limits, self.missing = offered(wanted)
        self._loop = asyncio.new_event_loop()
        self._worker: Worker | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._worker is not None:
            self._loop.run_until_complete(self._worker.close())
        self._loop.close()

    def scan(self, files: Sequence[Path]) -> Iterator[FileReport]:
        """Reports of files, each as soon as it is known, in the order of `hauberk.scan.walk.settled`.

        Raises:
            LimitError: No process can be started under its limits.
            HauberkError: It ended before it was ready.
        """
        yield from settled(self._scanned(files))

    def _scanned(self, files: Sequence[Path]) -> Iterator[FileReport]:
        for group in _groups(files):
            worker = self._living_worker()
            try:
                yield from self._ask(worker, group)
            except HauberkError as error:
                if len(group) == 1:
                    yield _lost(group[0], str(error))
                else:  # one of them was too much: which one?
                    yield from self._one_by_one(group)

    def _one_by_one(self, files: Sequence[Path]) -> Iterator[FileReport]:
        for file in files:
            worker = self._living_worker()
            try:
                yield from self._ask(worker, [file])
            except HauberkError as error:
                yield _lost(file, str(error))

    def _ask(self, worker: Worker, files: Sequence[Path]) -> list[FileReport]:
        question = msgspec.msgpack.encode([os.fsencode(file) for file in files])
        time_limit = len(files) * self._scan_limits.seconds + _GRACE
        answer = self._loop.run_until_complete(worker.ask(question, time_limit=time_limit))
        try:
            reports = msgspec.json.decode(answer, type=list[FileReport])
        except msgspec.MsgspecError as error:
            worker.kill()
            raise WorkerLostError(f"no readable answer: {error}") from error
        if [report.path for report in reports] != [path_text(file) for file in files]:
            worker.kill()
            raise WorkerLostError("it answered for other files than it was asked about")
        return reports

    def _living_worker(self) -> Worker:
        if self._worker is not None and self._worker.alive:
            return self._worker
        if self._worker is not None:
            self._loop.run_until_complete(self._worker.close())
        self._worker = self._loop.run_until_complete(
            Worker.start(
                self.target,
                msgspec.json.encode(_Setup(self._scan_limits)),
                limits=self._limits,
                time_limit=_START,
                longest_answer=_LONGEST_ANSWER,
            )
        )
        return self._worker


def files_to_scan(paths: Sequence[Path]) -> list[Path]:
    """All files of these paths, in the order of scanning; each once.

    Raises:
        InputError: A path does not exist.
    """
    found: dict[Path, None] = {}
    for path in paths:
        if not path.exists():
            raise InputError(f"{path}: no such file or folder")
        found.update(dict.fromkeys(files_of(path)))
    return list(found)


def _groups(files: Sequence[Path]) -> Iterator[list[Path]]:
    """Small files that follow one another together, all others alone."""
    group: list[Path] = []
    taken = 0
    for file in files:
        size = _SMALL
        with suppress(OSError):  # what cannot be read is reported by the scan
            size = file.stat().st_size
        if group and (len(group) == _TOGETHER or taken + size > _SMALL):
            yield group
            group, taken = [], 0
        group.append(file)
        taken += size
    if group:
        yield group


def _lost(file: Path, why: str) -> FileReport:
    finding = Finding(LOST.id, LOST.severity, LOST.outcome, why, "", LOST.why, LOST.reference)
    size = 0
    with suppress(OSError):
        size = file.stat().st_size
    return FileReport(path_text(file), Verdict.UNKNOWN, "", size, (finding,))
