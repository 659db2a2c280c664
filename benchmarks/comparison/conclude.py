"""What the measurements say: which model is recommended for each detector, why the others are not, what targets hold.

A recommendation is chosen on validation records and on the clock: of our models, and of the float32 graph on any
engine, the fastest that

1. decides at most 0.5 points fewer validation records right than the optimised float32 graph,
2. agrees with its decision on at least 99 % of validation records,
3. moves its logits there by at most 10 % of their root mean square, the bound of a static 8-bit step: quality and
   agreement saturate on validation records, and a model that answers differently shows it on other records first,
4. is not slower than it beyond noise.

There are two a detector: the fastest for one record and the fastest for a batch. Test records are never looked at for
that; what a table says of quality on them is what came of the choice. What was chosen, and what it is compared with, is
then timed once more, among themselves, and targets are judged by that second run: the fastest of many flatters itself.

A peer is a rival where it keeps quality within 0.5 points on validation records **or** on test records, whichever is
kinder to it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from comparison.results import BASELINE, EAGER, ORT, PLAIN, TORCH, Result, Row, Timing

QUALITY = 0.005
"""The largest loss of quality that a recommendation may have, as a fraction of records."""
AGREEMENT = 0.99
ERROR = 0.1
"""The most that logits may move, as a fraction of their root mean square."""

_SMALL_FILE = 0.2
_SMALLEST_NOISE = 0.02
"""Two sessions of one graph differ by as much from one process to the next, whatever one run says."""
_WARNING = 2.0
"""From how many times the baseline's time on a row gets a warning."""
_NARROW = ("codebook", "int4", "cluster", "palett")
"""Recipes whose aim is the file: names of those that store weights in 4 bits."""


class Target(NamedTuple):
    """What was asked for and what was measured; `met` is `None` where nothing was there to judge."""

    asked: str
    measured: str
    met: bool | None


class Chosen(NamedTuple):
    """The two recommendations for a detector."""

    one: Row
    many: Row


def conclude(results: Sequence[Result]) -> list[Target]:
    """Judge every target on what was measured."""
    return [
        _never_slower(results),
        *(_beside_peers(results, batch=batch) for batch in (False, True)),
        _beside_eager(results),
        _resnet(results),
        _dynamic_on_convolutions(results),
        *(_recurrent(results, kind) for kind in ("window-lstm", "window-gru")),
        _small_files(results),
    ]


def recommended(result: Result) -> Chosen:
    """The fastest rows that may be recommended, for one record and for a batch."""

    def fastest(*, batch: bool) -> Row:
        ours = (row for row in result.rows if row.kind != "peer" and row.one and not loss(row, result.row(BASELINE)))
        return _fastest([row for row in ours if not _slower(row, result, batch=batch)], batch=batch)

    return Chosen(fastest(batch=False), fastest(batch=True))


def spoken_of(result: Result) -> list[str]:
    """Names of the rows that targets are judged by: they are worth timing twice."""
    chosen = recommended(result)
    rows = [result.row(BASELINE), *chosen, result.row(f"{EAGER} · {TORCH}"), result.row(f"{PLAIN} · {ORT}")]
    peers, small = rivals(result), [row for row in result.rows if _is_small(row)]
    if peers:
        rows += [_fastest(peers, batch=batch) for batch in (False, True)]
    rows += [best for best in (_eight_bits(result), _half_units(result)) if best is not None]
    return list(dict.fromkeys(row.name for row in [*rows, *small]))


def verdict(row: Row, result: Result) -> str:
    """What the table says of a row, in a few words."""
    if row.one is None:
        return row.note if row.size else f"not made: {row.note}"
    chosen = recommended(result)
    said = [
        f"**recommended for {use}**"
        for use, best in (("one record", chosen.one), (f"{result.batch} records", chosen.many))
        if best.name == row.name
    ]
    if row.name == BASELINE:
        said.append("baseline")
    objections = [loss(row, result.row(BASELINE)), *(_slower(row, result, batch=batch) for batch in (False, True))]
    said += [objection for objection in objections if objection]
    return "; ".join(
        [*(said or ["keeps its quality; another is faster"]), *([f"note: {row.note}"] if row.note else [])]
    )


def loss(row: Row, baseline: Row) -> str:
    """Why a row cannot be recommended however fast it is, or nothing."""
    if row.validation is None:
        return row.note or "it does not run"
    if row.engine == TORCH:
        return "needs PyTorch in production"
    lost = _lost(row, baseline, test=False)
    if lost > QUALITY:
        return f"loses {100 * lost:.1f} points on validation records"
    if row.validation.agreement < AGREEMENT:
        return f"agrees on {100 * row.validation.agreement:.1f} % of validation records only"
    if row.validation.error > ERROR:
        return f"moves logits by {100 * row.validation.error:.0f} % on validation records"
    return ""


