"""Dynamic INT8: weights int8, activations quantized anew for every batch from the range found in it.

No calibration, no drift of ranges; the price is finding the range at run time. It wins where matrix products dominate
(wide layers) and loses on small ones. Recurrent layers:

- LSTM becomes ONNX Runtime's DynamicQuantizeLSTM and computes in integers;
- GRU and RNN have no integer kernel: their weights are kept as int8 with one scale a gate and unit, and widened when
  the graph is loaded, so the file shrinks and the latency stays.

Convolutions are left alone unless asked for: ONNX Runtime's ConvInteger has no fast kernel.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
import onnx
from onnx import helper, numpy_helper

from hauberk.artifact import Artifact, OnnxArtifact
from hauberk.compress.core import Core, read_core
from hauberk.compress.notes import stay_in_float
from hauberk.compress.quantize.codes import FULL_RANGE, REDUCED_RANGE, largest_code
from hauberk.compress.quantize.layers import (
    Constants,
    find_layers,
    plain_gemms,
    require_finite,
    why_no_layer,
    with_constant_weights,
)
from hauberk.errors import InputError, one_line
from hauberk.graph.model import attributes
from hauberk.recipe import Context, Contract, Lossy, Step

# ONNX Runtime's quantizer asks for its own preparation unless a model says that it had it; here it has nothing to
# prepare (constants are lifted, shapes are re-inferred by the quantizer itself).
_PREPARED = ("onnx.quant.pre_process", "onnxruntime.quant")

_STORED = ("GRU", "RNN")

CONVOLUTIONS_ARE_SLOW = (
    "convolutions are quantized dynamically because that was asked for; measured, that is no faster than float32 on"
    " ResNet-18 and 1.6 times slower on a small residual network, and 3.5 to 8 times slower with the signed weights of"
    " the often copied recipe; static quantization is what makes convolutions faster"
)


class QuantizeDynamic(Step, frozen=True, kw_only=True, tag="quantize-dynamic"):
    """Quantize weights to int8 now and activations to uint8 at run time, with ONNX Runtime's quantizer.

    Attributes:
        per_channel: One weight scale an output channel instead of one a matrix.
        reduced_range: Weights in 7 bits, for x86 processors without VNNI, whose kernels saturate int16 sums of 8-bit
            products; "auto" asks the processor at hand.
        recurrent: LSTM, GRU and RNN too.
        convolutions: Convolutions too, which makes them slower or at best no faster; weights are then unsigned.
    """

    per_channel: bool = True
    reduced_range: bool | Literal["auto"] = "auto"
    recurrent: bool = True
    convolutions: bool = False

    CONTRACT: ClassVar[Lossy] = Lossy(agreement=0.98, rms=0.1)

    @property
    def contract(self) -> Contract:
        """Decisions agree on 98 % of real records, logits within 10 % of their root mean square."""
        return self.CONTRACT

    def notes(self, artifact: Artifact) -> tuple[str, ...]:
        """What stays in float, and what convolutions cost."""
        core = self._prepared(artifact)
        graph, constants = core.model.graph, Constants(core.model.graph)
        layers = {layer.name for layer in find_layers(graph)}
        recurrent = {tensor for node in _recurrent(graph) for tensor in node.output if tensor}

        def why(node: onnx.NodeProto) -> str:
            if node.op_type in ("LSTM", *_STORED):
                if not self.recurrent:
                    return "recurrent layers were not asked for"
                if not recurrent.intersection(node.output):
                    return "its weights are not constant"
                return "no integer kernel; its weights are kept in int8" if node.op_type in _STORED else ""
            if node.op_type == "Conv" and not self.convolutions:
                return "ONNX Runtime has no fast dynamic kernel for it"
            if node.op_type in ("ConvTranspose", "Einsum"):
                return "ONNX Runtime has no dynamic kernel for it"
            return "" if node.output[0] in layers or _splits(node, constants) else why_no_layer(node, constants)

        said = stay_in_float(graph, why)
        return (*said, CONVOLUTIONS_ARE_SLOW) if "Conv" in self._kinds(core) else said

    def apply(self, artifact: Artifact, context: Context) -> OnnxArtifact:  # noqa: ARG002 - needs no records
        """Return the graph with its linear and recurrent layers in int8.

        Raises:
            InputError: Not a core, already quantized, without layers of constant float32 weights, or ONNX Runtime's
                quantizer cannot handle the graph.
        """
        core = self._prepared(artifact)
        core.require_float()
        kinds = self._kinds(core)
        if not kinds:
            raise InputError(
                f"{self.name}: nothing to quantize, the graph has no Gemm, MatMul or recurrent layer with float32"
                " constant weights"
            )
        require_finite(core.model.graph, find_layers(core.model.graph), self.name)
        # Exporters record the shapes of weights there, and the quantizer, which transposes some, trips over them.
        del core.model.graph.value_info[:]
        model = core.model
        _store(model.graph, [kind for kind in kinds if kind in _STORED])
        # The quantizer first turns every Gemm into MatMul and Add.
        linear = [kind for kind in ("MatMul", "LSTM") if kind in kinds]
        if linear:
            model = self._quantize(model, linear, signed=True)
        if "Conv" in kinds:
            model = self._quantize(model, ["Conv"], signed=False)  # the less slow of ConvInteger's two kernels
        return core.finished(model)

    def _prepared(self, artifact: Artifact) -> Core:
        """The core with a matrix of its own in every Gemm: the quantizer transposes them in place, shared ones too."""
        core = read_core(with_constant_weights(artifact), self.name)
        plain_gemms(core.model.graph)
        return core

    def _kinds(self, core: Core) -> tuple[str, ...]:
        """The kinds of nodes of the graph that are to be quantized."""
        kinds = ["MatMul" if layer.kind == "Gemm" else layer.kind for layer in find_layers(core.model.graph)]
        if core.linear_layers():
            kinds.append("MatMul")
        if not self.convolutions:
            kinds = [kind for kind in kinds if kind != "Conv"]
        if self.recurrent:
            kinds += [node.op_type for node in _recurrent(core.model.graph)]
        return tuple(dict.fromkeys(kinds))

    def _quantize(self, model: onnx.ModelProto, kinds: Sequence[str], *, signed: bool) -> onnx.ModelProto:
        from onnxruntime.quantization import QuantType, quantize_dynamic  # noqa: PLC0415 - slow to import

        onnx.helper.set_model_props(model, dict([_PREPARED]))
        with tempfile.TemporaryDirectory(prefix="hauberk-") as folder, _quiet_root_logger():
            path = Path(folder) / "quantized.onnx"
            try:
                quantize_dynamic(
                    model,
                    path,
                    op_types_to_quantize=list(kinds),
                    nodes_to_exclude=_no_layers(model.graph),
                    per_channel=self.per_channel and signed,
                    reduce_range=largest_code(self.reduced_range) == REDUCED_RANGE,
                    weight_type=QuantType.QInt8 if signed else QuantType.QUInt8,
                    extra_options={"DefaultTensorType": onnx.TensorProto.FLOAT},
                )
            except (RuntimeError, ValueError, onnx.shape_inference.InferenceError) as error:
                raise InputError(f"{self.name}: ONNX Runtime's quantizer fails: {one_line(error)}") from error
            return onnx.load_model(path)


def _no_layers(graph: onnx.GraphProto) -> list[str]:
    """Name the MatMul nodes whose constant is no matrix, which the quantizer codes wrongly; return the names."""
    constants = Constants(graph)
    stacked = [
        node
        for node in graph.node
        if node.op_type == "MatMul" and node.input[1] in constants and len(constants.shape(node.input[1])) != 2
    ]
    for node in stacked:
        node.name = f"{node.output[0]}/stacked"
    return [node.name for node in stacked]


def _splits(node: onnx.NodeProto, constants: Constants) -> bool:
    """Whether the quantizer makes MatMul and Add of a Gemm although it is no layer: its bias may be computed."""
    if node.op_type != "Gemm" or constants.floats(node.input[1]) is None:
        return False
    stated = attributes(node)
    return bool((stated.get("alpha", 1), stated.get("beta", 1), stated.get("transA", 0)) == (1, 1, 0))


def _recurrent(graph: onnx.GraphProto) -> list[onnx.NodeProto]:
    """The LSTM, GRU and RNN nodes with constant float32 weights."""
    constants = Constants(graph)
    return [
        node
        for node in graph.node
        if node.op_type in ("LSTM", *_STORED) and all(constants.floats(name) is not None for name in node.input[1:3])
    ]


def _store(graph: onnx.GraphProto, kinds: list[str]) -> None:
    """Keep the weights of recurrent nodes as int8, `Cast` and `Mul` giving the floats back, in place.

    A DequantizeLinear would say the same, but ONNX Runtime then computes it anew in every call; these it folds.
    """
    constants = Constants(graph)
    widening: list[onnx.NodeProto] = []
    done: set[str] = set()
    for node in (node for node in _recurrent(graph) if node.op_type in kinds):
        for name in node.input[1:3]:
            weight = constants.floats(name)
            if weight is None or name in done:
                continue
            done.add(name)
            # [directions, gates * units, inputs]: every row is one unit of one gate.
            largest = np.abs(weight).max(axis=2, keepdims=True)
            scale = np.where(largest > 0, largest / FULL_RANGE, 1.0).astype(np.float32)
            codes = np.clip(np.rint(weight / scale), -FULL_RANGE, FULL_RANGE).astype(np.int8)
            parts = (f"{name}/codes", f"{name}/scale", f"{name}/steps")
            graph.initializer.append(numpy_helper.from_array(codes, parts[0]))
            graph.initializer.append(numpy_helper.from_array(scale, parts[1]))
            widening.append(helper.make_node("Cast", [parts[0]], [parts[2]], to=onnx.TensorProto.FLOAT))
            widening.append(helper.make_node("Mul", [parts[2], parts[1]], [name]))
    kept = [tensor for tensor in graph.initializer if tensor.name not in done]
    nodes = [*widening, *graph.node]
    del graph.initializer[:], graph.node[:]
    graph.initializer.extend(kept)
    graph.node.extend(nodes)


@contextmanager
def _quiet_root_logger() -> Iterator[None]:
    """Keep the quantizer's remarks off the root logger, and keep it from installing a handler there."""
    root = logging.getLogger()
    handler = logging.NullHandler()
    root.addHandler(handler)
    root.addFilter(_not_from_the_quantizer)
    try:
        yield
    finally:
        root.removeFilter(_not_from_the_quantizer)
        root.removeHandler(handler)


def _not_from_the_quantizer(record: logging.LogRecord) -> bool:
    return Path(record.pathname).parent.name not in ("quantization", "operators")
