"""The instructions that push numbers, texts and bytes, and how arguments are read from the stream.

Each takes the machine and the position behind its code in the window, and returns where to go on.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Callable
from math import isinf

from hauberk.scan.content import CutError
from hauberk.scan.pickles import rules
from hauberk.scan.pickles.machine import Machine
from hauberk.scan.pickles.values import NUMBER, TEXT, Blob
from hauberk.scan.pickles.window import KEPT
from hauberk.scan.report import shown

Handler = Callable[[Machine, int], int]

_LONGEST_LINE = 1 << 16
_MOST_DIGITS = 4300  # CPython's limit
_WRITTEN = re.compile(rb"0|-?[1-9][0-9]*").fullmatch
_INFINITE = frozenset({b"inf", b"-inf"})
_FLOAT = re.compile(rb"-?(?:inf|nan|[0-9]+(?:\.[0-9]*)?(?:e[-+]?[0-9]+)?)").fullmatch


def read_number(machine: Machine, position: int, length: int, *, signed: bool = False) -> int:
    """A little-endian number of the window."""
    data = machine.data[position : position + length]
    if len(data) < length:
        raise CutError("a number that is cut")
    return int.from_bytes(data, "little", signed=signed)


def read_line(machine: Machine, position: int) -> tuple[bytes | None, int]:
    """A line without its end, and where to go on; `None` for one that is too long to matter.

    CPython's unpickler in Python takes what is left at the end for a line, nothing at all too, and cuts its last byte
    off.
    """
    end = machine.data.find(b"\n", position)
    if end < 0 and not machine.final:
        machine.refill(machine.base + position)
        position = 0
        end = machine.data.find(b"\n")
    if end < 0:
        if machine.final:
            machine.cut = True
            return machine.data[position:-1], len(machine.data)
        while end < 0:
            if machine.final:
                raise CutError("a line that is cut")
            machine.refill(machine.base + len(machine.data))
            end = machine.data.find(b"\n")
        return None, end + 1
    if end - position > _LONGEST_LINE:
        return None, end + 1
    if end - position > KEPT:
        machine.made += end - position >> 6
    return machine.data[position:end], end + 1


def _false(machine: Machine, position: int) -> int:
    machine.stack.append(False)
    return position


def _true(machine: Machine, position: int) -> int:
    machine.stack.append(True)
    return position


def _int(machine: Machine, position: int) -> int:
    line, position = read_line(machine, position)
    if line in {b"00", b"01"}:
        machine.stack.append(line == b"01")
    else:
        machine.stack.append(_integer(machine, line, position))
    return position


def _long(machine: Machine, position: int) -> int:
    line, position = read_line(machine, position)
    machine.stack.append(_integer(machine, line.removesuffix(b"L") if line else line, position))
    return position


def _integer(machine: Machine, line: bytes | None, position: int) -> object:
    if line is None or len(line) >= _MOST_DIGITS:
        return NUMBER
    if not _WRITTEN(line):  # what one reader takes for a number is another one, or none, to others
        machine.find(rules.DISAGREE, f"a number {shown(line)!r}", machine.base + position - 1)
    try:
        return int(line, 0)
    except ValueError:
        return NUMBER


def _float(machine: Machine, position: int) -> int:
    line, position = read_line(machine, position)
    if line is not None and _FLOAT(line):
        number: object = float(line)
        agreed = line in _INFINITE or not isinf(float(line))
    else:
        number, agreed = NUMBER, False
    if not agreed:
        machine.find(rules.DISAGREE, f"a number {shown(line or b'')!r}", machine.base + position - 1)
    machine.stack.append(number)
    return position


def _long_bytes(width: int) -> Handler:
    def handler(machine: Machine, position: int) -> int:
        length = read_number(machine, position, width, signed=width == 4)
        if length < 0:
            raise ValueError("a negative length")
        position += width
        if length <= KEPT:
            machine.stack.append(read_number(machine, position, length, signed=True))
            return position + length
        position = machine.skip(bytes, position, length)
        machine.stack[-1] = NUMBER
        return position

    return handler


def _unicode8(machine: Machine, position: int) -> int:
    length = read_number(machine, position, 8)
    position += 8
    if length <= KEPT and position + length <= len(machine.data):
        machine.stack.append(machine.data[position : position + length].decode("utf-8", "surrogatepass"))
        return position + length
    return machine.skip_text(position, length)


def _bytes(width: int, kind: type) -> Handler:
    """Bytes, or a string of Python 2, which becomes text."""

    def handler(machine: Machine, position: int) -> int:
        length = read_number(machine, position, width, signed=kind is str and width == 4)
        if length < 0:
            raise ValueError("a negative length")
        position += width
        end = position + length
        if length > KEPT or end > len(machine.data):
            return machine.skip(kind, position, length)
        data = machine.data[position:end]
        # Readers decode strings of Python 2 as they are told to; text of no other kind than ASCII is no allowed name.
        machine.stack.append(data.decode("utf-8", "surrogateescape") if kind is str else data)
        return end

    return handler


def _byte_array(machine: Machine, position: int) -> int:
    length = read_number(machine, position, 8)
    position += 8
    end = position + length
    if end > len(machine.data):
        return machine.skip(bytearray, position, length)
    machine.stack.append(Blob(bytearray, machine.base + position, length))
    return end


def _string(machine: Machine, position: int) -> int:
    line, position = read_line(machine, position)
    if line is None:
        machine.stack.append(TEXT)
        return position
    if len(line) < 2 or line[:1] not in {b"'", b'"'} or line[-1:] != line[:1]:
        raise ValueError("a string without quotes")
    text, _ = codecs.escape_decode(line[1:-1])  # what the unpickler calls
    machine.stack.append(text.decode("utf-8", "surrogateescape"))
    return position


def _unicode(machine: Machine, position: int) -> int:
    line, position = read_line(machine, position)
    machine.stack.append(TEXT if line is None else line.decode("raw-unicode-escape"))
    return position


CONSTANTS: dict[str, Handler] = {
    "\x88": _true, "\x89": _false, "I": _int, "L": _long, "F": _float,
    "\x8a": _long_bytes(1), "\x8b": _long_bytes(4),
    "\x8d": _unicode8, "C": _bytes(1, bytes), "B": _bytes(4, bytes), "\x8e": _bytes(8, bytes),
    "U": _bytes(1, str), "T": _bytes(4, str), "\x96": _byte_array, "S": _string, "V": _unicode,
}  # fmt: skip
