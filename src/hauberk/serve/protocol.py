"""The Open Inference Protocol v2 and its binary tensor extension: bytes become arrays, arrays become bytes.

Specification: https://github.com/kserve/open-inference-protocol (REST, version 2) and
https://github.com/triton-inference-server/server/blob/main/docs/protocol/extension_binary_data.md. A request is the
JSON header, followed by the tensors that say `binary_data_size`, in the order of the inputs.
"""

from __future__ import annotations

import math
import re
import reprlib
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from hauberk.errors import InputError, one_line
from hauberk.tensors import TensorSpec

DATATYPES = {
    "bool": "BOOL",
    "uint8": "UINT8",
    "uint16": "UINT16",
    "uint32": "UINT32",
    "uint64": "UINT64",
    "int8": "INT8",
    "int16": "INT16",
    "int32": "INT32",
    "int64": "INT64",
    "float16": "FP16",
    "float32": "FP32",
    "float64": "FP64",
}
"""The protocol's name of each dtype."""

RECORDS = "records"
"""The input that takes raw records in place of the model's own: BYTES [N], one JSON object an element."""

_BYTES = "BYTES"
_MOST_INPUTS = 64
_LONGEST_ID = 256
_LENGTH = struct.Struct("<I")
_NESTED = re.compile(rb"\[\s*\[")

_Parameters = dict[str, bool | int | float | str | None]
_Count = Annotated[int, msgspec.Meta(ge=0)]


class TensorMetadata(msgspec.Struct, frozen=True):
    """A tensor as the protocol describes it; -1 is a free dimension."""

    name: str
    datatype: str
    shape: tuple[int, ...]


class ModelMetadata(msgspec.Struct, frozen=True):
    """What `GET /v2/models/NAME` answers."""

    name: str
    versions: tuple[str, ...]
    platform: str
    inputs: tuple[TensorMetadata, ...]
    outputs: tuple[TensorMetadata, ...]


class _Input(msgspec.Struct, frozen=True):
    name: str
    shape: list[_Count]
    datatype: str
    parameters: _Parameters = {}
    data: msgspec.Raw = msgspec.Raw()


class _Output(msgspec.Struct, frozen=True):
    name: str
    parameters: _Parameters = {}


class _Request(msgspec.Struct, frozen=True):
    inputs: Annotated[list[_Input], msgspec.Meta(max_length=_MOST_INPUTS)]
    id: Annotated[str, msgspec.Meta(max_length=_LONGEST_ID)] = ""
    parameters: _Parameters = {}
    outputs: Annotated[list[_Output], msgspec.Meta(max_length=_MOST_INPUTS)] = []


class _Answer(msgspec.Struct, omit_defaults=True):
    """One tensor of a response."""

    name: str
    datatype: str
    shape: Sequence[int]
    parameters: dict[str, int] | None = None
    data: list[Any] | None = None


class _Response(msgspec.Struct, omit_defaults=True):
    model_name: str
    model_version: str
    outputs: list[_Answer]
    id: str = ""


@dataclass(frozen=True)
class Request:
    """An inference request, decoded.

    Attributes:
        identifier: Chosen by the client, sent back with the response; may be empty.
        tensors: The model's own inputs by name; empty where `records` is given.
        records: Raw records, one JSON text each; `None` where tensors are given.
        outputs: Wanted outputs in the wanted order, and whether each is wanted as binary.
    """

    identifier: str
    tensors: dict[str, NDArray[Any]]
    records: list[bytes] | None
    outputs: tuple[tuple[str, bool], ...]


def describe(spec: TensorSpec) -> TensorMetadata:
    """A tensor in the protocol's words."""
    shape = tuple(size if isinstance(size, int) else -1 for size in spec.shape)
    return TensorMetadata(spec.name, DATATYPES[spec.dtype], shape)


