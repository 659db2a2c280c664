"""The choice among candidates, on measurements made up to the point."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from hauberk.measurement import Estimate, Measurement
from hauberk.requirements import parse_requirement
from hauberk.search.choose import Contender, choose

NOISE = 0.02


def contender(
    name: str, *, latency: float = 1.0, size: float = 1.0, accuracy: float = 0.0, throughput: float = 1.0, undone=()
) -> Contender:
    """A contender by its ratios to the baseline and its difference in accuracy; intervals are 1 % (0.5 points) wide."""

    def ratio(value: float) -> Estimate:
        return Estimate(value, value * 0.99, value * 1.01)

    measurements = {
        "latency.p50": Measurement("latency.p50", 10e-6 * latency, "s", 100, ratio=ratio(latency)),
        "throughput": Measurement("throughput", 1e6 * throughput, "records/s", 100, ratio=ratio(throughput)),
        "size": Measurement("size", 1000 * size, "bytes", 1, ratio=Estimate(size, size, size)),
        "accuracy": Measurement(
            "accuracy",
            0.9 + accuracy,
            "fraction",
            1000,
            low=0.88 + accuracy,
            high=0.92 + accuracy,
            difference=Estimate(accuracy, accuracy - 0.005, accuracy + 0.005),
        ),
    }
    return Contender(name, measurements, undone)


BASELINE = Contender(
    "float32",
    {
        name: Measurement(m.name, m.value, m.unit, m.samples, m.low, m.high)
        for name, m in contender("x").measurements.items()
    },
)


def test_the_fastest_that_holds_is_recommended():
    choice = choose(BASELINE, [contender("slow", latency=0.9), contender("fast", latency=0.5)], [], NOISE)
    assert (choice.recommended, choice.met) == ("fast", True)


def test_equally_fast_within_noise_goes_to_the_smallest():
    choice = choose(BASELINE, [contender("a", latency=0.500), contender("b", latency=0.505, size=0.3)], [], NOISE)
    assert choice.recommended == "b"


def test_slower_at_one_record_is_refused_with_figure_and_factor():
    choice = choose(BASELINE, [contender("int8", latency=1.3, size=0.25)], [], NOISE)
    assert choice.recommended == "float32"
    assert choice.refused["int8"] == ("slower than optimised float32: latency.p50 13.0 µs, 1.30 times the time",)


def test_slower_in_batches_is_refused_too():
    choice = choose(BASELINE, [contender("int8", latency=0.8, throughput=0.5)], [], NOISE)
    assert "throughput" in choice.refused["int8"][0]


def test_slower_is_refused_even_where_a_requirement_would_be_met():
    wanted = [parse_requirement("size <= 30% of baseline")]
    choice = choose(BASELINE, [contender("int8", latency=1.3, size=0.25)], wanted, NOISE)
    assert not choice.met
    assert choice.recommended == "float32"


def test_a_loss_of_quality_beyond_the_bound_is_refused():
    choice = choose(BASELINE, [contender("student", latency=0.5, accuracy=-0.02)], [], NOISE)
    assert "accuracy is -2.00 points" in choice.refused["student"][0]


def test_a_requirement_allows_the_loss_that_it_names():
    wanted = [parse_requirement("accuracy >= baseline - 3pt")]
    choice = choose(BASELINE, [contender("student", latency=0.5, accuracy=-0.02)], wanted, NOISE)
    assert (choice.recommended, choice.met) == ("student", True)


def test_a_requirement_is_judged_on_the_bound_not_on_the_value():
    wanted = [parse_requirement("accuracy >= baseline - 2.2pt")]
    choice = choose(BASELINE, [contender("student", latency=0.5, accuracy=-0.02)], wanted, NOISE)
    assert choice.recommended == "float32"
    assert "misses" in choice.refused["student"][0]


def test_an_undone_step_refuses_first():
    choice = choose(BASELINE, [contender("x", latency=0.5, undone=("step q was undone: NaN",))], [], NOISE)
    assert choice.refused["x"] == ("step q was undone: NaN",)


def test_where_nothing_holds_the_one_that_misses_least_is_still_chosen():
    wanted = [parse_requirement("latency.p50 <= 1us"), parse_requirement("size <= 50% of baseline")]
    choice = choose(BASELINE, [contender("small", size=0.4)], wanted, NOISE)
    assert (choice.recommended, choice.met) == ("small", False)


@given(
    st.lists(
        st.tuples(st.floats(0.2, 3), st.floats(0.1, 2), st.floats(-0.1, 0.1), st.booleans()), min_size=0, max_size=6
    )
)
def test_what_is_recommended_is_never_slower_nor_worse_nor_undone(rows):
    candidates = [
        contender(str(i), latency=latency, size=size, accuracy=accuracy, undone=("undone",) if undone else ())
        for i, (latency, size, accuracy, undone) in enumerate(rows)
    ]
    choice = choose(BASELINE, candidates, [], NOISE)
    assert choice.met
    if choice.recommended != "float32":
        best = next(c for c in candidates if c.name == choice.recommended)
        assert best.measurements["latency.p50"].ratio.low <= 1 + NOISE
        assert best.measurements["accuracy"].difference.high >= 0
        assert not best.undone
