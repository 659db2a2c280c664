"""The conclusions of `benchmarks/compression.py`: every target can be missed, and what is missed is named."""

from __future__ import annotations

import ast
import functools
import importlib
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import ClassVar

import msgspec
import numpy as np
import pytest
import torch
from scipy import stats

from hauberk.artifact import TorchArtifact
from hauberk.compress.precision import HalfPrecision
from hauberk.compress.recipes import CATALOGUE
from hauberk.errors import HauberkError, InputError
from hauberk.graph.passes.export import Export
from hauberk.measurement import this_machine
from hauberk.models import TabularMLP
from hauberk.recipe import Context, Exact, LabelledFeatures, Recipe, Step
from hauberk.tensors import Signature, TensorSpec

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
ROOMS = ("conclude", "detectors", "methods", "page", "recommend", "results", "sources")
AWARE = {"step": "quantize-aware", "weight_bits": 8, "activations": "uint8"}
STATIC = {"step": "quantize-static"}
NARROW_FLOAT = {"step": "quantize-aware", "weight_bits": 4, "activations": "float32"}
NARROW_INTEGER = {"step": "quantize-aware", "weight_bits": 4, "activations": "uint8"}


@pytest.fixture(scope="module")
def comparison():
    """The modules of the comparison, by name."""
    sys.path.insert(0, str(BENCHMARKS))
    try:
        yield SimpleNamespace(**{room: importlib.import_module(f"comparison.{room}") for room in ROOMS})
    finally:
        sys.path.remove(str(BENCHMARKS))


@pytest.fixture
def make(comparison):
    """Builds rows and results: by default a row as good, as fast and as large as the baseline."""
    form = comparison.results

    def fidelity(*, quality=0.9, agreement=1.0, error=0.0, otherwise=()):
        return form.Fidelity(quality, agreement, error, 1000, tuple(otherwise))

    def row(method, *, kind="ours", engine=form.ORT, ratio=1.0, low=None, size=1000, **fields):
        timing = form.Timing(1e-5 * ratio, 2e-5 * ratio, ratio, ratio if low is None else low, ratio)
        fields = {"validation": fidelity(), "test": fidelity(), "one": timing, "many": timing, **fields}
        return form.Row(method, kind, engine, size=size, **fields)

    def result(*rows, model="tabular-mlp"):
        always = (
            row(form.OPTIMISED, kind="reference"),
            row(form.PLAIN, kind="reference"),
            row(form.EAGER, kind="reference", engine=form.TORCH, ratio=5.0, size=0),
        )
        return form.Result(model, "-", 256, (*always, *rows), 0.01, 0.01, (9, 9), this_machine(), 0.0, "-", "-")

    return SimpleNamespace(row=row, result=result, fidelity=fidelity)


def target(comparison, result, words):
    (found,) = (target for target in comparison.conclude.conclude([result]) if words in target.asked)
    return found


@pytest.mark.parametrize(("gone", "won"), [(0, 0), (1, 0), (5, 0), (6, 0), (10, 3), (20, 11), (60, 40), (400, 350)])
def test_what_is_beyond_chance_is_the_one_sided_binomial_test_at_two_standard_errors(comparison, gone, won):
    probability = stats.binomtest(gone, gone + won, 0.5, alternative="greater").pvalue if gone + won else 1.0
    assert comparison.conclude._beyond_chance(gone, won) == (probability < stats.norm.sf(2))


@pytest.mark.parametrize(
    ("trained", "calibrated", "met", "says"),
    [
        (range(20), (), False, "worse on int8-qat on tabular-mlp (20 records lost, 0 won against int8-static)"),
        ((1, 2, 3), (4, 5), True, "lower within chance on int8-qat on tabular-mlp (3 records lost, 2 won"),
        ((), range(20), True, "1 of 1 comparisons hold"),
        (range(20), range(20), True, "1 of 1 comparisons hold"),
    ],
)
def test_training_with_the_rounding_is_judged_by_paired_decisions(comparison, make, trained, calibrated, met, says):
    rows = (
        make.row("int8-qat", steps=(AWARE,), test=make.fidelity(otherwise=trained)),
        make.row("int8-static", steps=(STATIC,), test=make.fidelity(otherwise=calibrated)),
    )
    found = target(comparison, make.result(*rows), "training with the rounding")
    assert found.met is met
    assert says in found.measured


