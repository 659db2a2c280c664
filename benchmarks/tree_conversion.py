"""Trees at their thresholds: our conversion and onnxmltools beside the library's own answers.

    python benchmarks/tree_conversion.py
    python benchmarks/tree_conversion.py --whole-way [LIBRARY…]

The first needs onnxmltools besides the extra `test`; without it, our own column alone is shown. The second needs
NSL-KDD: trees of each library (or of those that are named) are trained on it, converted, hardened, sealed, opened, and
asked about its test file.
"""

from __future__ import annotations

import argparse
import io
import tempfile
import time
import warnings
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import lightgbm
import numpy as np
import onnxruntime
import skops.io
import xgboost
from numpy.typing import NDArray
from sklearn.ensemble import HistGradientBoostingClassifier

import hauberk
from hauberk.convert import RealInputs, Wanted, convert
from hauberk.convert.trees.edges import edges
from hauberk.convert.trees.ensemble import Ensemble, split_values
from hauberk.convert.trees.graph import tree_graph
from hauberk.convert.trees.lightgbm import read_lightgbm
from hauberk.convert.trees.xgboost import read_xgboost
from hauberk.data import load_splits
from hauberk.evaluate.robustness.protocol import Budget
from hauberk.graph.samples import Samples
from hauberk.schema import FeatureSpace
from hauberk.train import fit_preprocessing, labelled
from hauberk.trust import EncryptionKey, SigningKey, TrustPolicy

_OFF = 1e-4
_ROUNDS = 30
_LARGER_THAN_STUDENTS = "size >= 60kB"
"""Networks that learn the trees' answers are no part of this; below that size none is trained."""

Features = NDArray[np.float32]
Targets = NDArray[np.int64]


