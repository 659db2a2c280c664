"""Integer operators that are named in the graph: the results of the fused QDQ graph, without any float layer."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from hauberk.compress import QuantizeStatic
from hauberk.compress.quantize.codes import kernels_saturate
from hauberk.graph.model import run, session

EXPECTED = {
    "mlp": {"QGemm"},
    "plain": {"QLinearConv", "QGemm"},
    "windows": {"QLinearConv", "QGemm"},
    "residual": {"QLinearConv", "QLinearAdd", "QLinearGlobalAveragePool", "QGemm"},
    "depthwise": {"QLinearConv", "QLinearGlobalAveragePool", "QGemm"},
    "concatenating": {"QLinearConv", "QLinearConcat", "QLinearAveragePool", "QGemm"},
    "excited": {"QLinearConv", "QLinearSigmoid", "QLinearMul", "QLinearGlobalAveragePool", "QGemm"},
}
MOVES = {"Transpose", "Reshape", "Flatten", "ReduceMax", "MaxPool", "QuantizeLinear"}


@pytest.mark.parametrize("name", EXPECTED)
@pytest.mark.parametrize("signed", [False, True])
def test_the_graph_itself_holds_integer_operators_only(name, signed, networks, calibrated):
    core = networks[name]()
    result = QuantizeStatic(form="qoperator", signed=signed).apply(core, calibrated(core))
    kinds = {node.op_type for node in onnx.load_model_from_string(result.model).graph.node}
    assert kinds - MOVES == EXPECTED[name]


def test_a_transformer_decodes_where_it_computes_in_float(networks, calibrated):
    core = networks["transformer"]()
    result = QuantizeStatic(form="qoperator").apply(core, calibrated(core))
    kinds = [node.op_type for node in onnx.load_model_from_string(result.model).graph.node]
    assert kinds.count("MatMulIntegerToFloat") + kinds.count("QGemm") == 8
    assert kinds.count("MatMul") == 2
    assert kinds.count("Add") == 2  # the residual connections; biases are added within the products


@pytest.mark.skipif(kernels_saturate(), reason="processor without VNNI saturates")
def test_results_are_those_of_the_fused_graph(network, calibrated, records):
    context, features = calibrated(network), records(network, seed=2)
    answers = [
        run(session(QuantizeStatic(form=form).apply(network, context).model), {"features": features})[0]
        for form in ("qdq", "qoperator")
    ]
    np.testing.assert_allclose(answers[1], answers[0], rtol=1e-5, atol=1e-5)


def test_signed_codes_are_close_too(network, calibrated, records, relative_error):
    result = QuantizeStatic(form="qoperator", signed=True).apply(network, calibrated(network))
    assert relative_error(network, result, records(network, seed=2)) < 0.05


@pytest.mark.parametrize("length", [1, 4])
def test_what_is_broadcast_to_a_product_is_no_bias(length, builder, calibrated, relative_error, records):
    """One column and a vector of four, sixteen columns and a vector of one: ONNX Runtime's operator takes neither."""
    b = builder()
    columns = 1 if length > 1 else 16
    product = b.node("MatMul", "features", b.random(8, columns, fan=8))
    summed = b.node("Add", product, b.random(length))
    b.node("MatMul", b.node("Relu", summed), b.random(max(length, columns), 2, fan=8), name="logits")
    core = b.artifact((8,), 2)
    result = QuantizeStatic(form="qoperator").apply(core, calibrated(core))
    assert relative_error(core, result, records(core, seed=2)) < 0.1
