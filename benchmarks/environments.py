"""Environments for tools that we compare with, one each, so that no tool decides which versions another one gets."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path


def python_in(requirements: Path, folder: Path) -> Path:
    """The interpreter of an environment, which is built first where it is missing or its requirements have changed.

    Args:
        requirements: Pinned versions of everything, without further dependencies; its name is that of the environment.
        folder: Where environments lie.

    Raises:
        subprocess.CalledProcessError: It cannot be built, for example without a network.
    """
    digest = hashlib.sha256(requirements.read_bytes()).hexdigest()
    home = folder / requirements.stem
    stamp, python = home / "requirements.sha256", home / "bin" / "python"
    if not stamp.is_file() or stamp.read_text() != digest:
        print(f"building the environment of {requirements.stem} …", file=sys.stderr)
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(home)], check=True)
        install = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]
        subprocess.run([*install, "--requirement", str(requirements)], check=True, capture_output=True)
        stamp.write_text(digest)
    return python
