"""The pickle machine, followed symbolically: which names does a pickle ask for, what is called, what state is set?

A pickle is a program for a small stack machine, and loading it runs that program. `Machine` runs the same program over
values that are known where that is cheap (`values`) and imports and calls nothing; what a call would give is up to the
allow-list (`policy`). Where the unpicklers differ (CPython's in C and in Python, torch's restricted one), the scan goes
on as long as any of them does, so it sees what each of them would.

It reads the content through windows, and steps over long strings without reading them. Every window ends with a look at
the clock and at how many values are kept.

Sources: CPython `Lib/pickle.py`, `Modules/_pickle.c`, `Lib/pickletools.py`; torch `_weights_only_unpickler.py`; joblib
`numpy_pickle.py`.
"""

from __future__ import annotations

import struct

from hauberk.scan.content import Content, CutError
from hauberk.scan.pickles import rules
from hauberk.scan.pickles.arrays import Array, kept_flags
from hauberk.scan.pickles.calls import SHARE, Admitted, Calls, Persistent
from hauberk.scan.pickles.costs import TooComplexError
from hauberk.scan.pickles.entries import Entry, Inline, Objection, Reporter
from hauberk.scan.pickles.node_tables import survey
from hauberk.scan.pickles.strides import take_tensor
from hauberk.scan.pickles.values import (
    REFUSED,
    Blob,
    Made,
    Name,
    described,
)
from hauberk.scan.pickles.window import KEPT
from hauberk.scan.report import shown

_MOST_VALUES = 4_000_000
_MOST_MARKS = 100_000
_HIGHEST_MEMO = 1 << 24  # CPython before 3.14 makes a table as long as twice the highest index

_int4 = struct.Struct("<i").unpack_from
_uint4 = struct.Struct("<I").unpack_from
_float8 = struct.Struct(">d").unpack_from


