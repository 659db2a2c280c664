"""Decision trees and their ensembles: whether native code can follow them outside themselves.

A tree asks for features, and trusts that its records have them; boosting writes each tree's results into a column, and
trusts that it is there. A single tree's estimator looks at the records, forests ask their estimators one by one, and
both kinds of boosting look for themselves. What they look at is attributes of the file, so these are held against one
another. An attribute that is called in place of a method would undo all of that (`callables`), and so would a tree
without its own estimator in front of it.

Sources: scikit-learn 1.9 `tree/_tree.pyx`, `tree/_classes.py`, `ensemble/_gb.py`, `ensemble/_gradient_boosting.pyx`,
`ensemble/_hist_gradient_boosting/` (`gradient_boosting.py`, `binning.py`, `_predictor.pyx`), `dummy.py`,
`compose/_column_transformer.py`, `preprocessing/_encoders.py`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from hauberk.scan.fitted.callables import LINKS, LOSSES, METRICS, RESPONSES, SCORER
from hauberk.scan.fitted.node_tables import Survey

TREE = "sklearn.tree._tree.Tree"
PREDICTOR = "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor"
OTHER = object()
"""What `Reader.plain` makes of anything but a plain value."""
LONGEST_FLAGS = 1024
"""Flags of a row that is looked at: one for each column of a model with categories."""
_BOOSTED = "sklearn.tree._classes.DecisionTreeRegressor"
_TREES = frozenset(
    f"sklearn.tree._classes.{kind}Tree{task}" for kind in ("Decision", "Extra") for task in ("Classifier", "Regressor")
)
_CLASSIFIER, _REGRESSOR = (f"sklearn.ensemble._gb.GradientBoosting{task}" for task in ("Classifier", "Regressor"))
HISTOGRAMS = frozenset(
    f"sklearn.ensemble._hist_gradient_boosting.gradient_boosting.HistGradientBoosting{task}"
    for task in ("Classifier", "Regressor")
)
_BINS = "sklearn.ensemble._hist_gradient_boosting.binning._BinMapper"
_PRIOR, _CONSTANT = (f"sklearn.dummy.Dummy{task}" for task in ("Classifier", "Regressor"))
_COLUMNS = "sklearn.compose._column_transformer.ColumnTransformer"
_ENCODER = "sklearn.preprocessing._encoders.OrdinalEncoder"
_FUNCTION = "sklearn.preprocessing._function_transformer.FunctionTransformer"
_CHECKS = "sklearn.utils.validation.check_array"
_SEVERAL = "sklearn._loss.loss.HalfMultinomialLoss"

JUDGED = _TREES | HISTOGRAMS | {_CLASSIFIER, _REGRESSOR, SCORER}
"""Classes that `judge` is for."""
HELD_AS: dict[str, str] = {**dict.fromkeys(_TREES, "tree_"), **dict.fromkeys(HISTOGRAMS, "_predictors")}
"""By class, the attribute as which alone a `Tree` may be held, or a `TreePredictor` in its lists."""
LOOKED_AT: dict[str, tuple[str, ...] | None] = {
    **dict.fromkeys(_TREES, ("tree_", "n_features_in_")),
    **dict.fromkeys((_CLASSIFIER, _REGRESSOR), ("estimators_", "init_", "n_trees_per_iteration_", "_loss")),
    **dict.fromkeys(HISTOGRAMS, ("_in_fit", "_predictors", "n_features_in_", "_preprocessor", "_bin_mapper")),
    _BINS: ("is_categorical_",),
    _PRIOR: ("class_prior_", "strategy", "_strategy", "n_outputs_"),
    _CONSTANT: ("n_outputs_",),
    _COLUMNS: ("transformers_", "transformer_weights", "feature_names_in_", "_transformer_to_input_indices"),
    _ENCODER: (),
    _FUNCTION: ("func",),
    SCORER: ("_score_func", "_sign", "_kwargs", "_response_method"),
    **dict.fromkeys(LOSSES, ("link", "is_multiclass")),
    **dict.fromkeys(LINKS),
}
"""Attributes that are looked at, by class; `None` for all of them. A reader needs to keep no others."""


class Doubt(NamedTuple):
    """What is held against a model.

    Attributes:
        what: In words.
        unsafe: It does lead outside; else it is not known to stay inside.
    """

    what: str
    unsafe: bool


LONE = Doubt("a tree on its own, which lets in records of any length", unsafe=False)
"""What is held against a `Tree` or a `TreePredictor` in any place but that of `HELD_AS`."""


class Fitted(NamedTuple):
    """An object with attributes.

    Attributes:
        name: Its class, with its module.
        attributes: What it has of those that are looked at, as the reader of the format keeps values.
    """

    name: str
    attributes: Mapping[str, object]


class Reader(Protocol):
    """Translates values of one format. Each method gives `None`, or nothing, for a value of another kind."""

    def plain(self, value: object) -> object:
        """`None`, a truth value, a number or a text; `OTHER` for anything else."""

    def items(self, value: object) -> Sequence[object] | None:
        """What is in a list or a tuple."""

    def mapping(self, value: object) -> Mapping[str, object] | None:
        """A dictionary of texts."""

    def objects(self, value: object) -> tuple[tuple[int, ...], Sequence[object]] | None:
        """Shape of an array of objects, and what is in it, the last dimension running fastest."""

    def is_array(self, value: object) -> bool:
        """Whether it is an array, of whatever; not something else that can be asked for its items."""

    def shape(self, value: object) -> tuple[int, ...] | None:
        """Shape of an array of numbers."""

    def flags(self, value: object, kinds: str) -> bytes | None:
        """A row of at most `LONGEST_FLAGS` items of one byte, whose type is of these numpy's letters."""

    def fitted(self, value: object) -> Fitted | None:
        """An object; one with an attribute that stands for a method (`callables`) is none."""

    def function(self, value: object) -> str:
        """The name of a function, with its module, that is kept and not called."""

    def partial(self, value: object) -> str:
        """The function, with its module, that a `functools.partial` calls with named arguments only."""

    def features(self, value: object) -> int | None:
        """Of a `Tree` of which nothing is held by `tree_doubt`."""

    def predictor(self, value: object) -> Survey | None:
        """Of a `TreePredictor` of which nothing is held by `predictor_doubt`."""


