"""Scanning in processes of their own: hard limits on memory and time, no network, no writing, no file but the handed.

The scanners keep limits of their own and run nothing of a file; this is for the day on which one of them is wrong. This
process opens the files and looks at none of them. It hands the descriptors to a child of a fork server, which can open
nothing by itself, a group of files each time: the next group gets a fresh child, which knows nothing of the first.
Where one dies or takes too long, the file that it was at is reported as unknown, and the scan goes on with another.
"""

from __future__ import annotations

import math
import os
import resource
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import Self

import msgspec

from hauberk.errors import HauberkError, InputError
from hauberk.sandbox.forks import ForkServer
from hauberk.sandbox.limits import GIBIBYTE, MEBIBYTE, Limits, offered
from hauberk.sandbox.process import NotStartedError, WorkerLostError
from hauberk.scan.beside import named_files, open_beside
from hauberk.scan.content import open_regular
from hauberk.scan.examination import ScanLimits
from hauberk.scan.handed import Handed
from hauberk.scan.report import FileReport, Outcome, Rule, Severity, Verdict, path_text, shown
from hauberk.scan.walk import files_of, named_folder, settled, unread

LOST = Rule(
    "scan-process-lost",
    "the scanning process ended",
    Severity.LOW,
    Outcome.UNKNOWN,
    "The process that looked at the file ran into its limits of memory or time, or crashed. What it had not looked at"
    " is unknown. If the file is an honest one, please report it.",
)
RULES = (LOST,)

MEMORY = GIBIBYTE
"""Private memory of a scanning process, in bytes; scans take a small part of it."""

_GRACE = 5.0  # seconds beyond the deadline that scanners keep themselves
_DESCRIPTORS = 256
_PREPARE = ("hauberk.scan.handed:prepare",)
# A child costs as much as some tens of small files.
_FILES_TOGETHER = 200  # or a quarter of what this process may have open, if that is less
_BYTES_TOGETHER = 16 * MEBIBYTE
_PATHS_TOGETHER = 1 << 15  # bytes of all paths: an order to the server is one message
_LONGEST_ANSWER = 4 * MEBIBYTE


class Opened(msgspec.Struct, frozen=True):
    """A file that is open for a scan.

    Attributes:
        path: As it was named or found.
        descriptor: For reading.
        size: Bytes.
    """

    path: Path
    descriptor: int
    size: int


