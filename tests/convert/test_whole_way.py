"""Trees go the whole way, of each library: admitted, converted, compared, hardened, sealed, opened and served."""

from __future__ import annotations

import contextlib
import json
import re
import subprocess
import sys
import threading
import urllib.request
from dataclasses import dataclass
from typing import Any

import lightgbm
import numpy as np
import pytest
import skops.io
import xgboost
from sklearn.ensemble import GradientBoostingClassifier

import hauberk
from hauberk.convert import Conversion, RealInputs, Wanted, convert
from hauberk.data import load_splits
from hauberk.evaluate.robustness.protocol import Budget
from hauberk.ingest import find_card
from hauberk.trust import EncryptionKey, SigningKey, TrustPolicy

ENCRYPTION = EncryptionKey(bytes(range(32)))
SIGNING = SigningKey.generate()
POLICY = TrustPolicy((SIGNING.public_key,))
SMALL = Budget(records=24, steps=2, restarts=1, queries=40)


FORMATS = {"xgboost": "ubj", "lightgbm": "txt", "skops": "skops"}
every_library = pytest.mark.parametrize("library", FORMATS)


@dataclass(frozen=True)
class Way:
    """What each stage left behind."""

    conversion: Conversion
    hardening: Any
    expected: Any
    """What the library itself answers to the test split: probabilities of the second class."""


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """Every fifth record of Spambase, with its last columns alone, as a table of its own."""
    training = load_splits("spambase", seed=3).training
    path = tmp_path_factory.mktemp("data") / "spam.npz"
    names = np.array([feature.name for feature in training.schema.features])
    labels = np.where(training.targets == 1, "spam", "ham")
    np.savez(path, features=training.coded.numeric[::5, 40:], labels=labels[::5], names=names[40:])
    return path


@pytest.fixture(scope="module")
def splits(table):
    return load_splits(table, seed=0)


def trained(library, splits, path):
    """Saves a model as its library does; gives what it answers to the test split."""
    features, targets = splits.training.coded.numeric, splits.training.targets
    test = splits.test.coded.numeric
    if library == "xgboost":
        settings = {"objective": "binary:logistic", "nthread": 1, "max_depth": 6}
        booster = xgboost.train(settings, xgboost.DMatrix(features, targets), 60)
        booster.save_model(path)
        return booster.predict(xgboost.DMatrix(test))
    if library == "lightgbm":
        settings = {"objective": "binary", "verbose": -1, "num_threads": 1, "min_data_in_leaf": 5}
        booster = lightgbm.train(settings, lightgbm.Dataset(features, targets), 60)
        booster.save_model(path)
        return booster.predict(test)
    estimator = GradientBoostingClassifier(n_estimators=50, max_depth=4, random_state=0).fit(features, targets)
    skops.io.dump(estimator, path)
    return estimator.predict_proba(test)[:, 1]


@pytest.fixture(scope="module")
def ways(table, splits, tmp_path_factory):
    """The way of a library, gone once."""
    gone = {}

    def way(library):
        if library not in gone:
            folder = tmp_path_factory.mktemp(library)
            source, graph = folder / f"source.{FORMATS[library]}", folder / f"{library}.onnx"
            expected = trained(library, splits, source)
            conversion = convert(source, graph, Wanted(real=RealInputs(data=table)))
            hardening = hauberk.harden(
                graph,
                data=table,
                out=folder / f"{library}.hbk",
                requirements=["size >= 26kB"],  # networks that would learn the trees' answers are not worth it then
                budget=SMALL,
                timing=0.01,
                encryption=ENCRYPTION,
                signing=SIGNING,
            )
            gone[library] = Way(conversion, hardening, expected)
        return gone[library]

    return way


@every_library
def test_trees_are_admitted_and_converted_and_answer_as_their_library_does(library, ways):
    done = ways(library).conversion
    assert (done.verdict, done.source.format, done.comparison.holds) == ("safe", library, True)
    figures = {family.name: family for family in done.comparison.families}
    assert {"real", "thresholds", "missing"} <= figures.keys()
    assert figures["thresholds"].records > 300
    assert done.comparison.labels == 1.0


@every_library
def test_they_are_hardened_and_attacks_without_gradients_are_run(library, ways):
    findings = ways(library).hardening.findings
    assert findings.recommended == "float32"
    refused = {each.name: " ".join(each.reasons) for each in findings.candidates if each.status == "refused"}
    assert "nothing to quantize" in refused["int8-dynamic"]
    assert "half precision" in refused["float16"]
    assert "size" in refused["distilled-32"]
    assert "no gradient" in " ".join(findings.candidate("float32").reasons)
    knowledge = {figure.knowledge for figure in findings.attacks["float32"]}
    assert {"scores", "labels", "substitute"} <= knowledge
    assert "white-box" not in knowledge
    assert findings.test["robust_accuracy"].value <= findings.test["accuracy"].value


@every_library
def test_what_is_sealed_answers_as_the_library_does(library, ways, splits):
    way = ways(library)
    with hauberk.open(way.hardening.bundle, key=ENCRYPTION, trust=POLICY) as detector:
        answers = detector.predict(splits.test.coded)
    np.testing.assert_allclose(answers.scores, way.expected, atol=1e-5)


@contextlib.contextmanager
def served(bundles, folder):
    """`hauberk serve`, in a process of its own; gives its address."""
    (folder / "test.key").write_bytes(ENCRYPTION.to_text())
    (folder / "test.key").chmod(0o600)
    (folder / "test.pub").write_bytes(SIGNING.public_key.pem)
    options = ["--port", "0", "--workers", "1", "--key", str(folder / "test.key"), "--trust", str(folder / "test.pub")]
    command = [sys.executable, "-m", "hauberk", "serve", *options, *map(str, bundles)]
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    found, listening = [], threading.Event()

    def follow():
        for line in process.stderr:
            found.extend(re.findall(r"listening on (http://[^\s,]+),", line))
            if found:
                listening.set()
        listening.set()

    threading.Thread(target=follow, daemon=True).start()
    try:
        assert listening.wait(60)
        yield found[0]
    finally:
        process.terminate()
        process.wait(30)


def scored(address, name, schema, record):
    """The score of one record over HTTP."""
    columns = dict(zip([feature.name for feature in schema.features], map(float, record), strict=True))
    item = {"name": "records", "shape": [1], "datatype": "BYTES", "data": [json.dumps(columns)]}
    request = urllib.request.Request(f"{address}/v2/models/{name}/infer", json.dumps({"inputs": [item]}).encode())
    with urllib.request.urlopen(request, timeout=60) as response:
        answer = json.load(response)
    return next(output["data"][0] for output in answer["outputs"] if output["name"] == "scores")


def test_what_is_served_answers_as_the_libraries_do(ways, splits, tmp_path):
    gone = {library: ways(library) for library in FORMATS}
    with served([way.hardening.bundle for way in gone.values()], tmp_path) as address:
        for library, way in gone.items():
            score = scored(address, library, splits.training.schema, splits.test.coded.numeric[0])
            assert score == pytest.approx(way.expected[0], abs=1e-5)


def test_an_xgboost_model_beside_its_graph_is_not_taken_for_a_card(boosted, tmp_path):
    (tmp_path / "spam.json").write_bytes(boosted["json"].read_bytes())
    done = convert(tmp_path / "spam.json", tmp_path / "spam.onnx")
    assert done.comparison.holds
    assert find_card(tmp_path / "spam.onnx") is None
    (tmp_path / "spam.json").write_text('{"architecture": "tabular-mlp"}')
    assert find_card(tmp_path / "spam.onnx") == tmp_path / "spam.json"
