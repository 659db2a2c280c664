"""What the frameworks' own loaders make of a file: the truth for files that the scan calls safe.

`RealLoaders` holds a process that has the frameworks imported. For each file it forks, puts the fork under limits and
loads the file there as a careful user would: `torch.load(weights_only=True)`, `numpy.load(allow_pickle=False)`, readers
of archives that unpack into memory. Run as a program, this file is the process.
"""

from __future__ import annotations

import io
import os
import resource
import signal
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

_SECONDS = 10
"""Of processor time, for one file."""
_PATIENCE = 20
"""Times as long on the wall: the machine may have other work."""
_MEMORY = 6 << 30
"""Of address space: importing torch alone takes 2 GiB of it."""


class RealLoaders:
    """The process that loads; use it as a context manager."""

    def __init__(self) -> None:
        command = [sys.executable, "-I", str(Path(__file__))]
        environment = os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, env=environment)

    def load(self, loader: str, data: bytes) -> str:
        """Load a file; empty where that worked, otherwise the exception or what ended the fork."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        name = loader.encode()
        self._process.stdin.write(struct.pack("<BI", len(name), len(data)) + name + data)
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError("the loading process ended")
        return line.decode().strip()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(10)
        self._process.stdout.close()


def _npy(data: bytes) -> None:
    import numpy as np

    np.lib.format.read_array(io.BytesIO(data), allow_pickle=False)


def _npz(data: bytes) -> None:
    import numpy as np

    with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
        for name in arrays:
            arrays[name]


def _torch(data: bytes) -> None:
    import torch

    torch.load(io.BytesIO(data), weights_only=True)


def _safetensors(data: bytes) -> None:
    import safetensors.numpy

    safetensors.numpy.load(data)


def _onnx(data: bytes) -> None:
    import onnx

    onnx.load_model_from_string(data)


def _zip(data: bytes) -> None:
    import zipfile

    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        if (broken := archive.testzip()) is not None:
            raise zipfile.BadZipFile(broken)


def _tar(data: bytes) -> None:
    import tarfile

    with tarfile.open(fileobj=io.BytesIO(data), mode="r:") as archive:
        for member in archive:
            if (stream := archive.extractfile(member)) is not None and len(stream.read()) != member.size:
                raise tarfile.ReadError(member.name)


def _gzip(data: bytes) -> None:
    import gzip

    gzip.decompress(data)


def _bzip2(data: bytes) -> None:
    import bz2

    bz2.decompress(data)


def _xz(data: bytes) -> None:
    import lzma

    lzma.decompress(data)


def _zlib(data: bytes) -> None:
    import zlib

    zlib.decompress(data)


def _hdf5(data: bytes) -> None:
    import h5py

    with h5py.File(io.BytesIO(data), "r") as file:
        file.visititems(lambda _name, item: item[()] if isinstance(item, h5py.Dataset) else None)


def _xgboost(data: bytes) -> None:
    import xgboost

    xgboost.Booster().load_model(bytearray(data))


def _lightgbm(data: bytes) -> None:
    import lightgbm

    lightgbm.Booster(model_str=data.decode())


def _json(data: bytes) -> None:
    import json

    json.loads(data)


LOADERS: dict[str, Callable[[bytes], None]] = {
    "npy": _npy,
    "npz": _npz,
    "torch": _torch,
    "safetensors": _safetensors,
    "onnx": _onnx,
    "zip": _zip,
    "tar": _tar,
    "gzip": _gzip,
    "bzip2": _bzip2,
    "xz": _xz,
    "zlib": _zlib,
    "hdf5": _hdf5,
    "xgboost": _xgboost,
    "lightgbm": _lightgbm,
    "json": _json,
}


def _in_a_fork(loader: str, data: bytes) -> str:
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        os.close(reading)
        resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
        resource.setrlimit(resource.RLIMIT_CPU, (_SECONDS, _SECONDS))
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        signal.alarm(_PATIENCE * _SECONDS)
        answer = ""
        try:
            LOADERS[loader](data)
        except BaseException as error:  # noqa: BLE001 - whatever a loader raises is the answer
            answer = f"{type(error).__name__}: {error}"
        finally:
            os.write(writing, b"." + answer.encode("utf-8", "replace").replace(b"\n", b" ")[:300])
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as answers:
        answer_ = answers.read()
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        return f"killed by signal {os.WTERMSIG(status)}"
    return answer_[1:].decode("utf-8", "replace") if answer_ else "ended without a word"


def _serve() -> None:
    import h5py  # noqa: F401 - imported once, for all forks
    import lightgbm  # noqa: F401
    import onnx  # noqa: F401
    import safetensors.numpy  # noqa: F401
    import torch
    import xgboost  # noqa: F401

    torch.set_num_threads(1)
    while header := sys.stdin.buffer.read(5):
        length, size = struct.unpack("<BI", header)
        name, data = sys.stdin.buffer.read(length).decode(), sys.stdin.buffer.read(size)
        sys.stdout.buffer.write(_in_a_fork(name, data).encode() + b"\n")
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    _serve()
