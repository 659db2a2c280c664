"""Relu and Clip whose codes do not end where they cut: layers before them compute on codes, and codes are cut."""

from __future__ import annotations

from collections import Counter

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper, numpy_helper

from hauberk.compress import QuantizeStatic
from hauberk.compress.quantize.codes import Affine, affine, decode, encode
from hauberk.compress.quantize.cuts import Cut, cut_of
from hauberk.compress.quantize.layers import Constants
from hauberk.graph.model import run, session

LARGEST = float(np.finfo(np.float32).max)
BOUNDS = [(-1, 1), (0, 1), (0.25, 2), (None, 0.5), (-0.5, None), (None, None), (-LARGEST, LARGEST), (2, 1)]
LAYERS = ("QLinearConv", "QGemm")


def bounded(b, name, low, high):
    ends = ["" if end is None else b.constant(np.array(end, np.float32)) for end in (low, high)]
    return b.node("Clip", name, *ends)


def hardtanh(b):
    """Zero lies in the middle of [-1, 1], and there is no middle code: -1 may be no code's value."""
    return bounded(b, b.conv("features", 2, 4), -1, 1), 4


def beyond_zero(b):
    return bounded(b, b.conv("features", 2, 4), 0.25, 2), 4


def beside_what_is_not_cut(b):
    data = b.conv("features", 2, 4)
    return b.node("Concat", bounded(b, b.conv(data, 4, 4, group=4), 0, 1), data, axis=1), 8


def relu_beside_what_is_not_cut(b):
    data = b.conv("features", 2, 4)
    return b.node("Concat", b.node("Relu", b.conv(data, 4, 4)), data, axis=1), 8


def cut_and_not_cut(b):
    data = b.conv("features", 2, 4)
    data = b.node("Add", data, data)
    return b.node("Concat", bounded(b, data, 0, 1), data, axis=1), 8


def cut_and_not_cut_behind_a_layer(b):
    data = b.conv(b.conv("features", 2, 4), 4, 4, group=4)
    return b.node("Concat", bounded(b, data, 0, 1), data, axis=1), 8


def before_a_linear_layer(b):
    data = b.gemm(b.node("Flatten", "features"), 128, 4)
    return b.node("Reshape", bounded(b, data, -0.5, 0.25), b.constant(np.array([0, 4, 1, 1]))), 4


CUTS = [
    hardtanh,
    beyond_zero,
    beside_what_is_not_cut,
    relu_beside_what_is_not_cut,
    cut_and_not_cut,
    cut_and_not_cut_behind_a_layer,
    before_a_linear_layer,
]


def finished(b, data, channels):
    pooled = b.node("ReduceMean", b.conv(data, channels, 4), b.constant(np.array([2, 3])), keepdims=0)
    b.gemm(pooled, 4, 3, name="logits")
    return b.artifact((2, 8, 8), 3)


@pytest.fixture(params=CUTS, ids=lambda cut: cut.__name__)
def core(request, builder):
    b = builder()
    return finished(b, *request.param(b))


def answers(artifact, features):
    return run(session(artifact.model), {"features": features})[0]


