"""Fitted models of scikit-learn whose tables lead native code astray, and models with code of their own."""

from __future__ import annotations

import io
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

from corpus import UNSAFE, Case
from corpus.fitted_models import hostile, table

_PERSISTENCE = "https://scikit-learn.org/stable/model_persistence.html"
_BOUNDS = "https://cwe.mitre.org/data/definitions/125.html"
_ENDLESS = "https://cwe.mitre.org/data/definitions/400.html"
_LOOP = "https://cwe.mitre.org/data/definitions/835.html"


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


def _empty(state: Any) -> None:
    state.update(nodes=state["nodes"][:0], values=state["values"][:0], node_count=0)


def _shallow(state: Any) -> None:
    state["max_depth"] = 0


def _bottomless(state: Any) -> None:
    state["max_depth"] = 1 << 62


def _valueless(state: Any) -> None:
    state["values"] = state["values"][:, :, :0]


def _shared(state: Any) -> None:
    state["nodes"]["left_child"][0] = state["nodes"]["right_child"][0]


def _wider(width: int = 100) -> object:
    """A tree of more features than its estimator lets in."""
    import numpy as np
    from sklearn.tree import DecisionTreeClassifier

    records, classes = table()
    model = DecisionTreeClassifier(random_state=0).fit(records, classes)
    wide = DecisionTreeClassifier(random_state=0).fit(np.hstack([np.zeros((12, width)), records]), classes)
    return _Instead(model, "tree_", wide.tree_)


class _Same:
    """Pickles like an object each time anew, with the same parts."""

    def __init__(self, parts: Any) -> None:
        self._parts = parts

    def __reduce__(self) -> object:
        return self._parts


def _copies() -> object:
    """Many trees of one table, which each of them copies."""
    import numpy as np
    from sklearn.tree import DecisionTreeClassifier

    model = DecisionTreeClassifier(random_state=0).fit(np.arange(6000.0).reshape(-1, 1), np.arange(6000) ** 3 // 7 % 2)
    parts = model.tree_.__reduce__()
    return [_Same(parts) for _ in range(3000)]


def _sorted() -> object:
    """Many isotonic regressions of the same numbers, each of which sorts them."""
    import copyreg

    import numpy as np
    from sklearn.isotonic import IsotonicRegression

    model = IsotonicRegression().fit(*table()[0][:, :2].T)
    state = model.__getstate__() | dict.fromkeys(("X_thresholds_", "y_thresholds_"), np.arange(20_000.0))
    return [_Same((copyreg._reconstructor, (IsotonicRegression, object, None), state)) for _ in range(3000)]


def _of_many_classes() -> object:
    """A tree of one output with the classes of many, which it looks through, and of a kind that it converts first."""
    import numpy as np
    from sklearn.tree._tree import Tree

    return _Same((Tree, (3, np.ones(9, np.int32), 1)))


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
    ("tree-without-nodes", _empty, _BOUNDS),
    ("tree-deeper-than-it-says", _shallow, _BOUNDS),
    ("tree-deeper-than-it-has-nodes", _bottomless, _BOUNDS),
    ("tree-without-values", _valueless, _BOUNDS),
    ("tree-whose-branches-meet", _shared, _BOUNDS),
)

_LED_ASTRAY: tuple[tuple[str, Callable[[], object], frozenset[str], str], ...] = (
    ("tree-of-more-features-than-are-let-in", _wider, UNSAFE, _BOUNDS),
    ("trees-of-one-table", _copies, UNSAFE, _ENDLESS),
    ("regressions-of-the-same-numbers", _sorted, UNSAFE, _ENDLESS),
    ("tree-of-the-classes-of-many-outputs", _of_many_classes, UNSAFE, _ENDLESS),
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
    *(Case(name, _pickled(4, make), expected, reference) for name, make, expected, reference in _LED_ASTRAY),
    *hostile(lambda make: _pickled(5, make)),
    *hostile(_joblib, suffix="-joblib"),
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
