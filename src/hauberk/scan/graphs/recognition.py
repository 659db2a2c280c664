"""Is this an ONNX model? In its binary form, in ONNX Runtime's own, or as text.

Protobuf has no mark to know it by, and readers skip what they do not know, so a file that begins as a sound or a
document can be a model as well. What counts is therefore what a reader would find: fields from the first byte to the
last, a graph among them that itself reads like one.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

from hauberk.errors import RefusedModelError
from hauberk.protobuf import BYTES, FIXED32, FIXED64, VARINT, Source
from hauberk.scan.content import Content, CutError
from hauberk.scan.graphs import definition
from hauberk.scan.graphs.wire import WINDOW, Stretch

_MOST_FIELDS = 100_000
_FIELDS_OF_A_GRAPH = 64
_MOST_TEXT = 1 << 24
_DEEPEST_GROUP = 100
_GROUP, _GROUP_END = 3, 4
_IR_VERSION, _GRAPH, _OPSET, _FUNCTION = 1, 7, 8, 25
_ORT_MARK = b"ORTM"


def recognise_binary(_head: bytes, content: Content) -> bool:
    """Whether a reader of protobuf would find a model, or the first part of one that was cut short."""
    found: dict[int, tuple[int, int]] = {}
    try:
        for count, (number, wire, start, size) in enumerate(_skim(Stretch(content, 0, content.size))):
            if start + size > content.size:
                cut_inside = _IR_VERSION in found and number in {_GRAPH, _FUNCTION} and content.size - start > 2
                return cut_inside and found.keys() <= definition.MODEL.keys()
            if wire == (0 if number == _IR_VERSION else 2):
                found.setdefault(number, (start, size))
            if count > _MOST_FIELDS:
                break
    except (RefusedModelError, CutError):
        return False
    if _GRAPH not in found:
        return found.keys() >= {_IR_VERSION, _FUNCTION}
    return bool(found.keys() & {_IR_VERSION, _OPSET}) and _reads_like_a_graph(content, *found[_GRAPH])


def recognise_ort(head: bytes, _content: Content) -> bool:
    """Whether it is a model in the format of ONNX Runtime (a flatbuffer with the mark ORTM)."""
    return head[4:8] == _ORT_MARK


_NOISE = r"(?:\s|#[^\n]*\n)*"
_TEXT = re.compile(rf"\b(?:graph|functions){_NOISE}:?{_NOISE}[{{<\[]")
_TEXT_FIELDS = re.compile(r"\b(?:ir_version|op_type|initializer)\b")
_SYNTAX = re.compile(rf"\A{_NOISE}<[^>]{{0,4000}}\b(?:ir_version|opset_import){_NOISE}:")
_KEYS = {"graph", "irVersion", "ir_version", "functions", "opsetImport", "opset_import"}
_KEY_PATTERN = re.compile(r'"(?:irVersion|ir_version|opsetImport|opset_import)"|\\u00')


def recognise_text(head: bytes, content: Content) -> bool:
    """Whether it is a model in protobuf's text format, in ONNX's own syntax, or in protobuf's JSON."""
    first = head.lstrip(b"\xef\xbb\xbf \t\r\n")[:1]
    if not first or first > b"~" or first < b"!":
        return False
    text = content.head(_MOST_TEXT)
    if b"\0" in text[:WINDOW]:
        return False
    letters = text.decode("utf-8", "replace")
    if first == b"{":
        return _is_json_model(letters, whole=content.size <= _MOST_TEXT)
    return bool(_SYNTAX.search(letters) or (_TEXT_FIELDS.search(letters) and _TEXT.search(letters)))


def _is_json_model(text: str, *, whole: bool) -> bool:
    if not whole:
        return bool(_KEY_PATTERN.search(text))
    if '"' not in text or not (_KEY_PATTERN.search(text) or '"graph"' in text or '"functions"' in text):
        return False
    try:
        members = json.loads(text)
    except (ValueError, RecursionError):
        return False
    return isinstance(members, dict) and len(members.keys() & _KEYS) > 1


def _reads_like_a_graph(content: Content, start: int, size: int) -> bool:
    known = 0
    try:
        for count, (number, wire, at, length) in enumerate(_skim(Stretch(content, start, size))):
            if at + length > size:
                return False
            known += number in definition.GRAPH and wire == BYTES
            if count >= _FIELDS_OF_A_GRAPH:
                break
    except (RefusedModelError, CutError):
        return False
    return known > 0


def _skim(message: Source) -> Iterator[tuple[int, int, int, int]]:
    """Number, wire type, start and size of each field, as the most generous reader finds them: groups stepped over.

    The last one may reach beyond the end.
    """
    at, end, groups = 0, len(message), list[int]()
    while at < end:
        tag, at = _number(message, at, 5)
        number, wire, start, size = (tag & 0xFFFFFFFF) >> 3, tag & 7, at, 0
        if wire == VARINT:
            _, at = _number(message, at, 10)
        elif wire == BYTES:
            size, start = _number(message, at, 5)
            at = start + size
        elif wire in {FIXED64, FIXED32}:
            size = 8 if wire == FIXED64 else 4
            at += size
        elif wire == _GROUP and len(groups) < _DEEPEST_GROUP:
            groups.append(number)
        elif wire == _GROUP_END and groups and groups[-1] == number:
            groups.pop()
            continue
        else:
            raise RefusedModelError("no message of protobuf")
        if number == 0:
            raise RefusedModelError("no message of protobuf")
        if not groups:
            yield number, wire, start, size
    if groups:
        raise RefusedModelError("no message of protobuf")


def _number(message: Source, at: int, most: int) -> tuple[int, int]:
    value = 0
    for place in range(at, min(at + most, len(message))):
        byte = message[place]
        value |= (byte & 0x7F) << 7 * (place - at)
        if byte < 0x80:
            return value, place + 1
    raise RefusedModelError("no message of protobuf")
