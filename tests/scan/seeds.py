"""Small honest files of every format, as the frameworks themselves write them: what mutations begin with.

Nothing above a few kilobytes: a change then hits a header more often than data. What a framework is needed for is left
out where it is not installed.
"""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import pickle
import struct
import tarfile
import warnings
import zipfile
import zlib
from collections import OrderedDict
from collections.abc import Callable, Iterator

import numpy as np


def seeds() -> Iterator[tuple[str, bytes]]:
    """Name and bytes of every file."""
    for maker in _MAKERS:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield from maker()


def _record() -> dict[str, object]:
    arrays = OrderedDict(weight=np.arange(12, dtype=np.float32).reshape(3, 4), bias=np.zeros(4))
    return {"epoch": 3, "rate": 0.5, "names": ["a", "b", ("c", None)], "state": arrays, "kinds": {1, 2}}


def _pickles() -> Iterator[tuple[str, bytes]]:
    for protocol in range(6):
        yield f"pickle-{protocol}", pickle.dumps(_record(), protocol)
    yield "pickle-two", pickle.dumps({"a": 1}, 2) + pickle.dumps([1.5], 4)


def _arrays() -> Iterator[tuple[str, bytes]]:
    plain, objects, both = io.BytesIO(), io.BytesIO(), io.BytesIO()
    np.save(plain, np.arange(6, dtype=">i4").reshape(2, 3))
    np.save(objects, np.array([{"a": 1}, "b"], object))
    np.savez_compressed(both, weight=np.ones((3, 2)), bias=np.zeros(2))
    yield "npy", plain.getvalue()
    yield "npy-objects", objects.getvalue()
    yield "npz", both.getvalue()


def _joblib() -> Iterator[tuple[str, bytes]]:
    import joblib
    from sklearn.preprocessing import StandardScaler

    scaler = StandardScaler().fit(np.random.default_rng(0).random((5, 3)))
    for compress in (0, ("zlib", 3), ("gzip", 3), ("bz2", 3), ("xz", 3)):
        stream = io.BytesIO()
        joblib.dump({"scaler": scaler, "columns": ["a", "b", "c"]}, stream, compress=compress)
        yield f"joblib-{compress[0] if compress else 'plain'}", stream.getvalue()


def _torch() -> Iterator[tuple[str, bytes]]:
    import torch

    torch.manual_seed(0)
    state = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.BatchNorm1d(2)).state_dict()
    for name, new in (("torch-zip", True), ("torch-legacy", False)):
        stream = io.BytesIO()
        torch.save(state, stream, _use_new_zipfile_serialization=new)
        yield name, stream.getvalue()
    stream = io.BytesIO()
    torch.jit.save(torch.jit.script(torch.nn.ReLU()), stream)
    yield "torchscript", stream.getvalue()


def _safetensors() -> Iterator[tuple[str, bytes]]:
    from safetensors.numpy import save

    tensors = {"weight": np.ones((2, 3), np.float32), "bias": np.zeros(3, np.int64), "none": np.zeros((0, 4), np.int8)}
    yield "safetensors", save(tensors, metadata={"format": "np"})


def _archives() -> Iterator[tuple[str, bytes]]:
    record, text = pickle.dumps(_record(), 4), b"what an honest archive holds\n" * 20
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr(zipfile.ZipInfo("record.pkl"), record)
        archive.writestr(zipfile.ZipInfo("folder/read.txt"), text, zipfile.ZIP_DEFLATED)
    yield "zip", stream.getvalue()
    for form in (tarfile.USTAR_FORMAT, tarfile.PAX_FORMAT, tarfile.GNU_FORMAT):
        stream = io.BytesIO()
        with tarfile.open(fileobj=stream, mode="w", format=form) as tape:
            for name, data in (("record.pkl", record), ("folder/" + 30 * "long/" + "read.txt", text)):
                member = tarfile.TarInfo(name)
                member.size = len(data)
                tape.addfile(member, io.BytesIO(data))
        yield f"tar-{form}", stream.getvalue()
    yield "gzip", gzip.compress(record, mtime=0)
    yield "bzip2", bz2.compress(record)
    yield "xz", lzma.compress(record)
    yield "zlib", zlib.compress(record)


