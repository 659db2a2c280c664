"""LSTM, GRU and RNN against ONNX Runtime, forwards, and against finite differences, backwards."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from hauberk.errors import InputError
from hauberk.graph.export import export
from hauberk.graph.twin import Twin

STEPS, INPUTS, HIDDEN = 5, 3, 4
GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}
TURN = "t = Transpose<perm=[1,0,2]>(features) "  # [N, T, inputs] to [T, N, inputs]


def operands(kind, directions=1):
    random = np.random.default_rng(0)
    gates = GATES[kind] * HIDDEN
    shapes = {
        "w": (directions, gates, INPUTS),
        "r": (directions, gates, HIDDEN),
        "b": (directions, 2 * gates),
        "p": (directions, 3 * HIDDEN),
    }
    return {name: random.normal(size=shape).astype(np.float32) * 0.5 for name, shape in shapes.items()}


@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
@pytest.mark.parametrize("kind", GATES)
def test_every_direction(compare, kind, direction):
    body = f'{TURN} logits, h = {kind}<hidden_size={HIDDEN}, direction="{direction}">(t, w, r, b)'
    compare(body, (STEPS, INPUTS), operands(kind, 2 if direction == "bidirectional" else 1))


@pytest.mark.parametrize("before", [0, 1])
@pytest.mark.parametrize("direction", ["forward", "bidirectional"])
def test_a_gru_resets_before_or_after_its_matrix(compare, before, direction):
    body = f"""{TURN}
        logits, h = GRU<hidden_size={HIDDEN}, direction="{direction}", linear_before_reset={before}>(t, w, r, b)"""
    compare(body, (STEPS, INPUTS), operands("GRU", 2 if direction == "bidirectional" else 1))


@pytest.mark.parametrize("kind", GATES)
def test_the_last_state(compare, kind):
    compare(f"{TURN} y, logits = {kind}<hidden_size={HIDDEN}>(t, w, r)", (STEPS, INPUTS), operands(kind))


def test_the_last_cell_state(compare):
    compare(f"{TURN} y, h, logits = LSTM<hidden_size={HIDDEN}>(t, w, r, b)", (STEPS, INPUTS), operands("LSTM"))


STATE = """s = ReduceMean<keepdims=1>(features, mean_axes) u = Transpose<perm=[1,0,2]>(s)
    h0 = Concat<axis=2>(u, u, u, u) """


@pytest.mark.parametrize("before", [0, 1])
@pytest.mark.parametrize("kind", GATES)
def test_initial_states(compare, kind, before):
    attribute = f", linear_before_reset={before}" if kind == "GRU" else ""
    cell = ", h0" if kind == "LSTM" else ""
    body = f'{TURN} {STATE} logits, h = {kind}<hidden_size={HIDDEN}{attribute}>(t, w, r, b, "", h0{cell})'
    compare(body, (STEPS, INPUTS), {**operands(kind), "mean_axes": np.array([1, 2])})


@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
@pytest.mark.parametrize("kind", GATES)
def test_sequences_of_different_lengths(compare, kind, direction):
    constants = {**operands(kind, 2 if direction == "bidirectional" else 1), "n": np.array([2, 5, 3], np.int32)}
    for outputs in ("logits, h", "y, logits"):
        body = f'{TURN} {outputs} = {kind}<hidden_size={HIDDEN}, direction="{direction}">(t, w, r, b, n)'
        compare(body, (STEPS, INPUTS), constants, batches=(3,), gradients=False)


def test_peepholes(compare):
    body = f'{TURN} logits, h = LSTM<hidden_size={HIDDEN}>(t, w, r, b, "", "", "", p)'
    compare(body, (STEPS, INPUTS), operands("LSTM"))


def test_coupled_gates(compare):
    body = f"{TURN} logits, h = LSTM<hidden_size={HIDDEN}, input_forget=1>(t, w, r, b)"
    compare(body, (STEPS, INPUTS), operands("LSTM"))


@pytest.mark.parametrize("kind", ["GRU", "RNN"])
def test_clipping(compare, kind):
    body = f"{TURN} logits, h = {kind}<hidden_size={HIDDEN}, clip=0.3>(t, w, r, b)"
    compare(body, (STEPS, INPUTS), operands(kind), gradients=False)


@pytest.mark.parametrize(
    ("kind", "activations"),
    [("RNN", ["Relu"]), ("RNN", ["Sigmoid"]), ("GRU", ["Sigmoid", "Relu"]), ("LSTM", ["Sigmoid", "Relu", "Tanh"])],
)
def test_other_activations(compare, kind, activations):
    names = ", ".join(f'"{name}"' for name in activations)
    body = f"{TURN} logits, h = {kind}<hidden_size={HIDDEN}, activations=[{names}]>(t, w, r, b)"
    compare(body, (STEPS, INPUTS), operands(kind))


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU])
def test_a_torch_module_survives_export_and_twin(torch_artifact, kind):
    class Recurrent(nn.Module):
        def __init__(self):
            super().__init__()
            self.layers = kind(3, 8, bidirectional=True, batch_first=True)
            self.head = nn.Linear(16, 2)

        def forward(self, features):
            return self.head(self.layers(features.reshape(-1, 5, 3))[0][:, -1])

    torch.manual_seed(0)
    artifact = torch_artifact(Recurrent(), 15)
    twin = Twin(export(artifact))
    for rows in (1, 6):
        features = torch.randn(rows, 15)
        with torch.no_grad():
            torch.testing.assert_close(twin(features), artifact.module(features), rtol=1e-4, atol=1e-5)


def test_an_activation_with_parameters_is_refused_by_name(graph, twin_of):
    body = f'{TURN} logits, h = RNN<hidden_size={HIDDEN}, activations=["Affine"]>(t, w, r, b)'
    twin = twin_of(graph(body, (STEPS, INPUTS), operands("RNN")))
    with pytest.raises(InputError, match=r"RNN .* the activation Affine is not supported"):
        twin(torch.zeros(1, STEPS, INPUTS))


def test_batch_first_is_the_transposed_layer(graph, twin_of):
    """ONNX Runtime has no kernel for `layout` 1, so it is compared with `layout` 0."""
    constants = {**operands("LSTM", 2), "n": np.array([2, 5, 3], np.int32)}
    first = f'logits, h = LSTM<hidden_size={HIDDEN}, direction="bidirectional", layout=1>(features, w, r, b, n)'
    second = f"""{TURN} y, h = LSTM<hidden_size={HIDDEN}, direction="bidirectional">(t, w, r, b, n)
        logits = Transpose<perm=[2,0,1,3]>(y)"""
    features = torch.randn(3, STEPS, INPUTS, generator=torch.Generator().manual_seed(0))
    found, expected = (twin_of(graph(body, (STEPS, INPUTS), constants))(features) for body in (first, second))
    torch.testing.assert_close(found, expected)


def test_an_output_that_nobody_asked_for_is_no_input_of_a_later_node(compare):
    body = f"""{TURN}
        "", h = LSTM<hidden_size={HIDDEN}>(t, w, r) s = Squeeze(h, axes) logits = Clip(s, "", top)"""
    constants = {"w": operands("LSTM")["w"], "r": operands("LSTM")["r"]}
    compare(body, (STEPS, INPUTS), {**constants, "axes": np.array([0]), "top": np.float32(0.05)})
