"""Targets for the workers of `test_worker.py`; run inside them, never imported by the tests."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import stat
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from hauberk.errors import InputError, LimitError


class Commands:
    """Does what the question says."""

    greeting = b"ready"

    def __init__(self, setup: bytes) -> None:
        self._commands: dict[bytes, Callable[[], bytes]] = {
            b"setup": lambda: setup,
            b"pid": lambda: str(os.getpid()).encode(),
            b"long": lambda: b"x" * 3_000_000,
            b"refuse": _refuse,
            b"limit": _limit,
            b"fail": _fail,
            b"take memory": lambda: bytes(len(bytearray(1 << 30))),
            b"abort": _abort,
            b"killed": lambda: bytes(os.kill(os.getpid(), signal.SIGKILL) or 0),
            b"exit": lambda: os._exit(7),
            b"spin": _spin,
            b"sleep inside C": lambda: bytes(time.sleep(60) or 0),
            b"environment": lambda: "\n".join(sorted(os.environ)).encode(),
            b"arguments": lambda: "\n".join(sys.argv).encode(),
            b"read 3": lambda: os.pread(int(setup), 3, 0),
            b"speak twice": _speak_twice,
        }

    def answer(self, question: bytes) -> bytes:
        command = self._commands.get(question)
        return command() if command else question


def commands(setup: bytes) -> Commands:
    return Commands(setup)


def refusing(setup: bytes) -> Commands:
    raise InputError(f"cannot be set up with {setup.decode()}")


def slow(setup: bytes) -> Commands:
    time.sleep(60)
    return Commands(setup)


def dying(setup: bytes) -> Commands:
    os._exit(3)


def _refuse() -> bytes:
    raise InputError("this question is no good")


def _limit() -> bytes:
    raise LimitError("the model wants too much")


def _fail() -> bytes:
    raise ZeroDivisionError("secret detail")


def _abort() -> bytes:
    os.abort()


def _spin() -> bytes:
    while True:
        pass


def _speak_twice() -> bytes:
    connection = socket.socket(fileno=os.dup(int(sys.argv[1])))
    connection.sendall(b"\x01\x00\x00\x00\x00a")
    return b"b"


MEMORY: list[int] = []
PREPARED: list[int] = []


def prepare() -> None:
    """What a fork server calls before it forks."""
    PREPARED.append(1)


def fork_commands(question: bytes, descriptors: Sequence[int]) -> bytes:
    """A target of a fork server."""
    name, _, rest = question.decode().partition(" ")
    match name:
        case "read":
            return b" ".join(os.pread(descriptor, 100, 0) for descriptor in descriptors)
        case "open":
            paths = [Path(rest)] if rest else [Path(f"/proc/self/fd/{descriptor}") for descriptor in descriptors]
            return b" ".join(path.read_bytes() for path in paths)
        case "descriptors":
            return ",".join(path.name for path in Path("/proc/self/fd").iterdir()).encode()
        case "remember":
            MEMORY.append(1)
            return str(len(MEMORY) - 1).encode()
        case "prepared":
            return str(len(PREPARED)).encode()
        case "imported":
            return str(rest in sys.modules).encode()
        case "half":
            for descriptor in range(3, 20):
                with contextlib.suppress(OSError):
                    os.write(descriptor, b"\xff\0\0\0\0abc")
            os._exit(0)
        case "forge":
            return _forge()
    return Commands(b"").answer(question)


def one_by_one(question: bytes, descriptors: Sequence[int]) -> Iterator[bytes]:
    """A target that takes the seconds of the question for each of its answers."""
    while True:
        time.sleep(float(question))
        yield b"answer"


def _forge() -> bytes:
    for descriptor in range(3, 20):
        with contextlib.suppress(OSError):
            if stat.S_ISSOCK(os.fstat(descriptor).st_mode):
                made = socket.socket(fileno=os.dup(descriptor))
                if made.type == socket.SOCK_SEQPACKET:
                    made.send(b"\x83\xa4code\xc0\xa4late\xc3\xa5fault\xa0")
                    return b"forged"
    return b"forged nothing"
