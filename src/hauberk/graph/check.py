"""Is this a valid model? Both judges are asked, because onnx and ONNX Runtime catch different faults."""

from __future__ import annotations

import onnx

from hauberk.errors import InputError, one_line
from hauberk.graph.model import parse, session


def check_model(model: bytes) -> None:
    """Check a serialised model with onnx (types and shapes inferred throughout) and by loading it in ONNX Runtime.

    Args:
        model: A serialised `onnx.ModelProto` with its weights inline.

    Raises:
        InputError: Either of them refuses it; one line, in the words of the one that did.
    """
    proto = parse(model)
    try:
        onnx.checker.check_model(proto, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise InputError(f"onnx refuses the model: {one_line(error)}") from error
    session(model)
