"""Weights that lie in other files: where they may lie, and whether they do.

A location is followed only if every reader follows it to the same place: a relative path of plain names inside the
model's folder, without links of any kind on the way, to a regular file with one name that is long enough. Of such a
file nothing is read but small tensors of whole numbers, which are shapes and counts. Readers differ on everything else,
and have been tricked by it (see `rules`).
"""

from __future__ import annotations

import itertools
import math
import os
import re
import stat
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from hauberk.scan.examination import Examination
from hauberk.scan.graphs import rules
from hauberk.scan.graphs.elements import ELEMENTS, STRING, data_bytes, integral
from hauberk.scan.graphs.model import MOST_VALUES, Model, Weights
from hauberk.scan.locations import hidden, plain_location
from hauberk.scan.report import Rule, shown

_KEYS = frozenset({"location", "offset", "length", "checksum"})
_PREPACKED = "prepacked_"
_IN_MEMORY = ("_ORT_MEM_ADDR_", "_ORT_LITTLE_ENDIAN_MEM_ADDR_")
_NUMBER = re.compile(r"0|[1-9][0-9]{0,18}", re.ASCII)
_CHECKSUM = re.compile(r"[0-9a-fA-F]{40}", re.ASCII)


@dataclass(frozen=True)
class Place:
    """Where the data of a tensor lie.

    Attributes:
        location: Relative path, parts joined by `/`.
        offset: Of the first byte.
        length: Bytes.
        name: Of the tensor.
        at: Where the tensor stands in the model file.
    """

    location: str
    offset: int
    length: int
    name: str
    at: int


@dataclass
class _Files:
    """Files beside the model, looked at once each."""

    folder: Path
    model: tuple[int, int]
    sizes: dict[str, int | None] = field(default_factory=dict)


def check_external(model: Model, examination: Examination) -> tuple[Place, ...]:
    """Report tensors whose data lie where they may not, are missing, or are not as long as their shape.

    Args:
        model: All its tensors are looked at, wherever they stand.
        examination: Its `path` tells the folder; without one (in archives) nothing can be looked up.

    Returns:
        Where data lie, of the tensors with nothing wrong about their entries.
    """
    outside = [tensor for tensor in model.tensors() if tensor.outside is not None]
    if not outside:
        return ()
    places = [place for tensor in outside if (place := _read_entries(tensor, examination)) is not None]
    files = _files(examination)
    if files is None:
        if places:
            what = f"{len(places)} tensors lie in '{shown(places[0].location)}', which was not handed in"
            examination.find(rules.EXTERNAL_MISSING, what)
        return tuple(places)
    for count, place in enumerate(places):
        if count % 1024 == 0:
            examination.check_time()
        _check_place(place, files, examination)
    _check_overlaps(places, examination)
    _read_small(outside, places, files)
    if files.sizes:
        examination.facts["external_files"] = tuple(sorted(files.sizes))
    return tuple(places)


def _read_entries(tensor: Weights, examination: Examination) -> Place | None:
    """Where a tensor says that its data lie; `None` where that cannot be followed, which has been reported."""
    entries = dict(tensor.outside or ())
    wrong = _wrong_entry(tensor, entries) or _wrong_location(entries)
    needed = 0
    if wrong is None:
        if tensor.element not in ELEMENTS:
            return None  # reported with the tensor
        needed = data_bytes(tensor.element, math.prod(tensor.dims))
        wrong = _wrong_length(tensor, entries, needed)
    name = shown(tensor.name)
    if wrong is not None:
        examination.find(wrong[0], f"tensor '{name}' {wrong[1]}", at=tensor.at)
        return None
    for key in entries:
        if key.startswith(_PREPACKED):
            examination.find(rules.EXTERNAL_PREPACKED, f"tensor '{name}' has an entry '{shown(key)}'", at=tensor.at)
    return Place(entries["location"], int(entries.get("offset", 0)), needed, name, tensor.at)


def _wrong_entry(tensor: Weights, entries: dict[str, str]) -> tuple[Rule, str] | None:
    if len(entries) != len(tensor.outside or ()):
        return rules.EXTERNAL_KEY, "has an entry twice"
    for key, value in entries.items():
        if key not in _KEYS and not key.startswith(_PREPACKED):
            return rules.EXTERNAL_KEY, f"has an entry '{shown(key)}'"
        number = key not in {"offset", "length"} or (_NUMBER.fullmatch(value) and int(value) < 1 << 63)
        if not number or (key == "checksum" and not _CHECKSUM.fullmatch(value)):
            return rules.EXTERNAL_KEY, f"has the {key} '{shown(value)}'"
    return None


