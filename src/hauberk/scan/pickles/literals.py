"""Python literals, as numpy writes them into the header of an array: read by a parser of our own, never evaluated.

Known are strings, whole numbers, `True`, `False`, `None`, tuples, lists and dictionaries; nested a few levels, and with
no more between them than numpy writes. All of that Python reads in the same way; what it reads besides is not known.

Source: NEP 1, "A Simple File Format for NumPy Arrays".
"""

from __future__ import annotations

import re

_TOKEN = re.compile(
    r" *(?:(?P<text>'[^'\\\x00-\x1f]*'(?!['\"])|\"[^\"\\\x00-\x1f]*\"(?!['\"]))"
    r"|(?P<number>-?(?:0|[1-9][0-9]{0,19}))(?P<long>L?)(?![\w.])"
    r"|(?P<word>True|False|None)(?!\w)|(?P<sign>[\[\](){},:]))"
)
_WORDS = {"True": True, "False": False, "None": None}
_DEEPEST = 16


def literal(text: str, *, long: bool = False) -> object:
    """The value that a text stands for.

    Args:
        text: Read.
        long: Whether whole numbers may end with an `L`, as Python 2 wrote them.

    Raises:
        ValueError: It is no literal that is known, or something follows it.
    """
    reader = _Reader(text, long=long)
    value = reader.value(_DEEPEST)
    reader.end()
    return value


class _Reader:
    def __init__(self, text: str, *, long: bool) -> None:
        self._text = text.rstrip(" \n")
        self._long = long
        self._place = 0

    def _next(self) -> re.Match[str]:
        found = _TOKEN.match(self._text, self._place)
        if found is None:
            raise ValueError(f"no literal at letter {self._place}")
        self._place = found.end()
        return found

    def _peek(self) -> str:
        found = _TOKEN.match(self._text, self._place)
        return (found["sign"] or "") if found else ""

    def end(self) -> None:
        if self._place != len(self._text):
            raise ValueError(f"something follows at letter {self._place}")

    def value(self, depth: int) -> object:
        if not depth:
            raise ValueError("nested too deep")
        token = self._next()
        if token["text"] is not None:
            return token["text"][1:-1]
        if token["number"] is not None:
            if token["long"] and not self._long:
                raise ValueError("a number of Python 2")
            return int(token["number"])
        if token["word"] is not None:
            return _WORDS[token["word"]]
        if token["sign"] == "(":
            items, commas = self._items(")", depth)
            return items[0] if len(items) == 1 and not commas else tuple(items)
        if token["sign"] == "[":
            return self._items("]", depth)[0]
        if token["sign"] == "{":
            return self._pairs(depth)
        raise ValueError(f"no literal at letter {token.start()}")

    def _items(self, end: str, depth: int) -> tuple[list[object], int]:
        items: list[object] = []
        commas = 0
        while self._peek() != end:
            items.append(self.value(depth - 1))
            if self._peek() == ",":
                self._next()
                commas += 1
            elif self._peek() != end:
                raise ValueError("a comma is missing")
        self._next()
        return items, commas

    def _pairs(self, depth: int) -> dict[str, object]:
        pairs: dict[str, object] = {}
        while self._peek() != "}":
            key = self.value(depth - 1)
            if not isinstance(key, str) or key in pairs:
                raise ValueError("a key that is no string, or comes twice")
            if self._next()["sign"] != ":":
                raise ValueError("a colon is missing")
            pairs[key] = self.value(depth - 1)
            if self._peek() == ",":
                self._next()
            elif self._peek() != "}":
                raise ValueError("a comma is missing")
        self._next()
        return pairs
