"""`Twin`: reads a graph once, then runs it in torch, node by node."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

from hauberk.artifact import OnnxArtifact
from hauberk.errors import InputError
from hauberk.graph.flat import element_types, flattened
from hauberk.graph.twin import (
    convolution,
    elementwise,
    indexing,
    integer,
    linear,
    normalization,
    pooling,
    quantization,
    recurrent,
    reduction,
    resize,
    shape,
)
from hauberk.graph.twin.coded import Code, find_codes
from hauberk.graph.twin.node import Node, Operator

OPERATORS: dict[str, Operator] = {
    **convolution.OPERATORS,
    **elementwise.OPERATORS,
    **indexing.OPERATORS,
    **integer.OPERATORS,
    **linear.OPERATORS,
    **normalization.OPERATORS,
    **pooling.OPERATORS,
    **quantization.OPERATORS,
    **recurrent.OPERATORS,
    **reduction.OPERATORS,
    **resize.OPERATORS,
    **shape.OPERATORS,
}
"""Every operator that the twin knows, by ONNX name."""

_STANDARD = ("", "ai.onnx")

# Inputs that are constants of a layer and not weights of it, by operator and position.
_NOT_WEIGHTS = {
    "QuantizeLinear": (1, 2),
    "DequantizeLinear": (1, 2),
    "BatchNormalization": (3, 4),
    "Clip": (1, 2),
    "Resize": (1, 2),
    "Pad": (2,),
    "QLinearConv": (1, 4, 6),
    "QLinearMatMul": (1, 4, 6),
    "QGemm": (1, 4, 7),
    "DynamicQuantizeMatMul": (2,),
    "MatMulIntegerToFloat": (2, 3),
}


class _Call(NamedTuple):
    function: Operator
    node: Node
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    spent: tuple[str, ...]
    """Tensors that nobody needs after this call; a long graph must not keep every one of them alive."""


class Twin(nn.Module):
    """An ONNX graph as a differentiable torch module: the same numbers as ONNX Runtime, with gradients.

    Float tensors of one dimension or more that a layer holds are `nn.Parameter`s, one each however many nodes share it;
    so are weights that the graph holds as codes behind DequantizeLinear, as the floats that they stand for (see
    `hauberk.graph.twin.coded`). Single numbers, scales and zero points, running means and other integers are buffers.
    Parameters and buffers carry the tensors' names with `.` as `/`. Tensors in half precision are held in float32;
    where the graph casts to half, values are rounded to it. Rounding is passed straight through (see
    `hauberk.graph.twin.quantization`).

    Args:
        artifact: One float input and one output; the core of a detector, quantized or not.

    Attributes:
        on_tensor: Functions by the name of a tensor in the graph, whether input, weight or result of a node. Each is
            given its tensor as soon as there is one and returns what the graph goes on with, of the same shape: fake
            quantization, masks, statistics. Empty at first. Functions that are modules are not submodules of the twin.
            That of a weight held as codes is given the codes, as floats.

    Raises:
        InputError: The graph has other inputs or outputs, is older than opset 13, or has an operator that the twin does
            not know; the message names operator and node.
    """

    on_tensor: dict[str, Callable[[Tensor], Tensor]]

    def __init__(self, artifact: OnnxArtifact) -> None:
        super().__init__()
        self._artifact = artifact
        self.on_tensor = {}
        proto = flattened(artifact, "twin")
        self._input, self._output = proto.graph.input[0].name, proto.graph.output[0].name
        self._calls = _calls(proto)
        self._names: dict[str, str] = {}
        constants = _constants_of_layers(proto.graph)
        for tensor in proto.graph.initializer:
            self._hold(tensor.name, _to_torch(numpy_helper.to_array(tensor)), weight=tensor.name not in constants)
        self._codes = find_codes(proto.graph)
        for name, code in self._codes.items():
            weight = code.decode(self.tensor(name), *self._scale_and_zero(code))
            delattr(self, self._names.pop(name))
            self._hold(name, weight, weight=True)

    def forward(self, features: Tensor) -> Tensor:
        """Logits float32 [N, K] of features float32 [N, *shape]."""
        return self._run(features, (self._output,))[self._output]

    def capture(self, features: Tensor, names: Iterable[str]) -> dict[str, Tensor]:
        """Tensors of the graph on the way from features to logits, with gradients.

        Args:
            features: Float32 [N, *shape].
            names: Names of tensors in the graph: its input, weights, results of nodes, the output ("logits") itself.

        Returns:
            By name, as they are after the function that `on_tensor` has for them.

        Raises:
            InputError: The graph has no tensor of that name.
        """
        wanted = tuple(names)
        known = {self._input, *self._names}.union(*(call.outputs for call in self._calls))
        for name in wanted:
            if not name or name not in known:
                raise InputError(f"twin: the graph has no tensor {name!r}")
        return self._run(features, wanted)

    def settle(self, names: Iterable[str]) -> None:
        """Hold from now on what the functions of `on_tensor` make of constants, and drop these functions.

        Args:
            names: Of weights, scales and other constants of the graph; those without a function may be among them.

        Raises:
            KeyError: The graph holds no such tensor.
        """
        with torch.no_grad():
            constants = self._constants()
            for name in list(names):
                value, code = constants[name], self._codes.get(name)
                if code is not None:
                    value = code.decode(
                        value, constants[code.scale], constants[code.zero_point] if code.zero_point else None
                    )
                self.tensor(name).copy_(value)
                self.on_tensor.pop(name, None)

    def to_artifact(self) -> OnnxArtifact:
        """The graph with the present values of parameters and buffers; signature, origin and history stay.

        Names and element types are those of the original: what the file holds in half precision is rounded to it again.
        Untouched tensors keep their bytes.

        Raises:
            InputError: A parameter was given another shape.
        """
        proto = flattened(self._artifact, "twin")
        originals = {tensor.name: _to_torch(numpy_helper.to_array(tensor)) for tensor in proto.graph.initializer}
        for tensor in proto.graph.initializer:
            original = numpy_helper.to_array(tensor)
            held = self._written(tensor.name, originals).detach().cpu()
            if tuple(held.shape) != original.shape:
                got, needed = list(held.shape), list(original.shape)
                raise InputError(f"twin: {tensor.name!r} is now of shape {got}; the graph has {needed}")
            if not torch.equal(held, originals[tensor.name]):
                tensor.CopyFrom(numpy_helper.from_array(held.numpy().astype(original.dtype), tensor.name))
        return replace(self._artifact, model=proto.SerializeToString(deterministic=True))

    def _written(self, name: str, originals: Mapping[str, Tensor]) -> Tensor:
        """A tensor as the graph is to hold it: as codes where it has some, the same ones where nothing has changed."""
        held, code = self.tensor(name), self._codes.get(name)
        if code is None:
            return held
        scale, zero_point = self._scale_and_zero(code)
        zero = originals[code.zero_point] if code.zero_point else None
        before = code.decode(originals[name], originals[code.scale], zero).to(held.device)
        if torch.equal(held, before) and torch.equal(scale.cpu(), originals[code.scale]):
            return originals[name]
        with torch.no_grad():
            return code.encode(held, scale, zero_point)

    def _scale_and_zero(self, code: Code) -> tuple[Tensor, Tensor | None]:
        return self.tensor(code.scale), self.tensor(code.zero_point) if code.zero_point else None

    def _constants(self) -> dict[str, Tensor]:
        """Everything that the graph holds, as its nodes are given it."""
        hooks = self.on_tensor
        values: dict[str, Tensor] = {name: getattr(self, held) for name, held in self._names.items()}
        for name in hooks.keys() & values.keys() - self._codes.keys():
            values[name] = hooks[name](values[name])
        for name, code in self._codes.items():
            zero_point = values[code.zero_point] if code.zero_point else None
            codes = code.encode(values[name], values[code.scale], zero_point)
            values[name] = hooks[name](codes) if name in hooks else codes
        return values

    def _run(self, features: Tensor, wanted: tuple[str, ...]) -> dict[str, Tensor]:
        """Run every node; keep the tensors that are wanted."""
        hooks = self.on_tensor
        values: dict[str, Tensor | None] = {**self._constants(), "": None}
        values[self._input] = _hooked(hooks[self._input], features) if self._input in hooks else features
        kept = {name: values[name] for name in wanted if name in values}
        for function, node, inputs, outputs, spent in self._calls:
            result = function(node, *(values[name] for name in inputs))
            results = result if isinstance(result, tuple) else (result,)
            if len(results) < len(outputs):
                raise node.unsupported(f"the output {outputs[len(results)]!r}")
            for name, value in zip(outputs, results, strict=False):  # optional outputs that nobody asked for
                if not name:
                    continue  # "" stands for what is not there, as an input too
                values[name] = _hooked(hooks[name], value) if name in hooks else value
                if name in wanted:
                    kept[name] = values[name]
            for name in spent:
                values.pop(name, None)
        return {name: value for name, value in kept.items() if value is not None}

    def tensor(self, name: str) -> Tensor:
        """The parameter or buffer that holds the tensor of that name in the graph.

        Raises:
            KeyError: The graph holds no such tensor.
        """
        held: Tensor = getattr(self, self._names[name])
        return held

    def _hold(self, name: str, tensor: Tensor, *, weight: bool) -> None:
        """Keep a constant of the graph as a parameter or as a buffer."""
        held = name.replace(".", "/") or "/"
        while held in self._names.values() or hasattr(self, held):
            held += "/"
        self._names[name] = held
        if weight and tensor.is_floating_point() and tensor.dim():
            self.register_parameter(held, nn.Parameter(tensor))
        else:
            self.register_buffer(held, tensor)


def _hooked(function: Callable[[Tensor], Tensor], value: Tensor | None) -> Tensor | None:
    """What a function of `on_tensor` makes of a tensor that is there."""
    return None if value is None else function(value)


def _calls(proto: onnx.ModelProto) -> tuple[_Call, ...]:
    """The nodes in order, each with the tensors that it is the last to use."""
    types = element_types(proto, "twin")
    graph = proto.graph
    last = {name: number for number, node in enumerate(graph.node) for name in (*node.output, *node.input)}
    spent: dict[int, list[str]] = {}
    for name, number in last.items():
        if name:
            spent.setdefault(number, []).append(name)
    return tuple(
        _call(node, types, graph.input[0].name, tuple(spent.get(number, ()))) for number, node in enumerate(graph.node)
    )


def _call(proto: onnx.NodeProto, types: dict[str, int], graph_input: str, spent: tuple[str, ...]) -> _Call:
    """A node with the function that runs it."""
    operator = proto.op_type if proto.domain in _STANDARD else f"{proto.domain}:{proto.op_type}"
    name = proto.name or (proto.output[0] if proto.output else "")
    if operator not in OPERATORS:
        raise InputError(f"twin: operator {operator} (node {name!r}) is not supported")
    node = Node(
        operator=operator,
        name=name,
        attributes={attribute.name: _attribute(attribute) for attribute in proto.attribute},
        input_types=tuple(types.get(tensor, 0) for tensor in proto.input),
        output_types=tuple(types.get(tensor, 0) for tensor in proto.output),
        on_input=bool(proto.input) and proto.input[0] == graph_input,
    )
    outputs = list(proto.output)
    while outputs and not outputs[-1]:
        outputs.pop()
    return _Call(OPERATORS[operator], node, tuple(proto.input), tuple(outputs), spent)


def _attribute(proto: onnx.AttributeProto) -> Any:
    value = helper.get_attribute_value(proto)
    if isinstance(value, bytes):
        return value.decode()
    if isinstance(value, list) and value and isinstance(value[0], bytes):
        return [text.decode() for text in value]
    return _to_torch(numpy_helper.to_array(value)) if isinstance(value, TensorProto) else value


def _constants_of_layers(graph: onnx.GraphProto) -> set[str]:
    """Names of tensors that are not for training although they are floats."""

    def found() -> Iterator[str]:
        for node in graph.node:
            for position in _NOT_WEIGHTS.get(node.op_type, ()):
                if position < len(node.input):
                    yield node.input[position]

    return set(found())


def _to_torch(array: NDArray[np.generic]) -> Tensor:
    """An array as a tensor of a dtype that torch computes with; half precision becomes float32, small integers int8."""
    name = array.dtype.name
    if name in ("float16", "bfloat16"):
        array = array.astype(np.float32)
    elif name in ("int4", "uint4"):
        array = array.astype(np.int8)
    elif name in ("uint16", "uint32", "uint64"):
        array = array.astype(np.int64)
    try:
        return torch.from_numpy(np.array(array))  # a copy: parameters must not share memory with the file
    except TypeError as error:
        raise InputError(f"twin: tensors of {name} are not supported") from error
