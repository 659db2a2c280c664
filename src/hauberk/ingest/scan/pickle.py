"""An allow-list scan of a pickle: which names does it ask for, and does it hold anything but tensors?

A pickle is a program for a small stack machine, and loading it runs that program: it can import any name and call it.
A scanner that lists what is dangerous is bypassed by what its list lacks. This one lists what a state dict needs:

1. the instructions that `torch.save` writes and torch's restricted unpickler knows, nothing newer or older;
2. the names of `_CALLABLE` (called to rebuild tensors) and `_STORAGES`/`_DTYPES` (only passed around), where
   rule 1 leaves one instruction (GLOBAL) that can ask for a name, and that one spells it out;
3. persistent ids that are tensor storages, calls of `_CALLABLE` only, and state set on ordered dictionaries only.

Anything else is refused. To say **what** a refused pickle asked for, names that are put together on the stack
(STACK_GLOBAL, with strings from memo or stack) are followed symbolically: strings, numbers and tuples are known, all
else is opaque. The verdict never rests on that, only the wording does.

Sources: CPython `Lib/pickletools.py` (the instruction set), torch `_weights_only_unpickler.py` (what it accepts).
"""

from __future__ import annotations

import _compat_pickle
import io
import pickletools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from hauberk.errors import RefusedModelError

MAX_PICKLE_BYTES = 16 << 20  # ten thousand tensors take less than two

_INSTRUCTIONS = frozenset(
    {
        "PROTO", "STOP", "MARK", "EMPTY_DICT", "EMPTY_LIST", "EMPTY_TUPLE", "TUPLE", "TUPLE1", "TUPLE2", "TUPLE3",
        "NONE", "NEWTRUE", "NEWFALSE", "BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT", "BINUNICODE",
        "BINGET", "LONG_BINGET", "BINPUT", "LONG_BINPUT", "GLOBAL", "REDUCE", "BUILD", "APPEND", "APPENDS",
        "SETITEM", "SETITEMS", "BINPERSID",
    }
)  # fmt: skip
_PROTOCOL = 2  # what torch.save writes, and what its restricted unpickler was made for

_SHOWN_NAMES = 5
_SHOWN_CHARACTERS = 100
_KEPT_REASONS = 16


@dataclass(frozen=True)
class Name:
    """A name that a pickle asks for. No tuple, so that a tuple of strings in a pickle is never taken for one."""

    module: str
    name: str

    def __str__(self) -> str:
        return _shown(f"{self.module}.{self.name}")


_ORDERED_DICT = Name("collections", "OrderedDict")
_CALLABLE = frozenset(
    {
        _ORDERED_DICT,
        Name("torch._utils", "_rebuild_tensor_v2"),
        Name("torch._utils", "_rebuild_tensor_v3"),
        Name("torch._utils", "_rebuild_parameter"),
        Name("torch", "Size"),
        Name("torch", "device"),
    }
)
_STORAGES = {
    Name("torch", f"{kind}Storage"): size
    for kind, size in {
        "Double": 8, "Float": 4, "Half": 2, "BFloat16": 2,
        "Long": 8, "Int": 4, "Short": 2, "Char": 1, "Byte": 1, "Bool": 1,
    }.items()
} | {Name("torch.storage", "UntypedStorage"): 1}  # fmt: skip
_DTYPES = frozenset(
    Name("torch", kind)
    for kind in (
        "float64", "float32", "float16", "bfloat16", "int64", "int32", "int16", "int8",
        "uint64", "uint32", "uint16", "uint8", "bool",
    )
)  # fmt: skip
_ALLOWED = _CALLABLE | _STORAGES.keys() | _DTYPES


class Storage(NamedTuple):
    """A tensor storage that a pickle refers to: its key in the archive, and its size in bytes as the pickle claims."""

    key: str
    size: int


@dataclass
class Examination:
    """What a pickle asks for.

    Attributes:
        names: Every name, each once, in the order of asking.
        storages: Tensor storages that it refers to.
        complaints: What it does that a pickle of tensors does not, one phrase each.
        oddities: Instructions and versions that `torch.save` never writes, one phrase each.
        end: Offset behind its last instruction; `None` where it is cut or damaged.
    """

    names: dict[Name, None] = field(default_factory=dict)
    storages: list[Storage] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)
    oddities: list[str] = field(default_factory=list)
    end: int | None = None

    @property
    def refused_names(self) -> list[str]:
        """The names that are not allowed."""
        return [str(name) for name in self.names if name not in _ALLOWED]


