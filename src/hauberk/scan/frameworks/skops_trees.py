"""scikit-learn's trees and their ensembles in a skops archive: nodes of the schema and members in plain figures.

What is asked of them stands in `hauberk.scan.fitted`, for all formats; here nodes of the schema are translated.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from tokenize import TokenError
from typing import Any, TypeGuard

import numpy as np

from hauberk.scan.content import Content
from hauberk.scan.fitted import node_tables
from hauberk.scan.fitted.callables import name_stands_for_method, stands_for_method
from hauberk.scan.fitted.node_tables import Field, Survey
from hauberk.scan.fitted.trees import (
    JUDGED,
    LONE,
    LONGEST_FLAGS,
    OTHER,
    PREDICTOR,
    TREE,
    Doubt,
    Fitted,
    Tree,
    judge,
    predictor_doubt,
    tree_doubt,
)
from hauberk.scan.frameworks.skops_forms import FormError, attributes, natural, plain_value

_Node = dict[str, Any]
_UNLIKE_A_TREE = (
    KeyError, TypeError, IndexError, ValueError, AttributeError, SyntaxError, TokenError, FormError,
)  # fmt: skip
_HEADER = 1 << 14
_ARRAY = "numpy.ndarray"
_CHUNK = 1 << 20
_NAMED = ("FunctionNode", "TypeNode", "MethodNode", "OperatorFuncNode")
_OBJECTS = ("ObjectNode", "PartialNode")
_SETS = ("binned_left_cat_bitsets", "raw_left_cat_bitsets")


class Trees:
    """The trees and ensembles of one schema, looked at once all of it is known.

    Args:
        content: Of a member, by its name.
        unpack: Is told how many bytes are read.
    """

    def __init__(self, content: Callable[[str], Content], unpack: Callable[[int], None]) -> None:
        self._reader = _Reader(content, unpack)
        self._kept: list[tuple[_Node, str, str]] = []

    def keep(self, node: _Node, full: str, at: str) -> None:
        """Remember a node whose class is looked at.

        Args:
            node: Of the schema.
            full: The module and name of its class.
            at: Where it stands.
        """
        if full in JUDGED or full in {TREE, PREDICTOR}:
            self._kept.append((node, full, at))

    def doubts(self) -> Iterator[tuple[Doubt, str]]:
        """What is held against them, and where; estimators first, which hold the others.

        A node stands in one place of the schema, so what an estimator was asked for stands nowhere else.
        """
        for node, full, at in sorted(self._kept, key=lambda each: each[1] not in JUDGED):
            if (doubt := self._reader.doubt(node, full)) is not None:
                yield doubt, at


class _Reader:
    """Nodes of a schema, for `hauberk.scan.fitted`."""

    def __init__(self, content: Callable[[str], Content], unpack: Callable[[int], None]) -> None:
        self._content = content
        self._unpack = unpack
        self._features: dict[int, tuple[int, Doubt | None]] = {}
        self._surveys: dict[int, tuple[Survey | None, Doubt | None]] = {}
        self._held: set[int] = set()

    def doubt(self, node: _Node, full: str) -> Doubt | None:
        """What is held against a tree or an ensemble."""
        if full in {TREE, PREDICTOR}:
            doubt = (self._tree if full == TREE else self._predictor)(node)[1]
            return LONE if doubt is None and id(node) not in self._held else doubt
        found = self.fitted(node)
        return Doubt("a method that the file brings", unsafe=False) if found is None else judge(found, self)

    def plain(self, value: object) -> object:
        try:
            return plain_value(value)
        except FormError:
            return OTHER

    def items(self, value: object) -> Sequence[object] | None:
        found = value.get("content") if _is_node(value, "ListNode", "TupleNode") else None
        return found if isinstance(found, list) else None

    def mapping(self, value: object) -> Mapping[str, object] | None:
        try:
            return attributes(value)
        except FormError:
            return None

    def objects(self, value: object) -> tuple[tuple[int, ...], Sequence[object]] | None:
        if not _is_node(value, "NdArrayNode") or value.get("type") != "json":
            return None
        try:
            shape = tuple(natural(each) for each in self.items(value["shape"]) or ())
        except _UNLIKE_A_TREE:
            return None
        content = value.get("content")
        if not isinstance(content, list) or shape[:1] != (len(content),):
            return None
        found: list[object] = content
        for size in shape[1:]:
            inner = [self.items(each) for each in found]
            if any(each is None or len(each) != size for each in inner):
                return None
            found = [item for each in inner for item in each or ()]
        return shape, found

    def is_array(self, value: object) -> bool:
        return _is_node(value, "NdArrayNode") and _full(value) == _ARRAY

    def shape(self, value: object) -> tuple[int, ...] | None:
        try:
            return _header(self._member(value))[0]
        except _UNLIKE_A_TREE:
            return None

    def flags(self, value: object, kinds: str) -> bytes | None:
        try:
            shape, dtype, start = _header(content := self._member(value))
        except _UNLIKE_A_TREE:
            return None
        fits = len(shape) == 1 and dtype.itemsize == 1 and dtype.kind in kinds and shape[0] <= LONGEST_FLAGS
        if not fits or content.size != start + shape[0]:
            return None
        self._unpack(content.size)
        return content.read(start, shape[0])

    def fitted(self, value: object) -> Fitted | None:
        if not _is_node(value, "ObjectNode"):
            return None
        state = _state(value)
        return (
            None if any(_stands_for_method(name, each) for name, each in state.items()) else Fitted(_full(value), state)
        )

    def function(self, value: object) -> str:
        return _called(value)

    def partial(self, value: object) -> str:
        content = value.get("content") if _is_node(value, "PartialNode") else None
        if not isinstance(content, dict) or self.items(content.get("args")):
            return ""
        return _called(content.get("func"))

    def features(self, value: object) -> int | None:
        if not _is_node(value, "TreeNode"):
            return None
        self._held.add(id(value))
        found, doubt = self._tree(value)
        return found if doubt is None else None

    def predictor(self, value: object) -> Survey | None:
        if not _is_node(value, "ObjectNode") or _full(value) != PREDICTOR:
            return None
        self._held.add(id(value))
        found, doubt = self._predictor(value)
        return found if doubt is None else None

    def _tree(self, node: _Node) -> tuple[int, Doubt | None]:
        """Features of a `TreeNode`, and what is held against it."""
        if id(node) not in self._features:
            try:
                tree = self._figures(node)
                self._features[id(node)] = tree.features, tree_doubt(tree)
            except _UNLIKE_A_TREE as error:
                self._features[id(node)] = 0, Doubt(f"a tree that cannot be checked: {error}", unsafe=False)
        return self._features[id(node)]

    def _figures(self, node: _Node) -> Tree:
        features, classes, outputs = self.items(node["__reduce__"]["args"]) or ()
        state = attributes(node["content"])
        count, depth = natural(state["node_count"]), natural(state["max_depth"])
        shape, survey = self._table(state["nodes"])
        values = _header(self._member(state["values"]))[0]
        told = _header(self._member(classes))[0]
        return Tree(natural(features), told, natural(outputs), count, depth, shape, values, survey)

    def _predictor(self, node: _Node) -> tuple[Survey | None, Doubt | None]:
        """What the nodes of a `TreePredictor` hold, and what is held against it."""
        if id(node) not in self._surveys:
            try:
                state = attributes(node["content"])
                survey = self._table(state["nodes"])[1]
                sets = [_header(self._member(state[name])) for name in _SETS]
                doubt = predictor_doubt(survey, [shape for shape, _, _ in sets])
                if state.keys() != {"nodes", *_SETS} or any(dtype.str != "<u4" for _, dtype, _ in sets):
                    doubt = doubt or Doubt("a tree without its nodes and categories", unsafe=False)
                self._surveys[id(node)] = survey, doubt
            except _UNLIKE_A_TREE as error:
                self._surveys[id(node)] = None, Doubt(f"a tree that cannot be checked: {error}", unsafe=False)
        return self._surveys[id(node)]

    def _table(self, node: object) -> tuple[tuple[int, ...], Survey | None]:
        """Shape of a table of nodes, and what is in it."""
        content = self._member(node)
        self._unpack(content.size)
        shape, dtype, start = _header(content)
        fields = [Field(name, dtype[name].str[1:], dtype[name].str[0], dtype.fields[name][1])
                  for name in dtype.names or () if dtype.fields is not None]  # fmt: skip
        return shape, node_tables.survey(tuple(fields), dtype.itemsize, shape, _pieces(content, start))

    def _member(self, node: object) -> Content:
        """The member of an array of numbers, which nothing else is made of: a text, say, which is of size 1.

        Raises:
            ValueError: It is another node.
        """
        if not _is_node(node, "NdArrayNode") or node.get("type") != "numpy" or _full(node) != _ARRAY:
            raise ValueError("no array of numbers")
        return self._content(node["file"])


def _is_node(value: object, *loaders: str) -> TypeGuard[_Node]:
    return isinstance(value, dict) and value.get("__loader__") in loaders


def _called(function: object) -> str:
    """The function of a node, if loaders of all protocols agree on it."""
    if not _is_node(function, "FunctionNode"):
        return ""
    module, name, older = (function.get(key) for key in ("__module__", "__class__", "content"))
    agreed = older is None or older == {"module_path": module, "function": name}
    return f"{module}.{name}" if agreed else ""


def _full(node: _Node) -> str:
    """The module and name of its class."""
    return f"{node.get('__module__')}.{node.get('__class__')}"


def _stands_for_method(attribute: str, node: object) -> bool:
    """Whether what an attribute holds may be called where nothing but a method is expected."""
    if _is_node(node, *_NAMED):
        return name_stands_for_method(attribute)
    return _is_node(node, *_OBJECTS) and stands_for_method(attribute, _full(node))


def _state(node: _Node) -> _Node:
    """Attributes of an object, whose form is judged elsewhere; none where it keeps them otherwise."""
    content = node.get("content")
    state = content.get("content") if isinstance(content, dict) else None
    return state if isinstance(state, dict) else {}


def _header(content: Content) -> tuple[tuple[int, ...], np.dtype[Any], int]:
    """Shape, dtype and place of the data of an array.

    Raises:
        ValueError, SyntaxError, TokenError: It is none that skops writes.
    """
    stream = io.BytesIO(content.head(_HEADER))
    version = np.lib.format.read_magic(stream)
    if version not in {(1, 0), (2, 0)}:
        raise ValueError("another version of the array format")
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, order, dtype = read(stream)
    if (order and len(shape) > 1) or dtype.hasobject:
        raise ValueError("an array of another kind")
    return shape, dtype, stream.tell()


def _pieces(content: Content, start: int) -> Iterator[bytes]:
    for place in range(start, content.size, _CHUNK):
        yield content.read(place, min(_CHUNK, content.size - place))
