"""`optimise_file`: what becomes of passes, good and bad, on files good and bad."""

from __future__ import annotations

import dataclasses

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import numpy_helper, parser

from hauberk.artifact import Artifact
from hauberk.errors import ContractError, InputError, RefusedModelError
from hauberk.optimisation import choose, optimise_file
from hauberk.recipe import Close, Context, Contract, Step

HEADER = '<ir_version: 10, opset_import: ["" : 20]> g '
LAYERS = (
    "(float[batch,16] x) => (float[batch,4] y) {"
    " a = MatMul(x, w) i = Identity(a) b = Add(i, c) r = Relu(b) again = Relu(b) s = Add(r, again) y = MatMul(s, v) }"
)


def model(text: str = LAYERS) -> onnx.ModelProto:
    proto = parser.parse_model(HEADER + text)
    random = np.random.default_rng(0)
    for name, shape in (("w", (16, 32)), ("c", (32,)), ("v", (32, 4))):
        if any(name in node.input for node in proto.graph.node):
            proto.graph.initializer.append(numpy_helper.from_array(random.normal(size=shape).astype("f"), name))
    return proto


@pytest.fixture
def source(tmp_path):
    path = tmp_path / "in.onnx"
    onnx.save(model(), path)
    return path


class Wrong(Step, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="wrong"):
    """Drops the last bias: puts zeros in its place."""

    @property
    def contract(self) -> Contract:
        return Close()

    def apply(self, artifact: Artifact, context: Context) -> Artifact:
        proto = onnx.load_from_string(artifact.model)
        (bias,) = (tensor for tensor in proto.graph.initializer if tensor.name == "c")
        bias.CopyFrom(numpy_helper.from_array(np.zeros(32, "f"), "c"))
        return dataclasses.replace(artifact, model=proto.SerializeToString())


class Shapeless(Wrong, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="shapeless"):
    """Its result no longer says what shape the output has."""

    def apply(self, artifact: Artifact, context: Context) -> Artifact:
        proto = onnx.load_from_string(artifact.model)
        proto.graph.output[0].type.tensor_type.ClearField("shape")
        return dataclasses.replace(artifact, model=proto.SerializeToString())


class Failing(Wrong, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="failing"):
    def apply(self, artifact: Artifact, context: Context) -> Artifact:
        raise ContractError("failing: the library fails on this graph")


class Crashing(Wrong, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="crashing"):
    def apply(self, artifact: Artifact, context: Context) -> Artifact:
        return artifact.model[len(artifact.model)]


def run(path, target, **options):
    return optimise_file(path, target, seconds=0.02, **options)


def answers(path, x):
    return onnxruntime.InferenceSession(path).run(None, {"x": x})[0]


def test_the_result_is_shorter_and_answers_the_same(source, tmp_path):
    target = tmp_path / "out.onnx"
    found = run(source, target, passes=choose("default"))
    assert found.undone == ()
    assert found.result.nodes < found.source.nodes
    assert (found.result.size, found.source.size) == (target.stat().st_size, source.stat().st_size)
    x = np.random.default_rng(1).normal(size=(33, 16)).astype("f")
    np.testing.assert_allclose(answers(target, x), answers(source, x), rtol=1e-4, atol=1e-5)


def test_a_wrong_pass_is_undone_named_and_the_next_ones_go_on(source, tmp_path):
    target = tmp_path / "out.onnx"
    found = run(source, target, passes=(Wrong(), *choose("share-subexpressions,remove-dead-code")))
    wrong, shared, _ = found.passes
    assert (wrong.outcome, wrong.nodes_before, wrong.nodes_after) == ("undone", 7, 7)
    assert "output 'y' went from" in wrong.reason
    assert (shared.outcome, shared.nodes_after) == ("kept", 6)
    x = np.ones((2, 16), "f")
    np.testing.assert_array_equal(answers(target, x), answers(source, x))


def test_a_pass_that_fails_is_undone_with_its_message(source, tmp_path):
    found = run(source, tmp_path / "out.onnx", passes=(Failing(),))
    assert (found.undone[0].outcome, found.undone[0].reason) == ("undone", "failing: the library fails on this graph")


def test_a_pass_that_loses_the_shape_of_an_output_is_undone_and_the_others_go_on(source, tmp_path):
    found = run(source, tmp_path / "out.onnx", passes=(Shapeless(), *choose("clean-up")))
    assert [each.outcome for each in found.passes] == ["undone", "kept"]
    assert "'y' has no shape" in found.undone[0].reason


def test_a_pass_that_crashes_is_undone_and_the_others_go_on(source, tmp_path):
    found = run(source, tmp_path / "out.onnx", passes=(Crashing(), *choose("clean-up")))
    assert [each.outcome for each in found.passes] == ["undone", "kept"]
    assert found.undone[0].reason == "the pass failed on this graph: IndexError: index out of range"


def test_where_nothing_is_to_do_the_file_is_the_same(source, tmp_path):
    target = tmp_path / "out.onnx"
    found = run(source, target, passes=choose("fuse-batch-normalization"))
    assert found.passes[0].outcome == "nothing to do"
    assert target.read_bytes() == source.read_bytes()


