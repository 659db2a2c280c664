"""A TensorFlow function as something that is converted and asked: what Keras models and SavedModels have in common."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx
import tensorflow as tf
import tf2onnx
from numpy.typing import NDArray

from hauberk.convert.inside import Feeds
from hauberk.errors import InputError
from hauberk.graph.model import IR_VERSION, OPSET

_NEWEST = 18
"""Opset that tf2onnx 1.17 writes at most."""


def versions(*more: str) -> str:
    """The versions of what converts here."""
    return ", ".join((f"tensorflow {tf.__version__}", *more, f"tf2onnx {tf2onnx.__version__}"))


class Function:
    """A function of tensors, with names for its inputs.

    Args:
        call: Takes tensors in the order of `inputs`, and returns one, or a nest of them.
        inputs: What it takes; a size that is `None` is free.
        version: What to say of the framework.
        keep: What has to live as long as the function: a SavedModel's variables go with it.
    """

    notes: tuple[str, ...] = ()

    def __init__(self, call: Callable[..., Any], inputs: Sequence[Any], version: str, keep: object = None) -> None:
        if not inputs:
            raise InputError("the model takes no input")
        self.version = version
        self._keep = keep
        self._inputs = [
            tf.TensorSpec(each.shape, each.dtype, name=_plain(each.name, index)) for index, each in enumerate(inputs)
        ]

        def flat(*tensors: Any) -> Any:
            return tf.nest.flatten(call(*tensors))

        self._call = tf.function(flat, input_signature=self._inputs, autograph=False)

    def convert(self) -> tuple[bytes, tuple[str, ...]]:
        """What tf2onnx makes of it."""
        opset = min(OPSET, _NEWEST)
        proto, _ = tf2onnx.convert.from_function(self._call, input_signature=self._inputs, opset=opset)
        return finished(proto), ()

    def answer(self, feeds: Feeds) -> list[NDArray[np.generic]]:
        """What TensorFlow answers."""
        tensors = [tf.constant(feeds[spec.name]) for spec in self._inputs]
        return [np.asarray(each) for each in self._call(*tensors)]


def finished(proto: onnx.ModelProto) -> bytes:
    """The graph in bytes, its first free dimension called `batch`."""
    for value in (*proto.graph.input, *proto.graph.output):
        shape = value.type.tensor_type.shape.dim
        if shape and not shape[0].HasField("dim_value"):
            shape[0].dim_param = "batch"
    proto.ir_version = IR_VERSION
    serialised: bytes = proto.SerializeToString()
    return serialised


def _plain(name: str | None, index: int) -> str:
    """A name that TensorFlow takes for an input."""
    kept = "".join(letter if letter.isascii() and (letter.isalnum() or letter == "_") else "_" for letter in name or "")
    return kept if kept and kept[0].isalpha() else f"input_{index}"
