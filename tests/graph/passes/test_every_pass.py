"""What every pass must stand, whoever wrote it: a pass is in these checks as soon as it is in `PASSES` or `OPTIONAL`.

But for two: `choose-fastest` does what the clock says, and `fix-batch` changes what a graph takes.
"""

from __future__ import annotations

import hashlib

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from hauberk.artifact import OnnxArtifact
from hauberk.errors import InputError
from hauberk.graph.model import parse, signature_of
from hauberk.graph.passes import OPTIONAL, PASSES, ChooseFastest, FixBatch
from hauberk.graph.verify import verify
from hauberk.recipe import Context, Recipe

RECORDS, WINDOWS, IMAGES = "float[batch,4] features", "float[batch,3,4] features", "float[batch,2,5,5] features"
W = "float[4,2] w = {0.5, -1, 2, 0.25, -0.5, 1, 3, -2}"
V = "float[2,2] v = {1, 0.5, -2, 1}"
B = "float[2] b = {0.5, -0.25}"
K = "float[2,2,1,1] k = {1, -0.5, 0.25, 2}"
POOL = "p = GlobalAveragePool(y) logits = Flatten(p)"

EXAMPLES: dict[str, tuple[str, str, str, list[str]]] = {
    # name of the pass: input, constants, body, operators that are left
    "clean-up": (RECORDS, f"{W}, {B}", "u = Add(b, b) m = MatMul(features, w) logits = Add(m, u)", ["MatMul", "Add"]),
    "eliminate-no-ops": (
        RECORDS,
        f"{W}, float one = {{1}}",
        "i = Identity(features) j = Mul(i, one) logits = MatMul(j, w)",
        ["MatMul"],
    ),
    "drop-zero-terms": (
        RECORDS,
        f"{W}, float[4] z = {{0, 0, 0, 0}}",
        "i = Add(z, features) logits = MatMul(i, w)",
        ["MatMul"],
    ),
    "cancel-repeats": (
        RECORDS,
        W,
        "m = MatMul(features, w) n = Neg(m) o = Neg(n) logits = Relu(o)",
        ["MatMul", "Relu"],
    ),
    "merge-casts": (
        RECORDS,
        W,
        "d = Cast<to = 11>(features) f = Cast<to = 1>(d) logits = MatMul(f, w)",
        ["MatMul"],
    ),
    "merge-transposes": (
        WINDOWS,
        f"{W}, int64[1] a = {{2}}",
        """x = Exp(features) t = Transpose<perm = [1, 0, 2]>(x) u = Transpose<perm = [1, 2, 0]>(t)
           s = ReduceSum<keepdims = 0>(u, a) logits = MatMul(s, w)""",
        ["Exp", "Transpose", "ReduceSum", "MatMul"],
    ),
    "push-transposes": (
        WINDOWS,
        "int64[1] a = {1}, float[4,1] c = {1, 2, 3, 4}, float[4,2] w = {0.5, -1, 2, 0.25, -0.5, 1, 3, -2}",
        """t = Transpose<perm = [0, 2, 1]>(features) r = Relu(t) m = Mul(r, c) u = Transpose<perm = [0, 2, 1]>(m)
           s = ReduceSum<keepdims = 0>(u, a) logits = MatMul(s, w)""",
        ["Relu", "Mul", "ReduceSum", "MatMul"],
    ),
    "merge-reshapes": (
        RECORDS,
        f"{W}, int64[3] q = {{-1, 2, 2}}, int64[2] r = {{-1, 4}}, int64[1] a = {{1}}",
        "x = Exp(features) s = Reshape(x, q) t = Reshape(s, r) logits = MatMul(t, w)",
        ["Exp", "MatMul"],
    ),
    "share-subexpressions": (
        RECORDS,
        W,
        "p = MatMul(features, w) q = MatMul(features, w) logits = Add(p, q)",
        ["MatMul", "Add"],
    ),
    "hoist-selections": (
        WINDOWS,
        f"{W}, {B}, int64 last = {{-1}}",
        "m = MatMul(features, w) n = Add(m, b) r = Relu(n) logits = Gather<axis = 1>(r, last)",
        ["Gather", "MatMul", "Add", "Relu"],
    ),
    "hoist-means": (
        WINDOWS,
        f"{W}, {B}, int64[1] a = {{1}}",
        "m = MatMul(features, w) n = Add(m, b) logits = ReduceMean<keepdims = 0>(n, a)",
        ["ReduceMean", "MatMul", "Add"],
    ),
    "fuse-layer-normalization": (
        RECORDS,
        f"{W}, float e = {{0.01}}, int64[1] a = {{-1}}, float[4] s = {{1, 2, 3, 4}}, float[4] t = {{4, 3, 2, 1}}",
        """m = ReduceMean(features, a) d = Sub(features, m) q = Mul(d, d) v = ReduceMean(q, a) u = Add(v, e) r = Sqrt(u)
           n = Div(d, r) o = Mul(n, s) p = Add(o, t) logits = MatMul(p, w)""",
        ["LayerNormalization", "MatMul"],
    ),
    "fuse-gelu": (
        RECORDS,
        f"{W}, float root = {{1.41421356}}, float one = {{1}}, float half = {{0.5}}",
        """d = Div(features, root) e = Erf(d) f = Add(e, one) m = Mul(features, f) g = Mul(m, half)
           logits = MatMul(g, w)""",
        ["Gelu", "MatMul"],
    ),
    "replace-power": (
        RECORDS,
        f"{W}, float two = {{2}}, float half = {{0.5}}",
        "p = Pow(features, two) q = Pow(p, half) logits = MatMul(q, w)",
        ["Mul", "Sqrt", "MatMul"],
    ),
    "mat-mul-add-to-gemm": (RECORDS, f"{W}, {B}", "m = MatMul(features, w) logits = Add(b, m)", ["Gemm"]),
    "fuse-pad": (
        IMAGES,
        "int64[8] p8 = {0, 0, 1, 2, 0, 0, 3, 0}, float[2,2,1,1] k = {1, -0.5, 0.25, 2}",
        f"x = Pad(features, p8) y = Conv<pads = [1, 0, 0, 1]>(x, k) {POOL}",
        ["Conv", "GlobalAveragePool", "Flatten"],
    ),
    "fuse-batch-normalization": (
        IMAGES,
        f"{K}, float[2] g = {{1, 2}}, float[2] h = {{0.5, 1}}, float[2] m = {{0.1, 0.2}}, float[2] v = {{0.5, 2}}",
        f"x = Conv(features, k) y = BatchNormalization(x, g, h, m, v) {POOL}",
        ["Conv", "GlobalAveragePool", "Flatten"],
    ),
    "fold-affine-into-previous": (
        RECORDS,
        f"{W}, {B}, float s = {{3}}, float[2] t = {{1, 2}}",
        "m = Gemm(features, w, b) n = Mul(m, s) logits = Sub(n, t)",
        ["Gemm"],
    ),
    "fold-affine-into-next": (
        RECORDS,
        f"{W}, {B}, float[4] s = {{3, 2, 1, 0.5}}, float[4] t = {{1, 2, 3, 4}}",
        "m = Sub(features, t) n = Div(m, s) logits = Gemm(n, w, b)",
        ["Gemm"],
    ),
    "fuse-linear": (RECORDS, f"{W}, {V}, {B}", "m = Gemm(features, w, b) logits = MatMul(m, v)", ["Gemm"]),
    "one-hot-to-gather": (
        RECORDS,
        """float[4,3] w43 = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12}, int64[1] first = {0}, int64[3] values = {0, 1, 2},
           float[7,2] w72 = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14}, float[2] b = {0.5, -0.25},
           float ten = {10}""",
        """x = Gather<axis = 1>(features, first) y = Mul(x, ten) c = Cast<to = 7>(y) e = Equal(c, values)
           h = Cast<to = 1>(e) f = Concat<axis = 1>(features, h) logits = Gemm(f, w72, b)""",
        ["Gather", "Mul", "Cast", "Clip", "Add", "Gather", "Squeeze", "Gemm"],
    ),
    "replace-division": (
        RECORDS,
        f"{W}, float[2] d = {{3, 7}}",
        "m = MatMul(features, w) logits = Div(m, d)",
        ["MatMul", "Mul"],
    ),
    "share-initializers": (
        RECORDS,
        f"{W}, float[4,2] again = {{0.5, -1, 2, 0.25, -0.5, 1, 3, -2}}",
        "p = MatMul(features, w) e = Exp(features) q = MatMul(e, again) logits = Add(p, q)",
        ["MatMul", "Exp", "MatMul", "Add"],
    ),
    "remove-dead-code": (RECORDS, W, "dead = Exp(features) logits = MatMul(features, w)", ["MatMul"]),
    "strip-metadata": (RECORDS, W, "logits = MatMul(features, w)", ["MatMul"]),
    "fuse-attention": (
        WINDOWS,
        f"{W}, int64[4] split = {{0, 3, 2, 2}}, int64[3] merge = {{0, 3, 4}}, float s = {{0.5}}, int64[1] a = {{1}}",
        """qr = Reshape(features, split) q = Transpose<perm = [0, 2, 1, 3]>(qr)
           e = Exp(features) kr = Reshape(e, split) k = Transpose<perm = [0, 2, 3, 1]>(kr)
           n = Neg(features) vr = Reshape(n, split) v = Transpose<perm = [0, 2, 1, 3]>(vr)
           p = MatMul(q, k) c = Mul(p, s) d = Softmax(c) f = MatMul(d, v) t = Transpose<perm = [0, 2, 1, 3]>(f)
           r = Reshape(t, merge) m = ReduceSum<keepdims = 0>(r, a) logits = MatMul(m, w)""",
        ["Exp", "Neg", "MultiHeadAttention", "ReduceSum", "MatMul"],
    ),
    "gemm-to-mat-mul": (RECORDS, f"{W}, {B}", "logits = Gemm(features, w, b)", ["MatMul", "Add"]),
    "pointwise-convolution-to-mat-mul": (
        IMAGES,
        K,
        f"y = Conv(features, k) {POOL}",
        ["Transpose", "MatMul", "Transpose", "GlobalAveragePool", "Flatten"],
    ),
}
UNRELATED = (RECORDS, W, "r = Softplus(features) logits = MatMul(r, w)", ["Softplus", "MatMul"])

