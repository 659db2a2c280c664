"""What every compression step does before and after its own work: read the core, check the records, hand back a core.

The core of a detector is a graph with one input "features" float32 [batch, *shape] (records [batch, D], windows
[batch, T, D], images [batch, C, H, W]) and one output "logits" float32 [batch, K]. A step keeps that
signature whatever it does inside.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import onnx
import onnx_ir as ir
from numpy.typing import NDArray
from onnx import numpy_helper
from onnx_ir.passes.common import LiftConstantsToInitializersPass, RemoveUnusedNodesPass

from hauberk.artifact import Artifact, OnnxArtifact
from hauberk.errors import InputError
from hauberk.graph.check import check_model
from hauberk.graph.model import attributes, describe, parse, record_shape
from hauberk.graph.passes.strip_metadata import strip
from hauberk.recipe import Context

FEWEST_RECORDS = 10
"""Fewer calibration records than this say nothing about a range."""

_INTEGER_OPERATORS = frozenset(
    {
        "QuantizeLinear",
        "DequantizeLinear",
        "DynamicQuantizeLinear",
        "MatMulInteger",
        "ConvInteger",
        "QLinearMatMul",
        "QLinearConv",
        "QGemm",
        "DynamicQuantizeLSTM",
        "DynamicQuantizeMatMul",
        "MatMulNBits",
        "MatMulIntegerToFloat",
    }
)


@dataclass(frozen=True)
class Linear:
    """One linear layer `y = x @ weight + bias`, whatever node computes it.

    Attributes:
        node: The Gemm or MatMul.
        data: Name of the tensor that enters it.
        weight: Float32 [inputs, outputs], with a Gemm's `alpha` and transposition worked in.
        bias: Float32 [outputs] with a Gemm's `beta` worked in; `None` where there is none.
    """

    node: onnx.NodeProto
    data: str
    weight: NDArray[np.float32]
    bias: NDArray[np.float32] | None


@dataclass(frozen=True)
class Core:
    """The core of a detector in the hands of a step.

    Attributes:
        step: Name of the step, for messages.
        artifact: What the step was given.
        model: A copy of its graph, the step's own to change; every constant is an initializer.
    """

    step: str
    artifact: OnnxArtifact
    model: onnx.ModelProto

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one record that the core takes: (D,), (T, D) or (C, H, W)."""
        return record_shape(self.artifact.signature, self.step)

    @property
    def outputs(self) -> int:
        """K, the number of logits."""
        return int(self.artifact.signature.outputs[0].shape[1])

    @property
    def quantized_by(self) -> str:
        """An operator by which the graph already computes with integers; empty where it does not."""
        kinds = (node.op_type for node in self.model.graph.node)
        return next((kind for kind in kinds if kind in _INTEGER_OPERATORS), "")

    def linear_layers(self) -> tuple[Linear, ...]:
        """The Gemm and MatMul nodes whose weights (and bias) are float32 constants, in graph order."""
        constants = {tensor.name: tensor for tensor in self.model.graph.initializer}
        layers = (_linear(node, constants) for node in self.model.graph.node if node.op_type in ("Gemm", "MatMul"))
        return tuple(layer for layer in layers if layer is not None)

    def require_float(self) -> None:
        """Refuse a graph that already computes with integers.

        Raises:
            InputError: It does.
        """
        if self.quantized_by:
            raise InputError(
                f"{self.step}: the graph is already quantized (it has {self.quantized_by}); start from the float model"
            )

    def calibration(self, context: Context) -> NDArray[np.float32]:
        """The calibration records, float32 [N, *shape], known to fit the core.

        Raises:
            InputError: Wrong shape or dtype, fewer than `FEWEST_RECORDS` records, or values that are not finite.
        """
        records = context.calibration
        self.check_features(records, "calibration")
        if len(records) < FEWEST_RECORDS:
            raise InputError(
                f"{self.step}: {len(records)} calibration records are too few, at least {FEWEST_RECORDS} are needed"
            )
        return records

    def check_features(self, features: NDArray[np.float32], kind: str) -> None:
        """Check that records fit the core; `kind` names them in messages ("calibration", "training", …).

        Raises:
            InputError: Not float32 [N, *shape], or values that are not finite.
        """
        if features.dtype != np.float32 or features.ndim != 1 + len(self.shape):
            sizes = ", ".join(["records", *(["features"] if len(self.shape) == 1 else map(str, self.shape))])
            raise InputError(
                f"{self.step}: {kind} records are {features.dtype} {list(features.shape)}, not float32 [{sizes}]"
            )
        if features.shape[1:] != self.shape:
            got, needed = ("×".join(map(str, shape)) for shape in (features.shape[1:], self.shape))
            raise InputError(f"{self.step}: {kind} records have {got} features, the model takes {needed}")
        if not np.isfinite(features).all():
            row, *place = np.argwhere(~np.isfinite(features))[0]
            where = ", ".join(map(str, place))
            raise InputError(f"{self.step}: {kind} record {row} holds {features[row, *place]} in feature {where}")

    def finished(self, model: onnx.ModelProto) -> OnnxArtifact:
        """Seal the step's result: dead parts and all metadata dropped, checked, under the signature it came with.

        Raises:
            InputError: onnx or ONNX Runtime refuses it.
        """
        tidy = ir.from_proto(model)
        RemoveUnusedNodesPass()(tidy)
        serialised = strip(ir.to_proto(tidy).SerializeToString())
        check_model(serialised)
        return replace(self.artifact, model=serialised)


