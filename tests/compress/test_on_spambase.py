"""Every default recipe on a detector trained on real records and exported by torch."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import pytest
import torch

from hauberk.artifact import OnnxArtifact, TorchArtifact
from hauberk.compress import default_recipes
from hauberk.data import Dataset, load_splits
from hauberk.graph.export import export
from hauberk.graph.verify import verify
from hauberk.recipe import Context, LabelledFeatures, Recipe
from hauberk.schema import FeatureSpace
from hauberk.tensors import Signature, TensorSpec
from hauberk.train import TrainingOptions, train_detector

NAMES = ["int8-dynamic", "int8-static", "float16", "distilled-32-16", "distilled-16"]


class Detector(NamedTuple):
    core: OnnxArtifact
    context: Context
    test: LabelledFeatures
    recipes: dict[str, Recipe]


@pytest.fixture(scope="module")
def detector() -> Detector:
    torch.set_num_threads(1)
    splits = load_splits("spambase")
    trained = train_detector(splits, widths=(128, 64, 32), options=TrainingOptions(epochs=20))
    space = FeatureSpace(trained.card.schema, trained.card.preprocessing)

    def features(data: Dataset) -> LabelledFeatures:
        return LabelledFeatures(space.transform(data.coded.numeric, data.coded.codes), data.targets)

    training, validation = features(splits.training), features(splits.validation)
    signature = Signature(
        inputs=(TensorSpec("features", "float32", ("batch", space.width)),),
        outputs=(TensorSpec("logits", "float32", ("batch", 2)),),
    )
    core = export(TorchArtifact(trained.module, signature, trained.card.weights_sha256))
    context = Context(calibration=training.features, bounds=space.bounds, training=training, validation=validation)
    recipes = {recipe.name: recipe for recipe in default_recipes(core)}
    return Detector(core, context, features(splits.test), recipes)


def test_recipes_fit_the_detector(detector):
    assert list(detector.recipes) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_contracts_hold_and_decisions_and_accuracy_hold_on_unseen_records(
    name, detector: Detector, answers: Callable[[OnnxArtifact, np.ndarray], np.ndarray]
):
    """Judged by the verifier that is used in production, on real, boundary and random records; then on unseen ones."""
    made = detector.recipes[name].apply(detector.core, detector.context, verify)
    assert [record.verdict.reason for record in made.history] == [""]
    (step, *_) = detector.recipes[name].steps
    before = answers(detector.core, detector.test.features).argmax(axis=1)
    after = answers(made, detector.test.features).argmax(axis=1)
    assert (before == after).mean() >= (0.95 if step.trains else 0.99)
    assert (after == detector.test.targets).mean() >= (before == detector.test.targets).mean() - 0.02


@pytest.mark.parametrize(
    ("name", "operator", "layers"),
    [("int8-static", "QGemm", 4), ("int8-dynamic", "DynamicQuantizeMatMul", 4), ("float16", "FusedGemm", 3)],
)
def test_exported_layers_are_fused(
    name, operator, layers, detector: Detector, fused: Callable[[OnnxArtifact], list[str]]
):
    (step, *_) = detector.recipes[name].steps
    assert fused(step.apply(detector.core, detector.context)).count(operator) == layers
