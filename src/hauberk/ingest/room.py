"""How much a private copy may take: of the memory that this process can have, and of the folder for temporary files.

Sources: the kernel's `Documentation/admin-guide/cgroup-v2.rst` and `cgroup-v1/memory.rst`.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

_GROUPS = Path("/sys/fs/cgroup")
_OWN_GROUPS = Path("/proc/self/cgroup")


class _Version(NamedTuple):
    """How one version of control groups tells of memory.

    Attributes:
        folder: Below the folder of all groups.
        limit: File that holds the most bytes, or a word for no limit.
        used: File that holds the bytes that are taken.
        reclaimed: Line of `memory.stat` with those of them that are given back first: files that were read once.
    """

    folder: str
    limit: str
    used: str
    reclaimed: str


_FIRST = _Version("memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
_SECOND = _Version("", "memory.max", "memory.current", "inactive_file")


def free_disk() -> int:
    """Bytes that the folder for temporary files has room for."""
    found = os.statvfs(tempfile.gettempdir())
    return found.f_bavail * found.f_frsize


def free_memory(own: Path = _OWN_GROUPS, groups: Path = _GROUPS) -> int:
    """Bytes that this process can take without anything being swapped out: the machine's, within a container's limit.

    Args:
        own: Names the control groups of this process.
        groups: Folder of all groups.
    """
    return min([_free_on_machine(), *(max(0, room) for room in _free_in_groups(own, groups))])


def _free_on_machine() -> int:
    for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
        if line.startswith("MemAvailable:"):  # as the kernel estimates
            return int(line.split()[1]) << 10
    return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _free_in_groups(own: Path, groups: Path) -> Iterator[int]:
    """Room in each group that this process is in; in a container its own is the top, whatever its name outside."""
    if not own.is_file():
        return
    for line in own.read_text().splitlines():
        number, controllers, path = line.split(":", 2)
        if number != "0" and "memory" not in controllers.split(","):
            continue
        version = _SECOND if number == "0" else _FIRST
        top = groups / version.folder
        inner = top / path.lstrip("/")
        for group in (inner, *(each for each in inner.parents if each.is_relative_to(top))):
            try:
                limit, used = ((group / name).read_text().strip() for name in (version.limit, version.used))
                figures = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
            except OSError:  # a group of another container, or one without a say in memory
                continue
            if limit.isdecimal():
                yield int(limit) - int(used) + int(figures.get(version.reclaimed, 0))
