"""What goes into a twin and comes out of it: values written back, tensors captured, functions on tensors."""

from __future__ import annotations

import copy

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper, parser
from torch import nn

from hauberk.errors import InputError
from hauberk.graph.export import export
from hauberk.graph.model import artifact, parse, run, session
from hauberk.graph.twin import Twin

FEATURES = np.random.default_rng(5).random((40, 119), dtype=np.float32)
HEAD = '<ir_version: 10, opset_import: ["" : 21]> g (float[batch,2] features) => (float[batch,2] logits)'
HALF = (
    f"{HEAD} <float[2] bias = {{0.5, -0.5}}> {{ w = Cast<to=1>(half) m = MatMul(features, w) logits = Add(m, bias) }}"
)


@pytest.fixture
def half():
    """`features @ half + bias`, with `half` in half precision: [[1, 2], [3, 4]]."""
    proto = parser.parse_model(HALF)
    proto.graph.initializer.append(numpy_helper.from_array(np.array([[1, 2], [3, 4]], np.float16), "half"))
    return artifact(proto.SerializeToString())


def answers(model, features=FEATURES):
    return run(session(model.model), {"features": features})[0]


def twin_answers(twin, features=FEATURES):
    with torch.no_grad():
        return twin(torch.from_numpy(features)).numpy()


def initializers(model):
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in parse(model.model).graph.initializer}


def test_untouched_parameters_give_the_same_bits(core):
    written = Twin(core).to_artifact()
    np.testing.assert_array_equal(answers(written), answers(core))
    onnx.checker.check_model(parse(written.model), full_check=True)


def test_writing_keeps_signature_origin_history_and_names(core):
    written = Twin(core).to_artifact()
    assert (written.signature, written.origin, written.history) == (core.signature, core.origin, core.history)
    assert initializers(written).keys() >= initializers(core).keys()
    assert [node.op_type for node in parse(written.model).graph.node] == [
        node.op_type for node in parse(core.model).graph.node if node.op_type != "Constant"
    ]


def test_changed_parameters_are_written(core):
    twin = Twin(core)
    before = answers(core)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in twin.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.1)
    found = answers(twin.to_artifact())
    np.testing.assert_allclose(found, twin_answers(twin), rtol=1e-4, atol=1e-5)
    assert np.abs(found - before).max() > 0.01


def test_a_detector_trained_as_onnx_alone_learns_and_is_written_back(core):
    """A few steps of gradient descent on a rule: the ONNX file that comes out follows it."""
    twin = Twin(core)
    features = torch.from_numpy(FEATURES)
    targets = (features[:, 0] > features[:, 1]).long()
    optimiser = torch.optim.Adam(twin.parameters(), lr=0.01)
    for _ in range(30):
        optimiser.zero_grad()
        nn.functional.cross_entropy(twin(features), targets).backward()
        optimiser.step()
    assert (answers(twin.to_artifact()).argmax(1) == targets.numpy()).all()


def test_half_precision_is_written_as_half_precision(half):
    twin = Twin(half)
    with torch.no_grad():
        twin.tensor("half").mul_(1 / 3)
    written = twin.to_artifact()
    expected = (np.array([[1, 2], [3, 4]], np.float32) / 3).astype(np.float16)
    np.testing.assert_array_equal(initializers(written)["half"], expected)
    assert initializers(written)["half"].dtype == np.float16


def test_a_parameter_of_another_shape_is_refused(half):
    twin = Twin(half)
    twin.bias = nn.Parameter(torch.zeros(3))
    with pytest.raises(InputError, match=r"'bias' is now of shape \[3\]; the graph has \[2\]"):
        twin.to_artifact()


def test_a_copy_is_independent(core):
    twin = Twin(core)
    other = copy.deepcopy(twin)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.zero_()
    assert np.abs(answers(twin.to_artifact())).max() > 0
    assert np.abs(answers(other.to_artifact())).max() == 0


NAMES = ("features", "half", "w", "m", "logits")


