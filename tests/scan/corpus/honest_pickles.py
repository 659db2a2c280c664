"""Honest pickles, arrays and fitted models: what numpy, joblib, scikit-learn and people's own scripts write."""

from __future__ import annotations

import collections
import datetime as dt
import decimal
import io
import pickle
import uuid
from collections.abc import Callable
from pathlib import Path

import joblib
import numpy as np
from sklearn import (
    cluster,
    compose,
    decomposition,
    ensemble,
    feature_selection,
    impute,
    linear_model,
    model_selection,
    naive_bayes,
    neighbors,
    neural_network,
    pipeline,
    preprocessing,
    svm,
    tree,
)
from sklearn.base import BaseEstimator
from sklearn.frozen import FrozenEstimator

from corpus import SAFE, Case
from corpus.fitted_models import honest
from corpus.pickle_numpy import HONEST as NEIGHBOURS

_PROTOCOLS = tuple(range(6))


def _data() -> object:
    """What scripts keep beside their weights."""
    return {
        "epoch": 3, "loss": 0.25, "best": None, "names": ["benign", "attack"], "done": True, "large": 1 << 200,
        "negative": -7, "bytes": b"\x00\xff" * 20, "empty": b"", "array": bytearray(b"abc"), "long": "λ" * 2000,
        "set": {1, 2}, "frozen": frozenset({"a"}), "complex": 1j, "range": range(3), "slice": slice(1, 2),
        "ordered": collections.OrderedDict(a=1), "counted": collections.Counter("aab"),
        "grouped": collections.defaultdict(list, {"a": [1]}), "queue": collections.deque([1, 2], 5),
        "when": dt.datetime(2026, 11, 21, 12, tzinfo=dt.UTC), "took": dt.timedelta(seconds=3),
        "price": decimal.Decimal("1.50"), "id": uuid.UUID(int=7),
        "nested": [[(), (1,), (1, 2), (1, 2, 3), (1, 2, 3, 4)]],
        "ellipsis": ...,
    }  # fmt: skip


def _itself() -> object:
    """Objects that hold themselves and one another."""
    items: list[object] = []
    items += [items, {"items": items}]
    return items


def _optimizer() -> object:
    """What an optimizer's state looks like, in arrays."""
    moments = {number: {"step": number, "exp_avg": np.zeros((3, 2)), "exp_avg_sq": np.ones(2)} for number in range(40)}
    groups = [{"lr": 1e-3, "betas": (0.9, 0.999), "eps": 1e-8, "weight_decay": 0, "params": list(range(40))}]
    return {"state": moments, "param_groups": groups}


def _keyed() -> object:
    """Dictionaries whose keys are numpy's numbers, or tuples of them, and other things that scripts count by."""
    counts = {np.int64(each): each for each in range(1500)}
    pairs = {(np.int32(each), np.float64(each / 2)): each for each in range(1500)}
    days = {dt.date(2026, 1, 1) + dt.timedelta(days=each): each for each in range(1500)}
    return [
        counts,
        pairs,
        days,
        {np.str_(each): each for each in range(1500)},
        {(each, "a"): 1 for each in range(1500)},
    ]


def _ragged() -> object:
    """Arrays of objects in an array of objects, and queues of queues."""
    rows = np.empty(1500, object)
    rows[:] = [np.array([each, "x"], object) for each in range(1500)]
    queues = collections.deque(collections.deque([each]) for each in range(1500))
    grouped = collections.defaultdict(collections.OrderedDict, {each: collections.deque() for each in range(1500)})
    return [rows, queues, grouped]


def _described() -> object:
    """Dtypes of all kinds: aligned, with titles, of parts, with units of time; masked arrays with fill values."""
    inner = np.dtype([("x", "<f4"), ("y", "O")])
    return [
        np.zeros(2, np.dtype([("a", "i1"), ("b", "f8")], align=True)), np.zeros(2, np.dtype([(("title", "a"), "i1")])),
        np.zeros(2, np.dtype([("a", "f8", (2, 3)), ("b", "U3", (2,))])), np.zeros(2, np.dtype([("a", inner)])),
        np.zeros(2, "M8[3D]"), np.zeros(2, "m8"), np.zeros(2, ">U3"), np.array(["", ""]), np.zeros((0, 3)),
        np.ma.array([1.0, 2.0], mask=[0, 1], fill_value=3), np.ma.array(["a", None], dtype=object),
        np.ma.array([(1, 2.0)], mask=[(0, 1)], dtype=[("a", "i4"), ("b", "f8")]),
        np.rec.array([(1, 2.0), (3, 4.0)], dtype=[("a", "i4"), ("b", "f8")]),
        np.ones((2, 3, 4)).transpose(1, 0, 2), np.float32(1.5), np.datetime64("2026-11-22"), np.array(7)[()],
        np.zeros(2, np.dtype({"names": ["a"], "formats": ["U2"], "offsets": [3], "itemsize": 16})),
    ]  # fmt: skip


