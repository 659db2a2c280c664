"""Safetensors: a JSON header that says where every tensor lies, and the bytes of all tensors.

The format runs nothing, so what is left is to disagree about it: two readers that take two tensors for one name, a
tensor that reaches beyond the file or into another one, a size that overflows. The header must be exactly what the
specification asks for; what the `safetensors` library refuses is never called safe, and a test compares the two.

Format: https://huggingface.co/docs/safetensors.
"""

from __future__ import annotations

import json
import math
from typing import Any, NoReturn

from hauberk.scan.content import Content
from hauberk.scan.examination import Examination, StopScan
from hauberk.scan.formats import Format
from hauberk.scan.report import Outcome, Rule, Severity, shown

_FORMAT = "https://huggingface.co/docs/safetensors"
_AUDIT = "https://huggingface.co/blog/safetensors-security-audit"

HEADER = Rule(
    "safetensors-header",
    "no valid header",
    Severity.MEDIUM,
    Outcome.UNKNOWN,
    "The header is cut, damaged or not what the specification asks for; readers refuse it or guess. Get it again.",
    _FORMAT,
)
LARGE_HEADER = Rule(
    "safetensors-large-header",
    "a header beyond reason",
    Severity.HIGH,
    Outcome.UNSAFE,
    "The specification ends at 100 MB; readers that believe a larger figure run out of memory.",
    _AUDIT,
)
LONG_HEADER = Rule(
    "safetensors-long-header",
    "a header larger than is looked at",
    Severity.LOW,
    Outcome.UNKNOWN,
    "A hundred thousand tensors need a tenth of it. Save the tensors again, in several files.",
    _FORMAT,
)
DUPLICATE = Rule(
    "safetensors-duplicate-key",
    "a key that occurs twice",
    Severity.HIGH,
    Outcome.UNSAFE,
    "Some readers take the first one, others the last: the tensors that were checked are not those that are loaded.",
    _AUDIT,
)
ENTRY = Rule(
    "safetensors-entry",
    "an entry that is no tensor",
    Severity.MEDIUM,
    Outcome.UNKNOWN,
    "An entry has a data type, a shape and two offsets, and nothing else; readers differ in what they make of others.",
    _FORMAT,
)
DATA_TYPE = Rule(
    "safetensors-data-type",
    "a data type that is not known",
    Severity.LOW,
    Outcome.UNKNOWN,
    "How many bytes such a tensor takes is not known, so neither is whether it fits.",
    _FORMAT,
)
METADATA = Rule(
    "safetensors-metadata",
    "metadata that is not text",
    Severity.MEDIUM,
    Outcome.UNKNOWN,
    "`__metadata__` maps text to text; anything else has no place in the format.",
    _FORMAT,
)
SHAPE = Rule(
    "safetensors-shape",
    "a shape beyond reason",
    Severity.HIGH,
    Outcome.UNSAFE,
    "The number of its elements is beyond what 64 bits count, or it has more dimensions than any reader: sizes that are"
    " computed from it overflow.",
    "https://cwe.mitre.org/data/definitions/190.html",
)
OVERLAP = Rule(
    "safetensors-overlap",
    "tensors that overlap",
    Severity.HIGH,
    Outcome.UNSAFE,
    "Bytes of one tensor are those of another one too, which no writer does: what is changed in one changes in the"
    " other, or a second reading of the same bytes is hidden in them.",
    _AUDIT,
)
GAP = Rule(
    "safetensors-gap",
    "bytes that belong to no tensor",
    Severity.MEDIUM,
    Outcome.UNKNOWN,
    "The specification allows none, because another format could lie in them.",
    _AUDIT,
)
BOUNDS = Rule(
    "safetensors-bounds",
    "a tensor that does not fit its place",
    Severity.HIGH,
    Outcome.UNSAFE,
    "It reaches beyond the file or its place is not as long as its shape: a reader that trusts it reads other memory.",
    "https://cwe.mitre.org/data/definitions/125.html",
)
EMPTY = Rule(
    "safetensors-no-tensor",
    "no tensor",
    Severity.NOTE,
    Outcome.NOTE,
    "The file is valid and holds no tensor.",
)
ALIASED = Rule(
    "safetensors-empty-tensors",
    "empty tensors at one place",
    Severity.NOTE,
    Outcome.NOTE,
    "Tensors without elements take no bytes, so several have the same offsets. Nothing is read for them.",
    _FORMAT,
)

