"""The activation functions that can be certified, as curves, and the quantizer, which is a staircase along one."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from hauberk.errors import InputError
from hauberk.evaluate.robustness.certify.curves import Curve, Interval, Line, Lines, choose
from hauberk.evaluate.robustness.certify.rounding import FUNCTION_ERROR, SLACK, SMALLEST, error_of, gamma
from hauberk.graph.twin.node import Node
from hauberk.graph.twin.quantization import RANGES, along

_PROBES = 9
"""Points of an interval at which the slope of a smooth function is a candidate."""


class Bent(Curve):
    """A function made of straight pieces, such as ReLU: it turns at its kinks.

    Args:
        function: Its exact value.
        pieces: Slopes of the pieces; numbers, or tensors that broadcast over the data.
        kinks: Where one piece ends and the next begins.
        roundings: How many a runtime needs for a value; 0 where it only chooses one of its operands.
        within: Size of the numbers, besides the value itself, that these roundings are of.
    """

    def __init__(
        self,
        function: Callable[[Tensor], Tensor],
        pieces: Sequence[float | Tensor],
        kinks: Sequence[float | Tensor],
        roundings: int = 0,
        within: float = 0.0,
    ) -> None:
        self._function = function
        found = [torch.as_tensor(piece, dtype=torch.float64) for piece in pieces]
        shape = np.broadcast_shapes(*(tuple(piece.shape) for piece in found))
        self._pieces = [piece.expand(shape) for piece in found]
        self._kinks = tuple(kinks)
        self._roundings = roundings
        self._within = within
        self.slopes = (torch.stack(self._pieces).amin(0), torch.stack(self._pieces).amax(0))

    def __call__(self, x: Tensor) -> Tensor:
        """Its exact value."""
        return self._function(x)

    def turns(self, slope: Tensor) -> Sequence[Tensor | float]:
        """Its kinks."""
        del slope
        return self._kinks

    def candidates(self, interval: Interval) -> Sequence[Tensor]:
        """The slopes of its pieces."""
        return [piece.expand_as(interval.low) for piece in self._pieces]

    def error(self, interval: Interval) -> Tensor:
        """By the size of its value at the ends; between them it is no larger, but for what is said to be `within`."""
        if self._roundings == 0:
            return super().error(interval)
        sizes = torch.maximum(self(interval.low).abs(), self(interval.high).abs()) + self._within
        return error_of(sizes, self._roundings)


class Smooth(Curve):
    """A function with a slope everywhere whose points of a given slope are known in closed form.

    Args:
        function: Its exact value.
        derivative: Its slope.
        touching: The points at which it has a given slope; NaN where there is none.
        slopes: The least and the greatest slope that it has.
        error: Largest difference of a runtime's value from the exact one: absolute, and relative to the argument.
        kinks: Points at which the slope jumps.
    """

    def __init__(
        self,
        function: Callable[[Tensor], Tensor],
        derivative: Callable[[Tensor], Tensor],
        touching: Callable[[Tensor], Sequence[Tensor]],
        *,
        slopes: tuple[float, float],
        error: tuple[float, float],
        kinks: Sequence[float] = (),
    ) -> None:
        self._function, self._derivative, self._touching = function, derivative, touching
        self.slopes = slopes
        self._absolute, self._relative = error
        self._kinks = tuple(kinks)

    def __call__(self, x: Tensor) -> Tensor:
        """Its exact value."""
        return self._function(x)

    def turns(self, slope: Tensor) -> Sequence[Tensor | float]:
        """Where it has that slope, and its kinks."""
        return [*self._touching(slope), *self._kinks]

    def candidates(self, interval: Interval) -> Sequence[Tensor]:
        """Its slopes at points spread over the interval, and that of a constant."""
        low, high = interval
        points = (low + (high - low) * (number / (_PROBES - 1)) for number in range(_PROBES))
        return [*(self._derivative(point) for point in points), torch.zeros_like(low)]

    def error(self, interval: Interval) -> Tensor:
        """As granted."""
        return self._absolute + SMALLEST + self._relative * interval.magnitude


class Staircase(Curve):
    """QuantizeLinear: `clip(round(x / scale) + zero_point)`, in the units of its codes.

    Rounding moves the line `clip(x / scale + zero_point)` by at most half a code, up or down. A constant is the other
    choice, and it is exact: the code of the lowest argument, and that of the highest. What the runtime's division is
    off by is granted before the rounding, because there it can change a code.

    Args:
        scale: Positive, broadcasts over the data.
        zero: Zero points, likewise.
        ends: The lowest and the highest code.
    """

    grain = 1.0

    def __init__(self, scale: Tensor, zero: Tensor, ends: tuple[int, int]) -> None:
        self._scale, self._zero, self._ends = scale, zero, ends
        self._line = Bent(self, (0.0, 1.0 / scale), tuple((end - zero) * scale for end in ends))
        self.slopes = self._line.slopes

    def __call__(self, x: Tensor) -> Tensor:
        """The line that it follows, without steps."""
        return torch.clamp(x / self._scale + self._zero, *self._ends)

    def turns(self, slope: Tensor) -> Sequence[Tensor | float]:
        """Where codes end."""
        return self._line.turns(slope)

    def candidates(self, interval: Interval) -> Sequence[Tensor]:
        """Flat, or a code a scale."""
        return self._line.candidates(interval)

    def enclose(self, interval: Interval) -> Interval:
        """The codes of both ends."""
        before = self._before(interval)
        low, high = interval.low / self._scale - before, interval.high / self._scale + before
        return Interval(*(torch.clamp(torch.round(end) + self._zero, *self._ends) for end in (low, high)))

    def lines(self, interval: Interval) -> Lines:
        """The tilted lines half a code off, or the constants, whichever is nearer in the middle."""
        codes = self.enclose(interval)
        still = torch.zeros_like(codes.low)
        lower, upper = Line(still, codes.low), Line(still, codes.high)
        tilted, off = super().lines(interval), 0.5 + self._before(interval)
        middle = (interval.low + interval.high) / 2
        return Lines(
            choose([Line(tilted.lower.slope, tilted.lower.offset - off), lower], middle, highest=True),
            choose([Line(tilted.upper.slope, tilted.upper.offset + off), upper], middle, highest=False),
        )

    def _before(self, interval: Interval) -> Tensor:
        """What the runtime's quotient can be off by, in codes; of no account where codes have ended long before."""
        farthest = float(self._ends[1] - self._ends[0]) + 1.0
        return (gamma(3) + SLACK) * torch.clamp(interval.magnitude / self._scale, max=2 * farthest)


