"""The public `model_signing` tool and our own code accept and refuse the same."""

from __future__ import annotations

import base64
import hashlib
import json
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hauberk.errors import TrustError
from hauberk.trust import SigningKey, TrustPolicy, sign_files, verify_files

KEY = SigningKey.generate()
POLICY = TrustPolicy((KEY.public_key,))
TOOL = Path(sys.executable).with_name("model_signing")
FILES = {"manifest.json": b"{}", "model.enc": bytes(1000), "evidence/full.enc": b"\x01", "evidence/public.json": b"2"}


def digests_of(files: dict[str, bytes]) -> dict[str, str]:
    return {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}


DIGESTS = digests_of(FILES)


def sign(digests: dict[str, str] = DIGESTS, key: SigningKey = KEY) -> bytes:
    return sign_files(digests, key, name="detector", signature_name="signature.json")


def verify(signature: bytes, digests: dict[str, str] = DIGESTS) -> None:
    assert verify_files(signature, digests, POLICY, signature_name="signature.json") == KEY.public_key


@pytest.fixture
def folder(tmp_path):
    """The files in a folder, and the keys beside it."""
    for name, content in FILES.items():
        (tmp_path / "unpacked" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "unpacked" / name).write_bytes(content)
    (tmp_path / "public.pem").write_bytes(KEY.public_key.pem)
    (tmp_path / "private.pem").write_bytes(KEY.reveal())
    return tmp_path


def run_tool(folder: Path, verb: str) -> subprocess.CompletedProcess[str]:
    key = ["--public_key", "public.pem"] if verb == "verify" else ["--private_key", "private.pem"]
    words = [TOOL, verb, "key", "unpacked", *key, "--signature", "unpacked/signature.json", "--no-ignore-git-paths"]
    return subprocess.run(words, cwd=folder, capture_output=True, text=True, check=False)


def test_the_tool_verifies_ours(folder):
    (folder / "unpacked/signature.json").write_bytes(sign())
    done = run_tool(folder, "verify")
    assert (done.returncode, done.stdout.strip()) == (0, "Verification succeeded"), done.stderr


def test_the_tool_refuses_a_changed_file_an_added_one_and_a_missing_one(folder):
    unpacked = folder / "unpacked"
    (unpacked / "signature.json").write_bytes(sign())
    (unpacked / "model.enc").write_bytes(bytes(999) + b"\x01")
    assert "Hash mismatch for 'model.enc'" in run_tool(folder, "verify").stderr
    (unpacked / "model.enc").write_bytes(FILES["model.enc"])
    (unpacked / ".gitattributes").touch()
    assert "Extra files found" in run_tool(folder, "verify").stderr
    (unpacked / ".gitattributes").unlink()
    (unpacked / "manifest.json").unlink()
    assert "Missing files" in run_tool(folder, "verify").stderr


def test_ours_verifies_what_the_tool_signs(folder):
    assert run_tool(folder, "sign").returncode == 0
    signature = (folder / "unpacked/signature.json").read_bytes()
    assert verify_files(signature, DIGESTS, POLICY) == KEY.public_key
    for name in FILES:
        with pytest.raises(TrustError, match=f"{name} was changed after signing"):
            verify_files(signature, DIGESTS | {name: "00" * 32}, POLICY)
    with pytest.raises(TrustError, match="canonical"):
        verify(signature)


def test_another_signer_is_refused():
    with pytest.raises(TrustError, match="not trusted"):
        verify(sign(key=SigningKey.generate()))


def test_a_missing_and_an_added_file_are_named():
    signature = sign()
    with pytest.raises(TrustError, match=r"extra\.bin was not signed"):
        verify(signature, DIGESTS | {"extra.bin": "00" * 32})
    with pytest.raises(TrustError, match=r"model\.enc was signed and is missing"):
        verify(signature, {name: digest for name, digest in DIGESTS.items() if name != "model.enc"})


