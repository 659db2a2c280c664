"""The field floor works where nothing but the core install is there.

The environment is built without a network: the wheel of this tree, and links to exactly the files of the distributions
that the core install asks for.
"""

from __future__ import annotations

import json
import subprocess
import sys
import venv
import zipfile
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
WORKSHOP = ("torch", "onnx", "onnx_ir", "onnxscript", "sklearn", "pandas", "polars", "rich", "jinja2", "safetensors")

MOST_DISTRIBUTIONS = 9
MOST_BYTES = 170_000_000


def core_distributions() -> dict[str, metadata.Distribution]:
    """What `pip install hauberk` brings, hauberk itself left out, by normalised name."""
    found: dict[str, metadata.Distribution] = {}
    asked = list(metadata.requires("hauberk") or [])
    while asked:
        requirement = Requirement(asked.pop())
        name = canonicalize_name(requirement.name)
        wanted = requirement.marker is None or requirement.marker.evaluate({"extra": ""})
        if wanted and name not in found:
            found[name] = metadata.distribution(name)
            asked += found[name].requires or []
    return found


@dataclass(frozen=True)
class Environment:
    """A virtual environment with the core install."""

    python: Path
    folder: Path

    def run(self, *words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        variables = {"PATH": "/usr/bin:/bin", "HOME": str(self.folder), "HAUBERK_HOME": str(self.folder / "keys")}
        return subprocess.run(
            [self.python, *words], env=variables, cwd=self.folder, capture_output=True, text=True, check=check
        )


@pytest.fixture(scope="module")
def environment(tmp_path_factory) -> Environment:
    folder = tmp_path_factory.mktemp("core")
    venv.create(folder / "venv", symlinks=True)
    packages = next((folder / "venv").glob("lib/python*/site-packages"))
    for distribution in core_distributions().values():
        for file in distribution.files or []:
            if ".." not in file.parts:  # scripts lie elsewhere, and are not needed
                (packages / file).parent.mkdir(parents=True, exist_ok=True)
                (packages / file).symlink_to(distribution.locate_file(file))
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(folder)],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(packages)
    return Environment(folder / "venv" / "bin" / "python", folder)


@pytest.fixture(scope="module")
def bundle(environment, toy) -> list[str]:
    """The words that open the toy bundle on the command line."""
    key, signer = environment.folder / "toy.key", environment.folder / "toy.pub"
    key.write_bytes(toy.key.to_text())
    key.chmod(0o600)
    signer.write_bytes(toy.signing.public_key.pem)
    return [str(toy.path), "--key", str(key), "--trust", str(signer)]


def test_it_is_small():
    distributions = core_distributions()
    paths = [Path(str(d.locate_file(file))) for d in distributions.values() for file in d.files or []]
    size = sum(path.stat().st_size for path in paths if path.is_file())
    assert len(distributions) <= MOST_DISTRIBUTIONS, sorted(distributions)
    assert size <= MOST_BYTES


def test_nothing_of_the_workshop_is_there(environment):
    code = f"import importlib.util; print([n for n in {WORKSHOP} if importlib.util.find_spec(n)])"
    assert environment.run("-c", code).stdout == "[]\n"


def test_it_is_what_it_should_be(environment):
    code = (
        "from importlib import metadata; print(*sorted(d.metadata['Name'].lower() for d in metadata.distributions()))"
    )
    names = [canonicalize_name(name) for name in environment.run("-c", code).stdout.split()]
    assert names == sorted([*core_distributions(), "hauberk"])


def test_it_opens_and_predicts(environment, bundle, toy, tmp_path):
    coded = toy.coded(3)
    np.savez(tmp_path / "records.npz", numeric=coded.numeric, codes=coded.codes)
    code = (
        "import sys, json, numpy as np, hauberk\n"
        "from pathlib import Path\n"
        "from hauberk.schema.coding import Coded\n"
        "from hauberk.trust import TrustPolicy, key_from_file, public_key_from_file\n"
        "bundle, _, key, _, signer, records = map(Path, sys.argv[1:])\n"
        "trust = TrustPolicy((public_key_from_file(signer),))\n"
        "arrays = np.load(records)\n"
        "with hauberk.open(bundle, key=key_from_file(key), trust=trust) as detector:\n"
        "    prediction = detector.predict(Coded(arrays['numeric'], arrays['codes']))\n"
        "print(json.dumps([prediction.scores.tolist(), prediction.labels.tolist()]))\n"
    )
    scores, labels = json.loads(environment.run("-c", code, *bundle, str(tmp_path / "records.npz")).stdout)
    np.testing.assert_allclose(scores, toy.expected(coded)[0], rtol=1e-4)
    assert labels == toy.expected(coded)[1].tolist()


def test_the_commands_of_the_field_work(environment, bundle, toy):
    (environment.folder / "flows.json").write_text(json.dumps([toy.record(seed=seed) for seed in range(4)]))
    assert environment.run("-m", "hauberk", "predict", bundle[0], "flows.json", *bundle[1:]).stdout.count("\n") == 5
    verified = environment.run("-m", "hauberk", "verify", bundle[0], "--trust", bundle[-1], "--json")
    assert verified.returncode == 0
    assert json.loads(environment.run("-m", "hauberk", "inspect", *bundle, "--json").stdout)


@pytest.mark.parametrize(
    "command", [["train", "--data", "spambase", "--out", "x"], ["harden", "x", "--data", "spambase", "--out", "y"]]
)
def test_the_commands_of_the_workshop_say_what_to_install(environment, command):
    done = environment.run("-m", "hauberk", *command, check=False)
    assert done.returncode == 2
    assert "pip install 'hauberk[harden]'" in done.stderr
    assert done.stderr.count("\n") == 1
