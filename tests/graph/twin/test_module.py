"""The twin of whole models: equal to ONNX Runtime, differentiable, honest about what it cannot do."""

from __future__ import annotations

import dataclasses

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnxruntime import quantization
from onnxruntime.transformers.float16 import convert_float_to_float16
from torch import nn

from hauberk.errors import InputError
from hauberk.graph.export import export
from hauberk.graph.model import parse
from hauberk.graph.passes.strip_metadata import strip
from hauberk.graph.twin import Twin

FEATURES = np.random.default_rng(3).random((500, 57), dtype=np.float32)
HEAD = '<ir_version: 10, opset_import: ["" : 20]> g (float[batch,2] features) => (float[batch,2] logits)'

MICROSOFT = HEAD.replace('["" : 20]', '["" : 20, "com.microsoft" : 1]')


class Calibration(quantization.CalibrationDataReader):
    def __init__(self):
        self._batches = iter([{"features": FEATURES}])

    def get_next(self):
        return next(self._batches, None)


@pytest.fixture(scope="module")
def quantized(spambase_core, tmp_path_factory):
    """The detector as ONNX Runtime's own tools compress it, by name."""
    folder = tmp_path_factory.mktemp("quantized")
    source = folder / "source.onnx"
    source.write_bytes(strip(spambase_core.model))
    quantization.quantize_dynamic(source, folder / "dynamic.onnx", per_channel=True)
    quantization.quantize_static(source, folder / "static.onnx", Calibration(), per_channel=True)
    half = convert_float_to_float16(parse(spambase_core.model), keep_io_types=True)
    onnx.save(half, folder / "half.onnx")
    return {
        name: dataclasses.replace(spambase_core, model=(folder / f"{name}.onnx").read_bytes())
        for name in ("dynamic", "static", "half")
    }


def run_session(artifact, features=FEATURES, level=onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL):
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = level
    return onnxruntime.InferenceSession(artifact.model, options).run(None, {"features": features})[0]


def run_twin(artifact, features=FEATURES):
    with torch.no_grad():
        return Twin(artifact)(torch.from_numpy(features)).numpy()


@pytest.mark.parametrize("records", [1, 2, 257])
def test_the_twin_of_a_detector_equals_onnx_runtime(core, records):
    features = np.random.default_rng(records).random((records, 119), dtype=np.float32)
    np.testing.assert_allclose(run_twin(core, features), run_session(core, features), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("name", "tolerance"), [("dynamic", 1e-5), ("half", 1e-3), ("static", 1e-5)])
def test_the_twin_of_a_compressed_detector_equals_onnx_runtime(quantized, name, tolerance):
    """With every node run as written; half is compared more loosely, as ONNX Runtime skips some of its roundings."""
    expected = run_session(quantized[name], level=onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL)
    close = np.isclose(run_twin(quantized[name]), expected, rtol=tolerance, atol=tolerance).all(axis=1)
    # A sum that falls between two codes may go either way with the order of summation.
    assert close.mean() >= (0.98 if name == "static" else 1.0)


@pytest.mark.parametrize("name", ["dynamic", "half", "static"])
def test_the_twin_is_near_the_fused_kernels_too(quantized, name):
    found, expected = run_twin(quantized[name]), run_session(quantized[name])
    assert np.abs(found - expected).max() < 0.05 * expected.std()


@pytest.mark.parametrize("name", ["dynamic", "half", "static"])
def test_gradients_pass_through_rounding_and_point_where_the_float_model_s_do(spambase_core, quantized, name):
    def gradient(artifact):
        features = torch.from_numpy(FEATURES).requires_grad_()
        logits = Twin(artifact)(features)
        (logits[:, 1] - logits[:, 0]).sum().backward()
        return features.grad

    expected, found = gradient(spambase_core), gradient(quantized[name])
    assert (found.abs().amax(dim=1) > 0).all()
    alike = torch.cosine_similarity(found, expected, dim=1)  # a Relu near its edge may switch, so not all are the same
    assert alike.mean() > 0.97
    assert alike.min() > 0.6


def test_the_float_twin_has_the_gradients_of_the_source_module(detector, core):
    twin = Twin(core)
    features = torch.rand(20, 119, generator=torch.Generator().manual_seed(0))
    gradients = []
    for module in (detector.module, twin):
        moved = features.clone().requires_grad_()
        module.zero_grad()
        nn.functional.cross_entropy(module(moved), torch.arange(20) % 2).backward()
        gradients.append(moved.grad)
    torch.testing.assert_close(gradients[1], gradients[0])
    for name, parameter in detector.module.named_parameters():
        torch.testing.assert_close(twin.tensor(name).grad, parameter.grad)
        parameter.grad = None


def test_the_twin_holds_the_source_module_s_weights_as_its_own(detector, core):
    twin = Twin(core)
    assert len(list(twin.parameters())) == len(list(detector.module.parameters()))
    with torch.no_grad():
        twin.tensor("layers.0.weight").zero_()
    assert detector.module.layers[0].weight.abs().sum() > 0
    assert np.abs(run_twin(core, np.ones((1, 119), np.float32))).sum() > 0


