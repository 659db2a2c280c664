"""Verification must be able to fail: every way of breaking a model is caught, undone and named."""

from __future__ import annotations

import dataclasses

import msgspec
import numpy as np
import onnx
import pytest
import torch
from onnx import helper, numpy_helper
from torch import nn

from hauberk.artifact import Verdict
from hauberk.errors import InputError
from hauberk.graph.model import parse, signature_of
from hauberk.graph.verify import decisions, verify
from hauberk.recipe import Close, Context, Contract, Exact, Lossy, Recipe

HEAD = '<ir_version: 10, opset_import: ["" : 20]> g (float[batch,{width}] features) => (float[batch,{outputs}] logits)'
WEIGHTED = (
    HEAD.format(width=2, outputs=2) + " <float[2,2] w = {1, -1, 0.5, 2}> { m = MatMul(features, w) logits = Relu(m) }"
)


@pytest.fixture
def outcome(ready):
    def of(before, after, context, promise: Contract | None = None) -> Verdict:
        """Apply the wrong step through a recipe; return its verdict, having seen that it was undone if it is broken."""
        step = ready(model=after.model, promise=promise or Close())
        result = Recipe("r", (step,)).apply(before, context, verify)
        record = result.history[0]
        assert record.kept == record.verdict.holds
        assert result.model == (after.model if record.kept else before.model)
        return record.verdict

    return of


def edited(artifact, edit):
    proto = parse(artifact.model)
    edit(proto)
    model = proto.SerializeToString()
    return dataclasses.replace(artifact, model=model, signature=signature_of(proto))


def test_an_exported_core_holds(detector, core, context_of):
    verdict = verify(detector, core, Close(), context_of(119))
    assert verdict.holds
    assert (verdict.agreement, verdict.reason) == (1.0, "")
    assert verdict.max_difference < 1e-5


def test_a_core_equals_itself_bit_for_bit_on_extremes_too(core, context_of):
    verdict = verify(core, core, Exact(), context_of(119))
    assert (verdict.holds, verdict.max_difference) == (True, 0.0)


def test_a_cast_to_integers_taken_for_an_identity_is_undone(graph_artifact, context_of, outcome):
    head = HEAD.format(width=2, outputs=2)
    before = graph_artifact(f"{head} {{ i = Cast<to = 7>(features) logits = Cast<to = 1>(i) }}")
    after = graph_artifact(f"{head} {{ logits = Identity(features) }}")
    context = dataclasses.replace(context_of(2), calibration=np.array([[1, -2.3]], dtype=np.float32))
    verdict = outcome(before, after, context)
    assert not verdict.holds
    assert verdict.reason.startswith("output 'logits' went from 0 to 0.99")  # the farthest from its truncation


def test_merged_reshapes_with_a_zero_are_undone(graph_artifact, context_of, outcome):
    # Reshape [.., 2] then [0, -1] keeps rows of two; merged into [0, -1] alone, the zero copies the batch instead.
    head = HEAD.format(width=6, outputs=6)
    tail = "p = Softmax(b) logits = Reshape(p, six) }"
    shapes = "<int64[2] two = {-1, 2}, int64[2] zero = {0, -1}, int64[2] six = {-1, 6}>"
    before = graph_artifact(f"{head} {shapes} {{ a = Reshape(features, two) b = Reshape(a, zero) {tail}")
    after = graph_artifact(f"{head} {shapes} {{ b = Reshape(features, zero) {tail}")
    verdict = outcome(before, after, context_of(6))
    assert not verdict.holds
    assert "contract close(rtol=0.0001, atol=1e-05)" in verdict.reason


def perturb(proto: onnx.ModelProto) -> None:
    weights = next(tensor for tensor in proto.graph.initializer if tensor.name.endswith("0.weight"))
    values = numpy_helper.to_array(weights).copy()
    values[3, 5] += 1e-3
    weights.CopyFrom(numpy_helper.from_array(values, weights.name))


