"""Setting a unit's weights to zero and taking it out are the same function; what cannot go is kept, with a reason.

The zeros are written into the graph that still has every unit and run by ONNX Runtime, so the truth does not depend on
how anything is removed.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn

from hauberk.artifact import TorchArtifact
from hauberk.graph.export import export
from hauberk.graph.operations import operations
from hauberk.tensors import Signature, TensorSpec

from .conftest import Network, removal

TOLERANCE = 2e-5

IMAGE_LAYERS = {
    "conv": lambda net, n: net.conv(n),
    "conv+norm": lambda net, n: (net.conv(n, bias=False), net.batch_norm()),
    "depthwise": lambda net, n: net.conv(net.shape[0] * (1 + n % 2), 3, group=net.shape[0]),
    "grouped": lambda net, n: (net.conv(4 * (1 + n % 2), 1), net.conv(4, 3, group=2)),
    "many channels a group": lambda net, n: (net.conv(12, 1), net.conv(12, 1, group=2)),
    "groups of two": lambda net, n: (net.conv(8, 1), net.conv(8, 1, group=4)),
    "residual": lambda net, n: net.residual(),
    "concat": lambda net, n: net.concatenation(),
    "shuffle": lambda net, n: (net.conv(6, 1), net.shuffle(2), net.conv(4)),
    "gate": lambda net, n: (net.conv(n), net.gate()),
    "halves": lambda net, n: (net.conv(n + 2), net.halves()),
    "slice": lambda net, n: (net.conv(n + 2), net.slices()),
    "relu": lambda net, n: net.relu(),
    "pool": lambda net, n: net.add("MaxPool", net.tensor, kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
    "instance norm": lambda net, n: (net.conv(n), net.instance_norm()),
    "upsample": lambda net, n: net.upsample(n) if net.shape[1] < 8 else None,
    "scale": lambda net, n: (net.conv(n), net.add("Mul", net.tensor, net.random(n, 1, 1))),
}
WINDOW_LAYERS = {
    "linear": lambda net, n: net.linear(n),
    "gelu": lambda net, n: net.add("Gelu", net.tensor),
    "layer norm": lambda net, n: net.layer_norm(),
    "heads": lambda net, n: net.attention(n, 3),
    "lstm": lambda net, n: net.recurrent("LSTM", n),
    "gru": lambda net, n: net.recurrent("GRU", n, 2),
    "rnn": lambda net, n: net.recurrent("RNN", n, 1, state=True),
    "lstm with a state": lambda net, n: net.recurrent("LSTM", n, 2, state=True),
    "mean and difference": lambda net, n: net.add(
        "Sub", net.tensor, net.add("ReduceMean", net.tensor, net.constant([1]))
    ),
}
depth = st.integers(2, 6)
fuzzed = settings(max_examples=15, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])


def build(shape, layers, names, sizes, seed, *, flatten=True):
    network = Network(shape, seed)
    for name, size in zip(names, sizes, strict=True):
        layers[name](network, size)
    return network.head(flatten=flatten)


@fuzzed
@given(st.lists(st.tuples(st.sampled_from(sorted(IMAGE_LAYERS)), depth), min_size=1, max_size=6), st.booleans(), depth)
def test_zero_is_gone_in_image_networks(difference, layers, flatten, seed):
    core = build((3, 5, 4), IMAGE_LAYERS, *zip(*layers, strict=True), seed, flatten=flatten)
    truth = removal(core, seed=seed)
    assert difference(truth.zeroed, truth.removed) < TOLERANCE


@fuzzed
@given(
    st.lists(st.tuples(st.sampled_from(sorted(WINDOW_LAYERS)), depth), min_size=1, max_size=5),
    st.sampled_from(["heads", "dimensions"]),
    depth,
)
def test_zero_is_gone_in_window_networks(difference, layers, attention, seed):
    core = build((4, 5), WINDOW_LAYERS, *zip(*layers, strict=True), seed)
    truth = removal(core, attention=attention, seed=seed)
    assert difference(truth.zeroed, truth.removed) < TOLERANCE


@pytest.mark.parametrize("name", sorted(IMAGE_LAYERS))
def test_every_image_layer_loses_something(name, difference):
    network = Network((3, 5, 4))
    network.conv(6)
    IMAGE_LAYERS[name](network, 4)
    core = network.head()
    truth = removal(core)
    assert difference(truth.zeroed, truth.removed) < TOLERANCE
    assert operations(truth.removed.model).macs < operations(core.model).macs


@pytest.mark.parametrize("name", ["heads", "lstm", "gru", "rnn", "lstm with a state"])
@pytest.mark.parametrize("attention", ["heads", "dimensions"])
def test_every_window_layer_loses_something(name, attention, difference):
    network = Network((4, 5))
    WINDOW_LAYERS[name](network, 4)
    core = network.head()
    truth = removal(core, attention=attention)
    assert difference(truth.zeroed, truth.removed) < TOLERANCE
    assert operations(truth.removed.model).macs < operations(core.model).macs


def groups_of(core, **options):
    return {group.name: len(group.units) for group in removal(core, **options).dependencies.groups}


def test_a_chain_is_one_group_a_layer():
    network = Network((3, 5, 4))
    network.conv(6)
    network.relu()
    network.conv(7)
    assert list(groups_of(network.head()).values()) == [6, 7]


def test_a_residual_ties_its_ends():
    network = Network((3, 5, 4))
    network.conv(8)
    network.residual()
    sizes = list(groups_of(network.head()).values())
    assert sizes[0] == 8
    assert len(sizes) == 2


def test_equal_biases_do_not_tie_layers(difference):
    network = Network((3, 5, 4))
    network.conv(6)
    network.conv(6)
    for node in network.nodes:
        node.input[2] = "zeros"
    network.constants["zeros"] = np.zeros(6, np.float32)
    truth = removal(network.head())
    assert [len(group.units) for group in truth.dependencies.groups] == [6, 6]
    assert difference(truth.zeroed, truth.removed) < TOLERANCE


def test_attention_offers_heads_or_dimensions():
    network = Network((4, 5))
    network.attention(4, 3)
    core = network.head()
    assert sorted(groups_of(core, attention="heads").values()) == [4]
    assert sorted(groups_of(core, attention="dimensions").values()) == [3, 3]  # of queries and keys, of values


def test_depthwise_channels_go_with_those_they_read():
    network = Network((3, 5, 4))
    network.conv(6)
    network.conv(6, group=6)
    (size,) = groups_of(network.head()).values()
    assert size == 6


def frozen(core):
    return removal(core).dependencies.frozen


def test_logits_and_what_is_as_wide_as_the_input_stay():
    network = Network((4, 5))
    entry = network.tensor
    network.linear(7)
    network.linear(5)
    network.add("Add", network.tensor, entry)
    reasons = sorted(frozen(network.head()).values())
    assert reasons == ["it is as wide as the model's input", "they are the model's answers"]


@pytest.mark.parametrize(
    ("operator", "options", "word"),
    [
        ("LRN", {"size": 3}, "LRN"),
        ("LogSoftmax", {"axis": 1}, "LogSoftmax"),
        ("CumSum", {}, "CumSum"),
        ("ReduceMean", {}, "ReduceMean"),
    ],
)
def test_an_operator_over_channels_freezes_them(operator, options, word, difference):
    network = Network((3, 5, 4))
    network.conv(6)
    extra = [network.constant(np.array(1))] if operator == "CumSum" else []
    extra += [network.constant(np.array([1]))] if operator == "ReduceMean" else []
    network.add(operator, network.tensor, *extra, **options)
    network.shape = (1, 5, 4) if operator == "ReduceMean" else network.shape
    network.conv(4)
    truth = removal(network.head())
    assert difference(truth.zeroed, truth.removed) < TOLERANCE
    (reason,) = (reason for reason in truth.dependencies.frozen.values() if "answers" not in reason)
    assert word in reason


def test_channels_chosen_by_number_follow_their_numbers(difference):
    network = Network((3, 5, 4))
    network.conv(6)
    network.add("Gather", network.tensor, network.constant(np.array([5, 0, -3, 1])), axis=1, shape=(4, 5, 4))
    network.conv(4)
    truth = removal(network.head())
    assert truth.units
    assert difference(truth.zeroed, truth.removed) < TOLERANCE


class Exported(nn.Module):
    """What torch's exporter writes: packed projections, states of zeros, computed shapes."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind, width = kind, 8
        if kind == "transformer":
            self.body = nn.TransformerEncoderLayer(width, 4, 16, batch_first=True, dropout=0.0)
        else:
            layers = {"lstm": nn.LSTM, "gru": nn.GRU}
            self.body = layers[kind](width, 6, num_layers=2, batch_first=True, bidirectional=kind == "gru")
        self.head = nn.Linear({"transformer": 8, "gru": 12}.get(kind, 6), 2)

    def forward(self, windows: torch.Tensor) -> torch.Tensor:
        if self.kind == "transformer":
            return self.head(self.body(windows).mean(dim=1))
        output, state = self.body(windows)
        if self.kind == "gru":
            return self.head(output[:, -1])
        return self.head((state[0] if isinstance(state, tuple) else state)[-1])


@pytest.mark.parametrize(("kind", "sizes"), [("transformer", [4, 16]), ("gru", [6, 6])])
def test_what_torch_exports_is_understood(kind, sizes, difference):
    torch.manual_seed(0)
    signature = Signature(
        inputs=(TensorSpec("features", "float32", ("batch", 5, 8)),),
        outputs=(TensorSpec("logits", "float32", ("batch", 2)),),
    )
    core = export(TorchArtifact(Exported(kind).eval(), signature, "0" * 64))
    truth = removal(core)
    assert [len(group.units) for group in truth.dependencies.groups] == sizes
    assert difference(truth.zeroed, truth.removed) < TOLERANCE
