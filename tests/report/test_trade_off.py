"""The curve of mixed precision: a well-formed picture, in which positions follow the figures."""

from __future__ import annotations

from xml.etree import ElementTree as ET

import pytest

from hauberk.compress.quantize.sensitivity import TradeOff
from hauberk.report.trade_off import FRAME, draw


def points(*, timed: bool) -> list[TradeOff]:
    latencies = (40e-6, 55e-6, 90e-6) if timed else (None, None, None)
    rows = zip(((), ("a<b",), ("a<b", "c")), (0.08, 0.01, 0.0), (100_000, 150_000, 400_000), latencies, strict=True)
    return [TradeOff(names, error, 1.0, size, latency) for names, error, size, latency in rows]


def circles(picture: str) -> list[tuple[float, float]]:
    root = ET.fromstring(picture)
    return [(float(circle.get("cx")), float(circle.get("cy"))) for circle in root.iter("circle")]


@pytest.mark.parametrize("timed", [True, False])
def test_dearer_is_right_and_worse_is_up(timed):
    drawn = circles(draw(points(timed=timed)))
    assert [x for x, _ in drawn] == sorted(x for x, _ in drawn)
    assert [y for _, y in drawn] == sorted(y for _, y in drawn)
    assert drawn[-1][1] == FRAME.height - FRAME.bottom  # no error at all lies on the axis
    assert all(FRAME.left <= x <= FRAME.width - FRAME.right and FRAME.top <= y for x, y in drawn)


def test_axis_is_size_where_nothing_was_timed():
    assert "Size →" in draw(points(timed=False))
    assert "Latency of one record" in draw(points(timed=True))


def test_every_point_says_how_many_layers_stay_in_float():
    root = ET.fromstring(draw(points(timed=True)))
    assert [text.text for text in root.iter("text") if text.get("class") == "label"] == ["0", "1", "2"]


def test_names_are_escaped():
    picture = draw(points(timed=True))
    ET.fromstring(picture)
    assert "a&lt;b" in picture


def test_one_point_is_drawn_too():
    assert len(circles(draw(points(timed=True)[:1]))) == 1