@dataclass(frozen=True, slots=True)
class Tree:
    """A `Tree`, in figures.

    Attributes:
        features: That it says it has.
        classes: Shape of the array with the number of classes of each output.
        outputs: That it says it has.
        count: Nodes that it says it has.
        depth: Levels that it says it has below the first node.
        nodes: Shape of the table of nodes.
        values: Shape of the array of values.
        survey: Of its nodes; `None` where they cannot be read.
    """

    features: int
    classes: tuple[int, ...]
    outputs: int
    count: int
    depth: int
    nodes: tuple[int, ...]
    values: tuple[int, ...]
    survey: Survey | None


def tree_doubt(tree: Tree) -> Doubt | None:
    """Whether predictions stay inside the tables of a `Tree`, and its way from node to node has an end."""
    if not 0 < tree.features < 1 << 31 or tree.outputs < 1 or tree.classes != (tree.outputs,):
        return Doubt("a tree with sizes that do not fit each other", unsafe=True)
    if tree.nodes != (tree.count,) or tree.values[:-1] != (tree.count, tree.outputs) or tree.values[-1] < 1:
        return Doubt(f"{tree.count} nodes in tables of {list(tree.nodes)} and {list(tree.values)}", unsafe=True)
    found = _followed(tree.survey, boosted=False)
    if isinstance(found, Doubt):
        return found
    if found.feature >= tree.features:
        return Doubt(f"a node that asks for feature {found.feature} of {tree.features}", unsafe=True)
    if not found.depth <= tree.depth <= tree.count:  # `decision_path` makes room for so many
        return Doubt(f"a tree of {found.depth} levels that says it has {tree.depth}", unsafe=True)
    return None


def predictor_doubt(survey: Survey | None, bitsets: Sequence[tuple[int, ...]]) -> Doubt | None:
    """The same of a `TreePredictor`, but for features, which its estimator makes sure of.

    Args:
        survey: Of its nodes.
        bitsets: Shapes of its tables of categories.
    """
    found = _followed(survey, boosted=True)
    if isinstance(found, Doubt):
        return found
    if any(len(shape) != 2 or shape[1] != 8 for shape in bitsets):
        return Doubt("sets of categories that are no sets of 256", unsafe=True)
    if found.category >= min(shape[0] for shape in bitsets):
        return Doubt(f"a node that asks for categories {found.category} of {bitsets[0][0]}", unsafe=True)
    return None


def _followed(survey: Survey | None, *, boosted: bool) -> Survey | Doubt:
    """A survey of the right kind of tree in which nothing is wrong, or what is."""
    if survey is None:
        return Doubt("a table of nodes that cannot be read", unsafe=False)
    if survey.problem:
        return Doubt(survey.problem, unsafe=True)
    return survey if survey.boosted is boosted else Doubt("a table of nodes of another kind of tree", unsafe=True)


