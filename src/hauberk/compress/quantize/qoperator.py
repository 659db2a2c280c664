"""Turns QDQ into operators that compute on codes themselves (the "QOperator" form).

Where QDQ says "decode, compute, code" and leaves it to the runtime to see an integer kernel in that, here the kernel is
named: QLinearConv and QLinearMatMul of the ONNX standard; QGemm, MatMulIntegerToFloat, QLinearAdd, QLinearMul,
QLinearConcat, QLinearSigmoid, QLinearLeakyRelu and the QLinear pools of ONNX Runtime's domain `com.microsoft`. What
moves values moves codes, and a Relu or Clip between the same codes is a Clip of codes. Any other operator stays between
decoding and coding, though it might take integers: the magnitude of a code is not the code of a magnitude.

The file holds fewer nodes and loads faster, needs no optimisation at load, and runs on ONNX Runtime only. Results are
those of the fused QDQ graph.
"""

from __future__ import annotations

from collections import Counter

import numpy as np
import onnx
from onnx import helper, numpy_helper

from hauberk.compress.quantize.codes import Affine
from hauberk.compress.quantize.cuts import ACTIVATIONS, cut_of
from hauberk.compress.quantize.layers import Constants
from hauberk.compress.quantize.plan import moves_values

_DOMAIN = "com.microsoft"

_SAME_ARITY = {
    "AveragePool": "QLinearAveragePool",
    "GlobalAveragePool": "QLinearGlobalAveragePool",
    "LeakyRelu": "QLinearLeakyRelu",
    "Sigmoid": "QLinearSigmoid",
}
_BINARY = {"Add": "QLinearAdd", "Mul": "QLinearMul"}


