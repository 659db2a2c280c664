"""The trade-off plot: where each candidate lies between latency and quality, and how robust it is.

Only geometry happens here; the template draws it. Positions are SVG user units, x to the right, y downwards.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from hauberk.measurement import Measurement
from hauberk.report import wording
from hauberk.report.view import LATENCY, ROBUST, CandidateView, View

# Six stops of cividis, which looks the same with and without colour-blindness: Nunez, Anderton, Renslow,
# "Optimizing colormaps with consideration for color vision deficiency", PLOS ONE 13(7), 2018.
_CIVIDIS = ((0, 32, 77), (49, 68, 107), (102, 105, 112), (149, 143, 120), (202, 185, 105), (255, 234, 70))

_SECONDS = ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs"))
_LABEL_HEIGHT = 16
_CHARACTER_WIDTH = 7.4
_MARKER = 8
_LONGEST_LABEL = 24


@dataclass(frozen=True)
class Frame:
    """Size of a plot and of the margins around its area; `names` puts names at the points, else numbers."""

    width: int
    height: int
    left: int
    right: int
    top: int
    bottom: int
    names: bool


@dataclass(frozen=True)
class Tick:
    """A mark on an axis: its position along it, and its text."""

    position: float
    text: str


@dataclass(frozen=True)
class Point:
    """One candidate.

    Attributes:
        candidate: Whose point it is.
        x, y: The centre of the marker.
        left, right, upper, lower: Ends of its intervals.
        colour: Of its robust accuracy, as `#rrggbb`; empty where it was not attacked.
        label: Name or number, cut to fit.
        label_x, label_y: Where the label stands.
        anchor: `start` or `end`.
        words: Everything about the point in one sentence, for the tooltip and for screen readers.
    """

    candidate: CandidateView
    x: float
    y: float
    left: float
    right: float
    upper: float
    lower: float
    colour: str
    label: str
    label_x: float
    label_y: float
    anchor: str
    words: str


@dataclass(frozen=True)
class ColourKey:
    """The legend of the colours: stops from 0 to 100 %, and the texts at both ends."""

    stops: tuple[tuple[int, str], ...]
    low: str
    high: str


@dataclass(frozen=True)
class Plot:
    """All that is drawn."""

    frame: Frame
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    points: tuple[Point, ...]
    absent: tuple[CandidateView, ...]
    colours: ColourKey | None
    logarithmic: bool


@dataclass(frozen=True)
class _Axis:
    """Maps values to positions."""

    place: Callable[[float], float]
    ticks: tuple[Tick, ...]
    logarithmic: bool = False


def draw(view: View, frame: Frame) -> Plot:
    """Place every candidate that has a latency and a quality; name the others."""
    shown = [c for c in view.candidates if LATENCY in c.found.measurements and view.quality in c.found.measurements]
    absent = tuple(candidate for candidate in view.candidates if candidate not in shown)
    colours = _Colours([c.found.measurements[ROBUST].value for c in shown if ROBUST in c.found.measurements])
    if not shown:
        return Plot(frame, (), (), (), absent, None, logarithmic=False)
    x_axis = _latency_axis([c.found.measurements[LATENCY] for c in shown], frame)
    y_axis = _quality_axis([c.found.measurements[view.quality] for c in shown], frame)
    bare = [_point(candidate, view, x_axis, y_axis, colours) for candidate in shown]
    points = _labelled(bare, frame)
    return Plot(frame, x_axis.ticks, y_axis.ticks, points, absent, colours.key, logarithmic=x_axis.logarithmic)


class _Colours:
    """The colour scale over the robust accuracies that were measured, at least ten points wide."""

    def __init__(self, values: Sequence[float]) -> None:
        self.key: ColourKey | None = None
        if not values:
            return
        middle = (min(values) + max(values)) / 2
        reach = max((max(values) - min(values)) / 2, 0.05)
        self._low, self._high = max(0.0, middle - reach), min(1.0, middle + reach)
        stops = tuple((20 * index, _hex(colour)) for index, colour in enumerate(_CIVIDIS))
        self.key = ColourKey(stops, f"{100 * self._low:.0f} %", f"{100 * self._high:.0f} %")

    def of(self, measurement: Measurement | None) -> str:
        """The colour of a robust accuracy, or nothing."""
        if measurement is None:
            return ""
        share = min(max((measurement.value - self._low) / (self._high - self._low), 0.0), 1.0) * (len(_CIVIDIS) - 1)
        index = min(int(share), len(_CIVIDIS) - 2)
        start, stop, weight = _CIVIDIS[index], _CIVIDIS[index + 1], share - index
        return _hex(tuple(round(a + (b - a) * weight) for a, b in zip(start, stop, strict=True)))


def _hex(colour: Sequence[int]) -> str:
    return "#" + "".join(f"{part:02x}" for part in colour)


def _ends(measurement: Measurement) -> tuple[float, float]:
    low = measurement.value if measurement.low is None else measurement.low
    high = measurement.value if measurement.high is None else measurement.high
    return low, high


def _latency_axis(measurements: Sequence[Measurement], frame: Frame) -> _Axis:
    low = min(_ends(measurement)[0] for measurement in measurements)
    high = max(_ends(measurement)[1] for measurement in measurements)
    start, stop = frame.left, frame.width - frame.right
    if low > 0 and high / low > 6:
        first, last = math.log10(low) - 0.08, math.log10(high) + 0.08

        def place_log(value: float) -> float:
            return start + (math.log10(value) - first) / (last - first) * (stop - start)

        values = _decimal_values(first, last, 14 if frame.names else 6)
        ticks = tuple(Tick(round(place_log(value), 1), wording.tick(value, "s")) for value in values)
        return _Axis(place_log, ticks, logarithmic=True)
    # Latencies that hardly differ are drawn close together: a narrower axis would have no ticks to tell apart.
    pad = max(0.08 * (high - low), 0.01 * high) or 1e-6
    first, last = max(0.0, low - pad), high + pad

    def place(value: float) -> float:
        return start + (value - first) / (last - first) * (stop - start)

    count = 6 if frame.names else 4
    scale, unit = next(((factor, name) for factor, name in _SECONDS if last >= factor), _SECONDS[-1])
    return _Axis(place, _ticks(_round_values(first, last, count), place, scale, unit))


def _quality_axis(measurements: Sequence[Measurement], frame: Frame) -> _Axis:
    low = min(_ends(measurement)[0] for measurement in measurements)
    high = max(_ends(measurement)[1] for measurement in measurements)
    pad = max(0.08 * (high - low), 0.005)
    first, last = max(0.0, low - pad), min(1.0, high + pad)
    start, stop = frame.height - frame.bottom, frame.top

    def place(value: float) -> float:
        return start + (value - first) / (last - first) * (stop - start)

    return _Axis(place, _ticks(_round_values(first, last, 5), place, 0.01, "%"))


def _ticks(values: Sequence[float], place: Callable[[float], float], scale: float, unit: str) -> tuple[Tick, ...]:
    """Ticks in one unit, with as many decimals as it takes to tell neighbours apart."""
    step = (values[1] - values[0]) / scale if len(values) > 1 else 1.0
    decimals = max(0, -math.floor(math.log10(step) + 1e-9))
    return tuple(Tick(round(place(value), 1), f"{value / scale:.{decimals}f} {unit}") for value in values)


def _decimal_values(first: float, last: float, most: int) -> list[float]:
    """At most `most` round values whose decimal logarithms lie between `first` and `last`."""
    decades = range(math.floor(first), math.ceil(last) + 1)
    for factors in ((1, 2, 5), (1, 3), (1,)):
        values = [factor * 10.0**decade for decade in decades for factor in factors]
        inside = [value for value in values if first <= math.log10(value) <= last]
        if len(inside) <= most:
            return inside
    return inside[:: math.ceil(len(inside) / most)]


def _round_values(low: float, high: float, count: int) -> list[float]:
    """About `count` values between `low` and `high` that are multiples of 1, 2 or 5 times a power of ten."""
    rough = (high - low) / count
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough)
    first = math.ceil(low / step - 1e-9)
    return [index * step for index in range(first, math.floor(high / step + 1e-9) + 1)]


def _point(candidate: CandidateView, view: View, x_axis: _Axis, y_axis: _Axis, colours: _Colours) -> Point:
    measurements = candidate.found.measurements
    latency, quality, robust = measurements[LATENCY], measurements[view.quality], measurements.get(ROBUST)
    left, right = (x_axis.place(end) for end in _ends(latency))
    lower, upper = (y_axis.place(end) for end in _ends(quality))
    attacked = "not attacked" if robust is None else f"robust accuracy {wording.figure(robust.value, robust.unit)}"
    status = "recommended" if candidate.recommended else candidate.found.status
    words = (
        f"{candidate.number} {candidate.found.name}, {status}: {wording.figure(latency.value, latency.unit)}, "
        f"{view.quality_title.lower()} {wording.figure(quality.value, quality.unit)}, {attacked}"
    )
    return Point(
        candidate=candidate,
        x=round(x_axis.place(latency.value), 1),
        y=round(y_axis.place(quality.value), 1),
        left=round(left, 1),
        right=round(right, 1),
        upper=round(upper, 1),
        lower=round(lower, 1),
        colour=colours.of(robust),
        label="",
        label_x=0.0,
        label_y=0.0,
        anchor="start",
        words=words,
    )


@dataclass(frozen=True)
class _Box:
    left: float
    top: float
    right: float
    bottom: float

    def overlaps(self, other: _Box) -> bool:
        return (
            self.left < other.right and other.left < self.right and self.top < other.bottom and other.top < self.bottom
        )


def _labelled(points: Sequence[Point], frame: Frame) -> tuple[Point, ...]:
    """Put a label at every point, where it hides no marker, no interval and no other label if there is such a place.

    Where a name finds no place, the number stands for it; where that finds none either, the tooltip and the table do.
    """
    taken = [_Box(p.x - _MARKER, p.y - _MARKER, p.x + _MARKER, p.y + _MARKER) for p in points]
    whiskers = [_Box(p.x - 3, p.upper, p.x + 3, p.lower) for p in points]
    placed = []
    for point in points:
        label, box, anchor = _find_place(point, frame, taken, whiskers)
        if box is None:
            placed.append(point)
            continue
        taken.append(box)
        x = box.left if anchor == "start" else box.right
        placed.append(replace(point, label=label, label_x=round(x, 1), label_y=round(box.bottom - 4, 1), anchor=anchor))
    return tuple(placed)


def _find_place(
    point: Point, frame: Frame, taken: Sequence[_Box], whiskers: Sequence[_Box]
) -> tuple[str, _Box | None, str]:
    for label in _labels(point.candidate, frame):
        places = _places(point, len(label) * _CHARACTER_WIDTH)
        readable = [
            (box, anchor)
            for box, anchor in places
            if _inside(box, frame) and not any(box.overlaps(other) for other in taken)
        ]
        clear = [place for place in readable if not any(place[0].overlaps(other) for other in whiskers)]
        if clear or readable:
            box, anchor = (clear or readable)[0]
            return label, box, anchor
    return "", None, "start"


def _labels(candidate: CandidateView, frame: Frame) -> tuple[str, ...]:
    """What to write at a point, the most telling first."""
    number = str(candidate.number)
    name = f"{number} {candidate.found.name}"
    short = name if len(name) <= _LONGEST_LABEL else f"{name[: _LONGEST_LABEL - 1]}…"
    return (short, number) if frame.names else (number,)


def _places(point: Point, width: float) -> list[tuple[_Box, str]]:
    """Boxes around a point, the best first: diagonally beside it, clear of its intervals, then farther away."""
    gap, half = _MARKER + 4, _LABEL_HEIGHT / 2
    found = []
    for distance in range(4):
        shift = _MARKER + 8 + distance * _LABEL_HEIGHT
        for y in (point.y - shift, point.y + shift):
            found.append((_Box(point.x + gap, y - half, point.x + gap + width, y + half), "start"))
            found.append((_Box(point.x - gap - width, y - half, point.x - gap, y + half), "end"))
    return found


def _inside(box: _Box, frame: Frame) -> bool:
    return (
        box.left >= frame.left
        and box.right <= frame.width - 2
        and box.top >= 0
        and box.bottom <= frame.height - frame.bottom
    )
