"""`--arch FILE.py:CALLABLE`: the user's own code, and its mistakes in one line with their place."""

from __future__ import annotations

import hashlib
import sys

import pytest
import torch

from hauberk.errors import InputError
from hauberk.ingest.architecture import build_own

GOOD = """
import torch
from parts import width


class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.only = torch.nn.Linear(width, 2)

    def forward(self, x):
        return self.only(x)


def make():
    return Net()
"""


@pytest.fixture
def file(tmp_path):
    (tmp_path / "parts.py").write_text("width = 7\n")
    path = tmp_path / "nets.py"
    path.write_text(GOOD)
    yield path
    sys.modules.pop("parts", None)


@pytest.mark.parametrize("name", ["Net", "make"])
def test_a_class_or_a_function_builds_the_module(file, name):
    own = build_own(f"{file}:{name}")
    assert own.module(torch.zeros(1, 7)).shape == (1, 2)
    assert (own.file, own.callable) == ("nets.py", name)
    assert own.sha256 == hashlib.sha256(file.read_bytes()).hexdigest()


def test_the_import_path_is_left_as_it_was(file):
    before = list(sys.path)
    build_own(f"{file}:Net")
    assert sys.path == before


@pytest.mark.parametrize(
    ("text", "name", "says"),
    [
        ("x = 1\ny = (", "f", "nets.py:2: SyntaxError"),
        ("x = 1\nimport nothing_of_that_name", "f", "nets.py:2: ModuleNotFoundError: No module named"),
        ("def f():\n    x = 1\n    return 1 / 0", "f", "nets.py:3: ZeroDivisionError: division by zero"),
        ("def f():\n    raise ValueError('two\\nlines')", "f", "nets.py:2: ValueError: two"),
        ("import torch\ndef f():\n    return torch.nn.Linear(2)", "f", "nets.py:3: TypeError"),
        ("import sys\nsys.exit(3)", "f", "nets.py:2: SystemExit: 3"),
        ("def f(inputs):\n    return 1", "f", "TypeError: f() missing 1 required positional argument: 'inputs'"),
        ("import sys\ndel sys.modules[__name__]\nraise ValueError('worse')", "f", "nets.py:3: ValueError: worse"),
        ("f = 3", "f", "'f' is int, not a callable"),
        ("def f():\n    return 'a net'", "f", "returned str, not a torch.nn.Module"),
        ("g = 3", "f", "the file defines no 'f'"),
        ("\0", "f", "nets.py"),
    ],
)
def test_mistakes_are_named_with_their_place(tmp_path, text, name, says):
    path = tmp_path / "nets.py"
    path.write_text(text)
    with pytest.raises(InputError) as raised:
        build_own(f"{path}:{name}")
    assert says in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("specification", ["nets.py", "nets:Net", "nets.py:", "nets.py:a.b", ":Net", ""])
def test_a_specification_of_another_form_says_what_is_expected(specification):
    with pytest.raises(InputError, match=r"expected FILE\.py:CALLABLE"):
        build_own(specification)


def test_a_missing_file_is_an_input_error(tmp_path):
    with pytest.raises(InputError, match="cannot read: no such file"):
        build_own(f"{tmp_path / 'none.py'}:Net")
