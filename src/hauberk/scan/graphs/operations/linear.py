"""Products: matrices, convolutions, einsum, attention; and pooling, whose shapes follow the same rules."""

from __future__ import annotations

import math
from collections.abc import Sequence

from hauberk.scan.graphs.call import Call, broadcast, rule
from hauberk.scan.graphs.elements import FLOAT, INT64
from hauberk.scan.graphs.values import MisfitError, Tensor, UnboundedError, UnmodelledError

_SECOND = {"QLinearMatMul": 3, "QGemm": 3}
_INT32 = 6


@rule("MatMul", "MatMulInteger", "QLinearMatMul")
@rule("FusedMatMul", "TransposeMatMul", "MatMulIntegerToFloat", "DynamicQuantizeMatMul", domain="com.microsoft")
@rule("MatMulInteger16", "FusedMatMulActivation", domain="com.microsoft")
def matrix_product(call: Call) -> Sequence[Tensor]:
    """Matrices, in batches; transposed on the way, where a node of ONNX Runtime's own optimizer says so."""
    first, second = call.input(0), call.input(_SECOND.get(call.operator, 1))
    one, other = _turned(call, first, "A"), _turned(call, second, "B")
    batches = call.integer("transBatchA") or call.integer("transBatchB")
    if not one or not other:
        raise call.misfit("a product of single numbers")
    if batches and not len(one) == len(other) > 2:
        raise call.misfit(f"transposed batches of {len(one)} and {len(other)} dimensions")
    if call.exact and one[-1] != other[max(len(other) - 2, 0)]:
        raise MisfitError
    dims = broadcast(one[:-2], other[:-2], exact=call.exact)
    dims += tuple(one[-2:-1]) + (tuple(other[-1:]) if len(other) > 1 else ())
    result = call.result(_element(call, first), dims)
    call.operations = float(result.elements) * max(1, one[-1])
    return [result]


def _turned(call: Call, tensor: Tensor, side: str) -> list[int]:
    """The shape of an operand as it is multiplied: batches, rows, columns.

    With `transBatch` the rows (the columns, with `trans` besides) stand in front of the batches.
    """
    dims = list(tensor.shape)
    if call.integer(f"transBatch{side}") and len(dims) > 2:
        dims = [*dims[1:-1], dims[0], dims[-1]]
    return [*dims[:-2], dims[-1], dims[-2]] if call.integer(f"trans{side}") and len(dims) > 1 else dims


def _element(call: Call, first: Tensor) -> int:
    """Element type of a product."""
    match call.operator:
        case "MatMulIntegerToFloat" if call.has(2):
            return call.input(2).element
        case "MatMulIntegerToFloat" | "DynamicQuantizeMatMul":
            return FLOAT
        case "MatMulInteger" | "MatMulInteger16":
            return _INT32
        case "QLinearMatMul" if call.has(7):
            return call.input(7).element
    return first.element


@rule("Gemm")
@rule("FusedGemm", "QGemm", "GemmFastGelu", domain="com.microsoft")
def gemm(call: Call) -> Sequence[Tensor]:
    """One product of two matrices."""
    first, second = call.input(0), call.input(_SECOND.get(call.operator, 1))
    if first.rank != 2 or second.rank != 2:
        raise call.misfit(f"matrices of {first.rank} and {second.rank} dimensions")
    rows, inner = first.shape[::-1] if call.integer("transA") else first.shape
    depth, columns = second.shape[::-1] if call.integer("transB") else second.shape
    if call.exact and inner != depth:
        raise MisfitError
    element = first.element if call.operator != "QGemm" or call.has(8) else FLOAT
    result = call.result(element, (rows, columns))
    call.operations = float(result.elements) * max(1, inner)
    return [result]


@rule("MatMulNBits", "MatMulBnb4", "MatMulFpQ4", domain="com.microsoft")
def packed_product(call: Call) -> Sequence[Tensor]:
    """A product with a matrix of few bits, whose sizes stand in the node."""
    first = call.input(0)
    inner, columns = call.integer("K"), call.integer("N")
    if inner <= 0 or columns <= 0 or not first.shape:
        raise UnmodelledError("no sizes")
    result = call.result(first.element, (*first.shape[:-1], columns))
    call.operations = float(result.elements) * inner
    call.scratch = 4.0 * inner * columns
    return [result]


