"""Safetensors: what its own library refuses is never safe, and what is safe it reads as we do."""

from __future__ import annotations

import json
import struct

import pytest
import safetensors
import torch
from corpus import hostile_safetensors
from corpus.examined import examined
from corpus.hostile_safetensors import tensors, with_header
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save

from hauberk.scan.content import BytesContent, FileContent
from hauberk.scan.examination import Examination
from hauberk.scan.formats import examine, recognise
from hauberk.scan.report import Verdict
from hauberk.scan.weights.safetensors import SAFETENSORS

RULE_OF = {
    "header-of-terabytes": "large-header", "header-beyond-the-file": "header", "header-cut": "header",
    "header-no-utf8": "header", "header-half-a-character": "header", "header-nested-deeply": "header",
    "header-two-objects": "header", "key-twice": "duplicate-key", "key-twice-by-escape": "duplicate-key",
    "key-twice-in-an-entry": "duplicate-key", "key-twice-in-metadata": "duplicate-key", "metadata-number": "metadata",
    "metadata-nested": "metadata", "metadata-no-object": "metadata", "entry-with-more": "entry",
    "entry-with-less": "entry", "entry-no-object": "entry", "data-type-unknown": "data-type",
    "shape-negative": "header", "shape-fraction": "header", "shape-exponent": "header", "shape-minus-zero": "header",
    "shape-truth": "entry", "shape-overflows": "shape", "shape-overflows-to-nothing": "shape",
    "shape-of-many-dimensions": "shape", "offsets-beyond-the-file": "bounds", "offsets-backward": "bounds",
    "size-too-small": "bounds", "size-too-large": "bounds", "overlap": "overlap", "same-place": "overlap",
    "empty-inside-another": "overlap", "gap-at-the-front": "gap", "gap-between": "gap", "gap-at-the-end": "gap",
    "half-a-byte": "bounds",
}  # fmt: skip


@pytest.mark.parametrize(("name", "rule"), RULE_OF.items())
def test_each_fault_is_found_by_its_rule(name, rule):
    build = next(build for case, build, *_ in hostile_safetensors._FILES if case == name)
    assert f"safetensors-{rule}" in {finding.rule for finding in examined(build()).findings}


def test_every_rule_has_a_case():
    told = {"safetensors-no-tensor", "safetensors-empty-tensors", "safetensors-long-header"}  # tested below
    assert {f"safetensors-{rule}" for rule in RULE_OF.values()} | told == {rule.id for rule in SAFETENSORS.rules}


def test_a_file_without_tensors_is_safe_and_says_so():
    examination = examined(with_header("{}"))
    assert examination.verdict is Verdict.SAFE
    assert [finding.rule for finding in examination.findings] == ["safetensors-no-tensor"]


def test_empty_tensors_share_a_place_and_are_told():
    data = tensors(a=("F32", [0], [0, 0]), b=("F32", [0, 3], [0, 0]), c=("F32", [2], [0, 8]))
    examination = examined(data)
    assert examination.verdict is Verdict.SAFE
    assert [finding.rule for finding in examination.findings] == ["safetensors-empty-tensors"]
    assert len(safetensors.deserialize(data)) == 3


def test_spaces_may_stand_behind_the_header():
    assert examined(with_header(json.dumps({"a": {"dtype": "U8", "shape": [1], "data_offsets": [0, 1]}}) + "   ", b"x")
                    ).verdict is Verdict.SAFE  # fmt: skip


def test_a_header_that_is_too_long_to_look_at_is_unknown():
    examination = examined(with_header("{}".ljust((16 << 20) + 1), b""))
    assert [finding.rule for finding in examination.findings] == ["safetensors-long-header"]


def test_every_data_type_of_the_library_is_known():
    kinds = {
        torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.int32, torch.int16, torch.int8,
        torch.uint8, torch.bool, torch.uint16, torch.uint32, torch.uint64, torch.complex64, torch.float8_e4m3fn,
        torch.float8_e5m2, torch.float8_e8m0fnu, torch.float8_e4m3fnuz, torch.float8_e5m2fnuz,
    }  # fmt: skip
    data = save({str(kind): torch.zeros(4, 2).to(kind) for kind in kinds}, {"format": "pt"})
    examination = examined(data)
    assert examination.verdict is Verdict.SAFE, examination.findings
    assert examination.facts["tensors"] == len(kinds)


@pytest.mark.parametrize(("kind", "elements", "size"), [("F4", 4, 2), ("F6_E2M3", 4, 3), ("F6_E3M2", 8, 6)])
def test_types_of_less_than_a_byte(kind, elements, size):
    data = tensors(bytes(size), a=(kind, [elements], [0, size]))
    assert examined(data).verdict is Verdict.SAFE
    assert safetensors.deserialize(data)[0][1]["shape"] == [elements]