def test_a_weight_moved_by_a_thousandth_is_undone(core, context_of, outcome):
    verdict = outcome(core, edited(core, perturb), context_of(119))
    assert not verdict.holds
    assert verdict.max_difference > 1e-5
    family, _, index = verdict.worst_input.rstrip("]").partition("[")
    assert family in ("real", "boundary", "random")
    assert index.isdigit()
    assert verdict.worst_input in verdict.reason


def rename(proto: onnx.ModelProto) -> None:
    proto.graph.node[-1].output[0] = proto.graph.output[0].name = "answer"


def widen(proto: onnx.ModelProto) -> None:
    proto.graph.output[0].type.tensor_type.elem_type = onnx.TensorProto.DOUBLE
    proto.graph.node[-1].output[0] = "single"
    proto.graph.node.append(helper.make_node("Cast", ["single"], ["logits"], to=onnx.TensorProto.DOUBLE))


@pytest.mark.parametrize(
    ("edit", "says"),
    [
        (rename, "outputs were 'logits' float32 [batch, 2] and became 'answer' float32 [batch, 2]"),
        (widen, "outputs were 'logits' float32 [batch, 2] and became 'logits' float64 [batch, 2]"),
    ],
)
def test_a_changed_signature_is_undone(core, context_of, edit, says, outcome):
    verdict = outcome(core, edited(core, edit), context_of(119))
    assert (verdict.holds, verdict.reason) == (False, says)


@pytest.mark.parametrize("promise", [Exact(), Close(), Lossy(agreement=0.0)])
def test_a_nan_where_none_was_breaks_every_contract(graph_artifact, context_of, promise, outcome):
    head = HEAD.format(width=2, outputs=2)
    before = graph_artifact(f"{head} {{ logits = Identity(features) }}")
    after = graph_artifact(
        f"{head} {{ s = Mul(features, features) logits = Div(s, features) }}"
    )  # 0 / 0 at the low end
    verdict = outcome(before, after, context_of(2), promise)
    assert not verdict.holds
    assert "from 0 to nan on boundary[0]" in verdict.reason or "extreme" in verdict.reason


def test_a_sign_of_zero_breaks_only_exact(graph_artifact, context_of, outcome):
    head = HEAD.format(width=2, outputs=2)
    before = graph_artifact(f"{head} {{ logits = Identity(features) }}")
    after = graph_artifact(f"{head} <float z = {{0}}> {{ logits = Add(features, z) }}")
    assert outcome(before, after, context_of(2), Close()).holds
    verdict = outcome(before, after, context_of(2), Exact())
    assert "went from -0 to 0 on extreme" in verdict.reason


def test_an_overflow_breaks_only_exact(graph_artifact, context_of, outcome):
    head = HEAD.format(width=2, outputs=2)
    before = graph_artifact(f"{head} {{ logits = Identity(features) }}")
    after = graph_artifact(
        f"{head} <float a = {{4}}, float b = {{0.25}}> {{ d = Mul(features, a) logits = Mul(d, b) }}"
    )
    assert outcome(before, after, context_of(2), Close()).holds
    assert "went from 3.40282347e+38 to inf on extreme" in outcome(before, after, context_of(2), Exact()).reason


def test_a_batch_that_became_fixed_is_undone(graph_artifact, context_of, outcome):
    head = HEAD.format(width=2, outputs=2)
    before = graph_artifact(f"{head} {{ logits = Neg(features) }}")
    after = graph_artifact(
        f"{head} <int64[2] s = {{256, 2}}> {{ r = Reshape(features, s) logits = Neg(r) }}",
    )
    after = dataclasses.replace(after, signature=before.signature)
    verdict = outcome(before, after, dataclasses.replace(context_of(2), calibration=np.ones((256, 2), np.float32)))
    assert verdict.reason.startswith("the result fails on real[0], 1 at once: ONNX Runtime cannot run the model")


def test_a_result_that_does_not_load_is_undone(graph_artifact, context_of, outcome):
    before = graph_artifact(WEIGHTED)
    broken = dataclasses.replace(before, model=before.model[:-9])
    assert outcome(before, broken, context_of(2)).reason.startswith("the result does not load: not an ONNX model")


