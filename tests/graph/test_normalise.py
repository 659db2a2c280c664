"""Normalise: somebody's ONNX model becomes a core that answers the same, or is refused with a reason."""

from __future__ import annotations

import hashlib

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from hauberk.artifact import OnnxArtifact
from hauberk.errors import InputError
from hauberk.graph.normalise import normalise
from hauberk.schema.decision import Decision, sigmoid
from hauberk.tensors import Signature, TensorSpec

HEAD = '<ir_version: 8, opset_import: ["" : 17]>'
WEIGHTS = "float[4,2] w = {1, -2, 0.5, 3, -1, 0.25, 2, 1}, float[4,1] v = {1, -2, 0.5, 3}"
PLAIN = f"g (float[N,4] x) => (float[N,2] y) <{WEIGHTS}> {{ y = MatMul(x, w) }}"
FEATURES = np.random.default_rng(0).normal(size=(5, 4)).astype(np.float32)
LOGITS = FEATURES @ np.array([[1, -2], [0.5, 3], [-1, 0.25], [2, 1]], dtype=np.float32)
CORE = Signature((TensorSpec("features", "float32", ("batch", 4)),), (TensorSpec("logits", "float32", ("batch", 2)),))


def answer(artifact: OnnxArtifact) -> np.ndarray:
    return onnxruntime.InferenceSession(artifact.model).run(None, {"features": FEATURES})[0]


@pytest.mark.parametrize(
    "text",
    [
        f"{HEAD} {PLAIN}",
        f"{HEAD} g (float[1,4] x) => (float[1,2] y) <{WEIGHTS}> {{ y = MatMul(x, w) }}",
        f"{HEAD} g (float[N,4] logits) => (float[N,2] features) <{WEIGHTS}> {{ features = MatMul(logits, w) }}",
        f"{HEAD} g (float[N,4] x) => (double[N,2] y) <{WEIGHTS}> {{ m = MatMul(x, w) y = Cast<to = 11>(m) }}",
        f"{HEAD} g (float[N,4] x) => (float[N,2] y) <{WEIGHTS}> {{ m = MatMul(x, w) y = Identity(m) }}",
        f'<ir_version: 6, opset_import: ["" : 11]> {PLAIN}',
        f'<ir_version: 10, opset_import: ["" : 22]> {PLAIN}',
        f"{HEAD} g (float[N,4] x, float[4,2] w) => (float[N,2] y) <{WEIGHTS}> {{ y = MatMul(x, w) }}",
        f"""{HEAD} g (float[N,4] x) => (float[N,2] y) <{WEIGHTS}>
            {{ features_0 = Neg(x) features = Neg(features_0) logits = MatMul(features, w) y = Identity(logits) }}""",
    ],
    ids=["plain", "one record", "swapped names", "double", "identity", "opset 11", "opset 22", "old inputs", "clashes"],
)
def test_the_core_answers_what_the_model_answered(graph_artifact, text):
    core = normalise(graph_artifact(text))
    np.testing.assert_allclose(answer(core), LOGITS, rtol=1e-6, atol=1e-6)
    assert core.signature == CORE
    proto = onnx.load_from_string(core.model)
    assert (proto.ir_version, proto.opset_import[0].version) == (10, 20)


def test_names_in_nested_graphs_are_renamed_too(graph_artifact):
    text = f"""{HEAD} g (float[N,4] x) => (float[N,2] y) <{WEIGHTS}, bool yes = {{1}}> {{
        logits = MatMul(x, w)
        y = If (yes) <then_branch = a () => (float[N,2] p) {{ p = Identity(logits) }},
                      else_branch = b () => (float[N,2] features) {{ features = Neg(logits) }}>
    }}"""
    np.testing.assert_allclose(answer(normalise(graph_artifact(text))), LOGITS, rtol=1e-6)


def test_origin_and_history_are_kept(graph_artifact):
    artifact = graph_artifact(f"{HEAD} {PLAIN}")
    core = normalise(artifact)
    assert core.origin == hashlib.sha256(artifact.model).hexdigest()
    assert core.history == ()


def test_one_logit_without_a_column_gets_one(graph_artifact):
    text = f"""{HEAD} g (float[N,4] x) => (float[N] y) <{WEIGHTS}, int64[1] a = {{1}}>
        {{ m = MatMul(x, v) y = Squeeze(m, a) }}"""
    core = normalise(graph_artifact(text))
    assert core.signature.outputs[0].shape == ("batch", 1)
    np.testing.assert_allclose(answer(core), FEATURES @ np.array([[1], [-2], [0.5], [3]], np.float32), rtol=1e-5)


