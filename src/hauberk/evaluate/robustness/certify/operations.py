"""What a node does to bounds: forwards to intervals, backwards to linear bounds.

Every operation is asked to `enclose` intervals of its inputs. The enclosure gives intervals of the outputs, and pulls
a linear function of the outputs back to one of the inputs that is nowhere above it, for every point that the intervals
admit and for every rounding of the deployed graph. Three kinds suffice: affine functions, which are pulled back
exactly; functions of one number (`curves`); and maxima of several elements.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from hauberk.evaluate.robustness.certify.curves import Curve, Interval, Line, Lines
from hauberk.evaluate.robustness.certify.rounding import SLACK, error_of

_CLOSE = 2.0**-12
"""Lines nearer each other than this share of the interval leave nothing to be gained."""


class Pulled(NamedTuple):
    """A linear function of an operation's inputs, for each of P rows.

    Attributes:
        coefficients: Of each input, float64 [P, *shape].
        constant: Float64 [P].
    """

    coefficients: tuple[Tensor, ...]
    constant: Tensor


class Enclosure(ABC):
    """What is known of an operation for some records.

    Attributes:
        outputs: Bounds of each output, float64 [N, *shape].
    """

    outputs: tuple[Interval, ...]

    @property
    @abstractmethod
    def loose(self) -> Tensor:
        """Bool [N, *shape of the first input], the elements whose bounds would do better if they were closer."""

    @abstractmethod
    def pull(self, coefficients: Sequence[Tensor], owner: Tensor) -> Pulled:
        """A linear function of the inputs that is nowhere above that of the outputs.

        Args:
            coefficients: Of each output, float64 [P, *shape].
            owner: Int64 [P], which record each row is about.
        """


class Operation(ABC):
    """A node, read for bounds."""

    @abstractmethod
    def enclose(self, *inputs: Interval) -> Enclosure:
        """What bounds of the inputs, float64 [N, *shape] each, say of the outputs."""


Function = Callable[..., tuple[Tensor, ...]]
"""Float64 tensors [N, *shape] of the inputs to those of the outputs."""

Adjoint = Callable[[Tensor], Tensor]


class Affine(Operation):
    """A function `W x + b` of all its inputs together.

    Args:
        function: The function.
        sizes: The same with the size of every constant in place of it, and every difference a sum: from sizes of the
            inputs to the sum of the sizes of all terms, `|W| x + |b|`.
        roundings: How many there are on the way to an element; 0 where elements are only moved.
        adjoint: The transpose of W, where it is known; automatic differentiation else.
    """

    def __init__(self, function: Function, sizes: Function, roundings: int, adjoint: Adjoint | None = None) -> None:
        self.function = function
        self.sizes = sizes
        self.roundings = roundings
        self.adjoint = adjoint

    def enclose(self, *inputs: Interval) -> Enclosure:
        """Centre and radius: `W m + b` and `|W| r`."""
        nothing = [torch.zeros_like(each.low[:1]) for each in inputs]
        middles = self.function(*((each.low + each.high) / 2 for each in inputs))
        reaches = self.sizes(*((each.high - each.low) / 2 for each in inputs))
        sizes = self.sizes(*(each.magnitude for each in inputs))
        bias, bias_size = self.function(*nothing), self.sizes(*nothing)
        errors = tuple(error_of(size, self.roundings) for size in sizes)
        radii = (
            reach - fixed + error + SLACK * size
            for reach, fixed, error, size in zip(reaches, bias_size, errors, sizes, strict=True)
        )
        outputs = tuple(
            Interval(middle - radius, middle + radius) for middle, radius in zip(middles, radii, strict=True)
        )
        return _AffineEnclosure(self, inputs, outputs, bias, errors)


class _AffineEnclosure(Enclosure):
    def __init__(
        self,
        operation: Affine,
        inputs: tuple[Interval, ...],
        outputs: tuple[Interval, ...],
        bias: tuple[Tensor, ...],
        errors: tuple[Tensor, ...],
    ) -> None:
        self.outputs = outputs
        self._operation = operation
        self._inputs = inputs
        self._bias = bias
        self._errors = errors

    @property
    def loose(self) -> Tensor:
        return torch.zeros_like(self._inputs[0].low, dtype=torch.bool)

    def pull(self, coefficients: Sequence[Tensor], owner: Tensor) -> Pulled:
        constant = coefficients[0].new_zeros(len(owner))
        for row, bias, error in zip(coefficients, self._bias, self._errors, strict=True):
            constant = constant + row.flatten(1) @ bias.flatten()
            if self._operation.roundings:
                constant = constant - (row.abs() * error[owner]).flatten(1).sum(1)
        return Pulled(self._transposed(coefficients, len(owner)), constant)

    def _transposed(self, coefficients: Sequence[Tensor], rows: int) -> tuple[Tensor, ...]:
        if self._operation.adjoint is not None:
            return (self._operation.adjoint(coefficients[0]),)
        with torch.enable_grad():
            shapes = (each.low.shape[1:] for each in self._inputs)
            points = [torch.zeros(rows, *shape, dtype=torch.float64, requires_grad=True) for shape in shapes]
            results = self._operation.function(*points)
        asked = [(result, row) for result, row in zip(results, coefficients, strict=True) if result.requires_grad]
        return torch.autograd.grad(
            [result for result, _ in asked],
            points,
            [row.expand_as(result) for result, row in asked],
            materialize_grads=True,
        )


class Elementwise(Operation):
    """A curve applied to every element.

    Args:
        curve: The curve.
        flat: Bound it by constants only. That loses nothing where its arguments are elements of the input itself, which
            move independently of each other and reach no other node.
    """

    def __init__(self, curve: Curve, *, flat: bool = False) -> None:
        self.curve = curve
        self.flat = flat

    def enclose(self, *inputs: Interval) -> Enclosure:
        """Its bounds and lines on these intervals."""
        (interval,) = inputs
        output = self.curve.enclose(interval)
        still = torch.zeros_like(output.low)
        flat = Lines(Line(still, output.low), Line(still, output.high))
        return _LineEnclosure(interval, output, flat if self.flat else self.curve.lines(interval))


class _LineEnclosure(Enclosure):
    def __init__(self, argument: Interval, output: Interval, lines: Lines) -> None:
        self.outputs = (output,)
        self.lines = lines
        self._argument = argument

    @property
    def loose(self) -> Tensor:
        middle = (self._argument.low + self._argument.high) / 2
        gap = self.lines.upper.at(middle) - self.lines.lower.at(middle)
        return gap > _CLOSE * (self._argument.high - self._argument.low)

    def pull(self, coefficients: Sequence[Tensor], owner: Tensor) -> Pulled:
        (row,) = coefficients
        lower, upper = self.lines
        up = row > 0
        offset = torch.where(up, lower.offset[owner], upper.offset[owner])
        slope = torch.where(up, lower.slope[owner], upper.slope[owner])
        return Pulled((row * slope,), (row * offset).flatten(1).sum(1))


class Maximum(Operation):
    """The largest of several elements: pools and reductions.

    The maximum is at least the element with the highest lower bound, and at most the highest upper bound; where one
    element lies above all others for certain, it is that element.

    Args:
        windows: Moves the elements of [N, *shape] to [N, *outputs, n], the n candidates of each output; places that
            do not exist are filled with the given number.
    """

    def __init__(self, windows: Callable[[Tensor, float], Tensor]) -> None:
        self._windows = windows

    def enclose(self, *inputs: Interval) -> Enclosure:
        """Bounds and the leading element of every window."""
        (interval,) = inputs
        return _MaximumEnclosure(self._windows, interval)


class _MaximumEnclosure(Enclosure):
    def __init__(self, windows: Callable[[Tensor, float], Tensor], interval: Interval) -> None:
        low, high = windows(interval.low, -torch.inf), windows(interval.high, -torch.inf)
        lowest, self._leader = low.max(dim=-1)
        highest = high.amax(dim=-1)
        others = high.scatter(-1, self._leader.unsqueeze(-1), -torch.inf).amax(dim=-1)
        self._certain = lowest >= others
        self._highest = highest
        self._rivals = ~self._certain.unsqueeze(-1) & (high > lowest.unsqueeze(-1))
        self._windows, self._shape = windows, interval.low.shape[1:]
        self.outputs = (Interval(lowest, highest),)

    @property
    def loose(self) -> Tensor:
        return self._moved_back(self._rivals.to(torch.float64)) > 0

    def pull(self, coefficients: Sequence[Tensor], owner: Tensor) -> Pulled:
        (row,) = coefficients
        follows = (row > 0) | self._certain[owner]
        kept = torch.zeros(*row.shape, self._rivals.shape[-1], dtype=torch.float64)
        kept.scatter_(-1, self._leader[owner].unsqueeze(-1), torch.where(follows, row, 0.0).unsqueeze(-1))
        moved = self._moved_back(kept)
        constant = torch.where(follows, 0.0, row * self._highest[owner]).flatten(1).sum(1)
        return Pulled((moved,), constant)

    def _moved_back(self, windows: Tensor) -> Tensor:
        """Numbers [P, *outputs, n] of candidates added up where these come from, [P, *shape]."""
        with torch.enable_grad():
            points = torch.zeros(len(windows), *self._shape, dtype=torch.float64, requires_grad=True)
            side_by_side = self._windows(points, 0.0)
        (moved,) = torch.autograd.grad(side_by_side, points, windows)
        return moved