class Machine(Calls):
    """One pickle.

    Args:
        content: Holds it.
        reporter: Is told what is found.
        start: Where it begins.
        persistent: Reads persistent ids.
        joblib: Whether arrays lie in the stream behind their wrappers, as joblib writes and reads them.
        admitted: Names that are allowed besides the allow-list.

    Attributes:
        start: Where it begins.
        end: Behind STOP; `None` where it was not reached.
        broken_at: Where it breaks off, if it does.
        cut: It breaks off because the content ends.
        arrays: Arrays in the stream that were stepped over.
        ambiguous: Readers that know nothing of arrays in the stream could go on inside one.
    """

    def __init__(
        self,
        content: Content,
        reporter: Reporter,
        *,
        start: int = 0,
        persistent: Persistent | None = None,
        joblib: bool = False,
        admitted: Admitted | None = None,
    ) -> None:
        super().__init__(content, reporter, start, persistent=persistent, admitted=admitted)
        self.start = start
        self.end: int | None = None
        self.arrays = 0
        self.ambiguous = False
        self.result: object = None
        self.joblib = joblib
        self.stack: list[object] = []
        self.marked: list[list[object]] = []
        self.memo: dict[int, object] = {}
        self.broken_at = start
        self.cut = False
        self.shapes: dict[bytes, tuple[int, ...]] = {}
        self.alike: dict[tuple[object, ...], tuple[Entry, object]] = {}
        self.asked: dict[bytes, Name] = {}

    def run(self) -> None:
        """Follow it to STOP, or to where it breaks; then a finding says so.

        Raises:
            StopScan: Time is up.
        """
        try:
            self.refill(self.start)
            self._follow()
        except TooComplexError as error:
            self.find(rules.COMPLEX, str(error), self.base)
        except (ValueError, IndexError, KeyError, struct.error) as error:
            self.cut |= isinstance(error, CutError | struct.error) or (
                type(error) is IndexError and self.broken_at >= self.content.size
            )
            self.find(rules.DAMAGED, "it ends before STOP" if self.cut else _broken(error), self.broken_at)

    def refill(self, offset: int) -> None:
        """Move the window, and see how much is kept.

        Raises:
            TooComplexError: Too much is.
        """
        super().refill(offset)
        kept = len(self.memo) + len(self.stack) + len(self.hashes) + self.made + len(self.storages) + len(self.given)
        if len(self.marked) > _MOST_MARKS or kept + sum(map(len, self.marked)) > _MOST_VALUES:
            raise TooComplexError(f"more than {_MOST_VALUES} values or {_MOST_MARKS} marks at once")

    def _follow(self) -> None:  # noqa: C901, PLR0912, PLR0915 - a call for each instruction would halve the speed
        """The loop over instructions: what picklers write most, in that order; the rest through `RARE`."""
        from hauberk.scan.pickles.instructions import RARE  # noqa: PLC0415 - instructions know the machine

        data, position, stack, memo = self.data, 0, self.stack, self.memo
        end = self.limit
        try:
            while True:
                while position < end:
                    code = data[position]
                    position += 1
                    if code == 0x94:  # MEMOIZE
                        memo[len(memo)] = stack[-1]
                    elif code == 0x71:  # BINPUT
                        memo[data[position]] = stack[-1]
                        position += 1
                    elif code == 0x68:  # BINGET
                        stack.append(memo[data[position]])
                        position += 1
                    elif code == 0x8C:  # SHORT_BINUNICODE
                        start = position + 1
                        position = start + data[position]
                        if position > len(data):
                            raise CutError("a text that is cut")
                        stack.append(data[start:position].decode("utf-8", "surrogatepass"))
                        if position < end and data[position] == 0x94:  # MEMOIZE
                            memo[len(memo)] = stack[-1]
                            position += 1
                    elif code == 0x58:  # BINUNICODE
                        start = position + 4
                        length = _uint4(data, position)[0]
                        position = start + length
                        if length <= KEPT and position <= len(data):
                            stack.append(data[start:position].decode("utf-8", "surrogatepass"))
                        else:
                            position = self.skip_text(start, length)
                            data, end = self.data, self.limit
                    elif code == 0x4B:  # BININT1
                        stack.append(data[position])
                        position += 1
                    elif code == 0x28:  # MARK
                        if data[position : position + 1] == b"(" and (after := take_tensor(self, position - 1)):
                            position = after
                            continue
                        self.marked.append(stack)
                        self.stack = stack = []
                    elif code == 0x74:  # TUPLE
                        items = stack
                        self.stack = stack = self.marked.pop()
                        stack.append(tuple(items))
                        self.made += 1
                    elif code == 0x47:  # BINFLOAT
                        stack.append(_float8(data, position)[0])
                        position += 8
                    elif code == 0x72:  # LONG_BINPUT
                        index = _uint4(data, position)[0]
                        memo[index] = stack[-1]
                        position += 4
                        if index > _HIGHEST_MEMO:
                            self.absurd_memo(index, position)
                    elif code == 0x4E:  # NONE
                        stack.append(None)
                    elif code == 0x6A:  # LONG_BINGET
                        stack.append(memo[_uint4(data, position)[0]])
                        position += 4
                    elif code == 0x4A:  # BININT
                        stack.append(_int4(data, position)[0])
                        position += 4
                    elif code == 0x86:  # TUPLE2
                        item = stack.pop()
                        stack[-1] = (stack[-1], item)
                        self.made += 1
                    elif code == 0x87:  # TUPLE3
                        item = stack.pop()
                        second = stack.pop()
                        stack[-1] = (stack[-1], second, item)
                        self.made += 1
                    elif code == 0x52:  # REDUCE
                        arguments = stack.pop()
                        stack[-1] = self.call(stack[-1], arguments, self.base + position - 1)
                    elif code == 0x85:  # TUPLE1
                        stack[-1] = (stack[-1],)
                        self.made += 1
                    elif code == 0x4D:  # BININT2
                        stack.append(data[position] | data[position + 1] << 8)
                        position += 2
                    elif code == 0x2E:  # STOP
                        self._stop(position)
                        return
                    else:
                        handler = RARE[code]
                        if handler is None:
                            raise ValueError(f"no instruction {code:#04x}")
                        position = handler(self, position)
                        data, stack, end = self.data, self.stack, self.limit
                if self.frame_end:
                    self.leave_frame(position)
                    end = self.limit
                    if position < end:
                        continue
                if self.final:
                    raise CutError("it ends before STOP")
                self.made += position >> SHARE
                self.refill(self.base + position)
                data, position, end = self.data, 0, self.limit
        finally:
            self.broken_at = min(self.base + position, self.content.size)

    def _stop(self, position: int) -> None:
        self.leave_frame(position)
        self.result = self.stack.pop()
        self.end = self.base + position
        self.given.append((None, self.result))
        for check in reversed(self.checks.values()):  # what holds others comes after them
            try:
                check()
            except Objection as objection:
                self.object_to(objection, "at its end", self.end)
        if self.frame_end > self.end:
            self.find(
                rules.FRAME, f"STOP comes {self.frame_end - self.end} bytes before the end of its frame", self.end
            )

    def skip(self, kind: type, start: int, length: int) -> int:
        """Step over a string and push what stands for it; returns where to go on."""
        self.stack.append(Blob(kind, self.base + start, length))
        return self.step_over(start, length)

    def skip_text(self, start: int, length: int) -> int:
        """The same for a text, which the loader decodes.

        Raises:
            UnicodeDecodeError: It does not.
        """
        offset = self.base + start
        position = self.skip(str, start, length)
        self.check_text(offset, length)
        return position

    def absurd_memo(self, index: int, position: int) -> None:
        """A memo index that no pickler gets to."""
        if index > len(self.memo) + _HIGHEST_MEMO:
            self.find(
                rules.EXHAUSTS, f"memo entry {index}: the loader makes a table of that length", self.base + position
            )

    def build(self, position: int) -> int:
        """BUILD; returns where to go on, as an array may follow in the stream."""
        state = self.stack.pop()
        target = self.stack[-1]
        at = self.base + position - 1
        if type(target) is Made and target.entry.build is not None:
            self.given.append((target, state))
            if target.kept:
                self.find(rules.MEMORY, f"changes {shown(described(target))} that is in use", at)
            try:
                inline = target.entry.build(target, state, self)
            except (Objection, TypeError, ValueError) as objection:
                self.object_to(objection, f"state of {target.entry.name}", at)
                return position
            target.ready = True
            if inline is not None and self.joblib:
                return self._step_over_array(inline, position)
        elif target is not REFUSED:
            self.find(rules.BUILD, f"sets the state of {shown(described(target))}", at)
        return position

    def _step_over_array(self, inline: Inline, position: int) -> int:
        offset = self.base + position
        self.arrays += 1
        self.stack[-1] = inline.array
        self.leave_frame(position)
        if self.frame_end > offset:
            self.find(rules.CROSSED, "an array in the stream begins inside a frame", offset)
        if inline.objects:
            self.ambiguous = True  # others run it, too, with what the memo holds so far, and end where it ends
            inner = Machine(self.content, self.reporter, start=offset, admitted=self.admitted)
            inner.follow_on(self)
            inner.copied = self.copied
            inner.run()
            self.follow_on(inner)
            self.names |= inner.names
            self.refused |= inner.refused
            self.calls += inner.calls
            self.copied = inner.copied
            if inner.end is None:
                raise CutError("the pickle of an array of objects is broken")
            self.stack[-1] = inner.result
            if not (type(inner.result) is Made and isinstance(inner.result.detail, Array)):
                self.find(rules.BUILD, f"{shown(described(inner.result))} where an array of objects belongs", offset)
            self.refill(inner.end)
            return 0
        if inline.padded:
            padding = self.read(offset, 1)[0]
            self.ambiguous |= padding > 16
            offset += 1 + padding
        else:
            self.ambiguous = True
        if offset + inline.size > self.content.size:
            raise CutError("an array that is cut")
        if type(inline.array.detail) is Array:
            array = inline.array.detail
            array = array._replace(source=kept_flags(array.dtype, Blob(bytes, offset, inline.size), self))
            inline.array.detail = array._replace(survey=survey(array, self)) if array.dtype.fields else array
        return self.step_over(offset - self.base, inline.size)

    def pop_mark(self) -> list[object]:
        """The items above the last mark."""
        items = self.stack
        self.stack = self.marked.pop()
        return items


def _broken(error: Exception) -> str:
    if isinstance(error, UnicodeDecodeError):
        return "a text that is none"
    if isinstance(error, KeyError):
        return "a memo entry that is missing"
    if isinstance(error, IndexError):
        return "nothing on the stack where something is needed"
    return shown(str(error))