def test_explaining_times_every_version_against_the_original(source, tmp_path):
    found = run(
        source, tmp_path / "out.onnx", passes=choose("clean-up,strip-metadata,mat-mul-add-to-gemm"), explain=True
    )
    changed = [each.name for each in found.passes if each.outcome == "kept"]
    assert list(found.latency.measurements) == ["original", *changed]
    assert found.latency.measurements[changed[-1]]["latency.p50"].ratio.value > 0


def test_samples_are_what_is_verified_on(source, tmp_path):
    data = tmp_path / "data.npz"
    np.savez(data, x=np.random.default_rng(0).random((100, 16), dtype=np.float32))
    found = run(source, tmp_path / "out.onnx", passes=(Wrong(),), data=data)
    assert found.passes[0].verdict.compared > 100


@pytest.mark.parametrize(
    ("arrays", "says"),
    [
        ({"z": np.zeros((3, 16), "f")}, "arrays are z; expected one for each input: 'x' float32"),
        ({"x": np.zeros((3, 15), "f")}, r"'x' has shape \[3, 15\]; the graph takes 'x' float32 \[batch, 16\]"),
        ({"x": np.zeros((3, 16))}, "'x' is float64; the graph takes 'x' float32"),
        ({"x": np.zeros((0, 16), "f")}, "no record in any array"),
    ],
)
def test_samples_that_do_not_fit_are_refused_in_one_line(source, tmp_path, arrays, says):
    data = tmp_path / "data.npz"
    np.savez(data, **arrays)
    with pytest.raises(InputError, match=says) as caught:
        run(source, tmp_path / "out.onnx", passes=(), data=data)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out.onnx").exists()


def test_pickled_samples_are_not_read(source, tmp_path):
    data = tmp_path / "data.npz"
    np.savez(data, x=np.array([{"a": 1}], object))
    with pytest.raises(InputError, match=r"not an \.npz file of plain arrays"):
        run(source, tmp_path / "out.onnx", passes=(), data=data)


def test_a_model_of_an_old_opset_is_refused(tmp_path):
    proto = model()
    proto.opset_import[0].version = 11
    onnx.save(proto, tmp_path / "old.onnx")
    with pytest.raises(InputError, match="opset 11 is older than 13"):
        run(tmp_path / "old.onnx", tmp_path / "out.onnx", passes=())


def test_a_foreign_operator_is_refused_before_anything_runs(tmp_path):
    proto = model()
    proto.graph.node[0].domain = "evil"
    proto.opset_import.add(domain="evil", version=1)
    onnx.save(proto, tmp_path / "evil.onnx")
    with pytest.raises(RefusedModelError, match="'MatMul' of domain 'evil'"):
        run(tmp_path / "evil.onnx", tmp_path / "out.onnx", passes=())


def test_several_inputs_of_several_dtypes_and_free_dimensions(tmp_path):
    text = (
        "(float[n,k] x, int64[m] index, bool[n,m] mask) => (float[n,m] y, int64[n,1] best) {"
        " g = Gather<axis = 1>(x, index) d = Identity(g) z = Sub(d, d) y = Where(mask, d, z)"
        " best = ArgMax<axis = 1>(y) }"
    )
    onnx.save(model(text), tmp_path / "in.onnx")
    found = run(tmp_path / "in.onnx", tmp_path / "out.onnx", passes=choose("clean-up"))
    assert found.passes[0].outcome == "kept", found.passes[0].reason
    assert found.latency is not None


def test_an_unknown_pass_is_named_with_the_known_ones():
    with pytest.raises(InputError, match="'fuse-everything' is no pass; known: default, all, clean-up"):
        choose("clean-up,fuse-everything")


def test_a_batch_is_fixed_and_the_passes_after_it_are_verified_at_that_size(source, tmp_path):
    data = tmp_path / "data.npz"
    np.savez(data, x=np.random.default_rng(0).random((100, 16), dtype=np.float32))
    target = tmp_path / "out.onnx"
    found = run(source, target, passes=choose("clean-up", fix_batch=3), data=data)
    assert [(each.name, each.outcome) for each in found.passes] == [("fix-batch", "kept"), ("clean-up", "kept")]
    assert found.passes[1].verdict.compared >= 3 * 21
    x = np.random.default_rng(1).normal(size=(3, 16)).astype("f")
    np.testing.assert_allclose(answers(target, x), answers(source, x), rtol=1e-4, atol=1e-5)
    with pytest.raises(onnxruntime.capi.onnxruntime_pybind11_state.InvalidArgument):
        answers(target, x[:2])


def test_a_batch_that_is_fixed_wrongly_is_undone(source, tmp_path):
    class FixesWrongly(type(choose("fix-batch")[0]), frozen=True, forbid_unknown_fields=True, tag="fixes-wrongly"):
        def apply(self, artifact, context):
            return Wrong().apply(super().apply(artifact, context), context)

    found = run(source, tmp_path / "out.onnx", passes=(FixesWrongly(),))
    assert "output 'y' went from" in found.undone[0].reason
