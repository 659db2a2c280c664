"""What the passes' tests share: applying one to a graph in text form, and asking whether it still answers alike."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnxruntime
import pytest

from hauberk.artifact import OnnxArtifact
from hauberk.graph.model import parse
from hauberk.recipe import Context, Step

HEADS = {
    "records": "float[batch,4] features",
    "windows": "float[batch,3,4] features",
    "images": "float[batch,2,5,5] features",
}


def _run(artifact: OnnxArtifact, feeds: dict[str, np.ndarray]) -> list[np.ndarray]:
    """Every output, with each node run as it is written."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    return onnxruntime.InferenceSession(artifact.model, options).run(None, feeds)


def _feeds(artifact: OnnxArtifact, count: int) -> dict[str, np.ndarray]:
    random = np.random.default_rng(3)
    feeds = {}
    for spec in artifact.signature.inputs:
        shape = tuple(count if isinstance(size, str) else size for size in spec.shape)
        drawn = random.normal(size=shape) * 2 if spec.dtype.startswith("float") else random.integers(-9, 99, shape)
        feeds[spec.name] = drawn.astype(spec.dtype)
    return feeds


@pytest.fixture(scope="session")
def run() -> Callable[..., list[np.ndarray]]:
    return _run


@pytest.fixture(scope="session")
def feeds() -> Callable[[OnnxArtifact, int], dict[str, np.ndarray]]:
    """So many random records for a graph."""
    return _feeds


@pytest.fixture(scope="session")
def graph(graph_artifact) -> Callable[..., OnnxArtifact]:
    """A graph of one of the `HEADS` from its constants and its body."""

    def build(body: str, constants: str = "", kind: str = "records", opset: int = 20) -> OnnxArtifact:
        head = f'<ir_version: 10, opset_import: ["" : {opset}]> g ({HEADS[kind]}) => (float[batch,K] logits)'
        return graph_artifact(f"{head} {constants} {{ {body} }}")

    return build


@pytest.fixture(scope="session")
def rewritten(run, feeds, operators) -> Callable[[Step, OnnxArtifact], list[str]]:
    """The operators that a pass leaves, after it has been seen that every output is what it was."""

    def of(step: Step, before: OnnxArtifact, rtol: float = 1e-5) -> list[str]:
        nothing = np.zeros((0, 1), dtype=np.float32)
        after = step.apply(before, Context(calibration=nothing, bounds=(nothing, nothing)))
        for count in (1, 5):
            records = feeds(before, count)
            for old, new in zip(run(before, records), run(after, records), strict=True):
                assert old.shape == new.shape
                np.testing.assert_allclose(new, old, rtol=rtol, atol=1e-5)
        assert len(parse(after.model).graph.node) == len(operators(after))
        return operators(after)

    return of
