"""What a node does to bounds: forwards to intervals, backwards to linear bounds.

Every operation is asked to `enclose` intervals of its inputs. The enclosure gives intervals of the outputs, and pulls
linear functions of the outputs back to functions of the inputs that are nowhere above them, for every point that the
intervals admit and for every rounding of the deployed graph. Three kinds suffice: affine functions, which are pulled
back exactly; functions of one number (`curves`); and maxima of several elements.
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
"""Lines nearer each other than this share of the function's range leave nothing to be gained."""

_LARGEST_MATRIX = 2**22
"""Most numbers (32 MiB) of a matrix that is written out to look up its rows."""


class Pulled(NamedTuple):
    """Linear functions of an operation's inputs: S of them for each of n records.

    Attributes:
        coefficients: Of each input, float64 [n, S, *shape].
        constant: Float64 [n, S].
    """

    coefficients: tuple[Tensor, ...]
    constant: Tensor


class Enclosure(ABC):
    """What is known of an operation for N records.

    Attributes:
        outputs: Bounds of each output, float64 [N, *shape].
    """

    outputs: tuple[Interval, ...]

    @property
    @abstractmethod
    def loose(self) -> Tensor:
        """Bool [N, *shape of the input], the elements whose bounds would do better if they were closer."""

    @abstractmethod
    def pull(self, coefficients: Sequence[Tensor], records: Tensor) -> Pulled:
        """Linear functions of the inputs that are nowhere above those of the outputs.

        Args:
            coefficients: Of each output, float64 [n, S, *shape].
            records: Int64 [n], which of the N records they are about.
        """


class Operation(ABC):
    """A node, read for bounds."""

    def for_any_region(self) -> Operation:
        """The same where inputs do not move independently of each other: in a ball, or in one-hot groups."""
        return self

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
        adjoint: The transpose of W, from [.., *output] to [.., *input], where it is known; else it is had by automatic
            differentiation.
    """

    def __init__(self, function: Function, sizes: Function, roundings: int, adjoint: Adjoint | None = None) -> None:
        self.function = function
        self.sizes = sizes
        self.roundings = roundings
        self.adjoint = adjoint
        self._matrix: Tensor | None = None

    def matrix(self, source: torch.Size, target: torch.Size) -> Tensor | None:
        """W itself, float64 [outputs, *source], for one input and one output; `None` where it is too large."""
        if source.numel() * target.numel() > _LARGEST_MATRIX:
            return None
        if self._matrix is None:
            unit = torch.eye(target.numel(), dtype=torch.float64).reshape(-1, *target)
            (self._matrix,) = self.transposed((unit,), (source,))
        return self._matrix

    def transposed(self, rows: Sequence[Tensor], shapes: Sequence[torch.Size]) -> tuple[Tensor, ...]:
        """The transpose of W applied to rows [P, *output] of each output: [P, *shape] of each input."""
        if self.adjoint is not None:
            return (self.adjoint(rows[0]),)
        with torch.enable_grad():
            points = [torch.zeros(len(rows[0]), *shape, dtype=torch.float64, requires_grad=True) for shape in shapes]
            results = self.function(*points)
        asked = [(result, row) for result, row in zip(results, rows, strict=True) if result.requires_grad]
        return torch.autograd.grad(
            [result for result, _ in asked],
            points,
            [row.expand_as(result) for result, row in asked],
            materialize_grads=True,
        )

    def enclose(self, *inputs: Interval) -> AffineEnclosure:
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
        return AffineEnclosure(self, inputs, outputs, bias, errors if self.roundings else ())


class AffineEnclosure(Enclosure):
    """An affine function on some intervals.

    Args:
        operation: The function.
        inputs: Bounds of its inputs.
        outputs: Bounds of its outputs.
        bias: Its value at 0, float64 [1, *shape] each.
        errors: What the deployed graph's rounding can move each output by, float64 [N, *shape]; none where it cannot.
    """

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
        self._shapes = tuple(each.low.shape[1:] for each in inputs)
        self._bias = bias
        self._errors = errors

    @property
    def loose(self) -> Tensor:
        """Nothing: no lines have to lie around it."""
        return torch.zeros(len(self.outputs[0].low), *self._shapes[0], dtype=torch.bool)

    def hand_over(self) -> Tensor | None:
        """What rounding can move its only output by, from now on the caller's to account for."""
        (error,) = self._errors or (None,)
        self._errors = ()
        return error

    def pull(self, coefficients: Sequence[Tensor], records: Tensor) -> Pulled:
        """Exactly, less what rounding can do."""
        constant = torch.zeros(coefficients[0].shape[:2], dtype=torch.float64)
        for rows, bias in zip(coefficients, self._bias, strict=True):
            constant = constant + rows.flatten(2) @ bias.flatten()
        for rows, error in zip(coefficients, self._errors, strict=False):
            constant = constant - dot(rows.abs(), error[records])
        sizes = coefficients[0].shape[:2]
        found = self._operation.transposed([rows.flatten(0, 1) for rows in coefficients], self._shapes)
        return Pulled(tuple(rows.reshape(*sizes, *rows.shape[1:]) for rows in found), constant)

    def elements(self, elements: Tensor, records: Tensor) -> tuple[Pulled, Pulled] | None:
        """Elements of the output, int64 [n, S], and what is opposite to them, as functions of the input.

        Rows of W are looked up instead of multiplied out; `None` where W is too large to be kept, or of more than one
        input.
        """
        if len(self._shapes) > 1 or len(self.outputs) > 1:
            return None
        matrix = self._operation.matrix(self._shapes[0], self.outputs[0].low.shape[1:])
        if matrix is None:
            return None
        rows, constant = matrix[elements], self._bias[0].flatten()[elements]
        error = torch.zeros_like(constant)
        for each in self._errors:
            error = each.flatten(1)[records].gather(1, elements)
        return Pulled((rows,), constant - error), Pulled((-rows,), -constant - error)


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

    def for_any_region(self) -> Operation:
        """Bounded by lines: constants would forget what the input's elements have to do with each other."""
        return Elementwise(self.curve)

    def enclose(self, *inputs: Interval) -> LineEnclosure:
        """Its bounds and lines on these intervals."""
        (interval,) = inputs
        output = self.curve.enclose(interval)
        if not self.flat:
            return LineEnclosure(interval, output, self.curve.lines(interval), self.curve.grain)
        still = torch.zeros_like(output.low)
        flat = Lines(Line(still, output.low), Line(still, output.high))
        return LineEnclosure(interval, output, flat, self.curve.grain)


