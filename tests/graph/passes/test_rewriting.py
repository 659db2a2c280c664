"""What all rewriting passes have in common: reasons are told, names are kept, and what is not theirs stays."""

from __future__ import annotations

import logging

import onnx
import pytest

from hauberk.graph.model import parse
from hauberk.graph.passes import (
    PASSES,
    CancelRepeats,
    EliminateNoOps,
    FoldAffineIntoNext,
    MatMulAddToGemm,
    ReplaceDivision,
)
from hauberk.graph.passes.rewriting import Editor, Refusal, Replacement, RewritePass
from hauberk.recipe import Contract, Exact

W = "float[4,2] w = {0.5, -1, 2, 0.25, -0.5, 1, 3, -2}"


def test_a_refusal_is_logged_with_node_and_reason(graph, context_of, caplog):
    before = graph("d = Div(features, c) logits = MatMul(d, w)", f"<{W}, float c = {{0}}>")
    with caplog.at_level(logging.DEBUG, "hauberk.graph.passes.rewriting"):
        assert ReplaceDivision().apply(before, context_of(4)) is before
    assert "replace-division: Div '' is left alone: it divides by zero" in caplog.messages


def test_an_older_opset_is_left_alone(graph, context_of):
    before = graph("n = Neg(features) o = Neg(n) logits = MatMul(o, w)", f"<{W}>", opset=12)
    assert CancelRepeats().apply(before, context_of(4)) is before


def test_an_initializer_that_is_an_input_is_no_constant(graph_artifact, context_of):
    before = graph_artifact(
        '<ir_version: 10, opset_import: ["" : 20]> g (float[batch,2] features, float c = {2})'
        " => (float[batch,2] logits) { logits = Div(features, c) }"
    )
    assert [value.name for value in parse(before.model).graph.input] == ["features", "c"]
    assert ReplaceDivision().apply(before, context_of(2)) is before


def test_a_value_that_a_nested_graph_uses_counts_as_used(graph_artifact, context_of, operators):
    text = f"""<ir_version: 10, opset_import: ["" : 20]>
        g (float[batch,4] features, bool flag) => (float[batch,2] logits) <{W}, float s = {{2}}>
        {{ i = Mul(features, s) m = MatMul(i, w) n = If(flag) <
            then_branch = t () => (float[batch,4] p) {{ p = Neg(i) }},
            else_branch = e () => (float[batch,4] q) {{ q = Identity(i) }}>
        r = ReduceSum<keepdims = 1>(n) logits = Add(m, r) }}"""
    before = graph_artifact(text)
    assert FoldAffineIntoNext().apply(before, context_of(4)) is before


def test_names_that_are_taken_are_not_taken_again(graph, rewritten):
    body = "logits_gemm = MatMul(features, w) logits = Add(logits_gemm, b)"
    assert rewritten(MatMulAddToGemm(), graph(body, f"<{W}, float[2] b = {{1, 2}}>")) == ["Gemm"]


def test_stale_shapes_are_not_believed(graph, context_of, operators):
    before = graph("m = MatMul(features, w) logits = Add(m, c)", f"<{W}, float[2] c = {{1, 2}}>")
    proto = parse(before.model)
    proto.graph.value_info.append(onnx.helper.make_tensor_value_info("m", onnx.TensorProto.FLOAT, [7, 3, 9]))
    stale = type(before)(proto.SerializeToString(), before.signature, before.origin)
    after = MatMulAddToGemm().apply(stale, context_of(4))
    assert operators(after) == ["Gemm"]
    assert not parse(after.model).graph.value_info


def test_shapes_of_foreign_operators_stay(graph_artifact, context_of):
    before = graph_artifact(
        '<ir_version: 10, opset_import: ["" : 20, "other" : 1]> g (float[batch,2] features) => (float[batch,2] logits)'
        "<float[batch,2] f> { f = other.Twice(features) n = Neg(f) o = Neg(n) logits = Exp(o) }"
    )
    after = CancelRepeats().apply(before, context_of(2))
    assert [value.name for value in parse(after.model).graph.value_info] == ["f"]


def test_a_selection_used_twice_is_made_once_by_the_default_order(graph_artifact, context_of, operators):
    artifact = graph_artifact(
        f"""<ir_version: 10, opset_import: ["" : 20]> g (float[batch,3,4] features) => (float[batch,2] logits)
        <{W}, int64 i = {{0}}> {{ n = Neg(features) e = Exp(features) s = Add(n, e) f = Gather<axis = 1>(s, i)
        logits = MatMul(f, w) }}"""
    )
    for kind in PASSES:
        artifact = kind().apply(artifact, context_of(4))
    assert operators(artifact) == ["Gather", "Neg", "Exp", "Add", "MatMul"]


class Restless(RewritePass, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="restless"):
    """A pass with a mistake: what it makes is what it looks for."""

    @property
    def contract(self) -> Contract:
        return Exact()

    def rewrite(self, node, editor: Editor) -> Replacement | Refusal | None:
        made = editor.node(node.op_type, list(node.inputs), node.outputs[0].name, like=node.outputs[0])
        return Replacement((made.outputs[0],), (made,))


def test_a_pass_that_never_ends_is_stopped_and_the_graph_is_right(graph, rewritten):
    assert rewritten(Restless(), graph("logits = Exp(features)")) == ["Exp"]


@pytest.mark.parametrize("body", ["logits = Identity(features)", "n = Neg(features) logits = Neg(n)"])
def test_an_output_that_is_an_input_keeps_a_node_and_its_name(graph, rewritten, context_of, body):
    before = graph(body)
    for kind in (EliminateNoOps, CancelRepeats):
        after = kind().apply(before, context_of(4))
        assert [value.name for value in parse(after.model).graph.output] == ["logits"]
        assert rewritten(kind(), before)[-1] in ("Identity", "Neg")
