"""Tensors as safetensors: bit for bit what torch reads, from every format that the scan admits."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch import nn

from hauberk.convert import Wanted, convert
from hauberk.convert.frameworks.checkpoint import Checkpoint
from hauberk.convert.weights import written
from hauberk.errors import InputError, RefusedModelError

STATE = {
    "a.weight": torch.tensor([[1.5, -0.0], [float("nan"), 3.0]]),
    "steps": torch.tensor(7),
    "half": torch.ones(3).half(),
}
LEGACY = {"_use_new_zipfile_serialization": False}
STRETCHED = torch.zeros(1).expand(1 << 40)


def same(left, right):
    assert left.keys() == right.keys()
    for name, tensor in left.items():
        assert tensor.dtype == right[name].dtype
        assert tensor.contiguous().numpy().tobytes() == right[name].contiguous().numpy().tobytes()


@pytest.mark.parametrize("options", [{}, LEGACY])
@pytest.mark.parametrize("wrapper", [None, "state_dict", "model"])
def test_a_state_dict_comes_through_bit_for_bit(tmp_path, options, wrapper):
    source, out = tmp_path / "in.pt", tmp_path / "out.safetensors"
    torch.save(STATE if wrapper is None else {wrapper: STATE, "epoch": 3}, source, **options)
    done = convert(source, out)
    same(load_file(out), STATE)
    assert (done.tensors, done.comparison.holds, done.verdict) == (3, True, "safe")
    assert done.notes == ()


def test_tensors_at_any_depth_get_their_path_as_a_name(tmp_path):
    model = nn.Linear(3, 2)
    optimizer = torch.optim.Adam(model.parameters())
    model(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    torch.save(optimizer.state_dict(), tmp_path / "in.pt")
    done = convert(tmp_path / "in.pt", tmp_path / "out.safetensors")
    found = load_file(tmp_path / "out.safetensors")
    assert torch.equal(found["state.0.exp_avg"], optimizer.state_dict()["state"][0]["exp_avg"])
    assert "state.1.exp_avg_sq" in found
    (note,) = done.notes
    assert "param_groups.0.lr" in note


def test_tensors_that_share_memory_are_written_once_each(tmp_path):
    shared = torch.arange(6.0)
    torch.save({"whole": shared, "part": shared[2:4], "turned": shared.reshape(2, 3).t()}, tmp_path / "in.pt")
    convert(tmp_path / "in.pt", tmp_path / "out.safetensors")
    found = load_file(tmp_path / "out.safetensors")
    assert found["part"].tolist() == [2.0, 3.0]
    assert found["turned"].tolist() == [[0.0, 3.0], [1.0, 4.0], [2.0, 5.0]]


@pytest.mark.parametrize("content", [{"w": STRETCHED}, {"state": {"w": STRETCHED}, "epoch": 3}])
def test_one_number_that_is_repeated_without_end_is_not_written_out(tmp_path, content):
    """Four terabytes of a file of a few kilobytes."""
    torch.save(content, tmp_path / "in.pt")
    with pytest.raises(InputError, match="would take 4398046511104 bytes"):
        convert(tmp_path / "in.pt", tmp_path / "out.safetensors")


def test_safetensors_become_safetensors(tmp_path):
    save_file(STATE, tmp_path / "in.safetensors")
    done = convert(tmp_path / "in.safetensors", tmp_path / "out", Wanted(to="safetensors"))
    same(load_file(tmp_path / "out"), STATE)
    assert done.result.format == "safetensors"


DTYPES = st.sampled_from(
    [torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.uint8, torch.bool, torch.float64]
)


@settings(max_examples=40, deadline=None)
@given(shape=st.lists(st.integers(0, 4), max_size=4), dtype=DTYPES, seed=st.integers(0, 99))
def test_any_tensor_at_all(shape, dtype, seed):
    tensor = torch.from_numpy(np.asarray(np.random.default_rng(seed).normal(size=shape) * 100)).to(dtype)
    _, comparison = written({"t": tensor}, "file")
    assert comparison.holds


@pytest.mark.parametrize(
    ("tensor", "says"),
    [
        (torch.eye(3).to_sparse(), "not a plain dense tensor"),
        (torch.ones(2, device="meta"), "not a plain dense tensor"),
    ],
)
def test_what_safetensors_cannot_hold_is_named(tensor, says):
    with pytest.raises(InputError, match=says):
        written({"odd": tensor}, "file")


class Payload:
    def __init__(self, flag):
        self.flag = flag

    def __reduce__(self):
        return (open, (self.flag, "w"))


@pytest.mark.parametrize("options", [{}, LEGACY])
def test_a_pickle_with_code_is_refused_and_does_nothing(tmp_path, options):
    flag = tmp_path / "flag"
    torch.save({"state_dict": STATE, "extra": Payload(str(flag))}, tmp_path / "in.pt", **options)
    with pytest.raises(RefusedModelError, match=r"the scan says unsafe: .*; nothing of it was run"):
        convert(tmp_path / "in.pt", tmp_path / "out.safetensors")
    assert not flag.exists()
    assert not (tmp_path / "out.safetensors").exists()


def test_a_file_without_tensors_says_so(tmp_path):
    torch.save({"epoch": 3}, tmp_path / "in.pt")
    with pytest.raises(InputError, match="holds no tensors"):
        Checkpoint((tmp_path / "in.pt").read_bytes())
