"""The table of contents of a model file: where each tensor lies, told by the process that parsed the file.

That process may have been taken over by what it parsed. So a table is only numbers and names; every one of them is
checked here against the memory that it speaks of before a tensor is made of it. The worst that a lying table can do is
what another file could do, too: other weights.
"""

from __future__ import annotations

import math
import mmap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import msgspec
import torch
from msgspec import Meta
from torch import Tensor

from hauberk.errors import RefusedModelError

MOST_TENSORS = 1 << 20
_MOST_DIMENSIONS = 64  # as torch
_LARGEST = (1 << 63) - 1
_LONGEST_NAME = 1 << 12
_LONGEST_TYPE = 32
_MOST_COPIES, _ROOM = 32, 64 << 20
"""How often each byte of a file may stand in its tensors, and bytes beside: two dozen layers may share their weights;
one number that a view repeats 10^12 times fills the memory of whoever writes it out."""

DATA_TYPES: dict[str, torch.dtype] = {
    name: getattr(torch, name)
    for name in (
        "float64", "float32", "float16", "bfloat16", "float8_e4m3fn", "float8_e5m2", "complex64", "complex128",
        "int64", "int32", "int16", "int8", "uint64", "uint32", "uint16", "uint8", "bool",
    )
}  # fmt: skip


class Place(msgspec.Struct, frozen=True, forbid_unknown_fields=True, array_like=True):
    """Bytes that one or several tensors share.

    Attributes:
        memory: 0 for the sealed copy of the file, 1 for what the parser wrote beside it.
        offset: Of the first byte.
        size: Bytes.
    """

    memory: int
    offset: int
    size: int


class Entry(msgspec.Struct, frozen=True, forbid_unknown_fields=True, array_like=True):
    """One tensor.

    Attributes:
        name: In the state dict.
        dtype: A key of `DATA_TYPES`.
        shape: Sizes.
        strides: Elements from one to the next, a dimension each.
        place: Number of its place.
        offset: Of its first element in the place, in elements.
    """

    name: Annotated[str, Meta(max_length=_LONGEST_NAME)]
    dtype: Annotated[str, Meta(max_length=_LONGEST_TYPE)]
    shape: Annotated[tuple[int, ...], Meta(max_length=_MOST_DIMENSIONS)]
    strides: Annotated[tuple[int, ...], Meta(max_length=_MOST_DIMENSIONS)]
    place: int
    offset: int


class Contents(msgspec.Struct, frozen=True, forbid_unknown_fields=True, array_like=True):
    """All tensors of a file.

    Attributes:
        places: In any order; they may overlap, as those of tied weights in some formats do.
        entries: In the order of the file.
    """

    places: Annotated[tuple[Place, ...], Meta(max_length=MOST_TENSORS)]
    entries: Annotated[tuple[Entry, ...], Meta(max_length=MOST_TENSORS)]


class Told(msgspec.Struct, frozen=True, forbid_unknown_fields=True, array_like=True):
    """What the parser answers.

    Attributes:
        contents: The table, or one text where the file is in order and holds no state dict.
    """

    contents: Contents | str


@dataclass(frozen=True)
class Memory:
    """Memory that a table speaks of.

    Attributes:
        descriptor: Open for reading; nobody can change what it leads to any more.
        size: Bytes.
    """

    descriptor: int
    size: int


def tensors(contents: Contents, memories: Sequence[Memory], where: str) -> dict[str, Tensor]:
    """The tensors of a table, over mappings of the memories: nothing is copied.

    The mappings are private: whoever writes into a tensor gets the page to himself, and the memory stays as it is. They
    live as long as the tensors. Tensors of one place share storage. Only a tensor that does not lie at a multiple of
    its element's size is copied, with what else is in its place.

    Args:
        contents: From the parser; not trusted.
        memories: By the numbers that places give.
        where: How error messages call the file.

    Raises:
        RefusedModelError: The table speaks of what is not there, or its tensors take far more memory than the file.
    """
    _check(contents, memories, where)
    aligned = {entry.place: True for entry in contents.entries}
    for entry in contents.entries:
        aligned[entry.place] &= contents.places[entry.place].offset % DATA_TYPES[entry.dtype].itemsize == 0
    _check_written_out(contents, [number for number, fits in aligned.items() if not fits], memories, where)
    used = {place.memory for place in contents.places if place.size}
    mappings = {
        number: mmap.mmap(memory.descriptor, memory.size, access=mmap.ACCESS_COPY)
        for number, memory in enumerate(memories)
        if number in used
    }
    storages = {
        number: _storage(contents.places[number], mappings, copied=not fits) for number, fits in aligned.items()
    }
    return {
        entry.name: torch.empty(0, dtype=DATA_TYPES[entry.dtype]).set_(
            storages[entry.place], entry.offset, entry.shape, entry.strides
        )
        for entry in contents.entries
    }


