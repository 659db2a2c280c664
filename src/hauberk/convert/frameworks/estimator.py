"""scikit-learn models from `.skops` archives, converted by skl2onnx to a graph with one output.

Of a classifier that is the decision function where it has one (log-odds, or logits), else the logarithm of its
probabilities: a softmax over these gives the probabilities again, so that the rest of the house, which works on logits,
sees the same model. Of an outlier detector it is the decision function with its sign turned: above 0 is an outlier. Of
a regressor it is the prediction.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import skl2onnx
import sklearn
import skops
import skops.io
from numpy.typing import NDArray
from skl2onnx.common.data_types import FloatTensorType

from hauberk.convert.frameworks.one_output import TINY, Way, keep_one_output, track_missing
from hauberk.convert.inside import Feeds
from hauberk.errors import InputError, RefusedModelError, one_line
from hauberk.graph.model import IR_VERSION, OPSET
from hauberk.scan.frameworks.skops import listed_types

# The scan says "unknown" of it, because its code follows indices unchecked: what an isolated process is there for.
_CONTAINED = {"sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor"}


class Estimator:
    """A fitted estimator or pipeline that takes rows of numbers."""

    def __init__(self, model: bytes) -> None:
        self.version = f"scikit-learn {sklearn.__version__}, skops {skops.__version__}"
        unknown = set(skops.io.get_untrusted_types(data=model))
        if foreign := sorted(unknown - listed_types() - _CONTAINED):
            raise RefusedModelError(f"refused: it asks for {', '.join(foreign[:3])[:200]}")
        self._estimator: Any = skops.io.loads(model, trusted=sorted(unknown))
        width = getattr(self._estimator, "n_features_in_", None)
        if not hasattr(self._estimator, "predict") or not isinstance(width, int):
            raise InputError(f"{type(self._estimator).__name__} is no fitted model that takes rows of numbers")
        self._width = width
        self._way = _way_of(self._estimator)
        self.notes: tuple[str, ...] = ()

    def convert(self) -> tuple[bytes, tuple[str, ...]]:
        """The graph: `features` float32 [batch, D] to one output [batch, K]."""
        proto = self._converted()
        feeds: Feeds = {"features": np.random.default_rng(0).normal(size=(64, self._width)).astype(np.float32)}
        keep_one_output(proto, self._way, feeds, self.answer(feeds)[0])
        notes = track_missing(proto, _trees_of(_last(self._estimator)))
        proto.ir_version = IR_VERSION
        return proto.SerializeToString(), (self._told(), *notes)

    def answer(self, feeds: Feeds) -> list[NDArray[np.generic]]:
        """What scikit-learn itself answers, in the terms of the graph, float32 [N, K]."""
        (features,) = feeds.values()
        estimator = self._estimator
        if self._way == "probabilities":
            values = np.log(np.maximum(estimator.predict_proba(features), TINY))
        elif self._way == "prediction":
            values = estimator.predict(features)
        else:
            values = estimator.decision_function(features)
        values = -values if self._way == "outlier" else values
        with np.errstate(over="ignore"):
            return [np.asarray(values).astype(np.float32).reshape(len(features), -1)]

    def _converted(self) -> onnx.ModelProto:
        """What skl2onnx makes of it; where it has no raw scores for a classifier, its probabilities."""
        if self._way not in ("decision", "probabilities"):
            return self._call({})
        ways: tuple[dict[str, bool], ...] = ({"zipmap": False, "raw_scores": True}, {"raw_scores": True})
        if self._way == "decision":
            for options in ways:
                try:
                    return self._call(options)
                except NameError:  # this is how skl2onnx says that it does not know an option
                    continue
            if not hasattr(self._estimator, "predict_proba"):
                raise InputError("skl2onnx gives no scores of it")
            self._way = "probabilities"
        try:
            return self._call({"zipmap": False})
        except NameError as error:
            raise InputError(f"skl2onnx gives no probabilities of it: {one_line(error)}") from error

    def _call(self, options: dict[str, bool]) -> onnx.ModelProto:
        try:
            proto: onnx.ModelProto = skl2onnx.convert_sklearn(
                self._estimator,
                initial_types=[("features", FloatTensorType([None, self._width]))],
                options={id(_last(self._estimator)): options} if options else None,
                target_opset={"": min(OPSET, _newest()), "ai.onnx.ml": 3},
            )
            return proto  # noqa: TRY300 - an else would stand far from what it belongs to
        except NameError:
            raise
        except Exception as error:  # its converters raise anything
            raise InputError(f"skl2onnx does not convert it: {type(error).__name__}: {one_line(error)}") from error

    def _told(self) -> str:
        classes = getattr(self._estimator, "classes_", None)
        names = "" if classes is None else ", ".join(str(each) for each in classes[:20])
        said = {
            "decision": f"the decision function (classes {names})",
            "probabilities": f"the logarithm of the probabilities (classes {names}), compared as probabilities",
            "outlier": "the decision function with its sign turned: above 0 is an outlier",
            "prediction": "the prediction, which decides nothing by itself",
        }[self._way]
        return f"{type(self._estimator).__name__}; the output is {said}"


def _newest() -> int:
    return int(skl2onnx.__max_supported_opset__)


def _way_of(estimator: Any) -> Way:
    if getattr(estimator, "_estimator_type", "") == "outlier_detector" or _is(estimator, "outlier_detector"):
        return "outlier"
    if hasattr(estimator, "classes_"):
        return "decision" if hasattr(estimator, "decision_function") else "probabilities"
    return "prediction"


def _is(estimator: Any, kind: str) -> bool:
    tags = sklearn.utils.get_tags(estimator)
    return getattr(tags, "estimator_type", None) == kind


def _last(estimator: Any) -> Any:
    """The last step of a pipeline, or the estimator itself."""
    steps = getattr(estimator, "steps", None)
    return _last(steps[-1][1]) if steps else estimator


def _trees_of(estimator: Any) -> list[Any]:
    """The decision trees that an estimator is made of, in its order; none where it is of another kind."""
    if hasattr(estimator, "tree_"):
        return [estimator.tree_]
    inner = getattr(estimator, "estimators_", None)
    if inner is None:
        return []
    found = [getattr(each, "tree_", None) for each in np.asarray(inner, dtype=object).reshape(-1)]
    return [] if any(each is None for each in found) else found
