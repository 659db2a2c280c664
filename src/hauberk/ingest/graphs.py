"""An ONNX file: one self-contained graph, checked where it cannot harm."""

from __future__ import annotations

from hauberk.errors import RefusedModelError
from hauberk.ingest.isolated import ONNX, ask
from hauberk.ingest.private import PrivateCopy
from hauberk.sandbox.limits import GIBIBYTE

MAX_ONNX_BYTES = (2 << 30) - 1
"""Protocol buffers end at 2 GiB."""


def read_onnx(copy: PrivateCopy) -> bytes:
    """The bytes of a model that the scan called safe, once ONNX's full check has passed in a process of its own.

    Weights may lie in other files; the check takes them for inputs.

    Raises:
        RefusedModelError: It is too large or invalid, or its check was stopped.
    """
    if copy.size > MAX_ONNX_BYTES:
        raise RefusedModelError(f"{copy.source}: refused: {copy.size} bytes; an ONNX file ends at 2 GiB")
    ask("check_onnx", b"", copy, memory=GIBIBYTE + 5 * copy.size, imports=ONNX)
    return copy.read(0, copy.size)
