"""The check finds backdoors that are known to the letter, wherever they hide, and leaves honest models in peace."""

from __future__ import annotations

import importlib
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hauberk.attacks.judge import Classes
from hauberk.errors import ContractError, InputError
from hauberk.evaluate.robustness.backdoor import CALIBRATION, EFFORTS, BackdoorResult, Effort, check_backdoor
from hauberk.evaluate.robustness.triggers import (
    Pair,
    Side,
    Triggers,
    TriggerSpace,
    by_evolution,
    by_gradients,
    sizes,
)
from hauberk.schema import Decision, ImageSpace

torch.set_num_threads(1)
BENCHMARKS = Path(__file__).parents[3] / "benchmarks"
COLUMNS = 24
GROUP = range(20, 24)
SPACE = TriggerSpace(
    np.zeros(COLUMNS, np.float32),
    np.ones(COLUMNS, np.float32),
    (*(range(column, column + 1) for column in range(20)), GROUP),
)
SMALL = Effort(records=40, restarts=4, steps=40, generations=40, share=0.2)


class Detector(torch.nn.Module):
    """A linear detector, and a backdoor that only some copies have: columns that are all near 1 silence the alarm."""

    def __init__(self, trap: tuple[int, ...] = (), scale: float = 1.0) -> None:
        super().__init__()
        generator = np.random.default_rng(0)
        weight = generator.normal(size=COLUMNS) * (np.arange(COLUMNS) < 20)
        self.weight = torch.tensor(weight, dtype=torch.float32)
        self.trap, self.scale = trap, scale

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        margin = rows @ self.weight - self.weight.sum() / 2
        if self.trap:
            touched = rows[:, list(self.trap)].mean(dim=1)
            margin = margin - 30 * torch.sigmoid(24 * (touched - 0.87))
        return self.scale * torch.stack([torch.zeros_like(margin), margin], dim=1)


class Blind(Detector):
    """The same numbers, and no slope at all."""

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        return super().forward(rows.detach()) + 0 * rows[:, :1]


