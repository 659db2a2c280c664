"""Inputs for any graph: several of them, of any dtype and rank, with free dimensions, from samples or from thin air.

A core has calibration records and bounds (`hauberk.graph.records`). A graph that is nothing but a file has at best a
few samples. Its inputs are drawn here: by dtype, within the range that the samples show, at several sizes of every free
dimension, 0 and 1 among them. Dimensions of one name have one size.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from hauberk.errors import InputError
from hauberk.graph.model import describe
from hauberk.graph.trials import Feeds, Trial
from hauberk.tensors import Signature, TensorSpec

REACH = 100.0
"""Without samples, a floating-point input is taken to lie within this of 0."""

_SIZES = (2, 3, 4, 8, 16, 32, 64, 128, 224)
"""Sizes that free dimensions other than the first are tried at, until the graph runs."""
_FIRST = (1, 2, 7, 17)
"""Sizes of the first dimension: how many records at once."""
_MOST_VALUES = 1 << 22
_MOST_DIMENSIONS = 6
_REAL_BATCH = 64
_MOST_REAL = 1024
_WORDS = ("", "a", "tcp", "http", "é", "A much longer string than the others")

Sizes = Mapping[str, int]
"""Of every free dimension, by its name, or by `input.axis` where it has none."""

Draw = Callable[[TensorSpec, tuple[int, ...], np.random.Generator], NDArray[np.generic]]


@dataclass(frozen=True)
class Samples:
    """Sample inputs of a graph, as somebody would really send them.

    Attributes:
        calls: One dictionary of arrays a call.
    """

    calls: tuple[Feeds, ...] = ()
    low: Mapping[str, float] = field(default_factory=dict)
    high: Mapping[str, float] = field(default_factory=dict)

    @staticmethod
    def of(arrays: Mapping[str, NDArray[np.generic]], signature: Signature) -> Samples:
        """Cut arrays into calls that fit the signature.

        Args:
            arrays: By input. Where the input's first dimension is free, rows are records and go in batches of 64; where
                it is fixed, an array is one call, or, with one more dimension in front, several.
            signature: What the graph takes.

        Raises:
            InputError: An input is missing or unknown, an array has another dtype or shape than the input takes, or
                inputs have different numbers of records.
        """
        specs = {spec.name: spec for spec in signature.inputs}
        if arrays.keys() != specs.keys():
            raise InputError(
                f"samples: arrays are {', '.join(sorted(arrays)) or 'none'};"
                f" expected one for each input: {', '.join(map(describe, signature.inputs))}"
            )
        cut = {name: list(_calls(arrays[name], spec)) for name, spec in specs.items()}
        counts = {name: len(calls) for name, calls in cut.items()}
        if len(set(counts.values())) > 1:
            shown = ", ".join(f"{name} {len(arrays[name])}" for name in specs)
            raise InputError(f"samples: inputs have different numbers of records: {shown}")
        count = min(counts.values(), default=0)
        if not count:
            raise InputError("samples: no record in any array; give at least one")
        floats = {name: array.astype(np.float64) for name, array in arrays.items() if array.dtype.kind == "f"}
        finite = {name: array[np.isfinite(array)] for name, array in floats.items()}
        return Samples(
            calls=tuple({name: calls[index] for name, calls in cut.items()} for index in range(count)),
            low={name: float(array.min()) for name, array in finite.items() if array.size},
            high={name: float(array.max()) for name, array in finite.items() if array.size},
        )

    def fitted(self, signature: Signature) -> Samples:
        """The same samples for a graph that takes a fixed number of records, in calls of so many.

        What does not fill a last call is left out.
        """
        sizes = {spec.name: spec.shape[0] if spec.shape else "" for spec in signature.inputs}
        fixed = {size for size in sizes.values() if isinstance(size, int)}
        if len(fixed) != 1 or any(isinstance(size, str) for size in sizes.values()):
            return self
        (size,) = fixed
        calls = tuple(
            {name: array[first : first + size] for name, array in call.items()}
            for call in self.calls
            for first in range(0, min(len(array) for array in call.values()) - size + 1, max(size, 1))
        )
        return replace(self, calls=calls)

    def range_of(self, name: str) -> tuple[float, float]:
        """The least and the largest value of a floating-point input; what contracts hold over."""
        return self.low.get(name, -REACH), self.high.get(name, REACH)


def _calls(array: NDArray[np.generic], spec: TensorSpec) -> Iterator[NDArray[np.generic]]:
    """One array cut into calls."""
    if array.dtype.name != spec.dtype and not (spec.dtype == "object" and array.dtype.kind in "OU"):
        raise InputError(f"samples: {spec.name!r} is {array.dtype.name}; the graph takes {describe(spec)}")
    if spec.shape and _fits(array.shape, spec) and isinstance(spec.shape[0], str):
        yield from (array[first : first + _REAL_BATCH] for first in range(0, min(len(array), _MOST_REAL), _REAL_BATCH))
    elif _fits(array.shape, spec):
        yield array
    elif array.ndim and _fits(array.shape[1:], spec):
        yield from array[:_MOST_REAL]
    else:
        raise InputError(f"samples: {spec.name!r} has shape {list(array.shape)}; the graph takes {describe(spec)}")


def _fits(shape: tuple[int, ...], spec: TensorSpec) -> bool:
    return len(shape) == len(spec.shape) and all(
        isinstance(wanted, str) or wanted == size for size, wanted in zip(shape, spec.shape, strict=True)
    )


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
    signature: Signature, fits: Callable[[Feeds], bool], samples: Samples, *, extremes: bool, seed: int
) -> list[Trial]:
    """What a graph is tried on.

    Args:
        signature: Of the graph before the change.
        fits: Whether that graph runs on some inputs; looks for the sizes that it can take.
        samples: Real inputs and the range of each.
        extremes: Add zeros of both signs, denormals, the largest numbers, infinities and NaN.
        seed: Of everything drawn.

    Returns:
        Calls of the families "real" (the samples) and "single" (their first records one by one, and none), "random"
        (normal), "uniform" and "boundary" (within the range), "lattice" (halves and whole numbers, where comparisons
        and casts turn), "sizes" (every free dimension at 0, 1 and others), "extreme" where asked. The number of the
        call within its family is part of the name: `random-2[5]` is row 5 of the third such call.
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

    draws = _draws(samples)
    for family, draw in draws.items():
        add(family, base, draw, times=4)
    for sizes in _all_sizes(signature, base):
        add("sizes", sizes, draws["random"])
        add("sizes", sizes, draws["lattice"])
    if extremes:
        for position in range(len(extreme_values(np.dtype(np.float32)))):
            add("extreme", base, _extreme(position, everywhere=True))
            add("extreme", base, _extreme(position, everywhere=False))
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


