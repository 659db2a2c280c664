"""Admission: the scan has the last word, its finding reaches the user in one line, and only what is safe is opened."""

from __future__ import annotations

import io
import json
import pickle
import struct
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import safetensors.torch
import torch
from onnx import TensorProto, helper, numpy_helper

from hauberk.errors import RefusedModelError
from hauberk.ingest.admission import Admission, admit, refusal
from hauberk.ingest.private import PrivateCopy
from hauberk.scan import FileReport, Finding, Severity, Verdict
from hauberk.scan.report import Outcome


def admitted(tmp_path: Path, content: bytes) -> Admission:
    path = tmp_path / "model"
    path.write_bytes(content)
    with PrivateCopy(path) as copy:
        return admit(copy)


def refused(tmp_path: Path, content: bytes) -> str:
    with pytest.raises(RefusedModelError) as raised:
        admitted(tmp_path, content)
    message = str(raised.value)
    assert message.startswith(str(tmp_path / "model"))
    assert "\n" not in message
    assert message.isprintable()
    return message


def finding(what: str, outcome: Outcome, where: str = "") -> Finding:
    return Finding("a-rule", Severity.HIGH, outcome, what, where, "It is dangerous. Do something else.", "")


@pytest.mark.parametrize(
    ("findings", "omitted", "said"),
    [
        (
            (finding("a thing", Outcome.UNSAFE, "byte 3"),),
            0,
            "m: refused, unsafe: a thing (byte 3) [a-rule]: It is dangerous. Do something else",
        ),
        (
            (finding("odd", Outcome.UNKNOWN), finding("bad", Outcome.UNSAFE), finding("worse", Outcome.UNSAFE)),
            0,
            "m: refused, unsafe: bad [a-rule]: It is dangerous. Do something else (and 1 more)",
        ),
        ((finding("bad", Outcome.UNSAFE),), 7, "(and 7 more)"),
        ((), 0, "m: refused: the scan calls it unsafe"),
    ],
)
def test_the_worst_finding_is_told(findings: tuple[Finding, ...], omitted: int, said: str) -> None:
    report = FileReport("m", Verdict.UNSAFE, "onnx", 10, findings, omitted)
    assert said in str(refusal(report, "m"))


@pytest.mark.parametrize("verdict", [Verdict.UNSAFE, Verdict.UNKNOWN])
def test_nothing_but_safe_is_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, verdict: Verdict) -> None:
    (tmp_path / "m").write_bytes(b"x")
    report = FileReport("m", verdict, "safetensors", 1, (finding("it", Outcome(verdict.value)),))
    monkeypatch.setattr("hauberk.ingest.admission.scan", lambda copy: report)
    with PrivateCopy(tmp_path / "m") as copy, pytest.raises(RefusedModelError, match="it"):
        admit(copy)


# What torch saves, and archives that two readers could read differently.


def saved(state: object = None) -> dict[str, bytes]:
    """The members that torch.save writes."""
    buffer = io.BytesIO()
    torch.save(state or {"weight": torch.arange(6.0).reshape(2, 3), "bias": torch.zeros(2)}, buffer)
    with zipfile.ZipFile(buffer) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def zipped(members: list[tuple[str, bytes]]) -> bytes:
    buffer = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(buffer, "w") as archive:
        warnings.simplefilter("ignore")  # zipfile warns of doubled names, which is the point
        for name, content in members:
            archive.writestr(name, content)
    return buffer.getvalue()


@pytest.mark.parametrize(
    "state",
    [
        {"a": torch.ones(3)},
        {"a": torch.ones(3), "shared": torch.ones(4, 4)[1:3, 1:]},
        {"scalar": torch.tensor(1.5), "empty": torch.zeros(0)},
        torch.nn.Sequential(torch.nn.Linear(3, 300), torch.nn.BatchNorm1d(300)).state_dict(),
        {"weight": torch.nn.Parameter(torch.ones(2))},
    ],
)
@pytest.mark.parametrize("new", [True, False], ids=["zip", "stream"])
def test_what_torch_saves_is_admitted(tmp_path: Path, state: object, new: bool) -> None:
    buffer = io.BytesIO()
    torch.save(state, buffer, _use_new_zipfile_serialization=new)
    assert admitted(tmp_path, buffer.getvalue()) == Admission("pytorch", 0)


