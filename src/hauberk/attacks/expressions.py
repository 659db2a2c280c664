"""The small language of relations between features: a parser of its own, and nothing that runs what a file brings.

    src_bytes >= 40 * count(hot, num_shells)
    flag == 'S0' implies dst_bytes == 0
    "char_freq_!" + "char_freq_$" <= 100 and sum("word_freq_*") <= 100

Loosest first: `implies` (to the right), `or`, `and`, the comparisons `== <= >= < > !=` (`=` is `==`), `+ -`, `* /`, a
minus sign, parentheses. A name that is no identifier stands in double quotes, a category in single quotes. In the
functions `sum`, `count` (how many are not 0), `min` and `max`, a quoted name with a `*` stands for every number of
which the name matches.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from hauberk.errors import InputError

FUNCTIONS = ("sum", "count", "min", "max")

MOST_CHARACTERS = 4000
"""Longer text is no small expression."""

DEEPEST = 60
"""Levels of nesting; a sum of more terms than this is what `sum` is for."""


@dataclass(frozen=True)
class Number:
    """A constant."""

    value: float


@dataclass(frozen=True)
class Name:
    """A feature; with `pattern`, every number that matches a quoted name with a `*`."""

    name: str
    pattern: bool = False


@dataclass(frozen=True)
class Category:
    """The name of a category, which a categorical feature can be compared with."""

    name: str


@dataclass(frozen=True)
class Arithmetic:
    """`left operator right` with `+`, `-`, `*` or `/`."""

    operator: str
    left: Value
    right: Value


@dataclass(frozen=True)
class Call:
    """One of `FUNCTIONS` of at least one value."""

    function: str
    values: tuple[Value, ...]


@dataclass(frozen=True)
class Comparison:
    """`left operator right` with `==`, `<=`, `>=`, `<`, `>` or `!=`."""

    operator: str
    left: Value
    right: Value


@dataclass(frozen=True)
class Logic:
    """`left operator right` with `and`, `or` or `implies`."""

    operator: str
    left: Truth
    right: Truth


Value = Number | Name | Category | Arithmetic | Call
Truth = Comparison | Logic

_TOKEN = re.compile(
    r"""\s*(?:
        (?P<number>(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)
      | (?P<word>[A-Za-z_][A-Za-z0-9_]*)
      | "(?P<quoted>[^"]*)"
      | '(?P<category>[^']*)'
      | (?P<symbol>==|<=|>=|!=|[-+*/()<>=,])
    )""",
    re.VERBOSE,
)
_STRENGTH = {"implies": 1, "or": 2, "and": 3, "+": 5, "-": 5, "*": 6, "/": 6} | dict.fromkeys(
    ("==", "<=", ">=", "<", ">", "!="), 4
)


@dataclass(frozen=True)
class _Token:
    kind: str
    text: str
    column: int


def parse(text: str) -> Truth:
    """Read one relation.

    Raises:
        InputError: It is not one; the message says what was expected at which column.
    """
    if len(text) > MOST_CHARACTERS:
        raise InputError(f"the relation has {len(text):,} characters; {MOST_CHARACTERS:,} are allowed")
    parser = _Parser(_tokens(text))
    found = parser.expression(0, 0)
    if parser.next.kind != "end":
        raise parser.refusal("an operator or the end")
    if not isinstance(found, (Comparison, Logic)):
        raise InputError("the relation compares nothing; write a comparison such as 'a <= b'")
    return found


def _tokens(text: str) -> list[_Token]:
    tokens, place = [], 0
    while text[place:].strip():
        match = _TOKEN.match(text, place)
        if match is None:
            rest = text[place:].lstrip()
            raise InputError(f"{rest[:1]!r} at column {len(text) - len(rest) + 1} begins nothing that is known here")
        kind = str(match.lastgroup)
        body = match[kind]
        if kind == "symbol" or (kind == "word" and body in _STRENGTH):
            kind, body = "symbol", "==" if body == "=" else body
        tokens.append(_Token(kind, body, match.end() - len(match[0].lstrip()) + 1))
        place = match.end()
    return [*tokens, _Token("end", "", len(text) + 1)]


class _Parser:
    """Precedence climbing over tokens."""

    def __init__(self, tokens: list[_Token]) -> None:
        self._tokens = tokens
        self._place = 0

    @property
    def next(self) -> _Token:
        return self._tokens[self._place]

    def take(self) -> _Token:
        token = self.next
        self._place += 1
        return token

    def refusal(self, wanted: str) -> InputError:
        found = "the end" if self.next.kind == "end" else repr(self.next.text)
        return InputError(f"expected {wanted} at column {self.next.column}, found {found}")

    def expect(self, symbol: str) -> None:
        if self.next.kind != "symbol" or self.next.text != symbol:
            raise self.refusal(repr(symbol))
        self.take()

    def expression(self, strength: int, depth: int) -> Value | Truth:
        """Everything that binds more strongly than `strength`."""
        left = self.primary(depth + 1)
        levels = depth
        while self.next.kind == "symbol" and _STRENGTH.get(self.next.text, -1) > strength:
            token = self.take()
            own = _STRENGTH[token.text]
            levels += 1  # what stands on the left is nested by one more
            right = self.expression(own - 1 if token.text == "implies" else own, levels)
            left = _combine(token, left, right)
            if own == 4 and _STRENGTH.get(self.next.text, -1) == 4 and self.next.kind == "symbol":
                raise self.refusal("'and' before another comparison")
        return left

    def primary(self, depth: int) -> Value | Truth:
        if depth > DEEPEST:
            raise InputError(f"more than {DEEPEST} levels are nested; add many terms with sum(...)")
        if self.next.kind == "end":
            raise self.refusal("a value")
        token = self.take()
        if token.kind == "number":
            return Number(_finite(token))
        if token.kind == "quoted":
            return Name(token.text, pattern="*" in token.text)
        if token.kind == "category":
            return Category(token.text)
        if token.kind == "word":
            called = token.text in FUNCTIONS and self.next.kind == "symbol" and self.next.text == "("
            return self.call(token.text, depth) if called else Name(token.text)
        if token.text == "(":
            inner = self.expression(0, depth)
            self.expect(")")
            return inner
        if token.text == "-":
            value = self.expression(_STRENGTH["*"], depth)
            return _combine(_Token("symbol", "-", token.column), Number(0.0), value)
        self._place -= 1
        raise self.refusal("a value")

    def call(self, function: str, depth: int) -> Call:
        self.expect("(")
        values = [self.argument(depth)]
        while self.next.kind == "symbol" and self.next.text == ",":
            self.take()
            values.append(self.argument(depth))
        self.expect(")")
        return Call(function, tuple(values))

    def argument(self, depth: int) -> Value:
        column = self.next.column
        found = self.expression(4, depth)
        if isinstance(found, (Comparison, Logic, Category)):
            raise InputError(f"a function takes numbers, not what stands at column {column}")
        return found


def _finite(token: _Token) -> float:
    value = float(token.text)
    if value == float("inf"):
        raise InputError(f"{token.text!r} at column {token.column} is larger than any number here")
    return value


def _combine(token: _Token, left: Value | Truth, right: Value | Truth) -> Value | Truth:
    """One operator and its two sides, if they are of the kind that it takes."""
    where = f"at column {token.column}"
    if _STRENGTH[token.text] < 4:
        if not (isinstance(left, (Comparison, Logic)) and isinstance(right, (Comparison, Logic))):
            raise InputError(f"{token.text!r} {where} joins comparisons, not numbers")
        return Logic(token.text, left, right)
    if isinstance(left, (Comparison, Logic)) or isinstance(right, (Comparison, Logic)):
        raise InputError(f"{token.text!r} {where} takes numbers, not comparisons")
    if _STRENGTH[token.text] == 4:
        return Comparison(token.text, left, right)
    if isinstance(left, Category) or isinstance(right, Category):
        raise InputError(f"{token.text!r} {where} takes numbers, not the name of a category")
    return Arithmetic(token.text, left, right)
