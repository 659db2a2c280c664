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
from hauberk.scan.frameworks.tensorflow_checkpoint import SIZES, TEXT_SIZE
from hauberk.scan.graphs.wire import pieces

TEXT_MOST = 1 << 20
REPEATED = frozenset(range(1, 1 << 10))
"""Every field of a message may be there more than once."""
_NOT_FIRST = REPEATED - {1}
_OF_TENSOR = REPEATED - {1, 2, 3, 4}
_STRANGE_MOST = 100
_FILLED = 1000
"""A constant that declares so many times what holds it is filled with one value."""
_MOST = 1 << 80


@dataclass
class Node:
    """One operation.

    Attributes:
        name: In its scope.
        op: What it does, a registered operation or a function of the library.
        inputs: Names of the nodes whose results it takes, with `:output`.
        before: Names of the nodes that have to run before, and hand nothing over.
        texts: Text attributes by name (also the values of a constant text, under `value`).
        functions: Functions that attributes name.
        unread: Text attributes that are too long for a name, or kept in a form that is not read here.
    """

    name: str = ""
    op: str = ""
    ops: set[str] = field(default_factory=set)
    inputs: list[str] = field(default_factory=list)
    before: list[str] = field(default_factory=list)
    texts: dict[str, list[bytes]] = field(default_factory=dict)
    functions: list[str] = field(default_factory=list)
    unread: set[str] = field(default_factory=set)


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
        strange: Fields that the definitions do not have, or have once.
        declared: Bytes of the constants of which one stored value stands for many, wherever they stand.
        stored: Bytes that hold these.
    """

    def __init__(self, examination: Examination) -> None:
        self._examination = examination
        self._steps = 0
        self.scopes: list[Scope] = []
        self.strange: set[str] = set()
        self.declared = 0
        self.stored = 0

    def walk(
        self, message: Any, what: str, known: frozenset[int], repeated: frozenset[int] = frozenset()
    ) -> Iterator[tuple[int, Any]]:
        """Fields of a message that its definition has.

        Readers of protobuf merge what is there twice and may only be there once; such a message is strange.
        """
        seen = set()
        for number, wire, value, _ in protobuf.walk(message):
            self._steps += 1
            if self._steps % 4096 == 0:
                self._examination.check_time()
            if number not in known:
                if len(self.strange) < _STRANGE_MOST:
                    self.strange.add(f"field {number} of a {what}")
                continue
            if number in seen and number not in repeated:
                self.strange.add(f"field {number} of a {what}, twice")
            seen.add(number)
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
        for number, value in self.walk(message, "graph", frozenset({1, 2, 3, 4, 5}), frozenset({1})):
            if number == 1:
                self._add(scope, value)
            elif number == 2 and not isinstance(value, int):
                for part, inner in self.walk(value, "library", frozenset({1, 2, 3}), REPEATED):
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
        for number, value in self.walk(message, "function", frozenset({1, 3, 4, 5, 6, 7, 8}), _NOT_FIRST):
            if number == 1:
                self._signature(scope, value)
            elif number == 3:
                self._add(scope, value)

    def _signature(self, scope: Scope, message: Any) -> None:
        for number, value in self.walk(message, "signature", frozenset(range(1, 25)), _NOT_FIRST):
            if number == 1:
                scope.name = self.name(value)
            elif number == 2:
                for part, inner in self.walk(value, "argument", frozenset(range(1, 25)), frozenset({7})):
                    if part == 1:
                        scope.arguments.append(self.name(inner))

    def _node(self, message: Any) -> Node:
        node = Node()
        for number, value in self.walk(message, "node", frozenset({1, 2, 3, 4, 5, 6, 7}), frozenset({3, 5})):
            if number == 1:
                node.name = self.name(value)
            elif number == 2:
                node.op = self.name(value)
                node.ops.add(node.op)
            elif number == 3:
                name = self.name(value)
                (node.before if name.startswith("^") else node.inputs).append(name)
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
        fields = self.walk(
            message, "list" if listed else "value", frozenset(range(1, 11)), REPEATED if listed else frozenset()
        )
        for number, value in fields:
            if isinstance(value, int):
                continue
            if number == 2 and len(value) > TEXT_MOST:
                self.strange.add("an attribute that is a very long text")
            elif number == 2:
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
        for number, value in self.walk(message, "function name", frozenset({1, 2}), frozenset({2})):
            if number == 1:
                node.functions.append(self.name(value))
            else:
                for part, inner in self.walk(value, "attribute", frozenset({1, 2})):
                    if part == 2:
                        self._value(node, key, inner, depth + 1)

    def _tensor(self, node: Node, key: str, message: Any) -> None:
        """A constant: what it declares, what holds it, and its texts."""
        elements, kind, stored = 1, 0, 0
        for number, value in self.walk(message, "tensor", frozenset(range(1, 19)), _OF_TENSOR):
            if isinstance(value, int):
                stored += 8
                kind = value if number == 1 else kind
                continue
            stored += len(value)
            if number in {14, 15}:
                self.strange.add("a constant that is a handle or an object")
            if number == 2:
                elements = self._elements(value)
            elif (number == 8 and len(value) > TEXT_MOST) or (number == 4 and len(value)):
                node.unread.add(key)
            elif number == 8:
                node.texts.setdefault(key, []).append(self.text(value))
        size = elements * SIZES.get(kind, TEXT_SIZE)
        if size > _FILLED * max(1, stored):
            self.declared += size
            self.stored += stored

    def tensor(self, message: Any) -> None:
        """A constant that stands outside of a graph."""
        self._tensor(Node(), "value", message)

    def _elements(self, message: Any) -> int:
        """Elements of a shape; beyond `_MOST`, so many."""
        count = 1
        for number, value in self.walk(message, "shape", frozenset({2, 3}), frozenset({2})):
            if number == 2:
                size = 0
                for part, inner in self.walk(value, "dimension", frozenset({1, 2})):
                    size = int(inner) if part == 1 and isinstance(inner, int) else size
                count = min(count * size, _MOST)
        return count
