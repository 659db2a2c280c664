"""How accuracy falls with the radius, and the headroom with the steps, as inline SVG.

Both are measured at points that double, and stand evenly spaced: the axis is logarithmic but for the 0 at its left.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from hauberk.evaluate.robustness.figures import Curves
from hauberk.report import wording
from hauberk.report.plot import Frame

FRAME = Frame(width=640, height=300, left=64, right=30, top=30, bottom=48, names=True)
_TICKS = 4


@dataclass(frozen=True)
class _Point:
    """One point: what stands below it, its height with the ends of its interval, and all of it in words."""

    name: str
    value: float
    low: float
    high: float
    words: str
    label: str


def draw_radii(curves: Curves, frame: Frame = FRAME) -> str:
    """Share of records that withstood the sweep, by radius; empty where there was no radius to sweep."""
    points = []
    for point in curves.radii:
        measured = point.survived
        shown = wording.figure(measured.value, measured.unit)
        low = measured.value if measured.low is None else measured.low
        high = measured.value if measured.high is None else measured.high
        words = f"radius {point.radius:g}: {shown} withstand ({wording.interval(measured)})"
        label = f"{100 * measured.value:.0f}"
        points.append(_Point(f"{point.radius:g}", 100 * measured.value, 100 * low, 100 * high, words, label))
    if len(points) < 2:
        return ""
    return _draw(points, (0.0, 100.0), frame, "by-radius", "Records that withstand, %", "Radius in feature space")


def draw_steps(curves: Curves, frame: Frame = FRAME) -> str:
    """Mean headroom that so many steps leave; empty where no gradients were taken."""
    points = []
    for point in curves.steps:
        shown = wording.figure(point.survived.value, point.survived.unit)
        words = f"{point.steps} steps: mean headroom {point.headroom:.4g}, {shown} withstand"
        points.append(
            _Point(str(point.steps), point.headroom, point.headroom, point.headroom, words, f"{point.headroom:.3g}")
        )
    if len(points) < 2:
        return ""
    values = [point.value for point in points]
    reach = (max(values) - min(values)) or abs(values[0]) or 1.0
    span = (min(values) - 0.1 * reach, max(values) + 0.1 * reach)
    return _draw(points, span, frame, "by-steps", "Mean headroom of the module, in logits", "Steps of one restart")


def _draw(
    points: Sequence[_Point], span: tuple[float, float], frame: Frame, name: str, upward: str, across: str
) -> str:
    """One line with a whisker at every point, styled by the classes of the report's style sheet."""
    right, floor = frame.width - frame.right, frame.height - frame.bottom
    low, high = span

    def place(value: float) -> float:
        return round(floor + (value - low) / (high - low) * (frame.top - floor), 1)

    stride = (right - frame.left) / len(points)
    columns = [round(frame.left + (index + 0.5) * stride, 1) for index in range(len(points))]
    box = f'viewBox="0 0 {frame.width} {frame.height}" width="{frame.width}" height="{frame.height}"'
    lines = [
        f'<svg {box} role="img" aria-labelledby="{name}-title {name}-words">',
        f'<title id="{name}-title">{escape(upward)}, by {escape(across.lower())}</title>',
        f'<desc id="{name}-words">{escape(". ".join(point.words for point in points))}.</desc>',
    ]
    for index in range(_TICKS + 1):
        value = low + (high - low) * index / _TICKS
        y = place(value)
        lines.append(f'<line class="grid" x1="{frame.left}" x2="{right}" y1="{y}" y2="{y}"/>')
        lines.append(f'<text class="soft" x="{frame.left - 8}" y="{y + 4}" text-anchor="end">{value:.3g}</text>')
    for x, point in zip(columns, points, strict=True):
        lines.append(f'<text class="soft" x="{x}" y="{floor + 18}" text-anchor="middle">{escape(point.name)}</text>')
    lines.append(f'<path class="frame" fill="none" d="M{frame.left} {frame.top}V{floor}H{right}"/>')
    lines.append(f'<text class="soft" x="0" y="14">↑ {escape(upward)}</text>')
    lines.append(f'<text class="soft" x="{right}" y="{frame.height - 6}" text-anchor="end">{escape(across)} →</text>')
    heights = [place(point.value) for point in points]
    path = "L".join(f"{x} {y}" for x, y in zip(columns, heights, strict=True))
    lines.append(f'<path class="whisker" fill="none" d="M{path}"/>')
    for x, y, point in zip(columns, heights, points, strict=True):
        whisker = f"M{x} {place(point.low)}V{place(point.high)}" if point.high > point.low else ""
        mark = f'<path class="whisker" fill="none" d="{whisker}"/>' if whisker else ""
        lines.append(f"<g><title>{escape(point.words)}</title>{mark}")
        lines.append(f'<circle class="outline unknown" cx="{x}" cy="{y}" r="5"/>')
        lines.append(f'<text class="label" x="{x + 9}" y="{y - 8}">{escape(point.label)}</text></g>')
    lines.append("</svg>")
    return "\n".join(lines)
