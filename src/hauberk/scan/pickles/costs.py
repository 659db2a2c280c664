"""What loading a pickle takes beside reading it: keys that are looked at, data that are copied, deep containers.

A few bytes of a pickle can refer to something large again and again: as a key whose parts are hashed anew each time, as
what a call copies, or as containers so deep in one another that letting go of them ends the process.

Sources: CPython 3.11 `Objects/tupleobject.c`, `dictobject.c`, `Modules/_collectionsmodule.c` (deques and default
dictionaries are let go of by recursion, lists and dictionaries are not); numpy 2.4 `arrayobject.c`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from hauberk.scan.content import Content
from hauberk.scan.pickles import rules
from hauberk.scan.pickles.arrays import Array, is_scalar
from hauberk.scan.pickles.entries import DEEP, Objection, Reporter
from hauberk.scan.pickles.values import NUMBER, Blob, Frozen, Made
from hauberk.scan.pickles.window import Window

_DEEPEST = (
    60  # CPython lets go of 50 other containers (lists, say) in one another by recursion, with these between them
)
_MODULUS = (1 << 61) - 1  # of hashes of numbers
_MOST_EQUAL = 1000
_MOST_KEY_PARTS = 1000
_DEEPEST_KEY = 64
_KEY_WORK = 1 << 21  # parts of keys that may be looked at, and more for each byte of the content
_COPIED = 1 << 28  # bytes that may be copied, and more for each byte of the content
_COPIED_SHARE = 32
_PLAIN = frozenset({float, bytes, bool, str, type(None)})
_COMPUTED = frozenset({"builtins.complex", "builtins.range", "builtins.slice", "decimal.Decimal"})


class TooComplexError(ValueError):
    """More is kept, or done, than the scan follows."""


class Costs(Window):
    """Counts them.

    Attributes:
        hashes: The first key with each hash.
        equal_hashes: Keys whose hash another one has, or may have.
        looked: Parts of keys that were looked at.
        copied: Bytes that are copied.
        levels: How deep other containers lie in one, by its identity.
        inside: Containers that were put into others, by their identity.
        outside: Those others; kept, so that their identities stay theirs.
        checks: What is looked at when all has been filled.
        given: What any object was given, with the object; lists and dictionaries in it may still be filled.
        filled_late: How many were put into others first and filled with further ones then.
    """

    def __init__(self, content: Content, reporter: Reporter, start: int) -> None:
        super().__init__(content, reporter, start)
        self.hashes: dict[int, object] = {}
        self.equal_hashes = 0
        self.looked = 0
        self.copied = 0
        self.levels: dict[int, int] = {}
        self.inside: dict[int, Made] = {}
        self.outside: list[Made] = []
        self.filled_late = 0
        self.checks: dict[object, Callable[[], None]] = {}
        self.given: list[tuple[object, object]] = []

    def at_end(self, check: Callable[[], None], key: object = None) -> None:
        """Call it at STOP, unless one with the same key is called already."""
        self.checks.setdefault(check if key is None else key, check)

    def copies(self, size: int) -> None:
        """Count bytes that are copied from something that stays.

        Raises:
            TooComplexError: They are out of proportion, which is found.
        """
        self.copied += size
        if size > 1 << 16:
            self.reporter.check_time()
        if self.copied > _COPIED + _COPIED_SHARE * self.content.size:
            self.find(rules.EXHAUSTS, f"the same data are copied again and again: {self.copied} bytes", self.base)
            raise TooComplexError("data that are copied again and again")

    def nests(self, container: Made, values: Sequence[object]) -> None:
        """Follow how deep containers that are let go of by recursion lie in one another.

        Raises:
            Objection: Too deep, or most of them are filled only after they were put into others.
        """
        inside = [value for value in values if type(value) is Made and _is_deep(value)]
        if not inside:
            return
        level = 1 + max(self.levels.get(id(value), 0) for value in inside)
        self.levels[id(container)] = level
        self.filled_late += id(container) in self.inside
        self.inside |= {id(value): value for value in inside}
        self.outside.append(container)
        if level > _DEEPEST:
            raise Objection(f"more than {_DEEPEST} containers in one another", rules.EXHAUSTS)
        if self.filled_late > _DEEPEST:
            raise Objection("containers that are filled after they were put into others", rules.UNCHECKED)

    def check_keys(self, keys: list[object], at: int) -> None:
        """Looking at a key takes as long as it has parts, and parts may be shared, so that it never ends.

        And a dictionary whose keys all have the same hash compares each with all others. Hashes of texts and bytes
        cannot be foreseen; those of numbers, and of tuples of them, can.

        Raises:
            TooComplexError: It takes too long, which is found.
        """
        for key in keys:
            kind = type(key)
            if kind is str or (kind is int and -_MODULUS < key < _MODULUS):  # type: ignore[operator]
                continue
            if kind in _PLAIN:
                self._meet(key, unknown=False, at=at)
                continue
            look = _Look()
            plain = look.at(key, _DEEPEST_KEY)
            self.looked += look.parts
            if look.endless:
                self.find(rules.EXHAUSTS, f"a key of more than {_MOST_KEY_PARTS} parts or {_DEEPEST_KEY} levels", at)
                raise TooComplexError("a key that takes for ever")
            if self.looked > _KEY_WORK + 4 * self.content.size:
                self.find(rules.EXHAUSTS, "large keys that are looked at again and again", at)
                raise TooComplexError("keys that take for ever")
            self._meet(plain, unknown=look.unknown, at=at)

    def _meet(self, key: object, *, unknown: bool, at: int) -> None:
        """Keep a key's hash, and count other keys with the same one."""
        try:
            number = hash(key)
        except TypeError:  # the unpickler stumbles as well
            self.find(rules.DAMAGED, "a list, dictionary, set or array as a key", at)
            return
        first = self.hashes.setdefault(number, key)
        if unknown or (first is not key and first != key):
            self.equal_hashes += 1
            if self.equal_hashes == _MOST_EQUAL:
                rule = rules.UNCHECKED if unknown else rules.EXHAUSTS
                self.find(rule, f"more than {_MOST_EQUAL} keys that have, or may have, the same hash", at)


