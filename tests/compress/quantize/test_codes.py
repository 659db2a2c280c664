"""The arithmetic of codes, by its properties."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from hauberk.compress.quantize import codes
from hauberk.compress.quantize.codes import affine, decode, encode, encode_bias, encode_weight, weight_scales
from hauberk.graph.model import assemble, node, run, session
from hauberk.tensors import Signature, TensorSpec

ENDS = st.floats(-(2.0**100), 2.0**100)


@given(ENDS, ENDS, st.floats(0, 1), st.booleans())
def test_affine_codes_a_range_within_one_step(one, other, where, signed):
    low, high = min(one, other), max(one, other)
    code = affine(low, high, signed=signed)
    value = low + where * (high - low)
    assert 0 < float(code.scale) < math.inf
    if high - low > 1e-30:
        restored = decode(encode(np.array([value], np.float32), code), code)[0]
        # Half a step for rounding the value, half a step for rounding the zero point, and float32's own error.
        assert abs(float(restored) - value) <= float(code.scale) * 1.001


@given(ENDS, ENDS, st.booleans())
def test_zero_is_coded_exactly(one, other, signed):
    code = affine(min(one, other), max(one, other), signed=signed)
    assert decode(encode(np.zeros(1, np.float32), code), code)[0] == 0


@pytest.mark.parametrize("signed", [False, True])
def test_ends_are_those_of_the_codes(signed):
    code = affine(-1.0, 3.0, signed=signed)
    info = np.iinfo(code.zero_point.dtype)
    ends = decode(np.array([info.min, info.max], dtype=info.dtype), code)
    assert ends == pytest.approx((-1.0, 3.0), abs=float(code.scale))


@given(
    arrays.arrays(np.float32, 50, elements=st.floats(-300, 300, width=32)),
    st.floats(-10, 0),
    st.floats(0.001, 10),
    st.booleans(),
)
def test_encoding_is_that_of_onnx_runtime(values, low, high, signed):
    code = affine(low, high, signed=signed)
    kind = code.zero_point.dtype.name
    signature = Signature((TensorSpec("x", "float32", (50,)),), (TensorSpec("y", kind, (50,)),))
    constants = {"scale": np.array(code.scale), "zero": np.array(code.zero_point)}
    graph = assemble("q", [node("QuantizeLinear", ["x", "scale", "zero"], "y")], constants, signature)
    np.testing.assert_array_equal(encode(values, code), run(session(graph), {"x": values})[0])


@given(
    st.floats(0, 2.0**20),
    st.floats(-(2.0**20), 2.0**20),
    st.floats(2.0**-60, 2.0**20),
    st.sampled_from([63, 127]),
)
def test_weight_scales_are_normal_numbers_and_biases_fit(largest, bias, data_scale, levels):
    weight, biases = np.array([[largest], [0.0]], np.float32), np.array([bias], np.float32)
    (scale,) = weight_scales(weight, biases, np.float32(data_scale), axis=1, levels=levels)
    product = np.float32(data_scale) * scale
    assert math.isfinite(scale)
    assert product >= np.finfo(np.float32).tiny
    assert abs(bias / float(product)) < 2**31
    assert largest / float(scale) <= levels * 1.0001


def test_one_scale_for_all_is_that_of_the_largest_channel():
    weight = np.array([[1.0, -4.0, 0.0]], np.float32)
    np.testing.assert_allclose(weight_scales(weight, None, np.float32(1), axis=1), np.array([1, 4, 127]) / 127)
    np.testing.assert_allclose(weight_scales(weight, None, np.float32(1), axis=1, per_channel=False), [4 / 127] * 3)


@given(arrays.arrays(np.float32, (4, 3, 2), elements=st.floats(-5, 5, width=32)), st.integers(0, 2))
def test_weights_are_restored_within_half_a_step(weight, axis):
    scale = weight_scales(weight, None, np.float32(1), axis=axis)
    restored = encode_weight(weight, scale, axis=axis) * codes.along(scale, 3, axis)
    assert np.all(np.abs(restored - weight) <= codes.along(scale, 3, axis) * 0.5001)


def test_bias_has_the_unit_of_the_integer_sum():
    coded, scale = encode_bias(np.array([1.0, -1.0], np.float32), np.float32(0.5), np.array([0.25, 1e-3], np.float32))
    np.testing.assert_array_equal(coded, [8, -2000])
    np.testing.assert_allclose(scale, [0.125, 0.0005])


@pytest.mark.parametrize(
    ("machine", "cpu_info", "saturates"),
    [
        ("aarch64", "", False),
        ("x86_64", "flags : fpu avx2 avx512_vnni", False),
        ("AMD64", "flags : fpu avx2 avx_vnni", False),
        ("x86_64", "flags : fpu avx2 avx512bw", True),
        ("AMD64", None, True),
    ],
)
def test_processors_whose_kernels_saturate(machine, cpu_info, saturates, tmp_path, monkeypatch):
    path = tmp_path / "cpuinfo"
    if cpu_info is not None:
        path.write_text(cpu_info, encoding="utf-8")
    monkeypatch.setattr(codes, "_CPU_INFO", path)
    monkeypatch.setattr("platform.machine", lambda: machine)
    assert codes.kernels_saturate() is saturates
    assert codes.largest_code("auto") == (63 if saturates else 127)
