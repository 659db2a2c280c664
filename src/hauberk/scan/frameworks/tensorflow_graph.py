"""Graphs of TensorFlow, read from their protobuf messages: nodes, functions, and where a node's inputs come from.

Definitions: `saved_model.proto`, `meta_graph.proto`, `graph.proto`, `function.proto`, `node_def.proto` and
`attr_value.proto` of https://github.com/tensorflow/tensorflow/tree/master/tensorflow/core.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from hauberk import protobuf
from hauberk.protobuf import BYTES, VARINT
from hauberk.scan.content import CutError
from hauberk.scan.examination import Examination
from hauberk.scan.graphs.wire import pieces

TEXT_MOST = 1 << 20
_VARIABLES = {"VarHandleOp", "Variable", "VariableV2"}
_READERS = {"RestoreV2", "Restore", "RestoreSlice", "ReadFile"}


@dataclass
class Node:
    """One operation.

    Attributes:
        name: In its scope.
        op: What it does, a registered operation or a function of the library.
        inputs: Names of the nodes whose results it takes, with `:output`.
        texts: Text attributes by name (also the values of a constant text, under `value`).
        functions: Functions that attributes name.
        elements: Elements that a constant declares.
        stored: Bytes that hold them.
    """

    name: str = ""
    op: str = ""
    ops: set[str] = field(default_factory=set)
    inputs: list[str] = field(default_factory=list)
    texts: dict[str, list[bytes]] = field(default_factory=dict)
    functions: list[str] = field(default_factory=list)
    elements: int = 0
    stored: int = 0


@dataclass
class Scope:
    """The main graph (no name) or a function of the library.

    Attributes:
        name: Of the function.
        arguments: Names of its arguments, in their order.
        nodes: By name.
    """

    name: str = ""
    arguments: list[str] = field(default_factory=list)
    nodes: dict[str, Node] = field(default_factory=dict)
    repeated: list[str] = field(default_factory=list)


class GraphReader:
    """Reads messages and keeps the time.

    Args:
        examination: Asked for time.

    Attributes:
        scopes: All scopes that were read.
        strange: Fields that the definitions do not have.
    """

    def __init__(self, examination: Examination) -> None:
        self._examination = examination
        self._steps = 0
        self.scopes: list[Scope] = []
        self.strange: set[str] = set()

    def walk(self, message: Any, what: str, known: frozenset[int]) -> Iterator[tuple[int, Any]]:
        """Fields of a message that its definition has; numbers of fixed width come as they lie there."""
        for number, wire, value, _ in protobuf.walk(message):
            self._steps += 1
            if self._steps % 4096 == 0:
                self._examination.check_time()
            if number not in known:
                self.strange.add(f"field {number} of a {what}")
                continue
            if wire not in {BYTES, VARINT}:
                continue
            yield number, value

    def text(self, value: Any) -> bytes:
        """The bytes of a text field.

        Raises:
            CutError: It is no text, or longer than any name.
        """
        if isinstance(value, int) or len(value) > TEXT_MOST:
            raise CutError("a name that is none")
        return b"".join(pieces(value))

    def name(self, value: Any) -> str:
        """A name."""
        return self.text(value).decode("utf-8", "backslashreplace")

    def graph(self, message: Any) -> None:
        """A `GraphDef` with its library."""
        scope = Scope()
        self.scopes.append(scope)
        for number, value in self.walk(message, "graph", frozenset({1, 2, 3, 4, 5})):
            if number == 1:
                self._add(scope, value)
            elif number == 2 and not isinstance(value, int):
                for part, inner in self.walk(value, "library", frozenset({1, 2, 3})):
                    if part == 1:
                        self._function(inner)

    def _add(self, scope: Scope, message: Any) -> None:
        node = self._node(message)
        if node.name in scope.nodes:
            scope.repeated.append(node.name)
        scope.nodes[node.name] = node

    def _function(self, message: Any) -> None:
        scope = Scope()
        self.scopes.append(scope)
        for number, value in self.walk(message, "function", frozenset({1, 3, 4, 5, 6, 7, 8})):
            if number == 1:
                self._signature(scope, value)
            elif number == 3:
                self._add(scope, value)

    def _signature(self, scope: Scope, message: Any) -> None:
        for number, value in self.walk(message, "signature", frozenset(range(1, 25))):
            if number == 1:
                scope.name = self.name(value)
            elif number == 2:
                for part, inner in self.walk(value, "argument", frozenset(range(1, 25))):
                    if part == 1:
                        scope.arguments.append(self.name(inner))

    def _node(self, message: Any) -> Node:
        node = Node()
        for number, value in self.walk(message, "node", frozenset({1, 2, 3, 4, 5, 6, 7})):
            if number == 1:
                node.name = self.name(value)
            elif number == 2:
                node.op = self.name(value)
                node.ops.add(node.op)
            elif number == 3:
                if not (name := self.name(value)).startswith("^"):  # what has to run before hands nothing over
                    node.inputs.append(name)
            elif number == 5:
                self._attribute(node, value)
        return node

    def _attribute(self, node: Node, message: Any) -> None:
        key, values = "", []
        for number, value in self.walk(message, "attribute", frozenset({1, 2})):
            if number == 1:
                key = self.name(value)
            else:
                values.append(value)
        for value in values:
            self._value(node, key, value, 0)

    def _value(self, node: Node, key: str, message: Any, depth: int, *, listed: bool = False) -> None:
        """An attribute's value (AttrValue); `listed`: the list of values in one, which numbers functions otherwise."""
        if depth > 16:
            raise CutError("attributes nested too deeply")
        for number, value in self.walk(message, "list" if listed else "value", frozenset(range(1, 11))):
            if isinstance(value, int):
                continue
            if number == 2 and len(value) <= TEXT_MOST:
                node.texts.setdefault(key, []).append(self.text(value))
            elif number == 9 and not listed:
                self.strange.add("an attribute that whoever calls the function fills in")
            elif number == 8:
                self._tensor(node, key, value)
            elif number == (9 if listed else 10):
                self._call(node, key, value, depth)
            elif number == 1 and not listed:
                self._value(node, key, value, depth, listed=True)

    def _call(self, node: Node, key: str, message: Any, depth: int) -> None:
        """A function by name, with attributes of its own."""
        for number, value in self.walk(message, "function name", frozenset({1, 2})):
            if number == 1:
                node.functions.append(self.name(value))
            else:
                for part, inner in self.walk(value, "attribute", frozenset({1, 2})):
                    if part == 2:
                        self._value(node, key, inner, depth + 1)

    def _tensor(self, node: Node, key: str, message: Any) -> None:
        """A constant: what it declares, what holds it, and its texts."""
        elements = 1
        for number, value in self.walk(message, "tensor", frozenset(range(1, 19))):
            if isinstance(value, int):
                node.stored += 8
                continue
            node.stored += len(value)
            if number in {14, 15}:
                self.strange.add("a constant that is a handle or an object")
            if number == 2:
                elements = self._elements(value)
            elif number == 8 and len(value) <= TEXT_MOST:
                node.texts.setdefault(key, []).append(self.text(value))
        node.elements = max(node.elements, elements)

    def _elements(self, message: Any) -> int:
        count = 1
        for number, value in self.walk(message, "shape", frozenset({2, 3})):
            if number == 2:
                size = 0
                for part, inner in self.walk(value, "dimension", frozenset({1, 2})):
                    size = int(inner) if part == 1 and isinstance(inner, int) else size
                count *= size
        return count