_BIT_GENERATORS = ("MT19937", "PCG64", "PCG64DXSM", "Philox", "SFC64")


class _Older:
    """Pickles like a generator of numpy 1.17 to 1.26, which names the class as a text."""

    def __init__(self, constructor: str, kind: str, state: object, *more: object) -> None:
        import numpy.random._pickle as constructors

        self._parts = (getattr(constructors, constructor), (kind, *more), state)

    def __reduce__(self) -> object:
        return self._parts


def _generators() -> object:
    import numpy.random._pickle as constructors

    made: list[object] = []
    for kind in _BIT_GENERATORS:
        bits = getattr(np.random, kind)(7)
        state = bits.state
        maker = getattr(constructors, "__bit_generator_ctor")
        made += [bits, np.random.Generator(bits), _Older("__bit_generator_ctor", kind, state)]
        made += [_Older("__generator_ctor", kind, state), _Older("__generator_ctor", kind, state, maker)]
    drawn = np.random.RandomState(1)
    drawn.normal(size=3)
    state = drawn.get_state(legacy=False)
    return [*made, drawn, _Older("__randomstate_ctor", "MT19937", state), np.random.SeedSequence(3).spawn(2)]


def _boosting() -> object:
    """Boosting of three classes, with categories, frozen, and with a first guess of its own."""
    records, _ = _records()
    classes, guess = np.arange(60) % 3, ensemble.GradientBoostingClassifier(n_estimators=2, init="zero")
    kinds = np.hstack([records, (np.arange(60) % 4)[:, None]])
    histograms = ensemble.HistGradientBoostingClassifier(max_iter=2, min_samples_leaf=3, categorical_features=[6])
    return [
        ensemble.GradientBoostingClassifier(n_estimators=2).fit(records, classes), guess.fit(records, classes),
        ensemble.HistGradientBoostingClassifier(max_iter=2).fit(records, classes), histograms.fit(kinds, classes),
        FrozenEstimator(tree.DecisionTreeClassifier(ccp_alpha=0.02).fit(records, classes)),
        ensemble.RandomForestClassifier(3, max_leaf_nodes=5).fit(records, np.stack([classes, classes], axis=1)),
        neighbors.KNeighborsClassifier(algorithm="ball_tree", metric="haversine").fit(records[:, :2], classes),
    ]  # fmt: skip


def _random_states() -> object:
    """Models with generators instead of seeds."""
    return [
        ensemble.RandomForestClassifier(4, random_state=np.random.RandomState(0)).fit(*_records()),
        cluster.KMeans(2, n_init=1, random_state=np.random.RandomState(np.random.Philox(0))).fit(_records()[0]),
        model_selection.ShuffleSplit(random_state=np.random.RandomState(0)),
    ]


def _matrix() -> np.ndarray:
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # numpy advises against it, and old files have it
        return np.matrix([[1.0]])


def _arrays() -> dict[str, object]:
    """Arrays of every kind of item."""
    record = np.dtype([("a", "<f8"), ("b", "<i4", (2,)), ("c", "S3")])
    kinds = ("f2", "f4", "f8", ">f8", "i1", "i8", "u2", "?", "c8", "c16", "S5", "U7", "M8[ns]", "m8[us]")
    return {kind: np.zeros((3, 2), kind) for kind in kinds} | {
        "none": np.zeros((0, 4)), "scalar": np.float32(1.5), "text": np.str_("x"), "point": np.array(3.0),
        "record": np.zeros(2, record), "aligned": np.zeros(2, np.dtype([("a", "i1"), ("b", "f8")], align=True)),
        "fortran": np.asfortranarray(np.ones((4, 3))), "objects": np.array(["a", None, 1.5, {"k": 1}], dtype=object),
        "matrix": _matrix(), "masked": np.ma.array([1.0, 2.0], mask=[0, 1]),
        "generator": np.random.default_rng(1), "state": np.random.RandomState(1),
        "large": np.arange(20_000, dtype="<f8"),
    }  # fmt: skip


