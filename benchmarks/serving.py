"""Requests a second and latency of `hauberk serve`, one record a request, on this machine's loopback.

    python benchmarks/serving.py [--bundle FILE.hbk] [--seconds 5] [--workers 2]

Without a bundle it seals a multilayer perceptron 122-256-128-64-1 of random weights, the size of the NSL-KDD detector.
The load generator is one thread with keep-alive connections: it and the server share the machine's cores, so these
figures are lower than what a client on another machine sees. Each figure is the median of several interleaved rounds.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import metadata
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hauberk.measurement import this_machine

CONNECTIONS = (1, 8)
ROUNDS = 3


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", type=Path, help="a bundle that your default keys open")
    parser.add_argument("--seconds", type=float, default=3.0, help="of each round (default: 3)")
    parser.add_argument("--workers", type=int, default=2, help="worker processes (default: 2)")
    options = parser.parse_args()
    machine = this_machine()
    print(f"{machine.processor}, {machine.cores} cores, {machine.system}, Python {machine.python}")
    print(", ".join(f"{name} {metadata.version(name)}" for name in ("granian", "msgspec", "onnxruntime", "numpy")))
    with tempfile.TemporaryDirectory() as folder, _served(options, Path(folder)) as (host, port, model, widths):
        requests = _requests(model, widths, host)
        figures: dict[tuple[str, int], list[tuple[float, float, float]]] = {}
        for _ in range(ROUNDS):
            for kind, request in requests.items():
                for connections in CONNECTIONS:
                    round_ = asyncio.run(_load(host, port, request, connections, options.seconds))
                    figures.setdefault((kind, connections), []).append(round_)
    print(f"{options.workers} workers, {ROUNDS} rounds of {options.seconds:g} s, one record a request\n")
    print(f"{'request':<10}{'connections':>12}{'requests/s':>12}{'p50':>10}{'p99':>10}")
    for (kind, connections), rounds in figures.items():
        rate, p50, p99 = (median(values) for values in zip(*rounds, strict=True))
        print(f"{kind:<10}{connections:>12}{rate:>12,.0f}{p50 * 1e3:>7.2f} ms{p99 * 1e3:>7.2f} ms")


@contextmanager
def _served(options: argparse.Namespace, folder: Path) -> Iterator[tuple[str, int, str, tuple[int, int]]]:
    """A server in a process of its own: host, port, model name, widths of `numeric` and `codes`."""
    arguments = [str(options.bundle)] if options.bundle else _seal(folder)
    command = [sys.executable, "-m", "hauberk", "serve", "--json", "--port", "0", "--workers", str(options.workers)]
    process = subprocess.Popen([*command, *arguments], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        lines = iter(process.stdout.readline, "")
        document = ""
        for line in lines:
            document += line
            if line == "}\n":
                break
        if not document:
            sys.exit("the server did not start")
        listening = json.loads(document)
        host, port = re.fullmatch(r"http://(.+):(\d+)", listening["address"]).groups()  # type: ignore[union-attr]
        model = listening["models"][0]
        yield host, int(port), model, _widths(listening["address"], model)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)


def _widths(address: str, model: str) -> tuple[int, int]:
    from urllib.request import urlopen

    with urlopen(f"{address}/v2/models/{model}") as response:
        shapes = {tensor["name"]: tensor["shape"][1] for tensor in json.load(response)["inputs"]}
    return shapes.get("numeric", 0), shapes.get("codes", 0)


def _requests(model: str, widths: tuple[int, int], host: str) -> dict[str, bytes]:
    """Whole HTTP requests with one record: as JSON, and with the binary tensor extension both ways."""
    generator = np.random.default_rng(0)
    arrays: dict[str, NDArray[Any]] = {
        "numeric": generator.random((1, widths[0]), np.float32),
        "codes": np.zeros((1, widths[1]), np.int64),
    }
    datatypes = {"numeric": "FP32", "codes": "INT64"}
    present = {name: array for name, array in arrays.items() if array.shape[1]}

    def tensor(name: str, array: NDArray[Any], extra: dict[str, object]) -> dict[str, object]:
        return {"name": name, "shape": array.shape, "datatype": datatypes[name]} | extra

    def request(body: bytes, header: str = "") -> bytes:
        head = f"POST /v2/models/{model}/infer HTTP/1.1\r\nHost: {host}\r\n{header}Content-Length: {len(body)}\r\n\r\n"
        return head.encode() + body

    as_json = [tensor(name, array, {"data": array.round(4).ravel().tolist()}) for name, array in present.items()]
    as_binary = [
        tensor(name, array, {"parameters": {"binary_data_size": array.nbytes}}) for name, array in present.items()
    ]
    header = json.dumps({"inputs": as_binary, "parameters": {"binary_data_output": True}}).encode()
    return {
        "JSON": request(json.dumps({"inputs": as_json}).encode()),
        "binary": request(
            header + b"".join(array.tobytes() for array in present.values()),
            f"Inference-Header-Content-Length: {len(header)}\r\n",
        ),
    }


class _Client(asyncio.Protocol):
    """One keep-alive connection that sends the next request when the last one is answered."""

    def __init__(self, request: bytes, end: float) -> None:
        self._request = request
        self._end = end
        self._received = b""
        self.seconds: list[float] = []
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._send()

    def _send(self) -> None:
        self._began = time.perf_counter()
        self._transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, separator, body = self._received.partition(b"\r\n\r\n")
        if not separator:
            return
        length = int(re.search(rb"content-length: (\d+)", head)[1])  # type: ignore[index]
        if len(body) < length:
            return
        now = time.perf_counter()
        if not head.startswith(b"HTTP/1.1 200"):
            self.done.set_exception(RuntimeError(self._received.decode(errors="replace")))
            return
        self.seconds.append(now - self._began)
        self._received = b""
        if now < self._end:
            self._send()
        else:
            self._transport.close()
            self.done.set_result(None)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.done.done():
            self.done.set_exception(exc or RuntimeError("the server closed the connection"))


async def _load(host: str, port: int, request: bytes, connections: int, seconds: float) -> tuple[float, float, float]:
    """Requests a second, median and 99th percentile in seconds."""
    loop = asyncio.get_running_loop()
    began = time.perf_counter()
    end = began + seconds
    clients = [(await loop.create_connection(lambda: _Client(request, end), host, port))[1] for _ in range(connections)]
    await asyncio.wait_for(asyncio.gather(*(client.done for client in clients)), seconds + 30)
    took = time.perf_counter() - began
    every = np.concatenate([client.seconds[len(client.seconds) // 10 :] for client in clients])  # after warm-up
    count = sum(len(client.seconds) for client in clients)
    p50, p99 = np.quantile(every, [0.5, 0.99])
    return count / took, float(p50), float(p99)


def _seal(folder: Path) -> list[str]:
    """Write a bundle with keys of its own; returns the arguments that serve it."""
    from onnx import TensorProto, helper, numpy_helper

    from hauberk.bundle import BundleContents, write_bundle
    from hauberk.schema import NumericFeature, RecordSchema
    from hauberk.tensors import Signature, TensorSpec
    from hauberk.trust import EncryptionKey, SigningKey

    generator = np.random.default_rng(0)
    sizes = (122, 256, 128, 64, 1)
    nodes, constants, last = [], [], "numeric"
    for layer, (inputs, outputs) in enumerate(pairwise(sizes)):
        weights = generator.normal(0, inputs**-0.5, (inputs, outputs)).astype(np.float32)
        constants += [numpy_helper.from_array(weights, f"w{layer}")]
        constants += [numpy_helper.from_array(np.zeros(outputs, np.float32), f"b{layer}")]
        nodes.append(helper.make_node("Gemm", [last, f"w{layer}", f"b{layer}"], [f"h{layer}"]))
        last = f"h{layer}"
        if layer < len(sizes) - 2:
            nodes.append(helper.make_node("Relu", [last], [f"r{layer}"]))
            last = f"r{layer}"
    constants += [numpy_helper.from_array(np.array([1]), "one")]
    constants += [numpy_helper.from_array(np.array(0.5, np.float32), "half")]
    nodes += [
        helper.make_node("Squeeze", [last, "one"], ["margin"]),
        helper.make_node("Sigmoid", ["margin"], ["scores"]),
        helper.make_node("GreaterOrEqual", ["scores", "half"], ["alert"]),
        helper.make_node("Cast", ["alert"], ["labels"], to=TensorProto.INT64),
    ]
    inputs_ = [helper.make_tensor_value_info("numeric", TensorProto.FLOAT, ["batch", sizes[0]])]
    outputs_ = [
        helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["batch"]),
        helper.make_tensor_value_info("labels", TensorProto.INT64, ["batch"]),
    ]
    graph = helper.make_graph(nodes, "detector", inputs_, outputs_, constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    features = tuple(NumericFeature(name=f"feature_{index}", low=0.0, high=1.0) for index in range(sizes[0]))
    scores, labels = TensorSpec("scores", "float32", ("batch",)), TensorSpec("labels", "int64", ("batch",))
    signature = Signature((TensorSpec("numeric", "float32", ("batch", sizes[0])),), (scores, labels))
    serialised = model.SerializeToString()
    statement = {
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [{"name": "model.onnx", "digest": {"sha256": hashlib.sha256(serialised).hexdigest()}}],
        "predicateType": "https://example.org/benchmark",
        "predicate": {},
    }
    encryption, signing = EncryptionKey.generate(), SigningKey.generate()
    write_bundle(
        folder / "benchmark.hbk",
        BundleContents("benchmark", serialised, RecordSchema(features), signature, 0.5, statement),
        encryption=encryption,
        signing=signing,
    )
    key, trust = folder / "benchmark.key", folder / "benchmark.pub"
    key.touch(mode=0o600)
    key.write_bytes(encryption.to_text())
    trust.write_bytes(signing.public_key.pem)
    return [str(folder / "benchmark.hbk"), "--key", os.fspath(key), "--trust", os.fspath(trust)]


if __name__ == "__main__":
    main()
