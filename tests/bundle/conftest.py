"""A small detector, really built with `onnx`, and the keys that it is sealed with."""

from __future__ import annotations

import hashlib

import onnx
import pytest
from onnx import TensorProto, helper

from hauberk.bundle import BundleContents, encode_bundle
from hauberk.schema import BooleanFeature, CategoricalFeature, Label, NumericFeature, RecordSchema
from hauberk.tensors import Signature, TensorSpec
from hauberk.trust import EncryptionKey, SigningKey, TrustPolicy, sign_statement


def statement_about(model: bytes) -> dict[str, object]:
    return {
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [{"name": "model.onnx", "digest": {"sha256": hashlib.sha256(model).hexdigest()}}],
        "predicateType": "https://example.org/test/v1",
        "predicate": {"met": True},
    }


def tiny_model() -> bytes:
    """scores = mean of the numbers; labels = scores >= 0.5."""
    graph = helper.make_graph(
        [
            helper.make_node("ReduceMean", ["numeric", "axes"], ["scores"], keepdims=0),
            helper.make_node("GreaterOrEqual", ["scores", "threshold"], ["over"]),
            helper.make_node("Cast", ["over"], ["labels"], to=TensorProto.INT64),
        ],
        "tiny",
        [
            helper.make_tensor_value_info("numeric", TensorProto.FLOAT, ["batch", 2]),
            helper.make_tensor_value_info("codes", TensorProto.INT64, ["batch", 1]),
        ],
        [
            helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["batch"]),
            helper.make_tensor_value_info("labels", TensorProto.INT64, ["batch"]),
        ],
        [
            helper.make_tensor("axes", TensorProto.INT64, [1], [1]),
            helper.make_tensor("threshold", TensorProto.FLOAT, [], [0.5]),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.checker.check_model(model, full_check=True)
    return model.SerializeToString()


def tiny_contents(signing: SigningKey) -> BundleContents:
    schema = RecordSchema(
        features=(
            NumericFeature(name="duration", low=0.0, high=1.0),
            CategoricalFeature(name="protocol", categories=("tcp", "udp")),
            BooleanFeature(name="land"),
        ),
        label=Label(name="label", classes=("normal", "attack"), benign="normal"),
    )
    signature = Signature(
        inputs=(TensorSpec("numeric", "float32", ("batch", 2)), TensorSpec("codes", "int64", ("batch", 1))),
        outputs=(TensorSpec("scores", "float32", ("batch",)), TensorSpec("labels", "int64", ("batch",))),
    )
    model = tiny_model()
    return BundleContents(
        name="tiny",
        model=model,
        schema=schema,
        signature=signature,
        threshold=0.5,
        public=statement_about(model),
        evidence={"statements.json": sign_statement(statement_about(model), signing), "report.html": b"<p>hello</p>"},
    )


@pytest.fixture(scope="session")
def signing() -> SigningKey:
    return SigningKey.generate()


@pytest.fixture(scope="session")
def policy(signing) -> TrustPolicy:
    return TrustPolicy((signing.public_key,))


@pytest.fixture(scope="session")
def key() -> EncryptionKey:
    return EncryptionKey.generate()


@pytest.fixture(scope="session")
def contents(signing) -> BundleContents:
    return tiny_contents(signing)


@pytest.fixture(scope="session")
def bundle(contents, key, signing) -> bytes:
    """The bytes of a bundle."""
    return encode_bundle(contents, encryption=key, signing=signing)
