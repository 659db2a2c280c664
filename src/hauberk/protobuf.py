"""The fields of a serialised protobuf message, read without the `onnx` package, which production does not have.

Nothing is copied, what is inside a field is not looked at, and a message takes time in proportion to its fields. Where
protobuf's own readers differ, the message is refused: what is found here must be what ONNX Runtime finds. One of them
drops the upper bits of a field number that has too many, so that an unknown field becomes a known one.

Format: https://protobuf.dev/programming-guides/encoding/.
"""

from __future__ import annotations

from collections.abc import Iterator

from hauberk.errors import RefusedModelError

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_TAG_BYTES, _NUMBER_BYTES = 5, 10
_LARGEST_TAG, _LARGEST_SIZE, _LARGEST_NUMBER = (1 << 32) - 1, (1 << 31) - 1, (1 << 64) - 1


def fields(message: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """Number and value of each field, in the order in which they lie there, those of a fixed width left out.

    A value is an unsigned number of 64 bits, or a view of the bytes of a text, a message or anything else that has a
    length. Numbers of a fixed width are stepped over: where ONNX has none, protobuf takes them for unknown fields.

    Raises:
        RefusedModelError: It is no such message, or holds a group, which ONNX has none of.
    """
    at, end = 0, len(message)
    while at < end:
        tag, at = _varint(message, at, _TAG_BYTES)
        number, kind = tag >> 3, tag & 7
        if number == 0 or tag > _LARGEST_TAG:
            raise _refusal(f"an impossible field number before byte {at}")
        if kind == _VARINT:
            value, at = _varint(message, at, _NUMBER_BYTES)
            yield number, value & _LARGEST_NUMBER
            continue
        if kind == _BYTES:
            size, at = _varint(message, at, _TAG_BYTES)
        elif kind in {_FIXED64, _FIXED32}:
            size = 8 if kind == _FIXED64 else 4
        else:
            raise _refusal(f"wire type {kind} before byte {at}")
        if size > min(end - at, _LARGEST_SIZE):
            raise _refusal(f"a field of {size} bytes where {end - at} are left")
        if kind == _BYTES:
            yield number, message[at : at + size]
        at += size


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


def _varint(message: memoryview, at: int, most: int) -> tuple[int, int]:
    """A number of at most `most` bytes, and where it ends."""
    value = 0
    for shift, byte in enumerate(message[at : at + most]):
        value |= (byte & 0x7F) << 7 * shift
        if byte < 0x80:
            return value, at + shift + 1
    raise _refusal(f"a number without an end at byte {at}")


def _refusal(why: str) -> RefusedModelError:
    return RefusedModelError(f"not a serialised ONNX model, or cut short: {why} of a message")