class Codec:
    """Decodes requests for one model and encodes its responses.

    Args:
        metadata: The model.
        most_records: Records that one request may hold.
    """

    def __init__(self, metadata: ModelMetadata, *, most_records: int) -> None:
        self._metadata = metadata
        self._most_records = most_records
        self._own = {tensor.name: tensor for tensor in metadata.inputs}
        self._known = {RECORDS: TensorMetadata(RECORDS, _BYTES, (-1,))} | self._own
        self._outputs = {tensor.name: tensor for tensor in metadata.outputs}
        self._request = msgspec.json.Decoder(_Request)
        self._lists: dict[tuple[str, int], msgspec.json.Decoder[list[Any]]] = {
            (kind.__name__, depth): msgspec.json.Decoder(list[kind] if depth == 1 else list[list[kind]])  # type: ignore[valid-type]
            for kind in (float, int, str)
            for depth in (1, 2)
        }
        self._encode = msgspec.json.Encoder().encode

    def decode(self, body: bytes, header_length: int | None) -> Request:
        """Decode a request.

        Args:
            body: The whole body.
            header_length: Bytes of its JSON header; `None` where all of it is JSON.

        Raises:
            InputError: It is not a request of this protocol, or not one for this model.
        """
        message, rest = self._split(body, header_length)
        values: dict[str, Any] = {}
        position = 0
        for item in message.inputs:
            spec = self._checked(item, values)
            size = item.parameters.get("binary_data_size")
            if size is None:
                values[item.name] = self._from_json(item, spec)
                continue
            if not isinstance(size, int) or isinstance(size, bool) or not 0 <= size <= len(rest) - position:
                raise InputError(
                    f"input {item.name}: binary_data_size is not a number of bytes that the body still holds"
                )
            if item.data:
                raise InputError(f"input {item.name}: give either data or binary_data_size")
            values[item.name] = _from_binary(rest[position : position + size], item, spec)
            position += size
        if position != len(rest):
            raise InputError(f"the body holds {len(rest) - position} bytes more than the inputs' binary_data_size say")
        records = values.pop(RECORDS, None)
        if set(values) != (set(self._own) if records is None else set()):
            wanted = " and ".join(self._own)
            raise InputError(f"give the inputs {wanted}, or {RECORDS} alone")
        if len({len(value) for value in values.values()}) > 1:
            raise InputError("the inputs hold different numbers of records")
        return Request(message.id, values, records, self._wanted(message))

    def encode(self, request: Request, results: Mapping[str, NDArray[Any]]) -> tuple[bytes, int | None]:
        """Encode a response.

        Args:
            request: What is answered.
            results: Every output of the model by name.

        Returns:
            The body, and the length of its JSON header where binary tensors follow it.
        """
        answers, binary = [], []
        for name, as_binary in request.outputs:
            array = results[name]
            answer = _Answer(name, self._outputs[name].datatype, array.shape)
            if as_binary:
                binary.append(array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes())
                answer.parameters = {"binary_data_size": len(binary[-1])}
            else:
                answer.data = array.ravel().tolist()
            answers.append(answer)
        metadata = self._metadata
        header = self._encode(_Response(metadata.name, metadata.versions[0], answers, request.identifier))
        if not binary:
            return header, None
        return b"".join([header, *binary]), len(header)

    def _split(self, body: bytes, header_length: int | None) -> tuple[_Request, bytes]:
        if header_length is not None and header_length > len(body):
            raise InputError(f"Inference-Header-Content-Length is {header_length}, but the body has {len(body)} bytes")
        header, rest = (body, b"") if header_length is None else (body[:header_length], body[header_length:])
        try:
            return self._request.decode(header), rest
        except RecursionError:
            raise InputError("the request is nested too deeply") from None
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise InputError(f"not an inference request: {one_line(error)}") from None

    def _checked(self, item: _Input, values: Mapping[str, Any]) -> TensorMetadata:
        spec = self._known.get(item.name)
        if spec is None:
            raise InputError(f"there is no input {reprlib.repr(item.name)}; give {', '.join(self._known)}")
        if item.name in values:
            raise InputError(f"input {item.name} is given twice")
        if item.datatype != spec.datatype:
            raise InputError(f"input {item.name} is {reprlib.repr(item.datatype)}; give {spec.datatype}")
        fits = len(item.shape) == len(spec.shape) and all(
            wanted in (-1, size) for size, wanted in zip(item.shape, spec.shape, strict=True)
        )
        if not fits:
            wanted = ["N" if size == -1 else size for size in spec.shape]
            raise InputError(f"input {item.name} has shape {reprlib.repr(item.shape)}; give {wanted}".replace("'", ""))
        if not 1 <= item.shape[0] <= self._most_records:
            raise InputError(f"input {item.name} holds {item.shape[0]} records; give 1 to {self._most_records}")
        return spec

    def _from_json(self, item: _Input, spec: TensorMetadata) -> Any:
        text = bytes(item.data)
        if not text:
            raise InputError(f"input {item.name} has neither data nor binary_data_size")
        count = math.prod(item.shape)
        is_text = spec.datatype == _BYTES
        kind = "str" if is_text else "float" if spec.datatype.startswith("FP") else "int"
        # Numbers hold no commas, so counting them tells how many there are before memory is spent on them.
        if not is_text and text.count(b",") != max(count - 1, 0):
            raise InputError(f"input {item.name}: the shape {item.shape} does not say how many values data holds")
        nested = len(item.shape) > 1 and _NESTED.match(text) is not None
        try:
            values = self._lists[kind, 2 if nested else 1].decode(text)
            if is_text:
                return _exactly([value.encode() for value in values], item)
            dtype = _DTYPE[spec.datatype]
            with np.errstate(over="ignore"):  # what is too large for a float32 becomes infinite and is refused as such
                array = np.array(values, dtype=dtype)
        except (msgspec.MsgspecError, ValueError, OverflowError, RecursionError) as error:
            raise InputError(f"input {item.name}: data is not a list of {spec.datatype}: {one_line(error)}") from None
        if array.size != count or (nested and list(array.shape) != item.shape):
            raise InputError(f"input {item.name}: data does not have the shape {item.shape}")
        return array.reshape(item.shape)

    def _wanted(self, message: _Request) -> tuple[tuple[str, bool], ...]:
        default = _flag(message.parameters, "binary_data_output", default=False)
        if not message.outputs:
            return tuple((name, default) for name in self._outputs)
        wanted: dict[str, bool] = {}
        for item in message.outputs:
            if item.name not in self._outputs or item.name in wanted:
                known = ", ".join(self._outputs)
                raise InputError(f"output {reprlib.repr(item.name)} is not there or named twice; there are {known}")
            if "classification" in item.parameters:
                raise InputError(f"output {item.name}: the classification extension is not offered")
            wanted[item.name] = _flag(item.parameters, "binary_data", default=default)
        return tuple(wanted.items())


