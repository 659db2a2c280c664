"""Python's own: what holds data and nothing else.

Sources: the documentation of `collections`, `datetime`, `decimal`, `uuid`, `copyreg` and the built-in types; how each
is pickled by protocols 0 to 5 was observed.
"""

from __future__ import annotations

from hauberk.scan.pickles import rules
from hauberk.scan.pickles.entries import (
    DEEP,
    Build,
    Call,
    Context,
    Entry,
    Objection,
    check_attributes,
    is_name,
    make_empty,
)
from hauberk.scan.pickles.values import BYTES, NOWHERE, TEXT, Bag, Blob, Frozen, Made, Mapping, Name, is_bytes
from hauberk.scan.report import shown

_ENCODINGS = frozenset({"latin1", "latin-1", "iso-8859-1"})
_ITEM, _ENTRY = 8, 64  # bytes of an item of a list, and of a set or a dictionary
_DEQUE = 700  # bytes of an empty one
_LONGEST_DECIMAL = 1000


def _ordered(entry: Entry, arguments: tuple[object, ...], context: Context) -> Made:
    match arguments:
        case ():
            return Made(entry)
        case (Mapping() as items,):
            return _filled(entry, items, context)
        case (list() as pairs,) if type(pairs) is list and all(
            isinstance(pair, tuple | list) and len(pair) == 2 for pair in pairs
        ):
            context.check_keys([pair[0] for pair in pairs], context.base)
            return _filled(entry, pairs, context)
    raise Objection("with anything but a list of pairs")


def _filled(entry: Entry, items: list[object], context: Context) -> Made:
    """A dictionary that is made of items; `ready` says that it holds some."""
    context.copies(len(items) * _ENTRY)
    made = Made(entry)
    context.given.append((made, items))
    made.ready = bool(items)
    return made


def _counter(entry: Entry, arguments: tuple[object, ...], context: Context) -> Made:
    match arguments:
        case ():
            return Made(entry)
        case (Mapping() as items,):
            return _filled(entry, items, context)
    raise Objection("with anything but a dictionary")


_FACTORIES = (
    "builtins.list", "builtins.dict", "builtins.set", "builtins.frozenset", "builtins.int", "builtins.float",
    "builtins.str", "builtins.bool", "builtins.tuple", "builtins.complex",
    "collections.OrderedDict", "collections.Counter",
)  # fmt: skip


def _default(entry: Entry, arguments: tuple[object, ...], _: Context) -> Made:
    # The factory is called later, without arguments, whenever a key is missing.
    match arguments:
        case () | (None,):
            return Made(entry)
        case (Name() as factory,) if is_name(factory, *_FACTORIES):
            return Made(entry)
    raise Objection("with a factory that is no plain type")


def _deque(entry: Entry, arguments: tuple[object, ...], context: Context) -> Made:
    match arguments:
        case () | (_,) | (_, None | int()):
            items = arguments[0] if arguments else ()
            if type(items) is not list and type(items) is not tuple:  # a set's items are not known
                raise Objection("with anything but a list and a length")
            made = Made(entry)
            context.given.append((made, items))
            context.copies(_DEQUE + len(items) * _ITEM)
            context.nests(made, items)
            return made
    raise Objection("with anything but a list and a length")


def _set(entry: Entry, arguments: tuple[object, ...], context: Context) -> object:
    match arguments:
        case ():
            return Bag() if entry.name == "builtins.set" else Frozen(())
        case ((list() | tuple()) as items,) if not isinstance(items, Mapping | Bag):
            context.copies(len(items) * _ENTRY)
            context.check_keys(list(items), context.base)
            context.given.append((None, items))
            return Bag() if entry.name == "builtins.set" else Frozen(tuple(items))
    raise Objection("with anything but a list")


def _numbers(entry: Entry, arguments: tuple[object, ...], _: Context) -> Made:
    if len(arguments) <= 3 and all(each is None or type(each) in {int, float, bool} for each in arguments):
        return Made(entry)
    raise Objection("with anything but numbers")


def _bytes(_: Entry, arguments: tuple[object, ...], __: Context) -> object:
    if arguments:
        raise Objection("with arguments: protocol 2 and below call it for empty bytes only")
    return b""


def _byte_array(_: Entry, arguments: tuple[object, ...], context: Context) -> object:
    # A number as the argument would reserve that many bytes.
    _copy(arguments, context)
    match arguments:
        case ():
            return Blob(bytearray, NOWHERE, 0)
        case (bytes() | str() as kept, *encoding) if _is_encoding(kept, encoding):
            return Blob(bytearray, NOWHERE, len(kept))
        case (Blob(kind=kind) as long, *encoding) if kind is not bytearray and _is_encoding(long, encoding):
            return Encoded(long) if kind is str else Blob(bytearray, long.offset, long.length)
        case (unknown, *encoding) if (unknown is TEXT or unknown is BYTES) and _is_encoding(unknown, encoding):
            return BYTES
    raise Objection("with anything but bytes")


