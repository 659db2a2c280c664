"""Every reference architecture is read from its graph alone, and a smaller one of its kind takes its place."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
import torch
from onnx import helper

from hauberk.artifact import OnnxArtifact, TorchArtifact
from hauberk.compress import Distill
from hauberk.compress.core import read_core
from hauberk.compress.distill import Network, Scaled
from hauberk.compress.distill.ladder import network_of, scaled
from hauberk.compress.distill.student import make
from hauberk.errors import InputError
from hauberk.graph.export import export
from hauberk.graph.passes import CleanUp
from hauberk.models import build
from hauberk.recipe import Context
from hauberk.tensors import Signature, TensorSpec

NOBODY = Context(np.zeros((0, 1), np.float32), (np.zeros(1, np.float32), np.zeros(1, np.float32)), trained=False)

GRAPHS = {
    "tabular-mlp": ((20,), {"widths": [32, 16, 8]}, {"widths": [8, 4]}),
    "window-cnn": ((8, 5), {"channels": [16, 8]}, {"channels": [4]}),
    "window-lstm": (
        (8, 5),
        {"hidden": 12, "layers": 2, "bidirectional": True},
        {"hidden": 6, "layers": 1, "bidirectional": True},
    ),
    "window-gru": (
        (8, 5),
        {"hidden": 12, "layers": 1, "bidirectional": False},
        {"hidden": 6, "layers": 1, "bidirectional": False},
    ),
    "window-transformer": ((8, 5), {"width": 32, "layers": 2}, {"width": 16, "heads": 2, "layers": 1}),
    "residual-cnn": ((3, 8, 8), {"widths": [8, 16]}, {"widths": [8]}),
}
"""Name, shape of a record, what it was built with, and what is left at half of the width and of the depth."""

every_graph = pytest.mark.parametrize("name", GRAPHS)


@pytest.fixture(scope="module")
def graphs() -> dict[str, OnnxArtifact]:
    """Fresh networks as they come from their exporter, cleaned up."""
    return {name: graph(name, shape, parameters) for name, (shape, parameters, _) in GRAPHS.items()}


def graph(name: str, shape: tuple[int, ...], parameters: dict) -> OnnxArtifact:
    sizes = {
        1: {"inputs": shape[-1]},
        2: {"inputs": shape[-1], "window": shape[0]},
        3: {"channels": shape[0], "size": shape[-1]},
    }
    module = build(name, {**parameters, **sizes[len(shape)], "outputs": 3}).eval()
    signature = Signature(
        (TensorSpec("features", "float32", ("batch", *shape)),), (TensorSpec("logits", "float32", ("batch", 3)),)
    )
    return CleanUp().apply(export(TorchArtifact(module, signature, "0" * 64)), NOBODY)


def weights(artifact: OnnxArtifact) -> int:
    initializers = onnx.load_model_from_string(artifact.model).graph.initializer
    return sum(int(np.prod(tensor.dims)) for tensor in initializers if tensor.data_type == onnx.TensorProto.FLOAT)


@every_graph
def test_the_architecture_is_read_from_the_graph(name, graphs):
    assert network_of(read_core(graphs[name], "test")) == (name, GRAPHS[name][1])


@every_graph
def test_half_of_it(name):
    _, parameters, half = GRAPHS[name]
    assert scaled(name, parameters, 0.5, 0.5) == half


@every_graph
def test_a_smaller_student_answers_in_its_place(name, graphs):
    student = make(Scaled(width=0.5, depth=0.5), read_core(graphs[name], "test"), NOBODY)
    with torch.no_grad():
        assert student(torch.zeros(5, *GRAPHS[name][0])).shape == (5, 3)
    assert parameters_of(student) < 0.6 * weights(graphs[name])


def test_its_graph_has_the_signature_of_the_one_before(graphs, answers):
    student = Distill(student=Scaled(width=0.5)).apply(graphs["window-gru"], NOBODY)
    assert student.signature == graphs["window-gru"].signature
    assert answers(student, np.zeros((5, 8, 5), np.float32)).shape == (5, 3)


def test_a_student_of_the_same_size_has_as_many_weights(graphs):
    student = make(Scaled(width=1.0), read_core(graphs["tabular-mlp"], "test"), NOBODY)
    assert parameters_of(student) == weights(graphs["tabular-mlp"])


def parameters_of(module: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def test_another_kind_of_student_may_be_named(graphs):
    student = make(Network("window-cnn", {"channels": [4]}), read_core(graphs["window-gru"], "test"), NOBODY)
    with torch.no_grad():
        assert student(torch.zeros(2, 8, 5)).shape == (2, 3)


def test_a_student_that_takes_other_records_is_refused(graphs):
    with pytest.raises(InputError, match=r"takes \[8, 5\] a record; tabular-mlp takes \[5\]"):
        Distill(student=Network("tabular-mlp", {"widths": [4]})).apply(graphs["window-gru"], NOBODY)


def test_an_unknown_architecture_is_refused(graphs):
    with pytest.raises(InputError, match="unknown architecture 'forest'"):
        Distill(student=Network("forest")).apply(graphs["tabular-mlp"], NOBODY)


def test_a_graph_of_no_known_kind_is_refused():
    nodes = [
        helper.make_node("Flatten", ["features"], ["flat"]),
        helper.make_node("Gemm", ["flat", "weight"], ["logits"]),
    ]
    made = helper.make_graph(
        nodes,
        "core",
        [helper.make_tensor_value_info("features", onnx.TensorProto.FLOAT, ["batch", 4, 5])],
        [helper.make_tensor_value_info("logits", onnx.TensorProto.FLOAT, ["batch", 2])],
        [onnx.numpy_helper.from_array(np.ones((20, 2), np.float32), "weight")],
    )
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    signature = Signature(
        (TensorSpec("features", "float32", ("batch", 4, 5)),), (TensorSpec("logits", "float32", ("batch", 2)),)
    )
    with pytest.raises(InputError, match="shows none of the reference architectures"):
        Distill(student=Scaled()).apply(OnnxArtifact(model.SerializeToString(), signature, "0" * 64), NOBODY)


@pytest.mark.parametrize("parameters", [{"width": 0.0}, {"width": 1.5}, {"depth": float("nan")}])
def test_fractions_out_of_range_are_refused(parameters):
    with pytest.raises(InputError, match="above 0 and at most 1"):
        Scaled(**parameters)
