"""The bill of materials: what a hardened detector consists of, as a CycloneDX 1.6 ML-BOM.

A component of type "machine-learning-model" with its model card, the data that it learned from, and the libraries that
it runs on and was made with (cyclonedx.org/docs/1.6/json). It travels encrypted, because a model card tells an evader
what the detector is bad at.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from typing import Any

import hauberk
from hauberk.errors import InputError
from hauberk.measurement import Measurement
from hauberk.protect.attest import DataSource
from hauberk.protect.libraries import Library, installed_libraries
from hauberk.tensors import Signature, TensorSpec

_MODEL, _DATA, _TOOL = "model", "data", "tool"

_USERS = ("teams that run a detector in production and answer for what it misses",)
_USE_CASES = ("scoring records of the kind that it was trained on, and raising an alert from a threshold on",)
_LIMITATIONS = (
    "Figures hold for records like those of the test split; traffic drifts, so measure again on your own records.",
    "Encryption and signature protect the file. Whoever may query the detector can still learn from its answers.",
)


def bill_of_materials(
    name: str,
    *,
    digest: str,
    created: str,
    origin: str,
    signature: Signature,
    data: DataSource,
    measurements: Mapping[str, Measurement],
    threat: str,
    limitations: Sequence[str] = (),
) -> dict[str, Any]:
    """The bill of one detector, as JSON-serialisable data.

    Args:
        name: Name of the detector.
        digest: SHA-256 of the deployed graph, hex.
        created: UTC time, ISO 8601 with its offset.
        origin: SHA-256 of the model file that it was made from, hex.
        signature: Inputs and outputs of the deployed graph.
        data: What it was trained and judged on.
        measurements: Its figures, by metric name.
        threat: The threat model of the robust accuracy, in one sentence.
        limitations: What else a reader must know, a sentence each.

    Raises:
        InputError: The detector has no name.
    """
    if not name:
        raise InputError("bill of materials: the detector has no name")
    libraries = installed_libraries()
    considerations = (*_LIMITATIONS, f"Robust accuracy is that of this threat model: {threat}", *limitations)
    card = {
        "modelParameters": {
            "approach": {"type": "supervised"},
            "task": "classification",
            "datasets": [{"ref": _DATA}],
            "inputs": [{"format": _format(tensor)} for tensor in signature.inputs],
            "outputs": [{"format": _format(tensor)} for tensor in signature.outputs],
        },
        "quantitativeAnalysis": {"performanceMetrics": [_metric(figure) for figure in measurements.values()]},
        "considerations": {
            "users": list(_USERS),
            "useCases": list(_USE_CASES),
            "technicalLimitations": list(considerations),
        },
    }
    model = {
        "type": "machine-learning-model",
        "bom-ref": _MODEL,
        "name": name,
        "hashes": _hashes(digest),
        "pedigree": {
            "ancestors": [{"type": "machine-learning-model", "name": f"{name}, as trained", "hashes": _hashes(origin)}]
        },
        "modelCard": card,
    }
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_URL, f'{digest}/{created}')}",
        "version": 1,
        "metadata": {"timestamp": created, "tools": {"components": [_tool()]}, "component": model},
        "components": [_dataset(data), *(_component(library) for library in libraries)],
        "dependencies": _dependencies(libraries),
    }


def _format(tensor: TensorSpec) -> str:
    return f"{tensor.name}: {tensor.dtype} [{', '.join(str(size) for size in tensor.shape)}]"


def _hashes(digest: str) -> list[dict[str, str]]:
    return [{"alg": "SHA-256", "content": digest}]


def _metric(figure: Measurement) -> dict[str, object]:
    """CycloneDX has no field for a unit, so it stands beside the name; rates are plain fractions."""
    metric: dict[str, object] = {
        "type": figure.name if figure.unit == "fraction" else f"{figure.name} ({figure.unit})",
        "value": repr(figure.value),
        "slice": f"{figure.samples} samples",
    }
    if figure.low is not None and figure.high is not None:
        metric["confidenceInterval"] = {"lowerBound": repr(figure.low), "upperBound": repr(figure.high)}
    return metric


def _tool() -> dict[str, object]:
    return {"type": "application", "bom-ref": _TOOL, "name": "hauberk", "version": hauberk.__version__}


def _dataset(data: DataSource) -> dict[str, object]:
    sizes = ", ".join(f"{count} {split}" for split, count in data.records.items())
    return {
        "type": "data",
        "bom-ref": _DATA,
        "name": data.name,
        "hashes": _hashes(data.digest),
        "data": [{"type": "dataset", "name": data.name, "description": f"labelled records: {sizes}"}],
    }


def _component(library: Library) -> dict[str, object]:
    component: dict[str, object] = {
        "type": "library",
        "bom-ref": library.package_url,
        "name": library.name,
        "version": library.version,
        "purl": library.package_url,
        # What only makes detectors is documented, and not part of what runs in production.
        "scope": "required" if library.runtime else "excluded",
    }
    if library.license:
        component["licenses"] = [{"expression": library.license}]
    return component


def _dependencies(libraries: Sequence[Library]) -> list[dict[str, object]]:
    reference = {library.name: library.package_url for library in libraries}
    runtime = [library.package_url for library in libraries if library.runtime]
    needs: dict[str, list[str]] = {_MODEL: runtime, _TOOL: list(reference.values())}
    for library in libraries:
        needs[library.package_url] = [reference[need] for need in library.needs if need in reference]
    return [{"ref": component, "dependsOn": needed} for component, needed in needs.items()]
