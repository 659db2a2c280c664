"""An ONNX file as `Model`: everything that has a meaning is read, data of weights are left where they lie."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from hauberk.protobuf import Source
from hauberk.scan.content import Content
from hauberk.scan.examination import Examination, StopScan
from hauberk.scan.graphs import definition, rules
from hauberk.scan.graphs.model import (
    MOST_VALUES,
    Attribute,
    Declared,
    Function,
    Graph,
    Model,
    Node,
    Numbers,
)
from hauberk.scan.graphs.tensors import read_sparse, read_tensor
from hauberk.scan.graphs.wire import Packed, Reader, Run, Stretch, Table, integer, pieces, varints
from hauberk.scan.report import shown

MOST_NODES = 100_000
DEEPEST = 16
_LONGEST_TEXT = 1 << 16
_MOST_KINDS = 1 << 22
"""Nodes of a tree whose kinds, a byte each in a tensor of an attribute, are kept."""


def read_model(content: Content, examination: Examination) -> Model:
    """Read a whole model.

    Args:
        content: The file.
        examination: Told what is wrong with its parts.

    Raises:
        RefusedModelError: It is no model, or a damaged one.
        AmbiguousMessageError: Readers differ on it.
        StopScan: It holds more than is followed; the examination has been told.
    """
    return _Models(Reader(examination)).model(Stretch(content, 0, content.size))


class _Models:
    """One method a message."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._examination = reader.examination
        self._nodes = 0

    def model(self, message: Source) -> Model:
        model = Model()
        for name, value, at in self._reader.fields(message, definition.MODEL, 0):
            match name:
                case "ir_version":
                    model.version = value
                case "producer_name":
                    model.producer = shown(bytes(value[0 : min(200, len(value))]), 40)
                case "graph":
                    model.graph = self.graph(value, at, 0)
                case "opset_import":
                    self._opset(value, at, model.opsets)
                case "metadata_props":
                    model.metadata.append(self._key(value, at))
                case "training_info":
                    model.training += self._training(value, at)
                case "functions":
                    model.functions.append(self.function(value, at))
        return model

    def graph(self, message: Source, at: int, depth: int) -> Graph:
        if depth > DEEPEST:
            self._examination.find(rules.NESTED, f"graphs more than {DEEPEST} deep", at=at)
            raise StopScan
        graph = Graph(at=at)
        for name, value, place in self._reader.fields(message, definition.GRAPH, at):
            match name:
                case "node":
                    graph.nodes.append(self.node(value, place, depth))
                case "initializer":
                    graph.weights.append(read_tensor(self._reader, value, place))
                case "sparse_initializer":
                    graph.sparse.append(read_sparse(self._reader, value, place))
                case "input":
                    graph.inputs.append(self.declared(value, place))
                case "output":
                    graph.outputs.append(self.declared(value, place))
                case "value_info":
                    self.declared(value, place)  # hints for readers; only that they can be read matters
        return graph

    def node(self, message: Source, at: int, depth: int) -> Node:
        self._nodes += 1
        if self._nodes > MOST_NODES:
            self._examination.find(rules.TOO_LARGE, f"more than {MOST_NODES} nodes", at=at)
            raise StopScan
        node = Node(at=at)
        self._reader.keep(512)
        for name, value, place in self._reader.fields(message, definition.NODE, at):
            match name:
                case "op_type":
                    node.operator = value
                case "domain":
                    node.domain = "" if value == "ai.onnx" else value
                case "input":
                    node.inputs.append(value)
                case "output":
                    node.outputs.append(value)
                case "name" | "overload":
                    setattr(node, name, value)
                case "attribute":
                    self._add(node.attributes, self.attribute(value, place, depth))
        return node

    def function(self, message: Source, at: int) -> Function:
        function = Function(at=at)
        texts = {"input": function.inputs, "output": function.outputs, "attribute": function.attributes}
        for name, value, place in self._reader.fields(message, definition.FUNCTION, at):
            match name:
                case "name" | "overload":
                    setattr(function, name, value)
                case "domain":
                    function.domain = "" if value == "ai.onnx" else value
                case "input" | "output" | "attribute":
                    texts[name].append(value)
                case "attribute_proto":
                    self._add(function.defaults, self.attribute(value, place, 0))
                case "node":
                    function.nodes.append(self.node(value, place, 0))
                case "opset_import":
                    self._opset(value, place, function.opsets)
                case "value_info":
                    self.declared(value, place)
        return function

    def _add(self, attributes: dict[str, Attribute], attribute: Attribute) -> None:
        if attribute.name in attributes:
            what = f"attribute '{shown(attribute.name)}' is given twice"
            self._examination.find(rules.AMBIGUOUS, what, at=attribute.at)
        attributes[attribute.name] = attribute

    def attribute(self, message: Source, at: int, depth: int) -> Attribute:
        attribute, kind = Attribute(at=at), 0
        found: dict[str, Any] = {}
        single: dict[str, Callable[[Source, int], Any]] = {
            "t": lambda value, place: read_tensor(self._reader, value, place, most_bytes=_MOST_KINDS),
            "g": lambda value, place: self.graph(value, place, depth + 1),
            "sparse_tensor": lambda value, place: read_sparse(self._reader, value, place),
            "tp": lambda value, place: self._type(value, place, 0),
            "s": lambda value, _: self._bytes(value),
        }
        many = {"tensors": "t", "graphs": "g", "sparse_tensors": "sparse_tensor", "type_protos": "tp", "strings": "s"}
        for name, value, place in self._reader.fields(message, definition.ATTRIBUTE, at):
            if name in {"name", "ref_attr_name"}:
                setattr(attribute, "name" if name == "name" else "refers", value)
            elif name == "type":
                kind = value
            elif name in {"i", "f"}:
                found[name] = value
            elif name in {"ints", "floats"}:
                self._numbers(found.setdefault(name, Numbers()), value, name, place)
            elif name in single:
                found[name] = single[name](value, place)
            elif name in many:
                found.setdefault(name, []).extend(
                    self._texts(value) if isinstance(value, Run) else [single[many[name]](value, place)]
                )
        self._settle(attribute, kind, found)
        self._reader.keep(256)
        return attribute

    def _settle(self, attribute: Attribute, kind: int, found: dict[str, Any]) -> None:
        """Give an attribute the value that its type says, and report where fields and type disagree."""
        attribute.kind = definition.ATTRIBUTE_FIELDS.get(kind, "") or next(iter(found), "")
        name = f"attribute '{shown(attribute.name)}' of type {kind}"
        if set(found) - {attribute.kind} or (found and attribute.refers):
            self._examination.find(rules.AMBIGUOUS, f"{name} holds {' and '.join(found)}", at=attribute.at)
        if kind not in definition.ATTRIBUTE_FIELDS and not attribute.refers:
            self._examination.find(rules.INVALID, f"{name}, which is none", at=attribute.at)
        attribute.value = found.get(attribute.kind)
        if attribute.value is None and not attribute.refers:
            empty = {"ints": Numbers(), "floats": Numbers(), "strings": [], "i": 0, "f": 0.0, "s": b""}
            attribute.value = empty.get(attribute.kind)

    def _bytes(self, value: Source) -> bytes:
        kept = bytes(value[0 : min(len(value), _LONGEST_TEXT)])
        self._reader.keep(len(kept))
        return kept

    def _texts(self, run: Run) -> list[bytes]:
        texts = [bytes(each) for each in run.entries]
        self._reader.keep(sum(map(len, texts)) + 64 * len(texts))
        return texts

    def _numbers(self, numbers: Numbers, value: Any, name: str, at: int) -> None:
        if isinstance(value, Run) and len(value.entries):
            entries = np.asarray(value.entries)
            numbers.count += len(entries)
            numbers.values += entries[: max(0, MOST_VALUES - len(numbers.values))].tolist()
            numbers.largest = max(numbers.largest, entries.max().item())
            if name == "ints":
                numbers.whole.frombytes(entries.astype(np.int64).tobytes())
                self._reader.keep(8 * len(entries))
            return
        if not isinstance(value, Packed):
            numbers.count += 1
            numbers.largest = max(numbers.largest, value)
            if name == "ints":
                numbers.whole.append(value)
            if numbers.count <= MOST_VALUES:
                numbers.values.append(value)
                self._reader.keep(0)
            return
        source = value.source
        if name == "floats" or len(source) > _LONGEST_TEXT:
            # No exporter packs these; values that nobody needs are counted by their size alone.
            numbers.count += len(source) // 4 if name == "floats" else sum(len(piece) for piece in pieces(source))
            numbers.largest = float("inf")
            return
        values = [integer(each, "int64", at) for each in varints(source)]
        numbers.count += len(values)
        numbers.whole.extend(values)
        numbers.values += values[: MOST_VALUES - len(numbers.values)]
        numbers.largest = max(numbers.largest, *values, 0)

    def declared(self, message: Source, at: int) -> Declared:
        declared, name = Declared(), ""
        for field, value, place in self._reader.fields(message, definition.VALUE_INFO, at):
            if field == "name":
                name = value
            elif field == "type":
                declared = self._type(value, place, 0)
        declared.name = name
        self._reader.keep(128)
        return declared

    def _type(self, message: Source, at: int, depth: int) -> Declared:
        if depth > DEEPEST:
            self._examination.find(rules.NESTED, f"types more than {DEEPEST} deep", at=at)
            raise StopScan
        declared = Declared()
        for name, value, place in self._reader.fields(message, definition.TYPE, at):
            if name in {"tensor_type", "sparse_tensor_type"}:
                declared = self._tensor_type(value, place, name.removesuffix("_type").removesuffix("_tensor"))
            elif name in {"sequence_type", "optional_type"}:
                inner = self._inner(value, place, definition.CONTAINER_TYPE, "elem_type", depth)
                declared = Declared(kind=name.removesuffix("_type"), inner=inner)
            elif name == "map_type":
                inner = self._inner(value, place, definition.MAP_TYPE, "value_type", depth)
                declared = Declared(kind="map", inner=inner)
            elif name == "opaque_type":
                declared = Declared(kind="opaque")
        return declared

    def _inner(self, message: Source, at: int, table: Table, wanted: str, depth: int) -> Declared | None:
        inner = None
        for name, value, place in self._reader.fields(message, table, at):
            if name == wanted:
                inner = self._type(value, place, depth + 1)
        return inner

    def _tensor_type(self, message: Source, at: int, kind: str) -> Declared:
        declared = Declared(kind=kind)
        for name, value, place in self._reader.fields(message, definition.TENSOR_TYPE, at):
            if name == "elem_type":
                declared.element = value
            else:
                declared.dims = tuple(
                    self._dimension(dim, spot) for _, dim, spot in self._reader.fields(value, definition.SHAPE, place)
                )
        return declared

    def _dimension(self, message: Source, at: int) -> int | str:
        size: int | str = ""
        for name, value, _ in self._reader.fields(message, definition.DIMENSION, at):
            if name in {"dim_value", "dim_param"}:
                size = value
        return size

    def _opset(self, message: Source, at: int, opsets: dict[str, int]) -> None:
        domain, version = "", 0
        for name, value, _ in self._reader.fields(message, definition.OPSET_IMPORT, at):
            if name == "domain":
                domain = "" if value == "ai.onnx" else value
            else:
                version = value
        if opsets.setdefault(domain, version) != version:
            what = f"operators of '{shown(domain)}' are imported in versions {opsets[domain]} and {version}"
            self._examination.find(rules.AMBIGUOUS, what, at=at)

    def _key(self, message: Source, at: int) -> str:
        found = ""
        for name, value, _ in self._reader.fields(message, definition.ENTRY, at):
            if name == "key":
                found = value
        return found

    def _training(self, message: Source, at: int) -> list[Graph]:
        found = [
            self.graph(value, place, 0)
            for name, value, place in self._reader.fields(message, definition.TRAINING, at)
            if name in {"initialization", "algorithm"}
        ]
        return found or [Graph(at=at)]
