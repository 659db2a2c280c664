"""The statements of a Jinja template: what each name is bound to, and where a name stands that nothing binds.

A name that is not certainly bound where it is read comes from whoever runs the template, and that may be the same file
again: special tokens of a tokenizer are handed to its template by name.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

from hauberk.scan.frameworks.template_code import Code, TooLargeError, UnreadableTemplateError
from hauberk.scan.frameworks.template_grammar import Node, Reader, called_name, walk, words

FUNCTIONS = words("range namespace raise_exception strftime_now caller")
"""What a template may call by its name, beside its own macros."""
OUTPUT, COUNT = Node("output"), Node("number", "0")
_RESERVED = FUNCTIONS | {"loop", "varargs", "kwargs", "self", "super"}
_DEEPEST, _LOOPS_MOST = 48, 6
_ALONE = words("break continue")
_OTHERS = words("block extends print include from import with autoescape trans debug")  # which no prompt needs
_PLAIN_BLOCKS = frozenset({"generation"})  # marks what a model itself has said


class Expression(NamedTuple):
    """An expression of a template.

    Attributes:
        code: Where it stands.
        node: What it is.
    """

    code: Code
    node: Node


class Binding(NamedTuple):
    """A value that a name gets.

    Attributes:
        name: The name; with a point in front it is an attribute of some namespace, with brackets behind it is what a
            macro, or the block of a `call`, puts out.
        value: The value; `OUTPUT` where it is a part of something, or text that was put out.
        code: Where it stands.
        made_of: The value, or what it is a part of, or all that was put out, in a loop as `repeated`. In pieces of a
            text `OUTPUT` of what a macro is handed.
    """

    name: str
    value: Node
    code: Code
    made_of: Node


class _Block(NamedTuple):
    kind: str
    bound: set[str]
    after: frozenset[str]
    branches: list[set[str]]
    takers: tuple[str, ...]
    output: list[Node]
    own: frozenset[str] = frozenset()
    scope: str = ""
    filters: Node = OUTPUT


class Reading:
    """All statements of a template.

    Args:
        codes: Of the template, in order.
        check_time: Called now and then; raises where there is no time left.
        whole: Whether they are all of it. Else they are pieces of any text: what cannot be read is left out, no name is
            certainly bound, and blocks need neither beginning nor end.

    Attributes:
        expressions: In order. Names that are not certainly bound where they stand are of the kind `foreign`.
        bindings: What names get.
        macros: Parameters, by the name of the macro: as they are written, and as they are called here.
        read: What could be read.
        strange: Statements that no prompt needs, and why.

    Raises:
        UnreadableTemplateError: Jinja would refuse it.
        TooLargeError: It is nested too deeply.
    """

    def __init__(self, codes: Iterable[Code], check_time: Callable[[], None], *, whole: bool = True) -> None:
        self._whole = whole
        self.read: list[Code] = []
        self.expressions: list[Expression] = []
        self.bindings: list[Binding] = []
        self.macros: dict[str, dict[str, str]] = {}
        self.strange: list[tuple[Code, str]] = []
        self._blocks = [_Block("", set(), frozenset(), [], (), [])]
        self._statements: dict[str, Callable[[Reader], None]] = {
            "if": self._read_if,
            "elif": self._read_elif,
            "else": self._read_else,
            "for": self._read_for,
            "set": self._read_set,
            "filter": self._read_filter,
            "macro": self._read_macro,
            "call": self._read_call,
            "do": self._read_do,
        }
        for self._code in codes:
            check_time()
            try:
                self._read(Reader(self._code.tokens))
                self.read.append(self._code)
            except UnreadableTemplateError as error:
                if whole or isinstance(error, TooLargeError):
                    raise
        if whole and len(self._blocks) > 1:
            raise UnreadableTemplateError(f"{self._blocks[-1].kind} without an end")
        for expression in tuple(self.expressions):
            check_time()
            self._code = expression.code
            for node in walk(expression.node):
                self._hand_over(node.parts[1:], self.macros.get(called_name(node), {}))

    def _read(self, reader: Reader) -> None:
        if self._whole and not all(token.value.isascii() for token in self._code.tokens if token.kind == "name"):
            raise UnreadableTemplateError("a name that Python may take for another one")
        if self._code.statement:
            self._statement(reader)
            reader.skip(":")  # as in Python, if one likes
            reader.end()
        else:
            node = reader.several()
            reader.end()
            self._blocks[-1].output.append(self._note(node))

    def _statement(self, reader: Reader) -> None:
        word = reader.name()
        if word.startswith("end"):
            self._close(word[3:])
        elif read := self._statements.get(word):
            read(reader)
        elif word in _PLAIN_BLOCKS:
            self._open(word)
        elif word not in _ALONE:
            if not self._whole and word not in _OTHERS:
                raise UnreadableTemplateError(f"{word!r}, which is no statement of Jinja")
            self.strange.append((self._code, word))
            while reader.next.kind != "end":
                reader.step()

    def _open(
        self,
        kind: str,
        bound: Iterable[str] = (),
        after: Iterable[str] = (),
        takers: Iterable[str] = (),
        filters: Node = OUTPUT,
        scope: str = "",
    ) -> None:
        """A block begins, with names that are bound in it, those that it binds then, and who gets its output.

        `filters` of `OUTPUT` are what is done to it; `scope` sets a macro's own names apart from those outside.
        """
        if not self._whole:
            return
        if len(self._blocks) > _DEEPEST:
            raise TooLargeError(f"more than {_DEEPEST} statements in one another")
        own = frozenset(bound)
        scope = scope or self._blocks[-1].scope
        self._blocks.append(_Block(kind, {*own}, frozenset(after), [], tuple(takers), [], own, scope, filters))

    def _close(self, kind: str) -> None:
        if not self._whole:
            return
        if not kind or self._blocks[-1].kind not in {kind, f"{kind} else"}:
            if self.strange:  # its end, which nobody opened
                return
            raise UnreadableTemplateError(f"the end of {kind!r}, which is not open")
        block = self._blocks.pop()
        self._blocks[-1].bound.update(block.after)
        if block.kind == "if else":
            self._blocks[-1].bound.update(block.bound.intersection(*block.branches))
        output = _filtered(block.filters, Node("output", "", tuple(block.output)))
        for name in block.takers:
            self._bind(name, OUTPUT, made_of=output)
        if not block.takers:
            repeated = block.kind.startswith("for")
            self._blocks[-1].output.append(Node("repeated", "", (output,)) if repeated else output)

    def _read_if(self, reader: Reader) -> None:
        self._note(reader.several())
        self._open("if")

    def _read_elif(self, reader: Reader) -> None:
        self._branch("if", "if")
        self._note(reader.several())

    def _read_else(self, _: Reader) -> None:
        kind = self._blocks[-1].kind
        self._branch(kind if kind == "if" else "for", f"{kind} else")

    def _branch(self, before: str, kind: str) -> None:
        """Another branch begins; after `else` there is none."""
        if not self._whole:
            return
        block = self._blocks.pop()
        if block.kind != before:
            raise UnreadableTemplateError("a branch of nothing")
        block.branches.append(block.bound)
        self._blocks.append(_Block(kind, set(), block.after, block.branches, (), block.output, scope=block.scope))

    def _read_for(self, reader: Reader) -> None:
        target = reader.targets("in")
        reader.expect("in")
        value = self._note(reader.several(conditional=False))
        each = COUNT if called_name(value) == "range" else OUTPUT
        self._open("for", [name.value for name in walk(target) if name.kind == "name"])
        self._blocks[-1].bound.update(self._assign(target, each, value))
        if sum(block.kind == "for" for block in self._blocks) > _LOOPS_MOST:
            self.strange.append((self._code, f"more than {_LOOPS_MOST} loops in one another"))
        if reader.skip("if"):
            self._note(reader.expression())
        if reader.skip("recursive"):
            self.strange.append((self._code, "a loop that calls itself"))
        self._blocks[-1].bound.add("loop")
        self.bindings.append(Binding("loop", OUTPUT, self._code, value))  # it has the elements before and behind

    def _read_set(self, reader: Reader) -> None:
        target = reader.targets("=")
        if reader.skip("="):
            value = self._note(reader.several())
            self._blocks[-1].bound.update([*self._assign(target, value, value)])
        else:
            names = [*self._assign(target, OUTPUT, OUTPUT)]
            self._open("set", after=names, takers=names, filters=self._note(self._filters(reader, OUTPUT)))

    def _read_filter(self, reader: Reader) -> None:
        """Filters of what is put out in a block; the first one needs no bar."""
        self._open("filter", filters=self._note(self._filters(reader, reader.filter(OUTPUT))))

    def _filters(self, reader: Reader, node: Node) -> Node:
        while reader.skip("|"):
            node = reader.filter(node)
        return node

    def _read_macro(self, reader: Reader) -> None:
        name = reader.name()
        reader.expect("(")
        parameters = self._parameters(reader)
        if name in self.macros or name in _RESERVED:
            self.strange.append((self._code, f"a second {name}"))
        self._open("macro", parameters, takers=[f"{name}()"], scope=f"@{name}")
        self._bind_parameters(parameters)
        self.macros[name] = {parameter: self._scoped(parameter) for parameter in parameters}

    def _parameters(self, reader: Reader) -> dict[str, Node | None]:
        """Parameters; what stands for one that nothing is handed to is read as it is outside of the macro."""
        found: dict[str, Node | None] = {}
        while not reader.skip(")"):
            if found:
                reader.expect(",")
            name = reader.name()
            found[name] = self._note(reader.expression()) if reader.skip("=") else None
        return found

    def _bind_parameters(self, parameters: dict[str, Node | None]) -> None:
        for name, value in parameters.items():
            self._bind(name, *([] if value is None else [value]))

    def _read_call(self, reader: Reader) -> None:
        names = self._parameters(reader) if reader.skip("(") else {}
        self._blocks[-1].output.append(self._note(reader.expression()))
        if names:
            self.strange.append((self._code, "a block that is handed something by its caller"))
        self._open("call", names, takers=["caller()"])
        for name in names:
            self._bind(name, OUTPUT)

    def _read_do(self, reader: Reader) -> None:
        self._note(reader.several())

    def _assign(self, target: Node, value: Node, source: Node) -> Iterator[str]:
        """Bind what gets a value, part by part where both are tuples; yields the names."""
        match target:
            case Node("name", name):
                self._bind(name, value, made_of=source)
                yield name
            case Node("attribute", name):
                self._bind(f".{name}", value, made_of=source)
                yield f".{name}"
            case Node("list", _, parts):
                fits = value.kind == "list" and len(value.parts) == len(parts)
                for index, part in enumerate(parts):
                    pair = (value.parts[index], value.parts[index]) if fits else (OUTPUT, source)
                    yield from self._assign(part, *pair)
            case _:
                raise UnreadableTemplateError("no name to bind")

    def _bind(self, name: str, *values: Node, made_of: Node | None = None) -> None:
        if name in _RESERVED:
            self.strange.append((self._code, f"{name}, which means something else"))
        name = self._scoped(name)
        self.bindings += (Binding(name, value, self._code, made_of or value) for value in values)

    def _scoped(self, name: str) -> str:
        """A name, with the name of a macro behind where it is the macro's own."""
        block = next((block for block in reversed(self._blocks) if name in block.own), self._blocks[0])
        return name + block.scope

    def _note(self, node: Node) -> Node:
        node = self._resolved(node)
        self.expressions.append(Expression(self._code, node))
        for each in walk(node):
            if called_name(each) == "namespace":
                for part in each.parts[1:]:
                    self._bind(f".{part.value}", *part.parts)
        return node

    def _resolved(self, node: Node) -> Node:
        """The same, its names sorted by whether something certainly binds them."""
        if node.kind == "name" and not (self._whole and any(node.value in block.bound for block in self._blocks)):
            return Node("foreign", node.value)
        if node.kind == "name":
            return Node("name", self._scoped(node.value))
        return Node(node.kind, node.value, tuple(self._resolved(part) for part in node.parts)) if node.parts else node

    def _hand_over(self, given: Sequence[Node], names: dict[str, str]) -> None:
        """What a macro is called with comes to its parameters, which in pieces are not told from other names."""
        handed = [
            (names[part.value], part.parts[0]) for part in given if part.kind == "keyword" and part.value in names
        ]
        handed += [pair for pair in zip(names.values(), given, strict=False) if pair[1].kind != "keyword"]
        for name, value in handed:
            self._bind(name, value, made_of=value if self._whole else OUTPUT)


def _filtered(filters: Node, output: Node) -> Node:
    """What was put out, behind its filters."""
    if filters == OUTPUT:
        return output
    base, *given = filters.parts
    return Node(filters.kind, filters.value, (_filtered(base, output), *given))
