"""What hostile files might make of a parser; run inside the process that parses, never imported by the tests."""

from __future__ import annotations

import os
import signal
import socket
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


def fill_the_output(_: bytes, descriptors: Sequence[int]) -> bytes:
    os.ftruncate(descriptors[1], 1 << 40)
    raise AssertionError


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
        }
    )


def _what_worked(attempts: dict) -> bytes:  # type: ignore[type-arg]
    worked = []
    for name, attempt in attempts.items():
        try:
            attempt()
        except OSError:
            continue
        worked.append(name)
    return msgspec.json.encode(worked)
