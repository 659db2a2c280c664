"""Models whose weights lie beside the graph: the same passes, nothing loaded, both files written whole."""

from __future__ import annotations

import dataclasses
import hashlib
import os
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import numpy_helper, parser
from onnx.external_data_helper import convert_model_to_external_data

from hauberk.errors import InputError, RefusedModelError
from hauberk.graph import feeds
from hauberk.graph import streamed as streamed_graph
from hauberk.graph.harness import examine
from hauberk.graph.model import signature_of
from hauberk.graph.passes.rewriting import Replacement, RewritePass
from hauberk.graph.samples import Samples
from hauberk.optimisation import choose, optimise_file, run, streamed
from hauberk.optimisation.passes import run_passes
from hauberk.progress import SILENT
from hauberk.recipe import Close, Contract, Exact

TEXT = (
    '<ir_version: 10, opset_import: ["" : 20]> g (float[batch,32] x) => (float[batch,4] y) {'
    " a = MatMul(x, w) b = Add(a, c) i = Identity(b) r = Relu(i) again = Relu(i) s = Add(r, again)"
    " t = Transpose<perm = [1, 0]>(v) y = MatMul(s, v) }"
)
ALONE = (
    '<ir_version: 10, opset_import: ["" : 20]> g (float[batch,32] x) => (float[batch,64] y) {'
    " a = MatMul(x, w) i = Identity(a) y = Relu(i) }"
)
SHAPES = {"w": (32, 64), "c": (64,), "v": (64, 4)}


def write(path: Path, text: str = TEXT, shapes: dict[str, tuple[int, ...]] = SHAPES) -> Path:
    """A model with every weight of 16 bytes or more in `weights.bin` beside it."""
    proto = parser.parse_model(text)
    random = np.random.default_rng(0)
    for name, shape in shapes.items():
        proto.graph.initializer.append(numpy_helper.from_array(random.normal(size=shape).astype("f"), name))
    convert_model_to_external_data(proto, location="weights.bin", size_threshold=16)
    onnx.save(proto, path)
    return path


@pytest.fixture
def source(tmp_path):
    (tmp_path / "in").mkdir()
    return write(tmp_path / "in" / "model.onnx")


@pytest.fixture
def target(tmp_path):
    (tmp_path / "out").mkdir()
    return tmp_path / "out" / "model.onnx"


def answers(path, x):
    return onnxruntime.InferenceSession(path).run(None, {"x": x})[0]


def test_graph_and_weights_are_written_and_answer_the_same(source, target):
    found = optimise_file(source, target, passes=choose("default"))
    assert found.undone == ()
    assert {each.name for each in found.passes if each.outcome == "kept"} >= {"clean-up", "mat-mul-add-to-gemm"}
    assert found.result.nodes < found.source.nodes
    x = np.random.default_rng(1).normal(size=(5, 32)).astype("f")
    np.testing.assert_allclose(answers(target, x), answers(source, x), rtol=1e-4, atol=1e-5)
    onnx.checker.check_model(target, full_check=True)


def test_a_recurrent_model_is_not_tried_on_empty_inputs(source, target):
    """ONNX Runtime ends the process on them; this test would not come back."""
    head, _, body = TEXT.replace("batch,32", "t,batch,32").partition("a = ")
    body = "i = Identity(x) h = LSTM<hidden_size = 16>(i, w, r) y = MatMul(h, v) }"
    write(
        source,
        head.replace("float[batch,4] y", "float[t,one,batch,4] y") + body,
        {"w": (1, 64, 32), "r": (1, 64, 16), "v": (16, 4)},
    )
    (found,) = optimise_file(source, target, passes=choose("eliminate-no-ops")).passes
    assert found.outcome == "kept"
    assert found.verdict.skipped > 0


class Clipping(RewritePass, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="clipping"):
    """Takes an Identity for a Clip to the finite numbers."""

    @property
    def contract(self) -> Contract:
        return Exact()

    def rewrite(self, node, editor):
        if node.op_type != "Identity":
            return None
        made = editor.node("Clip", [node.inputs[0]], "clipped", like=node.outputs[0])
        return Replacement((made.outputs[0],), (made,))


