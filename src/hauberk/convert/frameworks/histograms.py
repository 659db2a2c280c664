"""scikit-learn's histogram-based boosting, which skl2onnx 1.20 cannot write, as our own trees.

Semantics (sklearn/ensemble/_hist_gradient_boosting/_predictor.pyx of version 1.9): a number is float64 and goes left
where it is at most the threshold; a missing one (NaN) where the node says.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx

from hauberk.convert.trees.ensemble import Ensemble, Meaning, Tree, checked, downwards
from hauberk.convert.trees.graph import tree_graph
from hauberk.errors import InputError

_MODULE = "sklearn.ensemble._hist_gradient_boosting"
_LOGARITHMS = ("poisson", "gamma")


def is_histogram(estimator: Any) -> bool:
    """Whether an estimator is histogram-based boosting."""
    return type(estimator).__module__.startswith(_MODULE)


def histogram_graph(estimator: Any) -> onnx.ModelProto:
    """The graph of a fitted `HistGradientBoostingClassifier` or `HistGradientBoostingRegressor`.

    Raises:
        InputError: It splits by categories, or has a loss that is not known here.
        RefusedModelError: Its trees are none.
    """
    if estimator.is_categorical_ is not None:
        raise InputError(
            f"{type(estimator).__name__} with categorical_features is not converted; code them with OneHotEncoder"
        )
    iterations = estimator._predictors  # noqa: SLF001 - the trees are public nowhere
    base = np.ravel(estimator._baseline_prediction).astype(np.float32)  # noqa: SLF001
    trees = [
        checked(_tree(predictor.nodes, target), estimator.n_features_in_, "scikit-learn")
        for iteration in iterations
        for target, predictor in enumerate(iteration)
    ]
    ensemble = Ensemble(
        library="scikit-learn",
        features=int(estimator.n_features_in_),
        targets=len(base),
        trees=tuple(trees),
        strict=False,
        base=base,
        meaning=_meaning(estimator, len(base)),
    )
    return onnx.load_from_string(tree_graph(ensemble))


def _meaning(estimator: Any, targets: int) -> Meaning:
    if hasattr(estimator, "classes_"):
        return "log-odds" if targets == 1 else "class logits"
    if estimator.loss in _LOGARITHMS:
        return "logarithm"
    return "value"


def _tree(nodes: Any, target: int) -> Tree:
    """One tree; leaves and inner nodes stand in one array."""
    leaves = nodes["is_leaf"].astype(np.bool_)
    return Tree(
        target=target,
        feature=np.where(leaves, -1, nodes["feature_idx"].astype(np.int64)),
        threshold=downwards(nodes["num_threshold"].astype(np.float64)),
        left=nodes["left"].astype(np.int64),
        right=nodes["right"].astype(np.int64),
        missing_left=nodes["missing_go_to_left"].astype(np.bool_),
        weight=np.where(leaves, nodes["value"], 0.0),
    )
