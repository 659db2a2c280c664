"""Boosted trees go the whole way: admitted, converted, compared, hardened, sealed, opened and served."""

from __future__ import annotations

import contextlib
import json
import re
import subprocess
import sys
import threading
import urllib.request

import lightgbm
import numpy as np
import pytest
import xgboost

import hauberk
from hauberk.convert import RealInputs, Wanted, convert
from hauberk.data import load_splits
from hauberk.evaluate.robustness.protocol import Budget
from hauberk.ingest import find_card
from hauberk.trust import EncryptionKey, SigningKey, TrustPolicy

ENCRYPTION = EncryptionKey(bytes(range(32)))
SIGNING = SigningKey.generate()
POLICY = TrustPolicy((SIGNING.public_key,))
SMALL = Budget(records=40, steps=3, restarts=1, queries=60)


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """Every fifth record of Spambase as a table of its own."""
    splits = load_splits("spambase", seed=3)
    features = splits.training.coded.numeric[::3]
    labels = np.where(splits.training.targets[::3] == 1, "spam", "ham")
    path = tmp_path_factory.mktemp("data") / "spam.npz"
    names = np.array([feature.name for feature in splits.training.schema.features])
    np.savez(path, features=features, labels=labels, names=names)
    return path


@pytest.fixture(scope="module")
def splits(table):
    return load_splits(table, seed=0)


def margins_of(booster, features):
    if isinstance(booster, xgboost.Booster):
        return booster.predict(xgboost.DMatrix(features), output_margin=True)
    return booster.predict(features, raw_score=True)


def trained(library, training, path):
    """A booster on training records, as its library saves it."""
    features, targets = training.coded.numeric, training.targets
    if library == "xgboost":
        settings = {"objective": "binary:logistic", "nthread": 1, "max_depth": 6}
        booster = xgboost.train(settings, xgboost.DMatrix(features, targets), 60)
    else:
        settings = {"objective": "binary", "verbose": -1, "num_threads": 1}
        booster = lightgbm.train(settings, lightgbm.Dataset(features, targets), 30)
    booster.save_model(path)
    return booster


@contextlib.contextmanager
def served(bundle, folder):
    """`hauberk serve`, in a process of its own; gives its address."""
    (folder / "test.key").write_bytes(ENCRYPTION.to_text())
    (folder / "test.key").chmod(0o600)
    (folder / "test.pub").write_bytes(SIGNING.public_key.pem)
    options = ["--port", "0", "--workers", "1", "--key", str(folder / "test.key"), "--trust", str(folder / "test.pub")]
    command = [sys.executable, "-m", "hauberk", "serve", *options, str(bundle)]
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


@pytest.mark.parametrize(("library", "suffix"), [("xgboost", "ubj"), ("lightgbm", "txt")])
def test_trees_go_the_whole_way(library, suffix, table, splits, tmp_path):
    booster = trained(library, splits.training, tmp_path / f"source.{suffix}")
    done = convert(tmp_path / f"source.{suffix}", tmp_path / "trees.onnx", Wanted(real=RealInputs(data=table)))
    assert (done.verdict, done.source.format, done.comparison.holds) == ("safe", library, True)
    figures = {family.name: family for family in done.comparison.families}
    assert {"real", "thresholds", "missing"} <= figures.keys()
    assert figures["thresholds"].records > 300
    assert done.comparison.labels == 1.0

    hardened = hauberk.harden(
        tmp_path / "trees.onnx",
        data=table,
        out=tmp_path / "trees.hbk",
        requirements=["size >= 26kB"],  # networks that would learn the trees' answers are not worth training then
        budget=SMALL,
        timing=0.02,
        encryption=ENCRYPTION,
        signing=SIGNING,
    )
    findings = hardened.findings
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

    test = splits.test
    expected = 1 / (1 + np.exp(-margins_of(booster, test.coded.numeric).astype(np.float64)))
    with hauberk.open(hardened.bundle, key=ENCRYPTION, trust=POLICY) as detector:
        answers = detector.predict(test.coded)
    np.testing.assert_allclose(answers.scores, expected, atol=1e-5)
    with served(hardened.bundle, tmp_path) as address:
        score = scored(address, "trees", splits.training.schema, test.coded.numeric[0])
    assert score == pytest.approx(expected[0], abs=1e-5)


def test_an_xgboost_model_beside_its_graph_is_not_taken_for_a_card(boosted, tmp_path):
    (tmp_path / "spam.json").write_bytes(boosted["json"].read_bytes())
    done = convert(tmp_path / "spam.json", tmp_path / "spam.onnx")
    assert done.comparison.holds
    assert find_card(tmp_path / "spam.onnx") is None
    (tmp_path / "spam.json").write_text('{"architecture": "tabular-mlp"}')
    assert find_card(tmp_path / "spam.onnx") == tmp_path / "spam.json"
