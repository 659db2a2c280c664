"""What a serialised ONNX model says of itself, read without the `onnx` package, which production does not have."""

from __future__ import annotations

from hauberk.bundle.manifest import Needs
from hauberk.errors import InputError, RefusedModelError
from hauberk.protobuf import fields

ONNX_RUNTIME = "1.23"
"""The lowest version of ONNX Runtime that this library works with."""

# Field numbers in onnx.proto3: ModelProto.ir_version, ModelProto.opset_import, OperatorSetIdProto.domain and .version.
_IR_VERSION, _OPSET_IMPORT, _DOMAIN, _VERSION = 1, 8, 1, 2
_MOST = 1 << 31


def needs_of(model: bytes) -> Needs:
    """Read format and operator set versions from a serialised `ModelProto`.

    Raises:
        InputError: It is not one.
    """
    ir_version = 0
    opsets: dict[str, int] = {}
    try:
        for number, value in fields(memoryview(model)):
            if number == _IR_VERSION and isinstance(value, int):
                ir_version = value
            elif number == _OPSET_IMPORT and isinstance(value, memoryview):
                domain, version = _operator_set(value)
                opsets[domain] = version
    except (RefusedModelError, UnicodeDecodeError, TypeError):
        raise InputError("model: this is not a serialised ONNX model") from None
    if not opsets or not all(1 <= version < _MOST for version in (ir_version, *opsets.values())):
        raise InputError("model: this is not a serialised ONNX model; it names no format version or operator set")
    return Needs("onnxruntime", ONNX_RUNTIME, ir_version, dict(sorted(opsets.items())))


def _operator_set(message: memoryview) -> tuple[str, int]:
    found = dict(fields(message))
    domain, version = found.get(_DOMAIN, memoryview(b"")), found.get(_VERSION, 0)
    if not isinstance(domain, memoryview) or not isinstance(version, int):
        raise TypeError("not an operator set")
    return str(domain, "utf-8") or "ai.onnx", version
