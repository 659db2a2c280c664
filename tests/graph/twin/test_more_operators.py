"""Operators on tensors of any rank against ONNX Runtime, forwards, and against finite differences, backwards."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

RANDOM = np.random.default_rng(0)


def floats(*shape):
    return RANDOM.normal(size=shape).astype(np.float32)


def whole(*values):
    return np.array(values, np.int64)


CONSTANTS = {
    "w": floats(5, 6),
    "w3": floats(4, 5, 6),
    "row": floats(5),
    "row2": floats(5),
    "channel": floats(4),
    "channel2": floats(4),
    "group": floats(2),
    "i0": np.array(0, np.int64),
    "i1": np.array(1, np.int64),
    "i2": np.array(2, np.int64),
    "i5": np.array(5, np.int64),
    "i_minus": np.array(-1, np.int64),
    "some": whole(0, 3, -1),
    "elements": RANDOM.integers(-4, 4, (1, 2, 5)),
    "places": whole([0, 1], [0, 3]),
    "batched": whole([2], [1]),
    "updates": floats(2, 5),
    "updates_e": floats(1, 2, 5),
    "v1": whole(1),
    "v_minus": whole(-1),
    "v_last": whole(-1),
    "v_far": whole(-99),
    "v12": whole(1, 2),
    "v_pads": whole(0, 1, 2, 0, 0, 1),
    "v_crop": whole(0, -1, 0, 0, 2, -1),
    "v_pads2": whole(1, 2),
    "v_shape": whole(1, 4, 1),
    "v_tile": whole(1, 2, 3),
    "v_45": whole(4, 5),
    "v_sizes": whole(1, 4, 7),
    "f_scales": np.array([1, 1, 2.5], np.float32),
    "f_half": np.array([1, 1, 0.6], np.float32),
    "f_one": np.array([1.7], np.float32),
    "values": np.array([-1, 2], np.float32),
    "codes": whole(0, 2, -1, 9),
    "half": np.array(0.5, np.float32),
    "two": np.array(2, np.float32),
    "three": np.array(3, np.float32),
}
T = (4, 5)
"""The shape of most cases' records: T steps of D features, or C channels of one line."""

