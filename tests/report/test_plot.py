import math

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from msgspec import structs

from hauberk.measurement import Measurement
from hauberk.report.plot import draw
from hauberk.report.render import NARROW, WIDE
from hauberk.report.view import LATENCY, make_view

DETECTION = "detection_rate@fpr=1%"
_values = st.tuples(
    st.floats(1e-7, 10.0),
    st.floats(0.0, 1.0),
    st.floats(0.0, 0.3),
    st.none() | st.floats(0.0, 1.0),
)


def with_values(findings, values):
    """The findings with candidates of these latencies, qualities, relative interval widths and robust accuracies."""
    candidates = []
    for number, (latency, quality, width, robust) in enumerate(values):
        measurements = {
            LATENCY: Measurement(LATENCY, latency, "s", 9, latency * (1 - width), latency * (1 + width)),
            DETECTION: Measurement(
                DETECTION, quality, "fraction", 9, quality * (1 - width), quality + width * (1 - quality)
            ),
        }
        if robust is not None:
            measurements["robust_accuracy"] = Measurement("robust_accuracy", robust, "fraction", 9)
        candidates.append(structs.replace(findings.candidates[0], name=f"c{number}", measurements=measurements))
    return structs.replace(findings, candidates=tuple(candidates), recommended="c0")


@settings(deadline=None)
@given(values=st.lists(_values, min_size=1, max_size=8))
@example(values=[(9.5, 0.0, 2.220446049250313e-16, None)])  # an interval as narrow as float64 can tell
@example(values=[(2.329230678540979, 0.0, 2.220446049250313e-16, None)])
@pytest.mark.parametrize("frame", [WIDE, NARROW], ids=["wide", "narrow"])
def test_everything_lies_inside_the_frame_and_better_is_up_and_left(sample, frame, values):
    plot = draw(make_view(with_values(sample("usual"), values)), frame)
    left, right = frame.left - 0.1, frame.width - frame.right + 0.1
    top, bottom = frame.top - 0.1, frame.height - frame.bottom + 0.1
    for point in plot.points:
        assert left <= point.left <= point.x <= point.right <= right
        assert top <= point.upper <= point.y <= point.lower <= bottom
    assert all(left <= tick.position <= right for tick in plot.x_ticks)
    assert all(top <= tick.position <= bottom for tick in plot.y_ticks)
    for one, (latency, quality, _, _) in zip(plot.points, values, strict=True):
        for two, (other_latency, other_quality, _, _) in zip(plot.points, values, strict=True):
            assert latency >= other_latency or one.x <= two.x
            assert quality >= other_quality or one.y >= two.y


@settings(deadline=None)
@given(values=st.lists(_values, min_size=1, max_size=12))
def test_labels_hide_neither_each_other_nor_a_marker(sample, values):
    plot = draw(make_view(with_values(sample("usual"), values)), WIDE)
    boxes = []
    for point in plot.points:
        if point.label:
            width = 7.4 * len(point.label)
            start = point.label_x if point.anchor == "start" else point.label_x - width
            boxes.append((start, start + width, point.label_y - 11, point.label_y + 3))
    markers = [(point.x - 7, point.x + 7, point.y - 7, point.y + 7) for point in plot.points]
    for number, box in enumerate(boxes):
        for other in (*boxes[:number], *markers):
            apart = box[0] >= other[1] or other[0] >= box[1] or box[2] >= other[3] or other[2] >= box[3]
            assert apart


@settings(deadline=None)
@given(latency=st.floats(1e-7, 1.0), factor=st.floats(1.001, 1e5))
def test_ticks_stand_where_their_texts_say(sample, latency, factor):
    values = [(latency, 0.9, 0.0, None), (latency * factor, 0.8, 0.0, None)]
    plot = draw(make_view(with_values(sample("usual"), values)), WIDE)
    assert 2 <= len(plot.x_ticks) <= 14
    scale = math.log if plot.logarithmic else float
    units = {"µs": 1e-6, "ms": 1e-3, "s": 1.0}
    (near, far), (start, end) = zip(
        *((scale(v[0]), p.x) for v, p in zip(values, plot.points, strict=True)), strict=True
    )
    for tick in plot.x_ticks:
        number, unit = tick.text.split()
        expected = start + (scale(float(number) * units[unit]) - near) * (end - start) / (far - near)
        assert tick.position == pytest.approx(expected, abs=1.0)


def test_colours_run_with_robust_accuracy_and_are_absent_without_it(sample):
    values = [(1e-6, 0.9, 0.0, 0.5), (2e-6, 0.9, 0.0, 0.9), (3e-6, 0.9, 0.0, None)]
    plot = draw(make_view(with_values(sample("usual"), values)), WIDE)
    assert [point.colour for point in plot.points] == [plot.colours.stops[0][1], plot.colours.stops[-1][1], ""]
    assert (plot.colours.low, plot.colours.high) == ("50 %", "90 %")


def test_a_narrow_span_of_robust_accuracies_is_not_blown_up(sample):
    values = [(1e-6, 0.9, 0.0, 0.70), (2e-6, 0.9, 0.0, 0.71)]
    plot = draw(make_view(with_values(sample("usual"), values)), WIDE)
    assert plot.colours.stops[0][1] not in {point.colour for point in plot.points}


def test_candidates_without_a_latency_or_a_quality_are_named_as_absent(sample):
    plot = draw(make_view(sample("usual")), WIDE)
    assert [candidate.found.name for candidate in plot.absent] == ["int8-dynamic", "int8-static"]


def test_latencies_far_apart_get_a_logarithmic_axis(sample):
    assert draw(make_view(sample("spread")), WIDE).logarithmic
    assert not draw(make_view(sample("usual")), WIDE).logarithmic