def test_a_checkpoint_with_its_optimiser_is_admitted(tmp_path: Path) -> None:
    module = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4))
    optimiser = torch.optim.AdamW(module.parameters())
    module(torch.ones(2, 3)).sum().backward()
    optimiser.step()
    checkpoint = {"model": module.state_dict(), "optimiser": optimiser.state_dict(), "epoch": 3, "loss": 0.5}
    buffer = io.BytesIO()
    torch.save(checkpoint, buffer)
    assert admitted(tmp_path, buffer.getvalue()).format == "pytorch"


def test_a_whole_module_is_refused_with_its_class_and_what_to_save_instead(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    torch.save(torch.nn.Linear(2, 2), buffer)
    message = refused(tmp_path, buffer.getvalue())
    assert "torch.nn.modules.linear.Linear" in message
    assert "save model.state_dict()" in message


def renamed(old: str, new: str) -> list[tuple[str, bytes]]:
    return [(name.replace(old, new), content) for name, content in saved().items()]


def with_pickle(content: bytes) -> list[tuple[str, bytes]]:
    return [(name, content if name.endswith("data.pkl") else data) for name, data in saved().items()]


@pytest.mark.parametrize(
    "members",
    [
        lambda: [*saved().items(), (next(name for name in saved() if name.endswith("data.pkl")), b"N.")],
        lambda: [*saved().items(), ("archive/DATA.PKL", b"N.")],
        lambda: [*saved().items(), ("/etc/passwd", b"")],
        lambda: [*saved().items(), ("archive/data/../../x", b"")],
        lambda: [("manifest.json", b"{}"), ("model.enc", b"\0" * 40)],
        lambda: renamed("data.pkl", "other.pkl"),
        lambda: [item for item in saved().items() if not item[0].endswith("data.pkl")],
        lambda: [item for item in saved().items() if not item[0].endswith("data/1")],
        lambda: [(name, content[:4] if name.endswith("data/0") else content) for name, content in saved().items()],
        lambda: with_pickle(b"\x80\x02cos\nsystem\n."),
        lambda: with_pickle(b"\x80\x02cbuiltins\neval\nX\x01\0\0\0" + b"1\x85R."),
        lambda: with_pickle(b"\x80\x02}."),
        list,
    ],
)
def test_an_unusual_archive_is_not_opened(tmp_path: Path, members: Callable[[], list[tuple[str, bytes]]]) -> None:
    refused(tmp_path, zipped(members()))


def test_a_bundle_is_told_from_a_model(tmp_path: Path) -> None:
    message = refused(tmp_path, zipped([("manifest.json", b"{}"), ("model.enc", b"\0" * 40)]))
    assert "a Hauberk bundle, it seems; give the model that it was made of" in message


def test_torchscript_is_refused_because_it_holds_code(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.jit.save(torch.jit.trace(torch.nn.Linear(2, 2), torch.ones(1, 2)), buffer)
    message = refused(tmp_path, buffer.getvalue())
    assert "code" in message
    assert "hauberk convert" in message


def test_a_cut_archive_is_refused(tmp_path: Path) -> None:
    content = zipped(list(saved().items()))
    for length in (10, len(content) // 2, len(content) - 1):
        refused(tmp_path, content[:length])


def test_an_archive_behind_another_is_refused(tmp_path: Path) -> None:
    """Readers that begin at the front and readers that begin at the end would see different models."""
    refused(tmp_path, zipped(with_pickle(b"\x80\x02N.")) + zipped(list(saved().items())))


def test_a_local_name_that_differs_from_the_directory_is_refused(tmp_path: Path) -> None:
    refused(tmp_path, zipped(list(saved().items())).replace(b"data/0", b"data/9", 1))


def directory(entries: int) -> bytes:
    """An archive that is little but a directory, of empty members of the shortest name."""
    entry = struct.pack("<4s6H3I5H2I", b"PK\x01\x02", 20, 20, 0, 0, 0, 33, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0) + b"a"
    end = struct.pack("<4s4H2IH", b"PK\x05\x06", 0, 0, 0, 0, len(entry) * entries, 4, 0)
    return b"PK\x03\x04" + entry * entries + end


def test_a_directory_that_would_exhaust_memory_is_refused(tmp_path: Path) -> None:
    refused(tmp_path, directory((16 << 20) // 47 + 1))


# Safetensors.


def entry(start: int, stop: int, shape: tuple[int, ...] = (2,), dtype: str = "F32") -> dict[str, object]:
    return {"dtype": dtype, "shape": list(shape), "data_offsets": [start, stop]}


def file(header: object, data: bytes) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.int8, torch.bool])
def test_what_the_safetensors_library_writes_is_admitted(tmp_path: Path, dtype: torch.dtype) -> None:
    state = {"a": torch.ones(3, 5).to(dtype), "b.c": torch.ones(2).to(dtype), "scalar": torch.tensor(1.0)}
    content = safetensors.torch.save(state, metadata={"made": "here"})
    assert admitted(tmp_path, content) == Admission("safetensors", 0)


@pytest.mark.parametrize(
    "content",
    [
        b"short",
        (1 << 40).to_bytes(8, "little") + b'{"',
        file(b'{"', b""),
        file(b'{"a": 3}', b""),
        file(b'{"a":' * 50_000, b""),
        file({"a": {**entry(0, 8), "code": "x"}}, bytes(8)),
        file({"a": entry(0, 8, dtype="F99")}, bytes(8)),
        file({"a": entry(0, 12)}, bytes(12)),
        file({"a": entry(0, 8), "b": entry(4, 12)}, bytes(12)),
        file({"a": entry(0, 8), "b": entry(12, 20)}, bytes(20)),
        file({"a": entry(0, 8, (-1, -2))}, bytes(8)),
        file({"a": entry(0, 4, (1,) * 65)}, bytes(4)),
        file({"a": entry(0, 8)}, bytes(9)),
        file({"a": entry(0, 8)}, bytes(4)),
    ],
)
def test_a_safetensors_header_that_lies_is_refused(tmp_path: Path, content: bytes) -> None:
    refused(tmp_path, content)


# ONNX.


def linear(nodes: list[onnx.NodeProto] | None = None, **changes: object) -> onnx.ModelProto:
    """features [batch, 3] to logits [batch, 2]."""
    weight = numpy_helper.from_array(np.ones((3, 2), np.float32), "weight")
    graph = helper.make_graph(
        nodes or [helper.make_node("MatMul", ["features", "weight"], ["logits"])],
        "linear",
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, ["batch", 3])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 2])],
        [weight],
    )
    opsets = [helper.make_opsetid("", 20), *changes.get("opsets", [])]  # type: ignore[attr-defined]
    return helper.make_model(graph, opset_imports=opsets, ir_version=10, functions=changes.get("functions"))


