"""Types and scales that an operator of TensorFlow Lite takes; at some that do not fit, kernels end the process."""

from __future__ import annotations

from hauberk.scan.frameworks.tflite_calls import FLOAT, QUANTIZED, SHORT, TRUTH, WHOLE_32, WHOLE_64, Call, Tensor

_KINDS = frozenset({FLOAT, 1, 10, WHOLE_32, WHOLE_64, TRUTH}) | QUANTIZED
_FILTERED = frozenset({3, 4, 9})
_COMPARISONS = frozenset({58, 61, 62, 63, 71, 72})
_PLACES = frozenset({56, 79})
_SHAPE, _CAST, _DEQUANTIZE, _QUANTIZE = 77, 53, 6, 114
_ADD, _SUBTRACT, _DIVIDE, _DIFFERENCE, _REMAINDER, _CHOICE = 0, 41, 42, 99, 95, 123
_OTHER_TYPES = frozenset({_DEQUANTIZE, _CAST, _SHAPE, _QUANTIZE}) | _PLACES | _COMPARISONS
"""Operators of which the result is of a type of its own."""
_MOVERS = (
    frozenset({2, 5, 22, 26, 34, 36, 39, 43, 45, 49, 65, 70, 77, 83, 88, 93, 100, 102, 130, _CAST, _CHOICE}) | _PLACES
)
"""Operators that move elements without a look at what they stand for."""
_INDICES = {22: 1, 36: 1, 39: 1, 40: 1, 74: 1, 82: 1, 89: 1, 81: 1, 91: 1, 34: 1, 65: 1, 45: 1, 43: 1, 70: 1}
_INDICES |= {23: 1, 56: 1, 79: 1, 97: 1, 100: 1, 130: 1, 102: 1}
"""From this input on, inputs are places and sizes."""
_LONG_INDICES = frozenset({34, 60, 65, 70, 130, 36, 100, 56, 79, 102})
_LARGEST_RANK = 6
_BROADCAST_RANKS = {_ADD: 6, 18: 6, _SUBTRACT: 6, _DIVIDE: 5, 55: 5, 57: 5, _CHOICE: 5}
_BROADCAST = frozenset({78, 90, _REMAINDER, 84, 86, _DIFFERENCE}) | _COMPARISONS | _BROADCAST_RANKS.keys()
_SCALES = (1.2e-38, 1e37)  # beyond, they are no plain numbers of 32 bits

_OPTIONS = (
    "0:11 1:5 2:10 3:1 4:2 5:94 6:38 9:8 11:12 12:5 13:13 17:5 18:21 22:17 23:15 25:9 26:19 34:22 36:23 39:26 "
    "40:27 41:28 42:29 43:30 45:32 47:33 49:35 50:36 53:37 55:39 56:40 57:39 58:41 59:42 60:43 61:44 62:45 63:46 "
    "65:48 70:52 71:53 72:54 74:27 77:55 78:56 79:57 81:27 82:27 83:59 84:60 86:62 87:63 88:64 89:27 90:65 91:27 "
    "92:66 93:67 95:72 97:74 98:75 99:76 100:77 101:78 102:79 108:84 114:89 117:91 118:92 119:93 123:98 126:101 "
    "129:103 130:104 150:116"
)
OPTIONS = {int(code): int(table) for code, table in (pair.split(":") for pair in _OPTIONS.split(" "))}
"""Which table of options belongs to an operator: the interpreter takes no notice of any other."""


def mismatch(code: int, call: Call) -> str:
    """Why an operator cannot be given tensors of these types, ranks and scales; empty where it can.

    Args:
        code: Number of the operator.
        call: What it is given, and gives.
    """
    tensors = [each for each in (*call.inputs, *call.outputs) if each]
    if not {each.kind for each in tensors} <= _KINDS:
        return "tensors of types that are not followed"
    if max((len(each.shape) for each in tensors), default=0) > _LARGEST_RANK:
        return "tensors of many dimensions"
    data = _data(code, call)
    if any(0 in each.shape for each in data):
        return "a tensor without elements"
    return _types(code, call) or _ranks(code, call) or _divisor(code, call) or _scales(code, call)


