"""Fitted models of scikit-learn whose tables lead native code astray, and models with code of their own."""

from __future__ import annotations

import io
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

from corpus import UNSAFE, Case

_PERSISTENCE = "https://scikit-learn.org/stable/model_persistence.html"
_BOUNDS = "https://cwe.mitre.org/data/definitions/125.html"
_LOOP = "https://cwe.mitre.org/data/definitions/835.html"


def table() -> tuple[Any, Any]:
    """Twelve records of three numbers and their classes, always the same."""
    import numpy as np

    records = np.arange(36, dtype=float).reshape(12, 3) * 7 % 11
    return records, np.arange(12) % 2


def _tree(change: Callable[[Any], None]) -> object:
    from sklearn.tree import DecisionTreeClassifier

    model = DecisionTreeClassifier(random_state=0).fit(*table())
    state = model.tree_.__getstate__()
    change(state)
    return _Instead(model, "tree_", _Reduced(model.tree_, state))


class _Reduced:
    """Pickles like another object, with another state."""

    def __init__(self, real: Any, state: object) -> None:
        self._parts = (*real.__reduce__()[:2], state)

    def __reduce__(self) -> object:
        return self._parts


class _Instead:
    """Pickles like an estimator, one attribute of which is another one."""

    def __init__(self, real: Any, name: str, value: object) -> None:
        import copyreg

        state = dict(real.__getstate__()) | {name: value}
        self._parts = (copyreg._reconstructor, (type(real), object, None), state)

    def __reduce_ex__(self, protocol: Any) -> Any:
        return self._parts


def _children(state: Any, left: int) -> None:
    state["nodes"]["left_child"][0] = left


def _loops(state: Any) -> None:
    _children(state, 0)


def _leaves(state: Any) -> None:
    _children(state, 1 << 40)


def _feature(state: Any) -> None:
    state["nodes"]["feature"][0] = 1 << 40


def _longer(state: Any) -> None:
    state["node_count"] = 1 << 30


def _neighbours() -> object:
    from sklearn.neighbors import KDTree

    tree = KDTree(table()[0])
    state = list(tree.__getstate__())
    state[1] = state[1] + (1 << 40)
    return _Reduced(tree, tuple(state))


def _boosted() -> object:
    from sklearn.ensemble import HistGradientBoostingClassifier

    model = HistGradientBoostingClassifier(max_iter=1, min_samples_leaf=1, random_state=0).fit(*table())
    model._predictors[0][0].nodes["left"][0] = 1 << 30
    return model


def _retyped(change: Callable[[Any, Any], Any]) -> Callable[[], object]:
    """A boosted tree whose table has been given other types or another order of fields."""

    def make() -> object:
        import numpy as np

        model = _boosted()
        predictor = model._predictors[0][0]  # type: ignore[attr-defined]
        predictor.nodes["left"][0] = 1
        predictor.nodes = change(predictor.nodes, np)
        return model

    return make


def _half_a_leaf(nodes: Any, numpy: Any) -> Any:
    """A number that is a leaf, and none when its lower byte is looked at."""
    wide = nodes.astype([(each, "<u2" if each == "is_leaf" else nodes.dtype[each]) for each in nodes.dtype.names])
    wide["is_leaf"][0] = 256
    wide["left"][0] = numpy.iinfo(numpy.int32).max
    return wide


def _exchanged(nodes: Any, numpy: Any) -> Any:
    """Children and depths in one another's place: tables are copied by the order of fields, not by their names."""
    del numpy
    nodes["depth"] = 1 << 30
    renamed = {"left": "depth", "depth": "left"}
    other = nodes[["value", *nodes.dtype.names[1:]]].copy()
    other.dtype.names = tuple(renamed.get(each, each) for each in nodes.dtype.names)
    other["left"], other["depth"] = nodes["left"], nodes["depth"]
    return other


def _categorical(nodes: Any, numpy: Any) -> Any:
    del numpy
    nodes["is_categorical"][0], nodes["bitset_idx"][0] = 1, 1 << 30
    return nodes


def _pickled(protocol: int, make: Callable[[], object]) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        path = folder / "model.pkl"
        path.write_bytes(pickle.dumps(make(), protocol))
        return path

    return write


def _joblib(make: Callable[[], object], compress: int = 0) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        import joblib

        out = io.BytesIO()
        joblib.dump(make(), out, compress=compress)
        path = folder / "model.joblib"
        path.write_bytes(out.getvalue())
        return path

    return write


def _with_function() -> object:
    import os

    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import FunctionTransformer, StandardScaler

    return make_pipeline(StandardScaler(), FunctionTransformer(os.system))


_TREES: tuple[tuple[str, Callable[[Any], None], str], ...] = (
    ("tree-whose-root-is-its-own-child", _loops, _LOOP),
    ("tree-with-a-child-that-is-not-there", _leaves, _BOUNDS),
    ("tree-that-asks-for-a-feature-that-is-not-there", _feature, _BOUNDS),
    ("tree-with-more-nodes-than-its-table", _longer, _BOUNDS),
)

CASES: tuple[Case, ...] = (
    *(Case(name, _pickled(5, lambda c=change: _tree(c)), UNSAFE, reference) for name, change, reference in _TREES),
    *(
        Case(f"{name}-protocol-2", _pickled(2, lambda c=change: _tree(c)), UNSAFE, reference)
        for name, change, reference in _TREES
    ),
    *(
        Case(f"{name}-joblib", _joblib(lambda c=change: _tree(c)), UNSAFE, reference)
        for name, change, reference in _TREES
    ),
    Case("boosted-tree-with-a-child-that-is-not-there", _joblib(_boosted, 3), UNSAFE, _BOUNDS),
    *(
        Case(f"boosted-tree-with-{name}", _joblib(_retyped(change), 3), UNSAFE, _BOUNDS)
        for name, change in (
            ("half-a-leaf", _half_a_leaf),
            ("fields-in-another-order", _exchanged),
            ("categories-that-are-not-there", _categorical),
        )
    ),
    Case("neighbours-with-points-that-are-not-there", _joblib(_neighbours), UNSAFE, _BOUNDS),
    Case("pipeline-with-a-function", _joblib(_with_function), UNSAFE, _PERSISTENCE),
    Case("pipeline-with-a-function-compressed", _joblib(_with_function, 3), UNSAFE, _PERSISTENCE),
)
