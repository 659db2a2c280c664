"""Weights into a module: they fit exactly, or the message says what differs."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import pytest
import torch
from torch import nn

from hauberk.errors import InputError, RefusedModelError
from hauberk.ingest.private import PrivateCopy
from hauberk.ingest.weights import fit, read_checkpoint
from hauberk.models import ResidualCNN, TabularMLP


def state(**changes):
    return {**TabularMLP(3, (4,)).state_dict(), **changes}


def test_weights_that_fit_are_copied():
    module, weights = TabularMLP(3, (4,)), state()
    fit(module, weights, "model.pt")
    assert all(torch.equal(value, weights[name]) for name, value in module.state_dict().items())
    assert not module.training
    weights["layers.0.weight"].zero_()
    assert module.layers[0].weight.abs().sum() > 0


def test_a_module_without_memory_gets_its_weights():
    with torch.device("meta"):
        module = TabularMLP(3, (4,))
    weights = state()
    fit(module, weights, "model.pt")
    assert torch.equal(module.layers[0].weight, weights["layers.0.weight"])


def test_other_float_types_are_converted():
    module = TabularMLP(3, (4,))
    fit(module, {name: value.to(torch.bfloat16) for name, value in state().items()}, "model.pt")
    assert module.layers[0].weight.dtype == torch.float32


def test_tied_weights_stay_tied():
    module = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    module[1].weight = module[0].weight
    fit(module, {name: torch.ones_like(value) for name, value in module.state_dict().items()}, "model.pt")
    assert module[1].weight is module[0].weight


def test_tied_weights_of_a_module_without_memory_stay_tied():
    with torch.device("meta"):
        module = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
        module[1].weight = module[0].weight
    fit(module, {name: torch.ones(value.shape) for name, value in module.state_dict().items()}, "model.pt")
    assert module[1].weight is module[0].weight
    assert torch.equal(module(torch.ones(1, 3)), torch.full((1, 3), 13.0))


def test_a_module_without_memory_takes_the_tensors_themselves():
    with torch.device("meta"):
        module = TabularMLP(3, (4,))
    weights = state()
    fit(module, weights, "model.pt")
    assert module.layers[0].weight.data_ptr() == weights["layers.0.weight"].data_ptr()
    assert module.layers[0].weight.requires_grad


def test_what_no_state_dict_holds_is_named():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.only = nn.Linear(2, 2)
            self.register_buffer("table", torch.ones(3), persistent=False)

    with torch.device("meta"):
        module = Net()
    with pytest.raises(InputError, match="'table' of the architecture is in no state dict"):
        fit(module, {name: torch.ones(value.shape) for name, value in module.state_dict().items()}, "model.pt")


def test_what_differs_is_shown_and_counted():
    weights = state(extra=torch.ones(1), more=torch.ones(1))
    weights["layers.0.weight"] = torch.ones(4, 5)
    del weights["layers.2.bias"]
    with pytest.raises(InputError) as raised:
        fit(TabularMLP(3, (4,)), weights, "model.pt")
    assert str(raised.value) == (
        "model.pt: the weights do not fit the architecture: 'layers.2.bias' is missing; 'extra' is not part of it;"
        " 'more' is not part of it; 'layers.0.weight' is 4×5 instead of 4×3 (4 of 6 differ)"
    )


def test_of_many_differences_the_first_of_each_kind_are_shown():
    weights = state(**{f"extra.{index}": torch.ones(1) for index in range(5)})
    weights["layers.0.weight"] = torch.ones(4, 5)
    with pytest.raises(InputError) as raised:
        fit(TabularMLP(3, (4,)), weights, "model.pt")
    assert str(raised.value) == (
        "model.pt: the weights do not fit the architecture: 'extra.0' is not part of it; 'extra.1' is not part of it;"
        " 'extra.2' is not part of it; 'layers.0.weight' is 4×5 instead of 4×3 and 2 more (6 of 9 differ)"
    )


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.module."])
def test_names_with_the_prefix_of_a_wrapper_are_told_what_to_do(prefix):
    wrapped = {f"{prefix}{name}": value for name, value in state().items()}
    with pytest.raises(
        InputError, match=f"every name begins with '{prefix}': save the state dict of the network inside"
    ):
        fit(TabularMLP(3, (4,)), wrapped, "model.pt")


def test_a_shape_that_differs_is_shown_with_both_shapes():
    with pytest.raises(InputError, match=r"'layers\.0\.weight' is 4×5 instead of 4×3"):
        fit(TabularMLP(3, (4,)), state(**{"layers.0.weight": torch.ones(4, 5)}), "model.pt")


def test_a_tensor_that_claims_to_be_enormous_is_refused_before_it_is_copied():
    enormous = torch.ones(1).expand(1 << 40)
    with pytest.raises(InputError, match="is 1099511627776 instead of 4"):
        fit(TabularMLP(3, (4,)), state(**{"layers.0.bias": enormous}), "model.pt")


@pytest.mark.parametrize(
    ("tensor", "says"),
    [
        (torch.tensor([1.0, float("nan"), 0, 0]), "holds NaN or infinity"),
        (torch.tensor([1.0, float("inf"), 0, 0]), "holds NaN or infinity"),
        (torch.ones(4).to_sparse(), "not a plain dense tensor"),
        (torch.ones(4, dtype=torch.int64), r"is torch\.int64, not torch\.float32"),
        (torch.ones(4, dtype=torch.complex64), r"is torch\.complex64, not torch\.float32"),
    ],
)
def test_tensors_that_are_no_weights_are_refused(tensor, says):
    with pytest.raises(RefusedModelError, match=says):
        fit(TabularMLP(3, (4,)), state(**{"layers.0.bias": tensor}), "model.pt")


@pytest.mark.parametrize("wrap", [lambda s: s, lambda s: {"state_dict": s, "epoch": 3}, lambda s: {"model": s}])
def test_a_state_dict_is_found_where_training_scripts_put_it(tmp_path, wrap):
    torch.save(wrap(state()), tmp_path / "model.pt")
    with PrivateCopy(tmp_path / "model.pt") as copy:
        assert set(read_checkpoint(copy)) == set(state())


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (torch.ones(3), "holds no state dict but a Tensor"),
        ([torch.ones(3)], "holds no state dict but a list"),
        ({}, "holds no state dict;"),
        ({1: torch.ones(3)}, "holds no state dict;"),
        (
            {"epoch": 3, "net": {"w": torch.ones(1)}},
            "holds no state dict itself or under 'state_dict', 'model_state_dict', 'model', but 'epoch', 'net'",
        ),
    ],
)
def test_a_file_without_a_state_dict_says_so_and_what_is_there(tmp_path, content, says):
    torch.save(content, tmp_path / "model.pt")
    with PrivateCopy(tmp_path / "model.pt") as copy, pytest.raises(InputError) as raised:
        read_checkpoint(copy)
    assert says in str(raised.value)
    assert not isinstance(raised.value, RefusedModelError)


def archive(path: Path, pickle: bytes) -> Path:
    """What torch.save writes, with another pickle in it."""
    buffer = io.BytesIO()
    torch.save(state(), buffer)
    with zipfile.ZipFile(buffer) as honest, zipfile.ZipFile(path, "w") as made:
        for name in honest.namelist():
            made.writestr(name, pickle if name.endswith("data.pkl") else honest.read(name))
    return path


ORDERED_DICT = b"ccollections\nOrderedDict\n"


def word(text: str) -> bytes:
    return b"X" + len(text).to_bytes(4, "little") + text.encode()


def test_a_dictionary_whose_methods_are_hidden_does_not_pass_for_a_state_dict(tmp_path):
    # {"weight": 7}, given an attribute `items` that would make it look empty to a caller of items().
    content = b"\x80\x02" + ORDERED_DICT + b")R(" + word("weight") + b"K\x07u}" + word("items") + ORDERED_DICT + b"sb."
    path = archive(tmp_path / "model.pt", content)
    with PrivateCopy(path) as copy, pytest.raises(InputError, match="holds no state dict"):
        read_checkpoint(copy)


@pytest.mark.parametrize(
    "content",
    [
        b"\x80\x02ctorch._utils\n_rebuild_parameter\nK\x01K\x02K\x03\x87R.",  # no tensor in it
        b"\x80\x02ctorch\ndevice\n" + word("nowhere") + b"\x85R.",
        b"\x80\x02}]K\x01s.",  # a list as a key
        b"\x80\x02" + ORDERED_DICT + b")RK\x01a.",
    ],
)
def test_tensors_rebuilt_from_nonsense_are_refused_without_advice_to_try_harder(tmp_path, content):
    path = archive(tmp_path / "model.pt", content)
    with PrivateCopy(path) as copy, pytest.raises(RefusedModelError, match=r"refused by torch\.load") as refusal:
        read_checkpoint(copy)
    assert "weights_only` set to `False`" not in str(refusal.value)


def test_a_checkpoint_without_counts_of_batches_fits():
    """Torchvision's published files have statistics of batch normalisation and no `num_batches_tracked`."""
    torch.manual_seed(0)
    trained, empty = ResidualCNN(1, 8, (4, 8), 3), ResidualCNN(1, 8, (4, 8), 3)
    trained(torch.randn(4, 1, 8, 8))  # in training mode: statistics move
    published = {name: value for name, value in trained.state_dict().items() if "num_batches_tracked" not in name}
    fit(empty, published, "resnet.pth")
    images = torch.randn(2, 1, 8, 8)
    assert torch.equal(empty(images), trained.eval()(images))


def test_missing_statistics_are_still_missing():
    state = ResidualCNN(1, 8, (4,), 3).state_dict()
    del state["stem.1.running_var"]
    with pytest.raises(InputError, match=r"'stem\.1\.running_var' is missing"):
        fit(ResidualCNN(1, 8, (4,), 3), state, "resnet.pth")