def scan_pickle(data: bytes, where: str) -> tuple[Storage, ...]:
    """Accept a pickle of tensors.

    Args:
        data: The pickle, and nothing behind it.
        where: How error messages call it.

    Returns:
        The storages that it refers to.

    Raises:
        RefusedModelError: It asks for anything else; the message names what.
    """
    if len(data) > MAX_PICKLE_BYTES:
        raise RefusedModelError(f"{where}: a pickle of {len(data)} bytes; at most {MAX_PICKLE_BYTES} are scanned")
    found = examine_pickle(data)
    if names := found.refused_names:
        raise refusal_of_names(names, where)
    if reasons := [*found.complaints, *found.oddities]:
        raise RefusedModelError(f"{where}: refused: {reasons[0]}; nothing of it was run")
    if found.end != len(data):
        raise RefusedModelError(f"{where}: refused: damaged, or something follows the pickle; nothing of it was run")
    return tuple(found.storages)


def refusal_of_names(names: Sequence[str], where: str) -> RefusedModelError:
    """The error that says what a pickle asked for."""
    more = f" and {len(names) - _SHOWN_NAMES} more" if len(names) > _SHOWN_NAMES else ""
    return RefusedModelError(
        f"{where}: refused: asks for {', '.join(names[:_SHOWN_NAMES])}{more}, where only tensors are allowed;"
        " nothing of it was run. For a model of your own, save model.state_dict() (best as .safetensors)"
    )


def examine_pickle(data: bytes) -> Examination:
    """Follow a pickle symbolically to its end, or to where it is damaged. Never raises for what the pickle holds."""
    machine = _Machine()
    stream = io.BytesIO(data)
    try:
        while machine.found.end is None:
            machine.step(stream)
    except (ValueError, IndexError, KeyError, OverflowError) as error:
        machine.complain(f"not a readable pickle at byte {stream.tell()} ({error})")
    return machine.found


_BY_CODE = {instruction.code: instruction for instruction in pickletools.opcodes}
_OPAQUE = object()  # a value that the scan does not follow
_MARK = object()


@dataclass(frozen=True)
class _Made:
    """What calling a name gave."""

    callee: Name


