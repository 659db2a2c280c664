"""What the tests of the twin's operators share: a graph from its text, compared with ONNX Runtime and gradcheck."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper, parser

from hauberk.artifact import OnnxArtifact
from hauberk.graph.model import session
from hauberk.graph.twin import Twin
from hauberk.tensors import Signature

Arrays = Mapping[str, NDArray[np.generic]]


def _graph(body: str, shape: Sequence[int], constants: Arrays, opset: int = 21) -> onnx.ModelProto:
    """A graph `features` float32 [N, *shape] -> `logits` of any type and shape, its nodes in onnx's text form."""
    domains = f'["" : {opset}, "com.microsoft" : 1]'
    sizes = ",".join(map(str, shape))
    text = f"<ir_version: 10, opset_import: {domains}> g (float[N,{sizes}] features) => (float[N] logits) {{{body}}}"
    proto = parser.parse_model(text)
    proto.graph.output[0].CopyFrom(helper.make_tensor_value_info("logits", TensorProto.FLOAT, None))
    used = {name for node in proto.graph.node for name in node.input}
    unknown = used - {"", "features", *constants, *(name for node in proto.graph.node for name in node.output)}
    assert not unknown, f"the test lacks constants {unknown}"
    proto.graph.initializer.extend(
        numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items() if name in used
    )
    return proto


def _artifact(proto: onnx.ModelProto) -> OnnxArtifact:
    return OnnxArtifact(proto.SerializeToString(), Signature((), ()), "0" * 64)


def _twin(proto: onnx.ModelProto) -> Twin:
    return Twin(_artifact(proto)).eval()


def _compare(
    body: str,
    shape: Sequence[int],
    constants: Arrays | None = None,
    *,
    opset: int = 21,
    rtol: float = 2e-5,
    atol: float = 2e-6,
    equal: bool = False,
    batches: Sequence[int] = (1, 3),
    gradients: bool = True,
    scale: float = 1.0,
) -> None:
    """Assert that twin and ONNX Runtime agree, and that the twin's gradients are those of finite differences."""
    proto = _graph(body, shape, constants or {}, opset)
    runner, twin = session(proto.SerializeToString()), _twin(proto)
    random = np.random.default_rng(len(body))
    for batch in batches:
        features = (random.normal(size=(batch, *shape)) * scale).astype(np.float32)
        expected = runner.run(None, {"features": features})[0]
        with torch.no_grad():
            found = twin(torch.from_numpy(features)).numpy()
        assert (found.dtype, found.shape) == (expected.dtype, expected.shape)
        if equal:
            np.testing.assert_array_equal(found, expected)
        else:
            np.testing.assert_allclose(found, expected, rtol=rtol, atol=atol)
    if gradients:
        _check_gradients(twin, torch.from_numpy(random.normal(size=(2, *shape)) * scale))


def _check_gradients(twin: Twin, features: torch.Tensor) -> None:
    """`torch.autograd.gradcheck` in float64, for the features and every parameter together."""
    double = twin.double()
    names = [name for name, _ in double.named_parameters()]

    def function(moved: torch.Tensor, *parameters: torch.Tensor) -> torch.Tensor:
        return torch.func.functional_call(double, dict(zip(names, parameters, strict=True)), (moved,))

    inputs = (features, *(parameter.detach().clone() for parameter in double.parameters()))
    assert torch.autograd.gradcheck(function, tuple(value.requires_grad_() for value in inputs), fast_mode=True)


@pytest.fixture(scope="session")
def graph() -> Callable[..., onnx.ModelProto]:
    return _graph


@pytest.fixture(scope="session")
def artifact_of() -> Callable[[onnx.ModelProto], OnnxArtifact]:
    return _artifact


@pytest.fixture(scope="session")
def twin_of() -> Callable[[onnx.ModelProto], Twin]:
    return _twin


@pytest.fixture(scope="session")
def compare() -> Callable[..., None]:
    return _compare
