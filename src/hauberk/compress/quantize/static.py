"""Static INT8: weights and activations in 8 bits, with ranges found once on training records.

What is coded is decided in `plan.py`, ranges are found in `calibrate.py`, and the graph is written in `qdq.py`; this
file is the step that puts them together.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import ClassVar, Literal

import numpy as np
import onnx
from numpy.typing import NDArray

from hauberk.artifact import Artifact, OnnxArtifact
from hauberk.compress.core import Core, read_core
from hauberk.compress.quantize.bias import correct_biases, mean_inputs
from hauberk.compress.quantize.calibrate import Calibrator, observe_ranges
from hauberk.compress.quantize.codes import Affine, affine, largest_code
from hauberk.compress.quantize.layers import prepare, require_finite, with_constant_weights
from hauberk.compress.quantize.plan import Plan, plan
from hauberk.compress.quantize.qdq import OLDEST_OPSET, weight_codes, write
from hauberk.compress.quantize.qoperator import to_qoperator
from hauberk.errors import InputError
from hauberk.recipe import Context, Contract, Lossy, Step


class QuantizeStatic(Step, frozen=True, kw_only=True, tag="quantize-static"):
    """Quantize layers to int8 with activation ranges from the calibration records.

    Attributes:
        calibrator: How a tensor's range is chosen: "min-max", "percentile", "entropy" or "mse".
        percentile: For the calibrator of that name.
        per_channel: One weight scale an output channel instead of one a layer.
        signed: Activations in int8 instead of uint8; slower on x86, whose kernels multiply uint8 by int8.
        reduced_range: Weights in 7 bits, for x86 processors without VNNI, whose kernels saturate int16 sums of 8-bit
            products; "auto" asks the processor at hand.
        form: "qdq", which every runtime reads, or "qoperator", which names ONNX Runtime's integer operators.
        bias_correction: Take from biases what rounding the weights adds to the mean of a layer's results.
        keep_float: Names of layers (of the tensors that they compute) that stay in float.
    """

    calibrator: Calibrator = "min-max"
    percentile: float = 99.99
    per_channel: bool = True
    signed: bool = False
    reduced_range: bool | Literal["auto"] = "auto"
    form: Literal["qdq", "qoperator"] = "qdq"
    bias_correction: bool = True
    keep_float: tuple[str, ...] = ()

    CONTRACT: ClassVar[Lossy] = Lossy(agreement=0.98, rms=0.1)

    @property
    def contract(self) -> Contract:
        """Decisions agree on 98 % of real records, logits within 10 % of their root mean square."""
        return self.CONTRACT

    def notes(self, artifact: Artifact) -> tuple[str, ...]:
        """What stays in float, and why."""
        return prepared_plan(read_core(with_constant_weights(artifact), self.name), self.keep_float).left

    def apply(self, artifact: Artifact, context: Context) -> OnnxArtifact:
        """Return the quantized graph.

        Raises:
            InputError: Not a core, already quantized, an opset below 13, no layers of constant float32 weights, names
                of layers that it does not have, or calibration records that do not fit or overflow.
        """
        core = read_core(with_constant_weights(artifact), self.name)
        chosen = prepared_plan(core, self.keep_float)
        codes = activation_codes(core, context, chosen, self.calibrator, self.percentile, signed=self.signed)
        means = mean_inputs(core.model, chosen, core.calibration(context)) if self.bias_correction else {}
        return quantized(core, chosen, codes, self, means)


def quantized(
    core: Core,
    chosen: Plan,
    codes: Mapping[str, Affine],
    quantization: QuantizeStatic,
    means: Mapping[str, NDArray[np.float32]],
) -> OnnxArtifact:
    """The core as a plan, codes of its activations and the parameters of the step say; the core is left alone.

    Args:
        core: Prepared (`prepared_plan`).
        chosen: What is coded.
        codes: Of the activations.
        quantization: The step.
        means: Of the inputs of its layers, for bias correction; may be empty without it.
    """
    model = onnx.ModelProto()
    model.CopyFrom(core.model)
    levels = largest_code(quantization.reduced_range)
    weights = weight_codes(model, chosen, codes, levels=levels, per_channel=quantization.per_channel)
    if quantization.bias_correction:
        correct_biases(model, chosen, weights, means)
    operators = quantization.form == "qoperator"
    written = write(model, chosen, codes, weights, leave_out_activations=operators)
    return core.finished(to_qoperator(written) if operators else written)


def prepared_plan(core: Core, keep_float: tuple[str, ...] = ()) -> Plan:
    """Bring the core's graph to the plain form, in place, and decide what is coded in it.

    Raises:
        InputError: Already quantized, an opset below 13, nothing to quantize, or `keep_float` names no layer.
    """
    core.require_float()
    opset = next(entry.version for entry in core.model.opset_import if entry.domain in ("", "ai.onnx"))
    if opset < OLDEST_OPSET:
        raise InputError(
            f"{core.step}: opset {opset} is too old for a scale a channel; {OLDEST_OPSET} has it"
            " (hauberk.graph.normalise converts a model)"
        )
    prepare(core.model)
    everything = plan(core.model)
    if not everything.layers:
        left = f" ({everything.left[0]})" if everything.left else ""
        raise InputError(
            f"{core.step}: nothing to quantize, the graph has no Gemm, MatMul or Conv with float32 constant weights"
            f" that ONNX Runtime computes in integers{left}"
        )
    require_finite(core.model.graph, everything.layers, core.step)
    names = [layer.name for layer in everything.layers]
    unknown = sorted(set(keep_float) - set(names))
    if unknown:
        raise InputError(f"{core.step}: no layer is called {unknown[0]!r}; layers are {', '.join(names)}")
    chosen = plan(core.model, keep_float=keep_float)
    if not chosen.layers:
        raise InputError(f"{core.step}: nothing to quantize, every layer is to stay in float")
    return chosen


def activation_ranges(
    core: Core,
    context: Context,
    names: Collection[str],
    calibrator: Calibrator = "min-max",
    percentile: float = 99.99,
) -> dict[str, tuple[float, float]]:
    """Ranges of tensors over the calibration records, by name.

    Raises:
        InputError: Records that do not fit the core, or a tensor that is not finite on them.
    """
    records = core.calibration(context)
    ranges = observe_ranges(core.model, names, records, calibrator=calibrator, percentile=percentile)
    for name, ends in ranges.items():
        if not np.isfinite(ends).all():
            raise InputError(f"{core.step}: tensor {name!r} is not finite on the calibration records")
    return ranges


def codes_of(chosen: Plan, ranges: Mapping[str, tuple[float, float]], *, signed: bool = False) -> dict[str, Affine]:
    """Codes of the activations of a plan, by the first tensor of each group: they cover the ranges of its sources."""
    joined: dict[str, tuple[float, float]] = {}
    for name in chosen.sources:
        low, high = ranges[name]
        before = joined.get(chosen.groups[name], (low, high))
        joined[chosen.groups[name]] = min(low, before[0]), max(high, before[1])
    return {group: affine(low, high, signed=signed) for group, (low, high) in joined.items()}


def activation_codes(
    core: Core,
    context: Context,
    chosen: Plan,
    calibrator: Calibrator = "min-max",
    percentile: float = 99.99,
    *,
    signed: bool = False,
) -> dict[str, Affine]:
    """Codes of the activations of a plan from the calibration records, by the first tensor of each group.

    Raises:
        InputError: Records that do not fit the core, or a tensor that is not finite on them.
    """
    return codes_of(chosen, activation_ranges(core, context, chosen.sources, calibrator, percentile), signed=signed)
