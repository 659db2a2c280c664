"""Functions of one number, and the two straight lines between which each of them runs on an interval.

Bounds on a network (CROWN, Zhang et al. 2018, arXiv:1811.00866) need for every nonlinear function f and every interval
[low, high] of its argument two lines with `lower(x) <= f(x) <= upper(x)` there. Here the **slope** of a line is a
free choice and its offset is exact: over the interval, `f(x) - slope * x` has its extremes at the ends or where the
function turns against the slope (a kink, or a point with f'(x) = slope), and a curve names these points. So every slope
gives valid lines; a bad one only gives loose ones. Of some candidates that line is taken whose value in the middle
of the interval is nearest the function, which is the one that encloses the smallest area. For ReLU this rule is CROWN's
adaptive choice of 0 or 1.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from hauberk.evaluate.robustness.certify.rounding import SLACK


class Interval(NamedTuple):
    """Bounds of every element of a tensor, float64 [N, *shape] each, `low <= high`."""

    low: Tensor
    high: Tensor

    @property
    def magnitude(self) -> Tensor:
        """The largest size of each element."""
        return torch.maximum(self.low.abs(), self.high.abs())

    def meet(self, other: Interval) -> Interval:
        """What both say, where each of them is sound."""
        return Interval(torch.maximum(self.low, other.low), torch.minimum(self.high, other.high))


class Line(NamedTuple):
    """`slope * x + offset` for every element, float64 [N, *shape] each."""

    slope: Tensor
    offset: Tensor

    def at(self, x: Tensor) -> Tensor:
        """Its value."""
        return self.slope * x + self.offset


class Lines(NamedTuple):
    """A line below a function and one above it."""

    lower: Line
    upper: Line


class Curve(ABC):
    """A function of one number as a float32 graph computes it.

    Attributes:
        slopes: The least and the greatest slope that it has anywhere.
        grain: How far apart its lines lie however close the bounds of its argument are; 1 for what rounds to integers.
    """

    slopes: tuple[float | Tensor, float | Tensor]
    grain: float = 0.0

    @abstractmethod
    def __call__(self, x: Tensor) -> Tensor:
        """Its exact value."""

    @abstractmethod
    def turns(self, slope: Tensor) -> Sequence[Tensor | float]:
        """Where f(x) - slope * x may have an extreme: kinks, and points at which f'(x) = slope.

        A point that does not exist may be given as any number or as NaN.
        """

    @abstractmethod
    def candidates(self, interval: Interval) -> Sequence[Tensor]:
        """Slopes that are worth a try besides that of the chord."""

    def error(self, interval: Interval) -> Tensor:
        """Largest difference of the deployed float32 value from the exact one; nothing where it only chooses."""
        return torch.zeros_like(interval.low)

    def enclose(self, interval: Interval) -> Interval:
        """Bounds of its value, the rounding of the deployed graph included."""
        flat = torch.zeros_like(interval.low)
        low, high = self.offsets(interval, flat)
        error = self.error(interval)
        return Interval(low - error, high + error)

    def lines(self, interval: Interval) -> Lines:
        """The lines that enclose the least area, the rounding of the deployed graph included."""
        error = self.error(interval)
        lower, upper = self._best(interval)
        return Lines(Line(lower.slope, lower.offset - error), Line(upper.slope, upper.offset + error))

    def offsets(self, interval: Interval, slope: Tensor) -> tuple[Tensor, Tensor]:
        """The greatest and the least offset with which lines of that slope lie below and above the function."""
        points = [interval.low, interval.high]
        for turn in self.turns(slope):
            inside = torch.clamp(torch.as_tensor(turn, dtype=slope.dtype).expand_as(slope), *interval)
            points.append(torch.where(inside.isnan(), interval.low, inside))
        values = [(self(point), slope * point) for point in points]
        gaps = torch.stack([value - line for value, line in values])
        slack = SLACK * torch.stack([value.abs() + line.abs() for value, line in values]).amax(0)
        return gaps.amin(0) - slack, gaps.amax(0) + slack

    def chord(self, interval: Interval) -> Tensor:
        """The slope between the ends, kept among the slopes that the function has."""
        width = interval.high - interval.low
        rise = self(interval.high) - self(interval.low)
        slope = torch.where(width > 0, rise / torch.where(width > 0, width, 1.0), 0.0)
        least, greatest = (torch.as_tensor(end, dtype=slope.dtype) for end in self.slopes)
        return torch.clamp(slope, least, greatest)

    def _best(self, interval: Interval) -> Lines:
        middle = (interval.low + interval.high) / 2
        found: list[Lines] = []
        for candidate in (self.chord(interval), *self.candidates(interval)):
            slope = candidate.expand_as(interval.low)
            low, high = self.offsets(interval, slope)
            found.append(Lines(Line(slope, low), Line(slope, high)))
        return Lines(
            choose([line.lower for line in found], middle, highest=True),
            choose([line.upper for line in found], middle, highest=False),
        )


def choose(lines: Sequence[Line], middle: Tensor, *, highest: bool) -> Line:
    """For every element the line that is highest, or lowest, in the middle of its interval."""
    slope, offset = lines[0]
    best = lines[0].at(middle)
    for line in lines[1:]:
        value = line.at(middle)
        better = value > best if highest else value < best
        slope, offset = torch.where(better, line.slope, slope), torch.where(better, line.offset, offset)
        best = torch.where(better, value, best)
    return Line(slope, offset)
