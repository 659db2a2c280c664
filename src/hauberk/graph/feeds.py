"""Inputs for any graph: several of them, of any dtype and rank, with free dimensions, from samples or from thin air.

A core has calibration records and bounds (`hauberk.graph.records`). A graph that is nothing but a file has at best a
few samples. Its inputs are drawn here: by dtype, within the range that the samples show, at several sizes of every free
dimension, 0 and 1 among them. Dimensions of one name have one size. Integers are tried far out too, where a narrower
type no longer holds them, unless a size depends on them (`hauberk.graph.integers`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from hauberk.errors import InputError
from hauberk.graph.samples import Samples
from hauberk.graph.trials import Feeds, Trial
from hauberk.tensors import Signature, TensorSpec

FAR = (2**32 + 1, -(2**32) - 1, 2**24 + 1, 2**15 + 1, 2**8, -1, 0, 1)
"""Integers that a narrower type does not hold: 32 bits, float32, 16 bits or float16, 8 bits, none with a sign."""

_SIZES = (2, 3, 4, 8, 16, 32, 64, 128, 224)
"""Sizes that free dimensions other than the first are tried at, until the graph runs."""
_FIRST = (1, 2, 7, 17)
"""Sizes of the first dimension: how many records at once."""
_MOST_VALUES = 1 << 22
_MOST_DIMENSIONS = 6
_MOST_FAR = 6
"""Integer inputs that are tried far out."""
_WORDS = ("", "a", "tcp", "http", "é", "A much longer string than the others")

Sizes = Mapping[str, int]
"""Of every free dimension, by its name, or by `input.axis` where it has none."""

Draw = Callable[[TensorSpec, tuple[int, ...], np.random.Generator], NDArray[np.generic]]


def free_dimensions(signature: Signature) -> list[str]:
    """Names of the dimensions that inputs leave open, those that lead an input first."""
    names = [
        (axis != 0, _name(spec, axis, size))
        for spec in signature.inputs
        for axis, size in enumerate(spec.shape)
        if isinstance(size, str)
    ]
    return list(dict.fromkeys(name for _, name in sorted(names, key=lambda entry: entry[0])))


def trials(
    signature: Signature,
    fits: Callable[[Feeds], bool],
    samples: Samples,
    *,
    extremes: bool,
    seed: int,
    unbounded: Collection[str] = (),
) -> list[Trial]:
    """What a graph is tried on.

    Args:
        signature: Of the graph before the change.
        fits: Whether that graph runs on some inputs; looks for the sizes that it can take.
        samples: Real inputs and the range of each.
        extremes: Add zeros of both signs, denormals, the largest numbers, infinities and NaN; of integers the ends of
            their type.
        seed: Of everything drawn.
        unbounded: Names of integer inputs that may hold any number (`hauberk.graph.integers`): no size, count or
            division depends on them.

    Returns:
        Calls of the families "real" (the samples) and "single" (their first records one by one, and none), "random"
        (normal), "uniform" and "boundary" (within the range), "lattice" (halves and whole numbers, where comparisons
        and casts turn), "sizes" (every free dimension at 0, 1 and others), "extreme" where asked. The number of the
        call within its family is part of the name: `random-2[5]` is row 5 of the third such call. "integers" has one
        unbounded input at a number of `FAR` after the other, where samples do not show how far it reaches; "extreme"
        has it at the ends of its type. Both do so for the first six unbounded integer inputs.
    """
    random = np.random.default_rng(seed)
    samples = samples.fitted(signature)
    base = _base_sizes(signature, fits, samples, random)
    result = [Trial(f"real-{index}", 0, call) for index, call in enumerate(samples.calls)]
    result += _fewer(samples, signature)

    drawn: Counter[str] = Counter()

    def add(family: str, sizes: Sizes, draw: Draw, times: int = 1) -> None:
        for _ in range(times):
            feeds = {spec.name: draw(spec, _shape(spec, sizes), random) for spec in signature.inputs}
            result.append(Trial(f"{family}-{drawn[family]}", 0, feeds))
            drawn[family] += 1

    draws = _draws(samples, unbounded)
    for family, draw in draws.items():
        add(family, base, draw, times=4)
    for sizes in _all_sizes(signature, base):
        add("sizes", sizes, draws["random"])
        add("sizes", sizes, draws["lattice"])
    if extremes:
        for position in range(len(extreme_values(np.dtype(np.float32)))):
            add("extreme", base, _extreme(position, draws["random"], everywhere=True))
            add("extreme", base, _extreme(position, draws["random"], everywhere=False))
    whole = [spec for spec in signature.inputs if numpy_dtype(spec.dtype).kind in "iu" and spec.name in unbounded]
    for spec in whole[:_MOST_FAR]:
        far, ends = _far_integers(spec)
        shown = spec.name in samples.low
        for family, values in (("integers", [] if shown else far), ("extreme", [*ends, *(far if shown else [])])):
            for value in values if extremes or family == "integers" else ():
                add(family, base, _at(spec.name, value, draws["random"], everywhere=True))
                add(family, base, _at(spec.name, value, draws["random"], everywhere=False))
    return result


def call(
    signature: Signature, fits: Callable[[Feeds], bool], samples: Samples, *, records: int, seed: int
) -> Feeds | None:
    """One call of a graph for timing it.

    Args:
        signature: Of the graph.
        fits: Whether the graph runs on some inputs.
        samples: Real inputs; their first call is repeated or cut to `records`.
        records: Size of the first dimension of every input.
        seed: Of what is drawn where there are no samples.

    Returns:
        The inputs, or `None` where the first dimensions are not free or the graph does not run on so many.
    """
    if not all(spec.shape and isinstance(spec.shape[0], str) for spec in signature.inputs):
        return None
    random = np.random.default_rng(seed)
    base = _base_sizes(signature, fits, samples, random)
    sizes = {**base, **{_name(spec, 0, spec.shape[0]): records for spec in signature.inputs}}
    if _values(signature, sizes) > _MOST_VALUES:
        return None
    if samples.calls:
        first = samples.calls[0]
        feeds = {name: array[np.resize(np.arange(len(array)), records)] for name, array in first.items()}
    else:
        draw = _draws(samples)["random"]
        feeds = {spec.name: draw(spec, _shape(spec, sizes), random) for spec in signature.inputs}
    return feeds if fits(feeds) else None


def _base_sizes(
    signature: Signature, fits: Callable[[Feeds], bool], samples: Samples, random: np.random.Generator
) -> dict[str, int]:
    """Sizes of the free dimensions at which the graph runs: those of a sample, or the first that do."""
    names = free_dimensions(signature)
    if samples.calls:
        return {
            _name(spec, axis, size): samples.calls[0][spec.name].shape[axis]
            for spec in signature.inputs
            for axis, size in enumerate(spec.shape)
            if isinstance(size, str)
        }
    leading = {_name(spec, 0, spec.shape[0]) for spec in signature.inputs if spec.shape}
    draw = _draws(samples)["zero"]
    for first in (3, 1):
        for rest in _SIZES:
            sizes = {name: first if name in leading else rest for name in names}
            if _values(signature, sizes) > _MOST_VALUES:
                break
            if fits({spec.name: draw(spec, _shape(spec, sizes), random) for spec in signature.inputs}):
                return sizes
    return dict.fromkeys(names, 2)


def _all_sizes(signature: Signature, base: Sizes) -> Iterator[Sizes]:
    """The base with one dimension changed at a time, and with all of them 0 or 1."""
    names = free_dimensions(signature)[:_MOST_DIMENSIONS]
    leading = {_name(spec, 0, spec.shape[0]) for spec in signature.inputs if spec.shape}
    seen: list[Sizes] = []
    every = [dict.fromkeys(names, size) for size in (0, 1)]
    for name in names:
        others = (0, *_FIRST) if name in leading else (0, 1, base[name] + 1, 2 * base[name])
        every += [{name: size} for size in others]
    every.append({name: base[name] + step for step, name in enumerate(names)})  # no two alike by chance
    for changed in every:
        sizes = {**base, **changed}
        if sizes != base and sizes not in seen and _values(signature, sizes) <= _MOST_VALUES:
            seen.append(sizes)
            yield sizes


def _fewer(samples: Samples, signature: Signature) -> list[Trial]:
    """The first records of a sample one by one, and none at all, where the first dimension is free everywhere."""
    leading = [spec.shape[0] if spec.shape else 1 for spec in signature.inputs]
    if not samples.calls or not all(isinstance(size, str) for size in leading):
        return []
    call = samples.calls[0]
    count = min(8, *(len(array) for array in call.values()))
    cuts = [slice(index, index + 1) for index in range(count)] + [slice(0, 0)]
    return [
        Trial(f"single-{index}", 0, {name: array[cut] for name, array in call.items()})
        for index, cut in enumerate(cuts)
    ]


def _name(spec: TensorSpec, axis: int, size: int | str) -> str:
    return f"{spec.name}.{axis}" if size == "?" else str(size)


def _shape(spec: TensorSpec, sizes: Sizes) -> tuple[int, ...]:
    return tuple(
        size if isinstance(size, int) else sizes[_name(spec, axis, size)] for axis, size in enumerate(spec.shape)
    )


def _values(signature: Signature, sizes: Sizes) -> int:
    return sum(int(np.prod(_shape(spec, sizes), dtype=np.int64)) for spec in signature.inputs)


def numpy_dtype(name: str) -> np.dtype[np.generic]:
    """The dtype of a tensor by its name in a signature, those of 8 bits and bfloat16 included.

    Raises:
        InputError: numpy and ml_dtypes have no such dtype.
    """
    try:
        return np.dtype(getattr(ml_dtypes, name, name))
    except TypeError as error:
        raise InputError(f"inputs of dtype {name} cannot be drawn") from error


def _draws(samples: Samples, unbounded: Collection[str] = ()) -> dict[str, Draw]:
    """How each family draws an input."""

    def of(
        real: Callable[[TensorSpec, tuple[int, ...], np.random.Generator], object], whole: range, *, reaches: bool
    ) -> Draw:
        def draw(spec: TensorSpec, shape: tuple[int, ...], random: np.random.Generator) -> NDArray[np.generic]:
            dtype = numpy_dtype(spec.dtype)
            if dtype.kind in "iu":
                low, high = _integer_range(spec, whole, samples, reaches=reaches and spec.name in unbounded)
                return np.asarray(random.integers(low, high, shape, dtype=dtype, endpoint=True))
            if dtype.kind == "b":
                return np.asarray(random.integers(whole.start, whole.stop, shape) % 2 == 1)
            if dtype.kind in "OUS":
                return np.array(_WORDS, object)[random.integers(len(_WORDS), size=shape)]
            low_end, high_end = samples.range_of(spec.name)
            clipped: NDArray[np.float64] = np.clip(np.asarray(real(spec, shape, random)), low_end, high_end)
            return clipped.astype(dtype)

        return draw

    def middle(spec: TensorSpec) -> tuple[NDArray[Any], NDArray[Any]]:
        low, high = samples.range_of(spec.name)
        return ((low + high) / 2, (high - low) / 6) if spec.name in samples.low else (np.asarray(0.0), np.asarray(1.0))

    def boundary(spec: TensorSpec, shape: tuple[int, ...], random: np.random.Generator) -> object:
        low, high = samples.range_of(spec.name)
        return np.where(random.random(shape) < random.random(), low, high)

    return {
        "zero": of(lambda _, shape, __: np.zeros(shape), range(1), reaches=False),
        "random": of(lambda spec, shape, random: random.normal(*middle(spec), shape), range(2), reaches=True),
        "uniform": of(
            lambda spec, shape, random: random.uniform(*samples.range_of(spec.name), shape), range(10), reaches=True
        ),
        "boundary": of(boundary, range(2), reaches=True),
        "lattice": of(lambda _, shape, random: random.integers(-6, 7, shape) / 2, range(-3, 4), reaches=False),
    }


def _integer_range(spec: TensorSpec, usual: range, samples: Samples, *, reaches: bool) -> tuple[int, int]:
    """The least and the largest integer that a family draws.

    Where it reaches as far as it may, all that samples show, or all of 8 bits; else what is usual, as far as samples
    allow.
    """
    limits = _integer_limits(spec.dtype)
    low, high = max(usual.start, limits[0]), usual.stop - 1
    if spec.name in samples.low:
        shown = int(samples.low[spec.name]), int(samples.high[spec.name])
        return shown if reaches else (min(max(low, shown[0]), shown[1]), min(max(high, shown[0]), shown[1]))
    if reaches and limits[1] < 1 << 8:
        return limits
    return low, high


def _integer_limits(dtype: str) -> tuple[int, int]:
    """The least and the largest number of an integer dtype."""
    limits: np.iinfo[Any] = np.iinfo(dtype)
    return int(limits.min), int(limits.max)


def extreme_values(dtype: np.dtype[np.generic]) -> NDArray[np.generic]:
    """The numbers of a floating-point dtype that arithmetic treats specially.

    Zeros of both signs, the least denormals, a denormal in between, the largest numbers, infinities and NaN.
    """
    info = ml_dtypes.finfo(dtype)  # type: ignore[no-untyped-call]
    small, large = float(info.smallest_subnormal), float(info.max)
    return np.array([0.0, -0.0, small, -small, 100 * small, large, -large, np.inf, -np.inf, np.nan]).astype(dtype)


def _extreme(position: int, other: Draw, *, everywhere: bool) -> Draw:
    """All of a floating-point input, or half of it, at one of the extremes of its dtype; others as `other` says."""

    def draw(spec: TensorSpec, shape: tuple[int, ...], random: np.random.Generator) -> NDArray[np.generic]:
        dtype = numpy_dtype(spec.dtype)
        if dtype.kind in "biuOUS":
            return other(spec, shape, random)
        with np.errstate(over="ignore"):
            plain, extreme = random.normal(size=shape).astype(dtype), extreme_values(dtype)[position]
        return np.where((random.random(shape) < 0.5) & (not everywhere), plain, extreme).astype(dtype)

    return draw


def _far_integers(spec: TensorSpec) -> tuple[list[int], list[int]]:
    """Of an integer input, what of `FAR` its type holds (its ends for what it does not), and the ends themselves."""
    least, largest = _integer_limits(spec.dtype)
    far = list(dict.fromkeys(min(max(value, least), largest) for value in FAR))
    ends = (least, largest, largest - 1, largest // 2 + 1)
    return far, [value for value in ends if value not in far]


def _at(name: str, value: int, other: Draw, *, everywhere: bool) -> Draw:
    """An integer input at one value, everywhere or in one place; the rest as `other` says."""

    def draw(spec: TensorSpec, shape: tuple[int, ...], random: np.random.Generator) -> NDArray[np.generic]:
        drawn = other(spec, shape, random)
        if spec.name == name and everywhere:
            drawn[...] = value
        elif spec.name == name and drawn.size:
            drawn.flat[random.integers(drawn.size)] = value
        return drawn

    return draw


def float_inputs(signature: Signature) -> Sequence[TensorSpec]:
    """Inputs that a search can move by small steps."""
    return [spec for spec in signature.inputs if spec.dtype in {"float32", "float64", "float16"}]
