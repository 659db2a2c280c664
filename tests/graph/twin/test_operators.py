"""Every operator of the twin against ONNX Runtime, on generated inputs."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from onnx import helper, numpy_helper, parser

from hauberk.artifact import OnnxArtifact
from hauberk.graph.model import session
from hauberk.graph.twin import Twin
from hauberk.graph.twin.module import OPERATORS
from hauberk.tensors import Signature

RANDOM = np.random.default_rng(0)
CONSTANTS = {
    "w": RANDOM.normal(size=(4, 3)).astype(np.float32),
    "wt": RANDOM.normal(size=(3, 4)).astype(np.float32),
    "row": RANDOM.normal(size=4).astype(np.float32),
    "row2": RANDOM.normal(size=4).astype(np.float32),
    "bias": RANDOM.normal(size=3).astype(np.float32),
    "column": RANDOM.normal(size=(1, 1)).astype(np.float32),
    "positive": RANDOM.uniform(0.5, 2, size=4).astype(np.float32),
    "half": np.array(0.5, np.float32),
    "two": np.array(2, np.float32),
    "three": np.array(3, np.float32),
    "sevenths": np.array(1 / 7, np.float32),
    "minus": np.array(-1.5, np.float32),
    "i0": np.array(0, np.int64),
    "i3": np.array(3, np.int64),
    "i_one": np.array([1], np.int64),
    "i_zero": np.array([0], np.int64),
    "i_minus": np.array([-1], np.int64),
    "i_both": np.array([0, 2], np.int64),
    "i_pick": np.array([[3, -1], [0, 0]], np.int64),
    "i_none": np.array([], np.int64),
    "s_pairs": np.array([0, 2, -1], np.int64),
    "s_flat": np.array([-1], np.int64),
    "s_wide": np.array([3, 1, 1], np.int64),
    "s_uneven": np.array([1, 3], np.int64),
    "begin": np.array([-3], np.int64),
    "end": np.array([100], np.int64),
    "u8": np.array(17, np.uint8),
    "i8": np.array(-3, np.int8),
    "u8_row": np.array([0, 17, 128, 255], np.uint8),
    "u16": np.array(300, np.uint16),
    "q": RANDOM.integers(-128, 128, (4, 3)).astype(np.int8),
    "q_big": RANDOM.integers(0, 256, (4, 1000)).astype(np.uint8),
    "q_deep": RANDOM.integers(-128, 128, (1000, 3)).astype(np.int8),
    "q_zero": np.array([1, 0, -5], np.int8),
    "q_scales": np.array([0.01, 0.02, 0.05], np.float32),
    "q32": np.array([-(2**30) - 77, 12345, 7], np.int32),
    "b0": np.array(0, np.uint8),
    "b200": np.array(200, np.uint8),
}

CLOSE, EQUAL = "close", "equal"
Y = "logits ="

CASES: dict[str, tuple[str, str]] = {
    "Abs": (CLOSE, f"{Y} Abs(features)"),
    "Add": (CLOSE, f"{Y} Add(features, row)"),
    "And Greater Less Not Or": (
        EQUAL,
        f"a = Greater(features, half) b = Less(features, two) c = And(a, b) d = Not(b) e = Or(c, d) {Y} Cast<to=1>(e)",
    ),
    "BatchNormalization": (CLOSE, f"{Y} BatchNormalization<epsilon=0.01>(features, row, row2, row, positive)"),
    "Cast to half": (EQUAL, f"h = Cast<to=10>(features) {Y} Cast<to=1>(h)"),
    "Cast to double": (CLOSE, f"h = Cast<to=11>(features) e = Exp(h) {Y} Cast<to=1>(e)"),
    "Cast to int64": (EQUAL, f"h = Cast<to=7>(features) {Y} Cast<to=1>(h)"),
    "Cast to bool": (EQUAL, f"h = Cast<to=9>(features) {Y} Cast<to=1>(h)"),
    "Cast of integers": (EQUAL, f"h = Cast<to=6>(i_pick) {Y} Cast<to=1>(h)"),
    "Clip": (CLOSE, f"{Y} Clip(features, minus, two)"),
    "Clip above": (CLOSE, f'{Y} Clip(features, "", two)'),
    "Clip nothing": (CLOSE, f"{Y} Clip(features)"),
    "Concat": (CLOSE, f"e = Exp(features) {Y} Concat<axis=-1>(features, e, features)"),
    "Concat records": (CLOSE, f"{Y} Concat<axis=0>(features, features)"),
    "DequantizeLinear": (EQUAL, f"c = QuantizeLinear(features, sevenths, u8) {Y} DequantizeLinear(c, sevenths, u8)"),
    "DequantizeLinear per channel": (EQUAL, f"v = DequantizeLinear<axis=1>(q, q_scales, q_zero) {Y} Identity(v)"),
    "DequantizeLinear of int32": (EQUAL, f"v = DequantizeLinear<axis=0>(q32, q_scales) {Y} Identity(v)"),
    "Div": (CLOSE, f"{Y} Div(features, positive)"),
    "Div of integers": (EQUAL, f"i = Cast<to=7>(features) d = Div(i, i3) {Y} Cast<to=1>(d)"),
    "DynamicQuantizeLinear": (
        EQUAL,
        f"c, s, z = DynamicQuantizeLinear(features) {Y} DequantizeLinear(c, s, z)",
    ),
    "Elu": (CLOSE, f"{Y} Elu<alpha=0.7>(features)"),
    "Equal": (EQUAL, f"r = Relu(features) z = Equal(r, features) {Y} Cast<to=1>(z)"),
    "Erf": (CLOSE, f"{Y} Erf(features)"),
    "Exp": (CLOSE, f"{Y} Exp(features)"),
    "Expand": (CLOSE, f"{Y} Expand(features, s_wide)"),
    "Flatten": (CLOSE, f"u = Unsqueeze(features, i_both) {Y} Flatten<axis=-2>(u)"),
    "Flatten all": (CLOSE, f"{Y} Flatten<axis=0>(features)"),
    "Gather": (CLOSE, f"{Y} Gather<axis=1>(features, i_pick)"),
    "Gather one": (CLOSE, f"{Y} Gather<axis=-1>(features, i3)"),
    "Gather a record": (CLOSE, f"{Y} Gather(features, i0)"),
    "Gelu": (CLOSE, f"{Y} Gelu(features)"),
    "Gelu tanh": (CLOSE, f'{Y} Gelu<approximate="tanh">(features)'),
    "Gemm": (CLOSE, f"{Y} Gemm(features, w, bias)"),
    "Gemm transposed": (CLOSE, f"{Y} Gemm<transB=1>(features, wt, bias)"),
    "Gemm scaled": (CLOSE, f"{Y} Gemm<alpha=0.5, beta=3.0>(features, w, bias)"),
    "Gemm scalar bias": (CLOSE, f"{Y} Gemm(features, w, column)"),
    "Gemm bare": (CLOSE, f"{Y} Gemm<transA=1>(features, features)"),
    "GreaterOrEqual LessOrEqual": (
        EQUAL,
        f"a = GreaterOrEqual(features, half) b = LessOrEqual(features, row) c = And(a, b) {Y} Cast<to=1>(c)",
    ),
    "HardSigmoid": (CLOSE, f"{Y} HardSigmoid<alpha=0.3, beta=0.4>(features)"),
    "HardSwish": (CLOSE, f"{Y} HardSwish(features)"),
    "Identity": (CLOSE, f"{Y} Identity(features)"),
    "LayerNormalization": (CLOSE, f"{Y} LayerNormalization<epsilon=0.1>(features, row, row2)"),
    "LayerNormalization bare": (CLOSE, f"{Y} LayerNormalization<axis=1, epsilon=0.1>(features, row)"),
    "LeakyRelu": (CLOSE, f"{Y} LeakyRelu<alpha=0.2>(features)"),
    "Log": (CLOSE, f"a = Abs(features) b = Add(a, half) {Y} Log(b)"),
    "LogSoftmax": (CLOSE, f"{Y} LogSoftmax<axis=1>(features)"),
    "MatMul": (CLOSE, f"{Y} MatMul(features, w)"),
    "MatMul vector": (CLOSE, f"{Y} MatMul(features, row)"),
    "MatMulInteger": (
        EQUAL,
        f"c, s, z = DynamicQuantizeLinear(features) p = MatMulInteger(c, q, z, q_zero) {Y} Cast<to=1>(p)",
    ),
    "MatMulInteger deep": (
        EQUAL,
        f"""c, s, z = DynamicQuantizeLinear(features) x = MatMulInteger(c, q_big) f = Cast<to=1>(x)
        d, t, y = DynamicQuantizeLinear(f) p = MatMulInteger(d, q_deep, b200) {Y} Cast<to=1>(p)""",
    ),
    "Max": (CLOSE, f"{Y} Max(features, row, half)"),
    "Min": (CLOSE, f"{Y} Min(features, row, half)"),
    "Mul": (CLOSE, f"{Y} Mul(features, row)"),
    "Neg": (CLOSE, f"{Y} Neg(features)"),
    "PRelu": (CLOSE, f"{Y} PRelu(features, row)"),
    "Pow": (CLOSE, f"{Y} Pow(features, two)"),
    "Pow to an integer": (CLOSE, f"{Y} Pow(features, i3)"),
    "QuantizeLinear": (EQUAL, f"c = QuantizeLinear(features, sevenths, u8) {Y} Cast<to=1>(c)"),
    "QuantizeLinear signed": (EQUAL, f"c = QuantizeLinear(features, sevenths, i8) {Y} Cast<to=1>(c)"),
    "QuantizeLinear bare": (EQUAL, f"c = QuantizeLinear(features, half) {Y} Cast<to=1>(c)"),
    "QuantizeLinear per channel": (
        EQUAL,
        f"e = Neg(features) c = QuantizeLinear<axis=1>(e, positive, u8_row) {Y} Cast<to=1>(c)",
    ),
    "Reciprocal": (CLOSE, f"a = Abs(features) b = Add(a, half) {Y} Reciprocal(b)"),
    "ReduceLogSumExp": (CLOSE, f"{Y} ReduceLogSumExp<keepdims=0>(features, i_one)"),
    "ReduceMax": (CLOSE, f"{Y} ReduceMax(features, i_minus)"),
    "ReduceMean": (CLOSE, f"{Y} ReduceMean<keepdims=0>(features, i_zero)"),
    "ReduceMin": (CLOSE, f"{Y} ReduceMin(features, i_one)"),
    "ReduceSum": (CLOSE, f"{Y} ReduceSum(features, i_one)"),
    "ReduceSum everything": (CLOSE, f"{Y} ReduceSum<keepdims=0>(features)"),
    "ReduceSum nothing": (CLOSE, f"{Y} ReduceSum<noop_with_empty_axes=1>(features, i_none)"),
    "Relu": (CLOSE, f"{Y} Relu(features)"),
    "Reshape": (CLOSE, f"{Y} Reshape(features, s_pairs)"),
    "Reshape flat": (CLOSE, f"{Y} Reshape(features, s_flat)"),
    "Shape": (CLOSE, f"s = Shape<start=0, end=1>(features) t = Concat<axis=0>(s, i_minus) {Y} Reshape(features, t)"),
    "Sigmoid": (CLOSE, f"{Y} Sigmoid(features)"),
    "Sign": (CLOSE, f"{Y} Sign(features)"),
    "Slice": (CLOSE, f"{Y} Slice(features, begin, end, i_one, i_one)"),
    "Slice records": (CLOSE, f"{Y} Slice(features, i_zero, i_one)"),
    "Softmax": (CLOSE, f"{Y} Softmax(features)"),
    "Softmax over records": (CLOSE, f"{Y} Softmax<axis=0>(features)"),
    "Softplus": (CLOSE, f"{Y} Softplus(features)"),
    "Split": (CLOSE, f"a, b = Split<axis=1>(features, s_uneven) {Y} Mul(b, a)"),
    "Split evenly": (CLOSE, f"a, b = Split<axis=-1, num_outputs=2>(features) {Y} Concat<axis=1>(b, a)"),
    "Sqrt": (CLOSE, f"a = Abs(features) {Y} Sqrt(a)"),
    "Squeeze": (CLOSE, f"u = Unsqueeze(features, i_minus) {Y} Squeeze(u, i_minus)"),
    "Squeeze all": (CLOSE, f"u = Unsqueeze(row, i_both) {Y} Squeeze(u)"),
    "Sub": (CLOSE, f"{Y} Sub(row, features)"),
    "Tanh": (CLOSE, f"{Y} Tanh(features)"),
    "Transpose": (CLOSE, f"{Y} Transpose(features)"),
    "Transpose permuted": (CLOSE, f"u = Unsqueeze(features, i_zero) {Y} Transpose<perm=[2,0,1]>(u)"),
    "Unsqueeze": (CLOSE, f"{Y} Unsqueeze(features, i_both)"),
    "Where": (CLOSE, f"g = Greater(features, half) {Y} Where(g, features, row)"),
}


def model_of(body: str) -> onnx.ModelProto:
    """A graph `features` float32 [N, 4] -> `logits` float32 of any shape."""
    text = '<ir_version: 10, opset_import: ["" : 20]> g (float[N,4] features) => (float[N,4] logits) {' + body + "}"
    proto = parser.parse_model(text)
    proto.graph.output[0].CopyFrom(helper.make_tensor_value_info("logits", onnx.TensorProto.FLOAT, None))
    used = {name for node in proto.graph.node for name in node.input}
    proto.graph.initializer.extend(
        numpy_helper.from_array(value, name) for name, value in CONSTANTS.items() if name in used
    )
    return proto


def twin_of(proto: onnx.ModelProto) -> Twin:
    return Twin(OnnxArtifact(proto.SerializeToString(), Signature((), ()), "0" * 64)).eval()


@pytest.mark.parametrize("case", CASES)
def test_the_twin_equals_onnx_runtime(case):
    tolerance, body = CASES[case]
    proto = model_of(body)
    runner, twin = session(proto.SerializeToString()), twin_of(proto)

    @settings(max_examples=12, deadline=None, database=None)
    @given(
        arrays.arrays(
            np.float32,
            st.tuples(st.sampled_from([1, 2, 5]), st.just(4)),
            elements=st.floats(-20, 20, width=32, allow_subnormal=False),
        )
    )
    def check(features):
        expected = runner.run(None, {"features": features})[0]
        with torch.no_grad():
            found = twin(torch.from_numpy(features)).numpy()
        assert found.dtype == expected.dtype
        if tolerance == EQUAL:
            np.testing.assert_array_equal(found, expected)
        else:
            np.testing.assert_allclose(found, expected, rtol=2e-5, atol=2e-6)

    check()


def test_every_operator_has_a_case():
    """Somewhere in this folder a graph has it, as `Name(` or `Name<` in onnx's text form, whatever its domain."""
    text = "".join(path.read_text(encoding="utf-8") for path in Path(__file__).parent.glob("test_*.py"))
    untried = [name for name in OPERATORS if not re.search(rf"(?<!\w){name.split(':')[-1]}[<(]", text)]
    assert untried == []


def test_the_documentation_lists_exactly_the_operators():
    page = (Path(__file__).parents[3] / "docs" / "reference" / "twin.md").read_text(encoding="utf-8")
    table = page.partition("| family | operators |")[2].partition("\n\n")[0]
    listed = {name for row in table.splitlines()[2:] for name in row.split("|")[2].replace(" ", "").split(",")}
    assert listed == set(OPERATORS) | {"Constant"}  # which becomes an initializer before the twin reads the graph
