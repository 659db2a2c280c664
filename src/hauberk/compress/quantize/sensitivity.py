"""What quantizing each layer costs and gains, measured, and the curve of trade-offs that follows.

A layer's cost is the error of the logits when it alone is quantized; its gain is the size (and, where a timer is handed
in, the time) that it saves. The curve keeps the most sensitive layers in float, one after the other, and measures the
whole graph at each point. How far to go along it is the search's choice, not this room's.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

from hauberk.artifact import Artifact, OnnxArtifact
from hauberk.compress.core import read_core
from hauberk.compress.quantize.bias import mean_inputs
from hauberk.compress.quantize.layers import Layer, with_constant_weights
from hauberk.compress.quantize.plan import plan
from hauberk.compress.quantize.static import QuantizeStatic, activation_ranges, codes_of, prepared_plan, quantized
from hauberk.compress.tuning import answers
from hauberk.errors import InputError
from hauberk.graph.verify import decisions
from hauberk.recipe import Context

Timer = Callable[[Sequence[OnnxArtifact]], Sequence[float]]
"""Times graphs interleaved in one process and returns seconds a record for each; `evaluate` has what does that."""

MOST_RECORDS = 512
"""Records on which errors are measured; spread evenly over those that there are."""


class Sensitivity(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One layer's cost and gain.

    Attributes:
        layer: Name of the tensor that it computes.
        kind: "Gemm", "MatMul" or "Conv".
        error: Root mean square difference of the logits when this layer alone is quantized, as a fraction of their own
            root mean square.
        bytes_saved: Of the file, by quantizing it.
        seconds_saved: By quantizing it when all others are; negative where it slows down, `None` without a timer.
    """

    layer: str
    kind: str
    error: float
    bytes_saved: int
    seconds_saved: float | None = None


