"""Who looks into an unadmitted file: never this process, but one under limits, and a fresh one for every file.

Fork servers are started when a file first needs them and kept: processes that have imported the scanner, torch or onnx
and nothing else, and fork a child for every question. The child has the sealed copy and a connection; it cannot open
other files than Python's own, make one, reach the network or another process, or outlive its answer. There is one
server for the scanner and one for each library, because a fork takes longer the more there is in memory. See
docs/reference/isolation.md.
"""

from __future__ import annotations

import atexit
import logging
import os
import threading
from collections.abc import Sequence
from typing import TypeVar

import msgspec

from hauberk.errors import HauberkError, InputError, LimitError, RefusedModelError
from hauberk.ingest.private import PrivateCopy
from hauberk.sandbox.forks import ForkServer
from hauberk.sandbox.landlock import runtime_paths
from hauberk.sandbox.limits import GIBIBYTE, MEBIBYTE, Limits, offered
from hauberk.sandbox.process import NotStartedError
from hauberk.scan import FileReport, Verdict
from hauberk.scan.beside import named_files, open_beside
from hauberk.scan.report import shown

T = TypeVar("T")

_READER = "hauberk.ingest.reader"
SCANNER = ("hauberk.scan.handed:prepare", _READER)
"""What the scan and readers of plain headers import."""
TORCH = (f"{_READER}:prepare_torch",)
ONNX = (f"{_READER}:prepare_onnx",)
_OVERHEAD = GIBIBYTE
"""Private memory beside what a file needs: torch takes 180 MB of it, the scanner of a large header 200 MB."""
_FILES = 64
_CPU_SECONDS = 150
_SECONDS = 120.0
_SLOWEST = 20 * MEBIBYTE
"""Bytes a second; a file gets so much more time."""
_SHORT_ANSWER = 4 * MEBIBYTE
_ANSWER_FOR_A_BYTE = 16
"""A table of contents is about as long as the names and shapes in the file, which may be compressed there."""
_LONGEST_ANSWER = 64 * MEBIBYTE
"""And no longer than this: it takes ten times as much in the memory of whoever reads it, before anything is checked."""
_LONGEST_MESSAGE = 600

_logger = logging.getLogger(__name__)


def scan(copy: PrivateCopy) -> FileReport:
    """What the scan says of a copy, from a process of its own, which can open no file.

    Where a graph has weights in files beside it, it is scanned once more by a process that is handed these files: some
    of these weights are shapes, which decide what a run takes.

    Raises:
        RefusedModelError: The scan itself was stopped by a limit, or died.
    """
    report = _scan(copy, ())
    locations = named_files(report.facts)
    if not locations or report.verdict is Verdict.UNSAFE:
        return report
    beside = open_beside(copy.source, locations)
    try:
        return _scan(copy, beside)
    finally:
        for descriptor in beside:
            os.close(descriptor)


def _scan(copy: PrivateCopy, beside: Sequence[int]) -> FileReport:
    question = os.fsencode(copy.source.absolute())
    answer = ask(
        "scan",
        question,
        copy,
        memory=_OVERHEAD,
        imports=SCANNER,
        beside=beside,
        readable=(),
        longest_answer=_SHORT_ANSWER,
    )
    return decoded(answer, FileReport, copy)


