"""How many zeros a graph holds and makes, and what they are worth.

Measured verdict (docs/reference/pruning.md): ONNX Runtime and OpenVINO multiply by zeros like by any other number, so
zeros in weights or activations gain no time and no memory on a processor, at 90 % as at 2:4. They gain room only where
the file is compressed, and only zeros in weights do.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import numpy_helper

from hauberk.artifact import OnnxArtifact
from hauberk.graph.model import attributes, parse
from hauberk.graph.twin import Twin

_BATCH = 256
_INPUTS = {"Conv": ((1, 1),), "ConvTranspose": ((1, 0),), "MatMul": ((1, 0),)}
_RECURRENT = ((1, 2), (2, 2))


@dataclass(frozen=True)
class Sparsity:
    """Zeros among the weights of a graph.

    Attributes:
        zeros: Weights that are zero.
        weights: Weights altogether: elements of the matrices and kernels of linear, convolutional and recurrent layers.
        by_weight: Share of zeros in each of them, by name, in [0, 1].
        size: Bytes of the file.
        compressed: Bytes of the file compressed by zlib at level 9, which is what the zeros gain.
    """

    zeros: int
    weights: int
    by_weight: Mapping[str, float]
    size: int
    compressed: int

    @property
    def share(self) -> float:
        """Zeros among the weights, in [0, 1]."""
        return self.zeros / self.weights if self.weights else 0.0


def weight_sparsity(model: bytes) -> Sparsity:
    """Count the zeros in a graph's weights.

    Args:
        model: The serialised graph, its weights inline.

    Raises:
        InputError: Not an ONNX model.
    """
    proto = parse(model)
    arrays = {tensor.name: tensor for tensor in proto.graph.initializer}
    found = {name: numpy_helper.to_array(arrays[name]) for name in weights_of(proto)}
    return Sparsity(
        zeros=sum(int(np.count_nonzero(array == 0)) for array in found.values()),
        weights=sum(array.size for array in found.values()),
        by_weight={name: float(np.mean(array == 0)) for name, array in found.items()},
        size=len(model),
        compressed=len(zlib.compress(model, 9)),
    )


def activation_sparsity(artifact: OnnxArtifact, records: NDArray[np.float32]) -> dict[str, float]:
    """Share of zeros in each feature map behind a Relu, over records.

    Args:
        artifact: A core.
        records: Float32 [N, *shape], N at least 1.

    Returns:
        By the name of the Relu's result, in graph order; empty where there is no Relu.
    """
    twin, names = Twin(artifact).eval(), rectified(parse(artifact.model))
    zeros, values = dict.fromkeys(names, 0), dict.fromkeys(names, 0)
    with torch.no_grad():
        for start in range(0, len(records), _BATCH):
            batch = torch.from_numpy(np.ascontiguousarray(records[start : start + _BATCH]))
            for name, tensor in twin.capture(batch, names).items():
                zeros[name] += int((tensor == 0).sum())
                values[name] += tensor.numel()
    return {name: zeros[name] / values[name] for name in names}


def rectified(model: onnx.ModelProto) -> list[str]:
    """Results of the Relu nodes of a graph."""
    return [node.output[0] for node in model.graph.node if node.op_type == "Relu" and not node.domain]


def weights_of(model: onnx.ModelProto) -> dict[str, int]:
    """Float32 matrices and kernels of a graph, in graph order, with the axis that runs over a layer's inputs."""
    floats = {
        tensor.name
        for tensor in model.graph.initializer
        if tensor.data_type == onnx.TensorProto.FLOAT and len(tensor.dims) > 1
    }
    found: dict[str, int] = {}
    for node in model.graph.node:
        if node.op_type == "Gemm":
            places: tuple[tuple[int, int], ...] = ((1, 1 if attributes(node).get("transB", 0) else 0),)
        elif node.op_type in ("LSTM", "GRU", "RNN"):
            places = _RECURRENT
        else:
            places = _INPUTS.get(node.op_type, ())
        for position, axis in places:
            if node.input[position] in floats:
                found.setdefault(node.input[position], axis)
    return found
