"""Where, in bytes that are anything, a hostile pickle may begin: signs that picklers and published attacks leave.

`PROTO` with something that may follow it, a name asked for in lines of text, or two texts that become one name, each
with an instruction of the memo behind it or none. Who hides without `PROTO` is not seen: by escapes in texts, by texts
whose length takes eight bytes, by names out of the memo, by instructions that do nothing in between, behind a thousand
places that look like names in lines. A content in which nothing is seen, and that is of no other format, is `unknown`.

All signs are found in time that grows with the bytes alone, whatever these are: expressions never try a place twice,
and texts are looked for backwards from the instruction that makes a name of them, by the lengths that they state.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from itertools import islice
from typing import NamedTuple

_LONGEST = 102
"""Bytes of a module's or a function's name, with the instruction before it."""
_PROTO = re.compile(rb"\x80[\x00-\x05](?=[\x95(c}\])\x8cXUTKJMNIiSVq\x94\x88\x89G\x8f])")
_LINE = re.compile(rb"\n(?=[^\W\d][\w.]{0,100}+\n)")
"""Between two lines of which the second is a name: what GLOBAL and INST are followed by."""
_BEGINS_NAME = re.compile(rb"[ci](?=[^\W\d])")
_NAMING = re.compile(rb"\x93")
_NAME_BYTES = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_."
_NO_FIRST = b"0123456789."
_SHORT, _LONG, _UNICODE, _STRING = b"\x8cU", 0x58, 0x56, 0x53
_MEMOIZE, _BINPUT, _QUOTES, _NEWLINE = 0x94, 0x71, b"'\"", 0x0A
_BETWEEN_LOOKS = 256
_MOST_V = 4
_MOST_STARTS, _MOST_IN_LINES = 8, 1000
"""Letters of a line that are taken for its instruction, the last ones, as names have few; and signs of that kind."""


class Sign(NamedTuple):
    """Where a pickle may begin, and whether it says so by `PROTO`."""

    start: int
    is_protocol: bool


def signs(window: bytes, check_time: Callable[[], None]) -> list[Sign]:
    """All of them, in their order.

    Args:
        window: Searched.
        check_time: Raises when time is up.
    """
    found = {Sign(match.start(), is_protocol=True) for match in _PROTO.finditer(window)}
    found.update(islice(_asked_in_lines(window, check_time), _MOST_IN_LINES))
    for count, match in enumerate(_NAMING.finditer(window)):
        if not count % _BETWEEN_LOOKS:
            check_time()
        for second in _texts_before(window, match.start()):
            found.update(Sign(first, is_protocol=False) for first in _texts_before(window, second))
    return sorted(found)


def _asked_in_lines(window: bytes, check_time: Callable[[], None]) -> Iterator[Sign]:
    """Where GLOBAL or INST may begin, perhaps behind a mark: any fitting letter of what the first line ends with."""
    for count, match in enumerate(_LINE.finditer(window)):
        if not count % _BETWEEN_LOOKS:
            check_time()
        end = match.start()
        name = end - _run_before(window, end)
        starts = [begin.start() for begin in _BEGINS_NAME.finditer(window, name, end)]
        for start in starts[-_MOST_STARTS:]:
            yield Sign(start - (window[start - 1 : start] == b"("), is_protocol=False)


def _texts_before(window: bytes, place: int) -> Iterator[int]:
    """Where texts begin that end right before a place, or before an instruction of the memo that stands there."""
    for end in _ends_before(window, place):
        yield from _texts(window, end)


def _ends_before(window: bytes, place: int) -> Iterator[int]:
    yield place
    if place > 1 and window[place - 1] == _MEMOIZE:
        yield place - 1
    if place > 2 and window[place - 2] == _BINPUT:
        yield place - 2


def _texts(window: bytes, end: int) -> Iterator[int]:
    """Where the instructions begin that push a text which ends at a place and looks like a part of a name."""
    if end and window[end - 1] == _NEWLINE:
        yield from _lines(window, end - 1)
        return
    run = _run_before(window, end)
    for length in range(1, run + 1):
        start = end - length
        if start < 2 or window[start] in _NO_FIRST:
            continue
        if window[start - 1] == length and window[start - 2] in _SHORT:
            yield start - 2
        if window[start - 4 : start] == bytes((length, 0, 0, 0)) and start > 4 and window[start - 5] == _LONG:
            yield start - 5


def _lines(window: bytes, end: int) -> Iterator[int]:
    """The same for texts that end with their line: UNICODE, and STRING in quotes."""
    quoted = end > 0 and window[end - 1] in _QUOTES
    run = _run_before(window, end - quoted)
    start = end - quoted - run
    if quoted:
        if run and start >= 2 and window[start - 1] == window[end - 1] and window[start - 2] == _STRING:
            yield start - 2
        return
    for _ in range(_MOST_V):  # it may be taken for a part of the name; names of functions have few of it
        place = window.rfind(_UNICODE, max(0, start - 1), end - 1)
        if place < 0:
            return
        if window[place + 1] not in _NO_FIRST:
            yield place
        end = place + 1


def _run_before(window: bytes, end: int) -> int:
    """How many bytes before a place may be those of a name."""
    before = window[max(0, end - _LONGEST) : end]
    return len(before) - len(before.rstrip(_NAME_BYTES))