@rule("Einsum")
def einsum(call: Call) -> Sequence[Tensor]:
    """A sum of products over named indices; one product for every combination of them at most."""
    equation = call.text("equation").replace(" ", "")
    inputs = call.tensors()
    left, arrow, right = equation.partition("->")
    terms = left.split(",")
    if len(terms) != len(inputs):
        raise UnmodelledError(f"{len(terms)} terms for {len(inputs)} inputs")
    sizes: dict[str, int] = {}
    dots: tuple[int, ...] = ()
    for term, each in zip(terms, inputs, strict=True):
        before, ellipsis, after = term.partition("...")
        hidden = each.rank - len(before) - len(after)
        if hidden < 0 or (hidden and not ellipsis):
            raise call.misfit("a term of another rank than its input")
        dots = broadcast(dots, each.shape[len(before) : len(before) + hidden])
        shown = [*zip(before, each.shape, strict=False), *zip(after[::-1], each.shape[::-1], strict=False)]
        for letter, size in shown:
            sizes[letter] = max(size, sizes.get(letter, 0))
    if not arrow:
        right = "..." * bool(dots) + "".join(letter for letter in sorted(sizes) if left.count(letter) == 1)
    before, ellipsis, after = right.partition("...")
    if not {*before, *after} <= sizes.keys():
        raise UnmodelledError("a result with an index of no input")
    dims = (*(sizes[letter] for letter in before), *(dots if ellipsis else ()), *(sizes[letter] for letter in after))
    result = call.result(inputs[0].element, dims)
    call.operations = float(math.prod(sizes.values()) * math.prod(dots)) * max(1, len(terms) - 1)
    # Runtimes multiply two operands at a time, and hold what is between.
    call.scratch = 2.0 * sum(each.bytes for each in inputs) + (_between(terms, right, sizes) if len(terms) > 2 else 0)
    return [result]


def _between(terms: Sequence[str], right: str, sizes: dict[str, int]) -> float:
    """Bytes of the largest intermediate result, multiplying from left to right."""
    largest, held = 0.0, set(terms[0]) - {"."}
    for at, term in enumerate(terms[1:], 1):
        needed = set(right).union(*terms[at + 1 :])
        held = (held | set(term) - {"."}) & (needed | held)
        largest = max(largest, 8.0 * math.prod(sizes[letter] for letter in held if letter in sizes))
        held &= needed
    return largest


