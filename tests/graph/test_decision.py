"""The decision graph against the definitions of the schema."""

from __future__ import annotations

import numpy as np
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from hauberk.errors import InputError
from hauberk.graph.check import check_model
from hauberk.graph.decision import decision_graph
from hauberk.schema.decision import Decision, sigmoid


def run(decision: Decision, logits: np.ndarray) -> list[np.ndarray]:
    return onnxruntime.InferenceSession(decision_graph(decision).model).run(None, {"logits": logits})


@st.composite
def cases(draw):
    outputs = draw(st.integers(1, 6))
    decision = Decision(outputs, draw(st.integers(0, outputs - 1)), draw(st.floats(-50, 50, width=32)))
    shape = (draw(st.integers(1, 20)), outputs)
    return decision, draw(arrays.arrays(np.float32, shape, elements=st.floats(-200, 200, width=32)))


@settings(max_examples=100, deadline=None)
@given(cases())
def test_scores_are_the_sigmoid_of_the_margin(case):
    decision, logits = case
    scores, _ = run(decision, logits)
    np.testing.assert_allclose(scores, sigmoid(decision.margin(logits)), rtol=1e-5, atol=1e-6)
    assert scores.dtype == np.float32


@settings(max_examples=100, deadline=None)
@given(cases())
def test_labels_say_whether_the_margin_reaches_the_threshold(case):
    decision, logits = case
    margin = decision.margin(logits)
    _, labels = run(decision, logits)
    # With more than two logits the margin is close, not equal, so a margin at the threshold may fall on either side.
    sure = np.abs(margin - decision.threshold) > (0 if decision.outputs <= 2 else 1e-3)
    np.testing.assert_array_equal(labels[sure], (margin >= decision.threshold)[sure])
    assert labels.dtype == np.int64


@pytest.mark.parametrize("outputs", [1, 2])
def test_a_margin_at_the_threshold_is_an_attack(outputs):
    decision = Decision(outputs=outputs, benign=0, threshold=0.3)
    margins = np.array([0.3, np.nextafter(np.float32(0.3), np.float32(0))], dtype=np.float32)
    logits = margins[:, None] if outputs == 1 else np.stack([np.zeros_like(margins), margins], axis=1)
    assert run(decision, logits)[1].tolist() == [1, 0]


@pytest.mark.parametrize("outputs", [1, 2, 5])
@pytest.mark.parametrize("records", [0, 1, 2, 257])
def test_the_batch_is_free(outputs, records):
    scores, labels = run(Decision(outputs=outputs), np.zeros((records, outputs), np.float32))
    assert scores.shape == labels.shape == (records,)


def test_large_logits_do_not_overflow():
    scores, labels = run(Decision(outputs=3), np.array([[0, 3e38, 3e38], [3e38, 0, 0]], dtype=np.float32))
    assert scores.tolist() == [1.0, 0.0]
    assert labels.tolist() == [1, 0]


@pytest.mark.parametrize("outputs", [1, 2, 4])
def test_the_graph_passes_the_full_check(outputs):
    check_model(decision_graph(Decision(outputs=outputs, benign=0)).model)


@pytest.mark.parametrize(("outputs", "benign"), [(0, 0), (2, 2), (2, -1)])
def test_a_decision_that_makes_no_sense_is_refused(outputs, benign):
    with pytest.raises(InputError, match="expected 0 <= benign < outputs"):
        decision_graph(Decision(outputs=outputs, benign=benign))
