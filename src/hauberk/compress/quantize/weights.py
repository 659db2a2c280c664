"""INT4 weights for large linear layers: an eighth of their bytes and the scales; activations stay in float.

Weights [inputs, outputs] are coded in blocks of `block_size` inputs of one output, symmetrically, in standard ONNX
(opset 21): a DequantizeLinear with `block_size` before a MatMul, which ONNX Runtime replaces by its MatMulNBits kernel
when it loads the graph. Where weights are so many that reading them from memory is what takes the time, that is faster;
on small layers it is not, and they are left alone.
"""

from __future__ import annotations

from typing import ClassVar

import ml_dtypes
import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from hauberk.artifact import Artifact, OnnxArtifact
from hauberk.compress.cluster import at_least_opset
from hauberk.compress.core import Core, read_core
from hauberk.compress.notes import stay_in_float
from hauberk.compress.quantize.layers import (
    Constants,
    Layer,
    find_layers,
    prepare,
    require_finite,
    why_no_layer,
    with_constant_weights,
)
from hauberk.errors import InputError
from hauberk.recipe import Context, Contract, Lossy, Step

_BLOCKS = (16, 32, 64, 128, 256)
"""What ONNX Runtime's kernel takes."""


_NO_MATRIX = {
    "Conv": "a convolution",
    "ConvTranspose": "a convolution",
    "Einsum": "neither Gemm nor MatMul",
    "GRU": "a recurrent layer",
    "LSTM": "a recurrent layer",
    "RNN": "a recurrent layer",
}

_SHRINKS = np.linspace(1.0, 0.75, 6)


class QuantizeWeights(Step, frozen=True, kw_only=True, tag="quantize-weights"):
    """Keep the weights of large linear layers as int4, rounded to nearest.

    Attributes:
        block_size: Inputs that share a scale: 16, 32, 64, 128 or 256.
        smallest: Layers of fewer weights than this are left alone.

    Raises:
        InputError: Another block size.
    """

    block_size: int = 32
    smallest: int = 1 << 16

    CONTRACT: ClassVar[Lossy] = Lossy(agreement=0.95, rms=0.25)

    def __post_init__(self) -> None:
        if self.block_size not in _BLOCKS:
            raise InputError(f"{self.name}: blocks of {self.block_size}; ONNX Runtime's kernel takes {_BLOCKS}")

    @property
    def contract(self) -> Contract:
        """Decisions agree on 95 % of real records, logits within 25 % of their root mean square."""
        return self.CONTRACT

    def notes(self, artifact: Artifact) -> tuple[str, ...]:
        """What stays in float, and why."""
        core = self._prepared(artifact)
        layers = {layer.name: int(np.prod(layer.shape)) for layer in find_layers(core.model.graph)}
        constants = Constants(core.model.graph)

        def why(node: onnx.NodeProto) -> str:
            name = node.output[0]
            if node.op_type in _NO_MATRIX:
                return _NO_MATRIX[node.op_type]
            if name in layers and layers[name] < self.smallest:
                return f"{layers[name]} weights are too few to gain"
            return "" if name in layers else why_no_layer(node, constants)

        return stay_in_float(core.model.graph, why)

    def apply(self, artifact: Artifact, context: Context) -> OnnxArtifact:  # noqa: ARG002 - needs no records
        """Return the graph with int4 weights.

        Raises:
            InputError: Not a core, already quantized, no linear layer that is large enough, or an opset that cannot be
                converted to 21.
        """
        core = self._prepared(artifact)
        core.require_float()
        layers = self._large(core)
        if not layers:
            raise InputError(
                f"{self.name}: nothing to quantize, no Gemm or MatMul has {self.smallest} constant float32 weights"
            )
        require_finite(core.model.graph, layers, self.name)
        model = at_least_opset(core.model, self.name)
        for layer in layers:
            _write(model.graph, layer, self.block_size)
        return core.finished(model)

    def _prepared(self, artifact: Artifact) -> Core:
        core = read_core(with_constant_weights(artifact), self.name)
        prepare(core.model)
        return core

    def _large(self, core: Core) -> tuple[Layer, ...]:
        layers = find_layers(core.model.graph)
        return tuple(
            layer
            for layer in layers
            if layer.kind in ("Gemm", "MatMul") and layer.shape[0] * layer.shape[1] >= self.smallest
        )


def encode_blocks(weight: NDArray[np.float32], block_size: int) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Codes of weights [inputs, outputs] in -8..7, and scales [ceil(inputs / block_size), outputs].

    Of the scales tried, from `max|w| / 7` downwards, each block takes the one with the least squared error; a block
    that is zero throughout has the scale 1.
    """
    inputs, outputs = weight.shape
    blocks = -(-inputs // block_size)
    padded = np.zeros((blocks * block_size, outputs), dtype=np.float32)
    padded[:inputs] = weight
    grouped = padded.reshape(blocks, block_size, outputs)
    widest = np.abs(grouped).max(axis=1) / np.float32(7)
    best, error = np.where(widest > 0, widest, 1).astype(np.float32), np.full(widest.shape, np.inf, dtype=np.float32)
    for shrink in _SHRINKS:
        scale = (np.where(widest > 0, widest, 1) * shrink).astype(np.float32)
        difference = np.square(_codes(grouped, scale) * scale[:, None] - grouped).sum(axis=1)
        better = difference < error
        best, error = np.where(better, scale, best), np.where(better, difference, error)
    return _codes(grouped, best).astype(np.int8).reshape(-1, outputs)[:inputs], best


def _codes(grouped: NDArray[np.float32], scale: NDArray[np.float32]) -> NDArray[np.float32]:
    codes: NDArray[np.float32] = np.clip(np.rint(grouped / scale[:, None]), -8, 7)
    return codes


def _write(graph: onnx.GraphProto, layer: Layer, block_size: int) -> None:
    """Let a layer read decoded int4 weights, in place; a Gemm becomes MatMul and Sum.

    With Add instead of Sum, ONNX Runtime would make a float Gemm of the two and decode the weights in every call.
    """
    weight = Constants(graph).floats(layer.weight)
    if weight is None:
        raise ValueError(f"layer {layer.name!r} is not of this graph")
    codes, scale = encode_blocks(weight, block_size)
    names = [f"{layer.name}/weight/{part}" for part in ("codes", "scale", "decoded")]
    graph.initializer.append(numpy_helper.from_array(codes.astype(ml_dtypes.int4), names[0]))
    graph.initializer.append(numpy_helper.from_array(scale, names[1]))
    decode = helper.make_node("DequantizeLinear", names[:2], names[2:], axis=0, block_size=block_size)
    place = next(index for index, node in enumerate(graph.node) if node.output[0] == layer.name)
    product = layer.name if not layer.bias else f"{layer.name}/product"
    made = [decode, helper.make_node("MatMul", [layer.data, names[2]], [product])]
    if layer.bias:
        made.append(helper.make_node("Sum", [product, layer.bias], [layer.name]))
    nodes = [*graph.node[:place], *made, *graph.node[place + 1 :]]
    del graph.node[:]
    graph.node.extend(nodes)
