"""A sealed detector with random weights, and what it must answer, computed by numpy alone."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from hauberk.artifact import OnnxArtifact
from hauberk.bundle import BundleContents, write_bundle
from hauberk.graph.decision import decision_graph
from hauberk.graph.merge import merge
from hauberk.graph.model import IR_VERSION, OPSET
from hauberk.graph.preprocess import preprocessing_graph
from hauberk.schema import (
    BooleanFeature,
    CategoricalFeature,
    Decision,
    FeatureSpace,
    IntegerFeature,
    NumericFeature,
    Preprocessing,
    RecordSchema,
    Scaling,
    sigmoid,
)
from hauberk.schema.coding import Coded
from hauberk.tensors import Signature, TensorSpec
from hauberk.trust import EncryptionKey, SigningKey, TrustPolicy


def statement(model: bytes) -> dict[str, object]:
    """The least that anyone may read about a model."""
    return {
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [{"name": "model.onnx", "digest": {"sha256": hashlib.sha256(model).hexdigest()}}],
        "predicateType": "https://example.org/test/v1",
        "predicate": {},
    }


NUMBERS = (
    NumericFeature(name="duration", low=0, high=100),
    IntegerFeature(name="packets", low=0, high=50),
    BooleanFeature(name="encrypted"),
    NumericFeature(name="rate", low=-1, high=1, missing=0.25),
)
CATEGORIES = (
    CategoricalFeature(name="protocol", categories=("tcp", "udp", "icmp")),
    CategoricalFeature(name="flag", categories=("S0", "SF"), missing="SF"),
)


@dataclass(frozen=True)
class Toy:
    """A bundle, how to open it, and the truth about it."""

    path: Path
    key: EncryptionKey
    policy: TrustPolicy
    signing: SigningKey
    schema: RecordSchema
    expected: Callable[[Coded], tuple[NDArray[np.float64], NDArray[np.int64]]]

    def coded(self, records: int, *, seed: int = 0) -> Coded:
        """Random valid records."""
        generator = np.random.default_rng(seed)
        numeric = generator.uniform(0, 1, size=(records, len(self.schema.numbers))).astype(np.float32)
        highest = [len(feature.categories) for feature in self.schema.categoricals]
        return Coded(numeric, generator.integers(0, np.array(highest) + 1, size=(records, len(highest))))

    def record(self, *, seed: int = 0) -> dict[str, object]:
        """One random valid record as a user would write it."""
        generator = np.random.default_rng(seed)
        record: dict[str, object] = {
            "duration": float(generator.uniform(0, 100)),
            "packets": int(generator.integers(0, 50)),
            "encrypted": bool(generator.integers(2)),
            "rate": float(generator.uniform(-1, 1)),
            "protocol": str(generator.choice(["tcp", "udp", "icmp", "sctp"])),
            "flag": str(generator.choice(["S0", "SF"])),
        }
        return {feature.name: record[feature.name] for feature in self.schema.features}


def core(weights: list[NDArray[np.float32]]) -> OnnxArtifact:
    """features -> logits: linear layers with ReLU between them."""
    nodes, name = [], "features"
    for index in range(len(weights)):
        last = index == len(weights) - 1
        nodes.append(helper.make_node("MatMul", [name, f"w{index}"], ["logits" if last else f"m{index}"]))
        if not last:
            nodes.append(helper.make_node("Relu", [f"m{index}"], [f"r{index}"]))
        name = f"r{index}"
    sizes = weights[0].shape[0], weights[-1].shape[1]
    inputs, outputs = (
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", size])]
        for name, size in zip(("features", "logits"), sizes, strict=True)
    )
    graph = helper.make_graph(
        nodes, "core", inputs, outputs, [numpy_helper.from_array(w, f"w{i}") for i, w in enumerate(weights)]
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
    onnx.checker.check_model(model, full_check=True)
    signature = Signature(
        inputs=(TensorSpec("features", "float32", ("batch", sizes[0])),),
        outputs=(TensorSpec("logits", "float32", ("batch", sizes[1])),),
    )
    return OnnxArtifact(model.SerializeToString(), signature, origin="0" * 64)


def make_toy(folder: Path, features: tuple[object, ...], *, name: str = "toy") -> Toy:
    """Seal a detector of these features into `folder`."""
    schema = RecordSchema(features=features)
    scalings = tuple(Scaling(logarithm=i % 2 == 0, offset=0.1 * i, scale=1 + i) for i in range(len(schema.numbers)))
    space = FeatureSpace(schema, Preprocessing(scalings))
    generator = np.random.default_rng(5)
    widths = (space.width, 8, 2)
    weights = [generator.normal(size=pair).astype(np.float32) for pair in itertools.pairwise(widths)]
    decision = Decision(outputs=2, benign=0, threshold=0.3)
    merged = merge(preprocessing_graph(space), core(weights), decision_graph(decision))

    def expected(coded: Coded) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        hidden = space.transform(coded.numeric, coded.codes)
        for weight in weights[:-1]:
            hidden = np.maximum(hidden @ weight, 0)
        margin = decision.margin(hidden @ weights[-1])
        return sigmoid(margin), (margin >= decision.threshold).astype(np.int64)

    key, signing = EncryptionKey.generate(), SigningKey.generate()
    contents = BundleContents(
        name=name,
        model=merged.model,
        schema=schema,
        signature=merged.signature,
        threshold=decision.score_threshold,
        public=statement(merged.model),
    )
    path = folder / f"{name}.hbk"
    write_bundle(path, contents, encryption=key, signing=signing)
    return Toy(path, key, TrustPolicy((signing.public_key,)), signing, schema, expected)


@pytest.fixture(scope="session")
def toy(tmp_path_factory) -> Toy:
    """Numbers and categories."""
    return make_toy(tmp_path_factory.mktemp("toy"), (*NUMBERS, *CATEGORIES))


@pytest.fixture(scope="session")
def numbers_only(tmp_path_factory) -> Toy:
    return make_toy(tmp_path_factory.mktemp("numbers"), NUMBERS)


@pytest.fixture(scope="session")
def categories_only(tmp_path_factory) -> Toy:
    return make_toy(tmp_path_factory.mktemp("categories"), CATEGORIES)


@pytest.fixture(params=["toy", "numbers_only", "categories_only"])
def any_toy(request) -> Toy:
    return request.getfixturevalue(request.param)
