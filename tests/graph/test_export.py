"""Export: the core graph equals the torch module, at pinned versions, quietly; what cannot be exported is explained."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import nn

from hauberk.artifact import TorchArtifact
from hauberk.errors import InputError
from hauberk.graph.export import export
from hauberk.graph.model import run, session
from hauberk.tensors import Signature, TensorSpec


@pytest.mark.parametrize("records", [1, 2, 257])
def test_logits_equal_torch_for_any_batch(detector, core, records):
    features = np.random.default_rng(records).normal(size=(records, 119)).astype(np.float32)
    with torch.no_grad():
        expected = detector.module(torch.from_numpy(features)).numpy()
    session = onnxruntime.InferenceSession(core.model)
    np.testing.assert_allclose(session.run(None, {"features": features})[0], expected, rtol=1e-5, atol=1e-6)


def test_the_core_has_the_agreed_signature(core):
    assert core.signature == Signature(
        inputs=(TensorSpec("features", "float32", ("batch", 119)),),
        outputs=(TensorSpec("logits", "float32", ("batch", 2)),),
    )


def test_versions_are_pinned_and_weights_inline(core):
    proto = onnx.load_from_string(core.model)
    assert (proto.ir_version, [(entry.domain, entry.version) for entry in proto.opset_import]) == (10, [("", 20)])
    assert all(tensor.data_location != onnx.TensorProto.EXTERNAL for tensor in proto.graph.initializer)


def test_origin_and_history_are_kept(detector, core):
    assert (core.origin, core.history) == (detector.origin, detector.history)


def test_a_single_logit_without_a_dimension_becomes_a_column(torch_artifact):
    module = nn.Sequential(nn.Linear(3, 1), nn.Flatten(0))
    core = export(torch_artifact(module, 3, outputs=1))
    features = np.random.default_rng(0).random((5, 3), dtype=np.float32)
    logits = onnxruntime.InferenceSession(core.model).run(None, {"features": features})[0]
    with torch.no_grad():
        np.testing.assert_allclose(logits[:, 0], module(torch.from_numpy(features)).numpy(), rtol=1e-6)
    assert logits.shape == (5, 1)


def test_the_exporter_is_silent(tmp_path):
    script = """
import torch
from hauberk.artifact import TorchArtifact
from hauberk.graph.export import export
from hauberk.tensors import Signature, TensorSpec
signature = Signature((TensorSpec("x", "float32", ("batch", 3)),), (TensorSpec("y", "float32", ("batch", 2)),))
export(TorchArtifact(torch.nn.Linear(3, 2).eval(), signature, "0" * 64))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert (done.stdout, done.stderr) == ("", "")
    assert list(tmp_path.iterdir()) == []


class Branching(nn.Module):
    def forward(self, features):
        return features[:, :2] if features.sum() > 0 else -features[:, :2]


class FixedBatch(nn.Module):
    def forward(self, features):
        return features.reshape(2, -1)[:, :2]


class Pair(nn.Module):
    def forward(self, features):
        return features, features


@pytest.mark.parametrize(
    ("module", "says"),
    [
        (Branching(), "Branching: torch cannot export it: Could not guard on data-dependent expression"),
        (FixedBatch(), "FixedBatch: .*no free batch dimension; a batch of 1 fails"),
        (Pair(), "Pair: returns tuple; expected one tensor"),
        (nn.Linear(4, 2), r"Linear: fails on float32 \[2, 3\]: mat1 and mat2 shapes cannot be multiplied"),
        (nn.Linear(1 << 16, 1 << 14, device="meta"), "Linear: 4.3 GB of weights; above 2 GB"),
    ],
)
def test_what_cannot_be_exported_is_explained_in_one_line(torch_artifact, module, says):
    with pytest.raises(InputError, match=says) as caught:
        export(torch_artifact(module, 3))
    assert "\n" not in str(caught.value)


def test_a_module_in_training_mode_is_refused(torch_artifact):
    artifact = torch_artifact(nn.Sequential(nn.Linear(3, 2), nn.Dropout()), 3)
    artifact.module[1].train()
    with pytest.raises(InputError, match="training mode"):
        export(artifact)


@pytest.mark.parametrize(
    "inputs",
    [
        (),
        (TensorSpec("x", "float64", ("batch", 3)),),
        (TensorSpec("x", "float32", ("batch",)),),
        (TensorSpec("x", "float32", ("batch", 3, "time")),),
        (TensorSpec("x", "float32", ("batch", "width")),),
    ],
)
def test_only_one_float32_input_of_fixed_shape_is_taken(inputs):
    signature = Signature(inputs=inputs, outputs=(TensorSpec("y", "float32", ("batch", 2)),))
    with pytest.raises(InputError, match=r"expected one float32 \[batch, …\] with every other size a number"):
        export(TorchArtifact(nn.Linear(3, 2).eval(), signature, "0" * 64))


@pytest.mark.parametrize(
    ("module", "shape"),
    [
        (nn.Sequential(nn.Flatten(), nn.Linear(12, 2)), (4, 3)),
        (nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(4 * 6 * 6, 2)), (3, 8, 8)),
    ],
    ids=["windows", "images"],
)
def test_records_may_have_any_number_of_dimensions(module, shape):
    signature = Signature((TensorSpec("x", "float32", ("batch", *shape)),), (TensorSpec("y", "float32", ("batch", 2)),))
    core = export(TorchArtifact(module.eval(), signature, "0" * 64))
    assert core.signature.inputs == (TensorSpec("features", "float32", ("batch", *shape)),)
    features = np.random.default_rng(0).random((3, *shape), dtype=np.float32)
    with torch.no_grad():
        expected = module(torch.from_numpy(features)).numpy()
    np.testing.assert_allclose(run(session(core.model), {"features": features})[0], expected, rtol=1e-4, atol=1e-5)
