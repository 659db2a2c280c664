"""The throwaway processes of `limits.self_test`: each puts itself under one limit and tries to break it.

Run as `python -m hauberk.sandbox.probes`: `Limits` as JSON on standard input, checks as JSON on standard output. This
interpreter has one thread, so it forks a process for each attempt instead of starting an interpreter.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import select
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

import msgspec

from hauberk.errors import HauberkError
from hauberk.sandbox import escapes
from hauberk.sandbox.limits import Check, Limits, apply

_HELD, _BROKEN, _FAILED = 0, 1, 2
_THROUGH = 16
"""Exit codes from here on: the attempt of this number, of several, succeeded."""
_PR_GET_DUMPABLE, _PR_GET_NO_NEW_PRIVS = 3, 39
_PATIENCE = 10.0
"""Seconds that an attempt may take; one that spins for ever is killed and counts as broken."""


def main() -> None:
    """Try what standard input asks for."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # as in the fork server
    limits = msgspec.json.decode(sys.stdin.buffer.read(), type=Limits)
    sys.stdout.buffer.write(msgspec.json.encode(check_all(limits)))


def check_all(limits: Limits) -> tuple[Check, ...]:
    """Every limit that is set, and every protection that is always on; call it in a process of one thread."""
    return tuple(check(name, limits) for name in (*_attempts(), *_walls(Path(), limits)) if _asked(name, limits))


def check(name: str, limits: Limits) -> Check:
    """Fork a process that tries to break one limit, and tell by its end whether it could."""
    try:
        with _scene(name, limits) as folder:
            pid = os.fork()
            if pid == 0:
                _attempt_and_exit(name, limits, folder)
            status = _wait(pid)
            walls = list(_walls(folder, limits).get(name, ()))
    except OSError as error:
        return Check(name, holds=False, detail=f"it cannot be tried: {(error.strerror or str(error)).lower()}")
    if status is None:
        return Check(name, holds=False, detail=f"the attempt was still running after {_PATIENCE:g} s")
    if os.WIFEXITED(status):
        code = os.WEXITSTATUS(status)
        if code >= _THROUGH:
            return Check(name, holds=False, detail=f"{walls[code - _THROUGH]} is still possible")
        details = {_HELD: "the attempt was refused", _BROKEN: "the attempt succeeded"}
        return Check(name, holds=code == _HELD, detail=details.get(code, "the limit cannot be set here"))
    number = os.WTERMSIG(status)
    expected = {"cpu_seconds": {signal.SIGXCPU}, "core": {signal.SIGABRT}}
    holds = number in expected.get(name, ()) and not os.WCOREDUMP(status)
    return Check(name, holds=holds, detail=f"the attempt ended with {signal.Signals(number).name}")


@contextlib.contextmanager
def _scene(name: str, limits: Limits) -> Iterator[Path]:
    """A folder for attempts that need files."""
    if name not in _walls(Path(), limits):
        yield Path()
        return
    with tempfile.TemporaryDirectory(prefix="hauberk-probe-") as place:
        escapes.prepare(folder := Path(place).resolve())
        yield folder


def _attempts() -> dict[str, Callable[[int], bool]]:
    """Attempts at numbers: given the limit's value, it returns whether it held, raises `MemoryError` if so, or dies."""
    return {
        "memory": _take_memory,
        "cpu_seconds": _spin,
        "files": _open_files,
        "file_size": _grow_file,
        "processes": _fork,
        "core": _abort,
        "unreadable": lambda _: _asked_of_prctl(_PR_GET_DUMPABLE) == 0,
        "privileges": lambda _: _asked_of_prctl(_PR_GET_NO_NEW_PRIVS) == 1,
        "orphans": _outlive_parent,
    }


def _walls(folder: Path, limits: Limits) -> dict[str, dict[str, escapes.Attempt]]:
    """Attempts to get out, all of which must be refused."""
    return {
        "read_only": escapes.on_files(folder),
        "network": escapes.on_network(),
        "system_calls": escapes.on_system_calls(folder, alone=limits.system_calls == "alone"),
    }


def _asked(name: str, limits: Limits) -> bool:
    value = getattr(limits, name, 0)
    return value is not None and value is not True  # `network` is asked for where it is false


def _attempt_and_exit(name: str, limits: Limits, folder: Path) -> NoReturn:
    code = _FAILED
    try:
        walls = _walls(folder, limits)  # before the limits: it may import
        # Only the limit in question, so that none is credited with what another one did.
        if name == "read_only":
            apply(Limits(read_only=(str(folder / "inside"),)))
        elif name != "orphans":  # there it is the grandchild that is limited
            apply(Limits(**_alone(name, limits)))
        if name in walls:
            code = _outcome(walls[name], folder)
        else:
            code = _HELD if _attempts()[name](int(_alone(name, limits).get(name, 0))) else _BROKEN
    except MemoryError:
        code = _HELD
    except (HauberkError, OSError):
        pass
    except Exception:  # noqa: BLE001 - a fault of ours must not pass for the kernel's
        traceback.print_exc()
    finally:
        os._exit(code)


def _alone(name: str, limits: Limits) -> dict[str, Any]:
    """The one limit; processor time with one second."""
    if name not in Limits.__struct_fields__:
        return {}
    return {name: 1 if name == "cpu_seconds" else getattr(limits, name)}


def _outcome(attempts: dict[str, escapes.Attempt], folder: Path) -> int:
    (folder / "inside" / "file").read_bytes()  # what is allowed stays possible, or the rest proves nothing
    through = escapes.first_through(attempts)
    return _HELD if through is None else _THROUGH + list(attempts).index(through)


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


def _asked_of_prctl(option: int) -> int:
    return int(ctypes.CDLL(None).prctl(option, 0, 0, 0, 0))


if __name__ == "__main__":
    main()