Constant = Tensor | None


def cannot(node: Node, what: str = "") -> InputError:
    """The error that says which node cannot be certified, and what of it."""
    return InputError(f"cannot certify: operator {node.operator} (node {node.name!r}){' ' * bool(what)}{what}")


class Operands(NamedTuple):
    """What a curve is made of.

    Attributes:
        node: The node.
        constants: Its inputs after the first, float64 where they are floats; `None` where one is absent.
        example: A tensor of the shape of its data, to broadcast scales over.
    """

    node: Node
    constants: tuple[Constant, ...]
    example: Tensor

    def number(self, position: int, default: float) -> float:
        """A constant that is a single number."""
        value = self.constants[position] if position < len(self.constants) else None
        return default if value is None else float(value)


def _relu(of: Operands) -> Curve:  # noqa: ARG001 - the signature of every maker
    return Bent(torch.relu, (0.0, 1.0), (0.0,))


def _leaky(slope: float | Tensor) -> Curve:
    return Bent(lambda x: torch.where(x < 0, slope * x, x), (slope, 1.0), (0.0,), roundings=1)


def _prelu(of: Operands) -> Curve:
    slope = of.constants[0]
    assert slope is not None  # noqa: S101 - required by the operator
    return _leaky(slope)


def _clip(of: Operands) -> Curve:
    """`min(max(x, low), high)`: where the ends are the wrong way round, it is `high` everywhere."""
    high = of.number(1, torch.inf)
    low = min(of.number(0, -torch.inf), high)
    return Bent(lambda x: torch.clamp(x, low, high), (0.0, 1.0), [end for end in (low, high) if abs(end) < torch.inf])


def _extreme(function: Callable[[Tensor, Tensor], Tensor]) -> Callable[[Operands], Curve]:
    """Max or Min of the data and one constant."""

    def maker(of: Operands) -> Curve:
        end = of.constants[0] if of.constants else None
        if end is None:
            return Bent(lambda x: x, (1.0,), ())  # of one tensor alone, which is that tensor
        if len(of.constants) > 1:
            raise cannot(of.node, "of more than one constant")
        return Bent(lambda x: function(x, end), (0.0, 1.0), (end,))

    return maker


def _absolute(of: Operands) -> Curve:  # noqa: ARG001 - the signature of every maker
    return Bent(torch.abs, (-1.0, 1.0), (0.0,))