def _data(code: int, call: Call) -> list[Tensor]:
    """Inputs that are neither places nor sizes."""
    if code in {49, 60}:
        inputs = [each for index, each in enumerate(call.inputs) if index != (0 if code == 49 else 1)]
    else:
        inputs = list(call.inputs[: _INDICES.get(code, len(call.inputs))])
    return [each for each in inputs if each is not None]


def _types(code: int, call: Call) -> str:
    """Whether data is of one type, places and sizes whole numbers, and truths truths."""
    data, outputs = _data(code, call), {each.kind for each in call.outputs}
    kinds = [each.kind for each in data]
    if code in _FILTERED:
        fits = outputs == {kinds[0]}  # the others were looked at with the filter
    elif code == _CHOICE:
        fits = kinds[0] == TRUTH and outputs == set(kinds[1:])
    else:
        fits = len(set(kinds)) == 1 and (code in _OTHER_TYPES or outputs == set(kinds))
    if code in _COMPARISONS:
        fits &= outputs == {TRUTH}
    elif code in _PLACES or code == _SHAPE:
        fits &= outputs == {call.option(0, 1)} and outputs <= {WHOLE_32, WHOLE_64}
    elif code == _DEQUANTIZE:
        fits &= outputs == {FLOAT}
    places = {each.kind for each in call.inputs if each is not None and all(each is not one for one in data)}
    allowed = {WHOLE_32, WHOLE_64} if code in _LONG_INDICES else {WHOLE_32}
    return "" if fits and (code in _FILTERED or places <= allowed) else "tensors of types that do not go together"


def _ranks(code: int, call: Call) -> str:
    """Kernels that stretch one tensor to the shape of another do so in a few dimensions only."""
    shapes = {each.shape for each in call.inputs if each}
    rank = max(map(len, shapes), default=0)
    if code not in _BROADCAST or len(shapes) == 1:
        return ""
    if rank > _BROADCAST_RANKS.get(code, 4):
        return "many dimensions, of which some are stretched"
    powers = code == _ADD and call.outputs[0].kind == SHORT and call.option(1, 1, 1)
    return "numbers of 16 bits that are stretched" if powers else ""


def _divisor(code: int, call: Call) -> str:
    """The least whole number divided by -1 ends the process."""
    if code not in {_DIVIDE, _REMAINDER} or call.outputs[0].kind not in {WHOLE_32, WHOLE_64}:
        return ""
    try:
        divisors = set(call.constant(1))
    except ValueError as error:
        return str(error)
    return "a division by what may be -1" if {0, -1} & divisors else ""


def _scales(code: int, call: Call) -> str:
    """Whether quantized tensors have scales, and such that kernels can make a multiplier of them."""
    tensors = [each for each in (*_data(code, call), *call.outputs) if each.kind in QUANTIZED]
    if not tensors or code in _MOVERS:
        return ""
    scales = [each.scales for each in tensors]
    if not all(scales) or (code not in _FILTERED and any(len(each) != 1 for each in scales)):
        return "small whole numbers without a scale"
    if not all(_SCALES[0] <= each <= _SCALES[1] for one in scales for each in one):
        return "scales that are no plain numbers"
    if code in _FILTERED:
        return ""
    largest, result = max(each[0] for each in scales[: len(call.inputs)]), scales[-1][0]
    steps = 14 if call.outputs[0].kind == SHORT else 19
    too_large = code in _COMPARISONS and largest >= 1
    too_large |= code in {_ADD, _SUBTRACT} and largest >= result * 2**steps
    too_large |= code == _DIFFERENCE and largest * largest >= result * 2**12
    return "scales that are too far apart" if too_large else ""
