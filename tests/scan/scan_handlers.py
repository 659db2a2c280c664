"""Scanning processes that go wrong where a file says so: what the supervisor is tried with."""

from __future__ import annotations

import _thread
import mmap
import os
import signal
import socket
import stat
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import msgspec

from hauberk.scan.handed import Handed
from hauberk.scan.handed import scan_handed as usual
from hauberk.scan.report import FileReport, Verdict

REMEMBERED: list[str] = []


def scan_handed(question: bytes, descriptors: Sequence[int]) -> Iterator[bytes]:
    """Do what a file's first word says, and otherwise scan it."""
    handed = msgspec.msgpack.decode(question, type=Handed)
    for number, (path, size) in enumerate(zip(handed.paths, handed.sizes, strict=True)):
        word, _, rest = os.pread(descriptors[number], 1000, 0).decode(errors="replace").partition(" ")
        report = FileReport(os.fsdecode(path), Verdict.SAFE, "", size)
        if word in ATTEMPTS:
            attempted = attempt(ATTEMPTS[word], rest, descriptors)
            yield msgspec.msgpack.encode(msgspec.structs.replace(report, format=attempted))
        elif word in FAULTS:
            yield FAULTS[word](report)
        elif word == "NOTHING":
            return
        elif word == "BESIDE":
            yield msgspec.msgpack.encode(beside(report, rest))
        else:
            alone = msgspec.structs.replace(handed, paths=(path,), sizes=(size,))
            yield from usual(msgspec.msgpack.encode(alone), [descriptors[number]])


def attempt(action: Callable[[str, Sequence[int]], object], rest: str, descriptors: Sequence[int]) -> str:
    """What came of something that a scan never does."""
    try:
        outcome = action(rest, descriptors)
    except (OSError, RuntimeError, MemoryError) as error:
        return f"refused: {error}"
    return outcome if isinstance(outcome, str) else "possible"


def beside(report: FileReport, rest: str) -> FileReport:
    """Name files beside the model, and say which of them can be read."""
    folder = Path(report.path).parent
    names = rest.split(" | ")
    readable = [name for name in names if attempt(ATTEMPTS["READ"], str(folder / name), ()) == "possible"]
    return msgspec.structs.replace(report, format=" ".join(readable), facts={"external_files": tuple(names)})


def _connect(port: str, _: Sequence[int]) -> None:
    socket.create_connection(("127.0.0.1", int(port)), timeout=2).close()


def _take_shared_memory(_: str, __: Sequence[int]) -> None:
    mmap.mmap(-1, 3 << 30)


def _open_descriptors(_: str, __: Sequence[int]) -> str:
    kinds = {stat.S_ISREG: "file", stat.S_ISSOCK: "socket", stat.S_ISCHR: "device"}
    found = []
    for descriptor in range(1024):
        try:
            mode = os.fstat(descriptor).st_mode
        except OSError:
            continue
        found.append(next((name for test, name in kinds.items() if test(mode)), "other"))
    return " ".join(found)


def _remember(name: str, _: Sequence[int]) -> str:
    REMEMBERED.append(name)
    return " ".join(REMEMBERED)


ATTEMPTS: dict[str, Callable[[str, Sequence[int]], object]] = {
    "WRITE": lambda place, _: Path(place).write_text("written"),
    "READ": lambda place, _: Path(place).read_bytes() and None,
    "LIST": lambda place, _: next(Path(place).iterdir()) and None,
    "REOPEN": lambda _, descriptors: Path(f"/proc/self/fd/{descriptors[0]}").read_bytes() and None,
    "CHANGE": lambda _, descriptors: os.ftruncate(descriptors[0], 0),
    "CONNECT": _connect,
    "START": lambda _, __: os.posix_spawn("/bin/true", ["true"], {}),
    "THREAD": lambda _, __: _thread.start_new_thread(int, ()),
    "SIGNAL": lambda process, _: os.kill(int(process), 0),
    "SHARE": _take_shared_memory,
    "DESCRIPTORS": _open_descriptors,
    "REMEMBER": _remember,
}


def _end(action: Callable[[], object]) -> Callable[[FileReport], bytes]:
    def fault(_: FileReport) -> bytes:
        action()
        raise AssertionError("it goes on")

    return fault


def _spin() -> None:
    while True:
        pass


def _spend(report: FileReport) -> bytes:
    until = time.process_time() + 0.6
    while time.process_time() < until:
        pass
    return msgspec.msgpack.encode(report)


FAULTS: dict[str, Callable[[FileReport], bytes]] = {
    "CRASH": _end(os.abort),
    "EXIT": _end(lambda: os._exit(0)),
    "MEMORY": _end(lambda: bytearray(1 << 40)),
    "SLOW": _end(lambda: time.sleep(60)),
    "HALT": _end(lambda: (os.kill(os.getpid(), signal.SIGSTOP), time.sleep(60))),
    "SPIN": _end(_spin),
    "SPEND": _spend,
    "NONSENSE": lambda _: b"\xff",
    "HUGE": lambda _: bytes(20 << 20),
    "OTHER": lambda report: msgspec.msgpack.encode(msgspec.structs.replace(report, path="/another")),
}