def test_a_module_of_many_layers_survives_export_and_twin(torch_artifact):
    torch.manual_seed(0)

    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.before = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.GELU(), nn.Dropout(0.5))
            self.middle = nn.Sequential(nn.Linear(8, 8), nn.LayerNorm(8), nn.SiLU(), nn.Linear(8, 8), nn.ELU())
            self.after = nn.Sequential(nn.LeakyReLU(0.2), nn.Linear(8, 3), nn.Softplus())

        def forward(self, features):
            hidden = self.before(features)
            mixed = torch.cat([hidden[:, :4], torch.tanh(hidden[:, 4:])], dim=1) + self.middle(hidden)
            pairs = mixed.view(mixed.shape[0], 4, 2)
            pooled = torch.softmax(pairs, dim=-1).mean(dim=-1, keepdim=True) * pairs
            return self.after(pooled.reshape(mixed.shape[0], -1).clamp(-3, 3))

    artifact = torch_artifact(Block(), 6, outputs=3)
    features = torch.randn(9, 6, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        torch.testing.assert_close(Twin(export(artifact))(features), artifact.module(features), rtol=1e-4, atol=1e-5)


def test_a_shared_weight_is_one_parameter(graph_artifact):
    twin = Twin(
        graph_artifact(f"{HEAD} <float[2,2] w = {{1, 2, 3, 4}}> {{ m = MatMul(features, w) logits = MatMul(m, w) }}")
    )
    assert len(list(twin.parameters())) == 1
    twin(torch.ones(1, 2)).sum().backward()
    torch.testing.assert_close(twin.tensor("w").grad, torch.tensor([[7.0, 11.0], [9.0, 13.0]]))


def test_only_tensors_with_dimensions_are_weights(graph_artifact):
    text = f"""{HEAD} <float[2,2] w = {{1, 2, 3, 4}}, float s = {{0.1}}, uint8 z = {{3}}, int64[2] shape = {{-1, 2}}> {{
        c = Constant<value = float[2] {{5, 6}}>()
        a = QuantizeLinear(features, s, z) d = DequantizeLinear(a, s, z)
        m = MatMul(d, w) n = Add(m, c) logits = Reshape(n, shape) }}"""
    twin = Twin(graph_artifact(text))
    assert {name for name, _ in twin.named_parameters()} == {"w", "c"}
    assert {name for name, _ in twin.named_buffers()} == {"s", "z", "shape"}


def test_names_that_torch_does_not_take_are_kept_apart(graph_artifact):
    text = f"""{HEAD} <float[2] a = {{1, 2}}, float[2] b = {{3, 4}}, float[2] c = {{5, 6}}> {{
        m = Add(features, a) n = Add(m, b) logits = Add(n, c) }}"""
    artifact = graph_artifact(text)
    proto = parse(artifact.model)
    names = {"a": "a.b", "b": "a/b", "c": "forward"}
    for tensor in proto.graph.initializer:
        tensor.name = names[tensor.name]
    for node in proto.graph.node:
        node.input[1] = names[node.input[1]]
    twin = Twin(dataclasses.replace(artifact, model=proto.SerializeToString()))
    assert twin(torch.zeros(1, 2)).tolist() == [[9.0, 12.0]]
    assert twin.tensor("a.b").tolist() == [1, 2]


QUANTIZER = "q = QuantizeLinear({source}, s, z) logits = DequantizeLinear(q, s, z) }}"


@pytest.mark.parametrize(
    ("body", "gradient"),
    [
        (QUANTIZER.format(source="features"), [1.0, 1.0]),
        ("h = Identity(features) " + QUANTIZER.format(source="h"), [1.0, 0.0]),
    ],
    ids=["the graph's input", "inside"],
)
def test_saturation_stops_gradients_except_at_the_graph_s_input(graph_artifact, body, gradient):
    # Codes 0..255 with zero point 100 and step 0.5 reach from -50 to 77.5.
    twin = Twin(graph_artifact(f"{HEAD} <float s = {{0.5}}, uint8 z = {{100}}> {{ {body}"))
    features = torch.tensor([[3.3, 80.0]], requires_grad=True)
    logits = twin(features)
    assert logits.tolist() == [[3.5, 77.5]]
    logits.sum().backward()
    assert features.grad.tolist() == [gradient]


def test_a_cast_to_integers_passes_the_gradient(graph_artifact):
    twin = Twin(graph_artifact(f"{HEAD} {{ i = Cast<to = 7>(features) logits = Cast<to = 1>(i) }}"))
    features = torch.tensor([[1.7, -2.3]], requires_grad=True)
    logits = twin(features)
    logits.sum().backward()
    assert logits.tolist() == [[1.0, -2.0]]
    assert features.grad.tolist() == [[1.0, 1.0]]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (f"{HEAD} {{ [odd] logits = Det(features) }}", r"operator Det \(node 'odd'\) is not supported"),
        (f"{HEAD} {{ logits = Bernoulli(features) }}", r"operator Bernoulli \(node 'logits'\)"),
        (f"{MICROSOFT} {{ [f] logits = com.microsoft.Inverse(features) }}", r"com.microsoft:Inverse \(node 'f'\)"),
        (f"{HEAD.replace('20', '12')} {{ logits = Relu(features) }}", "opset 12 is too old"),
        (
            f"{HEAD.replace('(float', '(float[batch,2] second, float', 1)} {{ logits = Neg(features) }}",
            "2 inputs and 1",
        ),
    ],
)
def test_what_the_twin_lacks_is_named(graph_artifact, text, says):
    with pytest.raises(InputError, match=says):
        Twin(graph_artifact(text))


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ("{ c = Cast<to = 12>(features) logits = Cast<to = 1>(c) }", r"Cast \(node 'c'\): casting to UINT32"),
        (
            '<float[1] r = {0}, float[2] s = {1, 2}> { logits = Resize<mode = "cubic">(features, r, s) }',
            r"Resize \(node 'logits'\): the mode cubic",
        ),
    ],
)
def test_what_an_operator_lacks_is_named_too(graph_artifact, body, says):
    with pytest.raises(InputError, match=says):
        Twin(graph_artifact(f"{HEAD} {body}"))(torch.ones(1, 2))