@pytest.mark.parametrize("small", [0, 1 << 26], ids=["large", "small"])
def test_exact_passes_meet_infinities_in_large_models_too(source, target, monkeypatch, small):
    monkeypatch.setattr(streamed, "_SMALL", small)
    head = TEXT.partition("a = ")[0].replace("float[batch,4] y", "float[batch,32] y")
    write(source, head + "i = Identity(x) y = Add(i, c) }", {"c": (32,)})
    (found,) = optimise_file(source, target, passes=(Clipping(),)).passes
    assert found.outcome == "undone"
    assert "on extreme-" in found.reason


def test_of_a_large_model_some_of_every_family_are_tried():
    text = (
        '<ir_version: 10, opset_import: ["" : 20]> g (int64[n] i, int64[n] j, float[n] x)'
        " => (int64[n] s, float[n] y) { s = Add(i, j) y = Relu(x) }"
    )
    model = parser.parse_model(text)
    arrays = {"i": np.arange(3), "j": np.arange(3), "x": np.ones(3, "f")}
    samples = Samples.of(arrays, signature_of(model))
    names = [
        trial.family for trial in streamed._trials(model.SerializeToString(), samples, streamed._SMALL + 1, seed=0)
    ]
    families = {name.partition("-")[0] for name in names}
    assert {"real", "single", "random", "uniform", "boundary", "lattice", "sizes", "extreme"} <= families
    assert "real-0" in names
    assert len(names) <= streamed._TRIALS


def test_a_version_whose_outputs_say_too_little_is_refused(source):
    model = onnx.load(source, load_external_data=False)
    before = model.SerializeToString()
    model.graph.output[0].type.tensor_type.ClearField("shape")
    after = model.SerializeToString()
    (found,), versions = run_passes(
        before, (Clipping(),), lambda *_: after, lambda *given: streamed._judge(*given, []), SILENT
    )
    assert found.outcome == "undone"
    assert "cannot be verified: ONNX model: 'y' has no shape" in found.reason
    assert [version for _, version in versions] == [before]


def test_where_the_graph_cannot_be_written_no_weights_stay_behind(source, target):
    class Disturbing(Clipping, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="disturbing"):
        """Somebody makes a folder of the result's name meanwhile."""

        def rewrite(self, node, editor):
            target.mkdir(exist_ok=True)

    with pytest.raises(InputError, match=r"model\.onnx"):
        optimise_file(source, target, passes=(Disturbing(),))
    assert [file.name for file in target.parent.iterdir()] == ["model.onnx"]


def test_both_files_are_hashed(source, target):
    found = optimise_file(source, target, passes=choose("clean-up"))
    for model in (found.source, found.result):
        (weights,) = model.weights
        assert hashlib.sha256(Path(model.path).read_bytes()).hexdigest() == model.sha256
        assert hashlib.sha256(Path(weights.path).read_bytes()).hexdigest() == weights.sha256
        assert Path(weights.path).stat().st_size == weights.size
    written = {Path(file.path).name for file in found.result.weights} | {"model.onnx"}
    assert written == {file.name for file in target.parent.iterdir()}


def test_weights_that_a_pass_makes_lie_outside_too(source, target):
    scaled = TEXT.replace("y = MatMul(s, v)", "y = MatMul(d, v)").replace("t = ", "d = Mul(s, half) t = ")
    write(source, scaled.replace("(float[batch,4] y) {", "(float[batch,4] y) <float half = {0.3}> {"))
    found = optimise_file(source, target, passes=choose("clean-up,fold-affine-into-next"))
    assert found.passes[1].outcome == "kept"
    inside = [tensor for tensor in onnx.load(target, load_external_data=False).graph.initializer if tensor.raw_data]
    assert all(len(tensor.raw_data) < 1024 for tensor in inside)
    x = np.ones((2, 32), "f")
    np.testing.assert_allclose(answers(target, x), answers(source, x), rtol=1e-4, atol=1e-5)


def test_what_was_there_stays_whole_when_a_pass_cannot_work(source, target):
    target.write_bytes(b"before")
    with pytest.raises(InputError, match="onnxslim cannot take a model whose weights lie in another file"):
        optimise_file(source, target, passes=choose("clean-up,onnxslim"))
    assert target.read_bytes() == b"before"
    assert list(target.parent.iterdir()) == [target]