def test_nothing_is_ignored_whatever_the_signature_says():
    """A file that the signature says is to be ignored is refused like any other that was not signed."""
    signature = sign_files(DIGESTS, KEY, name="detector", signature_name="extra.bin")
    with pytest.raises(TrustError, match=r"extra\.bin was not signed"):
        verify_files(signature, DIGESTS | {"extra.bin": "00" * 32}, POLICY)


def test_every_changed_byte_is_noticed():
    signature = bytearray(sign())
    for position in range(len(signature)):
        for flip in (0x01, 0x20, 0xFF):
            signature[position] ^= flip
            with pytest.raises(TrustError):
                verify(bytes(signature))
            signature[position] ^= flip
    verify(bytes(signature))


def test_every_truncation_is_noticed():
    signature = sign()
    for end in range(len(signature)):
        with pytest.raises(TrustError):
            verify(signature[:end])


def rendered(change) -> bytes:
    """Our signature, decoded, changed and written again without spaces."""
    document = json.loads(sign())
    change(document)
    return json.dumps(document, separators=(",", ":"), ensure_ascii=False).encode()


def test_rendering_again_changes_nothing():
    verify(rendered(lambda document: None))


@pytest.mark.parametrize(
    "change",
    [
        lambda document: document.update(extra=1),
        lambda document: document["dsseEnvelope"]["signatures"].append(document["dsseEnvelope"]["signatures"][0]),
        lambda document: document["dsseEnvelope"]["signatures"].clear(),
        lambda document: document["dsseEnvelope"]["signatures"][0].update(keyid="x"),
        lambda document: document["dsseEnvelope"].update(payloadType="text/plain"),
        lambda document: document["verificationMaterial"].update(tlogEntries=[1]),
        lambda document: document["verificationMaterial"]["publicKey"].update(hint=""),
        lambda document: document.update(mediaType="application/json"),
        lambda document: document["dsseEnvelope"].update(
            payload=document["dsseEnvelope"]["payload"].rstrip("=") + "\n"
        ),
        lambda document: document.update(mediaType=document.pop("mediaType")),
    ],
)
def test_every_other_rendering_is_refused(change):
    with pytest.raises(TrustError):
        verify(rendered(change))


def test_a_doubled_field_is_refused():
    signature = sign()
    doubled = signature.replace(
        b'{"mediaType":', b'{"mediaType":"application/vnd.dev.sigstore.bundle.v0.3+json","mediaType":'
    )
    with pytest.raises(TrustError, match="canonical"):
        verify(doubled)


def test_the_statement_is_that_of_the_specification():
    payload = json.loads(base64.b64decode(json.loads(sign())["dsseEnvelope"]["payload"]))
    names = ["evidence/full.enc", "evidence/public.json", "manifest.json", "model.enc"]
    root = hashlib.sha256(b"".join(bytes.fromhex(DIGESTS[name]) for name in names)).hexdigest()
    assert payload == {
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [{"name": "detector", "digest": {"sha256": root}}],
        "predicateType": "https://model_signing/signature/v1.0",
        "predicate": {
            "resources": [{"name": name, "algorithm": "sha256", "digest": DIGESTS[name]} for name in names],
            "serialization": {
                "allow_symlinks": False,
                "hash_type": "sha256",
                "ignore_paths": ["signature.json"],
                "method": "files",
            },
        },
    }


@given(st.binary(max_size=300))
def test_whatever_the_bytes_the_answer_is_an_error_of_ours(data):
    for name in ("signature.json", None):
        with pytest.raises(TrustError):
            verify_files(data, DIGESTS, POLICY, signature_name=name)


Json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


@given(st.data())
def test_whatever_is_put_in_place_of_a_field_is_refused(data):
    document = json.loads(sign())
    place = document
    while True:
        keys = list(place) if isinstance(place, dict) else list(range(len(place)))
        key = data.draw(st.sampled_from(keys))
        if not isinstance(place[key], dict | list) or not place[key] or data.draw(st.booleans()):
            break
        place = place[key]
    before = place[key]
    place[key] = data.draw(Json.filter(lambda value: value != before or type(value) is not type(before)))
    with pytest.raises(TrustError):
        verify(json.dumps(document, separators=(",", ":"), ensure_ascii=False).encode("utf-8", "surrogatepass"))
