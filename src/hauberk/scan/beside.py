"""Files in which an ONNX model says that its weights lie, opened for a scan that may open nothing by itself.

Who names them is a process that looked at the model and may have been taken over by it. So a name is followed here as
the scan itself would allow it: below the model's own folder, nothing hidden, no link on the way, a regular file with
one name.
"""

from __future__ import annotations

import heapq
import os
import resource
from collections.abc import Mapping
from functools import partial
from pathlib import Path

from hauberk.files import open_below
from hauberk.scan.locations import hidden, plain_location
from hauberk.scan.report import Fact

_MOST = 200
"""Files that are handed over at once. What lies in further ones the scan does not know, and says so."""
_MOST_NAMES = 10_000
_OPEN = "/proc/self/fd"


def named_files(facts: Mapping[str, Fact]) -> list[str]:
    """The locations of a report's facts, those that lie below the model's folder and are not hidden there."""
    named = facts.get("external_files", ())
    if not isinstance(named, tuple):
        return []
    return [location for location in named if plain_location(location) is not None and not hidden(location)]


def open_beside(model: Path, locations: list[str]) -> list[int]:
    """Open files beside a model for reading; the caller closes them.

    Of many, the smallest: what a scan reads of them is shapes and counts. They take half of what this process may still
    open, at most.

    Args:
        model: Where it lies.
        locations: See `named_files`. What may not be opened is left out: the scan will say why.
    """
    folder = model.absolute().parent
    smallest = heapq.nsmallest(min(_MOST, _room()), locations[:_MOST_NAMES], key=partial(_size, folder))
    opened = (_opened(folder, location) for location in smallest)
    return [descriptor for descriptor in opened if descriptor is not None]


def _room() -> int:
    """Half of what this process may still open; a quarter of what it may open at all where nobody tells what is."""
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if most == resource.RLIM_INFINITY:
        return _MOST
    try:
        return max(0, most - len(os.listdir(_OPEN))) // 2  # noqa: PTH208 - counted, not walked
    except OSError:
        return most // 4


def _size(folder: Path, location: str) -> int:
    try:
        return (folder / location).lstat().st_size
    except (OSError, ValueError):
        return 1 << 63


def _opened(folder: Path, location: str) -> int | None:
    try:
        descriptor, status = open_below(folder, location)
    except (OSError, ValueError):
        return None
    if status.st_nlink == 1:
        return descriptor
    os.close(descriptor)
    return None
