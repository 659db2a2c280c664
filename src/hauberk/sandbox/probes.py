"""The throwaway processes of `limits.self_test`: each puts itself under one limit and tries to break it.

Run as `python -m hauberk.sandbox.probes`: `Limits` as JSON on standard input, checks as JSON on standard output. This
interpreter has one thread, so it forks a process for each attempt instead of starting an interpreter.
"""

from __future__ import annotations

import ctypes
import errno
import os
import select
import signal
import sys
import time
from collections.abc import Callable
from typing import NoReturn

import msgspec

from hauberk.errors import HauberkError
from hauberk.sandbox.limits import Check, Limits, apply

_HELD, _BROKEN = 0, 1
_PATIENCE = 10.0
"""Seconds that an attempt may take; one that spins for ever is killed and counts as broken."""


def main() -> None:
    """Try what standard input asks for."""
    limits = msgspec.json.decode(sys.stdin.buffer.read(), type=Limits)
    checks = [check(name, limits) for name in _attempts() if _asked(name, limits)]
    sys.stdout.buffer.write(msgspec.json.encode(checks))


def check(name: str, limits: Limits) -> Check:
    """Fork a process that tries to break one limit, and tell by its end whether it could."""
    attempt = _attempts()[name]
    pid = os.fork()
    if pid == 0:
        _attempt_and_exit(name, attempt, limits)
    status = _wait(pid)
    if status is None:
        return Check(name, holds=False, detail=f"the attempt was still running after {_PATIENCE:g} s")
    if os.WIFEXITED(status):
        code = os.WEXITSTATUS(status)
        details = {_HELD: "the attempt was refused", _BROKEN: "the attempt succeeded"}
        return Check(name, holds=code == _HELD, detail=details.get(code, "the limit cannot be set here"))
    number = os.WTERMSIG(status)
    expected = {"cpu_seconds": {signal.SIGXCPU}, "core": {signal.SIGABRT}}
    holds = number in expected.get(name, ()) and not os.WCOREDUMP(status)
    return Check(name, holds=holds, detail=f"the attempt ended with {signal.Signals(number).name}")


def _attempts() -> dict[str, Callable[[int], bool]]:
    """Every attempt: given the limit's value, it returns whether it held, raises `MemoryError` if so, or dies."""
    return {
        "memory": _take_memory,
        "cpu_seconds": _spin,
        "files": _open_files,
        "file_size": _grow_file,
        "processes": _fork,
        "core": _abort,
        "unreadable": lambda _: _dumpable() == 0,
        "privileges": lambda _: _status_field("NoNewPrivs") == "1",
        "orphans": _outlive_parent,
    }


def _asked(name: str, limits: Limits) -> bool:
    return name not in Limits.__struct_fields__ or getattr(limits, name) is not None


def _attempt_and_exit(name: str, attempt: Callable[[int], bool], limits: Limits) -> NoReturn:
    code = 2
    try:
        value = 1 if name == "cpu_seconds" else getattr(limits, name, 0)
        if name != "orphans":  # there it is the grandchild that is limited
            # Only the limit in question, so that none is credited with what another one did.
            apply(Limits(**{name: value}) if name in Limits.__struct_fields__ else Limits())
        code = _HELD if attempt(value) else _BROKEN
    except MemoryError:
        code = _HELD
    except (HauberkError, OSError):
        pass
    finally:
        os._exit(code)


def _wait(pid: int) -> int | None:
    deadline = time.monotonic() + _PATIENCE
    while time.monotonic() < deadline:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return status
        time.sleep(0.002)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return None


def _take_memory(most: int) -> bool:
    return len(bytearray(most)) == 0


def _spin(_: int) -> bool:
    while time.process_time() < 3:
        pass
    return False


def _open_files(most: int) -> bool:
    try:
        while os.dup(0) < most:
            pass
    except OSError as error:
        return error.errno == errno.EMFILE
    return False


def _grow_file(most: int) -> bool:
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        os.ftruncate(os.memfd_create("probe"), most + 1)  # a hole: nothing is really written
    except OSError as error:
        return error.errno == errno.EFBIG
    return False


def _fork(most: int) -> bool:
    if most > 0:
        # Filling up a user's processes would disturb the machine; with 0 the very first one must fail.
        apply(Limits(processes=0))
    try:
        pid = os.fork()
    except OSError as error:
        return error.errno == errno.EAGAIN
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)
    return False


def _abort(_: int) -> bool:
    os.abort()


def _outlive_parent(_: int) -> bool:
    """Start a limited process under a parent that ends at once; the pipe closes when that process is gone too."""
    reader, writer = os.pipe()
    parent = os.fork()
    if parent == 0:
        ready_reader, ready_writer = os.pipe()
        if os.fork() == 0:
            apply(Limits())
            os.write(ready_writer, b"1")
            time.sleep(_PATIENCE / 2)
            os._exit(0)
        os.read(ready_reader, 1)
        os._exit(0)
    os.close(writer)
    os.waitpid(parent, 0)
    readable = select.select([reader], [], [], _PATIENCE / 4)[0]
    return bool(readable) and os.read(reader, 1) == b""


def _status_field(name: str) -> str | None:
    with open("/proc/self/status", encoding="ascii", errors="replace") as file:  # noqa: PTH123 - no need of pathlib here
        for line in file:
            if line.startswith(f"{name}:"):
                return line.partition(":")[2].strip()
    return None


def _dumpable() -> int:
    return int(ctypes.CDLL(None).prctl(3, 0, 0, 0, 0))  # PR_GET_DUMPABLE


if __name__ == "__main__":
    main()
