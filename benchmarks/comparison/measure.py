"""Measuring the models of one detector: how well they decide, what they cost, and how fast they are, interleaved."""

from __future__ import annotations

import datetime as dt
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from comparison.conclude import spoken_of
from comparison.engines import Engine, Features
from comparison.results import BASELINE, EAGER, OPENVINO, OPENVINO_BF16, ORT, TORCH, Fidelity, Made, Result, Row, Timing
from hauberk.errors import HauberkError
from hauberk.evaluate.latency import LatencyResult, Runner, measure_latency
from hauberk.graph.operations import operations
from hauberk.graph.verify import decisions
from hauberk.measurement import Measurement, this_machine
from hauberk.recipe import Context, LabelledFeatures
from subjects import Subject

_MOST_JUDGED = 4000
"""Records of a split that models are judged by: a share of 1 % is known to 0.3 points then."""


_FAR_SLOWER = 1.5


@dataclass(frozen=True)
class Splits:
    """The records that models are judged by, with what the baseline answers."""

    validation: LabelledFeatures
    test: LabelledFeatures


def measure(
    name: str, subject: Subject, data: str, made: Sequence[Made], folder: Path, *, batch: int, seconds: float
) -> Result:
    """Judge and time every model on every engine that runs it.

    Args:
        name: Of the detector.
        subject: The detector.
        data: What it was trained on, for the table.
        made: The models, the optimised float32 graph among them.
        folder: Where their files lie.
        batch: Records in a batch.
        seconds: Time for each of the two interleaved runs.
    """
    validation = subject.context.validation
    assert validation is not None
    splits = Splits(_sample(validation), _sample(subject.test))
    rows: dict[str, Row] = {}
    engines: dict[str, Engine] = {}
    for model in made:
        for engine in model.engines or ("–",):
            row = Row(model.method, model.kind, engine, model.steps, note=model.note)
            rows[row.name] = row
            if model.file:
                rows[row.name] = _open(row, folder / model.file, engines)
    eager = Row(EAGER, "reference", TORCH)
    rows[eager.name], engines[eager.name] = eager, Engine(TORCH, subject.module.module)
    judged = _judge(rows, engines, splits, subject.context)
    judged = _screened(judged, engines, splits.test.features, batch)
    one, many = (_time(engines, splits.test.features, records, seconds) for records in (1, batch))
    result = Result(
        model=name,
        data=data,
        batch=batch,
        rows=tuple(_timed(row, one, many) for row in judged.values()),
        noise_one=one.noise_by_metric["latency.p50"],
        noise_many=many.noise_by_metric["latency.p50"],
        rounds=(one.rounds, many.rounds),
        machine=this_machine(),
        load=os.getloadavg()[0],
        taken=dt.datetime.now(tz=dt.UTC).date().isoformat(),
    )
    return _confirmed(result, engines, splits.test.features, seconds)


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


def _open(row: Row, file: Path, engines: dict[str, Engine]) -> Row:
    """Load a model; the row with its costs, or with the reason why it does not load."""
    try:
        engines[row.name] = Engine(row.engine, file)
    except HauberkError as error:
        return _with(row, note=_joined(row.note, f"does not load: {error}"))
    if file.suffix == ".xml":
        return _with(row, size=file.stat().st_size + file.with_suffix(".bin").stat().st_size)
    model = file.read_bytes()
    try:
        counted: int | None = operations(model).macs
    except HauberkError:
        counted = None  # a peer's graph whose shapes cannot be told; the table shows a dash
    return _with(row, size=len(model), macs=counted)


def _judge(rows: Mapping[str, Row], engines: dict[str, Engine], splits: Splits, context: Context) -> dict[str, Row]:
    """The rows with their quality; a model that cannot answer is taken out of `engines` and its row says why."""
    baseline = engines[BASELINE]
    expected = [baseline.answers(split.features) for split in (splits.validation, splits.test)]
    judged = dict(rows)
    for name in list(engines):
        try:
            validation, test = (
                _fidelity(engines[name].answers(split.features), reference, split.targets, context)
                for split, reference in zip((splits.validation, splits.test), expected, strict=True)
            )
        except (HauberkError, RuntimeError) as error:
            judged[name] = _with(rows[name], note=_joined(rows[name].note, f"does not run: {error}"))
            del engines[name]
            continue
        judged[name] = _with(rows[name], validation=validation, test=test)
    return judged


def _screened(rows: dict[str, Row], engines: dict[str, Engine], features: Features, batch: int) -> dict[str, Row]:
    """Leave out OpenVINO where it is far slower than ONNX Runtime on the same model, for one record and for a batch.

    A glance of a few calls decides, so only a factor of 1.5 counts; the row says so. It halves the models in a round.
    """
    glances = {name: [_glance(engine, features, records) for records in (1, batch)] for name, engine in engines.items()}
    kept = dict(rows)
    for name, row in rows.items():
        rival = f"{row.method} · {ORT}"
        if row.engine not in (OPENVINO, OPENVINO_BF16) or name not in glances or rival not in glances:
            continue
        ratios = [mine / theirs for mine, theirs in zip(glances[name], glances[rival], strict=True)]
        if min(ratios) > _FAR_SLOWER:
            said = f"not timed: at a glance {ratios[0]:.1f} and {ratios[1]:.1f} times the time of {ORT}"
            kept[name] = _with(row, note=_joined(row.note, said))
            del engines[name]
    return kept


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


def _rows(features: Features, records: int) -> Features:
    """So many records, repeated where there are fewer."""
    return np.ascontiguousarray(features[np.resize(np.arange(len(features)), records)])


def _fidelity(logits: Features, expected: Features, targets: NDArray[np.int64], context: Context) -> Fidelity:
    decided = decisions(logits, context)
    difference = logits.astype(np.float64) - expected
    return Fidelity(
        quality=float(np.mean(decided == targets)),
        agreement=float(np.mean(decided == decisions(expected, context))),
        error=float(np.sqrt(np.mean(difference**2) / np.mean(expected.astype(np.float64) ** 2))),
        records=len(targets),
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


def _sample(split: LabelledFeatures) -> LabelledFeatures:
    if len(split) <= _MOST_JUDGED:
        return split
    rows = np.sort(np.random.default_rng(0).permutation(len(split))[:_MOST_JUDGED])
    return LabelledFeatures(split.features[rows], split.targets[rows])


def _with(row: Row, **changes: Any) -> Row:
    return msgspec.structs.replace(row, **changes)


def _joined(*notes: str) -> str:
    return "; ".join(note for note in notes if note)
