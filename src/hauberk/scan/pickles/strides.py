"""What `torch.save` writes for a tensor, taken in one stride.

A checkpoint is the same thirty instructions over and over, so following them one by one is most of the work. `TENSOR`
matches them in the form that torch writes from the second tensor on, and `take_tensor` does what they do to the stack
and the memo; the checks are those that the instructions would have met one by one. Wherever something is different,
nothing matches and the machine goes on step by step.
"""

from __future__ import annotations

import re
import struct
from typing import TYPE_CHECKING

from hauberk.scan.pickles.values import Made, Name, Storage

if TYPE_CHECKING:
    from hauberk.scan.pickles.machine import Machine

_uint4 = struct.Struct("<I").unpack_from

_GET = rb"(h.|j...\0)"
_PUT = rb"(q.|r...\0)"
_NUMBER = rb"(?:K.|M..|J...[\0-\x7f])"
_NUMBERS = (
    rb"\)|" + _NUMBER + rb"\x85|" + _NUMBER + rb"{2}\x86|" + _NUMBER + rb"{3}\x87|\(" + _NUMBER + rb"{4,8}t"
)  # fmt: skip

TENSOR = re.compile(
    rb"\(\(" + _GET + _GET + rb"X(.)\0\0\0([0-9]{1,20})" + _PUT + _GET
    + rb"(" + _NUMBER + rb")t" + _PUT + rb"Q(" + _NUMBER + rb")"
    + rb"(" + _NUMBERS + rb")(q.|r...\0)?(" + _NUMBERS + rb")(q.|r...\0)?"
    + rb"([\x88\x89])" + _GET + rb"\)R" + _PUT + rb"t" + _PUT + rb"R" + _PUT,
    re.DOTALL,
).match  # fmt: skip
"""At the mark of a tensor's arguments: `((` to the `BINPUT` behind `REDUCE`."""

_MOST_SHAPES = 4096
_WIDTHS = {0x4B: 2, 0x4D: 3, 0x4A: 5}


def take_tensor(machine: Machine, position: int) -> int:
    """Do what the instructions of a tensor do to the machine, if they are in the usual form.

    Args:
        machine: Stands at the mark of the arguments; what is called lies on its stack.
        position: Of the mark in the window.

    Returns:
        Where they end in the window; 0 where nothing was done.
    """
    found = TENSOR(machine.data, position)
    if found is None or not machine.stack:
        return 0
    (word, kind, length, key, put_key, place, count, put_id, offset, size, put_size, stride, put_stride, gradient,
     hooks, put_hooks, put_arguments, put_tensor) = found.groups()  # fmt: skip
    entries = (word, kind, put_key, place, put_id, put_size, put_stride, hooks, put_hooks, put_arguments, put_tensor)
    numbers = [raw[1] if len(raw) == 2 else _uint4(raw, 1)[0] for raw in entries if raw is not None]
    scalars = (size == b")") + (stride == b")")
    if length[0] != len(key) or len(numbers) != 11 - scalars or scalars == 1:
        return 0
    get_word, get_kind, to_key, get_place, *puts, get_hooks, to_hooks, to_arguments, to_tensor = numbers
    if max(get_word, get_kind, get_place, get_hooks) >= min(to_key, to_hooks, to_arguments, to_tensor, *puts):
        return 0  # something may be read after it was overwritten
    memo, stack, shapes = machine.memo, machine.stack, machine.shapes
    try:
        identifier = (
            memo[get_word], memo[get_kind], key.decode("ascii"), memo[get_place], _number(count)
        )  # fmt: skip
        made_of = memo[get_hooks]
    except KeyError:
        return 0
    at = machine.base + found.end()
    sizes = shapes.get(size) or _shape(size, shapes)
    strides = shapes.get(stride) or _shape(stride, shapes)
    storage = machine.load_persistent(identifier, at)
    hooked = machine.call(made_of, (), at)
    arguments = (storage, _number(offset), sizes, strides, gradient == b"\x88", hooked)
    made = _rebuilt(machine, (stack[-1], identifier[1], made_of, count, offset, size, stride), arguments, at)
    memo[to_key] = identifier[2]
    memo[puts[0]] = identifier
    if len(puts) == 3:
        memo[puts[1]] = sizes
        memo[puts[2]] = strides
    memo[to_hooks] = hooked
    memo[to_arguments] = arguments
    stack[-1] = memo[to_tensor] = made
    machine.made += 4
    return found.end()


def _rebuilt(machine: Machine, form: tuple[object, ...], arguments: tuple[object, ...], at: int) -> object:
    """What the call of a tensor's rebuilder gives.

    Args:
        machine: Follows the pickle.
        form: The names that are called and the numbers as they stand in the pickle: all that the checks of a tensor ask
            for. Most tensors are made like another one before them, and need not be checked again.
        arguments: Of the call; the last one is what was made for its hooks.
        at: Where in the content.
    """
    if not type(form[0]) is type(form[1]) is type(form[2]) is Name or type(arguments[0]) is not Storage:
        return machine.call(form[0], arguments, at)
    same = machine.alike.get(form)
    hooks = arguments[-1]
    if same is not None and type(hooks) is Made:
        hooks.kept = True
        return Made(*same)
    made = machine.call(form[0], arguments, at)
    if type(made) is Made and len(machine.alike) < _MOST_SHAPES:
        machine.alike[form] = made.entry, made.detail
    return made


def _number(raw: bytes) -> int:
    return raw[1] if len(raw) == 2 else int.from_bytes(raw[1:], "little")


def _shape(raw: bytes, kept: dict[bytes, tuple[int, ...]]) -> tuple[int, ...]:
    """The numbers of a shape; most tensors share theirs with others."""
    numbers = []
    place = 1 if raw[:1] == b"(" else 0
    last = len(raw) - 1
    while place < last:
        width = _WIDTHS[raw[place]]
        numbers.append(int.from_bytes(raw[place + 1 : place + width], "little"))
        place += width
    found = tuple(numbers)
    if len(kept) < _MOST_SHAPES:
        kept[raw] = found
    return found
