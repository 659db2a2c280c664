"""The curve of mixed precision: what keeping the most sensitive layers in float buys and costs.

One picture with two axes: latency (size, where none was measured) to the right, error of the logits upwards. The points
are joined in the order in which layers were added, and each carries the number of layers that stay in float.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from hauberk.compress.quantize.sensitivity import TradeOff
from hauberk.report import wording
from hauberk.report.plot import Frame

FRAME = Frame(width=640, height=320, left=72, right=24, top=28, bottom=48, names=True)
_TICKS = 5


def draw(points: Sequence[TradeOff], frame: Frame = FRAME, *, identifier: str = "trade-off") -> str:
    """The curve as one SVG element, styled by the classes of the report's style sheet.

    Args:
        points: As `compress.quantize.sensitivity.trade_off` returns them, at least one.
        frame: Size and margins.
        identifier: Unique in the page; title and description carry it.
    """
    timed = all(point.latency is not None for point in points)
    values = [point.latency if timed and point.latency is not None else float(point.size) for point in points]
    unit, title = ("s", "Latency of one record, median") if timed else ("B", "Size")
    right, floor = frame.width - frame.right, frame.height - frame.bottom
    across = _Axis(min(values), max(values), frame.left, right)
    upward = _Axis(0.0, max(point.error for point in points), floor, frame.top)
    places = [(across.place(value), upward.place(point.error)) for value, point in zip(values, points, strict=True)]
    words = [_words(point, value, unit) for point, value in zip(points, values, strict=True)]
    name = escape(identifier)
    box = f'viewBox="0 0 {frame.width} {frame.height}" width="{frame.width}" height="{frame.height}"'
    lines = [
        f'<svg {box} role="img" aria-labelledby="{name}-title {name}-words">',
        f'<title id="{name}-title">Error of the logits against {title.lower()}</title>',
        f'<desc id="{name}-words">{escape(". ".join(words))}.</desc>',
    ]
    for value in upward.ticks():
        y = upward.place(value)
        lines.append(f'<line class="grid" x1="{frame.left}" x2="{right}" y1="{y}" y2="{y}"/>')
        lines.append(
            f'<text class="soft" x="{frame.left - 8}" y="{y + 4}" text-anchor="end">{100 * value:.3g} %</text>'
        )
    for value in across.ticks():
        x, text = across.place(value), escape(wording.tick(value, unit))
        lines.append(f'<line class="grid" x1="{x}" x2="{x}" y1="{frame.top}" y2="{floor}"/>')
        lines.append(f'<text class="soft" x="{x}" y="{floor + 18}" text-anchor="middle">{text}</text>')
    lines.append(f'<path class="frame" fill="none" d="M{frame.left} {frame.top}V{floor}H{right}"/>')
    lines.append('<text class="soft" x="0" y="14">↑ Error of the logits</text>')
    lines.append(f'<text class="soft" x="{right}" y="{frame.height - 6}" text-anchor="end">{title} →</text>')
    lines.append(f'<path class="whisker" fill="none" d="M{"L".join(f"{x} {y}" for x, y in places)}"/>')
    for (x, y), point, sentence in zip(places, points, words, strict=True):
        lines.append(f'<g><title>{escape(sentence)}</title><circle class="outline unknown" cx="{x}" cy="{y}" r="6"/>')
        lines.append(f'<text class="label" x="{x + 10}" y="{y - 8}">{len(point.float_layers)}</text></g>')
    lines.append("</svg>")
    return "\n".join(lines)


def _words(point: TradeOff, value: float, unit: str) -> str:
    count = len(point.float_layers)
    layers = "no layer" if not count else f"{count} layer{'s' * (count > 1)} ({', '.join(point.float_layers)})"
    return f"{layers} in float: error {100 * point.error:.3g} %, {wording.figure(value, unit)}"


class _Axis:
    """Maps values to positions along one axis, with a little room at the far end."""

    def __init__(self, low: float, high: float, start: float, stop: float) -> None:
        reach = (high - low) or abs(high) or 1.0
        self._low = low if low == 0 else max(0.0, low - 0.05 * reach)
        self._high = high + 0.05 * reach
        self._start, self._stop = start, stop

    def place(self, value: float) -> float:
        """The position of a value, to a tenth of a unit."""
        share = (value - self._low) / (self._high - self._low)
        return round(self._start + share * (self._stop - self._start), 1)

    def ticks(self) -> list[float]:
        """Values evenly spread over the axis."""
        step = (self._high - self._low) / _TICKS
        return [self._low + step * index for index in range(_TICKS + 1)]
