"""Pickles behind one another, made of choices: some readers take them with one unpickler, whose memo stays.

`pickle.Unpickler(file).load()`, called again and again, keeps what earlier pickles remembered; `pickle.load(file)` does
not. So a reference in a later pickle may mean something else to each, and a name may be put together of its parts. Each
pickle here asks by itself for harmless names alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

Item = TypeVar("Item")

_HARMLESS = "collections", "OrderedDict"
_WORDS = (*_HARMLESS, "os", "system", "os", "system")  # few, so that they often meet
_MOST_STEPS = 16


def chained_program(choices: bytes) -> bytes:
    """Two or three pickles; the same for the same choices."""
    drawn = iter(choices)

    def below(count: int) -> int:
        return next(drawn, 0) * count >> 8

    return b"".join([_Part(below).write() for _ in range(2 + below(2))])


class _Part:
    """One pickle, with what lies on its stack and in its memo as its own reader sees them."""

    def __init__(self, below: Callable[[int], int]) -> None:
        self._below = below
        self._out = bytearray(b"\x80\x04(")
        self._stack: list[str] = []
        self._memo: dict[int, str] = {}

    def write(self) -> bytes:
        for _ in range(2 + self._below(_MOST_STEPS)):
            self._of((self._word, self._reference, self._name, self._name_of_references, self._call))()
        return bytes(self._out) + b"t."

    def _of(self, items: Sequence[Item]) -> Item:
        return items[self._below(len(items))]

    def _push(self, code: bytes, what: str) -> None:
        self._out += code
        self._stack.append(what)
        way = self._below(8)
        if way < 3:
            self._out += b"\x94"
            self._memo[len(self._memo)] = what
        elif way == 3:
            index = self._below(6)
            self._out += b"q" + bytes([index])
            self._memo[index] = what

    def _text(self, word: str) -> None:
        self._push(b"\x8c" + bytes([len(word)]) + word.encode(), word)

    def _word(self) -> None:
        self._text(self._of(_WORDS))

    def _reference(self) -> None:
        if self._memo:
            index = self._of(tuple(self._memo))
            self._push(b"h" + bytes([index]), self._memo[index])

    def _name(self) -> None:
        for word in _HARMLESS:
            self._text(word)
        self._put_together()

    def _name_of_references(self) -> None:
        modules, names = ([index for index, what in self._memo.items() if what == word] for word in _HARMLESS)
        if modules and names:
            self._out += b"h" + bytes([self._of(modules)]) + b"h" + bytes([self._of(names)])
            self._stack += _HARMLESS
            self._put_together()

    def _put_together(self) -> None:
        del self._stack[-2:]
        self._push(b"\x93", "a name")

    def _call(self) -> None:
        known = [index for index, what in self._memo.items() if what == "a name"]
        if self._stack[-1:] == ["a name"]:
            self._stack.pop()
            self._push(b")R", "a thing")
        elif known:
            self._push(b"h" + bytes([self._of(known)]) + b")R", "a thing")
