"""Cores to compress, built by hand with onnx so that these tests need no exporter, and what runs and inspects them."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from hauberk.artifact import OnnxArtifact
from hauberk.recipe import Context, LabelledFeatures
from hauberk.tensors import Signature, TensorSpec

WIDTH = 20

Floats = NDArray[np.float32]


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture
def as_core() -> Callable[..., OnnxArtifact]:
    """Nodes and constants to a core artifact: features [batch, width] to logits [batch, outputs]."""

    def build(
        nodes: list[onnx.NodeProto],
        constants: dict[str, np.ndarray],
        *,
        width: int = WIDTH,
        outputs: int = 2,
        opset: int = 20,
    ) -> OnnxArtifact:
        signature = Signature(
            inputs=(TensorSpec("features", "float32", ("batch", width)),),
            outputs=(TensorSpec("logits", "float32", ("batch", outputs)),),
        )
        graph = helper.make_graph(
            nodes,
            "core",
            [helper.make_tensor_value_info("features", TensorProto.FLOAT, ["batch", width])],
            [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", outputs])],
            [numpy_helper.from_array(value, name) for name, value in constants.items()],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)
        return OnnxArtifact(model=model.SerializeToString(), signature=signature, origin="0" * 64)

    return build


@pytest.fixture
def mlp(as_core: Callable[..., OnnxArtifact]) -> Callable[..., OnnxArtifact]:
    """Widths to a random MLP of Gemm (weights [out, in], transposed by the node, as torch exports them) and Relu."""

    def build(*widths: int, seed: int = 0, opset: int = 20) -> OnnxArtifact:
        generator = np.random.default_rng(seed)
        nodes, constants, data = [], {}, "features"
        for layer, (inputs, outputs) in enumerate(itertools.pairwise(widths)):
            weight = generator.normal(size=(outputs, inputs)) / np.sqrt(inputs)
            constants[f"w{layer}"] = weight.astype(np.float32)
            constants[f"b{layer}"] = generator.normal(size=outputs, scale=0.1).astype(np.float32)
            last = layer == len(widths) - 2
            result = "logits" if last else f"h{layer}"
            nodes.append(helper.make_node("Gemm", [data, f"w{layer}", f"b{layer}"], [result], transB=1))
            if not last:
                nodes.append(helper.make_node("Relu", [result], [f"r{layer}"]))
                data = f"r{layer}"
        return as_core(nodes, constants, width=widths[0], outputs=widths[-1], opset=opset)

    return build


@pytest.fixture
def core(mlp: Callable[..., OnnxArtifact]) -> OnnxArtifact:
    """An MLP 20-16-8-2."""
    return mlp(WIDTH, 16, 8, 2)


@pytest.fixture
def answers() -> Callable[[OnnxArtifact, Floats], Floats]:
    """An artifact's logits, computed by ONNX Runtime as it is used in production."""

    def run(artifact: OnnxArtifact, features: Floats) -> Floats:
        session = onnxruntime.InferenceSession(artifact.model, providers=["CPUExecutionProvider"])
        logits: Floats = session.run(["logits"], {"features": features})[0]
        return logits

    return run


@pytest.fixture
def fused(tmp_path: Path) -> Callable[[OnnxArtifact], list[str]]:
    """Operator types of the graph that ONNX Runtime really runs after its own optimisation."""

    def optimise(artifact: OnnxArtifact) -> list[str]:
        options = onnxruntime.SessionOptions()
        options.optimized_model_filepath = str(tmp_path / "optimised.onnx")
        options.log_severity_level = 3  # it warns that such a file is hardware-specific, which is what is wanted here
        onnxruntime.InferenceSession(artifact.model, options, providers=["CPUExecutionProvider"])
        return [node.op_type for node in onnx.load(tmp_path / "optimised.onnx").graph.node]

    return optimise


@pytest.fixture
def context(core: OnnxArtifact, answers: Callable[[OnnxArtifact, Floats], Floats]) -> Context:
    """400 random records in [-1, 1], labelled by the core's own margin: half benign, half attack."""
    features = np.random.default_rng(1).uniform(-1, 1, size=(400, WIDTH)).astype(np.float32)
    logits = answers(core, features)
    margin = logits[:, 1] - logits[:, 0]
    targets = (margin > np.median(margin)).astype(np.int64)
    return Context(
        calibration=features[:300],
        bounds=(np.full(WIDTH, -1, np.float32), np.ones(WIDTH, np.float32)),
        training=LabelledFeatures(features[:300], targets[:300]),
        validation=LabelledFeatures(features[300:], targets[300:]),
    )