_RULES = (
    HEADER, LARGE_HEADER, LONG_HEADER, DUPLICATE, ENTRY, DATA_TYPE, METADATA, SHAPE, OVERLAP, GAP, BOUNDS, EMPTY,
    ALIASED,
)  # fmt: skip

_LENGTH = 8
_LARGEST = 100_000_000  # bytes of a header, by the specification
_FOLLOWED = 16 << 20  # a header of 16 MiB takes about a second and 200 MB
_MOST_DIMENSIONS = 64  # as torch
_MOST_ELEMENTS = (1 << 63) - 1
_LONGEST_NUMBER = 20  # digits of the largest number of 64 bits
_LARGEST_NUMBER = (1 << 64) - 1
_KEYS = {"dtype", "shape", "data_offsets"}

_BITS = {
    "F64": 64, "F32": 32, "F16": 16, "BF16": 16, "F8_E4M3": 8, "F8_E5M2": 8, "F8_E8M0": 8, "F8_E4M3FNUZ": 8,
    "F8_E5M2FNUZ": 8, "F6_E2M3": 6, "F6_E3M2": 6, "F4": 4, "C64": 64, "I64": 64, "I32": 32, "I16": 16, "I8": 8,
    "U64": 64, "U32": 32, "U16": 16, "U8": 8, "BOOL": 8,
}  # fmt: skip


def _recognise(head: bytes, content: Content) -> bool:
    if head[_LENGTH : _LENGTH + 1] != b"{" or content.size < _LENGTH + 2:
        return False
    return head[_LENGTH + 1 :].lstrip(b" \t\r\n")[:1] in {b'"', b"}"}


def _examine(content: Content, examination: Examination) -> None:
    length = int.from_bytes(content.read(0, _LENGTH), "little")
    if length > _LARGEST:
        _stop(examination, LARGE_HEADER, f"{length} bytes")
    if length > content.size - _LENGTH:
        _stop(examination, HEADER, f"a header of {length} bytes in a file of {content.size}")
    if length > _FOLLOWED:
        _stop(examination, LONG_HEADER, f"{length} bytes")
    header = _parsed(content.read(_LENGTH, length), examination)
    examination.check_time()
    if "__metadata__" in header:
        _check_metadata(header.pop("__metadata__"), examination)
    tensors = _Tensors(content.size - _LENGTH - length, examination)
    for name, entry in header.items():
        tensors.add(name, entry)
    tensors.check_places()
    examination.facts["tensors"] = len(header)
    if not header:
        examination.find(EMPTY, "a header without entries")


class _TwiceError(ValueError):
    """A key occurs twice."""


class _NoNumberError(ValueError):
    """A number that is no count."""


def _parsed(data: bytes, examination: Examination) -> dict[str, Any]:
    """The header; keys that occur twice, at any level, are found.

    Raises:
        StopScan: It is no JSON object; the finding is noted.
    """
    try:
        # A number is a count here: no sign, no fraction, at most 64 bits.
        header = json.loads(
            data.decode("utf-8"),
            object_pairs_hook=_object,
            parse_int=_count,
            parse_float=_no_count,
            parse_constant=_no_count,
        )
        json.dumps(header, ensure_ascii=False).encode("utf-8")  # half of a surrogate pair is no character
    except _TwiceError as error:
        _stop(examination, DUPLICATE, str(error))
    except _NoNumberError as error:
        _stop(examination, HEADER, str(error))
    except (ValueError, RecursionError) as error:
        _stop(examination, HEADER, f"no JSON: {shown(str(error))}")
    if not isinstance(header, dict):
        _stop(examination, HEADER, "no JSON object")
    return header


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                raise _TwiceError(repr(shown(key)))
            seen.add(key)
    return found


