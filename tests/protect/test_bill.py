"""The bill of materials against the official CycloneDX 1.6 schema, and against what it was made from."""

from __future__ import annotations

import json
from typing import Any

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from hauberk.errors import InputError
from hauberk.protect import bill_of_materials
from hauberk.tensors import Signature, TensorSpec

SIGNATURE = Signature(
    inputs=(TensorSpec("numeric", "float32", ("batch", 57)),),
    outputs=(TensorSpec("scores", "float32", ("batch",)), TensorSpec("labels", "int64", ("batch",))),
)


def make(name: str, subjects, origin, data, measurements) -> dict[str, Any]:
    return bill_of_materials(
        name,
        digest=subjects[0][1],
        created="2026-11-21T08:20:00+00:00",
        origin=origin,
        signature=SIGNATURE,
        data=data,
        measurements=measurements,
        threat="L-infinity 0.05 on mutable features",
        limitations=("Class weak-class is missed most often.",),
    )


@pytest.fixture
def bill(subjects, origin, data, measurements) -> dict[str, Any]:
    return make("detector", subjects, origin, data, measurements)


def test_official_schema_accepts_it(bill):
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(json.dumps(bill)) is None


def test_official_schema_would_object(bill):
    """The validator really looks at model cards."""
    bill["metadata"]["component"]["modelCard"]["quantitativeAnalysis"]["performanceMetrics"][0]["unit"] = "s"
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(json.dumps(bill)) is not None


def test_figures_come_with_their_intervals(bill):
    metrics = bill["metadata"]["component"]["modelCard"]["quantitativeAnalysis"]["performanceMetrics"]
    assert metrics == [
        {
            "type": "accuracy",
            "value": "0.9375",
            "slice": "919 samples",
            "confidenceInterval": {"lowerBound": "0.92", "upperBound": "0.95"},
        },
        {
            "type": "latency.p50 (s)",
            "value": "7.1e-06",
            "slice": "30 samples",
            "confidenceInterval": {"lowerBound": "7e-06", "upperBound": "7.3e-06"},
        },
        {"type": "size (bytes)", "value": "66365.0", "slice": "1 samples"},
    ]


def test_model_origin_and_data_are_named_by_digest(bill, subjects, origin, data):
    model = bill["metadata"]["component"]
    (ancestor,) = model["pedigree"]["ancestors"]
    dataset = next(component for component in bill["components"] if component["type"] == "data")
    digests = [part["hashes"][0]["content"] for part in (model, ancestor, dataset)]
    assert digests == [subjects[0][1], origin, data.digest]
    assert model["modelCard"]["modelParameters"]["datasets"] == [{"ref": dataset["bom-ref"]}]


def test_limitations_name_the_threat_model(bill):
    limitations = bill["metadata"]["component"]["modelCard"]["considerations"]["technicalLimitations"]
    assert "Robust accuracy is that of this threat model: L-infinity 0.05 on mutable features" in limitations
    assert "Class weak-class is missed most often." in limitations


def test_every_dependency_is_a_component(bill):
    known = {component["bom-ref"] for component in bill["components"]}
    known |= {bill["metadata"]["component"]["bom-ref"], bill["metadata"]["tools"]["components"][0]["bom-ref"]}
    assert {entry["ref"] for entry in bill["dependencies"]} <= known
    assert {needed for entry in bill["dependencies"] for needed in entry["dependsOn"]} <= known


def test_the_same_detector_has_the_same_bill(bill, subjects, origin, data, measurements):
    assert make("detector", subjects, origin, data, measurements) == bill


def test_a_bill_without_a_name_is_refused(subjects, origin, data, measurements):
    with pytest.raises(InputError, match="no name"):
        make("", subjects, origin, data, measurements)
