"""Files and folders, one report each."""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import msgspec

from hauberk.errors import InputError
from hauberk.scan.beside import named_files
from hauberk.scan.content import Content, OpenFile
from hauberk.scan.examination import UNRECOGNISED, Examination, ScanLimits, StopScan
from hauberk.scan.formats import examine
from hauberk.scan.report import FileReport, Outcome, Rule, Severity, Verdict, path_text, shown

UNREADABLE = Rule(
    "scan-unreadable",
    "a file that cannot be read",
    Severity.LOW,
    Outcome.UNKNOWN,
    "Nobody looked at it. Make it readable, or leave it out.",
)
EMPTY = Rule(
    "scan-empty",
    "nothing to look at",
    Severity.LOW,
    Outcome.UNKNOWN,
    "A file of no bytes is no model, and a folder without a file holds none.",
)
RULES = (UNREADABLE, EMPTY)


def scan_paths(paths: Iterable[Path], limits: ScanLimits | None = None) -> Iterator[FileReport]:
    """Scan files, and all files of folders at any depth.

    Args:
        paths: Files and folders. Links that are named are followed; links to folders inside a folder are not, so that
            a folder that holds itself ends.
        limits: How far to go; by default `ScanLimits()`.

    Yields:
        A report for every file, in the order of names, as soon as it is done; files of no known format come last (see
        `settled`). What cannot be read has one, too.

    Raises:
        InputError: A path does not exist.
    """
    yield from settled(_scanned(paths, limits))


def _scanned(paths: Iterable[Path], limits: ScanLimits | None) -> Iterator[FileReport]:
    for path in paths:
        if named_folder(path):
            for file in files_of(path):
                yield scan_file(file, limits)
        else:
            yield scan_file(path, limits)


def named_folder(path: Path) -> bool:
    """Whether a path that somebody named is a folder; not where the system does not say, which a scan then reports.

    Raises:
        InputError: It does not exist.
    """
    try:
        return stat.S_ISDIR(os.stat(path).st_mode)  # noqa: PTH116 - half the time of Path's, for each small file
    except (FileNotFoundError, NotADirectoryError, ValueError) as error:
        raise InputError(f"{path}: no such file or folder") from error
    except OSError:  # too long a name, a folder on the way that must not be entered
        return False


def settled(reports: Iterable[FileReport]) -> Iterator[FileReport]:
    """The same reports, with the weights that a safe ONNX model keeps beside itself called what they are.

    Such a file is bare numbers, of no format that anybody could recognise. It is safe where a safe model of the same
    scan says that its weights lie there, and nothing but that was wrong with it. What may be such a file comes last.

    Args:
        reports: In any order.
    """
    waiting: list[FileReport] = []
    owners: dict[str, str] = {}
    for report in reports:
        if [finding.rule for finding in report.findings] == [UNRECOGNISED.id] and not report.omitted:
            waiting.append(report)
            continue
        if report.verdict is Verdict.SAFE and (locations := named_files(report.facts)):
            folder = os.path.realpath(Path(report.path).parent)
            for location in locations:
                owners[os.path.join(folder, location)] = report.path  # noqa: PTH118 - compared as text
        yield report
    for report in waiting:
        model = owners.get(os.path.realpath(report.path))
        if model is None:
            yield report
        else:
            yield msgspec.structs.replace(
                report, verdict=Verdict.SAFE, format="onnx-weights", findings=(), facts={"weights_of": model}
            )


def files_of(path: Path) -> Iterator[Path]:
    """A file itself, or all that lies in a folder; folders that are not entered (links, unreadable ones) as such.

    A folder in which there is nothing at any depth is named itself.
    """
    # Path's own questions raise where a path is too long, or a folder on the way must not be entered.
    if not os.path.isdir(path):  # noqa: PTH112
        yield path
        return
    unlisted: list[Path] = []
    found = False
    for folder, folders, names in os.walk(path, onerror=lambda error: unlisted.append(Path(error.filename))):
        folders.sort()
        for name in (*(each for each in folders if _is_link(Path(folder, each))), *sorted(names)):
            found = True
            yield Path(folder) / name
    yield from unlisted or ([] if found else [path])


def scan_file(path: Path, limits: ScanLimits | None = None) -> FileReport:
    """Scan one file; never raises for what it holds or for being unreadable."""
    started = time.perf_counter()
    try:
        with OpenFile(path) as file:
            return scan_content(file.content, path=path, limits=limits)
    except (InputError, OSError) as error:
        return msgspec.structs.replace(unread(path, error), seconds=time.perf_counter() - started)


def unread(path: Path, error: Exception) -> FileReport:
    """The report on what could not be opened or read."""
    finding = UNREADABLE.finding(shown(str(error).removeprefix(f"{path}: ")))
    folder = os.path.isdir(path)  # noqa: PTH112 - Path's raises where the path is too long, or must not be reached
    if folder and _is_link(path):
        finding = UNREADABLE.finding("a link to a folder, which is not followed; name the folder itself")
    elif folder:
        try:
            next(path.iterdir(), None)
            finding = EMPTY.finding("a folder without a file in it")
        except OSError as reason:
            finding = UNREADABLE.finding(f"a folder that cannot be listed: {(reason.strerror or str(reason)).lower()}")
    return FileReport(path_text(path), Verdict.UNKNOWN, "", 0, (finding,))


def _is_link(path: Path) -> bool:
    return os.path.islink(path)  # noqa: PTH114 - Path's raises where the path is too long, or must not be reached


def scan_content(content: Content, *, path: Path, limits: ScanLimits | None = None) -> FileReport:
    """Scan what has been opened.

    Args:
        content: The bytes.
        path: What to call it, and where files beside it are looked for where a format names some.
        limits: How far to go; by default `ScanLimits()`.
    """
    started = time.perf_counter()
    examination = Examination(limits, path=path)
    kind = ""
    if content.size:
        try:
            kind = examine(content, examination)
        except StopScan:
            kind = examination.format
    else:
        examination.find(EMPTY, "0 bytes")
    return FileReport(
        path_text(path),
        examination.verdict,
        kind,
        content.size,
        examination.findings,
        examination.omitted,
        examination.facts,
        time.perf_counter() - started,
    )
