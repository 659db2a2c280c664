"""Which model is recommended for each detector, and why the others are not.

A recommendation is chosen by records that no step was trained, calibrated or stopped by, and by the clock: of our
models, and of the float32 graph on any engine, the fastest that

1. decides at most 0.5 points fewer of those records right than the optimised float32 graph,
2. agrees with its decision on at least 99 % of them,
3. moves its logits there by at most 10 % of their root mean square, the bound of a static 8-bit step. This rule is
   younger than the others: it was added after one detector's test records had been looked at (the page says which),
   because quality and agreement saturate there, and a model that answers differently shows it on other records first,
4. keeps to 2 and 3 on made-up records, too, columns of one record of choice in another: records that come are not
   those that were collected, and a student that answers alike on these and otherwise on those would not be noticed.
   This is the youngest rule; it was added after a run whose test records had been looked at. Images have none,
5. is not slower than it beyond noise.

There are two a detector: the fastest for one record and the fastest for a batch. Test records are never looked at for
that; what a table says of quality on them is what came of the choice.

A peer is a rival where it keeps quality within 0.5 points on the records of choice **or** on test records, whichever is
kinder to it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from comparison.results import BASELINE, EAGER, ORT, PLAIN, TORCH, Fidelity, Result, Row, Timing
from peers.environments import PEERS

QUALITY = 0.005
"""The largest loss of quality that a recommendation may have, as a fraction of records."""
AGREEMENT = 0.99
ERROR = 0.1
"""The most that logits may move, as a fraction of their root mean square."""
SMALLEST_NOISE = 0.02
"""Two sessions of one graph differ by as much from one process to the next, whatever one run says."""

_WARNING = 2.0
"""From how many times the baseline's time on a row gets a warning."""
_HALF = 0.5
_NOTHING = 0.95
"""A file of more than this share of float32's has its weights in float32, whatever its steps are called."""
_QUANTIZERS = frozenset(peer.name for peer in PEERS if peer.quantizes)
_INTEGER = frozenset({"quantize-dynamic", "quantize-static", "quantize-mixed", "quantize-nncf"})
_STORING = _INTEGER | {"quantize-aware", "quantize-weights", "codebook", "half-precision", "brain-precision"}
"""Steps that keep weights in fewer bits."""


class Chosen(NamedTuple):
    """The two recommendations for a detector."""

    one: Row
    many: Row


def recommended(result: Result) -> Chosen:
    """The fastest rows that may be recommended, for one record and for a batch."""

    def choice(*, batch: bool) -> Row:
        ours = (row for row in result.rows if row.kind != "peer" and row.one and not loss(row, result.row(BASELINE)))
        return fastest([row for row in ours if not slower(row, result, batch=batch)], batch=batch)

    return Chosen(choice(batch=False), choice(batch=True))


def spoken_of(result: Result) -> list[str]:
    """Names of the rows that targets are judged by: they are worth timing twice."""
    chosen = recommended(result)
    rows = [result.row(BASELINE), *chosen, result.row(f"{EAGER} · {TORCH}"), result.row(f"{PLAIN} · {ORT}")]
    peers = rivals(result)
    if peers:
        rows += [fastest(peers, batch=batch) for batch in (False, True)]
    rows += [best for best in (eight_bits(result), half_units(result)) if best is not None]
    rows += [row for row in result.rows if row.one and row.engine == ORT and any(map(narrow, row.steps))]
    return list(dict.fromkeys(row.name for row in rows))


def loss(row: Row, baseline: Row) -> str:
    """Why a row cannot be recommended however fast it is, or nothing."""
    if row.validation is None:
        return row.note or "it does not run"
    if row.engine == TORCH:
        return "needs PyTorch in production"
    lost = points_lost(row, baseline, test=False)
    if lost > QUALITY:
        return f"loses {100 * lost:.1f} points on validation records"
    strays = _strays(row.validation, "validation")
    return strays or ("" if row.elsewhere is None else _strays(row.elsewhere, "made-up"))