def _slower(row: Row, result: Result, *, batch: bool) -> str:
    """How much slower than the baseline a row is for that use, or nothing."""
    timing, noise = (row.many, result.noise_many) if batch else (row.one, result.noise_one)
    if timing is None or timing.ratio_low <= 1 + max(noise, _SMALLEST_NOISE):
        return ""
    use = f"{result.batch} records" if batch else "one record"
    if timing.ratio > _WARNING:
        return f"**{timing.ratio:.1f} times slower than doing nothing** for {use}"
    return f"slower for {use} ({timing.ratio:.2f} ×)"


def rivals(result: Result) -> list[Row]:
    """The peers' rows that keep their quality on validation or on test records."""
    baseline = result.row(BASELINE)
    return [
        row
        for row in result.rows
        if row.kind == "peer"
        and row.one is not None
        and min(_lost(row, baseline, test=test) for test in (False, True)) <= QUALITY
    ]


def _never_slower(results: Sequence[Result]) -> Target:
    worst, name = 0.0, "–"
    for result in results:
        one, many = recommended(result)
        for row, timing, noise in ((one, _one(one), result.noise_one), (many, _many(many), result.noise_many)):
            beyond = timing.ratio_low - max(noise, _SMALLEST_NOISE)
            if beyond > worst:
                worst, name = beyond, f"{row.name} on {result.model}"
    return Target(
        "No recommended row is slower than the optimised float32 graph for what it is recommended for, beyond noise",
        f"the slowest takes {worst:.2f} times its time ({name})" if worst else "nothing measured",
        worst <= 1 if results else None,
    )


def _beside_peers(results: Sequence[Result], *, batch: bool) -> Target:
    timing = _many if batch else _one
    use = "a batch" if batch else "one record"
    ratios: dict[str, float] = {}
    against: dict[str, str] = {}
    unequal = []
    for result in results:
        candidates = rivals(result)
        if candidates:
            best = _fastest(candidates, batch=batch)
            ours = recommended(result)[int(batch)]
            shortfall = _lost(ours, result.row(BASELINE), test=True)
            if shortfall > QUALITY:
                unequal.append(f"{result.model} ({100 * shortfall:.1f} points lost on test records)")
            ratios[result.model] = timing(best).p50 / timing(ours).p50
            against[result.model] = best.name
    asked = f"For {use}: as fast as the best peer of equal quality on every detector, 1.3 times in the geometric mean"
    if not ratios:
        return Target(asked, "no peer was measured", None)
    mean = _geometric_mean(list(ratios.values()))
    lost = [
        f"{model} ({ratio:.2f} × against {against[model]})"
        for model, ratio in ratios.items()
        if ratio < 1 - _SMALLEST_NOISE
    ]
    said = f"{mean:.2f} × in the geometric mean, least {min(ratios.values()):.2f} ×"
    said += f"; slower on {', '.join(lost)}" if lost else ""
    said += f"; quality not equal on {', '.join(unequal)}" if unequal else ""
    return Target(asked, said, mean >= 1.3 and not lost and not unequal)


def _beside_eager(results: Sequence[Result]) -> Target:
    ratios = {
        result.model: _one(result.row(f"{EAGER} · {TORCH}")).p50 / _one(recommended(result).one).p50
        for result in results
    }
    asked = "At least 4 times as fast as eager PyTorch in the geometric mean, one record"
    if not ratios:
        return Target(asked, "nothing measured", None)
    mean = _geometric_mean(list(ratios.values()))
    worst = min(ratios, key=lambda model: ratios[model])
    return Target(asked, f"{mean:.1f} ×; least on {worst}, {ratios[worst]:.1f} ×", mean >= 4)


def _resnet(results: Sequence[Result]) -> Target:
    asked = "ResNet-18 at 1×3×224×224: the recommended 8-bit model at least 2.5 times as fast as ORT float32"

    found = _of(results, "resnet18")
    if found is None:
        return Target(asked, "not measured", None)
    plain = _one(found.row(f"{PLAIN} · {ORT}")).p50
    best = _eight_bits(found)
    if best is None:
        return Target(asked, "no 8-bit model may be recommended", met=False)
    ratio = plain / _one(best).p50
    return Target(asked, f"{best.name}: {1e3 * plain:.1f} → {1e3 * _one(best).p50:.1f} ms, {ratio:.2f} ×", ratio >= 2.5)


