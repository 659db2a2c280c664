"""INT4 weights against numpy, and the kernel that ONNX Runtime runs them with."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from hauberk.compress.quantize.weights import QuantizeWeights, encode_blocks
from hauberk.errors import InputError

SMALL = QuantizeWeights(smallest=256)


@pytest.fixture
def wide(builder):
    """50-96-96-3, with widths that blocks of 32 do and do not divide."""
    b = builder()
    hidden = b.node("Relu", b.gemm("features", 50, 96))
    b.gemm(b.node("Relu", b.gemm(hidden, 96, 96)), 96, 3, name="logits")
    return b.artifact((50,), 3)


def decoded(weight: np.ndarray, block_size: int) -> np.ndarray:
    codes, scale = encode_blocks(weight, block_size)
    return codes * np.repeat(scale, block_size, axis=0)[: len(weight)]


@given(
    arrays.arrays(np.float32, st.tuples(st.integers(1, 70), st.integers(1, 4)), elements=st.floats(-9, 9, width=32)),
    st.sampled_from([16, 32]),
)
def test_weights_are_restored_at_least_as_well_as_by_the_plain_scale(weight, block_size):
    restored = decoded(weight, block_size)
    for start in range(0, len(weight), block_size):
        block = weight[start : start + block_size]
        scale = np.abs(block).max(axis=0) / 7
        scale = np.where(scale > 0, scale, 1).astype(np.float32)
        plain = np.sum((np.clip(np.rint(block / scale), -8, 7) * scale - block) ** 2, axis=0)
        ours = np.sum((restored[start : start + block_size] - block) ** 2, axis=0)
        assert np.all(ours <= plain * 1.001 + 1e-9)


def test_codes_use_four_bits():
    codes, _ = encode_blocks(np.random.default_rng(0).normal(size=(64, 8)).astype(np.float32), 32)
    assert codes.min() >= -8
    assert codes.max() <= 7


def test_onnx_runtime_runs_its_four_bit_kernel(wide, calibrated, fused):
    operators = fused(SMALL.apply(wide, calibrated(wide)))
    assert operators.count("MatMulNBits") == 3
    assert not {"DequantizeLinear", "Gemm", "FusedGemm", "MatMul"} & set(operators)


def test_logits_are_those_of_rounded_weights(wide, calibrated, answers):
    """Computed by numpy; ONNX Runtime's kernel rounds activations to 8 bits besides."""
    features = calibrated(wide).calibration
    constants = {
        t.name: onnx.numpy_helper.to_array(t) for t in onnx.load_model_from_string(wide.model).graph.initializer
    }
    data = features
    for layer in range(3):
        weight = decoded(np.ascontiguousarray(constants[f"c{2 * layer}"].T), 32)
        data = data @ weight + constants[f"c{2 * layer + 1}"]
        data = np.maximum(data, 0) if layer < 2 else data
    after = answers(SMALL.apply(wide, calibrated(wide)), features)
    assert np.sqrt(np.mean((after - data) ** 2) / np.mean(data**2)) < 0.03


def test_file_is_less_than_a_fifth(builder, calibrated):
    b = builder()
    b.gemm(b.node("Relu", b.gemm("features", 512, 256)), 256, 3, name="logits")
    core = b.artifact((512,), 3)
    assert len(QuantizeWeights().apply(core, calibrated(core)).model) < len(core.model) / 5


def test_matmul_over_windows_is_quantized(networks, calibrated, fused, records, relative_error):
    core = networks["transformer"]()
    step = QuantizeWeights(smallest=1024)
    result = step.apply(core, calibrated(core))
    assert fused(result).count("MatMulNBits") == 6
    assert relative_error(core, result, records(core, seed=2)) < step.contract.rms


def test_small_layers_and_convolutions_are_left_alone_and_named(networks, calibrated):
    core = networks["plain"]()
    notes = QuantizeWeights(smallest=1000).notes(core)
    assert sum("a convolution" in note for note in notes) == 2
    assert sum("48 weights are too few to gain" in note for note in notes) == 1
    assert len(notes) == 3


def test_recurrent_layers_and_products_are_named_too(builder, networks):
    b = builder()
    b.gemm(b.recurrent("GRU", "features", 6, 32), 32, 3, name="logits")
    notes = QuantizeWeights(smallest=64).notes(b.artifact((10, 6), 3))
    assert [note.split(" stays in float: ")[1] for note in notes] == ["a recurrent layer"]
    products = QuantizeWeights(smallest=64).notes(networks["transformer"]())
    assert [note.split(" stays in float: ")[1] for note in products] == ["a product of two activations"] * 2


def test_nothing_large_enough_is_refused(networks, calibrated):
    core = networks["mlp"]()
    with pytest.raises(InputError, match="no Gemm or MatMul has 65536"):
        QuantizeWeights().apply(core, calibrated(core))


def test_a_block_size_that_no_kernel_takes_is_refused():
    with pytest.raises(InputError, match="blocks of 48"):
        QuantizeWeights(block_size=48)
