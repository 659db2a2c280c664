"""Damage to files, the same for the same seed: what transport, a bad disk or an attacker with a hex editor would do."""

from __future__ import annotations

import random
import struct
from collections.abc import Iterator, Sequence

_LENGTHS = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 2**63 - 1, 2**63, 2**64 - 1)
_FORMATS = ("<B", "<H", ">H", "<I", ">I", "<Q", ">Q")
_LONGEST = 1 << 20


def mutations(seed: bytes, others: Sequence[bytes], count: int, *, draw: int = 0) -> Iterator[bytes]:
    """So many damaged forms of a file.

    Args:
        seed: The file.
        others: Files to take pieces from.
        count: How many.
        draw: Seed of the draw; with the same one they are the same.
    """
    generator = random.Random(f"{draw}:{len(seed)}:{count}")
    for number in range(count):
        mutated = seed
        for _ in range(1 if number % 3 else generator.randint(2, 4)):
            mutated = mutate(mutated, others, generator)
        yield mutated


def mutate(data: bytes, others: Sequence[bytes], generator: random.Random) -> bytes:
    """One change, of a kind that is drawn."""
    kind = generator.choice(
        (_flip, _flip, _flip, _set, _length, _length, _length, _cut, _splice, _repeat, _remove, _swap)
    )
    return kind(bytearray(data), others, generator)[:_LONGEST]


def _place(data: bytearray, generator: random.Random, room: int = 1) -> int:
    """A place with so much room behind it, often near an end of the file: there the headers are."""
    last = max(0, len(data) - room)
    near = generator.random()
    if near < 0.3:
        return min(last, generator.randrange(256))
    if near < 0.5:
        return max(0, last - generator.randrange(256))
    return generator.randint(0, last)


def _flip(data: bytearray, _others: Sequence[bytes], generator: random.Random) -> bytes:
    if data:
        data[_place(data, generator)] ^= 1 << generator.randrange(8)
    return bytes(data)


def _set(data: bytearray, _others: Sequence[bytes], generator: random.Random) -> bytes:
    if data:
        data[_place(data, generator)] = generator.choice((0, 1, 0x7F, 0x80, 0xFF, generator.randrange(256)))
    return bytes(data)


def _length(data: bytearray, _others: Sequence[bytes], generator: random.Random) -> bytes:
    """An extreme number where there may be a length, an offset or a count."""
    form = generator.choice(_FORMATS)
    room = struct.calcsize(form)
    at = _place(data, generator, room)
    if at + room > len(data):
        return bytes(data)
    (before,) = struct.unpack_from(form, data, at)
    value = generator.choice((*_LENGTHS, len(data), len(data) - at, before + 1, before - 1, before * 2, before ^ 0x80))
    struct.pack_into(form, data, at, value & (1 << 8 * room) - 1)
    return bytes(data)


def _cut(data: bytearray, _others: Sequence[bytes], generator: random.Random) -> bytes:
    at = _place(data, generator)
    return bytes(data[:at] if generator.random() < 0.8 else data[at:])


def _splice(data: bytearray, others: Sequence[bytes], generator: random.Random) -> bytes:
    """A piece of another file over, or into, this one."""
    other = generator.choice(others) if others else bytes(data)
    start = generator.randrange(len(other) or 1)
    piece = other[start : start + generator.choice((1, 4, 16, 64, 1024))]
    at = _place(data, generator)
    data[at : at + (len(piece) if generator.random() < 0.5 else 0)] = piece
    return bytes(data)


def _repeat(data: bytearray, _others: Sequence[bytes], generator: random.Random) -> bytes:
    at, length = _place(data, generator), generator.choice((1, 2, 8, 32, 128))
    data[at:at] = data[at : at + length] * generator.choice((1, 2, 50))
    return bytes(data)


def _remove(data: bytearray, _others: Sequence[bytes], generator: random.Random) -> bytes:
    at = _place(data, generator)
    del data[at : at + generator.choice((1, 2, 4, 8, 64))]
    return bytes(data)


def _swap(data: bytearray, _others: Sequence[bytes], generator: random.Random) -> bytes:
    """Two stretches change places."""
    length = generator.choice((1, 2, 4, 8, 32))
    first, second = sorted((_place(data, generator, length), _place(data, generator, length)))
    if first + length > second:
        return bytes(data)
    data[first : first + length], data[second : second + length] = (
        data[second : second + length],
        data[first : first + length],
    )
    return bytes(data)
