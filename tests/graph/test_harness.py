"""The harness, put to the test with passes that are wrong on purpose and with passes that are right."""

from __future__ import annotations

import hashlib
import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest

from hauberk.artifact import OnnxArtifact
from hauberk.graph.harness import GraphVerifier
from hauberk.graph.model import parse, signature_of
from hauberk.graph.samples import Samples
from hauberk.recipe import Close, Context, Contract, Exact, Recipe


def _load(name: str):
    spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


mutants = _load("mutants")

NOTHING = np.zeros(0, np.float32)
CONTEXT = Context(calibration=NOTHING, bounds=(NOTHING, NOTHING))


def graph(model: bytes) -> OnnxArtifact:
    return OnnxArtifact(model, signature_of(parse(model)), hashlib.sha256(model).hexdigest())


@pytest.fixture
def outcome(ready):
    def of(before: bytes, after: bytes, promise: Contract, samples: Samples | None = None):
        """Apply the pass through a recipe; return its record, having seen that it is undone if it does not hold."""
        result = Recipe("r", (ready(model=after, promise=promise),)).apply(
            graph(before), CONTEXT, GraphVerifier(samples or Samples())
        )
        (record,) = result.history
        assert record.kept == record.verdict.holds
        assert result.model == (after if record.kept else before)
        return record

    return of


@pytest.mark.parametrize("mutant", mutants.MUTANTS, ids=lambda mutant: mutant.name.replace(" ", "-"))
def test_a_wrong_pass_is_undone_and_named(mutant, outcome):
    record = outcome(*mutant.models(), mutant.contract)
    assert not record.kept
    assert (record.step, record.verdict.holds) == ("ready", False)
    named = "output 'y'" in record.verdict.reason or record.verdict.reason.startswith("the result fails on ")
    assert named, record.verdict.reason


@pytest.mark.parametrize("mutant", mutants.HARMLESS, ids=lambda mutant: mutant.name.replace(" ", "-"))
def test_a_pass_that_is_right_is_kept(mutant, outcome):
    record = outcome(*mutant.models(), mutant.contract)
    assert record.kept, record.verdict.reason
    assert record.verdict.compared > 50


def text(inputs: str, outputs: str, nodes: str) -> bytes:
    return bytes(mutants.parser.parse_model(f"{mutants.HEADER} ({inputs}) => ({outputs}) {nodes}").SerializeToString())


def noted(model: bytes) -> bytes:
    """The same graph with a note: what is byte for byte the same is not verified at all."""
    proto = parse(model)
    proto.doc_string = "noted"
    return bytes(proto.SerializeToString())


def test_a_graph_that_draws_random_numbers_is_left_alone(outcome):
    before = text("float[n,4] x", "float[n,4] y", "{ r = RandomNormalLike(x) y = Add(x, r) }")
    record = outcome(before, noted(before), Exact())
    assert record.verdict.reason == "cannot be verified: RandomNormalLike (node 'r') draws random numbers"


def test_random_numbers_in_a_branch_are_found_too(outcome):
    branch = "then_branch = t () => (float[n,4] p) { p = RandomUniformLike(x) }"
    other = "else_branch = e () => (float[n,4] q) { q = Identity(x) }"
    before = text("float[n,4] x, bool c", "float[n,4] y", f"{{ y = If<{branch}, {other}>(c) }}")
    assert "RandomUniformLike" in outcome(before, noted(before), Exact()).verdict.reason


def test_a_graph_that_runs_on_nothing_is_left_alone_and_says_why(outcome):
    before = text("float[n,4] x", "float[n,4] y", "<int64[2] s = {-1, 5}> { a = Reshape(x, s) y = MatMul(a, x) }")
    record = outcome(before, noted(before), Close())
    assert record.verdict.reason.startswith("cannot be verified: the model before the step runs on none of")
    assert "ONNX Runtime cannot run the model" in record.verdict.reason


def test_a_graph_that_runs_on_empty_inputs_alone_is_not_taken_for_verified(outcome):
    constants = "<int64 far = {{1000}}, float[3] t = {{1, 2, 3}}, float k = {{{}}}>"
    nodes = "{ j = Add(i, far) r = Gather(t, j) y = Mul(r, k) }"
    before, after = (text("int64[n] i", "float[n] y", constants.format(factor) + nodes) for factor in (1, 2))
    record = outcome(before, after, Close())
    assert not record.kept
    assert "runs on none of" in record.verdict.reason


def test_inputs_that_the_original_fails_on_are_skipped_and_counted(outcome):
    before = text("float[4] x, int64[m] i", "float[m] y", "{ y = Gather(x, i) }")
    record = outcome(before, noted(before), Exact())
    assert record.kept
    assert record.verdict.skipped > 0
    assert record.verdict.compared > 0


