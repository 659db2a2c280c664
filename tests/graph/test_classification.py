"""The last graph of a classifier against numpy, and an image model merged with its preprocessing."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from hauberk.artifact import TorchArtifact
from hauberk.errors import InputError
from hauberk.graph.classification import classification_graph
from hauberk.graph.decision import decision_graph
from hauberk.graph.export import export
from hauberk.graph.image_preprocess import image_preprocessing_graph
from hauberk.graph.merge import merge, verify_merged
from hauberk.graph.model import parse, run, session
from hauberk.graph.preprocess import preprocessing_graph
from hauberk.models import ResidualCNN, WindowGRU
from hauberk.schema import (
    CategoricalFeature,
    Decision,
    FeatureSpace,
    NumericFeature,
    Preprocessing,
    RecordSchema,
    Scaling,
)
from hauberk.schema.image import ImageSpace
from hauberk.tensors import Signature, TensorSpec


def test_the_largest_logit_is_the_answer():
    logits = np.random.default_rng(0).normal(size=(50, 7)).astype(np.float32) * 5
    logits[3] = 2.0  # all equal: the first one
    scores, labels = run(session(classification_graph(7).model), {"logits": logits})
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    assert labels.tolist() == logits.argmax(axis=1).tolist()
    np.testing.assert_allclose(scores, (powers / powers.sum(axis=1, keepdims=True)).max(axis=1), rtol=1e-5)


def test_one_class_is_no_classification():
    with pytest.raises(InputError, match="1 classes; at least 2"):
        classification_graph(1)


def core_of(module, outputs):
    signature = Signature(
        (TensorSpec("features", "float32", ("batch", *module.record_shape)),),
        (TensorSpec("logits", "float32", ("batch", outputs)),),
    )
    return export(TorchArtifact(module.eval(), signature, "0" * 64))


SPACE = ImageSpace(1, 12, 14, (0.4,), (0.3,))


@pytest.fixture(scope="module")
def parts():
    torch.manual_seed(0)
    core = core_of(ResidualCNN(1, 12, (4, 8), 5), 5)
    return image_preprocessing_graph(SPACE), core, classification_graph(5)


def test_an_image_model_is_one_graph_from_pixels_to_class(parts):
    merged = merge(*parts)
    pixels = np.random.default_rng(0).integers(0, 256, size=(300, 20, 17, 1), dtype=np.uint8)
    verdict = verify_merged(merged, *parts, {"images": pixels})
    assert verdict.holds, verdict.reason
    logits = run(session(parts[1].model), {"features": SPACE.transform(pixels)})[0]
    _, labels = run(session(merged.model), {"images": pixels})
    assert (labels == logits.argmax(axis=1)).mean() > 0.99


def test_a_merged_classifier_that_answers_otherwise_is_caught(parts):
    preprocessing, core, _ = parts
    right = classification_graph(5)
    proto = parse(right.model)
    proto.graph.node[0].op_type = "ArgMin"
    wrong = merge(preprocessing, core, replace(right, model=proto.SerializeToString()))
    pixels = np.random.default_rng(0).integers(0, 256, size=(30, 20, 17, 1), dtype=np.uint8)
    verdict = verify_merged(wrong, *parts, {"images": pixels})
    assert not verdict.holds
    assert "became" in verdict.reason


def test_windows_of_records_are_one_graph_from_codes_to_label():
    torch.manual_seed(0)
    features = (NumericFeature(name="bytes", low=0, high=9), CategoricalFeature(name="flag", categories=("a", "b")))
    space = FeatureSpace(RecordSchema(features), Preprocessing((Scaling(True, 0.5, 2.0),)))
    core = core_of(WindowGRU(space.width, 6, hidden=5), 2)
    parts = preprocessing_graph(space, window=6), core, decision_graph(Decision())
    random = np.random.default_rng(0)
    records = {
        "numeric": random.random((100, 6, 1), dtype=np.float32) * 9,
        "codes": random.integers(0, 3, size=(100, 6, 1)),
    }
    merged = merge(*parts)
    assert verify_merged(merged, *parts, records).holds
    flat = space.transform(records["numeric"].reshape(-1, 1), records["codes"].reshape(-1, 1)).reshape(100, 6, -1)
    logits = run(session(core.model), {"features": flat})[0]
    scores, _ = run(session(merged.model), records)
    np.testing.assert_allclose(scores, 1 / (1 + np.exp(logits[:, 0] - logits[:, 1])), atol=1e-5)
