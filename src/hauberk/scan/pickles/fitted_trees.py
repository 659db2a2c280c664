"""scikit-learn's trees and their ensembles in pickles: what the machine keeps of them, and what is held against it.

What is asked of them stands in `hauberk.scan.fitted`, for all formats; here values of the machine are translated.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from hauberk.scan.fitted.node_tables import Survey
from hauberk.scan.fitted.trees import (
    HELD_AS,
    JUDGED,
    LONE,
    LONGEST_FLAGS,
    LOOKED_AT,
    OTHER,
    PREDICTOR,
    TREE,
    Doubt,
    Fitted,
    Tree,
    judge,
    predictor_doubt,
    tree_doubt,
)
from hauberk.scan.pickles import rules
from hauberk.scan.pickles.arrays import Array, elements
from hauberk.scan.pickles.entries import Context, Entry, Objection, check_attributes, is_made
from hauberk.scan.pickles.given import everything_in
from hauberk.scan.pickles.node_tables import survey
from hauberk.scan.pickles.values import Made, Name
from hauberk.scan.pickles.values import Mapping as Dictionary

_OUTPUT = 512  # bytes that take as long to copy as to read how many classes an output has
_ITEM = 64
_PLAIN = frozenset({type(None), bool, int, float, str})
_CHECKED = "sklearn.utils.validation.check_array"
_SETS = {("u", 4)}
_NATIVE = frozenset({TREE, PREDICTOR})


def make_tree(entry: Entry, arguments: tuple[object, ...], context: Context) -> Made:
    """A tree of so many features, classes and outputs, whose nodes come after."""
    match arguments:
        case (int(features), Made(detail=Array(dtype=dtype, shape=classes)), int(outputs)) if (
            classes == (outputs,) and not dtype.objects
        ):
            context.copies(_OUTPUT * outputs)
            context.at_end(lambda: _check_places(context), key=_NATIVE)
            return Made(entry, (features, classes, outputs))
    raise Objection("a tree with sizes that do not fit each other")


def set_tree(made: Made, state: object, context: Context) -> None:
    """Its nodes and values, once; they are copied."""
    if made.ready:
        raise Objection("sets the state of a tree twice", rules.MEMORY)
    match check_attributes(state), made.detail:
        case (
            {
                "nodes": Made(detail=Array() as nodes),
                "values": Made(detail=Array() as values),
                "node_count": int(count),
                "max_depth": int(depth),
            },
            (int(features), tuple() as classes, int(outputs)),
        ):
            context.copies(sum(elements(each.dtype, each.shape) * each.dtype.itemsize for each in (nodes, values)))
            found = nodes.survey or survey(nodes, context)
            tree = Tree(features, classes, outputs, count, depth, nodes.shape, values.shape, found)
            _object_to(tree_doubt(tree))
            made.detail = features
        case _:
            raise Objection("a tree without its nodes", rules.BUILD)


def set_predictor(made: Made, state: object, context: Context) -> None:
    """Nodes and categories of a tree of histogram-based boosting, once."""
    if made.ready:
        raise Objection("sets the state of a tree twice", rules.MEMORY)
    match check_attributes(state):
        case {
            "nodes": Made(detail=Array() as nodes),
            "binned_left_cat_bitsets": Made(detail=Array() as first),
            "raw_left_cat_bitsets": Made(detail=Array() as second),
            **others,
        } if not others and {(each.dtype.kind, each.dtype.itemsize) for each in (first, second)} == _SETS:
            context.copies(elements(nodes.dtype, nodes.shape) * nodes.dtype.itemsize)  # where its numbers are others
            found = nodes.survey or survey(nodes, context)
            _object_to(predictor_doubt(found, (first.shape, second.shape)))
            made.detail = found
            context.at_end(lambda: _check_places(context), key=_NATIVE)
        case _:
            raise Objection("a tree without its nodes and categories", rules.BUILD)


def keep_attributes(made: Made, given: dict[str, object], context: Context) -> None:
    """What is looked at of an estimator, at the end: its lists may grow until then."""
    names = LOOKED_AT[made.entry.name]
    made.detail = attributes = given if names is None else {name: given[name] for name in names if name in given}
    if made.entry.name in JUDGED:
        context.at_end(lambda: _object_to(judge(Fitted(made.entry.name, attributes), _Reader(context))))


def _check_places(context: Context) -> None:
    """Look at everything that was given to anything: only its own estimator may hold a native tree.

    What a list or a dictionary holds is looked at now, when it holds all that it ever will; one that an estimator holds
    its trees by must stand nowhere else.
    """
    rest: list[object] = []
    for holder, given in context.given:
        attribute = HELD_AS.get(holder.entry.name) if type(holder) is Made else None
        if attribute is None or type(given) is not Dictionary:
            rest.append(given)
        else:
            rest += [each for name, value in given.items_of() for each in (name, value) if name != attribute]
    for value in everything_in(rest, context.reporter):
        if type(value) is Made and value.entry.name in _NATIVE:
            _object_to(LONE)


def _object_to(doubt: Doubt | None) -> None:
    if doubt is not None:
        raise Objection(doubt.what, rules.MEMORY if doubt.unsafe else rules.UNCHECKED)


class _Reader:
    """The machine's values, for `hauberk.scan.fitted`."""

    def __init__(self, context: Context) -> None:
        self._copies: Callable[[int], None] = context.copies

    def plain(self, value: object) -> object:
        return value if type(value) in _PLAIN else OTHER

    def items(self, value: object) -> Sequence[object] | None:
        if type(value) is list or type(value) is tuple:
            self._copies(len(value) * _ITEM)
            return value
        return None

    def mapping(self, value: object) -> Mapping[str, object] | None:
        if type(value) is not Dictionary:
            return None
        self._copies(len(value) * _ITEM)
        return {name: each for name, each in value.items_of() if type(name) is str}

    def objects(self, value: object) -> tuple[tuple[int, ...], Sequence[object]] | None:
        match value:
            case Made(detail=Array(shape=shape, source=tuple(found))):
                self._copies(len(found) * _ITEM)
                return shape, found
        return None

    def is_array(self, value: object) -> bool:
        return type(value) is Made and type(value.detail) is Array

    def shape(self, value: object) -> tuple[int, ...] | None:
        match value:
            case Made(detail=Array(dtype=dtype, shape=shape)) if not dtype.objects:
                return shape
        return None

    def flags(self, value: object, kinds: str) -> bytes | None:
        match value:
            case Made(detail=Array(dtype=dtype, shape=(length,), source=bytes() as source)):
                fits = dtype.itemsize == 1 and dtype.kind in kinds and length == len(source) <= LONGEST_FLAGS
                return source if fits else None
        return None

    def fitted(self, value: object) -> Fitted | None:
        if type(value) is not Made or not value.entry.name.startswith("sklearn."):
            return None
        return Fitted(value.entry.name, value.detail if type(value.detail) is dict else {})

    def function(self, value: object) -> str:
        kept = type(value) is Name and value.entry is not None and value.entry.call is None and value.entry.new is None
        return str(value) if kept else ""

    def partial(self, value: object) -> str:
        return _CHECKED if is_made(value, "functools.partial") else ""  # there is no other one

    def features(self, value: object) -> int | None:
        known = type(value) is Made and is_made(value, TREE) and value.ready
        return value.detail if known and type(value.detail) is int else None  # type: ignore[attr-defined]

    def predictor(self, value: object) -> Survey | None:
        known = type(value) is Made and is_made(value, PREDICTOR) and type(value.detail) is Survey
        return value.detail if known else None  # type: ignore[attr-defined]
