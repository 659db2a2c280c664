"""`hauberk verify` and `hauberk inspect` on the bundles of `tests/bundle/fixtures`: words, documents and exit codes."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import pytest

from hauberk.bundle import BundleContents, read_bundle, write_bundle
from hauberk.bundle.container import pack
from hauberk.bundle.manifest import MEMBERS, SIGNATURE
from hauberk.cli import main
from hauberk.measurement import this_machine
from hauberk.protect import public_statement
from hauberk.requirements import Outcome
from hauberk.trust import EncryptionKey, SigningKey, TrustPolicy, default_keys, public_key_from_file

FIXTURES = Path(__file__).parents[1] / "bundle" / "fixtures" / "format-1"
BUNDLE = str(FIXTURES / "key.hbk")
SIGNER = ["--signer", str(FIXTURES / "signer.pub")]
EXPECTED = json.loads((FIXTURES / "expected.json").read_text())


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A configuration folder without keys."""
    monkeypatch.setenv("HAUBERK_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def key(tmp_path):
    path = tmp_path / "bundle.key"
    path.write_text(EXPECTED["key"])
    path.chmod(0o600)
    return ["--key", str(path)]


def changed(folder: Path) -> str:
    data = bytearray(Path(BUNDLE).read_bytes())
    data[1000] ^= 1
    (folder / "changed.hbk").write_bytes(data)
    return str(folder / "changed.hbk")


def test_a_good_bundle_is_verified(home, capsys):
    assert main(["verify", BUNDLE, *SIGNER]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith("verified")
    assert EXPECTED["signer"] in shown


def test_a_changed_bundle_is_not(home, capsys, tmp_path):
    assert main(["verify", changed(tmp_path), *SIGNER]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    assert "not verified" in captured.err


def test_a_refused_bundle_cannot_drive_the_terminal(home, capsys, tmp_path):
    members = dict.fromkeys(MEMBERS, b"")
    members[SIGNATURE] = rb'{"\u001b[1A\u001b[2K\u009bGverified \u202e":1}'  # one line up, and write over it
    (tmp_path / "evil.hbk").write_bytes(pack(members))
    assert main(["verify", str(tmp_path / "evil.hbk"), *SIGNER]) == 1
    error = capsys.readouterr().err.removesuffix("\n")
    assert error.isprintable()
    assert r"unknown field `\x1b[1A\x1b[2K\x9bGverified \u202e`" in error


def test_a_stranger_is_not(home, capsys, tmp_path):
    (tmp_path / "other.pub").write_bytes(SigningKey.generate().public_key.pem)
    assert main(["verify", BUNDLE, "--trust", str(tmp_path / "other.pub")]) == 1
    assert "which is not trusted" in capsys.readouterr().err


def test_one_of_several_trusted_signers_is_enough(home, tmp_path):
    (tmp_path / "other.pub").write_bytes(SigningKey.generate().public_key.pem)
    assert main(["verify", BUNDLE, "--trust", str(tmp_path / "other.pub"), *SIGNER]) == 0


def test_ones_own_signature_is_trusted_and_no_other(home, capsys):
    default_keys()
    assert main(["verify", BUNDLE]) == 1


@pytest.fixture
def vouched(home, tmp_path) -> str:
    """A bundle with real public evidence, sealed with one's own keys: one requirement is met, one missed."""
    keys = default_keys()
    opened = read_bundle(FIXTURES / "key.hbk", TrustPolicy((public_key_from_file(FIXTURES / "signer.pub"),))).unlock(
        EncryptionKey(bytes.fromhex(EXPECTED["key"]))
    )
    statement = public_statement(
        (("model.onnx", hashlib.sha256(opened.model).hexdigest()),),
        created="2026-11-21T09:00:00Z",
        machine=this_machine(),
        history=(),
        outcomes=(Outcome("size <= 1MB", holds=True, reason="-"), Outcome("auroc >= 99%", holds=False, reason="-")),
        met=False,
    )
    contents = BundleContents("tiny", opened.model, opened.schema, opened.manifest.signature, 0.5, statement)
    write_bundle(tmp_path / "vouched.hbk", contents, encryption=keys.encryption, signing=keys.signing)
    return str(tmp_path / "vouched.hbk")


def test_it_says_what_the_signer_vouches_for(vouched, capsys):
    assert main(["verify", vouched]) == 0
    shown = capsys.readouterr().out
    for line in ("2026-11-21T09:00:00Z", "hauberk 0.", "  met       size <= 1MB", "  MISSED    auroc >= 99%"):
        assert line in shown


def test_evidence_of_an_unknown_kind_is_said_to_be_so(home, capsys):
    assert main(["verify", BUNDLE, *SIGNER]) == 0
    assert "not known here: https://example.org/test/v1" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["nowhere.hbk", *SIGNER], "nowhere.hbk: cannot read: no such file"),
        ([BUNDLE], "give --trust PUBKEY"),
        ([BUNDLE, "--signer", "nowhere.pub"], "nowhere.pub: cannot read"),
        ([BUNDLE, *SIGNER, "--key", "nowhere.key"], "nowhere.key: cannot read"),
        ([BUNDLE, *SIGNER, "--key-env", "HAUBERK_TEST_UNSET"], "is not set"),
        ([BUNDLE, *SIGNER, "--passphrase"], "no terminal to ask at"),
    ],
)
def test_what_cannot_be_decided_is_an_error(home, capsys, monkeypatch, words, message):
    monkeypatch.setattr(sys, "stdin", open("/dev/null"))  # noqa: SIM115, PTH123 - closed with the process
    assert main(["verify", *words]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_with_the_key_everything_is_decrypted(home, capsys, key):
    assert main(["verify", BUNDLE, *SIGNER, *key]) == 0
    assert "authentic under this key" in capsys.readouterr().out


def test_with_a_wrong_key_it_is_not_verified(home, capsys, tmp_path):
    (tmp_path / "wrong.key").write_text("00" * 32)
    (tmp_path / "wrong.key").chmod(0o600)
    assert main(["verify", BUNDLE, *SIGNER, "--key", str(tmp_path / "wrong.key")]) == 1
    assert "wrong key" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["argon2id.hbk", "scrypt.hbk"])
