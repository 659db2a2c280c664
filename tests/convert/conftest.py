"""Real records, and models of other libraries trained on them; each library is the truth that its graph is held to."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import lightgbm
import numpy as np
import onnxruntime
import pytest
import xgboost
from numpy.typing import NDArray

from hauberk.data import load_splits

Features = NDArray[np.float32]


@dataclass(frozen=True)
class Records:
    """Spambase: features float32 [N, 57] and targets [N]."""

    features: Features
    targets: NDArray[np.int64]


@pytest.fixture(scope="session")
def spam() -> Records:
    training = load_splits("spambase", seed=3).training
    rows = np.random.default_rng(0).permutation(len(training))[:900]
    return Records(training.coded.numeric[rows], training.targets[rows])


@pytest.fixture(scope="session")
def gapped() -> Records:
    """Made-up records [600, 5] with missing values, zeros of both signs and a column of categories."""
    random = np.random.default_rng(1)
    features = random.normal(size=(600, 5)).astype(np.float32)
    features[:, 2] = random.integers(0, 40, 600)
    features[random.random(features.shape) < 0.15] = np.nan
    features[random.random(features.shape) < 0.1] = 0.0
    known = np.nan_to_num(features)
    targets = ((known[:, 0] + known[:, 1] > 0) ^ (known[:, 2].astype(int) * 7 % 5 > 2)).astype(np.int64)
    return Records(features, targets)


@pytest.fixture(scope="session")
def boosted(spam: Records, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Forty trees of each library, in every format of its own."""
    folder = tmp_path_factory.mktemp("boosted")
    files = {"json": folder / "spam.json", "ubj": folder / "spam.ubj", "txt": folder / "spam.txt"}
    matrix = xgboost.DMatrix(spam.features, spam.targets)
    booster = xgboost.train({"objective": "binary:logistic", "nthread": 1, "max_depth": 5}, matrix, 40)
    booster.save_model(files["json"])
    booster.save_model(files["ubj"])
    parameters = {"objective": "binary", "verbose": -1, "num_threads": 1, "deterministic": True}
    lightgbm.train(parameters, lightgbm.Dataset(spam.features, spam.targets), 40).save_model(files["txt"])
    return files


def run(model: bytes, features: Features) -> NDArray[np.float32]:
    """The one output of a graph with one input."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    (output,) = session.run(None, {session.get_inputs()[0].name: features})
    return output


@pytest.fixture(scope="session")
def runs():
    return run
