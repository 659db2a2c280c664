"""What a serialised ONNX model says of itself, read without the `onnx` package, which production does not have."""

from __future__ import annotations

from collections.abc import Iterator

from hauberk.bundle.manifest import Needs
from hauberk.errors import InputError

ONNX_RUNTIME = "1.23"
"""The lowest version of ONNX Runtime that this library works with."""

# Field numbers in onnx.proto3: ModelProto.ir_version, ModelProto.opset_import, OperatorSetIdProto.domain and .version.
_IR_VERSION, _OPSET_IMPORT, _DOMAIN, _VERSION = 1, 8, 1, 2
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_MOST = 1 << 31


def needs_of(model: bytes) -> Needs:
    """Read format and operator set versions from a serialised `ModelProto`.

    Raises:
        InputError: It is not one.
    """
    ir_version = 0
    opsets: dict[str, int] = {}
    try:
        for number, value in _fields(memoryview(model)):
            if number == _IR_VERSION and isinstance(value, int):
                ir_version = value
            elif number == _OPSET_IMPORT and isinstance(value, memoryview):
                domain, version = _operator_set(value)
                opsets[domain] = version
    except (ValueError, TypeError, IndexError):
        raise InputError("model: this is not a serialised ONNX model") from None
    if not opsets or not all(1 <= version < _MOST for version in (ir_version, *opsets.values())):
        raise InputError("model: this is not a serialised ONNX model; it names no format version or operator set")
    return Needs("onnxruntime", ONNX_RUNTIME, ir_version, dict(sorted(opsets.items())))


def _operator_set(message: memoryview) -> tuple[str, int]:
    fields = dict(_fields(message))
    domain, version = fields.get(_DOMAIN, memoryview(b"")), fields.get(_VERSION, 0)
    if not isinstance(domain, memoryview) or not isinstance(version, int):
        raise TypeError("not an operator set")
    return str(domain, "utf-8") or "ai.onnx", version


def _fields(message: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """Number and value of each field of a protobuf message; what is inside a field is not looked at."""
    position = 0
    while position < len(message):
        key, position = _varint(message, position)
        kind = key & 7
        if kind == _VARINT:
            value, position = _varint(message, position)
            yield key >> 3, value
            continue
        if kind == _BYTES:
            size, position = _varint(message, position)
        elif kind in {_FIXED64, _FIXED32}:
            size = 8 if kind == _FIXED64 else 4
        else:
            raise ValueError("unknown wire type")
        if position + size > len(message):
            raise ValueError("cut off")
        yield key >> 3, message[position : position + size]
        position += size


def _varint(message: memoryview, position: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        byte = message[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
    raise ValueError("not a number")
