"""How much of each group goes: the wanted amount together, wherever that is possible."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hauberk.compress.prune import PruneStructured, PruneUnstructured
from hauberk.compress.prune.allocate import LARGEST_SHARE, Sensitivity, by_sensitivity, over_all
from hauberk.errors import InputError

SHARES = (0.25, 0.5, 0.75)
ERRORS = st.tuples(*[st.sampled_from([0.0, 0.1, 0.1, 0.3]) | st.floats(0, 2)] * 3)


def total(shares, sizes):
    return sum(shares[name] * size for name, size in sizes.items()) / sum(sizes.values())


def test_groups_that_cost_nothing_lose_what_was_asked_for():
    found = tuple(Sensitivity(name, SHARES, (0.0, 0.0, 0.0)) for name in "ab")
    assert by_sensitivity(found, {"a": 8, "b": 24}, 0.25) == pytest.approx({"a": 0.25, "b": 0.25})


def test_a_group_that_costs_nothing_gives_no_more_than_is_asked_for():
    """It could lose three quarters; that would be 37.5 % of all units, and 25 % are asked for."""
    found = (Sensitivity("flat", SHARES, (0.0, 0.0, 0.0)), Sensitivity("steep", SHARES, (1.0, 2.0, 3.0)))
    shares = by_sensitivity(found, {"flat": 10, "steep": 10}, 0.25)
    assert shares == pytest.approx({"flat": 0.5, "steep": 0.0}, abs=1e-6)


@given(st.lists(st.tuples(ERRORS, st.integers(2, 64)), min_size=1, max_size=5), st.floats(0.01, 0.99))
def test_the_wanted_amount_goes_or_the_largest_shares_tried(groups, amount):
    found = tuple(Sensitivity(str(place), SHARES, errors) for place, (errors, _) in enumerate(groups))
    sizes = {str(place): size for place, (_, size) in enumerate(groups)}
    shares = by_sensitivity(found, sizes, amount)
    assert total(shares, sizes) == pytest.approx(min(amount, SHARES[-1]), abs=1e-6)
    assert all(0 <= share <= LARGEST_SHARE for share in shares.values())


@given(
    st.lists(
        st.lists(st.sampled_from([0.0, 1.0, 2.0]) | st.floats(0, 2), min_size=2, max_size=64), min_size=1, max_size=5
    ),
    st.floats(0.01, 0.99),
)
def test_the_wanted_amount_of_all_units_goes_however_many_count_the_same(groups, amount):
    scores = {str(place): np.array(each) for place, each in enumerate(groups)}
    shares = over_all(scores, amount)
    capped = any(share == LARGEST_SHARE for share in shares.values())
    gone = sum(shares[name] * len(each) for name, each in scores.items())
    wanted = round(amount * sum(map(len, groups)))
    assert gone <= wanted + 1e-6
    assert capped or gone == pytest.approx(wanted)


@pytest.mark.parametrize("sizes", [(10, 10), (10, 40), (20, 30, 50)])
def test_groups_whose_units_all_count_the_same_lose_the_same(sizes):
    shares = over_all({str(place): np.ones(size) for place, size in enumerate(sizes)}, 0.5)
    assert shares == pytest.approx({str(place): 0.5 for place in range(len(sizes))})


def test_of_all_units_the_least_important_go():
    scores = {"a": np.array([1.0, 2.0, 9.0, 8.0]), "b": np.array([5.0, 5.0, 4.0, 6.0])}
    assert over_all(scores, 0.25) == {"a": 0.5, "b": 0.0}


@pytest.mark.parametrize("step", [PruneStructured, PruneUnstructured])
@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"amount": 0.0}, "amount is 0.0; a share above 0 and below 1 is needed"),
        ({"amount": 1.0}, "amount is 1.0"),
        ({"amount": float("nan")}, "amount is nan"),
        ({"layers": {"w0": 1.0}}, "the share of 'w0' is 1.0; from 0 to below 1 is right"),
        ({"layers": {"w0": -0.1}}, "the share of 'w0' is -0.1"),
    ],
)
def test_shares_that_nobody_can_remove_are_refused(step, parameters, message):
    with pytest.raises(InputError, match=message):
        step(**parameters)


def test_no_group_that_can_lose_anything_loses_nothing():
    assert by_sensitivity((), {}, 0.5) == {}


def test_a_share_that_rounding_made_smaller_takes_no_unit_less():
    shares = over_all({"a": np.arange(50.0), "b": np.arange(50.0)}, 1 - (1 - 0.1))
    assert 50 * sum(shares.values()) == pytest.approx(10)
