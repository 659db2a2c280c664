"""numpy and joblib: what rebuilds arrays, scalars, dtypes and random generators.

A dtype's state is checked against its name, because numpy believes it: a dtype of objects that says it holds none makes
numpy take bytes of the file for addresses. So are sizes of arrays against their data, and positions of generators.
Nothing has its state set twice: somebody may look at the memory that the first state had.

Sources: numpy 2.4 `_core/src/multiarray/descriptor.c` (`arraydescr_setstate`), `methods.c` (`array_setstate`),
`random/_pickle.py`; joblib 1.6 `numpy_pickle.py`; what they write was observed for protocols 0 to 5.
"""

from __future__ import annotations

import math
import re
from functools import lru_cache
from typing import NamedTuple

from hauberk.scan.pickles import rules
from hauberk.scan.pickles.entries import (
    Call,
    Context,
    Entry,
    Inline,
    Objection,
    check_attributes,
    is_made,
    is_name,
    make_empty,
    sizes,
)
from hauberk.scan.pickles.plain_names import Encoded
from hauberk.scan.pickles.values import BYTES, Blob, Made, Mapping, Name, is_bytes, is_text, length_of
from hauberk.scan.report import shown

_GROUP = "numpy and joblib"
_ARRAYS = ("numpy.ndarray", "numpy.matrix")
_MOST_ELEMENTS = 1 << 48
_MOST_ITEM_BYTES = 1 << 31

_TYPE = re.compile(r"(b1|[iu][1248]|f2|f4|f8|f12|f16|c8|c16|c24|c32|O[48]|M8|m8|([SUV])(\d{1,10}))")
_ORDERS = frozenset("<>|=")
_FLAGS_OF_OBJECTS = 63  # of a dtype of objects: all that numpy has
_FLAGS_OF_FIELDS_WITH_OBJECTS = 27  # what a structure takes over from a field of objects
_FLAG_REFERENCES = 3  # items are references; they are pickled as a list


class DType(NamedTuple):
    """What matters of a dtype.

    Attributes:
        kind: numpy's letter.
        itemsize: Bytes.
        objects: Whether items are, or hold, Python objects.
        order: Of bytes: `<`, `>` or `|`, where it is told.
        fields: Dtype and offset by name, of structures.
    """

    kind: str
    itemsize: int
    objects: bool
    order: str = "|"
    fields: tuple[tuple[str, DType, int], ...] = ()


class Survey(NamedTuple):
    """What following the nodes of a table gave.

    Attributes:
        problem: What is wrong with it; empty where nothing is.
        feature: The highest that a node asks for; -1 where none does.
        category: The highest row of the table of categories that a node asks for; -1 where none does.
    """

    problem: str
    feature: int = -1
    category: int = -1


class Array(NamedTuple):
    """What matters of an array.

    Attributes:
        dtype: Of its items.
        shape: Its sizes.
        source: Its bytes, or text that becomes bytes, or where either lies in the content; `None` where none of that.
        survey: What a table of nodes holds, where it was looked at in passing.
    """

    dtype: DType
    shape: tuple[int, ...]
    source: object = None
    survey: Survey | None = None


def _dtype(entry: Entry, arguments: tuple[object, ...], _: Context) -> Made:
    match arguments:
        # A copy: without it the state would be set on the dtype that the whole process uses.
        case (str(text), False | 0, True | 1) if (found := _described(text)) is not None:
            return Made(entry, found)
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


def _set_dtype(made: Made, state: object, _: Context) -> None:
    if made.ready:
        raise Objection("sets the state of a dtype that is in use", rules.MEMORY)
    kind = made.detail
    match state:
        case (3 | 4, str(order), part, names, fields, int(size), int(), int(flags), *metadata) if order in _ORDERS:
            assert isinstance(kind, DType)  # noqa: S101 - from `_dtype`
            if metadata and kind.kind not in "mM":
                raise Objection("metadata of a dtype that has none", rules.BUILD)
            if size != (kind.itemsize if kind.kind in "SUV" else -1):
                raise Objection(f"makes items of {kind.itemsize} bytes {size} long", rules.MEMORY)
            made.detail = _composed(kind, part, names, fields, flags)._replace(order=order)
        case _:
            raise Objection("a dtype's state that no pickler writes", rules.BUILD)


