"""One recipe on a real detector: what is told of it, that it repeats, and that nothing is glossed over."""

from __future__ import annotations

from dataclasses import replace

import msgspec
import numpy as np
import onnx
import onnxruntime
import pytest

from hauberk.artifact import StepRecord, Verdict
from hauberk.compress import Distill, HalfPrecision, QuantizeDynamic, QuantizeStatic
from hauberk.compress.distill import Scaled
from hauberk.compress.tuning import Tuning
from hauberk.errors import InputError
from hauberk.graph.passes import CleanUp, StripMetadata
from hauberk.measurement import Estimate, Measurement
from hauberk.recipe import LabelledFeatures, Recipe
from hauberk.requirements import parse_requirement
from hauberk.search.compression import compress, find_recipe, verdict
from hauberk.search.material import DataSource, Material, gather

COMPOSED = Recipe(
    "composed",
    (
        Distill(student=Scaled(width=0.5), tuning=Tuning(epochs=10, learning_rate=5e-3)),
        CleanUp(),
        QuantizeStatic(),
        StripMetadata(),
    ),
)


@pytest.fixture(scope="module")
def material(trained) -> Material:
    return gather(trained.as_source, DataSource("spambase"), seed=0)


@pytest.fixture(scope="module")
def composed(material):
    return compress(material, COMPOSED, [parse_requirement("size <= 50% of baseline")], timing=0.2)


def decided(model: bytes, features: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    return session.run(None, {"features": features})[0].argmax(axis=1)


def test_figures_are_those_of_the_graphs(composed, material):
    made, account = composed
    before, after = (decided(model, material.test.features) for model in (material.core.model, made.model))
    measured = account.measurements
    assert measured["agreement"].value == pytest.approx((before == after).mean())
    assert measured["accuracy"].value == pytest.approx((after == material.test.targets).mean())
    assert account.baseline["accuracy"].value == pytest.approx((before == material.test.targets).mean())
    assert measured["size"].value == len(made.model) == account.after.bytes
    assert measured["size"].ratio is not None
    assert measured["size"].ratio.value == pytest.approx(len(made.model) / len(material.core.model))
    assert measured["latency.p50"].ratio is not None


def test_agreement_is_that_of_batches_of_256(material):
    """Dynamic INT8 spreads its codes over the batch: one record far outside spoils its batch, and no other."""
    features = material.test.features.copy()
    features[-1] *= 1000
    spoilt = replace(material, test=LabelledFeatures(features, material.test.targets))
    made, account = compress(spoilt, Recipe("dynamic", (QuantizeDynamic(),)), timing=0.05)
    parts = np.split(features, range(256, len(features), 256))
    before, after = (
        np.concatenate([decided(model, part) for part in parts]) for model in (material.core.model, made.model)
    )
    assert account.measurements["agreement"].value == pytest.approx((before == after).mean())
    assert (decided(made.model, features) != after).any()  # all at once, it would be another figure


def test_sizes_are_counted_by_hand(composed, material):
    _, account = composed
    assert account.before.macs == 57 * 64 + 64 * 32 + 32 * 2
    assert account.after.macs == 57 * 32 + 32 * 16 + 16 * 2
    weights = onnx.load_model_from_string(material.core.model).graph.initializer
    assert account.before.parameters == sum(int(np.prod(tensor.dims)) for tensor in weights)


def test_every_step_is_told(composed):
    _, account = composed
    assert [step.step for step in account.steps] == ["distill", "clean-up", "quantize-static", "strip-metadata"]
    assert all(step.kept and step.verdict is not None for step in account.steps)
    assert account.measurements["training_time"].value == account.steps[0].seconds
    assert account.met


def test_the_recipe_as_json_gives_the_same_bytes(composed, material):
    made, account = composed
    again = Recipe.from_json(msgspec.json.encode(account.recipe), (Distill, CleanUp, QuantizeStatic, StripMetadata))
    repeated, _ = compress(material, again, timing=0.05)
    assert repeated.model == made.model


def test_a_missed_requirement_is_told_and_the_graph_is_there(material):
    made, account = compress(
        material, Recipe("half", (HalfPrecision(),)), [parse_requirement("size <= 10% of baseline")], timing=0.05
    )
    assert made.model
    assert not account.met
    assert "required <= 0.1" in account.outcomes[0].reason


def test_the_account_is_json(composed):
    document = msgspec.json.decode(msgspec.json.encode(composed[1]))
    assert document["recipe"]["name"] == "composed"
    assert document["steps"][0]["verdict"]["holds"] is True


def test_a_recipe_comes_by_name_or_from_a_file(material, tmp_path):
    assert find_recipe("float16")(material.core).steps == (HalfPrecision(),)
    (tmp_path / "mine.json").write_bytes(COMPOSED.to_json())
    assert find_recipe(str(tmp_path / "mine.json"))(material.core) == COMPOSED


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("int9", None, "unknown recipe 'int9'; known are int8-dynamic"),
        ("nowhere.json", None, "nowhere.json"),
        ("bad.json", b'{"name": "x", "steps": []}', "recipe 'x' has no steps"),
        ("bad.json", b"{", "bad.json: recipe: "),
        ("bad.json", b'{"name": "x", "steps": [{"step": "melt"}]}', "unknown step 'melt'; known steps: .*distill"),
        ("bad.json", b'{"name": "x", "steps": [{"step": "clean-up", "heat": 3}]}', "heat"),
    ],
)
def test_what_is_no_recipe_is_named(name, text, says, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    if text is not None:
        (tmp_path / name).write_bytes(text)
    with pytest.raises(InputError, match=says):
        find_recipe(name)


def ratio(name: str, value: float) -> Measurement:
    unit, note = ("records/s", "256 records a call") if name == "throughput" else ("s", "one record a call")
    estimate = Estimate(value, value * 0.99, value * 1.01)
    return Measurement(name, 1e-5, unit, 100, ratio=estimate, note=note)


@pytest.mark.parametrize(
    ("latency", "throughput", "says"),
    [
        (0.5, 2.0, "2.00 times as fast at one record"),
        (1.8, 0.5, "it gains no time anywhere; the float32 graph is the better one to deploy"),
        (1.8, 2.0, "2.00 times as fast at 256 records"),
        (1.0, 1.0, "no faster than optimised float32, beyond the noise of 5.0 %"),
    ],
)
def test_the_verdict_is_honest(latency, throughput, says):
    measured = {
        "latency.p50": ratio("latency.p50", latency),
        "throughput": ratio("throughput", throughput),
        "size": Measurement("size", 100.0, "bytes", 1),
    }
    sentences = " | ".join(verdict((), measured, 0.05))
    assert says in sentences
    assert ("slower than optimised float32" in sentences) is (latency > 1.05 or throughput < 0.95)


def test_an_undone_step_is_in_the_verdict():
    undone = StepRecord("x", {}, None, "a", "a", False, Verdict(False, 1, 0.5, 1.0, "real[0]", "agrees on 50 %"), 0.1)
    measured = {
        "latency.p50": ratio("latency.p50", 1.0),
        "throughput": ratio("throughput", 1.0),
        "size": Measurement("size", 100.0, "bytes", 1),
    }
    assert verdict((undone,), measured, 0.05)[0] == "step x was undone: agrees on 50 %"
