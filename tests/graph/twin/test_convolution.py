"""Convolutions and pools against ONNX Runtime, forwards, and against finite differences, backwards."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from hauberk.errors import InputError

RANDOM = np.random.default_rng(0)


def weights(*shape):
    return RANDOM.normal(size=shape).astype(np.float32)


LINE, PLANE, CUBE = (4, 11), (4, 7, 9), (2, 4, 5, 6)
BIAS = {"b": weights(6)}

CONVOLUTIONS = {
    "over a line": ("Conv(features, w, b)", LINE, (6, 4, 3)),
    "over a line, strided": ("Conv<strides=[2], pads=[1,2]>(features, w, b)", LINE, (6, 4, 3)),
    "over a plane": ("Conv<pads=[1,1,1,1]>(features, w, b)", PLANE, (6, 4, 3, 3)),
    "without a bias": ("Conv<strides=[2,1]>(features, w)", PLANE, (6, 4, 3, 2)),
    "padded unevenly": ("Conv<pads=[0,1,2,1]>(features, w, b)", PLANE, (6, 4, 3, 3)),
    "dilated": ("Conv<dilations=[2,3], pads=[2,2,2,2]>(features, w, b)", PLANE, (6, 4, 3, 3)),
    "in groups": ("Conv<group=2>(features, w, b)", PLANE, (6, 2, 3, 3)),
    "depthwise": ("Conv<group=4, pads=[1,1,1,1]>(features, w)", PLANE, (4, 1, 3, 3)),
    "same, more at the end": ('Conv<auto_pad="SAME_UPPER", strides=[2,3]>(features, w, b)', PLANE, (6, 4, 4, 4)),
    "same, more at the start": ('Conv<auto_pad="SAME_LOWER", strides=[2,3]>(features, w, b)', PLANE, (6, 4, 4, 4)),
    "valid": ('Conv<auto_pad="VALID", strides=[2,2]>(features, w, b)', PLANE, (6, 4, 4, 4)),
    "over a volume": ("Conv<pads=[1,1,1,0,0,0]>(features, w, b)", CUBE, (6, 2, 3, 2, 2)),
    "transposed over a line": ("ConvTranspose<strides=[2], pads=[1,0]>(features, w, b)", LINE, (4, 6, 3)),
    "transposed over a plane": ("ConvTranspose<strides=[2,3]>(features, w, b)", PLANE, (4, 6, 3, 3)),
    "transposed, cropped unevenly": ("ConvTranspose<strides=[2,2], pads=[0,1,1,0]>(features, w)", PLANE, (4, 6, 3, 3)),
    "transposed, extended": (
        "ConvTranspose<strides=[3,3], output_padding=[2,1], pads=[1,1,1,1]>(features, w, b)",
        PLANE,
        (4, 6, 3, 3),
    ),
    "transposed in groups": ("ConvTranspose<group=2, dilations=[2,2]>(features, w, b)", PLANE, (4, 3, 3, 3)),
    "transposed to a size": (
        "ConvTranspose<strides=[2,2], output_shape=[14,17]>(features, w, b)",
        PLANE,
        (4, 6, 3, 3),
    ),
    "transposed to a size, upper": (
        'ConvTranspose<strides=[2,2], output_shape=[14,18], auto_pad="SAME_UPPER">(features, w, b)',
        PLANE,
        (4, 6, 3, 3),
    ),
    "transposed, same": (
        'ConvTranspose<strides=[2,2], auto_pad="SAME_UPPER">(features, w, b)',
        PLANE,
        (4, 6, 3, 3),
    ),
    "transposed, valid": ('ConvTranspose<strides=[2,2], auto_pad="VALID">(features, w)', PLANE, (4, 6, 3, 3)),
    "fused with Relu": ('com.microsoft.FusedConv<activation="Relu">(features, w, b)', PLANE, (6, 4, 3, 3)),
    "fused with HardSigmoid": (
        'com.microsoft.FusedConv<activation="HardSigmoid", activation_params=[0.2, 0.5]>(features, w, b)',
        PLANE,
        (6, 4, 3, 3),
    ),
    "fused with LeakyRelu": (
        'com.microsoft.FusedConv<activation="LeakyRelu", activation_params=[0.1]>(features, w, b)',
        PLANE,
        (6, 4, 3, 3),
    ),
    "fused with Clip": (
        'com.microsoft.FusedConv<activation="Clip", activation_params=[-0.5, 6.0]>(features, w, b)',
        PLANE,
        (6, 4, 3, 3),
    ),
}


@pytest.mark.parametrize("case", CONVOLUTIONS)
def test_convolution(compare, case):
    node, shape, kernel = CONVOLUTIONS[case]
    compare(f"logits = {node}", shape, {"w": weights(*kernel), **BIAS}, rtol=1e-4, atol=1e-5)


def test_a_fused_convolution_adds_its_fourth_input(compare):
    body = 'r = Relu(features) logits = com.microsoft.FusedConv<activation="Relu", pads=[1,1,1,1]>(features, w, b, r)'
    compare(body, PLANE, {"w": weights(4, 4, 3, 3), "b": weights(4)}, rtol=1e-4, atol=1e-5)


POOLS = {
    "MaxPool": "MaxPool<kernel_shape=[2,2], strides=[2,2]>(features)",
    "MaxPool padded": "MaxPool<kernel_shape=[3,3], strides=[2,2], pads=[1,1,1,1]>(features)",
    "MaxPool padded unevenly": "MaxPool<kernel_shape=[3,2], pads=[0,1,2,0]>(features)",
    "MaxPool dilated": "MaxPool<kernel_shape=[2,2], dilations=[2,3]>(features)",
    "MaxPool ceil": "MaxPool<kernel_shape=[3,3], strides=[2,2], ceil_mode=1>(features)",
    "MaxPool ceil, padded": "MaxPool<kernel_shape=[2,2], strides=[2,2], pads=[1,1,1,1], ceil_mode=1>(features)",
    "MaxPool same": 'MaxPool<kernel_shape=[3,3], strides=[2,2], auto_pad="SAME_UPPER">(features)',
    "AveragePool": "AveragePool<kernel_shape=[2,3], strides=[2,1]>(features)",
    "AveragePool padded": "AveragePool<kernel_shape=[3,3], strides=[2,2], pads=[1,1,1,1]>(features)",
    "AveragePool padding counted": (
        "AveragePool<kernel_shape=[3,3], strides=[2,2], pads=[1,0,1,2], count_include_pad=1>(features)"
    ),
    "AveragePool ceil": "AveragePool<kernel_shape=[3,3], strides=[2,2], ceil_mode=1>(features)",
    "AveragePool dilated": "AveragePool<kernel_shape=[2,2], dilations=[2,3]>(features)",
    "AveragePool same": 'AveragePool<kernel_shape=[3,3], strides=[2,2], auto_pad="SAME_LOWER">(features)',
    "LpPool": "LpPool<kernel_shape=[2,2], p=2>(features)",
    "LpPool of 3": "LpPool<kernel_shape=[3,2], strides=[2,2], pads=[1,0,1,0], p=3>(features)",
    "GlobalAveragePool": "GlobalAveragePool(features)",
    "GlobalMaxPool": "GlobalMaxPool(features)",
    "GlobalLpPool": "GlobalLpPool<p=2>(features)",
}


@pytest.mark.parametrize("case", POOLS)
def test_pool(compare, case):
    compare(f"logits = {POOLS[case]}", PLANE)


@pytest.mark.parametrize(
    "node", ["MaxPool<kernel_shape=[3], strides=[2]>(features)", "AveragePool<kernel_shape=[3], pads=[1,1]>(features)"]
)
def test_pool_over_a_line(compare, node):
    compare(f"logits = {node}", LINE)


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_any_convolution_equals_onnx_runtime(compare, data):
    draw = data.draw
    group, kernel = draw(st.sampled_from([1, 2])), draw(st.tuples(st.integers(1, 4), st.integers(1, 4)))
    size = draw(st.tuples(st.integers(1, 9), st.integers(1, 9)))
    strides, dilations = (draw(st.tuples(st.integers(1, 3), st.integers(1, 3))) for _ in range(2))
    pads = draw(st.lists(st.integers(0, 3), min_size=4, max_size=4))
    reach = [(width - 1) * step + 1 for width, step in zip(kernel, dilations, strict=True)]
    assume(all(size[axis] + pads[axis] + pads[axis + 2] >= reach[axis] for axis in (0, 1)))
    attributes = f"group={group}, strides={list(strides)}, dilations={list(dilations)}, pads={pads}"
    body = f"logits = Conv<{attributes}>(features, w, b)"
    compare(body, (4, *size), {"w": weights(6, 4 // group, *kernel), **BIAS}, rtol=1e-4, atol=1e-5, gradients=False)


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_any_pool_equals_onnx_runtime(compare, data):
    draw = data.draw
    kernel = draw(st.tuples(st.integers(1, 4), st.integers(1, 4)))
    size = draw(st.tuples(st.integers(4, 9), st.integers(4, 9)))
    strides = draw(st.tuples(st.integers(1, 3), st.integers(1, 3)))
    pads = draw(st.tuples(*(st.integers(0, width - 1) for width in kernel * 2)))
    ceil = draw(st.sampled_from([0, 1]))
    attributes = f"kernel_shape={list(kernel)}, strides={list(strides)}, pads={list(pads)}, ceil_mode={ceil}"
    kind = draw(st.sampled_from([f"MaxPool<{attributes}>", f"AveragePool<{attributes}>"]))
    compare(f"logits = {kind}(features)", (2, *size), gradients=False)


@pytest.mark.parametrize(
    ("node", "says"),
    [
        ("a, logits = MaxPool<kernel_shape=[2,2]>(features)", "the output 'logits' is not supported"),
        ('logits = com.microsoft.FusedConv<activation="Softplus">(features, w)', "the activation Softplus"),
    ],
)
def test_what_is_missing_is_named(graph, twin_of, node, says):
    import torch

    twin = twin_of(graph(node, PLANE, {"w": weights(6, 4, 3, 3)}))
    with pytest.raises(InputError, match=says):
        twin(torch.zeros(1, *PLANE))