def _composed(kind: DType, part: object, names: object, fields: object, flags: int) -> DType:
    """The dtype with its fields or parts, if its flags say the truth of them."""
    if names is None and fields is None and part is None:
        allowed = {"O": {_FLAGS_OF_OBJECTS}, "U": {8, 0}}.get(kind.kind, {0})
        if flags not in allowed:
            raise Objection(f"flags {flags} on a dtype of kind {kind.kind}", rules.MEMORY)
        return kind
    if kind.kind != "V":
        raise Objection(f"fields in a dtype of kind {kind.kind}", rules.MEMORY)
    if part is not None:
        return _repeated(kind, part, names, fields, flags)
    if type(names) is not tuple or type(fields) is not Mapping:
        raise Objection("fields that are none", rules.MEMORY)
    fields.kept = True  # numpy does not copy it
    items = [_field(kind, name, value) for name, value in fields.items_of()]
    found = {item[0]: item for item in items}
    if not found.keys() >= set(names) or len(names) != len(set(names)):  # a name that is no string is none of them
        raise Objection("fields that are named and missing, or twice", rules.MEMORY)
    objects = any(inner.objects for _, inner, _ in items)
    if objects:
        _check_apart(items, len(names))
    if objects != bool(flags & _FLAG_REFERENCES) or (objects and flags & 27 != _FLAGS_OF_FIELDS_WITH_OBJECTS):
        raise Objection(f"flags {flags} on a structure that holds {'' if objects else 'no '}objects", rules.MEMORY)
    return DType("V", kind.itemsize, objects, fields=tuple(found[name] for name in names))


def _check_apart(fields: list[tuple[str, DType, int]], named: int) -> None:
    """Beside objects, fields lie apart: what is written to one of them must not become the address of an object."""
    end = 0
    for _, inner, offset in sorted(fields, key=lambda field: field[2]):
        if offset < end:
            raise Objection("fields that overlap in a structure that holds objects", rules.MEMORY)
        end = offset + inner.itemsize
    if len(fields) != named:
        raise Objection("fields without a name in a structure that holds objects", rules.MEMORY)


def _field(kind: DType, name: object, value: object) -> tuple[str, DType, int]:
    match value:
        case (Made(detail=DType() as inner) as field, int(offset), *_) if type(name) is str and offset >= 0:
            field.ready = True
            if offset + inner.itemsize <= kind.itemsize:
                return name, inner, offset
            raise Objection(f"field {shown(name)} lies outside its item", rules.MEMORY)
    raise Objection("a field that is none", rules.MEMORY)


def _repeated(kind: DType, part: object, names: object, fields: object, flags: int) -> DType:
    match part:
        case (Made(detail=DType() as inner) as base, (tuple() | int()) as shape) if names is None and fields is None:
            base.ready = True
            count = math.prod(sizes(shape if isinstance(shape, tuple) else (shape,)))
            if inner.objects or flags & _FLAG_REFERENCES or count * inner.itemsize != kind.itemsize:
                raise Objection("an item of parts that do not fill it", rules.MEMORY)
            return kind
    raise Objection("parts that are none", rules.MEMORY)


def used_dtype(value: object) -> DType:
    """A dtype that is put to use; from now on its state stays.

    Raises:
        Objection: It is none.
    """
    if type(value) is Made and isinstance(value.detail, DType):
        value.ready = True
        return value.detail
    raise Objection("a dtype that is none")


def _elements(shape: tuple[int, ...]) -> int:
    count = math.prod(shape)
    if count > _MOST_ELEMENTS:
        raise Objection(f"an array of shape {list(shape)[:8]}", rules.BOUNDS)
    return count


def described_array(dtype: DType, shape: tuple[int, ...], data: object) -> Array:
    """An array, if its data are as many as its shape says.

    Raises:
        Objection: They are not.
    """
    count = _elements(shape)
    if dtype.objects:
        if type(data) is not list:
            raise Objection("an array of objects whose data are no list", rules.MEMORY)
        if len(data) != count:
            raise Objection(f"{len(data)} objects in an array of shape {list(shape)[:8]}", rules.BOUNDS)
        return Array(dtype, shape)
    if is_text(data) or data is BYTES or isinstance(data, Encoded):
        # Text becomes bytes, one a letter; numpy compares their number before it makes room.
        return Array(dtype, shape, data)
    if not is_bytes(data) and not (type(data) is Blob and data.kind is bytearray):
        raise Objection("an array whose data are no bytes", rules.BUILD)
    if length_of(data) != count * dtype.itemsize:
        raise Objection(f"{length_of(data)} bytes in an array of {count} items of {dtype.itemsize}", rules.BOUNDS)
    return Array(dtype, shape, data)


