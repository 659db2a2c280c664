"""What the measurements say: each target with what was measured, met or missed.

What was chosen, and what it is compared with, has been timed a second time, among themselves, and targets are judged by
that run: the fastest of many flatters itself. See `recommend.py` for what is chosen.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from comparison.recommend import (
    QUALITY,
    SMALLEST_NOISE,
    batch_of,
    did_nothing,
    eight_bits,
    fastest,
    half_units,
    halves,
    in_integers,
    narrow,
    one_record,
    points_lost,
    recommended,
    rivals,
    slower,
)
from comparison.results import BASELINE, EAGER, ORT, PLAIN, TORCH, Result, Row, Timing

_SMALL_FILE = 0.2
_CHANCE = 0.0228
"""How often the toss of a coin strays by two standard errors or more to one side."""
_IN_EIGHT_BITS = 0.5
"""A file of at most this share of float32's has most of its weights in 8 bits."""


class Target(NamedTuple):
    """What was asked for and what was measured; `met` is `None` where nothing was there to judge."""

    asked: str
    measured: str
    met: bool | None


def conclude(results: Sequence[Result]) -> list[Target]:
    """Judge every target on what was measured."""
    return [
        _never_slower(results),
        *(_beside_peers(results, batch=batch) for batch in (False, True)),
        _beside_eager(results),
        _resnet(results),
        _dynamic_on_convolutions(results),
        _trained_quantization(results),
        *(_recurrent(results, kind) for kind in ("window-lstm", "window-gru")),
        _small_files(results),
        _fused_codebooks(results),
    ]


def _never_slower(results: Sequence[Result]) -> Target:
    worst, name = 0.0, "–"
    for result in results:
        one, many = recommended(result)
        for row, timing, noise in ((one, one_record(one), result.noise_one), (many, batch_of(many), result.noise_many)):
            beyond = timing.ratio_low - max(noise, SMALLEST_NOISE)
            if beyond > worst:
                worst, name = beyond, f"{row.name} on {result.model}"
    return Target(
        "No recommended row is slower than the optimised float32 graph for what it is recommended for, beyond noise",
        f"the slowest takes {worst:.2f} times its time ({name})" if worst else "nothing measured",
        worst <= 1 if results else None,
    )


def _beside_peers(results: Sequence[Result], *, batch: bool) -> Target:
    timing = batch_of if batch else one_record
    use = "a batch" if batch else "one record"
    ratios: dict[str, float] = {}
    against: dict[str, str] = {}
    unequal = []
    alone = []
    for result in results:
        candidates = rivals(result)
        if not candidates and any(row.kind == "peer" and row.one for row in result.rows):
            alone.append(result.model)
        if candidates:
            best = fastest(candidates, batch=batch)
            ours = recommended(result)[int(batch)]
            shortfall = points_lost(ours, result.row(BASELINE), test=True)
            if shortfall > QUALITY:
                unequal.append(f"{result.model} ({100 * shortfall:.1f} points lost on test records)")
            ratios[result.model] = timing(best).p50 / timing(ours).p50
            against[result.model] = best.name
    asked = f"For {use}: as fast as the best peer of equal quality on every detector, 1.3 times in the geometric mean"
    without = f"no peer keeps its quality on {', '.join(alone)}" if alone else ""
    if not ratios:
        return Target(asked, without or "no peer was measured", None)
    mean = _geometric_mean(list(ratios.values()))
    lost = [
        f"{model} ({ratio:.2f} × against {against[model]})"
        for model, ratio in ratios.items()
        if ratio < 1 - SMALLEST_NOISE
    ]
    said = f"{mean:.2f} × in the geometric mean, least {min(ratios.values()):.2f} ×"
    said += f" ({len(ratios)} of {len(results)} detectors compared)"
    said += f"; slower on {', '.join(lost)}" if lost else ""
    said += f"; quality not equal on {', '.join(unequal)}" if unequal else ""
    said += f"; {without}" if without else ""
    return Target(asked, said, mean >= 1.3 and not lost and not unequal)


