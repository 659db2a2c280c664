"""Which system calls a limited process may make, by name, and their numbers on the architectures that we know.

The list for computing is one of what is allowed. What it lacks fails with an error (`EPERM`) instead of ending the
process: libraries try calls that they can do without, and a hostile one gains nothing from an error but another try
within the same limits.

Numbers: Linux, arch/x86/entry/syscalls/syscall_64.tbl and include/uapi/asm-generic/unistd.h.
"""

from __future__ import annotations

import errno
import os
from typing import Literal

from hauberk.sandbox.seccomp import ALLOW, Null, Only, Rule, With, Without, assemble, machine, refuse

CallSet = Literal["compute", "alone"]
"""`compute`: what `compute_filter` allows; `alone`: the same without threads."""

# x86-64, AArch64; `None` where the architecture has no such call. Those made most often come first.
_FREE: dict[str, tuple[int | None, int | None]] = {
    "read": (0, 63), "write": (1, 64), "writev": (20, 66), "futex": (202, 98), "pread64": (17, 67),
    "mmap": (9, 222), "munmap": (11, 215), "madvise": (28, 233), "mprotect": (10, 226), "brk": (12, 214),
    "clock_gettime": (228, 113), "close": (3, 57), "fstat": (5, 80), "newfstatat": (262, 79), "lseek": (8, 62),
    # Descriptors, folders, names.
    "readv": (19, 65), "pwrite64": (18, 68), "preadv": (295, 69), "preadv2": (327, 286), "stat": (4, None),
    "lstat": (6, None), "statx": (332, 291), "statfs": (137, 43), "fstatfs": (138, 44), "getdents": (78, None),
    "getdents64": (217, 61), "readlink": (89, None), "readlinkat": (267, 78), "access": (21, None),
    "faccessat": (269, 48), "faccessat2": (439, 439), "getcwd": (79, 17), "dup": (32, 23), "dup2": (33, None),
    "dup3": (292, 24), "fadvise64": (221, 223), "ftruncate": (77, 46), "pipe": (22, None), "pipe2": (293, 59),
    "eventfd2": (290, 19), "poll": (7, None), "ppoll": (271, 73), "select": (23, None), "pselect6": (270, 72),
    # Memory and threads.
    "mremap": (25, 216), "mincore": (27, 232), "membarrier": (324, 283), "set_robust_list": (273, 99),
    "get_robust_list": (274, 100), "set_tid_address": (218, 96), "rseq": (334, 293), "sched_yield": (24, 124),
    "sched_getaffinity": (204, 123), "sched_getparam": (143, 121), "sched_getscheduler": (145, 120),
    "sched_get_priority_max": (146, 125), "sched_get_priority_min": (147, 126), "getpriority": (140, 141),
    "arch_prctl": (158, None), "getcpu": (309, 168),
    # Time, identity, what the machine has.
    "gettimeofday": (96, 169), "time": (201, None), "times": (100, 153), "clock_getres": (229, 114),
    "clock_nanosleep": (230, 115), "nanosleep": (35, 101), "getrusage": (98, 165), "sysinfo": (99, 179),
    "uname": (63, 160), "getpid": (39, 172), "getppid": (110, 173), "gettid": (186, 178), "getuid": (102, 174),
    "geteuid": (107, 175), "getgid": (104, 176), "getegid": (108, 177), "getrandom": (318, 278),
    "getrlimit": (97, 163),
    # Signals to oneself, and the end.
    "rt_sigaction": (13, 134), "rt_sigprocmask": (14, 135), "rt_sigreturn": (15, 139), "sigaltstack": (131, 132),
    "restart_syscall": (219, 128), "exit": (60, 93), "exit_group": (231, 94),
}  # fmt: skip

_CLONE3 = (435, 435)
_FIRST_UNKNOWN = 451
"""Calls from here on are newer than this list; they fail as on an older kernel (`ENOSYS`), and libraries fall back."""

_NETWORK: dict[str, tuple[int, int]] = {
    "socket": (41, 198), "connect": (42, 203), "bind": (49, 200), "listen": (50, 201), "accept": (43, 202),
    "accept4": (288, 242), "io_uring_setup": (425, 425), "io_uring_enter": (426, 426), "io_uring_register": (427, 427),
}  # fmt: skip
"""Refused where the network is: sockets, and the queue through which they could be made all the same."""

# From linux/{sched,prctl,fcntl}.h and asm-generic/ioctls.h; the same on both architectures.
_CLONE_THREAD = 0x00010000
_PRCTL_OPTIONS = (3, 15, 16, 39, 0x53564D41)  # ask: dumpable, new privileges; name a thread, a mapping
_FCNTL_COMMANDS = (0, 1, 2, 3, 4, 1030, 1034)  # copies, flags, ask for seals; nothing that makes it send signals
_IOCTL_COMMANDS = (0x5401, 0x5450, 0x5451, 0x541B, 0x5413)  # ask a terminal; close on exec or not; bytes that wait
_O_TMPFILE = 0o20000000
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND | _O_TMPFILE


def compute_filter(*, threads: bool = True) -> bytes:
    """The filter of a process that computes on what it has been given.

    It may read and write what is open, open files for reading, take memory, start threads of its own and wait. It can
    neither open a file for writing nor remove or rename one, start or trace a process, send a signal to another,
    make a socket, or reach io_uring, bpf, userfaultfd, keys, namespaces, mounts, devices, other processes' memory and
    whatever else is not listed.

    Args:
        threads: Whether it may start threads. Each is a process to the kernel, which counts them for a whole user and
            does not hold root to any number: without end, they use up the machine's.

    Raises:
        KeyError: The architecture is not known (`seccomp.available` says so before).
    """
    itself = Only(0, (os.getpid(),))
    conditional: dict[tuple[int | None, int | None], Rule] = {
        (257, 56): Without(2, _WRITING),  # openat
        (2, None): Without(1, _WRITING),  # open
        (16, 29): Only(1, _IOCTL_COMMANDS),
        (72, 25): Only(1, _FCNTL_COMMANDS),
        (157, 167): Only(0, _PRCTL_OPTIONS),
        (56, 220): With(0, _CLONE_THREAD) if threads else refuse(errno.EPERM),  # clone: threads, and no processes
        _CLONE3: refuse(errno.ENOSYS),  # its flags lie behind a pointer; libraries fall back to clone
        (302, 261): Null(2),  # prlimit64: ask, and set nothing
        (234, 131): itself,  # tgkill, as abort() uses it
        (62, 129): itself,  # kill
    }
    return _assembled(
        {**dict.fromkeys(_FREE.values(), ALLOW), **conditional}, otherwise=refuse(errno.EPERM), newer=True
    )


def network_filter() -> bytes:
    """The filter of a process that may do anything but make sockets; those that it has stay open.

    Raises:
        KeyError: As `compute_filter`.
    """
    return _assembled(dict.fromkeys(_NETWORK.values(), refuse(errno.EPERM)), otherwise=ALLOW, newer=False)


def _assembled(rules: dict[tuple[int | None, int | None], Rule], *, otherwise: int, newer: bool) -> bytes:
    architecture = machine()
    column = {"x86_64": 0, "aarch64": 1}[architecture]
    numbered = {numbers[column]: rule for numbers, rule in rules.items()}
    return assemble(
        {number: rule for number, rule in numbered.items() if number is not None},
        otherwise=otherwise,
        refused=refuse(errno.EPERM),
        beyond=(_FIRST_UNKNOWN, refuse(errno.ENOSYS)) if newer else None,
        architecture=architecture,
    )
