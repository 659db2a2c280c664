"""A module from the user's own code: `--arch FILE.py:CALLABLE`.

This is the only code that loading a model ever runs, and only because the user named it. The callable takes no
arguments and returns the module, untrained; the weights come from the model file.
"""

from __future__ import annotations

import hashlib
import importlib.util
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from torch import nn

from hauberk.errors import InputError


@dataclass(frozen=True)
class OwnArchitecture:
    """A module that the user's code built, and what it was built from."""

    module: nn.Module
    file: str
    callable: str
    sha256: str


def build_own(specification: str) -> OwnArchitecture:
    """Run `FILE.py`, call `CALLABLE` and return the module.

    The file's folder is importable while it runs, as it is for a script.

    Raises:
        InputError: The specification is not `FILE.py:CALLABLE`, there is no such file or callable, the code fails (the
            message says on which line), or what it returns is no module.
    """
    text, _, name = specification.rpartition(":")
    if not (text.endswith(".py") and name.isidentifier()):
        raise InputError(f"--arch {specification!r}: expected FILE.py:CALLABLE, as in 'detectors.py:FlowMLP'")
    path = Path(text)
    try:
        source = path.read_bytes()
    except OSError as error:
        raise InputError(f"--arch {path}: cannot read: {(error.strerror or str(error)).lower()}") from error
    digest = hashlib.sha256(source).hexdigest()
    with _errors_as_one_line(path):
        factory = _names(path, source, digest).get(name)
        if factory is None:
            raise InputError(f"--arch {specification!r}: the file defines no {name!r}")
        if not callable(factory):
            raise InputError(f"--arch {specification!r}: {name!r} is {type(factory).__name__}, not a callable")
        module = factory()
    if not isinstance(module, nn.Module):
        raise InputError(f"--arch {specification!r}: returned {type(module).__name__}, not a torch.nn.Module")
    return OwnArchitecture(module.cpu(), path.name, name, digest)


def _names(path: Path, source: bytes, digest: str) -> dict[str, object]:
    """What the file defines. The module stays in `sys.modules`, where torch's exporter looks up a class's module."""
    module_name = f"hauberk_architecture_{digest[:16]}"
    spec = importlib.util.spec_from_file_location(module_name, path)
    if spec is None:
        raise InputError(f"--arch {path}: not a Python file")
    module = importlib.util.module_from_spec(spec)
    code = compile(source, str(path), "exec")  # the very bytes that were hashed
    sys.modules[module_name] = module
    folder = str(path.resolve().parent)
    sys.path.insert(0, folder)
    try:
        exec(code, module.__dict__)  # noqa: S102 - the user asked for it by name
    except BaseException:
        sys.modules.pop(module_name, None)  # the file itself may have taken it out
        raise
    finally:
        sys.path.remove(folder)
    return vars(module)


@contextmanager
def _errors_as_one_line(path: Path) -> Iterator[None]:
    try:
        yield
    except InputError:
        raise
    except SyntaxError as error:
        raise InputError(f"--arch {path}:{error.lineno}: {type(error).__name__}: {error.msg}") from error
    except (Exception, SystemExit) as error:
        frames = reversed(traceback.extract_tb(error.__traceback__))
        line = next((f":{frame.lineno}" for frame in frames if frame.filename == str(path)), "")
        raise InputError(f"--arch {path}{line}: {type(error).__name__}: {' '.join(str(error).split())}") from error
