"""Each reference architecture twice: from its torch source, and as an ONNX file whose source nobody has."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
import torch

from hauberk.artifact import OnnxArtifact
from hauberk.graph.model import run, session
from hauberk.graph.normalise import normalise
from hauberk.graph.twin import Twin
from hauberk.ingest import load_model
from hauberk.recipe import LabelledFeatures
from hauberk.train import TrainingOptions, train


@pytest.fixture(scope="module")
def alone(architecture, artifact_of, core_of, tmp_path_factory):
    """The torch artifact, and the core of its ONNX file after it has come in through the front door."""
    artifact = artifact_of(architecture)
    proto = onnx.load_from_string(core_of(architecture).model)
    renamed = {"features": "network_input", "logits": "network_output"}  # somebody else's names
    for value in (*proto.graph.input, *proto.graph.output):
        value.name = renamed[value.name]
    for node in proto.graph.node:
        for names in (node.input, node.output):
            names[:] = [renamed.get(name, name) for name in names]
    path = tmp_path_factory.mktemp(architecture) / "detector.onnx"
    path.write_bytes(proto.SerializeToString())
    loaded = load_model(path)
    assert isinstance(loaded.artifact, OnnxArtifact)
    return artifact, normalise(loaded.artifact)


def records(artifact, count, seed=0):
    shape = artifact.signature.inputs[0].shape[1:]
    return np.random.default_rng(seed).standard_normal((count, *shape)).astype(np.float32)


def test_the_file_gives_what_the_source_gives(alone):
    artifact, core = alone
    features = records(artifact, 9)
    with torch.inference_mode():
        expected = artifact.module(torch.tensor(features)).numpy()
    assert core.signature == artifact.signature
    found = run(session(core.model), {"features": features})[0]
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 * max(1.0, np.abs(expected).max()))


def test_the_file_alone_can_be_trained(alone, architecture):
    """Two epochs on the twin lower the loss on the records trained on, and the graph written back has learned."""
    artifact, core = alone
    many = 64 if "resnet" not in architecture else 8
    outputs = artifact.signature.outputs[0].shape[1]
    classes = max(2, outputs)
    targets = np.arange(many) % classes
    data = LabelledFeatures(records(artifact, many), targets.astype(np.int64))
    task = "classification" if outputs > 2 else "detection"
    rate = 3e-3 if "resnet" not in architecture else 1e-5  # logits of untrained ResNets are in the hundreds
    options = TrainingOptions(epochs=2, batch_size=16, learning_rate=rate, task=task)
    twin = Twin(core)
    result = train(twin, data, data, options)
    assert result.history[-1].validation_loss < loss_before(core, data, task)
    written = run(session(twin.to_artifact().model), {"features": data.features})[0]
    with torch.inference_mode():
        expected = twin(torch.tensor(data.features)).numpy()
    np.testing.assert_allclose(written, expected, rtol=0, atol=1e-4 * max(1.0, np.abs(expected).max()))


def loss_before(core, data, task) -> float:
    logits = torch.tensor(run(session(core.model), {"features": data.features})[0])
    targets = torch.tensor(data.targets)
    if task == "classification":
        counts = torch.bincount(targets, minlength=logits.shape[1]).float()
        return float(torch.nn.functional.cross_entropy(logits, targets, weight=1 / counts))
    margin = logits[:, 0] if logits.shape[1] == 1 else logits[:, 1] - logits[:, 0]
    return float(torch.nn.functional.binary_cross_entropy_with_logits(margin, targets.float()))