def meant(model, features):
    """What the QDQ graph says, node by node."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    return onnxruntime.InferenceSession(model, options).run(None, {"features": features})[0]


def kinds(artifact):
    return Counter(node.op_type for node in onnx.load_model_from_string(artifact.model).graph.node)


def test_every_layer_runs_in_integers(core, calibrated, fused):
    result = QuantizeStatic().apply(core, calibrated(core))
    written, optimised = kinds(result), Counter(fused(result))
    assert sum(optimised[kind] for kind in LAYERS) == written["Conv"] + written["Gemm"]


@pytest.mark.parametrize("signed", [False, True])
def test_codes_are_cut_where_operators_are_named(core, signed, calibrated):
    """No Clip or Relu of floats is left, and a Clip of codes has bounds that are codes."""
    result = QuantizeStatic(form="qoperator", signed=signed).apply(core, calibrated(core))
    found = kinds(result)
    assert not {"Conv", "Gemm", "Relu", "DequantizeLinear"} & set(found)
    graph = onnx.load_model_from_string(result.model).graph
    types = {tensor.name: tensor.data_type for tensor in graph.initializer}
    bounds = {types[name] for node in graph.node if node.op_type == "Clip" for name in node.input[1:] if name}
    assert bounds <= {onnx.TensorProto.INT8 if signed else onnx.TensorProto.UINT8}


def test_both_forms_answer_what_the_graph_says(core, calibrated, records):
    context, features = calibrated(core), records(core, seed=2)
    qdq, named = (QuantizeStatic(form=form).apply(core, context) for form in ("qdq", "qoperator"))
    expected = meant(qdq.model, features)
    for result in (qdq, named):
        difference = answers(result, features) - expected
        assert np.sqrt(np.mean(difference**2) / np.mean(expected**2)) < 0.02


def test_logits_stay_close(core, calibrated, records, relative_error):
    """What is not cut takes most of the codes that it shares with what is: less close than elsewhere."""
    result = QuantizeStatic().apply(core, calibrated(core))
    assert relative_error(core, result, records(core, seed=2)) < 0.1


@pytest.mark.parametrize("form", ["qdq", "qoperator"])
@pytest.mark.parametrize("activation", ["Relu", "Clip"])
def test_what_is_read_in_float_as_well_is_not_left_out(activation, form, builder, calibrated, records):
    """Behind the input no kernel makes codes: the Add reads floats, the convolution codes of them."""
    b = builder()
    data = b.node("Relu", "features") if activation == "Relu" else bounded(b, "features", 0, 6)
    core = finished(b, b.node("Add", b.node("Tanh", b.conv(data, 2, 2)), data), 2)
    context, features = calibrated(core), records(core, seed=2)
    qdq, result = (QuantizeStatic(form=name).apply(core, context) for name in ("qdq", form))
    expected = meant(qdq.model, features)
    difference = answers(result, features) - expected
    assert np.sqrt(np.mean(difference**2) / np.mean(expected**2)) < 0.02


@pytest.mark.parametrize("form", ["qdq", "qoperator"])
def test_what_nothing_reads_goes(form, builder, calibrated):
    b = builder()
    bounded(b, b.conv("features", 2, 2), 0, 1)
    core = finished(b, b.conv("features", 2, 4), 4)
    assert "Clip" not in kinds(QuantizeStatic(form=form).apply(core, calibrated(core)))


@pytest.mark.parametrize("operator", ["Abs", "Neg", "Sign", "Tanh", "Floor", "Softplus"])
@pytest.mark.parametrize("signed", [False, True])
def test_an_operator_that_computes_does_so_on_values(operator, signed, builder, calibrated, records):
    """Before a Concat its input and its result have the same codes, as those of an operator that moves values do."""
    b = builder()
    data = b.conv("features", 2, 4)
    core = finished(b, b.node("Concat", b.node(operator, data), data, axis=1), 8)
    context, features = calibrated(core), records(core, seed=2)
    qdq, named = (QuantizeStatic(form=form, signed=signed).apply(core, context) for form in ("qdq", "qoperator"))
    expected = meant(qdq.model, features)
    difference = answers(named, features) - expected
    assert np.sqrt(np.mean(difference**2) / np.mean(expected**2)) < 0.02


def test_a_dilated_pool_computes_in_floats(builder, calibrated, relative_error, records):
    """ONNX Runtime makes an integer pool of it where it sees codes, and then refuses the graph."""
    b = builder()
    core = finished(b, b.node("AveragePool", b.conv("features", 2, 4), kernel_shape=[3, 3], dilations=[2, 2]), 4)
    for form in ("qdq", "qoperator"):
        result = QuantizeStatic(form=form).apply(core, calibrated(core))
        assert kinds(result)["AveragePool"] == 1
        assert relative_error(core, result, records(core, seed=2)) < 0.05


@pytest.mark.parametrize("bounds", BOUNDS, ids=repr)
@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("ends", [(0, 6), (-1, 1), (-0.3, 1.7), (0, 1)])
def test_cutting_codes_is_coding_what_was_cut(bounds, signed, ends):
    code = affine(*ends, signed=signed)
    names = ["" if bound is None else f"bound{place}" for place, bound in enumerate(bounds)]
    constants = Constants(
        helper.make_graph(
            [],
            "bounds",
            [],
            [],
            [
                numpy_helper.from_array(np.array(bound, np.float32), name)
                for bound, name in zip(bounds, names, strict=True)
                if name
            ],
        )
    )
    cut = cut_of(helper.make_node("Clip", ["x", *names], ["y"]), code, constants)
    values = np.linspace(-8, 8, 4097, dtype=np.float32)
    low, high = (default if end is None else end for end, default in zip(bounds, (-LARGEST, LARGEST), strict=True))
    info = np.iinfo(code.zero_point.dtype)
    floor, ceiling = (default if end is None else end for end, default in zip(cut, (info.min, info.max), strict=True))
    expected = encode(np.minimum(np.maximum(values, np.float32(low)), np.float32(high)), code)
    np.testing.assert_array_equal(np.minimum(np.maximum(encode(values, code), floor), ceiling), expected)
    again = encode(np.minimum(np.maximum(decode(encode(values, code), code), np.float32(low)), np.float32(high)), code)
    np.testing.assert_array_equal(again, expected)


@pytest.mark.parametrize(
    ("zero_point", "cut"),
    [(np.uint8(0), Cut(None, None)), (np.uint8(7), Cut(7, None)), (np.int8(-128), Cut(None, None))],
)
def test_a_relu_cuts_at_the_zero_point(zero_point, cut):
    constants = Constants(helper.make_graph([], "none", [], []))
    node = helper.make_node("Relu", ["x"], ["y"])
    assert cut_of(node, Affine(np.float32(0.1), zero_point), constants) == cut


def test_bounds_that_are_computed_are_not_known():
    constants = Constants(helper.make_graph([], "none", [], []))
    assert cut_of(helper.make_node("Clip", ["x", "low"], ["y"]), affine(0, 1), constants) is None
