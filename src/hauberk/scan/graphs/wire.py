"""Fields of ONNX's messages out of a file of any size, by name and checked against their definition.

What lies in a field is read when somebody asks for it: weights of 2 GB cost a few dozen bytes. Where readers of
protobuf could differ on what a message says, it is refused here (see `hauberk.protobuf`), as it is where a field is
given twice that may be there once (readers merge messages, and take the last of two numbers), has another wire type
than its definition (readers skip it) or holds a number that its type cannot (readers cut off the upper bits).

Definition: https://github.com/onnx/onnx/blob/main/onnx/onnx.proto.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any, NamedTuple

from numpy.typing import NDArray

from hauberk import protobuf
from hauberk.protobuf import BYTES, FIXED32, FIXED64, RUN, VARINT, AmbiguousMessageError, Source
from hauberk.scan.content import Content, CutError
from hauberk.scan.examination import Examination, StopScan
from hauberk.scan.graphs import rules, runs

WINDOW = 1 << 16
"""Bytes that are read at once; a longer part is left where it is."""

MOST_KEPT = 1 << 28
"""Bytes of names, attributes and small tensors that are kept of one file, roughly."""

_STEPS_BETWEEN_LOOKS = 4096
_LONGEST_NAME = 1 << 14


class Stretch:
    """A part of a content as a source of `protobuf.walk`: read in windows, as it is asked for."""

    __slots__ = ("_content", "_from", "_size", "_start", "_window")

    def __init__(self, content: Content, start: int, size: int) -> None:
        self._content, self._start, self._size = content, start, size
        self._from = 0
        self._window = memoryview(b"")

    def __len__(self) -> int:
        return self._size

    def __getitem__(self, place: int | slice, /) -> Any:
        if isinstance(place, int):
            at = place - self._from
            if not 0 <= at < len(self._window):
                self._look(place)
                at = 0
            return self._window[at]
        start, stop, _ = place.indices(self._size)
        length = max(0, stop - start)
        if not length:
            return memoryview(b"")  # an empty field may stand at the very end, where nothing is left to look at
        if length > WINDOW:
            return Stretch(self._content, self._start + start, length)
        at = start - self._from
        if at < 0 or at + length > len(self._window):
            self._look(start)
            at = 0
        return self._window[at : at + length]

    def _look(self, at: int) -> None:
        if not 0 <= at < self._size:
            raise CutError(f"it ends at byte {self._start + self._size}")
        self._window = memoryview(self._content.read(self._start + at, min(WINDOW, self._size - at)))
        self._from = at


def entries_of(value: Any) -> NDArray[Any] | list[bytes]:
    """The value of a run."""
    entries: NDArray[Any] | list[bytes] = value
    return entries


def as_source(value: Any) -> Source:
    """The value of a field that has a length."""
    source: Source = value
    return source


def pieces(source: Source) -> Iterator[memoryview]:
    """All bytes of a source, a window at a time."""
    for at in range(0, len(source), WINDOW):
        yield source[at : min(at + WINDOW, len(source))]


class Field(NamedTuple):
    """How a field is defined.

    Attributes:
        name: As in onnx.proto.
        kind: `int64`, `int32`, `uint64`, `float`, `double`, `text`, `bytes` or `message`.
        repeated: It may be there more than once.
        choice: Of the fields of one message with the same choice, one may be there.
        run: Its entries may come as a `Run`.
        unread: Definition of a message that nobody reads; that it can be read is made sure of.
    """

    name: str
    kind: str
    repeated: bool = False
    choice: str = ""
    unread: dict[int, Field] | None = None
    run: bool = False


Table = dict[int, Field]

_WIRES = {"int64": VARINT, "int32": VARINT, "uint64": VARINT, "float": FIXED32, "double": FIXED64}


class Packed(NamedTuple):
    """Numbers of a repeated field, one after the other in one piece."""

    source: Source


class Run(NamedTuple):
    """Many entries of a repeated field at once: numbers (int64, float32) or texts (bytes)."""

    entries: NDArray[Any] | list[bytes]


class Reader:
    """Reads messages for one examination, and keeps the account of how much was read and kept.

    Args:
        examination: Told of fields that ONNX does not define, and asked for time.
    """

    def __init__(self, examination: Examination) -> None:
        self.examination = examination
        self._steps = 0
        self._kept = 0

    def fields(self, message: Source, table: Table, at: int) -> Iterator[tuple[str, Any, int]]:
        """Every field of a message that its table defines: name, value, offset in the file.

        Whole numbers come with their sign, floats as floats, texts as `str`, bytes and messages as sources, and
        numbers that were packed as `Packed`.

        Args:
            message: The whole message.
            table: Its definition.
            at: Where it begins in the file.

        Raises:
            AmbiguousMessageError: Readers differ on it.
            RefusedModelError: It is broken.
            StopScan: Out of time, or it holds more than is kept.
        """
        seen: set[str] = set()
        bulk = _bulk(table) if len(message) >= runs.LEAST else None
        for number, wire, value, place in protobuf.walk(message, canonical=True, bulk=bulk):
            self._step()
            if wire == RUN:
                yield table[number].name, Run(entries_of(value)), at + place
                continue
            field = table.get(number)
            where = at + place
            if field is None:
                self.examination.find(rules.UNKNOWN_FIELD, f"field {number} of wire type {wire}", at=where)
                continue
            if not field.repeated or field.choice:
                name = field.choice or field.name
                if name in seen:
                    raise AmbiguousMessageError(f"field {field.name} is given twice, at byte {where}")
                seen.add(name)
            expected = _WIRES.get(field.kind, BYTES)
            if wire == expected:
                if field.unread is not None:
                    for _ in self.fields(as_source(value), field.unread, where):
                        pass
                yield field.name, self._decoded(field, value, where), where
            elif wire == BYTES and field.repeated:
                yield field.name, Packed(as_source(value)), where
            else:
                raise AmbiguousMessageError(f"field {field.name} has wire type {wire}, at byte {where}")

    def _decoded(self, field: Field, value: Any, at: int) -> Any:
        kind = field.kind
        if kind in {"message", "bytes"}:
            return value
        if kind == "text":
            return self.text(value, at)
        if kind in {"float", "double"}:
            return struct.unpack("<f" if kind == "float" else "<d", value)[0]
        return integer(value, kind, at)

    def text(self, source: Source, at: int) -> str:
        """A name.

        Raises:
            AmbiguousMessageError: It is no UTF-8, which some readers reject and others take as it is.
            StopScan: It is longer than any name.
        """
        if len(source) > _LONGEST_NAME:
            self.examination.find(rules.TOO_LARGE, f"a name of {len(source)} bytes", at=at)
            raise StopScan
        try:
            text = str(source[0 : len(source)], "utf-8")
        except UnicodeDecodeError as error:
            raise AmbiguousMessageError(f"a text that is no UTF-8, at byte {at}") from error
        self.keep(len(text))
        return text

    def keep(self, size: int) -> None:
        """Account for something that is kept until the scan of the file ends.

        Raises:
            StopScan: It is too much.
        """
        self._kept += size + 64
        if self._kept > MOST_KEPT:
            self.examination.find(rules.TOO_LARGE, f"names, nodes and small tensors of more than {MOST_KEPT} bytes")
            raise StopScan

    def _step(self) -> None:
        self._steps += 1
        if self._steps % _STEPS_BETWEEN_LOOKS == 0:
            self.examination.check_time()


def _bulk(table: Table) -> protobuf.Bulk | None:
    """Reads runs of the fields of a table that are lists of numbers or texts; `None` where it has none."""
    tags = {number << 3 | _WIRES.get(field.kind, BYTES) for number, field in table.items() if field.run}
    if not tags:
        return None

    def read(message: Any, at: int, tag: int) -> tuple[Any, int]:
        if tag not in tags or len(message) - at < runs.LEAST:
            return None, 0
        left = len(message) - at
        entries, size = runs.run_of(message[at : at + min(runs.FIRST_LOOK, left)], tag)
        if size < runs.FIRST_LOOK // 2:
            return entries, size
        return runs.run_of(message[at : at + min(WINDOW, left)], tag)

    return read


def integer(value: int, kind: str, at: int) -> int:
    """A whole number out of the 64 bits that are written.

    Raises:
        AmbiguousMessageError: It has more bits than its type.
    """
    if kind == "uint64":
        return value
    signed = value - (1 << 64) if value >> 63 else value
    if kind == "int32" and not -(1 << 31) <= signed < 1 << 31:
        raise AmbiguousMessageError(f"a number of more than 32 bits, at byte {at}")
    return signed


def varints(source: Source) -> list[int]:
    """The unsigned numbers of a packed field, each of up to 64 bits.

    Raises:
        AmbiguousMessageError: The last one is cut, or one has more bits.
    """
    values, value, shift = [], 0, 0
    for byte in source[0 : len(source)]:
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            values.append(value)
            value = shift = 0
        elif shift >= 70:
            raise AmbiguousMessageError("a packed number of more than ten bytes")
    if shift or any(value >> 64 for value in values):
        raise AmbiguousMessageError("packed numbers that are cut or too long")
    return values
