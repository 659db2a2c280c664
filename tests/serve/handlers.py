"""Targets for the workers of `test_pool.py`; run inside them, never imported by the tests."""

from __future__ import annotations

import os
import time
from pathlib import Path


class Sleeper:
    """Sleeps as many seconds as it is asked to, then says who it is; `die` ends it."""

    def __init__(self, greeting: bytes) -> None:
        self.greeting = greeting

    def answer(self, question: bytes) -> bytes:
        if question == b"die":
            os._exit(1)
        time.sleep(float(question))
        return str(os.getpid()).encode()


def sleeper(setup: bytes) -> Sleeper:
    return Sleeper(b"hello")


def from_file(setup: bytes) -> Sleeper:
    """Greets with the content of a file, and does not start where there is none."""
    return Sleeper(Path(setup.decode()).read_bytes())