def _hard_sigmoid(of: Operands) -> Curve:
    slope, shift = of.node.get("alpha", 0.2), of.node.get("beta", 0.5)
    if slope == 0:
        raise cannot(of.node, "with alpha = 0")
    return Bent(
        lambda x: torch.clamp(slope * x + shift, 0.0, 1.0),
        (0.0, slope),
        (-shift / slope, (1.0 - shift) / slope),
        roundings=2,
        within=1.0 + 2.0 * abs(shift),
    )


def _hard_swish(of: Operands) -> Curve:  # noqa: ARG001 - the signature of every maker
    return Smooth(
        functional.hardswish,
        lambda x: torch.where(x <= -3, 0.0, torch.where(x >= 3, 1.0, x / 3 + 0.5)),
        lambda slope: [3 * slope - 1.5],
        slopes=(-0.5, 1.5),
        error=(0.0, gamma(5)),
        kinks=(-3.0, 3.0),
    )


def _sigmoid(of: Operands) -> Curve:  # noqa: ARG001 - the signature of every maker
    def touching(slope: Tensor) -> Sequence[Tensor]:
        # s (1 - s) = slope has two solutions, and the smaller one is a quotient that loses nothing.
        root = torch.sqrt(1 - 4 * slope)
        point = torch.logit(2 * slope / (1 + root))
        return point, -point

    def derivative(x: Tensor) -> Tensor:
        return torch.sigmoid(x) * torch.sigmoid(-x)

    return Smooth(torch.sigmoid, derivative, touching, slopes=(0.0, 0.25), error=(FUNCTION_ERROR, 0.0))


def _tanh(of: Operands) -> Curve:  # noqa: ARG001 - the signature of every maker
    def touching(slope: Tensor) -> Sequence[Tensor]:
        point = torch.atanh(torch.sqrt(1 - slope))
        return point, -point

    def derivative(x: Tensor) -> Tensor:
        return 1.0 / torch.cosh(torch.clamp(x, -300.0, 300.0)) ** 2

    return Smooth(torch.tanh, derivative, touching, slopes=(0.0, 1.0), error=(FUNCTION_ERROR, 0.0))


def _elu(of: Operands) -> Curve:
    scale = float(of.node.get("alpha", 1.0))
    if scale < 0:
        raise cannot(of.node, "with a negative alpha")

    def derivative(x: Tensor) -> Tensor:
        return torch.where(x < 0, scale * torch.exp(torch.clamp(x, max=0.0)), 1.0)

    return Smooth(
        lambda x: functional.elu(x, scale),
        derivative,
        lambda slope: [torch.log(slope / scale) if scale else torch.full_like(slope, torch.nan)],
        slopes=(0.0, max(1.0, scale)),
        error=(scale * FUNCTION_ERROR, 0.0),
        kinks=(0.0,),
    )


def _softplus(of: Operands) -> Curve:  # noqa: ARG001 - the signature of every maker
    return Smooth(
        lambda x: torch.logaddexp(x, torch.zeros_like(x)),
        torch.sigmoid,
        lambda slope: [torch.logit(slope)],
        slopes=(0.0, 1.0),
        error=(FUNCTION_ERROR, gamma(4)),
    )


def _staircase(of: Operands) -> Curve:
    scale, zero = (*of.constants, None)[:2]
    element = of.node.output_types[0]
    if scale is None or element not in RANGES or not bool((scale > 0).all()):
        raise cannot(of.node, "with this type of codes, or with a scale that is not positive")
    axis, block = of.node.get("axis", 1), of.node.get("block_size", 0)
    steps = along(scale, of.example, axis, block)
    none = torch.zeros((), dtype=torch.float64)
    zeros = none if zero is None else along(zero, of.example, axis, block).to(torch.float64)
    return Staircase(steps, zeros, RANGES[element])


CURVES: Mapping[str, Callable[[Operands], Curve]] = {
    "Abs": _absolute,
    "Clip": _clip,
    "Elu": _elu,
    "HardSigmoid": _hard_sigmoid,
    "HardSwish": _hard_swish,
    "Max": _extreme(torch.maximum),
    "Min": _extreme(torch.minimum),
    "LeakyRelu": lambda of: _leaky(float(of.node.get("alpha", 0.01))),
    "PRelu": _prelu,
    "QuantizeLinear": _staircase,
    "Relu": _relu,
    "Sigmoid": _sigmoid,
    "Softplus": _softplus,
    "Tanh": _tanh,
}
"""By operator, what makes the curve of a node."""
