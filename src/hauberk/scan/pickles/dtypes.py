"""numpy's dtypes in pickles: what one says of itself must be true, because numpy believes it.

A dtype of objects that says it holds none makes numpy take bytes of the file for addresses; so does one whose objects
have their bytes in another order, or lie over other fields. An alignment of 0 is divided by, and a dtype that holds
itself, or hundreds of others, is followed until the stack ends.

Sources: numpy 2.4 `_core/src/multiarray/descriptor.c` (`arraydescr_setstate`), `common.c`; what numpy writes was
observed for protocols 0 to 5.
"""

from __future__ import annotations

import math
import re
from functools import lru_cache
from typing import NamedTuple

from hauberk.scan.pickles import rules
from hauberk.scan.pickles.entries import Context, Entry, Objection, is_name, sizes
from hauberk.scan.pickles.values import Made, Mapping
from hauberk.scan.report import shown

_MOST_ITEM_BYTES = 1 << 31
_MOST_LEVELS = 16  # of fields in fields
_MOST_TURNED = 64  # fields of a structure that numpy turns one by one in each item; it writes none with a byte order
_MOST_LEAVES = 10_000  # one dtype may be many fields: whoever follows them all never ends
_TYPE = re.compile(r"(b1|[iu][1248]|f2|f4|f8|f12|f16|c8|c16|c24|c32|O[48]|M8|m8|([SUV])([0-9]{1,10}))")
_ORDERS = frozenset("<>|=")
_ALIGNMENTS = frozenset({1, 2, 4, 8, 16})
_FLAGS = {"O": (63,), "U": (8, 0)}  # of simple kinds: all that numpy has for objects, none for numbers
_FLAGS_OF_FIELDS_WITH_OBJECTS = 27  # what a structure takes over from a field of objects
_FLAG_REFERENCES = 3  # items are references; they are pickled as a list
_FLAG_PYTHON = 16  # numpy keeps the interpreter's lock: all structures need it, as Python compares their items
_FLAGS_OF_STRUCTURES = 8 | _FLAG_PYTHON | 128  # text inside, and aligned


class DType(NamedTuple):
    """What matters of a dtype.

    Attributes:
        kind: numpy's letter.
        itemsize: Bytes.
        objects: Whether items are, or hold, Python objects.
        order: Of bytes: `<`, `>` or `|`, where it is told.
        fields: Dtype and offset by name, of structures.
        levels: Of dtypes in it; 0 where it has none.
        leaves: Fields that hold no others, in all.
        repeated: An item is a little array; numpy makes dimensions of that before it makes an array.
    """

    kind: str
    itemsize: int
    objects: bool
    order: str = "|"
    fields: tuple[tuple[str, DType, int], ...] = ()
    levels: int = 0
    leaves: int = 1
    repeated: bool = False


_RECORD = DType("V", -1, objects=False)
"""Of recarrays: a structure whose size its state says."""


def make_dtype(entry: Entry, arguments: tuple[object, ...], _: Context) -> Made:
    """`numpy.dtype` of a simple type, as a copy: without it the state would be set on the whole process's dtype."""
    match arguments:
        case (str(text), False | 0, True | 1) if (found := _described(text)) is not None:
            return Made(entry, found)
        case (kind, False | 0, True | 1) if is_name(kind, "numpy.record"):
            return Made(entry, _RECORD)
        case (str(text), *_):
            raise Objection(f"with {shown(text)!r} and arguments that no pickler writes")
    raise Objection("with arguments that no pickler writes")


@lru_cache(maxsize=256)
def _described(text: str) -> DType | None:
    """The dtype that numpy makes of a text; `None` where it is nothing that a pickler writes."""
    found = _TYPE.fullmatch(text)
    if found is None:
        return None
    itemsize = int(text[1:]) * (4 if found[2] == "U" else 1)
    return DType(text[0], itemsize, objects=text[0] == "O") if itemsize <= _MOST_ITEM_BYTES else None


def set_dtype(made: Made, state: object, _: Context) -> None:
    """Its byte order, fields, sizes and flags, once."""
    if made.ready:
        raise Objection("sets the state of a dtype that is in use", rules.MEMORY)
    kind = made.detail
    assert isinstance(kind, DType)  # noqa: S101 - from `make_dtype`
    if kind is _RECORD:
        kind = _sized(state)
    match state:
        case tuple((3 | 4, str(order), part, names, fields, int(size), int(alignment), int(flags), *metadata)):
            if order not in _ORDERS or (kind.objects and order != "|"):
                raise Objection(f"a dtype of kind {kind.kind} whose byte order is {shown(order)!r}", rules.MEMORY)
            if metadata and not (kind.kind in "mM" and len(metadata) == 1 and _counts_time(metadata[0])):
                raise Objection("metadata that numpy would not write", rules.BUILD)
            if kind.kind in "mM" and not metadata:
                raise Objection("a time without its unit, which numpy follows a null pointer for", rules.MEMORY)
            if size != (kind.itemsize if kind.kind in "SUV" else -1):
                raise Objection(f"makes items of {kind.itemsize} bytes {size} long", rules.MEMORY)
            if kind.kind in "SUV" and alignment not in _ALIGNMENTS:
                raise Objection(f"an alignment of {alignment}", rules.MEMORY)
            made.ready = True  # so that it is none of its own fields
            made.detail = found = _composed(made, kind, part, names, fields, flags)._replace(order=order)
            if order != "|" and found.leaves > _MOST_TURNED:
                raise Objection(f"a structure of {found.leaves} fields that has a byte order", rules.EXHAUSTS)
        case _:
            raise Objection("a dtype's state that no pickler writes", rules.BUILD)


