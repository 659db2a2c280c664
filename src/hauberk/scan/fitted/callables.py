"""What estimators keep that can be called: which objects, as which attributes, and made of what.

An attribute of an object is found before a method of its class, so what can be called may stand only where no method
is looked for. That holds for every format; a reader translates what its file holds into names.

Sources: scikit-learn 1.9 `_loss/loss.py`, `_loss/link.py`, `metrics/_scorer.py`.
"""

from __future__ import annotations


def _named(modules: dict[str, str]) -> frozenset[str]:
    return frozenset(f"sklearn.{module}.{name}" for module, names in modules.items() for name in names.split())


LOSSES = _named({
    "_loss.loss": (
        "HalfBinomialLoss HalfMultinomialLoss HalfSquaredError HalfPoissonLoss HalfGammaLoss HalfTweedieLoss"
        " HalfTweedieLossIdentity AbsoluteError PinballLoss HuberLoss ExponentialLoss"
    ),
})  # fmt: skip
"""Each has `is_multiclass` from its class, and a link."""
LINKS = _named({"_loss.link": "IdentityLink LogLink LogitLink HalfLogitLink MultinomialLogit"})
"""Each keeps the shape of what it is given, and has no attributes."""
SCORER = "sklearn.metrics._scorer._Scorer"
RESPONSES = frozenset({"predict", "predict_proba", "decision_function"})
"""Methods whose results a scorer hands to its metric."""
METRICS = _named({
    "metrics._classification": (
        "accuracy_score balanced_accuracy_score brier_score_loss cohen_kappa_score d2_brier_score d2_log_loss_score"
        " f1_score fbeta_score hamming_loss hinge_loss jaccard_score log_loss matthews_corrcoef precision_score"
        " recall_score zero_one_loss"
    ),
    "metrics._ranking": "average_precision_score dcg_score ndcg_score roc_auc_score top_k_accuracy_score",
    "metrics._regression": (
        "d2_absolute_error_score d2_pinball_score d2_tweedie_score explained_variance_score max_error"
        " mean_absolute_error mean_absolute_percentage_error mean_gamma_deviance mean_pinball_loss"
        " mean_poisson_deviance mean_squared_error mean_squared_log_error mean_tweedie_deviance median_absolute_error"
        " r2_score root_mean_squared_error root_mean_squared_log_error"
    ),
    "metrics._scorer": "negative_likelihood_ratio positive_likelihood_ratio",
    "metrics.cluster._supervised": (
        "adjusted_mutual_info_score adjusted_rand_score completeness_score fowlkes_mallows_score homogeneity_score"
        " mutual_info_score normalized_mutual_info_score rand_score v_measure_score"
    ),
})  # fmt: skip
"""Functions of two arrays, which a scorer calls."""

OWN_METHOD = "_raw_predict"
"""What histogram-based boosting sets to its own method of that name, once a metric has looked at its predictions."""

_SCORERS = frozenset({SCORER, "sklearn.metrics._scorer._PassthroughScorer"})
_PARTIAL = frozenset({"functools.partial"})
_CALLED = (
    "sklearn._loss.loss.",
    "sklearn.metrics.",
    "sklearn.gaussian_process.",
    "sklearn.compose._column_transformer.make_column_selector",
    "scipy.",
    "functools.partial",
    "builtins.getattr",
)
"""How names of classes begin whose objects can be called."""
_OBJECTS_AS: dict[str, frozenset[str]] = {
    **dict.fromkeys(("_loss", "_base_loss", "loss_"), LOSSES),
    **dict.fromkeys(("scoring", "scorer_", "_scorer"), _SCORERS),
    "func": _PARTIAL,
    OWN_METHOD: frozenset({"builtins.getattr"}),
}
"""Objects that can be called, by the attribute that holds one; none is the name of a method but `OWN_METHOD`."""
_FUNCTIONS_AS = frozenset({"score_func", "_score_func", "pooling_func", "_kmeans_single"})
_CLASSES_AS = ("dtype", "dtype_", "dtype_include", "dtype_exclude")
"""How attributes end that hold a class of numbers."""


def stands_for_method(attribute: str, name: str) -> bool:
    """Whether an object may be called where nothing but a method is expected.

    Args:
        attribute: That holds it.
        name: The module and name of its class.
    """
    return name.startswith(_CALLED) and name not in _OBJECTS_AS.get(attribute, ())


def name_stands_for_method(attribute: str) -> bool:
    """The same of a function or a class that is named, whichever it is.

    Args:
        attribute: That holds it.
    """
    return attribute not in _FUNCTIONS_AS and not attribute.endswith(_CLASSES_AS)
