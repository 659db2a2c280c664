"""TensorFlow SavedModels, by the signature that TensorFlow Serving calls."""

from __future__ import annotations

import tensorflow as tf

from hauberk.convert.frameworks.tensorflow_graph import Function, versions
from hauberk.convert.messages import Setup
from hauberk.errors import InputError

_SIGNATURE = "serving_default"


def load(setup: Setup) -> Function:
    """Read an admitted folder from its private copy.

    Raises:
        InputError: It has no signature to call.
    """
    model = tf.saved_model.load(setup.path)
    if _SIGNATURE not in model.signatures:
        known = ", ".join(model.signatures) or "none"
        raise InputError(f"it has no signature {_SIGNATURE!r}; those that it has: {known}")
    serve = model.signatures[_SIGNATURE]
    named = serve.structured_input_signature[1]
    names = list(named)

    def call(*tensors: object) -> object:
        return serve(**dict(zip(names, tensors, strict=True)))

    return Function(call, [named[name] for name in names], versions(), keep=model)