def _sized(state: object) -> DType:
    match state:
        case tuple((_, _, _, tuple(), Mapping(), int(size), *_)) if 0 <= size <= _MOST_ITEM_BYTES:
            return _RECORD._replace(itemsize=size)
    raise Objection("a record without fields", rules.MEMORY)


def _counts_time(metadata: object) -> bool:
    """Whether it is the unit of a date or a duration: its name, how many make one, and what numpy has no use for."""
    match metadata:
        case tuple((None | Mapping(), tuple((bytes() | str(), int(count), 1, 1)))):
            return 0 < count < 1 << 31
    return False


def _composed(made: Made, kind: DType, part: object, names: object, fields: object, flags: int) -> DType:
    """The dtype with its fields or parts, if its flags say the truth of them."""
    if names is None and fields is None and part is None:
        if flags not in _FLAGS.get(kind.kind, (0,)):
            raise Objection(f"flags {flags} on a dtype of kind {kind.kind}", rules.MEMORY)
        return kind
    if kind.kind != "V":
        raise Objection(f"fields in a dtype of kind {kind.kind}", rules.MEMORY)
    if part is not None:
        return _repeated(made, kind, part, names, fields, flags)
    if type(names) is not tuple or type(fields) is not Mapping or any(type(name) is not str for name in names):
        raise Objection("fields that are none", rules.BUILD)
    fields.kept = True  # numpy does not copy it
    items = [_field(made, kind, name, value) for name, value in fields.items_of()]
    found = {item[0]: item for item in items}
    if not found.keys() >= set(names) or len(names) != len(set(names)):
        raise Objection("fields that are named and missing, or twice", rules.MEMORY)
    objects = any(inner.objects for _, inner, _ in items)
    if objects:
        _check_apart(items, len(names))
        true = flags & ~_FLAGS_OF_STRUCTURES & ~_FLAG_REFERENCES == 0
        true &= flags & _FLAGS_OF_FIELDS_WITH_OBJECTS == _FLAGS_OF_FIELDS_WITH_OBJECTS
    else:
        true = flags & ~_FLAGS_OF_STRUCTURES == 0 and flags & _FLAG_PYTHON == _FLAG_PYTHON
    if not true:
        raise Objection(f"flags {flags} on a structure that holds {'' if objects else 'no '}objects", rules.MEMORY)
    levels, leaves = _nested([inner for _, inner, _ in items])
    return DType("V", kind.itemsize, objects, "|", tuple(found[name] for name in names), levels, leaves)


def _nested(parts: list[DType]) -> tuple[int, int]:
    """Levels and leaves of a structure, which are not too many."""
    levels = 1 + max((inner.levels for inner in parts), default=0)
    if levels > _MOST_LEVELS:
        raise Objection(f"more than {_MOST_LEVELS} dtypes in one another", rules.MEMORY)
    leaves = sum(inner.leaves for inner in parts)
    if leaves > _MOST_LEAVES:
        raise Objection(f"{leaves} fields in one another", rules.EXHAUSTS)
    return levels, leaves


def _check_apart(fields: list[tuple[str, DType, int]], named: int) -> None:
    """Beside objects, fields lie apart: what is written to one of them must not become the address of an object."""
    end = 0
    for _, inner, offset in sorted(fields, key=lambda field: field[2]):
        if offset < end:
            raise Objection("fields that overlap in a structure that holds objects", rules.MEMORY)
        end = offset + inner.itemsize
    if len(fields) != named:
        raise Objection("fields without a name in a structure that holds objects", rules.MEMORY)


def _inner(made: Made, part: Made, detail: DType) -> DType:
    """A dtype inside another; from now on its state stays."""
    if part is made or detail is _RECORD:
        raise Objection("a dtype that holds itself, or is not complete", rules.MEMORY)
    part.ready = True
    return detail


def _field(made: Made, kind: DType, name: object, value: object) -> tuple[str, DType, int]:
    match value:
        case tuple((Made(detail=DType() as detail) as field, int(offset), *_)) if type(name) is str and offset >= 0:
            inner = _inner(made, field, detail)
            if offset + inner.itemsize <= kind.itemsize:
                return name, inner, offset
            raise Objection(f"field {shown(name)} lies outside its item", rules.MEMORY)
    raise Objection("a field that is none", rules.BUILD)


def _repeated(made: Made, kind: DType, part: object, names: object, fields: object, flags: int) -> DType:
    match part:
        case tuple((Made(detail=DType() as detail) as base, (tuple() | int()) as shape)) if names is fields is None:
            inner = _inner(made, base, detail)
            count = math.prod(sizes(shape if isinstance(shape, tuple) else (shape,)))
            fits = count * inner.itemsize == kind.itemsize and flags & ~_FLAGS_OF_STRUCTURES == 0
            if inner.objects or not fits or inner.levels >= _MOST_LEVELS:
                raise Objection("an item of parts that do not fill it", rules.MEMORY)
            return kind._replace(levels=inner.levels + 1, repeated=True, leaves=inner.leaves)
    raise Objection("parts that are none", rules.BUILD)


def used_dtype(value: object) -> DType:
    """A dtype that is put to use; from now on its state stays.

    Raises:
        Objection: It is none.
    """
    if type(value) is Made and isinstance(value.detail, DType):
        value.ready = True
        if value.detail is _RECORD:
            raise Objection("a record without fields", rules.MEMORY)
        if value.detail.repeated:
            raise Objection("items that are little arrays, where numpy makes dimensions of them", rules.MEMORY)
        return value.detail
    raise Objection("a dtype that is none")
