"""numpy's arrays and scalars in pickles: their data are as long as their shapes and dtypes say.

Nothing has its state set twice: somebody may look at the memory that the first state had.

Sources: numpy 2.4 `_core/src/multiarray/methods.c` (`array_setstate`), `multiarraymodule.c` (`array_scalar`),
`_core/numeric.py`, `ma/core.py`; what they write was observed for protocols 0 to 5.
"""

from __future__ import annotations

import math
import struct
from typing import NamedTuple

from hauberk.scan.fitted.node_tables import Survey
from hauberk.scan.fitted.trees import LONGEST_FLAGS
from hauberk.scan.pickles import rules
from hauberk.scan.pickles.dtypes import DType, used_dtype
from hauberk.scan.pickles.entries import Context, Entry, Objection, is_made, is_name, sizes
from hauberk.scan.pickles.plain_names import Encoded
from hauberk.scan.pickles.values import BYTES, NOWHERE, NUMBER, Blob, Made, Name, is_bytes, is_text, length_of

ARRAYS = ("numpy.ndarray", "numpy.matrix", "numpy.rec.recarray", "numpy.recarray")
MAKES_ARRAYS = (
    "numpy._core.multiarray._reconstruct", "numpy.core.multiarray._reconstruct",
    "numpy._core.numeric._frombuffer", "numpy.core.numeric._frombuffer", "joblib array",
)  # fmt: skip
MAKES_SCALARS = ("numpy._core.multiarray.scalar", "numpy.core.multiarray.scalar")
_MOST_ELEMENTS = 1 << 48
MOST_OF_NOTHING = 1 << 20  # items without bytes: a copy of them is longer than they are
_MASKED = 1 << 11  # bytes of an empty masked array; it takes as long as to copy more, and each field does
_COPIED = 1000  # bytes up to which numpy copies what it is given; it looks at longer ones where they are


class Array(NamedTuple):
    """What matters of an array.

    Attributes:
        dtype: Of its items.
        shape: Its sizes.
        source: Its bytes, or text that becomes bytes, or where either lies in the content; a tuple of trees; `None`
            where none of that.
        survey: What a table of nodes holds, where it was looked at in passing.
    """

    dtype: DType
    shape: tuple[int, ...]
    source: object = None
    survey: Survey | None = None


def elements(dtype: DType, shape: tuple[int, ...]) -> int:
    """How many items an array has.

    Raises:
        Objection: More than any machine has room for.
    """
    count = math.prod(shape)
    if count > (_MOST_ELEMENTS if dtype.itemsize else MOST_OF_NOTHING):
        raise Objection(f"an array of shape {list(shape)[:8]}", rules.BOUNDS)
    return count


def described_array(dtype: DType, shape: tuple[int, ...], data: object, context: Context) -> Array:
    """An array, if its data are as many as its shape says.

    Raises:
        Objection: They are not.
    """
    count = elements(dtype, shape)
    if dtype.objects:
        if type(data) is not list:
            raise Objection("an array of objects whose data are no list", rules.MEMORY)
        if len(data) != count:
            raise Objection(f"{len(data)} objects in an array of shape {list(shape)[:8]}", rules.BOUNDS)
        context.copies(count * dtype.itemsize)
        return Array(dtype, shape, tuple(data) if data and _is_kept(data[0]) else None)
    if is_text(data) or data is BYTES or isinstance(data, Encoded):
        # Text becomes bytes, one a letter; numpy compares their number before it makes room.
        context.copies(count * dtype.itemsize)
        return Array(dtype, shape, data)
    if not is_bytes(data) and not (type(data) is Blob and data.kind is bytearray):
        raise Objection("an array whose data are no bytes", rules.BUILD)
    length = length_of(data)
    if length != count * dtype.itemsize:
        raise Objection(f"{length} bytes in an array of {count} items of {dtype.itemsize}", rules.BOUNDS)
    if (length > _COPIED and dtype.order == ">") or dtype.fields:
        context.copies(length)
    return Array(dtype, shape, kept_flags(dtype, data, context))


def kept_flags(dtype: DType, data: object, context: Context) -> object:
    """The bytes themselves, where somebody may ask which columns a short row of flags means."""
    if dtype.itemsize == 1 and type(data) is Blob and data.length <= LONGEST_FLAGS and data.offset != NOWHERE:
        return context.read(data.offset, data.length)
    return data


def _is_kept(item: object) -> bool:
    """Whether an array of such objects is one that models are made of."""
    return type(item) is Made and item.entry.name.startswith("sklearn.tree.")


def check_dimensions(kind: object, shape: object) -> None:
    """A matrix has two: with fewer, numpy's class looks at memory behind it when it is turned.

    Raises:
        Objection: It has not.
    """
    if is_name(kind, "numpy.matrix") and len(sizes(shape)) != 2:
        raise Objection(f"a matrix of {len(sizes(shape))} dimensions", rules.MEMORY)


def reconstruct(entry: Entry, arguments: tuple[object, ...], _: Context) -> Made:
    """An empty array, whose state comes after."""
    match arguments:
        case (Name() as kind, (0,), b"b" | "b") if is_name(kind, *ARRAYS):
            return Made(entry, kind)
    raise Objection("makes anything but an empty array, whose state comes after")