def read_core(artifact: Artifact, step: str) -> Core:
    """Take the core into hand for the step of that name.

    Raises:
        InputError: Not an ONNX graph with one float32 input [batch, *shape] and one float32 output [batch, K].
    """
    if not isinstance(artifact, OnnxArtifact):
        raise InputError(f"{step}: works on an exported graph, got a torch module; export it first")
    ends = (*artifact.signature.inputs, *artifact.signature.outputs)
    if len(artifact.signature.inputs) != 1 or len(artifact.signature.outputs) != 1:
        names = ", ".join(tensor.name for tensor in ends)
        raise InputError(f"{step}: needs a core with one input and one output, got {names}; compress before merging")
    record_shape(artifact.signature, step)
    logits = artifact.signature.outputs[0]
    if logits.dtype != "float32" or len(logits.shape) != 2 or isinstance(logits.shape[1], str):
        raise InputError(f"{step}: {describe(logits)} is not float32 [batch, logits]")
    model = ir.from_proto(parse(artifact.model))
    LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(model)
    return Core(step=step, artifact=artifact, model=ir.to_proto(model))


def _linear(node: onnx.NodeProto, constants: dict[str, onnx.TensorProto]) -> Linear | None:
    weight = _constant(node.input[1], constants)
    if weight is None or weight.ndim != 2:
        return None
    if node.op_type == "MatMul":
        return Linear(node, node.input[0], weight, None)
    stated = attributes(node)
    if stated.get("transA", 0):
        return None
    if stated.get("transB", 0):
        weight = weight.T
    weight = np.ascontiguousarray(weight * np.float32(stated.get("alpha", 1.0)))
    if len(node.input) < 3 or not node.input[2]:
        return Linear(node, node.input[0], weight, None)
    bias = _constant(node.input[2], constants)
    if bias is None:
        return None
    bias = np.broadcast_to(bias * np.float32(stated.get("beta", 1.0)), (1, weight.shape[1]))[0]
    return Linear(node, node.input[0], weight, np.ascontiguousarray(bias))


def _constant(name: str, constants: dict[str, onnx.TensorProto]) -> NDArray[np.float32] | None:
    tensor = constants.get(name)
    if tensor is None or tensor.data_type != onnx.TensorProto.FLOAT:
        return None
    array: NDArray[np.float32] = numpy_helper.to_array(tensor)
    return array
