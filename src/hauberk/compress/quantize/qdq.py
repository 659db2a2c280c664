"""Writes a graph with QuantizeLinear and DequantizeLinear (QDQ) in the form that ONNX Runtime fuses completely.

The one place that does; static quantization and quantization-aware training hand in scales and get the graph back:

    prepare(model)                                layers in plain form
    chosen = plan(model)                          which tensors are coded
    codes = {tensor: Affine(scale, zero_point)}   found by calibration, or learned
    write(model, chosen, codes, weights)

The form, each point of it needed for a complete fusion into QGemm, QLinearConv, QLinearAdd and their like:

    activations  uint8 (or int8), one scale and zero point a tensor, both 0-d: shape [1] crashes QLinearAdd
    weights      int8, zero point 0, one scale an output channel (or one for all, then 0-d)
    bias         int32, scale = activation scale * weight scale, zero point 0
    logits       not coded: the last layer returns float32

A Relu or Clip behind a layer is what the codes behind it do by themselves, where they end where it cuts: it is left
out, by ONNX Runtime or already here. Where they do not (a Concat joins them with those of other tensors, or zero, which
every range holds, lies beyond the cut), codes are made before it as well, and they are the same ones. Nothing is lost
by that, because coding keeps order, `code(min(x, c)) = min(code(x), code(c))`; and the layer computes in integers.

A fused layer computes `q = clip(rint(f32(acc) * f32(sx * sw / sy)) + zy)` with `acc` the exact int32 sum.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from hauberk.compress.quantize.codes import (
    FULL_RANGE,
    Affine,
    encode_bias,
    encode_weight,
    weight_scales,
)
from hauberk.compress.quantize.cuts import ACTIVATIONS, cut_of
from hauberk.compress.quantize.layers import Constants, Layer
from hauberk.compress.quantize.plan import Plan, can_join

OLDEST_OPSET = 13
"""The first opset whose DequantizeLinear takes one scale a channel."""


class WeightCode(NamedTuple):
    """How the weights of a layer are coded.

    Attributes:
        scale: Float32 [channels], or [1] for one scale for all.
        levels: Largest magnitude of a code, 1 to 127.
    """

    scale: NDArray[np.float32]
    levels: int = FULL_RANGE


def weight_codes(
    model: onnx.ModelProto,
    plan: Plan,
    codes: Mapping[str, Affine],
    *,
    levels: int = FULL_RANGE,
    per_channel: bool = True,
) -> dict[str, WeightCode]:
    """Symmetric codes for the weights of every layer of a plan, from their largest magnitudes; by layer.

    Args:
        model: The prepared graph.
        plan: What is coded in it.
        codes: Of the activations, by the first tensor of each group.
        levels: Largest magnitude of a code.
        per_channel: One scale an output channel instead of one a layer.
    """
    constants = Constants(model.graph)
    found = {}
    for layer in plan.layers:
        weight = constants.floats(layer.weight)
        bias = constants.floats(layer.bias)
        if weight is None:
            raise ValueError(f"layer {layer.name!r} is not of this graph")
        scale = codes[plan.groups[layer.data]].scale
        scales = weight_scales(weight, bias, scale, axis=layer.axis, levels=levels, per_channel=per_channel)
        found[layer.name] = WeightCode(scales if per_channel else scales[:1], levels)
    return found


def write(
    model: onnx.ModelProto,
    plan: Plan,
    codes: Mapping[str, Affine],
    weights: Mapping[str, WeightCode],
    *,
    leave_out_activations: bool = False,
) -> onnx.ModelProto:
    """The graph of a plan with its QuantizeLinear and DequantizeLinear nodes.

    Args:
        model: The prepared graph, float32, opset 13 or later; it is left alone.
        plan: What is coded in it.
        codes: How the activations are coded, by the first tensor of each group (`Plan.groups`).
        weights: How the weights are coded, by `Layer.name`.
        leave_out_activations: Leave out every Relu that cuts nothing off but what the codes behind it cannot hold.
            Before int8 codes it is left out anyway, because ONNX Runtime does it before uint8 codes only; and so is a
            Clip of that kind, because versions of ONNX Runtime differ in which of them they leave out.

    Returns:
        The same graph with codes; float constants that nothing takes any more are still in it.
    """
    written = onnx.ModelProto()
    written.CopyFrom(model)
    _Writer(written.graph, plan, codes, weights, leave_out_activations=leave_out_activations).write()
    return written


class _Writer:
    def __init__(
        self,
        graph: onnx.GraphProto,
        plan: Plan,
        codes: Mapping[str, Affine],
        weights: Mapping[str, WeightCode],
        *,
        leave_out_activations: bool,
    ) -> None:
        self._leave_out = leave_out_activations
        self._graph = graph
        self._constants = Constants(graph)
        self._plan = plan
        self._codes = codes
        self._weights = weights
        self._layers = {layer.name: layer for layer in plan.layers}
        self._coded = frozenset(plan.activations)
        self._made_of_codes: set[str] = set()
        self._source_of: dict[str, str] = {}
        self._takers: dict[str, list[onnx.NodeProto]] = {}
        for node in graph.node:
            for name in node.input:
                self._takers.setdefault(name, []).append(node)
        self._outputs = {value.name for value in graph.output}
        self._behind = {node.input[0]: node.output[0] for node in graph.node if node.op_type in ACTIVATIONS}
        self._coded_before = {node.input[0]: node.output[0] for node in graph.node if self._needs_codes_before(node)}
        self._nodes: list[onnx.NodeProto] = []

    def write(self) -> None:
        for value in self._graph.input:
            self._append_codes(value.name)
        for node in list(self._graph.node):
            self._append(node)
            for name in node.output:
                self._append_codes(name)
        del self._graph.node[:]
        self._graph.node.extend(self._nodes)

    def _append(self, node: onnx.NodeProto) -> None:
        """Add a node, with its inputs decoded where it computes on codes or where nothing but codes is made."""
        if self._implied(node):
            self._source_of[node.output[0]] = node.input[0]
            if node.input[0] in self._made_of_codes:
                self._made_of_codes.add(node.output[0])
            return
        layer = self._layers.get(node.output[0])
        on_codes = self._on_codes(node)
        if on_codes or (node.op_type in ACTIVATIONS and node.input[0] in self._made_of_codes):
            self._made_of_codes.update(node.output)
        operands = [self._operand(name, node.op_type, on_codes=on_codes) for name in node.input]
        if layer is None and self._would_be_quantized(node, operands):
            kept = f"{node.output[0]}/float"
            self._nodes.append(helper.make_node("Max", [operands[0]], [kept]))
            operands[0] = kept
        if layer is not None:
            operands[1:] = self._parameters(layer, node.input[2] if len(node.input) > 2 else "")
        rewritten = onnx.NodeProto()
        rewritten.CopyFrom(node)
        del rewritten.input[:]
        rewritten.input.extend(operands)
        self._nodes.append(rewritten)

    def _on_codes(self, node: onnx.NodeProto) -> bool:
        """Whether a node is a layer or joint, or stands between codes."""
        if node.output[0] in self._layers or node.output[0] in self._plan.joints:
            return True
        between = bool(node.input) and node.input[0] in self._coded and any(name in self._coded for name in node.output)
        return between and node.op_type not in ACTIVATIONS

    def _would_be_quantized(self, node: onnx.NodeProto, operands: list[str]) -> bool:
        """Whether ONNX Runtime would quantize what is to stay in float, without a word.

        It does so (1.31, "WeightBiasQuantization") wherever a Gemm or a convolution with constant weights reads decoded
        codes and is coded behind, directly or after a Relu or Clip; and makes of an AveragePool with dilations an
        integer one, which cannot have them. The maximum of one tensor, which is that tensor, hides the decoding.
        """
        layer = node.op_type in ("Conv", "ConvTranspose", "Gemm") and node.input[1] in self._constants
        if not layer and (node.op_type != "AveragePool" or can_join(node)):
            return False
        result = node.output[0]
        coded = result in self._coded or self._behind.get(result, "") in self._coded
        return operands[0].endswith("/decoded") and coded

    def _implied(self, node: onnx.NodeProto) -> bool:
        """Whether to leave out an activation function, because codes end where it cuts."""
        if not self._alone_cuts(node) or node.output[0] in self._outputs:
            return False
        takers = (taker for taker in self._takers.get(node.output[0], ()) if taker.op_type != "Shape")
        if node.input[0] not in self._made_of_codes and not all(self._on_codes(taker) for taker in takers):
            return False  # what is made in float is read in float
        unsigned = self._codes[self._plan.groups[node.output[0]]].zero_point.dtype == np.uint8
        left_to_runtime = node.op_type == "Relu" and unsigned and not self._leave_out
        return not left_to_runtime and self._cuts_nothing(node)

    def _needs_codes_before(self, node: onnx.NodeProto) -> bool:
        """Whether codes are made before an activation function, so that what is before it computes on codes."""
        if not self._alone_cuts(node) or not (node.input[0] in self._layers or node.input[0] in self._plan.joints):
            return False
        return node.output[0] in self._outputs or not self._cuts_nothing(node)

    def _alone_cuts(self, node: onnx.NodeProto) -> bool:
        """Whether a node is an activation function that alone takes a float tensor, with codes behind it."""
        if node.op_type not in ACTIVATIONS or node.output[0] not in self._coded or node.input[0] in self._coded:
            return False
        return len(self._takers[node.input[0]]) == 1 and node.input[0] not in self._outputs

    def _cuts_nothing(self, node: onnx.NodeProto) -> bool:
        """Whether an activation function leaves every code behind it as it is."""
        return cut_of(node, self._codes[self._plan.groups[node.output[0]]], self._constants) == (None, None)

    def _operand(self, name: str, operator: str, *, on_codes: bool) -> str:
        """What a node reads for a tensor: floats stay floats for a float node wherever floats are made anyway."""
        if name in self._coded_before:
            return f"{name}/decoded"
        if name not in self._coded:
            return name
        if operator == "Shape":  # codes have the shape of what they stand for
            return f"{name}/codes"
        return f"{name}/decoded" if on_codes or name in self._made_of_codes else name

    def _append_codes(self, name: str) -> None:
        if name not in self._coded and name not in self._coded_before:
            return
        first = self._plan.groups[self._coded_before.get(name, name)]
        source = self._source_of.get(name, name)
        scale, zero_point = f"{first}/scale", f"{first}/zero_point"
        if name == first:
            code = self._codes[first]
            self._add(scale, np.array(code.scale, dtype=np.float32))
            self._add(zero_point, np.array(code.zero_point))
        self._nodes.append(helper.make_node("QuantizeLinear", [source, scale, zero_point], [f"{name}/codes"]))
        self._nodes.append(
            helper.make_node("DequantizeLinear", [f"{name}/codes", scale, zero_point], [f"{name}/decoded"])
        )

    def _parameters(self, layer: Layer, bias_name: str) -> list[str]:
        """Add the coded weight and bias of a layer; return the names of their decoded tensors."""
        weight = self._constants.floats(layer.weight)
        if weight is None:
            raise ValueError(f"layer {layer.name!r} is not of this graph")
        code = self._weights[layer.name]
        scale = np.broadcast_to(code.scale, (layer.channels,))
        coded = encode_weight(weight, scale, axis=layer.axis, levels=code.levels)
        names = [self._decoded(f"{layer.name}/weight", coded, code.scale, layer.axis)]
        bias = self._constants.floats(bias_name)
        if bias is not None:
            data_scale = self._codes[self._plan.groups[layer.data]].scale
            coded_bias, _ = encode_bias(bias, data_scale, scale)
            names.append(self._decoded(f"{layer.name}/bias", coded_bias, data_scale * code.scale, 0))
        return names

    def _decoded(
        self, name: str, codes: NDArray[np.int8] | NDArray[np.int32], scale: NDArray[np.float32], axis: int
    ) -> str:
        """Add a coded constant with its scales; return the name of its decoded tensor."""
        one = scale.size == 1
        scales = scale.reshape(()) if one else scale
        operands = [
            self._add(f"{name}/codes", codes),
            self._add(f"{name}/scale", scales.astype(np.float32)),
            self._add(f"{name}/zero_point", np.zeros(scales.shape, dtype=codes.dtype)),
        ]
        node = helper.make_node("DequantizeLinear", operands, [f"{name}/decoded"])
        if not one:
            node.attribute.append(helper.make_attribute("axis", axis))
        self._nodes.append(node)
        return f"{name}/decoded"

    def _add(self, name: str, values: NDArray[np.generic]) -> str:
        self._graph.initializer.append(numpy_helper.from_array(values, name))
        return name
