"""scikit-learn: fitted estimators, an exact list of classes.

An estimator is an object without code of its own in the file: its class is named, made without being initialised, and
given its attributes by name. `BaseEstimator.__setstate__` looks at the version and stores the attributes; the classes
below that have another one (`IsotonicRegression`, `TreePredictor`, `Tree`, distances and trees of neighbours) only
convert and copy arrays. Left out, and so refused: what holds functions to be called (`PyFuncDistance`, `BSpline` and
sparse matrices of scipy), routing of metadata, Gaussian processes, callbacks. Scorers hold a function of a list.

A `FunctionTransformer` or a vectorizer with a function of its own asks for that function by name, which is refused like
any other name; except `check_array`, with plain arguments, which pipelines with categories begin with.

Sources: scikit-learn 1.9 `base.py`, `tree/_tree.pyx`, `neighbors/_binary_tree.pxi.tp`, `metrics/_dist_metrics.pyx.tp`,
`ensemble/_hist_gradient_boosting/predictor.py`; every class was fitted and pickled, and what it asks for observed.
"""

from __future__ import annotations

from hauberk.scan.fitted.callables import METRICS, OWN_METHOD, name_stands_for_method, stands_for_method
from hauberk.scan.fitted.trees import HISTOGRAMS, LOOKED_AT, PREDICTOR, TREE
from hauberk.scan.pickles import rules
from hauberk.scan.pickles.arrays import Array, elements
from hauberk.scan.pickles.entries import (
    ATTRIBUTES,
    CALLED_ONLY,
    Call,
    Context,
    Entry,
    Objection,
    check_attributes,
    is_made,
    is_name,
    make_empty,
    plain_state,
)
from hauberk.scan.pickles.fitted_trees import keep_attributes, make_tree, set_predictor, set_tree
from hauberk.scan.pickles.node_tables import check_neighbours
from hauberk.scan.pickles.values import Made, Mapping, Name
from hauberk.scan.report import shown

_GROUP = "scikit-learn"

