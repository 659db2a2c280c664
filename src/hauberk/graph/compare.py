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
        difference: Their distance; 0 where one of them is not finite.
    """

    family: str
    record: int
    output: str
    before: float
    after: float
    difference: float

    def __str__(self) -> str:
        text = f"output {self.output!r} went from {self.before:.9g} to {self.after:.9g} on {self.where}"
        if not np.isfinite([self.before, self.after]).all():
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

    def add(self, family: str, first: int, names: tuple[str, ...], before: Outputs, after: Outputs) -> None:
        """Compare the outputs of both models for the records `first`, `first + 1`, … of a family.

        Args:
            family: Name of the family.
            first: Index of the first record.
            names: Names of the outputs, in order.
            before: One array an output, each with one row a record, of the first model.
            after: The same of the second; shapes and dtypes are equal.
        """
        self.compared += len(before[0])
        for name, old, new in zip(names, before, after, strict=True):
            if old.size:
                self._add_output(family, first, name, old.reshape(len(old), -1), new.reshape(len(new), -1))

    def _add_output(
        self, family: str, first: int, name: str, old: NDArray[np.generic], new: NDArray[np.generic]
    ) -> None:
        difference = distance(old, new)

        def finding(flat: int) -> Finding:
            row, column = np.unravel_index(flat, old.shape)
            values = float(old[row, column]), float(new[row, column])
            return Finding(family, first + int(row), name, *values, float(difference[row, column]))

        largest = int(difference.argmax())
        if self.worst is None or difference.flat[largest] > self.worst.difference:
            self.worst = finding(largest)
        broken = breaches(old, new, self.contract)
        if broken.any():
            finite = np.isfinite(old.astype(np.float64)) == np.isfinite(new.astype(np.float64))
            excess = np.where(broken, np.where(finite, difference, np.inf), -1.0)
            flat = int(excess.argmax())
            if excess.flat[flat] > self._fault_excess:
                self.fault, self._fault_excess = finding(flat), float(excess.flat[flat])


def distance(before: NDArray[np.generic], after: NDArray[np.generic]) -> NDArray[np.float64]:
    """Absolute difference, elementwise, in double precision; 0 where either is not finite."""
    with np.errstate(invalid="ignore"):
        difference = np.abs(after.astype(np.float64) - before.astype(np.float64))
    result: NDArray[np.float64] = np.where(np.isfinite(difference), difference, 0.0)
    return result


def breaches(before: NDArray[np.generic], after: NDArray[np.generic], contract: Contract) -> NDArray[np.bool_]:
    """Which elements break the contract.

    `Exact` compares bits, so that -0 is not 0; any NaN equals any other, because IEEE 754 leaves their bits open.
    `Close` compares finite numbers by tolerance and asks infinities and NaN to stay what they are. `Lossy` and the
    others alike: what was finite stays finite.
    """
    old, new = before.astype(np.float64), after.astype(np.float64)
    both_nan = np.isnan(old) & np.isnan(new)
    if isinstance(contract, Exact):
        different: NDArray[np.bool_] = (_bits(before) != _bits(after)) & ~both_nan
        return different
    lost: NDArray[np.bool_] = np.isfinite(old) & ~np.isfinite(new)
    if not isinstance(contract, Close):
        return lost
    finite = np.isfinite(old) & np.isfinite(new)
    far = finite & (distance(before, after) > contract.atol + contract.rtol * np.abs(np.where(finite, old, 0.0)))
    changed = ~finite & ~both_nan & (old != new)
    far_or_changed: NDArray[np.bool_] = lost | far | changed
    return far_or_changed


def _bits(array: NDArray[np.generic]) -> NDArray[np.generic]:
    """The same memory as unsigned integers."""
    return np.ascontiguousarray(array).view(f"u{array.dtype.itemsize}")
