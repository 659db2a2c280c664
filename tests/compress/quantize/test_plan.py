"""What is chosen to be coded, on graphs small enough to see the answer."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from hauberk.compress.quantize.layers import prepare
from hauberk.compress.quantize.plan import plan


def planned(artifact, **options):
    model = onnx.load_model_from_string(artifact.model)
    prepare(model)
    return plan(model, **options)


def test_moved_values_share_their_codes(networks):
    """Relu -> MaxPool -> Relu -> MaxPool -> Reshape -> Gemm: three sets of codes and those of the input."""
    chosen = planned(networks["plain"]())
    groups = {}
    for name in chosen.activations:
        groups.setdefault(chosen.groups[name], []).append(name.rstrip("0123456789"))
    assert list(groups.values()) == [["features"], ["relu", "maxpool"], ["relu", "maxpool", "reshape"], ["relu"]]
    assert [name.rstrip("0123456789") for name in chosen.sources] == ["features", "relu", "relu", "relu"]


def test_parts_and_whole_of_a_concat_share_their_codes(networks):
    chosen = planned(networks["concatenating"]())
    concat = next(name for name in chosen.activations if name.startswith("concat"))
    assert sum(group == chosen.groups[concat] for group in chosen.groups.values()) == 3


def test_a_residual_connection_between_norms_stays_in_float(networks):
    assert planned(networks["transformer"]()).joints == frozenset()


def test_a_joint_without_codes_behind_it_stays_in_float(builder):
    b = builder()
    data = b.conv("features", 1, 4)
    norm = b.node("Exp", b.node("Add", data, data))
    b.gemm(b.node("Flatten", b.node("GlobalAveragePool", norm)), 4, 2, name="logits")
    assert planned(b.artifact((1, 8, 8), 2)).joints == frozenset()


def test_an_add_of_a_constant_is_no_joint(builder):
    b = builder()
    shifted = b.node("Add", b.conv("features", 1, 4), b.random(1, 4, 1, 1))
    b.gemm(b.node("Flatten", b.node("GlobalAveragePool", b.conv(shifted, 4, 4))), 4, 2, name="logits")
    chosen = planned(b.artifact((1, 8, 8), 2))
    assert not any(name.startswith("add") for name in chosen.joints)


def test_a_convolution_at_the_logits_stays_in_float_and_is_named(builder):
    b = builder()
    data = b.node("Relu", b.conv("features", 1, 4))
    last = b.node("Conv", data, b.random(2, 4, 8, 8))
    b.node("Flatten", last, name="logits")
    chosen = planned(b.artifact((1, 8, 8), 2))
    assert [layer.kind for layer in chosen.layers] == ["Conv"]
    assert [sentence for sentence in chosen.left if last in sentence and "logits" in sentence]


def test_layers_that_are_to_stay_in_float_do(networks):
    core = networks["residual"]()
    every = planned(core)
    names = [layer.name for layer in every.layers]
    chosen = planned(core, keep_float=names[:2])
    assert [layer.name for layer in chosen.layers] == names[2:]
    assert sum("asked for" in sentence for sentence in chosen.left) == 2


@pytest.mark.parametrize("operator", ["LSTM", "GRU", "RNN"])
def test_recurrent_layers_are_named_as_left(operator, builder):
    b = builder()
    gates = {"LSTM": 4, "GRU": 3, "RNN": 1}[operator]
    data = b.node("Transpose", "features", perm=[1, 0, 2])
    weight, recurrence = b.random(1, gates * 5, 3), b.random(1, gates * 5, 5)
    b.nodes.append(onnx.helper.make_node(operator, [data, weight, recurrence], ["", "state"], hidden_size=5))
    flat = b.node("Squeeze", "state", b.constant(np.array([0])))
    b.gemm(flat, 5, 2, name="logits")
    chosen = planned(b.artifact((4, 3), 2))
    assert len(chosen.left) == 1
    assert operator in chosen.left[0]
    assert [layer.kind for layer in chosen.layers] == ["Gemm"]


def test_products_of_activations_are_named_as_left(networks):
    assert sum("product of two activations" in sentence for sentence in planned(networks["transformer"]()).left) == 2
