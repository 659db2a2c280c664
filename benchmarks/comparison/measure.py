"""Measuring the models of one detector: how well they decide, what they cost, and how fast they are, interleaved."""

from __future__ import annotations

import datetime as dt
import os
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray

from comparison.detectors import Detector
from comparison.engines import Engine, Features
from comparison.recommend import loss, spoken_of
from comparison.results import BASELINE, EAGER, OPENVINO, OPENVINO_BF16, ORT, TORCH, Fidelity, Made, Result, Row, Timing
from comparison.sources import versions
from hauberk.compress.teaching import crossed
from hauberk.errors import HauberkError
from hauberk.evaluate.latency import LatencyResult, Runner, measure_latency
from hauberk.graph.operations import operations
from hauberk.graph.verify import decisions
from hauberk.measurement import Machine, Measurement, this_machine
from hauberk.recipe import Context, LabelledFeatures

_MOST_JUDGED = 4000
"""Records of a split that models are judged by: a share of 1 % is known to 0.3 points then."""
_TRIED = 5
"""So many of our models, the fastest on ONNX Runtime by a glance, are tried on OpenVINO too."""
_ALWAYS: dict[str, tuple[str, ...]] = {
    "reference": (OPENVINO, OPENVINO_BF16),
    "ours": (),
    "peer": (OPENVINO, OPENVINO_BF16),
}
"""Engines that are tried on every model of a kind, besides ONNX Runtime."""


@dataclass(frozen=True)
class Splits:
    """The records that models are judged by, with what the baseline answers."""

    validation: LabelledFeatures
    test: LabelledFeatures

    @property
    def made_up(self) -> LabelledFeatures:
        """As many records as there are to choose by, made of them; none of images. Their targets mean nothing."""
        features = crossed(self.validation.features, len(self.validation), seed=0)
        return LabelledFeatures(features, np.zeros(len(features), np.int64))


def measure(name: str, detector: Detector, made: Sequence[Made], folder: Path, *, seconds: float, key: str) -> Result:
    """Judge and time every model on every engine that runs it.

    Args:
        name: Of the detector.
        detector: The detector, with the records that decide about it.
        made: The models, the optimised float32 graph among them.
        folder: Where their files lie.
        seconds: Time for each of the two interleaved runs.
        key: For the result: digest of all that decides it.
    """
    subject, batch = detector.subject, detector.batch
    splits = Splits(*(split.sample(_MOST_JUDGED, seed=0) for split in (detector.choosing, subject.test)))
    field = _Field(subject.context, splits, batch)
    _say(f"{name}: judging {len(made)} models")
    for model in made:
        field.enter(model, [engine for engine in model.engines if engine in (ORT, *_ALWAYS[model.kind])], folder)
    for model in made:
        field.enter(model, field.engines_worth_trying(model), folder)
    field.enter_module(subject.module.module)
    methods = [EAGER, *(model.method for model in made)]
    judged = sorted(field.rows.values(), key=lambda row: methods.index(row.method))
    engines = field.engines
    _say(f"{name}: timing {len(engines)} models")
    one, many = (_time(engines, splits.test.features, records, seconds) for records in (1, batch))
    result = Result(
        model=name,
        data=detector.data,
        batch=batch,
        rows=tuple(_timed(row, one, many) for row in judged),
        noise_one=one.noise_by_metric["latency.p50"],
        noise_many=many.noise_by_metric["latency.p50"],
        rounds=(one.rounds, many.rounds),
        machine=_machine(),
        load=os.getloadavg()[0],
        taken=dt.datetime.now(tz=dt.UTC).date().isoformat(),
        key=key,
    )
    _say(f"{name}: timing what was chosen once more")
    return _confirmed(result, engines, splits.test.features, seconds)


def _machine() -> Machine:
    """This machine, with the versions of every library that runs a model here."""
    machine = this_machine()
    return msgspec.structs.replace(machine, versions={**machine.versions, **versions()})


def _confirmed(result: Result, engines: Mapping[str, Engine], features: Features, seconds: float) -> Result:
    """Time once more what was chosen and what it is compared with: the fastest of many flatters itself."""
    chosen = {name: engines[name] for name in spoken_of(result)}
    one, many = (_time(chosen, features, records, seconds / 3) for records in (1, result.batch))
    rows = tuple(
        _with(row, one_again=_timing(one.measurements[row.name]), many_again=_timing(many.measurements[row.name]))
        if row.name in chosen
        else row
        for row in result.rows
    )
    return msgspec.structs.replace(result, rows=rows)