def decoded(answer: bytes, kind: type[T], copy: PrivateCopy) -> T:
    """What a child answered, as what it should be.

    Raises:
        RefusedModelError: It is not.
    """
    try:
        return msgspec.msgpack.decode(answer, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        what = f"the process that reads it answered nonsense: {printable(error)}"
        raise RefusedModelError(f"{copy.source}: refused: {what}") from error


def ask(
    function: str,
    question: bytes,
    copy: PrivateCopy,
    *,
    memory: int,
    imports: Sequence[str],
    output: int | None = None,
    most_output: int = 0,
    beside: Sequence[int] = (),
    readable: Sequence[str] | None = None,
    longest_answer: int = _LONGEST_ANSWER,
) -> bytes:
    """Have a function of `hauberk.ingest.reader` answer about a copy, in a process of its own.

    Args:
        function: Its name.
        question: What it is asked.
        copy: Handed over, open for reading only.
        memory: Bytes of private memory that it may take.
        imports: Modules that it needs, see `ForkServer.ask`; each set has a server of its own.
        output: A file that it may write to.
        most_output: Bytes that it may write there.
        beside: Further files, open for reading, which it may also open by their paths.
        readable: What it may open besides; by default what Python and its packages read while they run, and where the
            process has mapped files.
        longest_answer: Bytes; of small files fewer are taken.

    Raises:
        RefusedModelError: It refused the copy, reached a limit or died; the message says which, in one line.
        HauberkError: No such process can be started here.
    """
    wanted = Limits(
        memory=memory,
        mapped=copy.size,
        cpu_seconds=_CPU_SECONDS + copy.size // _SLOWEST,
        files=_FILES + len(beside),
        file_size=most_output,
        read_only=(*runtime_paths(), "/proc/self/maps") if readable is None else tuple(readable),
        network=False,
        system_calls="alone",
    )
    limits, _ = offered(wanted)
    descriptors = [copy.descriptor, *([] if output is None else [output]), *beside]
    server = server_for(imports)
    try:
        return server.ask(
            f"{_READER}:{function}",
            question,
            descriptors,
            limits=limits,
            time_limit=_SECONDS + copy.size / _SLOWEST,
            longest_answer=min(_SHORT_ANSWER + _ANSWER_FOR_A_BYTE * copy.size, longest_answer),
            imports=imports,
        )
    except NotStartedError:
        raise  # nothing is wrong with the file
    except LimitError as error:
        raise RefusedModelError(
            f"{copy.source}: refused: reading it was stopped by a limit: {printable(error)}"
        ) from error
    except InputError as error:
        raise RefusedModelError(f"{copy.source}: refused: {printable(error)}") from error
    except HauberkError as error:
        raise RefusedModelError(
            f"{copy.source}: refused: the process that reads it failed, as one does that is fed what is made to break"
            f" it: {printable(error)}"
        ) from error


def printable(said: object) -> str:
    """What a child said, which may have been taken over: short, printable, on one line."""
    return shown(" ".join(str(said).split()), _LONGEST_MESSAGE)


class _Shared:
    """The fork servers of this process, by what they have imported. A process that was forked off starts its own."""

    def __init__(self) -> None:
        self.forget()
        self.registered = False

    def forget(self) -> None:
        """Know of none; the lock is new, because a thread that a fork did not copy may have held it."""
        self.lock = threading.Lock()
        self.servers: dict[tuple[str, ...], ForkServer] = {}
        self.warned = False


# One set a process: starting one a file would cost a second for torch alone.
_shared = _Shared()
os.register_at_fork(after_in_child=_shared.forget)


def server_for(imports: Sequence[str]) -> ForkServer:
    """The server of this process for what needs these modules, started if there is none that lives.

    Raises:
        HauberkError: It does not start.
    """
    key = tuple(imports)
    with _shared.lock:
        if key in _shared.servers and not _shared.servers[key].alive:
            _shared.servers.pop(key).close()
        if key not in _shared.servers:
            _shared.servers[key] = _start(key)
        if not _shared.registered:
            atexit.register(stop)
            _shared.registered = True
        return _shared.servers[key]


def _start(imports: Sequence[str]) -> ForkServer:
    """Start a server that imports these; the first one warns of limits that this system does not keep."""
    wanted = Limits(memory=_OVERHEAD, files=_FILES, file_size=0, read_only=(), network=False, system_calls="alone")
    limits, missing = offered(wanted)
    server = ForkServer(limits, imports)
    broken = [f"{check.name} ({check.detail})" for check in server.checks if not check.holds]
    if (missing or broken) and not _shared.warned:
        _shared.warned = True
        _logger.warning(
            "model files are parsed in a process that this system does not fully close off; what it cannot refuse: %s",
            ", ".join([*missing, *broken]),
        )
    return server


def stop() -> None:
    """End this process's fork servers; the next question starts another."""
    with _shared.lock:
        while _shared.servers:
            _shared.servers.popitem()[1].close()