def set_array(made: Made, state: object, context: Context) -> None:
    """Shape, dtype and data of an array, once."""
    if made.ready:
        raise Objection("sets the state of an array twice", rules.MEMORY)
    match state:
        case tuple((int(), shape, dtype, _, data) | (shape, dtype, _, data)):
            check_dimensions(made.detail, shape)
            made.detail = found = described_array(used_dtype(dtype), sizes(shape), data, context)
            if found.dtype.objects and type(data) is list:
                context.nests(made, data)
        case _:
            raise Objection("an array's state that no pickler writes", rules.BUILD)


def reconstruct_masked(entry: Entry, arguments: tuple[object, ...], context: Context) -> Made:
    """An empty masked array, whose state comes after."""
    context.copies(_MASKED)
    match arguments:
        case (kind, base, (0,), b"b" | "b") if is_name(kind, "numpy.ma.MaskedArray") and is_name(base, *ARRAYS):
            return Made(entry, base)
    raise Objection("makes anything but an empty array, whose state comes after")


def set_masked(made: Made, state: object, context: Context) -> None:
    """Shape, dtype, data, mask and fill value, once."""
    if made.ready:
        raise Objection("sets the state of an array twice", rules.MEMORY)
    match state:
        case tuple((int(), shape, dtype, _, data, mask, fill)):
            kind = used_dtype(dtype)
            check_dimensions(made.detail, shape)
            mask_size = _mask_size(kind)
            if not _is_one_item(fill, kind):  # numpy makes an item of it, however long that gets
                raise Objection("a fill value that is no single item", rules.EXHAUSTS)
            context.copies(kind.itemsize + _MASKED * len(kind.fields))
            described_array(kind, sizes(shape), data, context)
            described_array(DType("b", mask_size, objects=False), sizes(shape), mask, context)
        case _:
            raise Objection("an array's state that no pickler writes", rules.BUILD)


def _mask_size(kind: DType) -> int:
    """Truth values of an item: one, or one for each field."""
    if kind.fields and (kind.objects or kind.levels > 1):
        raise Objection("a masked array of structures that hold more than numbers and texts", rules.UNCHECKED)
    return len(kind.fields) or 1


def _is_one_item(value: object, kind: DType) -> bool:
    """Whether it is one, and of objects only where no text or number is made of them."""
    if type(value) is Made:
        if not isinstance(value.detail, Array):
            return value.entry.name in MAKES_SCALARS and not kind.fields
        own = value.detail.dtype
        same = own.levels == kind.levels and own.objects == kind.objects and own.fields == kind.fields
        return value.detail.shape == () and same
    return value is None or (type(value) in {bool, int, float, str, bytes} and not kind.fields)


def from_buffer(entry: Entry, arguments: tuple[object, ...], context: Context) -> Made:
    """An array that looks at bytes where they are."""
    match arguments:
        case (data, dtype, shape, "C" | "F") | (data, dtype, shape, "C" | "F", _):
            kind = used_dtype(dtype)
            if kind.objects:
                raise Objection("objects from bytes", rules.MEMORY)
            return Made(entry, described_array(kind, sizes(shape), data, context))
        case (data, dtype, shape, "K", tuple() as axes):
            kind, lengths = used_dtype(dtype), sizes(shape)
            if kind.objects:
                raise Objection("objects from bytes", rules.MEMORY)
            if sorted(sizes(axes)) != list(range(len(lengths))):
                raise Objection("axes that are no permutation")
            described_array(kind, lengths, data, context)
            return Made(entry, Array(kind, tuple(lengths[axis] for axis in sizes(axes))))
    raise Objection("with arguments that no pickler writes")


def scalar(entry: Entry, arguments: tuple[object, ...], context: Context) -> Made:
    """A single item; its detail is its value as a key, where that is known, or `NUMBER`."""
    match arguments:
        case (dtype, data):
            kind = used_dtype(dtype)
            if kind.objects:
                raise Objection("objects from bytes", rules.MEMORY)
            if not (is_bytes(data) or is_text(data)):
                raise Objection("a scalar whose data are no bytes")
            if isinstance(data, bytes) and len(data) != kind.itemsize:
                raise Objection(f"{len(data)} bytes for a scalar of {kind.itemsize}", rules.BOUNDS)
            if kind.itemsize > _COPIED:
                context.copies(kind.itemsize)
            return Made(entry, _value(kind, data))
    raise Objection("with arguments that no pickler writes")


_FLOATS = {2: "e", 4: "f", 8: "d"}


def _value(kind: DType, data: object) -> object:
    """What has the same hash as a scalar, and is equal to those that are equal to it."""
    if isinstance(data, str):
        data = data.encode("latin-1", "replace")
    if isinstance(data, bytes):
        big = kind.order == ">"
        if kind.kind in "iub":
            return int.from_bytes(data, "big" if big else "little", signed=kind.kind == "i")
        if kind.kind == "f" and len(data) in _FLOATS:
            return float(struct.unpack((">" if big else "<") + _FLOATS[len(data)], data)[0])
        if kind.kind in "SUmM":  # hashed with a key that nobody knows, or like the number that it is
            return data
    return NUMBER


def is_scalar(value: object) -> bool:
    """Whether it is one of numpy's scalars."""
    return is_made(value, *MAKES_SCALARS)
