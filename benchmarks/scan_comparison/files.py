"""The files that scanners are timed on: honest ones, made here, the same on every machine."""

from __future__ import annotations

import io
import json
import pickle
import random
import struct
import zipfile
import zlib
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

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


def sparse_checkpoint(path: Path, size: int, *, tensors: int = 200) -> None:
    """A zip checkpoint of this size as torch writes it, whose weights are holes in the file: it takes no disk.

    The CRCs of the weights are those of so many zeros, so that it is sound.

    Args:
        path: Where to write it.
        size: Bytes of weights, about.
        tensors: Over how many tensors they are spread.
    """
    import torch

    count = size // tensors // 4
    state = OrderedDict((f"layer{number}.weight", torch.zeros(1, dtype=torch.float32)) for number in range(tensors))
    stream = io.BytesIO()
    torch.save(state, stream)
    record = _resized(stream.getvalue(), count)
    crc = _crc_of_zeros(4 * count)
    members = [("archive/data.pkl", record), ("archive/byteorder", b"little"), ("archive/version", b"3\n")]
    entries: list[bytes] = []
    with path.open("wb") as file:
        for name, data in members:
            entries.append(_member(file, name, len(data), zlib.crc32(data)))
            file.write(data)
        for number in range(tensors):
            entries.append(_member(file, f"archive/data/{number}", 4 * count, crc))
            file.seek(4 * count, 1)
        _finish(file, entries)


def sparse_safetensors(path: Path, size: int, *, tensors: int = 200) -> None:
    """The same as safetensors."""
    count = size // tensors // 4
    header = {
        f"layer{number}.weight": {
            "dtype": "F32",
            "shape": [count],
            "data_offsets": [4 * count * number, 4 * count * (number + 1)],
        }
        for number in range(tensors)
    }
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        file.truncate(8 + len(text) + 4 * count * tensors)


def _resized(archive: bytes, count: int) -> bytes:
    """`data.pkl` of a saved state of one-element tensors, rewritten for tensors of `count` elements."""
    with zipfile.ZipFile(io.BytesIO(archive)) as opened:
        name = next(name for name in opened.namelist() if name.endswith("data.pkl"))
        data = opened.read(name)
    number = b"J" + struct.pack("<i", count)
    storage, view = b"K\x01tq", b"K\x00K\x01\x85q"  # elements of the storage; offset and shape of the view
    return data.replace(storage, number + storage[2:]).replace(view, b"K\x00" + number + view[4:])


def _crc_of_zeros(count: int) -> int:
    block, crc = bytes(1 << 24), 0
    while count:
        crc = zlib.crc32(block[: min(count, len(block))], crc)
        count -= min(count, len(block))
    return crc


def _member(file: BinaryIO, name: str, size: int, crc: int) -> bytes:
    """Write a local header, aligned as torch aligns; returns the entry for the directory."""
    start, encoded = file.tell(), name.encode()
    large = struct.pack("<HHQQ", 1, 16, size, size)
    padding = -(start + 30 + len(encoded) + len(large) + 4) % 64
    extra = large + struct.pack("<HH", 0x4246, padding) + b"Z" * padding
    unknown = 0xFFFFFFFF
    header = struct.pack("<HHHHHIII", 45, 0x800, 0, 0, 0x21, crc, unknown, unknown)
    file.write(b"PK\x03\x04" + header + struct.pack("<HH", len(encoded), len(extra)) + encoded + extra)
    entry = struct.pack("<HHQQQ", 1, 24, size, size, start)
    lengths = struct.pack("<HHHHHII", len(encoded), len(entry), 0, 0, 0, 0, unknown)
    return b"PK\x01\x02" + struct.pack("<H", 45) + header + lengths + encoded + entry


def _finish(file: BinaryIO, entries: list[bytes]) -> None:
    start = file.tell()
    file.write(b"".join(entries))
    end, count = file.tell(), len(entries)
    size = end - start
    file.write(struct.pack("<4sQHHIIQQQQ", b"PK\x06\x06", 44, 45, 45, 0, 0, count, count, size, start))
    file.write(struct.pack("<4sIQI", b"PK\x06\x07", 0, end, 1))
    file.write(struct.pack("<4sHHHHIIH", b"PK\x05\x06", 0, 0, count, count, size, 0xFFFFFFFF, 0))


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