_ESTIMATORS = {
    "calibration": "CalibratedClassifierCV _CalibratedClassifier _SigmoidCalibration _TemperatureScaling",
    "cluster._affinity_propagation": "AffinityPropagation",
    "cluster._agglomerative": "AgglomerativeClustering FeatureAgglomeration",
    "cluster._birch": "Birch _CFNode _CFSubcluster",
    "cluster._bisect_k_means": "BisectingKMeans _BisectingTree",
    "cluster._bicluster": "SpectralBiclustering SpectralCoclustering",
    "cluster._dbscan": "DBSCAN",
    "cluster._hdbscan.hdbscan": "HDBSCAN",
    "cluster._kmeans": "KMeans MiniBatchKMeans",
    "cluster._mean_shift": "MeanShift",
    "cluster._optics": "OPTICS",
    "cluster._spectral": "SpectralClustering",
    "compose._column_transformer": "make_column_selector",
    "compose._target": "TransformedTargetRegressor",
    "covariance._elliptic_envelope": "EllipticEnvelope",
    "covariance._empirical_covariance": "EmpiricalCovariance",
    "covariance._graph_lasso": "GraphicalLasso GraphicalLassoCV",
    "covariance._robust_covariance": "MinCovDet",
    "covariance._shrunk_covariance": "LedoitWolf OAS ShrunkCovariance",
    "cross_decomposition._pls": "CCA PLSCanonical PLSRegression PLSSVD",
    "decomposition._dict_learning": "DictionaryLearning MiniBatchDictionaryLearning SparseCoder",
    "decomposition._factor_analysis": "FactorAnalysis",
    "decomposition._fastica": "FastICA",
    "decomposition._incremental_pca": "IncrementalPCA",
    "decomposition._kernel_pca": "KernelPCA",
    "decomposition._lda": "LatentDirichletAllocation",
    "decomposition._nmf": "NMF MiniBatchNMF",
    "decomposition._pca": "PCA",
    "decomposition._sparse_pca": "SparsePCA MiniBatchSparsePCA",
    "decomposition._truncated_svd": "TruncatedSVD",
    "discriminant_analysis": "LinearDiscriminantAnalysis QuadraticDiscriminantAnalysis",
    "ensemble._bagging": "BaggingClassifier BaggingRegressor",
    "ensemble._forest": (
        "RandomForestClassifier RandomForestRegressor ExtraTreesClassifier ExtraTreesRegressor RandomTreesEmbedding"
    ),
    "ensemble._iforest": "IsolationForest",
    "ensemble._stacking": "StackingClassifier StackingRegressor",
    "ensemble._voting": "VotingClassifier VotingRegressor",
    "ensemble._weight_boosting": "AdaBoostClassifier AdaBoostRegressor",
    "feature_extraction._dict_vectorizer": "DictVectorizer",
    "feature_extraction._hash": "FeatureHasher",
    "feature_extraction.image": "PatchExtractor",
    "feature_extraction.text": "CountVectorizer HashingVectorizer TfidfTransformer TfidfVectorizer",
    "frozen._frozen": "FrozenEstimator",
    "feature_selection._from_model": "SelectFromModel",
    "feature_selection._rfe": "RFE RFECV",
    "feature_selection._sequential": "SequentialFeatureSelector",
    "feature_selection._univariate_selection": (
        "GenericUnivariateSelect SelectFdr SelectFpr SelectFwe SelectKBest SelectPercentile"
    ),
    "feature_selection._variance_threshold": "VarianceThreshold",
    "impute._base": "MissingIndicator SimpleImputer",
    "impute._iterative": "IterativeImputer",
    "impute._knn": "KNNImputer",
    "kernel_approximation": "AdditiveChi2Sampler Nystroem PolynomialCountSketch RBFSampler SkewedChi2Sampler",
    "kernel_ridge": "KernelRidge",
    "linear_model._base": "LinearRegression",
    "linear_model._bayes": "ARDRegression BayesianRidge",
    "linear_model._coordinate_descent": (
        "ElasticNet ElasticNetCV Lasso LassoCV MultiTaskElasticNet MultiTaskElasticNetCV MultiTaskLasso"
        " MultiTaskLassoCV"
    ),
    "linear_model._glm.glm": "GammaRegressor PoissonRegressor TweedieRegressor",
    "linear_model._huber": "HuberRegressor",
    "linear_model._least_angle": "Lars LarsCV LassoLars LassoLarsCV LassoLarsIC",
    "linear_model._logistic": "LogisticRegression LogisticRegressionCV",
    "linear_model._omp": "OrthogonalMatchingPursuit OrthogonalMatchingPursuitCV",
    "linear_model._passive_aggressive": "PassiveAggressiveClassifier PassiveAggressiveRegressor",
    "linear_model._perceptron": "Perceptron",
    "linear_model._quantile": "QuantileRegressor",
    "linear_model._ransac": "RANSACRegressor",
    "linear_model._ridge": "Ridge RidgeCV RidgeClassifier RidgeClassifierCV",
    "linear_model._stochastic_gradient": "SGDClassifier SGDOneClassSVM SGDRegressor",
    "linear_model._theil_sen": "TheilSenRegressor",
    "manifold._classical_mds": "ClassicalMDS",
    "manifold._isomap": "Isomap",
    "manifold._locally_linear": "LocallyLinearEmbedding",
    "manifold._mds": "MDS",
    "manifold._spectral_embedding": "SpectralEmbedding",
    "manifold._t_sne": "TSNE",
    "mixture._bayesian_mixture": "BayesianGaussianMixture",
    "mixture._gaussian_mixture": "GaussianMixture",
    "model_selection._classification_threshold": "FixedThresholdClassifier",
    "model_selection._search": "GridSearchCV RandomizedSearchCV",
    "model_selection._search_successive_halving": "HalvingGridSearchCV HalvingRandomSearchCV",
    "model_selection._split": (
        "GroupKFold GroupShuffleSplit KFold LeaveOneGroupOut LeaveOneOut LeavePGroupsOut LeavePOut PredefinedSplit"
        " ShuffleSplit StratifiedGroupKFold StratifiedKFold StratifiedShuffleSplit TimeSeriesSplit"
    ),
    "metrics._scorer": "_PassthroughScorer",
    "multiclass": "OneVsOneClassifier OneVsRestClassifier OutputCodeClassifier _ConstantPredictor",
    "multioutput": "ClassifierChain MultiOutputClassifier MultiOutputRegressor RegressorChain",
    "naive_bayes": "BernoulliNB CategoricalNB ComplementNB GaussianNB MultinomialNB",
    "neighbors._classification": "KNeighborsClassifier RadiusNeighborsClassifier",
    "neighbors._graph": "KNeighborsTransformer RadiusNeighborsTransformer",
    "neighbors._kde": "KernelDensity",
    "neighbors._lof": "LocalOutlierFactor",
    "neighbors._nca": "NeighborhoodComponentsAnalysis",
    "neighbors._nearest_centroid": "NearestCentroid",
    "neighbors._regression": "KNeighborsRegressor RadiusNeighborsRegressor",
    "neighbors._unsupervised": "NearestNeighbors",
    "neural_network._multilayer_perceptron": "MLPClassifier MLPRegressor",
    "neural_network._rbm": "BernoulliRBM",
    "neural_network._stochastic_optimizers": "AdamOptimizer SGDOptimizer",
    "pipeline": "FeatureUnion Pipeline",
    "preprocessing._data": (
        "Binarizer KernelCenterer MaxAbsScaler MinMaxScaler Normalizer PowerTransformer QuantileTransformer"
        " RobustScaler StandardScaler"
    ),
    "preprocessing._discretization": "KBinsDiscretizer",
    "preprocessing._encoders": "OneHotEncoder",
    "preprocessing._label": "LabelBinarizer LabelEncoder MultiLabelBinarizer",
    "preprocessing._polynomial": "PolynomialFeatures",
    "preprocessing._target_encoder": "TargetEncoder",
    "random_projection": "GaussianRandomProjection SparseRandomProjection",
    "semi_supervised._label_propagation": "LabelPropagation LabelSpreading",
    "semi_supervised._self_training": "SelfTrainingClassifier",
    "svm._classes": "LinearSVC LinearSVR NuSVC NuSVR OneClassSVM SVC SVR",
    "_loss.link": "Interval",
}

