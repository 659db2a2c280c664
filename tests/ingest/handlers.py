"""What hostile files might make of a parser; run inside the process that parses, never imported by the tests."""

from __future__ import annotations

import _thread
import ctypes
import fcntl
import mmap
import os
import signal
import socket
import stat
import time
from collections.abc import Sequence
from pathlib import Path

import msgspec


def die(_: bytes, descriptors: Sequence[int]) -> bytes:
    os.kill(os.getpid(), signal.SIGSEGV)
    raise AssertionError


def spin(_: bytes, descriptors: Sequence[int]) -> bytes:
    while True:
        pass


def sleep(_: bytes, descriptors: Sequence[int]) -> bytes:
    time.sleep(60)
    raise AssertionError


def take_memory(_: bytes, descriptors: Sequence[int]) -> bytes:
    return bytes(len(bytearray(8 << 30)))


def fail(_: bytes, descriptors: Sequence[int]) -> bytes:
    raise ZeroDivisionError("\x1b[2J\nsecret")


def babble(_: bytes, descriptors: Sequence[int]) -> bytes:
    return b"\xc1 no table of contents"


def talk_long(question: bytes, descriptors: Sequence[int]) -> bytes:
    return bytes(int(question or 5_000_000))


def fill_the_output(_: bytes, descriptors: Sequence[int]) -> bytes:
    os.ftruncate(descriptors[1], 1 << 40)
    raise AssertionError


def seal_the_output(_: bytes, descriptors: Sequence[int]) -> bytes:
    """So that whoever it belongs to could not seal it any more."""
    return _what_worked({"seal": lambda: fcntl.fcntl(descriptors[1], fcntl.F_ADD_SEALS, fcntl.F_SEAL_SEAL)})


def descriptors_of(_: bytes, descriptors: Sequence[int]) -> bytes:
    """What it has open beside what it was handed, and what Python has by itself."""
    found = []
    for descriptor in set(range(3, 1024)) - set(descriptors):
        try:
            found.append(stat.filemode(os.fstat(descriptor).st_mode)[0])
        except OSError:
            continue
    return "".join(sorted(found)).encode()


def take_shared_memory(_: bytes, descriptors: Sequence[int]) -> bytes:
    """Which the limit on private memory does not count."""
    taken = [mmap.mmap(-1, 1 << 28)]
    while True:
        taken.append(mmap.mmap(-1, 1 << 28))


def spoil_the_copy(_: bytes, descriptors: Sequence[int]) -> bytes:
    return _what_worked({"write": lambda: os.pwrite(descriptors[0], b"x", 0)})


def lie(question: bytes, descriptors: Sequence[int]) -> bytes:
    """The question is the table."""
    return question


def escape(question: bytes, descriptors: Sequence[int]) -> bytes:
    """What of all that should be refused was not; the question is a folder of the test's."""
    folder = Path(os.fsdecode(question))
    return _what_worked(
        {
            "read": (folder / "secret").read_bytes,
            "read /etc": Path("/etc/passwd").read_bytes,
            "list": lambda: list(folder.iterdir()),
            "write": lambda: (folder / "flag").write_bytes(b"x"),
            "remove": (folder / "secret").unlink,
            "connect": socket.socket,
            "fork": os.fork,
            "execute": lambda: os.posix_spawn("/bin/true", ["true"], {}),
            "signal": lambda: os.kill(os.getppid(), 0),
            "look at the parent": lambda: Path(f"/proc/{os.getppid()}/environ").read_bytes(),
            "memory file": lambda: os.memfd_create("x"),
            "thread": lambda: _thread.start_new_thread(int, ()),
            "signal to all": lambda: os.kill(-1, 0),
            "signal to its group": lambda: os.kill(0, 0),
            "abstract socket": lambda: _call(41, 1, 1, 0),
            "new namespaces": lambda: _call(272, 0x10000000),
            "program from a descriptor": lambda: _call(322, descriptors[0], b"", 0, 0, 0x1000),
            "file by its handle": lambda: _call(304, -100, b"", 0),
            "page faults": lambda: _call(323, 0),
            "io_uring": lambda: _call(425, 1, b"\0" * 120),
            "secret memory": lambda: _call(447, 0),
            "file without a name": lambda: os.open(folder, os.O_RDWR | os.O_TMPFILE),
            "System V memory": lambda: _call(29, 0, 4096, 0o1600),
            "own memory by its file": lambda: os.open("/proc/self/mem", os.O_RDWR),
            "permissions": lambda: os.fchmod(descriptors[0], 0o777),
            "lock": lambda: fcntl.flock(descriptors[0], fcntl.LOCK_EX),
            "a signal when something happens": lambda: fcntl.fcntl(descriptors[0], fcntl.F_SETOWN, os.getppid()),
            "larger pipes": lambda: fcntl.fcntl(os.pipe()[0], 1031, 1 << 20),
            "own priority": lambda: os.nice(-1),
            "another processor": lambda: os.sched_setaffinity(0, {0}),
            "dumpable again": lambda: _call(157, 4, 1, 0, 0, 0),
            "another folder": lambda: os.chdir("/"),
        }
    )


def _call(number: int, *arguments: object) -> None:
    """By its number on x86-64; elsewhere it may be another call that is refused, too."""
    library = ctypes.CDLL(None, use_errno=True)
    if library.syscall(number, *arguments) < 0:
        raise OSError(ctypes.get_errno(), "refused")


def _what_worked(attempts: dict) -> bytes:  # type: ignore[type-arg]
    worked = []
    for name, attempt in attempts.items():
        try:
            attempt()
        except (OSError, RuntimeError):
            continue
        worked.append(name)
    return msgspec.json.encode(worked)