def _wrong_location(entries: dict[str, str]) -> tuple[Rule, str] | None:
    location = entries.get("location", "")
    if any(mark in location for mark in _IN_MEMORY):
        return rules.EXTERNAL_MEMORY, f"lies at '{shown(location)}', offset {shown(entries.get('offset', ''))}"
    if plain_location(location) is None:
        return rules.EXTERNAL_PATH, f"lies at '{shown(location)}'"
    return None


def _wrong_length(tensor: Weights, entries: dict[str, str], needed: int) -> tuple[Rule, str] | None:
    if tensor.element == STRING:
        return rules.EXTERNAL_RANGE, "holds texts, which have no size to be read by"
    length = int(entries.get("length", needed))
    if length != needed:
        return rules.EXTERNAL_RANGE, f"takes {needed} bytes, and the model names {length}"
    return None


def _files(examination: Examination) -> _Files | None:
    """Where to look for files; `None` for a model that was not on disk, or is named by a link to elsewhere."""
    path = examination.path
    if path is None:
        return None
    try:
        if path.is_symlink():
            # Some readers look beside the link, others beside what it names.
            examination.find(
                rules.EXTERNAL_LINK, f"the model itself is named by a link, to '{shown(str(path.readlink()))}'"
            )
        status = path.stat()
    except OSError:
        return None
    return _Files(path.absolute().parent, (status.st_dev, status.st_ino))


def _check_place(place: Place, files: _Files, examination: Examination) -> None:
    if place.location not in files.sizes:
        files.sizes[place.location] = _look(place, files, examination)
        if hidden(place.location):
            what = f"'{shown(place.location)}' is hidden, and so not handed in"
            examination.find(rules.EXTERNAL_MISSING, what, at=place.at)
    size = files.sizes[place.location]
    if size is not None and place.offset + place.length > size:
        what = (
            f"tensor '{place.name}' lies at bytes {place.offset} to {place.offset + place.length} of"
            f" '{shown(place.location)}', which has {size}"
        )
        examination.find(rules.EXTERNAL_RANGE, what, at=place.at)


def _look(place: Place, files: _Files, examination: Examination) -> int | None:
    """Size of the file at a location; `None` where it is not one that may be read, which has been reported."""
    current = files.folder
    parts = place.location.split("/")
    named = f"'{shown(place.location)}'"
    for count, part in enumerate(parts, 1):
        current /= part
        try:
            status = current.lstat()
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            examination.find(rules.EXTERNAL_MISSING, f"{named}: {reason}", at=place.at)
            return None
        if stat.S_ISLNK(status.st_mode):
            examination.find(rules.EXTERNAL_LINK, f"{named} is, or lies behind, a symbolic link", at=place.at)
            return None
        wanted = stat.S_ISREG if count == len(parts) else stat.S_ISDIR
        if not wanted(status.st_mode):
            examination.find(rules.EXTERNAL_PATH, f"{named} is no regular file", at=place.at)
            return None
    if (status.st_dev, status.st_ino) == files.model:
        examination.find(rules.EXTERNAL_SELF, named, at=place.at)
        return None
    if status.st_nlink != 1:
        examination.find(rules.EXTERNAL_LINK, f"{named} has {status.st_nlink} names (hard links)", at=place.at)
        return None
    return status.st_size


def _read_small(tensors: list[Weights], places: list[Place], files: _Files) -> None:
    """Read whole numbers of small tensors: shapes and counts, which decide what a run takes."""
    by_start = {place.at: place for place in places}
    for tensor in tensors:
        place = by_start.get(tensor.at)
        info = ELEMENTS.get(tensor.element)
        if place is None or info is None or info.dtype is None or not integral(tensor.element):
            continue
        size = files.sizes.get(place.location)
        if size is None or math.prod(tensor.dims) > MOST_VALUES or place.offset + place.length > size:
            continue
        if hidden(place.location):
            continue
        data = _read(files.folder / place.location, place)
        if len(data) == place.length:
            tensor.values = np.frombuffer(data, info.dtype).reshape(tensor.dims)


def _read(path: Path, place: Place) -> bytes:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return b""
    try:
        return os.pread(descriptor, place.length, place.offset)
    except OSError:
        return b""
    finally:
        os.close(descriptor)


def _check_overlaps(places: list[Place], examination: Examination) -> None:
    """Report tensors that share some bytes but not all; the same bytes for two tensors are shared weights."""
    spans = sorted({(place.location, place.offset, place.offset + place.length) for place in places if place.length})
    for (location, start, end), (other, next_start, next_end) in itertools.pairwise(spans):
        if location == other and next_start < end:
            what = f"bytes {start} to {end} and {next_start} to {next_end} of '{shown(location)}'"
            examination.find(rules.EXTERNAL_OVERLAP, what)
            return
