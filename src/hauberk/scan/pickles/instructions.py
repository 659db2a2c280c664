"""The instructions of the pickle machine that picklers write seldom, or that old ones wrote.

Each takes the machine and the position behind its code in the window, and returns where to go on. `RARE` has one for
every code that the machine's own loop does not know; `None` where there is no such instruction.
"""

from __future__ import annotations

from hauberk.scan.pickles import rules
from hauberk.scan.pickles.constants import CONSTANTS, Handler, read_line, read_number
from hauberk.scan.pickles.machine import Machine
from hauberk.scan.pickles.values import (
    BUFFER,
    REFUSED,
    TEXT,
    Bag,
    Frozen,
    Mapping,
    Name,
    described,
)
from hauberk.scan.pickles.window import KEPT
from hauberk.scan.report import shown

_NEWEST_PROTOCOL = 5


# Names


def _asked(machine: Machine, position: int) -> tuple[Name, int]:
    at = machine.base + position - 1
    module, position = read_line(machine, position)
    name, position = read_line(machine, position)
    module = b"\xff" if module is None else module
    name = b"\xff" if name is None else name
    key = module + b"\n" + name
    asked = machine.asked.get(key)
    if asked is None:
        asked = machine.ask(module.decode("utf-8", "backslashreplace"), name.decode("utf-8", "backslashreplace"), at)
        if len(machine.asked) < KEPT:
            machine.asked[key] = asked
    return asked, position


def _global(machine: Machine, position: int) -> int:
    asked, position = _asked(machine, position)
    machine.stack.append(asked)
    return position


def _stack_global(machine: Machine, position: int) -> int:
    name, module = machine.stack.pop(), machine.stack.pop()
    at = machine.base + position - 1
    if type(module) is str and type(name) is str:
        machine.stack.append(machine.ask(module, name, at))
    else:
        of = f"{described(module)} and {described(name)}"
        machine.find(rules.COMPUTED, f"makes a name of {shown(of)}", at)
        machine.stack.append(REFUSED)
    return position


def _inst(machine: Machine, position: int) -> int:
    at = machine.base + position - 1
    asked, position = _asked(machine, position)
    arguments = tuple(machine.pop_mark())
    machine.stack.append(_instantiate(machine, asked, arguments, at))
    return position


def _obj(machine: Machine, position: int) -> int:
    callee, *arguments = machine.pop_mark()
    machine.stack.append(_instantiate(machine, callee, tuple(arguments), machine.base + position - 1))
    return position


def _instantiate(machine: Machine, callee: object, arguments: tuple[object, ...], at: int) -> object:
    if not arguments and type(callee) is Name and callee.entry is not None and callee.entry.new:
        return machine.new(callee, arguments, at)
    return machine.call(callee, arguments, at)


def _new_object(machine: Machine, position: int) -> int:
    arguments = machine.stack.pop()
    machine.stack[-1] = machine.new(machine.stack[-1], arguments, machine.base + position - 1)
    return position


def _binary_persistent(machine: Machine, position: int) -> int:
    machine.stack[-1] = machine.load_persistent(machine.stack[-1], machine.base + position - 1)
    return position


def _new_object_with_keywords(machine: Machine, position: int) -> int:
    keywords, arguments, callee = machine.stack.pop(), machine.stack.pop(), machine.stack.pop()
    at = machine.base + position - 1
    if keywords == Mapping() and type(keywords) is Mapping:
        machine.stack.append(machine.new(callee, arguments, at))
    else:
        machine.find(rules.CALL, f"calls {shown(described(callee))} with keywords", at)
        machine.stack.append(REFUSED)
    return position


def _extension(width: int) -> Handler:
    def handler(machine: Machine, position: int) -> int:
        code = read_number(machine, position, width, signed=width == 4)
        machine.find(rules.EXTENSION, f"asks for extension {code}", machine.base + position - 1)
        machine.stack.append(REFUSED)
        return position + width

    return handler


def _persistent(machine: Machine, position: int) -> int:
    at = machine.base + position - 1
    line, position = read_line(machine, position)
    machine.stack.append(machine.load_persistent(TEXT if line is None else line.decode("ascii", "replace"), at))
    return position


def _next_buffer(machine: Machine, position: int) -> int:
    machine.find(rules.BUFFER, "takes a buffer from outside it", machine.base + position - 1)
    machine.stack.append(BUFFER)
    return position


def _readonly_buffer(machine: Machine, position: int) -> int:
    if machine.stack[-1] is not BUFFER:  # picklers write it behind NEXT_BUFFER alone; the unpickler may go on
        machine.find(rules.DAMAGED, "READONLY_BUFFER of what is no buffer", machine.base + position - 1)
    return position


# Framing