class Origins:
    """Where inputs come from, through calls of functions.

    Args:
        scopes: Main graph and functions.
        examination: Asked for time.
    """

    def __init__(self, scopes: list[Scope], examination: Examination) -> None:
        self._examination = examination
        self._scopes = scopes
        self._values: dict[tuple[int, str], list[tuple[Scope, str]]] | None = None
        self._callers: dict[str, list[tuple[Scope, Node]]] = {}
        self._functions = {scope.name: scope for scope in scopes if scope.name}
        for scope in scopes:
            for node in scope.nodes.values():
                for name in {*node.functions, *(node.ops & self._functions.keys())}:
                    self._callers.setdefault(name, []).append((scope, node))

    def of(self, scope: Scope, name: str) -> Iterator[tuple[Scope, Node | None]]:
        """Every constant, placeholder and other source that an input can be made from.

        Yields:
            The scope and the node; no node for an argument that a program outside fills, or that cannot be found.
        """
        waiting, seen = [(scope, name)], set()
        while waiting:
            place, each = waiting.pop()
            base = each.partition(":")[0]
            if (id(place), base) in seen:
                continue
            seen.add((id(place), base))
            self._examination.check_time()
            if base in place.arguments and base not in place.nodes:
                index, callers = place.arguments.index(base), self._callers.get(place.name, [])
                if not callers:
                    yield place, None
                for caller, node in callers:
                    waiting += self._handed_over(caller, node, index, len(place.arguments))
                continue
            found = place.nodes.get(base)
            assigned = self._assigned(place, found) if found and found.op in _VARIABLES else []
            waiting += assigned
            if found is None or found.op in _READERS or not (found.inputs or assigned):
                yield place, found
                continue
            if found.op.startswith("Placeholder"):  # one with a default
                yield place, found
            waiting += [(place, each) for each in found.inputs]
            called = [*found.functions, *(found.ops & self._functions.keys())]
            for function in (self._functions[each] for each in called if each in self._functions):
                waiting += [(function, inner) for inner in function.nodes]

    def _assigned(self, scope: Scope, variable: Node) -> list[tuple[Scope, str]]:
        """What the graph itself sets a variable to."""
        if self._values is None:
            self._values = {}  # first, as what follows may come back here
            found: dict[tuple[int, str], list[tuple[Scope, str]]] = {}
            for place in self._scopes:
                for node in place.nodes.values():
                    if node.op.startswith("Assign") and len(node.inputs) > 1:
                        for holder, handle in self.of(place, node.inputs[0]):
                            if handle:
                                found.setdefault((id(holder), handle.name), []).append((place, node.inputs[1]))
            self._values = found
        return self._values.get((id(scope), variable.name), [])

    def _handed_over(self, scope: Scope, node: Node, index: int, arguments: int) -> list[tuple[Scope, str]]:
        """The input of a call that becomes an argument; all inputs where places cannot be told."""
        if len(node.inputs) == arguments:
            return [(scope, node.inputs[index])]
        return [(scope, each) for each in node.inputs]
