"""Sensitivities against graphs that are quantized by hand, and a layer that is known to suffer."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx
import pytest

from hauberk.compress import QuantizeStatic
from hauberk.compress.quantize import static
from hauberk.compress.quantize.calibrate import observe_ranges
from hauberk.compress.quantize.mixed import QuantizeMixed
from hauberk.compress.quantize.sensitivity import rank, trade_off
from hauberk.errors import InputError

PER_LAYER = QuantizeStatic(per_channel=False)


@pytest.fixture
def uneven(builder):
    """Three layers; one scale for the middle one is ruled by weights of an input that is always zero."""
    b = builder()
    first = b.node("Relu", b.gemm("features", 20, 16, name="first"))
    second = b.node("Relu", b.gemm(first, 16, 16, name="second"))
    b.gemm(second, 16, 3, name="logits")
    b.constants["c0"][5], b.constants["c1"][5] = 0, -1
    b.constants["c2"][:, 5] = 100
    return b.artifact((20,), 3)


def test_the_layer_that_suffers_comes_first(uneven, calibrated):
    ranking = rank(uneven, calibrated(uneven), quantization=PER_LAYER)
    assert [entry.layer for entry in ranking] == ["second", *[e.layer for e in ranking[1:]]]
    assert ranking[0].error > 5 * ranking[1].error


def test_errors_are_those_of_the_layer_alone(networks, calibrated, relative_error):
    core = networks["plain"]()
    context = calibrated(core)
    ranking = rank(core, context)
    names = [entry.layer for entry in ranking]
    for entry in ranking:
        others = tuple(name for name in names if name != entry.layer)
        alone = QuantizeStatic(keep_float=others).apply(core, context)
        assert entry.error == pytest.approx(relative_error(core, alone, context.calibration), rel=1e-3)


def test_what_is_saved_is_about_three_bytes_a_weight(builder, calibrated):
    b = builder()
    b.gemm(b.node("Relu", b.gemm("features", 200, 100, name="wide")), 100, 3, name="logits")
    core = b.artifact((200,), 3)
    saved = {entry.layer: entry.bytes_saved for entry in rank(core, calibrated(core))}
    assert saved["wide"] == pytest.approx(3 * 20_000, rel=0.05)


def test_the_curve_runs_from_all_int8_to_all_float(networks, calibrated, relative_error):
    core = networks["residual"]()
    context = calibrated(core)
    curve = trade_off(core, context, rank(core, context), points=4)
    whole = QuantizeStatic().apply(core, context)
    assert [len(point.float_layers) for point in curve] == [0, 2, 5, 7]
    assert curve[0].size == len(whole.model)
    assert curve[0].error == pytest.approx(relative_error(core, whole, context.calibration), rel=1e-3)
    assert curve[-1].error < 1e-6
    assert curve[-1].agreement == 1
    assert curve[0].size < curve[-1].size
    assert curve[-2].error < curve[0].error


def test_agreement_is_that_of_decisions(builder, calibrated, answers):
    """Detection: what decides is where the threshold on the margin lies, not which logit is larger."""
    b = builder()
    b.gemm(b.node("Relu", b.gemm("features", 20, 16)), 16, 2, name="logits")
    core = b.artifact((20,), 2)
    context = calibrated(core)
    quantized = PER_LAYER.apply(core, context)
    logits = [answers(each, context.calibration) for each in (core, quantized)]
    margins = [each[:, 1] - each[:, 0] for each in logits]
    for threshold in (float(np.median(margins[0])), float(margins[0].max()) + 1):
        at = replace(context, threshold=threshold)
        curve = trade_off(core, at, rank(core, at), quantization=PER_LAYER, points=2)
        assert curve[0].agreement == np.mean((margins[0] >= threshold) == (margins[1] >= threshold))


def test_a_timer_is_asked_once_and_its_seconds_are_kept(networks, calibrated):
    core = networks["mlp"]()
    context = calibrated(core)
    asked = []

    def timer(graphs):
        asked.append(len(graphs))
        return [1.0 + index for index in range(len(graphs))]

    ranking = rank(core, context, timer=timer)
    curve = trade_off(core, context, ranking, timer=timer)
    assert asked == [4, 4]
    assert sorted(entry.seconds_saved for entry in ranking) == [1.0, 2.0, 3.0]
    assert [point.latency for point in curve] == [1.0, 2.0, 3.0, 4.0]


def test_a_curve_of_one_point_is_refused(networks, calibrated):
    core = networks["mlp"]()
    with pytest.raises(InputError, match="at least 2"):
        trade_off(core, calibrated(core), rank(core, calibrated(core)), points=1)


def test_the_step_keeps_the_most_sensitive_layers(uneven, calibrated):
    result = QuantizeMixed(sensitive=1, quantization=PER_LAYER).apply(uneven, calibrated(uneven))
    constants = {t.name: t.data_type for t in onnx.load_model_from_string(result.model).graph.initializer}
    assert {name.split("/")[0] for name in constants if name.endswith("/weight/codes")} == {"first", "logits"}


def test_the_step_watches_each_tensor_once(uneven, calibrated, monkeypatch):
    """Ranges found for the ranking serve the result, that of static quantization with the same layers in float."""
    watched = []

    def watch(model, names, records, **parameters):
        watched.extend(names)
        return observe_ranges(model, names, records, **parameters)

    monkeypatch.setattr(static, "observe_ranges", watch)
    context = calibrated(uneven)
    result = QuantizeMixed(sensitive=1, quantization=PER_LAYER).apply(uneven, context)
    assert watched
    assert len(watched) == len(set(watched))
    named = QuantizeStatic(per_channel=False, keep_float=("second",)).apply(uneven, context)
    assert result.model == named.model


def test_the_step_is_worth_it(uneven, calibrated, records, relative_error):
    context, features = calibrated(uneven), records(uneven, seed=2)
    errors = [
        relative_error(uneven, step.apply(uneven, context), features)
        for step in (PER_LAYER, QuantizeMixed(sensitive=1, quantization=PER_LAYER))
    ]
    assert errors[1] < errors[0] / 5


def test_named_layers_stay_in_float(networks, calibrated, fused):
    core = networks["mlp"]()
    step = QuantizeMixed(quantization=QuantizeStatic(keep_float=("logits",)))
    assert fused(step.apply(core, calibrated(core))).count("QGemm") == 2
    assert step.notes(core) == ("Gemm 'logits' stays in float: asked for",)


def test_nothing_to_keep_is_refused():
    with pytest.raises(InputError, match="nothing stays in float"):
        QuantizeMixed()


def test_nothing_to_quantize_is_refused(networks, calibrated):
    core = networks["mlp"]()
    with pytest.raises(InputError, match="3 of 3 layers are to stay in float"):
        QuantizeMixed(sensitive=3).apply(core, calibrated(core))


def test_a_name_that_no_layer_has_is_refused(networks, calibrated):
    core = networks["mlp"]()
    with pytest.raises(InputError, match="no layer is called 'head'; layers are gemm0, gemm2, logits"):
        QuantizeStatic(keep_float=("head",)).apply(core, calibrated(core))