def _structures() -> dict[str, np.ndarray]:
    """Structures of objects and little arrays."""
    made = np.zeros(2, np.dtype([("a", "f4", (3,)), ("b", "O"), ("c", "S3", (2, 2))]))
    made["b"] = [{"k": 1}, None]
    return {"one": made, "another": made.copy()}


def _records() -> tuple[np.ndarray, np.ndarray]:
    records = np.random.default_rng(0).normal(size=(60, 6))
    return records, (records[:, 0] > 0).astype(int)


_ESTIMATORS: dict[str, Callable[[], BaseEstimator]] = {
    "logistic": linear_model.LogisticRegression,
    "ridge": linear_model.RidgeClassifier,
    "sgd": lambda: linear_model.SGDClassifier(loss="modified_huber"),
    "tree": lambda: tree.DecisionTreeClassifier(random_state=0),
    "forest": lambda: ensemble.RandomForestClassifier(8, random_state=np.random.RandomState(0)),
    "extra-trees": lambda: ensemble.ExtraTreesRegressor(4, random_state=0),
    "isolation-forest": lambda: ensemble.IsolationForest(n_estimators=8, random_state=0),
    "gradient-boosting": lambda: ensemble.GradientBoostingClassifier(n_estimators=5),
    "histogram-boosting": lambda: ensemble.HistGradientBoostingClassifier(max_iter=3),
    "adaboost": lambda: ensemble.AdaBoostClassifier(n_estimators=3),
    "bagging": lambda: ensemble.BaggingClassifier(n_estimators=3),
    "stacking": lambda: ensemble.StackingClassifier([("nb", naive_bayes.GaussianNB())]),
    "support-vectors": svm.SVC,
    "linear-support-vectors": svm.LinearSVC,
    "one-class": svm.OneClassSVM,
    "neighbors-kd-tree": lambda: neighbors.KNeighborsClassifier(algorithm="kd_tree"),
    "neighbors-ball-tree": lambda: neighbors.KNeighborsClassifier(algorithm="ball_tree"),
    "neighbors-canberra": lambda: neighbors.KNeighborsClassifier(algorithm="ball_tree", metric="canberra"),
    "outlier-factor": neighbors.LocalOutlierFactor,
    "naive-bayes": naive_bayes.GaussianNB,
    "perceptron": lambda: neural_network.MLPClassifier((4,), max_iter=3, random_state=0, early_stopping=True),
    "k-means": lambda: cluster.KMeans(2, n_init=1),
    "pipeline": lambda: pipeline.make_pipeline(
        impute.SimpleImputer(),
        compose.make_column_transformer((preprocessing.StandardScaler(), [0, 1]), remainder="passthrough"),
        feature_selection.SelectKBest(k=3),
        decomposition.PCA(2),
        linear_model.LogisticRegression(),
    ),
    "one-hot": lambda: pipeline.make_pipeline(
        preprocessing.KBinsDiscretizer(3, quantile_method="averaged_inverted_cdf"), naive_bayes.BernoulliNB()
    ),
    "grid-search": lambda: model_selection.GridSearchCV(linear_model.LogisticRegression(), {"C": [0.1, 1.0]}, cv=2),
}


def _fitted(name: str) -> BaseEstimator:
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # three iterations are no training
        return _ESTIMATORS[name]().fit(*_records())


def _pickle(make: Callable[[], object], protocol: int) -> Callable[[Path], Path]:
    return _bytes("model.pkl", lambda: pickle.dumps(make(), protocol))


def _joblib(make: Callable[[], object], compress: object = 0, protocol: int | None = None) -> Callable[[Path], Path]:
    def dump() -> bytes:
        out = io.BytesIO()
        joblib.dump(make(), out, compress=compress, protocol=protocol)
        return out.getvalue()

    return _bytes("model.joblib", dump)


def _bytes(file: str, make: Callable[[], bytes]) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        path = folder / file
        path.write_bytes(make())
        return path

    return write


def _npy(thing: object) -> bytes:
    out = io.BytesIO()
    np.save(out, thing, allow_pickle=True)
    return out.getvalue()


def _npz(folder: Path, *, compressed: bool) -> Path:
    path = folder / "arrays.npz"
    arrays = {key: value for key, value in _arrays().items() if isinstance(value, np.ndarray)}
    (np.savez_compressed if compressed else np.savez)(path, **arrays)
    return path


