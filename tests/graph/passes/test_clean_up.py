"""CleanUp: exactly the nodes that are needed remain, and what must not be folded is not."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import parser

from hauberk.artifact import OnnxArtifact
from hauberk.errors import InputError
from hauberk.graph.harness import GraphVerifier
from hauberk.graph.model import parse, signature_of
from hauberk.graph.passes import CleanUp, optimise
from hauberk.graph.verify import verify
from hauberk.recipe import Context, Recipe

HEAD = '<ir_version: 10, opset_import: ["" : 20, "local" : 1]> g (float[batch,2] features) => (float[batch,2] logits)'
WEIGHTS = "<float[2,2] w = {1, 2, 3, 4}, float[2] b = {1, 1}, float s = {2}>"


def clean(graph_artifact, context_of, text, step=None):
    """The graph after the step, which must have been kept."""
    result = Recipe("r", (step or CleanUp(),)).apply(graph_artifact(text), context_of(2), verify)
    assert result.history[0].kept, result.history[0].verdict.reason
    return result


@pytest.mark.parametrize(
    ("body", "left"),
    [
        ("{ v = Mul(w, s) m = MatMul(features, v) logits = Add(m, b) }", ["MatMul", "Add"]),
        ("{ i = Identity(features) m = MatMul(i, w) j = Identity(m) logits = Identity(j) }", ["MatMul"]),
        ("{ d = Exp(features) e = Add(d, b) logits = MatMul(features, w) }", ["MatMul"]),
        ("{ p = Add(features, b) q = Add(features, b) logits = Mul(p, q) }", ["Add", "Mul"]),
        ("{ c = Constant<value = float[2] {1, 2}>() logits = Add(features, c) }", ["Add"]),
        ("{ v = Transpose<perm = [1, 0]>(w) logits = MatMul(features, v) }", ["MatMul"]),
        ("{ p = Add(features, b) q = Sub(features, b) logits = Mul(p, q) }", ["Add", "Sub", "Mul"]),
        ("{ i = Cast<to = 7>(features) logits = Cast<to = 1>(i) }", ["Cast", "Cast"]),
    ],
    ids=["fold", "identities", "dead", "common", "constant", "transpose", "nothing to do", "truncating casts"],
)
def test_what_is_left(graph_artifact, context_of, operators, body, left):
    result = clean(graph_artifact, context_of, f"{HEAD} {WEIGHTS} {body}")
    assert operators(result) == left


def test_dead_weights_go_too(graph_artifact, context_of):
    result = clean(graph_artifact, context_of, f"{HEAD} {WEIGHTS} {{ logits = MatMul(features, w) }}")
    assert [tensor.name for tensor in parse(result.model).graph.initializer] == ["w"]


def test_functions_are_inlined(graph_artifact, context_of, operators):
    text = f"""{HEAD} {{ logits = local.twice(features) }}
        <domain: "local", opset_import: ["" : 20]> twice (x) => (y) {{ y = Add(x, x) }}"""
    result = clean(graph_artifact, context_of, text)
    assert operators(result) == ["Add"]
    assert not parse(result.model).functions


def test_quantized_weights_stay_quantized(graph_artifact, context_of, operators):
    text = f"""{HEAD} <int8[2,2] q = {{1, 2, 3, 4}}, float scale = {{0.1}}, int8 zero = {{0}}>
        {{ w = DequantizeLinear(q, scale, zero) logits = MatMul(features, w) }}"""
    assert operators(clean(graph_artifact, context_of, text)) == ["DequantizeLinear", "MatMul"]


def test_a_fold_that_would_fill_the_memory_is_left_alone(graph_artifact, context_of, operators):
    text = f"""{HEAD} <int64[2] n = {{1000, 1000}}, float z = {{0}}>
        {{ big = Expand(z, n) total = ReduceSum<keepdims=0>(big) logits = Add(features, total) }}"""
    result = clean(graph_artifact, context_of, text)
    assert operators(result) == ["Expand", "ReduceSum", "Add"]
    assert len(result.model) < 2000


def test_the_limit_is_a_parameter(graph_artifact, context_of, operators):
    text = f"{HEAD} {WEIGHTS} {{ v = Mul(w, s) logits = MatMul(features, v) }}"
    assert operators(clean(graph_artifact, context_of, text, CleanUp(largest_input=3))) == ["Mul", "MatMul"]


def test_the_recipe_of_the_baseline_holds_on_a_detector(core, context_of, operators):
    recipe = optimise()
    result = recipe.apply(core, context_of(119), verify)
    assert recipe.name == "float32"
    assert [(record.step, record.kept) for record in result.history] == [("clean-up", True), ("strip-metadata", True)]
    assert operators(result) == ["Gemm", "Relu", "Gemm", "Relu", "Gemm", "Relu", "Gemm"]
    assert result.signature == core.signature


def test_a_module_is_refused(detector, context_of):
    with pytest.raises(InputError, match="clean-up: works on an ONNX graph"):
        CleanUp().apply(detector, context_of(119))


def test_two_outputs_that_are_the_same_stay_two():
    text = (
        '<ir_version: 10, opset_import: ["" : 20]> g (float[batch,2] x) => (float[batch,2] y, float[batch,2] z)'
        " { a = Exp(x) y = Relu(a) z = Relu(a) }"
    )
    model = parser.parse_model(text).SerializeToString()
    before = OnnxArtifact(model, signature_of(parse(model)), "0" * 64)
    nothing = np.zeros(0, np.float32)
    result = Recipe("r", (CleanUp(),)).apply(before, Context(nothing, (nothing, nothing)), GraphVerifier())
    assert result.history[0].kept, result.history[0].verdict.reason
    assert [node.op_type for node in parse(result.model).graph.node] == ["Exp", "Relu", "Identity"]


def test_an_output_that_is_computed_twice_keeps_its_declaration(graph_artifact, context_of, operators):
    result = clean(graph_artifact, context_of, f"{HEAD} {{ a = Relu(features) b = Neg(a) logits = Relu(features) }}")
    assert operators(result) == ["Relu"]
    again = "{ a = Relu(features) logits = Relu(features) c = Add(a, logits) }"
    assert operators(clean(graph_artifact, context_of, f"{HEAD} {again}")) == ["Relu"]
