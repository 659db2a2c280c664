"""What the benchmarks of the runtime measure: TabularMLP 256-128-64 on NSL-KDD, sealed, with keys of its own.

The weights are random: what is timed does not depend on them. Where `HAUBERK_DATA` does not name a folder with NSL-KDD,
Spambase takes its place, and the figures are not those of the targets.
"""

from __future__ import annotations

import hashlib
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from numpy.typing import NDArray

from hauberk.artifact import TorchArtifact
from hauberk.bundle import BundleContents, write_bundle
from hauberk.data import Dataset, load_splits
from hauberk.errors import InputError
from hauberk.graph.decision import decision_graph
from hauberk.graph.deploy import deploy
from hauberk.graph.export import export
from hauberk.graph.merge import merge
from hauberk.graph.passes import optimise
from hauberk.graph.preprocess import preprocessing_graph
from hauberk.graph.verify import verify
from hauberk.models import TabularMLP
from hauberk.recipe import Context
from hauberk.schema import CategoricalFeature, Decision, FeatureSpace, RecordSchema
from hauberk.tensors import Signature, TensorSpec
from hauberk.train.preprocessing import fit_preprocessing
from hauberk.trust import DefaultKeys, default_keys

WIDTHS = (256, 128, 64)


@dataclass(frozen=True)
class Reference:
    """The detector in every form that is timed.

    Attributes:
        data: Name of the data set.
        records: Its test split.
        space: The feature space of the core.
        module: The core in torch.
        core: The core as a graph, serialised.
        merged: The whole detector as a graph, its three parts joined and nothing more, serialised.
        deployed: The same as it is deployed, optimised across the seams.
        bundle: The sealed detector.
        keys: What opens it.
    """

    data: str
    records: Dataset
    space: FeatureSpace
    module: torch.nn.Module
    core: bytes
    merged: bytes
    deployed: bytes
    bundle: Path
    keys: DefaultKeys


def build_reference(folder: Path) -> Reference:
    """Build the detector and seal it into `folder`."""
    torch.manual_seed(0)
    data = "nsl-kdd"
    try:
        splits = load_splits(data)
    except InputError as error:
        data = "spambase"
        print(f"{error}\nSpambase is measured instead; the targets are those for NSL-KDD.", file=sys.stderr)
        splits = load_splits(data)
    schema, coded = splits.training.schema, splits.training.coded
    space = FeatureSpace(schema, fit_preprocessing(schema, coded.numeric))
    module = TabularMLP(space.width, WIDTHS).eval()
    signature = Signature(
        inputs=(TensorSpec("features", "float32", ("batch", space.width)),),
        outputs=(TensorSpec("logits", "float32", ("batch", 2)),),
    )
    features = space.transform(coded.numeric[:512], coded.codes[:512])
    context = Context(calibration=features, bounds=space.bounds)
    core = optimise().apply(export(TorchArtifact(module, signature, splits.digest)), context, verify)
    decision = Decision()
    parts = preprocessing_graph(space), core, decision_graph(decision)
    merged = merge(*parts)  # type: ignore[arg-type]
    records: dict[str, NDArray[Any]] = {"numeric": coded.numeric[:512], "codes": coded.codes[:512]}
    deployed = deploy(*parts, {spec.name: records[spec.name] for spec in merged.signature.inputs})  # type: ignore[arg-type]
    keys = default_keys(folder / "keys")
    contents = BundleContents(
        name="reference",
        model=deployed.model,
        schema=schema,
        signature=deployed.signature,
        threshold=decision.score_threshold,
        public=_statement(deployed.model),
    )
    bundle = folder / "reference.hbk"
    write_bundle(bundle, contents, encryption=keys.encryption, signing=keys.signing)
    return Reference(data, splits.test, space, module, core.model, merged.model, deployed.model, bundle, keys)  # type: ignore[union-attr]


def raw_record(schema: RecordSchema, records: Dataset, row: int) -> dict[str, Any]:
    """A record as a user would write it."""
    numbers = dict(zip((feature.name for feature in schema.numbers), records.coded.numeric[row].tolist(), strict=True))
    codes = dict(zip((feature.name for feature in schema.categoricals), records.coded.codes[row].tolist(), strict=True))
    return {feature.name: _value(feature, numbers, codes) for feature in schema.features}


def _value(feature: Any, numbers: dict[str, float], codes: dict[str, int]) -> object:
    if isinstance(feature, CategoricalFeature):
        return ("never seen", *feature.categories)[codes[feature.name]]
    return numbers[feature.name]


def _statement(model: bytes) -> dict[str, object]:
    return {
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [{"name": "reference", "digest": {"sha256": hashlib.sha256(model).hexdigest()}}],
        "predicateType": "https://example.org/benchmark/v1",
        "predicate": {},
    }


def describe_machine() -> str:
    """One line on machine and versions."""
    from hauberk.measurement import this_machine

    machine = this_machine()
    versions = ", ".join(f"{name} {version}" for name, version in machine.versions.items())
    load = os.getloadavg()[0]
    return (
        f"{machine.processor}, {machine.cores} cores, {machine.system}, Python {machine.python}, {versions}; "
        f"load {load:.1f} at the start"
    )
