"""Static INT8: weights and activations in 8 bits, with ranges found once on training records.

The graph is written as pairs of QuantizeLinear and DequantizeLinear (QDQ) around each linear layer's operands, in the
one form that ONNX Runtime fuses completely into QGemm:

    activations  uint8, one scale and zero point a tensor, at the input of every linear layer (so: after Relu)
    weights      int8, one scale an output channel, zero point 0
    bias         int32, scale = activation scale * weight scale, zero point 0
    logits       not quantized: the last layer returns float32

A fused layer computes `q = clip(rint(f32(acc) * f32(sx * sw / sy)) + zy, 0, 255)` with `acc` the exact int32 sum.
The scheme is that of Jacob et al. 2018, "Quantization and Training of Neural Networks for Efficient
Integer-Arithmetic-Only Inference" (arXiv:1712.05877).
"""

from __future__ import annotations

from typing import ClassVar, NamedTuple

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from hauberk.artifact import Artifact, OnnxArtifact
from hauberk.compress.core import Linear, read_core
from hauberk.errors import InputError
from hauberk.graph.model import run, session
from hauberk.recipe import Context, Contract, Lossy, Step

_OLDEST_OPSET = 13  # the first whose DequantizeLinear takes one scale a channel
_CHUNK = 8192  # calibration records in one run, so that activations of a large set need not fit in memory
_INT32 = 2.0**31 - 1


class Affine(NamedTuple):
    """How a tensor is coded: `value = scale * (code - zero_point)`."""

    scale: np.float32
    zero_point: np.uint8


class QuantizeStatic(Step, frozen=True, kw_only=True, tag="quantize-static"):
    """Quantize linear layers to int8 with activation ranges from the calibration records (min-max).

    Attributes:
        reduced_range: Weights in 7 bits, for x86 processors without VNNI, whose kernels saturate int16 sums of 8-bit
            products.
    """

    reduced_range: bool = False

    CONTRACT: ClassVar[Lossy] = Lossy(agreement=0.98, rms=0.1)

    @property
    def contract(self) -> Contract:
        """Decisions agree on 98 % of real records, logits within 10 % of their root mean square."""
        return self.CONTRACT

    def apply(self, artifact: Artifact, context: Context) -> OnnxArtifact:
        """Return the QDQ graph.

        Raises:
            InputError: Not a core, already quantized, an opset below 13, no linear layers of constant float32 weights,
                or calibration records that do not fit or overflow.
        """
        core = read_core(artifact, self.name)
        layers = core.require_linear_layers()
        records = core.calibration(context)
        opset = next(entry.version for entry in core.model.opset_import if entry.domain in ("", "ai.onnx"))
        if opset < _OLDEST_OPSET:
            raise InputError(f"{self.name}: opset {opset} is too old for a scale a channel; {_OLDEST_OPSET} has it")
        ranges = observe_ranges(core.model, {layer.data for layer in layers}, records)
        for name, (low, high) in ranges.items():
            if not np.isfinite([low, high]).all():
                raise InputError(f"{self.name}: tensor {name!r} is not finite on the calibration records")
        codes = {name: affine(low, high) for name, (low, high) in ranges.items()}
        _write_qdq(core.model, layers, codes, levels=63 if self.reduced_range else 127)
        return core.finished(core.model)


def observe_ranges(
    model: onnx.ModelProto, names: set[str], records: NDArray[np.float32]
) -> dict[str, tuple[float, float]]:
    """Lowest and highest value of tensors over records, as ONNX Runtime computes them.

    Args:
        model: The core.
        names: Tensors to watch; the graph's input may be among them.
        records: Float32 [N, D], N at least 1.

    Returns:
        By name.
    """
    source = model.graph.input[0].name
    inner = sorted(names - {source})
    watched = onnx.ModelProto()
    watched.CopyFrom(model)
    del watched.graph.output[:]
    watched.graph.output.extend(helper.make_empty_tensor_value_info(name) for name in [*inner, source])
    probe = session(watched.SerializeToString())
    lows, highs = [], []
    for start in range(0, len(records), _CHUNK):
        values = run(probe, {source: records[start : start + _CHUNK]})
        lows.append([value.min() for value in values])
        highs.append([value.max() for value in values])
    ends = zip([*inner, source], np.min(lows, axis=0), np.max(highs, axis=0), strict=True)
    return {name: (float(low), float(high)) for name, low, high in ends if name in names}


