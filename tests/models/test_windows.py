"""Networks over windows of records, each against a second implementation, and what the newest record means to them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.special import erf, softmax

from hauberk.errors import InputError
from hauberk.models import WindowCNN, WindowGRU, WindowLSTM, WindowTransformer

T, D = 5, 4


@pytest.fixture
def windows():
    return torch.randn(3, T, D, generator=torch.Generator().manual_seed(0))


def state(module):
    return {name: value.detach().numpy().astype(np.float64) for name, value in module.state_dict().items()}


def sigmoid(values):
    return 1 / (1 + np.exp(-values))


def assert_close(found, expected):
    np.testing.assert_allclose(found.detach().numpy(), expected, rtol=1e-4, atol=1e-5)


def test_the_cnn_is_what_numpy_computes(windows):
    torch.manual_seed(0)
    module = WindowCNN(D, T, channels=(6, 3)).eval()
    module.convolutions[1].running_mean.uniform_(-1, 1)
    module.convolutions[1].running_var.uniform_(0.5, 2)
    weights, hidden = state(module), windows.numpy().astype(np.float64)
    for layer, stride in ((0, 1), (3, 2)):
        kernel = weights[f"convolutions.{layer}.weight"]  # [out, in, 3]
        padded = np.pad(hidden, ((0, 0), (1, 1), (0, 0)))
        columns = range(0, hidden.shape[1], stride)
        hidden = np.stack([np.einsum("ntc,oct->no", padded[:, at : at + 3], kernel) for at in columns], axis=1)
        norm = {
            key: weights[f"convolutions.{layer + 1}.{key}"] for key in ("running_mean", "running_var", "weight", "bias")
        }
        hidden = (hidden - norm["running_mean"]) / np.sqrt(norm["running_var"] + 1e-5) * norm["weight"] + norm["bias"]
        hidden = np.maximum(hidden, 0)
    flat = hidden.transpose(0, 2, 1).reshape(len(hidden), -1)
    assert_close(module(windows), flat @ weights["head.weight"].T + weights["head.bias"])


def lstm(weights, suffix, steps):
    """Hidden state after the last step; gates in torch's order: input, forget, cell, output."""
    matrices = [weights[f"recurrent.{name}_l{suffix}"] for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")]
    hidden = cell = np.zeros((len(steps), matrices[1].shape[1]))
    outputs = []
    for step in range(steps.shape[1]):
        gates = steps[:, step] @ matrices[0].T + matrices[2] + hidden @ matrices[1].T + matrices[3]
        entering, forgetting, candidate, leaving = np.split(gates, 4, axis=1)
        cell = sigmoid(forgetting) * cell + sigmoid(entering) * np.tanh(candidate)
        hidden = sigmoid(leaving) * np.tanh(cell)
        outputs.append(hidden)
    return np.stack(outputs, axis=1)


def gru(weights, suffix, steps):
    """Hidden states of a GRU; gates in torch's order: reset, update, new."""
    matrices = [weights[f"recurrent.{name}_l{suffix}"] for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")]
    hidden = np.zeros((len(steps), matrices[1].shape[1]))
    outputs = []
    for step in range(steps.shape[1]):
        reset, update, new = np.split(steps[:, step] @ matrices[0].T + matrices[2], 3, axis=1)
        reset_h, update_h, new_h = np.split(hidden @ matrices[1].T + matrices[3], 3, axis=1)
        candidate = np.tanh(new + sigmoid(reset + reset_h) * new_h)
        keep = sigmoid(update + update_h)
        hidden = keep * hidden + (1 - keep) * candidate
        outputs.append(hidden)
    return np.stack(outputs, axis=1)


@pytest.mark.parametrize(("kind", "reference"), [(WindowLSTM, lstm), (WindowGRU, gru)])
def test_two_layers_both_ways_are_what_numpy_computes(kind, reference, windows):
    torch.manual_seed(0)
    module = kind(D, T, hidden=3, layers=2, bidirectional=True, outputs=2)
    weights, steps = state(module), windows.numpy().astype(np.float64)
    for layer in range(2):
        ahead = reference(weights, f"{layer}", steps)
        back = reference(weights, f"{layer}_reverse", steps[:, ::-1])[:, ::-1]
        steps = np.concatenate([ahead, back], axis=2)
    last = np.concatenate([steps[:, -1, :3], steps[:, 0, 3:]], axis=1)
    assert_close(module(windows), last @ weights["head.weight"].T + weights["head.bias"])


def layer_norm(hidden, weights, name):
    centred = hidden - hidden.mean(axis=-1, keepdims=True)
    scaled = centred / np.sqrt((centred**2).mean(axis=-1, keepdims=True) + 1e-5)
    return scaled * weights[f"{name}.weight"] + weights[f"{name}.bias"]


def test_the_transformer_is_what_numpy_computes(windows):
    torch.manual_seed(0)
    heads, width = 2, 6
    module = WindowTransformer(D, T, width=width, heads=heads, layers=2)
    weights = state(module)

    def linear(hidden, name):
        return hidden @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]

    hidden = linear(windows.numpy().astype(np.float64), "embedding") + weights["positions"]
    for layer in ("encoder.0", "encoder.1"):
        normed = layer_norm(hidden, weights, f"{layer}.attention_norm")
        query, key, value = (linear(normed, f"{layer}.attention.{name}") for name in ("query", "key", "value"))
        parts = []
        for head in range(heads):
            own = slice(head * width // heads, (head + 1) * width // heads)
            scores = np.einsum("nqd,nkd->nqk", query[..., own], key[..., own]) / np.sqrt(width / heads)
            parts.append(softmax(scores, axis=2) @ value[..., own])
        hidden = hidden + linear(np.concatenate(parts, axis=2), f"{layer}.attention.output")
        wide = linear(layer_norm(hidden, weights, f"{layer}.feed_forward_norm"), f"{layer}.widen")
        hidden = hidden + linear(wide * (1 + erf(wide / np.sqrt(2))) / 2, f"{layer}.narrow")
    last = layer_norm(hidden[:, -1], weights, "norm")
    assert_close(module(windows), last @ weights["head.weight"].T + weights["head.bias"])


@pytest.mark.parametrize("kind", [WindowCNN, WindowLSTM, WindowGRU, WindowTransformer])
def test_the_order_of_records_matters(kind, windows):
    torch.manual_seed(0)
    module = kind(D, T).eval()
    assert not torch.allclose(module(windows), module(windows.flip(1)), atol=1e-3)


@pytest.mark.parametrize(
    ("build", "says"),
    [
        (lambda: WindowCNN(D, window=0), "window-cnn: window is 0"),
        (lambda: WindowCNN(D, window=1 << 13), "a whole number from 1 to 4096"),
        (lambda: WindowCNN(D, channels=()), "0 channels; 1 to 64"),
        (lambda: WindowLSTM(D, hidden=0), "window-lstm: hidden is 0"),
        (lambda: WindowLSTM(D, layers=100), "window-lstm: layers is 100"),
        (lambda: WindowGRU(D, bidirectional="no"), "window-gru: bidirectional is 'no'; true or false"),
        (lambda: WindowGRU(True), "window-gru: inputs is True"),
        (lambda: WindowTransformer(D, width=10, heads=4), "4 heads cannot share a width of 10"),
        (lambda: WindowTransformer(D, layers=0), "layers is 0"),
    ],
)
def test_impossible_sizes_are_refused(build, says):
    with pytest.raises(InputError, match=says):
        build()
