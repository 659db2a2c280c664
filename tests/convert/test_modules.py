"""Torch modules and graphs: real records, boundaries, another opset, and what cannot be converted."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
import torch
from onnx import parser
from torch import nn

from hauberk.artifact import TorchArtifact
from hauberk.convert import RealInputs, Wanted, convert
from hauberk.errors import InputError
from hauberk.graph.export import export
from hauberk.tensors import Signature, TensorSpec

ARCHITECTURE = """
import torch

def network():
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 3))

def wider():
    return torch.nn.Linear(5, 3)
"""


@pytest.fixture
def weights(tmp_path):
    (tmp_path / "own.py").write_text(ARCHITECTURE)
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3)).eval()
    torch.save(module.state_dict(), tmp_path / "weights.pt")
    return tmp_path / "weights.pt", f"{tmp_path / 'own.py'}:network", module


def test_a_state_dict_with_its_architecture_becomes_a_graph(weights, tmp_path, runs):
    path, arch, module = weights
    features = np.random.default_rng(0).normal(size=(90, 4)).astype(np.float32)
    np.savez(tmp_path / "real.npz", features=features)
    done = convert(path, tmp_path / "out.onnx", Wanted(arch=arch, real=RealInputs(data=tmp_path / "real.npz")))
    assert done.comparison.holds
    assert done.comparison.framework == f"torch {torch.__version__.partition('+')[0]}"
    assert next(family for family in done.comparison.families if family.name == "real").records == 90
    with torch.no_grad():
        truth = module(torch.from_numpy(features)).numpy()
    np.testing.assert_allclose(runs((tmp_path / "out.onnx").read_bytes(), features), truth, rtol=1e-5, atol=1e-6)


def test_weights_that_do_not_fit_are_named_and_nothing_is_written(weights, tmp_path):
    path, arch, _ = weights
    with pytest.raises(InputError, match="do not fit the architecture"):
        convert(path, tmp_path / "out.onnx", Wanted(arch=arch.replace("network", "wider")))
    assert not (tmp_path / "out.onnx").exists()


def test_weights_alone_ask_for_an_architecture(weights, tmp_path):
    with pytest.raises(InputError, match="--arch"):
        convert(weights[0], tmp_path / "out.onnx")


class Selecting(nn.Module):
    """How many numbers it looks at depends on the numbers."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(4, 2)

    def forward(self, features):
        return self.linear(features) + torch.masked_select(features, features > 0).sum()


def artifact(module):
    taken = (TensorSpec("features", "float32", ("batch", 4)),)
    return TorchArtifact(module.eval(), Signature(taken, (TensorSpec("logits", "float32", ("batch", 2)),)), "0" * 64)


def test_shapes_that_depend_on_data_fall_back_to_the_older_exporter_and_say_so(runs):
    remarks = []
    module = Selecting()
    core = export(artifact(module), remark=remarks.append)
    assert len(remarks) == 1
    assert "the older one traced a single run" in remarks[0]
    for seed in range(4):
        features = np.random.default_rng(seed).normal(size=(seed + 1, 4)).astype(np.float32)
        with torch.no_grad():
            truth = module(torch.from_numpy(features)).numpy()
        np.testing.assert_allclose(runs(core.model, features), truth, rtol=1e-5, atol=1e-5)


class Branching(nn.Module):
    def forward(self, features):
        return features[:, :2] if features.sum() > 0 else -features[:, :2]


def test_a_branch_is_never_frozen_into_the_graph():
    with pytest.raises(InputError, match=r"data-dependent.*older exporter: Converting a tensor to a Python boolean"):
        export(artifact(Branching()))


def saved(text, path, opset):
    onnx.save(parser.parse_model(f'<ir_version: 8, opset_import: ["" : {opset}]> {text}'), path)
    return path


NETWORK = """g (float[n,3] x) => (float[n,2] y) <float[3,2] w = {1, 2, 3, 4, 5, 6}>
{ a = MatMul(x, w) b = Relu(a) y = Softmax<axis = 1>(b) }"""


@pytest.mark.parametrize(("before", "after"), [(13, 20), (20, 15), (17, 17)])
def test_an_opset_is_changed_and_the_answers_are_not(tmp_path, before, after):
    source = saved(NETWORK, tmp_path / "in.onnx", before)
    done = convert(source, tmp_path / "out.onnx", Wanted(opset=after))
    assert (done.opset, done.comparison.holds) == (after, True)
    assert onnx.load(tmp_path / "out.onnx").opset_import[0].version == after
    assert f"the graph had opset {before}" in done.notes