def test_a_recurrent_graph_is_not_tried_on_empty_sequences_and_says_so(outcome):
    inputs = "float[t,n,2] x, float[1,4,2] w, float[1,4,1] r"
    before = text(inputs, "float[t,d,n,1] y", "{ y = LSTM<hidden_size = 1>(x, w, r) }")
    record = outcome(before, noted(before), Exact())
    assert record.kept
    assert record.verdict.skipped >= 3


def test_close_holds_over_the_range_that_samples_show(outcome):
    before = text("float[n,2] x", "float[n,2] y", "<float h = {3}> { y = Clip(x, , h) }")
    after = text("float[n,2] x", "float[n,2] y", "{ y = Identity(x) }")
    values = np.random.default_rng(0).uniform(0, 2.5, (500, 2)).astype(np.float32)
    inside = Samples.of({"x": values}, graph(before).signature)
    assert outcome(before, after, Close(), inside).kept
    assert not outcome(before, after, Close(), Samples.of({"x": values * 2}, graph(before).signature)).kept
    assert not outcome(before, after, Close()).kept


def test_real_samples_are_tried_and_named(outcome):
    before = text("float[n,2] x", "float[n,2] y", "{ y = Identity(x) }")
    special = np.float32(1.2345)
    after = text(
        "float[n,2] x", "float[n,2] y", "<float s = {1.2345}, float z = {9}> { e = Equal(x, s) y = Where(e, z, x) }"
    )
    values = np.zeros((200, 2), np.float32)
    values[150, 1] = special
    record = outcome(before, after, Close(), Samples.of({"x": values}, graph(before).signature))
    assert "from 1.23450005 to 9 on real-2[22]" in record.verdict.reason


@pytest.mark.parametrize(("kind", "bound", "found_by"), [("float", 3100, "hunted"), ("double", 2000, "climbed")])
def test_a_bound_that_no_random_input_reaches_is_found_by_searching(kind, bound, found_by, outcome):
    """Gradients through the twin, which takes float32; climbing for what it does not take."""
    signs = np.random.default_rng(0).choice(["1", "-1"], 32)
    constants = f"{kind}[32,1] w = {{{', '.join(signs)}}}, {kind} h = {{{bound}}}"
    inputs, outputs = f"{kind}[n,32] x", f"{kind}[n,1] y"
    before = text(inputs, outputs, f"<{constants}> {{ a = MatMul(x, w) y = Min(a, h) }}")
    after = text(inputs, outputs, f"<{constants}> {{ a = MatMul(x, w) y = Identity(a) }}")
    record = outcome(before, after, Close())
    assert not record.kept
    assert record.verdict.worst_input.startswith(found_by)


def test_every_size_of_a_free_dimension_is_tried(outcome):
    before = text("float[n,m] x", "float[n,m] y", "{ y = Identity(x) }")
    after = text(
        "float[n,m] x",
        "float[n,m] y",
        "<int64 one = {1}, float z = {7}> { s = Shape<start = 1, end = 2>(x) e = Equal(s, one) y = Where(e, z, x) }",
    )
    record = outcome(before, after, Close())
    assert "sizes-" in record.verdict.worst_input


def test_declared_shapes_belong_to_the_contract(outcome):
    before = text("float[n,4] x", "float[n,4] y", "{ y = Identity(x) }")
    after = text("float[2,4] x", "float[2,4] y", "{ y = Identity(x) }")
    reason = outcome(before, after, Exact()).verdict.reason
    assert reason == "inputs were 'x' float32 [n, 4] and became 'x' float32 [2, 4]"


def test_labels_have_no_tolerance(outcome):
    before = text("float[n,9] x", "int64[n,1] y", "{ y = ArgMax<axis = 1>(x) }")
    after = text("float[n,9] x", "int64[n,1] y", "{ y = ArgMax<axis = 1, select_last_index = 1>(x) }")
    assert not outcome(before, after, Close(rtol=10, atol=10)).kept


def test_a_decision_that_rounding_alone_decides_is_excused_and_no_other(outcome):
    """(x + 1e6) − 1e6 is x to a sixteenth: its comparison with x means nothing, and double precision says so."""
    inputs, outputs = "float[n,4] x", "float[n,4] y"
    before = text(inputs, outputs, "<float m = {1e6}> { a = Add(x, m) y = Sub(a, m) }")
    after = text(inputs, outputs, "{ y = Identity(x) }")
    assert outcome(before, after, Close()).kept
    wrong = text(inputs, outputs, "<float h = {0.5}> { y = Add(x, h) }")
    assert not outcome(before, wrong, Close()).kept


def test_strings_are_compared_too(outcome):
    before = text("string[n] x", "string[n] y", "{ y = Identity(x) }")
    after = text("string[n] x", "string[n] y", '{ y = StringNormalizer<case_change_action = "UPPER">(x) }')
    assert outcome(before, noted(before), Exact()).kept
    assert not outcome(before, after, Exact()).kept
