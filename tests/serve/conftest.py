"""Bundles to serve and a real server, `hauberk serve`, in a process of its own."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import psutil
import pytest
from onnx import TensorProto, helper

from hauberk.bundle import BundleContents, write_bundle
from hauberk.schema import CategoricalFeature, IntegerFeature, NumericFeature, RecordSchema
from hauberk.tensors import Signature, TensorSpec
from hauberk.trust import EncryptionKey, Passphrase, SigningKey

WEIGHTS = (0.5, -1.0, 2.0)

SCHEMA = RecordSchema(
    features=(
        NumericFeature(name="rate", low=0.0, high=1.0),
        CategoricalFeature(name="protocol", categories=("tcp", "udp")),
        IntegerFeature(name="packets", low=0, high=100),
        NumericFeature(name="entropy", low=0.0, high=8.0, missing=4.0),
    )
)

TRAP_SCHEMA = RecordSchema(
    features=tuple(NumericFeature(name=name, low=0.0, high=1.0) for name in ("memory", "rounds", "size"))
)


@pytest.fixture(scope="session")
def expected_scores() -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    """What the plain model computes."""
    return _expected_scores


def _expected_scores(numeric: np.ndarray, codes: np.ndarray) -> np.ndarray:
    margin = numeric.astype(np.float64) @ np.array(WEIGHTS) + codes.sum(axis=1)
    return 1 / (1 + np.exp(-margin))


def _serialised(
    nodes: list[onnx.NodeProto], inputs: dict[str, tuple[int, int]], constants: dict[str, np.ndarray]
) -> bytes:
    graph = helper.make_graph(
        nodes,
        "detector",
        [helper.make_tensor_value_info(name, kind, ["batch", width]) for name, (kind, width) in inputs.items()],
        [
            helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["batch"]),
            helper.make_tensor_value_info("labels", TensorProto.INT64, ["batch"]),
        ],
        [onnx.numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    return model.SerializeToString()


def _decide(margin: str) -> list[onnx.NodeProto]:
    return [
        helper.make_node("Sigmoid", [margin], ["scores"]),
        helper.make_node("GreaterOrEqual", ["scores", "half"], ["alert"]),
        helper.make_node("Cast", ["alert"], ["labels"], to=TensorProto.INT64),
    ]


def plain_model() -> bytes:
    """The score is the sigmoid of a weighted sum of the numbers and the sum of the codes."""
    nodes = [
        helper.make_node("MatMul", ["numeric", "weights"], ["weighted"]),
        helper.make_node("Cast", ["codes"], ["categories"], to=TensorProto.FLOAT),
        helper.make_node("ReduceSum", ["categories", "last"], ["category"], keepdims=0),
        helper.make_node("Add", ["weighted", "category"], ["margin"]),
        *_decide("margin"),
    ]
    constants = {
        "weights": np.array(WEIGHTS, np.float32),
        "last": np.array([1]),
        "half": np.array(0.5, np.float32),
    }
    return _serialised(nodes, {"numeric": (TensorProto.FLOAT, 3), "codes": (TensorProto.INT64, 1)}, constants)


def trap_model(always: int = 0) -> bytes:
    """A model that wants what the record says: `memory` million floats, `rounds` of a loop, one product of `size`.

    Args:
        always: Floats that it wants whatever the record says.
    """
    body = helper.make_graph(
        [helper.make_node("Add", ["state", "one"], ["next"]), helper.make_node("Identity", ["go"], ["on"])],
        "body",
        [
            helper.make_tensor_value_info("round", TensorProto.INT64, []),
            helper.make_tensor_value_info("go", TensorProto.BOOL, []),
            helper.make_tensor_value_info("state", TensorProto.FLOAT, []),
        ],
        [
            helper.make_tensor_value_info("on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("next", TensorProto.FLOAT, []),
        ],
        [onnx.numpy_helper.from_array(np.array(1, np.float32), "one")],
    )
    pick = [
        helper.make_node("Cast", ["numeric"], ["whole"], to=TensorProto.INT64),
        helper.make_node("ReduceMax", ["whole"], ["wanted"], axes=[0], keepdims=0),
        helper.make_node("Split", ["wanted", "ones"], ["memory", "rounds", "size"], axis=0),
    ]
    memory = [
        helper.make_node("Mul", ["memory", "million"], ["asked"]),
        helper.make_node("Add", ["asked", "always"], ["floats"]),
        helper.make_node("ConstantOfShape", ["floats"], ["taken"]),
        helper.make_node("ReduceSum", ["taken"], ["by_memory"], keepdims=0),
    ]
    rounds = [
        helper.make_node("Squeeze", ["rounds"], ["trips"]),
        helper.make_node("Mul", ["trips", "million"], ["trip"]),
        helper.make_node("Squeeze", ["trip"], ["count"]),
        helper.make_node("Loop", ["count", "true", "zero"], ["by_rounds"], body=body),
    ]
    size = [
        helper.make_node("Concat", ["size", "size"], ["square"], axis=0),
        helper.make_node("ConstantOfShape", ["square"], ["matrix"]),
        helper.make_node("MatMul", ["matrix", "matrix"], ["product"]),
        helper.make_node("ReduceSum", ["product"], ["by_size"], keepdims=0),
    ]
    total = [
        helper.make_node("Sum", ["by_memory", "by_rounds", "by_size"], ["all"]),
        helper.make_node("ReduceSum", ["numeric", "last"], ["sums"], keepdims=0),
        helper.make_node("Add", ["sums", "all"], ["margin"]),
        *_decide("margin"),
    ]
    constants = {
        "ones": np.array([1, 1, 1]),
        "million": np.array([1_000_000]),
        "always": np.array([always]),
        "true": np.array(True),
        "zero": np.array(0, np.float32),
        "last": np.array([1]),
        "half": np.array(0.5, np.float32),
    }
    nodes = [*pick, *memory, *rounds, *size, *total]
    return _serialised(nodes, {"numeric": (TensorProto.FLOAT, 3)}, constants)


@dataclass(frozen=True)
class Keys:
    """What the bundles of these tests are made with, and the files that `hauberk serve` reads."""

    encryption: EncryptionKey | Passphrase
    signing: SigningKey
    folder: Path

    @property
    def options(self) -> list[str]:
        return ["--key", str(self.folder / "test.key"), "--trust", str(self.folder / "test.pub")]


@pytest.fixture(scope="session")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Keys:
    folder = tmp_path_factory.mktemp("keys")
    key = EncryptionKey.generate()
    keys = Keys(key, SigningKey.generate(), folder)
    (folder / "test.key").write_bytes(key.to_text())
    (folder / "test.key").chmod(0o600)
    (folder / "test.pub").write_bytes(keys.signing.public_key.pem)
    return keys


def _write(path: Path, keys: Keys, name: str, model: bytes, schema: RecordSchema) -> Path:
    inputs = [TensorSpec("numeric", "float32", ("batch", len(schema.numbers)))]
    if schema.categoricals:
        inputs.append(TensorSpec("codes", "int64", ("batch", len(schema.categoricals))))
    outputs = (TensorSpec("scores", "float32", ("batch",)), TensorSpec("labels", "int64", ("batch",)))
    contents = BundleContents(
        name=name,
        model=model,
        schema=schema,
        signature=Signature(tuple(inputs), outputs),
        threshold=0.5,
        public={
            "_type": "https://in-toto.io/Statement/v1",
            "subject": [{"name": "model.onnx", "digest": {"sha256": hashlib.sha256(model).hexdigest()}}],
            "predicateType": "https://example.org/test",
            "predicate": {},
        },
    )
    write_bundle(path, contents, encryption=keys.encryption, signing=keys.signing)
    return path


@pytest.fixture(scope="session")
def plain_bundle(keys: Keys) -> Path:
    return _write(keys.folder / "plain.hbk", keys, "plain", plain_model(), SCHEMA)


@pytest.fixture(scope="session")
def trap_bundle(keys: Keys) -> Path:
    return _write(keys.folder / "trap.hbk", keys, "trap", trap_model(), TRAP_SCHEMA)


@pytest.fixture(scope="session")
def passphrase_bundle(keys: Keys) -> Path:
    """The plain model, sealed with the passphrase "correct horse"."""
    sealed = replace(keys, encryption=Passphrase("correct horse"))
    return _write(keys.folder / "passphrase.hbk", sealed, "plain", plain_model(), SCHEMA)


@pytest.fixture(scope="session")
def greedy_bundle(keys: Keys) -> Path:
    """A model that wants 4 GB for any record."""
    return _write(keys.folder / "greedy.hbk", keys, "greedy", trap_model(always=10**9), TRAP_SCHEMA)


@dataclass
class RunningServer:
    """A `hauberk serve` process that answers at `address`."""

    process: subprocess.Popen[str]
    address: str = ""
    errors: list[str] = field(default_factory=list)

    @property
    def host(self) -> str:
        """Host and port, as tritonclient wants them."""
        return self.address.removeprefix("http://")

    def stop(self, number: int = signal.SIGTERM, limit: float = 30) -> int:
        self.process.send_signal(number)
        return self.process.wait(limit)

    def status(self, path: str) -> int:
        """The status with which a path answers."""
        try:
            with urllib.request.urlopen(f"{self.address}{path}", timeout=60) as response:
                return int(response.status)
        except urllib.error.HTTPError as error:
            return error.code

    def infer(self, model: str, **columns: float | str) -> tuple[int, dict[str, Any]]:
        """Score one record: status and document."""
        item = {"name": "records", "shape": [1], "datatype": "BYTES", "data": [json.dumps(columns)]}
        body = json.dumps({"inputs": [item]}).encode()
        request = urllib.request.Request(f"{self.address}/v2/models/{model}/infer", body, method="POST")
        try:
            with urllib.request.urlopen(request, timeout=60) as response:
                return response.status, json.load(response)
        except urllib.error.HTTPError as error:
            return error.code, json.load(error)

    def trap(self, **wanted: float) -> tuple[int, dict[str, Any]]:
        """Have the trap model take what is wanted."""
        return self.infer("trap", **{"memory": 0, "rounds": 0, "size": 0} | wanted)

    def figure(self, name: str, model: str, **labels: str) -> float:
        """One sample of the metrics."""
        pairs = ",".join(f'{key}="{value}"' for key, value in ({"model": model} | labels).items())
        with urllib.request.urlopen(f"{self.address}/metrics", timeout=60) as response:
            found = re.search(rf"^{re.escape(f'{name}{{{pairs}}}')} (\S+)$", response.read().decode(), re.MULTILINE)
        assert found, name
        return float(found[1])

    def workers(self) -> list[int]:
        """Process numbers of the live workers."""
        found = []
        for child in psutil.Process(self.process.pid).children():
            with contextlib.suppress(psutil.Error):  # it may be gone by now
                if "hauberk.sandbox.child" in child.cmdline():
                    found.append(child.pid)
        return found


@pytest.fixture(scope="session")
def serving() -> Callable[..., contextlib.AbstractContextManager[RunningServer]]:
    """`with serving(arguments) as server:` runs a server for the block."""
    return _serving


@contextlib.contextmanager
def _serving(
    arguments: list[str], environment: dict[str, str] | None = None, program: list[str] | None = None
) -> Iterator[RunningServer]:
    """Start `hauberk serve --port 0`, or another program, and wait until it says that it listens."""
    process = subprocess.Popen(
        [sys.executable, *(program or ["-m", "hauberk", "serve", "--port", "0"]), *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | (environment or {}),
    )
    server = RunningServer(process)
    listening = threading.Event()

    def follow() -> None:
        assert process.stderr is not None
        for line in process.stderr:
            server.errors.append(line.rstrip())
            if found := re.search(r"listening on (http://\S+),", line):
                server.address = found[1]
                listening.set()
        listening.set()

    threading.Thread(target=follow, daemon=True).start()
    try:
        assert listening.wait(60)
        assert server.address, server.errors
        yield server
    finally:
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(30)
            finally:
                process.kill()


@pytest.fixture(scope="module")
def plain(keys: Keys, plain_bundle: Path) -> Iterator[RunningServer]:
    """The plain model on two workers."""
    with _serving([str(plain_bundle), *keys.options, "--max-batch", "1000", "--max-body", "1M"]) as server:
        yield server


@pytest.fixture(scope="session")
def eventually() -> Callable[..., bool]:
    """`eventually(condition)` waits until the condition is true."""
    return _eventually


def _eventually(condition: Callable[[], bool], limit: float = 20) -> bool:
    """Whether a condition becomes true in time."""
    deadline = time.monotonic() + limit
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.02)
    return False