# Native losses: made of numbers, without state.
_LOSSES = {
    "_loss._loss": (
        "CyHalfBinomialLoss CyHalfMultinomialLoss CyHalfSquaredError CyHalfPoissonLoss CyHalfGammaLoss"
        " CyHalfTweedieLoss CyHalfTweedieLossIdentity CyAbsoluteError CyPinballLoss CyHuberLoss CyExponentialLoss"
    ),
    "linear_model._sgd_fast": (
        "Hinge SquaredHinge ModifiedHuber EpsilonInsensitive SquaredEpsilonInsensitive Log SquaredLoss Huber"
    ),
}

# Functions that are passed around, and called on data when the estimator is fitted again, or transforms.
_FUNCTIONS = {
    "cluster._kmeans": "_kmeans_single_elkan _kmeans_single_lloyd",
    "feature_selection._univariate_selection": "f_classif f_regression chi2 f_oneway r_regression",
    "feature_selection._mutual_info": "mutual_info_classif mutual_info_regression",
}

_TREES = ("sklearn.neighbors._kd_tree.KDTree", "sklearn.neighbors._ball_tree.BallTree")
_DISTANCES = tuple(
    f"sklearn.metrics._dist_metrics.{kind}Distance64"
    for kind in (
        "Euclidean", "Manhattan", "Chebyshev", "Minkowski", "Haversine", "BrayCurtis", "Canberra", "Dice", "Hamming",
        "Jaccard", "RogersTanimoto", "RussellRao", "SokalSneath",
    )
)  # fmt: skip
_DISTANCE = "sklearn.metrics._dist_metrics.newObj"
_OF_TWO = "HaversineDistance64"  # looks at two numbers of each point
_WEIGHTED = frozenset({"MinkowskiDistance64"})  # looks at a weight for each feature if it has any


_LONGEST_VERSION = 64
_MULTINOMIAL = "sklearn._loss._loss.CyHalfMultinomialLoss"
_CHECKS = "sklearn.utils.validation.check_array"
_INTERPOLATED = 1 << 12  # bytes of a function that looks up numbers, about
_SORTED = 64  # bytes that take as long to copy as a number to sort


def _set_estimator(made: Made, state: object, context: Context) -> None:
    """Attributes by name, once, none of which takes the place of a method.

    Some work on what they have each time they are given a state, whatever is in it.
    """
    if made.ready:
        raise Objection("sets the state of an estimator twice", rules.BUILD)
    plain_state(made, state, context)
    for part in state if type(state) is tuple else (state,):
        if type(part) is Mapping:
            for attribute, value in part.items_of():
                _check_attribute(str(attribute), value)


def _set_judged(made: Made, state: object, context: Context) -> None:
    """Keeps what is held against one another."""
    _set_estimator(made, state, context)
    keep_attributes(made, check_attributes(state), context)