def _beside_eager(results: Sequence[Result]) -> Target:
    ratios = {
        result.model: one_record(result.row(f"{EAGER} · {TORCH}")).p50 / one_record(recommended(result).one).p50
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
    plain = one_record(found.row(f"{PLAIN} · {ORT}")).p50
    best = eight_bits(found)
    if best is None:
        return Target(asked, "no 8-bit model may be recommended", met=False)
    quick = one_record(best).p50
    return Target(
        asked, f"{best.name}: {1e3 * plain:.1f} → {1e3 * quick:.1f} ms, {plain / quick:.2f} ×", plain / quick >= 2.5
    )


def _dynamic_on_convolutions(results: Sequence[Result]) -> Target:
    """Whose file shrank to 8 bits has quantized the convolutions: nearly all weights of a ResNet are theirs."""
    asked = "The table says of dynamically quantized convolutions (ResNet-18) that they are slower than doing nothing"
    found = _of(results, "resnet18")
    if found is None:
        return Target(asked, "not measured", None)
    most = _IN_EIGHT_BITS * found.row(BASELINE).size
    rows = [row for row in found.rows if row.one and row.engine == ORT and "dynamic" in row.method and row.size <= most]
    if not rows:
        return Target(asked, "no row quantizes them", None)
    said = {row.name: slower(row, found, batch=False) for row in rows}
    return Target(
        asked,
        "; ".join(f"{name}: {words or 'not slower'}" for name, words in said.items()),
        all("doing nothing" in words for words in said.values()),
    )


def _trained_quantization(results: Sequence[Result]) -> Target:
    """Each detector's graph that was trained as it is rounded beside every one that was only calibrated.

    Agreement of two rows is compared by the records that one of them decides as the float32 graph does and the other
    does not (McNemar 1947): were both equally good, each of those would be a toss of a coin.
    """
    asked = (
        "At 8 bits training with the rounding is never worse than calibrating: agreement with float32 on test records"
        " not lower beyond chance (exact count of paired decisions, two standard errors)"
    )
    pairs = same = 0
    worse: list[str] = []
    lower: list[str] = []
    off: list[str] = []
    for result in results:
        for trained, other in _trained_and_calibrated(result):
            pairs += 1
            name = f"{trained.method} on {result.model}"
            if trained.test is None or other.test is None:
                worse.append(f"{name} (undone or does not run; {other.method} is there)")
                continue
            same += (trained.validation, trained.test) == (other.validation, other.test)
            gone, won = _discordant(trained, other)
            if gone > won:
                said = f"{name} ({gone} records lost, {won} won against {other.method})"
                (worse if _beyond_chance(gone, won) else lower).append(said)
            if round(trained.test.error, 4) > round(other.test.error, 4):
                off.append(f"{name} ({trained.test.error:.4f}, {other.method} {other.test.error:.4f})")
    if not pairs:
        return Target(asked, "not measured", None)
    said = f"{pairs - len(worse)} of {pairs} comparisons hold"
    said += (
        f", {same} of them because both answer exactly alike (training was undone or changed nothing)" if same else ""
    )
    said += f"; worse on {', '.join(worse)}" if worse else ""
    said += f"; lower within chance on {', '.join(lower)}" if lower else ""
    said += f"; logits further off on {', '.join(off)}" if off else ""
    return Target(asked, said, not worse)


def _recurrent(results: Sequence[Result], model: str) -> Target:
    asked = f"{model}: half of the hidden units removed, 1.3 times as fast at one record, at most 0.5 points lost"
    found = _of(results, model)
    if found is None:
        return Target(asked, "not measured", None)
    best = half_units(found)
    if best is None:
        undone = ", ".join(row.name for row in found.rows if any(map(halves, row.undone)))
        return Target(asked, f"undone: {undone}" if undone else "not measured", False if undone else None)
    lost = [points_lost(best, found.row(BASELINE), test=test) for test in (False, True)]
    said = (
        f"{best.name}: {1 / one_record(best).ratio:.2f} ×, {100 * lost[0]:+.2f} points lost on validation records,"
        f" {100 * lost[1]:+.2f} on test records"
    )
    return Target(asked, said, one_record(best).ratio <= 1 / 1.3 and max(lost) <= QUALITY)


def _small_files(results: Sequence[Result]) -> Target:
    """Rows with a step that keeps weights in four bits, and none that makes the runtime compute in integers."""
    asked = (
        "Codebook and INT4 files, computed with in float32: at most a fifth of float32, at its latency for one record"
    )
    judged, missed, undone = 0, [], []
    for result, row in _narrow_rows(results, integers=False):
        name = f"{row.method} on {result.model}"
        if not any(map(narrow, row.steps)):
            undone.append(name)
            continue
        judged += 1
        if row.one is None:
            missed.append(f"{name} (does not run)")
            continue
        baseline = result.row(BASELINE)
        timing, share = one_record(row), row.size / baseline.size
        if did_nothing(row, baseline):
            missed.append(f"{name} (did nothing: {share:.2f} of the size)")
        elif share > _SMALL_FILE or timing.ratio_low > 1 + max(result.noise_one, SMALLEST_NOISE):
            missed.append(f"{name} ({share:.2f} of the size, {timing.ratio:.2f} × the time)")
    if not judged:
        return Target(asked, "not measured", None)
    said = f"{judged - len(missed)} of {judged} files hold" + (f"; not {', '.join(missed)}" if missed else "")
    said += f"; undone, so that there is no file: {', '.join(undone)}" if undone else ""
    return Target(asked, said, not missed)


def _fused_codebooks(results: Sequence[Result]) -> Target:
    """Rows whose weights lie in 4 bits and that compute in integers, beside the trained 8-bit graph: the same kernels.

    A codebook that did not fold at load, or broke the pattern of the integer kernels, would cost time in every call.
    """
    asked = "4-bit files, computed with in 8-bit integers, fuse as 8-bit ones do: as fast as `int8-qat` for one record"
    judged, missed, slower_than_float, unquantized = 0, [], [], []
    for result, row in _narrow_rows(results, integers=True):
        baseline, name = result.row(BASELINE), f"{row.method} on {result.model}"
        eight = _of_eight_bits(result)
        if did_nothing(row, baseline):
            unquantized.append(name)
            continue
        judged += 1
        if row.one is None or eight is None:
            missed.append(f"{name} ({'does not run' if row.one is None else 'there is no 8-bit file to compare with'})")
            continue
        noise = 1 + 2 * max(result.noise_one, SMALLEST_NOISE)  # of either
        share, time = row.size / baseline.size, row.one.p50 / eight.p50
        if time > noise:
            missed.append(f"{name} ({time:.2f} × its time)")
        if row.one.ratio_low > 1 + max(result.noise_one, SMALLEST_NOISE):
            slower_than_float.append(f"{result.model} ({share:.2f} of the size, {row.one.ratio:.2f} × the time)")
    if not judged:
        return Target(asked, "not measured", None)
    said = f"{judged - len(missed)} of {judged} hold" + (f"; not {', '.join(missed)}" if missed else "")
    said += (
        f"; integers themselves are slower than float32 on {', '.join(slower_than_float)}" if slower_than_float else ""
    )
    said += f"; nothing to compute in integers: {', '.join(unquantized)}" if unquantized else ""
    return Target(asked, said, not missed)


def _of_eight_bits(result: Result) -> Timing | None:
    """The time of the 8-bit graph that was trained, or, where training was undone, of the calibrated one it is."""
    for method in ("int8-qat", "int8-static"):
        for row in result.rows:
            if row.method == method and row.engine == ORT and row.one is not None:
                return row.one
    return None


def _narrow_rows(results: Sequence[Result], *, integers: bool) -> Iterator[tuple[Result, Row]]:
    """Rows on ONNX Runtime, or of no file, with a step that keeps weights in four bits; each file once."""
    for result in results:
        for row in result.rows:
            steps = (*row.steps, *row.undone)
            if not any(map(narrow, steps)) or any(map(in_integers, steps)) != integers or row.engine not in (ORT, "–"):
                continue
            if row.one is None and row.validation is not None:
                continue  # the same file as another row
            yield result, row


def _trained_and_calibrated(result: Result) -> Iterator[tuple[Row, Row]]:
    """Every graph trained as it is rounded to 8 bits beside every one that is only calibrated, on ONNX Runtime.

    The trained one may have been undone or may not run; the calibrated one is there.
    """
    alone: dict[str, list[Row]] = {"quantize-aware": [], "quantize-static": []}
    for row in result.rows:
        steps = (*row.steps, *row.undone)
        if row.engine in (ORT, "–") and len(steps) == 1 and not narrow(steps[0]) and steps[0]["step"] in alone:
            alone[steps[0]["step"]].append(row)
    for trained in alone["quantize-aware"]:
        yield from ((trained, other) for other in alone["quantize-static"] if other.test is not None)


def _discordant(row: Row, other: Row) -> tuple[int, int]:
    """Test records that `other` decides as the float32 graph does and `row` does not, and the reverse."""
    assert row.test is not None
    assert other.test is not None
    mine, theirs = set(row.test.otherwise), set(other.test.otherwise)
    return len(mine - theirs), len(theirs - mine)


def _beyond_chance(gone: int, won: int) -> bool:
    """Whether so many of all tosses of a coin come up on one side less often than `_CHANCE`."""
    tosses = gone + won
    as_many = sum(math.comb(tosses, count) for count in range(gone, tosses + 1))
    return bool(as_many / 2**tosses < _CHANCE)


def _of(results: Sequence[Result], model: str) -> Result | None:
    return next((result for result in results if result.model == model), None)


def _geometric_mean(values: Sequence[float]) -> float:
    return math.exp(sum(map(math.log, values)) / len(values))
