"""Opening: whose keys, which limits, and what is refused before anything runs."""

from __future__ import annotations

import hashlib
import tracemalloc

import msgspec
import numpy as np
import onnx
import pytest

import hauberk
from hauberk.backends import Session, SessionOptions
from hauberk.bundle import BundleContents, read_bundle, write_bundle
from hauberk.errors import BundleError, HauberkError, InputError, RefusedModelError, TrustError
from hauberk.runtime.opening import _check_backend
from hauberk.trust import EncryptionKey, SigningKey, TrustPolicy, default_keys


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("HAUBERK_HOME", str(tmp_path / "keys"))
    return tmp_path / "keys"


def contents_of(toy, **changes) -> BundleContents:
    bundle = read_bundle(toy.path, toy.policy)
    opened = bundle.unlock(toy.key)
    model = changes.get("model", opened.model)
    fields = {
        "name": "toy",
        "model": opened.model,
        "schema": opened.schema,
        "signature": opened.manifest.signature,
        "threshold": opened.threshold,
        "public": {**bundle.public_evidence(), "subject": [{"name": "m", "digest": {"sha256": sha256(model)}}]},
    }
    return BundleContents(**{**fields, **changes})


def sealed(toy, path, **changes):
    write_bundle(path, contents_of(toy, **changes), encryption=toy.key, signing=toy.signing)
    return path


def test_ones_own_keys_are_used_where_none_are_given(toy, tmp_path, home):
    keys = default_keys()
    write_bundle(tmp_path / "own.hbk", contents_of(toy), encryption=keys.encryption, signing=keys.signing)
    with hauberk.open(str(tmp_path / "own.hbk")) as detector:
        assert len(detector.predict(toy.record()).scores) == 1


def test_without_any_key_it_says_how_to_make_one(toy, home):
    with pytest.raises(InputError, match="hauberk keys new"):
        hauberk.open(toy.path)
    assert not home.exists()


def test_a_wrong_key_is_refused(toy):
    with pytest.raises(TrustError):
        hauberk.open(toy.path, key=EncryptionKey.generate(), trust=toy.policy)


def test_a_signer_who_is_not_trusted_is_refused(toy):
    with pytest.raises(TrustError):
        hauberk.open(toy.path, key=toy.key, trust=TrustPolicy((SigningKey.generate().public_key,)))


def test_a_missing_file_is_named(toy, tmp_path):
    with pytest.raises(InputError, match=r"nowhere\.hbk"):
        hauberk.open(tmp_path / "nowhere.hbk", key=toy.key, trust=toy.policy)


def test_a_bundle_whose_model_does_not_take_its_records_is_refused(toy, numbers_only, tmp_path):
    path = sealed(toy, tmp_path / "mixed.hbk", schema=numbers_only.schema)
    with pytest.raises(BundleError, match=r"mixed\.hbk: the model takes"):
        hauberk.open(path, key=toy.key, trust=toy.policy)


def test_a_model_that_does_not_load_names_the_bundle(toy, tmp_path):
    path = sealed(toy, tmp_path / "broken.hbk", model=b"\x08\x09\x42\x04\x0a\x00\x10\x12")
    with pytest.raises(RefusedModelError, match=r"broken\.hbk: the model has no graph"):
        hauberk.open(path, key=toy.key, trust=toy.policy)


def test_a_newer_runtime_is_asked_for_by_version(toy):
    manifest = read_bundle(toy.path, toy.policy).manifest
    newer = msgspec.structs.replace(manifest, needs=msgspec.structs.replace(manifest.needs, version="99.1"))
    with pytest.raises(InputError, match=r"needs ONNX Runtime 99\.1 or newer"):
        _check_backend(newer)


def test_options_reach_the_session(toy):
    options = SessionOptions(graph_optimization="disabled", time_limit=5)
    with hauberk.open(toy.path, key=toy.key, trust=toy.policy, options=options) as detector:
        assert detector._session.options == options


def test_the_merged_graph_alone_gives_the_same_answer(toy):
    """The truth is the graph, run by ONNX Runtime without any of our runtime."""
    coded = toy.coded(20)
    model = read_bundle(toy.path, toy.policy).unlock(toy.key).model
    with Session(model) as session, hauberk.open(toy.path, key=toy.key, trust=toy.policy) as detector:
        scores, labels = session.run({"numeric": coded.numeric, "codes": coded.codes})
        np.testing.assert_array_equal(detector.predict(coded), (scores, labels))


def test_every_refusal_is_one_line(toy, tmp_path):
    (tmp_path / "empty.hbk").write_bytes(b"")
    (tmp_path / "text.hbk").write_text("hello")
    for name in ("empty.hbk", "text.hbk", "."):
        with pytest.raises(HauberkError) as raised:
            hauberk.open(tmp_path / name, key=toy.key, trust=toy.policy)
        assert "\n" not in str(raised.value)


def test_neither_the_file_nor_the_clear_model_is_kept(toy, tmp_path):
    model = onnx.load_from_string(contents_of(toy).model)
    model.doc_string = "x" * 20_000_000
    path = sealed(toy, tmp_path / "large.hbk", model=model.SerializeToString())
    del model
    tracemalloc.start()
    try:
        with hauberk.open(path, key=toy.key, trust=toy.policy):
            kept, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert kept < 1_000_000
    # The encrypted file, the decrypted model and one more copy of it while it is put together; not a fourth.
    assert peak < 70_000_000