_STORED = ("f8", ">f8", "U7", "M8[ns]", "none", "record", "point", "fortran", "objects", "large")

CASES: tuple[Case, ...] = (
    *(Case(f"data-protocol-{each}", _pickle(_data, each), SAFE) for each in _PROTOCOLS),
    *(Case(f"itself-protocol-{each}", _pickle(_itself, each), SAFE) for each in _PROTOCOLS),
    *(Case(f"arrays-protocol-{each}", _pickle(_arrays, each), SAFE) for each in _PROTOCOLS),
    *(Case(f"optimizer-protocol-{each}", _pickle(_optimizer, each), SAFE) for each in _PROTOCOLS),
    *(Case(f"npy-{kind}", _bytes("a.npy", lambda k=kind: _npy(_arrays()[k])), SAFE) for kind in _STORED),
    Case("npy-several", _bytes("a.npy", lambda: _npy(np.ones(3)) + _npy(np.array([None])) + _npy(np.ones(2))), SAFE),
    Case("npz", lambda folder: _npz(folder, compressed=False), SAFE),
    Case("npz-compressed", lambda folder: _npz(folder, compressed=True), SAFE),
    *(
        Case(f"{name}-protocol-{each}", _pickle(make, each), SAFE)
        for name, make in (
            ("keyed", _keyed), ("ragged", _ragged), ("described", _described), ("generators", _generators),
        )
        for each in _PROTOCOLS
    ),
    *(Case(f"sklearn-random-states-protocol-{each}", _pickle(_random_states, each), SAFE) for each in (0, 2, 5)),
    *(Case(f"sklearn-boosting-protocol-{each}", _pickle(_boosting, each), SAFE) for each in (2, 5)),
    *honest(lambda make: _pickle(make, 5), "sklearn-fitted-", of_themselves=True),
    *honest(lambda make: _pickle(make, 2), "sklearn-fitted-", "-protocol-2", of_themselves=True),
    *honest(lambda make: _joblib(make, 3), "sklearn-fitted-", "-joblib", of_themselves=True),
    Case("sklearn-boosting-joblib", _joblib(_boosting), SAFE),
    Case("sklearn-random-states-joblib", _joblib(_random_states), SAFE),
    *(Case(f"{name}-joblib", _joblib(make), SAFE) for name, make in (("ragged", _ragged), ("described", _described))),
    *(Case(name, _bytes("tree.pkl", lambda data=data: data), SAFE) for name, data in NEIGHBOURS.items()),
    Case(
        "arrays-behind-one-another",
        _bytes("log.pkl", lambda: b"".join(pickle.dumps(each, 4) for each in _arrays().values())),
        SAFE,
    ),
    Case(
        "models-behind-one-another",
        _bytes("log.pkl", lambda: b"".join(map(pickle.dumps, (_fitted("forest"), _data(), _ragged(), _generators())))),
        SAFE,
    ),
    Case("pickles-behind-one-another", _bytes("log.pkl", lambda: b"".join(map(pickle.dumps, range(50)))), SAFE),
    *(
        Case(f"joblib-arrays-{method}", _joblib(_arrays, compress), SAFE)
        for method, compress in (
            ("plain", 0), ("zlib", 3), ("gzip", ("gzip", 3)), ("bz2", ("bz2", 3)), ("xz", ("xz", 3)),
            ("lzma", ("lzma", 3)),
        )
    ),
    *(Case(f"joblib-arrays-protocol-{each}", _joblib(_arrays, 0, each), SAFE) for each in _PROTOCOLS),
    *(Case(f"structures-protocol-{each}", _pickle(_structures, each), SAFE) for each in _PROTOCOLS),
    *(Case(f"joblib-structures-protocol-{each}", _joblib(_structures, 0, each), SAFE) for each in (2, 3, 4, 5)),
    *(Case(f"sklearn-{name}-pickle", _pickle(lambda n=name: _fitted(n), 4), SAFE) for name in _ESTIMATORS),
    *(Case(f"sklearn-{name}-joblib", _joblib(lambda n=name: _fitted(n)), SAFE) for name in _ESTIMATORS),
    *(Case(f"sklearn-forest-protocol-{each}", _pickle(lambda: _fitted("forest"), each), SAFE) for each in _PROTOCOLS),
    Case("sklearn-pipeline-compressed", _joblib(lambda: _fitted("pipeline"), 3), SAFE),
    Case("sklearn-forest-compressed", _joblib(lambda: _fitted("forest"), 3), SAFE),
)  # fmt: skip
