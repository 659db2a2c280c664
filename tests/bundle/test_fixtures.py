"""Bundles that an earlier version signed verify and open for ever."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from hauberk.bundle import read_bundle
from hauberk.trust import EncryptionKey, Passphrase, TrustPolicy, public_key_from_file

FIXTURES = Path(__file__).parent / "fixtures"


@pytest.mark.parametrize("path", sorted(FIXTURES.glob("*/*.hbk")), ids=lambda path: f"{path.parent.name}/{path.name}")
def test_an_old_bundle_verifies_and_opens(path):
    expected = json.loads((path.parent / "expected.json").read_text())
    by_key, by_passphrase = EncryptionKey(bytes.fromhex(expected["key"])), Passphrase(expected["passphrase"])
    key = by_key if path.stem == "key" else by_passphrase
    verified = read_bundle(path, TrustPolicy((public_key_from_file(path.parent / "signer.pub"),)))
    opened = verified.unlock(key)
    assert verified.signer.fingerprint == expected["signer"]
    assert hashlib.sha256(opened.model).hexdigest() == expected["model_sha256"]
    assert opened.threshold == expected["threshold"]
    assert [feature.name for feature in opened.schema.features] == expected["columns"]
    digests = {name: hashlib.sha256(content).hexdigest() for name, content in verified.evidence(key).items()}
    assert digests == expected["evidence"]
    assert verified.public_evidence()["predicate"] == {"met": True}


def test_there_is_a_bundle_of_every_kind():
    assert {path.name for path in FIXTURES.glob("format-1/*.hbk")} == {"key.hbk", "argon2id.hbk", "scrypt.hbk"}
