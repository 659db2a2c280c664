"""A second reader, written from `docs/reference/bundle-format.md` with other means, opens what we write."""

from __future__ import annotations

import base64
import hashlib
import json
import unicodedata
import zipfile
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt
from cryptography.hazmat.primitives.serialization import load_pem_public_key

FIXTURES = Path(__file__).parent / "fixtures" / "format-1"
EXPECTED = json.loads((FIXTURES / "expected.json").read_text())
MEMBERS = ["manifest.json", "model.enc", "schema.enc", "evidence/public.json", "evidence/full.enc", "signature.json"]


def canonical(text: bytes) -> dict:
    value = json.loads(text)
    assert json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode() == text
    return value


def derive(key: bytes, salt: bytes, info: bytes) -> bytes:
    return HKDF(SHA256(), 32, salt, info).derive(key)


def master_key(derivation: dict) -> bytes:
    if derivation["kind"] == "key":
        return bytes.fromhex(EXPECTED["key"])
    passphrase = unicodedata.normalize("NFC", EXPECTED["passphrase"]).encode()
    salt = base64.b64decode(derivation["salt"])
    if derivation["kind"] == "argon2id":
        costs = {
            "iterations": derivation["iterations"],
            "lanes": derivation["lanes"],
            "memory_cost": derivation["memory"],
        }
        return Argon2id(salt=salt, length=32, **costs).derive(passphrase)
    costs = {"n": derivation["cost"], "r": derivation["block_size"], "p": derivation["lanes"]}
    return Scrypt(salt=salt, length=32, **costs).derive(passphrase)


def open_sealed(member: bytes, bundle_key: bytes, name: str) -> bytes:
    header, body = member[:47], member[47:]
    purpose = b"hauberk bundle member " + name.encode()
    assert header[:8] == b"hauberk\x01"
    cipher = AESGCM(derive(bundle_key, header[8:40], b"hauberk sealed data\x00" + purpose))
    chunks = [body[start : start + 65552] for start in range(0, len(body), 65552)]
    return b"".join(
        cipher.decrypt(
            header[40:47] + number.to_bytes(4, "big") + bytes([chunk is chunks[-1]]), chunk, header + purpose
        )
        for number, chunk in enumerate(chunks)
    )


def check_envelope(envelope: dict) -> bytes:
    kind, payload = envelope["payloadType"].encode(), base64.b64decode(envelope["payload"])
    signed = b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)
    signature = base64.b64decode(envelope["signatures"][0]["sig"])
    load_pem_public_key((FIXTURES / "signer.pub").read_bytes()).verify(signature, signed, ec.ECDSA(SHA256()))
    return payload


@pytest.mark.parametrize("name", ["key.hbk", "argon2id.hbk", "scrypt.hbk"])
def test_it_opens_what_was_written(name):
    with zipfile.ZipFile(FIXTURES / name) as archive:
        assert archive.namelist() == MEMBERS
        members = {member: archive.read(member) for member in MEMBERS}
    signature = canonical(members["signature.json"])
    assert signature["verificationMaterial"]["publicKey"]["hint"] == EXPECTED["signer"]
    statement = canonical(check_envelope(signature["dsseEnvelope"]))
    digests = {member: hashlib.sha256(members[member]).hexdigest() for member in sorted(MEMBERS[:-1])}
    assert {entry["name"]: entry["digest"] for entry in statement["predicate"]["resources"]} == digests
    root = hashlib.sha256(b"".join(bytes.fromhex(digest) for digest in digests.values())).hexdigest()
    manifest = canonical(members["manifest.json"])
    assert statement["subject"] == [{"name": manifest["name"], "digest": {"sha256": root}}]
    stated = {entry["name"]: (entry["size"], entry["sha256"]) for entry in manifest["members"]}
    assert stated == {member: (len(members[member]), digests[member]) for member in MEMBERS[1:-1]}

    master, salt = master_key(manifest["encryption"]["derivation"]), base64.b64decode(manifest["encryption"]["salt"])
    commitment = derive(master, salt, b"hauberk bundle commitment")
    assert commitment == base64.b64decode(manifest["encryption"]["commitment"])
    bundle_key = derive(master, salt, b"hauberk bundle key")
    model = open_sealed(members["model.enc"], bundle_key, "model.enc")
    assert hashlib.sha256(model).hexdigest() == EXPECTED["model_sha256"]
    schema = json.loads(open_sealed(members["schema.enc"], bundle_key, "schema.enc"))
    assert schema["threshold"] == EXPECTED["threshold"]
    assert [feature["name"] for feature in schema["schema"]["features"]] == EXPECTED["columns"]
    assert open_sealed(members["evidence/full.enc"], bundle_key, "evidence/full.enc").startswith(b"PK\x03\x04")
    assert json.loads(check_envelope(canonical(members["evidence/public.json"])))["predicate"] == {"met": True}