def _strays(found: Fidelity, which: str) -> str:
    """How a model answers some records otherwise than float32, or nothing."""
    if found.agreement < AGREEMENT:
        return f"agrees on {100 * found.agreement:.1f} % of {which} records only"
    return f"moves logits by {100 * found.error:.0f} % on {which} records" if found.error > ERROR else ""


def slower(row: Row, result: Result, *, batch: bool) -> str:
    """How much slower than the baseline a row is for that use in the first run, or nothing."""
    timing, noise = (row.many, result.noise_many) if batch else (row.one, result.noise_one)
    if timing is None or timing.ratio_low <= 1 + max(noise, SMALLEST_NOISE):
        return ""
    use = f"{result.batch} records" if batch else "one record"
    if timing.ratio > _WARNING:
        return f"**{timing.ratio:.1f} times slower than doing nothing** for {use}"
    return f"slower for {use} ({timing.ratio:.2f} ×)"


def did_nothing(row: Row, baseline: Row) -> str:
    """That a row's steps were to keep weights in fewer bits and its file is as large as before, or nothing."""
    stores = bool(_STORING & set(row.kinds)) or row.method in _QUANTIZERS
    share = row.size / baseline.size
    return f"did nothing: {share:.2f} of the size, its weights are in float32" if stores and share > _NOTHING else ""


def narrow(step: dict[str, Any]) -> bool:
    """Whether a step is to keep weights in four bits or fewer."""
    return step["step"] in ("codebook", "quantize-weights") or (
        step["step"] == "quantize-aware" and step["weight_bits"] < 8
    )


def in_integers(step: dict[str, Any]) -> bool:
    """Whether what a step makes of a layer is computed in 8-bit integers."""
    return step["step"] in _INTEGER or (step["step"] == "quantize-aware" and step["activations"] == "uint8")


def rivals(result: Result) -> list[Row]:
    """The peers' rows that keep their quality on validation or on test records."""
    baseline = result.row(BASELINE)
    return [
        row
        for row in result.rows
        if row.kind == "peer"
        and row.one is not None
        and min(points_lost(row, baseline, test=test) for test in (False, True)) <= QUALITY
    ]


def eight_bits(result: Result) -> Row | None:
    """The fastest of our rows with quantized layers that may be recommended."""
    rows = [row for row in result.rows if row.kind == "ours" and row.one and any(map(in_integers, row.steps))]
    eligible = [row for row in rows if not loss(row, result.row(BASELINE)) and not slower(row, result, batch=False)]
    return fastest(eligible, batch=False) if eligible else None


def halves(step: dict[str, Any]) -> bool:
    """Whether a step removes half of the units or more."""
    return bool(step["step"] == "prune-structured" and step["amount"] >= _HALF)


def half_units(result: Result) -> Row | None:
    """Of our rows on ONNX Runtime with half of the units the fastest that keeps its quality, or else the fastest."""
    rows = [row for row in result.rows if row.one and row.engine == ORT and any(map(halves, row.steps))]
    kept = [row for row in rows if points_lost(row, result.row(BASELINE), test=False) <= QUALITY] or rows
    return fastest(kept, batch=False) if kept else None


def fastest(rows: Sequence[Row], *, batch: bool) -> Row:
    """The fastest of rows in the first run, which is what choices are made by."""
    timings = {row.name: row.many if batch else row.one for row in rows}
    return min(rows, key=lambda row: math.inf if (timing := timings[row.name]) is None else timing.p50)


def points_lost(row: Row, baseline: Row, *, test: bool) -> float:
    """Quality that a row lost, as a fraction of records."""
    before, after = (row.test if test else row.validation for row in (baseline, row))
    assert before is not None
    assert after is not None
    return before.quality - after.quality


def one_record(row: Row) -> Timing:
    """How long one record takes: in the second run where there was one."""
    timing = row.one_again or row.one
    assert timing is not None
    return timing


def batch_of(row: Row) -> Timing:
    """How long a batch takes: in the second run where there was one."""
    timing = row.many_again or row.many
    assert timing is not None
    return timing