def test_a_final_softmax_is_taken_off_so_that_the_score_is_its_probability(graph_artifact):
    text = f"{HEAD} g (float[N,4] x) => (float[N,2] y) <{WEIGHTS}> {{ m = MatMul(x, w) y = Softmax(m) }}"
    artifact = graph_artifact(text)
    probability = onnxruntime.InferenceSession(artifact.model).run(None, {"x": FEATURES})[0][:, 1]
    score = sigmoid(Decision(outputs=2).margin(answer(normalise(artifact))))
    np.testing.assert_allclose(score, probability, rtol=1e-5)


def test_a_final_sigmoid_on_one_logit_is_taken_off(graph_artifact):
    text = f"{HEAD} g (float[N,4] x) => (float[N,1] y) <{WEIGHTS}> {{ m = MatMul(x, v) y = Sigmoid(m) }}"
    artifact = graph_artifact(text)
    probability = onnxruntime.InferenceSession(artifact.model).run(None, {"x": FEATURES})[0][:, 0]
    np.testing.assert_allclose(sigmoid(answer(normalise(artifact))[:, 0]), probability, rtol=1e-5)


def test_sigmoids_on_two_outputs_are_left_alone(graph_artifact, operators):
    text = f"{HEAD} g (float[N,4] x) => (float[N,2] y) <{WEIGHTS}> {{ m = MatMul(x, w) y = Sigmoid(m) }}"
    assert operators(normalise(graph_artifact(text))) == ["MatMul", "Sigmoid"]


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (
            "(float[N,4] x) => (int64[N] l, float[N,4] p) { l = ArgMax<axis=1, keepdims=0>(x) p = Neg(x) }",
            "2 outputs",
        ),
        ("(float[N,4] x, float[N,4] z) => (float[N,4] y) { y = Add(x, z) }", "inputs are x float32.*z float32"),
        ("(double[N,4] x) => (double[N,4] y) { y = Neg(x) }", "x float64.*expected one float32"),
        ("(float[N,4,4] x) => (float[N,4,4] y) { y = Neg(x) }", "output is y float32"),
        ("(float[N,D] x) => (float[N,D] y) { y = Neg(x) }", "no fixed width"),
        ("(float[N,4] x) => (int64[N,4] y) { y = Cast<to = 7>(x) }", "output is y int64"),
        ("(float[N,4] x) => (float y) { y = ReduceSum<keepdims=0>(x) }", r"output is y float32 \[\] for 2 records"),
        (
            "(float[1,4] x) => (float[1,4] y) <int64[2] s = {1, 4}> { y = Reshape(x, s) }",
            "no free batch dimension",
        ),
        ("(float[N,4] x) => (float[N,4] x) { }", "computes nothing"),
    ],
)
def test_other_shapes_are_refused_in_one_line(graph_artifact, body, says):
    with pytest.raises(InputError, match=says) as caught:
        normalise(graph_artifact(f"{HEAD} g {body}"))
    assert "\n" not in str(caught.value)


def test_a_classifier_with_maps_is_refused():
    maps = helper.make_map_type_proto(TensorProto.INT64, helper.make_tensor_type_proto(TensorProto.FLOAT, []))
    outputs = [
        helper.make_tensor_value_info("label", TensorProto.INT64, ["N"]),
        helper.make_value_info("probabilities", helper.make_sequence_type_proto(maps)),
    ]
    source = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 4])
    model = helper.make_model(helper.make_graph([], "g", [source], outputs)).SerializeToString()
    with pytest.raises(InputError, match=r"2 outputs \(label, probabilities\)"):
        normalise(OnnxArtifact(model, CORE, "0" * 64))


def test_weights_in_another_file_are_refused():
    weight = numpy_helper.from_array(np.ones((4, 2), np.float32), "w")
    onnx.external_data_helper.set_external_data(weight, "weights.bin")
    weight.ClearField("raw_data")
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 2])],
        [weight],
    )
    with pytest.raises(InputError, match="'w', …\\) lie in another file"):
        normalise(OnnxArtifact(helper.make_model(graph).SerializeToString(), CORE, "0" * 64))


@pytest.mark.parametrize("model", [b"", b"garbage", b"PK\x03\x04" + bytes(100)])
def test_what_is_no_model_is_refused(model):
    with pytest.raises(InputError, match="not an ONNX model"):
        normalise(OnnxArtifact(model, CORE, "0" * 64))
