"""What is known of a tensor before the model runs: its shape, or bounds of it, and the values of small ones.

Shapes are numbers: free sizes of the inputs are given ones before the estimate begins (`cost`), so the arithmetic that
models do on shapes becomes arithmetic on numbers. Where a size depends on data, its upper bound stands in its place,
and the tensor is marked as not `exact`. Values are kept as intervals, an element each for small tensors, one for all
elements of large ones.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hauberk.scan.graphs.elements import BOOL, ELEMENTS, STRING, data_bytes, integral
from hauberk.scan.graphs.model import MOST_VALUES

Array = NDArray[Any]

ENTRY_BYTES = 400
"""Bytes of a tensor in a sequence beside its data: ONNX Runtime takes about 380."""

LARGE = float(1 << 53)
"""Whole numbers beyond this are not told apart, and count as unknown in intervals."""


class UnboundedError(Exception):
    """The size of a result is decided by values that only a run knows, and nothing bounds it."""


class UnmodelledError(Exception):
    """What an operator does with these inputs is not modelled."""


class PoisonedError(Exception):
    """An input is of unknown size; that has been reported where it became so."""


class MisfitError(Exception):
    """Shapes contradict each other: with the assumed sizes, a run fails here, and what depends on it never runs."""


@dataclass(frozen=True, slots=True)
class Values:
    """Bounds of a tensor's values, both included.

    Attributes:
        low: One for each element, or a single one (0-d) for all of them.
        high: The same object as `low` where the values themselves are known, in the tensor's own type.
        numbers: Bounds of floating-point numbers hold for all of them, because none can be NaN. Without this, a cast
            to whole numbers, which makes the least number of NaN, is not bounded by them.
    """

    low: Array
    high: Array
    numbers: bool = False

    @property
    def known(self) -> bool:
        """Whether these are the values, not bounds of them."""
        return self.low is self.high

    @property
    def uniform(self) -> bool:
        """Whether one pair of bounds stands for all elements."""
        return self.low.ndim == 0

    @property
    def certain(self) -> bool:
        """Whether all of them are numbers, none NaN or infinite."""
        return self.numbers or (self.known and bool(np.all(np.isfinite(self.low))))

    def map(self, change: Callable[[Array], Array]) -> Values:
        """The same change, of places or growing with the values, on both bounds."""
        if self.known:
            return exactly(change(self.low))
        return Values(change(self.low), change(self.high), self.numbers)

    def collapsed(self) -> Values | None:
        """One pair of bounds for all elements; `None` of no elements."""
        if not self.low.size:
            return None
        return between(float(self.low.min()), float(self.high.max()), numbers=self.certain)


def exactly(values: Array) -> Values:
    """Known values."""
    return Values(values, values)


def between(low: float, high: float, *, numbers: bool = False) -> Values:
    """Bounds for all elements."""
    return Values(np.asarray(low, np.float64), np.asarray(high, np.float64), numbers)


def rounded(values: Values, dtype: np.dtype[Any]) -> Values:
    """Bounds of floating-point numbers, by as much wider as rounding may move a number of this type."""
    largest = float(np.max(np.abs([values.low, values.high]), initial=0.0))
    step = float(np.finfo(dtype).eps)
    return Values(
        np.asarray(values.low - np.abs(values.low) * step),
        np.asarray(values.high + np.abs(values.high) * step),
        values.numbers and largest < float(np.finfo(dtype).max),
    )


@dataclass(frozen=True, slots=True)
class Tensor:
    """A tensor before it exists.

    Attributes:
        element: Number of its element type.
        dims: Its sizes, or upper bounds of them; `None` where even their number depends on data.
        count: Upper bound of its elements; `None` where none is known, which has then been reported.
        exact: The sizes are what they will be, not bounds (for the assumed sizes of the inputs).
        values: What is known of its values.
        text: Upper bound of the bytes of one of its texts.
        constant: It depends on nothing that a caller gives.
        never: No run with the assumed sizes gets as far as this.
    """

    element: int
    dims: tuple[int, ...] | None
    count: int | None
    exact: bool = True
    values: Values | None = None
    text: int = 0
    constant: bool = False
    never: bool = False

    @property
    def bytes(self) -> int:
        """In memory."""
        if self.count is None:
            return 0
        return data_bytes(self.element, self.count) + (self.count * self.text if self.element == STRING else 0)

    @property
    def known(self) -> Array | None:
        """Its values, where they are known one by one."""
        values = self.values
        return values.low if values is not None and values.known and not (values.uniform and self.dims) else None

    @property
    def rank(self) -> int:
        """Number of sizes."""
        return len(self.shape)

    @property
    def shape(self) -> tuple[int, ...]:
        """Its sizes.

        Raises:
            PoisonedError: Nothing is known of its size.
            UnmodelledError: Its rank depends on data.
        """
        if self.count is None:
            raise PoisonedError
        if self.dims is None:
            raise UnmodelledError("the rank of an input depends on data")
        return self.dims

    @property
    def elements(self) -> int:
        """Upper bound of its elements.

        Raises:
            PoisonedError: None is known.
        """
        if self.count is None:
            raise PoisonedError
        return self.count

    def bounds(self) -> Values | None:
        """Bounds of its values, those of its type where no better ones are known."""
        if self.values is not None:
            return self.values
        if self.element == BOOL:
            return between(0, 1)
        info = ELEMENTS[self.element]
        if integral(self.element) and info.bits <= 16:
            signed = info.name.startswith("int")
            return (
                between(-(1 << info.bits - 1), (1 << info.bits - 1) - 1) if signed else between(0, (1 << info.bits) - 1)
            )
        return None

    def uppermost(self) -> list[int]:
        """Upper bounds of its values as whole numbers, one an element.

        Raises:
            UnboundedError: There is none.
        """
        bounds = self.bounds()
        if bounds is None or self.count is None or self.count > MOST_VALUES:
            raise UnboundedError
        high = np.broadcast_to(bounds.high, self.dims or ()) if bounds.uniform else bounds.high
        result = []
        for number in high.ravel().tolist():
            if not math.isfinite(number) or (abs(number) >= LARGE and not bounds.known):
                raise UnboundedError
            result.append(int(number))
        return result

    @property
    def settled(self) -> bool:
        """Whether its values are known, and its shape."""
        return self.exact and self.known is not None


@dataclass(frozen=True, slots=True)
class TensorSequence:
    """A sequence of tensors, or an optional value: what its largest element is, and how many there are at most."""

    item: Tensor | None
    length: int
    exact: bool = True
    constant: bool = False

    @property
    def bytes(self) -> int:
        """In memory."""
        return ((self.item.bytes if self.item else 0) + ENTRY_BYTES) * self.length


Value = Tensor | TensorSequence

LARGEST_COUNT = 1 << 100
"""Sizes beyond are cut to this; it is above every limit."""


def tensor(
    element: int,
    dims: Sequence[int],
    *,
    exact: bool = True,
    values: Values | None = None,
    count: int | None = None,
    text: int = 0,
    constant: bool = False,
) -> Tensor:
    """A tensor of these sizes.

    Args:
        element: Number of its element type.
        dims: Its sizes; below zero counts as zero.
        exact: They are no bounds.
        values: Dropped where they do not fit, and made uniform where the sizes are bounds.
        count: Its elements, where that is less than what the sizes say.
        text: Bytes of its longest text.
        constant: It depends on constants only.
    """
    sizes = tuple(min(max(int(size), 0), LARGEST_COUNT) for size in dims)
    product = min(math.prod(sizes), LARGEST_COUNT)
    if values is not None:
        if not values.uniform and (not exact or product > MOST_VALUES):
            values = values.collapsed()
        elif not values.uniform and values.low.shape != sizes:
            values = None
        elif values.uniform and values.known and sizes:
            small = exact and product <= MOST_VALUES
            values = exactly(np.full(sizes, values.low)) if small else values.collapsed()
    if element not in ELEMENTS:
        raise UnmodelledError(f"element type {element}")
    return Tensor(element, sizes, product if count is None else min(count, product), exact, values, text, constant)


def unsized(element: int, count: int, *, constant: bool = False, text: int = 0) -> Tensor:
    """A tensor of a rank that is not known, with a bound of its elements."""
    return Tensor(element, None, count, exact=False, constant=constant, text=text)


def poisoned(element: int = 1) -> Tensor:
    """A tensor of which nothing is known; what made it so has been reported."""
    return Tensor(element, None, None, exact=False)


def unreached() -> Tensor:
    """A tensor that no run with the assumed sizes computes."""
    return Tensor(1, None, None, never=True)


def constant_of(array: Array, element: int) -> Tensor:
    """A tensor whose values are known."""
    return tensor(element, array.shape, values=exactly(array), constant=True)


def joined(first: Value, second: Value) -> Value:
    """What a value is that is one or the other.

    Raises:
        UnmodelledError: One is a sequence and the other is none.
    """
    for one, other in ((first, second), (second, first)):
        if isinstance(one, Tensor) and one.never:
            return other
    if isinstance(first, TensorSequence) or isinstance(second, TensorSequence):
        if not (isinstance(first, TensorSequence) and isinstance(second, TensorSequence)):
            raise UnmodelledError("a value that is a tensor or a sequence")
        item = first.item or second.item
        if first.item and second.item:
            either = joined(first.item, second.item)
            item = either if isinstance(either, Tensor) else None
        return TensorSequence(item, max(first.length, second.length), exact=False)
    if first.count is None or second.count is None:
        return poisoned(first.element)
    text, count = max(first.text, second.text), max(first.count, second.count)
    if first.dims is None or second.dims is None or len(first.dims) != len(second.dims):
        return replace(unsized(first.element, count), text=text)
    if first is second:
        return first
    dims = tuple(map(max, first.dims, second.dims))
    exact = first.exact and second.exact and first.dims == second.dims
    return tensor(first.element, dims, exact=exact, values=_either(first, second), text=text)


def _either(first: Tensor, second: Tensor) -> Values | None:
    one, other = first.bounds(), second.bounds()
    if one is None or other is None:
        return None
    if one.low.shape != other.low.shape:
        one, other = one.collapsed(), other.collapsed()
        if one is None or other is None:
            return None
    if one.known and other.known and np.array_equal(one.low, other.low):
        return one
    return Values(np.minimum(one.low, other.low), np.maximum(one.high, other.high), one.certain and other.certain)