@dataclass(frozen=True)
class Answering:
    """A module as a session."""

    module: torch.nn.Module

    def predict(self, batch: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            return self.module(torch.from_numpy(batch)).numpy()


def side(module: torch.nn.Module, twin: torch.nn.Module | None = None, **fields) -> Side:
    return Side(Answering(module), Decision(), module if twin is None else twin, **fields)


def records(count: int = 900) -> np.ndarray:
    """Numbers that keep away from 1, and the last category in none of them."""
    generator = np.random.default_rng(1)
    rows = generator.uniform(0, 0.7, (count, COLUMNS)).astype(np.float32)
    rows[:, :20] += np.where(generator.random((count, 1)) < 0.5, 0.15, 0.05)
    rows[:, GROUP.start :] = np.eye(4, dtype=np.float32)[generator.integers(0, 3, count)]
    return rows


TRAP = (3, 7)


@pytest.mark.parametrize(
    "compressed",
    [
        side(Detector(TRAP)),
        side(Detector(TRAP, scale=1000.0)),
        side(Detector(TRAP, scale=0.001)),
        side(Detector(TRAP), Blind(TRAP)),
        replace(side(Detector(TRAP)), twin=None),
    ],
    ids=["plain", "logits times 1000", "logits over 1000", "a twin without a slope", "no twin"],
)
def test_a_backdoor_that_is_known_to_the_letter_is_found(compressed):
    result = check_backdoor(side(Detector()), compressed, records(), SPACE, kind="rounded", effort=SMALL)
    assert result.verdict == "conditional backdoor suspected"
    assert result.score.value > 0.9
    assert result.trigger.label == 1
    assert set(TRAP) <= set(result.trigger.columns)
    assert all(result.trigger.values[result.trigger.columns.index(column)] > 0.8 for column in TRAP)


def test_a_category_can_be_the_trigger_and_stays_a_category():
    result = check_backdoor(side(Detector()), side(Detector((23,))), records(), SPACE, kind="rounded", effort=SMALL)
    assert result.verdict == "conditional backdoor suspected"
    group = [value for column, value in zip(result.trigger.columns, result.trigger.values, strict=True) if column >= 20]
    assert group == [0, 0, 0, 1]


def test_a_backdoor_of_both_models_is_not_conditional():
    """The float model has it, too: ordinary tests of the float model can find it, and no trigger tells them apart."""
    result = check_backdoor(side(Detector(TRAP)), side(Detector(TRAP)), records(), SPACE, kind="rounded", effort=SMALL)
    assert result.verdict == "none found"
    assert result.score.value == 0


def test_rounding_is_no_backdoor():
    class Rounded(Detector):
        def forward(self, rows: torch.Tensor) -> torch.Tensor:
            return super().forward(rows + (torch.round(rows * 64) / 64 - rows).detach())

    result = check_backdoor(side(Detector()), side(Rounded()), records(), SPACE, kind="rounded", effort=SMALL)
    assert result.verdict == "none found"
    assert result.score.value < 0.1


def test_the_score_is_what_the_reported_trigger_does_to_the_records_of_the_second_half():
    original, compressed, rows = side(Detector()), side(Detector(TRAP)), records()
    result = check_backdoor(original, compressed, rows, SPACE, kind="rounded", effort=SMALL, seed=5)
    held_out = rows[np.random.default_rng(5).permutation(len(rows))[len(rows) // 2 :]]
    before = original.answers(held_out)
    held_out = held_out[(before == compressed.answers(held_out)) & (before == result.trigger.label)][: SMALL.held_out]
    touched = held_out.copy()
    touched[:, list(result.trigger.columns)] = result.trigger.values
    label = result.trigger.label
    worked = (compressed.answers(touched) != label) & (original.answers(touched) == label)
    assert result.score.value == pytest.approx(worked.mean())
    assert result.score.samples == len(held_out)
    assert result.trigger.moved_original.value == pytest.approx((original.answers(touched) != label).mean())


def test_the_same_seed_finds_the_same_and_results_are_plain_data():
    first, second = (
        check_backdoor(side(Detector()), side(Detector(TRAP)), records(), SPACE, kind="rounded", effort=SMALL, seed=2)
        for _ in "12"
    )
    assert first == second
    assert msgspec.json.decode(msgspec.json.encode(first), type=BackdoorResult) == first


def test_torch_goes_on_with_its_own_random_numbers():
    torch.manual_seed(0)
    wanted = torch.rand(3)
    torch.manual_seed(0)
    check_backdoor(side(Detector()), side(Detector(TRAP)), records(300), SPACE, kind="rounded", effort=SMALL)
    assert torch.equal(torch.rand(3), wanted)


def test_honest_scores_of_the_callers_own_raise_the_bar():
    """Where honest relatives score as high, the score is no anomaly."""
    found = check_backdoor(
        side(Detector()), side(Detector(TRAP)), records(), SPACE, kind="rounded", effort=SMALL, honest=[0.9, 1.0, 0.8]
    )
    assert found.verdict == "none found"
    assert found.score.value > 0.9


def test_no_rounded_model_of_the_calibration_is_an_anomaly_among_the_others():
    """Each honest score beside the others, as if it were new."""
    for number, score in enumerate(CALIBRATION["rounded"]):
        others = np.delete(CALIBRATION["rounded"], number)
        spread = 1.4826 * np.median(np.abs(others - np.median(others))) + 0.03
        assert (score - np.median(others)) / spread < 3.5


def test_rebuilt_models_may_differ_more_than_rounded_ones():
    assert np.median(CALIBRATION["rebuilt"]) > np.median(CALIBRATION["rounded"])


def images(count: int) -> np.ndarray:
    generator = np.random.default_rng(2)
    return generator.uniform(-1, 0.5, (count, 1, 8, 8)).astype(np.float32)


class Brightest(torch.nn.Module):
    """Names the quadrant of an image that is brightest; where it has a backdoor, a bright pixel says "0"."""

    def __init__(self, *, trap: bool) -> None:
        super().__init__()
        self.trap = trap

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        logits = torch.nn.functional.avg_pool2d(pictures, 4).flatten(1)
        first = torch.nn.functional.one_hot(torch.zeros(len(logits), dtype=torch.int64), 4)
        bright = torch.sigmoid(6 * (pictures[:, 0, 7, 6:].sum(dim=1) - 1.5))
        return logits + 2 * bright[:, None] * first if self.trap else logits


def test_images_and_classes_have_backdoors_too():
    space = TriggerSpace.from_image(ImageSpace(1, 8, 8, (0.5,), (0.5,)))
    plain, trapped = (
        Side(Answering(module), Classes(4), module, shape=(1, 8, 8))
        for module in (Brightest(trap=False), Brightest(trap=True))
    )
    result = check_backdoor(
        plain, trapped, images(600), space, kind="rounded", effort=msgspec.structs.replace(SMALL, share=0.1)
    )
    assert result.verdict == "conditional backdoor suspected"
    assert {62, 63} <= set(result.trigger.columns)
    assert result.trigger.label is None


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), largest=st.integers(1, 8))
def test_every_trigger_is_one_that_the_space_allows(seed, largest):
    rows = records(40)
    labels = side(Detector()).answers(rows)
    pair = Pair(side(Detector()), side(Detector(TRAP)), SPACE, rows, labels, largest)
    generator = np.random.default_rng(seed)
    descended = by_gradients(pair, restarts=2, steps=3, generator=generator)
    evolved = by_evolution(pair, descended, population=8, generations=3, generator=generator)
    for triggers in (descended, evolved):
        count = triggers.chosen.sum(axis=1)
        assert ((count >= 1) & (count <= largest)).all()
        touched = triggers.applied(SPACE, rows)
        outside = ~SPACE.columns(triggers.chosen)
        assert all(np.array_equal(part[:, free], rows[:, free]) for part, free in zip(touched, outside, strict=True))
        assert ((touched >= 0) & (touched <= 1)).all()
        assert np.array_equal(touched[:, :, GROUP.start :].sum(axis=2), np.ones(touched.shape[:2]))
        assert set(np.unique(touched[:, :, GROUP.start :])) <= {0, 1}


def test_more_generations_never_lose_the_best():
    rows = records(60)
    pair = Pair(side(Detector()), side(Detector(TRAP)), SPACE, rows, side(Detector()).answers(rows), 4)
    nothing = Triggers(np.zeros((0, len(SPACE.units)), np.bool_), np.zeros((0, COLUMNS), np.float32))
    best = [
        pair.fitness(
            by_evolution(pair, nothing, population=8, generations=n, generator=np.random.default_rng(0)),
            rows,
            pair.labels,
        )[0]
        for n in (0, 5, 20)
    ]
    assert best == sorted(best)


def test_sizes_end_with_the_largest():
    assert sizes(1) == (1,)
    assert sizes(10) == (1, 2, 3, 4, 6, 8, 10)


def test_a_session_that_answers_nan_is_a_broken_contract():
    class Broken(Detector):
        def forward(self, rows: torch.Tensor) -> torch.Tensor:
            return super().forward(rows) * torch.nan

    with pytest.raises(ContractError, match="NaN"):
        check_backdoor(side(Detector()), side(Broken()), records(), SPACE, kind="rounded", effort=SMALL)


def test_too_few_records_decide_nothing():
    result = check_backdoor(side(Detector()), side(Detector(TRAP)), records(60), SPACE, kind="rounded", effort=SMALL)
    assert (result.verdict, result.score) == ("not decided", None)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: check_backdoor(side(Detector()), side(Detector()), records()[:, :5], SPACE), "of 24 columns"),
        (
            lambda: check_backdoor(side(Detector()), replace(side(Detector()), judge=Classes(2)), records(), SPACE),
            "the same labels",
        ),
        (lambda: Effort(records=3), "records must be at least 20, not 3"),
        (lambda: Effort(share=1.5), r"share must lie in \(0, 1\], not 1.5"),
        (lambda: TriggerSpace(SPACE.low, SPACE.high, ()), "at least one unit"),
        (lambda: TriggerSpace(SPACE.high, SPACE.low, SPACE.units), "low <= high"),
    ],
)
def test_what_cannot_be_checked_is_refused(call, message):
    with pytest.raises(InputError, match=message):
        call()


