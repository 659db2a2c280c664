"""Which nodes of a graph compute on 8-bit codes, and which tensors therefore are coded.

ONNX Runtime replaces a node by its integer kernel where a DequantizeLinear stands at each of its inputs and a
QuantizeLinear at its output. These rules, measured on its optimised graphs, leave nothing half converted:

1. A layer with weights (Gemm, MatMul, Conv) takes codes. Gemm and MatMul may return floats; a Conv may not, so its
   result is coded (after the Relu or Clip behind it, which the quantizer then does; before it as well, in the same
   codes, where they do not end where it cuts), and a Conv at the logits stays in float. The result of a Gemm is coded
   too where an activation function takes it: ONNX Runtime would merge the two in float first.
2. A node that has an integer kernel but no weights (Add, Mul, Concat, average pooling, Sigmoid, LeakyRelu) joins where
   codes already flow into it and something takes codes behind it: residual connections of convolutions do, those of a
   Transformer between layer norms do not.
3. A node that only moves or selects values (Reshape, Transpose, MaxPool, …) has the same codes before and after it, and
   so do all inputs and the output of a Concat.
4. The logits are not coded.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import onnx

from hauberk.compress.notes import stay_in_float
from hauberk.compress.quantize.cuts import ACTIVATIONS
from hauberk.compress.quantize.layers import Constants, Layer, find_layers, why_no_layer
from hauberk.graph.model import attributes

_JOINTS = frozenset({"Add", "Mul", "Concat", "AveragePool", "GlobalAveragePool", "Sigmoid", "LeakyRelu"})
_MERGED = frozenset(
    {
        "Elu",
        "HardSigmoid",
        "LeakyRelu",
        "Relu",
        "Selu",
        "Sigmoid",
        "Softplus",
        "Softsign",
        "Tanh",
        "ThresholdedRelu",
    }
)
_MOVES = frozenset(
    {
        "DepthToSpace",
        "Expand",
        "Flatten",
        "Gather",
        "Identity",
        "MaxPool",
        "ReduceMax",
        "Reshape",
        "Slice",
        "SpaceToDepth",
        "Split",
        "Squeeze",
        "Tile",
        "Transpose",
        "Unsqueeze",
    }
)
_NO_KERNEL = {
    "ConvTranspose": "ONNX Runtime has no integer kernel for it in this form",
    "Einsum": "ONNX Runtime has no integer kernel for it",
    "GRU": "ONNX Runtime has no integer kernel for it",
    "LSTM": "ONNX Runtime's integer kernel finds ranges at run time only (quantize-dynamic)",
    "RNN": "ONNX Runtime has no integer kernel for it",
}


@dataclass(frozen=True)
class Plan:
    """What is to be coded in a prepared graph.

    Attributes:
        layers: The layers that compute on codes, in graph order.
        joints: Other nodes that compute on codes, by the name of their output.
        activations: The tensors that are coded, in graph order.
        groups: For each of them the first tensor of those that share its codes (itself, where it is the first).
        sources: The activations whose values decide the codes; the others only hold values of these.
        left: What has weights or multiplies and stays in float, one sentence each.
    """

    layers: tuple[Layer, ...]
    joints: frozenset[str]
    activations: tuple[str, ...]
    groups: Mapping[str, str]
    sources: tuple[str, ...]
    left: tuple[str, ...]


def plan(model: onnx.ModelProto, *, keep_float: Collection[str] = ()) -> Plan:
    """Decide what a prepared graph computes on codes.

    Args:
        model: The graph, in the form of `layers.prepare`.
        keep_float: Names of layers (`Layer.name`) that stay in float.
    """
    flow = _Flow(model.graph)
    found = find_layers(model.graph)
    at_logits = {layer.name for layer in found if layer.kind == "Conv" and flow.ends_at_output(layer.name)}
    layers = {layer.name: layer for layer in found if layer.name not in at_logits and layer.name not in keep_float}
    joints = flow.joints(layers)
    coded = _coded(flow, layers, joints)
    groups, moved = _groups(flow, coded, joints)
    activations = tuple(name for name in flow.order if name in coded)
    return Plan(
        layers=tuple(layers.values()),
        joints=frozenset(joints),
        activations=activations,
        groups={name: groups[name] for name in activations},
        sources=tuple(name for name in activations if name not in moved),
        left=_left(model.graph, found, at_logits, keep_float),
    )


class _Flow:
    """Who makes a tensor and who takes it."""

    def __init__(self, graph: onnx.GraphProto) -> None:
        self.constants = Constants(graph)
        self.nodes = list(graph.node)
        self.outputs = {value.name for value in graph.output}
        self.maker = {name: node for node in graph.node for name in node.output if name}
        self.takers: dict[str, list[onnx.NodeProto]] = {}
        for node in graph.node:
            for name in node.input:
                self.takers.setdefault(name, []).append(node)
        self.order = [value.name for value in graph.input] + list(self.maker)

    def data(self, node: onnx.NodeProto) -> list[str]:
        """The inputs of a node that are neither constant nor absent."""
        return [name for name in node.input if name and name not in self.constants]

    def moves(self, node: onnx.NodeProto) -> bool:
        """Whether a node only moves or selects values of its first input."""
        if not moves_values(node):
            return False
        return self.data(node)[:1] == [node.input[0]] and (node.op_type != "MaxPool" or len(node.output) == 1)

    def result(self, name: str) -> str:
        """The tensor behind the activation function that alone takes a tensor; the tensor itself without one."""
        takers = self.takers.get(name, [])
        if len(takers) == 1 and name not in self.outputs and takers[0].op_type in ACTIVATIONS:
            return str(takers[0].output[0])
        return name

    def merges(self, layer: Layer) -> bool:
        """Whether ONNX Runtime would merge a float layer with the activation function behind it."""
        takers = [node.op_type for node in self.takers.get(layer.name, [])]
        return layer.kind == "Gemm" and len(takers) == 1 and takers[0] in _MERGED and layer.name not in self.outputs

    def ends_at_output(self, name: str) -> bool:
        """Whether a tensor becomes the graph's output by activation functions and moves alone."""
        if name in self.outputs:
            return True
        onward = (node for node in self.takers.get(name, []) if node.op_type in ACTIVATIONS or self.moves(node))
        return any(self.ends_at_output(output) for node in onward for output in node.output)

    def all_take_codes(
        self, node: onnx.NodeProto, coded: Collection[str], layers: Mapping[str, Layer], joints: Collection[str]
    ) -> bool:
        """Whether the results of a move are coded, and whoever takes them computes on codes or moves them on."""
        takers = [taker for name in node.output for taker in self.takers.get(name, []) if taker.op_type != "Shape"]
        return all(name in coded for name in node.output) and all(
            taker.output[0] in layers
            or taker.output[0] in joints
            or (self.moves(taker) and all(name in coded for name in taker.output))
            for taker in takers
        )

    def joints(self, layers: Mapping[str, Layer]) -> set[str]:
        """The largest set of joints such that codes flow into each of them, and something takes codes behind it."""
        joints = {node.output[0] for node in self.nodes if self._may_join(node)}
        while True:
            born = self.born(layers, joints)
            wanted = self._wanted(layers, joints)
            kept = {
                name
                for name in joints
                if name in wanted and any(source in born for source in self.data(self.maker[name]))
            }
            if kept == joints:
                return joints
            joints = kept

    def _may_join(self, node: onnx.NodeProto) -> bool:
        return can_join(node) and not any(name in self.constants for name in node.input if name)

    def born(self, layers: Mapping[str, Layer], joints: Collection[str]) -> set[str]:
        """Tensors that integer kernels return as codes: of convolutions and joints, and what moves make of them."""
        born: set[str] = set()
        for node in self.nodes:
            name = node.output[0]
            convolution = name in layers and layers[name].kind == "Conv"
            passed = (node.op_type in ACTIVATIONS or self.moves(node)) and node.input[0] in born
            if convolution or name in joints or passed:
                born.update(node.output)
        return born

    def _wanted(self, layers: Mapping[str, Layer], joints: Collection[str]) -> set[str]:
        """Tensors that a layer or a joint takes, directly or behind moves and activation functions."""
        wanted: set[str] = set()
        for node in reversed(self.nodes):
            passed = (node.op_type in ACTIVATIONS or self.moves(node)) and any(name in wanted for name in node.output)
            if node.output[0] in layers or node.output[0] in joints or passed:
                wanted.update(self.data(node))
        return wanted