def test_a_lossy_step_is_held_to_its_agreement(graph_artifact, context_of, outcome):
    head = HEAD.format(width=2, outputs=2)
    before = graph_artifact(f"{head} {{ logits = Identity(features) }}")
    after = graph_artifact(f"{head} {{ logits = Neg(features) }}")
    verdict = outcome(before, after, context_of(2), Lossy(agreement=0.9))
    assert verdict.agreement == 0.0
    assert verdict.reason.startswith("the decision agrees on 0.00 % of 300 real records, the contract asks for 90 %")
    assert "worst: output 'logits' went from" in verdict.reason


@pytest.mark.parametrize(("allowed", "holds"), [(0.051, True), (0.049, False)])
def test_a_lossy_step_is_held_to_its_relative_error(graph_artifact, context_of, allowed, holds, outcome):
    head = HEAD.format(width=2, outputs=2)
    before = graph_artifact(f"{head} {{ logits = Identity(features) }}")
    after = graph_artifact(f"{head} <float a = {{1.05}}> {{ logits = Mul(features, a) }}")
    verdict = outcome(before, after, context_of(2), Lossy(agreement=1.0, rms=allowed))
    assert verdict.holds == holds
    assert ("root mean square" in verdict.reason) != holds


def test_a_torch_step_is_verified_too(torch_artifact, context_of):
    torch.manual_seed(0)
    before = torch_artifact(nn.Linear(4, 2), 4)
    after = torch_artifact(nn.Linear(4, 2), 4)
    assert verify(before, before, Exact(), context_of(4)).holds
    assert not verify(before, after, Close(), context_of(4)).holds


def test_a_verdict_with_infinities_still_travels_as_json(graph_artifact, context_of, outcome):
    head = HEAD.format(width=2, outputs=2)
    before = graph_artifact(f"{head} {{ logits = Identity(features) }}")
    after = graph_artifact(f"{head} <float z = {{0}}> {{ logits = Div(features, z) }}")
    verdict = outcome(before, after, context_of(2))
    assert "to inf on" in verdict.reason
    assert msgspec.json.decode(msgspec.json.encode(verdict), type=Verdict) == verdict


def test_records_of_another_width_are_an_error_not_a_verdict(core, context_of):
    with pytest.raises(InputError, match=r"expected at least one of shape \[119\]"):
        verify(core, core, Exact(), context_of(57))


def test_a_threshold_moves_what_counts_as_the_same_decision():
    logits = np.array([[0.0, 1.0], [0.0, 3.0]], np.float32)
    context = Context(calibration=np.zeros((2, 2), np.float32), bounds=(np.zeros(2, "f"), np.ones(2, "f")))
    assert decisions(logits, context).tolist() == [1, 1]
    assert decisions(logits, dataclasses.replace(context, threshold=2.0)).tolist() == [0, 1]


def test_classification_decides_by_the_largest_logit():
    logits = np.array([[0.0, 1.0, 3.0], [0.0, -1.0, -3.0], [1.0, 2.0, 0.0]], np.float32)
    zeros = np.zeros(2, np.float32)
    context = Context(calibration=np.zeros((2, 2), np.float32), bounds=(zeros, zeros), task="classification")
    assert decisions(logits, context).tolist() == [2, 0, 1]


def test_a_search_without_gradients_stays_within_the_bounds_of_each_feature(graph_artifact):
    """The twin knows no Compress. The bound that is dropped is the first feature's; the second reaches far above it."""
    head = HEAD.format(width=2, outputs=2) + " <bool[2] all = {1, 1}, float[2] high = {1, 3e38}>"
    before = graph_artifact(head + " { a = Min(features, high) logits = Compress<axis = 1>(a, all) }")
    after = graph_artifact(head + " { logits = Compress<axis = 1>(features, all) }")
    low, high = np.zeros(2, np.float32), np.array([1, 1e6], np.float32)
    calibration = np.random.default_rng(0).random((50, 2), dtype=np.float32) * high
    verdict = verify(before, after, Close(), Context(calibration=calibration, bounds=(low, high)))
    assert verdict.holds, verdict.reason
    wider = Context(calibration=calibration, bounds=(low, np.array([1.5, 1e6], np.float32)))
    assert not verify(before, after, Close(), wider).holds