def _onnx() -> Iterator[tuple[str, bytes]]:
    from onnx import TensorProto, helper, numpy_helper

    weights = numpy_helper.from_array(np.ones((4, 2), np.float32), "w")
    branch = helper.make_graph(
        [helper.make_node("Relu", ["h"], ["r"])],
        "branch",
        [],
        [helper.make_tensor_value_info("r", TensorProto.FLOAT, None)],
    )
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["h"]),
        helper.make_node("ReduceSum", ["h"], ["sum"], keepdims=0),
        helper.make_node("Cast", ["sum"], ["condition"], to=TensorProto.BOOL),
        helper.make_node("If", ["condition"], ["y"], then_branch=branch, else_branch=branch),
    ]
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 2])],
        [weights],
    )
    yield "onnx", helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]).SerializeToString()


def _keras() -> Iterator[tuple[str, bytes]]:
    import h5py

    layer = {"module": "keras.layers", "class_name": "Dense", "config": {"name": "d", "units": 2, "activation": "relu"}}
    config = {"module": "keras", "class_name": "Sequential", "config": {"name": "s", "layers": [layer]}}
    plain = io.BytesIO()
    with h5py.File(plain, "w") as file:
        file.create_dataset("layers/d/vars/0", data=np.ones((4, 2), np.float32))
        file.create_dataset("layers/d/vars/1", data=np.zeros(2, np.float32), chunks=(1,), compression="gzip")
    yield "hdf5", plain.getvalue()
    whole = io.BytesIO()
    with h5py.File(whole, "w") as file:
        file.attrs["keras_version"], file.attrs["backend"] = "2.15.0", "tensorflow"
        file.attrs["model_config"] = json.dumps(config)
        file.create_dataset("model_weights/d/kernel:0", data=np.ones((4, 2), np.float32))
    yield "keras-h5", whole.getvalue()
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr(zipfile.ZipInfo("metadata.json"), json.dumps({"keras_version": "3.5.0"}))
        archive.writestr(zipfile.ZipInfo("config.json"), json.dumps(config))
        archive.writestr(zipfile.ZipInfo("model.weights.h5"), plain.getvalue())
    yield "keras", stream.getvalue()


def _gguf() -> Iterator[tuple[str, bytes]]:
    def text(value: str) -> bytes:
        return struct.pack("<Q", len(value)) + value.encode()

    pairs = (
        text("general.architecture") + struct.pack("<I", 8) + text("llama"),
        text("general.alignment") + struct.pack("<II", 4, 32),
        text("tokenizer.ggml.tokens") + struct.pack("<IIQ", 9, 8, 2) + text("a") + text("b"),
        text("tokenizer.chat_template")
        + struct.pack("<I", 8)
        + text("{% for m in messages %}{{ m.content }}{% endfor %}"),
    )
    tensor = text("weight") + struct.pack("<IQQIQ", 2, 4, 2, 0, 0)
    head = b"GGUF" + struct.pack("<IQQ", 3, 1, len(pairs)) + b"".join(pairs) + tensor
    yield "gguf", head + bytes(-len(head) % 32) + np.ones(8, np.float32).tobytes()


def _skops() -> Iterator[tuple[str, bytes]]:
    import skops.io
    from sklearn.linear_model import LogisticRegression

    inputs = np.array([[0.0], [1.0], [2.0], [3.0]])
    yield "skops", skops.io.dumps(LogisticRegression().fit(inputs, [0, 0, 1, 1]))


def _trees() -> Iterator[tuple[str, bytes]]:
    import lightgbm
    import xgboost

    inputs, targets = np.random.default_rng(0).random((40, 3)), np.arange(40) % 2
    options = {"max_depth": 2, "nthread": 1, "objective": "binary:logistic"}
    booster = xgboost.train(options, xgboost.DMatrix(inputs, targets), 2)
    for form in ("json", "ubj"):
        yield f"xgboost-{form}", bytes(booster.save_raw(form))
    options = {"num_leaves": 3, "verbose": -1, "num_threads": 1, "objective": "binary", "min_data_in_leaf": 2}
    yield "lightgbm", lightgbm.train(options, lightgbm.Dataset(inputs, targets), 2).model_to_string().encode()


def _texts() -> Iterator[tuple[str, bytes]]:
    cells = [{"cell_type": "code", "source": ["x = 1\n"], "metadata": {}, "outputs": [], "execution_count": None}]
    notebook = {"nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": cells}
    yield "notebook", json.dumps(notebook).encode()
    yield "json", json.dumps({"hidden": 64, "layers": [1, 2, 3]}).encode()
    yield "text", b"A model of honest make.\n"


_MAKERS: tuple[Callable[[], Iterator[tuple[str, bytes]]], ...] = (
    _pickles,
    _arrays,
    _joblib,
    _torch,
    _safetensors,
    _archives,
    _onnx,
    _keras,
    _gguf,
    _skops,
    _trees,
    _texts,
)
