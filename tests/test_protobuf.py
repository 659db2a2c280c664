"""What is read from protobuf messages without protobuf is what protobuf reads."""

from __future__ import annotations

import pytest
from google.protobuf.empty_pb2 import Empty
from google.protobuf.message import DecodeError
from google.protobuf.unknown_fields import UnknownFieldSet
from hypothesis import example, given, settings
from hypothesis import strategies as st
from onnx import ModelProto, StringStringEntryProto

from hauberk import protobuf
from hauberk.errors import RefusedModelError

VARINT, BYTES, GROUP = 0, 2, 3


def reference(message: bytes) -> list[tuple[int, int, object]]:
    """Number, wire type and value of each field, as protobuf reads it: to an empty message, every field is unknown."""
    return [(field.field_number, field.wire_type, field.data) for field in UnknownFieldSet(Empty.FromString(message))]


def ours(message: bytes) -> list[tuple[int, object]]:
    return [
        (number, bytes(v) if isinstance(v, memoryview) else v) for number, v in protobuf.fields(memoryview(message))
    ]


def varint(value: int) -> bytes:
    digits = [value >> shift & 0x7F for shift in range(0, max(1, value.bit_length()), 7)]
    return bytes([*(digit | 0x80 for digit in digits[:-1]), digits[-1]])


def wire(number: int, kind: int, content: bytes) -> bytes:
    return varint(number << 3 | kind) + (varint(len(content)) if kind == BYTES else b"") + content


NUMBERS = st.integers(1, 2**29 - 1)
FIELDS = st.one_of(
    st.builds(lambda number, value: wire(number, VARINT, varint(value)), NUMBERS, st.integers(0, 2**64 - 1)),
    st.builds(lambda number, value: wire(number, BYTES, value), NUMBERS, st.binary(max_size=300)),
    st.builds(lambda number, value: wire(number, 1, value), NUMBERS, st.binary(min_size=8, max_size=8)),
    st.builds(lambda number, value: wire(number, 5, value), NUMBERS, st.binary(min_size=4, max_size=4)),
)


@given(st.lists(FIELDS).map(b"".join))
def test_every_field_is_found_as_protobuf_finds_it(message):
    assert ours(message) == [(number, value) for number, kind, value in reference(message) if kind in {VARINT, BYTES}]


@settings(max_examples=500)
@given(
    st.one_of(st.binary(max_size=40), st.lists(st.sampled_from(list(b"\x00\x01\x08\x0a\x0d\x7f\x80\xff"))).map(bytes))
)
@example(b"\x08\x80\x80\x80\x80\x80\x80\x80\x80\x80\x7f")  # a number with more bits than 64: the upper ones are dropped
@example(b"\x88\x00\x01")  # a tag that is written longer than needed
@example(b"\x0a\x80\x00")
def test_whatever_the_bytes_protobuf_reads_the_same_or_both_refuse(message):
    try:
        expected = reference(message)
    except DecodeError:
        with pytest.raises(RefusedModelError, match="not a serialised ONNX model"):
            ours(message)
        return
    if any(kind == GROUP or number == 0 for number, kind, _ in expected):  # the reader in C++ refuses a field 0
        with pytest.raises(RefusedModelError, match=r"wire type|field number"):
            ours(message)
        return
    assert ours(message) == [(number, value) for number, kind, value in expected if kind in {VARINT, BYTES}]


@pytest.mark.parametrize(
    "message",
    [
        b"\xea\x80\x80\x80\x10\x00",  # field 13 plus 2**29: readers in C++ drop the upper bits and see field 13
        b"\xea\x80\x80\x80\x80\x00\x00",  # field 13 in six bytes
        b"\x02\x00",  # field 0
        b"\x0b\x0c",  # a group
        b"\x0a\x80\x80\x80\x80\x10",  # 2**32 bytes that are none
        b"\x0a\x05abcd",
        b"\x09abcdefg",
        b"\x08" + b"\x80" * 10 + b"\x00",
        b"\x08",
        b"\x80",
    ],
)
def test_what_readers_disagree_on_or_refuse_is_refused(message):
    with pytest.raises(RefusedModelError, match="not a serialised ONNX model"):
        ours(message)


def test_values_are_views_of_the_message():
    message = bytearray(wire(1, BYTES, b"weights"))
    ((_, value),) = protobuf.fields(memoryview(message))
    message[-1:] = b"S"
    assert bytes(value) == b"weightS"


def test_a_text_is_the_last_one_of_its_number():
    message = b"".join(StringStringEntryProto(key=key, value="v").SerializeToString() for key in ("first", "last"))
    assert protobuf.text(memoryview(message), 1) == StringStringEntryProto.FromString(message).key == "last"
    assert protobuf.text(memoryview(message), 3) == ""


def test_a_number_of_fixed_width_does_not_pass_for_a_text():
    message = wire(1, BYTES, b"text") + wire(1, 5, b"fake") + wire(1, 1, b"fakefake")
    assert protobuf.text(memoryview(message), 1) == StringStringEntryProto.FromString(message).key == "text"


def test_messages_are_the_fields_that_have_a_length():
    message = ModelProto(ir_version=9, producer_name="someone").SerializeToString()
    assert [(number, bytes(value)) for number, value in protobuf.messages(memoryview(message))] == [(2, b"someone")]


def test_a_large_field_is_stepped_over_not_walked(monkeypatch):
    steps = []
    read = protobuf._varint
    monkeypatch.setattr(protobuf, "_varint", lambda *arguments: steps.append(1) or read(*arguments))
    assert len(list(protobuf.fields(memoryview(wire(9, BYTES, bytes(1 << 20)) * 3)))) == 3
    assert len(steps) == 6  # a tag and a length each