def main() -> None:
    """Do what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--whole-way", nargs="*", choices=tuple(TRAINERS), metavar="LIBRARY")
    options = parser.parse_args()
    if options.whole_way is None:
        at_thresholds()
    else:
        whole_way(options.whole_way or list(TRAINERS))


def at_thresholds() -> None:
    """Train both libraries on Spambase and count where conversions answer otherwise than they do."""
    warnings.simplefilter("ignore")
    training = load_splits("spambase", seed=3).training
    features, targets = training.coded.numeric, training.targets
    boosted = xgboost.train(
        {"objective": "binary:logistic", "max_depth": 6, "nthread": 1}, xgboost.DMatrix(features, targets), 100
    )
    gradient = lightgbm.train(
        {"objective": "binary", "verbose": -1, "num_threads": 1}, lightgbm.Dataset(features, targets), 100
    )
    with tempfile.TemporaryDirectory() as folder:
        text = Path(folder, "model.txt")
        gradient.save_model(text)
        trees = text.read_bytes()
    show("xgboost", read_xgboost(bytes(boosted.save_raw("json")), "xgboost"), boosted)
    show("lightgbm", read_lightgbm(trees, "lightgbm"), lightgbm.Booster(model_str=trees.decode()))


def whole_way(libraries: Sequence[str]) -> None:
    """Trees of each library on NSL-KDD, from its file to the answers of a sealed bundle."""
    warnings.simplefilter("ignore")
    splits = load_splits("nsl-kdd")
    fitted = fit_preprocessing(splits.training.schema, splits.training.coded.numeric, "none")
    space = FeatureSpace(splits.training.schema, fitted)
    training, test = labelled(space, splits.training), labelled(space, splits.test)
    encryption, signing = EncryptionKey.generate(), SigningKey.generate()
    for library in libraries:
        suffix, train = TRAINERS[library]
        with tempfile.TemporaryDirectory() as name:
            folder, marks = Path(name), [time.perf_counter()]
            expected = train(training.features, training.targets, test.features, folder / f"trees.{suffix}")
            marks.append(time.perf_counter())
            found = convert(folder / f"trees.{suffix}", folder / "trees.onnx", Wanted(real=RealInputs(data="nsl-kdd")))
            marks.append(time.perf_counter())
            hardened = hauberk.harden(
                folder / "trees.onnx",
                data="nsl-kdd",
                out=folder / "trees.hbk",
                requirements=[_LARGER_THAN_STUDENTS],
                budget=Budget(records=200, steps=10, restarts=1, queries=300),
                timing=0.1,
                encryption=encryption,
                signing=signing,
            )
            marks.append(time.perf_counter())
            policy = TrustPolicy((signing.public_key,))
            with hauberk.open(hardened.bundle, key=encryption, trust=policy) as detector:
                answers = detector.predict(splits.test.coded)
            marks.append(time.perf_counter())
            off = float(np.abs(np.asarray(answers.scores) - expected).max())
            spent = zip(("train", "convert", "harden", "open and ask"), np.diff(marks), strict=True)
            stages = ", ".join(f"{stage} {seconds:.1f} s" for stage, seconds in spent)
            print(f"{library:13}{found.result.size} bytes; {stages}")
            judged = sum(family.records for family in found.comparison.families if family.judged)
            print(
                f"{'':13}compared on {judged} records: largest difference {found.comparison.largest:.3g},"
                f" {'within' if found.comparison.holds else 'OUTSIDE'} the contract; sealed, the scores of"
                f" {len(expected)} records of the test file are off by {off:.3g} at most"
            )
            figures = hardened.findings.test
            names = ("accuracy", "detection_rate@fpr=1%", "robust_accuracy")
            shares = ", ".join(f"{each} {100 * figures[each].value:.2f} %" for each in names if each in figures)
            print(f"{'':13}{shares}", flush=True)


def _xgboost(features: Features, targets: Targets, test: Features, path: Path) -> NDArray[np.float64]:
    settings = {"objective": "multi:softprob", "num_class": int(targets.max()) + 1, "nthread": 1}
    booster = xgboost.train(settings, xgboost.DMatrix(features, targets), _ROUNDS)
    booster.save_model(path)
    return _attack(booster.predict(xgboost.DMatrix(test)))


def _lightgbm(features: Features, targets: Targets, test: Features, path: Path) -> NDArray[np.float64]:
    settings = {"objective": "multiclass", "num_class": int(targets.max()) + 1, "verbose": -1, "num_threads": 1}
    booster = lightgbm.train(settings, lightgbm.Dataset(features, targets), _ROUNDS)
    booster.save_model(path)
    return _attack(booster.predict(test))


def _scikit_learn(features: Features, targets: Targets, test: Features, path: Path) -> NDArray[np.float64]:
    estimator = HistGradientBoostingClassifier(max_iter=_ROUNDS, early_stopping=False).fit(features, targets)
    skops.io.dump(estimator, path)
    return _attack(estimator.predict_proba(test))


TRAINERS = {"xgboost": ("ubj", _xgboost), "lightgbm": ("txt", _lightgbm), "scikit-learn": ("skops", _scikit_learn)}
"""By library: the suffix of its files, and what trains, writes one and gives the scores of the test file."""


def _attack(probabilities: Any) -> NDArray[np.float64]:
    """Of anything but the first class, which is normal traffic."""
    return 1.0 - np.asarray(probabilities, dtype=np.float64)[:, 0]


def show(name: str, ensemble: Ensemble, booster: Any) -> None:
    """One line for each converter."""
    trials = edges(split_values(ensemble), ensemble.features, Samples(), 0)
    records = np.concatenate([np.asarray(trial.feeds["features"], np.float32) for trial in trials])
    of_library = booster.predict(xgboost.DMatrix(records)) if name == "xgboost" else booster.predict(records)
    truth = np.asarray(of_library, dtype=np.float64)
    margins = answer(tree_graph(ensemble), records, 0)[:, 0]
    report(name, "hauberk", 1 / (1 + np.exp(-margins)), truth)
    if find_spec("onnxmltools") is not None:
        report(name, "onnxmltools", answer(theirs(name, booster, records.shape[1]), records, 1)[:, 1], truth)


def theirs(name: str, booster: Any, width: int) -> bytes:
    """What onnxmltools makes of a booster."""
    import onnxmltools  # type: ignore[import-not-found]
    from onnxmltools.convert.common.data_types import FloatTensorType  # type: ignore[import-not-found]

    inputs = [("features", FloatTensorType([None, width]))]
    if name == "xgboost":
        model = onnxmltools.convert_xgboost(booster, initial_types=inputs, target_opset=15)
    else:
        model = onnxmltools.convert_lightgbm(booster, initial_types=inputs, target_opset=15, zipmap=False)
    written = io.BytesIO(model.SerializeToString())
    return written.getvalue()


def answer(model: bytes, records: NDArray[np.float32], output: int) -> NDArray[np.float64]:
    """One output of a graph."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {"features": records})[output], dtype=np.float64)


def report(name: str, converter: str, found: NDArray[np.float64], truth: NDArray[np.float64]) -> None:
    """How many records are off, and by how much."""
    difference = np.abs(found - truth)
    off, labels = int((difference > _OFF).sum()), int(((found > 0.5) != (truth > 0.5)).sum())
    print(
        f"{name:9}{converter:12}{len(truth)} records at thresholds or with missing values: {off} off by more than"
        f" {_OFF:g}, {difference.max():.3g} at most; {labels} with another label"
    )


if __name__ == "__main__":
    main()