def _storage(place: Place, mappings: dict[int, mmap.mmap], *, copied: bool) -> torch.UntypedStorage:
    if not place.size:
        return torch.empty(0, dtype=torch.uint8).untyped_storage()
    view = torch.frombuffer(mappings[place.memory], dtype=torch.uint8, count=place.size, offset=place.offset)
    return (view.clone() if copied else view).untyped_storage()


def _check(contents: Contents, memories: Sequence[Memory], where: str) -> None:
    if max(len(contents.entries), len(contents.places)) > MOST_TENSORS:
        raise _lie(where, f"{len(contents.entries)} tensors; at most {MOST_TENSORS} are read")
    for place in contents.places:
        sizes = memories[place.memory].size if 0 <= place.memory < len(memories) else -1
        if min(place.offset, place.size) < 0 or place.offset + place.size > sizes:
            raise _lie(where, f"{place.size} bytes at {place.offset}, of {max(sizes, 0)}")
    names = {entry.name for entry in contents.entries}
    if len(names) != len(contents.entries):
        raise _lie(where, "two tensors of one name")
    for entry in contents.entries:
        if not _holds(entry, contents.places):
            raise _lie(where, f"tensor {entry.name[:80]!r} of {entry.dtype[:20]!r} does not lie in its place")


def most_written_out(size: int) -> int:
    """Bytes that the tensors of a file of this size may take once each of their numbers is written out."""
    return _ROOM + _MOST_COPIES * size


def repeats(size: int, most: int) -> str:
    """What is wrong with tensors that take `size` bytes, written out, where `most` are taken; empty for nothing."""
    if size <= most:
        return ""
    return (
        f"its tensors repeat what they hold and would take {size} bytes; of a file of this size at most {most} are"
        " taken; save them without views that repeat (torch.Tensor.expand), or share memory among fewer tensors"
    )


def _check_written_out(contents: Contents, copied: Sequence[int], memories: Sequence[Memory], where: str) -> None:
    """Refuse what takes far more memory than there is in the file: nobody who uses tensors asks before.

    Args:
        contents: Checked.
        copied: Numbers of the places that are copied.
        memories: By the numbers that places give.
        where: How error messages call the file.
    """
    size = sum(math.prod(entry.shape) * DATA_TYPES[entry.dtype].itemsize for entry in contents.entries)
    size += sum(contents.places[number].size for number in copied)
    if fault := repeats(size, sum(memory.size for memory in memories[1:]) + most_written_out(memories[0].size)):
        raise RefusedModelError(f"{where}: refused: {fault}")


def _holds(entry: Entry, places: Sequence[Place]) -> bool:
    """Whether every element of a tensor lies in its place, and every number is one that torch can count with."""
    dtype: torch.dtype | None = DATA_TYPES.get(entry.dtype)
    if dtype is None or not 0 <= entry.place < len(places) or len(entry.name) > _LONGEST_NAME:
        return False
    if len(entry.shape) != len(entry.strides) or len(entry.shape) > _MOST_DIMENSIONS:
        return False
    numbers = (entry.offset, *entry.shape, *entry.strides)
    largest = _LARGEST // dtype.itemsize
    # The sizes beside a zero count, too: torch multiplies them.
    if min(numbers) < 0 or max(numbers) > largest or math.prod(size or 1 for size in entry.shape) > largest:
        return False
    room = places[entry.place].size // dtype.itemsize
    last = sum((size - 1) * stride for size, stride in zip(entry.shape, entry.strides, strict=True))
    return entry.offset <= room if 0 in entry.shape else entry.offset + last < room


def _lie(where: str, what: str) -> RefusedModelError:
    return RefusedModelError(f"{where}: refused: its table of contents is wrong: {what}")