TRIED = (*PASSES, *(kind for kind in OPTIONAL if kind not in (ChooseFastest, FixBatch)))

every_pass = pytest.mark.parametrize("kind", TRIED, ids=lambda kind: kind.__struct_config__.tag)


def _artifact(proto: onnx.ModelProto) -> OnnxArtifact:
    model = proto.SerializeToString()
    return OnnxArtifact(model, signature_of(parse(model)), hashlib.sha256(model).hexdigest())


def _graph(source: str, constants: str, body: str) -> OnnxArtifact:
    head = f'<ir_version: 10, opset_import: ["" : 20]> g ({source}) => (float[batch,2] logits)'
    proto = onnx.parser.parse_model(f"{head} <{constants}> {{ {body} }}")
    proto.doc_string = "what strip-metadata is there for"
    return _artifact(proto)


def _example(kind) -> OnnxArtifact:
    return _graph(*EXAMPLES[kind().name][:3])


def _constants(artifact: OnnxArtifact) -> dict[str, np.ndarray]:
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in parse(artifact.model).graph.initializer}


def _context(artifact: OnnxArtifact) -> Context:
    shape = artifact.signature.inputs[0].shape[1:]
    records = np.random.default_rng(1).random((64, *shape), dtype=np.float32)
    return Context(calibration=records, bounds=(np.zeros(shape, np.float32), np.ones(shape, np.float32)))


