"""The frame of the command line: one clear line, the documented exit code, nothing heavy for --help."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

import hauberk.cli
from hauberk.cli import main


def run(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "hauberk", *words], capture_output=True, text=True, check=False)


def test_help_names_every_command():
    shown = run("--help")
    assert shown.returncode == 0
    for command in ("train", "harden", "verify", "inspect", "predict", "serve", "data", "keys"):
        assert command in shown.stdout


def test_help_imports_nothing_heavy():
    code = (
        "import sys, hauberk.cli\ntry: hauberk.cli.main(['--help'])\nexcept SystemExit: pass\n"
        "print(sorted({'numpy', 'torch', 'onnx', 'onnxruntime', 'rich', 'polars'} & set(sys.modules)))"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.endswith("[]\n")


def test_importing_the_package_imports_no_room():
    code = "import sys, hauberk; print([name for name in sys.modules if name.startswith('hauberk.')])"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout == "[]\n"


def test_an_unknown_command_is_bad_usage():
    shown = run("melt")
    assert shown.returncode == 2
    assert "invalid choice: 'melt'" in shown.stderr


@pytest.mark.parametrize("command", ["inspect", "verify", "predict"])
def test_a_missing_file_is_one_line_and_exit_code_2(capsys, tmp_path, monkeypatch, command):
    """Also on a machine without keys: the file comes first."""
    monkeypatch.setenv("HAUBERK_HOME", str(tmp_path / "no-keys"))
    assert main([command, str(tmp_path / "nowhere.hbk")]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "nowhere.hbk" in error


@pytest.mark.parametrize("command", hauberk.cli._COMMANDS)
def test_help_names_the_exit_codes(command, capsys):
    with pytest.raises(SystemExit):
        main([command, "--help"])
    assert "exit codes: 0 " in " ".join(capsys.readouterr().out.split())


def test_every_lazy_name_is_there():
    import hauberk

    for name in hauberk.__all__:
        assert getattr(hauberk, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'melt'"):
        _ = hauberk.melt


PENDING = """
import ctypes, sys
import hauberk.cli, hauberk.cli.keys

interrupt = ctypes.pythonapi.PyErr_SetInterrupt
interrupt.argtypes = [ctypes.py_object]

class Reader:
    read = property(interrupt)

def run(options, output):
    reader = Reader()
    reader.read  # reading an attribute lets no pending signal in, so that it comes while the first is handled
    raise KeyboardInterrupt

hauberk.cli.keys.run = run
sys.exit(hauberk.cli.main(["keys", "show"]))
"""


def test_a_second_interrupt_while_the_first_is_handled_is_one_line_and_130():
    """Polars raises an interrupt of its own while it reads, and Python's is still to come."""
    shown = subprocess.run([sys.executable, "-c", PENDING], capture_output=True, text=True, check=False)
    assert shown.stderr == "hauberk: interrupted\n"
    assert shown.returncode == 130


def test_an_interrupt_while_a_class_is_made_is_130(capsys, monkeypatch):
    """Python 3.11 turns whatever `__set_name__` raises into a RuntimeError."""

    class Attribute:
        def __set_name__(self, owner, name):
            raise KeyboardInterrupt

    def run(options, output):
        class _Made:
            attribute = Attribute()

    import hauberk.cli.keys

    monkeypatch.setattr(hauberk.cli.keys, "run", run)
    assert main(["keys", "show"]) == 130
    assert capsys.readouterr().err == "hauberk: interrupted\n"


def test_whoever_calls_a_command_keeps_its_own_handling_of_interrupts(capsys, monkeypatch):
    def handler(number, frame):
        raise KeyboardInterrupt

    def run(options, output):
        raise KeyboardInterrupt

    import hauberk.cli.keys

    monkeypatch.setattr(hauberk.cli.keys, "run", run)
    before = signal.signal(signal.SIGINT, handler)
    try:
        assert main(["keys", "show"]) == 130
        assert signal.getsignal(signal.SIGINT) is handler
    finally:
        signal.signal(signal.SIGINT, before)
    assert capsys.readouterr().err == "hauberk: interrupted\n"
