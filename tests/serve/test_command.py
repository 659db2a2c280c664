"""`hauberk serve` as a command: what it takes, and what it refuses in one line, with exit code 2, before it listens."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from hauberk.trust import EncryptionKey, SigningKey


def refused(*arguments: str | Path) -> str:
    """The one line that a refused start leaves."""
    command = [sys.executable, "-m", "hauberk", "serve", "--port", "0", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.startswith("hauberk: ")
    return line.removeprefix("hauberk: ")


def test_a_bundle_that_is_not_there(keys: Any, tmp_path: Path) -> None:
    path = tmp_path / "none.hbk"
    assert refused(path, *keys.options) == f"{path}: cannot read: no such file or directory"


def test_a_folder(keys: Any, tmp_path: Path) -> None:
    assert refused(tmp_path, *keys.options) == f"{tmp_path}: not a regular file; name a file"


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04" * 100])
def test_something_that_is_no_bundle(keys: Any, tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "junk.hbk"
    path.write_bytes(content)
    line = refused(path, *keys.options)
    assert line.startswith(f"{path}: ")
    assert "/proc" not in line


def test_a_wrong_key(keys: Any, plain_bundle: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.key"
    other.touch(mode=0o600)
    other.write_bytes(EncryptionKey.generate().to_text())
    line = refused(plain_bundle, "--key", other, "--trust", keys.folder / "test.pub")
    assert line.startswith(f"{plain_bundle}: ")
    assert "wrong key" in line


def test_a_signer_who_is_not_trusted(keys: Any, plain_bundle: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.pub"
    other.write_bytes(SigningKey.generate().public_key.pem)
    line = refused(plain_bundle, "--key", keys.folder / "test.key", "--trust", other)
    assert "not trusted" in line


def test_two_models_of_one_name(keys: Any, plain_bundle: Path) -> None:
    assert "is served already" in refused(plain_bundle, plain_bundle, *keys.options)


def test_a_model_that_needs_more_than_its_limit_for_any_record(keys: Any, greedy_bundle: Path) -> None:
    line = refused(greedy_bundle, *keys.options)
    assert line.startswith(f"{greedy_bundle}: ")
    assert "more memory than allowed" in line


@pytest.mark.parametrize(
    ("option", "value", "says"),
    [
        ("--memory-limit", "lots", "is not a size; try 512M or 2G"),
        ("--memory-limit", "1M", "memory_limit is 1048576"),
        ("--max-body", "-1", "is not a size"),
        ("--workers", "0", "workers is 0; give 1 to 256"),
        ("--time-limit", "nan", "time_limit is nan"),
        ("--wait-limit", "0", "wait_limit is 0.0; give 0.01 to 3600"),
        ("--port", "70000", "port is 70000"),
        ("--host", "no.such.host.invalid", "cannot listen on no.such.host.invalid"),
    ],
)
def test_an_option_that_makes_no_sense(keys: Any, plain_bundle: Path, option: str, value: str, says: str) -> None:
    assert says in refused(plain_bundle, *keys.options, option, value)


def test_json_output_is_one_document(keys: Any, plain_bundle: Path) -> None:
    command = [sys.executable, "-m", "hauberk", "serve", "--json", "--port", "0", str(plain_bundle), *keys.options]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    assert process.stderr.readline().startswith("listening on ")
    process.send_signal(signal.SIGINT)
    output, errors = process.communicate(timeout=30)
    document = json.loads(output)
    assert document["models"] == ["plain"]
    assert document["address"].startswith("http://127.0.0.1:")
    assert (process.returncode, errors) == (0, "")


def test_the_default_keys_serve_what_they_sealed(keys: Any, plain_bundle: Path, tmp_path: Path, serving: Any) -> None:
    (tmp_path / "encryption.key").write_bytes(keys.encryption.to_text())
    (tmp_path / "signing.pub").write_bytes(keys.signing.public_key.pem)
    (tmp_path / "encryption.key").chmod(0o600)
    tmp_path.chmod(0o700)
    with serving([str(plain_bundle)], {"HAUBERK_HOME": str(tmp_path)}) as server:
        assert server.infer("plain", rate=0.5, protocol="tcp", packets=1)[0] == 200


def test_a_passphrase_opens_as_well(keys: Any, passphrase_bundle: Path, serving: Any) -> None:
    options = ["--passphrase-env", "TEST_PASSPHRASE", "--trust", str(keys.folder / "test.pub")]
    with serving([str(passphrase_bundle), *options], {"TEST_PASSPHRASE": "correct horse"}) as server:
        assert server.infer("plain", rate=0.5, protocol="tcp", packets=1)[0] == 200
