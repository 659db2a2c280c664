"""scikit-learn's trees in pickles, and the ensembles whose native code follows trees without looking.

A single tree asks for no feature beyond those that it says it has, its estimator says the same number and holds the
records to it. Forests ask their estimators one by one; boosting does not.

Sources: scikit-learn 1.9 `tree/_tree.pyx`, `tree/_classes.py`, `ensemble/_gb.py`, `ensemble/_gradient_boosting.pyx`,
`ensemble/_hist_gradient_boosting/gradient_boosting.py` and `_predictor.pyx`, `dummy.py`.
"""

from __future__ import annotations

from hauberk.scan.pickles import rules
from hauberk.scan.pickles.arrays import Array, elements
from hauberk.scan.pickles.entries import Context, Entry, Objection, check_attributes, is_made
from hauberk.scan.pickles.node_tables import check_nodes
from hauberk.scan.pickles.values import Made

TREE = "sklearn.tree._tree.Tree"
PREDICTOR = "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor"
_DUMMY = "sklearn.dummy.DummyClassifier"
_OUTPUT = 512  # bytes that take as long to copy as to read how many classes an output has
_ITEM = 64
_SEVERAL = "sklearn._loss.loss.HalfMultinomialLoss"


def make_tree(entry: Entry, arguments: tuple[object, ...], context: Context) -> Made:
    """A tree of so many features, classes and outputs, whose nodes come after."""
    match arguments:
        case (int(features), Made(detail=Array() as classes), int(outputs)):
            context.copies(_OUTPUT * max(outputs, 0))
            if 0 < features < 1 << 31 and classes.shape == (outputs,) and not classes.dtype.objects:
                return Made(entry, features)
    raise Objection("a tree with sizes that do not fit each other")


def set_tree(made: Made, state: object, context: Context) -> None:
    """Its nodes and values, once; they are copied."""
    if made.ready:
        raise Objection("sets the state of a tree twice", rules.MEMORY)
    given = check_attributes(state)
    assert isinstance(made.detail, int)  # noqa: S101 - from `make_tree`
    match given:
        case {
            "nodes": Made(detail=Array() as nodes),
            "values": Made(detail=Array() as values),
            "node_count": int(count),
            "max_depth": int(depth),
        }:
            context.copies(sum(elements(each.dtype, each.shape) * each.dtype.itemsize for each in (nodes, values)))
            if nodes.shape != (count,) or len(values.shape) != 3 or values.shape[0] != count:
                raise Objection(
                    f"{count} nodes in tables of {list(nodes.shape)} and {list(values.shape)}", rules.BOUNDS
                )
            check_nodes(nodes, made.detail, context, deepest=depth)
        case _:
            raise Objection("a tree without its nodes", rules.BUILD)


def set_predictor(made: Made, state: object, context: Context) -> None:
    """Nodes and categories of a tree of histogram-based boosting, once."""
    if made.ready:
        raise Objection("sets the state of a tree twice", rules.MEMORY)
    match check_attributes(state):
        case {
            "nodes": Made(detail=Array() as nodes),
            "binned_left_cat_bitsets": Made(detail=Array(shape=(binned, 8)) as first),
            "raw_left_cat_bitsets": Made(detail=Array(shape=(raw, 8)) as second),
            **others,
        } if not others and {(each.dtype.kind, each.dtype.itemsize) for each in (first, second)} == {("u", 4)}:
            context.copies(elements(nodes.dtype, nodes.shape) * nodes.dtype.itemsize)  # where its numbers are others
            made.detail = check_nodes(nodes, 1 << 31, context, categories=min(binned, raw))
        case _:
            raise Objection("a tree without its nodes and categories", rules.BUILD)


def check_decision_tree(made: Made, given: dict[str, object], _: Context) -> None:
    """A decision tree's estimator lets in records of as many features as its tree has, and no others."""
    tree, features = given.get("tree_"), given.get("n_features_in_")
    if tree is None:
        return
    if type(tree) is not Made or not is_made(tree, TREE):
        raise Objection("a tree that is none", rules.BUILD)
    if not tree.ready:  # or what its nodes are was not known
        raise Objection("a tree whose nodes are not known", rules.UNCHECKED)
    if type(features) is not int:
        raise Objection("a tree that lets in records of any length", rules.UNCHECKED)
    if features != tree.detail:
        raise Objection(f"a tree of {tree.detail} features that lets in records of {features}", rules.MEMORY)
    made.detail = features


def check_dummy(made: Made, given: dict[str, object], _: Context) -> None:
    """What always answers the same: how many classes it gives where nobody looks."""
    match given:
        case {"class_prior_": Made(detail=Array(shape=(classes,))), "strategy": "prior", "_strategy": "prior"}:
            made.detail = classes


def check_boosting(_: Made, given: dict[str, object], context: Context) -> None:
    """All trees have as many features as the first one, which looks at the records, and there is room for each."""
    match given.get("estimators_"):
        case None:
            return
        case Made(detail=Array(shape=(_, width), source=tuple(trees))) if trees:
            pass
        case _:
            raise Objection("boosting whose trees were not kept", rules.UNCHECKED)
    context.copies(len(trees) * _ITEM)
    features = {tree.detail if type(tree) is Made else None for tree in trees}
    if len(features) > 1 or not all(is_made(tree, "sklearn.tree._classes.DecisionTreeRegressor") for tree in trees):
        raise Objection("boosting with trees of other features", rules.MEMORY)
    if None in features:
        raise Objection("boosting with trees that let in records of any length", rules.UNCHECKED)
    first = given.get("init_")
    room = given.get("n_trees_per_iteration_") if first == "zero" else None
    if type(first) is Made and is_made(first, _DUMMY) and is_made(given.get("_loss"), _SEVERAL):
        room = first.detail
    if width not in {1, room}:
        raise Objection(f"{width} trees in each step, whose results may find no room", rules.UNCHECKED)


def check_histogram_boosting(_: Made, given: dict[str, object], context: Context) -> None:
    """No tree asks for a feature beyond those that the estimator makes sure of."""
    if given.get("_in_fit", False) is not False:
        raise Objection("a model that says it is being fitted, and does not look at records", rules.MEMORY)
    steps, features = given.get("_predictors"), given.get("n_features_in_")
    if steps is None or given.get("_preprocessor") is not None:
        return

    def check() -> None:
        for step in _items(steps, context):
            for tree in _items(step, context):
                asked = tree.detail if type(tree) is Made and is_made(tree, PREDICTOR) else None
                if type(features) is not int or type(asked) is not int:
                    raise Objection("boosting that lets in records of any length", rules.UNCHECKED)
                if asked >= features:
                    raise Objection(f"a tree that asks for feature {asked} of {features}", rules.MEMORY)

    context.at_end(check)  # the lists may grow until then


def _items(steps: object, context: Context) -> list[object]:
    if type(steps) is list:
        context.copies(len(steps) * _ITEM)
        return steps
    raise Objection("steps of boosting that are no list", rules.UNCHECKED)
