"""Scanning processes that go wrong where a file says so: what the supervisor is tried with."""

from __future__ import annotations

import os
import socket
import time
from pathlib import Path

import msgspec

from hauberk.scan.report import FileReport, Verdict
from hauberk.scan.supervised import Inside
from hauberk.scan.supervised import start as usual


class Faulty:
    """Does what a file's first word says, and otherwise scans it."""

    greeting = b""

    def __init__(self, inside: Inside) -> None:
        self._inside = inside

    def answer(self, question: bytes) -> bytes:
        for path in map(os.fsdecode, msgspec.msgpack.decode(question, type=list[bytes])):
            word, _, rest = Path(path).read_text(errors="replace").partition(" ")
            if word == "CRASH":
                os.abort()
            elif word == "MEMORY":
                bytearray(1 << 40)
            elif word == "NONSENSE":
                return b"\xff"
            elif word == "NOTHING":
                return b"[]"
            elif word == "SLOW":
                time.sleep(60)
            elif word in {"WRITE", "READ", "CONNECT", "START"}:
                return msgspec.json.encode([FileReport(path, Verdict.SAFE, attempt(word, rest), 0)])
        return self._inside.answer(question)


def attempt(word: str, rest: str) -> str:
    """What came of something that a scan never does."""
    try:
        if word == "WRITE":
            Path(rest).write_text("written")
        elif word == "READ":
            Path(rest).read_text()
        elif word == "CONNECT":
            with socket.create_connection(("127.0.0.1", int(rest)), timeout=2):
                pass
        else:
            os.posix_spawn("/bin/true", ["true"], {})
    except OSError as error:
        return f"refused: {error.strerror}"
    return "possible"


def start(setup: bytes) -> Faulty:
    return Faulty(usual(setup))