def spatial(call: Call, sizes: Sequence[int], kernel: Sequence[int]) -> list[int]:
    """Sizes after a window moved over them, as for convolution and pooling."""
    count = len(kernel)
    strides = call.integers("strides") or [1] * count
    dilations = call.integers("dilations") or [1] * count
    pads = call.integers("pads") or [0] * (2 * count)
    mode = call.text("auto_pad", "NOTSET")
    if (
        not (len(sizes) == count == len(strides) == len(dilations))
        or len(pads) != 2 * count
        or min(strides, default=1) < 1
    ):
        raise call.misfit("a window of another rank than its input")
    result = []
    for at, size in enumerate(sizes):
        reach = (kernel[at] - 1) * dilations[at] + 1
        if mode.startswith("SAME"):
            result.append(-(-size // strides[at]))
            continue
        before, after = (pads[at], pads[at + count]) if mode != "VALID" else (0, 0)
        room = size + before + after - reach
        places = room // strides[at] + 1
        if call.integer("ceil_mode") and room % strides[at] and places * strides[at] < size + before:
            places += 1  # one more window, unless it would begin in the padding
        result.append(max(0, places))
    return result


_QUANTIZED = frozenset({"ConvInteger", "QLinearConv"})
_MOST_WINDOWS = float(64 << 20)
_WEIGHT = {"QLinearConv": 3}
_CHANNELS_LAST = frozenset({"NhwcConv", "NhwcFusedConv", "NhwcMaxPool"})


@rule("Conv", "ConvInteger", "QLinearConv")
@rule("FusedConv", "NhwcConv", "NhwcFusedConv", "QLinearConv", domain="com.microsoft")
@rule("Conv", domain="com.microsoft.nchwc")
@rule("Conv", "QLinearConv", domain="com.ms.internal.nhwc")
def convolution(call: Call) -> Sequence[Tensor]:
    """A window of products; beside the result, it takes a copy of what windows see."""
    source, weight = call.input(0), call.input(_WEIGHT.get(call.operator, 1))
    last = call.operator in _CHANNELS_LAST or bool(call.integer("channels_last"))
    if source.rank < 3 or weight.rank != source.rank:
        raise call.misfit(f"an input of {source.rank} dimensions, weights of {weight.rank}")
    sizes = source.shape[1:-1] if last else source.shape[2:]
    kernel = call.integers("kernel_shape") or list(weight.shape[2:])
    dims = spatial(call, sizes, kernel)
    channels = weight.shape[0]
    element = source.element
    if call.operator == "ConvInteger":
        element = _INT32
    shape = (source.shape[0], *dims, channels) if last else (source.shape[0], channels, *dims)
    result = call.result(element, shape)
    window = math.prod(weight.shape[1:])
    call.operations = float(result.elements) * window
    if math.prod(kernel) > 1:
        # For whole numbers, ONNX Runtime lays out what all windows see; else a part at a time.
        seen = math.prod(dims) * window
        call.scratch = float(seen) if call.operator in _QUANTIZED else min(4.0 * seen, _MOST_WINDOWS)
    return [result]


@rule("ConvTranspose")
@rule("ConvTranspose", domain="com.ms.internal.nhwc")
@rule("ConvTransposeWithDynamicPads", domain="com.microsoft")
def transposed_convolution(call: Call) -> Sequence[Tensor]:
    """A convolution backwards."""
    source, weight = call.input(0), call.input(1)
    if source.rank < 3 or weight.rank != source.rank:
        raise call.misfit(f"an input of {source.rank} dimensions, weights of {weight.rank}")
    kernel = call.integers("kernel_shape") or list(weight.shape[2:])
    count = len(kernel)
    strides = call.integers("strides") or [1] * count
    dilations = call.integers("dilations") or [1] * count
    pads = call.integers("pads") or [0] * (2 * count)
    extra = call.integers("output_padding") or [0] * count
    sizes = call.integers("output_shape")
    if min(map(len, (strides, dilations, extra))) < count or len(pads) < 2 * count or len(source.shape) != count + 2:
        raise call.misfit("a window of another rank than its input")
    if sizes is not None:
        dims = sizes[-count:]
    elif call.text("auto_pad", "NOTSET").startswith("SAME"):
        dims = [size * stride for size, stride in zip(source.shape[2:], strides, strict=False)]
    else:
        cut = call.text("auto_pad", "NOTSET") == "NOTSET" and call.operator == "ConvTranspose"
        dims = [
            strides[at] * (size - 1)
            + extra[at]
            + (kernel[at] - 1) * dilations[at]
            + 1
            - (pads[at] + pads[at + count] if cut else 0)
            for at, size in enumerate(source.shape[2:])
        ]
    group = max(1, call.integer("group", 1))
    result = call.result(source.element, (source.shape[0], weight.shape[1] * group, *dims))
    call.operations = float(source.elements) * math.prod(weight.shape[1:])
    call.scratch = 4.0 * math.prod(source.shape[2:]) * math.prod(weight.shape[1:])
    return [result]


@rule("DeformConv")
def deformable(call: Call) -> Sequence[Tensor]:
    """A convolution whose window is bent by an input."""
    source, weight = call.input(0), call.input(1)
    kernel = call.integers("kernel_shape") or list(weight.shape[2:])
    dims = spatial(call, source.shape[2:], kernel)
    result = call.result(source.element, (source.shape[0], weight.shape[0], *dims))
    window = math.prod(weight.shape[1:])
    call.operations = 8.0 * result.elements * window
    call.scratch = 4.0 * math.prod(dims) * window
    return [result]


_POWER = 150
"""Multiply-adds that an element counts for in LpPool: ONNX Runtime takes so long for its power."""


@rule("AveragePool", "MaxPool", "LpPool")
@rule("NhwcMaxPool", "QLinearAveragePool", "MaxpoolWithMask", domain="com.microsoft")
@rule("AveragePool", "MaxPool", domain="com.microsoft.nchwc")
@rule("AveragePool", "MaxPool", "LpPool", "QLinearAveragePool", domain="com.ms.internal.nhwc")
def pooling(call: Call) -> Sequence[Tensor]:
    """A window of maxima or means."""
    source, kernel = call.input(0), call.integers("kernel_shape") or []
    last = call.operator in _CHANNELS_LAST or bool(call.integer("channels_last"))
    if source.rank != len(kernel) + 2:
        raise call.misfit("a window of another rank than its input")
    dims = spatial(call, source.shape[1:-1] if last else source.shape[2:], kernel)
    if 0 in dims:  # of which ONNX Runtime dies in QLinearAveragePool
        raise call.misfit("a window larger than its input")
    shape = (source.shape[0], *dims, source.shape[-1]) if last else (*source.shape[:2], *dims)
    result = call.result(source.element, shape)
    call.operations = float(result.elements) * math.prod(kernel)
    if call.operator == "LpPool":
        call.operations *= _POWER
    return [result, call.result(INT64, shape)][: max(1, call.outputs)]


@rule("GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool")
@rule("QLinearGlobalAveragePool", domain="com.microsoft")
@rule("GlobalAveragePool", "GlobalMaxPool", domain="com.microsoft.nchwc")
@rule("GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool", domain="com.ms.internal.nhwc")
def global_pooling(call: Call) -> Sequence[Tensor]:
    """One number a channel."""
    source = call.input(0)
    if source.rank < 2:
        raise UnmodelledError(f"{source.rank} dimensions")
    if call.integer("channels_last"):
        return [call.result(source.element, (source.shape[0], *(1,) * (source.rank - 2), source.shape[-1]))]
    return [call.result(source.element, (*source.shape[:2], *(1,) * (source.rank - 2)))]


@rule("Col2Im")
def col2im(call: Call) -> Sequence[Tensor]:
    """Windows back to an image whose size is an input."""
    source, image, block = call.input(0), call.input(1), call.input(2)
    sizes, window = image.uppermost(), block.uppermost()
    room = math.prod(window) if block.known is not None else 1
    channels = source.shape[1] // max(1, room) if source.rank > 1 else 1
    exact = source.exact and image.known is not None and block.known is not None
    return [
        call.result(source.element, (source.shape[0] if source.shape else 1, max(1, channels), *sizes), exact=exact)
    ]


@rule("GridSample")
@rule("GridSample", domain="com.microsoft")
@rule("GridSample", domain="com.ms.internal.nhwc")
def grid_sample(call: Call) -> Sequence[Tensor]:
    """A picture looked at in the places of a grid."""
    source, grid = call.input(0), call.input(1)
    result = call.result(source.element, (*source.shape[:2], *grid.shape[1:-1]))
    call.operations = 32.0 * result.elements
    return [result]


_MOST_THREADS = 64
"""Threads of a runtime that work at regions at the same time, at most."""


@rule("RoiAlign", "MaxRoiPool")
@rule("CropAndResize", domain="com.microsoft")
def regions(call: Call) -> Sequence[Tensor]:
    """A small picture for each region of a large one."""
    source, places = call.input(0), call.input(1)
    if call.operator == "CropAndResize":
        height, width = (*call.input(3).uppermost(), 1, 1)[:2]
    else:
        pooled = call.integers("pooled_shape") or [1, 1]
        height = call.integer("output_height", pooled[0])
        width = call.integer("output_width", pooled[-1])
    result = call.result(source.element, (places.shape[0] if places.shape else 1, source.shape[1], height, width))
    call.operations = 8.0 * result.elements
    if call.operator == "RoiAlign":
        samples = _samples(call, places, max(1, height), max(1, width))
        call.operations *= samples
        # ONNX Runtime writes down where each sample of a region lies and what it weighs, a region a thread at a time.
        call.scratch = 32.0 * samples * height * width * min(places.shape[0] if places.shape else 1, _MOST_THREADS)
    return [result]


def _samples(call: Call, places: Tensor, height: int, width: int) -> float:
    """Samples of one place of RoiAlign: as many as it says, or one for every point of the picture that it covers.

    Raises:
        UnboundedError: As many as a region is large, and nothing bounds that.
    """
    if (ratio := call.integer("sampling_ratio")) > 0:
        return float(ratio) ** 2
    bounds = places.bounds()
    reach = bounds.collapsed() if bounds is not None else None
    if reach is None and not places.count:
        return 0.0
    extent = (float(reach.high) - float(reach.low)) if reach is not None else math.inf
    extent *= abs(call.number("spatial_scale", 1.0))
    if not math.isfinite(extent):
        raise UnboundedError
    return (extent // height + 2) * (extent // width + 2)
