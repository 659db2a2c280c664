"""Bundles: what goes in comes out for those with the key, and nothing else is let in."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os

import msgspec
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hauberk.bundle import BundleContents, decode_bundle, encode_bundle, read_bundle, write_bundle
from hauberk.bundle.container import pack, unpack
from hauberk.bundle.manifest import MEMBERS
from hauberk.errors import BundleError, InputError, TrustError
from hauberk.trust import EncryptionKey, Passphrase, SigningKey, TrustPolicy, sign_files, sign_statement


def members_of(bundle: bytes) -> dict[str, bytes]:
    return {name: bytes(content) for name, content in unpack(bundle).items()}


def signed_again(members: dict[str, bytes], key: SigningKey) -> bytes:
    """The members with a fresh signature over whatever they are now."""
    others = {name: content for name, content in members.items() if name != "signature.json"}
    digests = {name: hashlib.sha256(content).hexdigest() for name, content in others.items()}
    signature = sign_files(digests, key, name="tiny", signature_name="signature.json")
    return pack({name: signature if name == "signature.json" else content for name, content in members.items()})


def test_what_was_sealed_is_what_opens(bundle, contents, key, policy, signing):
    verified = decode_bundle(bundle, policy)
    opened = verified.unlock(key)
    assert verified.signer == signing.public_key
    assert (opened.model, opened.schema, opened.threshold) == (contents.model, contents.schema, contents.threshold)
    assert verified.manifest.signature == contents.signature
    assert verified.manifest.name == "tiny"
    assert verified.public_evidence() == contents.public
    assert verified.evidence(key) == contents.evidence


def test_the_opened_model_runs(bundle, key, policy):
    session = onnxruntime.InferenceSession(decode_bundle(bundle, policy).unlock(key).model)
    numeric, codes = [[0.25, 0.5], [1.0, 1.0]], [[0], [1]]
    scores, labels = session.run(None, {"numeric": numeric, "codes": codes})
    assert scores.tolist() == [0.375, 1.0]
    assert labels.tolist() == [0, 1]


def test_a_passphrase_seals_and_opens(contents, policy, signing, key):
    verified = decode_bundle(encode_bundle(contents, encryption=Passphrase("a b"), signing=signing), policy)
    assert verified.unlock(Passphrase("a b")).model == contents.model
    with pytest.raises(TrustError, match="wrong passphrase"):
        verified.unlock(Passphrase("a c"))
    with pytest.raises(TrustError, match="sealed with a passphrase, not with a key"):
        verified.unlock(key)


def test_a_wrong_key_opens_nothing(bundle, policy):
    verified = decode_bundle(bundle, policy)
    for attempt in (verified.unlock, verified.evidence):
        with pytest.raises(TrustError, match="wrong key"):
            attempt(EncryptionKey.generate())
        with pytest.raises(TrustError, match="sealed with a key, not with a passphrase"):
            attempt(Passphrase("a"))


def test_a_wrong_signer_is_refused(bundle):
    with pytest.raises(TrustError, match="not trusted"):
        decode_bundle(bundle, TrustPolicy((SigningKey.generate().public_key,)))


def test_nothing_secret_lies_in_the_clear(bundle, contents, key, signing):
    for secret in (b"duration", b"hello", b"ReduceMean", contents.model, key.reveal(), key.reveal().hex().encode()):
        assert secret not in bundle
    assert signing.reveal()[40:80] not in bundle


def test_every_changed_byte_is_noticed(bundle, policy):
    changed = bytearray(bundle)
    for position in range(len(bundle)):
        for flip in (1, 2, 4, 8, 16, 32, 64, 128, 0xFF):
            changed[position] ^= flip
            with pytest.raises(TrustError):
                decode_bundle(bytes(changed), policy)
            changed[position] ^= flip
    decode_bundle(bytes(changed), policy)


def test_every_changed_byte_of_a_member_is_noticed_where_the_framing_was_mended(bundle, policy):
    """The checksums of the container say yes to each of these; the signature must say no."""
    members = members_of(bundle)
    for name, whole in members.items():
        changed = bytearray(whole)
        for position in range(len(changed)):
            changed[position] ^= 1 << position % 8
            with pytest.raises(TrustError):
                decode_bundle(pack({**members, name: bytes(changed)}), policy)
            changed[position] = whole[position]


def test_every_truncation_is_noticed(bundle, policy):
    for end in range(len(bundle)):
        with pytest.raises(BundleError):
            decode_bundle(bundle[:end], policy)
        with pytest.raises(BundleError):
            decode_bundle(bundle[end + 1 :], policy)


@pytest.mark.parametrize("more", [b"\x00", b"\n", b"PK\x05\x06" + bytes(18)])
def test_bytes_before_and_after_are_noticed(bundle, policy, more):
    for data in (more + bundle, bundle + more):
        with pytest.raises(BundleError):
            decode_bundle(data, policy)


@pytest.mark.parametrize("name", MEMBERS)
def test_a_missing_member_is_named_even_where_the_signer_left_it_out(bundle, policy, signing, name):
    members = members_of(bundle)
    del members[name]
    forged = pack(members) if name == "signature.json" else signed_again(members, signing)
    with pytest.raises(BundleError, match=f"{name} is missing"):
        decode_bundle(forged, policy)


def test_an_added_member_is_named_even_where_the_signer_added_it(bundle, policy, signing):
    members = {**members_of(bundle), "operators/linux": b"\x7fELF"}
    with pytest.raises(BundleError, match="operators/linux does not belong"):
        decode_bundle(signed_again(members, signing), policy)


def test_another_order_of_members_is_refused(bundle, policy):
    members = dict(reversed(members_of(bundle).items()))
    with pytest.raises(BundleError, match="not in their order"):
        decode_bundle(pack(members), policy)


@pytest.mark.parametrize("name", [name for name in MEMBERS if name != "signature.json"])
def test_a_changed_member_is_named_where_the_framing_was_mended(bundle, policy, name):
    members = members_of(bundle)
    members[name] = members[name][:-1] + bytes([members[name][-1] ^ 1])
    with pytest.raises(TrustError, match=f"{name} was changed after signing"):
        decode_bundle(pack(members), policy)


def test_members_of_two_bundles_of_one_signer_do_not_mix(bundle, contents, key, signing, policy):
    other = members_of(encode_bundle(contents, encryption=key, signing=signing))
    members = members_of(bundle)
    for name in MEMBERS:
        mixed = {**members, name: other[name]}
        with pytest.raises(TrustError):
            decode_bundle(pack(mixed), policy)


def test_no_member_is_interpreted_before_the_signature_holds(bundle, policy, signing):
    """A manifest that is no JSON: from a stranger the complaint is about the stranger, from a friend about the JSON."""
    members = {**members_of(bundle), "manifest.json": b"\xff not JSON"}
    with pytest.raises(TrustError, match="not trusted"):
        decode_bundle(signed_again(members, SigningKey.generate()), policy)
    with pytest.raises(TrustError, match=r"manifest\.json: "):
        decode_bundle(signed_again(members, signing), policy)


def manifest_with(bundle: bytes, signing: SigningKey, change) -> bytes:
    """A bundle whose signer signed a changed manifest."""
    members = members_of(bundle)
    manifest = json.loads(members["manifest.json"])
    change(manifest)
    members["manifest.json"] = msgspec.json.encode(manifest)
    return signed_again(members, signing)


@pytest.mark.parametrize(
    "change",
    [
        lambda manifest: manifest.update(format=2),
        lambda manifest: manifest.update(mode="sealed"),
        lambda manifest: manifest.update(extra=1),
        lambda manifest: manifest.pop("needs"),
        lambda manifest: manifest["needs"].update(version="newest"),
        lambda manifest: manifest["needs"].update(version="1.23.0"),
        lambda manifest: manifest["needs"].update(version="1." + "9" * 5000),
        lambda manifest: manifest.update(name="../evil"),
        lambda manifest: manifest.update(name=""),
        lambda manifest: manifest.update(format=manifest.pop("format")),
        lambda manifest: manifest["encryption"].update(cipher="AES-128"),
        lambda manifest: manifest["encryption"].update(salt="not base64!"),
        lambda manifest: manifest["encryption"]["derivation"].update(kind="md5"),
        lambda manifest: manifest["members"].pop(),
        lambda manifest: manifest["members"].append(manifest["members"][0]),
        lambda manifest: manifest["members"].reverse(),
        lambda manifest: manifest["members"][0].update(size=1),
        lambda manifest: manifest["members"][0].update(sha256="00" * 32),
        lambda manifest: manifest["inputs"][0].update(shape="x"),
    ],
)
def test_a_signed_manifest_must_still_be_one(bundle, policy, signing, change):
    decode_bundle(manifest_with(bundle, signing, lambda manifest: None), policy)
    with pytest.raises(TrustError):
        decode_bundle(manifest_with(bundle, signing, change), policy)


def test_a_derivation_that_asks_for_too_much_is_refused_before_it_is_computed(contents, policy, signing):
    sealed = encode_bundle(contents, encryption=Passphrase("a"), signing=signing)

    def change(manifest):
        manifest["encryption"]["derivation"]["memory"] = 1 << 30

    verified = decode_bundle(manifest_with(sealed, signing, change), policy)
    with pytest.raises(TrustError, match="at most 1024 MiB"):
        verified.unlock(Passphrase("a"))


def with_public_evidence(bundle: bytes, envelope: bytes, signing: SigningKey) -> bytes:
    """A bundle with other public evidence, described and signed as if it belonged there."""
    members = {**members_of(bundle), "evidence/public.json": envelope}
    manifest = json.loads(members["manifest.json"])
    entry = next(entry for entry in manifest["members"] if entry["name"] == "evidence/public.json")
    entry.update(size=len(envelope), sha256=hashlib.sha256(envelope).hexdigest())
    members["manifest.json"] = msgspec.json.encode(manifest)
    return signed_again(members, signing)


def test_public_evidence_must_be_signed_by_the_signer_of_the_bundle(bundle, contents, policy, signing):
    forged = with_public_evidence(bundle, sign_statement(contents.public, SigningKey.generate()), signing)
    verified = decode_bundle(forged, policy)
    with pytest.raises(TrustError, match="not trusted"):
        verified.public_evidence()


@pytest.mark.parametrize("statements", [b"{}", b"", None])
def test_statements_that_are_not_signed_with_the_same_key_are_not_sealed(contents, key, signing, statements):
    forged = sign_statement(contents.public, SigningKey.generate()) if statements is None else statements
    evidence = {"statements.json": forged}
    with pytest.raises(InputError, match=r"sign it with hauberk\.trust\.sign_statement"):
        encode_bundle(with_fields(contents, evidence=evidence), encryption=key, signing=signing)


def about_another_model(statement) -> dict:
    return {**statement, "subject": [{"name": "model.onnx", "digest": {"sha256": "00" * 32}}]}


@pytest.mark.parametrize("subject", [[], None, "x", [1], [{}], [{"digest": 1}], [{"digest": {"sha256": "00" * 32}}]])
def test_evidence_that_speaks_of_another_model_is_not_sealed(contents, key, signing, subject):
    changed = {**contents.public, "subject": subject}
    with pytest.raises(InputError, match="speaks of another model"):
        encode_bundle(with_fields(contents, public=changed), encryption=key, signing=signing)
    evidence = {"statements.json": sign_statement(changed, signing)}
    with pytest.raises(InputError, match="speaks of another model"):
        encode_bundle(with_fields(contents, evidence=evidence), encryption=key, signing=signing)


def test_an_audit_finds_evidence_that_speaks_of_another_model(bundle, contents, key, policy, signing):
    """Signed by the bundle's own signer, who mixed up two models."""
    assert decode_bundle(bundle, policy).audit(key).model == contents.model
    forged = with_public_evidence(bundle, sign_statement(about_another_model(contents.public), signing), signing)
    with pytest.raises(BundleError, match="speaks of another model"):
        decode_bundle(forged, policy).audit(key)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("name", "", "detector name"),
        ("name", "a b", "detector name"),
        ("name", "../a", "detector name"),
        ("name", "x" * 65, "detector name"),
        ("model", b"", "it is empty"),
        ("threshold", float("nan"), "finite"),
        ("evidence", {"../x": b""}, "evidence file"),
    ],
)
def test_contents_are_checked_when_they_are_made(contents, field, value, message):
    with pytest.raises(InputError, match=message):
        with_fields(contents, **{field: value})


