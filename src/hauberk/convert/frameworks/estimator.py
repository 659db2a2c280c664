"""scikit-learn models from `.skops` archives, converted by skl2onnx to a graph with one output.

Of a classifier that is the decision function where it has one (log-odds, or logits), else the logarithm of its
probabilities: a softmax over these gives the probabilities again, so that the rest of the house, which works on logits,
sees the same model. Of an outlier detector it is the decision function with its sign turned: above 0 is an outlier. Of
a regressor it is the prediction.

skl2onnx is not right about every estimator. What it makes is asked about a few records at once, and where it answers
otherwise than scikit-learn the next way is tried: probabilities in place of scores.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import onnx
import skl2onnx
import sklearn
import sklearn.base
import skops
import skops.io
from numpy.typing import NDArray
from onnx import compose
from skl2onnx.common.data_types import FloatTensorType

from hauberk.convert.frameworks.histograms import histogram_graph, is_histogram
from hauberk.convert.frameworks.one_output import TINY, Way, keep_one_output, run
from hauberk.convert.frameworks.repairs import compare_categories, keep_scores, track_missing
from hauberk.convert.inside import Feeds
from hauberk.errors import InputError, RefusedModelError, one_line
from hauberk.graph.model import IR_VERSION, OPSET
from hauberk.scan.frameworks.skops_names import UNCHECKED_TYPES, listed_types, types_of_loaders

_PROBED = 64
"""Records on which a graph is held against the estimator before it is called a graph of it."""
_MOST_UNLIKE = 1
"""A record may lie so close to a threshold of a tree that it passes it in float32 and not in float64; that two of 64 do
is no such chance."""
_CLOSE = 1e-3
"""Kernels summed in float32 over columns that were not scaled lose up to 3e-4; what is wrong differs by 0.02
and more."""


class Estimator:
    """A fitted estimator or pipeline that takes rows of numbers."""

    def __init__(self, model: bytes) -> None:
        self.version = f"scikit-learn {sklearn.__version__}, skops {skops.__version__}"
        unknown = set(skops.io.get_untrusted_types(data=model))
        # The scan looked at every node. Of types whose compiled code follows indices unchecked it says "unknown",
        # which is what an isolated process is there for.
        foreign = sorted(
            name for name in unknown - listed_types() - types_of_loaders() if not name.startswith(UNCHECKED_TYPES)
        )
        if foreign:
            raise RefusedModelError(f"refused: it asks for {', '.join(foreign[:3])[:200]}")
        self._estimator: Any = skops.io.loads(model, trusted=sorted(unknown))
        width = getattr(self._estimator, "n_features_in_", None)
        if not hasattr(self._estimator, "predict") or not isinstance(width, int):
            raise InputError(f"{type(self._estimator).__name__} is no fitted model that takes rows of numbers")
        self._steps = _steps(self._estimator)
        if hasattr(last := self._steps[-1], "flatten_transform"):
            last.flatten_transform = False  # which skl2onnx asks for, and predictions do not look at
        self._width = width
        self._way = _way_of(self._estimator)
        self.notes: tuple[str, ...] = ()

    def convert(self) -> tuple[bytes, tuple[str, ...]]:
        """The graph: `features` float32 [batch, D] to one output [batch, K]."""
        feeds = self._probe()
        _require_one_answer(self._estimator, feeds["features"])
        failure: InputError | None = None
        for way, options in self._attempts():
            self._way = way
            try:
                proto = self._converted(options)
                keep_one_output(proto, way, feeds, self.answer(feeds)[0])
                notes = track_missing(proto, _trees_of(self._estimator))
                self._require_like(proto, feeds)
            except NameError:  # this is how skl2onnx says that it does not know an option
                continue
            except InputError as error:
                failure = failure or error
                continue
            proto.ir_version = IR_VERSION
            return proto.SerializeToString(), (self._told(), *notes)
        raise failure or InputError("skl2onnx gives neither scores nor probabilities of it")

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

    def _probe(self) -> Feeds:
        """Some records that the estimator takes.

        Training did not see them: a threshold may lie exactly at a record that it saw, where every rounding decides.
        """
        drawn = np.random.default_rng([_PROBED, self._width]).normal(size=(_PROBED, self._width)).astype(np.float32)
        failure = Exception()
        for features in (drawn, np.abs(drawn), np.zeros_like(drawn)):
            try:
                self._estimator.predict(features)
            except Exception as error:  # noqa: BLE001 - estimators raise anything on numbers that they do not take
                failure = error
                continue
            return {"features": features}
        raise InputError(f"it takes no rows of numbers: {one_line(failure)}")

    def _attempts(self) -> Iterator[tuple[Way, dict[str, bool]]]:
        """What skl2onnx is asked for, the best first; our own trees give one answer and take no options."""
        if self._way not in ("decision", "probabilities") or is_histogram(self._steps[-1]):
            yield self._way, {}
            return
        if self._way == "decision":
            yield "decision", {"zipmap": False, "raw_scores": True}
            yield "decision", {"raw_scores": True}
        if hasattr(self._estimator, "predict_proba"):
            yield "probabilities", {"zipmap": False}

    def _converted(self, options: dict[str, bool]) -> onnx.ModelProto:
        """What skl2onnx makes of it, put right where it is known to be wrong."""
        if is_histogram(self._steps[-1]):
            return self._with_histograms()
        proto = self._call(self._steps, options)
        compare_categories(proto)
        if self._way == "decision":
            keep_scores(proto)
        return proto

    def _with_histograms(self) -> onnx.ModelProto:
        """Our own trees behind what skl2onnx makes of the steps before them."""
        *before, last = self._steps
        trees = compose.add_prefix(histogram_graph(last), "trees_", rename_inputs=False)
        if not before:
            return trees
        prepared = self._call(before, {})
        compare_categories(prepared)
        for entry in trees.opset_import:  # both graphs in one have one version of each domain
            entry.version = max(
                [entry.version, *(o.version for o in prepared.opset_import if o.domain == entry.domain)]
            )
        del prepared.opset_import[:]
        prepared.opset_import.extend(trees.opset_import)
        prepared.ir_version = trees.ir_version
        prepared = compose.add_prefix(prepared, "steps_", rename_inputs=False)
        return compose.merge_models(
            prepared, _renamed_input(trees), io_map=[(prepared.graph.output[-1].name, "prepared")]
        )

    def _call(self, steps: Sequence[Any], options: dict[str, bool]) -> onnx.ModelProto:
        """What skl2onnx makes of these steps, one behind the other."""
        named = [(f"step_{number}", step) for number, step in enumerate(steps)]
        estimator = steps[0] if len(steps) == 1 else sklearn.pipeline.Pipeline(named)
        try:
            proto: onnx.ModelProto = skl2onnx.convert_sklearn(
                estimator,
                initial_types=[("features", FloatTensorType([None, self._width]))],
                options={id(steps[-1]): options} if options else None,
                target_opset={"": min(OPSET, _newest()), "ai.onnx.ml": 3},
            )
            return proto  # noqa: TRY300 - an else would stand far from what it belongs to
        except NameError:
            raise
        except Exception as error:  # its converters raise anything
            raise InputError(f"skl2onnx does not convert it: {type(error).__name__}: {one_line(error)}") from error

    def _require_like(self, proto: onnx.ModelProto, feeds: Feeds) -> None:
        """See that the graph answers as the estimator does, but for one tie; the comparison proper comes later.

        Raises:
            InputError: It does not.
        """
        found, wanted = run(proto, proto.graph.output[0].name, feeds), self.answer(feeds)[0].astype(np.float64)
        if self._way == "probabilities":
            found, wanted = np.exp(found), np.exp(wanted)
        close = found.shape == wanted.shape and np.isclose(found, wanted, rtol=_CLOSE, atol=_CLOSE, equal_nan=True)
        unlike = _PROBED - int(np.all(close, axis=-1).sum())
        if unlike > _MOST_UNLIKE:
            raise InputError(
                f"the graph of {type(self._steps[-1]).__name__} answers {unlike} of {_PROBED} records otherwise than"
                " scikit-learn does"
            )

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


def _renamed_input(proto: onnx.ModelProto) -> onnx.ModelProto:
    """The trees with `prepared` as their input, so that the merged graph has one tensor called `features`."""
    for node in proto.graph.node:
        node.input[:] = ["prepared" if name == "features" else name for name in node.input]
    proto.graph.input[0].name = "prepared"
    return proto


def _newest() -> int:
    return int(skl2onnx.__max_supported_opset__)


def _way_of(estimator: Any) -> Way:
    """What the output is made of.

    Raises:
        InputError: It is neither a classifier, nor a regressor, nor an outlier detector.
    """
    if sklearn.base.is_outlier_detector(estimator):
        return "outlier"
    if sklearn.base.is_classifier(estimator):
        return "decision" if hasattr(estimator, "decision_function") else "probabilities"
    if sklearn.base.is_regressor(estimator):
        return "prediction"
    raise InputError(f"{type(_last(estimator)).__name__} is no classifier, regressor or outlier detector")


def _require_one_answer(estimator: Any, features: NDArray[np.generic]) -> None:
    """Refuse labels that do not exclude each other, which the rest of the house would take for classes.

    Raises:
        InputError: The estimator gives several labels a record.
    """
    predicted = np.asarray(estimator.predict(features))
    if sklearn.base.is_classifier(estimator) and predicted.ndim > 1 and predicted.shape[1] > 1:
        raise InputError(f"it gives a record {predicted.shape[1]} labels; train and convert one model a label")


def _steps(estimator: Any) -> list[Any]:
    """The steps of a pipeline, and in their place those of every pipeline in it; or the estimator itself."""
    steps = getattr(estimator, "steps", None)
    if not steps:
        return [estimator]
    return [each for _, step in steps if step not in (None, "passthrough") for each in _steps(step)]


def _last(estimator: Any) -> Any:
    """What a pipeline ends with, or the estimator itself."""
    return _steps(estimator)[-1]


def _trees_of(estimator: Any) -> list[Any]:
    """The decision trees that an estimator is made of, in its order; their sizes tell whether it is the graph's."""
    last = _last(estimator)
    return [last.tree_] if hasattr(last, "tree_") else [tree for part in _parts(last) for tree in _trees_of(part)]


def _parts(estimator: Any) -> list[Any]:
    """The fitted estimators that an estimator asks, in the order of its graph."""
    if hasattr(estimator, "estimators_"):  # a forest, boosting (an array, a column a class), votes, stacking
        found = estimator.estimators_
        asked = found.ravel().tolist() if isinstance(found, np.ndarray) else list(found)
        return asked + _held(estimator, "final_estimator_")  # what stacking asks about the answers of the others
    if hasattr(estimator, "calibrated_classifiers_"):  # one a fold; their `estimator` is a template, never fitted
        return list(estimator.calibrated_classifiers_)
    return _held(estimator, "estimator")  # what one fold of a calibration holds


def _held(estimator: Any, name: str) -> list[Any]:
    return [getattr(estimator, name)] if hasattr(estimator, name) else []