def _dynamic_on_convolutions(results: Sequence[Result]) -> Target:
    asked = "The table says of dynamic quantization on ResNet-18 that it is slower than doing nothing"
    found = _of(results, "resnet18")
    rows = [] if found is None else [row for row in found.rows if "dynamic" in row.method and row.one is not None]
    if found is None or not rows:
        return Target(asked, "not measured", None)
    said = [f"{row.name}: {_slower(row, found, batch=False) or 'not slower'}" for row in rows]
    slower = all(_one(row).ratio <= _WARNING or "doing nothing" in verdict(row, found) for row in rows)
    return Target(asked, "; ".join(said), slower)


def _recurrent(results: Sequence[Result], model: str) -> Target:
    asked = f"{model}: half of the hidden units removed, 1.3 times as fast at one record, at most 0.5 points lost"
    found = _of(results, model)
    rows = [] if found is None else [row for row in found.rows if row.one and "prune-structured" in row.steps]
    if found is None or not rows:
        return Target(asked, "not measured", None)
    baseline = found.row(BASELINE)
    kept = [row for row in rows if _lost(row, baseline, test=False) <= QUALITY] or rows
    best = min(kept, key=lambda row: _one(row).ratio)
    lost = [_lost(best, baseline, test=test) for test in (False, True)]
    said = (
        f"{best.name}: {1 / _one(best).ratio:.2f} ×, {100 * lost[0]:+.2f} points lost on validation records,"
        f" {100 * lost[1]:+.2f} on test records"
    )
    return Target(asked, said, _one(best).ratio <= 1 / 1.3 and max(lost) <= QUALITY)


def _small_files(results: Sequence[Result]) -> Target:
    asked = "Codebook and INT4 files: at most a fifth of float32, at its latency"
    judged: list[tuple[Row, Result]] = [(row, result) for result in results for row in result.rows if _is_small(row)]
    if not judged:
        return Target(asked, "not measured", None)
    missed = []
    for row, result in judged:
        share = row.size / result.row(BASELINE).size
        slow = _one(row).ratio_low > 1 + max(result.noise_one, _SMALLEST_NOISE)
        if share > _SMALL_FILE or slow:
            missed.append(f"{row.method} on {result.model} ({share:.2f} of the size, {_one(row).ratio:.2f} × the time)")
    said = f"{len(judged) - len(missed)} of {len(judged)} hold"
    return Target(asked, said + (f"; not {', '.join(missed)}" if missed else ""), not missed)


def _fastest(rows: Sequence[Row], *, batch: bool) -> Row:
    """The fastest of rows in the first run, which is what choices are made by."""
    timings = {row.name: row.many if batch else row.one for row in rows}
    return min(rows, key=lambda row: math.inf if (timing := timings[row.name]) is None else timing.p50)


def _eight_bits(result: Result) -> Row | None:
    """The fastest of our rows with quantized layers that may be recommended."""
    rows = [row for row in result.rows if row.kind == "ours" and any("quantize" in step for step in row.steps)]
    eligible = [row for row in rows if not loss(row, result.row(BASELINE)) and not _slower(row, result, batch=False)]
    return _fastest(eligible, batch=False) if eligible else None


def _half_units(result: Result) -> Row | None:
    """Of our pruned rows on ONNX Runtime the fastest that keeps its quality, or else the fastest."""
    rows = [row for row in result.rows if row.one and row.engine == ORT and "prune-structured" in row.steps]
    kept = [row for row in rows if _lost(row, result.row(BASELINE), test=False) <= QUALITY] or rows
    return _fastest(kept, batch=False) if kept else None


def _is_small(row: Row) -> bool:
    return row.kind == "ours" and row.engine == ORT and row.one is not None and any(w in row.method for w in _NARROW)


def _of(results: Sequence[Result], model: str) -> Result | None:
    return next((result for result in results if result.model == model), None)


def _lost(row: Row, baseline: Row, *, test: bool) -> float:
    """Quality that a row lost, as a fraction of records."""
    before, after = (row.test if test else row.validation for row in (baseline, row))
    assert before is not None
    assert after is not None
    return before.quality - after.quality


def _one(row: Row) -> Timing:
    timing = row.one_again or row.one
    assert timing is not None
    return timing


def _many(row: Row) -> Timing:
    timing = row.many_again or row.many
    assert timing is not None
    return timing


def _geometric_mean(values: Sequence[float]) -> float:
    return math.exp(sum(map(math.log, values)) / len(values))
