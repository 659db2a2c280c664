"""Targets for the workers of `test_worker.py`; run inside them, never imported by the tests."""

from __future__ import annotations

import os
import signal
import socket
import sys
import time
from collections.abc import Callable

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
