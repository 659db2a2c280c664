"""How a copy was made is seen from the shapes of its weights; what a trigger sets is said in words."""

from __future__ import annotations

import numpy as np
import pytest

from hauberk.artifact import TorchArtifact
from hauberk.compress.recipes import named_recipe
from hauberk.graph.passes.export import Export
from hauberk.graph.verify import verify
from hauberk.models import TabularMLP
from hauberk.recipe import Context, LabelledFeatures
from hauberk.search.beyond import how_compressed
from hauberk.tensors import Signature, TensorSpec


@pytest.fixture(scope="module")
def scene():
    features = np.random.default_rng(0).random((256, 24), dtype=np.float32)
    records = LabelledFeatures(features, (features[:, 0] > 0.5).astype(np.int64))
    bounds = (np.zeros(24, np.float32), np.ones(24, np.float32))
    context = Context(features, bounds, training=records, validation=records)
    specs = (TensorSpec("features", "float32", ("batch", 24)),), (TensorSpec("logits", "float32", ("batch", 2)),)
    module = TorchArtifact(TabularMLP(24, (64, 32)).eval(), Signature(*specs), "0" * 64)
    return Export().apply(module, context), context


@pytest.mark.parametrize(
    ("recipe", "kind"),
    [
        ("float16", "rounded"),
        ("int8-static", "rounded"),
        ("int8-dynamic", "rounded"),
        ("codebook-16", "rounded"),
        ("pruned-50", "rebuilt"),
        ("distilled-half", "rebuilt"),
    ],
)
def test_a_copy_is_rounded_where_its_layers_are_those_of_the_original(scene, recipe, kind):
    core, context = scene
    copy = named_recipe(recipe, core).apply(core, context, verify)
    assert copy.digest != core.digest
    assert how_compressed(core, copy) == kind


def test_without_a_graph_to_look_at_the_higher_bar_counts(scene):
    core, _ = scene
    assert how_compressed(core, core) == "rounded"
    assert how_compressed(core, None) == how_compressed(None, core) == "rebuilt"
