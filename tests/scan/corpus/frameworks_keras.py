"""Models of Keras that do what they should not."""

from __future__ import annotations

import base64
import json
import marshal
from collections.abc import Callable
from pathlib import Path
from typing import Any

from corpus import UNKNOWN, UNSAFE, Case
from corpus.frameworks_hdf5 import BOMB, GHSA, NVD, external_link, hdf5, weights
from corpus.messages import written, zipped

CODE = base64.b64encode(marshal.dumps(compile("open('flag', 'w')", "x", "eval"))).decode()
"""Compiled Python that would open a flag file; nobody runs it."""


def layer(name: str, module: str | None = "keras.layers", **config: Any) -> dict[str, Any]:
    """A layer as Keras 3 keeps it."""
    return {"module": module, "class_name": name, "config": {"name": "x", **config}, "registered_name": None}


def sequential(*layers: dict[str, Any], **more: Any) -> dict[str, Any]:
    """A model of these layers."""
    start = layer("InputLayer", batch_shape=[None, 4], dtype="float32")
    return layer("Sequential", "keras", layers=[start, *layers]) | more


def keras(model: dict[str, Any] | str, h5: bytes | None = None, **more: bytes | str) -> Callable[[Path], Path]:
    """Writes a `.keras` archive."""
    config = model if isinstance(model, str) else json.dumps(model)

    def make(folder: Path) -> Path:
        members: dict[str, bytes | str] = {"metadata.json": '{"keras_version": "3.15.1"}', "config.json": config}
        members["model.weights.h5"] = weights() if h5 is None else h5
        return zipped(folder / "model.keras", members | more)

    return make


def legacy(model: Any, training: Any = None) -> Callable[[Path], Path]:
    """Writes a model as `.h5`, with its configuration in an attribute."""

    def fill(file: Any) -> None:
        file.attrs["model_config"] = json.dumps(model).encode()
        if training is not None:
            file.attrs["training_config"] = json.dumps(training).encode()

    return lambda folder: written(folder / "model.h5", weights(fill))


def function(module: str | None, name: str) -> dict[str, Any]:
    """A function as Keras 3 keeps it."""
    return {"module": module, "class_name": "function", "config": name, "registered_name": name}


LAMBDA = layer(
    "Lambda", function={"class_name": "__lambda__", "config": {"code": CODE, "defaults": None, "closure": None}}
)


LONG = {"class_name": "__numpy__", "config": {"value": [1, 1], "dtype": "S1500000000"}}
"""An array of two elements of 1.5 GB each."""
STRANGE = {"class_name": "__numpy__", "config": {"value": [1], "dtype": [["a", "i4"]]}}


def _damaged_weights(folder: Path) -> Path:
    """One number of the weights is another; the checksum is that of the old one."""
    file = keras(sequential(layer("Dense", units=2)))(folder)
    data = file.read_bytes()
    number = b"\0\0\x80\x3f" * 8
    assert data.count(number) == 1
    return written(file, data.replace(number, number[:-4] + b"\0\0\x80\x3e"))


def _attributes(count: int) -> Callable[[Any], None]:
    def fill(file: Any) -> None:
        for index in range(count):
            file.attrs[f"note{index}"] = index
        file.attrs["model_config"] = json.dumps(sequential(LAMBDA)).encode()

    return fill


def _behind_picture(folder: Path) -> Path:
    data = bytearray(weights(_attributes(0), userblock_size=512))
    data[:16] = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"
    return written(folder / "picture.png", bytes(data))


def built(name: str, build: dict[str, Any], **config: Any) -> dict[str, Any]:
    """A model of a layer that is built for inputs of a shape before any weight is read."""
    return sequential(layer(name, **config) | {"build_config": build})


def at_once(name: str, *arguments: Any, **config: Any) -> dict[str, Any]:
    """A functional model with an operation that is given constants only."""
    nodes = {"inbound_nodes": [{"args": arguments, "kwargs": {}}]}
    start = layer("InputLayer", batch_shape=[None, 4], dtype="float32")
    return layer("Functional", "keras", layers=[start, layer(name, "keras.src.ops.numpy", **config) | nodes])


def _rewritten(*changes: tuple[str, Any]) -> dict[str, Any]:
    changed = sequential(layer("Dense", units=2))
    for key, value in changes:
        changed[key] = value
    return changed