_DTYPE = {datatype: np.dtype(dtype).newbyteorder("<") for dtype, datatype in DATATYPES.items()}


def _from_binary(data: bytes, item: _Input, spec: TensorMetadata) -> Any:
    if spec.datatype == _BYTES:
        return _exactly(_split_elements(data, item), item)
    dtype = _DTYPE[spec.datatype]
    if len(data) != math.prod(item.shape) * dtype.itemsize:
        raise InputError(f"input {item.name}: {len(data)} bytes are not {spec.datatype} of shape {item.shape}")
    return np.frombuffer(data, dtype=dtype).reshape(item.shape)


def _split_elements(data: bytes, item: _Input) -> list[bytes]:
    """Elements of a BYTES tensor: each its length (uint32, little endian), then its bytes."""
    elements: list[bytes] = []
    position = 0
    while position < len(data):
        start = position + _LENGTH.size
        end = start + _LENGTH.unpack_from(data, position)[0] if start <= len(data) else start
        if end > len(data):
            raise InputError(f"input {item.name}: element {len(elements)} reaches beyond its tensor")
        elements.append(data[start:end])
        position = end
    return elements


def _exactly(elements: list[bytes], item: _Input) -> list[bytes]:
    if len(elements) != item.shape[0]:
        raise InputError(f"input {item.name} has shape {item.shape}, but {len(elements)} elements")
    return elements


def _flag(parameters: Mapping[str, object], name: str, *, default: bool) -> bool:
    value = parameters.get(name, default)
    if not isinstance(value, bool):
        raise InputError(f"parameter {name} is {reprlib.repr(value)}; give true or false")
    return value
