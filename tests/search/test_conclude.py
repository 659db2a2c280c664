"""The verdict: what is recommended, what is missed, and what was lost that nobody asked about."""

from __future__ import annotations

import numpy as np
import pytest

from hauberk.artifact import OnnxArtifact
from hauberk.measurement import Estimate, Measurement
from hauberk.recipe import Recipe
from hauberk.requirements import Outcome
from hauberk.schema import Decision
from hauberk.search.candidate import Candidate
from hauberk.search.choose import Choice
from hauberk.search.conclude import _verdict
from hauberk.search.last_look import LastLook
from hauberk.search.run import SearchResult
from hauberk.tensors import Signature

GRAPH = OnnxArtifact(b"graph", Signature((), ()), "0" * 64)
BASELINE = Candidate(Recipe("float32"), GRAPH, Decision(), GRAPH).measured(Measurement("latency.p50", 1e-5, "s", 9))
STUDENT = Candidate(Recipe("student"), GRAPH, Decision(), GRAPH).measured(
    Measurement("latency.p50", 5e-6, "s", 9, ratio=Estimate(0.5, 0.49, 0.51))
)
HOLDS = Outcome("latency.p50 <= 1ms", holds=True, reason="it is")
FAILS = Outcome("accuracy >= 99%", holds=False, reason="it is not")


def verdict(*outcomes: Outcome, lost: tuple[str, ...] = (), met: bool = True) -> str:
    result = SearchResult((BASELINE, STUDENT), Choice("student", met, {}), 0.01, {}, {})
    return _verdict(result, LastLook({}, {}, outcomes, lost, (), np.zeros(0, np.float32), GRAPH))


@pytest.mark.parametrize(
    ("told", "ending"),
    [
        (verdict(), "No requirement was made."),
        (verdict(HOLDS), "Every requirement holds on the test split."),
        (verdict(HOLDS, FAILS), "It misses 1 of 2 requirements: accuracy >= 99%."),
        (verdict(HOLDS, met=False), "It misses a requirement on validation data, though not on the test split."),
    ],
)
def test_says_what_is_recommended_and_whether_requirements_hold(told, ending):
    speed = "5.00 µs a record, 2.00 times as fast as the optimised float32 graph"
    assert told == f"student is recommended: {speed}. {ending}"


def test_tells_a_loss_on_test_records_that_no_requirement_speaks_of():
    told = verdict(HOLDS, lost=("robust_accuracy is -3.40 points against the baseline",))
    assert told.endswith(
        "Every requirement holds on the test split. On the test split it loses what no requirement speaks of:"
        " robust_accuracy is -3.40 points against the baseline."
    )