class LineEnclosure(Enclosure):
    """A curve between two lines.

    Args:
        argument: Bounds of its argument.
        output: Bounds of its value.
        lines: The lines.
        grain: How far apart they would lie with the closest bounds.
    """

    def __init__(self, argument: Interval, output: Interval, lines: Lines, grain: float) -> None:
        self.outputs = (output,)
        self.lines = lines
        self._grain = grain
        self._argument = argument

    @property
    def loose(self) -> Tensor:
        """Where the lines lie farther apart than they have to."""
        middle = (self._argument.low + self._argument.high) / 2
        gap = self.lines.upper.at(middle) - self.lines.lower.at(middle)
        rise = self.outputs[0].high - self.outputs[0].low
        return gap > _CLOSE * rise + 1.01 * self._grain

    def widen(self, error: Tensor) -> None:
        """Let the argument be off by so much more than is said of it elsewhere, float64 [N, *shape]."""
        lower, upper = self.lines
        self.lines = Lines(
            Line(lower.slope, lower.offset - lower.slope.abs() * error),
            Line(upper.slope, upper.offset + upper.slope.abs() * error),
        )

    def pull(self, coefficients: Sequence[Tensor], records: Tensor) -> Pulled:
        """Through the lower line where a coefficient is positive, and the upper one where it is negative."""
        (rows,) = coefficients
        lower, upper = (Line(*(each[records].unsqueeze(1) for each in line)) for line in self.lines)
        positive = rows.clamp(min=0.0)
        negative = rows - positive
        constant = dot(positive, lower.offset[:, 0]) + dot(negative, upper.offset[:, 0])
        return Pulled((positive.mul_(lower.slope).addcmul_(negative, upper.slope),), constant)


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

    def pull(self, coefficients: Sequence[Tensor], records: Tensor) -> Pulled:
        (rows,) = coefficients
        follows = (rows > 0) | self._certain[records].unsqueeze(1)
        moved = rows.new_zeros(*rows.shape, self._rivals.shape[-1])
        leader = self._leader[records].unsqueeze(1).expand_as(rows).unsqueeze(-1)
        moved.scatter_(-1, leader, torch.where(follows, rows, 0.0).unsqueeze(-1))
        constant = dot(torch.where(follows, 0.0, rows), self._highest[records])
        return Pulled((self._moved_back(moved.flatten(0, 1)).reshape(*rows.shape[:2], *self._shape),), constant)

    def _moved_back(self, windows: Tensor) -> Tensor:
        """Numbers [P, *outputs, n] of candidates, added up where these come from, [P, *shape]."""
        with torch.enable_grad():
            points = torch.zeros(len(windows), *self._shape, dtype=torch.float64, requires_grad=True)
            side_by_side = self._windows(points, 0.0)
        (moved,) = torch.autograd.grad(side_by_side, points, windows)
        return moved


def dot(rows: Tensor, values: Tensor) -> Tensor:
    """Inner products [n, S] of rows [n, S, *shape] with one tensor [n, *shape] for each record."""
    return torch.bmm(rows.flatten(2), values.flatten(1).unsqueeze(2))[..., 0]
