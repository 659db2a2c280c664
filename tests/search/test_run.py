"""The schedule of the search: who is dropped when, and what is never dropped."""

from __future__ import annotations

import pytest

from hauberk.artifact import OnnxArtifact, StepRecord, Verdict
from hauberk.graph.passes import StripMetadata
from hauberk.measurement import Estimate, Measurement
from hauberk.recipe import Recipe
from hauberk.requirements import parse_requirement
from hauberk.schema import Decision
from hauberk.search import run
from hauberk.search.candidate import Candidate
from hauberk.tensors import Signature

GRAPH = OnnxArtifact(b"graph", Signature((), ()), "0" * 64)


def candidate(name: str, *, latency: float = 10e-6, accuracy: float | None = None) -> Candidate:
    made = Candidate(Recipe(name), GRAPH, Decision(), GRAPH).measured(Measurement("latency.p50", latency, "s", 100))
    if accuracy is None:
        return made
    difference = Estimate(accuracy, accuracy - 0.001, accuracy + 0.001)
    return made.measured(Measurement("accuracy", 0.9 + accuracy, "fraction", 1000, 0.88, 0.92, difference))


BASELINE = candidate("float32")
FAST_ENOUGH = [parse_requirement("latency.p50 <= 8us")]


def names_dropped(candidates: tuple[Candidate, ...]) -> list[str]:
    return [candidate.name for candidate in candidates if candidate.dropped]


def test_who_misses_a_requirement_is_dropped_while_another_one_meets_it():
    everyone = (BASELINE, candidate("slow", latency=9e-6), candidate("fast", latency=5e-6))
    assert names_dropped(run._drop_missed(everyone, FAST_ENOUGH, {"latency.p50"})) == ["slow"]


def test_nobody_is_dropped_where_nobody_meets_it():
    """Then the least bad is wanted, and it may well be one that still has to be trained."""
    everyone = (BASELINE, candidate("slow", latency=9e-6), candidate("fast", latency=8.5e-6))
    assert names_dropped(run._drop_missed(everyone, FAST_ENOUGH, {"latency.p50"})) == []


def test_what_has_not_been_measured_yet_drops_nobody():
    everyone = (BASELINE, candidate("a"))
    assert names_dropped(run._drop_missed(everyone, [parse_requirement("accuracy >= 99%")], {"latency.p50"})) == []


def test_the_baseline_is_never_dropped():
    everyone = (BASELINE, candidate("fast", latency=5e-6))
    assert names_dropped(run._drop_missed(everyone, FAST_ENOUGH, {"latency.p50"})) == []


def test_who_lost_quality_is_not_attacked():
    everyone = (BASELINE, candidate("worse", accuracy=-0.02), candidate("same", accuracy=0.0))
    assert names_dropped(run._drop_lost(everyone, [])) == ["worse"]


@pytest.mark.parametrize(("kept", "undone"), [(True, ()), (False, ("step quantize was undone: NaN on real[3]",))])
def test_an_undone_step_is_told_in_one_sentence(kept, undone):
    verdict = Verdict(kept, 10, 1.0, 0.0, "real[3]", "" if kept else "NaN on real[3]")
    record = StepRecord("quantize", {}, "exact", "a", "b", kept, verdict, 0.1)
    made = Candidate(Recipe("x", (StripMetadata(),)), GRAPH.with_record(record), Decision(), GRAPH)
    assert made.undone == undone


def test_what_was_undone_before_the_search_speaks_against_nobody():
    """A clean-up that broke its contract leaves the graph as it was; the candidates are made of that."""
    broken = Verdict(False, 10, 1.0, 1.0, "boundary[0]", "output went from 1 to 2")
    kept = Verdict(True, 10, 1.0, 0.0, "real[0]")
    cleaned = GRAPH.with_record(StepRecord("clean-up", {}, "close", "a", "a", False, broken, 0.1))
    assert Candidate(Recipe("float32"), cleaned, Decision(), GRAPH).undone == ()
    made = cleaned.with_record(StepRecord("quantize", {}, "exact", "a", "b", True, kept, 0.1))
    assert Candidate(Recipe("x", (StripMetadata(),)), made, Decision(), GRAPH).undone == ()


def test_newer_measurements_replace_older_ones():
    made = candidate("x").measured(Measurement("latency.p50", 1e-6, "s", 1))
    assert made.measurements["latency.p50"].value == 1e-6