def test_a_model_that_is_none_is_not_sealed(contents, key, signing):
    with pytest.raises(InputError, match="not a serialised ONNX model"):
        encode_bundle(with_fields(contents, model=b"not a model"), encryption=key, signing=signing)


def with_fields(contents: BundleContents, **changes) -> BundleContents:
    return dataclasses.replace(contents, **changes)


def test_writing_is_all_or_nothing(tmp_path, contents, key, signing, policy):
    path = tmp_path / "detector.hbk"
    write_bundle(path, contents, encryption=key, signing=signing)
    assert read_bundle(path, policy).unlock(key).model == contents.model
    with pytest.raises(InputError):
        write_bundle(path, with_fields(contents, model=b"x"), encryption=key, signing=signing)
    assert read_bundle(path, policy).unlock(key).model == contents.model
    assert [entry.name for entry in tmp_path.iterdir()] == ["detector.hbk"]


def test_what_was_verified_is_used_whatever_happens_to_the_file(tmp_path, bundle, contents, key, policy):
    path = tmp_path / "detector.hbk"
    path.write_bytes(bundle)
    verified = read_bundle(path, policy)
    with path.open("r+b") as file:
        file.write(os.urandom(len(bundle)))
    assert verified.unlock(key).model == contents.model


def test_errors_name_the_file(tmp_path, bundle, policy):
    path = tmp_path / "broken.hbk"
    path.write_bytes(bundle[:-1])
    with pytest.raises(BundleError, match=r"broken\.hbk: container: "):
        read_bundle(path, policy)
    with pytest.raises(InputError, match=r"nowhere\.hbk: cannot read: no such file"):
        read_bundle(tmp_path / "nowhere.hbk", policy)


def test_representations_are_short_and_hold_no_model(bundle, key, policy):
    verified = decode_bundle(bundle, policy)
    for shown in (repr(verified), repr(verified.unlock(key))):
        assert len(shown) < 100
        assert "tiny" in shown


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_whatever_is_done_to_the_structure_is_refused(bundle, policy, data):
    """Members dropped, doubled under other names, reordered, replaced, cut and joined; then framed correctly again."""
    members = members_of(bundle)
    names = data.draw(st.permutations(list(members)))[: data.draw(st.integers(0, len(members)))]
    extra = data.draw(
        st.dictionaries(st.sampled_from(["a", "x/y", "manifest.json2"]), st.binary(max_size=20), max_size=2)
    )
    changed = {name: data.draw(mutated(members, name)) for name in names} | extra
    if list(changed.items()) == list(members.items()):
        return
    with pytest.raises(TrustError):
        decode_bundle(pack(changed), policy)


def mutated(members: dict[str, bytes], name: str) -> st.SearchStrategy[bytes]:
    whole = members[name]
    cut = st.integers(0, len(whole)).map(lambda end: whole[:end])
    return st.one_of(
        st.just(whole), st.just(whole), cut, st.sampled_from(list(members.values())), st.binary(max_size=50)
    )
