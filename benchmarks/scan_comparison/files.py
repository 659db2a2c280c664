"""The files that scanners are timed on: honest ones, made here, the same on every machine."""

from __future__ import annotations

import pickle
import random
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

GIBIBYTE = 1 << 30
SMALL = 1000
"""Small pickles."""
_WIDTH = 1024
_SHAPES = {
    "attention.qkv.weight": (3 * _WIDTH, _WIDTH),
    "attention.qkv.bias": (3 * _WIDTH,),
    "attention.out.weight": (_WIDTH, _WIDTH),
    "attention.out.bias": (_WIDTH,),
    "mlp.up.weight": (4 * _WIDTH, _WIDTH),
    "mlp.up.bias": (4 * _WIDTH,),
    "mlp.down.weight": (_WIDTH, 4 * _WIDTH),
    "mlp.down.bias": (_WIDTH,),
    "norm1.weight": (_WIDTH,),
    "norm1.bias": (_WIDTH,),
    "norm2.weight": (_WIDTH,),
    "norm2.bias": (_WIDTH,),
}
"""One block of a Transformer of width 1024."""


@dataclass(frozen=True)
class Workload:
    """Files that are scanned together.

    Attributes:
        name: For tables.
        paths: One file, or many.
        size: Bytes of all of them.
    """

    name: str
    paths: tuple[Path, ...]
    size: int


def workloads(folder: Path) -> Iterator[Workload]:
    """Every workload; the files are kept in the folder and made where they are missing (2.6 GB)."""
    folder.mkdir(parents=True, exist_ok=True)
    makers = {
        "checkpoint.pt": ("PyTorch checkpoint, 1.1 GB (zip)", _checkpoint),
        "checkpoint.safetensors": ("safetensors, 1.1 GB", _safetensors),
        "model.onnx": ("ONNX, 0.5 GB, weights inside", _onnx),
    }
    for name, (title, make) in makers.items():
        path = folder / name
        if not path.is_file():
            part = path.with_suffix(".part")
            make(part)
            part.rename(path)
        yield Workload(title, (path,), path.stat().st_size)
    paths = small_pickles(folder / "small")
    yield Workload(f"{SMALL:,} small pickles", paths, sum(path.stat().st_size for path in paths))


def small_pickles(folder: Path) -> tuple[Path, ...]:
    """Settings, weights as arrays, fitted scalers and thresholds, in protocols 2 to 5: 1 kB each on average."""
    from sklearn.preprocessing import StandardScaler

    folder.mkdir(exist_ok=True)
    generator, draw = np.random.default_rng(0), random.Random(0)
    paths = []
    for number in range(SMALL):
        path = folder / f"{number:04}.pkl"
        paths.append(path)
        thing: object
        if number % 4 == 0:
            history = [draw.random() for _ in range(30)]
            names = [f"layer{layer}.weight" for layer in range(20)]
            thing = {"epoch": number, "rate": draw.random(), "history": history, "names": names}
        elif number % 4 == 1:
            thing = OrderedDict((f"layer{layer}.weight", generator.random((4, 4))) for layer in range(8))
        elif number % 4 == 2:
            thing = StandardScaler().fit(generator.random((20, 10)))
        else:
            columns = {f"column{column}": (column, draw.random(), None) for column in range(20)}
            thing = {"classes": ["benign", "attack"], "threshold": draw.random(), "columns": columns}
        path.write_bytes(pickle.dumps(thing, protocol=2 + number // 4 % 4))
    return tuple(paths)


def _state(size: int) -> Iterator[tuple[str, tuple[int, ...]]]:
    block, done = 0, 0
    while done < size:
        for name, shape in _SHAPES.items():
            done += 4 * int(np.prod(shape))
            yield f"blocks.{block}.{name}", shape
        block += 1


def _checkpoint(path: Path) -> None:
    import torch

    torch.manual_seed(0)
    torch.save(OrderedDict((name, torch.rand(shape)) for name, shape in _state(GIBIBYTE)), path)


def _safetensors(path: Path) -> None:
    import torch
    from safetensors.torch import save_file

    torch.manual_seed(0)
    save_file({name: torch.rand(shape) for name, shape in _state(GIBIBYTE)}, path)


def _onnx(path: Path) -> None:
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    generator = np.random.default_rng(0)
    nodes, weights, last = [], [], "x"
    for number in range(32):
        array = generator.random((2048, 2048), np.float32)
        weights.append(numpy_helper.from_array(array, f"w{number}"))
        nodes.append(helper.make_node("MatMul", [last, f"w{number}"], [f"h{number}"]))
        nodes.append(helper.make_node("Relu", [f"h{number}"], [f"r{number}"]))
        last = f"r{number}"
    shape = [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 2048])]
    result = [helper.make_tensor_value_info(last, TensorProto.FLOAT, ["batch", 2048])]
    graph = helper.make_graph(nodes, "wide", shape, result, weights)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10), path)