CASES = {
    # attention, as exporters write it, and what it is made of
    "attention": """k = MatMul(features, w_sq) q = MatMul(features, w_sq2) t = Transpose<perm=[0,2,1]>(k)
        s = MatMul(q, t) d = Div(s, two) p = Softmax<axis=-1>(d) logits = MatMul(p, features)""",
    "heads": """k = MatMul(features, w) r = Reshape(k, heads) q = Transpose<perm=[0,2,1,3]>(r)
        t = Transpose<perm=[0,2,3,1]>(r) s = MatMul(q, t) p = Softmax<axis=-1>(s) o = MatMul(p, q)
        u = Transpose<perm=[0,2,1,3]>(o) logits = Reshape(u, flat)""",
    "MatMul of ranks": "logits = MatMul(features, w3b)",
    "Einsum": 'logits = Einsum<equation="nte,ef->ntf">(features, w)',
    "Einsum of a batch": 'logits = Einsum<equation="nte,nse->nts">(features, features)',
    "causal mask": """s = MatMul(features, w_sq4) m = Trilu<upper=0>(ones) b = Cast<to=9>(m)
        logits = Where(b, s, half)""",
    "FusedMatMul": "logits = com.microsoft.FusedMatMul<transB=1, alpha=0.3>(features, features)",
    "FusedGemm": 'f = Flatten(features) logits = com.microsoft.FusedGemm<activation="Tanh">(f, wf, b6)',
    # normalisation
    "InstanceNormalization": "logits = InstanceNormalization(features, channel, channel2)",
    "GroupNormalization": "logits = GroupNormalization<num_groups=2>(features, channel, channel2)",
    "LpNormalization": "logits = LpNormalization<axis=1>(features)",
    "LpNormalization of 1": "logits = LpNormalization<p=1>(features)",
    "LRN": "u = Unsqueeze(features, v_last) logits = LRN<size=3, alpha=0.5, beta=0.6, bias=1.5>(u)",
    "MeanVarianceNormalization": "logits = MeanVarianceNormalization<axes=[1,2]>(features)",
    "SimplifiedLayerNormalization": "logits = SimplifiedLayerNormalization<epsilon=0.01>(features, row)",
    "SkipLayerNormalization": """r = Tanh(features)
        logits = com.microsoft.SkipLayerNormalization<epsilon=0.01>(features, r, row, row2, row)""",
    "SkipLayerNormalization's sum": """r = Tanh(features)
        a, b, c, logits = com.microsoft.SkipLayerNormalization<epsilon=0.01>(features, r, row, row2)""",
    "BatchNormalization": "logits = BatchNormalization(features, channel, channel2, channel, positive)",
    # activations
    "Celu": "logits = Celu<alpha=0.7>(features)",
    "Mish": "logits = Mish(features)",
    "Selu": "logits = Selu(features)",
    "Shrink": "logits = Shrink<bias=0.2, lambd=0.4>(features)",
    "Softsign": "logits = Softsign(features)",
    "ThresholdedRelu": "logits = ThresholdedRelu<alpha=0.3>(features)",
    "BiasGelu": "logits = com.microsoft.BiasGelu(features, row)",
    "FastGelu": "logits = com.microsoft.FastGelu(features, row)",
    "contrib Gelu": "logits = com.microsoft.Gelu(features)",
    "QuickGelu": "logits = com.microsoft.QuickGelu<alpha=1.1>(features)",
    # arithmetic
    "Sin Cos Tan": "a = Sin(features) b = Cos(features) c = Mul(a, b) d = Tan(c) logits = Add(c, d)",
    "Sinh Cosh": "t = Tanh(features) a = Sinh(t) b = Cosh(features) logits = Mul(a, b)",
    "Asin Acos Atan": """t = Tanh(features) u = Mul(t, half) a = Asin(u) b = Acos(u) c = Atan(features)
        logits = Sum(a, b, c)""",
    "Asinh Atanh Acosh": """t = Tanh(features) u = Mul(t, half) a = Asinh(features) b = Atanh(u) v = Add(u, two)
        c = Acosh(v) logits = Sum(a, b, c)""",
    "Mean": "t = Tanh(features) logits = Mean(features, t, row)",
    "Mod": "logits = Mod<fmod=1>(features, half)",
    "CumSum": "logits = CumSum(features, i1)",
    "CumSum reversed": "logits = CumSum<reverse=1, exclusive=1>(features, i2)",
    "CumSum exclusive": "logits = CumSum<exclusive=1>(features, i_minus)",
    # reductions
    "ReduceL1": "logits = ReduceL1(features, v12)",
    "ReduceL2": "logits = ReduceL2<keepdims=0>(features, v1)",
    "ReduceLogSum": "a = Exp(features) logits = ReduceLogSum(a, v1)",
    "ReduceProd": "logits = ReduceProd<keepdims=0>(features, v12)",
    "ReduceSumSquare": "logits = ReduceSumSquare(features, v_minus)",
    "ReduceMean": "logits = ReduceMean<keepdims=0>(features, v12)",
    # choosing
    "Gather": "logits = Gather<axis=1>(features, some)",
    "GatherElements": "e = Expand(elements, s_elements) logits = GatherElements<axis=1>(features, e)",
    "GatherND": "logits = GatherND(w3, places)",
    "GatherND batched": "logits = GatherND<batch_dims=1>(c2, batched)",
    "ScatterElements": "logits = ScatterElements<axis=1>(features_1, elements_1, updates_e)",
    "ScatterElements add": 'logits = ScatterElements<axis=1, reduction="add">(features_1, elements, updates_e)',
    "ScatterND": "logits = ScatterND(w3, places, updates6)",
    "ScatterND add": 'logits = ScatterND<reduction="add">(w3, places, updates6)',
    "Slice": "logits = Slice(features, v1, v_last, v1)",
    "Slice backwards": "logits = Slice(features, v_last, v_far, v1, v_minus)",
    "Slice by two backwards": "logits = Slice(features, v_last, i_v0, v12_1, v_two_back)",
    "TopK": "logits, i = TopK<axis=2>(features, v_two)",
    "TopK smallest": "logits, i = TopK<axis=1, largest=0>(features, v_two)",
    "Trilu": "logits = Trilu(features, i1)",
    "Trilu lower": "logits = Trilu<upper=0>(features, i_minus)",
    # moving
    "ConstantOfShape": "s = Shape(features) c = ConstantOfShape<value=float[1] {3.0}>(s) logits = Add(c, features)",
    "ConstantOfShape zero": "s = Shape(features) c = ConstantOfShape(s) logits = Add(c, features)",
    "DepthToSpace": "u = Unsqueeze(features, v_last) logits = DepthToSpace<blocksize=2>(u)",
    "DepthToSpace CRD": 'u = Unsqueeze(features, v_last) logits = DepthToSpace<blocksize=2, mode="CRD">(u)',
    "SpaceToDepth": "u = Unsqueeze(features, v1) p = Pad(u, v_pad4) logits = SpaceToDepth<blocksize=2>(p)",
    "Dropout": "logits = Dropout(features)",
    "Expand": "u = Unsqueeze(features, v1) logits = Expand(u, v_45x)",
    "Pad": "logits = Pad(features, v_pads, half)",
    "Pad and crop": "logits = Pad(features, v_crop)",
    "Pad axes": 'logits = Pad(features, v_pads2, "", v_last)',
    "Pad edge": 'logits = Pad<mode="edge">(features, v_pads)',
    "Pad reflect": 'logits = Pad<mode="reflect">(features, v_pads)',
    "Pad wrap": 'logits = Pad<mode="wrap">(features, v_pads)',
    "Range": "r = Range(i0, i5, i1) f = Cast<to=1>(r) logits = Mul(features, f)",
    "Size": "n = Size(features) f = Cast<to=1>(n) logits = Mul(features, f)",
    "Split": "a, b = Split<axis=1, num_outputs=2>(features) logits = Mul(a, b)",
    "Tile": "logits = Tile(features, v_tile)",
    "positions": """s = Shape<start=1, end=2>(features) n = Squeeze(s) r = Range(i0, n, i1) e = Gather(table, r)
        logits = Add(features, e)""",
    # resizing
    "Resize nearest": 'logits = Resize(features, "", f_scales)',
    "Resize linear": 'logits = Resize<mode="linear">(features, "", f_scales)',
    "Resize linear, smaller": 'logits = Resize<mode="linear">(features, "", f_half)',
    "Resize to sizes": 'u = ReduceMean(features, v0) logits = Resize<mode="linear">(u, "", "", v_sizes)',
    "Resize corners": """logits = Resize<mode="linear", coordinate_transformation_mode="align_corners">
        (features, "", f_scales)""",
    "Resize asymmetric": """logits = Resize<nearest_mode="floor", coordinate_transformation_mode="asymmetric">
        (features, "", f_scales)""",
    "Resize ceil": 'logits = Resize<nearest_mode="ceil">(features, "", f_half)',
    "Resize prefer ceil": 'logits = Resize<nearest_mode="round_prefer_ceil">(features, "", f_half)',
    "Resize as torch": """logits = Resize<mode="linear", coordinate_transformation_mode="pytorch_half_pixel">
        (features, "", f_half)""",
    "Resize an axis": 'logits = Resize<axes=[2], mode="linear">(features, "", f_one)',
}
CONSTANTS |= {
    "w_sq": floats(5, 5),
    "w_sq2": floats(5, 5),
    "w_sq4": floats(5, 4),
    "w3b": floats(1, 5, 2),
    "ones": np.ones((4, 4), np.float32),
    "wf": floats(20, 6),
    "b6": floats(6),
    "heads": whole(0, 0, 2, 3),
    "flat": whole(0, 0, -1),
    "positive": RANDOM.uniform(0.5, 2, 4).astype(np.float32),
    "v0": whole(0),
    "v_two": whole(2),
    "s_elements": whole(1, 2, 5),
    "c2": floats(2, 4, 5),
    "features_1": floats(1, 4, 5),
    "elements_1": np.stack([np.tile([[0], [2]], (1, 5))]).astype(np.int64),
    "updates6": floats(2, 6),
    "i_v0": whole(0),
    "v12_1": whole(2),
    "v_two_back": whole(-2),
    "v_pad4": whole(0, 0, 0, 0, 0, 0, 0, 1),
    "v_45x": whole(3, 1, 1),
    "table": floats(4, 5),
}
UNMOVED = {"GatherND", "GatherND batched", "ScatterElements", "ScatterElements add", "ScatterND", "ScatterND add"}
"""Cases whose result does not depend on the features."""

