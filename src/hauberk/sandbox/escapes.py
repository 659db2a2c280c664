"""What a closed-off process tries in order to get out: the attempts by which `probes` proves the walls.

Every attempt is harmless where it succeeds: files are those of a folder made for it, calls are given arguments that
make the kernel do nothing. One that the kernel answers with anything but a refusal has got through the wall.
"""

from __future__ import annotations

import _thread
import contextlib
import ctypes
import errno
import os
import platform
import resource
import socket
import sys
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

Attempt = Callable[[], object]

_REFUSALS = frozenset({errno.EPERM, errno.EACCES, errno.ENOSYS})

# x86-64, AArch64; arguments with which the call does nothing, or cannot do anything.
_CALLS: dict[str, tuple[int, int, tuple[int | None, ...]]] = {
    "setting up io_uring": (425, 425, (0, None)),
    "loading a BPF program": (321, 280, (-1, None, 0)),
    "handling page faults (userfaultfd)": (323, 282, (-1,)),
    "using the kernel's keys": (250, 219, (-1, 0, 0, 0, 0)),
    "watching the processor (perf_event_open)": (298, 241, (None, 0, -1, -1, 0)),
    "reading another process's memory": (310, 270, (0, None, 0, None, 0, 0)),
    "leaving a namespace": (272, 97, (0,)),
    "entering a namespace": (308, 268, (-1, 0)),
    "mounting": (165, 40, (None, None, None, 0, None)),
    "making a file in memory": (319, 279, (None, 0)),
    "opening a file by its handle": (304, 265, (-1, None, 0)),
    "holding another process (pidfd_open)": (434, 434, (1, 0)),
    "clone3": (435, 435, (None, 0)),
    "a call that is not known yet": (4095, 4095, ()),
}


def prepare(folder: Path) -> None:
    """Lay out what attempts on files need: one folder that may be read, one that may not."""
    for name in ("inside", "outside"):
        (folder / name).mkdir()
        (folder / name / "file").write_bytes(b"content")


def first_through(attempts: Mapping[str, Attempt]) -> str | None:
    """Make every attempt; returns the first that the kernel did not refuse."""
    for what, attempt in attempts.items():
        try:
            attempt()
        except OSError as error:
            if error.errno in _REFUSALS:
                continue
        return what
    return None


def on_files(folder: Path) -> dict[str, Attempt]:
    """Attempts where only `inside` may be read."""
    inside, outside = folder / "inside", folder / "outside"
    return {
        "reading a file": (outside / "file").read_bytes,
        "reading a file through /proc": lambda: Path(f"/proc/self/root{outside}/file").read_bytes(),
        "listing a folder": lambda: list(outside.iterdir()),
        "opening a readable file for writing": lambda: os.close(os.open(inside / "file", os.O_WRONLY)),
        "making a file": lambda: os.close(os.open(inside / "new", os.O_WRONLY | os.O_CREAT, 0o600)),
        "making a file without a name": lambda: os.close(os.open(inside, os.O_RDWR | os.O_TMPFILE, 0o600)),
        "making a folder": (inside / "folder").mkdir,
        "making a symbolic link": lambda: (inside / "link").symlink_to("file"),
        "making a pipe": lambda: os.mkfifo(inside / "pipe"),
        "renaming a file": lambda: (outside / "file").rename(outside / "renamed"),
        "cutting a file": lambda: os.truncate(inside / "file", 1),
        "removing a file": (outside / "file").unlink,
        "removing a folder": outside.rmdir,
    }


def on_network() -> dict[str, Attempt]:
    """Attempts to talk to somebody."""
    return {
        "a TCP connection": lambda: _connect(socket.AF_INET, socket.SOCK_STREAM, ("127.0.0.1", 9)),
        "listening for TCP": lambda: _bind(socket.AF_INET, ("127.0.0.1", 0)),
        "a UDP socket": lambda: _connect(socket.AF_INET, socket.SOCK_DGRAM, ("127.0.0.1", 9)),
        "a Unix socket": lambda: _connect(socket.AF_UNIX, socket.SOCK_STREAM, "\0hauberk-probe"),
        "io_uring, which can make sockets": lambda: _call("setting up io_uring"),
    }


def on_system_calls(folder: Path, *, alone: bool = False) -> dict[str, Attempt]:
    """Attempts at what computing does not need; `alone`: at threads, too."""
    threads: dict[str, Attempt] = {"starting a thread": _start_thread} if alone else {}
    return {
        **threads,
        "starting a process": _fork,
        "becoming another program": _execute,
        "tracing": lambda: _checked(ctypes.CDLL(None, use_errno=True).ptrace(0, 0, None, None)),
        "a signal to another process": lambda: os.kill(os.getppid(), 0),
        "setting a limit": _set_limit,
        "showing itself again (PR_SET_DUMPABLE)": lambda: _checked(_prctl(4, 1)),
        "a socket": lambda: socket.socket().close(),
        "opening a file for writing": lambda: os.close(os.open(folder / "inside" / "file", os.O_RDWR)),
        "removing a file": (folder / "inside" / "file").unlink,
        **{name: partial(_call, name) for name in _CALLS},
    }


def _fork() -> None:
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)


def _start_thread() -> None:
    try:
        _thread.start_new_thread(int, ())
    except RuntimeError as error:  # all that Python says of it
        raise PermissionError(errno.EPERM, str(error)) from error


def _execute() -> None:
    # Where it succeeds, what is left of this process ends as one whose attempt succeeded.
    os.execv(sys.executable, [sys.executable, "-c", "raise SystemExit(1)"])  # noqa: S606 - arguments of our own


def _set_limit() -> None:
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, resource.getrlimit(resource.RLIMIT_NOFILE))
    except ValueError as error:  # how Python calls EPERM here
        raise PermissionError(errno.EPERM, str(error)) from error


def _connect(family: int, kind: int, address: tuple[str, int] | str) -> None:
    with contextlib.closing(socket.socket(family, kind)) as made, contextlib.suppress(ConnectionRefusedError):
        made.connect(address)


def _bind(family: int, address: tuple[str, int]) -> None:
    with contextlib.closing(socket.socket(family)) as made:
        made.bind(address)


def _prctl(option: int, value: int) -> int:
    return int(ctypes.CDLL(None, use_errno=True).prctl(option, ctypes.c_ulong(value), 0, 0, 0))


def _call(name: str) -> None:
    x86_64, aarch64, arguments = _CALLS[name]
    number = {"x86_64": x86_64, "aarch64": aarch64}.get(platform.machine(), -1)
    values = (None if value is None else ctypes.c_long(value) for value in arguments)
    _checked(ctypes.CDLL(None, use_errno=True).syscall(ctypes.c_long(number), *values))


def _checked(outcome: int) -> None:
    """Raises what the kernel said."""
    if outcome < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
