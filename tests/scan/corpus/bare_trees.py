"""Native trees of scikit-learn in places where no estimator of their own looks at records before them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def _tree() -> Any:
    """A native tree that asks for the last of 200 features, and looks at no record's length."""
    import numpy as np
    from sklearn.tree import DecisionTreeRegressor

    records = np.zeros((12, 200), np.float32)
    records[:, -1] = np.arange(12)
    return DecisionTreeRegressor(max_depth=2).fit(records, records[:, -1]).tree_


def _bagged() -> Any:
    import numpy as np
    from sklearn.ensemble import BaggingRegressor

    model = BaggingRegressor(n_estimators=1)
    model.estimators_, model.estimators_features_ = [_tree()], [np.arange(1)]
    model.n_features_in_ = model.n_jobs = 1
    return model


def _piped() -> Any:
    from sklearn.pipeline import Pipeline

    return Pipeline([("tree", _tree())])


def _in_a_dictionary() -> Any:
    from sklearn.utils import Bunch

    return Bunch(tree_=_tree())


def _attribute_of_another_model() -> Any:
    from sklearn.preprocessing import StandardScaler

    model = StandardScaler()
    model.tree_ = _tree()
    return model


def _held_twice() -> Any:
    """An estimator's own tree, which another one has, too."""
    import numpy as np
    from sklearn.ensemble import BaggingRegressor
    from sklearn.tree import DecisionTreeRegressor

    records = np.arange(36, dtype=float).reshape(12, 3)
    tree = DecisionTreeRegressor(random_state=0).fit(records, np.arange(12))
    model = BaggingRegressor(n_estimators=2)
    model.estimators_, model.estimators_features_ = [tree, tree.tree_], [np.arange(3), np.arange(1)]
    model.n_features_in_ = 3
    return model


def _ordered() -> Any:
    from collections import OrderedDict

    from sklearn.pipeline import Pipeline

    return Pipeline(OrderedDict(tree=_tree()))


def _in_an_array() -> Any:
    import numpy as np
    from sklearn.ensemble import BaggingRegressor

    model = BaggingRegressor(n_estimators=1)
    model.estimators_ = np.empty(1, object)
    model.estimators_[0] = _tree()
    return model


BARE_TREES: tuple[tuple[str, Callable[[], Any]], ...] = (
    ("tree-on-its-own", _tree),
    ("tree-in-place-of-an-estimator", _bagged),
    ("tree-in-an-array-of-estimators", _in_an_array),
    ("tree-in-a-pipeline", _piped),
    ("tree-in-a-dictionary", _in_a_dictionary),
    ("tree-in-an-ordered-dictionary", _ordered),
    ("tree-of-another-model", _attribute_of_another_model),
    ("tree-of-two-estimators", _held_twice),
)