ONE_RECORD = {"GatherElements", "Resize to sizes"}


@pytest.mark.parametrize("case", CASES)
def test_the_twin_equals_onnx_runtime(compare, case):
    compare(CASES[case], T, CONSTANTS, batches=(1,) if case in ONE_RECORD else (1, 3), gradients=case not in ONE_RECORD)


WITHOUT_GRADIENT = {
    "CastLike": "m = Mul(features, three) i = CastLike(m, i0) logits = CastLike(i, half)",
    "ArgMax": "i = ArgMax<axis=1>(features) logits = Cast<to=1>(i)",
    "ArgMax, last of equals": """t = Sign(features) i = ArgMax<axis=2, keepdims=0, select_last_index=1>(t)
        logits = Cast<to=1>(i)""",
    "ArgMin": "i = ArgMin<axis=-1>(features) logits = Cast<to=1>(i)",
    "Hardmax": "logits = Hardmax<axis=1>(features)",
    "OneHot": "logits = OneHot(codes, i5, values)",
    "OneHot first": "logits = OneHot<axis=0>(codes, i5, values)",
    "TopK's indices": "v, i = TopK(features, v_two) logits = Cast<to=1>(i)",
    "IsInf IsNaN": "l = Log(features) a = IsInf(l) b = IsNaN(l) c = Xor(a, b) logits = Cast<to=1>(c)",
    "IsInf below": "r = Relu(features) l = Log(r) a = IsInf<detect_positive=0>(l) logits = Cast<to=1>(a)",
    "Round": "m = Mul(features, three) logits = Round(m)",
    "Floor Ceil": "a = Floor(features) b = Ceil(features) logits = Sub(b, a)",
    "Mod of integers": "m = Mul(features, three) i = Cast<to=7>(m) d = Mod(i, i_minus3) logits = Cast<to=1>(d)",
    "CumSum of integers": "m = Mul(features, three) i = Cast<to=7>(m) d = CumSum(i, i1) logits = Cast<to=1>(d)",
}
CONSTANTS |= {"i_minus3": np.array(-3, np.int64)}