def entry(proto: onnx.ModelProto, key: str, value: str) -> None:
    for each in proto.graph.initializer[0].external_data:
        if each.key == key:
            each.value = value


def link(source: Path) -> None:
    (source.parent / "weights.bin").rename(source.parent / "other.bin")
    (source.parent / "weights.bin").symlink_to("other.bin")


def hard_link(source: Path) -> None:
    os.link(source.parent / "weights.bin", source.parent / "other.bin")


def edited(key: str, value: str):
    def edit(source: Path) -> None:
        proto = onnx.load(source, load_external_data=False)
        entry(proto, key, value)
        source.write_bytes(proto.SerializeToString())

    return edit


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (link, "onnx-external-link"),
        (hard_link, "'weights.bin' has 2 names"),
        (edited("location", "../weights.bin"), "lies at '../weights.bin'"),
        (edited("location", "/etc/passwd"), "lies at '/etc/passwd'"),
        (edited("location", "none.bin"), "none.bin"),
        (edited("offset", "99999999"), "99999999"),
        (edited("offset", "-4"), "has the offset '-4'"),
        (edited("length", "4"), "takes 8192 bytes, and the model names 4"),
        (edited("length", "many"), "has the length 'many'"),
        (lambda source: (source.parent / "weights.bin").write_bytes(b"short"), "onnx-external-range"),
    ],
)
def test_weights_that_lie_where_none_may_are_refused_in_one_line(source, target, spoil, says):
    spoil(source)
    with pytest.raises(RefusedModelError) as caught:
        optimise_file(source, target, passes=choose("clean-up"))
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not target.exists()


def test_a_foreign_operator_is_refused_here_too(source, target):
    proto = onnx.load(source, load_external_data=False)
    proto.graph.node[0].domain = "evil"
    proto.opset_import.add(domain="evil", version=1)
    source.write_bytes(proto.SerializeToString())
    with pytest.raises(RefusedModelError, match="domain 'evil'"):
        optimise_file(source, target, passes=choose("clean-up"))


@pytest.mark.parametrize("contract", [Exact(), Close()])
def test_each_version_is_loaded_once(source, contract):
    """Its weights are gigabytes, and there is one way of running it: a second comparison would be the first again."""
    proto = onnx.load(source, load_external_data=False)
    for tensor in proto.graph.initializer:
        for entry in tensor.external_data:
            if entry.key == "location":
                entry.value = str(source.parent / entry.value)
    subject = streamed_graph.subject(proto.SerializeToString())
    opened = []

    def counted(level):
        opened.append(level)
        return subject.open(level)

    counting = dataclasses.replace(subject, open=counted)
    trials = feeds.trials(signature_of(proto), lambda _: True, Samples(), extremes=True, seed=0)
    assert examine(counting, counting, contract, trials).reason == ""
    assert opened == ["as written", "as written"]


def test_a_link_put_in_the_place_of_weights_after_the_scan_is_not_followed(source, target, tmp_path, monkeypatch):
    """What somebody swaps between scan and reading, or while passes run, never reaches what is written."""
    secret = tmp_path / "secret.bin"
    weights = source.parent / "weights.bin"
    secret.write_bytes(weights.read_bytes())
    read = run._read

    def swapped(path):
        found = read(path)
        weights.unlink()
        weights.symlink_to(secret)
        return found

    with monkeypatch.context() as patch:
        patch.setattr(run, "_read", swapped)
        with pytest.raises(RefusedModelError, match=r"'weights\.bin' is not the file any more that was scanned"):
            optimise_file(source, target, passes=choose("default"))
    assert not target.exists()

    weights.unlink()
    weights.write_bytes(secret.read_bytes())
    judge = streamed._judge

    def swapping(*arguments):
        if not weights.is_symlink():
            weights.unlink()
            weights.symlink_to(secret)
        return judge(*arguments)

    monkeypatch.setattr(streamed, "_judge", swapping)
    with pytest.raises(RefusedModelError, match="changed by somebody else meanwhile"):
        optimise_file(source, target, passes=choose("default"))
    assert list(target.parent.iterdir()) == []


