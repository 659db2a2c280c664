"""Comparing source and result: what is counted, what is judged, and what breaks it."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import parser

from hauberk.convert.compare import Source, compare
from hauberk.errors import InputError, LimitError
from hauberk.graph.trials import Trial

DOUBLED = parser.parse_model(
    '<ir_version: 10, opset_import: ["" : 20]> g (float[n,2] x) => (float[n,2] y)'
    " <float two = {2.0}> { y = Mul(x, two) }"
).SerializeToString()


def trial(family, rows, value=1.0):
    return Trial(family, 0, {"x": np.full((rows, 2), value, dtype=np.float32)})


def source(answer, **more):
    return Source(lambda feeds: [answer(feeds["x"])], "torch 2", **more)


def test_equal_answers_hold():
    found = compare(source(lambda x: x * 2, rule="largest"), DOUBLED, [trial("real-0", 3), trial("real-1", 4)])
    assert found.holds
    (family,) = found.families
    assert (family.name, family.records, family.outside, family.largest, family.labels) == ("real", 7, 0, 0.0, 1.0)
    assert found.labels == 1.0


def test_a_difference_is_counted_by_record_and_shown_with_its_input():
    def off_in_the_second(x):
        answer = x * 2
        answer[1, 0] += 0.01
        return answer

    found = compare(source(off_in_the_second), DOUBLED, [trial("real-0", 3)])
    assert not found.holds
    assert found.families[0].outside == 1
    assert found.largest == pytest.approx(0.01, rel=1e-3)
    (example,) = found.differing
    assert example.where == "real-0[1]"
    assert example.source == ("2.00999999", "2")
    assert example.result == ("2", "2")
    assert example.inputs == {"x": ("1", "1")}


def test_labels_are_told_apart_from_values():
    swapped = compare(source(lambda x: x * 2 + [[0.0, 1e-9]], rule="largest"), DOUBLED, [trial("real-0", 4)])
    assert swapped.holds  # a tie, broken the other way
    assert swapped.families[0].labels in (0.0, 1.0)
    turned = compare(source(lambda x: -2 * x[:, :], rule="log-odds"), DOUBLED, [trial("real-0", 4)])
    assert (turned.labels, turned.holds) == (0.0, False)


@pytest.mark.parametrize(("judged", "holds"), [(True, False), (False, True)])
def test_extremes_are_judged_where_nothing_can_overflow(judged, holds):
    trials = [trial("real-0", 1), trial("extreme-0", 1, 3e38)]
    found = compare(source(lambda x: np.minimum(x, 1e38) * 2, extremes=judged), DOUBLED, trials)
    assert found.holds is holds
    assert [family.outside for family in found.families] == [0, 1]
    assert found.differing[0].result == ("inf", "inf")


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_number_that_became_none_is_outside(value):
    found = compare(source(lambda x: np.full_like(x, value)), DOUBLED, [trial("real-0", 2)])
    assert (found.holds, found.families[0].outside) == (False, 2)


def test_probabilities_are_compared_as_such():
    tiny = np.float32(1e-30)
    found = compare(
        source(lambda x: x * 2 - tiny - 3, view=np.exp), DOUBLED, [trial("real-0", 1, -40.0)]
    )  # e^-83 and e^-80: far apart as logarithms, equal as probabilities
    assert found.holds
    assert not compare(source(lambda x: x * 2 - 3), DOUBLED, [trial("real-0", 1, -40.0)]).holds


def test_what_draws_random_numbers_is_not_compared():
    noise = np.random.default_rng(0)
    with pytest.raises(InputError, match="the source answers one input in two ways"):
        compare(source(lambda x: x * 2 + noise.random(x.shape)), DOUBLED, [trial("zeros", 2)])
    noisy = parser.parse_model(
        '<ir_version: 10, opset_import: ["" : 20]> g (float[n,2] x) => (float[n,2] y) { y = RandomNormalLike(x) }'
    ).SerializeToString()
    with pytest.raises(InputError, match="the result answers one input in two ways"):
        compare(source(lambda x: x * 2), noisy, [trial("zeros", 2)])


def test_what_the_source_refuses_is_skipped_and_counted():
    def picky(x):
        if len(x) == 2:
            raise ValueError("not two")
        return x * 2

    found = compare(source(picky), DOUBLED, [trial("sizes-0", 2), trial("sizes-1", 3)])
    assert (found.families[0].records, found.families[0].skipped) == (3, 1)


def test_a_source_that_answers_nothing_compares_with_nothing():
    def broken(x):
        raise ValueError("no\nway")

    with pytest.raises(InputError, match="answers none of the inputs that were tried: no way"):
        compare(source(broken), DOUBLED, [trial("real-0", 2)])


def test_a_limit_of_the_source_ends_the_comparison():
    def slow(x):
        raise LimitError("time is up")

    with pytest.raises(LimitError, match="time is up"):
        compare(source(slow), DOUBLED, [trial("real-0", 2)])


def test_other_shapes_are_an_error():
    with pytest.raises(InputError, match=r"shapes \[\[2, 2\]\], the source in \[\[2, 1\]\]"):
        compare(source(lambda x: x[:, :1] * 2), DOUBLED, [trial("real-0", 2)])


def test_whole_numbers_have_no_rounding():
    model = onnx.parser.parse_model(
        '<ir_version: 10, opset_import: ["" : 20]> g (int64[n] x) => (int64[n] y) { y = Identity(x) }'
    ).SerializeToString()
    records = Trial("real-0", 0, {"x": np.arange(5)})
    assert compare(Source(lambda feeds: [feeds["x"]], "s"), model, [records]).holds
    assert not compare(Source(lambda feeds: [feeds["x"] + 1], "s"), model, [records]).holds
