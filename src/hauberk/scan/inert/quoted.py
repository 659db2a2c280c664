"""What stands for something else in quotes of YAML.

Escapes: https://yaml.org/spec/1.2.2/#57-escaped-characters.
"""

from __future__ import annotations

import re
import sys

_ESCAPE = re.compile(
    r"\\(?:x(?P<x>[\da-fA-F]{2})|u(?P<u>[\da-fA-F]{4})|U(?P<U>[\da-fA-F]{8})"
    r"|(?P<line>(?:\r?\n|[\r\x85\u2028\u2029])[ \t]*)|(?P<letter>[0abt\tnvfre \"/\\N_LP]))"
)
_LETTERS = dict(zip('0abt\tnvfre "/\\N_LP', '\0\a\b\t\t\n\v\f\r\x1b "/\\\x85\xa0\u2028\u2029', strict=True))


def unescaped(text: str) -> str:
    """A text as if all of it stood in double quotes: letters that are written as escapes, and lines that go on."""
    return _ESCAPE.sub(_letter, text)


def escaped(text: str, word: str) -> bool:
    """Whether some letter of a word is written as an escape, or a line ends within it, anywhere in a text."""
    return unescaped(text).count(word) > _ESCAPE.sub("\0", text).count(word)


def single(text: str) -> str:
    """A text as if all of it stood in single quotes, in which two stand for one."""
    return text.replace("''", "'")


def _letter(found: re.Match[str]) -> str:
    if found["letter"] is not None:
        return _LETTERS[found["letter"]]
    digits = found["x"] or found["u"] or found["U"]
    number = int(digits, 16) if digits else sys.maxunicode + 1
    return chr(number) if number <= sys.maxunicode else ""
