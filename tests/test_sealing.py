"""The last check: the bundle is opened as production opens it, and answers what was measured."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from hauberk.artifact import OnnxArtifact, TorchArtifact
from hauberk.bundle import BundleContents, write_bundle
from hauberk.compress import QuantizeDynamic
from hauberk.errors import ContractError
from hauberk.graph.decision import decision_graph
from hauberk.graph.export import export
from hauberk.graph.merge import merge
from hauberk.graph.preprocess import preprocessing_graph
from hauberk.models import TabularMLP
from hauberk.recipe import Context, Recipe
from hauberk.schema import Coded, Decision, FeatureSpace, Label, NumericFeature, Preprocessing, RecordSchema, Scaling
from hauberk.sealing import SealingKeys, open_and_compare
from hauberk.search.candidate import Candidate
from hauberk.search.measuring import margins
from hauberk.tensors import Signature, TensorSpec
from hauberk.trust import EncryptionKey, SigningKey

WIDTH = 6
KEYS = SealingKeys(EncryptionKey(bytes(32)), SigningKey.generate())
SCHEMA = RecordSchema(
    tuple(NumericFeature(name=f"f{column}", low=-100.0, high=100.0) for column in range(WIDTH)),
    Label("label", ("normal", "attack"), "normal"),
)
SPACE = FeatureSpace(SCHEMA, Preprocessing(tuple(Scaling(False, 0.0, 1.0) for _ in range(WIDTH))))


@pytest.fixture(scope="module")
def records():
    """3,000 records, the later ones of a larger scale, so that it shows who shared a batch with whom."""
    numeric = np.random.default_rng(0).normal(size=(3000, WIDTH)) * np.linspace(0.1, 20, 3000)[:, None]
    return Coded(numeric.astype(np.float32), np.empty((3000, 0), dtype=np.int64))


@pytest.fixture(scope="module")
def candidate(records):
    """A network in dynamic INT8, which scales its activations by the batch that they come in."""
    torch.manual_seed(0)
    signature = Signature(
        (TensorSpec("features", "float32", ("batch", WIDTH)),), (TensorSpec("logits", "float32", ("batch", 2)),)
    )
    core = export(TorchArtifact(TabularMLP(WIDTH, (32, 16)).eval(), signature, "0" * 64))
    context = Context(calibration=records.numeric, bounds=SPACE.bounds)
    quantized = QuantizeDynamic().apply(core, context)
    merged = merge(preprocessing_graph(SPACE), quantized, decision_graph(Decision()))
    return Candidate(Recipe("int8-dynamic"), quantized, Decision(), merged)


def written(path: Path, deployable: OnnxArtifact) -> Path:
    contents = BundleContents(
        name="detector",
        model=deployable.model,
        schema=SCHEMA,
        signature=deployable.signature,
        threshold=0.5,
        public={
            "_type": "https://in-toto.io/Statement/v1",
            "subject": [{"name": "model.onnx", "digest": {"sha256": deployable.digest}}],
            "predicateType": "https://example.org/test",
            "predicate": {},
        },
        evidence={},
    )
    write_bundle(path, contents, encryption=KEYS.encryption, signing=KEYS.signing)
    return path


@pytest.fixture
def bundle(candidate, tmp_path):
    return written(tmp_path / "detector.hbk", candidate.deployable)


def test_answers_that_depend_on_the_batch_are_compared_in_the_same_batches(bundle, candidate, records):
    open_and_compare(bundle, KEYS, records, candidate.decision, margins(candidate, records.numeric))
    assert bundle.is_file()


def test_a_bundle_that_answers_something_else_is_found_out(bundle, candidate, records):
    measured = margins(candidate, records.numeric)
    measured[2900] *= -1
    with pytest.raises(
        ContractError, match=r"1 of 3000 test records differently than what was measured, first .* 2900"
    ):
        open_and_compare(bundle, KEYS, records, candidate.decision, measured)


def test_a_bundle_that_answers_no_number_is_found_out(candidate, records, tmp_path):
    """NaN is neither near to nor far from anything, and raises no alert."""
    model = onnx.load_from_string(candidate.deployable.model)
    weights = {tensor.name: tensor for tensor in model.graph.initializer}
    last_sum = [node for node in model.graph.node if node.op_type == "Add" and set(node.input) & weights.keys()][-1]
    bias = weights[next(name for name in last_sum.input if name in weights)]
    bias.CopyFrom(onnx.numpy_helper.from_array(np.full_like(onnx.numpy_helper.to_array(bias), np.nan), bias.name))
    path = written(tmp_path / "nan.hbk", replace(candidate.deployable, model=model.SerializeToString()))
    with pytest.raises(ContractError, match="3000 of 3000 test records"):
        open_and_compare(path, KEYS, records, candidate.decision, np.full(3000, -9.0, dtype=np.float32))
