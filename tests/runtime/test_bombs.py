"""Models that are only dangerous when they run: a hundred bytes that want gigabytes, two hundred that never end.

Each runs in a process of its own, whose highest use of memory the kernel tells afterwards.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from hauberk.bundle import BundleContents, write_bundle
from hauberk.errors import RefusedModelError
from hauberk.ingest.admission import admit
from hauberk.ingest.private import PrivateCopy
from hauberk.schema import NumericFeature, RecordSchema
from hauberk.tensors import Signature, TensorSpec
from hauberk.trust import EncryptionKey, SigningKey

from .conftest import statement

MEBIBYTE = 1 << 20
CAP = 64 * MEBIBYTE
"""The limit on what a run computes."""
ALL = 400 * MEBIBYTE
"""What a process may have taken at its highest; an interpreter with the runtime and a model takes about 90."""
FLOATS = 2_000_000_000


def serialised(
    nodes: list[onnx.NodeProto],
    inputs: list[onnx.ValueInfoProto],
    outputs: list[onnx.ValueInfoProto],
    **constants: object,
) -> bytes:
    tensors = [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, "g", inputs, outputs, tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=7)
    onnx.checker.check_model(model, full_check=True)
    return model.SerializeToString()


def forever(state: str, result: str) -> onnx.NodeProto:
    """A loop whose condition stays true and that no count ends."""
    scalar = [helper.make_tensor_value_info(name, TensorProto.BOOL, []) for name in "cvdw"]
    body = helper.make_graph(
        [helper.make_node("Identity", ["c"], ["d"]), helper.make_node("Identity", ["v"], ["w"])],
        "b",
        [helper.make_tensor_value_info("i", TensorProto.INT64, []), *scalar[:2]],
        scalar[2:],
    )
    return helper.make_node("Loop", ["", state, state], [result], body=body)


def memory_bomb() -> bytes:
    nodes = [
        helper.make_node("Constant", [], ["s"], value_ints=[FLOATS]),
        helper.make_node("ConstantOfShape", ["s"], ["y"]),
    ]
    return serialised(nodes, [], [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n"])])


def endless_loop() -> bytes:
    nodes = [
        helper.make_node("Constant", [], ["t"], value=numpy_helper.from_array(np.array(True), "")),
        forever("t", "y"),
    ]
    return serialised(nodes, [], [helper.make_tensor_value_info("y", TensorProto.BOOL, [])])


def detector(nodes: list[onnx.NodeProto], bomb: str, **constants: object) -> bytes:
    """A detector of one number whose score waits for a float32 that is called `bomb`."""
    return serialised(
        [
            *nodes,
            helper.make_node("Squeeze", ["numeric", "last"], ["number"]),
            helper.make_node("Add", ["number", bomb], ["sum"]),
            helper.make_node("Sigmoid", ["sum"], ["scores"]),
            helper.make_node("Cast", ["scores"], ["labels"], to=TensorProto.INT64),
        ],
        [helper.make_tensor_value_info("numeric", TensorProto.FLOAT, ["batch", 1])],
        [
            helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["batch"]),
            helper.make_tensor_value_info("labels", TensorProto.INT64, ["batch"]),
        ],
        last=np.array([1]),
        **constants,
    )


def memory_detector() -> bytes:
    nodes = [
        helper.make_node("ConstantOfShape", ["many"], ["zeros"]),
        helper.make_node("ReduceSum", ["zeros"], ["bomb"], keepdims=0),
    ]
    return detector(nodes, "bomb", many=np.array([FLOATS]))


def endless_detector() -> bytes:
    nodes = [forever("true", "done"), helper.make_node("Cast", ["done"], ["bomb"], to=TensorProto.FLOAT)]
    return detector(nodes, "bomb", true=np.array(True))


@dataclass(frozen=True)
class Outcome:
    """How a process fared that ran a model."""

    error: str
    message: str
    peak: int
    seconds: float


PROGRAM = """
import json, sys, time
import numpy as np
import hauberk
from hauberk.backends import Session, SessionOptions
from hauberk.errors import HauberkError
from hauberk.schema.coding import Coded
from hauberk.trust import EncryptionKey, PublicKey, TrustPolicy

