"""Cross-layer equalisation: the same answers, bit for bit, from weights whose channels have like ranges."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from hauberk.compress import QuantizeStatic
from hauberk.compress.quantize.equalise import EqualiseLayers
from hauberk.errors import InputError

PER_LAYER = QuantizeStatic(per_channel=False)


def constants_of(artifact) -> dict[str, np.ndarray]:
    graph = onnx.load_model_from_string(artifact.model).graph
    return {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in graph.initializer}


def unevenly(b, weight: str, bias: str, following: str, axis: int) -> None:
    """Scale the channels between two layers by powers of two from 1/64 to 64, which changes no answer."""
    scale = np.exp2(np.arange(len(b.constants[bias])) % 13 - 6).astype(np.float32)
    b.constants[weight] *= scale.reshape(-1, *[1] * (b.constants[weight].ndim - 1))
    b.constants[bias] *= scale
    shape = [1] * b.constants[following].ndim
    shape[axis] = -1
    b.constants[following] /= scale.reshape(shape)


@pytest.fixture
def uneven_mlp(builder):
    b = builder()
    hidden = b.node("Relu", b.gemm("features", 20, 32))
    b.gemm(b.node("Relu", b.gemm(hidden, 32, 16)), 16, 3, name="logits")
    unevenly(b, "c0", "c1", "c2", 1)
    unevenly(b, "c2", "c3", "c4", 1)
    return b.artifact((20,), 3)


@pytest.fixture
def uneven_cnn(builder):
    """Plain, then depthwise, then pointwise convolution; pooled, made flat, and a linear layer."""
    b = builder()
    data = b.node("Relu", b.conv("features", 1, 8))
    data = b.node("Relu", b.conv(data, 8, 8, group=8))
    data = b.node("MaxPool", b.node("Relu", b.conv(data, 8, 4, size=1)), kernel_shape=[4, 4], strides=[4, 4])
    b.gemm(b.node("Flatten", data), 36, 3, name="logits")
    unevenly(b, "c0", "c1", "c2", 0)
    unevenly(b, "c2", "c3", "c4", 1)
    return b.artifact((1, 12, 12), 3)


@pytest.fixture(params=["uneven_mlp", "uneven_cnn"])
def uneven(request):
    return request.getfixturevalue(request.param)


def test_answers_stay_bit_for_bit(uneven, calibrated, records, answers):
    result = EqualiseLayers().apply(uneven, calibrated(uneven))
    features = records(uneven, seed=2)
    assert result.model != uneven.model
    np.testing.assert_array_equal(answers(result, features), answers(uneven, features))


def test_one_scale_a_layer_suffices_afterwards(uneven, calibrated, records, relative_error):
    context, features = calibrated(uneven), records(uneven, seed=2)
    equal = EqualiseLayers().apply(uneven, context)
    before, after = (relative_error(core, PER_LAYER.apply(core, context), features) for core in (uneven, equal))
    assert after < before / 3
    assert after < 0.05


def test_ranges_of_a_pair_become_equal(uneven_mlp, calibrated):
    """As the paper's formula says, to the nearest power of two: their quotient lies between 1/2 and 2."""
    constants = constants_of(EqualiseLayers().apply(uneven_mlp, calibrated(uneven_mlp)))
    first, second, last = (values for values in constants.values() if values.ndim == 2)
    for one, other in ((first, second), (second, last)):
        quotient = np.abs(one).max(axis=0) / np.abs(other).max(axis=1)
        assert quotient.min() >= 0.5
        assert quotient.max() <= 2


def test_every_network_answers_as_before(networks, calibrated, records, answers):
    for name in ("mlp", "plain", "concatenating", "windows"):
        core = networks[name]()
        result = EqualiseLayers().apply(core, calibrated(core))
        features = records(core, seed=2)
        np.testing.assert_array_equal(answers(result, features), answers(core, features), err_msg=name)


def test_a_bounded_activation_is_not_passed(networks, calibrated):
    """Relu6 is not homogeneous: min(s x, 6) is not s min(x, 6)."""
    core = networks["depthwise"]()
    with pytest.raises(InputError, match="nothing to equalise"):
        EqualiseLayers().apply(core, calibrated(core))


def test_a_tensor_that_is_taken_twice_is_left_alone(builder, calibrated):
    b = builder()
    hidden = b.node("Relu", b.gemm("features", 20, 16))
    sums = b.node("Add", b.gemm(hidden, 16, 16), hidden)
    b.node("Softmax", sums, name="logits")
    core = b.artifact((20,), 16)
    with pytest.raises(InputError, match="nothing to equalise"):
        EqualiseLayers().apply(core, calibrated(core))


def test_a_channel_without_weights_is_left_alone(builder, calibrated, answers, records):
    b = builder()
    b.gemm(b.node("Relu", b.gemm("features", 20, 16)), 16, 3, name="logits")
    b.constants["c0"][3], b.constants["c2"][:, 5] = 0, 0
    core = b.artifact((20,), 3)
    features = records(core, seed=2)
    result = EqualiseLayers().apply(core, calibrated(core))
    np.testing.assert_array_equal(answers(result, features), answers(core, features))
