"""The deployed graph is the merged one with fewer nodes, and a pass that harms it is undone."""

from __future__ import annotations

from dataclasses import replace

import msgspec
import numpy as np
import onnxruntime
import pytest
from onnx import numpy_helper

from hauberk.graph.decision import decision_graph
from hauberk.graph.deploy import SEAM_PASSES, deploy
from hauberk.graph.merge import merge
from hauberk.graph.model import parse
from hauberk.graph.preprocess import preprocessing_graph
from hauberk.recipe import Contract, Exact, Step
from hauberk.schema.decision import Decision
from hauberk.schema.feature_space import FeatureSpace, Preprocessing, Scaling
from hauberk.schema.record import CategoricalFeature, NumericFeature, RecordSchema

SIZES = (3, 70, 5)
DECISION = Decision(outputs=2, benign=0, threshold=0.066)


@pytest.fixture(scope="module")
def parts(core):
    """38 numbers and 81 one-hot columns: 119."""
    numbers = tuple(NumericFeature(name=f"n{k}", low=0.0, high=1.0) for k in range(38))
    categoricals = tuple(
        CategoricalFeature(name=f"c{k}", categories=tuple(f"v{j}" for j in range(size))) for k, size in enumerate(SIZES)
    )
    scalings = tuple(Scaling(logarithm=k % 2 == 0, offset=0.1 * k, scale=1.0 + k) for k in range(38))
    space = FeatureSpace(RecordSchema(features=numbers + categoricals), Preprocessing(scalings))
    return preprocessing_graph(space), core, decision_graph(DECISION)


@pytest.fixture(scope="module")
def records():
    random = np.random.default_rng(0)
    codes = np.stack([random.integers(0, size + 1, 600) for size in SIZES], axis=1)
    return {"numeric": (random.normal(size=(600, 38)) * 10).astype(np.float32), "codes": codes}


@pytest.fixture(scope="module")
def deployed(parts, records):
    return deploy(*parts, records, parameters={"threshold": 0.066})


def scores(artifact, records):
    return onnxruntime.InferenceSession(artifact.model).run(None, records)[0]


def test_scaling_one_hot_and_margin_are_in_the_layers(deployed, operators):
    logarithm = ["Abs", "Add", "Log", "Sign", "Mul", "Where"]
    look_up = ["Max", "Min", "Add", "Gather", "ReduceSum"]
    layers = ["Gemm", "Relu", "Gemm", "Relu", "Gemm", "Relu", "Gemm"]
    decision = ["Squeeze", "Sigmoid", "GreaterOrEqual", "Cast"]
    assert operators(deployed) == [*logarithm, *look_up, *layers, *decision]


def test_it_answers_what_the_merged_graph_answers(parts, deployed, records):
    np.testing.assert_allclose(scores(deployed, records), scores(merge(*parts), records), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("code", [-1, 71, 10**9, np.iinfo(np.int64).min, np.iinfo(np.int64).max])
def test_a_code_out_of_range_still_lights_no_column(parts, deployed, records, code):
    stray = {"numeric": records["numeric"][:3], "codes": np.full((3, 3), code)}
    np.testing.assert_allclose(scores(deployed, stray), scores(merge(*parts), stray), rtol=1e-5, atol=1e-6)


def test_an_empty_batch_gives_no_scores(deployed, records):
    assert scores(deployed, {name: value[:0] for name, value in records.items()}).shape == (0,)


def test_ends_and_provenance_are_those_of_the_merged_graph(parts, deployed):
    assert deployed.signature == merge(*parts).signature
    history = deployed.history[len(parts[1].history) :]
    assert [record.step for record in history][:2] == ["merge", "fold-affine-into-next"]
    assert history[0].parameters == {"threshold": 0.066}
    assert history[0].before == parts[1].digest
    assert [record.after for record in history[:-1]] == [record.before for record in history[1:]]
    assert history[-1].after == deployed.digest


class Negated(Step, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="negated"):
    """A pass that does harm: it turns the sign of the last weights around."""

    @property
    def contract(self) -> Contract:
        return Exact()

    def notes(self, artifact):
        return (f"turned the sign of {len(parse(artifact.model).graph.node)} nodes' last weights",)

    def apply(self, artifact, context):
        proto = parse(artifact.model)
        name = [node for node in proto.graph.node if node.op_type == "Gemm"][-1].input[1]
        (tensor,) = (tensor for tensor in proto.graph.initializer if tensor.name == name)
        tensor.CopyFrom(numpy_helper.from_array(-numpy_helper.to_array(tensor), name))
        return replace(artifact, model=proto.SerializeToString())


def test_a_pass_that_does_harm_is_undone_and_named(parts, records):
    harmed = deploy(*parts, records, passes=(Negated(),))
    record = harmed.history[-1]
    assert harmed.model == merge(*parts).model
    assert (record.step, record.kept, record.before) == ("negated", False, record.after)
    assert "output 'scores' went from" in record.verdict.reason


def test_a_record_says_what_the_step_notes_and_what_the_graph_was_held_to(parts, records):
    *_, merging, record = deploy(*parts, records, passes=(Negated(),)).history
    nodes = len(parse(merge(*parts).model).graph.node)
    assert record.notes == (f"turned the sign of {nodes} nodes' last weights",)
    assert record.contract == merging.contract
    assert record.contract != msgspec.to_builtins(Exact())


def test_a_pass_that_finds_nothing_leaves_no_record(deployed):
    passes = [record for record in deployed.history if record.step != "merge"]
    assert all(record.before != record.after for record in passes)
    assert 0 < len(passes) < len(SEAM_PASSES)