order = json.load(sys.stdin)
options = SessionOptions(arena_limit=order["cap"], time_limit=0.5)
started = time.monotonic()
try:
    if "bundle" in order:
        trust = TrustPolicy((PublicKey.from_pem(order["signer"].encode()),))
        key = EncryptionKey(bytes.fromhex(order["key"]))
        with hauberk.open(order["bundle"], key=key, trust=trust, options=options) as opened:
            opened.predict(Coded(np.zeros((1, 1), np.float32), np.zeros((1, 0), np.int64)))
    else:
        with Session(bytes.fromhex(order["model"]), options) as session:
            session.run({})
    error = None
except HauberkError as caught:
    error = caught
peak = next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM"))
print(json.dumps([type(error).__name__, str(error), peak << 10, time.monotonic() - started]))
"""


def run(**order: object) -> Outcome:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        input=json.dumps({"cap": CAP, **order}),
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    return Outcome(*json.loads(done.stdout))


def sealed(folder: Path, model: bytes) -> dict[str, object]:
    """A bundle of a model, and what is needed to open it."""
    key, signing = EncryptionKey.generate(), SigningKey.generate()
    contents = BundleContents(
        name="bomb",
        model=model,
        schema=RecordSchema((NumericFeature(name="number", low=0.0, high=1.0),)),
        signature=Signature(
            (TensorSpec("numeric", "float32", ("batch", 1)),),
            (TensorSpec("scores", "float32", ("batch",)), TensorSpec("labels", "int64", ("batch",))),
        ),
        threshold=0.5,
        public=statement(model),
    )
    write_bundle(folder / "bomb.hbk", contents, encryption=key, signing=signing)
    return {
        "bundle": str(folder / "bomb.hbk"),
        "key": key.to_text().decode().strip(),
        "signer": signing.public_key.pem.decode(),
    }


def test_the_bombs_are_as_small_as_they_say() -> None:
    assert len(memory_bomb()) <= 101
    assert len(endless_loop()) <= 225


@pytest.mark.parametrize("bundled", [False, True], ids=["as it is", "in a bundle"])
def test_a_memory_bomb_is_stopped_below_the_cap(tmp_path: Path, bundled: bool) -> None:
    order = sealed(tmp_path, memory_detector()) if bundled else {"model": memory_bomb().hex()}
    outcome = run(**order)
    assert outcome.error == "LimitError"
    assert "needs more memory than allowed" in outcome.message
    assert "\n" not in outcome.message
    assert outcome.peak < ALL


@pytest.mark.parametrize("bundled", [False, True], ids=["as it is", "in a bundle"])
def test_an_endless_loop_is_stopped_by_its_time_limit(tmp_path: Path, bundled: bool) -> None:
    order = sealed(tmp_path, endless_detector()) if bundled else {"model": endless_loop().hex()}
    outcome = run(**order)
    assert (outcome.error, outcome.message) == ("LimitError", "the model was stopped: one run took more than 0.5 s")
    assert outcome.peak < ALL
    assert outcome.seconds < 30  # half a second, where the machine is free


@pytest.mark.parametrize("make", [memory_bomb, endless_loop])
def test_neither_is_admitted_as_a_model_in_the_first_place(tmp_path: Path, make: Callable[[], bytes]) -> None:
    (tmp_path / "bomb.onnx").write_bytes(make())
    with (
        PrivateCopy(tmp_path / "bomb.onnx") as copy,
        pytest.raises(RefusedModelError, match=r"refused, unsafe: '(ConstantOfShape|Loop)'"),
    ):
        admit(copy)
