"""SmoothQuant: the same answers, and less lost where a few channels rule the range."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from hauberk.compress import QuantizeStatic
from hauberk.compress.quantize.smooth import SmoothActivations
from hauberk.errors import InputError


@pytest.fixture
def outliers(builder):
    """A layer norm with three channels a hundred times as large as the others, and two linear layers behind it."""
    b = builder()
    width = 64
    data = b.linear("features", 8, width)
    scale = np.ones(width, np.float32)
    scale[[3, 17, 40]] = 100
    shift = b.generator.normal(size=width).astype(np.float32)
    normed = b.node("LayerNormalization", data, b.constant(scale), b.constant(shift), axis=-1)
    both = b.node("Add", b.node("Gelu", b.linear(normed, width, width)), b.linear(normed, width, width))
    for name, values in b.constants.items():
        if values.shape == (width, width):
            b.constants[name][[3, 17, 40]] /= 100
    pooled = b.node("ReduceMean", both, b.constant(np.array([1])), keepdims=0)
    b.gemm(pooled, width, 3, name="logits")
    return b.artifact((10, 8), 3)


def test_answers_stay(outliers, calibrated, records, answers):
    features = records(outliers, seed=2)
    result = SmoothActivations().apply(outliers, calibrated(outliers))
    assert result.model != outliers.model
    np.testing.assert_allclose(answers(result, features), answers(outliers, features), rtol=1e-4, atol=1e-5)


def test_less_is_lost_afterwards(outliers, calibrated, records, relative_error):
    context, features = calibrated(outliers), records(outliers, seed=2)
    smooth = SmoothActivations().apply(outliers, context)
    before, after = (
        relative_error(outliers, QuantizeStatic().apply(core, context), features) for core in (outliers, smooth)
    )
    assert after < before / 2


@pytest.mark.parametrize("multiply", [False, True])
def test_answers_of_a_transformer_stay(multiply, networks, calibrated, records, answers):
    core = networks["transformer"]()
    features = records(core, seed=2)
    result = SmoothActivations(multiply=multiply).apply(core, calibrated(core))
    np.testing.assert_allclose(answers(result, features), answers(core, features), rtol=1e-4, atol=1e-5)


def test_a_multiplication_is_written_only_where_asked(networks, calibrated, fused):
    core = networks["transformer"]()
    counts = [
        fused(SmoothActivations(multiply=multiply).apply(core, calibrated(core))).count("Mul")
        for multiply in (False, True)
    ]
    assert counts[0] == 0
    assert counts[1] > 0


def test_it_is_fused_like_the_graph_it_came_from(networks, calibrated, fused):
    core = networks["transformer"]()
    context = calibrated(core)
    smooth = SmoothActivations().apply(core, context)
    plain, smoothed = (sorted(fused(QuantizeStatic().apply(each, context))) for each in (core, smooth))
    assert plain == smoothed


def test_alpha_shifts_the_range_to_the_weights(outliers, calibrated):
    """With alpha 1 every channel of the activation ends with a like range: powers of two apart at most."""
    graph = onnx.load_model_from_string(SmoothActivations(alpha=1.0).apply(outliers, calibrated(outliers)).model).graph
    norm = next(node for node in graph.node if node.op_type == "LayerNormalization")
    scales = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in graph.initializer}[norm.input[1]]
    assert scales.max() / scales.min() < 8  # 100 before


def test_nothing_to_smooth_is_refused(networks, calibrated):
    core = networks["plain"]()
    with pytest.raises(InputError, match="nothing to smooth"):
        SmoothActivations().apply(core, calibrated(core))


def test_an_alpha_that_is_none_is_refused():
    with pytest.raises(InputError, match=r"alpha is 1\.5"):
        SmoothActivations(alpha=1.5)
