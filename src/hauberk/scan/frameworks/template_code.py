"""The words of a Jinja template: where its code stands and which tokens it is made of.

Ends of code are found as Jinja finds them: not inside quotes, not while a bracket is open, and what `raw` encloses is
no code. A pattern over the text alone would be led astray by `'}}'` and by `'{#'`.
Grammar: https://jinja.palletsprojects.com/en/stable/templates/.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator
from typing import NamedTuple


class Token(NamedTuple):
    """One word of the code.

    Attributes:
        kind: `name`, `number`, `text` (escapes resolved) or `sign`.
        value: The word; of a text what it means.
    """

    kind: str
    value: str


class Code(NamedTuple):
    """The code between two marks.

    Attributes:
        source: As it is written.
        statement: Whether it stands in `{% … %}`.
        tokens: Its words.
    """

    source: str
    statement: bool
    tokens: list[Token]


class UnreadableTemplateError(ValueError):
    """The template is not understood; perhaps Jinja would refuse it."""


class RefusedError(UnreadableTemplateError):
    """Jinja certainly refuses the template, all of it."""


class TooLargeError(UnreadableTemplateError):
    """More, or deeper in one another, than is looked at; Jinja may well take it."""


_BEGIN = re.compile(r"\{%[-+]?\s*raw\s*-?%\}|\{[{%#][-+]?")
_ANY_BEGIN = re.compile(r"(?=(\{[{%][-+]?))")
_END_RAW = re.compile(r"\{%[-+]?\s*endraw\s*[-+]?%\}")
_TOKEN = re.compile(
    r"\s*+(?:(?P<sign>//|\*\*|[=!<>]=|[-+/*%~\[\](){}<>=.:|,;])"
    r"|(?P<number>0[xXoObB][\da-fA-F_]+|\d[\d_]*(?:\.\d[\d_]*)?(?:[eE][+-]?\d[\d_]*)?)"
    r"|(?P<name>(?:\w++|[^\x00-\x7f\s])++)|(?P<text>'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\")|)",
    re.DOTALL,
)
"""A word and the blanks in front of it; no word where no sign of Jinja's follows."""
_NEW_LINE = re.compile(r"\r\n?")
_LARGEST = 1 << 18  # several times what the longest of well-known models have
_LARGEST_IN_PARTS = 1 << 17
_KEYWORDS = frozenset({"and", "or", "not", "in", "is", "if", "else"})
_WORDS = frozenset({"name", "text"})
_IS = Token("name", "is")
_STEPS = dict.fromkeys("([{", 1) | dict.fromkeys(")]}", -1)
_ENDING = frozenset("-+%}")


def code_of(text: str, check_time: Callable[[], None]) -> Iterator[Code]:
    """All code of a template, in order.

    Args:
        text: The template.
        check_time: Called now and then; raises where there is no time left.

    Yields:
        Expressions and statements; no comments, nothing that is taken as it stands.

    Raises:
        RefusedError: A quote, a bracket, a comment or code is not closed, a sign means nothing, or words stand side by
            side in an expression, as in titles of papers.
        TooLargeError: There is more than 256 KiB of code.
    """
    text = _NEW_LINE.sub("\n", text)  # as Jinja does, within quotes, too
    words = _Words(text, _LARGEST)
    at = 0
    while begin := _BEGIN.search(text, at):
        check_time()
        mark = begin.group()
        if "raw" in mark:
            end = _END_RAW.search(text, begin.end())
            if end is None:
                _refuse_open("raw text", text[begin.end() :])
                return
            at = end.end()
        elif mark.startswith("{#"):
            close = text.find("#}", begin.start() + 2)
            if close < 0:
                _refuse_open("a comment", text[begin.end() :])
                return
            at = close + 2
        else:
            code, at = words.code(begin.end(), mark)
            yield code


def parts_of(text: str, check_time: Callable[[], None]) -> Iterator[Code]:
    """All that may be code to somebody who is handed a part of a text: every mark is taken for the beginning of some.

    Args:
        text: Any text.
        check_time: Called now and then; raises where there is no time left.

    Yields:
        Expressions and statements, some of them within others; none that Jinja would refuse for its words.

    Raises:
        TooLargeError: There are more than 128 KiB in all that was tried.
    """
    text = _NEW_LINE.sub("\n", text)
    words = _Words(text, _LARGEST_IN_PARTS)
    for begin in _ANY_BEGIN.finditer(text):
        check_time()
        with contextlib.suppress(RefusedError):
            yield words.code(begin.end(1), begin.group(1))[0]


class _Words:
    """Takes the code of a text apart, up to a number of letters in all."""

    def __init__(self, text: str, most: int) -> None:
        self._text = text
        self._most = self._left = most
        self._known: dict[str, Token] = {}

    def code(self, start: int, mark: str) -> tuple[Code, int]:
        """The code behind a mark, and where it ends, its own mark included."""
        statement = mark[1] == "%"
        end = "%}" if statement else "}}"
        tokens: list[Token] = []
        at, depth, prose = start, 0, not statement
        known, limit = self._known, start + self._left
        try:
            for found in _TOKEN.finditer(self._text, start):
                at = found.end()
                if at > limit:
                    raise TooLargeError(f"more than {self._most} letters of code")
                if not (group := found.lastindex):
                    break
                value = found[group]
                if not depth and value in _ENDING:
                    close = at - (value not in {"-", "+"})
                    if self._text.startswith(end, close):
                        at = close + 2
                        return Code(self._text[start : found.start(group)], statement, tokens), at
                token = known.get(value) or self._new(str(found.lastgroup), value)
                if value in _STEPS:
                    depth += _STEPS[value]
                    if depth < 0:
                        raise RefusedError("a bracket that nothing opens")
                if prose and token.kind in _WORDS:
                    prose = token != _IS  # what a test is given may stand beside it
                    if prose and tokens and _stand_apart(tokens[-1], token):
                        raise RefusedError(f"words side by side: {self._text[start:at]!r}")
                tokens.append(token)
        finally:
            self._left -= at - start
        raise RefusedError(f"a sign that means nothing: {self._text[at : at + 20]!r}")

    def _new(self, kind: str, value: str) -> Token:
        """A word that was not met before."""
        if kind == "name" and not value.isidentifier():
            raise RefusedError(f"a name with a sign in it: {value!r}")
        token = Token(kind, _meaning(value[1:-1]) if kind == "text" else value)
        self._known[value] = token
        return token


def _refuse_open(what: str, rest: str) -> None:
    """Jinja refuses what does not end, but not where the text ends at once."""
    if rest.strip():
        raise RefusedError(f"{what} that does not end")


def _stand_apart(before: Token, token: Token) -> bool:
    """Whether a name or a text must not follow a word in an expression."""
    kinds = {before.kind, token.kind}
    return "name" in kinds <= _WORDS and not {before.value, token.value} & _KEYWORDS


def _meaning(quoted: str) -> str:
    """What a text in quotes stands for, resolved as Jinja does."""
    try:
        return quoted.encode("ascii", "backslashreplace").decode("unicode-escape")
    except UnicodeDecodeError as error:
        raise RefusedError(str(error)) from None