class _Look:
    """What a key is made of.

    Attributes:
        parts: How many; large numbers count as several.
        unknown: Its hash is easy to choose, and not known here.
        endless: It has too many parts, or is nested too deep.
    """

    def __init__(self) -> None:
        self.parts = 0
        self.unknown = False
        self.endless = False

    def at(self, part: object, levels: int) -> object:
        """Look at a part; returns what has the same hash."""
        self.parts += 1
        kind = type(part)
        if kind in _PLAIN:
            return part
        if kind is int:
            self.parts += part.bit_length() >> 9  # type: ignore[attr-defined]
            return part
        if kind is Made:
            return self._made(part)  # type: ignore[arg-type]
        if isinstance(part, tuple | Frozen):
            items = part if isinstance(part, tuple) else part.items
            self.unknown |= kind is Frozen
            self.endless |= not levels or self.parts + len(items) > _MOST_KEY_PARTS
            return None if self.endless else tuple([self.at(each, levels - 1) for each in items])
        if kind is Blob and part.kind is bytearray:  # type: ignore[attr-defined]
            return []
        if part is NUMBER:
            self.unknown = True
            self.parts += _MOST_KEY_PARTS  # it is a long one
        return part

    def _made(self, part: Made) -> object:
        if is_scalar(part) or part.entry.name == "uuid.UUID":
            self.unknown |= part.detail is NUMBER
            return part.detail
        if part.entry.data == "array" or part.entry.items:
            return []  # Python makes no hash of it either
        self.unknown |= part.entry.name in _COMPUTED
        return part


def _is_deep(value: Made) -> bool:
    if value.entry.data == "array":  # one whose state comes later may hold anything
        return not isinstance(value.detail, Array) or value.detail.dtype.objects
    return value.entry.data == DEEP