def external(tensor: onnx.TensorProto) -> onnx.TensorProto:
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="secret.bin")
    tensor.ClearField("raw_data")
    return tensor


def hidden() -> onnx.TensorProto:
    return external(numpy_helper.from_array(np.ones((3, 2), np.float32), "hidden"))


def in_an_initializer() -> onnx.ModelProto:
    model = linear()
    external(model.graph.initializer[0])
    return model


def in_an_attribute() -> onnx.ModelProto:
    nodes = [
        helper.make_node("Constant", [], ["hidden"], value=hidden()),
        helper.make_node("MatMul", ["features", "hidden"], ["logits"]),
    ]
    return linear(nodes)


def in_a_subgraph() -> onnx.ModelProto:
    constant = helper.make_node("Constant", [], ["hidden"], value=hidden())
    branch = helper.make_graph([constant], "branch", [], [helper.make_tensor_value_info("hidden", 1, [3, 2])])
    nodes = [
        helper.make_node("If", ["always"], ["w"], then_branch=branch, else_branch=branch),
        helper.make_node("MatMul", ["features", "w"], ["logits"]),
    ]
    return linear(nodes)


def in_a_function() -> onnx.ModelProto:
    body = [
        helper.make_node("Constant", [], ["hidden"], value=hidden()),
        helper.make_node("MatMul", ["x", "hidden"], ["y"]),
    ]
    function = helper.make_function("own", "Twist", ["x"], ["y"], body, [helper.make_opsetid("", 20)])
    nodes = [helper.make_node("Twist", ["features"], ["logits"], domain="own")]
    return linear(nodes, functions=[function], opsets=[helper.make_opsetid("own", 1)])


def in_graphs_for_training() -> onnx.ModelProto:
    model = linear()
    model.training_info.add().initialization.initializer.append(hidden())
    return model


