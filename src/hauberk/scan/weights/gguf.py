"""GGUF: the files of llama.cpp, with settings, vocabulary, a chat template and tensors.

Readers have trusted counts, lengths and shapes of the header and written beyond their memory. Each is checked here
against the file, and templates are looked into.
Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md.
"""

from __future__ import annotations

import struct
from typing import Any

from hauberk.scan.content import Content, CutError
from hauberk.scan.examination import Examination
from hauberk.scan.formats import Format
from hauberk.scan.frameworks.templates import RULES as TEMPLATE_RULES
from hauberk.scan.frameworks.templates import examine_template
from hauberk.scan.pickles.bare import begins_pickle
from hauberk.scan.report import Outcome, Rule, Severity, shown

COUNTS = Rule(
    "gguf-counts",
    "a count or a length that the file does not hold",
    Severity.HIGH,
    Outcome.UNSAFE,
    "Readers have reserved memory by these figures, let them overflow, and written beyond it.",
    "https://nvd.nist.gov/vuln/detail/CVE-2024-23605",
)
SHAPE = Rule(
    "gguf-shape",
    "a tensor of an impossible shape",
    Severity.HIGH,
    Outcome.UNSAFE,
    "Too many dimensions overrun the place that readers have for them, and the product of large ones overflows.",
    "https://nvd.nist.gov/vuln/detail/CVE-2024-21802",
)
DATA = Rule(
    "gguf-data",
    "a tensor outside the file or inside another one",
    Severity.HIGH,
    Outcome.UNSAFE,
    "Readers map the file and take what lies there, or beyond its end.",
    "https://github.com/ggml-org/ggml/blob/master/docs/gguf.md",
)
DUPLICATE = Rule(
    "gguf-duplicate",
    "one name, two values",
    Severity.MEDIUM,
    Outcome.UNSAFE,
    "Readers disagree on which of two equal names counts.",
    "https://github.com/ggml-org/ggml/blob/master/docs/gguf.md",
)
GAP = Rule(
    "gguf-gap",
    "bytes that belong to no tensor",
    Severity.NOTE,
    Outcome.NOTE,
    "Nothing reads them; a writer had its reasons, or hides something.",
    "https://github.com/ggml-org/ggml/blob/master/docs/gguf.md",
)
DAMAGED = Rule(
    "gguf-damaged",
    "a GGUF file that cannot be followed",
    Severity.MEDIUM,
    Outcome.UNKNOWN,
    "It is cut short, or of a version or with types that are not known here.",
    "https://github.com/ggml-org/ggml/blob/master/docs/gguf.md",
)
RULES = (COUNTS, SHAPE, DATA, DUPLICATE, GAP, DAMAGED, *TEMPLATE_RULES)

# Elements and bytes of a block, by the number of the type (ggml.h).
_BLOCKS = {
    0: (1, 4), 1: (1, 2), 2: (32, 18), 3: (32, 20), 6: (32, 22), 7: (32, 24), 8: (32, 34), 9: (32, 40),
    10: (256, 84), 11: (256, 110), 12: (256, 144), 13: (256, 176), 14: (256, 210), 15: (256, 292), 16: (256, 66),
    17: (256, 74), 18: (256, 98), 19: (256, 50), 20: (32, 18), 21: (256, 110), 22: (256, 82), 23: (256, 136),
    24: (1, 1), 25: (1, 2), 26: (1, 4), 27: (1, 8), 28: (1, 8), 29: (256, 56), 30: (1, 2), 34: (256, 54),
    35: (256, 66), 39: (32, 17), 40: (64, 36), 41: (128, 18),
}  # fmt: skip
_FIXED = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "B", 10: "Q", 11: "q", 12: "d"}
_WORD, _TEXT, _ARRAY = 4, 8, 9
_WINDOW = 1 << 18
_KEY_MOST, _NAME_MOST, _KEPT_MOST = 65535, 64, 16 << 20
_DIMENSIONS, _DEEPEST = 4, 4
_ELEMENTS_MOST = 1 << 62
_ALIGNMENT = 32


class _Refused(Exception):  # noqa: N818 - the finding has been noted
    """Nothing behind this place can be read."""


def recognise(head: bytes, content: Content) -> bool:
    """The mark, a version, and nothing that an unpickler would follow: `G` is one of its instructions."""
    return len(head) >= 8 and head.startswith(b"GGUF") and not begins_pickle(head, content)


def examine(content: Content, examination: Examination) -> None:
    """Read the whole header and place every tensor."""
    try:
        _File(content, examination).run()
    except CutError as error:
        examination.find(DAMAGED, str(error))
    except _Refused:
        pass