def _reconstruct(entry: Entry, arguments: tuple[object, ...], _: Context) -> Made:
    match arguments:
        case (Name() as kind, (0,), b"b" | "b") if is_name(kind, *_ARRAYS):
            return Made(entry)
    raise Objection("makes anything but an empty array, whose state comes after")


def _masked_reconstruct(entry: Entry, arguments: tuple[object, ...], _: Context) -> Made:
    match arguments:
        case (kind, base, (0,), b"b" | "b") if is_name(kind, "numpy.ma.MaskedArray") and is_name(base, *_ARRAYS):
            return Made(entry)
    raise Objection("makes anything but an empty array, whose state comes after")


def _set_array(made: Made, state: object, _: Context) -> None:
    if made.ready:
        raise Objection("sets the state of an array twice", rules.MEMORY)
    match state:
        case (int(), shape, dtype, _, data) | (shape, dtype, _, data):
            made.detail = described_array(used_dtype(dtype), sizes(shape), data)
        case _:
            raise Objection("an array's state that no pickler writes", rules.BUILD)


def _set_masked(made: Made, state: object, _: Context) -> None:
    if made.ready:
        raise Objection("sets the state of an array twice", rules.MEMORY)
    match state:
        case (int(), shape, dtype, _, data, mask, _):
            kind = used_dtype(dtype)
            if kind.fields:
                raise Objection("a masked array of structures", rules.BUILD)
            described_array(kind, sizes(shape), data)
            described_array(DType("b", 1, objects=False), sizes(shape), mask)
        case _:
            raise Objection("an array's state that no pickler writes", rules.BUILD)


def _from_buffer(entry: Entry, arguments: tuple[object, ...], _: Context) -> Made:
    match arguments:
        case (data, dtype, shape, "C" | "F") | (data, dtype, shape, "C" | "F", _):
            kind = used_dtype(dtype)
            if kind.objects:
                raise Objection("objects from bytes", rules.MEMORY)
            return Made(entry, described_array(kind, sizes(shape), data))
    raise Objection("with arguments that no pickler writes")


def _scalar(entry: Entry, arguments: tuple[object, ...], _: Context) -> Made:
    match arguments:
        case (dtype, data):
            kind = used_dtype(dtype)
            if kind.objects:
                raise Objection("objects from bytes", rules.MEMORY)
            if not (is_bytes(data) or is_text(data)):
                raise Objection("a scalar whose data are no bytes")
            if isinstance(data, bytes) and len(data) != kind.itemsize:
                raise Objection(f"{len(data)} bytes for a scalar of {kind.itemsize}", rules.BOUNDS)
            return Made(entry)
    raise Objection("with arguments that no pickler writes")


# Random generators

_BIT_GENERATORS = {
    "MT19937": "numpy.random._mt19937.MT19937",
    "PCG64": "numpy.random._pcg64.PCG64",
    "PCG64DXSM": "numpy.random._pcg64.PCG64DXSM",
    "SFC64": "numpy.random._sfc64.SFC64",
}
_CONSTRUCTOR = "numpy.random._pickle.__bit_generator_ctor"
_TWISTER_WORDS = 624


def _bit_generator(entry: Entry, arguments: tuple[object, ...], _: Context) -> Made:
    match arguments:
        case () | (None,):
            return Made(entry)
        case (str(kind),) if kind in _BIT_GENERATORS:
            return Made(entry)
        case (Name() as kind,) if is_name(kind, *_BIT_GENERATORS.values()):
            return Made(entry)
    raise Objection("a generator that is not known")


def _generator(entry: Entry, arguments: tuple[object, ...], context: Context) -> Made:
    match arguments:
        case () | (_,) | (_, _):
            if arguments and not is_made(arguments[0], _CONSTRUCTOR):
                _bit_generator(entry, arguments[:1], context)
            if arguments[1:] and not is_name(arguments[1], _CONSTRUCTOR):
                raise Objection("a function that makes generators and is not known")
            return Made(entry)
    raise Objection("with arguments that no pickler writes")


def _set_generator(made: Made, state: object, _: Context) -> None:
    del made
    parts = state if type(state) is tuple and len(state) == 2 else (state,)
    for part in parts:
        if type(part) is Mapping:
            _check_position(part)
        elif part is not None and not is_made(part, "numpy.random.bit_generator.__pyx_unpickle_SeedSequence"):
            raise Objection("a generator's state that no pickler writes", rules.BUILD)


def _check_position(state: Mapping) -> None:
    """A position in the table of words that lies inside it; numpy does not look."""
    for key, value in state.items_of():
        if type(value) is Mapping:
            _check_position(value)
        elif key == "pos" and not (type(value) is int and 0 <= value <= _TWISTER_WORDS):
            raise Objection("a generator that reads beyond its table", rules.MEMORY)
        elif type(key) is not str or not (type(value) in {str, int, float} or is_made(value, *_MAKES_ARRAYS)):
            raise Objection("a generator's state that no pickler writes", rules.BUILD)