def judge(model: Fitted, reader: Reader) -> Doubt | None:
    """What is held against an estimator of one of the classes `JUDGED`."""
    if model.name in _TREES:
        return _decision_tree(model, reader)
    if model.name in HISTOGRAMS:
        return _histogram_boosting(model, reader)
    return _scorer(model, reader) if model.name == SCORER else _boosting(model, reader)


def _decision_tree(model: Fitted, reader: Reader) -> Doubt | None:
    """It lets in records of as many features as its tree has, and no others."""
    tree = model.attributes.get("tree_")
    if _is_nothing(tree, reader):
        return None  # not fitted
    features, columns = reader.features(tree), _whole(model, "n_features_in_", reader)
    if features is None:
        return Doubt("a tree whose nodes are not known", unsafe=False)
    if columns is None:
        return Doubt("a tree that lets in records of any length", unsafe=False)
    if features != columns:
        return Doubt(f"a tree of {features} features that lets in records of {columns}", unsafe=True)
    return None


def _boosting(model: Fitted, reader: Reader) -> Doubt | None:
    """All trees have as many features as the first one, which looks at the records, and there is room for each."""
    steps = model.attributes.get("estimators_")
    if _is_nothing(steps, reader):
        return None
    found = reader.objects(steps)
    if found is None or len(found[0]) != 2 or not found[1]:
        return Doubt("boosting whose trees are not known", unsafe=False)
    (_, width), trees = found
    if (doubt := _steps_doubt(trees, reader)) is not None:
        return doubt
    room = _room(model, reader)
    if room is None or width > room:
        return Doubt(f"{width} trees in each step, whose results may find no room", unsafe=False)
    return None


def _steps_doubt(trees: Sequence[object], reader: Reader) -> Doubt | None:
    columns: set[int | None] = set()
    for each in trees:
        tree = reader.fitted(each)
        if tree is None or tree.name != _BOOSTED:
            return Doubt("boosting with anything but trees of numbers", unsafe=True)
        known = reader.features(tree.attributes.get("tree_")) is not None
        columns.add(_whole(tree, "n_features_in_", reader) if known else None)
    if None in columns:
        return Doubt("boosting with trees that let in records of any length", unsafe=False)
    return Doubt("boosting with trees of other features", unsafe=True) if len(columns) > 1 else None


def _room(model: Fitted, reader: Reader) -> int | None:
    """Columns of the first guess, which results are added to; `None` where they are not known."""
    guess = model.attributes.get("init_")
    if reader.plain(guess) == "zero":
        return _whole(model, "n_trees_per_iteration_", reader)
    first, loss = reader.fitted(guess), _loss(model.attributes.get("_loss"), reader)
    if first is None or not loss or _whole(first, "n_outputs_", reader) != 1:
        return None
    if model.name == _REGRESSOR:
        return 1 if first.name == _CONSTANT else None
    shape = reader.shape(first.attributes.get("class_prior_"))
    said = {reader.plain(first.attributes.get(name)) for name in ("strategy", "_strategy")}
    if first.name != _PRIOR or shape is None or len(shape) != 1 or said != {"prior"}:
        return None
    return shape[0] if loss == _SEVERAL else 1


def _loss(value: object, reader: Reader) -> str:
    """The class of a loss whose link keeps the shape of a first guess; nothing where it is none."""
    loss = reader.fitted(value)
    if loss is None or loss.name not in LOSSES or "is_multiclass" in loss.attributes:
        return ""
    link = reader.fitted(loss.attributes.get("link"))
    return loss.name if link is not None and link.name in LINKS and not link.attributes else ""


def _scorer(model: Fitted, reader: Reader) -> Doubt | None:
    """It calls a metric with plain options, on what an estimator predicts."""
    metric, sign = reader.function(model.attributes.get("_score_func")), model.attributes.get("_sign")
    options = reader.mapping(model.attributes.get("_kwargs"))
    method = model.attributes.get("_response_method")
    methods = [reader.plain(each) for each in reader.items(method) or (method,)]
    if metric not in METRICS or type(reader.plain(sign)) is not int or not RESPONSES.issuperset(methods):
        return Doubt("a scorer by anything but a metric", unsafe=False)
    if options is None or any(reader.plain(each) is OTHER for each in options.values()):
        return Doubt("a scorer with options that are no plain values", unsafe=False)
    return None