class _File:
    def __init__(self, content: Content, examination: Examination) -> None:
        self._content = content
        self._examination = examination
        self._at = 4
        self._window = b""
        self._start = 0
        self._steps = 0
        self._order = "<"
        self._word = "Q"
        self._alignment = _ALIGNMENT

    def run(self) -> None:
        """The file, from its first byte."""
        version = self._number("I")
        if version & 0xFFFF == 0:
            self._order = ">"
            version = struct.unpack(">I", struct.pack("<I", version))[0]
        if version not in {1, 2, 3}:
            self._examination.find(DAMAGED, f"version {version}", at=4)
            return
        self._word = "I" if version == 1 else "Q"
        tensors, settings = self._number(self._word), self._number(self._word)
        self._check_count(tensors, 3 * 4 + struct.calcsize(self._word), "tensors")
        self._check_count(settings, 5 + struct.calcsize(self._word), "settings")
        names: set[bytes] = set()
        for _ in range(settings):
            self._setting(names)
        self._examination.facts["tensors"] = tensors
        self._tensors(tensors)

    def _check_count(self, count: int, least: int, what: str) -> None:
        """Each needs some bytes, so there cannot be more than would fit."""
        if count * least > self._content.size - self._at:
            self._refuse(COUNTS, f"{count} {what} in {self._content.size} bytes")

    def _refuse(self, rule: Rule, what: str) -> None:
        self._examination.find(rule, what, at=self._at)
        raise _Refused

    def _take(self, length: int) -> bytes:
        self._steps += 1
        if self._steps % 4096 == 0:
            self._examination.check_time()
        at = self._at - self._start
        if at < 0 or at + length > len(self._window):
            left = self._content.size - self._at
            if length > left:
                raise CutError(f"it ends at byte {self._content.size}, before byte {self._at + length}")
            self._window = self._content.read(self._at, min(left, max(length, _WINDOW)))
            self._start, at = self._at, 0
        self._at += length
        return self._window[at : at + length]

    def _number(self, code: str) -> int:
        return int(struct.unpack(self._order + code, self._take(struct.calcsize(code)))[0])

    def _text(self, most: int, what: str) -> bytes:
        """A text with its length; of a longer one than `most` only that much is kept."""
        length = self._number(self._word)
        if length > self._content.size - self._at:
            self._refuse(COUNTS, f"a {what} of {length} bytes")
        kept = self._take(min(length, most))
        self._at += length - len(kept)
        return kept

    def _setting(self, names: set[bytes]) -> None:
        at = self._at
        key = self._text(_KEY_MOST + 1, "key")
        if len(key) > _KEY_MOST:
            self._refuse(COUNTS, f"a key of more than {_KEY_MOST} bytes")
        if key in names:
            self._examination.find(DUPLICATE, f"the setting {shown(key)!r}", at=at)
        names.add(key)
        value = self._value(kind := self._number("I"), key, 0)
        if key == b"general.alignment":
            if kind != _WORD:  # llama.cpp asserts its type, and ends the process
                self._refuse(DAMAGED, f"an alignment of type {kind}")
            if not isinstance(value, int) or not 0 < value <= 1 << 20 or value & (value - 1):
                self._refuse(DATA, f"an alignment of {value}")
            self._alignment = value

    def _value(self, kind: int, key: bytes, depth: int) -> Any:
        if kind in _FIXED:
            return struct.unpack(self._order + _FIXED[kind], self._take(struct.calcsize(_FIXED[kind])))[0]
        if kind == _TEXT:
            text = self._text(_KEPT_MOST, "text")
            if b"chat_template" in key:
                examine_template(text.decode("utf-8", "replace"), self._examination, shown(key))
            return None
        if kind == _ARRAY:
            self._array(key, depth)
            return None
        self._refuse(DAMAGED, f"a setting of type {kind}")
        return None

    def _array(self, key: bytes, depth: int) -> None:
        kind, count = self._number("I"), self._number(self._word)
        if kind in _FIXED:
            size = count * struct.calcsize("=" + _FIXED[kind])
            if size > self._content.size - self._at:
                self._refuse(COUNTS, f"an array of {count} numbers")
            self._at += size
            return
        if depth >= _DEEPEST:
            self._refuse(COUNTS, "arrays nested too deeply")
        self._check_count(count, struct.calcsize(self._word) if kind == _TEXT else 4, "elements")
        for _ in range(count):
            self._value(kind, key, depth + 1)

    def _tensors(self, count: int) -> None:
        placed: list[tuple[int, int, str]] = []
        names: set[bytes] = set()
        for _ in range(count):
            at = self._at
            name = self._text(_KEY_MOST, "name")
            if len(name) >= _NAME_MOST:
                self._examination.find(SHAPE, f"a name of {len(name)} bytes", at=at)
            if name in names:
                self._examination.find(DUPLICATE, f"the tensor {shown(name)!r}", at=at)
            names.add(name)
            size = self._size(name)
            placed.append((self._number("Q"), size, shown(name)))
        start = -(-self._at // self._alignment) * self._alignment
        self._place(placed, start)

    def _size(self, name: bytes) -> int:
        """Bytes of a tensor, from its shape and type."""
        rank = self._number("I")
        if rank > _DIMENSIONS:
            self._refuse(SHAPE, f"{shown(name)!r} has {rank} dimensions")
        dims = [self._number(self._word) for _ in range(rank)]
        kind = self._number("I")
        if kind not in _BLOCKS:
            self._refuse(DAMAGED, f"{shown(name)!r} has type {kind}")
        elements = 1
        for size in dims:
            elements *= size
        block, width = _BLOCKS[kind]
        if elements >= _ELEMENTS_MOST or any(size >= 1 << 63 for size in dims):
            self._refuse(SHAPE, f"{shown(name)!r} has shape {dims}")
        if elements == 0 or (dims[0] if dims else 1) % block:
            self._examination.find(SHAPE, f"{shown(name)!r} has shape {dims} in blocks of {block}", at=self._at)
        return -(-elements // block) * width

    def _place(self, placed: list[tuple[int, int, str]], start: int) -> None:
        end = 0
        for offset, size, name in sorted(placed):
            if offset % self._alignment:
                self._examination.find(DATA, f"{name!r} at {offset}, which is no multiple of {self._alignment}")
            if start + offset + size > self._content.size:
                self._examination.find(DATA, f"{name!r} ends at byte {start + offset + size} of {self._content.size}")
            if offset < end:
                self._examination.find(DATA, f"{name!r} begins inside the tensor before it")
            elif offset - end >= self._alignment:
                self._examination.find(GAP, f"{offset - end} bytes before {name!r}", at=start + end)
            end = max(end, offset + size)
        if self._content.size - (start + end) >= self._alignment and placed:
            self._examination.find(GAP, f"{self._content.size - start - end} bytes at the end", at=start + end)


GGUF = Format("gguf", recognise, examine, RULES, b"G")
