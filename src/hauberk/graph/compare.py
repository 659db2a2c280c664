"""Comparing the outputs of two models, array by array, against a contract."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hauberk.recipe import Close, Contract, Exact

Outputs = list[NDArray[np.generic]]


@dataclass(frozen=True)
class Finding:
    """One output element that stands out.

    Attributes:
        family: Family of the record ("real", "boundary", …).
        record: The record's index there.
        output: Name of the output.
        before: The value that the first model gave.
        after: The value that the second one gave.
        difference: Their distance; 0 where one of them is not finite, or is no number.
    """

    family: str
    record: int
    output: str
    before: float | str
    after: float | str
    difference: float

    def __str__(self) -> str:
        text = f"output {self.output!r} went from {_show(self.before)} to {_show(self.after)} on {self.where}"
        numbers = [value for value in (self.before, self.after) if not isinstance(value, str)]
        if len(numbers) < 2 or not np.isfinite(numbers).all():
            return text
        return f"{text}, a difference of {self.difference:.3g}"

    @property
    def where(self) -> str:
        """Family and index of the record, as in `boundary[12]`."""
        return f"{self.family}[{self.record}]"


class Tally:
    """Collects comparisons; knows the worst difference and the worst breach of the contract so far.

    Args:
        contract: What to judge by. Under `Lossy` only a loss of finiteness is a breach of a single element.
    """

    def __init__(self, contract: Contract) -> None:
        self.contract = contract
        self.compared = 0
        self.worst: Finding | None = None
        self.fault: Finding | None = None
        self._fault_excess = -1.0

    def add(
        self,
        family: str,
        first: int,
        names: tuple[str, ...],
        before: Outputs,
        after: Outputs,
        allowance: list[NDArray[np.float64]] | None = None,
    ) -> None:
        """Compare the outputs of both models for the records `first`, `first + 1`, … of a family.

        Args:
            family: Name of the family.
            first: Index of the first record.
            names: Names of the outputs, in order.
            before: One array an output, of the first model. Rows are records; what has no rows counts as one.
            after: The same of the second; shapes and dtypes are equal.
            allowance: By how much more than the contract says each element may differ, one array an output.
        """
        self.compared += len(before[0]) if before and before[0].ndim else 1
        for index, (name, old, new) in enumerate(zip(names, before, after, strict=True)):
            if old.size:
                rows = old.shape[0] if old.ndim else 1
                more = None if allowance is None else allowance[index].reshape(rows, -1)
                self._add_output(family, first, name, old.reshape(rows, -1), new.reshape(rows, -1), more)

    def _add_output(
        self,
        family: str,
        first: int,
        name: str,
        old: NDArray[np.generic],
        new: NDArray[np.generic],
        allowance: NDArray[np.float64] | None,
    ) -> None:
        difference = distance(old, new)

        def finding(flat: int) -> Finding:
            row, column = np.unravel_index(flat, old.shape)
            values = _value(old[row, column]), _value(new[row, column])
            return Finding(family, first + int(row), name, *values, float(difference[row, column]))

        largest = int(difference.argmax())
        if self.worst is None or difference.flat[largest] > self.worst.difference:
            self.worst = finding(largest)
        broken = breaches(old, new, self.contract, allowance)
        if broken.any():
            excess = np.where(broken, np.where(_finite(old) == _finite(new), difference, np.inf), -1.0)
            flat = int(excess.argmax())
            if excess.flat[flat] > self._fault_excess:
                self.fault, self._fault_excess = finding(flat), float(excess.flat[flat])


def is_number(array: NDArray[np.generic]) -> bool:
    """Whether an array holds real numbers in floating point, those of 16 bits and fewer included.

    Everything else (integers, booleans, strings) has no rounding to be lenient with.
    """
    kind = array.dtype.kind
    return kind == "f" or (kind == "V" and array.dtype.name.startswith(("bfloat", "float")))


def distance(before: NDArray[np.generic], after: NDArray[np.generic]) -> NDArray[np.float64]:
    """Absolute difference, elementwise, in double precision; 0 where either is not finite or is a string."""
    if before.dtype.kind in "OUS":
        return np.zeros(before.shape)
    with np.errstate(invalid="ignore"):
        difference = np.abs(after.astype(np.float64) - before.astype(np.float64))
    result: NDArray[np.float64] = np.where(np.isfinite(difference), difference, 0.0)
    return result


def breaches(
    before: NDArray[np.generic],
    after: NDArray[np.generic],
    contract: Contract,
    allowance: NDArray[np.float64] | None = None,
) -> NDArray[np.bool_]:
    """Which elements break the contract.

    `Exact` compares bits, so that -0 is not 0; any NaN equals any other, because IEEE 754 leaves their bits open.
    `Close` compares finite numbers by tolerance and asks infinities and NaN to stay what they are; what is no floating
    point number (an index, a label) has to be equal. `Lossy` and the others alike: what was finite stays finite.

    Args:
        before: Of the first model.
        after: Of the second one, of the same shape and dtype.
        contract: What to judge by.
        allowance: By how much more than `Close` says an element may differ.
    """
    if not is_number(before):
        judged = isinstance(contract, Exact | Close)
        different: NDArray[np.bool_] = np.asarray(before != after, dtype=np.bool_)
        if allowance is not None:
            different &= ~np.isinf(allowance)
        return different if judged else np.zeros_like(different)
    old, new = before.astype(np.float64), after.astype(np.float64)
    both_nan = np.isnan(old) & np.isnan(new)
    if isinstance(contract, Exact):
        unlike: NDArray[np.bool_] = (_bits(before) != _bits(after)) & ~both_nan
        return unlike
    lost: NDArray[np.bool_] = np.isfinite(old) & ~np.isfinite(new)
    if not isinstance(contract, Close):
        return lost
    finite = np.isfinite(old) & np.isfinite(new)
    allowed = contract.atol + contract.rtol * np.abs(np.where(finite, old, 0.0))
    far = finite & (distance(before, after) > (allowed if allowance is None else allowed + allowance))
    changed = ~finite & ~both_nan & (old != new)
    far_or_changed: NDArray[np.bool_] = lost | far | changed
    return far_or_changed


def _bits(array: NDArray[np.generic]) -> NDArray[np.generic]:
    """The same memory as unsigned integers."""
    return np.ascontiguousarray(array).view(f"u{array.dtype.itemsize}")


def _finite(array: NDArray[np.generic]) -> NDArray[np.bool_]:
    finite: NDArray[np.bool_] = np.isfinite(array.astype(np.float64)) if is_number(array) else np.ones(array.shape, "?")
    return finite


def _value(element: np.generic) -> float | str:
    return str(element) if isinstance(element, str | bytes) else float(element)


def _show(value: float | str) -> str:
    return repr(value) if isinstance(value, str) else f"{value:.9g}"