def test_offset_and_length_may_be_left_out(tmp_path, target):
    folder = tmp_path / "in"
    folder.mkdir()
    source = write(folder / "model.onnx", shapes={"w": (32, 64)}, text=ALONE)
    proto = onnx.load(source, load_external_data=False)
    (tensor,) = proto.graph.initializer
    kept = [entry for entry in tensor.external_data if entry.key == "location"]
    del tensor.external_data[:]
    tensor.external_data.extend(kept)
    source.write_bytes(proto.SerializeToString())
    x = np.random.default_rng(1).normal(size=(5, 32)).astype("f")
    expected = answers(source, x)
    optimise_file(source, target, passes=choose("default"))
    np.testing.assert_allclose(answers(target, x), expected, rtol=1e-5, atol=1e-6)


COUNTED = (
    '<ir_version: 10, opset_import: ["" : 20]> g (float[batch,4] x) => (float[batch,4] y) {'
    " m = Sub(n, o) r = Range(o, m, i) t = ReduceSum<keepdims = 0>(r) f = Cast<to = 1>(t) a = MatMul(x, w)"
    " y = Add(a, f) }"
)


def counted(path: Path, *, count: int) -> Path:
    """A model that counts, and has all it knows beside it: 0, 1 and how far, in the order of its inputs."""
    proto = parser.parse_model(COUNTED)
    for name, value in (("n", count), ("o", 0), ("i", 1)):
        proto.graph.initializer.append(numpy_helper.from_array(np.array(value), name))
    proto.graph.initializer.append(numpy_helper.from_array(np.eye(4, dtype="f"), "w"))
    convert_model_to_external_data(proto, location="weights.bin", size_threshold=0)
    onnx.save(proto, path)
    return path


def test_shapes_that_lie_beside_the_graph_are_taken_in(source, target):
    source.with_name("weights.bin").unlink()
    counted(source, count=5)
    found = optimise_file(source, target, passes=choose("clean-up"))
    assert [each.outcome for each in found.passes] == ["kept"]
    x = np.ones((2, 4), "f")
    assert answers(target, x).tolist() == (x + 10).tolist()
    beside = {
        tensor.name
        for tensor in onnx.load(target, load_external_data=False).graph.initializer
        if tensor.data_location == onnx.TensorProto.EXTERNAL
    }
    assert beside <= {"w"}


def test_shapes_that_are_rewritten_after_the_scan_are_scanned_again(source, target, monkeypatch):
    weights = source.with_name("weights.bin")
    weights.unlink()
    counted(source, count=5)
    read = run._read

    def rewritten(path):
        found = read(path)
        with weights.open("r+b") as file:
            file.write((6 * 10**9).to_bytes(8, "little"))
        return found

    monkeypatch.setattr(run, "_read", rewritten)
    with pytest.raises(RefusedModelError, match=r"48000000\d+ bytes in use .*onnx-memory-bomb"):
        optimise_file(source, target, passes=choose("default"))


def test_where_nothing_but_shapes_lies_beside_the_graph_it_becomes_one_file(source, target):
    proto = parser.parse_model(
        '<ir_version: 10, opset_import: ["" : 20]> g (float[batch,4] x) => (float[n,m] y) { y = Reshape(x, s) }'
    )
    proto.graph.initializer.append(numpy_helper.from_array(np.array([2, -1]), "s"))
    source.with_name("weights.bin").unlink()
    convert_model_to_external_data(proto, location="weights.bin", size_threshold=0)
    onnx.save(proto, source)
    found = optimise_file(source, target, passes=choose("clean-up"), seconds=0.01)
    assert found.result.weights == ()
    assert answers(target, np.zeros((4, 4), "f")).shape == (2, 8)


def test_weights_that_are_rewritten_and_set_back_in_time_are_noticed(source, target, monkeypatch):
    weights = source.with_name("weights.bin")
    judge = streamed._judge

    def rewriting(*arguments):
        status = weights.stat()
        with weights.open("r+b") as file:
            file.write(bytes(64))
        os.utime(weights, ns=(status.st_atime_ns, status.st_mtime_ns))
        return judge(*arguments)

    monkeypatch.setattr(streamed, "_judge", rewriting)
    with pytest.raises(RefusedModelError, match="changed by somebody else meanwhile"):
        optimise_file(source, target, passes=choose("default"))
