"""The words of a Jinja template: where its code stands and which tokens it is made of.

Ends of code are found as Jinja finds them: not inside quotes, not while a bracket is open, and what `raw` encloses is
no code. A pattern over the text alone would be led astray by `'}}'` and by `'{#'`.
Grammar: https://jinja.palletsprojects.com/en/stable/templates/.
"""

from __future__ import annotations

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


_BEGIN = re.compile(r"\{%[-+]?\s*raw\s*-?%\}|\{[{%#][-+]?")
_END_RAW = re.compile(r"\{%[-+]?\s*endraw\s*[-+]?%\}")
_TOKEN = re.compile(
    r"(?P<space>\s+)|(?P<number>0[xXoObB][\da-fA-F_]+|\d[\d_]*(?:\.\d[\d_]*)?(?:[eE][+-]?\d[\d_]*)?)|(?P<name>\w+)"
    r"|(?P<text>'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\")|(?P<sign>//|\*\*|[=!<>]=|[-+/*%~\[\](){}<>=.:|,;])",
    re.DOTALL,
)
_LARGEST = 1 << 18  # several times what the longest of well-known models have
_OPENING, _CLOSING = frozenset("([{"), frozenset(")]}")


def code_of(text: str, check_time: Callable[[], None]) -> Iterator[Code]:
    """All code of a template, in order.

    Args:
        text: The template.
        check_time: Called now and then; raises where there is no time left.

    Yields:
        Expressions and statements; no comments, nothing that is taken as it stands.

    Raises:
        RefusedError: A quote, a bracket, a comment or code is not closed, or a sign means nothing.
        UnreadableTemplateError: There is more than 256 KiB of code.
    """
    at = read = 0
    while begin := _BEGIN.search(text, at):
        check_time()
        mark = begin.group()
        if "raw" in mark:
            end = _END_RAW.search(text, begin.end())
            if end is None:
                raise RefusedError("raw text that does not end")
            at = end.end()
        elif mark.startswith("{#"):
            close = text.find("#}", begin.start() + 2)
            if close < 0:
                raise RefusedError("a comment that does not end")
            at = close + 2
        else:
            tokens, end_at, at = _tokens(text, begin.end(), "%}" if mark[1] == "%" else "}}", _LARGEST - read)
            read += end_at - begin.end()
            yield Code(text[begin.end() : end_at], mark[1] == "%", tokens)


def _tokens(text: str, at: int, end: str, most: int) -> tuple[list[Token], int, int]:
    """The words up to a mark: they, where they end, and what follows the mark."""
    tokens: list[Token] = []
    start, depth = at, 0
    while True:
        trimmed = text[at : at + 1] in {"-", "+"}
        if not depth and text.startswith(end, at + trimmed):
            return tokens, at, at + trimmed + 2
        if at - start > most:
            raise UnreadableTemplateError(f"more than {_LARGEST} letters of code")
        found = _TOKEN.match(text, at)
        if found is None:
            raise RefusedError(f"code that cannot be read: {text[start : at + 20]!r}")
        kind, value, at = str(found.lastgroup), found.group(), found.end()
        if kind == "space":
            continue
        if kind == "text":
            value = _meaning(value[1:-1])
        else:
            depth += (value in _OPENING) - (value in _CLOSING)
            if depth < 0:
                raise RefusedError("a bracket that nothing opens")
        tokens.append(Token(kind, value))


def _meaning(quoted: str) -> str:
    """What a text in quotes stands for, resolved as Jinja does."""
    try:
        return quoted.encode("ascii", "backslashreplace").decode("unicode-escape")
    except UnicodeDecodeError as error:
        raise RefusedError(str(error)) from None
