"""The statements of a Jinja template: what each name is bound to, and where a name stands that nothing binds.

A name that is not certainly bound where it is read comes from whoever runs the template, and that may be the same file
again: special tokens of a tokenizer are handed to its template by name.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from hauberk.scan.frameworks.template_code import Code, UnreadableError
from hauberk.scan.frameworks.template_grammar import Node, Reader, walk, words

OUTSIDE = words("messages tools documents functions tool_choice function_call add_generation_prompt")
"""What every runtime hands to a template itself, in place of anything that the file holds under these names."""
FUNCTIONS = words("range namespace raise_exception strftime_now caller")
"""What a template may call by its name, beside its own macros."""
OUTPUT = Node("output")
_RESERVED = FUNCTIONS | {"loop", "varargs", "kwargs", "self", "super"}
_DEEPEST, _LOOPS_MOST = 48, 6
_ALONE = words("break continue")
_PLAIN_BLOCKS = frozenset({"generation"})  # marks what a model itself has said


class Binding(NamedTuple):
    """A value that a name gets.

    Attributes:
        name: The name; with a point in front it is an attribute of some namespace.
        value: The value.
        element: Whether it gets one of the things in the value.
    """

    name: str
    value: Node
    element: bool


class Expression(NamedTuple):
    """An expression of a template.

    Attributes:
        code: Where it stands.
        node: What it is.
        loops: The values that loops around it go through, outermost first.
        macro: The macro that it stands in; empty outside of all.
        shown: Whether its value is put out or kept, which makes it count as text.
    """

    code: Code
    node: Node
    loops: tuple[Node, ...]
    macro: str
    shown: bool


class _Block(NamedTuple):
    kind: str
    bound: set[str]
    branches: list[set[str]]
    after: set[str]


class Reading:
    """All statements of a template.

    Attributes:
        expressions: In order, their names sorted into `name`, `outside` and `foreign` by who binds them.
        bindings: What names get.
        macros: Parameters, by the name of the macro.
        strange: Statements that no prompt needs.

    Raises:
        UnreadableError: Jinja would refuse it.
        RecursionError: It is nested too deeply.
    """

    def __init__(self, codes: Sequence[Code]) -> None:
        self.expressions: list[Expression] = []
        self.bindings: list[Binding] = []
        self.macros: dict[str, list[str]] = {}
        self.strange: list[tuple[Code, str]] = []
        self._blocks = [_Block("", set(), [], set())]
        self._loops: list[Node] = []
        self._macros: list[str] = []
        for self._code in codes:
            if not all(token.value.isascii() for token in self._code.tokens if token.kind == "name"):
                raise UnreadableError("a name that Python may take for another one")
            reader = Reader(self._code.tokens)
            if self._code.statement:
                self._statement(reader)
            else:
                self._note(reader.several())
            reader.end()
        if len(self._blocks) > 1:
            raise UnreadableError(f"{self._blocks[-1].kind} without an end")
        self._bind_parameters()

    def _statement(self, reader: Reader) -> None:
        word = reader.name()
        if word.startswith("end"):
            self._close(word[3:])
        elif read := getattr(self, f"_read_{word}", None) if word.isascii() else None:
            read(reader)
        elif word in _PLAIN_BLOCKS:
            self._open(word, set())
        elif word not in _ALONE:
            self.strange.append((self._code, word))
            while reader.next.kind != "end":
                reader.step()

    def _open(self, kind: str, bound: set[str], after: set[str] | None = None) -> None:
        if len(self._blocks) > _DEEPEST:
            raise UnreadableError(f"more than {_DEEPEST} statements in one another")
        self._blocks.append(_Block(kind, bound, [], after or set()))

    def _close(self, kind: str) -> None:
        if not kind or self._blocks[-1].kind != kind:
            if self.strange:  # its end, which nobody opened
                return
            raise UnreadableError(f"the end of {kind!r}, which is not open")
        block = self._blocks.pop()
        if kind == "for":
            self._loops.pop()
        if kind == "macro":
            self._macros.pop()
        bound = self._blocks[-1].bound
        bound |= block.after
        if kind == "if" and block.after == {"else"}:
            bound.discard("else")
            bound |= set.intersection(block.bound, *block.branches)

    def _read_if(self, reader: Reader) -> None:
        self._note(reader.several())
        self._open("if", set())

    def _read_elif(self, reader: Reader) -> None:
        self._branch("if")
        self._note(reader.several())

    def _read_else(self, _: Reader) -> None:
        block = self._blocks[-1]
        if block.kind == "for":
            block.bound.clear()
        else:
            self._branch("if")
            block.after.add("else")

    def _branch(self, kind: str) -> None:
        block = self._blocks[-1]
        if block.kind != kind or block.after:
            raise UnreadableError("a branch of nothing")
        block.branches.append(set(block.bound))
        block.bound.clear()

    def _read_for(self, reader: Reader) -> None:
        targets = self._targets(reader)
        reader.expect("in")
        value = self._note(reader.several(conditional=False), shown=False)
        self._loops.append(value)
        if len(self._loops) > _LOOPS_MOST:
            self.strange.append((self._code, f"more than {_LOOPS_MOST} loops in one another"))
        self._open("for", set())
        self._give(targets, value, element=True)
        self._blocks[-1].bound.add("loop")
        if reader.skip("if"):
            self._note(reader.expression())
        if reader.skip("recursive"):
            self.strange.append((self._code, "a loop that calls itself"))

    def _read_set(self, reader: Reader) -> None:
        targets = self._targets(reader)
        if reader.skip("="):
            value = self._note(reader.several())
            self._give(targets, value, element=False)
            if len(targets) == 1 and _joins_twice(value, self._code.tokens[1].value, targets[0]):
                self.strange.append((self._code, "a text that is joined to itself"))
            return
        kept = OUTPUT
        while reader.skip("|"):
            kept = reader.filter(kept)
        self._note(kept)
        for target in targets:
            self._bind(target, OUTPUT)
        self._open("set", set(), {target for target in targets if "." not in target})

    def _read_macro(self, reader: Reader) -> None:
        name = reader.name()
        reader.expect("(")
        parameters = self._parameters(reader)
        if name in self.macros.keys() | _RESERVED:
            self.strange.append((self._code, "a second macro of one name"))
        self.macros[name] = parameters
        self._macros.append(name)
        self._open("macro", {*parameters, "varargs", "kwargs", "caller"})

    def _parameters(self, reader: Reader) -> list[str]:
        """Parameters, with what they are where nothing is handed over."""
        names = []
        for each in reader.arguments():
            if each.kind == "keyword":
                self._bind(each.value, self._note(each.parts[0]))
            elif each.kind != "name":
                raise UnreadableError("a parameter that is no name")
            names.append(each.value)
        return names

    def _read_call(self, reader: Reader) -> None:
        names = self._parameters(reader) if reader.skip("(") else []
        self._note(reader.expression())
        for name in names:
            self._bind(name, OUTPUT)
        self._open("call", set(names))

    def _read_filter(self, reader: Reader) -> None:
        kept = reader.filter(OUTPUT)
        while reader.skip("|"):
            kept = reader.filter(kept)
        self._note(kept)
        self._open("filter", set())

    def _read_do(self, reader: Reader) -> None:
        self._note(reader.several())

    def _targets(self, reader: Reader) -> list[str]:
        """Names that get a value; attributes of namespaces with a point in front."""
        bracketed = reader.skip("(")
        targets = []
        while reader.next.kind == "name":
            name = reader.name()
            if reader.skip("."):
                name = f".{reader.name()}"
            targets.append(name)
            if not reader.skip(","):
                break
        if bracketed:
            reader.expect(")")
        if not targets:
            raise UnreadableError("no name to bind")
        return targets

    def _give(self, targets: list[str], value: Node, *, element: bool) -> None:
        literal = value.kind == "list"
        if len(targets) > 1 and not element and literal and len(value.parts) == len(targets):
            for target, part in zip(targets, value.parts, strict=True):
                self._bind(target, part)
        elif len(targets) > 1 and element and literal:  # elements of elements
            for target in targets:
                self._bind(target, OUTPUT)
        else:
            for target in targets:
                self._bind(target, value, element=element or len(targets) > 1)
        self._blocks[-1].bound.update(target for target in targets if "." not in target)

    def _bind(self, name: str, value: Node, *, element: bool = False) -> None:
        if name in _RESERVED:
            self.strange.append((self._code, f"{name}, which means something else"))
        self.bindings.append(Binding(name, value, element))

    def _note(self, node: Node, *, shown: bool = True) -> Node:
        node = self._resolved(node)
        macro = self._macros[-1] if self._macros else ""
        self.expressions.append(Expression(self._code, node, tuple(self._loops), macro, shown))
        for each in walk(node):
            if each.kind == "call" and each.parts[0] == Node("name", "namespace"):
                for part in each.parts[1:]:
                    self._bind(f".{part.value}", part)
        return node

    def _resolved(self, node: Node, *, called: bool = False) -> Node:
        """The same, its names sorted by who binds them; a name that is called is left as it is."""
        if node.kind == "name" and not called and not any(node.value in block.bound for block in self._blocks):
            return Node("outside" if node.value in OUTSIDE else "foreign", node.value)
        parts = tuple(
            self._resolved(part, called=node.kind == "call" and not index) for index, part in enumerate(node.parts)
        )
        return Node(node.kind, node.value, parts)

    def _bind_parameters(self) -> None:
        """What macros are called with comes to their parameters."""
        for each in self.expressions:
            for node in walk(each.node):
                if node.kind == "call" and node.parts[0].kind == "name":
                    self._hand_over(node.parts[1:], self.macros.get(node.parts[0].value, []))

    def _hand_over(self, given: Sequence[Node], names: list[str]) -> None:
        for index, part in enumerate(given):
            if part.kind == "keyword" and part.value in names:
                self.bindings.append(Binding(part.value, part.parts[0], element=False))
            elif part.kind != "keyword" and index < len(names):
                self.bindings.append(Binding(names[index], part, element=False))


def _joins_twice(value: Node, name: str, target: str) -> bool:
    """Whether a name, or the attribute of a namespace, gets what it held twice over, and grows with every round."""
    if value.kind != "row" or not {"+", "~"} & set(value.value.split()):
        return False
    return sum(_gives(part, name, target) for part in value.parts) > 1


def _gives(node: Node, name: str, target: str) -> bool:
    """Whether a value may hold what a target holds; what only decides does not."""
    if node.kind == "attribute" and target == f".{node.value}" and node.parts[0].value == name:
        return True
    if node.kind in {"name", "outside", "foreign"} and node.value == target:
        return True
    parts = node.parts[:2] if node.kind == "condition" else node.parts
    return any(_gives(part, name, target) for part in parts)
