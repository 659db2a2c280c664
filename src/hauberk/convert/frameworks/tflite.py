"""TensorFlow Lite models."""

from __future__ import annotations

import numpy as np
import tensorflow as tf
import tf2onnx
from numpy.typing import NDArray

from hauberk.convert.frameworks.tensorflow_graph import finished, versions
from hauberk.convert.inside import Feeds
from hauberk.convert.messages import Setup


class Lite:
    """A TFLite model, converted by tf2onnx and asked through TensorFlow's interpreter."""

    notes: tuple[str, ...] = ()

    def __init__(self, path: str) -> None:
        self.version = versions()
        self._path = path
        self._interpreter = tf.lite.Interpreter(model_path=path, num_threads=1)

    def convert(self) -> tuple[bytes, tuple[str, ...]]:
        """What tf2onnx makes of it."""
        proto, _ = tf2onnx.convert.from_tflite(self._path, opset=18)
        return finished(proto), ()

    def answer(self, feeds: Feeds) -> list[NDArray[np.generic]]:
        """What the interpreter answers; inputs are resized to the batch, as far as the model allows."""
        interpreter = self._interpreter
        told = interpreter.get_input_details()
        for detail, array in zip(told, feeds.values(), strict=True):
            interpreter.resize_tensor_input(detail["index"], array.shape, strict=True)
        interpreter.allocate_tensors()
        for detail, array in zip(told, feeds.values(), strict=True):
            interpreter.set_tensor(detail["index"], array)
        interpreter.invoke()
        return [np.array(interpreter.get_tensor(each["index"])) for each in interpreter.get_output_details()]


def load(setup: Setup) -> Lite:
    """Read an admitted model from its private copy."""
    return Lite(setup.path)
