"""SmoothQuant: outliers of activations are moved into weights, where a scale a channel can hold them.

Between a normalisation and the linear layers that take its result, for any s > 0,

    W LN(x; g, b)  =  (W S) LN(x; S^-1 g, S^-1 b)        S = diag(s)

with s_i = max|x_i|^alpha / max|w_i|^(1 - alpha) for input channel i, which shares the difficulty between the two (Xiao
et al. 2022, "SmoothQuant: accurate and efficient post-training quantization for large language models",
arXiv:2211.10438). A tensor without a normalisation before it gets a Mul of its own (ahead of the quantizer, behind a
GELU, say). Scales are rounded to powers of two, so that weights lose no bit.
"""

from __future__ import annotations

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from hauberk.artifact import Artifact, OnnxArtifact
from hauberk.compress.core import read_core
from hauberk.compress.quantize.calibrate import observe_magnitudes
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

_LARGEST = 16  # powers of two by which a channel may be scaled


class SmoothActivations(Step, frozen=True, kw_only=True, tag="smooth-activations"):
    """Scale the inputs of linear layers so that no few channels rule their range.

    Attributes:
        alpha: How much of the difficulty goes to the weights, from 0 (none) to 1 (all).
        narrowest: Layers of fewer inputs than this are left alone.
        multiply: Also smooth tensors that no LayerNormalization makes, at the cost of a multiplication.

    Raises:
        InputError: An alpha outside of 0 to 1.
    """

    alpha: float = 0.5
    narrowest: int = 32
    multiply: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.alpha <= 1:
            raise InputError(f"{self.name}: alpha is {self.alpha}; a number from 0 to 1 is needed")

    @property
    def contract(self) -> Contract:
        """The same function; scaling by powers of two changes no bit of a weight."""
        return Close()

    def apply(self, artifact: Artifact, context: Context) -> OnnxArtifact:
        """Return the rescaled graph.

        Raises:
            InputError: Not a core, already quantized, weights that are not finite, calibration records that do not fit,
                or no layer to smooth.
        """
        core = read_core(with_constant_weights(artifact), self.name)
        core.require_float()
        prepare(core.model)
        graph = core.model.graph
        groups = self._groups(graph)
        if not groups:
            raise InputError(
                f"{self.name}: nothing to smooth, no layer of {self.narrowest} inputs or more takes the result of a"
                " LayerNormalization with constant scale" + ("" if self.multiply else " (multiply=true takes any)")
            )
        every = tuple(layer for layers in groups.values() for layer in layers)
        require_finite(graph, every, self.name)
        magnitudes = observe_magnitudes(core.model, groups, core.calibration(context))
        for data, layers in groups.items():
            if not np.isfinite(magnitudes[data]).all():
                raise InputError(f"{self.name}: tensor {data!r} is not finite on the calibration records")
            _smooth(graph, data, layers, self._scale(graph, layers, magnitudes[data]))
        return core.finished(core.model)

    def _groups(self, graph: onnx.GraphProto) -> dict[str, tuple[Layer, ...]]:
        """By tensor, the layers that take it, where nothing else does."""
        layers: dict[str, list[Layer]] = {}
        for layer in find_layers(graph):
            if layer.kind != "Conv" and layer.shape[0] >= self.narrowest:
                layers.setdefault(layer.data, []).append(layer)
        uses = [name for node in graph.node for name in node.input]
        outputs = {value.name for value in graph.output}
        constants = Constants(graph)
        makers = {node.output[0]: node for node in graph.node}
        found = {}
        for data, group in layers.items():
            alone = uses.count(data) == len(group) and data not in outputs
            weights_alone = all(uses.count(layer.weight) == 1 for layer in group)
            maker = makers.get(data)
            normalised = maker is not None and _can_take_scale(maker, constants)
            if alone and weights_alone and (normalised or self.multiply):
                found[data] = tuple(group)
        return found

    def _scale(
        self, graph: onnx.GraphProto, layers: tuple[Layer, ...], magnitudes: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        """Powers of two nearest to max|x|^alpha / max|w|^(1 - alpha), around 1 in the mean; 1 where either is empty."""
        constants = Constants(graph)
        weights = [constants.floats(layer.weight) for layer in layers]
        largest = np.max([np.abs(weight).max(axis=1) for weight in weights if weight is not None], axis=0)
        usable = (largest > 0) & (magnitudes > 0)
        if not usable.any():
            return np.ones(len(magnitudes), dtype=np.float32)
        x = np.log2(np.where(usable, magnitudes, 1.0).astype(np.float64))
        w = np.log2(np.where(usable, largest, 1.0).astype(np.float64))
        power = self.alpha * x - (1 - self.alpha) * w
        power = np.where(usable, np.rint(power - power[usable].mean()), 0.0)
        return np.exp2(np.clip(power, -_LARGEST, _LARGEST)).astype(np.float32)


def _can_take_scale(node: onnx.NodeProto, constants: Constants) -> bool:
    """Whether a node is a LayerNormalization over the last axis with constants of its own."""
    if node.op_type != "LayerNormalization" or len(node.output) > 1:
        return False
    parameters = [name for name in node.input[1:] if name]
    one_dimensional = all(name in constants and len(constants.shape(name)) == 1 for name in parameters)
    return attributes(node).get("axis", -1) == -1 and one_dimensional and bool(parameters)


def _smooth(graph: onnx.GraphProto, data: str, layers: tuple[Layer, ...], scale: NDArray[np.float32]) -> None:
    """Divide a tensor by the scale where it is made, and multiply the rows of the weights that take it, in place."""
    constants = Constants(graph)
    nodes = {node.output[0]: node for node in graph.node}

    def replaced(node: onnx.NodeProto, place: int, values: NDArray[np.float32]) -> None:
        name = f"{node.output[0]}/smooth{place}"
        graph.initializer.append(numpy_helper.from_array(values, name))
        node.input[place] = name

    for layer in layers:
        weight = constants.floats(layer.weight)
        if weight is not None:
            replaced(nodes[layer.name], 1, weight * scale[:, None])
    maker = nodes.get(data)
    if maker is not None and _can_take_scale(maker, constants):
        for place, name in enumerate(maker.input[1:], start=1):
            values = constants.floats(name)
            if values is not None:
                replaced(maker, place, values / scale)
        return
    graph.initializer.append(numpy_helper.from_array((1 / scale).astype(np.float32), f"{data}/inverse"))
    position = next((index for index, node in enumerate(graph.node) if data in node.output), -1) + 1
    graph.node.insert(position, helper.make_node("Mul", [data, f"{data}/inverse"], [f"{data}/smoothed"]))
    for layer in layers:
        nodes = {node.output[0]: node for node in graph.node}
        nodes[layer.name].input[0] = f"{data}/smoothed"