def _check_attribute(attribute: str, value: object) -> None:
    if type(value) is Name:
        fine = value.entry is not None and value.entry.call is None and value.entry.new is None
        if not fine or name_stands_for_method(attribute):
            raise Objection(f"keeps {shown(str(value))} as {shown(attribute)}", rules.BUILD)
    elif type(value) is Made and stands_for_method(attribute, value.entry.name):
        raise Objection(f"keeps {value.entry.name} as {shown(attribute)}", rules.BUILD)
    elif attribute == "is_multiclass":
        raise Objection("sets what a loss's class says", rules.BUILD)
    elif attribute == "_sklearn_version" and not (type(value) is str and len(value) <= _LONGEST_VERSION):
        raise Objection("a version that is no text", rules.BUILD)  # it is put into a warning, however large


def _set_isotonic(made: Made, state: object, context: Context) -> None:
    """Its `__setstate__` makes a function of two arrays of numbers, by a method of its own."""
    _set_estimator(made, state, context)
    given = check_attributes(state)
    if "_build_f" in given:
        raise Objection("sets _build_f, which is called next", rules.BUILD)
    for attribute in ("X_thresholds_", "y_thresholds_"):
        match given.get(attribute):
            case None:
                pass
            case Made(detail=Array(shape=(length,), dtype=dtype)) if dtype.kind in "fiu":
                context.copies(_INTERPOLATED + _SORTED * length)
            case _:
                raise Objection(f"{attribute} that is no array of numbers", rules.BUILD)


def _triplet(_: Entry, arguments: tuple[object, ...], __: Context) -> tuple[object, ...]:
    """A named tuple: a feature, those that it is guessed from, and by which estimator; to all others a tuple."""
    if len(arguments) != 3:
        raise Objection(f"with {len(arguments)} arguments, where it takes 3")
    return arguments


def _numbers(entry: Entry, arguments: tuple[object, ...], _: Context) -> Made:
    if len(arguments) <= 2 and all(type(each) in {int, float} or _is_scalar(each) for each in arguments):
        return Made(entry)
    raise Objection("with anything but numbers")


def _loss(entry: Entry, arguments: tuple[object, ...], _: Context) -> Made:
    """The one native loss that is pickled by a function of its own: its class, a number, no state."""
    match arguments:
        case (kind, int(), None | ()) if is_name(kind, _MULTINOMIAL) and not isinstance(arguments[2], list):
            return Made(entry)
    raise Objection("with anything but its class")


def _partial(entry: Entry, arguments: tuple[object, ...], _: Context) -> Made:
    match arguments:
        case (function,) if is_name(function, _CHECKS):
            return Made(entry)
    raise Objection(f"of anything but {_CHECKS}")


def _own_method(entry: Entry, arguments: tuple[object, ...], _: Context) -> Made:
    """The method that histogram-based boosting keeps of itself where a metric stopped it early."""
    match arguments:
        case (model, str(name)) if name == OWN_METHOD and is_made(model, *HISTOGRAMS):
            return Made(entry)
    raise Objection(f"of anything but {OWN_METHOD} of histogram-based boosting", rules.CODE)


def _set_partial(made: Made, state: object, _: Context) -> None:
    """The function again, and what is passed to it by name: words, truth values, types of numbers."""
    match state:
        case tuple((function, (), Mapping() as given, None | Mapping() as attributes)) if type(state[1]) is tuple:
            plain = all(type(value) in {str, bool, type(None)} or _is_type(value) for _, value in given.items_of())
            if is_name(function, _CHECKS) and plain and not attributes and not made.ready:
                check_attributes(given)
                given.kept = True
                if isinstance(attributes, Mapping):
                    attributes.kept = True
                return
    raise Objection("anything but a check of arrays", rules.BUILD)


def _is_type(value: object) -> bool:
    if type(value) is list:
        return all(type(each) is Name and _is_type(each) for each in value)
    return type(value) is Name and value.entry is not None and value.module == "numpy" and value.entry.call is None


def _is_scalar(value: object) -> bool:
    return is_made(value, "numpy._core.multiarray.scalar", "numpy.core.multiarray.scalar")


def _new_object(entry: Entry, arguments: tuple[object, ...], _: Context) -> Made:
    """`newObj` of scikit-learn's native classes: an object without state."""
    of = _DISTANCES if "_dist_metrics" in entry.name else (_TREES[0] if "_kd_" in entry.name else _TREES[1],)
    match arguments:
        case (Name() as kind,) if is_name(kind, *of):
            return Made(entry, kind.name)
    raise Objection("an object of a class that is not allowed")