def can_join(node: onnx.NodeProto) -> bool:
    """Whether a node has an integer kernel but no weights; that of AveragePool takes no dilations."""
    return node.op_type in _JOINTS and set(attributes(node).get("dilations", [1])) == {1}


def moves_values(node: onnx.NodeProto) -> bool:
    """Whether a node only moves or selects values: a Resize that repeats some does, one in another mode computes."""
    nearest = node.op_type == "Resize" and bool(attributes(node).get("mode", b"nearest") == b"nearest")
    return nearest or node.op_type in _MOVES


def _coded(flow: _Flow, layers: Mapping[str, Layer], joints: Collection[str]) -> set[str]:
    """The tensors that are coded, by the rules at the top of this file."""
    coded = {layer.data for layer in layers.values()}
    coded |= {flow.result(layer.name) for layer in layers.values() if layer.kind == "Conv" or flow.merges(layer)}
    coded |= {flow.result(name) for name in joints}
    coded |= {source for name in joints for source in flow.data(flow.maker[name])}
    born = flow.born(layers, joints)
    movers = [node for node in flow.nodes if flow.moves(node)]
    for node in reversed(movers):  # codes are made before a move, not behind it: there is less to move
        if flow.all_take_codes(node, coded, layers, joints):
            coded.add(node.input[0])
    for node in movers:  # and stay codes behind it
        if node.input[0] in coded and node.input[0] in born and not flow.outputs & set(node.output):
            coded.update(node.output)
    return coded


def _groups(flow: _Flow, coded: set[str], joints: Collection[str]) -> tuple[dict[str, str], set[str]]:
    """For each coded tensor the first one with the same codes; and the tensors that only hold moved values."""
    first = {name: name for name in flow.order if name in coded}

    def root(name: str) -> str:
        while first[name] != name:
            name = first[name]
        return name

    place = {name: index for index, name in enumerate(flow.order)}
    moved: set[str] = set()
    for node in flow.nodes:
        outputs = [name for name in node.output if name in coded]
        if flow.moves(node) and node.input[0] in coded:
            moved.update(outputs)
            members = [node.input[0], *outputs]
        elif node.op_type == "Concat" and node.output[0] in joints:
            members = [*flow.data(node), *outputs]
        else:
            continue
        roots = sorted((root(name) for name in members), key=place.__getitem__)
        for other in roots[1:]:
            first[other] = roots[0]
    return {name: root(name) for name in first}, moved


def _left(
    graph: onnx.GraphProto, found: tuple[Layer, ...], at_logits: Collection[str], keep_float: Collection[str]
) -> tuple[str, ...]:
    names, constants = {layer.name for layer in found}, Constants(graph)

    def why(node: onnx.NodeProto) -> str:
        name = node.output[0]
        if name in names:
            if name in keep_float:
                return "asked for"
            return "it computes the logits, and ONNX Runtime codes its results" if name in at_logits else ""
        return _NO_KERNEL.get(node.op_type, "") or why_no_layer(node, constants)

    return stay_in_float(graph, why)
