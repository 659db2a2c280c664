"""Pickle programs made of choices: mostly well formed, now and then not, and fond of everything that misleads scanners.

`program` turns any bytes into a stream, so that one generator serves hypothesis (which shrinks the bytes), the fuzzers
(which mutate them) and a sweep over seeds. It keeps count of what lies on the stack, so that most programs run far, and
it breaks its own rules every so often.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from typing import TypeVar

Item = TypeVar("Item")

HARMLESS = (
    ("collections", "OrderedDict"),
    ("torch._utils", "_rebuild_tensor_v2"),
    ("torch", "FloatStorage"),
    ("numpy", "dtype"),
    ("numpy", "ndarray"),
    ("numpy.core.multiarray", "_reconstruct"),
)
HOSTILE = (
    ("os", "system"),
    ("posix", "system"),
    ("builtins", "eval"),
    ("builtins", "setattr"),
    ("__builtin__", "eval"),  # renamed where the protocol is below 3
    ("__builtin__", "apply"),
    ("copy_reg", "_reconstructor"),
    ("subprocess", "Popen"),
    ("commands", "getoutput"),
    ("os", "path.join"),
    ("torch.serialization", "os.system"),
    ("numpy", "f2py.diagnose.os.system"),
    ("collections", "OrderedDict.__init__"),
    ("collections", "OrderedDict.__reduce__"),
    ("numpy", "dtype "),
    ("Collections", "OrderedDict"),
    ("collections", "OrderedD\u0456ct"),  # a Cyrillic letter
    ("collections\x00", "OrderedDict"),
    ("", ""),
    ("os", "<locals>"),
    ("torch", "load"),
    ("numpy.testing._private.utils", "runstring"),
    ("functools", "reduce"),
    ("operator", "attrgetter"),
    ("io", "open"),
    ("__main__", "payload"),
)
NAMES = HARMLESS + HOSTILE
_WORDS = (*dict.fromkeys(part for name in NAMES for part in name), "ls", "storage", "cpu", "0", "1_0", " 7", "\ud800")
_LONGEST = 4_000
"""Bytes of a program, about."""
_TEMPERS = (256, 64, 24, 6)
"""One choice in so many breaks the rules: an instruction that does not fit, a length that is not true."""
_MARK, _TEXT, _NAME, _THING, _LIST, _DICT, _SET, _TUPLE, _DATA = range(9)


def program(choices: bytes) -> bytes:
    """A stream; the same for the same choices. It ends in STOP unless it chose to end otherwise."""
    return _Program(choices).write()


class _Program:
    def __init__(self, choices: bytes) -> None:
        self._choices = choices
        self._next = 0
        self._out = bytearray()
        self._stack: list[int] = []
        self._memo: dict[int, int] = {}
        self._temper = self._of(_TEMPERS)
        self._honest = not self._below(4)
        self._names = HARMLESS if self._honest else NAMES

    def write(self) -> bytes:
        if self._below(4):
            self.protocol()
        while self._next < len(self._choices) and len(self._out) < _LONGEST:
            step = self._of(_STEPS)
            if step.fits(self._stack) or self._odd():
                step(self)
        if not self._odd():
            self._tidy()
        stream = self._framed(bytes(self._out)) if self._below(256) > 220 else bytes(self._out)
        return stream + (self._of((b"", b"..", b".cos\nsystem\n.")) if self._odd() else b".")

    def _tidy(self) -> None:
        """Leave one object, as a well-formed pickle does."""
        while _MARK in self._stack:
            self._close(b"t", _TUPLE)
        if not self._stack:
            self._push(b"N", _DATA)

    def _framed(self, body: bytes) -> bytes:
        cut = self._below(256) * len(body) >> 8
        off = self._of((1, -1, 1000)) if self._odd() else 0
        pieces = (body[:cut], body[cut:])
        return b"".join(b"\x95" + struct.pack("<Q", max(0, len(piece) + off)) + piece for piece in pieces)

    # --- choosing

    def _below(self, count: int) -> int:
        """A number below `count`, at most 256; 0 when choices have run out."""
        value = self._choices[self._next] if self._next < len(self._choices) else 0
        self._next += 1
        return value * count >> 8

    def _of(self, items: Sequence[Item]) -> Item:
        return items[self._below(len(items))]

    def _odd(self) -> bool:
        """Whether to break a rule now."""
        return self._below(256) >= 256 - 256 // self._temper

    # --- the stack as it should be

    def _push(self, code: bytes, kind: int) -> None:
        self._out += code
        self._stack.append(kind)

    def _pop(self, count: int) -> None:
        if count:
            del self._stack[-count:]

    def _close(self, code: bytes, kind: int | None) -> None:
        """An instruction that takes everything down to the mark, and the mark."""
        self._out += code
        while self._stack and self._stack.pop() != _MARK:
            pass
        if kind is not None:
            self._stack.append(kind)

    # --- instructions

    def text(self, word: str | None = None) -> None:
        """A string in one of the seven ways to write one; old ways give ASCII or what the loader makes of it."""
        chosen = self._of(_WORDS) if word is None else word
        if chosen == "\ud800" and not self._odd():
            chosen = "surrogate"
        as_bytes = chosen.encode("utf-8", "surrogatepass")
        line = (
            chosen.encode("raw-unicode-escape", "surrogatepass").replace(b"\n", b"\\u000a").replace(b"\0", b"\\u0000")
        )
        quoted = b"'" + as_bytes.decode("latin-1").encode("unicode-escape").replace(b"'", b"\\'") + b"'"
        ways = (
            b"\x8c" + bytes([len(as_bytes) & 255]) + as_bytes,
            b"X" + struct.pack("<I", len(as_bytes)) + as_bytes,
            b"\x8d" + struct.pack("<Q", len(as_bytes)) + as_bytes,
            b"V" + line + b"\n",
            b"U" + bytes([len(as_bytes) & 255]) + as_bytes,
            b"T" + struct.pack("<i", len(as_bytes)) + as_bytes,
            b"S" + quoted + b"\n",
        )
        ways_of_now = 4 if not chosen.isascii() and not self._odd() else len(ways)
        self._push(self._of(ways[:ways_of_now]), _TEXT)

    def number(self) -> None:
        """A number, spelled as pickles of any age spell it, and as they should not."""
        codes = (
            *(b"K\x00", b"K\x07", b"M\x00\x01", b"J\xff\xff\xff\xff", b"I01\n", b"I00\n", b"I42\n", b"I0x10\n"),
            *(b"L7L\n", b"L-1\n", b"\x8a\x00", b"\x8a\x01\xff", b"\x8b\x04\x00\x00\x00abcd", b"F1.5\n"),
            *(b"G\x7f\xf8\x00\x00\x00\x00\x00\x00", b"Fnan\n", b"N", b"\x88", b"\x89"),
        )
        false = (b"I 1_0\n", b"I\n", b"F\n", b"Lx\n", b"\x8a\xff\x00", b"\x8b\xff\xff\xff\x7f", b"\x8b\xff\xff\xff\xff")
        self._push(self._of(false if self._odd() else codes), _DATA)

    def raw(self) -> None:
        """Bytes, with lengths that are right or extreme."""
        codes = (
            *(b"C\x02ab", b"B\x02\x00\x00\x00ab", b"\x8e\x02" + bytes(7) + b"ab", b"\x96\x02" + bytes(7) + b"ab"),
            b"C\x02ab\x98",
        )
        false = (b"B\xff\xff\xff\xffab", b"\x8e" + b"\xff" * 8, b"\x96" + b"\xff" * 7 + b"\x7f", b"\x97", b"N\x98")
        self._push(self._of(false if self._odd() else codes), _DATA)

    def global_(self) -> None:
        """GLOBAL: two lines."""
        self._push(b"c" + _lines(*self._of(self._names)), _NAME)

    def stack_global(self) -> None:
        """STACK_GLOBAL with strings written for it."""
        module, name = self._of(self._names)
        self.text(module)
        self._maybe_remembered()
        self.text(name)
        self._maybe_remembered()
        self.stack_global_here()

    def stack_global_here(self) -> None:
        """STACK_GLOBAL with whatever lies there."""
        if self._stack[-2:] != [_TEXT, _TEXT] and not self._odd():
            return
        self._out += b"\x93"
        self._pop(2)
        self._stack.append(_NAME)

    def _maybe_remembered(self) -> None:
        """Send what lies on top through the memo, perhaps by another index than it seems."""
        if not self._below(3):
            self.put()
            self._out += b"0"
            self._pop(1)
            self.get()

    def inst(self) -> None:
        """INST: everything since a mark is handed over."""
        self._push(b"(", _MARK)
        for _ in range(self._below(3)):
            self.text()
        self._close(b"i" + _lines(*self._of(self._names)), _THING)

    def obj(self) -> None:
        """OBJ: the class lies behind the mark."""
        self._push(b"(", _MARK)
        self._some_name()
        for _ in range(self._below(3)):
            self.number()
        self._close(b"o", _THING)

    def call(self) -> None:
        """A name, arguments, and REDUCE, NEWOBJ or NEWOBJ_EX."""
        self._some_name()
        self.arguments()
        is_class = self._stack[-2:-1] == [_NAME] or self._odd()
        way = self._below(4) if is_class else 3
        self._out += (b"}\x92", b"\x81", b"R", b"R")[way]
        self._pop(2)
        self._stack.append(_THING)

    def _some_name(self) -> None:
        self._of((_Program.global_, _Program.stack_global, _Program.name_again))(self)

    def name_again(self) -> None:
        """A name that lies in the memo, or on top of the stack."""
        known = [index for index, kind in self._memo.items() if kind in (_NAME, _THING) and index < 256]
        if known:
            index = self._of(known)
            self._push(b"h" + bytes([index]), self._memo[index])
        elif self._stack and self._stack[-1] == _NAME:
            self._push(b"2", _NAME)
        else:
            self.global_()

    def thing_again(self) -> None:
        """The last thing on the stack once more; a name where there is none."""
        if self._stack and self._stack[-1] != _MARK:
            self._push(b"2", self._stack[-1])
        else:
            self.global_()

    def arguments(self) -> None:
        """A tuple."""
        shape = self._below(4)
        if shape == 0:
            self._push(b")", _TUPLE)
        elif shape == 1:
            self.text()
            self._pop(1)
            self._push(b"\x85", _TUPLE)
        elif shape == 2:
            self._push(b"(", _MARK)
            self.number()
            self.text()
            self._close(b"t", _TUPLE)
        else:
            self.number()
            self._of((_Program.text, _Program.global_, _Program.get))(self)
            self._pop(2)
            self._push(b"\x86", _TUPLE)

    def reduce_here(self) -> None:
        """REDUCE, NEWOBJ or BUILD with whatever lies there."""
        if (self._stack[-2:-1] not in ([_NAME], [_THING]) or self._stack[-1] != _TUPLE) and not self._odd():
            return
        self._out += self._of((b"R", b"\x81", b"b"))
        self._pop(1)

    def newobj_ex_here(self) -> None:
        """NEWOBJ_EX with whatever lies there."""
        if self._stack[-3:] != [_NAME, _TUPLE, _DICT] and not self._odd():
            return
        self._out += b"\x92"
        self._pop(2)

    def build(self) -> None:
        """BUILD with a state of its own."""
        if self._stack[-1:] not in ([_THING], [_NAME]) and not self._odd():
            return
        self._out += self._of((b"}b", b"Nb", b")b", b"N}\x86b", b"}X\x01\x00\x00\x00aK\x01sb"))

    def extension(self) -> None:
        """EXT1, EXT2 and EXT4, registered and not."""
        if self._honest or self._below(3):
            return
        known, unknown = (b"\x82\x01", b"\x83\x34\x12", b"\x84\x78\x56\x34\x12"), (b"\x82\x07", b"\x82\x00")
        self._push(self._of(unknown if self._odd() else known), _NAME)

    def persistent(self) -> None:
        """PERSID, and BINPERSID of what lies there."""
        if self._honest or self._below(2):
            return
        if self._below(2) and self._stack and self._stack[-1] != _MARK:
            self._pop(1)
            self._push(b"Q", _THING)
        else:
            self._push(b"Pkey\n", _THING)

    def container(self) -> None:
        """Something empty."""
        code, kind = self._of(((b"]", _LIST), (b"}", _DICT), (b"\x8f", _SET), (b")", _TUPLE)))
        self._push(code, kind)

    def mark(self) -> None:
        """MARK."""
        self._push(b"(", _MARK)

    def close(self) -> None:
        """A container of everything since the mark."""
        code, kind = self._of(((b"t", _TUPLE), (b"l", _LIST), (b"d", _DICT), (b"\x91", _DATA)))
        above = self._above_mark()
        if code in b"d\x91" and (len(above) % 2 or {_LIST, _DICT, _SET, _TUPLE} & {*above}) and not self._odd():
            code, kind = b"t", _TUPLE
        self._close(code, kind)

    def _above_mark(self) -> list[int]:
        upwards = self._stack[::-1]
        return self._stack[len(upwards) - upwards.index(_MARK) :] if _MARK in upwards else self._stack

    def fill_many(self) -> None:
        """APPENDS, SETITEMS, ADDITEMS, POP_MARK."""
        above = self._above_mark()
        below = self._stack[-len(above) - 2 : -len(above) - 1]
        wanted = {_LIST: b"e", _DICT: b"u", _SET: b"\x90", _THING: b"e"}.get(below[0] if below else _MARK, b"1")
        if wanted in b"u\x90" and (len(above) % 2 or {_LIST, _DICT, _SET, _TUPLE} & {*above}):
            wanted = b"1"
        self._close(self._of((b"e", b"u", b"\x90", b"1")) if self._odd() else wanted, None)

    def fill(self) -> None:
        """APPEND or SETITEM."""
        if self._stack[-2:-1] in ([_LIST], [_THING]) or self._odd():
            self._out += b"a"
            self._pop(1)
        elif (self._stack[-3:-2] in ([_DICT], [_THING]) and self._stack[-2] in (_TEXT, _DATA)) or self._odd():
            self._out += b"s"
            self._pop(2)

    def pop(self) -> None:
        """POP, which takes a mark as well."""
        self._out += b"0"
        self._pop(1)

    def put(self) -> None:
        """PUT, BINPUT, LONG_BINPUT, MEMOIZE: to an index that is used, free, or oddly spelled."""
        index = self._below(6)
        way = self._below(6)
        if way < 2:
            self._out += b"\x94"
            index = len(self._memo)
        elif way == 2:
            self._out += b"q" + bytes([index])
        elif way == 3:
            index = self._of((300, 2**20, 2**31, 2**32 - 1)) if self._odd() else index
            self._out += b"r" + struct.pack("<I", index)
        else:
            self._out += b"p" + self._index(index) + b"\n"
        self._memo[index] = self._stack[-1] if self._stack else _DATA

    def get(self) -> None:
        """GET, BINGET, LONG_BINGET of an index that is known, now and then of one that is not."""
        if not self._memo and not self._odd():
            self.text()
            self.put()
            return
        index = self._below(8) if self._odd() else self._of(tuple(self._memo) or (0,))
        ways = (b"j" + struct.pack("<I", index), b"g" + self._index(index) + b"\n", b"h" + bytes([index & 255]))
        self._push(self._of(ways if index < 256 else ways[:2]), self._memo.get(index, _DATA))

    def _index(self, index: int) -> bytes:
        plain = b"%d" % index
        odd = (b" " + plain, b"+" + plain, b"0" + plain, b"0_" + plain, b"-1", plain + b"\r", plain + b"L", b"")
        return self._of(odd) if self._odd() else plain

    def protocol(self) -> None:
        """PROTO in the middle: from there on names are renamed, or no longer."""
        self._out += b"\x80" + (b"\x06" if self._odd() else bytes([self._below(6)]))

    def frame(self) -> None:
        """A FRAME whose length is right for nothing."""
        self._out += b"\x95" + struct.pack("<Q", self._of((1, 2, 8, 20, 2**20, 2**63)) if self._odd() else 0)

    def noise(self) -> None:
        """Any byte at all."""
        if self._odd():
            self._out.append(self._below(256))


def _lines(module: str, name: str) -> bytes:
    return f"{module}\n{name}\n".encode("utf-8", "surrogatepass")


def _needs(count: int, *, mark: bool = False) -> Callable[[list[int]], bool]:
    """Whether so many objects lie above the last mark, and whether there is one."""

    def fits(stack: list[int]) -> bool:
        if mark:
            return _MARK in stack
        return len(stack) >= count and _MARK not in (stack[-count:] if count else ())

    return fits


class _Step:
    def __init__(self, write: Callable[[_Program], None], fits: Callable[[list[int]], bool]) -> None:
        self._write = write
        self.fits = fits

    def __call__(self, where: _Program) -> None:
        self._write(where)


_STEPS = tuple(
    _Step(write, fits)
    for write, fits, weight in (
        (_Program.text, _needs(0), 4),
        (_Program.number, _needs(0), 3),
        (_Program.raw, _needs(0), 1),
        (_Program.global_, _needs(0), 2),
        (_Program.stack_global, _needs(0), 4),
        (_Program.stack_global_here, _needs(2), 2),
        (_Program.inst, _needs(0), 1),
        (_Program.obj, _needs(0), 1),
        (_Program.call, _needs(0), 5),
        (_Program.arguments, _needs(0), 2),
        (_Program.reduce_here, _needs(2), 3),
        (_Program.newobj_ex_here, _needs(3), 1),
        (_Program.build, _needs(1), 3),
        (_Program.extension, _needs(0), 1),
        (_Program.persistent, _needs(0), 1),
        (_Program.container, _needs(0), 3),
        (_Program.mark, _needs(0), 3),
        (_Program.close, _needs(0, mark=True), 3),
        (_Program.fill_many, _needs(0, mark=True), 3),
        (_Program.fill, _needs(3), 2),
        (_Program.pop, _needs(1), 2),
        (_Program.thing_again, _needs(1), 2),
        (_Program.put, _needs(1), 4),
        (_Program.get, _needs(0), 4),
        (_Program.protocol, _needs(0), 1),
        (_Program.frame, _needs(0), 1),
        (_Program.noise, _needs(0), 1),
    )
    for _ in range(weight)
)