def _is_encoding(value: object, encoding: list[object]) -> bool:
    """Whether text comes with Latin-1, and bytes without anything."""
    if is_bytes(value):
        return not encoding
    return len(encoding) == 1 and isinstance(encoding[0], str) and encoding[0] in _ENCODINGS


def _copy(arguments: tuple[object, ...], context: Context) -> None:
    """Count the text or the bytes that become others."""
    if arguments and isinstance(arguments[0], Blob):
        context.copies(arguments[0].length)


def _encode(_: Entry, arguments: tuple[object, ...], context: Context) -> object:
    """Bytes as protocol 2 and below write them; every other codec is refused: some decompress, some import."""
    _copy(arguments, context)
    match arguments:
        case (str(text), str(encoding)) if encoding in _ENCODINGS:
            try:
                return text.encode("latin-1")
            except UnicodeEncodeError:
                raise Objection("text that is not Latin-1", rules.DAMAGED) from None
        case (text, str(encoding)) if text is TEXT and encoding in _ENCODINGS:
            return BYTES
        case (Blob(kind=kind) as blob, str(encoding)) if kind is str and encoding in _ENCODINGS:
            return Encoded(blob)
    raise Objection("with anything but a text and 'latin1'")


class Encoded(Blob):
    """Bytes that were written as a long text: each above 127 takes two bytes, so how many they are is not known."""

    __slots__ = ()

    def __init__(self, text: Blob) -> None:
        super().__init__(bytes, text.offset, text.length)


def _reconstruct(_: Entry, arguments: tuple[object, ...], context: Context) -> object:
    """`copyreg._reconstructor` as protocols 0 and 1 call it, for classes that are no lists and the like."""
    match arguments:
        case (Name(entry=Entry() as kind) as name, base, None) if is_name(base, "builtins.object") and kind.new:
            return kind.new(kind, (), context)
        case (Name() as name, *_):
            raise Objection(f"makes an object of {shown(str(name))}")
    raise Objection("with arguments that no pickler writes")


def _texts(entry: Entry, arguments: tuple[object, ...], _: Context) -> Made:
    """A decimal; one of a million digits takes as long as it is a key."""
    if all(type(each) is str and len(each) <= _LONGEST_DECIMAL for each in arguments):
        return Made(entry)
    raise Objection("with anything but short texts")


def _moment(entry: Entry, arguments: tuple[object, ...], _: Context) -> Made:
    for each in arguments:
        fine = (
            each is None
            or type(each) in {int, float, bool, bytes, str}
            or (type(each) is Made and each.entry.group == "time")
        )
        if not fine:
            raise Objection("with anything but numbers and bytes")
    return Made(entry)


def _dictionary_state(made: Made, state: object, context: Context) -> None:
    del made
    context.copies(len(check_attributes(state)) * _ENTRY)


def _identifier_state(made: Made, state: object, _: Context) -> None:
    """A number, which is what is looked at when it is a key."""
    for attribute, value in check_attributes(state).items():
        if attribute not in {"int", "is_safe"} or not (value is None or type(value) is int):
            raise Objection("an identifier that is no number", rules.BUILD)
        if attribute == "int":
            made.detail = value


def _entry(
    name: str, call: Call | None = None, *, new: Call | None = None, build: Build | None = None, items: str = "",
    group: str = "Python", data: object = None,
) -> Entry:  # fmt: skip
    return Entry(name, group, call, new, build, items, data)  # type: ignore[arg-type]


ENTRIES: tuple[Entry, ...] = (
    _entry("collections.OrderedDict", _ordered, new=make_empty, build=_dictionary_state, items="mapping"),
    _entry("collections.Counter", _counter, new=make_empty, build=_dictionary_state, items="mapping"),
    _entry("collections.defaultdict", _default, items="mapping", data=DEEP),
    _entry("collections.deque", _deque, items="list", data=DEEP),
    _entry("builtins.set", _set),
    _entry("builtins.frozenset", _set),
    _entry("builtins.complex", _numbers),
    _entry("builtins.slice", _numbers),
    _entry("builtins.range", _numbers),
    _entry("builtins.bytes", _bytes),
    _entry("builtins.bytearray", _byte_array),
    *(
        _entry(f"builtins.{kind}")
        for kind in ("object", "int", "float", "bool", "str", "list", "tuple", "dict", "Ellipsis", "NotImplemented")
    ),
    _entry("_codecs.encode", _encode),
    _entry("copyreg._reconstructor", _reconstruct),
    *(
        _entry(f"datetime.{kind}", _moment, group="time")
        for kind in ("date", "datetime", "time", "timedelta", "timezone")
    ),
    _entry("decimal.Decimal", _texts),
    _entry("uuid.UUID", new=make_empty, build=_identifier_state),
)
