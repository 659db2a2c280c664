"""The merged graph takes a raw record and answers what its three parts answer."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest

from hauberk.errors import InputError
from hauberk.graph.decision import decision_graph
from hauberk.graph.merge import merge, verify_merged
from hauberk.graph.preprocess import preprocessing_graph
from hauberk.schema.decision import Decision, sigmoid
from hauberk.schema.feature_space import FeatureSpace, Preprocessing, Scaling
from hauberk.schema.record import CategoricalFeature, NumericFeature, RecordSchema

SIZES = (3, 70, 5)


@pytest.fixture(scope="module")
def space() -> FeatureSpace:
    """38 numbers and 81 one-hot columns: 119."""
    numbers = tuple(NumericFeature(name=f"n{k}", low=0.0, high=1.0) for k in range(38))
    categoricals = tuple(
        CategoricalFeature(name=f"c{k}", categories=tuple(f"v{j}" for j in range(size))) for k, size in enumerate(SIZES)
    )
    scalings = tuple(Scaling(logarithm=k % 2 == 0, offset=0.1 * k, scale=1.0 + k) for k in range(38))
    return FeatureSpace(RecordSchema(features=numbers + categoricals), Preprocessing(scalings))


@pytest.fixture(scope="module")
def records() -> dict[str, np.ndarray]:
    random = np.random.default_rng(0)
    codes = np.stack([random.integers(0, size + 1, 1000) for size in SIZES], axis=1)
    return {"numeric": (random.normal(size=(1000, 38)) * 10).astype(np.float32), "codes": codes}


DECISION = Decision(outputs=2, benign=0, threshold=0.066)  # about the median of the records' margins


@pytest.fixture(scope="module")
def parts(space, core):
    return preprocessing_graph(space), core, decision_graph(DECISION)


@pytest.fixture(scope="module")
def merged(parts):
    return merge(*parts)


def test_the_merged_graph_has_the_agreed_signature(merged):
    described = [(spec.name, spec.dtype, spec.shape) for spec in (*merged.signature.inputs, *merged.signature.outputs)]
    assert described == [
        ("numeric", "float32", ("batch", 38)),
        ("codes", "int64", ("batch", 3)),
        ("scores", "float32", ("batch",)),
        ("labels", "int64", ("batch",)),
    ]


def test_it_equals_the_three_parts(parts, merged, records):
    verdict = verify_merged(merged, *parts, records)
    assert (verdict.holds, verdict.agreement, verdict.compared) == (True, 1.0, 1001)


@pytest.mark.parametrize("count", [1, 2, 257])
def test_it_equals_the_reference_in_torch_and_numpy(merged, space, detector, records, count):
    import torch

    batch = {name: value[:count] for name, value in records.items()}
    with torch.no_grad():
        margin = DECISION.margin(detector.module(torch.from_numpy(space.transform(**batch))).numpy())
    scores, labels = onnxruntime.InferenceSession(merged.model).run(None, batch)
    np.testing.assert_allclose(scores, sigmoid(margin), rtol=1e-4, atol=1e-6)
    sure = np.abs(margin - DECISION.threshold) > 1e-5
    np.testing.assert_array_equal(labels[sure], (margin >= DECISION.threshold)[sure])
    assert labels.sum() > 0 or count < 257


def test_no_records_give_no_scores(merged, records):
    outputs = onnxruntime.InferenceSession(merged.model).run(None, {k: v[:0] for k, v in records.items()})
    assert [output.shape for output in outputs] == [(0,), (0,)]


def test_names_inside_say_which_part_they_are_of(merged):
    proto = onnx.load_from_string(merged.model)
    assert {node.name.partition("/")[0] for node in proto.graph.node} == {"preprocessing", "core", "decision"}


def test_the_merged_graph_keeps_the_core_s_provenance_and_no_metadata(merged, core):
    proto = onnx.load_from_string(merged.model)
    assert (merged.origin, merged.history) == (core.origin, core.history)
    assert not proto.producer_name
    assert not proto.graph.value_info
    assert (proto.ir_version, proto.opset_import[0].version) == (10, 20)


def test_another_core_in_the_merged_graph_is_noticed(space, parts, merged, records):
    negative = decision_graph(Decision(outputs=2, benign=1, threshold=0.066))
    verdict = verify_merged(merged, parts[0], parts[1], negative, records)
    assert not verdict.holds
    assert "output 'scores' went from" in verdict.reason


def test_another_threshold_in_the_merged_graph_is_noticed(parts, merged, records):
    lower = decision_graph(Decision(outputs=2, benign=0, threshold=-5.0))
    verdict = verify_merged(merged, parts[0], parts[1], lower, records)
    assert not verdict.holds
    assert "label 1 became 0 on real[" in verdict.reason


def test_parts_of_another_width_do_not_fit(space, spambase_core):
    with pytest.raises(InputError, match=r"'features' has width \[119\] .* \[57\] .* another schema"):
        merge(preprocessing_graph(space), spambase_core, decision_graph(DECISION))


def test_a_decision_over_another_number_of_logits_does_not_fit(parts):
    with pytest.raises(InputError, match=r"'logits' has width \[2\] .* \[3\]"):
        merge(parts[0], parts[1], decision_graph(Decision(outputs=3)))


def test_parts_in_the_wrong_order_do_not_fit(parts):
    with pytest.raises(InputError, match="merge: logits float32 does not flow into numeric float32, codes int64"):
        merge(parts[1], parts[0], parts[2])


def test_schemas_with_only_numbers_or_only_categories_have_one_input(graph_artifact):
    numbers = RecordSchema(features=(NumericFeature(name="n", low=0.0, high=1.0),))
    categories = RecordSchema(features=(CategoricalFeature(name="c", categories=()),))
    head = '<ir_version: 10, opset_import: ["" : 20]> g (float[batch,1] features) => (float[batch,1] logits)'
    small = graph_artifact(f"{head} {{ logits = Neg(features) }}")
    scaling = (Scaling(logarithm=False, offset=0.0, scale=1.0),)
    for schema, scalings, name in ((numbers, scaling, "numeric"), (categories, (), "codes")):
        front = preprocessing_graph(FeatureSpace(schema, Preprocessing(scalings)))
        merged = merge(front, small, decision_graph(Decision(outputs=1)))
        assert [spec.name for spec in merged.signature.inputs] == [name]
