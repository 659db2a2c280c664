"""What the allow-list says of a name: how it may be used, and what its use gives.

A name may be called (REDUCE, INST, OBJ), made an object of (NEWOBJ), have the state of its objects set (BUILD), have
items put into them, or be none of that and only be passed around. Every use has a check, which returns what stands for
the result or objects.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol

from hauberk.scan.content import Content
from hauberk.scan.pickles import rules
from hauberk.scan.pickles.values import Made, Mapping, Name
from hauberk.scan.report import Rule, shown

_MOST_DIMENSIONS = 64  # of numpy's arrays and torch's tensors
DEEP = "deep"
"""`Entry.data` of containers that are let go of by recursion."""
ATTRIBUTES = "attributes"
"""`Entry.data` of dictionaries whose items are attributes, too."""
CALLED_ONLY = "called only"
"""`Entry.data` of names that are harmless only as their rule calls them: no object may keep one."""
_ATTRIBUTE = 100  # bytes that one takes
_STATE = 1 << 10  # bytes that take as long to copy as to set a state of none


class Objection(Exception):  # noqa: N818 - no error: what a check has against a use
    """Why a use of an allowed name is not harmless.

    Attributes:
        rule: What it breaks.
    """

    def __init__(self, what: str, rule: Rule = rules.CALL) -> None:
        super().__init__(what)
        self.rule = rule


class Reporter(Protocol):
    """Who is told: an `Examination`, or something that only listens."""

    def find(self, rule: Rule, what: str, *, at: int | str | None = None) -> None:
        """Note a finding."""

    def check_time(self) -> None:
        """Raise `StopScan` when time is up."""


class Context(Protocol):
    """What a check may ask of the machine.

    Attributes:
        content: For data that lie in the pickle.
        base: Where in it the machine is, roughly.
        reporter: Keeps the time.
        given: What an object was given, be it items or a state, with the object; who makes one of items adds them.
    """

    content: Content
    reporter: Reporter
    base: int
    given: list[tuple[object, object]]

    def read(self, offset: int, length: int) -> bytes:
        """Bytes of the content, without going back in it where that can be avoided."""

    def check_keys(self, keys: list[object], at: int) -> None:
        """Object to keys that take without end to look at."""

    def copies(self, size: int) -> None:
        """Count bytes that are copied from something that stays; object when they are out of proportion."""

    def at_end(self, check: Callable[[], None], key: object = None) -> None:
        """Call a check when the pickle has come to its end, which raises `Objection`; once for each key."""

    def nests(self, container: Made, values: Sequence[object]) -> None:
        """Object to containers too deep in one another, where CPython lets go of them by recursion."""


class Inline(NamedTuple):
    """An array that lies in the stream, behind the object that stands for it.

    Attributes:
        array: What takes the object's place.
        size: Bytes; 0 for objects.
        padded: A byte with the length of a padding comes first, then the padding.
        objects: It is a pickle of its own.
    """

    array: Made
    size: int
    padded: bool
    objects: bool


Call = Callable[["Entry", tuple[object, ...], Context], object]
Build = Callable[[Made, object, Context], Inline | None]


@dataclass(frozen=True, eq=False)
class Entry:
    """A name on the allow-list.

    Attributes:
        name: `module.name`.
        group: Of the documentation.
        call: What calling it gives; `None` where it is never called.
        new: What making an object without initialising it gives.
        build: Sets an object's state.
        items: What may be put into an object: `mapping` (keys and values), `list`, or nothing.
        data: What checks of other names want to know of it (a storage's element size, an array's class).
    """

    name: str
    group: str
    call: Call | None = None
    new: Call | None = None
    build: Build | None = None
    items: Literal["mapping", "list", ""] = ""
    data: object = None


def make(entry: Entry, arguments: tuple[object, ...], _: Context) -> Made:
    """An object, whatever the arguments, which only become parts of it."""
    del arguments
    return Made(entry)


def make_empty(entry: Entry, arguments: tuple[object, ...], _: Context) -> Made:
    """An object made of nothing."""
    if arguments:
        raise Objection(f"with {len(arguments)} arguments, where it takes none")
    return Made(entry)


def plain_state(made: Made, state: object, context: Context) -> None:
    """Attributes by name, as the state of plain objects is; see `check_attributes`."""
    del made
    parts = state if type(state) is tuple and len(state) == 2 else (state,)
    for part in parts:
        if part is not None:
            context.copies(_STATE + len(check_attributes(part)) * _ATTRIBUTE)


def check_attributes(state: object) -> dict[str, object]:
    """Names of attributes and what they are set to.

    Special names are refused: `__setstate__` set on an object is what the next BUILD calls, `__class__` makes another
    object of it.

    Raises:
        Objection: It is no dictionary of names, or one is special.
    """
    if type(state) is not Mapping:
        raise Objection("no dictionary of attributes", rules.BUILD)
    found: dict[str, object] = {}
    for name, value in state.items_of():
        if type(name) is not str:
            raise Objection("an attribute whose name is not known", rules.BUILD)
        if name.startswith("__"):
            raise Objection(f"sets {shown(name)}", rules.BUILD)
        found[name] = value
    return found


def is_name(value: object, *names: str) -> bool:
    """Whether it is one of these names, not something that one gave."""
    return type(value) is Name and value.entry is not None and value.entry.name in names


def is_made(value: object, *names: str) -> bool:
    """Whether it is what calling one of these names gave."""
    return type(value) is Made and value.entry.name in names


def whole(value: object) -> int:
    """A number that is not negative.

    Raises:
        Objection: It is no number, not known, or negative.
    """
    if type(value) is not int or value < 0:
        raise Objection("a size that is no natural number")
    return value


def sizes(value: object) -> tuple[int, ...]:
    """A shape: a tuple or a list of a few numbers that are not negative.

    Raises:
        Objection: It is none.
    """
    if type(value) is not tuple and type(value) is not list:
        raise Objection("a shape that is no tuple")
    if len(value) > _MOST_DIMENSIONS:
        raise Objection(f"a shape of {len(value)} dimensions", rules.BOUNDS)
    for each in value:
        if type(each) is not int or not 0 <= each < 1 << 63:
            raise Objection("a size that is no natural number")
    return tuple(value)
