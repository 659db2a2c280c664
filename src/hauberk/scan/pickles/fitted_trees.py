"""scikit-learn's trees and their ensembles in pickles: what the machine keeps of them, and what is held against it.

What is asked of them stands in `hauberk.scan.fitted`, for all formats; here values of the machine are translated.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from hauberk.scan.fitted.node_tables import Survey
from hauberk.scan.fitted.trees import (
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
from hauberk.scan.pickles.node_tables import survey
from hauberk.scan.pickles.values import Made
from hauberk.scan.pickles.values import Mapping as Dictionary

_OUTPUT = 512  # bytes that take as long to copy as to read how many classes an output has
_ITEM = 64
_PLAIN = frozenset({type(None), bool, int, float, str})
_CHECKED = "sklearn.utils.validation.check_array"
_SETS = {("u", 4)}


def make_tree(entry: Entry, arguments: tuple[object, ...], context: Context) -> Made:
    """A tree of so many features, classes and outputs, whose nodes come after."""
    match arguments:
        case (int(features), Made(detail=Array() as classes), int(outputs)) if not classes.dtype.objects:
            context.copies(_OUTPUT * max(outputs, 0))
            return Made(entry, (features, classes.shape, outputs))
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
    """Nodes and categories of a tree of histogram-based boosting, once; an estimator holds it in the end."""
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
        case _:
            raise Objection("a tree without its nodes and categories", rules.BUILD)

    def check() -> None:
        if not made.kept:
            _object_to(LONE)

    context.at_end(check)


def keep_attributes(made: Made, given: dict[str, object], context: Context) -> None:
    """What is looked at of an estimator, at the end: its lists may grow until then."""
    made.detail = attributes = {name: given[name] for name in LOOKED_AT[made.entry.name] if name in given}
    if made.entry.name in JUDGED:
        context.at_end(lambda: _object_to(judge(Fitted(made.entry.name, attributes), _Reader(context))))


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

    def partial(self, value: object) -> str:
        return _CHECKED if is_made(value, "functools.partial") else ""  # there is no other one

    def features(self, value: object) -> int | None:
        known = type(value) is Made and is_made(value, TREE) and value.ready
        return value.detail if known and type(value.detail) is int else None  # type: ignore[attr-defined]

    def predictor(self, value: object) -> Survey | None:
        if type(value) is not Made or not is_made(value, PREDICTOR) or type(value.detail) is not Survey:
            return None
        value.kept = True
        return value.detail
