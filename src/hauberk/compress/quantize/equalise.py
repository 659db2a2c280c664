"""Cross-layer equalisation: the same function with weights that quantize better.

Between two layers with only a positively homogeneous function f between them (Relu, LeakyRelu, or nothing), which means
f(s x) = s f(x) for s > 0, this holds for every channel i of the tensor between them:

    W2 f(W1 x + b1)  =  (W2 S) f(S^-1 W1 x + S^-1 b1)        S = diag(s)

and s_i = sqrt(r1_i / r2_i), with r1_i the largest magnitude of output channel i of the first layer and r2_i that of
input channel i of the second, makes both ranges equal: the best for one scale a layer (Nagel et al. 2019, "Data-free
quantization through weight equalization and bias correction", arXiv:1906.04721, section 4.1). Pairs are visited in turn
until nothing moves. Scales are powers of two, so that weights lose no bit by being multiplied; sums round alike, and
results differ only where a product overflows or falls below the normal numbers.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from hauberk.artifact import Artifact, OnnxArtifact
from hauberk.compress.core import read_core
from hauberk.compress.quantize.codes import along
from hauberk.compress.quantize.layers import (
    Constants,
    Layer,
    find_layers,
    prepare,
    require_finite,
    with_constant_weights,
)
from hauberk.errors import InputError
from hauberk.graph.model import attributes
from hauberk.recipe import Close, Context, Contract, Step

_HOMOGENEOUS = frozenset({"Relu", "LeakyRelu"})
_POOLS = frozenset({"MaxPool", "AveragePool", "GlobalAveragePool"})
_ROUNDS = 20
_LARGEST = 16  # powers of two by which a channel may be scaled, so that no range runs away


class EqualiseLayers(Step, frozen=True, kw_only=True, tag="equalise-layers"):
    """Move scales between neighbouring layers so that the channels of each have like ranges."""

    @property
    def contract(self) -> Contract:
        """The same function; scaling by powers of two changes no bit of a weight."""
        return Close()

    def apply(self, artifact: Artifact, context: Context) -> OnnxArtifact:  # noqa: ARG002 - weights are all it needs
        """Return the rescaled graph.

        Raises:
            InputError: Not a core, already quantized, weights that are not finite, or no pair of neighbouring layers.
        """
        core = read_core(with_constant_weights(artifact), self.name)
        core.require_float()
        prepare(core.model)
        layers = find_layers(core.model.graph)
        require_finite(core.model.graph, layers, self.name)
        pairs = tuple(_pairs(core.model, layers))
        if not pairs:
            raise InputError(
                f"{self.name}: nothing to equalise, no two layers have only Relu, pooling or reshaping between them"
            )
        _equalise(core.model.graph, pairs)
        return core.finished(core.model)


@dataclass(frozen=True)
class _Pair:
    """Two neighbouring layers; behind a Flatten each channel of the first is several inputs of the second, in a row."""

    first: Layer
    second: Layer


def _pairs(model: onnx.ModelProto, layers: tuple[Layer, ...]) -> Iterator[_Pair]:
    graph = model.graph
    takers: dict[str, list[onnx.NodeProto]] = {}
    for node in graph.node:
        for name in node.input:
            takers.setdefault(name, []).append(node)
    sizes = _sizes(model)
    by_name = {layer.name: layer for layer in layers}
    outputs = {value.name for value in graph.output}
    for first in layers:
        name, flat = first.name, 0
        while name not in outputs and len(takers.get(name, [])) == 1:
            node = takers[name][0]
            second = by_name.get(node.output[0])
            if second is not None:
                alone = all(len(takers[w]) == 1 for w in (first.weight, first.bias, second.weight) if w)
                if alone and second.data == name and _repeat(first, second, node, flat):
                    yield _Pair(first, second)
                break
            if node.op_type in ("Flatten", "Reshape"):
                flat = sizes.get(name, 0)
            elif node.op_type not in _HOMOGENEOUS | _POOLS:
                break
            name = node.output[0]


def _sizes(model: onnx.ModelProto) -> dict[str, int]:
    """How many values one record has in each tensor of which shape inference knows that."""
    inferred = onnx.shape_inference.infer_shapes(model).graph
    found = {}
    for value in (*inferred.value_info, *inferred.input):
        dims = value.type.tensor_type.shape.dim[1:]
        if dims and all(dim.dim_value > 0 for dim in dims):
            found[value.name] = math.prod(dim.dim_value for dim in dims)
    return found


def _repeat(first: Layer, second: Layer, node: onnx.NodeProto, flat: int) -> int:
    """How many inputs of the second layer a channel of the first feeds; 0 where they do not line up.

    Args:
        first: The first layer.
        second: The second layer.
        node: Its node.
        flat: Values of a record before it was made flat on the way; 0 where it was not, or where that is not known.
    """
    if second.kind == "Conv":
        group = attributes(node).get("group", 1)
        lined_up = first.kind == "Conv" and second.shape[1] * group == first.channels
        return int(lined_up and (group == 1 or second.shape[1] == 1) and not flat)
    inputs = second.shape[0]
    if first.kind != "Conv":
        return int(inputs == first.channels and not flat)
    return inputs // first.channels if flat == inputs and inputs % first.channels == 0 else 0


def _equalise(graph: onnx.GraphProto, pairs: tuple[_Pair, ...]) -> None:
    """Scale the weights of all pairs in place until none moves, or for `_ROUNDS` rounds."""
    constants = Constants(graph)
    names = {name for pair in pairs for name in (pair.first.weight, pair.first.bias, pair.second.weight) if name}
    arrays: dict[str, NDArray[np.float32]] = {}
    for name in names:
        values = constants.floats(name)
        if values is not None:
            arrays[name] = values.copy()
    totals = {pair.first.name: np.zeros(pair.first.channels) for pair in pairs}
    for _ in range(_ROUNDS):
        moved = False
        for pair in pairs:
            power = _power(pair, arrays)
            power = np.clip(totals[pair.first.name] + power, -_LARGEST, _LARGEST) - totals[pair.first.name]
            if power.any():
                moved = True
                totals[pair.first.name] += power
                _scale(pair, arrays, np.exp2(power).astype(np.float32))
        if not moved:
            break
    for tensor in graph.initializer:
        if tensor.name in arrays:
            tensor.CopyFrom(numpy_helper.from_array(arrays[tensor.name], tensor.name))


def _power(pair: _Pair, arrays: dict[str, NDArray[np.float32]]) -> NDArray[np.float64]:
    """The power of two nearest to sqrt(r1 / r2), a channel; 0 where either range is empty."""
    first, second = arrays[pair.first.weight], arrays[pair.second.weight]
    ends = np.abs(first).max(axis=tuple(axis for axis in range(first.ndim) if axis != pair.first.axis))
    starts = np.abs(_by_input(pair, second)).max(axis=1)
    usable = (ends > 0) & (starts > 0)
    ratio = np.where(usable, ends, 1.0).astype(np.float64) / np.where(usable, starts, 1.0)
    power: NDArray[np.float64] = np.where(usable, np.rint(0.5 * np.log2(ratio)), 0.0)
    return power


def _scale(pair: _Pair, arrays: dict[str, NDArray[np.float32]], scale: NDArray[np.float32]) -> None:
    """Divide the outputs of the first layer and multiply the inputs of the second, in place."""
    first, second = arrays[pair.first.weight], arrays[pair.second.weight]
    first /= along(scale, first.ndim, pair.first.axis)
    if pair.first.bias:
        arrays[pair.first.bias] /= scale
    if _plain_convolution(pair):
        second *= along(scale, second.ndim, 1)
    else:
        rows = second.reshape(len(scale), -1)
        rows *= scale[:, None]


def _by_input(pair: _Pair, weight: NDArray[np.float32]) -> NDArray[np.float32]:
    """The second layer's weights as [channels between the two, rest]."""
    if _plain_convolution(pair):
        weight = np.moveaxis(weight, 1, 0)
    return weight.reshape(pair.first.channels, -1)


def _plain_convolution(pair: _Pair) -> bool:
    """Whether the second layer has its inputs along axis 1; those of a depthwise one lie along axis 0, as a Gemm's."""
    return pair.second.kind == "Conv" and pair.second.shape[1] == pair.first.channels
