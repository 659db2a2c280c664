"""Tiny graphs that make a setting visible, and a fresh interpreter to see it in."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

FLOAT, INT64, BOOL = TensorProto.FLOAT, TensorProto.INT64, TensorProto.BOOL
value = helper.make_tensor_value_info


def serialized(nodes, inputs, outputs, weights=None, *, domains=(), functions=()) -> bytes:
    """A model of opset 18 with named weights."""
    initializers = [numpy_helper.from_array(array, name) for name, array in (weights or {}).items()]
    graph = helper.make_graph(nodes, "graph", inputs, outputs, initializers)
    opsets = [helper.make_opsetid("", 18), *(helper.make_opsetid(domain, 1) for domain in domains)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=9, functions=list(functions))
    return model.SerializeToString()


class Graphs:
    """Models by what they show."""

    @staticmethod
    def linear(inputs: int = 4, outputs: int = 3, *, seed: int = 0) -> bytes:
        """features [N, inputs] -> logits [N, outputs]."""
        weight = np.random.default_rng(seed).normal(size=(inputs, outputs)).astype(np.float32)
        return serialized(
            [helper.make_node("MatMul", ["features", "weight"], ["logits"])],
            [value("features", FLOAT, ["batch", inputs])],
            [value("logits", FLOAT, ["batch", outputs])],
            {"weight": weight},
        )

    @staticmethod
    def identities(layers: int, width: int) -> bytes:
        """x [n, width] times the identity, as often as there are layers: work of any size, in many operators."""
        return serialized(
            [helper.make_node("MatMul", [f"t{i}", "w"], [f"t{i + 1}"]) for i in range(layers)],
            [value("t0", FLOAT, ["n", width])],
            [value(f"t{layers}", FLOAT, ["n", width])],
            {"w": np.eye(width, dtype=np.float32)},
        )

    @staticmethod
    def packed_weights(codes: np.ndarray, scale: np.ndarray) -> bytes:
        """x [n, inputs] times int8 codes [inputs, outputs] with one scale an output; activations are float32."""
        return serialized(
            [
                helper.make_node("DequantizeLinear", ["codes", "scale"], ["weight"], axis=1),
                helper.make_node("MatMul", ["x", "weight"], ["y"]),
            ],
            [value("x", FLOAT, ["n", codes.shape[0]])],
            [value("y", FLOAT, ["n", codes.shape[1]])],
            {"codes": codes, "scale": scale},
        )

    @staticmethod
    def two_outputs() -> bytes:
        """numeric [N, 2], codes [N, 1] -> scores [N], labels [N]: the sum of numbers plus the code, and its sign."""
        nodes = [
            helper.make_node("ReduceSum", ["numeric", "axis"], ["sum"], keepdims=0),
            helper.make_node("Cast", ["codes"], ["as_float"], to=FLOAT),
            helper.make_node("ReduceSum", ["as_float", "axis"], ["code"], keepdims=0),
            helper.make_node("Add", ["sum", "code"], ["scores"]),
            helper.make_node("Greater", ["scores", "zero"], ["positive"]),
            helper.make_node("Cast", ["positive"], ["labels"], to=INT64),
        ]
        return serialized(
            nodes,
            [value("numeric", FLOAT, ["batch", 2]), value("codes", INT64, ["batch", 1])],
            [value("scores", FLOAT, ["batch"]), value("labels", INT64, ["batch"])],
            {"axis": np.array([1]), "zero": np.array(0, dtype=np.float32)},
        )

    @staticmethod
    def endless_loop() -> bytes:
        """Adds one for ever."""
        body = helper.make_graph(
            [helper.make_node("Identity", ["c"], ["go_on"]), helper.make_node("Add", ["v", "one"], ["next"])],
            "body",
            [value("i", INT64, []), value("c", BOOL, []), value("v", FLOAT, [1])],
            [value("go_on", BOOL, []), value("next", FLOAT, [1])],
            [numpy_helper.from_array(np.ones(1, np.float32), "one")],
        )
        return serialized(
            [helper.make_node("Loop", ["times", "start", "x"], ["y"], body=body)],
            [value("x", FLOAT, [1])],
            [value("y", FLOAT, [1])],
            {"times": np.array(2**62), "start": np.array(True)},
        )

    @staticmethod
    def counted_loop() -> bytes:
        """Adds one as often as it is told."""
        body = helper.make_graph(
            [helper.make_node("Identity", ["c"], ["go_on"]), helper.make_node("Add", ["v", "one"], ["next"])],
            "body",
            [value("i", INT64, []), value("c", BOOL, []), value("v", FLOAT, [1])],
            [value("go_on", BOOL, []), value("next", FLOAT, [1])],
            [numpy_helper.from_array(np.ones(1, np.float32), "one")],
        )
        return serialized(
            [helper.make_node("Loop", ["times", "start", "zero"], ["y"], body=body)],
            [value("times", INT64, [])],
            [value("y", FLOAT, [1])],
            {"start": np.array(True), "zero": np.zeros(1, np.float32)},
        )

    @staticmethod
    def bomb() -> bytes:
        """As many zeros as it is asked for: 100 bytes of model, any amount of memory."""
        return serialized(
            [helper.make_node("ConstantOfShape", ["shape"], ["y"])],
            [value("shape", INT64, [1])],
            [value("y", FLOAT, ["n"])],
        )

    @staticmethod
    def folding_bomb(megabytes: int) -> bytes:
        """A constant that the optimiser would compute and keep when the model is loaded."""
        return serialized(
            [helper.make_node("ConstantOfShape", ["shape"], ["zeros"]), helper.make_node("Add", ["x", "zeros"], ["y"])],
            [value("x", FLOAT, [1])],
            [value("y", FLOAT, ["n"])],
            {"shape": np.array([megabytes * 250_000])},
        )

    @staticmethod
    def scaled_convolution() -> bytes:
        """(x · 3e38) · 1e-38: infinite as written, 30 for x = 10 once the optimiser has merged the two factors."""
        nodes = [helper.make_node("Conv", ["x", "w"], ["c"]), helper.make_node("Mul", ["c", "s"], ["y"])]
        return serialized(
            nodes,
            [value("x", FLOAT, [1, 1, 1, 1])],
            [value("y", FLOAT, [1, 1, 1, 1])],
            {"w": np.full((1, 1, 1, 1), 3e38, np.float32), "s": np.full((1, 1, 1), 1e-38, np.float32)},
        )

    @staticmethod
    def wrong_shape() -> bytes:
        """Declares an output of 3 columns and computes 2."""
        return serialized(
            [helper.make_node("Identity", ["x"], ["y"])], [value("x", FLOAT, ["n", 2])], [value("y", FLOAT, ["n", 3])]
        )

    @staticmethod
    def with_runtime_settings() -> bytes:
        """Asks ONNX Runtime for five threads."""
        model = onnx.load_from_string(Graphs.linear())
        helper.set_model_props(model, {"ort_config": '{"session_options": {"intra_op_num_threads": 5}}'})
        return model.SerializeToString()

    @staticmethod
    def external_tensor(file: str = "weights.bin", *, name: str = "weight") -> onnx.TensorProto:
        """A tensor whose data lie in another file."""
        tensor = TensorProto(name=name, data_type=FLOAT, dims=[4], data_location=TensorProto.EXTERNAL)
        tensor.external_data.add(key="location", value=file)
        return tensor


@pytest.fixture(scope="session")
def graphs() -> type[Graphs]:
    return Graphs


@pytest.fixture
def run_python(tmp_path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run code in a fresh interpreter, in an empty folder, with `model` being the bytes that are handed in."""
    folder = tmp_path / "empty"
    folder.mkdir()

    def run(code: str, model: bytes = b"", **environment: str) -> subprocess.CompletedProcess[str]:
        path = tmp_path / "model.onnx"
        path.write_bytes(model)
        preamble = (
            "import os, sys, numpy as np\n"
            "from hauberk.backends import Session, SessionOptions\n"
            f"model = open({str(path)!r}, 'rb').read()\n"
        )
        return subprocess.run(
            [sys.executable, "-c", preamble + code],
            cwd=folder,
            env={"PATH": "/usr/bin:/bin", "HOME": str(folder), "TMPDIR": str(folder), **environment},
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )

    run.folder = folder  # type: ignore[attr-defined]
    return run


@pytest.fixture
def resident() -> Callable[[], float]:
    """Memory of this process in MB."""
    return lambda: int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 1e6