def test_tensors_are_not_read(tmp_path):
    """Only the header costs: a hole of 64 GB is scanned as quickly."""
    path = tmp_path / "large.safetensors"
    size = 1 << 36
    header = json.dumps({"a": {"dtype": "F32", "shape": [size // 4], "data_offsets": [0, size]}}).encode()
    with path.open("w+b") as file:
        file.write(struct.pack("<Q", len(header)) + header)
        file.truncate(8 + len(header) + size)
        reads = []
        content = FileContent(file.fileno())
        inner = content._read
        content._read = lambda offset, length: reads.append(length) or inner(offset, length)
        examination = Examination()
        examine(content, examination)
    assert examination.verdict is Verdict.SAFE
    assert sum(reads) < 1 << 20


def library_sees(data: bytes) -> dict[str, tuple[object, ...]] | None:
    try:
        return {
            name: (each["dtype"], tuple(each["shape"]), bytes(each["data"]))
            for name, each in safetensors.deserialize(data)
        }
    except safetensors.SafetensorError:
        return None


def header_sees(data: bytes) -> dict[str, tuple[object, ...]]:
    """An independent reading of a file that is called safe."""
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    header.pop("__metadata__", None)
    return {
        name: (each["dtype"], tuple(each["shape"]), data[8 + length :][slice(*each["data_offsets"])])
        for name, each in header.items()
    }


NAMES = st.sampled_from(["a", "b", "\u00e9", "__metadata__", "a.weight", ""])
NUMBERS = st.one_of(
    st.integers(0, 9), st.sampled_from([-1, 12, 16, 24, 1 << 31, 1 << 32, 1 << 62, 1 << 63, 1 << 64, 2.0, True, None])
)
ENTRIES = st.one_of(
    st.fixed_dictionaries(
        {
            "dtype": st.sampled_from(["F32", "F32", "U8", "F64", "F4", "BOOL", "f32", "F128", 4]),
            "shape": st.lists(NUMBERS, max_size=3),
            "data_offsets": st.lists(NUMBERS, min_size=2, max_size=3),
        },
        optional={"extra": st.just(1)},
    ),
    st.dictionaries(st.sampled_from(["dtype", "k"]), st.sampled_from(["F32", "v", 1])),
    st.just([]),
)


@st.composite
def placed(draw) -> bytes:
    """Tensors one behind the other, and then perhaps one thing that is wrong."""
    at, header = 0, {}
    for name in draw(st.lists(NAMES.filter(lambda name: name != "__metadata__"), unique=True, max_size=4)):
        shape = draw(st.lists(st.integers(0, 3), max_size=3))
        kind, size = draw(st.sampled_from([("F32", 4), ("U8", 1), ("F64", 8), ("F8_E4M3", 1), ("C64", 8)]))
        for each in shape:
            size *= each
        header[name] = {"dtype": kind, "shape": shape, "data_offsets": [at, at + size]}
        at += size
    if header and draw(st.booleans()):
        entry = header[draw(st.sampled_from(sorted(header)))]
        entry[draw(st.sampled_from(["shape", "data_offsets"]))] = draw(st.lists(NUMBERS, max_size=3))
    text = json.dumps(header, ensure_ascii=draw(st.booleans()))
    return with_header(text, bytes(range(1, 251))[: max(0, at + draw(st.sampled_from([0, 0, 0, 1, -1])))])


WILD = st.builds(
    lambda header, data: with_header(json.dumps(header), data), st.dictionaries(NAMES, ENTRIES, max_size=3),
    st.binary(max_size=24),
)  # fmt: skip


@st.composite
def damaged(draw) -> bytes:
    data = bytearray(draw(placed()))
    for _ in range(draw(st.integers(1, 3))):
        data[draw(st.integers(0, len(data) - 1))] = draw(st.sampled_from(list(b'"{}[],:0129 -.eE\x00\xff\\u\n')))
    return bytes(data)


@settings(max_examples=300, deadline=None)
@given(data=st.one_of(placed(), placed(), damaged(), WILD))
def test_the_library_agrees_with_what_is_safe(data):
    theirs = library_sees(data)
    safe = examined(data).verdict is Verdict.SAFE
    if theirs is None:
        assert not safe
    elif safe:
        assert theirs == header_sees(data)


def test_it_is_recognised_by_its_content():
    assert recognise(BytesContent(tensors(a=("F32", [2], [0, 8])))) is SAFETENSORS
    assert recognise(BytesContent(b'{"a": 1}')) is not SAFETENSORS
