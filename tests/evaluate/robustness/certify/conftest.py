"""Cores to certify, built by hand with onnx, and what runs them as they are deployed."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from hauberk.artifact import OnnxArtifact
from hauberk.attacks import FeatureThreat
from hauberk.graph import model as onnx_model
from hauberk.recipe import LabelledFeatures
from hauberk.schema import Decision
from hauberk.tensors import Signature, TensorSpec


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def node(operator: str, inputs: Sequence[str], output: str, **attributes: object) -> onnx.NodeProto:
    return helper.make_node(operator, list(inputs), [output], name=output, **attributes)


def build(
    nodes: Sequence[onnx.NodeProto],
    constants: dict[str, np.ndarray],
    shape: Sequence[int],
    outputs: int = 2,
    opset: int = 20,
) -> OnnxArtifact:
    """Nodes and constants to a core artifact: features [batch, *shape] to logits [batch, outputs]."""
    signature = Signature(
        inputs=(TensorSpec("features", "float32", ("batch", *shape)),),
        outputs=(TensorSpec("logits", "float32", ("batch", outputs)),),
    )
    graph = helper.make_graph(
        list(nodes),
        "core",
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, ["batch", *shape])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", outputs])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    opsets = [helper.make_opsetid("", opset)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=10)
    return OnnxArtifact(model=model.SerializeToString(), signature=signature, origin="0" * 64)


def mlp(
    *widths: int, seed: int = 0, activation: str = "Relu", scale: float = 1.0, **attributes: object
) -> OnnxArtifact:
    """A random network of Gemm and an activation."""
    generator = np.random.default_rng(seed)
    nodes, constants, data = [], {}, "features"
    for layer, (inputs, outputs) in enumerate(itertools.pairwise(widths)):
        weight = scale * generator.normal(size=(outputs, inputs)) * np.sqrt(2 / inputs)
        constants[f"w{layer}"] = weight.astype(np.float32)
        constants[f"b{layer}"] = generator.normal(size=outputs, scale=0.2).astype(np.float32)
        last = layer == len(widths) - 2
        result = "logits" if last else f"h{layer}"
        nodes.append(node("Gemm", [data, f"w{layer}", f"b{layer}"], result, transB=1))
        if not last:
            nodes.append(node(activation, [result], f"r{layer}", **attributes))
            data = f"r{layer}"
    return build(nodes, constants, widths[:1], widths[-1])


def box(radius: float, width: int, **options: object) -> FeatureThreat:
    """Everything in [0, 1] may move by the radius."""
    low, high = np.zeros(width, np.float32), np.ones(width, np.float32)
    mutable = options.pop("mutable", np.ones(width, np.bool_))
    return FeatureThreat(radius, low, high, mutable, **options)


def session(artifact: OnnxArtifact) -> Callable[[np.ndarray], np.ndarray]:
    """The graph as ONNX Runtime answers it: rows [N, D] to logits [N, K]."""
    running = onnx_model.session(artifact.model)
    shape = artifact.signature.inputs[0].shape[1:]

    def logits(rows: np.ndarray) -> np.ndarray:
        return running.run(None, {"features": rows.reshape(len(rows), *shape)})[0]

    return logits


def answered(artifact: OnnxArtifact, rows: np.ndarray, decision: Decision | None = None) -> LabelledFeatures:
    """Records with the answers that the graph itself gives, so that each is right to begin with."""
    decision = decision or Decision()
    margins = decision.margin(session(artifact)(rows))
    return LabelledFeatures(rows, (margins >= np.float32(decision.threshold)).astype(np.int64))