@pytest.mark.parametrize("case", WITHOUT_GRADIENT)
def test_the_twin_equals_onnx_runtime_where_nothing_is_differentiable(compare, case):
    compare(WITHOUT_GRADIENT[case], T, CONSTANTS, equal=True, gradients=False)


def test_swish(compare, graph, twin_of):
    """ONNX Runtime has no kernel for it yet, so it is compared with what it stands for."""
    import torch

    features = torch.randn(3, *T, generator=torch.Generator().manual_seed(0))
    found, expected = (
        twin_of(graph(body, T, {"k": np.array(1.5, np.float32)}, 24))(features)
        for body in (
            "logits = Swish<alpha=1.5>(features)",
            "m = Mul(features, k) s = Sigmoid(m) logits = Mul(features, s)",
        )
    )
    torch.testing.assert_close(found, expected)


def test_rms_normalization(graph, twin_of):
    """Against its name in ONNX Runtime, which the table above compares with a kernel."""
    import torch

    features = torch.randn(3, *T, generator=torch.Generator().manual_seed(0))
    found, expected = (
        twin_of(graph(f"logits = {node}(features, row)", T, CONSTANTS, opset))(features)
        for node, opset in (("RMSNormalization<epsilon=0.01>", 23), ("SimplifiedLayerNormalization<epsilon=0.01>", 21))
    )
    torch.testing.assert_close(found, expected)


def test_group_normalization_with_one_scale_a_group(compare):
    """Opset 18 to 20: as PyTorch's exporter wrote it."""
    compare("logits = GroupNormalization<num_groups=2>(features, group, group)", T, CONSTANTS, opset=20)


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_any_resize_equals_onnx_runtime(compare, data):
    draw = data.draw
    size, target = draw(st.integers(1, 7)), draw(st.integers(1, 12))
    mode, nearest = draw(st.sampled_from(["nearest", "linear"])), draw(st.sampled_from(["floor", "round_prefer_floor"]))
    rule = draw(st.sampled_from(["half_pixel", "asymmetric", "align_corners", "pytorch_half_pixel"]))
    body = f"""logits = Resize<mode="{mode}", nearest_mode="{nearest}", coordinate_transformation_mode="{rule}">
        (features, "", "", sizes)"""
    compare(body, (2, size), {"sizes": whole(2, 2, target)}, batches=(2,), gradients=False)


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_any_slice_equals_onnx_runtime(compare, data):
    draw = data.draw
    start, end = (draw(st.integers(-8, 8)) for _ in range(2))
    step = draw(st.sampled_from([-3, -2, -1, 1, 2, 3]))
    constants = {"a": whole(start), "b": whole(end), "c": whole(1), "d": whole(step)}
    compare("logits = Slice(features, a, b, c, d)", (6, 2), constants, gradients=False, equal=True)
