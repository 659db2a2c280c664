"""Bounds of every tensor of a program over the regions of some records, and of linear functions of its logits.

Interval bound propagation (Gowal et al. 2018, arXiv:1810.12715) goes through the graph once, forwards. Linear bounds
(CROWN, Zhang et al. 2018, arXiv:1811.00866) start from a function of a tensor and replace it, node by node on the way
back to the input, by one that is nowhere above it; at the input, the minimum of a linear function is known. How close
they are depends on the intervals of what is not affine; those are themselves bounded in this way, for the elements
whose lines differ, and only there: a ReLU that is on or off for certain needs no better bounds.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from hauberk.evaluate.robustness.certify.curves import Interval
from hauberk.evaluate.robustness.certify.figures import Method
from hauberk.evaluate.robustness.certify.operations import Affine, Enclosure, Operation
from hauberk.evaluate.robustness.certify.program import Program
from hauberk.evaluate.robustness.certify.region import Region
from hauberk.evaluate.robustness.certify.rounding import SLACK

_NUMBERS_AT_ONCE = 2**22
"""Coefficients held together (32 MiB): rows are pulled back in parts, so that they stay in the processor's caches."""


class _Rows(NamedTuple):
    """Linear functions of one tensor.

    Attributes:
        coefficients: Float64 [P, *shape].
        owner: Int64 [P], which record each is about.
    """

    coefficients: Tensor
    owner: Tensor


class Bounds:
    """What is known of every tensor for some records.

    Args:
        program: The graph.
        region: Where the records may go.
        method: "ibp" for intervals alone, "crown" for linear bounds of what is not affine.
    """

    def __init__(self, program: Program, region: Region, method: Method) -> None:
        self._program = program
        self._region = region
        self._method = method
        box = (end.reshape(len(end), *program.shape) for end in region.box)
        self._known: dict[str, Interval] = {program.input: Interval(*box)}
        self._enclosures: list[Enclosure] = []
        with torch.no_grad():
            for call in program.calls:
                if method == "crown" and not isinstance(call.operation, Affine):
                    self._sharpen(call.operation, call.inputs[0])
                enclosure = call.operation.enclose(*(self._known[name] for name in call.inputs))
                self._enclosures.append(enclosure)
                self._known |= dict(zip(call.outputs, enclosure.outputs, strict=False))

    def interval(self, name: str) -> Interval:
        """Bounds of a tensor, float64 [N, *shape] each."""
        return self._known[name]

    def least(self, coefficients: Tensor, owner: Tensor) -> Tensor:
        """Lower bounds of linear functions of the logits.

        Args:
            coefficients: Float64 [P, K].
            owner: Int64 [P], which record each is about.

        Returns:
            Float64 [P].
        """
        rows = _Rows(coefficients, owner)
        with torch.no_grad():
            found = self._pulled(self._program.output, rows, to_input=False)
            if self._method == "crown":
                found = torch.maximum(found, self._pulled(self._program.output, rows, to_input=True))
        return found

    def _sharpen(self, operation: Operation, name: str) -> None:
        """Better bounds of a tensor that is about to be bent, for the elements for which it matters."""
        if not self._program.curved[name] and self._region.radius is None:
            return  # an affine function of a box: its intervals are exact already
        known = self._known[name]
        record, element = torch.nonzero(operation.enclose(known).loose.flatten(1), as_tuple=True)
        low, high = known.low.flatten(1).clone(), known.high.flatten(1).clone()
        for part in torch.split(torch.arange(len(record)), self._rows_at_once()):
            at = (record[part], element[part])
            rows = torch.zeros(len(part), low.shape[1], dtype=torch.float64)
            rows[torch.arange(len(part)), at[1]] = 1.0
            rows = rows.reshape(-1, *known.low.shape[1:])
            low[at] = torch.maximum(low[at], self._pulled(name, _Rows(rows, at[0]), to_input=True))
            high[at] = torch.minimum(high[at], -self._pulled(name, _Rows(-rows, at[0]), to_input=True))
        self._known[name] = Interval(low.reshape(known.low.shape), high.reshape(known.high.shape))

    def _rows_at_once(self) -> int:
        widest = max(interval.low[0].numel() for interval in self._known.values())
        return max(1, _NUMBERS_AT_ONCE // widest)

    def _pulled(self, name: str, rows: _Rows, *, to_input: bool) -> Tensor:
        """Lower bounds [P] of functions of a tensor: pulled back to the input, or through what is affine only."""
        pending = {name: rows.coefficients}
        total = torch.zeros(len(rows.owner), dtype=torch.float64)
        enclosed = list(zip(self._program.calls, self._enclosures, strict=False))
        for call, enclosure in reversed(enclosed):
            if pending.keys().isdisjoint(call.outputs):
                continue
            if not to_input and not isinstance(call.operation, Affine):
                continue  # its output stays in `pending`, and its interval decides below
            coefficients = [self._taken(pending, output, len(rows.owner)) for output in call.outputs]
            pulled = enclosure.pull(coefficients, rows.owner)
            total = total + pulled.constant
            for source, coefficient in zip(call.inputs, pulled.coefficients, strict=True):
                pending[source] = pending[source] + coefficient if source in pending else coefficient
        for source, coefficient in pending.items():
            if source == self._program.input:
                total = total + self._region.minimum(coefficient.flatten(1), rows.owner)
            else:
                total = total + _least_over(self._known[source], coefficient, rows.owner)
        return total

    def _taken(self, pending: dict[str, Tensor], name: str, rows: int) -> Tensor:
        """The coefficients of an output, zero where nothing depends on it."""
        if name in pending:
            return pending.pop(name)
        return torch.zeros(rows, *self._known[name].low.shape[1:], dtype=torch.float64)


def _least_over(interval: Interval, coefficients: Tensor, owner: Tensor) -> Tensor:
    """The minimum [P] of linear functions over the intervals of a tensor."""
    low, high = interval.low[owner], interval.high[owner]
    least = coefficients * torch.where(coefficients > 0, low, high)
    return least.flatten(1).sum(1) - SLACK * least.abs().flatten(1).sum(1)