def test_a_trained_graph_that_was_undone_is_worse_than_a_calibrated_one(comparison, make):
    gone = {"engine": "–", "size": 0, "validation": None, "test": None, "one": None, "many": None}
    rows = (make.row("int8-qat", undone=(AWARE,), **gone), make.row("int8-static", steps=(STATIC,)))
    found = target(comparison, make.result(*rows), "training with the rounding")
    assert (found.met, "int8-qat on tabular-mlp (undone" in found.measured) == (False, True)


def test_a_training_that_changed_nothing_is_counted(comparison, make):
    other = {"validation": make.fidelity(error=0.01)}
    rows = (
        make.row("int8-qat", steps=(AWARE,)),
        make.row("int8-qat-mixed", steps=(AWARE,), **other),
        make.row("int8-static", steps=(STATIC,)),
    )
    found = target(comparison, make.result(*rows), "training with the rounding")
    assert found.measured.startswith("2 of 2 comparisons hold, 1 of them because both answer exactly alike")


def pruned(amount):
    return ({"step": "prune-structured", "amount": amount},)


@pytest.mark.parametrize(
    ("fields", "met", "says"),
    [
        ({"ratio": 0.5}, True, "pruned-50 · ORT: 2.00 ×, +0.00 points lost on validation records"),
        ({"ratio": 0.5, "quality": 0.8}, False, "pruned-50 · ORT: 2.00 ×, +10.00 points lost on validation records"),
        ({"ratio": 0.9}, False, "pruned-50 · ORT: 1.11 ×"),
    ],
)
def test_half_of_the_units_is_not_a_third_of_them(comparison, make, fields, met, says):
    quality = make.fidelity(quality=fields.pop("quality", 0.9))
    rows = (
        make.row("pruned-30", steps=pruned(0.3), ratio=0.7),
        make.row("pruned-50", steps=pruned(0.5), validation=quality, test=quality, **fields),
    )
    found = target(comparison, make.result(*rows, model="window-lstm"), "window-lstm: half of the hidden units")
    assert found.met is met
    assert says in found.measured


def test_half_of_the_units_that_came_back_is_a_target_missed(comparison, make):
    gone = {"engine": "–", "size": 0, "validation": None, "test": None, "one": None, "many": None}
    rows = (make.row("pruned-30", steps=pruned(0.3), ratio=0.7), make.row("pruned-50", undone=pruned(0.5), **gone))
    found = target(comparison, make.result(*rows, model="window-gru"), "window-gru: half of the hidden units")
    assert (found.met, found.measured) == (False, "undone: pruned-50 · –")


def test_a_detector_without_a_rival_is_named(comparison, make):
    bad = make.fidelity(quality=0.5)
    results = [
        make.result(make.row("peer", kind="peer", ratio=2.0), model="first"),
        make.result(make.row("peer", kind="peer", validation=bad, test=bad), model="second"),
    ]
    found = comparison.conclude.conclude(results)[1]
    assert found.met
    assert "(1 of 2 detectors compared)" in found.measured
    assert "no peer keeps its quality on second" in found.measured
    alone = comparison.conclude.conclude(results[1:])[1]
    assert (alone.met, alone.measured) == (None, "no peer keeps its quality on second")


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"size": 150}, ""),
        ({"size": 250}, "any on tabular-mlp (0.25 of the size, 1.00 × the time)"),
        ({"size": 150, "ratio": 1.3}, "any on tabular-mlp (0.15 of the size, 1.30 × the time)"),
        ({"size": 1000}, "any on tabular-mlp (did nothing: 1.00 of the size)"),
        ({"size": 150, "validation": None, "one": None}, "any on tabular-mlp (does not run)"),
    ],
)
def test_small_files_are_judged_by_size_and_time(comparison, make, fields, says):
    result = make.result(make.row("any", steps=(NARROW_FLOAT,), **fields))
    found = target(comparison, result, "computed with in float32")
    said = f"0 of 1 files hold; not {says}" if says else "1 of 1 files hold"
    assert (found.measured, found.met) == (said, not says)
    assert target(comparison, result, "computed with in 8-bit integers").met is None