def test_capture_returns_tensors_by_their_onnx_names(half):
    features = torch.tensor([[1.0, 2.0]])
    found = Twin(half).capture(features, NAMES)
    weight = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    expected = {
        "features": features,
        "half": weight,
        "w": weight,
        "m": features @ weight,
        "logits": features @ weight + torch.tensor([0.5, -0.5]),
    }
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value)


def test_captured_tensors_have_gradients(half):
    twin = Twin(half)
    twin.capture(torch.tensor([[1.0, 2.0]]), ["m"])["m"].sum().backward()
    torch.testing.assert_close(twin.tensor("half").grad, torch.tensor([[1.0, 1.0], [2.0, 2.0]]))
    assert twin.tensor("bias").grad is None


@pytest.mark.parametrize("name", ["absent", ""])
def test_capturing_what_is_not_there_is_refused(half, name):
    with pytest.raises(InputError, match="the graph has no tensor"):
        Twin(half).capture(torch.zeros(1, 2), [name])


@pytest.mark.parametrize(("name", "expected"), [
    ("features", [[14.5, 19.5]]),  # (2, 4) instead of (1, 2): [2 + 12, 4 + 16]
    ("half", [[14.5, 19.5]]),
    ("m", [[14.5, 19.5]]),
    ("bias", [[8.0, 9.0]]),
    ("logits", [[15.0, 19.0]]),
])  # fmt: skip
def test_a_function_on_a_tensor_changes_what_the_graph_goes_on_with(half, name, expected):
    twin = Twin(half)
    assert twin(torch.tensor([[1.0, 2.0]])).tolist() == [[7.5, 9.5]]
    twin.on_tensor[name] = lambda tensor: tensor * 2
    assert twin(torch.tensor([[1.0, 2.0]])).tolist() == expected
    assert twin.capture(torch.tensor([[1.0, 2.0]]), ["logits"])["logits"].tolist() == expected


def test_a_function_on_a_weight_is_trained_through_and_not_written(half):
    twin = Twin(half)
    twin.on_tensor["half"] = lambda tensor: tensor * 2
    twin(torch.tensor([[1.0, 2.0]])).sum().backward()
    torch.testing.assert_close(twin.tensor("half").grad, torch.tensor([[2.0, 2.0], [4.0, 4.0]]))
    assert initializers(twin.to_artifact())["half"].tolist() == [[1, 2], [3, 4]]


def test_a_function_is_called_once_a_run_however_many_nodes_use_the_tensor(graph_artifact):
    twin = Twin(graph_artifact(f"{HEAD} {{ r = Relu(features) a = Add(r, r) logits = Mul(a, r) }}"))
    calls = []
    twin.on_tensor["r"] = lambda tensor: calls.append(tensor) or tensor
    twin(torch.ones(1, 2))
    assert len(calls) == 1


def test_an_exported_module_with_constants_inside_is_written_back(torch_artifact):
    """What exporters leave inside (Constant nodes, functions) comes out as initializers."""

    class Gated(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = nn.Linear(6, 4)
            self.outer = nn.Linear(4, 2)

        def forward(self, features):
            return self.outer(nn.functional.gelu(self.inner(features)) * 0.5 + torch.arange(4))

    torch.manual_seed(0)
    artifact = export(torch_artifact(Gated(), 6))
    features = np.random.default_rng(0).normal(size=(7, 6)).astype(np.float32)
    np.testing.assert_array_equal(answers(Twin(artifact).to_artifact(), features), answers(artifact, features))


def test_settling_holds_what_a_function_made_of_a_weight(half):
    twin = Twin(half)
    twin.on_tensor["half"] = lambda tensor: tensor * 2
    twin.on_tensor["m"] = lambda tensor: tensor + 1
    before = twin(torch.tensor([[1.0, 2.0]])).tolist()
    twin.settle(["half", "bias"])
    assert set(twin.on_tensor) == {"m"}
    assert twin(torch.tensor([[1.0, 2.0]])).tolist() == before
    assert initializers(twin.to_artifact())["half"].tolist() == [[2, 4], [6, 8]]