def test_several_inputs_of_other_kinds_are_compared_too(tmp_path):
    text = """g (float[n,3] x, int64[n] i, bool[n] b) => (float[n,3] y, int64[n] z)
{ y = Relu(x) j = Abs(i) c = Cast<to = 7>(b) z = Add(j, c) }"""
    done = convert(saved(text, tmp_path / "in.onnx", 13), tmp_path / "out.onnx", Wanted(opset=18))
    assert done.comparison.holds
    assert [spec.name for spec in done.inputs] == ["x", "i", "b"]
    assert done.comparison.labels is None


GATED = """g (float[n,3,2] x) => (float[n,4] y)
<float[1,12,2] w = {}, float[1,12,4] r = {}, int64[1] zero = {{0}}>
{{ t = Transpose<perm = [1, 0, 2]>(x) all, last = GRU<hidden_size = 4>(t, w, r) y = Squeeze(last, zero) }}"""


@pytest.mark.parametrize("after", [20, 15])
def test_a_recurrent_graph_is_never_asked_about_an_empty_batch(tmp_path, after):
    """ONNX Runtime 1.31 ends the process there."""
    weights = ("{" + ", ".join(f"{value:.3f}" for value in np.sin(np.arange(count))) + "}" for count in (24, 48))
    source = saved(GATED.format(*weights), tmp_path / "in.onnx", 20)
    done = convert(source, tmp_path / "out.onnx", Wanted(opset=after))
    sizes = next(family for family in done.comparison.families if family.name == "sizes")
    assert done.comparison.holds
    assert sizes.records > 20


def test_an_opset_that_lacks_an_operator_is_refused_and_nothing_is_written(tmp_path):
    source = saved("g (float[n,3] x) => (float[n,3] y) { y = Gelu(x) }", tmp_path / "in.onnx", 20)
    with pytest.raises(InputError, match=r"opset 20 cannot be converted to 13|changes what the graph computes"):
        convert(source, tmp_path / "out.onnx", Wanted(opset=13))
    assert not (tmp_path / "out.onnx").exists()


def test_what_draws_random_numbers_cannot_be_compared(tmp_path):
    text = "g (float[n,3] x) => (float[n,3] y) { r = RandomNormalLike(x) y = Add(x, r) }"
    with pytest.raises(InputError, match="draws random numbers"):
        convert(saved(text, tmp_path / "in.onnx", 13), tmp_path / "out.onnx")


@pytest.mark.parametrize("opset", [6, 99])
def test_opsets_that_nobody_reads_are_refused(tmp_path, opset):
    with pytest.raises(InputError, match=f"--opset: {opset}"):
        convert(tmp_path / "in.onnx", tmp_path / "out.onnx", Wanted(opset=opset))


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "empty"),
        (b"hello, this is no model", "no model that is converted: text"),
        (b"\x08\x0a\x12\x04abcd", "the scan says|damaged"),
        (b"MZ" + bytes(100), "the scan says|no model"),
    ],
)
def test_what_is_no_model_is_refused(tmp_path, content, says):
    (tmp_path / "in.onnx").write_bytes(content)
    with pytest.raises(InputError, match=says):
        convert(tmp_path / "in.onnx", tmp_path / "out.onnx")
    assert not (tmp_path / "out.onnx").exists()


def test_the_source_is_not_written_over(tmp_path):
    source = saved(NETWORK, tmp_path / "in.onnx", 13)
    before = source.read_bytes()
    with pytest.raises(InputError, match="is made of this file"):
        convert(source, source)
    assert source.read_bytes() == before


def test_the_suffix_or_an_option_says_what_to_write(tmp_path):
    source = saved(NETWORK, tmp_path / "in.onnx", 20)
    with pytest.raises(InputError, match=r"end it in \.onnx or \.safetensors"):
        convert(source, tmp_path / "out.bin")
    with pytest.raises(InputError, match="holds more than tensors"):
        convert(source, tmp_path / "out.safetensors")
    assert convert(source, tmp_path / "out.bin", Wanted(to="onnx")).result.format == "onnx"


def test_an_architecture_for_a_graph_is_refused(tmp_path, weights):
    source = saved(NETWORK, tmp_path / "in.onnx", 20)
    with pytest.raises(InputError, match="brings its own architecture"):
        convert(source, tmp_path / "out.onnx", Wanted(arch=weights[1]))