class Supervisor:
    """Scans files in processes of their own. Use it as a context manager, from one thread.

    Args:
        limits: How far a scan goes; by default `ScanLimits()`.

    Attributes:
        missing: What this system cannot keep the process from, one phrase each; empty where everything holds.

    Raises:
        NotStartedError: No process can be started.
    """

    target = "hauberk.scan.handed:scan_handed"
    """What a child runs; see `hauberk.sandbox.forkserver`."""

    def __init__(self, limits: ScanLimits | None = None) -> None:
        self._scan_limits = limits or ScanLimits()
        self._time_limit = self._scan_limits.seconds + _GRACE
        wanted = Limits(
            memory=MEMORY,
            mapped=0,
            cpu_seconds=math.ceil(self._time_limit),
            files=_DESCRIPTORS,
            file_size=0,
            processes=0 if os.geteuid() else None,  # the kernel does not hold root to it; the filter does
            read_only=(),
            network=False,
            system_calls="alone",
        )
        self._limits, missing = offered(wanted)
        self._together = max(1, min(_FILES_TOGETHER, resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 4))
        self._server = ForkServer(self._limits, _PREPARE)
        broken = (f"{check.name} ({check.detail})" for check in self._server.checks if not check.holds)
        self.missing = (*missing, *broken)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._server.close()

    def scan(self, files: Sequence[Path]) -> Iterator[FileReport]:
        """Reports of files, each as soon as it is known, in the order of `hauberk.scan.walk.settled`.

        ONNX models with weights in other files come after what was looked at together with them.

        Raises:
            NotStartedError: No process can be started.
        """
        yield from settled(self._scanned(files))

    def _scanned(self, files: Iterable[Path]) -> Iterator[FileReport]:
        for paths in _groups(files, self._together):
            group: list[Opened] = []
            unreadable: list[FileReport] = []
            try:
                for path in paths:
                    try:
                        group.append(Opened(path, *open_regular(path)))
                    except InputError as error:
                        unreadable.append(unread(path, error))
                yield from self._scan_group(group)
            finally:
                for each in group:
                    os.close(each.descriptor)
            yield from unreadable

    def _scan_group(self, group: list[Opened]) -> Iterator[FileReport]:
        """One child for all, or, where one of them was too much for it, several."""
        with_others: list[tuple[Opened, list[str]]] = []
        left = group
        while left:
            answered = 0
            try:
                for report in self._ask(left):
                    if others := named_files(report.facts):
                        with_others.append((left[answered], others))
                    else:
                        yield report
                    answered += 1
            except NotStartedError:
                raise
            except HauberkError as error:
                # What went before may have used up memory or time, so the file is tried again as the first.
                if not answered:
                    yield _lost(left[0], error)
                    answered = 1
            left = left[answered:]
        for file, others in with_others:
            yield self._scan_with_others(file, others)

    def _scan_with_others(self, file: Opened, locations: list[str]) -> FileReport:
        """Scan once more, now with the files at hand in which a model says that its weights lie."""
        beside = open_beside(file.path, locations)
        try:
            (report,) = self._ask([file], beside)
        except HauberkError as error:
            return _lost(file, error)
        else:
            return report
        finally:
            for descriptor in beside:
                os.close(descriptor)

    def _ask(self, files: Sequence[Opened], beside: Sequence[int] = ()) -> Iterator[FileReport]:
        paths = tuple(os.fsencode(file.path.absolute()) for file in files)
        answers = self._living_server().answers(
            self.target,
            msgspec.msgpack.encode(Handed(paths, tuple(file.size for file in files), self._scan_limits)),
            [*(file.descriptor for file in files), *beside],
            count=len(files),
            limits=self._limits,
            time_limit=self._time_limit,
            longest_answer=_LONGEST_ANSWER,
            imports=_PREPARE,
            by_path=bool(beside),
        )
        with closing(answers):  # which ends the child, if it still lives
            for file, path, answer in zip(files, paths, answers, strict=True):
                yield _checked(answer, file, path)

    def _living_server(self) -> ForkServer:
        if not self._server.alive:
            self._server.close()
            self._server = ForkServer(self._limits, _PREPARE)
        return self._server


def files_to_scan(paths: Sequence[Path]) -> list[Path]:
    """All files of these paths, in the order of scanning; each once.

    Raises:
        InputError: A path does not exist.
    """
    found: dict[Path, None] = {}
    for path in paths:
        found.update(dict.fromkeys(files_of(path) if named_folder(path) else (path,)))
    return list(found)


def _groups(files: Iterable[Path], together: int) -> Iterator[list[Path]]:
    """Files that one child looks at."""
    group: list[Path] = []
    size = length = 0
    for path in files:
        own_size = 0
        with suppress(OSError, ValueError):  # what cannot be read is reported later
            own_size = os.stat(path).st_size  # noqa: PTH116 - half the time of Path's, for each small file
        own_length = len(os.fsencode(path.absolute()))
        full = len(group) == together or length + own_length > _PATHS_TOGETHER
        if group and (full or size + own_size > _BYTES_TOGETHER):
            yield group
            group, size, length = [], 0, 0
        group.append(path)
        size, length = size + own_size, length + own_length
    if group:
        yield group


def _checked(answer: bytes, file: Opened, asked: bytes) -> FileReport:
    """What a child answered about a file, under the name by which the file was given."""
    try:
        report = msgspec.msgpack.decode(answer, type=FileReport)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise WorkerLostError(f"no readable answer: {error}") from error
    if (report.path, report.size) != (path_text(Path(os.fsdecode(asked))), file.size):
        raise WorkerLostError("it answered for another file than it was asked about")
    return msgspec.structs.replace(report, path=path_text(file.path))


def _lost(file: Opened, error: HauberkError) -> FileReport:
    return FileReport(path_text(file.path), Verdict.UNKNOWN, "", file.size, (LOST.finding(shown(str(error))),))
