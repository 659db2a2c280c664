"""Sample inputs of any graph, as somebody would really send them, and how far each input reaches."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hauberk.errors import InputError
from hauberk.graph.model import describe
from hauberk.graph.trials import Feeds
from hauberk.tensors import Signature, TensorSpec

REACH = 100.0
"""Without samples, a floating-point input is taken to lie within this of 0."""

_REAL_BATCH = 64
_MOST_REAL = 1024


@dataclass(frozen=True)
class Samples:
    """Sample inputs of a graph, as somebody would really send them.

    Attributes:
        calls: One dictionary of arrays a call.
        low: By input, the least value; one number, or one for every element of a record. Inputs that hold no numbers
            have none.
        high: By input, the largest value.
    """

    calls: tuple[Feeds, ...] = ()
    low: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    high: Mapping[str, NDArray[Any]] = field(default_factory=dict)

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
        numbers = {name: array[np.isfinite(array)] for name, array in floats.items()}
        numbers |= {name: array for name, array in arrays.items() if array.dtype.kind in "iu"}  # type: ignore[misc]
        return Samples(
            calls=tuple({name: calls[index] for name, calls in cut.items()} for index in range(count)),
            low={name: np.asarray(array.min()) for name, array in numbers.items() if array.size},
            high={name: np.asarray(array.max()) for name, array in numbers.items() if array.size},
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

    def range_of(self, name: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """The least and the largest value of a floating-point input; what contracts hold over.

        Both float64 [], or of the shape of one record where every element has a range of its own.
        """
        low, high = self.low.get(name, -REACH), self.high.get(name, REACH)
        return np.asarray(low, np.float64), np.asarray(high, np.float64)


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