class _Machine:
    """The stack machine of pickle over known and opaque values. It imports nothing and calls nothing."""

    def __init__(self) -> None:
        self.found = Examination()
        self._stack: list[object] = []
        self._memo: dict[int, object] = {}
        self._handlers: dict[str, Callable[[object], None]] = {
            "PROTO": self._protocol, "MARK": self._mark, "POP": self._pop_or_mark, "DUP": self._duplicate,
            "PUT": self._put, "BINPUT": self._put, "LONG_BINPUT": self._put, "MEMOIZE": self._memoize,
            "GET": self._get, "BINGET": self._get, "LONG_BINGET": self._get,
            "TUPLE": self._tuple, "TUPLE1": self._tuple1, "TUPLE2": self._tuple2, "TUPLE3": self._tuple3,
            "EMPTY_TUPLE": self._empty_tuple,
            "GLOBAL": self._global, "STACK_GLOBAL": self._stack_global, "INST": self._inst,
            "EXT1": self._extension, "EXT2": self._extension, "EXT4": self._extension,
            "APPEND": self._append, "SETITEM": self._set_item,
            "APPENDS": self._extend, "SETITEMS": self._extend, "ADDITEMS": self._extend,
            "REDUCE": self._reduce, "BUILD": self._build, "PERSID": self._persid, "BINPERSID": self._binpersid,
        }  # fmt: skip

    def complain(self, why: str) -> None:
        if len(self.found.complaints) < _KEPT_REASONS:
            self.found.complaints.append(why)

    def wonder(self, why: str) -> None:
        if len(self.found.oddities) < _KEPT_REASONS:
            self.found.oddities.append(why)

    def step(self, stream: io.BytesIO) -> None:
        code = stream.read(1)
        if not code:
            raise ValueError("it ends early")
        instruction = _BY_CODE.get(code.decode("latin-1"))
        if instruction is None:
            raise ValueError(f"unknown instruction {code!r}")
        if instruction.name in {"GLOBAL", "INST"}:
            argument: object = _read_name(stream)  # pickletools would undo escapes that the unpickler takes literally
        else:
            argument = instruction.arg.reader(stream) if instruction.arg else None
        if instruction.name not in _INSTRUCTIONS:
            self.wonder(f"uses the pickle instruction {instruction.name}, which torch.save never writes")
        if handler := self._handlers.get(instruction.name):
            handler(argument)
        else:
            self._generic(instruction, argument)
        if instruction.name == "STOP":
            self.found.end = stream.tell()

    def _generic(self, instruction: pickletools.OpcodeInfo, argument: object) -> None:
        """Pop and push as `pickletools` says; only literals leave something known."""
        for kind in reversed(instruction.stack_before):
            if kind is pickletools.stackslice:
                continue  # goes with the mark below it
            if kind is pickletools.markobject:
                self._pop_to_mark()
            else:
                self._stack.pop()
        literal = isinstance(argument, str | bytes | int | float)
        for _ in instruction.stack_after:
            self._stack.append(argument if literal else _OPAQUE)

    def _protocol(self, version: object) -> None:
        if version != _PROTOCOL:
            self.wonder(f"written with pickle protocol {version}; save it again with torch.save's default, {_PROTOCOL}")

    def _mark(self, _: object) -> None:
        self._stack.append(_MARK)

    def _pop_to_mark(self) -> list[object]:
        items = []
        while (item := self._stack.pop()) is not _MARK:
            items.append(item)
        return items[::-1]

    def _pop_or_mark(self, _: object) -> None:
        self._stack.pop()

    def _duplicate(self, _: object) -> None:
        self._stack.append(self._stack[-1])

    def _put(self, index: object) -> None:
        self._memo[_integer(index)] = self._stack[-1]

    def _memoize(self, _: object) -> None:
        self._memo[len(self._memo)] = self._stack[-1]

    def _get(self, index: object) -> None:
        self._stack.append(self._memo[_integer(index)])

    def _tuple(self, _: object) -> None:
        self._stack.append(tuple(self._pop_to_mark()))

    def _tuple1(self, _: object) -> None:
        self._stack[-1:] = [(self._stack[-1],)]

    def _tuple2(self, _: object) -> None:
        self._stack[-2:] = [(self._stack[-2], self._stack[-1])]

    def _tuple3(self, _: object) -> None:
        self._stack[-3:] = [(self._stack[-3], self._stack[-2], self._stack[-1])]

    def _empty_tuple(self, _: object) -> None:
        self._stack.append(())

    def _ask(self, module: object, name: object) -> Name | object:
        if not (type(module) is str and type(name) is str):
            self.complain("asks for a name that it computes while it loads")
            return _OPAQUE
        asked = Name(module, name)
        if asked not in _ALLOWED:
            asked = _today(asked)
        self.found.names[asked] = None
        return asked

    def _global(self, argument: object) -> None:
        assert isinstance(argument, Name)  # noqa: S101 - from _read_name
        self._stack.append(self._ask(argument.module, argument.name))

    def _stack_global(self, _: object) -> None:
        name, module = self._stack.pop(), self._stack.pop()
        self._stack.append(self._ask(module, name))

    def _inst(self, argument: object) -> None:
        self._pop_to_mark()
        self._global(argument)
        self._stack[-1] = _OPAQUE

    def _extension(self, code: object) -> None:
        self.complain(f"asks for extension {code} of the copyreg registry")
        self._stack.append(_OPAQUE)

    def _reduce(self, _: object) -> None:
        self._stack.pop()
        callee = self._stack.pop()
        if isinstance(callee, Name) and callee in _CALLABLE:
            self._stack.append(_Made(callee))
        else:
            self.complain(f"calls {callee if isinstance(callee, Name) else 'something'}, which rebuilds no tensor")
            self._stack.append(_OPAQUE)

    def _append(self, _: object) -> None:
        self._stack.pop()

    def _set_item(self, _: object) -> None:
        del self._stack[-2:]

    def _extend(self, _: object) -> None:
        self._pop_to_mark()

    def _build(self, _: object) -> None:
        self._stack.pop()
        target = self._stack[-1]
        if not (isinstance(target, _Made) and target.callee == _ORDERED_DICT):
            self.complain("sets the state of an object that is no ordered dictionary")

    def _persid(self, identifier: object) -> None:
        self.complain(f"asks for the persistent id {_shown(str(identifier))!r}, which is no tensor storage")
        self._stack.append(_OPAQUE)

    def _binpersid(self, _: object) -> None:
        match self._stack.pop():
            case ("storage", Name() as kind, str(key), str(), int(count)) if kind in _STORAGES and count >= 0:
                self.found.storages.append(Storage(key, count * _STORAGES[kind]))
            case _:
                self.complain("asks for a persistent id that is no tensor storage")
        self._stack.append(_OPAQUE)


def _integer(value: object) -> int:
    if not isinstance(value, int):
        raise ValueError("a memo index that is no number")  # noqa: TRY004 - counts as a damaged pickle
    return value


def _read_name(stream: io.BytesIO) -> Name:
    """The two lines behind GLOBAL and INST, literally."""
    lines = [stream.readline(), stream.readline()]
    if not all(line.endswith(b"\n") for line in lines):
        raise ValueError("a name that is cut")
    module, name = (line[:-1].decode("utf-8", "backslashreplace") for line in lines)
    return Name(module, name)


def _today(asked: Name) -> Name:
    """The name that Python 3 looks up for one that a Python 2 pickle asks for (`__builtin__.eval`)."""
    if (renamed := _compat_pickle.NAME_MAPPING.get((asked.module, asked.name))) is not None:
        return Name(*renamed)
    return Name(_compat_pickle.IMPORT_MAPPING.get(asked.module, asked.module), asked.name)


def _shown(text: str) -> str:
    """Text from an unadmitted file, fit for a terminal: short, and without control characters."""
    printable = "".join(
        letter if letter.isprintable() else f"\\u{ord(letter):04x}" for letter in text[:_SHOWN_CHARACTERS]
    )
    return printable + "…" if len(text) > _SHOWN_CHARACTERS else printable
