"""Prune, distil, quantize with training, clean up: one recipe, from torch source and from the ONNX file alone."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest

from hauberk.compress import STEPS
from hauberk.graph.passes import PASSES
from hauberk.recipe import Recipe
from hauberk.search.compression import compress
from hauberk.search.material import DataSource, gather

RECIPE = b"""{"name": "all of it", "steps": [
    {"step": "prune-structured", "amount": 0.5, "tuning": {"epochs": 5, "learning_rate": 3e-3}},
    {"step": "distill", "student": {"kind": "itself"}, "tuning": {"epochs": 10, "learning_rate": 3e-3}},
    {"step": "quantize-aware", "tuning": {"epochs": 5}},
    {"step": "clean-up"},
    {"step": "share-initializers"},
    {"step": "strip-metadata"}
]}"""


@pytest.mark.parametrize("form", ["as_source", "as_onnx"])
def test_a_detector_goes_through_all_of_it(form, trained, tmp_path):
    recipe = Recipe.from_json(RECIPE, (*STEPS, *PASSES))
    material = gather(getattr(trained, form), DataSource("spambase"), seed=0)
    made, account = compress(material, recipe, timing=0.05)
    assert [(step.step, step.kept) for step in account.steps] == [
        ("prune-structured", True),
        ("distill", True),
        ("quantize-aware", True),
        ("clean-up", True),
        ("share-initializers", True),
        ("strip-metadata", True),
    ]
    assert account.after.macs == 57 * 32 + 32 * 16 + 16 * 2
    assert account.after.bytes < 0.6 * account.before.bytes
    assert account.measurements["agreement"].value > 0.95
    assert account.measurements["accuracy"].value > account.baseline["accuracy"].value - 0.02
    assert kernels(made.model, tmp_path).count("QGemm") == 3
    session = onnxruntime.InferenceSession(made.model, providers=["CPUExecutionProvider"])
    assert session.run(None, {"features": np.zeros((7, 57), np.float32)})[0].shape == (7, 2)


def kernels(model: bytes, folder) -> list[str]:
    """Operators of the graph that ONNX Runtime really runs."""
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(folder / "optimised.onnx")
    options.log_severity_level = 3  # it warns that such a file is hardware-specific, which is what is wanted here
    onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    return [node.op_type for node in onnx.load(folder / "optimised.onnx").graph.node]
