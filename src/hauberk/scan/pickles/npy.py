"""numpy's `.npy`: a header that describes an array, then its data; a pickle where the items are objects.

`numpy.load` is followed as it is with `allow_pickle=True`. Several arrays may lie behind one another in a file.

Source: NEP 1; numpy 2.4 `lib/_format_impl.py`.
"""

from __future__ import annotations

import math
import re

import numpy as np

from hauberk.scan.content import Content
from hauberk.scan.examination import Examination
from hauberk.scan.pickles import rules
from hauberk.scan.pickles.arrays import MOST_OF_NOTHING, Array
from hauberk.scan.pickles.embedded import find_embedded
from hauberk.scan.pickles.literals import literal
from hauberk.scan.pickles.machine import Machine
from hauberk.scan.pickles.values import Made, described
from hauberk.scan.report import Outcome, Rule, Severity, shown

MAGIC = b"\x93NUMPY"
_LONGEST_HEADER = 1 << 16
_MOST_ARRAYS = 100_000
_MOST_ELEMENTS = 1 << 60
_ABSURD = 1 << 28
_MOST_FIELDS = 4096
_SIMPLE = re.compile(
    r"[<>|=]?(?:[?bBhHiIlLqQefdgFDGcO]|[biufcOSUVa][0-9]{1,10}|[SUVmM]|[mM]8(?:\[[0-9]{0,9}[A-Za-zμ]{1,2}\])?)"
)

HEADER = Rule(
    "npy-header",
    "an array whose header numpy would not write",
    Severity.MEDIUM,
    Outcome.UNKNOWN,
    "numpy evaluates headers as Python literals; this one is not understood. Save the array again with numpy.save.",
    "https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html",
)
CUT = Rule(
    "npy-cut",
    "an array that is shorter than its header says",
    Severity.MEDIUM,
    Outcome.UNKNOWN,
    "The file is damaged or cut; save or download it again.",
    "https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html",
)
SIZE = Rule(
    "npy-size",
    "an array that claims far more than the file holds",
    Severity.HIGH,
    Outcome.UNSAFE,
    "The loader makes room for what the header claims before it reads, and takes all memory.",
    "https://cwe.mitre.org/data/definitions/789.html",
)
RULES = (HEADER, CUT, SIZE, *rules.RULES, rules.EMBEDDED)


def recognise(head: bytes, _: Content) -> bool:
    """By the magic string."""
    return head.startswith(MAGIC)


def examine(content: Content, examination: Examination) -> None:
    """Follow all arrays of a file."""
    at = 0
    for count in range(1, _MOST_ARRAYS + 1):
        end = _examine_one(content, examination, at)
        if end is None:
            return
        examination.facts["arrays"] = count
        at = end
        if at == content.size:
            return
        if content.read(at, min(len(MAGIC), content.size - at)) != MAGIC:
            if not find_embedded(content, examination, at):
                examination.find(rules.TRAILING, f"{content.size - at} bytes", at=at)
            return
        if count % 256 == 0:
            examination.check_time()
    examination.find(rules.COMPLEX, f"more than {_MOST_ARRAYS} arrays", at=at)


def _examine_one(content: Content, examination: Examination, at: int) -> int | None:
    """Returns where the array ends; `None` where that is not known."""
    try:
        text, start, long = _header(content, at)
        itemsize, objects, shape = _described(literal(text, long=long))
    except ValueError as error:  # a CutError, too
        examination.find(HEADER, shown(str(error)), at=at)
        find_embedded(content, examination, at)
        return None
    if objects:
        return _examine_objects(content, examination, start)
    size = math.prod(shape) * itemsize
    left = content.size - start
    if size - left > _ABSURD or math.prod(shape) > (_MOST_ELEMENTS if itemsize else MOST_OF_NOTHING):
        examination.find(SIZE, f"shape {list(shape)[:8]}: {size} bytes, {left} are there", at=at)
        return None
    if size > left:
        examination.find(CUT, f"{size} bytes, {left} are there", at=at)
        return None
    return start + size


def _examine_objects(content: Content, examination: Examination, start: int) -> int | None:
    """Follow the pickle that an array of objects is; returns where it ends."""
    machine = Machine(content, examination, start=start)
    machine.run()
    if machine.end is None:
        find_embedded(content, examination, start)
    elif not (type(machine.result) is Made and isinstance(machine.result.detail, Array)):
        examination.find(rules.BUILD, f"{shown(described(machine.result))} where an array of objects belongs", at=start)
    return machine.end


def _header(content: Content, at: int) -> tuple[str, int, bool]:
    """The header's text, where the data begin, and whether numbers may be written as Python 2 did."""
    magic = content.read(at, 8)
    major, minor = magic[6], magic[7]
    if (major, minor) not in {(1, 0), (2, 0), (3, 0)}:
        raise ValueError(f"version {major}.{minor}")
    width = 2 if major == 1 else 4
    length = int.from_bytes(content.read(at + 8, width), "little")
    if length > _LONGEST_HEADER:
        raise ValueError(f"a header of {length} bytes; at most {_LONGEST_HEADER} are read")
    start = at + 8 + width
    return content.read(start, length).decode("utf-8" if major == 3 else "latin-1"), start + length, major < 3


def _described(header: object) -> tuple[int, bool, tuple[int, ...]]:
    """Bytes of an item, whether items hold objects, and the shape."""
    match header:
        case {"descr": description, "fortran_order": bool(), "shape": tuple() as shape, **others} if not others:
            if len(shape) > 64 or not all(type(each) is int and each >= 0 for each in shape):
                raise ValueError(f"shape {shape}")
            return *_item(description, 8), shape
    raise ValueError("other entries than descr, fortran_order and shape")


def _item(description: object, depth: int) -> tuple[int, bool]:
    """Bytes of an item, and whether it holds objects; only what numpy itself describes items by."""
    if not depth:
        raise ValueError("fields nested too deep")
    match description:
        case str() if _SIMPLE.fullmatch(description):
            try:
                dtype = np.dtype(description)
            except (TypeError, ValueError) as error:
                raise ValueError(f"dtype {description!r}") from error
            return dtype.itemsize, dtype.hasobject
        case (inner, tuple() as shape) if all(type(each) is int and each >= 0 for each in shape):
            size, objects = _item(inner, depth - 1)
            if not size:
                raise ValueError("an item of parts without bytes")
            return size * math.prod(shape), objects
        case list() if len(description) <= _MOST_FIELDS:
            _check_names(description)
            parts = [_field(each, depth) for each in description]
            return sum(size for size, _ in parts), any(objects for _, objects in parts)
    raise ValueError("a dtype that numpy would not write")


def _check_names(fields: list[object]) -> None:
    """Names and titles of fields, each once; padding has none."""
    names: list[object] = []
    for field in fields:
        if isinstance(field, tuple) and field:
            names += field[0] if isinstance(field[0], tuple) else [field[0]]
    given = [name for name in names if isinstance(name, str) and name]
    if len(set(given)) != len(given):
        raise ValueError("fields of the same name")


def _field(field: object, depth: int) -> tuple[int, bool]:
    match field:
        case (str() | (str(), str()), inner):
            return _item(inner, depth - 1)
        case (str() | (str(), str()), inner, tuple() | int() as shape):
            return _item((inner, shape if isinstance(shape, tuple) else (shape,)), depth - 1)
    raise ValueError("a field that numpy would not write")