def a_foreign_operator() -> onnx.ModelProto:
    nodes = [helper.make_node("Backdoor", ["features"], ["logits"], domain="com.evil")]
    return linear(nodes, opsets=[helper.make_opsetid("com.evil", 1)])


def test_a_plain_onnx_model_is_admitted(tmp_path: Path) -> None:
    assert admitted(tmp_path, linear().SerializeToString()) == Admission("onnx", 0)


def test_a_function_of_the_model_itself_is_admitted(tmp_path: Path) -> None:
    body = [helper.make_node("MatMul", ["x", "w"], ["y"])]
    function = helper.make_function("own", "Twist", ["x", "w"], ["y"], body, [helper.make_opsetid("", 20)])
    nodes = [helper.make_node("Twist", ["features", "weight"], ["logits"], domain="own")]
    model = linear(nodes, functions=[function], opsets=[helper.make_opsetid("own", 1)])
    assert admitted(tmp_path, model.SerializeToString()).format == "onnx"


@pytest.mark.parametrize(
    "make",
    [in_an_initializer, in_an_attribute, in_a_subgraph, in_a_function, in_graphs_for_training, a_foreign_operator],
)
def test_an_onnx_model_that_reaches_out_is_refused(tmp_path: Path, make: Callable[[], onnx.ModelProto]) -> None:
    """The file that it names does not exist, so nothing but what the model says can be the reason."""
    refused(tmp_path, make().SerializeToString())


def test_weights_beside_the_model_are_counted(tmp_path: Path) -> None:
    onnx.save(linear(), tmp_path / "a.onnx", save_as_external_data=True, location="a.data", size_threshold=0)
    with PrivateCopy(tmp_path / "a.onnx") as copy:
        assert admit(copy) == Admission("onnx", 1)


def test_a_shape_that_lies_beside_the_model_is_read_and_nothing_else_could_be(tmp_path: Path) -> None:
    """Four thousand million numbers, as a file beside the model says: that file must have been read to know."""
    shape = numpy_helper.from_array(np.array([4_000_000_000]), "many")
    nodes = [
        helper.make_node("ConstantOfShape", ["many"], ["zeros"]),
        helper.make_node("ReduceSum", ["zeros"], ["sum"], keepdims=0),
        helper.make_node("MatMul", ["features", "weight"], ["product"]),
        helper.make_node("Add", ["product", "sum"], ["logits"]),
    ]
    model = linear(nodes)
    model.graph.initializer.append(shape)
    onnx.save(model, tmp_path / "a.onnx", save_as_external_data=True, location="a.data", size_threshold=0)
    with PrivateCopy(tmp_path / "a.onnx") as copy, pytest.raises(RefusedModelError, match="'ConstantOfShape': 1600000"):
        admit(copy)


def test_a_model_with_a_file_for_each_of_many_tensors_is_admitted(tmp_path: Path) -> None:
    """Each of these files is handed over open; where there are too many, the small ones, which may hold shapes."""
    shape = numpy_helper.from_array(np.array([3, 2]), "zz shape")
    nodes = [
        helper.make_node("Reshape", ["weight", "zz shape"], ["shaped"]),
        helper.make_node("MatMul", ["features", "shaped"], ["logits"]),
    ]
    model = linear(nodes)
    model.graph.initializer.append(shape)
    model.graph.initializer.extend(numpy_helper.from_array(np.ones(9), f"unused {number}") for number in range(220))
    onnx.save(model, tmp_path / "a.onnx", save_as_external_data=True, all_tensors_to_one_file=False, size_threshold=0)
    with PrivateCopy(tmp_path / "a.onnx") as copy:
        assert admit(copy) == Admission("onnx", 222)


@pytest.mark.parametrize("protocol", range(6))
def test_a_pickle_is_refused_by_what_it_asks_for(tmp_path: Path, protocol: int) -> None:
    flag = tmp_path / "ran"
    content = pickle.dumps(Touches(str(flag)), protocol)
    assert "asks for posix.system" in refused(tmp_path, content)
    assert not flag.exists()
    pickle.loads(content)
    assert flag.exists(), "the payload is a dud, so refusing it proves nothing"


class Touches:
    def __init__(self, flag: str) -> None:
        self.flag = flag

    def __reduce__(self) -> tuple[object, tuple[str]]:
        import os

        return os.system, (f"touch {self.flag}",)