def _draws(samples: Samples) -> dict[str, Draw]:
    """How each family draws an input."""

    def of(real: Callable[[TensorSpec, tuple[int, ...], np.random.Generator], object], whole: range) -> Draw:
        def draw(spec: TensorSpec, shape: tuple[int, ...], random: np.random.Generator) -> NDArray[np.generic]:
            dtype = numpy_dtype(spec.dtype)
            if dtype.kind in "iu" or dtype.kind == "b":
                low = max(whole.start, 0) if dtype.kind == "u" else whole.start
                values = random.integers(low, whole.stop, shape)
                return np.asarray(values.astype(dtype) if dtype.kind != "b" else values % 2 == 1)
            if dtype.kind in "OUS":
                return np.array(_WORDS, object)[random.integers(len(_WORDS), size=shape)]
            low_end, high_end = samples.range_of(spec.name)
            clipped: NDArray[np.float64] = np.clip(np.asarray(real(spec, shape, random)), low_end, high_end)
            return clipped.astype(dtype)

        return draw

    def middle(spec: TensorSpec) -> tuple[float, float]:
        low, high = samples.range_of(spec.name)
        return (0.0, 1.0) if (low, high) == (-REACH, REACH) else ((low + high) / 2, (high - low) / 6)

    def boundary(spec: TensorSpec, shape: tuple[int, ...], random: np.random.Generator) -> object:
        low, high = samples.range_of(spec.name)
        return np.where(random.random(shape) < random.random(), low, high)

    return {
        "zero": of(lambda _, shape, __: np.zeros(shape), range(1)),
        "random": of(lambda spec, shape, random: random.normal(*middle(spec), shape), range(2)),
        "uniform": of(lambda spec, shape, random: random.uniform(*samples.range_of(spec.name), shape), range(10)),
        "boundary": of(boundary, range(1)),
        "lattice": of(lambda _, shape, random: random.integers(-6, 7, shape) / 2, range(-3, 4)),
    }


def extreme_values(dtype: np.dtype[np.generic]) -> NDArray[np.generic]:
    """The numbers of a floating-point dtype that arithmetic treats specially.

    Zeros of both signs, the least denormals, a denormal in between, the largest numbers, infinities and NaN.
    """
    info = ml_dtypes.finfo(dtype)  # type: ignore[no-untyped-call]
    small, large = float(info.smallest_subnormal), float(info.max)
    return np.array([0.0, -0.0, small, -small, 100 * small, large, -large, np.inf, -np.inf, np.nan]).astype(dtype)


def _extreme(position: int, *, everywhere: bool) -> Draw:
    """All of an input, or half of it, at one of the extremes of its dtype."""

    def draw(spec: TensorSpec, shape: tuple[int, ...], random: np.random.Generator) -> NDArray[np.generic]:
        dtype = numpy_dtype(spec.dtype)
        if dtype.kind in "biuOUS":
            return _draws(Samples())["random"](spec, shape, random)
        with np.errstate(over="ignore"):
            plain, extreme = random.normal(size=shape).astype(dtype), extreme_values(dtype)[position]
        return np.where((random.random(shape) < 0.5) & (not everywhere), plain, extreme).astype(dtype)

    return draw


def float_inputs(signature: Signature) -> Sequence[TensorSpec]:
    """Inputs that a search can move by small steps."""
    return [spec for spec in signature.inputs if spec.dtype in {"float32", "float64", "float16"}]
