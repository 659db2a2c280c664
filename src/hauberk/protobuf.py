"""The fields of a serialised protobuf message, read without the `onnx` package, which production does not have.

Nothing is copied, what is inside a field is not looked at, and a message takes time in proportion to its fields. Where
protobuf's own readers differ, the message is refused: what is found here must be what ONNX Runtime finds. One of them
drops the upper bits of a field number that has too many, so that an unknown field becomes a known one.

One walker serves a message in memory (a `memoryview`) and one that is read from a file as it is asked for (anything
that has a length, and gives bytes by index and parts by slice), so weights of any size are stepped over unread.

Format: https://protobuf.dev/programming-guides/encoding/.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Protocol

from hauberk.errors import RefusedModelError

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
"""Wire types: a number of any length, 8 bytes, bytes with a length before them, 4 bytes."""

RUN = 8
"""In the place of a wire type: many entries of one field (see `walk`)."""

_TAG_BYTES, _NUMBER_BYTES = 5, 10
_GROUPS = frozenset({3, 4})
_WIDTHS = {FIXED64: 8, FIXED32: 4}
_LARGEST_TAG, _LARGEST_SIZE, _LARGEST_NUMBER = (1 << 32) - 1, (1 << 31) - 1, (1 << 64) - 1


class AmbiguousMessageError(RefusedModelError):
    """A message that protobuf's readers do not all read alike."""


class Source(Protocol):
    """Bytes of a message, wherever they lie: a `memoryview`, or parts of a file."""

    def __len__(self) -> int: ...

    def __getitem__(self, place: Any, /) -> Any:
        """One byte as a number, or a part as a source."""


Bulk = Callable[[Any, int, int], tuple[Any, int]]
"""Reads many entries of one field at once: from the message, the place of the first tag and the tag, to the entries and
how many bytes they take; 0 bytes where it leaves them to the walker."""


def walk(
    message: Source, *, canonical: bool = False, bulk: Bulk | None = None
) -> Iterator[tuple[int, int, int | Any, int]]:
    """Every field in the order in which they lie there: number, wire type, value and where the value begins.

    A value is an unsigned number of 64 bits, or a part of the message: the bytes of a text, of a message or of
    anything else that has a length, or the 4 or 8 bytes of a number of fixed width.

    Args:
        message: The whole message.
        canonical: Refuse numbers that are written longer than they need be, or with more than 64 bits: protobuf's own
            writers make neither, and its readers limit them differently.
        bulk: Asked first, before each field whose tag is one byte.

    Raises:
        RefusedModelError: It is no message, or cut short.
        AmbiguousMessageError: It holds a group, a field number with too many bits or, where that is asked for, a
            number that is not canonical.
    """
    at, end = 0, len(message)
    while at < end:
        if bulk is not None and (first := message[at]) < 0x80:
            entries, size = bulk(message, at, first)
            if size:
                yield first >> 3, RUN, entries, at
                at += size
                continue
        tag, at = _number(message, at, _TAG_BYTES, canonical=canonical)
        number, kind = tag >> 3, tag & 7
        if number == 0:
            raise _refusal(f"an impossible field number before byte {at}")
        if tag > _LARGEST_TAG:
            raise _ambiguous(f"an impossible field number before byte {at}")
        if kind == VARINT:
            start = at
            value, at = _number(message, at, _NUMBER_BYTES, canonical=canonical)
            yield number, VARINT, value & _LARGEST_NUMBER, start
            continue
        if kind == BYTES:
            size, at = _number(message, at, _TAG_BYTES, canonical=canonical)
        elif kind in _WIDTHS:
            size = _WIDTHS[kind]
        else:
            raise (_ambiguous if kind in _GROUPS else _refusal)(f"wire type {kind} before byte {at}")
        if size > min(end - at, _LARGEST_SIZE):
            raise _refusal(f"a field of {size} bytes where {end - at} are left")
        yield number, kind, message[at : at + size], at
        at += size


def fields(message: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """Number and value of each field, in the order in which they lie there, those of a fixed width left out.

    A value is an unsigned number of 64 bits, or a view of the bytes of a text, a message or anything else that has a
    length. Numbers of a fixed width are stepped over: where ONNX has none, protobuf takes them for unknown fields.

    Raises:
        RefusedModelError: It is no such message, or holds a group, which ONNX has none of.
    """
    return ((number, value) for number, kind, value, _ in walk(message) if kind in {VARINT, BYTES})


def messages(message: memoryview) -> Iterator[tuple[int, memoryview]]:
    """The fields that have a length: messages, texts, bytes.

    Raises:
        RefusedModelError: As `fields`.
    """
    return ((number, value) for number, value in fields(message) if isinstance(value, memoryview))


def text(message: memoryview, wanted: int) -> str:
    """A text field, "" where it is absent; the last one where it is there more often.

    Raises:
        RefusedModelError: As `fields`.
    """
    found = memoryview(b"")
    for number, value in messages(message):
        if number == wanted:
            found = value
    return str(found, "utf-8", "replace")


def _varint(message: Source, at: int, most: int) -> tuple[int, int]:
    """A number of at most `most` bytes, and where it ends."""
    end = min(at + most, len(message))
    value = shift = 0
    for place in range(at, end):
        byte = message[place]
        if byte < 0x80:
            return value | byte << shift, place + 1
        value |= (byte & 0x7F) << shift
        shift += 7
    raise _refusal(f"a number without an end at byte {at}")


def _number(message: Source, at: int, most: int, *, canonical: bool) -> tuple[int, int]:
    """As `_varint`; where that is asked for, refused if it is written longer than need be."""
    value, after = _varint(message, at, most)
    length = after - at
    if canonical and length > 1 and (value >> 7 * (length - 1) == 0 or value > _LARGEST_NUMBER):
        raise _ambiguous(f"a number that is written longer than it is, at byte {at}")
    return value, after


def _refusal(why: str) -> RefusedModelError:
    return RefusedModelError(f"not a serialised ONNX model, or cut short: {why} of a message")


def _ambiguous(why: str) -> AmbiguousMessageError:
    return AmbiguousMessageError(f"not a serialised ONNX model, or cut short: {why} of a message")
