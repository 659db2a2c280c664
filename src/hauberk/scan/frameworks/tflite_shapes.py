"""What an operator of TensorFlow Lite gives follows from what it is given: held against what the model says.

The kernels prepare memory by some of a model's figures and fill it by others. Where the two agree they stay inside it;
a model in which they do not, or whose operator is not known here, is not called safe.
Definitions: `tensorflow/lite/kernels` of https://github.com/tensorflow/tensorflow.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np

from hauberk.scan.frameworks.tflite_calls import (
    BYTE,
    FLOAT,
    QUANTIZED,
    SHORT,
    SIGNED_BYTE,
    WHOLE_32,
    WHOLE_64,
    Call,
    Shape,
    Tensor,
)

_FILTERED = {
    (FLOAT, FLOAT): frozenset({FLOAT}),
    (FLOAT, SIGNED_BYTE): frozenset({FLOAT}),
    (SIGNED_BYTE, SIGNED_BYTE): frozenset({WHOLE_32}),
    (BYTE, BYTE): frozenset({WHOLE_32}),
    (SHORT, SIGNED_BYTE): frozenset({WHOLE_32, WHOLE_64}),
}
"""Types of a bias, by those of an input and of the filter that goes over it."""
_SAME_PADDING = 0
_LARGEST_WINDOW = 1 << 16


def _axis(axis: int, rank: int) -> int:
    if not -rank <= axis < rank:
        raise ValueError(f"axis {axis} of {rank}")
    return axis % rank


def _same(call: Call) -> list[Shape]:
    return [call.given(1)[0].shape]


def _normalized(call: Call) -> list[Shape]:
    """Over the depth, where a radius is added to a place without a look at what becomes of it."""
    if not 0 <= call.option(0) <= _LARGEST_WINDOW:
        raise ValueError(f"a radius of {call.option(0)}")
    return _same(call)


def _broadcast(call: Call) -> list[Shape]:
    shapes = [each.shape for each in call.given(len(call.inputs))]
    return [tuple(int(size) for size in np.broadcast_shapes(*shapes))]


def _dense(call: Call) -> list[Shape]:
    data, weights = call.inputs[:2]
    if data is None or weights is None or len(weights.shape) != 2:
        raise ValueError("weights of another rank")
    units, depth = weights.shape
    if call.option(1, 1):
        raise ValueError("weights in another order")
    _check_filter(call, units)
    if math.prod(data.shape) % depth or not data.shape:
        raise ValueError(f"{data.shape} for weights of {weights.shape}")
    if call.option(2, 1):
        if data.shape[-1] != depth:
            raise ValueError(f"{data.shape} for weights of {weights.shape}")
        return [(*data.shape[:-1], units)]
    return [(math.prod(data.shape) // depth, units)]


def _check_filter(call: Call, channels: int) -> None:
    """Types of an input, a filter and a bias, and the length of the bias."""
    data, weights, *rest = call.inputs
    if data is None or weights is None or len(rest) > 1 or (data.kind, weights.kind) not in _FILTERED:
        raise ValueError("a filter of another type")
    bias = rest[0] if rest else None
    if bias and (bias.shape != (channels,) or bias.kind not in _FILTERED[(data.kind, weights.kind)]):
        raise ValueError(f"a bias of {bias.shape} for {channels} channels")


def _window(call: Call, data: Shape, window: Sequence[int], gaps: tuple[int, int]) -> Shape:
    """Height and width of what a filter or a pool gives."""
    steps = (call.option(2), call.option(1))
    if not all(0 < each <= _LARGEST_WINDOW for each in (*window, *steps, *gaps)):
        raise ValueError(f"a filter of {tuple(window)} in steps of {steps}, {gaps} apart")
    given = []
    for size, reach, step, gap in zip(data[1:3], window, steps, gaps, strict=True):
        room = size if call.option(0, 1) == _SAME_PADDING else size - (reach - 1) * gap
        given.append(-(-room // step))
    return tuple(given)


def _convolution(call: Call) -> list[Shape]:
    data, weights = call.inputs[:2]
    if data is None or weights is None or len(data.shape) != 4 or len(weights.shape) != 4:
        raise ValueError("a convolution of another rank")
    count, height, width, depth = weights.shape
    if depth != data.shape[3]:
        raise ValueError(f"a filter of depth {depth} over {data.shape}")
    _check_filter(call, count)
    gaps = (call.option(5, 4, 1), call.option(4, 4, 1))
    return [(data.shape[0], *_window(call, data.shape, (height, width), gaps), count)]


def _depthwise(call: Call) -> list[Shape]:
    data, weights = call.inputs[:2]
    if data is None or weights is None or len(data.shape) != 4 or len(weights.shape) != 4:
        raise ValueError("a convolution of another rank")
    one, height, width, count = weights.shape
    times = call.option(3)
    if one != 1 or times < 0 or data.shape[3] * (times or count // max(1, data.shape[3])) != count:
        raise ValueError(f"a filter of {weights.shape} over {data.shape}")
    _check_filter(call, count)
    gaps = (call.option(6, 4, 1), call.option(5, 4, 1))
    return [(data.shape[0], *_window(call, data.shape, (height, width), gaps), count)]


def _pool(call: Call) -> list[Shape]:
    data = call.given(1)[0].shape
    if len(data) != 4:
        raise ValueError("a pool of another rank")
    return [(data[0], *_window(call, data, (call.option(4), call.option(3)), (1, 1)), data[3])]


def _reshape(call: Call) -> list[Shape]:
    if not 1 <= len(call.inputs) <= 2 or call.inputs[0] is None:
        raise ValueError(f"{len(call.inputs)} inputs")
    shape, second = call.inputs[0].shape, call.inputs[-1]
    if len(call.inputs) == 2 and second and len(second.shape) == 1 and second.kind == WHOLE_32:
        wanted = call.constant(1)
    else:  # a shape of another form is passed over
        wanted = call.listed(0)
        wanted = [] if wanted == [0] else wanted
    unknown = [place for place, size in enumerate(wanted) if size == -1]
    rest = math.prod(size for size in wanted if size != -1)
    if len(unknown) > 1 or any(size < -1 for size in wanted) or (unknown and math.prod(shape) % max(1, rest)):
        raise ValueError(f"{shape} as {wanted}")
    for place in unknown:
        wanted[place] = math.prod(shape) // max(1, rest)
    if math.prod(shape) != math.prod(wanted):
        raise ValueError(f"{shape} as {wanted}")
    return [tuple(wanted)]


def _concatenation(call: Call) -> list[Shape]:
    shapes = [each.shape for each in call.given(len(call.inputs))]
    axis = _axis(call.option(0), len(shapes[0]))
    rest = {(*shape[:axis], *shape[axis + 1 :]) for shape in shapes}
    if len(rest) != 1 or len({len(shape) for shape in shapes}) != 1:
        raise ValueError(f"{shapes[:4]} put together")
    return [(*shapes[0][:axis], sum(shape[axis] for shape in shapes), *shapes[0][axis + 1 :])]


def _transpose(call: Call) -> list[Shape]:
    shape, order = call.given(2)[0].shape, call.constant(1)
    if sorted(order) != list(range(len(shape))):
        raise ValueError(f"{shape} in the order {order}")
    return [tuple(shape[each] for each in order)]


def _reduction(call: Call) -> list[Shape]:
    shape = call.given(2)[0].shape
    stated = call.constant(1)
    axes = {_axis(each, len(shape)) for each in stated}
    if len(axes) != len(stated):
        raise ValueError("an axis that is reduced twice")
    if call.option(0, 1):
        return [tuple(1 if axis in axes else size for axis, size in enumerate(shape))]
    return [tuple(size for axis, size in enumerate(shape) if axis not in axes)]


def _padding(call: Call) -> list[Shape]:
    shape, pads = call.given(len(call.inputs))[0].shape, call.constant(1)
    if len(pads) != 2 * len(shape) or any(each < 0 for each in pads) or len(call.inputs) > 3:
        raise ValueError(f"{shape} padded by {pads}")
    return [tuple(size + sum(pads[2 * axis : 2 * axis + 2]) for axis, size in enumerate(shape))]


def _slice(call: Call) -> list[Shape]:
    shape, begin, size = call.given(3)[0].shape, call.constant(1), call.constant(2)
    if not len(begin) == len(size) == len(shape):
        raise ValueError(f"{size} at {begin} of {shape}")
    taken = tuple(dim - start if count == -1 else count for dim, start, count in zip(shape, begin, size, strict=True))
    if any(not 0 <= start <= start + count <= dim for dim, start, count in zip(shape, begin, taken, strict=True)):
        raise ValueError(f"{size} at {begin} of {shape}")
    return [taken]


def _strided(call: Call) -> list[Shape]:
    shape = call.given(4)[0].shape
    begin, end, step = (call.constant(index) for index in (1, 2, 3))
    masks = [call.option(field) for field in range(5)]
    if masks[2] or masks[3] or call.option(5, 1) or not len(begin) == len(end) == len(step) == len(shape):
        raise ValueError("a slice of an unusual kind")
    taken = []
    for axis, dim in enumerate(shape):
        bit = 1 << axis
        if masks[4] & bit:
            _axis(begin[axis], dim)
            if step[axis] != 1 or masks[0] & bit:
                raise ValueError("one place, in steps")
            continue
        start = None if masks[0] & bit else begin[axis]
        taken.append(len(range(dim)[start : None if masks[1] & bit else end[axis] : step[axis]]))
    return [tuple(taken)]


def _split(call: Call) -> list[Shape]:
    axis_input, data = (0, 1) if len(call.inputs) == 2 else (2, 0)
    shape = call.given(len(call.inputs))[data].shape
    (axis,) = call.constant(axis_input)
    axis, count = _axis(axis, len(shape)), len(call.outputs)
    sizes = call.constant(1) if axis_input else [shape[axis] // max(1, count)] * count
    if sum(sizes) != shape[axis] or len(sizes) != count or call.option(0) != count or min(sizes, default=0) < 0:
        raise ValueError(f"{shape} in parts of {sizes[:8]}")
    return [(*shape[:axis], size, *shape[axis + 1 :]) for size in sizes]


def _pack(call: Call) -> list[Shape]:
    shapes = [each.shape for each in call.given(len(call.inputs))]
    axis = _axis(call.option(1), len(shapes[0]) + 1)
    if set(shapes) != {shapes[0]} or call.option(0) != len(shapes):
        raise ValueError(f"{shapes[:4]} packed")
    return [(*shapes[0][:axis], len(shapes), *shapes[0][axis:])]


def _unpack(call: Call) -> list[Shape]:
    shape = call.given(1)[0].shape
    axis = _axis(call.option(1), len(shape))
    if not shape[axis] == call.option(0) == len(call.outputs):
        raise ValueError(f"{shape} unpacked to {len(call.outputs)}")
    return [(*shape[:axis], *shape[axis + 1 :])] * len(call.outputs)


def _squeezed(call: Call) -> list[Shape]:
    shape, stated = call.given(1)[0].shape, call.listed(0)
    axes = {_axis(each, len(shape)) for each in stated} or {axis for axis, size in enumerate(shape) if size == 1}
    if any(shape[axis] != 1 for axis in axes):
        raise ValueError(f"{shape} without {stated}")
    return [tuple(size for axis, size in enumerate(shape) if axis not in axes)]


def _widened(call: Call) -> list[Shape]:
    shape = call.given(2)[0].shape
    (axis,) = call.constant(1)
    axis = _axis(axis, len(shape) + 1)
    return [(*shape[:axis], 1, *shape[axis:])]


def _resize(call: Call) -> list[Shape]:
    shape, size = call.given(2)[0].shape, call.constant(1)
    if len(shape) != 4 or len(size) != 2 or not all(0 < each <= _LARGEST_WINDOW for each in (*size, *shape)):
        raise ValueError(f"{shape} resized to {size}")
    return [(shape[0], *size, shape[3])]


def _mirrored(call: Call) -> list[Shape]:
    shape, pads = call.given(2)[0].shape, call.constant(1)
    edge = 0 if call.option(0, 1) else 1  # whether the outermost elements are repeated
    if any(max(pads[2 * axis : 2 * axis + 2], default=0) > size - edge for axis, size in enumerate(shape)):
        raise ValueError(f"{shape} mirrored by {pads}")
    return _padding(call)


def _largest_place(call: Call) -> list[Shape]:
    shape = call.given(2)[0].shape
    (axis,) = call.constant(1)
    axis = _axis(axis, len(shape))
    return [(*shape[:axis], *shape[axis + 1 :])]


def _stretched(call: Call) -> list[Shape]:
    shape, wanted = call.given(2)[0].shape, tuple(call.constant(1))
    if any(each < 1 for each in wanted) or np.broadcast_shapes(shape, wanted) != wanted:
        raise ValueError(f"{shape} stretched to {wanted}")
    return [wanted]


def _blocks(call: Call, *, deeper: bool) -> list[Shape]:
    shape, block = call.given(1)[0].shape, call.option(0)
    if len(shape) != 4 or block < 1:
        raise ValueError(f"{shape} in blocks of {block}")
    batch, height, width, depth = shape
    if deeper and height % block == width % block == 0:
        return [(batch, height // block, width // block, depth * block * block)]
    if not deeper and depth % (block * block) == 0:
        return [(batch, height * block, width * block, depth // (block * block))]
    raise ValueError(f"{shape} in blocks of {block}")


def _shape(call: Call) -> list[Shape]:
    return [(len(call.given(1)[0].shape),)]


def _gather(call: Call) -> list[Shape]:
    shape, places = (each.shape for each in call.given(2))
    axis = _axis(call.option(0), len(shape))
    if call.option(1):
        raise ValueError("a look-up for each record")
    return [(*shape[:axis], *places, *shape[axis + 1 :])]


def _product(call: Call) -> list[Shape]:
    left, right = (each.shape for each in call.given(2))
    if min(len(left), len(right)) < 2:
        raise ValueError(f"{left} times {right}")
    rows, depth = left[-2:][::-1] if call.option(0, 1) else left[-2:]
    other, columns = right[-2:][::-1] if call.option(1, 1) else right[-2:]
    if depth != other:
        raise ValueError(f"{left} times {right}")
    return [(*(int(size) for size in np.broadcast_shapes(left[:-2], right[:-2])), rows, columns)]


_FOLLOWED: tuple[tuple[Callable[[Call], list[Shape]], tuple[int, ...]], ...] = (
    (_same, (101, 104, 108, 111, 47, 8, 150, 117, 98, 73, 14, 50, 11, 59, 19, 20, 21, 116, 76, 66, 25, 75)),
    (_same, (92, 28, 93, 87, 53, 6, 114)),
    (_broadcast, (0, 41, 18, 42, 55, 57, 99, 78, 90, 95, 71, 72, 58, 61, 62, 63, 86, 84, 123)),
    (_reduction, (40, 74, 82, 89, 81, 91)),
    (_pool, (1, 12, 17)),
    (_padding, (34, 60)),
    (_split, (49, 102)),
    (_squeezed, (43,)),
    (_widened, (70,)),
    (_resize, (23, 97)),
    (_largest_place, (56, 79)),
    (partial(_blocks, deeper=False), (5,)),
    (partial(_blocks, deeper=True), (26,)),
    *((each, (code,)) for each, code in ((_normalized, 13), (_mirrored, 100), (_stretched, 130), (_concatenation, 2))),
    *((each, (code,)) for each, code in ((_convolution, 3), (_depthwise, 4), (_dense, 9), (_reshape, 22))),
    *((each, (code,)) for each, code in ((_gather, 36), (_transpose, 39), (_strided, 45), (_slice, 65))),
    *((each, (code,)) for each, code in ((_shape, 77), (_pack, 83), (_unpack, 88), (_product, 126))),
)
_EXPECTED = {code: expected for expected, codes in _FOLLOWED for code in codes}
"""What an operator gives, by its number."""


def problem(code: int, call: Call) -> tuple[str, list[Shape]]:
    """Why an operator cannot be followed, or what it says that it gives and does not; empty where all agrees.

    Args:
        code: Number of the operator.
        call: What it is given, and gives.

    Returns:
        The reason, and the shapes that it gives: a model may leave sizes open, such as the number of records.
    """
    if code not in _EXPECTED:
        return "what it gives is not followed", []
    try:
        expected = _EXPECTED[code](call)
    except (ValueError, IndexError, ZeroDivisionError) as error:
        return str(error), []
    stated = [each.shape for each in call.outputs]
    reason = ""
    if len(expected) != len(stated) or not all(map(_is_as_stated, expected, call.outputs)):
        reason = f"{stated[:4]} where {expected[:4]} would be given"
    elif any(size < 1 for shape in expected for size in shape):
        reason = f"{expected[:4]}, which has no elements"
    elif not all(each.quantized for each in (*call.inputs, *call.outputs) if each):
        reason = "scales that do not fit"
    return reason, expected


def _is_as_stated(expected: Shape, output: Tensor) -> bool:
    """Whether a shape is the one that is stated, but for sizes that are stated to be open."""
    if len(expected) != len(output.shape) or len(output.open) not in {0, len(expected)}:
        return False
    left_open = output.open or expected
    pairs = zip(expected, output.shape, left_open, strict=True)
    return all(size == stated or one == -1 for size, stated, one in pairs)


def scales_fit(kind: int, shape: Shape, scales: Sequence[float], zeros: Sequence[int], axis: int) -> bool:
    """Whether a tensor of small whole numbers says what these stand for, at once or for each part along an axis."""
    if not scales and not zeros:
        return True  # plain numbers
    parts = {1, shape[axis]} if 0 <= axis < len(shape) else {1}
    least, most = (0, 255) if kind == BYTE else (-128, 127) if kind == SIGNED_BYTE else (0, 0)
    sound = all(math.isfinite(each) and each > 0 for each in scales)
    inside = all(least <= each <= most for each in zeros) if kind in QUANTIZED else not any(zeros)
    return sound and inside and len(scales) in parts and len(zeros) == len(scales)
