"""Passes of other libraries: run in a process of their own, held to a contract like our own ones.

A library that crashes, hangs or calls `exit` on some graph must not take the caller along, and none of them needs the
caller's memory. So the model goes to a fresh interpreter as a file, and what comes back is parsed before it is
believed. This file is also what that interpreter runs.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import subprocess
import sys
import tempfile
from abc import abstractmethod
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import msgspec

from hauberk.artifact import Artifact, OnnxArtifact
from hauberk.errors import ContractError, InputError, LimitError, MissingExtraError
from hauberk.graph.model import onnx_only, parse, signature_of
from hauberk.recipe import Close, Context, Contract, Step

_ENVIRONMENT = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "LD_LIBRARY_PATH", "PYTHONPATH", "VIRTUAL_ENV")
_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS")


class ForeignPass(Step, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A pass that is another library's.

    Attributes:
        time_limit: Seconds that the library may take.
    """

    package: ClassVar[str]
    """The package that must be installed, from the extra `optimizers`."""

    time_limit: float = 300.0

    @property
    def contract(self) -> Contract:
        """None of these libraries promises more."""
        return Close()

    @abstractmethod
    def rewritten(self, model: bytes) -> bytes:
        """Let the library rewrite a serialised model, in this process."""

    def apply(self, artifact: Artifact, context: Context) -> OnnxArtifact:  # noqa: ARG002 - a pass needs no records
        """Return what the library makes of the graph, in a process of its own.

        Raises:
            InputError: The artifact is no graph, or the package is not installed.
            ContractError: The library fails on the graph, or returns something else than a model.
            LimitError: It takes longer than `time_limit`.
        """
        graph = onnx_only(artifact, self.name)
        if importlib.util.find_spec(self.package) is None:
            raise MissingExtraError(
                f"{self.name}: {self.package} is not installed: pip install 'hauberk[optimizers]', or leave it out"
            )
        model = self._elsewhere(graph.model)
        try:
            signature = signature_of(parse(model))
        except InputError as error:
            raise ContractError(f"{self.name}: what {self.package} returned is no model: {error}") from error
        return replace(graph, model=model, signature=signature)

    def _elsewhere(self, model: bytes) -> bytes:
        """Run `rewritten` in a fresh interpreter."""
        inherited = {name: os.environ[name] for name in _ENVIRONMENT if name in os.environ}
        with tempfile.TemporaryDirectory(prefix="hauberk-") as folder:
            source, target = Path(folder, "before.onnx"), Path(folder, "after.onnx")
            source.write_bytes(model)
            (Path(folder) / "step.json").write_bytes(msgspec.json.encode(self))
            command = [sys.executable, "-P", "-m", __name__, type(self).__module__, type(self).__name__, folder]
            try:
                done = subprocess.run(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.PIPE,
                    timeout=self.time_limit,
                    cwd=folder,
                    env=inherited | dict.fromkeys(_THREADS, "1"),
                    check=False,
                )
            except subprocess.TimeoutExpired as error:
                raise LimitError(f"{self.name}: {self.package} was stopped after {self.time_limit:g} s") from error
            if done.returncode or not target.is_file():
                said = done.stderr.decode(errors="replace").strip().splitlines()
                why = said[-1][:300] if said else f"it left with {done.returncode}"
                raise ContractError(f"{self.name}: {self.package} fails on this graph: {why}")
            return target.read_bytes()


def main(module: str, kind: str, folder: str) -> None:
    """What the fresh interpreter runs: read the step and the model, write the result."""
    step = msgspec.json.decode(
        Path(folder, "step.json").read_bytes(), type=getattr(importlib.import_module(module), kind)
    )
    Path(folder, "after.onnx").write_bytes(step.rewritten(Path(folder, "before.onnx").read_bytes()))


if __name__ == "__main__":
    main(*sys.argv[1:4])
