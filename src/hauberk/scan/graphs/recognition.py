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
_MOST_TEXT = 1 << 28
_LARGEST_JSON = 1 << 22
_BLOCK, _OVERLAP = 1 << 20, 1 << 12
_DEEPEST_GROUP = 100
_GROUP, _GROUP_END = 3, 4
_IR_VERSION, _GRAPH, _OPSET, _FUNCTION = 1, 7, 8, 25
_ORT_MARK = b"ORTM"
_PRINTED = b"\t\n\v\f\r" + bytes(range(0x20, 0x100))


def recognise_binary(_head: bytes, content: Content) -> bool:
    """Whether a reader of protobuf would find a model, or the first part of one that was cut short."""
    found: dict[int, list[tuple[int, int]]] = {}
    try:
        message = content.head(WINDOW) if content.size <= WINDOW else Stretch(content, 0, content.size)
        for count, (number, wire, start, size) in enumerate(_skim(message)):
            if start + size > content.size:
                cut_inside = _IR_VERSION in found and number in {_GRAPH, _FUNCTION} and content.size - start > 2
                return cut_inside and found.keys() <= definition.MODEL.keys()
            if wire == (0 if number == _IR_VERSION else 2):
                places = found.setdefault(number, [])
                if number == _GRAPH or not places:  # readers merge graphs; of the others it counts that they are there
                    places.append((start, size))
            if count > _MOST_FIELDS:
                return not _is_text(content)  # what reads as a message for so long, its examination tells
    except (RefusedModelError, CutError):
        return False
    if _GRAPH not in found:
        return found.keys() >= {_IR_VERSION, _FUNCTION}
    return bool(found.keys() & {_IR_VERSION, _OPSET}) and _reads_like_graphs(content, found[_GRAPH])


def _is_text(content: Content) -> bool:
    """Whether no byte is a control character, as that of a model's version is; not where there is too much of it."""
    if content.size > _MOST_TEXT:
        return False
    blocks = (content.read(at, min(_BLOCK, content.size - at)) for at in range(0, content.size, _BLOCK))
    return not any(block.translate(None, _PRINTED) for block in blocks)


def recognise_ort(head: bytes, _content: Content) -> bool:
    """Whether it is a model in the format of ONNX Runtime (a flatbuffer with the mark ORTM)."""
    return head[4:8] == _ORT_MARK


_NOISE = rb"(?:\s|#[^\n]*\n)*"
_TEXT = re.compile(rb"\b(?:graph|functions)" + _NOISE + rb":?" + _NOISE + rb"[{<\[]")
_FIELDS_OF_TEXT = (b"ir_version", b"op_type", b"initializer")
_TEXT_FIELDS = re.compile(rb"\b(?:" + b"|".join(_FIELDS_OF_TEXT) + rb")\b")
_SYNTAX = re.compile(rb"\A" + _NOISE + rb"<[^>]{0,4000}\b(?:ir_version|opset_import)" + _NOISE + rb":")
_KEYS = {"graph", "irVersion", "ir_version", "functions", "opsetImport", "opset_import"}
_JSON_KEYS = re.compile(rb'"(?:irVersion|ir_version|opsetImport|opset_import)"|\\u00')
_SOME_KEYS = re.compile(rb'"(?:graph|functions)"|' + _JSON_KEYS.pattern)


def recognise_text(head: bytes, content: Content) -> bool:
    """Whether it is a model in protobuf's text format, in ONNX's own syntax, or in protobuf's JSON."""
    first = head.lstrip(b"\xef\xbb\xbf \t\r\n")[:1]
    if not first or first > b"~" or first < b"!" or b"\0" in content.head(WINDOW):
        return False
    if first == b"{":
        return _is_json_model(content)
    if _SYNTAX.search(content.head(WINDOW)):
        return True
    return _contains(content, _TEXT_FIELDS, _FIELDS_OF_TEXT) and _contains(content, _TEXT, (b"graph", b"functions"))


def _is_json_model(content: Content) -> bool:
    if content.size > _LARGEST_JSON:
        return _contains(content, _JSON_KEYS, (b"ir", b"opset", b"\\u00"))
    text = content.head(_LARGEST_JSON)
    if not _SOME_KEYS.search(text):
        return False
    try:
        members = json.loads(text)
    except (ValueError, RecursionError):
        return False
    return isinstance(members, dict) and len(members.keys() & _KEYS) > 1


def _contains(content: Content, pattern: re.Pattern[bytes], words: tuple[bytes, ...]) -> bool:
    """Whether the first part of a content, a large one, holds a match that is no longer than `_OVERLAP`.

    Every match must hold one of the words, which are found many times as fast.
    """
    rest = b""
    for at in range(0, min(content.size, _MOST_TEXT), _BLOCK):
        block = rest + content.read(at, min(_BLOCK, content.size - at))
        if any(word in block for word in words) and pattern.search(block):
            return True
        rest = block[-_OVERLAP:]
    return False


def _reads_like_graphs(content: Content, places: list[tuple[int, int]]) -> bool:
    """Whether one of several parts reads like a graph, however much that no graph has stands before it."""
    left = _MOST_FIELDS
    for start, size in places:
        known = 0
        try:
            for count, (number, wire, at, length) in enumerate(_skim(Stretch(content, start, size))):
                left -= 1
                if at + length > size:
                    known = 0
                    break
                known += number in definition.GRAPH and wire == BYTES
                if (known and count >= _FIELDS_OF_A_GRAPH) or left < 0:
                    return True
        except (RefusedModelError, CutError):
            continue
        if known:
            return True
    return False


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
    value = shift = 0
    for place in range(at, min(at + most, len(message))):
        byte = message[place]
        if byte < 0x80:
            return value | byte << shift, place + 1
        value |= (byte & 0x7F) << shift
        shift += 7
    raise RefusedModelError("no message of protobuf")
