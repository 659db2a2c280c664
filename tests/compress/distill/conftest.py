"""Real records and a robust detector on them, to learn from."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pytest
import torch

from hauberk.artifact import OnnxArtifact, TorchArtifact
from hauberk.compress.distill import Robust
from hauberk.compress.distill.robust import robust_distillation
from hauberk.compress.tuning import Lesson, Tuning, tune
from hauberk.data import load_splits
from hauberk.graph.export import export
from hauberk.models import TabularMLP
from hauberk.recipe import Context, LabelledFeatures
from hauberk.schema import FeatureSpace
from hauberk.tensors import Signature, TensorSpec
from hauberk.train import fit_preprocessing, labelled


class Spambase(NamedTuple):
    """The bundled data in feature space."""

    context: Context
    test: LabelledFeatures
    space: FeatureSpace

    def graph(self, module: torch.nn.Module) -> OnnxArtifact:
        """A module on these records as a core."""
        signature = Signature(
            (TensorSpec("features", "float32", ("batch", self.space.width)),),
            (TensorSpec("logits", "float32", ("batch", 2)),),
        )
        return export(TorchArtifact(module.eval(), signature, "0" * 64))


@pytest.fixture(scope="session")
def spambase() -> Spambase:
    splits = load_splits("spambase")
    schema = splits.training.schema
    space = FeatureSpace(schema, fit_preprocessing(schema, splits.training.coded.numeric, "log-minmax"))
    training, validation, test = (labelled(space, part) for part in (splits.training, splits.validation, splits.test))
    context = Context(training.features, space.bounds, training, validation, mutable=space.mutable)
    return Spambase(context, test, space)


@pytest.fixture(scope="session")
def robust_detector(spambase: Spambase) -> OnnxArtifact:
    """A detector trained on attacked records: taught nothing but the labels, wherever the records are moved."""
    torch.set_num_threads(1)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        module = TabularMLP(spambase.space.width, (64, 32))
    labels = np.eye(2, dtype=np.float32)[spambase.context.training.targets]
    tuning = Tuning(epochs=20, alpha=1.0, temperature=1.0, patience=20, learning_rate=3e-3)
    certain = torch.from_numpy(np.log(0.98 * labels + 0.01))
    objective = robust_distillation(spambase.context, tuning, Robust(radius=0.05), certain, 2, step="test")
    tune(module, spambase.context, tuning, step="test", lesson=Lesson(objective))
    return spambase.graph(module)
