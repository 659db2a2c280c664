"""Trees of scikit-learn and their ensembles: honest ones, and ones with an attribute that leads native code astray.

Each is one object, saved by pickle, joblib and skops alike, because all three must be judged alike.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from corpus import NEVER_SAFE, SAFE, UNSAFE, Case
from corpus.bare_trees import BARE_TREES

_BOUNDS = "https://cwe.mitre.org/data/definitions/125.html"
_OVERRIDES = "https://cwe.mitre.org/data/definitions/915.html"
Make = Callable[[], Any]
Write = Callable[[Path], Path]


def table() -> tuple[Any, Any]:
    """Twelve records of three numbers and their classes, always the same."""
    import numpy as np

    records = np.arange(36, dtype=float).reshape(12, 3) * 7 % 11
    return records, np.arange(12) % 2


def histogram(**changed: object) -> Make:
    """Histogram-based boosting with other attributes."""

    def make() -> Any:
        from sklearn.ensemble import HistGradientBoostingClassifier

        model = HistGradientBoostingClassifier(max_iter=1, min_samples_leaf=1, random_state=0).fit(*table())
        model.__dict__.update(changed)
        return model

    return make


def _kinds() -> tuple[Any, Any]:
    """Records whose last column is one of four categories."""
    import numpy as np

    records = np.arange(240, dtype=float).reshape(60, 4) * 7 % 11
    records[:, 3] = np.arange(60) % 4
    return records, records[:, 3] % 2


def _categories(change: Callable[[Any], None] = lambda model: None, *, frame: bool = False) -> Make:
    def make() -> Any:
        import pandas as pd
        from sklearn.ensemble import HistGradientBoostingClassifier

        records, classes = _kinds()
        given = pd.DataFrame(records, columns=list("abcd")) if frame else records
        model = HistGradientBoostingClassifier(max_iter=1, categorical_features=["d"] if frame else [3])
        change(model.set_params(min_samples_leaf=2, random_state=0).fit(given, classes))
        return model

    return make


def categories() -> Any:
    """Histogram-based boosting that splits by categories."""
    return _categories()()


def _no_columns(model: Any) -> None:
    model._bin_mapper.is_categorical_ = model._bin_mapper.is_categorical_[:0]


def _no_categories(model: Any) -> None:
    model._bin_mapper.is_categorical_[:] = 0


def _fewer_columns(model: Any) -> None:
    steps = model._preprocessor.transformers_
    steps[:] = [steps[0], (steps[1][0], steps[1][1], steps[1][2] & False), *steps[2:]]


def _fewer_names(model: Any) -> None:
    model._preprocessor._transformer_to_input_indices["numerical"] = []


def _names_of_a_dictionary(model: Any) -> None:
    """A dictionary gives what it likes for several places at once."""
    names = model._preprocessor.feature_names_in_
    model._preprocessor.feature_names_in_ = dict(enumerate(names.tolist()))


def _weights(model: Any) -> None:
    import numpy as np

    model._preprocessor.transformer_weights = {"encoder": np.zeros(0)}


def _another_function(model: Any) -> None:
    from sklearn.preprocessing import StandardScaler

    steps = model._preprocessor.transformers_
    steps[:] = [(name, StandardScaler() if each != "drop" else each, mask) for name, each, mask in steps]


def _prepared() -> Any:
    from sklearn.preprocessing import StandardScaler

    model = histogram()()
    for (tree,) in model._predictors:
        tree.nodes["feature_idx"][tree.nodes["is_leaf"] == 0] = 1 << 30
    model._preprocessor = StandardScaler(with_mean=False, with_std=False).fit(table()[0])
    return model


def _boosting(change: Callable[[Any], None], *, classes: int = 2, regression: bool = False, **options: Any) -> Make:
    def make() -> Any:
        import numpy as np
        from sklearn import ensemble

        kind = ensemble.GradientBoostingRegressor if regression else ensemble.GradientBoostingClassifier
        model = kind(n_estimators=2, random_state=0, **options).fit(table()[0], np.arange(12) % classes)
        change(model)
        return model

    return make


def _guess_of_nothing(model: Any) -> None:
    import numpy as np
    from sklearn.multiclass import _ConstantPredictor

    model.init_ = _ConstantPredictor()
    model.init_.y_ = np.zeros(0)
    model.init_.n_features_in_ = 3


def _guess_of_no_outputs(model: Any) -> None:
    model.init_.n_outputs_ = 0


def _guess_by_a_function(model: Any) -> None:
    import numpy as np

    model.init_.predict_proba = np.log1p


def _link_by_a_function(model: Any) -> None:
    from sklearn.utils.validation import check_array

    model._loss.link.link = check_array


def _link_of_a_dictionary(model: Any) -> None:
    """What it links by is no link, but has an attribute of that name."""
    import functools

    from sklearn.utils import Bunch
    from sklearn.utils.validation import check_array

    model._loss.link = Bunch(link=functools.partial(check_array, ensure_2d=False))


def _link_of_a_pipeline(model: Any) -> None:
    from sklearn._loss.link import IdentityLink
    from sklearn.pipeline import Pipeline

    model._loss.link = Pipeline([])
    model._loss.link.link = IdentityLink()


def _link_with_attributes(model: Any) -> None:
    model._loss.link.other = 1


def _loss_of_a_dictionary(model: Any) -> None:
    from sklearn.utils import Bunch

    model._loss = Bunch(link=model._loss.link, is_multiclass=False)


def _loss_of_one_class(model: Any) -> None:
    model._loss.is_multiclass = False


def _more_trees(model: Any) -> None:
    """More trees in a step than there is room for results; none of them the same, so that skops writes all."""
    import copy

    import numpy as np

    copies = [copy.deepcopy(model.estimators_) for _ in range(50)]
    model.estimators_ = np.hstack(copies)


def _wider_step(model: Any) -> None:
    """A second tree with more features than the first, which looks at the records."""
    import numpy as np
    from sklearn.tree import DecisionTreeRegressor

    records, classes = table()
    model.estimators_[1, 0] = DecisionTreeRegressor().fit(np.hstack([np.zeros((12, 100)), records]), classes)


def _narrow() -> Any:
    """A tree that lets in records of fewer features than it asks for."""
    from sklearn.tree import DecisionTreeClassifier

    model = DecisionTreeClassifier(random_state=0).fit(*table())
    model.n_features_in_ = 1
    return model


def _univariate() -> Any:
    from sklearn.feature_selection import f_classif

    return f_classif


def _scorer(**changed: Callable[[], Any]) -> Make:
    """A model that keeps a scorer with other attributes."""

    def make() -> Any:
        from sklearn.metrics import get_scorer

        model = histogram()()
        model._scorer = get_scorer("accuracy")
        model._scorer.__dict__.update({name: each() for name, each in changed.items()})
        return model

    return make


def _in_a_list_of_predictors() -> Any:
    model = histogram()()
    model.estimators_ = model._predictors[0]
    return model


ASTRAY: tuple[tuple[str, Make, frozenset[str], str], ...] = (
    ("tree-that-lets-in-fewer-features", _narrow, UNSAFE, _BOUNDS),
    ("boosting-with-a-tree-of-more-features", _boosting(_wider_step), UNSAFE, _BOUNDS),
    ("boosting-with-more-trees-than-results", _boosting(_more_trees, init="zero"), NEVER_SAFE, _BOUNDS),
    ("boosting-of-numbers-with-more-trees", _boosting(_more_trees, regression=True), NEVER_SAFE, _BOUNDS),
    ("boosting-from-a-guess-of-nothing", _boosting(_guess_of_nothing, regression=True), NEVER_SAFE, _BOUNDS),
    ("boosting-from-a-guess-of-no-outputs", _boosting(_guess_of_no_outputs, regression=True), NEVER_SAFE, _BOUNDS),
    ("boosting-from-a-guess-by-a-function", _boosting(_guess_by_a_function, classes=4), NEVER_SAFE, _OVERRIDES),
    ("boosting-with-a-link-by-a-function", _boosting(_link_by_a_function, classes=4), NEVER_SAFE, _OVERRIDES),
    ("boosting-with-a-loss-of-one-class", _boosting(_loss_of_one_class, classes=3), NEVER_SAFE, _OVERRIDES),
    ("boosting-with-a-link-of-a-dictionary", _boosting(_link_of_a_dictionary, classes=4), NEVER_SAFE, _OVERRIDES),
    (
        "boosting-of-numbers-with-a-link-of-a-dictionary",
        _boosting(_link_of_a_dictionary, regression=True),
        NEVER_SAFE,
        _OVERRIDES,
    ),
    ("boosting-with-a-link-of-a-pipeline", _boosting(_link_of_a_pipeline, classes=4), NEVER_SAFE, _BOUNDS),
    ("boosting-with-a-link-with-attributes", _boosting(_link_with_attributes, classes=3), NEVER_SAFE, _BOUNDS),
    ("boosting-with-a-loss-of-a-dictionary", _boosting(_loss_of_a_dictionary, classes=3), NEVER_SAFE, _BOUNDS),
    ("histograms-of-fewer-features", histogram(n_features_in_=1), UNSAFE, _BOUNDS),
    ("histograms-that-are-being-fitted", histogram(_in_fit=True), UNSAFE, _BOUNDS),
    ("histograms-prepared-by-another-model", _prepared, NEVER_SAFE, _BOUNDS),
    ("histograms-without-columns-of-categories", _categories(_no_columns), UNSAFE, _BOUNDS),
    ("histograms-without-categories", _categories(_no_categories), UNSAFE, _BOUNDS),
    ("histograms-prepared-with-fewer-columns", _categories(_fewer_columns), UNSAFE, _BOUNDS),
    ("histograms-prepared-with-fewer-names", _categories(_fewer_names, frame=True), NEVER_SAFE, _BOUNDS),
    (
        "histograms-prepared-with-names-of-a-dictionary",
        _categories(_names_of_a_dictionary, frame=True),
        NEVER_SAFE,
        _BOUNDS,
    ),
    ("histograms-prepared-with-weights", _categories(_weights), NEVER_SAFE, _BOUNDS),
    ("histograms-prepared-by-another-function", _categories(_another_function), NEVER_SAFE, _BOUNDS),
    ("predictor-on-its-own", lambda: histogram()()._predictors[0][0], NEVER_SAFE, _BOUNDS),
    ("predictor-of-two-lists", _in_a_list_of_predictors, NEVER_SAFE, _BOUNDS),
    *((name, make, NEVER_SAFE, _BOUNDS) for name, make in BARE_TREES),
    ("scorer-by-another-function", _scorer(_score_func=_univariate), NEVER_SAFE, _OVERRIDES),
    ("scorer-of-another-method", _scorer(_response_method=lambda: "fit"), NEVER_SAFE, _OVERRIDES),
)


def _stopped_by_a_metric() -> Any:
    from sklearn.ensemble import HistGradientBoostingClassifier
    from sklearn.metrics import f1_score, make_scorer

    scorer = make_scorer(f1_score, average="macro")
    model = HistGradientBoostingClassifier(early_stopping=True, scoring=scorer, **_HISTOGRAMS)
    return model.fit(*_kinds())


def _searched() -> Any:
    from sklearn.model_selection import GridSearchCV
    from sklearn.tree import DecisionTreeClassifier

    search = GridSearchCV(DecisionTreeClassifier(random_state=0), {"max_depth": [1, 2]}, scoring="roc_auc", cv=2)
    return search.fit(*table())


def _guessed() -> Any:
    """What fills in missing values by the estimators that it keeps in named tuples."""
    from sklearn.experimental import enable_iterative_imputer  # noqa: F401 - it makes the name below known
    from sklearn.impute import IterativeImputer
    from sklearn.pipeline import make_pipeline
    from sklearn.tree import DecisionTreeClassifier

    records, classes = table()
    records[::3, 1] = float("nan")
    return make_pipeline(IterativeImputer(max_iter=1), DecisionTreeClassifier(random_state=0)).fit(records, classes)


def _columns_by_kind() -> Any:
    """Columns that are chosen by their types when it is fitted."""
    import numpy as np
    import pandas as pd
    from sklearn.compose import make_column_selector, make_column_transformer
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OrdinalEncoder
    from sklearn.tree import DecisionTreeClassifier

    records, classes = table()
    frame = pd.DataFrame(records, columns=list("abc")).assign(kind=["tcp", "udp", "icmp"] * 4)
    chosen = make_column_transformer(
        ("passthrough", make_column_selector(dtype_include=np.number)),
        (OrdinalEncoder(), make_column_selector("kind", dtype_exclude=np.number)),
    )
    return make_pipeline(chosen, DecisionTreeClassifier(random_state=0)).fit(frame, classes)


def _several(kind: str) -> Make:
    """An ensemble of estimators that are named."""

    def make() -> Any:
        from sklearn import ensemble, tree

        each = getattr(tree, "DecisionTreeClassifier" if kind.endswith("Classifier") else "DecisionTreeRegressor")
        model = getattr(ensemble, kind)([("shallow", each(max_depth=1)), ("deep", each(random_state=0))])
        return model.fit(*table())

    return make


def _fit(kind: str, several: Any = None, **options: Any) -> Make:
    """One of scikit-learn's trees or ensembles, fitted to numbers, or to as many classes of as many outputs."""

    def make() -> Any:
        import numpy as np
        from sklearn import ensemble, tree

        records = np.random.default_rng(0).normal(size=(60, 5))
        if kind == "HistGradientBoostingRegressor":
            records[::7, 1] = np.nan
        outputs = [np.arange(60) % each for each in several] if several else [np.nan_to_num(records[:, 1] ** 2)]
        model = {**vars(ensemble), **vars(tree)}[kind](**options)
        return model.fit(records, outputs[0] if len(outputs) == 1 else np.stack(outputs, axis=1))

    return make


