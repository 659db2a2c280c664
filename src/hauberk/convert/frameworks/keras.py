"""Keras models, `.keras` and `.h5`, loaded in safe mode: nothing but layers of Keras itself."""

from __future__ import annotations

import keras

from hauberk.convert.frameworks.tensorflow_graph import Function, versions
from hauberk.convert.messages import Setup


def load(setup: Setup) -> Function:
    """Read an admitted model from its private copy."""
    model = keras.models.load_model(setup.path, compile=False, safe_mode=True)
    single = len(model.inputs) == 1

    def call(*tensors: object) -> object:
        return model(tensors[0] if single else list(tensors), training=False)

    return Function(call, model.inputs, versions(f"keras {keras.__version__}"))