def test_a_small_file_that_was_undone_is_named_and_is_no_file(comparison, make):
    fields = {"engine": "–", "size": 0, "validation": None, "test": None, "one": None, "many": None}
    undone = make.row("any", undone=({"step": "codebook", "bits": 4},), **fields)
    result = make.result(make.row("other", size=150, steps=(NARROW_FLOAT,)), undone)
    found = target(comparison, result, "computed with in float32")
    assert found.met
    assert found.measured == "1 of 1 files hold; undone, so that there is no file: any on tabular-mlp"


@pytest.mark.parametrize(
    ("ratio", "size", "says", "met"),
    [
        (1.3, 250, "1 of 1 hold; integers themselves are slower than float32 on tabular-mlp (0.25 of the size", True),
        (1.5, 250, "0 of 1 hold; not narrow on tabular-mlp (1.15 × its time)", False),
        (1.3, 1000, "not measured", None),  # nothing was quantized
    ],
)
def test_codebooks_in_integers_are_judged_beside_eight_bits(comparison, make, ratio, size, says, met):
    narrow = make.row("narrow", steps=(NARROW_INTEGER,), ratio=ratio, size=size)
    result = make.result(make.row("int8-qat", steps=(AWARE,), ratio=1.3, size=300), narrow)
    found = target(comparison, result, "computed with in 8-bit integers")
    assert found.measured.startswith(says)
    assert found.met is met


@pytest.mark.parametrize(("ratio", "met"), [(3.5, True), (1.5, False), (1.0, False)])
def test_dynamic_convolutions_that_get_no_warning_miss_the_target(comparison, make, ratio, met):
    rows = (make.row("int8-dynamic"), make.row("quantize_dynamic", kind="peer", size=260, ratio=ratio))
    found = target(comparison, make.result(*rows, model="resnet18"), "dynamically quantized convolutions")
    assert found.met is met
    assert "int8-dynamic" not in found.measured  # which left them in float32


def test_a_row_that_stored_nothing_in_fewer_bits_says_so_in_the_table(comparison, make):
    row = make.row("int4-qat", steps=(NARROW_INTEGER,))
    assert "did nothing: 1.00 of the size" in comparison.page.verdict(row, make.result(row))


def test_the_summary_names_steps_that_the_recommended_model_is_without(comparison, make):
    row = make.row("pruned-qat", steps=({"step": "prune-structured"},), undone=(AWARE,), ratio=0.5, size=500)
    result = make.result(row)
    assert comparison.recommend.recommended(result).one == row
    assert "pruned-qat · ORT (without quantize-aware, undone)" in comparison.page.show([result], [])


def test_results_of_several_days_say_so(comparison, make):
    days = ("2026-03-05", "2026-02-28", "2026-03-01")
    results = [msgspec.structs.replace(make.result(), taken=day) for day in days]
    assert "Taken from 2026-02-28 to 2026-03-05 on" in comparison.page.show(results, [])
    assert "Taken on 2026-03-05 on" in comparison.page.show(results[:1], [])


@pytest.mark.parametrize("changes", [{"processor": "other"}, {"cores": 99}, {"versions": {"numpy": "0.1"}}])
def test_results_of_different_machines_are_not_shown_as_one(comparison, make, changes):
    here = make.result(model="first")
    there = msgspec.structs.replace(here, model="second", machine=msgspec.structs.replace(here.machine, **changes))
    with pytest.raises(InputError, match=r"first on .*; second on .*; time them anew with --again"):
        comparison.page.show([here, there], [])


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"quality": 0.894}, "loses 0.6 points"),
        ({"agreement": 0.989}, "agrees on 98.9 %"),
        ({"error": 0.11}, "moves logits by 11 %"),
    ],
)
def test_a_fast_model_is_not_recommended_where_it_does_harm(comparison, make, changes, says):
    fast = make.row("fast", ratio=0.5, validation=make.fidelity(**changes))
    result = make.result(fast)
    assert comparison.recommend.recommended(result).one.method != "fast"
    assert says in comparison.page.verdict(fast, result)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"agreement": 0.989}, "agrees on 98.9 % of made-up records only"),
        ({"error": 0.11}, "moves logits by 11 % on made-up records"),
    ],
)
def test_a_model_that_answers_otherwise_on_made_up_records_is_not_recommended(comparison, make, changes, says):
    result = make.result(make.row("fast", ratio=0.5, elsewhere=make.fidelity(**changes)))
    baseline = result.row(comparison.results.BASELINE)
    assert comparison.recommend.recommended(result).one == baseline
    assert comparison.recommend.loss(result.row(f"fast · {comparison.results.ORT}"), baseline) == says


