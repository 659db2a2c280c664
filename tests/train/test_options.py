"""Training options: ranges, and devices that this machine has or lacks."""

from __future__ import annotations

import pytest
import torch

from hauberk.errors import InputError
from hauberk.train import TrainingOptions
from hauberk.train.options import torch_device


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("epochs", 0),
        ("batch_size", 0),
        ("patience", -1),
        ("threads", 0),
        ("learning_rate", 0.0),
        ("learning_rate", float("nan")),
        ("weight_decay", -0.1),
        ("seed", -1),
        ("threads", 100_000),
        ("batch_size", 1 << 63),
    ],
)
def test_a_value_out_of_range_is_named(name, value):
    with pytest.raises(InputError, match=f"training option {name} is {value}"):
        TrainingOptions(**{name: value})


def test_cpu_is_always_there():
    assert torch_device("cpu") == torch.device("cpu")


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a CUDA device")
def test_a_missing_cuda_device_is_a_clear_error():
    with pytest.raises(InputError, match=r"finds no CUDA device here; use --device cpu"):
        torch_device("cuda")


@pytest.mark.parametrize(("name", "says"), [("gpu", "is unknown"), ("meta", "is not supported")])
def test_other_devices_are_refused(name, says):
    with pytest.raises(InputError, match=says):
        torch_device(name)
