"""What a conversion and its isolated process tell each other. Whatever comes out of that process is a stranger's word.

Arrays travel as dtype, shape and bytes; only plain numbers are taken, and sizes have to agree before one is built.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

from hauberk.errors import InputError

_KINDS = frozenset("biuf")
_WIDE = tuple(f"{kind}{size}" for kind in "iuf" for size in (2, 4, 8))
_TYPES = {"|b1", "|i1", "|u1", *(order + name for order in "<>" for name in _WIDE)}
"""What numpy calls the types that are taken; what else it would take for a type is a language of its own."""
_MOST_DIMENSIONS = 8
_MOST_ELEMENTS = 1 << 40


class Array(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A tensor on the way."""

    dtype: str
    shape: tuple[int, ...]
    data: bytes


class Setup(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the process is started with.

    Attributes:
        framework: Which module of `hauberk.convert.frameworks` reads the model.
        model: The file's bytes; empty where `path` says where the files lie.
        path: A private copy on disk, for frameworks that read folders.
        options: What that module needs besides, as text.
    """

    framework: str
    model: bytes = b""
    path: str = ""
    options: dict[str, str] = {}


class Greeting(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the process says once the model is loaded.

    Attributes:
        version: Of the framework, as `xgboost 3.2.0`.
        notes: What a reader should know.
    """

    version: str
    notes: tuple[str, ...] = ()


class Question(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """To convert the model (`feeds` is `None`), or to answer inputs."""

    feeds: dict[str, Array] | None = None


class Answer(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The graph, or the model's outputs.

    Attributes:
        model: A serialised `onnx.ModelProto`, not admitted yet; empty where outputs were asked for.
        outputs: In the order of the graph's outputs.
        notes: What happened on the way.
    """

    model: bytes = b""
    outputs: tuple[Array, ...] = ()
    notes: tuple[str, ...] = ()


def packed(array: NDArray[np.generic]) -> Array:
    """An array as a message.

    Raises:
        InputError: It holds no plain numbers.
    """
    if array.dtype.kind not in _KINDS:
        raise InputError(f"an output of dtype {array.dtype}; only numbers are compared")
    return Array(array.dtype.str, array.shape, np.ascontiguousarray(array).tobytes())


def unpacked(message: Array) -> NDArray[np.generic]:
    """The array of a message, a copy of its own.

    Raises:
        InputError: Dtype, shape and bytes do not fit each other.
    """
    if message.dtype not in _TYPES:
        raise InputError("the isolated process answered with an unknown dtype")
    dtype = np.dtype(message.dtype)
    fits = len(message.shape) <= _MOST_DIMENSIONS and all(size >= 0 for size in message.shape)
    # The sizes beside a zero count, too: numpy multiplies them.
    fits = fits and math.prod(max(size, 1) for size in message.shape) <= _MOST_ELEMENTS
    if not fits or math.prod(message.shape) * dtype.itemsize != len(message.data):
        raise InputError("the isolated process answered with an array whose size and shape differ")
    return np.frombuffer(message.data, dtype=dtype).reshape(message.shape).copy()


def question(feeds: Mapping[str, NDArray[np.generic]] | None) -> bytes:
    """A question in bytes."""
    arrays = None if feeds is None else {name: packed(np.asarray(array)) for name, array in feeds.items()}
    return msgspec.msgpack.encode(Question(arrays))


def outputs(arrays: Sequence[Array]) -> list[NDArray[np.generic]]:
    """The outputs of an answer."""
    return [unpacked(array) for array in arrays]
