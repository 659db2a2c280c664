"""Units against plain truths: components found by walking, reshapes done on the whole array."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from hauberk.compress.prune.units import Units, reshaped, varying

pairs = st.lists(st.tuples(st.integers(0, 19), st.integers(0, 19)), max_size=30)


def components(edges):
    """The smallest number that can be reached from each of twenty, by walking until nothing changes."""
    least = list(range(20))
    for _ in range(20):
        for one, other in edges:
            least[one] = least[other] = min(least[one], least[other])
    return least


@given(pairs)
def test_ties_are_connected_components(edges):
    units = Units()
    numbers = units.fresh(20)
    if edges:
        first, second = np.array(edges).T
        units.tie(first, second)
    assert units.roots(numbers).tolist() == components(edges)


@given(pairs, st.sets(st.integers(0, 19)))
def test_a_component_is_frozen_by_any_of_its_members(edges, frozen):
    units = Units()
    numbers = units.fresh(20)
    for number in frozen:
        units.freeze(numbers[number], f"of {number}")
    for one, other in edges:
        units.tie(numbers[one], numbers[other])
    least = components(edges)
    expected = [least[number] not in {least[each] for each in frozen} for number in range(20)]
    assert units.live(numbers).tolist() == expected
    assert all(bool(units.reason(number)) != alive for number, alive in enumerate(expected))


shapes = st.sampled_from(
    [
        ((2, 6, 4), (2, 24)),
        ((2, 24), (2, 6, 4)),
        ((2, 3, 4, 5), (2, 12, 5)),
        ((2, 12, 5), (6, 4, 5)),
        ((2, 6), (2, 1, 6)),
        ((1, 2, 6, 1), (2, 6)),
        ((4, 6), (8, 3)),
        ((2, 3, 1, 4), (2, 12)),
    ]
)


@given(shapes, st.integers(0, 3))
def test_reshaping_labels_is_reshaping_what_they_stand_for(both, axis):
    before, after = both
    axis %= len(before)
    spread = [size if other == axis else 1 for other, size in enumerate(before)]
    labels = np.arange(before[axis]).reshape(spread)
    result = reshaped(labels, before, after)
    whole = np.broadcast_to(labels, before).reshape(after)
    np.testing.assert_array_equal(np.broadcast_to(result, after), whole)


def test_canonical_labels_are_as_short_as_can_be():
    units = Units()
    labels = units.fresh(6).reshape(2, 3)
    units.tie(labels[0], labels[1])
    assert units.canonical(labels).shape == (1, 3)
    assert varying(units.canonical(labels)) == (1,)
