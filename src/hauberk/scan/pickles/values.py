"""The values that the scan's pickle machine computes with: known where it is cheap, of known kind where it is not.

Strings, numbers, `None`, tuples and lists of a pickle stand for themselves, so that names put together on the stack are
known. The rest is one of the classes below.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hauberk.scan.pickles.entries import Entry


class Name:
    """A name that a pickle asks for. No tuple, so that a tuple of strings in a pickle is never taken for one.

    Attributes:
        module: As the unpickler would import it.
        name: What is looked up there; dots are walked.
        entry: What the allow-list says; `None` where it is not on it.
    """

    __slots__ = ("entry", "module", "name")

    def __init__(self, module: str, name: str, entry: Entry | None) -> None:
        self.module = module
        self.name = name
        self.entry = entry

    def __str__(self) -> str:
        return f"{self.module}.{self.name}"


class Made:
    """What calling an allowed name gave.

    Attributes:
        entry: The name's.
        detail: What later checks want to know of it (a `numpy.dtype`'s size), if anything.
        ready: Its state has been set.
        kept: Something that was checked holds it, so it must not change any more.
    """

    __slots__ = ("detail", "entry", "kept", "ready")

    def __init__(self, entry: Entry, detail: object = None) -> None:
        self.entry = entry
        self.detail = detail
        self.ready = False
        self.kept = False


class Mapping(list[object]):
    """A dictionary: keys and values in turn, in the order of setting.

    It is a list to Python: a pattern of a sequence fits it, too. What a pickle brings is matched as `tuple((...))`, and
    told from a list by `type(value) is list`.

    Attributes:
        kept: Something that was checked holds it, so it must not change any more.
    """

    kept = False

    def items_of(self) -> list[tuple[object, object]]:
        """Keys with their values."""
        return list(zip(self[::2], self[1::2], strict=True))


class Bag(list[object]):
    """A set."""


NOWHERE = -1


class Blob:
    """A string or bytes too long to keep.

    Attributes:
        kind: `str`, `bytes` or `bytearray`.
        offset: Where the data begin in the content; `NOWHERE` where they do not lie in it as they are.
        length: Bytes.
    """

    __slots__ = ("kind", "length", "offset")

    def __init__(self, kind: type, offset: int, length: int) -> None:
        self.kind = kind
        self.offset = offset
        self.length = length


class Opaque:
    """A value that is not followed: harmless in itself, unknown in content.

    Attributes:
        what: In words.
    """

    __slots__ = ("what",)

    def __init__(self, what: str) -> None:
        self.what = what


class Frozen(Opaque):
    """A frozen set.

    Attributes:
        items: What it holds; looked at again when it is part of a key.
    """

    __slots__ = ("items",)

    def __init__(self, items: tuple[object, ...]) -> None:
        super().__init__("a frozen set")
        self.items = items


REFUSED = Opaque("what a refused call gave")
NUMBER = Opaque("a number")
TEXT = Opaque("a text")
BYTES = Opaque("bytes")
BUFFER = Opaque("a buffer")
EXTERNAL = Opaque("something from outside")


class Storage:
    """A tensor storage that a pickle refers to.

    Attributes:
        key: In the archive.
        size: In bytes, as the pickle claims.
        itemsize: Bytes of an element; 1 where it is untyped.
        count: Elements.
        kind: `torch.FloatStorage` and the like.
        view: Of files of the first versions of torch: the part of it that is meant, by a key of its own, where it
            begins and how many elements it has; `None` for all of it.
        reach: Bytes that tensors may look at.
    """

    __slots__ = ("count", "itemsize", "key", "kind", "reach", "size", "view")

    def __init__(
        self, key: str, itemsize: int, count: int, kind: str, view: tuple[str, int, int] | None = None
    ) -> None:
        self.key = key
        self.view = view
        self.reach = itemsize * (view[2] if view else count)
        self.size = itemsize * count
        self.itemsize = itemsize
        self.count = count
        self.kind = kind

    def __repr__(self) -> str:
        return f"Storage({self.key!r}, {self.itemsize}, {self.count}, {self.kind!r})"


def is_bytes(value: object) -> bool:
    """Whether it is bytes, kept or not."""
    return type(value) is bytes or value is BYTES or (type(value) is Blob and value.kind is bytes)


def is_text(value: object) -> bool:
    """Whether it is a string, kept or not."""
    return type(value) is str or value is TEXT or (type(value) is Blob and value.kind is str)


def length_of(value: object) -> int:
    """Bytes of bytes or of a byte array."""
    if type(value) is Blob:
        return value.length
    if isinstance(value, bytes | bytearray):
        return len(value)
    raise TypeError("neither bytes nor a byte array")


_WORDS = {
    bool: "a truth value", int: "a number", float: "a number", tuple: "a tuple", list: "a list", str: "a text",
    bytes: "bytes", type(None): "nothing", Mapping: "a dictionary", Bag: "a set", Storage: "a tensor's storage",
}  # fmt: skip


def described(value: object) -> str:
    """What it is, in words, for a finding."""
    if isinstance(value, Name):
        return str(value)
    if isinstance(value, Made):
        return f"an object of {value.entry.name}"
    if isinstance(value, Opaque):
        return value.what
    if isinstance(value, Blob):
        return "a byte array" if value.kind is bytearray else _WORDS[value.kind]
    return _WORDS[type(value)]
