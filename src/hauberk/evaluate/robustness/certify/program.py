"""Reads a graph for certification: what depends on the record, and how; everything else is a constant."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor

from hauberk.artifact import OnnxArtifact
from hauberk.errors import InputError, one_line
from hauberk.evaluate.robustness.certify.affine import AFFINE, MOVES, Site, read_affine
from hauberk.evaluate.robustness.certify.curves import Interval
from hauberk.evaluate.robustness.certify.functions import CURVES, Operands, cannot
from hauberk.evaluate.robustness.certify.maxima import MAXIMA
from hauberk.evaluate.robustness.certify.operations import Affine, Elementwise, Operation
from hauberk.graph.flat import element_types, flattened
from hauberk.graph.model import record_shape
from hauberk.graph.twin.module import OPERATORS
from hauberk.graph.twin.node import Node

_STANDARD = ("", "ai.onnx")
_TRIED = (3, 5)
"""Numbers of records that a graph is tried with: what mixes records shows in its shapes."""


class Call(NamedTuple):
    """An operation with the names of the tensors that depend on the record, in and out."""

    operation: Operation
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


@dataclass(frozen=True)
class Program:
    """A graph as a sequence of operations on one record.

    Attributes:
        shape: Of one record.
        input: Name of the features.
        output: Name of the logits.
        outputs: K, the number of logits.
        calls: In topological order; only what depends on the features and leads to the logits.
        curved: Whether each tensor, by name, lies behind something that is not affine.
        private: Names of the tensors that one node alone reads.
    """

    shape: tuple[int, ...]
    input: str
    output: str
    outputs: int
    calls: tuple[Call, ...]
    curved: Mapping[str, bool]
    private: frozenset[str]


class _Call(NamedTuple):
    """A node that computes constants, if only for a given number of records."""

    node: Node
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


class _Constants:
    """What does not depend on the record, computed in the graph's own precision as a runtime folds it.

    Shapes depend on the number of records, and so does what is computed from them; it is computed anew for each number.
    """

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        self._native = dict(tensors)
        self._doubles = {name: _doubled(tensor) for name, tensor in tensors.items()}
        self._shaped: list[_Call] = []
        self._shapes: dict[str, tuple[int, ...]] = {}
        self._found: dict[int, dict[str, Tensor]] = {}

    def __contains__(self, name: str) -> bool:
        return name in self._native or any(name in call.outputs for call in self._shaped)

    def learn(self, name: str, shape: tuple[int, ...]) -> None:
        """Take note of the shape that a tensor has for one record."""
        self._shapes[name] = shape

    def add(self, call: _Call) -> None:
        """Take in a node of constants, or one that asks for a shape."""
        if all(not name or name in self._native for name in call.inputs):
            for name, value in self._run(call, self._native).items():
                self._native[name], self._doubles[name] = value, _doubled(value)
        else:
            self._shaped.append(call)

    def at(self, records: int) -> Mapping[str, Tensor]:
        """All of them for so many records; floats in float64."""
        if not self._shaped:
            return self._doubles
        if records not in self._found:
            values = dict(self._native)
            for call in self._shaped:
                asked = [name for name in call.inputs if name in self._shapes]
                values |= {name: torch.empty(records, *self._shapes[name], device="meta") for name in asked}
                values |= self._run(call, values)
            shaped = {name for call in self._shaped for name in call.outputs}
            self._found[records] = self._doubles | {name: _doubled(values[name]) for name in shaped if name}
        return self._found[records]

    @staticmethod
    def _run(call: _Call, values: Mapping[str, Tensor]) -> dict[str, Tensor]:
        if call.node.operator not in OPERATORS:
            raise cannot(call.node)
        result = OPERATORS[call.node.operator](call.node, *(values[name] if name else None for name in call.inputs))
        results = result if isinstance(result, tuple) else (result,)
        return dict(zip(call.outputs, results, strict=False))


def read_program(artifact: OnnxArtifact) -> Program:
    """Read a core: features float32 [batch, *shape] to logits float32 [batch, K].

    Raises:
        InputError: It is no core, or has an operator that cannot be certified; the message names operator and node.
    """
    shape = record_shape(artifact.signature, "certify")
    proto = flattened(artifact, "cannot certify")
    reader = _Reader(proto, shape)
    for node in proto.graph.node:
        reader.read(node)
    output = proto.graph.output[0].name
    if output not in reader.shapes or len(reader.shapes[output]) != 1:
        raise InputError(f"cannot certify: the output {output!r} is not logits [batch, K] that depend on the features")
    needed, calls = {output}, []
    for call in reversed(reader.calls):
        if needed.intersection(call.outputs):
            needed.update(call.inputs)
            calls.append(call)
    readers = Counter(name for call in calls for name in call.inputs)
    return Program(
        shape=shape,
        input=proto.graph.input[0].name,
        output=output,
        outputs=reader.shapes[output][0],
        calls=tuple(reversed(calls)),
        curved=reader.curved,
        private=frozenset(name for name, times in readers.items() if times == 1 and name != output),
    )


class _Reader:
    """Reads node after node, and tries each on a few records as soon as it is read."""

    def __init__(self, proto: onnx.ModelProto, shape: tuple[int, ...]) -> None:
        self._types = element_types(proto, "cannot certify")
        self._input = proto.graph.input[0].name
        tensors = {tensor.name: _tensor(numpy_helper.to_array(tensor)) for tensor in proto.graph.initializer}
        self._constants = _Constants(tensors)
        self._constants.learn(self._input, shape)
        self.shapes: dict[str, tuple[int, ...]] = {self._input: shape}
        self.curved: dict[str, bool] = {self._input: False}
        self.calls: list[Call] = []
        self._alone = {self._input}

    def read(self, proto: onnx.NodeProto) -> None:
        node, inputs = _node(proto, self._types), tuple(proto.input)
        outputs = tuple(name for name in proto.output if name)
        varies = tuple(name in self.shapes for name in inputs)
        if not any(varies) or node.operator in ("Shape", "Size"):
            self._constants.add(_Call(node, inputs, tuple(proto.output)))
            return
        moving = tuple(name for name, moves in zip(inputs, varies, strict=True) if moves)
        flat = self._alone.issuperset(moving)
        operation = self._operation(node, inputs, varies, flat=flat)
        self.calls.append(Call(operation, moving, outputs))
        self._try(node, operation, moving, outputs)
        bends = not isinstance(operation, Affine) or any(self.curved[name] for name in moving)
        self.curved |= dict.fromkeys(outputs, bends)
        if flat and (node.operator in MOVES or isinstance(operation, Elementwise)):
            self._alone.update(outputs)

    def _operation(self, node: Node, inputs: tuple[str, ...], varies: tuple[bool, ...], *, flat: bool) -> Operation:
        kind = "Identity" if _is_float_cast(node) else node.operator
        node = replace(node, operator=kind)

        def constants(records: int) -> tuple[Tensor | None, ...]:
            values = self._constants.at(records)
            return tuple(values.get(name) if name else None for name in inputs)

        shapes = tuple(self.shapes[name] for name, moves in zip(inputs, varies, strict=True) if moves)
        if kind in AFFINE:
            return read_affine(Site(node, varies, shapes, constants))
        others = constants(1)[1:]
        if kind in ("Max", "Min") and not varies[0]:  # which do not care for the order of their inputs
            place = varies.index(True)
            others = tuple(value for at, value in enumerate(constants(1)) if at != place)
        if kind not in CURVES and kind not in MAXIMA:
            raise cannot(node)
        if sum(varies) > 1 or (kind not in ("Max", "Min") and not varies[0]):
            raise cannot(node, "of more than one tensor that depends on the record, or of one in that place")
        if kind in MAXIMA:
            return MAXIMA[kind](node, others)
        example = torch.empty(1, *shapes[0], device="meta")
        return Elementwise(CURVES[kind](Operands(node, others, example)), flat=flat)

    def _try(self, node: Node, operation: Operation, moving: Sequence[str], outputs: Sequence[str]) -> None:
        """Learn the shapes of the outputs, and see that records stay apart."""
        found = []
        for records in _TRIED:
            zeros = (torch.zeros(records, *self.shapes[name], dtype=torch.float64) for name in moving)
            try:
                intervals = operation.enclose(*(Interval(zero, zero) for zero in zeros)).outputs
            except RuntimeError as error:  # torch's own, about shapes that do not fit
                raise cannot(node, f"here: {one_line(error)}") from error
            found.append([tuple(interval.low.shape) for interval in intervals])
        for name, first, second in zip(outputs, *found, strict=False):
            if (first[:1], second[:1]) != tuple((records,) for records in _TRIED) or first[1:] != second[1:]:
                raise cannot(node, "where it mixes records of a batch")
            self.shapes[name] = first[1:]
            self._constants.learn(name, first[1:])


def _node(proto: onnx.NodeProto, types: Mapping[str, int]) -> Node:
    return Node(
        operator=proto.op_type if proto.domain in _STANDARD else f"{proto.domain}:{proto.op_type}",
        name=proto.name or proto.output[0],
        attributes={attribute.name: _attribute(attribute) for attribute in proto.attribute},
        input_types=tuple(types.get(name, 0) for name in proto.input),
        output_types=tuple(types.get(name, 0) for name in proto.output),
        on_input=False,
    )


def _attribute(proto: onnx.AttributeProto) -> Any:
    value = helper.get_attribute_value(proto)
    if isinstance(value, bytes):
        return value.decode()
    return _tensor(numpy_helper.to_array(value)) if isinstance(value, TensorProto) else value


def _is_float_cast(node: Node) -> bool:
    """Whether a node casts float32 to itself."""
    target = node.get("to", 0) if node.operator == "Cast" else 0
    return bool(target == TensorProto.FLOAT == node.input_types[0])


def _tensor(array: NDArray[np.generic]) -> Tensor:
    """An array as a tensor of a dtype that torch computes with."""
    name = array.dtype.name
    if name in ("float16", "bfloat16"):
        array = array.astype(np.float32)
    elif name in ("int4", "uint4"):
        array = array.astype(np.int8)
    elif name in ("uint16", "uint32", "uint64"):
        array = array.astype(np.int64)
    try:
        return torch.from_numpy(np.array(array))
    except TypeError as error:
        raise InputError(f"cannot certify: tensors of {name} are not supported") from error


def _doubled(tensor: Tensor) -> Tensor:
    return tensor.to(torch.float64) if tensor.is_floating_point() else tensor