class TradeOff(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One point of the curve.

    Attributes:
        float_layers: The layers that stay in float, the most sensitive first.
        error: Of the logits, as in `Sensitivity`.
        agreement: Fraction of records with the same decision (`hauberk.graph.verify.decisions`), in [0, 1].
        size: Of the graph, bytes.
        latency: Of one record, seconds; `None` without a timer.
    """

    float_layers: tuple[str, ...]
    error: float
    agreement: float
    size: int
    latency: float | None = None


def rank(
    artifact: Artifact,
    context: Context,
    *,
    quantization: QuantizeStatic | None = None,
    timer: Timer | None = None,
) -> tuple[Sensitivity, ...]:
    """Quantize each layer by itself and measure; the most sensitive first.

    Args:
        artifact: A float core.
        context: Its calibration records find ranges; its validation records, where there are any, measure errors.
        quantization: How layers are quantized; layers that it keeps in float are not ranked.
        timer: Measures what each layer gains in time.

    Raises:
        InputError: As `QuantizeStatic.apply`.
    """
    return Bench(artifact, context, quantization or QuantizeStatic()).rank(timer)


def trade_off(
    artifact: Artifact,
    context: Context,
    ranking: Sequence[Sensitivity],
    *,
    quantization: QuantizeStatic | None = None,
    points: int = 9,
    timer: Timer | None = None,
) -> tuple[TradeOff, ...]:
    """Measure the graph with more and more layers in float, from none to all.

    Args:
        artifact: The float core that was ranked.
        context: As for `rank`.
        ranking: Its result.
        quantization: As for `rank`.
        points: The most points to measure, at least 2; both ends are among them.
        timer: Measures latencies, all of them in one interleaved run.

    Raises:
        InputError: As `QuantizeStatic.apply`, or `points` below 2.
    """
    if points < 2:
        raise InputError(f"trade-off: {points} points are no curve; at least 2 are needed")
    bench = Bench(artifact, context, quantization or QuantizeStatic())
    order = [entry.layer for entry in ranking]
    counts = sorted({round(share * len(order)) for share in np.linspace(0, 1, min(points, len(order) + 1))})
    graphs = [bench.quantized(keep_float=order[:count]) for count in counts]
    latencies: Sequence[float | None] = timer(graphs) if timer is not None else [None] * len(graphs)
    return tuple(
        TradeOff(tuple(order[:count]), *bench.loss(graph), len(graph.model), latency)
        for count, graph, latency in zip(counts, graphs, latencies, strict=True)
    )


class Bench:
    """A core whose layers are quantized in many ways, with one calibration for all of them.

    Args:
        artifact: A float core.
        context: As for `rank`.
        quantization: How layers are quantized; those that it keeps in float always stay so.
        step: Who asks, for messages.

    Raises:
        InputError: As `QuantizeStatic.apply`.
    """

    def __init__(
        self, artifact: Artifact, context: Context, quantization: QuantizeStatic, step: str = "sensitivity"
    ) -> None:
        self._quantization = quantization
        self._context = context
        self._core = read_core(with_constant_weights(artifact), step)
        chosen = prepared_plan(self._core, quantization.keep_float)
        self._ranges: dict[str, tuple[float, float]] = {}
        self._observe(chosen.sources)
        records = self._core.calibration(context)
        self._means = mean_inputs(self._core.model, chosen, records) if quantization.bias_correction else {}
        self.layers: tuple[Layer, ...] = chosen.layers
        self.names = frozenset(layer.name for layer in chosen.layers)
        self.float_core = self._core.finished(self._core.model)
        self._records = _spread(context)
        self._before = answers(self.float_core, self._records)

    def rank(self, timer: Timer | None = None) -> tuple[Sensitivity, ...]:
        """Quantize each layer by itself and measure; the most sensitive first."""
        found = []
        with self._context.progress.task("sensitivity of layers", total=len(self.layers)) as task:
            for layer in self.layers:
                alone = self.quantized(keep_float=self.names - {layer.name})
                saved = len(self.float_core.model) - len(alone.model)
                found.append(Sensitivity(layer.name, layer.kind, self.loss(alone)[0], saved))
                task.advance()
        if timer is not None:
            found = self._timed(found, timer)
        return tuple(sorted(found, key=lambda entry: -entry.error))

    def _timed(self, found: Sequence[Sensitivity], timer: Timer) -> list[Sensitivity]:
        graphs = [self.quantized(keep_float=()), *(self.quantized(keep_float={entry.layer}) for entry in found)]
        whole, *without = timer(graphs)
        return [
            msgspec.structs.replace(entry, seconds_saved=seconds - whole)
            for entry, seconds in zip(found, without, strict=True)
        ]

    def _observe(self, names: Collection[str]) -> None:
        """Find ranges that are not known yet."""
        missing = [name for name in names if name not in self._ranges]
        if missing:
            parameters = self._quantization.calibrator, self._quantization.percentile
            self._ranges |= activation_ranges(self._core, self._context, missing, *parameters)

    def quantized(self, keep_float: Collection[str]) -> OnnxArtifact:
        """The core with every layer quantized but these."""
        if self.names <= set(keep_float):
            return self.float_core
        chosen = plan(self._core.model, keep_float={*self._quantization.keep_float, *keep_float})
        self._observe(chosen.sources)
        codes = codes_of(chosen, self._ranges, signed=self._quantization.signed)
        return quantized(self._core, chosen, codes, self._quantization, self._means)

    def loss(self, after: OnnxArtifact) -> tuple[float, float]:
        """Relative error of a graph's logits, and the share of records on which it decides as the float core does."""
        logits, old = answers(after, self._records), self._before
        norm = float(np.sqrt(np.mean(np.square(old.astype(np.float64)))))
        error = float(np.sqrt(np.mean(np.square(logits.astype(np.float64) - old)))) / (norm or 1.0)
        return error, float(np.mean(decisions(logits, self._context) == decisions(old, self._context)))


def _spread(context: Context) -> NDArray[np.float32]:
    """At most `MOST_RECORDS` records to measure on, evenly spread: of validation where there is one."""
    records = context.calibration if context.validation is None else context.validation.features
    places = np.unique(np.linspace(0, len(records) - 1, min(MOST_RECORDS, len(records))).astype(int))
    spread: NDArray[np.float32] = records[places]
    return spread
