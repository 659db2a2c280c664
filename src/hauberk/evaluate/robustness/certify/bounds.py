"""Bounds of every tensor of a program over the regions of some records, and of linear functions of its logits.

Interval bound propagation (Gowal et al. 2018, arXiv:1810.12715) goes through the graph once, forwards. Linear bounds
(CROWN, Zhang et al. 2018, arXiv:1811.00866) start from a function of a tensor and replace it, node by node on the way
back to the input, by one that is nowhere above it; at the input, the minimum of a linear function is known. How close
they are depends on the intervals of what is not affine; those are themselves bounded in this way, for the elements
whose lines differ, and only there: a ReLU that is on or off for certain needs no better bounds.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from hauberk.evaluate.robustness.certify.curves import Interval
from hauberk.evaluate.robustness.certify.figures import Method
from hauberk.evaluate.robustness.certify.operations import (
    Affine,
    AffineEnclosure,
    Enclosure,
    LineEnclosure,
    Operation,
    dot,
)
from hauberk.evaluate.robustness.certify.program import Program
from hauberk.evaluate.robustness.certify.region import Region
from hauberk.evaluate.robustness.certify.rounding import SLACK

_NUMBERS_AT_ONCE = 2**19
"""Coefficients held together (4 MiB): functions are pulled back in parts that stay in a processor's caches."""


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
        self._everyone = torch.arange(len(region.records))
        box = (end.reshape(len(end), *program.shape) for end in region.box)
        self._known: dict[str, Interval] = {program.input: Interval(*box)}
        self._enclosures: list[Enclosure] = []
        self._source: dict[str, Enclosure] = {}
        with torch.no_grad():
            for call in program.calls:
                operation = call.operation if region.is_box else call.operation.for_any_region()
                if method == "crown" and not isinstance(operation, Affine):
                    self._sharpen(operation, call.inputs[0])
                enclosure = operation.enclose(*(self._known[name] for name in call.inputs))
                if isinstance(enclosure, LineEnclosure) and call.inputs[0] in program.private:
                    self._take_over(enclosure, self._source.get(call.inputs[0]))
                self._enclosures.append(enclosure)
                self._known |= dict(zip(call.outputs, enclosure.outputs, strict=False))
                self._source |= dict.fromkeys(call.outputs, enclosure)

    def interval(self, name: str) -> Interval:
        """Bounds of a tensor, float64 [N, *shape] each."""
        return self._known[name]

    def least(self, coefficients: Tensor) -> Tensor:
        """Lower bounds, float64 [N, S], of S linear functions [N, S, K] of the logits of each record."""
        logits = {self._program.output: coefficients}
        nothing = torch.zeros(coefficients.shape[:2], dtype=torch.float64)
        with torch.no_grad():
            found = self._pulled(logits, nothing, self._everyone, to_input=False)
            if self._method == "crown":
                found = torch.maximum(found, self._pulled(logits, nothing, self._everyone, to_input=True))
        return found

    @staticmethod
    def _take_over(enclosure: LineEnclosure, source: Enclosure | None) -> None:
        """Account for an affine node's rounding in the lines around its only reader, once for all functions."""
        error = source.hand_over() if isinstance(source, AffineEnclosure) else None
        if error is not None:
            enclosure.widen(error)

    def _sharpen(self, operation: Operation, name: str) -> None:
        """Better bounds of a tensor that is about to be bent, for the elements for which it matters."""
        if not self._program.curved[name] and self._region.is_box:
            return  # an affine function of a box: its intervals are exact already
        known = self._known[name]
        low, high = known.low.flatten(1).clone(), known.high.flatten(1).clone()
        wanted = operation.enclose(known).loose.flatten(1)
        for records, elements in self._parts(wanted):
            at = (records.unsqueeze(1), elements)
            below, above = self._about(name, elements, records)
            low[at] = torch.where(wanted[at], torch.maximum(low[at], below), low[at])
            high[at] = torch.where(wanted[at], torch.minimum(high[at], -above), high[at])
        self._known[name] = Interval(low.reshape(known.low.shape), high.reshape(known.high.shape))

    def _about(self, name: str, elements: Tensor, records: Tensor) -> tuple[Tensor, Tensor]:
        """Lower bounds [n, S] of elements of a tensor, int64 [n, S], and of their opposites."""
        source = self._source[name]
        if isinstance(source, AffineEnclosure) and (found := source.elements(elements, records)):
            (read,) = (call.inputs for call in self._program.calls if name in call.outputs)
            below, above = (
                self._pulled({read[0]: pulled.coefficients[0]}, pulled.constant, records, to_input=True)
                for pulled in found
            )
            return below, above
        shape = self._known[name].low.shape[1:]
        unit = torch.zeros(*elements.shape, shape.numel(), dtype=torch.float64)
        unit = unit.scatter_(2, elements.unsqueeze(2), 1.0).reshape(*elements.shape, *shape)
        nothing = torch.zeros(elements.shape, dtype=torch.float64)
        return (
            self._pulled({name: unit}, nothing, records, to_input=True),
            self._pulled({name: -unit}, nothing, records, to_input=True),
        )

    def _parts(self, wanted: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """Elements that are wanted, bool [N, n], as records int64 [r] with as many elements int64 [r, S] of each.

        Records with about as many wanted elements go together; those with fewer are filled up with others of their
        elements.
        """
        counts = wanted.sum(1)
        order = counts.argsort(descending=True)
        widest = max(interval.low[0].numel() for interval in self._known.values())
        start = 0
        while start < len(order) and (most := int(counts[order[start]])):
            records = order[start : start + max(1, _NUMBERS_AT_ONCE // (most * widest))]
            records = records[counts[records] > 0]
            elements = wanted[records].to(torch.uint8).topk(most, dim=1).indices
            size = max(1, _NUMBERS_AT_ONCE // (len(records) * widest))
            for first in range(0, most, size):
                yield records, elements[:, first : first + size]
            start += len(records)

    def _pulled(self, pending: dict[str, Tensor], total: Tensor, records: Tensor, *, to_input: bool) -> Tensor:
        """Lower bounds [n, S] of functions of tensors, pulled back to the input or only through what is affine.

        Args:
            pending: Coefficients, float64 [n, S, *shape], of each tensor of the functions.
            total: Their constants, float64 [n, S].
            records: Int64 [n], which records they are about.
            to_input: Whether to go on where something is not affine.
        """
        waiting = dict(pending)
        for call, enclosure in reversed(list(zip(self._program.calls, self._enclosures, strict=False))):
            if waiting.keys().isdisjoint(call.outputs) or not (to_input or isinstance(call.operation, Affine)):
                continue  # what stays waiting is decided by its interval below
            pulled = enclosure.pull([self._taken(waiting, name, total) for name in call.outputs], records)
            total = total + pulled.constant
            for source, rows in zip(call.inputs, pulled.coefficients, strict=True):
                waiting[source] = waiting[source] + rows if source in waiting else rows
        for source, rows in waiting.items():
            if source == self._program.input:
                total = total + self._region.minimum(rows.flatten(2), records)
            else:
                total = total + _least_over(self._known[source], rows, records)
        return total

    def _taken(self, waiting: dict[str, Tensor], name: str, like: Tensor) -> Tensor:
        """The coefficients of an output, which wait no longer; zeros where nothing depends on it."""
        if name in waiting:
            return waiting.pop(name)
        return torch.zeros(*like.shape, *self._known[name].low.shape[1:], dtype=torch.float64)


def _least_over(interval: Interval, rows: Tensor, records: Tensor) -> Tensor:
    """The minimum [n, S] of linear functions over the intervals of a tensor."""
    slack = SLACK * interval.magnitude[records]
    positive = rows.clamp(min=0.0)
    return dot(positive, interval.low[records] - slack) + dot(rows - positive, interval.high[records] + slack)
