"""Landlock: which files a process may still open, and whether it may still use TCP, enforced by the kernel.

A process takes rights from itself, without being root, for good and for all that it starts. Files that are open already
stay open. What the kernel can refuse grew over the years; `gaps` says what the running one cannot.

Source: Linux, Documentation/userspace-api/landlock.rst and include/uapi/linux/landlock.h.
"""

from __future__ import annotations

import ctypes
import errno
import os
import stat
import struct
import sys
from collections.abc import Sequence

from hauberk.errors import LimitError

# The same on every architecture.
_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_VERSION = 1
_PATH_BENEATH = 1

_READ_FILE, _READ_DIR = 1 << 2, 1 << 3
_FILES_FIRST = (1 << 13) - 1  # execute, write, read, list, remove, make
_REFER, _TRUNCATE, _IOCTL_DEVICE = 1 << 13, 1 << 14, 1 << 15
_BIND_AND_CONNECT = 0b11
_ABSTRACT_SOCKETS, _SIGNALS = 1, 2

_RULESET = struct.Struct("=QQQ")  # handled_access_fs, handled_access_net, scoped
_RULE = struct.Struct("=Qi")  # allowed_access, parent_fd; packed

# By the version from which on the kernel has it.
_MOVES, _TRUNCATION, TCP, _DEVICES, _SCOPES = 2, 3, 4, 5, 6


def version() -> int:
    """The version of Landlock that this kernel offers; 0 for none, or where it is switched off."""
    if sys.platform != "linux":
        return 0
    found: int = _library().syscall(_CREATE_RULESET, None, ctypes.c_size_t(0), ctypes.c_uint32(_VERSION))
    return max(found, 0)


def gaps(offered: int) -> tuple[str, ...]:
    """What a kernel with this version of Landlock cannot keep a process from doing to files, one phrase each."""
    if not offered:
        return ("opening files (no Landlock)",)
    since = {
        "moving files between folders": _MOVES,
        "truncating files by their path": _TRUNCATION,
        "sending commands to devices": _DEVICES,
    }
    return tuple(f"{what} (Landlock {version})" for what, version in since.items() if offered < version)


def restrict(readable: Sequence[str] | None, *, network: bool) -> None:
    """Take from this thread, and all that it starts, every right to files and the network but what is named.

    Needs `PR_SET_NO_NEW_PRIVS`. What the kernel's version cannot refuse stays possible; `gaps` names it.

    Args:
        readable: Files, and folders with all that is in them, which may still be opened for reading; `None` leaves
            files as they are.
        network: Whether TCP stays possible.

    Raises:
        LimitError: The kernel has no Landlock or refuses, or a path does not exist.
    """
    offered = version()
    if not offered:
        raise LimitError("this system has no Landlock, which would close files off")
    files = 0 if readable is None else _file_rights(offered)
    tcp = _BIND_AND_CONNECT if not network and offered >= TCP else 0
    scopes = (_SIGNALS | (0 if network else _ABSTRACT_SOCKETS)) if offered >= _SCOPES else 0
    if not files | tcp | scopes:
        return
    attributes = _RULESET.pack(files, tcp, scopes)[: 24 if scopes else 16 if tcp else 8]
    library = _library()
    ruleset = library.syscall(_CREATE_RULESET, attributes, ctypes.c_size_t(len(attributes)), ctypes.c_uint32(0))
    if ruleset < 0:
        raise LimitError(f"this system refuses Landlock's rules: {_reason()}")
    try:
        for path in readable or ():
            _allow_reading(library, ruleset, path)
        if library.syscall(_RESTRICT_SELF, ruleset, ctypes.c_uint32(0)) != 0:
            raise LimitError(f"this system refuses to close files off with Landlock: {_reason()}")
    finally:
        os.close(ruleset)


def runtime_paths() -> tuple[str, ...]:
    """What this interpreter and its packages read while they run: code, shared libraries, what the machine has.

    Folders on the search path of modules are among it, so a process limited to these can still import.
    """
    system = (
        "/lib", "/lib64", "/usr/lib", "/usr/lib64", "/usr/local/lib", "/etc/ld.so.cache", "/etc/localtime",
        "/usr/share/zoneinfo", "/proc/cpuinfo", "/proc/meminfo", "/sys/devices", "/sys/bus/pci/devices", "/dev/null",
        "/dev/urandom",
    )  # fmt: skip
    libraries = os.environ.get("LD_LIBRARY_PATH", "").split(":")
    wanted = (*(path for path in sys.path if path), sys.prefix, sys.base_prefix, *libraries, *system)
    # `Path.exists` raises for what this user may not look into.
    found = dict.fromkeys(os.path.realpath(path) for path in wanted if path and os.path.exists(path))  # noqa: PTH110
    # What lies below another one is readable with it.
    return tuple(path for path in found if not any(path.startswith(f"{other.rstrip('/')}/") for other in found))


def _file_rights(offered: int) -> int:
    """Every right to files that this version knows."""
    later = {_MOVES: _REFER, _TRUNCATION: _TRUNCATE, _DEVICES: _IOCTL_DEVICE}
    return _FILES_FIRST | sum(right for since, right in later.items() if offered >= since)


def _allow_reading(library: ctypes.CDLL, ruleset: int, path: str) -> None:
    try:
        descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError as error:
        raise LimitError(f"{path}: cannot be left readable: {(error.strerror or str(error)).lower()}") from error
    try:
        folder = stat.S_ISDIR(os.fstat(descriptor).st_mode)
        rule = _RULE.pack(_READ_FILE | (_READ_DIR if folder else 0), descriptor)
        added = library.syscall(_ADD_RULE, ruleset, ctypes.c_int(_PATH_BENEATH), rule, ctypes.c_uint32(0)) == 0
        # Anonymous memory (a memfd) lies on no file system that could be reached otherwise, and is never closed off.
        if not added and ctypes.get_errno() != errno.EBADFD:
            raise LimitError(f"{path}: this system refuses to leave it readable: {_reason()}")
    finally:
        os.close(descriptor)


def _library() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _reason() -> str:
    return os.strerror(ctypes.get_errno()).lower()