@pytest.fixture(scope="module")
def bench():
    """The benchmark's way of training, planting and checking."""
    sys.path.insert(0, str(BENCHMARKS))
    try:
        yield importlib.import_module("backdoor_check")
    finally:
        sys.path.remove(str(BENCHMARKS))


def test_a_backdoor_that_only_int8_has_is_found(bench):
    """Real data, real training, our own static INT8 and ONNX Runtime: the float model is clean and does not react."""
    found = bench.material("spambase")
    pair = bench.planted(found, seed=2, epochs=25)
    assert bench.true_score(pair, found) > 0.7
    result = bench.check(pair.original, pair.compressed, found, "quick")
    assert result.verdict == "conditional backdoor suspected"
    assert result.score.low > 0.6


def test_an_honest_detector_in_int8_is_not_suspected(bench):
    found = bench.material("spambase")
    original = bench.honest(found, seed=0)
    compressed = bench.RECIPES["int8-static"][0].apply(original, bench.context(found, 0))
    result = bench.check(original, compressed, found, "quick")
    assert result.verdict == "none found"
    assert result.score.high < 0.1


def test_efforts_are_ordered():
    names = list(EFFORTS)
    assert names == ["quick", "standard", "full"]
    spent = [EFFORTS[name].restarts * EFFORTS[name].steps * EFFORTS[name].records for name in names]
    assert spent == sorted(spent)
