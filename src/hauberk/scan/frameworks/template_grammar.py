"""Expressions of a Jinja template as a tree, so that who calls, looks up or joins what is plain to see.

Precedence is looser than Jinja's where nothing depends on it: operators of all ranks stand in one row.
Grammar: https://jinja.palletsprojects.com/en/stable/templates/#expressions.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from hauberk.scan.frameworks.template_code import Token, TooLargeError, UnreadableTemplateError


def words(text: str) -> frozenset[str]:
    """The words of a text."""
    return frozenset(text.split())


_OPERATORS = words("+ - * / // % ** ~ == != < > <= >= in")
_CONSTANTS = words("true false none True False None")
_END = Token("end", "")
_ENDS_SEVERAL = frozenset(Token("sign", sign) for sign in ")]}=")
_ENDS_TEST = frozenset(Token("name", name) for name in words("else or and"))
_OPENING = frozenset(Token("sign", sign) for sign in "[{")
_ENDS_KEY = frozenset(Token("sign", sign) for sign in "],")
_DEEPEST = 48


class Node(NamedTuple):
    """A part of an expression.

    Attributes:
        kind: `number`, `text`, `constant`, `name`, `foreign` (a name that nothing binds), `attribute`, `subscript`,
            `slice`, `call`, `filter`, `test`, `not`, `sign`, `row` (values and operators between them), `condition`,
            `list`, `dictionary`, `keyword`, `spread`.
        value: A literal, or the name of a variable, an attribute, a filter, a test or a keyword; the operators of a
            row, with spaces between them.
        parts: What it is made of. Of an attribute, a subscript, a filter, a test and a call, the first part is what it
            is asked of, the others are arguments. A condition holds both values, then what decides.
    """

    kind: str
    value: str = ""
    parts: tuple[Node, ...] = ()


def walk(node: Node) -> Iterator[Node]:
    """A node and all that lie in it."""
    waiting = [node]
    while waiting:
        node = waiting.pop()
        yield node
        waiting += reversed(node.parts)


def called_name(node: Node) -> str:
    """The name of the function or macro that a call calls; empty of calls of anything else."""
    return node.parts[0].value if node.kind == "call" and node.parts[0].kind in {"name", "foreign"} else ""


class Reader:
    """Reads words one after another.

    Raises:
        UnreadableTemplateError: They are no expression.
    """

    def __init__(self, tokens: Sequence[Token]) -> None:
        self._tokens = tokens
        self._at = 0
        self._depth = 0

    @property
    def next(self) -> Token:
        """The word that comes next."""
        return self._tokens[self._at] if self._at < len(self._tokens) else _END

    def skip(self, *values: str) -> bool:
        """Step over a name or a sign if it is the next."""
        if self.next.kind in {"name", "sign"} and self.next.value in values:
            self._at += 1
            return True
        return False

    def step(self) -> None:
        """Step over any word."""
        self._at += 1

    def expect(self, value: str) -> None:
        """Step over a word that must be there."""
        if not self.skip(value):
            raise UnreadableTemplateError(f"{self.next.value!r} in place of {value!r}")

    def name(self) -> str:
        """A name that must be there."""
        if self.next.kind != "name":
            raise UnreadableTemplateError(f"{self.next.value!r} in place of a name")
        self._at += 1
        return self._tokens[self._at - 1].value

    def end(self) -> None:
        """Nothing may be left."""
        if self.next is not _END:
            raise UnreadableTemplateError(f"{self.next.value!r} behind the end")

    def several(self, *, conditional: bool = True) -> Node:
        """One expression, or several with commas between them, which are a tuple."""
        items = [self.expression(conditional=conditional)]
        several = False
        while self.skip(","):
            several = True
            if self.next is _END or self.next in _ENDS_SEVERAL:
                break
            items.append(self.expression(conditional=conditional))
        return Node("list", "", tuple(items)) if several else items[0]

    def expression(self, *, conditional: bool = True) -> Node:
        """One expression; `conditional`: also `a if b else c`."""
        self._depth += 1
        if self._depth > _DEEPEST:
            raise TooLargeError(f"more than {_DEEPEST} expressions in one another")
        node = self._row()
        while conditional and self.skip("if"):
            decides = self._row()
            other = self.expression() if self.skip("else") else Node("constant", "none")
            node = Node("condition", "", (node, other, decides))
        self._depth -= 1
        return node

    def targets(self, end: str) -> Node:
        """What gets a value, up to a word: a name, an attribute of a namespace, or a tuple of such."""
        items, several = [self._target()], False
        while self.skip(","):
            several = True
            if self.next is _END or self.next.value == end:
                break
            items.append(self._target())
        return Node("list", "", tuple(items)) if several else items[0]

    def _target(self) -> Node:
        node = self._primary()
        return Node("attribute", self.name(), (node,)) if self.skip(".") else node

    def _row(self) -> Node:
        values: list[Node] = [self._negated()]
        signs: list[str] = []
        while True:
            sign = self.next
            if self.skip("and", "or"):
                values.append(self._negated())
            elif self.skip(*_OPERATORS) or self._skip_not_in():
                values.append(self._signed())
            else:
                return Node("row", " ".join(signs), tuple(values)) if signs else values[0]
            signs.append("in" if sign.value == "not" else sign.value)

    def _skip_not_in(self) -> bool:
        found = self._tokens[self._at : self._at + 2] == [Token("name", "not"), Token("name", "in")]
        self._at += 2 * found
        return found

    def _negated(self) -> Node:
        """Here `not` turns around what follows; anywhere else Jinja takes it for a name."""
        negations = 0
        while self.skip("not"):
            negations += 1
        node = self._signed()
        for _ in range(negations):
            node = Node("not", "not", (node,))
        return node

    def _signed(self) -> Node:
        signs: list[str] = []
        while self.next.kind == "sign" and self.skip("-", "+"):
            signs.append(self._tokens[self._at - 1].value)
        node = self._with_filters(self._with_lookups(self._primary()))
        for sign in reversed(signs):
            node = Node("sign", sign, (node,))
        return node

    def _primary(self) -> Node:
        kind, value = self.next
        if kind == "end":
            raise UnreadableTemplateError("code that ends early")
        self._at += 1
        if kind == "name":
            return Node("constant" if value in _CONSTANTS else "name", value)
        if kind == "number":
            return Node("number", value)
        if kind == "text":
            while self.next.kind == "text":  # texts side by side are one
                value += self.next.value
                self._at += 1
            return Node("text", value)
        if value == "(":
            node = Node("list") if self.next == Token("sign", ")") else self.several()
            self.expect(")")
            return node
        if value == "[":
            return Node("list", "", self._items("]"))
        if value == "{":
            return Node("dictionary", "", self._items("}"))
        raise UnreadableTemplateError(f"{value!r} in place of a value")

    def _items(self, closing: str) -> tuple[Node, ...]:
        items: list[Node] = []
        while not self.skip(closing):
            if items:
                self.expect(",")
                if self.skip(closing):
                    break
            items.append(self.expression())
            if closing == "}":
                self.expect(":")
                items.append(self.expression())
        return tuple(items)

    def _with_lookups(self, node: Node) -> Node:
        while True:
            if self.skip("."):
                if self.next.kind == "number":
                    node = Node("subscript", "", (node, Node("number", self.next.value)))
                    self._at += 1
                else:
                    node = Node("attribute", self.name(), (node,))
            elif self.skip("["):
                node = Node("subscript", "", (node, self._key()))
            elif self.skip("("):
                node = Node("call", "", (node, *self.arguments()))
            else:
                return node

    def _key(self) -> Node:
        """What stands in a subscript; several parts are a tuple."""
        keys: list[Node] = []
        while not self.skip("]"):
            if keys:
                self.expect(",")
            keys.append(self._key_part())
        return keys[0] if len(keys) == 1 else Node("list", "", tuple(keys))

    def _key_part(self) -> Node:
        bounds: list[Node] = []
        sliced = False
        while self.next not in _ENDS_KEY:
            if self.skip(":"):
                sliced = True
            elif bounds and not sliced:
                raise UnreadableTemplateError("a subscript of several parts")
            else:
                bounds.append(self.expression())
        if not bounds and not sliced:
            raise UnreadableTemplateError("an empty subscript")
        return Node("slice", "", tuple(bounds)) if sliced else bounds[0]

    def arguments(self) -> tuple[Node, ...]:
        """Arguments of a call, behind the bracket that opens it."""
        found: list[Node] = []
        while not self.skip(")"):
            if found:
                self.expect(",")
                if self.skip(")"):
                    break
            following = self._tokens[self._at + 1 : self._at + 2]
            if self.skip("*", "**"):
                found.append(Node("spread", "", (self.expression(),)))
            elif self.next.kind == "name" and following == [Token("sign", "=")]:
                name = unicodedata.normalize("NFKC", self.name())  # it becomes one of Python's, which does so
                self.expect("=")
                found.append(Node("keyword", name, (self.expression(),)))
            else:
                found.append(self.expression())
        return tuple(found)

    def _with_filters(self, node: Node) -> Node:
        while True:
            if self.skip("|"):
                node = self.filter(node)
            elif self.skip("is"):
                node = self._test(node)
            elif self.skip("("):
                node = Node("call", "", (node, *self.arguments()))
            else:
                return node

    def _begins_value(self) -> bool:
        return self.next.kind in {"text", "number", "name"} or self.next in _OPENING

    def filter(self, node: Node) -> Node:
        """A filter of a value, behind its bar."""
        name = self.name()
        while self.skip("."):
            name += "." + self.name()
        return Node("filter", name, (node, *(self.arguments() if self.skip("(") else ())))

    def _test(self, node: Node) -> Node:
        negated = self.skip("not")
        name = self.name()
        while self.skip("."):
            name += "." + self.name()
        arguments: tuple[Node, ...] = ()
        if self.skip("("):
            arguments = self.arguments()
        elif self._begins_value() and self.next not in _ENDS_TEST:
            arguments = (self._with_lookups(self._primary()),)
        tested = Node("test", name, (node, *arguments))
        return Node("not", "not", (tested,)) if negated else tested