_ENSEMBLES = {"n_estimators": 2, "random_state": 0}
_HISTOGRAMS = {"max_iter": 2, "min_samples_leaf": 3, "random_state": 0}
_HONEST: dict[str, Make] = {
    "boosting-of-numbers": _fit("GradientBoostingRegressor", **_ENSEMBLES),
    "boosting-of-quantiles": _fit("GradientBoostingRegressor", loss="quantile", **_ENSEMBLES),
    "boosting-of-two": _fit("GradientBoostingClassifier", (2,), **_ENSEMBLES),
    "boosting-of-two-exponential": _fit("GradientBoostingClassifier", (2,), loss="exponential", **_ENSEMBLES),
    "boosting-of-three": _fit("GradientBoostingClassifier", (3,), **_ENSEMBLES),
    "boosting-of-three-from-zero": _fit("GradientBoostingClassifier", (3,), init="zero", **_ENSEMBLES),
    "histograms-with-missing-values": _fit("HistGradientBoostingRegressor", **_HISTOGRAMS),
    "histograms-of-three": _fit("HistGradientBoostingClassifier", (3,), **_HISTOGRAMS),
    "histograms-with-categories": _categories(),
    "histograms-with-categories-by-name": _categories(frame=True),
    "forest-of-two-outputs": _fit("RandomForestClassifier", (2, 3), **_ENSEMBLES),
    "forest-of-numbers": _fit("RandomForestRegressor", **_ENSEMBLES),
    "extra-trees-of-two-outputs": _fit("ExtraTreesClassifier", (3, 2), **_ENSEMBLES),
    "random-embedding": _fit("RandomTreesEmbedding", **_ENSEMBLES),
    "isolation-of-some-features": _fit("IsolationForest", max_features=0.6, **_ENSEMBLES),
    "tree-of-numbers": _fit("DecisionTreeRegressor", max_leaf_nodes=5),
    "tree-of-two-outputs": _fit("DecisionTreeClassifier", (2, 3)),
    "histograms-stopped-by-a-metric": _stopped_by_a_metric,
    "tree-found-by-a-metric": _searched,
    "tree-behind-guesses": _guessed,
    "tree-of-columns-by-kind": _columns_by_kind,
    "histograms-stopped-by-their-loss": _fit("HistGradientBoostingRegressor", early_stopping=True, **_HISTOGRAMS),
    "bagged-trees": _fit("BaggingClassifier", (2,), max_features=0.6, **_ENSEMBLES),
    "bagged-trees-of-numbers": _fit("BaggingRegressor", **_ENSEMBLES),
    "stumps-of-numbers": _fit("AdaBoostRegressor", **_ENSEMBLES),
    "trees-that-vote": _several("VotingClassifier"),
    "trees-in-a-stack": _several("StackingRegressor"),
    "tree-of-one-leaf": _fit("DecisionTreeClassifier", (1,)),
    "extra-tree": _fit("ExtraTreeClassifier", (3,)),
    "stumps": _fit("AdaBoostClassifier", (3,), **_ENSEMBLES),
}