def to_qoperator(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same computation with integer operators.

    Args:
        model: A graph as `qdq.write` returns it, with `leave_out_activations`; it is left alone.

    Returns:
        The graph; nodes that have no integer operator still read decoded tensors.
    """
    written = onnx.ModelProto()
    written.CopyFrom(model)
    _Translation(written.graph).translate()
    if any(node.domain == _DOMAIN for node in written.graph.node):
        domains = {entry.domain for entry in written.opset_import}
        if _DOMAIN not in domains:
            written.opset_import.append(helper.make_opsetid(_DOMAIN, 1))
    return written


class _Translation:
    """One graph on its way from QDQ to integer operators."""

    def __init__(self, graph: onnx.GraphProto) -> None:
        self._graph = graph
        self._coded = {node.output[0]: list(node.input) for node in graph.node if node.op_type == "DequantizeLinear"}
        self._quantizer = {node.input[0]: node for node in graph.node if node.op_type == "QuantizeLinear"}
        self._uses = Counter(name for node in graph.node for name in node.input)
        self._uses.update(value.name for value in graph.output)
        self._adders = {name: node for node in graph.node if node.op_type == "Add" for name in node.input}
        self._constants = Constants(graph)
        self._sizes = {t.name: tuple(t.dims) for t in graph.initializer}
        self._floats = {t.name for t in graph.initializer if t.data_type == onnx.TensorProto.FLOAT}

    def translate(self) -> None:
        nodes: list[onnx.NodeProto] = []
        replaced: set[str] = set()
        for node in self._graph.node:
            if node.op_type in ("Add", "QuantizeLinear") and node.output[0] in replaced:
                continue
            integer = self._integer(node)
            if integer is not None:
                replaced.update(integer.output)
            nodes.append(integer or node)
        del self._graph.node[:]
        self._graph.node.extend(nodes)

    def _integer(self, node: onnx.NodeProto) -> onnx.NodeProto | None:
        """The integer operator that stands for a node; `None` where there is none."""
        if node.op_type in ("QuantizeLinear", "DequantizeLinear", "Shape") or not node.input:
            return None
        target = self._target(node)
        if node.op_type in ("Gemm", "MatMul") and all(name in self._coded for name in node.input):
            return self._product(node, target)
        if target is None or node.input[0] not in self._coded:
            return None
        return self._on_codes(node, target[0], list(target[1:]))

    def _on_codes(self, node: onnx.NodeProto, codes: str, coded: list[str]) -> onnx.NodeProto | None:
        """The same for a node whose result is codes: their name, then their scale and zero point."""
        parts = [self._coded.get(name, []) for name in node.input]
        if node.op_type == "Conv" and all(parts):
            bias = [parts[2][0]] if len(parts) > 2 else []
            return _node("QLinearConv", [*parts[0], *parts[1], *coded, *bias], codes, node)
        if node.op_type == "Concat" and all(parts):
            return _node("QLinearConcat", coded + [name for part in parts for name in part], codes, node)
        if node.op_type in _BINARY and all(parts):
            return _node(_BINARY[node.op_type], [*parts[0], *parts[1], *coded], codes, node)
        if node.op_type in _SAME_ARITY:
            return _node(_SAME_ARITY[node.op_type], [*parts[0], *coded], codes, node)
        return self._among_codes(node, parts[0], codes) if parts[0][1:] == coded and len(node.output) == 1 else None

    def _among_codes(self, node: onnx.NodeProto, part: list[str], codes: str) -> onnx.NodeProto | None:
        """The same for a node whose input and result have the same codes: it moves values, or cuts them."""
        if node.op_type in ACTIVATIONS:
            return self._cut(node, part, codes)
        if not moves_values(node):
            return None
        moved = onnx.NodeProto()
        moved.CopyFrom(node)
        moved.input[0], moved.output[0] = part[0], codes
        return moved

    def _cut(self, node: onnx.NodeProto, part: list[str], codes: str) -> onnx.NodeProto | None:
        """The Clip of codes that stands for a Relu or Clip between the same codes."""
        scale, zero_point = (self._constants.array(name) for name in part[1:])
        integer = np.int8 if zero_point.dtype == np.int8 else np.uint8
        cut = cut_of(node, Affine(np.float32(scale.item()), integer(zero_point.item())), self._constants)
        if cut is None:
            return None
        operands = [part[0]]
        for name, end in zip((f"{codes}/floor", f"{codes}/ceiling"), cut, strict=True):
            operands.append("" if end is None else name)
            if end is not None:
                self._graph.initializer.append(numpy_helper.from_array(np.array(end, integer), name))
        made: onnx.NodeProto = helper.make_node("Clip", operands, [codes])
        return made

    def _target(self, node: onnx.NodeProto) -> tuple[str, str, str] | None:
        """Codes, scale and zero point that a node's only output becomes at once and nothing else."""
        name = node.output[0]
        quantizer = self._quantizer.get(name)
        if quantizer is None or self._uses[name] != 1:
            return None
        return quantizer.output[0], quantizer.input[1], quantizer.input[2]

    def _product(self, node: onnx.NodeProto, target: tuple[str, str, str] | None) -> onnx.NodeProto | None:
        left, right = (self._coded[name] for name in node.input[:2])
        result, coded = (target[0], list(target[1:])) if target else (node.output[0], [])
        if node.op_type == "Gemm":
            bias = self._coded[node.input[2]][0] if len(node.input) > 2 else ""
            return _node("QGemm", [*left, *right, bias, *coded], result)
        if coded:
            return _node("QLinearMatMul", [*left, *right, *coded], result)
        operands = [left[0], right[0], left[1], right[1], left[2], right[2]]
        adder = self._adders.get(result) if self._uses[result] == 1 else None
        columns = self._sizes.get(right[0], ())[-1:]  # a vector of another length is broadcast, which is no bias
        biases = [name for name in adder.input if self._is_bias(name, columns)] if adder is not None else []
        if adder is None or not biases:
            return _node("MatMulIntegerToFloat", operands, result)
        return _node("MatMulIntegerToFloat", [*operands, biases[0]], adder.output[0])

    def _is_bias(self, name: str, columns: tuple[int, ...]) -> bool:
        return name in self._floats and self._sizes[name] == columns


def _node(operator: str, operands: list[str], result: str, original: onnx.NodeProto | None = None) -> onnx.NodeProto:
    """An integer operator with the attributes of the node that it replaces."""
    standard = operator in ("QLinearConv", "QLinearMatMul")
    made: onnx.NodeProto = helper.make_node(operator, operands, [result], domain="" if standard else _DOMAIN)
    if original is not None:
        made.attribute.extend(original.attribute)
    return made
