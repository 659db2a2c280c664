"""Trees at their thresholds: our conversion and onnxmltools beside the library's own answers.

    python benchmarks/tree_conversion.py

needs onnxmltools besides the extra `test`; without it, our own column alone is shown.
"""

from __future__ import annotations

import io
import tempfile
import warnings
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import lightgbm
import numpy as np
import onnxruntime
import xgboost
from numpy.typing import NDArray

from hauberk.convert.trees.edges import edges
from hauberk.convert.trees.ensemble import Ensemble, split_values
from hauberk.convert.trees.graph import tree_graph
from hauberk.convert.trees.lightgbm import read_lightgbm
from hauberk.convert.trees.xgboost import read_xgboost
from hauberk.data import load_splits
from hauberk.graph.samples import Samples

_OFF = 1e-4


def main() -> None:
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
