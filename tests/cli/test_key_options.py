"""Where commands take keys from: files, variables, a terminal, one's own; never from an argument."""

from __future__ import annotations

import argparse
import json
import os
import pty
import select
import signal
import sys
from pathlib import Path

import pytest

from hauberk.cli import key_options
from hauberk.cli.output import Output
from hauberk.errors import InputError
from hauberk.trust import EncryptionKey, Passphrase, SigningKey, default_keys

FIXTURES = Path(__file__).parents[1] / "bundle" / "fixtures" / "format-1"


def resolve(*words: str) -> key_options.SealingKeys:
    parser = argparse.ArgumentParser()
    key_options.configure_sealing(parser)
    return key_options.resolve_sealing(parser.parse_args(words), Output(json=False))


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("HAUBERK_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def signing_file(tmp_path):
    path = tmp_path / "mine.pem"
    path.write_bytes(SigningKey.generate().reveal())
    path.chmod(0o600)
    return path


def test_ones_own_keys_are_made_and_the_user_is_told_once(home, capsys):
    keys = resolve()
    told = capsys.readouterr().err
    assert str(home) in told
    assert "keep a copy" in told
    again = resolve()
    assert capsys.readouterr().err == ""
    assert (keys.encryption, keys.signing.public_key) == (again.encryption, again.signing.public_key)


def test_named_keys_are_used_and_none_are_made(home, signing_file, monkeypatch):
    monkeypatch.setenv("HAUBERK_TEST_KEY", "11" * 32)
    keys = resolve("--key-env", "HAUBERK_TEST_KEY", "--signing-key", str(signing_file))
    assert keys.encryption == EncryptionKey(b"\x11" * 32)
    assert keys.signing.reveal() == signing_file.read_bytes()
    assert not home.exists()


def test_what_is_not_named_is_ones_own(home, monkeypatch):
    monkeypatch.setenv("HAUBERK_TEST_PASSPHRASE", "a b c")
    keys = resolve("--passphrase-env", "HAUBERK_TEST_PASSPHRASE")
    assert keys.encryption == Passphrase("a b c")
    assert keys.signing.public_key == default_keys().signing.public_key


def test_an_unusable_key_makes_no_others(home):
    with pytest.raises(InputError):
        resolve("--key", "nowhere.key")
    assert not home.exists()


def at_a_terminal(*words: str, answers: tuple[str, ...]) -> tuple[int, str]:
    """Run Python at a real terminal, answer its questions, and return exit code and everything that was seen."""
    process, terminal = pty.fork()
    if process == 0:
        os.execv(sys.executable, [sys.executable, *words])
    seen, since_answer, pending = b"", b"", list(answers)
    while True:
        if not select.select([terminal], [], [], 30)[0]:
            os.kill(process, signal.SIGKILL)  # it waits for something that nobody will type
            break
        try:
            piece = os.read(terminal, 1024)
        except OSError:
            break
        if not piece:
            break
        seen += piece
        since_answer += piece
        if pending and since_answer.endswith(b": "):
            os.write(terminal, pending.pop(0).encode() + b"\n")
            since_answer = b""
    os.close(terminal)
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]), seen.decode()


def test_a_passphrase_is_asked_for_without_showing_it():
    passphrase = json.loads((FIXTURES / "expected.json").read_text())["passphrase"]
    words = [
        "-m",
        "hauberk",
        "verify",
        str(FIXTURES / "argon2id.hbk"),
        "--signer",
        str(FIXTURES / "signer.pub"),
        "--passphrase",
    ]
    code, seen = at_a_terminal(*words, answers=(passphrase,))
    assert (code, passphrase in seen) == (0, False)
    assert "authentic under this key" in seen
    code, seen = at_a_terminal(*words, answers=("guess",))
    assert (code, "guess" in seen) == (1, False)


@pytest.mark.parametrize(
    ("answers", "seen_then"), [(("one two", "one two"), "sealed"), (("one two", "one too"), "the two differ")]
)
def test_a_new_passphrase_is_asked_for_twice(home, signing_file, answers, seen_then):
    code = (
        "import argparse, sys\nfrom hauberk.cli import key_options\nfrom hauberk.cli.output import Output\n"
        "from hauberk.errors import InputError\nfrom hauberk.trust import Passphrase\n"
        "parser = argparse.ArgumentParser()\nkey_options.configure_sealing(parser)\n"
        "try:\n keys = key_options.resolve_sealing(parser.parse_args(), Output(json=False))\n"
        " print('sealed' if keys.encryption == Passphrase('one two') else 'other')\n"
        "except InputError as error: print(error)\n"
    )
    _, seen = at_a_terminal("-c", code, "--passphrase", "--signing-key", str(signing_file), answers=answers)
    assert seen_then in seen
    assert "one t" not in seen