def affine(low: float, high: float) -> Affine:
    """Spread 0..255 over a range, widened to hold zero so that zero is coded exactly.

    A tensor that is zero on every calibration record says nothing about its range; it gets [0, 1].
    """
    low, high = min(low, 0.0), max(high, 0.0)
    if high - low < np.finfo(np.float32).tiny * 255:
        low, high = 0.0, 1.0
    scale = np.float32((high - low) / 255)
    zero_point = np.uint8(np.clip(np.rint(-low / float(scale)), 0, 255))
    return Affine(scale, zero_point)


def _write_qdq(model: onnx.ModelProto, layers: tuple[Linear, ...], codes: dict[str, Affine], *, levels: int) -> None:
    """Replace each layer by its quantized form, in place."""
    graph = model.graph
    by_output = {layer.node.output[0]: (number, layer) for number, layer in enumerate(layers)}
    nodes: list[onnx.NodeProto] = []
    initializers: list[onnx.TensorProto] = []
    coded: set[str] = set()
    for node in graph.node:
        number, layer = by_output.get(node.output[0], (0, None))
        if layer is None:
            nodes.append(node)
            continue
        if layer.data not in coded:
            coded.add(layer.data)
            _append_activation(layer.data, codes[layer.data], nodes, initializers)
        _append_layer(f"linear{number}", layer, codes[layer.data].scale, levels, nodes, initializers)
    del graph.node[:]
    graph.node.extend(nodes)
    graph.initializer.extend(initializers)


def _append_activation(
    name: str, code: Affine, nodes: list[onnx.NodeProto], initializers: list[onnx.TensorProto]
) -> None:
    scale, zero_point = f"{name}/scale", f"{name}/zero_point"
    # 0-d: a scale of shape [1] passes the checker and crashes some fused kernels.
    initializers.append(numpy_helper.from_array(np.array(code.scale, dtype=np.float32), scale))
    initializers.append(numpy_helper.from_array(np.array(code.zero_point, dtype=np.uint8), zero_point))
    nodes.append(helper.make_node("QuantizeLinear", [name, scale, zero_point], [f"{name}/codes"]))
    nodes.append(helper.make_node("DequantizeLinear", [f"{name}/codes", scale, zero_point], [f"{name}/decoded"]))


def _append_layer(
    name: str,
    layer: Linear,
    data_scale: np.float32,
    levels: int,
    nodes: list[onnx.NodeProto],
    initializers: list[onnx.TensorProto],
) -> None:
    weight_scale = weight_scales(layer, data_scale, levels)
    weight = np.clip(np.rint(layer.weight / weight_scale), -levels, levels).astype(np.int8)
    operands = [
        f"{layer.data}/decoded",
        _append_constant(f"{name}/weight", weight, weight_scale, 1, nodes, initializers),
    ]
    if layer.bias is not None:
        bias_scale = data_scale * weight_scale
        bias = np.rint(layer.bias.astype(np.float64) / bias_scale).astype(np.int32)
        operands.append(_append_constant(f"{name}/bias", bias, bias_scale, 0, nodes, initializers))
    nodes.append(helper.make_node(layer.node.op_type, operands, list(layer.node.output), name=name))


def _append_constant(
    name: str,
    codes: NDArray[np.int8] | NDArray[np.int32],
    scale: NDArray[np.float32],
    axis: int,
    nodes: list[onnx.NodeProto],
    initializers: list[onnx.TensorProto],
) -> str:
    """Add a coded constant with one scale a channel along `axis`; return the name of its decoded tensor."""
    operands = [f"{name}/codes", f"{name}/scale", f"{name}/zero_point"]
    arrays = (codes, scale, np.zeros(len(scale), dtype=codes.dtype))
    initializers.extend(numpy_helper.from_array(array, key) for array, key in zip(arrays, operands, strict=True))
    nodes.append(helper.make_node("DequantizeLinear", operands, [name], axis=axis))
    return name


def weight_scales(layer: Linear, data_scale: np.float32, levels: int) -> NDArray[np.float32]:
    """One scale an output channel, float32 [outputs]: `max|w| / levels`.

    It is raised where the bias, coded with `data_scale * scale`, would not fit into int32 (a channel whose weights are
    all tiny), and is 1 for a channel that is zero throughout.
    """
    scale = np.abs(layer.weight).max(axis=0).astype(np.float64) / levels
    if layer.bias is not None:
        scale = np.maximum(scale, np.abs(layer.bias) / (float(data_scale) * _INT32 * 0.5))
    # The bias scale is a product of two scales and must stay a normal float32 number.
    scale = np.maximum(scale, np.finfo(np.float32).tiny * max(1.0, 1.0 / float(data_scale)))
    empty = ~layer.weight.any(axis=0) & (True if layer.bias is None else layer.bias == 0)
    return np.where(empty, 1.0, scale).astype(np.float32)
