"""Limits of a process, set by the process on itself before it touches anything that it does not trust.

How much it may take, which files it may read, whether it has a network, which system calls it may make. The kernel
enforces them, so they hold inside a single system call, a native library or an endless loop, where no Python code could
look. `self_test` proves by effect, in throwaway processes, that this kernel keeps each of them.
"""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import msgspec

from hauberk.errors import InputError, LimitError
from hauberk.sandbox import landlock, seccomp
from hauberk.sandbox.calls import CallSet, compute_filter, network_filter

MEBIBYTE = 1 << 20
GIBIBYTE = 1 << 30

_SHARED_MAPPINGS = 4 * GIBIBYTE
"""Address space beyond private memory: code of libraries, and what allocators reserve without using it."""

# From linux/prctl.h.
_PR_SET_PDEATHSIG = 1
_PR_SET_DUMPABLE = 4
_PR_SET_NO_NEW_PRIVS = 38


class Limits(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """What a process may take; `None` leaves a resource as it is.

    Whatever the fields say, a limited process also writes no core dump, cannot be read by its user's other processes,
    cannot gain privileges by executing a file, and dies with its parent.

    Attributes:
        memory: Private memory in bytes: heap, anonymous and private writable mappings, stacks (`RLIMIT_DATA`).
            `RLIMIT_AS` is set 4 GiB above, so that shared and reserved mappings are bounded too. Unlike `RLIMIT_AS`
            alone, which counts address space that nobody uses, this is close to what the process can really occupy.
        mapped: Bytes of address space to leave for mappings beside `memory`, instead of 4 GiB; for processes that map
            a large file.
        cpu_seconds: Processor time of the whole life of the process, in whole seconds (`RLIMIT_CPU`).
        files: Open file descriptors (`RLIMIT_NOFILE`).
        file_size: Size in bytes beyond which a file cannot be written; 0 forbids writing files (`RLIMIT_FSIZE`).
        processes: Processes and threads of the user from which on no further one can be started; 0 forbids new ones
            (`RLIMIT_NPROC`). The kernel does not hold root to it; it does to `system_calls`.
        read_only: Files, and folders with all that is in them, that may be opened, for reading; nothing else can be
            opened, and nothing be made, changed, renamed or removed (Landlock, and where `system_calls` is set also
            the filter). What is open already stays so. `landlock.runtime_paths` gives what Python needs.
        network: Whether new connections and sockets of any kind are possible (a filter of system calls, and Landlock
            for TCP); those that are open already stay so.
        system_calls: `compute` leaves only the calls of a process that computes on what it was given, see
            `calls.compute_filter`: no processes, sockets, writing to files, other processes' memory, io_uring, bpf, ….
            `alone` leaves no threads either.
    """

    memory: int | None = None
    mapped: int | None = None
    cpu_seconds: int | None = None
    files: int | None = None
    file_size: int | None = None
    processes: int | None = None
    read_only: tuple[str, ...] | None = None
    network: bool = True
    system_calls: CallSet | None = None

    def __post_init__(self) -> None:
        lowest = {"memory": 32 * MEBIBYTE, "mapped": 0, "cpu_seconds": 1, "files": 8, "file_size": 0, "processes": 0}
        for name, least in lowest.items():
            value = getattr(self, name)
            if value is not None and not least <= value < 1 << 62:
                raise InputError(f"limit {name} is {value}; give at least {least}")


class Check(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What trying to break one limit showed.

    Attributes:
        name: A field of `Limits`, or `core`, `unreadable`, `privileges`, `orphans` for what is always set.
        holds: Whether the limit held.
        detail: What happened, in a few words.
    """

    name: str
    holds: bool
    detail: str


def apply(limits: Limits) -> None:
    """Put this process under limits, for good: neither it nor its children can lift them again.

    Root could lift those on resources, unless `system_calls` is set. The process dies when the **thread** that started
    it ends: start limited processes from a thread that lives on.

    Raises:
        LimitError: The kernel refused one of them (`offered` says beforehand which of those on files, network and
            system calls it has), or the process has several threads, of which only this one would be held to those.
    """
    wanted = {
        "RLIMIT_CORE": 0,
        "RLIMIT_DATA": limits.memory,
        "RLIMIT_AS": None
        if limits.memory is None
        else limits.memory + (_SHARED_MAPPINGS if limits.mapped is None else limits.mapped),
        "RLIMIT_CPU": limits.cpu_seconds,
        "RLIMIT_NOFILE": limits.files,
        "RLIMIT_FSIZE": limits.file_size,
        "RLIMIT_NPROC": limits.processes,
    }
    for name, value in wanted.items():
        if value is not None:
            _lower(name, value)
    conceal()
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)
    end_with_parent()
    _close_off(limits)


def end_with_parent() -> None:
    """Have the kernel kill this process when the thread that started it ends; too late if it has ended already."""
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def offered(limits: Limits) -> tuple[Limits, tuple[str, ...]]:
    """Leave out what this kernel has no means for, and say what that is.

    Returns:
        The limits that `apply` can set here, and what they will not keep a process from that `limits` would, a phrase
        each; older kernels can refuse less.
    """
    version, filters = landlock.version(), seccomp.available()
    missing = list(landlock.gaps(version)) if limits.read_only is not None else []
    if limits.system_calls and not filters:
        missing.append("system calls beyond computing (no filter of system calls)")
    if not limits.network and not filters:
        missing.append("sockets (no filter of system calls)" if version < landlock.TCP else "sockets other than TCP")
    kept = msgspec.structs.replace(
        limits,
        read_only=limits.read_only if version else None,
        network=limits.network or not (filters or version >= landlock.TCP),
        system_calls=limits.system_calls if filters else None,
    )
    return kept, tuple(missing)


def conceal() -> None:
    """Keep this process's memory from core dumps, debuggers and `/proc` of the same user; meant for holders of keys."""
    _lower("RLIMIT_CORE", 0)
    _prctl(_PR_SET_DUMPABLE, 0)


def self_test(limits: Limits) -> tuple[Check, ...]:
    """Try to break each limit that is set, in throwaway processes; takes about 0.3 s, with `cpu_seconds` 1 s more.

    Args:
        limits: The limits that are going to be relied on. The processor time is tried with one second.

    Returns:
        One check for each field that is set, and one for each protection that is always on.

    Raises:
        LimitError: The test itself could not run.
    """
    command = [sys.executable, "-P", "-m", "hauberk.sandbox.probes"]
    try:
        done = subprocess.run(command, input=msgspec.json.encode(limits), capture_output=True, timeout=30, check=True)
        return msgspec.json.decode(done.stdout, type=tuple[Check, ...])
    except (OSError, subprocess.SubprocessError, msgspec.MsgspecError) as error:
        raise LimitError(f"cannot test the resource limits of this system: {error}") from error


def _close_off(limits: Limits) -> None:
    """Files, network and system calls; the filter last, because it forbids what comes before it."""
    if limits.read_only is None and limits.network and limits.system_calls is None:
        return
    if len(list(Path("/proc/self/task").iterdir())) != 1:
        raise LimitError("files, network and system calls can be closed off only before a process starts threads")
    version = landlock.version()
    if limits.read_only is not None or version:
        landlock.restrict(limits.read_only, network=limits.network)
    if limits.network and limits.system_calls is None:
        return
    if seccomp.available():
        threads = limits.system_calls != "alone"
        seccomp.install(compute_filter(threads=threads) if limits.system_calls else network_filter())
    elif limits.system_calls or version < landlock.TCP:
        raise LimitError("this system has no filters of system calls, or not for this architecture")


def _lower(name: str, value: int) -> None:
    kind = getattr(resource, name)
    # At the soft limit on processor time the kernel sends SIGXCPU, at the hard one it kills without saying why.
    soft, hard = value, value + 1 if name == "RLIMIT_CPU" else value
    current = resource.getrlimit(kind)[1]
    if current != resource.RLIM_INFINITY:
        soft, hard = min(soft, current), min(hard, current)  # someone above us is stricter
    try:
        resource.setrlimit(kind, (soft, hard))
    except (OSError, ValueError) as error:
        raise LimitError(f"this system refuses {name} = {value}: {error}") from error


def _prctl(option: int, value: int) -> None:
    if sys.platform != "linux":
        return  # self_test says so
    library = ctypes.CDLL(None, use_errno=True)
    if library.prctl(option, ctypes.c_ulong(value), 0, 0, 0) != 0:
        raise LimitError(f"this system refuses prctl option {option}: {os.strerror(ctypes.get_errno())}")
