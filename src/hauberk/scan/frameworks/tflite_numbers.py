"""Whole numbers that a model of TensorFlow Lite computes from its own shapes, such as the shape to reshape to."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from hauberk.scan.frameworks.tflite_calls import NUMBERS_MOST, WHOLE_32, WHOLE_64, Call

_RANGES = {WHOLE_32: 1 << 31, WHOLE_64: 1 << 63}
Numbers = npt.NDArray[np.int64]


def _shaped(call: Call, index: int) -> Numbers:
    tensor = call.inputs[index]
    return np.array(call.constant(index), np.int64).reshape(tensor.shape if tensor else ())


def _shape(call: Call) -> Numbers:
    return np.array(call.given(1)[0].shape, np.int64)


def _strided(call: Call) -> Numbers:
    data = _shaped(call, 0)
    (begin,), (end,), (step,) = (call.constant(index) for index in (1, 2, 3))
    masks = [call.option(field) & 1 for field in (0, 1, 4)]
    if masks[2]:
        return np.asarray(data[begin])
    return data[None if masks[0] else begin : None if masks[1] else end : step]


def _slice(call: Call) -> Numbers:
    (begin,), (size,) = call.constant(1), call.constant(2)
    return _shaped(call, 0)[begin : None if size == -1 else begin + size]


def _packed(call: Call) -> Numbers:
    return np.stack([_shaped(call, index) for index in range(len(call.inputs))])


def _joined(call: Call) -> Numbers:
    return np.concatenate([_shaped(call, index) for index in range(len(call.inputs))])


def _taken(call: Call) -> Numbers:
    return _shaped(call, 0)[_shaped(call, 1)]


def _combined(operation: Callable[[Numbers, Numbers], Numbers]) -> Callable[[Call], Numbers]:
    def compute(call: Call) -> Numbers:
        if call.option(0, 1):
            raise ValueError("an activation")
        return operation(_shaped(call, 0), _shaped(call, 1))

    return compute


def _product(call: Call) -> Numbers:
    return np.asarray(np.prod(_shaped(call, 0), axis=tuple(call.constant(1)), dtype=np.int64))


def _handed_on(call: Call) -> Numbers:
    return _shaped(call, 0)


_COMPUTED: dict[int, Callable[[Call], Numbers]] = {
    77: _shape,
    45: _strided,
    65: _slice,
    83: _packed,
    2: _joined,
    36: _taken,
    81: _product,
    0: _combined(np.add),
    41: _combined(np.subtract),
    18: _combined(np.multiply),
    53: _handed_on,
    22: _handed_on,
    43: _handed_on,
    70: _handed_on,
}


def computed(code: int, call: Call) -> Numbers | None:
    """What an operator gives, where that is a few whole numbers and all that it depends on is known.

    Args:
        code: Number of the operator, whose shapes and types agree (see `tflite_shapes.problem`).
        call: What it is given.
    """
    output = call.outputs[0]
    if code not in _COMPUTED or output.kind not in _RANGES or math.prod(output.shape) > NUMBERS_MOST:
        return None
    kinds = {each.kind for each in call.inputs if each is not None}
    if code != 77 and not kinds <= _RANGES.keys():
        return None
    try:
        numbers = np.asarray(_COMPUTED[code](call), np.int64)
    except (ValueError, IndexError):
        return None
    most = _RANGES[output.kind]
    fits = numbers.size == math.prod(output.shape) and all(-most <= int(each) < most for each in numbers.flat)
    return numbers.ravel() if fits else None