def test_what_is_chosen_by_shares_no_record_with_what_steps_stop_by(comparison):
    records = np.arange(64)
    windows = np.lib.stride_tricks.sliding_window_view(records, 8)[:, :, None].astype(np.float32)
    stopping, choosing = comparison.detectors._halves(LabelledFeatures(windows, np.zeros(len(windows), np.int64)))
    assert not set(stopping.features.ravel()) & set(choosing.features.ravel())
    assert len(stopping) + len(choosing) + 7 == len(windows)


@pytest.fixture(scope="module")
def subject():
    """A small network of random weights with a few records: enough to have models made of it."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module = TabularMLP(8, (32, 16)).eval()
    features = np.random.default_rng(0).random((64, 8), dtype=np.float32)
    records = LabelledFeatures(features, np.arange(64) % 2)
    bounds = (np.zeros(8, np.float32), np.ones(8, np.float32))
    context = Context(features, bounds, training=records, validation=records)
    specs = (TensorSpec("features", "float32", ("batch", 8)),), (TensorSpec("logits", "float32", ("batch", 2)),)
    artifact = TorchArtifact(module, Signature(*specs), "0" * 64)
    return SimpleNamespace(core=Export().apply(artifact, context), module=artifact, context=context)


@pytest.fixture
def workshop(comparison, subject, tmp_path, monkeypatch):
    """Makes the one recipe `float16` in the same folder every time."""
    monkeypatch.setattr(comparison.methods, "CATALOGUE", {"float16": CATALOGUE["float16"]})

    def ours(*, limit=60.0, **changes):
        changed = SimpleNamespace(**{**vars(subject), **changes})
        bench = comparison.methods.Workshop(tmp_path, changed, tmp_path, limit=limit, trains=True, fresh=False)
        (made,) = bench.ours(quick=False)
        return made

    return ours


def test_recipes_are_made_with_the_detector_as_the_teacher(comparison, subject, tmp_path):
    bench = comparison.methods.Workshop(tmp_path, subject, tmp_path, limit=1.0, trains=True, fresh=False)
    assert bench._context.teacher.artifact is subject.core


def test_a_model_is_made_once(workshop):
    first = workshop()
    assert first.file == "float16.onnx"
    assert workshop() == first  # to the nanosecond that it took


def test_a_model_is_made_anew_where_the_sources_have_changed(comparison, workshop, monkeypatch):
    first = workshop()
    monkeypatch.setattr(comparison.sources, "of_making", lambda: "other")
    assert workshop().key != first.key


def test_a_model_is_made_anew_from_other_records(workshop, subject):
    calibration = subject.context.calibration + np.float32(0.001)
    assert workshop(context=replace(subject.context, calibration=calibration)).key != workshop().key


def test_what_an_older_form_of_the_program_wrote_is_made_anew(workshop, tmp_path):
    made = msgspec.to_builtins(workshop())
    (tmp_path / "float16.made.json").write_bytes(msgspec.json.encode({**made, "steps": ["half-precision"]}))
    assert [step["step"] for step in workshop().steps] == ["half-precision"]


ALONE: list[str] = []
"""Names of the tests that run in a process of their own, together."""


def alone(test):
    """Runs a test in another process, because alarms ring in it.

    A process that has run other tests for minutes, with threads and signal stacks of many libraries in it, was ended by
    that more than once.
    """
    ALONE.append(test.__name__)

    @functools.wraps(test)
    def runs(**fixtures):
        if os.environ.get("HAUBERK_TEST_ALONE"):
            test(**fixtures)
            return
        shown = run_alone()
        assert f"PASSED tests/test_comparison.py::{test.__name__}\n" in shown, shown

    return runs


@functools.cache
def run_alone() -> str:
    """What pytest says of the tests that are run alone, a line for each that passed."""
    command = [sys.executable, "-m", "pytest", "-q", "-rA", "-p", "no:cacheprovider", "-p", "no:xdist"]
    done = subprocess.run(
        [*command, *(f"{__file__}::{name}" for name in ALONE)],
        env={**os.environ, "HAUBERK_TEST_ALONE": "1"},
        cwd=Path(__file__).parents[1],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    return done.stdout + done.stderr


class SlowAtFirst(HalfPrecision, frozen=True, kw_only=True, tag="slow-at-first"):
    """Takes too long once."""

    starts: ClassVar[int] = 0

    def apply(self, artifact, context):
        type(self).starts += 1
        time.sleep(10 if self.starts == 1 else 0)
        return super().apply(artifact, context)


@alone
def test_what_ran_out_of_time_is_said_and_tried_again(comparison, workshop, monkeypatch):
    monkeypatch.setattr(comparison.methods, "named_recipe", lambda name, core: Recipe(name, (SlowAtFirst(),)))
    slow = workshop(limit=0.2)
    assert (slow.file, slow.settled) == ("", False)
    assert "it took more than the 0.2 s" in slow.note
    assert workshop().file
    assert SlowAtFirst.starts == 2


@alone
def test_an_alarm_that_comes_late_ends_nobody(comparison):
    alarm = comparison.methods._Alarm()
    with comparison.methods._at_most(60, alarm):
        pass
    signal.raise_signal(signal.SIGALRM)
    assert not alarm.rang


class Swallowing(Step, frozen=True, kw_only=True, tag="swallowing"):
    """Takes too long once, and takes the alarm for a failure of its own."""

    starts: ClassVar[int] = 0

    @property
    def contract(self):
        return Exact()

    def apply(self, artifact, context):
        type(self).starts += 1
        with suppress(HauberkError):
            time.sleep(10 if self.starts == 1 else 0)
        return artifact


@alone
def test_what_one_recipe_had_no_time_for_is_done_by_the_next(comparison, subject, tmp_path, monkeypatch):
    recipes = {name: Recipe(name, (Swallowing(),)) for name in ("first", "second")}
    monkeypatch.setattr(comparison.methods, "CATALOGUE", recipes)
    monkeypatch.setattr(comparison.methods, "named_recipe", lambda name, core: recipes[name])
    bench = comparison.methods.Workshop(tmp_path, subject, tmp_path, limit=0.2, trains=True, fresh=False)
    first, second = bench.ours(quick=False)
    assert (first.settled, "it took more than the 0.2 s" in first.note) == (False, True)
    assert (second.settled, Swallowing.starts) == (True, 2)


def test_all_that_makes_a_model_decides_whether_it_is_made_anew(comparison):
    """Rooms of the library that the sources of models import are among these sources, but those that change nothing."""
    library, making = comparison.sources._LIBRARY, comparison.sources._MAKING
    files = [file for place in making for file in ([place] if place.is_file() else place.rglob("*.py"))]
    rooms = {
        library / name.split(".")[1]
        for file in files
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.ImportFrom) and (name := node.module or "").startswith("hauberk.")
    }
    left = {room.stem for room in rooms if room not in making and room.with_suffix(".py") not in making}
    assert left <= {"data", "errors", "files", "measurement", "progress"}  # the records of `data` count themselves


def test_rows_of_other_sources_count_for_nothing(comparison, monkeypatch, tmp_path):
    program = importlib.import_module("quantization_aware")
    log = tmp_path / "rows.jsonl"
    rows = [{"bits": 8}, {"bits": 4, "key": program._key()}]
    log.write_text("".join(f"{msgspec.json.encode(row).decode()}\n" for row in rows))
    assert program._read(log) == rows[1:]
    monkeypatch.setattr(comparison.sources, "of_measuring", lambda: "other")
    assert program._read(log) == []


def test_another_version_of_a_peer_is_another_peer(comparison, monkeypatch, tmp_path):
    environments = importlib.import_module("peers.environments")
    peer = environments.PEERS[0]
    before = peer.digest
    (tmp_path / "requirements").mkdir()
    for file in (peer.script, f"requirements/{peer.environment}.txt"):
        (tmp_path / file).write_bytes((environments.HERE / file).read_bytes())
    monkeypatch.setattr(environments, "HERE", tmp_path)
    assert peer.digest == before
    (tmp_path / "requirements" / f"{peer.environment}.txt").write_text("onnxruntime==0.0.1\n")
    assert peer.digest != before