def _set_distance(made: Made, state: object, _: Context) -> None:
    """Its power, its weights of features and a matrix, which none of the allowed distances has."""
    match state:
        case tuple((float() | int(), Made(detail=Array() as vector), Made(detail=Array() as matrix))):
            if len(vector.shape) == 1 and len(matrix.shape) == 2 and not made.ready:
                made.detail = 2 if made.detail == _OF_TWO else vector.shape[0] if made.detail in _WEIGHTED else 0
                return
    raise Objection("a distance's state that no pickler writes", rules.BUILD)


def _set_neighbours(made: Made, state: object, context: Context) -> None:
    if made.ready:
        raise Objection("sets the state of a tree twice", rules.MEMORY)
    match state:
        case tuple((
            Made(detail=Array() as data), Made(detail=Array() as order), Made(detail=Array() as nodes),
            Made(detail=Array() as bounds), int(leaf), int(), int(count), int(), int(), int(), int(), distance, weights,
        )):  # fmt: skip
            context.copies(
                sum(elements(each.dtype, each.shape) * each.dtype.itemsize for each in (order, nodes, bounds))
            )
            if not (type(distance) is Made and distance.ready and is_made(distance, _DISTANCE)):
                raise Objection("a distance that is none", rules.BUILD)
            sides = 2 if "_kd_" in made.entry.name else 1
            if leaf < 1:
                raise Objection("leaves of no points, by whose number scikit-learn divides", rules.MEMORY)
            if bounds.shape[:1] != (sides,) or distance.detail not in {0, *data.shape[1:]}:
                raise Objection("a tree whose bounds or weights of features are too few", rules.MEMORY)
            match weights:
                case None:
                    pass
                case Made(detail=Array(shape=shape)) if shape == data.shape[:1]:
                    context.copies(_INTERPOLATED + 8 * shape[0])
                case _:
                    raise Objection("weights that are not as many as the points", rules.MEMORY)
            check_neighbours(data, order, nodes, bounds, count, context)
        case _:
            raise Objection("a tree's state that no pickler writes", rules.BUILD)


def _entries(classes: dict[str, str], call: Call | None = None, **more: object) -> list[Entry]:
    return [
        Entry(f"sklearn.{module}.{name}", _GROUP, call, **more)  # type: ignore[arg-type]
        for module, names in classes.items()
        for name in names.split()
    ]


ENTRIES: tuple[Entry, ...] = (
    *_entries(_ESTIMATORS, new=make_empty, build=_set_estimator),
    *(Entry(name, _GROUP, new=make_empty, build=_set_judged) for name in LOOKED_AT),
    Entry("sklearn.impute._iterative._ImputerTriplet", _GROUP, new=_triplet),
    Entry("sklearn.isotonic.IsotonicRegression", _GROUP, new=make_empty, build=_set_isotonic),
    *_entries(_LOSSES, _numbers),
    *_entries(_FUNCTIONS),
    *(Entry(f"numpy.{name}", _GROUP) for name in ("mean", "median", "max", "min")),
    *(Entry(name, _GROUP) for name in sorted(METRICS)),
    Entry("sklearn._loss._loss.__pyx_unpickle_CyHalfMultinomialLoss", _GROUP, _loss),
    Entry(_CHECKS, _GROUP),
    Entry("functools.partial", _GROUP, _partial, build=_set_partial),
    Entry("builtins.getattr", _GROUP, _own_method, data=CALLED_ONLY),
    Entry("sklearn.utils._bunch.Bunch", _GROUP, make_empty, make_empty, plain_state, "mapping", ATTRIBUTES),
    Entry(TREE, _GROUP, make_tree, build=set_tree),
    Entry(PREDICTOR, _GROUP, new=make_empty, build=set_predictor),
    *(Entry(name, _GROUP) for name in (*_TREES, *_DISTANCES)),
    Entry(_DISTANCE, _GROUP, _new_object, build=_set_distance),
    Entry("sklearn.neighbors._kd_tree.newObj", _GROUP, _new_object, build=_set_neighbours),
    Entry("sklearn.neighbors._ball_tree.newObj", _GROUP, _new_object, build=_set_neighbours),
)  # fmt: skip
