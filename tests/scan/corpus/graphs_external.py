"""Hostile ONNX files whose weights lie where they should not."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from onnx import ModelProto, TensorProto, TrainingInfoProto

from corpus import NEVER_SAFE, UNKNOWN, UNSAFE, Case
from corpus.onnx_models import (
    BOOL,
    FLOAT,
    STRING,
    attribute,
    calling,
    external,
    function,
    graph,
    model,
    node,
    sparse,
    value,
    with_weight,
    written,
)

SECURITY = "https://github.com/onnx/onnx/blob/main/docs/Security.md"
TRAVERSAL = "CVE-2022-25882"
MEMORY = "https://cwe.mitre.org/data/definitions/789.html"

DATA = bytes(4096)


def beside(tensor: Callable[[], ModelProto] | TensorProto, prepare: Callable[[Path], object]) -> Callable[[Path], Path]:
    """A model in a folder of its own, after something was put beside it."""

    def make(folder: Path) -> Path:
        inner = folder / "model"
        inner.mkdir()
        (folder / "secret").write_bytes(DATA)
        prepare(inner)
        return written(tensor if callable(tensor) else with_weight(tensor))(inner)

    return make


def _nothing(_: Path) -> None:
    pass


def _data(folder: Path) -> None:
    (folder / "w.bin").write_bytes(DATA)


def _linked_folder(folder: Path) -> None:
    (folder / "inner").symlink_to("..")


def outside(
    name: str, location: str, expected: frozenset[str] = UNSAFE, reference: str = SECURITY, **entries: str
) -> Case:
    """A weight in a folder with `w.bin` (4096 bytes), and a file `secret` one folder up."""
    return Case(f"onnx-external-{name}", beside(external(location=location, **entries), _data), expected, reference)


def place(name: str, prepare: Callable[[Path], object], location: str = "w.bin", reference: str = SECURITY) -> Case:
    """A weight where something else than a file was put."""
    return Case(f"onnx-external-{name}", beside(external(location=location), prepare), UNSAFE, reference)


def hidden(name: str, content: Callable[[TensorProto], ModelProto]) -> Case:
    """A tensor outside the folder, in an odd corner of the model."""
    made = beside(lambda: content(external(location="../secret")), _nothing)
    return Case(f"onnx-external-{name}", made, UNSAFE, TRAVERSAL)


def _in_branch(tensor: TensorProto) -> ModelProto:
    branch = graph([node("Identity", ["w"], "z")], outputs=[value("z", None)], weights=[tensor])
    nodes = [node("If", ["c"], then_branch=branch, else_branch=branch)]
    return model(nodes, inputs=[value("c", [], BOOL)])


def _insparse(part: str) -> Callable[[TensorProto], ModelProto]:
    def make(tensor: TensorProto) -> ModelProto:
        made = sparse([3], [4, 4])
        getattr(made.graph.sparse_initializer[0], part).CopyFrom(tensor)
        return made

    return make


def _indices_beyond() -> ModelProto:
    made = sparse([3], [4, 4])
    entries = {"location": "w.bin", "offset": "0", "length": "8"}
    made.graph.sparse_initializer[0].indices.CopyFrom(external("", (1,), TensorProto.INT64, **entries))
    return made


def _beyond(folder: Path) -> None:
    (folder / "w.bin").write_bytes((1 << 40).to_bytes(8, "little"))


def _in_default(tensor: TensorProto) -> ModelProto:
    body = function("F", [node("Identity", ["x"])])
    body.attribute_proto.append(attribute("value", tensor))
    return calling(body)


def _in_training(tensor: TensorProto) -> ModelProto:
    made = model()
    made.training_info.append(TrainingInfoProto(initialization=graph([], weights=[tensor])))
    return made


def _twice(tensor: TensorProto) -> ModelProto:
    tensor.external_data.add(key="location", value="w.bin")
    return with_weight(tensor)


def _shared_range() -> ModelProto:
    weights = [external(f"w{index}", (1 << 20, 16), location="w.bin") for index in range(80)]
    return model([node("Relu", ["x"])], weights=weights)


def _large(folder: Path) -> None:
    with (folder / "w.bin").open("wb") as file:
        file.truncate(1 << 26)


def _overlapping() -> ModelProto:
    parts = [external("v", location="w.bin", offset="0"), external("w", location="w.bin", offset="32")]
    return model([node("Relu", ["x"])], weights=parts)


def _through_link(folder: Path) -> Path:
    made = beside(external(location="w.bin"), _data)(folder)
    link = folder / "link.onnx"
    link.symlink_to(made)
    return link


EXTERNAL = (
    outside("parent", "../secret", reference=TRAVERSAL),
    outside("parent-of-inner", "inner/../../secret", reference="CVE-2024-27318"),
    outside("parent-of-file", "w.bin/../../secret", reference="CVE-2024-5187"),
    outside("absolute", "/etc/passwd", reference="CVE-2025-51480"),
    outside("drive", "C:\\Windows\\win.ini", reference="CVE-2025-51480"),
    outside("drive-relative", "C:w.bin", reference="CVE-2025-51480"),
    outside("backslashes", "..\\secret", reference="CVE-2024-27318"),
    outside("share", "\\\\server\\share\\w.bin", reference="CVE-2025-51480"),
    outside("url", "file:///etc/passwd"),
    outside("end-of-text", "w.bin\0.txt"),
    outside("empty", ""),
    outside("here", "./w.bin"),
    outside("newline", "w.bin\n"),
    outside("device", "/dev/zero", reference=TRAVERSAL),
    outside(
        "address",
        "*/_ORT_MEM_ADDR_/*",
        reference="https://github.com/microsoft/onnxruntime/pull/28709",
        offset="4096",
        length="64",
    ),
    outside("missing", "other.bin", UNKNOWN),
    outside("beyond", "w.bin", offset="4090"),
    outside("far-beyond", "w.bin", offset="9223372036854775807"),
    outside("offset-negative", "w.bin", offset="-64"),
    outside("offset-odd-digits", "w.bin", offset="1_0"),
    outside("offset-other-digits", "w.bin", offset="１２"),
    outside("offset-beyond-64-bits", "w.bin", offset="99999999999999999999"),
    outside("length-short", "w.bin", length="60"),
    outside("length-long", "w.bin", length="4096"),
    outside("key-of-object", "w.bin", reference="CVE-2026-34445", __class__="str"),
    outside("key-unknown", "w.bin", reference="CVE-2026-34445", basepath="/etc"),
    outside("prepacked", "w.bin", NEVER_SAFE, prepacked_0="MatMul|0;64;1"),
    Case(
        "onnx-external-key-twice",
        beside(lambda: _twice(external(location="../secret")), _data),
        UNSAFE,
        "CVE-2026-34445",
    ),
    place("symlink", lambda folder: (folder / "w.bin").symlink_to("../secret"), reference="CVE-2026-27489"),
    place("symlinked-folder", _linked_folder, "inner/secret", "CVE-2026-27489"),
    place("hard-link", lambda folder: os.link(folder / "../secret", folder / "w.bin"), reference="CVE-2026-34446"),
    place("pipe", lambda folder: os.mkfifo(folder / "w.bin")),
    place("folder", lambda folder: (folder / "w.bin").mkdir()),
    place("itself", _nothing, "model.onnx"),
    hidden("in-constant", lambda each: model([node("Constant", [], value=each)], inputs=[])),
    hidden("in-branch", _in_branch),
    hidden("in-sparse-values", _insparse("values")),
    hidden("in-sparse-indices", _insparse("indices")),
    hidden("in-function", lambda each: calling(function("F", [node("Constant", [], value=each)]))),
    hidden("in-default-of-function", _in_default),
    hidden("in-training", _in_training),
    hidden("in-list", lambda each: model([node("Odd", ["x"], values=[each])])),
    Case("onnx-external-shared-range-bomb", beside(_shared_range, _large), UNSAFE, MEMORY),
    Case("onnx-external-overlap", beside(_overlapping, _data), UNKNOWN, SECURITY),
    Case(
        "onnx-external-sparse-indices",
        beside(_indices_beyond, _beyond),
        UNKNOWN,
        "https://cwe.mitre.org/data/definitions/787.html",
    ),
    Case("onnx-external-model-through-link", _through_link, UNSAFE, "CVE-2026-27489"),
    Case(
        "onnx-external-entries-without-mark",
        beside(
            lambda: with_weight(
                TensorProto(
                    name="w",
                    data_type=FLOAT,
                    dims=[4, 4],
                    raw_data=bytes(64),
                    external_data=external(location="../secret").external_data,
                )
            ),
            _nothing,
        ),
        UNSAFE,
        SECURITY,
    ),
    Case("onnx-external-texts", beside(external(element=STRING, location="w.bin"), _data), UNSAFE, SECURITY),
)