def _count(text: str) -> int:
    if text.startswith("-") or len(text) > _LONGEST_NUMBER or (value := int(text)) > _LARGEST_NUMBER:
        raise _NoNumberError(f"the number {shown(text, 30)}, where a count should be")
    return value


def _no_count(text: str) -> None:
    raise _NoNumberError(f"the number {shown(text, 30)}, where a count should be")


def _check_metadata(metadata: object, examination: Examination) -> None:
    if not isinstance(metadata, dict):
        examination.find(METADATA, f"a {type(metadata).__name__}, where an object of texts should be")
        return
    for key, value in metadata.items():
        if not isinstance(value, str):
            examination.find(METADATA, f"'{shown(key)}' is a {type(value).__name__}")


class _Tensors:
    """The tensors of a header, and whether they fill what lies behind it."""

    def __init__(self, size: int, examination: Examination) -> None:
        self._size = size
        self._examination = examination
        self._places: list[tuple[int, int, str]] = []

    def add(self, name: str, entry: object) -> None:
        """Note a tensor and check all of it that does not depend on the others."""
        if not isinstance(entry, dict) or entry.keys() != _KEYS:
            self._examination.find(ENTRY, f"'{shown(name)}'")
            return
        data_type, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
        if not (isinstance(data_type, str) and _counts(shape) and _counts(offsets) and len(offsets) == 2):
            self._examination.find(ENTRY, f"'{shown(name)}': a data type, a shape or two offsets are not what they are")
            return
        if len(shape) > _MOST_DIMENSIONS:
            self._examination.find(SHAPE, f"'{shown(name)}' has {len(shape)} dimensions")
            return
        if math.prod(size or 1 for size in shape) * 64 > _MOST_ELEMENTS:
            # Sizes beside a zero count too: strides are computed from them.
            self._examination.find(SHAPE, f"'{shown(name)}' has the shape {shown(str(shape))}")
            return
        start, stop = offsets
        if stop < start or stop > self._size:
            what = f"'{shown(name)}' lies at {start} to {stop} of {self._size} bytes"
            self._examination.find(BOUNDS, what)
            return
        self._places.append((start, stop, name))
        if data_type not in _BITS:
            self._examination.find(DATA_TYPE, f"'{shown(name)}' has the data type '{shown(data_type, 30)}'")
            return
        bits = math.prod(shape) * _BITS[data_type]
        if bits % 8 or stop - start != bits // 8:
            what = f"'{shown(name)}' takes {bits / 8:g} bytes and has {stop - start}"
            self._examination.find(BOUNDS, what)

    def check_places(self) -> None:
        """Every byte belongs to one tensor."""
        at = 0
        empty = 0
        last = -1
        for start, stop, name in sorted(self._places):
            if start > at:
                self._examination.find(GAP, f"{start - at} bytes before '{shown(name)}'")
            elif start < at:
                self._examination.find(OVERLAP, f"'{shown(name)}' begins at {start}, where another one ends at {at}")
            if start == stop:
                empty += start == last
                last = start
            at = max(at, stop)
        if at < self._size:
            self._examination.find(GAP, f"{self._size - at} bytes behind the last tensor")
        if empty:
            self._examination.find(ALIASED, f"{empty + 1} tensors without elements share places")


def _counts(value: object) -> bool:
    return isinstance(value, list) and all(type(each) is int for each in value)


def _stop(examination: Examination, rule: Rule, what: str) -> NoReturn:
    examination.find(rule, what)
    raise StopScan


SAFETENSORS = Format("safetensors", _recognise, _examine, _RULES)