def hostile(save: Callable[[Make], Write], prefix: str = "", suffix: str = "") -> tuple[Case, ...]:
    """A case for each that leads astray, saved in one way."""
    return tuple(Case(f"{prefix}{name}{suffix}", save(make), *more) for name, make, *more in ASTRAY)  # type: ignore[arg-type]


_OF_THEMSELVES: dict[str, Make] = {
    "histograms-stopped-by-accuracy": _fit(
        "HistGradientBoostingClassifier", (2,), early_stopping=True, scoring="accuracy", **_HISTOGRAMS
    ),
    "histograms-stopped-by-their-score": _fit(
        "HistGradientBoostingRegressor", early_stopping=True, scoring=None, **_HISTOGRAMS
    ),
}
"""They keep a method of their own, or a scorer that keeps them, which skops cannot write."""


def honest(
    save: Callable[[Make], Write], prefix: str, suffix: str = "", *, of_themselves: bool = False
) -> tuple[Case, ...]:
    """A case for each honest one, saved in one way; those that hold themselves where it can write them."""
    made = _HONEST | (_OF_THEMSELVES if of_themselves else {})
    return tuple(Case(f"{prefix}{name}{suffix}", save(make), SAFE) for name, make in made.items())


def by_skops(make: Make) -> Write:
    """Saves a model with skops."""

    def write(folder: Path) -> Path:
        from skops.io import dump

        dump(make(), folder / "model.skops")
        return folder / "model.skops"

    return write