def _histogram_boosting(model: Fitted, reader: Reader) -> Doubt | None:
    """No tree asks for a feature beyond those that the estimator makes sure of, nor for categories of another one."""
    steps = model.attributes.get("_predictors")
    surveys = [
        reader.predictor(tree)
        for step in (() if _is_nothing(steps, reader) else _listed(steps, reader))
        for tree in _listed(step, reader)
    ]
    if "_in_fit" in model.attributes and reader.plain(model.attributes["_in_fit"]) is not False:
        return Doubt("a model that says it is being fitted, and does not look at records", unsafe=True)
    columns = _columns(model, reader)
    if surveys and (columns is None or None in surveys):
        return Doubt("boosting that lets in records of any length", unsafe=False)
    highest = max((found.feature for found in surveys if found is not None), default=-1)
    if columns is not None and highest >= columns:
        return Doubt(f"a tree that asks for feature {highest} of {columns}", unsafe=True)
    if any(found.category >= 0 for found in surveys if found is not None):
        return _categories_doubt(model, columns or 0, reader)
    return None


def _categories_doubt(model: Fitted, columns: int, reader: Reader) -> Doubt | None:
    """A split by categories looks up its column in a table of all columns, then in one of those with categories."""
    bins = reader.fitted(model.attributes.get("_bin_mapper"))
    told = bins.attributes.get("is_categorical_") if bins is not None and bins.name == _BINS else None
    if (flags := reader.flags(told, "bu")) is None:
        return Doubt("splits by categories of columns that are not known", unsafe=False)
    if len(flags) != columns or not any(flags):
        return Doubt(f"splits by categories of {columns} columns, where {len(flags)} are told apart", unsafe=True)
    return None


def _columns(model: Fitted, reader: Reader) -> int | None:
    """How many columns of a record trees see: what was let in, or what was made of it."""
    prepared = model.attributes.get("_preprocessor")
    if _is_nothing(prepared, reader):
        return _whole(model, "n_features_in_", reader)
    maker = reader.fitted(prepared)
    if maker is None or maker.name != _COLUMNS or not _is_nothing(maker.attributes.get("transformer_weights"), reader):
        return None
    return _made_columns(maker, reader)


def _made_columns(maker: Fitted, reader: Reader) -> int | None:
    """Columns that come out of one that encodes some, checks others, and adds or leaves out none.

    Records are cut by a mask of columns, which must fit them; those of a data frame by names, which stand elsewhere:
    as many as there are places, if an array is asked for them.
    """
    named = "feature_names_in_" in maker.attributes
    if named and not reader.is_array(maker.attributes["feature_names_in_"]):
        return None
    places = reader.mapping(maker.attributes.get("_transformer_to_input_indices")) if named else None
    total = 0
    for step in _listed(maker.attributes.get("transformers_"), reader):
        name, transformer, mask = parts if len(parts := _items(step, reader)) == 3 else (OTHER,) * 3
        if reader.plain(transformer) == "drop":
            continue
        flags = reader.flags(mask, "b")
        if flags is None or flags.strip(b"\0\1") or not _keeps_columns(transformer, reader):
            return None
        count, label = flags.count(1), reader.plain(name)
        if named and not (isinstance(label, str) and _are_places((places or {}).get(label), count, reader)):
            return None
        total += count
    return total


def _are_places(value: object, count: int, reader: Reader) -> bool:
    places = _items(value, reader)
    return len(places) == count and all(type(reader.plain(each)) is int for each in places)


def _keeps_columns(transformer: object, reader: Reader) -> bool:
    """Whether it gives as many columns as it takes."""
    found = reader.fitted(transformer)
    if found is None or found.name != _FUNCTION:
        return found is not None and found.name == _ENCODER
    function = found.attributes.get("func")
    return _is_nothing(function, reader) or reader.partial(function) == _CHECKS


def _whole(model: Fitted, name: str, reader: Reader) -> int | None:
    value = reader.plain(model.attributes.get(name))
    return value if type(value) is int and value >= 0 else None


def _is_nothing(value: object, reader: Reader) -> bool:
    return value is None or reader.plain(value) is None


def _items(value: object, reader: Reader) -> Sequence[object]:
    """What is in a list; nothing where it is none."""
    return reader.items(value) or ()


def _listed(value: object, reader: Reader) -> Sequence[object]:
    """What is in a list; something unknown where it is none."""
    found = reader.items(value)
    return (OTHER,) if found is None else found