def _seeds(entry: Entry, arguments: tuple[object, ...], context: Context) -> Made:
    match arguments:
        case (kind, int(), state) if is_name(kind, "numpy.random.bit_generator.SeedSequence"):
            made = Made(entry)
            if state is not None:
                _set_seeds(made, state, context)
            return made
    raise Objection("with arguments that no pickler writes")


def _set_seeds(made: Made, state: object, _: Context) -> None:
    del made
    if type(state) is not tuple:
        raise Objection("a state that no pickler writes", rules.BUILD)
    for part in state[5:]:
        check_attributes(part)


# joblib


_WRAPPED = frozenset({"subclass", "shape", "order", "dtype", "allow_mmap", "numpy_array_alignment_bytes"})


def _wrapped(made: Made, state: object, _: Context) -> Inline | None:
    """What joblib writes in place of an array, which lies behind it in the stream."""
    if made.ready:
        raise Objection("sets the state of an array twice", rules.BUILD)
    given = check_attributes(state)
    if not _WRAPPED >= given.keys() >= _WRAPPED - {"numpy_array_alignment_bytes"}:
        raise Objection("attributes that joblib does not write: one may be a method", rules.BUILD)
    if type(given["allow_mmap"]) is not bool:
        raise Objection("no truth value where one is needed", rules.BUILD)
    if not is_name(given.get("subclass"), *_ARRAYS) or given.get("order") not in {"C", "F"}:
        raise Objection("an array of a class that is not allowed", rules.BUILD)
    dtype, shape = used_dtype(given.get("dtype")), sizes(given.get("shape"))
    size = _elements(shape) * dtype.itemsize
    padding = given.get("numpy_array_alignment_bytes")
    if not (padding is None or type(padding) is int):
        raise Objection("an alignment that is no number", rules.BUILD)
    if dtype.objects and given["allow_mmap"]:
        raise Objection("objects that may be mapped from the file", rules.MEMORY)
    array = Made(_JOBLIB_ARRAY, Array(dtype, shape))
    array.ready = True
    return Inline(array, 0 if dtype.objects else size, padded=padding is not None, objects=dtype.objects)


_JOBLIB_ARRAY = Entry("joblib array", _GROUP, data="array")
_MASKED = "numpy.ma.core._mareconstruct"
_MAKES_ARRAYS = (
    "numpy._core.multiarray._reconstruct", "numpy.core.multiarray._reconstruct",
    "numpy._core.numeric._frombuffer", "numpy.core.numeric._frombuffer", "joblib array",
)  # fmt: skip


def _entry(name: str, call: Call | None = None, **more: object) -> Entry:
    return Entry(name, _GROUP, call, **more)  # type: ignore[arg-type]


ENTRIES: tuple[Entry, ...] = (
    *(
        entry
        for core in ("numpy._core", "numpy.core")
        for entry in (
            _entry(f"{core}.multiarray._reconstruct", _reconstruct, build=_set_array, data="array"),
            _entry(f"{core}.numeric._frombuffer", _from_buffer, data="array"),
            _entry(f"{core}.multiarray.scalar", _scalar),
        )
    ),
    _entry(_MASKED, _masked_reconstruct, build=_set_masked),
    _entry("numpy.dtype", _dtype, build=_set_dtype),
    *(_entry(name) for name in (*_ARRAYS, "numpy.ma.MaskedArray")),
    *(
        _entry(f"numpy.{kind}")
        for kind in (
            "float16", "float32", "float64", "int8", "int16", "int32", "int64",
            "uint8", "uint16", "uint32", "uint64", "bool_", "bool", "str_", "object_",
        )
    ),
    _entry("numpy.random._pickle.__randomstate_ctor", _generator, build=_set_generator),
    _entry("numpy.random._pickle.__generator_ctor", _generator, build=_set_generator),
    _entry(_CONSTRUCTOR, _bit_generator, build=_set_generator),
    *(_entry(name) for name in _BIT_GENERATORS.values()),
    _entry("numpy.random.bit_generator.SeedSequence"),
    _entry("numpy.random.bit_generator.__pyx_unpickle_SeedSequence", _seeds, build=_set_seeds),
    _entry("joblib.numpy_pickle.NumpyArrayWrapper", new=make_empty, build=_wrapped),
)  # fmt: skip
