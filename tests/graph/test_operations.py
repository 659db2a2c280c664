"""Counts against closed forms and against published figures."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from hauberk.artifact import TorchArtifact
from hauberk.errors import InputError
from hauberk.graph.export import export
from hauberk.graph.operations import operations, tensor_shapes
from hauberk.models import resnet18
from hauberk.tensors import Signature, TensorSpec


def model(nodes, constants, record, *, opset=20):
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, ["batch", *record])],
        [helper.make_empty_tensor_value_info("logits")],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)


def weights(*shape):
    return np.zeros(shape, np.float32)


CASES = {
    "Gemm": (
        [helper.make_node("Gemm", ["features", "w"], ["logits"], transB=1)],
        {"w": weights(7, 5)},
        (5,),
        7 * 5,
    ),
    "MatMul": ([helper.make_node("MatMul", ["features", "w"], ["logits"])], {"w": weights(5, 7)}, (3, 5), 3 * 5 * 7),
    "Conv": (
        [helper.make_node("Conv", ["features", "w"], ["logits"], strides=[2, 2], group=2)],
        {"w": weights(8, 3, 3, 3)},
        (6, 9, 7),
        8 * 4 * 3 * (3 * 3 * 3),
    ),
    "ConvTranspose": (
        [helper.make_node("ConvTranspose", ["features", "w"], ["logits"], strides=[2, 2])],
        {"w": weights(6, 4, 2, 2)},
        (6, 5, 5),
        6 * 5 * 5 * (4 * 2 * 2),
    ),
    "GRU": (
        [
            helper.make_node("Transpose", ["features"], ["x"], perm=[1, 0, 2]),
            helper.make_node("GRU", ["x", "w", "r"], ["logits"], hidden_size=4, direction="bidirectional"),
        ],
        {"w": weights(2, 12, 5), "r": weights(2, 12, 4)},
        (6, 5),
        6 * 2 * 3 * 4 * (5 + 4),
    ),
    "Einsum": (
        [helper.make_node("Einsum", ["features", "w"], ["logits"], equation="btd,dk->btk")],
        {"w": weights(5, 7)},
        (3, 5),
        3 * 5 * 7,
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_closed_forms(name):
    nodes, constants, record, macs = CASES[name]
    counted = operations(model(nodes, constants, record).SerializeToString())
    assert counted.macs == macs
    assert counted.parameters == sum(value.size for value in constants.values())


def test_resnet18_as_published():
    """torchvision states 11,689,512 parameters and 1.81 GFLOPS (multiply-adds) for IMAGENET1K_V1.

    The exporter folds batch norm into the kernels; fresh layers have no bias to leave behind.
    """
    module = resnet18(outputs=1000).eval()
    signature = Signature(
        inputs=(TensorSpec("features", "float32", ("batch", 3, 224, 224)),),
        outputs=(TensorSpec("logits", "float32", ("batch", 1000)),),
    )
    counted = operations(export(TorchArtifact(module, signature, "0" * 64)).model)
    channels = sum(part.num_features for part in module.modules() if isinstance(part, torch.nn.BatchNorm2d))
    assert counted.parameters == 11_689_512 - 2 * channels
    assert round(counted.macs / 1e9, 2) == 1.81


def test_shapes_that_onnx_cannot_infer_come_from_a_run():
    """onnx loses a shape that is computed through NonZero; a run does not."""
    nodes = [
        helper.make_node("NonZero", ["ones"], ["places"]),
        helper.make_node("Reshape", ["places", "flat"], ["target"]),
        helper.make_node("Add", ["target", "target_plus"], ["sizes"]),
        helper.make_node("Expand", ["features", "sizes"], ["logits"]),
    ]
    constants = {"ones": np.ones(1, np.int64), "flat": np.array([-1]), "target_plus": np.array([5])}
    shapes = tensor_shapes(model(nodes, constants, (5,)), batch=3)
    assert (shapes["places"], shapes["logits"]) == ((1, 1), (3, 5))


def test_a_free_size_besides_the_batch_is_refused():
    broken = onnx.ModelProto()
    broken.CopyFrom(model(*CASES["MatMul"][:3]))
    broken.graph.input[0].type.tensor_type.shape.dim[1].dim_param = "steps"
    with pytest.raises(InputError, match=r"'features' is \[batch, steps, 5\]; only its first size"):
        operations(broken)