def _protocol(machine: Machine, position: int) -> int:
    machine.protocol = machine.data[position]
    machine.asked.clear()
    if machine.protocol > _NEWEST_PROTOCOL:
        machine.find(rules.DISAGREE, f"protocol {machine.protocol}", machine.base + position - 1)
    return position + 1


def _frame(machine: Machine, position: int) -> int:
    at = machine.base + position - 1
    length = read_number(machine, position, 8)
    machine.enter_frame(at, length)
    return position + 8


# The stack and the memo


def _pop(machine: Machine, position: int) -> int:
    if machine.stack:
        del machine.stack[-1]
    else:
        machine.pop_mark()
    return position


def _pop_mark(machine: Machine, position: int) -> int:
    machine.pop_mark()
    return position


def _duplicate(machine: Machine, position: int) -> int:
    machine.stack.append(machine.stack[-1])
    return position


def _index(machine: Machine, position: int) -> tuple[int, int]:
    at = machine.base + position - 1
    line, position = read_line(machine, position)
    if line is None:
        raise ValueError("a memo index that is no number")
    text, zero, _ = line.partition(b"\0")
    if zero:  # for the unpickler in C the number ends here
        machine.find(rules.DISAGREE, "a number with a zero byte", at)
    return int(text), position


def _put(machine: Machine, position: int) -> int:
    index, position = _index(machine, position)
    if index < 0:
        raise ValueError("a negative memo index")
    machine.memo[index] = machine.stack[-1]
    machine.absurd_memo(index, position)
    return position


def _get(machine: Machine, position: int) -> int:
    index, position = _index(machine, position)
    machine.stack.append(machine.memo[index])
    return position


# Containers


def _empty_list(machine: Machine, position: int) -> int:
    machine.stack.append([])
    machine.made += 1
    return position


def _list(machine: Machine, position: int) -> int:
    items = machine.pop_mark()
    machine.stack.append(items)
    machine.made += 1
    return position


def _dict(machine: Machine, position: int) -> int:
    items = machine.pop_mark()
    made = Mapping()
    machine.set_items(made, items, machine.base + position - 1)
    machine.stack.append(made)
    return position


def _append(machine: Machine, position: int) -> int:
    item = machine.stack.pop()
    machine.append_items(machine.stack[-1], [item], machine.base + position - 1)
    return position


def _appends(machine: Machine, position: int) -> int:
    items = machine.pop_mark()
    machine.append_items(machine.stack[-1], items, machine.base + position - 1)
    return position


def _empty_set(machine: Machine, position: int) -> int:
    machine.stack.append(Bag())
    machine.made += 1
    return position


def _add_items(machine: Machine, position: int) -> int:
    at = machine.base + position - 1
    items = machine.pop_mark()
    machine.check_keys(items, at)
    target = machine.stack[-1]
    machine.given.append((target, items))
    machine.made += len(items)
    if type(target) is not Bag and target is not REFUSED:
        machine.find(rules.BUILD, f"adds to {shown(described(target))}", at)
    return position


def _frozen_set(machine: Machine, position: int) -> int:
    items = machine.pop_mark()
    machine.check_keys(items, machine.base + position - 1)
    machine.stack.append(Frozen(tuple(items)))
    return position


def _set_item(machine: Machine, position: int) -> int:
    value, key = machine.stack.pop(), machine.stack.pop()
    machine.set_items(machine.stack[-1], [key, value], machine.base + position - 1)
    return position


def _set_items(machine: Machine, position: int) -> int:
    items = machine.pop_mark()
    machine.set_items(machine.stack[-1], items, machine.base + position - 1)
    return position


def _empty_dict(machine: Machine, position: int) -> int:
    machine.stack.append(Mapping())
    machine.made += 1
    return position


def _empty_tuple(machine: Machine, position: int) -> int:
    machine.stack.append(())
    return position


_HANDLERS: dict[str, Handler] = {
    "c": _global, "\x93": _stack_global, "i": _inst, "o": _obj, "\x81": _new_object,
    "\x92": _new_object_with_keywords, "b": Machine.build,
    "\x82": _extension(1), "\x83": _extension(2), "\x84": _extension(4),
    "P": _persistent, "Q": _binary_persistent, "\x97": _next_buffer, "\x98": _readonly_buffer,
    "\x80": _protocol, "\x95": _frame,
    "0": _pop, "1": _pop_mark, "2": _duplicate, "p": _put, "g": _get,
    ")": _empty_tuple, "}": _empty_dict, "s": _set_item, "u": _set_items,
    "]": _empty_list, "l": _list, "d": _dict, "a": _append, "e": _appends,
    "\x8f": _empty_set, "\x90": _add_items, "\x91": _frozen_set,
    **CONSTANTS,
}  # fmt: skip

RARE: tuple[Handler | None, ...] = tuple(_HANDLERS.get(chr(code)) for code in range(256))