def test_with_a_passphrase_from_the_environment(home, capsys, monkeypatch, name):
    monkeypatch.setenv("HAUBERK_TEST_PASSPHRASE", EXPECTED["passphrase"])
    words = ["verify", str(FIXTURES / name), *SIGNER, "--passphrase-env", "HAUBERK_TEST_PASSPHRASE"]
    assert main(words) == 0
    monkeypatch.setenv("HAUBERK_TEST_PASSPHRASE", "guess")
    assert main(words) == 1
    assert EXPECTED["passphrase"] not in "".join(capsys.readouterr())


def test_two_keys_at_once_are_bad_usage(home, key):
    with pytest.raises(SystemExit) as left:
        main(["verify", BUNDLE, *SIGNER, *key, "--passphrase"])
    assert left.value.code == 2


def test_verify_as_json(home, capsys, tmp_path):
    assert main(["verify", BUNDLE, *SIGNER, "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert (document["verified"], document["signer"], document["name"]) == (True, EXPECTED["signer"], "tiny")
    assert document["statement"]["predicate"] == {"met": True}
    assert main(["verify", changed(tmp_path), *SIGNER, "--json"]) == 1
    document = json.loads(capsys.readouterr().out)
    assert document["verified"] is False
    assert document["reason"]


def test_inspect_without_the_key_shows_the_outside(home, capsys):
    assert main(["inspect", BUNDLE, *SIGNER]) == 0
    shown = capsys.readouterr().out
    for word in ("tiny", EXPECTED["signer"], "numeric float32 [batch, 2]", "ai.onnx 18", "model.enc", "with a key"):
        assert word in shown
    assert "duration" not in shown


def test_inspect_with_the_key_shows_the_inside(home, capsys, key):
    assert main(["inspect", BUNDLE, *SIGNER, *key]) == 0
    shown = capsys.readouterr().out
    for word in ("duration", "protocol", "2 categories", "normal is benign", "report.html", "alert from score 0.5"):
        assert word in shown


def test_inspect_tries_ones_own_key_and_says_nothing_where_it_does_not_fit(home, capsys):
    default_keys()
    assert main(["inspect", BUNDLE, *SIGNER]) == 0
    captured = capsys.readouterr()
    assert "duration" not in captured.out
    assert captured.err == ""


def test_inspect_with_a_wrong_key_is_an_error(home, capsys, tmp_path):
    (tmp_path / "wrong.key").write_text("00" * 32)
    (tmp_path / "wrong.key").chmod(0o600)
    assert main(["inspect", BUNDLE, *SIGNER, "--key", str(tmp_path / "wrong.key")]) == 2
    assert "wrong key" in capsys.readouterr().err


def test_inspect_refuses_a_changed_bundle(home, capsys, tmp_path):
    assert main(["inspect", changed(tmp_path), *SIGNER]) == 2
    assert capsys.readouterr().out == ""


def test_inspect_as_json(home, capsys, key):
    assert main(["inspect", BUNDLE, *SIGNER, *key, "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["manifest"]["name"] == "tiny"
    assert [feature["name"] for feature in document["schema"]["features"]] == EXPECTED["columns"]
    assert set(document["evidence"]) == set(EXPECTED["evidence"])


def test_the_public_tool_verifies_what_inspect_extracts(home, tmp_path):
    out = tmp_path / "unpacked"
    assert main(["inspect", BUNDLE, *SIGNER, "--extract", str(out)]) == 0
    tool = [Path(sys.executable).with_name("model_signing"), "verify", "key", out, "--no-ignore-git-paths"]
    words = [*tool, "--public_key", FIXTURES / "signer.pub", "--signature", out / "signature.json"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.strip()) == (0, "Verification succeeded"), done.stderr
    with (out / "model.enc").open("ab") as file:
        file.write(b"\x00")
    assert subprocess.run(words, capture_output=True, check=False).returncode == 1


def test_evidence_is_written_for_those_with_the_key(home, capsys, tmp_path, key):
    out = tmp_path / "evidence"
    assert main(["inspect", BUNDLE, *SIGNER, "--evidence", str(out)]) == 2
    assert not out.exists()
    assert main(["inspect", BUNDLE, *SIGNER, *key, "--evidence", str(out)]) == 0
    assert (out / "report.html").read_bytes() == b"<p>hello</p>"
    assert main(["inspect", BUNDLE, *SIGNER, *key, "--evidence", str(out)]) == 2
    assert "something is there already" in capsys.readouterr().err