def _apply(kind, artifact: OnnxArtifact) -> OnnxArtifact:
    return kind().apply(artifact, _context(artifact))


@every_pass
def test_it_has_an_example_and_a_name_like_its_class(kind):
    words = "".join(word.capitalize() for word in kind().name.split("-"))
    assert kind().name in EXAMPLES
    assert words == kind.__name__
    assert kind.__module__.rpartition(".")[2] == kind().name.replace("-", "_")


@every_pass
def test_its_contract_holds_on_its_example_and_it_leaves_these_nodes(kind, operators):
    before = _example(kind)
    after = Recipe("r", (kind(),)).apply(before, _context(before), verify)
    assert after.history[0].kept, after.history[0].verdict.reason
    assert after.model != before.model
    assert operators(after) == EXAMPLES[kind().name][3]


@every_pass
def test_a_second_time_it_changes_nothing(kind):
    once = _apply(kind, _example(kind))
    assert _apply(kind, once).model == once.model


@every_pass
def test_it_leaves_its_input_untouched(kind):
    before = _example(kind)
    copy = bytes(before.model)
    _apply(kind, before)
    assert (before.model, before.history) == (copy, ())


@every_pass
def test_an_unrelated_graph_keeps_its_nodes_and_constants(kind, operators):
    before = _graph(*UNRELATED[:3])
    after = _apply(kind, before)
    assert operators(after) == UNRELATED[3]
    assert {name: array.tolist() for name, array in _constants(after).items()} == {
        "w": _constants(before)["w"].tolist()
    }
    if kind().name not in ("clean-up", "strip-metadata"):
        assert after is before


