"""Keys and signatures agree with OpenSSL, and a signature has exactly one accepted form."""

from __future__ import annotations

import base64
import shutil
import subprocess

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature
from hypothesis import given
from hypothesis import strategies as st

from hauberk.errors import InputError, TrustError
from hauberk.trust import PublicKey, SigningKey, TrustPolicy, public_key_from_file, signing_key_from_file
from hauberk.trust.signing import is_canonical

ORDER = 2**256 - 2**224 + 2**192 - int("4319055258e8617b0c46353d039cdaaf", 16)
KEY = SigningKey.generate()


def pem(key, *, form=serialization.PrivateFormat.PKCS8, password: bytes | None = None) -> bytes:
    protection = serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption()
    return key.private_bytes(serialization.Encoding.PEM, form, protection)


def test_a_signature_verifies_and_another_does_not():
    signature = KEY.sign(b"data")
    assert KEY.public_key.verify(signature, b"data")
    assert not KEY.public_key.verify(signature, b"date")
    assert not SigningKey.generate().public_key.verify(signature, b"data")


@pytest.mark.skipif(shutil.which("openssl") is None, reason="needs the openssl command")
def test_openssl_verifies_our_signature_with_our_public_key(tmp_path):
    (tmp_path / "data").write_bytes(b"data")
    (tmp_path / "signature").write_bytes(KEY.sign(b"data"))
    (tmp_path / "public").write_bytes(KEY.public_key.pem)
    words = ["openssl", "dgst", "-sha256", "-verify", "public", "-signature", "signature", "data"]
    assert "Verified OK" in subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=True).stdout


def test_the_pem_text_is_that_of_the_reference_implementation():
    reference = serialization.load_pem_private_key(KEY.reveal(), None).public_key()
    text = reference.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    assert KEY.public_key.pem == text
    assert PublicKey.from_pem(text) == KEY.public_key


def test_both_ways_of_writing_a_private_key_are_read():
    key = ec.generate_private_key(ec.SECP256R1())
    traditional = pem(key, form=serialization.PrivateFormat.TraditionalOpenSSL)
    assert SigningKey(traditional).public_key == SigningKey(pem(key)).public_key


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"", "expected an EC P-256 private key"),
        (b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", "expected an EC P-256 private key"),
        (KEY.public_key.pem, "expected an EC P-256 private key"),
        (pem(ec.generate_private_key(ec.SECP384R1())), "on P-256"),
        (pem(ec.generate_private_key(ec.SECP256K1())), "on P-256"),
        (pem(ed25519.Ed25519PrivateKey.generate()), "on P-256"),
        (pem(ec.generate_private_key(ec.SECP256R1()), password=b"x"), "it is encrypted"),
    ],
)
def test_what_is_no_signing_key_is_refused(tmp_path, text, message):
    with pytest.raises(InputError, match=message):
        SigningKey(text)
    path = tmp_path / "some.pem"
    path.write_bytes(text)
    path.chmod(0o600)
    with pytest.raises(InputError, match=rf"some\.pem: .*{message}"):
        signing_key_from_file(path)


def test_a_private_key_that_others_may_read_is_refused(tmp_path):
    path = tmp_path / "signing.pem"
    path.write_bytes(KEY.reveal())
    path.chmod(0o644)
    with pytest.raises(InputError, match="mode 0644 lets others read it"):
        signing_key_from_file(path)


def off_the_curve() -> bytes:
    point = KEY.public_key.point
    return PublicKey(point[:-1] + bytes([point[-1] ^ 1])).pem


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"", "expected an EC P-256 public key"),
        (KEY.public_key.pem[:-30], "expected an EC P-256 public key"),
        (KEY.public_key.pem * 2, "damaged"),
        (KEY.public_key.pem.replace(b"M", b"!"), "damaged"),
        (b"junk\n" + KEY.public_key.pem, "expected an EC P-256 public key"),
        (off_the_curve(), "damaged"),
        (KEY.reveal(), "this is a private key; give the public one"),
        (
            ec.generate_private_key(ec.SECP384R1())
            .public_key()
            .public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo),
            "expected an EC P-256 public key",
        ),
    ],
)
def test_what_is_no_public_key_is_refused(tmp_path, text, message):
    (tmp_path / "some.pub").write_bytes(text)
    with pytest.raises(InputError, match=rf"some\.pub: .*{message}"):
        public_key_from_file(tmp_path / "some.pub")


def test_every_signature_made_is_canonical():
    for number in range(40):
        signature = KEY.sign(b"%d" % number)
        assert is_canonical(signature)
        assert decode_dss_signature(signature)[1] <= ORDER // 2


def test_the_twin_of_a_signature_verifies_and_is_not_canonical():
    r, s = decode_dss_signature(KEY.sign(b"data"))
    twin = encode_dss_signature(r, ORDER - s)
    assert KEY.public_key.verify(twin, b"data")
    assert not is_canonical(twin)


def test_other_encodings_are_not_canonical():
    signature = KEY.sign(b"data")
    long_form = signature[:1] + b"\x81" + signature[1:]
    padded = b"\x30" + bytes([signature[1] + 1]) + b"\x02" + bytes([signature[3] + 1]) + b"\x00" + signature[4:]
    for other in (b"", long_form, padded, signature + b"\x00", signature[:-1], encode_dss_signature(0, 1)):
        assert not is_canonical(other)


@given(st.binary(max_size=80))
def test_whatever_the_bytes_verification_says_no(data):
    assert not KEY.public_key.verify(data, b"data")
    is_canonical(data)


@given(st.binary(max_size=200) | st.binary(max_size=200).map(base64.b64encode))
def test_whatever_a_public_key_file_holds_the_answer_is_an_error_of_ours(data):
    for text in (data, b"-----BEGIN PUBLIC KEY-----\n" + data + b"\n-----END PUBLIC KEY-----\n"):
        with pytest.raises(InputError):
            PublicKey.from_pem(text)


def test_a_policy_trusts_whom_it_names():
    other = SigningKey.generate().public_key
    policy = TrustPolicy((other, KEY.public_key))
    assert policy.signer(KEY.public_key.fingerprint) == KEY.public_key
    with pytest.raises(TrustError, match="not trusted"):
        TrustPolicy((other,)).signer(KEY.public_key.fingerprint)
    with pytest.raises(InputError, match="at least one"):
        TrustPolicy(())