KERAS_CASES = (
    Case("keras-weights-checksum", _damaged_weights, frozenset({"unsafe", "unknown"})),
    Case(
        "keras-embedding-product",
        keras(sequential(layer("Embedding", input_dim=1 << 30, output_dim=1 << 12))),
        UNSAFE,
        BOMB,
    ),
    Case("keras-padding", keras(sequential(layer("ZeroPadding1D", padding=[1 << 40, 1]))), UNSAFE),
    Case("keras-recurrent", keras(sequential(layer("LSTM", units=1 << 24))), UNSAFE),
    Case("keras-input-product", keras(sequential(layer("InputLayer", batch_shape=[None, 1 << 20, 1 << 20]))), UNSAFE),
    Case("keras-two-wide", keras(sequential(layer("Dense", units=1 << 22), layer("Dense", units=1 << 22))), UNKNOWN),
    *(
        Case(f"keras-built-{name.lower()}", keras(built(name, build, **config)), UNSAFE, BOMB)
        for name, build, config in (
            ("Dense", {"shapes_dict": {"input_shape": [None, 1 << 20]}}, {"units": 1 << 20}),
            (
                "MultiHeadAttention",
                {"shapes_dict": {"query_shape": [9, 1 << 14]}},
                {"num_heads": 4096, "key_dim": 4096},
            ),
            ("PReLU", {"input_shape": [None, 1 << 20, 1 << 20]}, {}),
            ("LayerNormalization", {"input_shape": [None, 1 << 20, 1 << 20]}, {"axis": [1, 2]}),
            ("EinsumDense", {"input_shape": [None, 1 << 20]}, {"output_shape": [1 << 20], "equation": "ab,bc->ac"}),
        )
    ),
    Case("keras-rank", keras(built("Dense", {"input_shape": [None, 4]}, units=4, lora_rank=1 << 30)), UNSAFE, BOMB),
    Case(
        "keras-metric-of-many-classes",
        keras(_rewritten(("compile_config", {"metrics": [layer("MeanIoU", "keras.metrics", num_classes=1 << 20)]}))),
        UNSAFE,
        BOMB,
    ),
    Case(
        "keras-stretched-often",
        keras(sequential(*[layer("UpSampling1D", size=(1 << 31) - 1)] * 40)),
        UNKNOWN,
        BOMB,
    ),
    Case("keras-many-sizes", keras(sequential(layer("Reshape", target_shape=[[[99] * 64] * 64] * 64))), UNSAFE, BOMB),
    Case("keras-many-digits", keras(sequential(layer("Dense", units=10**4000))), UNSAFE, BOMB),
    Case(
        "keras-module-in-a-list",
        keras(sequential(layer("Dense", activation=function(["os"], "system")))),  # type: ignore[arg-type]  # as hostile
        UNSAFE,
    ),
    Case("keras-kind-of-function-in-a-list", keras(sequential({"function_type": ["x"]}, LAMBDA)), UNSAFE),
    Case("keras-stretched", keras(sequential(*[layer("UpSampling2D", size=[999, 999])] * 3)), UNKNOWN, BOMB),
    Case("keras-operation-on-constants", keras(at_once("Arange", 0, 1 << 40, dtype="float32")), UNKNOWN, BOMB),
    Case("keras-long-element", keras(sequential(layer("Rescaling", scale=LONG, offset=0))), UNSAFE),
    Case("keras-strange-element", keras(sequential(layer("Rescaling", scale=STRANGE, offset=0))), UNKNOWN),
    Case("keras-lambda", keras(sequential(LAMBDA)), UNSAFE, NVD + "CVE-2024-3660"),
    Case(
        "keras-lambda-by-escape",
        keras(
            json.dumps(sequential(LAMBDA)).replace("Lambda", "L\\u0061mbda").replace("class_name", "class\\u005fname")
        ),
        UNSAFE,
        NVD + "CVE-2024-3660",
    ),
    Case("keras-lambda-as-loss", keras(_rewritten(("compile_config", {"loss": LAMBDA["config"]["function"]}))), UNSAFE),
    Case("keras-lambda-in-wrapper", keras(sequential(layer("TimeDistributed", layer=LAMBDA))), UNSAFE),
    Case(
        "keras-foreign-function",
        keras(sequential(layer("Dense", units=2, activation=function("os", "system")))),
        UNSAFE,
        NVD + "CVE-2025-1550",
    ),
    Case(
        "keras-foreign-class",
        keras(sequential(layer("Popen", "subprocess", args="true"))),
        UNSAFE,
        NVD + "CVE-2025-1550",
    ),
    Case(
        "keras-get-file",
        keras(sequential(layer("Activation", activation=function("keras.utils", "get_file")))),
        UNSAFE,
        NVD + "CVE-2025-8747",
    ),
    Case(
        "keras-enable-unsafe",
        keras(sequential(layer("Activation", activation=function("keras.config", "enable_unsafe_deserialization")))),
        UNSAFE,
        NVD + "CVE-2025-9906",
    ),
    Case(
        "keras-torch-wrapper",
        keras(sequential(layer("TorchModuleWrapper", module="gASVAA=="))),
        UNSAFE,
        NVD + "CVE-2025-49655",
    ),
    Case("keras-saved-model-layer", keras(sequential(layer("TFSMLayer", filepath="/srv/model"))), UNSAFE),
    Case("keras-jax-layer", keras(sequential(layer("JaxLayer", call_fn=function(None, "f")))), UNSAFE),
    Case(
        "keras-vocabulary-path",
        keras(sequential(layer("StringLookup", vocabulary="/etc/passwd"))),
        UNSAFE,
        NVD + "CVE-2025-12058",
    ),
    Case(
        "keras-vocabulary-address",
        keras(sequential(layer("TextVectorization", vocabulary="http://127.0.0.1:9/x"))),
        UNSAFE,
        NVD + "CVE-2025-12058",
    ),
    Case(
        "keras-builtin-function",
        keras(sequential(layer("Dense", units=2, activation=function("builtins", "eval")))),
        UNSAFE,
    ),
    Case(
        "keras-huge-layer",
        keras(sequential(layer("Dense", units=1 << 40))),
        UNSAFE,
        BOMB,
    ),
    Case("keras-duplicate-key", keras('{"class_name": "Lambda", "class_name": "Sequential", "config": {}}'), UNSAFE),
    Case("keras-custom-layer", keras(sequential(layer("MyLayer", None))), UNKNOWN),
    Case(
        "keras-registered-name", keras(sequential(layer("Dense", units=1) | {"registered_name": "pack>Evil"})), UNKNOWN
    ),
    Case(
        "keras-type-specification",
        keras(
            sequential(
                {
                    "class_name": "__typespec__",
                    "config": [],
                    "spec_name": "system",
                    "module": "os",
                    "registered_name": "x",
                }
            )
        ),
        UNSAFE,
    ),
    Case("keras-broken-configuration", keras('{"class_name": "Sequential", "config": '), UNKNOWN),
    Case("keras-deep-configuration", keras('{"class_name": "Sequential", "config": ' + "[" * 100_000), UNKNOWN),
    Case("keras-pickle-as-weights", keras(sequential(), b"cos\nsystem\n(S'true'\ntR."), UNSAFE),
    Case("keras-pickle-as-asset", keras(sequential(), **{"assets/x.bin": b"cos\nsystem\n(S'true'\ntR."}), UNSAFE),
    Case("keras-weights-elsewhere", keras(sequential(), weights(external_link)), UNSAFE, NVD + "CVE-2026-1669"),
    Case("keras-json-lambda", lambda folder: written(folder / "model.json", json.dumps(sequential(LAMBDA))), UNSAFE),
    Case(
        "h5-lambda",
        legacy(
            {
                "class_name": "Sequential",
                "config": [
                    {"class_name": "Lambda", "config": {"function": [CODE, None, None], "function_type": "lambda"}}
                ],
            }
        ),
        UNSAFE,
        GHSA + "GHSA-36rr-ww3j-vrjv",
    ),
    Case(
        "h5-lambda-in-training",
        legacy(sequential(), {"loss": LAMBDA, "optimizer_config": {"class_name": "Adam", "config": {}}}),
        UNSAFE,
    ),
    Case("h5-tensorflow-call", legacy(sequential(layer("TFOpLambda", function="io.write_file"))), UNSAFE),
    Case(
        "h5-lambda-among-many-attributes", hdf5(_attributes(40), libver="latest"), UNSAFE, GHSA + "GHSA-36rr-ww3j-vrjv"
    ),
    Case("h5-behind-picture", _behind_picture, UNSAFE, "https://cwe.mitre.org/data/definitions/436.html"),
    Case("h5-behind-user-block", hdf5(_attributes(0), userblock_size=1024), UNSAFE, GHSA + "GHSA-36rr-ww3j-vrjv"),
)