@every_pass
def test_inputs_and_outputs_keep_their_names_and_shapes(kind):
    before = _example(kind)
    after = _apply(kind, before)
    assert signature_of(parse(after.model)) == before.signature == after.signature


@every_pass
def test_values_within_its_pattern_may_be_outputs(kind, run, feeds):
    proto = onnx.shape_inference.infer_shapes(parse(_example(kind).model))
    proto.graph.output.extend(proto.graph.value_info)
    del proto.graph.value_info[:]
    before = _artifact(proto)
    after = _apply(kind, before)
    assert [value.name for value in parse(after.model).graph.output] == [value.name for value in proto.graph.output]
    records = {name: np.abs(value) for name, value in feeds(before, 5).items()}
    for old, new in zip(run(before, records), run(after, records), strict=True):
        np.testing.assert_allclose(new, old, rtol=1e-5, atol=1e-5)


@every_pass
def test_constants_within_its_pattern_may_have_other_users(kind, run, feeds):
    proto = parse(_example(kind).model)
    for tensor in tuple(proto.graph.initializer):
        name = f"kept_{tensor.name}"
        proto.graph.node.append(onnx.helper.make_node("Identity", [tensor.name], [name]))
        proto.graph.output.append(onnx.helper.make_tensor_value_info(name, tensor.data_type, tensor.dims))
    before = _artifact(proto)
    after = _apply(kind, before)
    records = {name: np.abs(value) for name, value in feeds(before, 5).items()}
    for old, new in zip(run(before, records), run(after, records), strict=True):
        np.testing.assert_allclose(new, old, rtol=1e-5, atol=1e-5)


@every_pass
def test_an_empty_batch_still_gives_an_empty_answer(kind, run, feeds):
    before = _example(kind)
    after = _apply(kind, before)
    assert run(after, feeds(before, 0))[0].shape == (0, 2)


@every_pass
def test_a_graph_within_the_graph_is_left_alone(kind, run):
    source, constants, body, _ = EXAMPLES[kind().name]
    proto = onnx.parser.parse_model(
        f"""<ir_version: 10, opset_import: ["" : 20]> g ({source}, bool flag) => (float[batch,2] out)
        <{constants}, float[1,2] zeros = {{0, 0}}> {{ out = If(flag) <
            then_branch = t () => (float[batch,2] logits) {{ {body} }},
            else_branch = e () => (float[batch,2] none) {{ none = Identity(zeros) }}> }}"""
    )
    before = _artifact(proto)
    after = _apply(kind, before)
    shape = [5 if isinstance(size, str) else size for size in before.signature.inputs[0].shape]
    records = {"features": np.random.default_rng(0).random(shape, dtype=np.float32), "flag": np.array(True)}
    np.testing.assert_allclose(run(after, records)[0], run(before, records)[0], rtol=1e-5, atol=1e-5)


@every_pass
def test_a_module_is_refused(kind, detector):
    with pytest.raises(InputError, match=f"{kind().name}: works on an ONNX graph"):
        kind().apply(detector, _context(_graph(*UNRELATED[:3])))


def test_recipes_of_passes_can_be_read_back():
    recipe = Recipe("all", tuple(kind() for kind in TRIED))
    assert Recipe.from_json(recipe.to_json(), TRIED) == recipe


@every_pass
def test_a_graph_of_an_older_opset_is_left_alone_or_still_right(kind, run):
    proto = onnx.parser.parse_model(
        f'<ir_version: 7, opset_import: ["" : 11]> g (float[batch,4] features) => (float[batch,2] logits) <{W}>'
        "{ c = Clip(features) i = Identity(c) logits = MatMul(i, w) }"
    )
    before = _artifact(proto)
    after = _apply(kind, before)
    records = {"features": np.eye(4, dtype=np.float32)}
    np.testing.assert_array_equal(run(after, records)[0], run(before, records)[0])
