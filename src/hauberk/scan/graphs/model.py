"""What the scan keeps of an ONNX model: everything but the data of its tensors, small ones excepted."""

from __future__ import annotations

from array import array
from dataclasses import dataclass, field
from typing import Any

from numpy.typing import NDArray

MOST_VALUES = 4096
"""Elements of a tensor or list up to which its values are kept: larger ones are no shapes, indices or counts."""


@dataclass(slots=True)
class Weights:
    """A tensor that the file holds, or says where it lies.

    Attributes:
        name: Of an initializer; mostly empty elsewhere.
        element: Number of its element type (`elements.ELEMENTS`).
        dims: As declared; may be absurd until checked.
        values: Its values, where they are few and lie in the file.
        longest: Bytes of its longest text, of a tensor of texts.
        outside: Entries that say where its data lie, in order; `None` where they lie in the file.
        at: Where it begins in the file, in bytes.
    """

    name: str = ""
    element: int = 0
    dims: tuple[int, ...] = ()
    values: NDArray[Any] | None = None
    longest: int = 0
    outside: tuple[tuple[str, str], ...] | None = None
    at: int = 0


@dataclass(slots=True)
class SparseWeights:
    """A tensor of which only some elements are written; readers make it dense."""

    values: Weights
    indices: Weights
    dims: tuple[int, ...]
    at: int = 0


@dataclass(slots=True)
class Numbers:
    """A list of numbers in an attribute.

    Attributes:
        count: How many.
        values: The first `MOST_VALUES` of them.
        whole: All of them, if they are whole numbers and were not packed into more than 64 KiB.
        largest: Of all of them; 0 of none.
    """

    count: int = 0
    values: list[int | float] = field(default_factory=list)
    whole: array[int] = field(default_factory=lambda: array("q"))
    largest: float = 0


@dataclass(slots=True)
class Attribute:
    """An attribute of a node, or a default of a function.

    Attributes:
        name: As the operator calls it.
        kind: The field that holds the value (`i`, `ints`, `t`, `g`, …); empty where there is none.
        value: A number, bytes (texts; only the first few thousand), `Numbers`, `Weights`, `SparseWeights`, `Graph`, a
            list of these, or `None`.
        refers: Name of the function's attribute that it takes its value from; empty where it has its own.
        at: Where it begins in the file, in bytes.
    """

    name: str = ""
    kind: str = ""
    value: Any = None
    refers: str = ""
    at: int = 0


@dataclass(slots=True)
class Node:
    """One use of an operator."""

    operator: str = ""
    domain: str = ""
    overload: str = ""
    name: str = ""
    inputs: list[str] = field(default_factory=list)
    outputs: list[str] = field(default_factory=list)
    attributes: dict[str, Attribute] = field(default_factory=dict)
    at: int = 0


@dataclass(slots=True)
class Declared:
    """A value as its graph declares it.

    Attributes:
        name: Of the value.
        kind: `tensor`, `sequence`, `map`, `optional`, `sparse`, `opaque`; empty where nothing is said.
        element: Number of the element type of a tensor.
        dims: Sizes, names of free sizes, or "" where nothing is said of one; `None` where the rank is open.
        inner: The elements of a sequence or an optional.
    """

    name: str = ""
    kind: str = ""
    element: int = 0
    dims: tuple[int | str, ...] | None = None
    inner: Declared | None = None


@dataclass(slots=True)
class Graph:
    """A graph, the main one or one in an attribute."""

    nodes: list[Node] = field(default_factory=list)
    weights: list[Weights] = field(default_factory=list)
    sparse: list[SparseWeights] = field(default_factory=list)
    inputs: list[Declared] = field(default_factory=list)
    outputs: list[Declared] = field(default_factory=list)
    at: int = 0


@dataclass(slots=True)
class Function:
    """A function of the model: nodes under a name of their own."""

    name: str = ""
    domain: str = ""
    overload: str = ""
    inputs: list[str] = field(default_factory=list)
    outputs: list[str] = field(default_factory=list)
    attributes: list[str] = field(default_factory=list)
    defaults: dict[str, Attribute] = field(default_factory=dict)
    nodes: list[Node] = field(default_factory=list)
    opsets: dict[str, int] = field(default_factory=dict)
    at: int = 0


@dataclass(slots=True)
class Model:
    """A model.

    Attributes:
        version: Of the form of the file (IR version); 0 where it is not given.
        opsets: Version of each operator set that is imported, by domain ("" is ONNX's own).
        graph: The main graph; `None` where there is none.
        functions: In the order in which they lie there.
        metadata: Keys of the model's metadata.
        producer: Who wrote the file, as it says.
        training: Graphs that are only for training.
    """

    version: int = 0
    opsets: dict[str, int] = field(default_factory=dict)
    graph: Graph | None = None
    functions: list[Function] = field(default_factory=list)
    metadata: list[str] = field(default_factory=list)
    producer: str = ""
    training: list[Graph] = field(default_factory=list)

    def graphs(self) -> list[Graph]:
        """Every graph at any depth, those of functions' attributes and of training included."""
        found: list[Graph] = []
        pending: list[Graph] = [*([self.graph] if self.graph else []), *self.training]
        for function in self.functions:
            pending += graphs_of(function.nodes)
            pending += [graph for attribute in function.defaults.values() for graph in graphs_in(attribute)]
        while pending:
            graph = pending.pop()
            found.append(graph)
            pending += graphs_of(graph.nodes)
        return found

    def nodes(self) -> list[Node]:
        """Every node, at any depth."""
        nodes = [node for function in self.functions for node in function.nodes]
        return [*(node for graph in self.graphs() for node in graph.nodes), *nodes]

    def tensors(self) -> list[Weights]:
        """Every tensor that the file holds or says the place of, at any depth."""
        graphs = self.graphs()
        attributes = [attribute for node in self.nodes() for attribute in node.attributes.values()]
        attributes += [attribute for function in self.functions for attribute in function.defaults.values()]
        sparse = [each for graph in graphs for each in graph.sparse]
        found = [weights for graph in graphs for weights in graph.weights]
        for attribute in attributes:
            for value in attribute.value if isinstance(attribute.value, list) else [attribute.value]:
                if isinstance(value, Weights):
                    found.append(value)
                elif isinstance(value, SparseWeights):
                    sparse.append(value)
        return [*found, *(part for each in sparse for part in (each.values, each.indices))]


def graphs_in(attribute: Attribute) -> list[Graph]:
    """The graphs that an attribute holds, not those in them."""
    value = attribute.value
    if isinstance(value, Graph):
        return [value]
    return [each for each in value if isinstance(each, Graph)] if isinstance(value, list) else []


def graphs_of(nodes: list[Node]) -> list[Graph]:
    """The graphs that nodes' attributes hold, not those in them."""
    return [graph for node in nodes for attribute in node.attributes.values() for graph in graphs_in(attribute)]