class _Field:
    """The rows of a table as they come in, and the models that stand behind them.

    Args:
        context: Says what logits decide.
        splits: The records that models are judged by.
        batch: Records in a batch.
    """

    def __init__(self, context: Context, splits: Splits, batch: int) -> None:
        self.rows: dict[str, Row] = {}
        self.engines: dict[str, Engine] = {}
        self._context = context
        self._splits = splits
        self._made_up = splits.made_up
        self._batch = batch
        self._expected: list[Features] = []
        self._glances: dict[str, tuple[float, float]] = {}
        self._seen: dict[bytes, str] = {}

    def enter(self, model: Made, engines: Sequence[str], folder: Path) -> None:
        """Load a model, judge it, and glance at how long it takes; what goes wrong is said in its row."""
        if not model.file:
            row = Row(model.method, model.kind, "–", model.steps, model.undone, note=model.note)
            self.rows[row.name] = row
        for engine in engines:
            row = Row(model.method, model.kind, engine, model.steps, model.undone, note=model.note)
            self.rows[row.name] = self._entered(row, folder / model.file)

    def enter_module(self, module: torch.nn.Module) -> None:
        """The module as it is, in eager PyTorch."""
        row = Row(EAGER, "reference", TORCH)
        self.engines[row.name] = Engine(TORCH, module)
        self.rows[row.name] = self._judged(row)

    def engines_worth_trying(self, model: Made) -> list[str]:
        """OpenVINO, for what keeps its quality on ONNX Runtime and is among the fastest there."""
        good = [name for name in self._glances if not loss(self.rows[name], self.rows[BASELINE])]
        fast = {name for use in (0, 1) for name in sorted(good, key=lambda name: self._glances[name][use])[:_TRIED]}
        untried = [engine for engine in model.engines if f"{model.method} · {engine}" not in self.rows]
        return untried if f"{model.method} · {ORT}" in fast else []

    def _entered(self, row: Row, file: Path) -> Row:
        size, macs = _costs(file)
        row = _with(row, size=size, macs=macs)
        content = file.read_bytes() + row.engine.encode()
        same = self._seen.setdefault(content, row.name)
        if row.kind != "reference" and same != row.name:
            twin = self.rows[same]
            note = _joined(row.note, f"the same file as {same}")
            return _with(row, note=note, validation=twin.validation, test=twin.test)
        try:
            self.engines[row.name] = Engine(row.engine, file)
        except HauberkError as error:
            return _with(row, note=_joined(row.note, f"does not load: {error}"))
        row = self._judged(row)
        if row.engine == ORT and row.kind != "peer" and row.name in self.engines:
            engine, features = self.engines[row.name], self._splits.test.features
            self._glances[row.name] = (_glance(engine, features, 1), _glance(engine, features, self._batch))
        return row

    def _judged(self, row: Row) -> Row:
        """The row with its quality; a model that cannot answer is dropped and its row says why."""
        splits = [split for split in (self._splits.validation, self._splits.test, self._made_up) if len(split)]
        try:
            answers = [self.engines[row.name].answers(split.features) for split in splits]
        except (HauberkError, RuntimeError) as error:
            del self.engines[row.name]
            return _with(row, note=_joined(row.note, f"does not run: {error}"))
        if not all(np.isfinite(logits).all() for logits in answers):
            del self.engines[row.name]
            return _with(row, note=_joined(row.note, "does not run: answers that are not finite"))
        if row.name == BASELINE:
            self._expected = answers
        expected = self._expected or answers
        validation, test, *elsewhere = (
            _fidelity(logits, reference, split.targets, self._context)
            for logits, reference, split in zip(answers, expected, splits, strict=True)
        )
        return _with(row, validation=validation, test=test, elsewhere=next(iter(elsewhere), None))


def _costs(file: Path) -> tuple[int, int | None]:
    """Bytes and multiply-accumulate operations; `None` where they cannot be counted."""
    if file.suffix == ".xml":
        return file.stat().st_size + file.with_suffix(".bin").stat().st_size, None
    model = file.read_bytes()
    try:
        return len(model), operations(model).macs
    except HauberkError:
        return len(model), None  # a peer's graph whose shapes cannot be told; the table shows a dash


def _glance(engine: Engine, features: Features, records: int) -> float:
    """The shortest of a few calls, in seconds."""
    call = engine.call(_rows(features, records))
    call()
    taken = []
    for _ in range(5):
        started = time.perf_counter()
        call()
        taken.append(time.perf_counter() - started)
    return min(taken)


def _say(what: str) -> None:
    print(f"  {what}", file=sys.stderr, flush=True)


def _rows(features: Features, records: int) -> Features:
    """So many records, repeated where there are fewer."""
    return np.ascontiguousarray(features[np.resize(np.arange(len(features)), records)])


def _fidelity(logits: Features, expected: Features, targets: NDArray[np.int64], context: Context) -> Fidelity:
    decided = decisions(logits, context)
    otherwise = np.flatnonzero(decided != decisions(expected, context))
    difference = logits.astype(np.float64) - expected
    return Fidelity(
        quality=float(np.mean(decided == targets)),
        agreement=1 - len(otherwise) / len(decided),
        error=float(np.sqrt(np.mean(difference**2) / np.mean(expected.astype(np.float64) ** 2))),
        records=len(targets),
        otherwise=tuple(otherwise.tolist()),
    )


def _time(engines: Mapping[str, Engine], features: Features, records: int, seconds: float) -> LatencyResult:
    """One interleaved run over every model; the call under test is the only one in a round."""
    inputs = _rows(features, records)

    def runner(engine: Engine) -> Runner:
        return Runner(one=engine.call(inputs), many=_nothing)

    return measure_latency(
        {name: runner(engine) for name, engine in engines.items()},
        baseline=BASELINE,
        again=runner(engines[BASELINE]),
        seconds=seconds,
    )


def _nothing() -> None:
    """What is timed in place of a batch: batches have a run of their own, for their percentiles."""


def _timed(row: Row, one: LatencyResult, many: LatencyResult) -> Row:
    if row.name not in one.measurements:
        return row
    return _with(row, one=_timing(one.measurements[row.name]), many=_timing(many.measurements[row.name]))


def _timing(measured: Mapping[str, Measurement]) -> Timing:
    p50 = measured["latency.p50"]
    ratio = p50.ratio
    return Timing(
        p50=p50.value,
        p99=measured["latency.p99"].value,
        ratio=1.0 if ratio is None else ratio.value,
        ratio_low=1.0 if ratio is None else ratio.low,
        ratio_high=1.0 if ratio is None else ratio.high,
    )


def _with(row: Row, **changes: Any) -> Row:
    return msgspec.structs.replace(row, **changes)


def _joined(*notes: str) -> str:
    return "; ".join(note for note in notes if note)
